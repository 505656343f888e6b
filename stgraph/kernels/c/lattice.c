/* Norms and edges of a dense grid of tokens, in one read of its features. */

#include "rows.h"

/* Bytes of features that a core is taken to keep in a cache of its own, and tokens of a tile at the most. */
#define KEPT (512 << 10)
#define TILE 2048

/* Frames that are multiplied together: the registers hold four sums for each. */
#define FRAMES (PARTS == 1 ? 2 : 1)

/* A dense grid of rows, whose numbers lie side by side: sizes, and strides in elements. Several videos of `period`
 * frames each may follow each other. */
typedef struct {
    const char *features;
    int64_t dtype, dim;
    int64_t frames, height, width, period;
    int64_t frame_stride, row_stride, column_stride;
} Lattice;

/* How a grid is cut into tiles of a few frames: tokens of a full tile along each axis, and tiles along each. A row of
 * tokens stays in cache until the row below it has been read. So of a tile all is read from memory once; only the frame
 * before it is read again, and what lies left of it and above it where a frame is cut. */
typedef struct {
    int64_t frames, height, width;
    int64_t deep, down, across; /* the first of them in one video */
} Tiling;

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
    return cut;
}

/* Dot products of each token with the one to the left, above, and one frame before. */
typedef struct {
    double left, above, before;
} Dots;

typedef struct {
    const Lattice *x;
    Tiling cut;
    Dots *dots;
    double *norm;
    float *left, *above, *before;
} LatticeJob;

INLINE int64_t index_of(const Lattice *x, int64_t t, int64_t y, int64_t column)
{
    return (t * x->height + y) * x->width + column;
}

INLINE const char *token_at(const Lattice *x, int64_t t, int64_t y, int64_t column)
{
    return x->features + (t * x->frame_stride + y * x->row_stride + column * x->column_stride) * size_of(x->dtype);
}

/* The norms and the products of the tokens at one place of a few frames. Where a neighbour is missing, the token itself
 * stands in, and the product is never looked at. */
INLINE void dots_of(const LatticeJob *job, int dtype, int64_t t, int64_t y, int64_t column, const int frames)
{
    const Lattice *x = job->x;
    const int64_t dim = x->dim, step = 1, size = size_of(dtype);
    const int64_t down = x->frame_stride * size, up = y ? x->row_stride * size : 0;
    const int64_t along = column ? x->column_stride * size : 0;
    const char *here = token_at(x, t, y, column), *before = t % x->period ? here - down : here;
    Lanes sum[4 * FRAMES] = {0};
    Rest rest[7];
#define ADD_PRODUCTS(FROM)                                                                                             \
    {                                                                                                                  \
        Two past = load(FROM(6, before), dtype);                                                                       \
        ASK_EARLY(before)                                                                                              \
        _Pragma("GCC unroll 2") for (int f = 0; f < frames; f++)                                                       \
        {                                                                                                              \
            const char *row = here + f * down;                                                                         \
            const Two own = load(FROM(3 * f, row), dtype);                                                             \
            ASK_EARLY(row)                                                                                             \
            add_products(&block[4 * f], own, own);                                                                     \
            add_products(&block[4 * f + 1], own, load(FROM(3 * f + 1, row - along), dtype));                           \
            add_products(&block[4 * f + 2], own, load(FROM(3 * f + 2, row - up), dtype));                              \
            add_products(&block[4 * f + 3], own, past);                                                                \
            past = own;                                                                                                \
        }                                                                                                              \
    }
    FOR_STEPS(Lanes block[4 * FRAMES] = {0};, ADD_PRODUCTS, PUT_ASIDE(4 * frames, sum))
    for (int f = 0; f < frames; f++) {
        const int64_t i = index_of(x, t + f, y, column);
        job->norm[i] = norm_of(total(sum[4 * f]), here + f * down, dtype, dim, 1);
        job->dots[i] = (Dots){total(sum[4 * f + 1]), total(sum[4 * f + 2]), total(sum[4 * f + 3])};
    }
}

/* Units are tiles. */
INLINE void tile_work(const LatticeJob *job, int dtype, int64_t unit)
{
    const Lattice *x = job->x;
    const Tiling *cut = &job->cut;
    const int64_t left = unit % cut->across * cut->width, top = unit / cut->across % cut->down * cut->height;
    const int64_t slab = unit / cut->across / cut->down, first = slab % cut->deep * cut->frames;
    const int64_t start = slab / cut->deep * x->period + first, stop = start + smaller(cut->frames, x->period - first);
    for (int64_t y = top; y < smaller(top + cut->height, x->height); y++)
        for (int64_t t = start; t < stop; t += FRAMES)
            for (int64_t column = left; column < smaller(left + cut->width, x->width); column++)
                if (t + FRAMES <= stop)
                    dots_of(job, dtype, t, y, column, FRAMES);
                else
                    dots_of(job, dtype, t, y, column, 1);
}

static void dots_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const LatticeJob *job = pointer;
    for (int64_t unit = start; unit < stop; unit++)
        SPECIALISE(job->x->dtype, tile_work(job, dtype, unit))
}

/* Units are rows of tokens: products become cosines, when all norms are known. */
static void cosines_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const LatticeJob *job = pointer;
    const Lattice *x = job->x;
    const int64_t size = size_of(x->dtype), area = x->height * x->width;
    for (int64_t unit = start; unit < stop; unit++)
        for (int64_t column = 0, t = unit / x->height, y = unit % x->height; column < x->width; column++) {
            const int64_t i = index_of(x, t, y, column);
            const char *a = token_at(x, t, y, column);
#define EDGE(out, present, back, stride)                                                                               \
    job->out[i] = (present) ? cosine(job->dots[i].out, a - (stride) * size, a, job->norm[i - (back)], job->norm[i],    \
                                     x->dtype, x->dim, 1)                                                              \
                            : 0;
            EDGE(left, column, 1, x->column_stride)
            EDGE(above, y, x->width, x->row_stride)
            EDGE(before, t % x->period, area, x->frame_stride)
        }
}

/* Returns 0, or 1 when there is no memory. */
int64_t EXPORT(lattice_cosines)(const Lattice *x, double *norm, float *left, float *above, float *before,
                                int64_t threads)
{
    const int64_t rows = x->frames * x->height, videos = x->period ? x->frames / x->period : 0;
    Dots *dots = malloc((rows * x->width + 1) * sizeof *dots);
    LatticeJob job = {x, tiling(x), dots, norm, left, above, before};
    if (!dots)
        return 1;
    share(dots_work, &job, videos * job.cut.deep * job.cut.down * job.cut.across, 1, threads);
    share(cosines_work, &job, rows, 16, threads);
    free(dots);
    return 0;
}
