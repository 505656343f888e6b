/* Communities: connected components, the centrality of their members, and their ranks by it. */

#include "rows.h"

/* Members of a community that one thread sums; larger communities are shared, in pieces of as many. */
#define PIECE 512

/* Of a community no larger than this, the rows are still in cache when they are scored. */
#define CACHED 16

/* Places in the order of members that a thread takes at a time. */
#define PLACES 64

/* -- connected components ------------------------------------------------------------------------------------------ */

/* Every look-up shortens the path it takes by half. */
INLINE int64_t root_of(int64_t *parent, int64_t v)
{
    while (parent[v] != v)
        v = parent[v] = parent[parent[v]];
    return v;
}

/* Trees hang under their smallest vertex, which is returned. */
INLINE int64_t unite(int64_t *parent, int64_t a, int64_t b)
{
    a = root_of(parent, a);
    b = root_of(parent, b);
    return a < b ? (parent[b] = a) : (parent[a] = b);
}

/* Trees become labels, numbered by their first vertex; returns how many there are. A parent is smaller than its child,
 * and so has its number already. */
INLINE int64_t number_trees(int64_t *labels, int64_t vertices)
{
    int64_t count = 0;
    for (int64_t v = 0; v < vertices; v++)
        labels[v] = labels[v] == v ? count++ : labels[labels[v]];
    return count;
}

/* Components of a graph; returns how many. */
int64_t EXPORT(components)(const int64_t *left, const int64_t *right, int64_t edges, int64_t vertices, int64_t *labels)
{
    for (int64_t v = 0; v < vertices; v++)
        labels[v] = v;
    for (int64_t e = 0; e < edges; e++)
        unite(labels, left[e], right[e]);
    return number_trees(labels, vertices);
}

/* Components of a grid's edges that weigh at least `threshold`, each given at its later end; returns how many. */
int64_t EXPORT(lattice_components)(const float *left, const float *above, const float *before, int64_t frames, int64_t period,
                           int64_t height, int64_t width, double threshold, int64_t *labels, int64_t *sizes)
{
    const int64_t area = height * width;
    for (int64_t t = 0, v = 0; t < frames; t++)
        for (int64_t y = 0; y < height; y++)
            for (int64_t column = 0; column < width; column++, v++) {
                int64_t root = labels[v] = v;
                if (column && left[v] >= threshold)
                    root = labels[v] = labels[v - 1];
                if (y && above[v] >= threshold)
                    root = unite(labels, v - width, root);
                if (t % period && before[v] >= threshold)
                    unite(labels, v - area, root);
            }
    const int64_t count = number_trees(labels, frames * area);
    memset(sizes, 0, count * sizeof *sizes);
    for (int64_t v = 0; v < frames * area; v++)
        sizes[labels[v]]++;
    return count;
}

/* -- the merge tree ------------------------------------------------------------------------------------------------ */

/* The spanning forest of the earliest edges, and what each of its edges merges; returns how many it has, or -1 when
 * there is no memory. For every merge: the place of its edge; the smallest vertices of the two communities, the smaller
 * one first; and their sizes. `leaves` are the vertices in an order in which every community is one run that starts with
 * its smallest vertex; `joined` tells for each place there which merge joins it to the one before, or how many there
 * are. */
int64_t EXPORT(merge_forest)(const int64_t *left, const int64_t *right, int64_t edges, int64_t vertices, int64_t *edge,
                     int64_t *older, int64_t *younger, int64_t *older_size, int64_t *younger_size, int64_t *leaves,
                     int64_t *joined)
{
    int64_t *parent = malloc((5 * vertices + 1) * sizeof *parent), merges = 0, place = 0;
    int64_t *last = parent + vertices, *after = last + vertices, *size = after + vertices, *merged = size + vertices;
    if (!parent)
        return -1;
    for (int64_t v = 0; v < vertices; v++) {
        parent[v] = last[v] = v;
        after[v] = merged[v] = -1;
        size[v] = 1;
    }
    for (int64_t e = 0; e < edges; e++) {
        const int64_t a = root_of(parent, left[e]), b = root_of(parent, right[e]);
        if (a == b)
            continue;
        const int64_t first = smaller(a, b), second = larger(a, b);
        edge[merges] = e;
        older[merges] = first;
        younger[merges] = second;
        older_size[merges] = size[first];
        younger_size[merges] = size[second];
        merged[second] = merges++;
        parent[second] = first;
        size[first] += size[second];
        after[last[first]] = second;
        last[first] = last[second];
    }
    for (int64_t root = 0; root < vertices; root++)
        for (int64_t v = parent[root] == root ? root : -1; v >= 0; v = after[v]) {
            leaves[place] = v;
            joined[place++] = merged[v] < 0 ? merges : merged[v];
        }
    free(parent);
    return merges;
}

/* -- ranks in communities ------------------------------------------------------------------------------------------ */

/* Bits of a digit: two are sorted by, one after the other. */
#define DIGIT 9

/* The place of each vertex in its community, the largest centrality first, ties to the smaller index; `step` is how much
 * two must differ. Returns 0, or 1 when there is no memory. */
int64_t EXPORT(community_ranks)(const int64_t *labels, int64_t communities, const float *centrality, int64_t vertices,
                        double step, int64_t *rank)
{
    const int64_t digits = 1 << DIGIT, middle = 1 << (2 * DIGIT - 1);
    int64_t *order = malloc((2 * vertices + communities + 1) * sizeof *order);
    int64_t *sorted = order + vertices, *next = sorted + vertices;
    int32_t *key = malloc((vertices + 1) * sizeof *key);
    const int64_t failed = !order || !key;
    if (!failed) {
        for (int64_t v = 0; v < vertices; v++) {
            const double value = centrality[v] >= -1 ? clamp(centrality[v]) : -1;
            key[v] = (int32_t)(middle - (int64_t)nearbyint(value / step)); /* the most central first */
            order[v] = v;
        }
        for (int digit = 0; digit < 2; digit++) {
            int64_t starts[1 << DIGIT] = {0}, before = 0;
            for (int64_t v = 0; v < vertices; v++)
                starts[key[v] >> digit * DIGIT & (digits - 1)]++;
            for (int64_t k = 0; k < digits; k++) {
                const int64_t count = starts[k];
                starts[k] = before;
                before += count;
            }
            for (int64_t i = 0; i < vertices; i++)
                sorted[starts[key[order[i]] >> digit * DIGIT & (digits - 1)]++] = order[i];
            memcpy(order, sorted, vertices * sizeof *order);
        }
        memset(next, 0, communities * sizeof *next);
        for (int64_t i = 0; i < vertices; i++)
            rank[order[i]] = next[labels[order[i]]]++;
    }
    free(order);
    free(key);
    return failed;
}

/* -- centrality ---------------------------------------------------------------------------------------------------- */

/* Communities of two or more members. */
typedef struct {
    const Rows *x;
    int64_t *order;           /* members, one community after the other */
    int64_t *begins, *sizes;  /* where they begin, and how many they are */
    int64_t communities;
    float *own;               /* two sums for each thread */
    int64_t room;             /* floats of a sum */
    float *out;
} CommunityJob;

/* Members of a community from place `start` up to `stop`. */
typedef struct {
    int64_t start, stop, community;
    float *sum; /* where these are summed, or that of the whole community */
} Piece;

/* A large community: the sums of its pieces lie one after the other, and the first becomes that of all. */
typedef struct {
    int64_t pieces;
    float *sum;
} Large;

typedef struct {
    const CommunityJob *job;
    const Piece *piece;
    const Large *large;
    int64_t pieces;
} PieceJob;

/* Rows and norms of the members from a place on. */
typedef struct {
    const char *row[PIECE + PLACES];
    double norm[PIECE + PLACES];
    double score[PIECE];
} Members;

static void look_up(const CommunityJob *job, Members *m, int64_t start, int64_t stop)
{
    for (int64_t place = start; place < stop; place++) {
        m->row[place - start] = row_at(job->x, job->order[place]);
        m->norm[place - start] = job->x->norm[job->order[place]];
    }
}

/* `count` members from the i-th on, of which `known` have been looked up. */
INLINE Units units_of(const CommunityJob *job, const Members *m, int64_t i, int64_t count, int64_t known)
{
    const Rows *x = job->x;
    return (Units){m->row + i, m->norm + i, count, known - i, x->dtype, x->dim, x->step};
}

/* The centralities of some members, the first of them at `place`. */
static void score(const CommunityJob *job, Members *m, const Units *units, int64_t place, int64_t size, float *sum,
                  int64_t early)
{
    score_units(units, sum, early, m->score);
    for (int64_t k = 0; k < units->count; k++)
        job->out[job->order[place + k]] = (float)clamp((m->score[k] - (units->norm[k] > 0)) / (size - 1));
}

/* The first community that begins at a place or behind it. */
INLINE int64_t community_from(const CommunityJob *job, int64_t place)
{
    int64_t low = 0, high = job->communities;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (job->begins[middle] < place)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Units are places in the order. */
static void small_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const CommunityJob *job = pointer;
    float *sum = job->own + 2 * thread * job->room, *part = sum + job->room;
    Members m;
    const int64_t first = community_from(job, start), last = community_from(job, stop);
    if (first == last)
        return;
    const int64_t begin = job->begins[first];
    const int64_t known = smaller(job->begins[last - 1] + job->sizes[last - 1] - begin, PIECE + PLACES);
    look_up(job, &m, begin, begin + known);
    for (int64_t c = first; c < last; c++) {
        const int64_t place = job->begins[c], size = job->sizes[c], i = place - begin;
        if (size == 2) { /* one product for both, so that no rounding decides between them */
            const int64_t a = job->order[place], b = job->order[place + 1];
            job->out[a] = job->out[b] = pair_cosine(job->x, a, b);
        } else if (size <= PIECE) {
            const Units members = units_of(job, &m, i, size, known);
            memset(sum, 0, job->room * sizeof *sum);
            add_units(&members, sum, part);
            score(job, &m, &members, place, size, sum, size <= CACHED ? size : 4);
        }
    }
}

/* Units are pieces of what is to be summed. */
static void sum_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const PieceJob *job = pointer;
    Members m;
    for (const Piece *p = job->piece + start; p < job->piece + stop; p++) {
        const int64_t count = p->stop - p->start;
        look_up(job->job, &m, p->start, p->stop);
        const Units units = units_of(job->job, &m, 0, count, count);
        memset(p->sum, 0, job->job->room * sizeof *p->sum);
        add_units(&units, p->sum, job->job->own + 2 * thread * job->job->room);
    }
}

/* Units are large communities. */
static void total_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const PieceJob *work = pointer;
    const CommunityJob *job = work->job;
    for (const Large *all = work->large + start; all < work->large + stop; all++)
        for (int64_t i = 0; i < job->room; i++) {
            double sum = 0;
            for (int64_t p = 0; p < all->pieces; p++)
                sum += all->sum[p * job->room + i];
            all->sum[i] = (float)sum;
        }
}

/* Units are pieces of all members, backwards: what was read last is still in cache. */
static void score_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const PieceJob *job = pointer;
    Members m;
    for (const Piece *p = job->piece + job->pieces - start - 1; p > job->piece + job->pieces - stop - 1; p--) {
        const int64_t count = p->stop - p->start;
        look_up(job->job, &m, p->start, p->stop);
        const Units units = units_of(job->job, &m, 0, count, count);
        score(job->job, &m, &units, p->start, job->job->sizes[p->community], p->sum, 4);
    }
}

/* Large communities: sums, totals, scores. Returns 0, or 1 when there is no memory. */
static int64_t large_communities(const CommunityJob *job, int64_t threads)
{
    int64_t count = 0, pieces = 0, failed = 1;
    for (int64_t c = 0; c < job->communities; c++)
        if (job->sizes[c] > PIECE) {
            count++;
            pieces += pieces_of(job->sizes[c], PIECE);
        }
    Large *large = malloc((count + 1) * sizeof *large);
    Piece *to_sum = malloc((2 * pieces + 1) * sizeof *to_sum), *to_score = to_sum + pieces;
    float *sum = malloc((pieces * job->room + 1) * sizeof *sum);
    if (large && to_sum && sum) {
        int64_t n = 0, next = 0;
        for (int64_t c = 0; c < job->communities; c++) {
            if (job->sizes[c] <= PIECE)
                continue;
            const int64_t end = job->begins[c] + job->sizes[c];
            float *first = sum + next * job->room;
            large[n++] = (Large){pieces_of(job->sizes[c], PIECE), first};
            for (int64_t at = job->begins[c]; at < end; at += PIECE, next++) {
                to_sum[next] = (Piece){at, smaller(at + PIECE, end), c, sum + next * job->room};
                to_score[next] = (Piece){at, smaller(at + PIECE, end), c, first};
            }
        }
        share(sum_work, &(PieceJob){job, to_sum, large, pieces}, pieces, 1, threads);
        share(total_work, &(PieceJob){job, NULL, large, 0}, count, 1, threads);
        share(score_work, &(PieceJob){job, to_score, large, pieces}, pieces, 1, threads);
        failed = 0;
    }
    free(large);
    free(to_sum);
    free(sum);
    return failed;
}

/* Returns 0, or 1 when there is no memory. */
int64_t EXPORT(centrality)(const Rows *x, const int64_t *labels, const int64_t *sizes, int64_t communities,
                           int64_t vertices, float *out, int64_t threads)
{
    const int64_t room = room_of(x->dim);
    int64_t shared = 0, members = 0, failed = 1;
    for (int64_t c = 0; c < communities; c++) {
        shared += sizes[c] > 1;
        members += sizes[c] > 1 ? sizes[c] : 0;
    }
    int64_t *numbers = malloc((members + 2 * shared + communities + 1) * sizeof *numbers);
    float *own = malloc(2 * threads * room * sizeof *own);
    if (numbers && own) {
        int64_t *order = numbers, *begins = order + members, *many = begins + shared, *next = many + shared;
        const CommunityJob job = {x, order, begins, many, shared, own, room, out};
        for (int64_t c = 0, n = 0, place = 0; c < communities; c++) {
            next[c] = place;
            if (sizes[c] > 1) {
                begins[n] = place;
                many[n++] = sizes[c];
                place += sizes[c];
            }
        }
        for (int64_t v = 0; v < vertices; v++)
            if (sizes[labels[v]] > 1)
                order[next[labels[v]]++] = v;
            else
                out[v] = 0;
        share(small_work, &job, members, PLACES, threads);
        failed = large_communities(&job, threads);
    }
    free(numbers);
    free(own);
    return failed;
}
