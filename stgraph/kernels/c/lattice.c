/* Edges of a dense grid of tokens, found while the tokens are in cache; and sums of what they join. */

#include "rows.h"

/* Bytes of features that a core keeps in a cache of its own, and tokens of a tile: what is read once and used while it
 * is there. Constants and not this machine's, for sums depend on them. */
#define KEPT (512 << 10)
#define TILE 2048

/* A group of tokens is summed while in cache when a row of a tile has a quarter of so many, and its sum is kept when
 * the tile has as many; twice as many of two bytes a feature. So all sums are a thirty-second of the features. */
#define LARGE 32

/* A dense grid of rows, whose numbers lie side by side: sizes, and strides in elements. Several videos of `period`
 * frames each may follow each other. */
typedef struct {
    const char *features;
    int64_t dtype, dim;
    int64_t frames, height, width, period;
    int64_t frame_stride, row_stride, column_stride;
} Lattice;

/* How a grid is cut into tiles of a few frames: tokens of a full tile along each axis, and tiles along each. A row of
 * tokens stays in cache until the row below it has been read, so of a tile all is read once; only the frame before it is
 * read again, and what lies left of it and above it where a frame is cut. */
typedef struct {
    int64_t frames, height, width;
    int64_t deep, down, across; /* the first of them in one video */
    int64_t groups;             /* that a tile may keep the sums of */
} Tiling;

INLINE int64_t least_of_group(int64_t dtype)
{
    return dtype == FLOAT32 ? LARGE : 2 * LARGE;
}

INLINE int64_t tiles_of(const Lattice *x, const Tiling *cut)
{
    return (x->period ? x->frames / x->period : 0) * cut->deep * cut->down * cut->across;
}

/* The size of pieces of at most so many units that are as good as equal. */
INLINE int64_t evenly(int64_t units, int64_t most)
{
    return larger(pieces_of(units, larger(pieces_of(units, most), 1)), 1);
}

static Tiling tiling(const Lattice *x)
{
    const int64_t kept = larger(KEPT / larger(x->dim * size_of(x->dtype), 1), 1);
    Tiling cut;
    cut.width = evenly(x->width, larger(kept / 2, 8));
    cut.frames = smaller(larger(kept / cut.width & ~1, 2), 8);
    cut.height = evenly(x->height, larger(TILE / (cut.frames * cut.width), 1));
    cut.across = pieces_of(x->width, cut.width);
    cut.down = pieces_of(x->height, cut.height);
    cut.deep = pieces_of(x->period, cut.frames);
    cut.groups = cut.frames * cut.height * cut.width / least_of_group(x->dtype);
    return cut;
}

/* The norm of each token; the cosines of its edges with the tokens to the left, above, and one frame before; and sums of
 * the unit vectors of groups: tokens of a tile that are joined inside it by edges of at least `threshold`. */
typedef struct {
    const Lattice *x;
    Tiling cut;
    double threshold;
    double *norm;
    float *left, *above, *before;
    int64_t *group; /* of each token, -1 where it is in none */
    float *sums;    /* of the groups */
    int64_t room;   /* floats of a sum: whole steps */
    char *scratch;  /* memory for a tile, one after the other for each thread */
    int64_t bytes;  /* of it for one */
} LatticeJob;

/* A group while its tile is looked at. */
typedef struct {
    int32_t root, members, row;
} Group;

/* What a thread knows of its tile; all indices count from its first token. */
typedef struct {
    const LatticeJob *job;
    int64_t t, y, column;          /* its first token */
    int past;                      /* whether its video has a frame before */
    int64_t frames, height, width; /* its size */
    int64_t first;                 /* of its groups */
    double *dots;                  /* of a row of it: with the tokens to the left, above and before */
    double *above, *left, *before; /* norms of the tokens around that row */
    float *part;                   /* of a sum */
    const char **row;              /* tokens that are summed together */
    double *norm;
    int32_t *parent, *group;       /* of each token: above it in its tree; of each root: its group */
    int32_t *count, *chain, *last; /* of each root: its tokens in the row, the first and the last of them */
    int32_t *next;                 /* token of the same root */
    Group *groups;
    int8_t *summed;
} Tile;

INLINE int64_t index_of(const Lattice *x, int64_t t, int64_t y, int64_t column)
{
    return (t * x->height + y) * x->width + column;
}

INLINE const char *token_at(const Lattice *x, int64_t t, int64_t y, int64_t column)
{
    return x->features + (t * x->frame_stride + y * x->row_stride + column * x->column_stride) * size_of(x->dtype);
}

/* The norms of a row of the tile, and its dot products with what lies left, above and before. Two frames at a time.
 * Where a neighbour is missing, the token itself stands in and the product is never looked at. */
INLINE void row_dots(const Tile *tile, int dtype, int64_t y)
{
    const Lattice *x = tile->job->x;
    const int64_t dim = x->dim, step = 1, size = size_of(dtype), row = tile->frames * tile->width;
    const int64_t down = x->frame_stride * size, along = x->column_stride * size, up = x->row_stride * size;
    double *norm = tile->job->norm;
    for (int64_t t = 0; t < tile->frames; t += 2) {
        const int paired = t + 1 < tile->frames;
        for (int64_t k = 0; k < tile->width; k++) {
            const int64_t frame = tile->t + t, column = tile->column + k;
            const char *a = token_at(x, frame, y, column), *b = paired ? a + down : a;
            const char *al = column ? a - along : a, *bl = column ? b - along : b;
            const char *au = y ? a - up : a, *bu = y ? b - up : b;
            const char *before = tile->past || t ? a - down : a;
            floats sum[8] = {{0}};
            Rest rest[7];
#define ADD_PRODUCTS(FROM)                                                                                             \
    {                                                                                                                  \
        const Two va = load(FROM(0, a), dtype), vb = load(FROM(1, b), dtype);                                          \
        const Two vla = load(FROM(2, al), dtype), vlb = load(FROM(3, bl), dtype);                                      \
        const Two vua = load(FROM(4, au), dtype), vub = load(FROM(5, bu), dtype);                                      \
        const Two vp = load(FROM(6, before), dtype);                                                                   \
        ASK_EARLY(a)                                                                                                   \
        ASK_EARLY(b)                                                                                                   \
        ASK_EARLY(before)                                                                                              \
        ADD_HALF(one)                                                                                                  \
        ADD_HALF(two)                                                                                                  \
    }
#define ADD_HALF(half)                                                                                                 \
    block[0] = MULTIPLY_ADD(va.half, va.half, block[0]);                                                               \
    block[1] = MULTIPLY_ADD(vb.half, vb.half, block[1]);                                                               \
    block[2] = MULTIPLY_ADD(va.half, vla.half, block[2]);                                                              \
    block[3] = MULTIPLY_ADD(vb.half, vlb.half, block[3]);                                                              \
    block[4] = MULTIPLY_ADD(va.half, vua.half, block[4]);                                                              \
    block[5] = MULTIPLY_ADD(vb.half, vub.half, block[5]);                                                              \
    block[6] = MULTIPLY_ADD(va.half, vp.half, block[6]);                                                               \
    block[7] = MULTIPLY_ADD(va.half, vb.half, block[7]);
            FOR_STEPS(floats block[8] = {{0}};, ADD_PRODUCTS, PUT_ASIDE(8, sum))
            double *dots = tile->dots + t * tile->width + k;
            norm[index_of(x, frame, y, column)] = norm_of(total(sum[0]), a, dtype, dim, 1);
            dots[0] = total(sum[2]);
            dots[row] = total(sum[4]);
            dots[2 * row] = total(sum[6]);
            if (paired) {
                dots += tile->width;
                norm[index_of(x, frame + 1, y, column)] = norm_of(total(sum[1]), b, dtype, dim, 1);
                dots[0] = total(sum[3]);
                dots[row] = total(sum[5]);
                dots[2 * row] = total(sum[7]);
            }
        }
    }
}

/* The norm of a token that another tile has, whose row is soon needed. */
INLINE double norm_at(const Lattice *x, int dtype, int64_t t, int64_t y, int64_t column)
{
    const char *row = token_at(x, t, y, column);
    return norm_of(dot(row, row, dtype, x->dim, 1), row, dtype, x->dim, 1);
}

INLINE void norms_around(const Tile *tile, int dtype, int64_t y)
{
    const Lattice *x = tile->job->x;
    for (int64_t k = 0; tile->past && k < tile->width; k++)
        tile->before[k] = norm_at(x, dtype, tile->t - 1, y, tile->column + k);
    for (int64_t t = 0; t < tile->frames; t++) {
        if (tile->column)
            tile->left[t] = norm_at(x, dtype, tile->t + t, y, tile->column - 1);
        for (int64_t k = 0; y && y == tile->y && k < tile->width; k++)
            tile->above[t * tile->width + k] = norm_at(x, dtype, tile->t + t, y - 1, tile->column + k);
    }
}

static int32_t root_of(int32_t *parent, int32_t v)
{
    while (parent[v] != v)
        v = parent[v] = parent[parent[v]];
    return v;
}

/* Join two tokens; the sums of their groups become one. Trees hang under their smallest token. */
static void join(const Tile *tile, int32_t a, int32_t b)
{
    a = root_of(tile->parent, a);
    b = root_of(tile->parent, b);
    if (a == b)
        return;
    const int32_t root = a < b ? a : b, other = a < b ? b : a;
    const int32_t kept = tile->group[root], gone = tile->group[other];
    tile->parent[other] = root;
    if (gone < 0)
        return;
    if (kept < 0) {
        tile->group[root] = gone;
        tile->groups[gone].root = root;
        return;
    }
    float *sum = tile->job->sums + (tile->first + kept) * tile->job->room;
    const float *more = tile->job->sums + (tile->first + gone) * tile->job->room;
    for (int64_t i = 0; i < tile->job->room; i++)
        sum[i] += more[i];
    tile->groups[kept].members += tile->groups[gone].members;
    tile->groups[gone].root = -1;
}

/* The cosines of a row's edges; tokens that are similar are joined. */
INLINE void row_edges(const Tile *tile, int dtype, int64_t y)
{
    const LatticeJob *job = tile->job;
    const Lattice *x = job->x;
    const int64_t row = tile->frames * tile->width, area = x->height * x->width;
    for (int64_t t = 0; t < tile->frames; t++)
        for (int64_t k = 0; k < tile->width; k++) {
            const int64_t frame = tile->t + t, column = tile->column + k, i = index_of(x, frame, y, column);
            const int32_t here = (int32_t)((t * tile->height + y - tile->y) * tile->width + k);
            const double *dots = tile->dots + t * tile->width + k, norm = job->norm[i];
            const char *a = token_at(x, frame, y, column);
#define EDGE(out, present, inside, back, local, outside, dots, stride)                                                 \
    if (!(present))                                                                                                    \
        job->out[i] = 0;                                                                                               \
    else {                                                                                                             \
        const double other = (inside) ? job->norm[i - (back)] : (outside);                                             \
        job->out[i] = cosine(dots, a - (stride) * size_of(dtype), a, other, norm, dtype, x->dim, 1);                   \
        if ((inside) && job->out[i] >= job->threshold)                                                                 \
            join(tile, here - (int32_t)(local), here);                                                                 \
    }
            EDGE(left, column, k, 1, 1, tile->left[t], dots[0], x->column_stride)
            EDGE(above, y, y > tile->y, x->width, tile->width, tile->above[t * tile->width + k], dots[row],
                 x->row_stride)
            EDGE(before, tile->past || t, t, area, tile->height * tile->width, tile->before[k], dots[2 * row],
                 x->frame_stride)
        }
}

/* Begin the sum of a new group, where a place for it is left; returns the group, or -1. */
static int32_t new_group(const Tile *tile, int32_t root)
{
    int32_t group = 0;
    while (group < tile->job->cut.groups && tile->groups[group].root >= 0)
        group++;
    if (group == tile->job->cut.groups)
        return -1;
    tile->group[root] = group;
    tile->groups[group] = (Group){root, 0, 0};
    memset(tile->job->sums + (tile->first + group) * tile->job->room, 0, tile->job->room * sizeof(float));
    return group;
}

/* What is in cache of a row is added to the sums of its groups. New groups are begun where they promise to become
 * large, and those that have not become large and can no more are given up. */
INLINE void row_sums(const Tile *tile, int dtype, int64_t y)
{
    const LatticeJob *job = tile->job;
    const int32_t least = (int32_t)least_of_group(dtype), here = (int32_t)(y - tile->y);
    const int64_t area = tile->height * tile->width;
#define FOR_ROW                                                                                                        \
    for (int64_t t = 0; t < tile->frames; t++)                                                                         \
        for (int32_t k = 0, v = (int32_t)(t * area + here * tile->width); k < tile->width; k++, v++)
    FOR_ROW { /* the tokens of each root become a chain */
        const int32_t root = root_of(tile->parent, v);
        tile->next[v] = -1;
        if (tile->count[root]++)
            tile->next[tile->last[root]] = v;
        else
            tile->chain[root] = v;
        tile->last[root] = v;
    }
    FOR_ROW {
        const int32_t root = root_of(tile->parent, v), count = tile->count[root];
        tile->count[root] = 0;
        int32_t group = tile->group[root];
        if (count && group < 0 && count >= least / 4)
            group = new_group(tile, root);
        if (!count || group < 0)
            continue;
        int64_t found = 0;
        for (int32_t w = tile->chain[root]; w >= 0; w = tile->next[w]) {
            const int64_t frame = tile->t + w / area, column = tile->column + w % tile->width;
            tile->summed[w] = 1;
            tile->row[found] = token_at(job->x, frame, y, column);
            tile->norm[found++] = job->norm[index_of(job->x, frame, y, column)];
        }
        add_units_of(&(Units){tile->row, tile->norm, found, found, dtype, job->x->dim, 1}, dtype,
                     job->sums + (tile->first + group) * job->room, tile->part);
        tile->groups[group].members += count;
        tile->groups[group].row = here;
    }
    for (int32_t group = 0; group < job->cut.groups; group++) {
        Group *g = tile->groups + group;
        if (g->root >= 0 && g->members < least && (g->row < here || here + 1 == tile->height)) {
            tile->group[g->root] = -1;
            g->root = -1;
        }
    }
}

/* Units are tiles. */
INLINE void tile_work(const LatticeJob *job, Tile *tile, int dtype, int64_t unit)
{
    const Lattice *x = job->x;
    const Tiling *cut = &job->cut;
    tile->column = unit % cut->across * cut->width;
    tile->y = unit / cut->across % cut->down * cut->height;
    const int64_t slab = unit / cut->across / cut->down, start = slab % cut->deep * cut->frames;
    tile->t = slab / cut->deep * x->period + start;
    tile->past = start > 0;
    tile->width = smaller(cut->width, x->width - tile->column);
    tile->height = smaller(cut->height, x->height - tile->y);
    tile->frames = smaller(cut->frames, x->period - start);
    tile->first = unit * cut->groups;
    const int64_t tokens = tile->frames * tile->height * tile->width;
    for (int64_t v = 0; v < tokens; v++) {
        tile->parent[v] = (int32_t)v;
        tile->group[v] = -1;
        tile->count[v] = tile->summed[v] = 0;
    }
    for (int64_t group = 0; group < cut->groups; group++)
        tile->groups[group].root = -1;
    for (int64_t y = tile->y; y < tile->y + tile->height; y++) {
        row_dots(tile, dtype, y);
        norms_around(tile, dtype, y);
        row_edges(tile, dtype, y);
        row_sums(tile, dtype, y);
    }
    for (int64_t t = 0, v = 0; t < tile->frames; t++)
        for (int64_t y = 0; y < tile->height; y++)
            for (int64_t k = 0; k < tile->width; k++, v++) {
                const int32_t group = tile->summed[v] ? tile->group[root_of(tile->parent, (int32_t)v)] : -1;
                job->group[index_of(x, tile->t + t, tile->y + y, tile->column + k)] =
                    group < 0 ? -1 : tile->first + group;
            }
}

/* A part of the scratch memory, whole cache lines. */
static void *part(char **scratch, int64_t bytes)
{
    void *found = *scratch;
    *scratch += (bytes + LINE - 1) / LINE * LINE;
    return found;
}

/* The tile of a thread; returns the bytes of scratch memory that it has. */
static int64_t tile_of(const LatticeJob *job, Tile *tile, char *scratch)
{
    const Tiling *cut = &job->cut;
    const int64_t row = cut->frames * cut->width, tokens = row * cut->height;
    char *end = scratch;
    *tile = (Tile){.job = job};
    tile->dots = part(&end, 3 * row * sizeof *tile->dots);
    tile->above = part(&end, row * sizeof *tile->above);
    tile->left = part(&end, cut->frames * sizeof *tile->left);
    tile->before = part(&end, cut->width * sizeof *tile->before);
    tile->part = part(&end, job->room * sizeof *tile->part);
    tile->row = part(&end, row * sizeof *tile->row);
    tile->norm = part(&end, row * sizeof *tile->norm);
    tile->parent = part(&end, tokens * sizeof *tile->parent);
    tile->group = part(&end, tokens * sizeof *tile->group);
    tile->count = part(&end, tokens * sizeof *tile->count);
    tile->chain = part(&end, tokens * sizeof *tile->chain);
    tile->last = part(&end, tokens * sizeof *tile->last);
    tile->next = part(&end, tokens * sizeof *tile->next);
    tile->groups = part(&end, cut->groups * sizeof *tile->groups);
    tile->summed = part(&end, tokens * sizeof *tile->summed);
    return end - scratch;
}

static void lattice_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const LatticeJob *job = pointer;
    Tile tile;
    tile_of(job, &tile, job->scratch + thread * job->bytes);
    for (int64_t unit = start; unit < stop; unit++)
        SPECIALISE(job->x->dtype, tile_work(job, &tile, dtype, unit))
}

/* How many groups at the most a grid of these sizes has sums of. */
int64_t lattice_groups(const Lattice *x)
{
    const Tiling cut = tiling(x);
    return tiles_of(x, &cut) * cut.groups;
}

/* Floats from the sum of a group to that of the next. */
int64_t lattice_room(const Lattice *x)
{
    return room_of(x->dim);
}

/* Returns 0, or 1 when there is no memory. */
int64_t lattice_cosines(const Lattice *x, double threshold, double *norm, float *left, float *above, float *before,
                        int64_t *group, float *sums, int64_t threads)
{
    LatticeJob job = {x, tiling(x), threshold, norm, left, above, before, group, sums, room_of(x->dim), NULL, 0};
    Tile tile;
    threads = smaller(threads, MAX_THREADS);
    job.bytes = tile_of(&job, &tile, NULL);
    job.scratch = aligned_alloc(LINE, larger(threads * job.bytes, LINE));
    if (!job.scratch)
        return 1;
    share(lattice_work, &job, tiles_of(x, &job.cut), 1, threads);
    free(job.scratch);
    return 0;
}

