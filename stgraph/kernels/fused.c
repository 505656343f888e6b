/* The fused CPU kernels: plain C, compiled once on the machine that runs them, called through ctypes.
 *
 * Every dot product is summed in LANES float32 lanes: the features of one BLOCK after the other, whose sums are then
 * added up. So no sum is long, and its error is far below the grid that cosines are rounded to. Rows so large or so
 * small that float32 products would overflow or vanish are taken again in float64.
 *
 * Memory is the limit, so rows are read as few times as possible, and what comes next is asked for early: processors
 * that follow one run of addresses by themselves lose track of four at once.
 *
 * Units of work are handed out to threads in small chunks. Each number is made by one thread from its own rows alone.
 */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined __AVX512F__ || defined __F16C__ || defined __FMA__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif

/* Features that are read in one step, and that are summed before the sum is put aside. */
#define STEP (2 * LANES)
#define BLOCK 256

/* Members of a community that one thread sums; larger communities are shared, in pieces of as many. */
#define PIECE 512

/* Of a community no larger than this, the rows are still in cache when they are scored. */
#define CACHED 16

/* Rows of tokens that a thread takes at a time: the row above is mostly one of its own, and none waits long for the
 * others in the end. */
#define ROWS_AT_ONCE 7

/* Bytes between what is read now and what is asked for early. */
#define EARLY 2048

/* A cache line in bytes. */
#define LINE 64

#define MAX_THREADS 256

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

typedef float floats __attribute__((vector_size(LANES * sizeof(float))));
typedef float quad __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t))));
typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t))));

enum { FLOAT32, FLOAT16, BFLOAT16 };

/* Rows of features: vertex v has `dim` numbers, `step` elements apart, from element `offset[v]` on. */
typedef struct {
    const char *features;
    int64_t dtype, dim, step;
    const int64_t *offset;
    const double *norm;
} Rows;

/* A dense grid of rows, whose numbers lie side by side: sizes, and strides in elements. */
typedef struct {
    const char *features;
    int64_t dtype, dim;
    int64_t frames, height, width;
    int64_t frame_stride, row_stride, column_stride;
} Lattice;

INLINE int64_t size_of(int dtype)
{
    return dtype == FLOAT32 ? 4 : 2;
}

INLINE int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* -- threads ------------------------------------------------------------------------------------------------------- */

typedef void Work(const void *job, int64_t thread, int64_t start, int64_t stop);

typedef struct {
    Work *work;
    const void *job;
    int64_t units, chunk;
    atomic_int_fast64_t next, threads;
} Share;

static void *take_chunks(void *pointer)
{
    Share *share = pointer;
    const int64_t thread = atomic_fetch_add(&share->threads, 1);
    int64_t start;
    while ((start = atomic_fetch_add(&share->next, share->chunk)) < share->units)
        share->work(share->job, thread, start, smaller(start + share->chunk, share->units));
    return NULL;
}

/* Do all units of a job, each thread taking the next chunk. A thread that cannot be had is no loss: others do its part.
 * Fresh threads cost microseconds, and unlike a pool they survive a fork. */
static void share(Work *work, const void *job, int64_t units, int64_t chunk, int64_t threads)
{
    Share shared = {work, job, units, chunk, 0, 0};
    pthread_t helpers[MAX_THREADS];
    int64_t started = 0;
    threads = smaller(smaller(threads, MAX_THREADS), (units + chunk - 1) / chunk);
    while (started < threads - 1 && !pthread_create(&helpers[started], NULL, take_chunks, &shared))
        started++;
    take_chunks(&shared);
    while (started)
        pthread_join(helpers[--started], NULL);
}

/* -- reading features ---------------------------------------------------------------------------------------------- */

/* STEP features, in an order that depends on the dtype alone. */
typedef struct {
    floats one, two;
} Two;

INLINE floats as_floats(words bits)
{
    floats value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined __AVX512F__
#define FROM_FLOAT16(value) (floats)_mm512_cvtph_ps((__m256i)(value))
#elif defined __AVX2__ && defined __F16C__
#define FROM_FLOAT16(value) (floats)_mm256_cvtph_ps((__m128i)(value))
#else
#define FROM_FLOAT16(value) from_float16(value)

/* In the bits of a float32 it is 2^112 too small, subnormal or not; Inf and NaN need the largest exponent. */
INLINE floats from_float16(halves value)
{
    const words bits = __builtin_convertvector(value, words);
    const floats scaled = as_floats((bits & 0x7fff) << 13) * 0x1p112f;
    words magnitude;
    memcpy(&magnitude, &scaled, sizeof magnitude);
    magnitude |= (words)((bits & 0x7c00) == 0x7c00) & 0x7f800000;
    return as_floats(magnitude | (bits & 0x8000) << 16);
}
#endif

/* a · b + c, rounded once where the processor can. It is said here, not left to the compiler, which would choose
 * differently from one function to the next. */
#if defined __AVX512F__
#define MULTIPLY_ADD(a, b, c) (floats)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#elif defined __FMA__
#define MULTIPLY_ADD(a, b, c) (floats)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

/* Nothing is assumed of the alignment. */
INLINE Two load(const char *from, int dtype)
{
    Two value;
    if (dtype == FLOAT32) { /* not both at once: compilers would take them through memory */
        memcpy(&value.one, from, sizeof value.one);
        memcpy(&value.two, from + sizeof value.one, sizeof value.two);
    } else if (dtype == FLOAT16) {
        halves one, two;
        memcpy(&one, from, sizeof one);
        memcpy(&two, from + sizeof one, sizeof two);
        value = (Two){FROM_FLOAT16(one), FROM_FLOAT16(two)};
    } else { /* a bfloat16 is the upper half of a float32, and a word holds two */
        words both;
        memcpy(&both, from, sizeof both);
        value = (Two){as_floats(both << 16), as_floats(both & 0xffff0000)};
    }
    return value;
}

/* Room for the last features of a row, which do not fill a step, or for features that do not lie side by side. */
typedef struct {
    _Alignas(LINE) char bytes[STEP * sizeof(float)];
} Rest;

/* Up to STEP features from the i-th on, side by side, with zeros behind them. */
static NOINLINE const char *gather(Rest *rest, const char *row, int dtype, int64_t step, int64_t i, int64_t dim)
{
    const int64_t size = size_of(dtype), count = smaller(STEP, dim - i);
    memset(rest, 0, sizeof *rest);
    for (int64_t k = 0; k < count; k++)
        memcpy(rest->bytes + k * size, row + (i + k) * step * size, size);
    return rest->bytes;
}

INLINE double total(floats v)
{
    quad part[LANES / 4];
    memcpy(part, &v, sizeof v);
    for (int k = 1; k < LANES / 4; k++)
        part[0] += part[k];
    return ((double)part[0][0] + part[0][1]) + ((double)part[0][2] + part[0][3]);
}

/* `what(FROM)` for every step of a row, at feature i; `initially` before every block, `finally` after it. FROM(k, row)
 * is where the features of the k-th row are read: in place, or gathered when they do not lie side by side or do not
 * fill the step. */
#define IN_PLACE(k, row) ((row) + i * size_of(dtype))
#define GATHERED(k, row) gather(&rest[k], row, dtype, step, i, dim)
#define FOR_STEPS(initially, what, finally)                                                                            \
    for (int64_t i = 0; i < dim;) {                                                                                    \
        const int64_t end = smaller(i + BLOCK, dim);                                                                   \
        initially                                                                                                      \
        for (; step == 1 && i + STEP <= end; i += STEP)                                                                \
            what(IN_PLACE)                                                                                             \
        for (; i < end; i += STEP)                                                                                     \
            what(GATHERED)                                                                                             \
        finally                                                                                                        \
    }

/* Ask for what is read EARLY bytes after the features at i. */
#define ASK_EARLY(row)                                                                                                 \
    for (int k_ = 0; k_ < (STEP * size_of(dtype) + LINE - 1) / LINE; k_++)                                             \
        __builtin_prefetch((row) + i * size_of(dtype) + EARLY + k_ * LINE);

/* The sums of a block, added to those of the blocks before. */
#define PUT_ASIDE(count, sum)                                                                                          \
    _Pragma("GCC unroll 8")                                                                                            \
    for (int k = 0; k < (count); k++)                                                                                  \
        (sum)[k] += block[k];

/* One copy of `call` for each dtype, which is a constant in it. */
#define SPECIALISE(number, call)                                                                                       \
    switch (number) {                                                                                                  \
    case FLOAT32: { enum { dtype = FLOAT32 }; call; break; }                                                           \
    case FLOAT16: { enum { dtype = FLOAT16 }; call; break; }                                                           \
    case BFLOAT16: { enum { dtype = BFLOAT16 }; call; break; }                                                         \
    }

/* -- dot products, norms and cosines of rows ----------------------------------------------------------------------- */

INLINE double dot(const char *a, const char *b, int dtype, int64_t dim, int64_t step)
{
    floats sum = {0};
    Rest rest[2];
#define ADD_PRODUCT(FROM)                                                                                              \
    {                                                                                                                  \
        const Two x = load(FROM(0, a), dtype), y = load(FROM(1, b), dtype);                                            \
        block = MULTIPLY_ADD(x.one, y.one, block);                                                                     \
        block = MULTIPLY_ADD(x.two, y.two, block);                                                                     \
    }
    FOR_STEPS(floats block = {0};, ADD_PRODUCT, sum += block;)
    return total(sum);
}

/* The same in float64, for rows of any magnitude: slower, and as good as exact. */
static NOINLINE double wide_dot(const char *a, const char *b, int64_t number, int64_t dim, int64_t step)
{
    double sums[STEP] = {0}, sum = 0;
    Rest rest[2];
    for (int64_t i = 0; i < dim; i += STEP) {
        Two x, y;
        SPECIALISE(number, x = load(GATHERED(0, a), dtype); y = load(GATHERED(1, b), dtype))
        float left[STEP], right[STEP];
        memcpy(left, &x, sizeof x);
        memcpy(right, &y, sizeof y);
        for (int k = 0; k < STEP; k++)
            sums[k] += (double)left[k] * right[k];
    }
    for (int k = 0; k < STEP; k++)
        sum += sums[k];
    return sum;
}

/* Whether float32 products of features of such a row with others may overflow or vanish. */
INLINE int extreme(double norm)
{
    return !(norm > 1e-12 && norm < 1e12);
}

INLINE double norm_of(double squared, const char *row, int64_t dtype, int64_t dim, int64_t step)
{
    const double norm = sqrt(squared);
    return extreme(norm) ? sqrt(wide_dot(row, row, dtype, dim, step)) : norm;
}

INLINE double clamp(double value)
{
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

/* Cosine on the grid of 2^-20; 0 where an end is a zero vector. */
INLINE float on_grid(double dot, double length)
{
    return (float)(nearbyint(clamp(length > 0 ? dot / length : 0.0) * 0x1p20) * 0x1p-20);
}

INLINE float cosine(double dot, const char *a, const char *b, double left, double right, int64_t dtype, int64_t dim,
                    int64_t step)
{
    if (__builtin_expect(extreme(left) || extreme(right), 0))
        dot = wide_dot(a, b, dtype, dim, step);
    return on_grid(dot, left * right);
}

INLINE const char *row_at(const Rows *x, int64_t vertex)
{
    return x->features + x->offset[vertex] * size_of(x->dtype);
}

static NOINLINE double rows_dot(const Rows *x, const char *a, const char *b)
{
    double found = 0;
    SPECIALISE(x->dtype, found = dot(a, b, dtype, x->dim, x->step))
    return found;
}

typedef struct {
    const Rows *x;
    double *out;
} NormsJob;

static void norms_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const NormsJob *job = pointer;
    const Rows *x = job->x;
    for (int64_t v = start; v < stop; v++) {
        const char *row = row_at(x, v);
        job->out[v] = norm_of(rows_dot(x, row, row), row, x->dtype, x->dim, x->step);
    }
}

int64_t row_norms(const Rows *x, double *out, int64_t count, int64_t threads)
{
    share(norms_work, &(NormsJob){x, out}, count, 64, threads);
    return 0;
}

typedef struct {
    const Rows *x;
    const int64_t *left, *right;
    float *out;
} PairsJob;

INLINE float pair_cosine(const Rows *x, int64_t left, int64_t right)
{
    const char *a = row_at(x, left), *b = row_at(x, right);
    return cosine(rows_dot(x, a, b), a, b, x->norm[left], x->norm[right], x->dtype, x->dim, x->step);
}

static void pairs_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const PairsJob *job = pointer;
    for (int64_t e = start; e < stop; e++)
        job->out[e] = pair_cosine(job->x, job->left[e], job->right[e]);
}

int64_t pair_cosines(const Rows *x, const int64_t *left, const int64_t *right, float *out, int64_t count,
                     int64_t threads)
{
    share(pairs_work, &(PairsJob){x, left, right, out}, count, 64, threads);
    return 0;
}

/* -- edges of a dense grid ----------------------------------------------------------------------------------------- */

/* Norms of all tokens; dot products with the token to the left, above, and one frame before; and the cosines of the
 * edges to the right, below and to the next frame, without the places that have none. */
typedef struct {
    const Lattice *x;
    double *norm;
    double *left, *above, *before;
    float *right, *below, *next;
} LatticeJob;

/* Two frames at a time: the frame before a pair is read once for both, when it is still in a cache that all cores
 * share, and so is the row above. Where a neighbour is missing, the token itself stands in and the product is never
 * looked at. Units are pairs of frames times rows of tokens. */
INLINE void lattice_dots(const LatticeJob *job, int dtype, int64_t start, int64_t stop)
{
    const Lattice *x = job->x;
    const int64_t dim = x->dim, step = 1, size = size_of(dtype);
    const int64_t down = x->frame_stride * size, along = x->column_stride * size, up = x->row_stride * size;
    for (int64_t unit = start; unit < stop; unit++) {
        const int64_t t = unit / x->height * 2, y = unit % x->height;
        const int paired = t + 1 < x->frames;
        for (int64_t column = 0; column < x->width; column++) {
            const char *a = x->features + t * down + y * up + column * along, *b = paired ? a + down : a;
            const char *al = column ? a - along : a, *bl = column ? b - along : b;
            const char *au = y ? a - up : a, *bu = y ? b - up : b, *before = t ? a - down : a;
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
            int64_t token = (t * x->height + y) * x->width + column;
            job->norm[token] = norm_of(total(sum[0]), a, dtype, dim, 1);
            job->left[token] = total(sum[2]);
            job->above[token] = total(sum[4]);
            job->before[token] = total(sum[6]);
            if (paired) {
                token += x->height * x->width;
                job->norm[token] = norm_of(total(sum[1]), b, dtype, dim, 1);
                job->left[token] = total(sum[3]);
                job->above[token] = total(sum[5]);
                job->before[token] = total(sum[7]);
            }
        }
    }
}

static void lattice_dots_work(const void *job, int64_t thread, int64_t start, int64_t stop)
{
    SPECIALISE(((const LatticeJob *)job)->x->dtype, lattice_dots(job, dtype, start, stop))
}

INLINE const char *token_at(const Lattice *x, int64_t token)
{
    const int64_t column = token % x->width, y = token / x->width % x->height, t = token / x->width / x->height;
    return x->features + (t * x->frame_stride + y * x->row_stride + column * x->column_stride) * size_of(x->dtype);
}

/* The cosines of `count` edges, from the tokens first − back, ... to the tokens first, ... */
INLINE void edges(const Lattice *x, const double *dots, const double *norm, int64_t first, int64_t back, int64_t count,
                  float *out)
{
    for (int64_t k = 0; k < count; k++) {
        const int64_t i = first + k;
        out[k] = on_grid(dots[i], norm[i - back] * norm[i]);
        if (__builtin_expect(extreme(norm[i - back]) || extreme(norm[i]), 0))
            out[k] = cosine(0, token_at(x, i - back), token_at(x, i), norm[i - back], norm[i], x->dtype, x->dim, 1);
    }
}

/* Units are rows of tokens. */
static void lattice_cosines_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const LatticeJob *job = pointer;
    const Lattice *x = job->x;
    const int64_t width = x->width, area = x->height * width;
    for (int64_t row = start; row < stop; row++) {
        const int64_t first = row * width, t = row / x->height, y = row % x->height;
        edges(x, job->left, job->norm, first + 1, 1, width - 1, job->right + row * (width - 1));
        if (y)
            edges(x, job->above, job->norm, first, width, width, job->below + (row - t - 1) * width);
        if (t)
            edges(x, job->before, job->norm, first, area, width, job->next + first - area);
    }
}

int64_t lattice_cosines(const Lattice *x, double *norm, double *dots, float *right, float *below, float *next,
                     int64_t threads)
{
    const int64_t rows = x->frames * x->height, tokens = rows * x->width;
    const LatticeJob job = {x, norm, dots, dots + tokens, dots + 2 * tokens, right, below, next};
    share(lattice_dots_work, &job, (x->frames + 1) / 2 * x->height, ROWS_AT_ONCE, threads);
    share(lattice_cosines_work, &job, rows, 64, threads);
    return 0;
}

/* -- connected components ------------------------------------------------------------------------------------------ */

/* Components of a graph, numbered by their first vertex; returns how many. Trees hang under their smallest vertex, and
 * every look-up shortens the path it takes by half. */
int64_t components(const int64_t *left, const int64_t *right, int64_t edges, int64_t vertices, int64_t *labels)
{
    int64_t count = 0;
    for (int64_t v = 0; v < vertices; v++)
        labels[v] = v;
    for (int64_t e = 0; e < edges; e++) {
        int64_t a = left[e], b = right[e];
        while (labels[a] != a)
            a = labels[a] = labels[labels[a]];
        while (labels[b] != b)
            b = labels[b] = labels[labels[b]];
        if (a < b)
            labels[b] = a;
        else
            labels[a] = b;
    }
    /* A parent is smaller than its child, and so has its number already. */
    for (int64_t v = 0; v < vertices; v++)
        labels[v] = labels[v] == v ? count++ : labels[labels[v]];
    return count;
}

/* -- centrality in communities ------------------------------------------------------------------------------------- */

/* Members of large communities that one thread sums. */
typedef struct {
    int64_t start, stop; /* places in the order */
    int64_t size;        /* members of the community */
    float *sum, *all;    /* of the unit vectors of these members; of all members */
} Piece;

typedef struct {
    const Rows *x;
    int64_t *order;                /* members in ascending order, one community of two or more after the other */
    int64_t *begins, *sizes;       /* where they begin, and how many they are */
    int64_t communities, members;
    Piece *pieces;
    int64_t count;
    float *sums;                   /* one for each thread */
    int64_t room;                  /* floats of a sum: whole steps */
    float *out;
} CommunityJob;

INLINE double inverse(double norm)
{
    return norm > 0 ? 1 / norm : 0;
}

INLINE const char *member_row(const CommunityJob *job, int64_t place)
{
    return row_at(job->x, job->order[smaller(place, job->members - 1)]);
}

/* Four members at a time, so that the sum is carried to and from the cache once for all four. In place of missing ones
 * the first is read again. Meanwhile the four rows at the place `early` are asked for. */
#define FOUR_ROWS(early)                                                                                               \
    const char *row[4], *next[4];                                                                                      \
    const int64_t near_end = dim - EARLY / size_of(dtype);                                                             \
    double norm[4];                                                                                                    \
    Rest rest[4];                                                                                                      \
    for (int k = 0; k < 4; k++) {                                                                                      \
        const int64_t there = place + k < stop ? place + k : place;                                                    \
        row[k] = member_row(job, there);                                                                               \
        norm[k] = x->norm[job->order[there]];                                                                          \
        next[k] = member_row(job, (early) + k) - dim * size_of(dtype);                                                 \
    }

/* Near the end of these rows, what is read early is the beginning of the next. */
#define ASK_FOUR_EARLY                                                                                                 \
    for (int k = 0; k < 4; k++)                                                                                        \
        ASK_EARLY(i < near_end ? row[k] : next[k])

/* A row of any magnitude as a unit vector: added to a sum, or multiplied with one. */
static NOINLINE double extreme_row(const Rows *x, const char *row, double norm, float *sum, int add)
{
    const int64_t dim = x->dim, step = x->step;
    double score = 0;
    Rest rest[1];
    for (int64_t i = 0; i < dim; i += STEP) {
        float values[STEP];
        Two value;
        SPECIALISE(x->dtype, value = load(GATHERED(0, row), dtype))
        memcpy(values, &value, sizeof value);
        for (int k = 0; k < STEP; k++)
            if (add)
                sum[i + k] += (float)(values[k] * inverse(norm));
            else
                score += values[k] * inverse(norm) * sum[i + k];
    }
    return score;
}

/* The sum of the unit vectors of the members from start to stop. */
INLINE void sum_of(const CommunityJob *job, int dtype, int64_t start, int64_t stop, float *sum)
{
    const Rows *x = job->x;
    const int64_t dim = x->dim, step = x->step;
    memset(sum, 0, job->room * sizeof *sum);
    for (int64_t place = start; place < stop; place += 4) {
        FOUR_ROWS(place + 4)
        floats weight[4];
        for (int k = 0; k < 4; k++) {
            const int real = place + k < stop;
            weight[k] = (floats){0} + (real && !extreme(norm[k]) ? (float)(1 / norm[k]) : 0);
            if (__builtin_expect(real && extreme(norm[k]), 0))
                extreme_row(x, row[k], norm[k], sum, 1);
        }
#define ADD_UNIT(half)                                                                                                 \
    all.half += MULTIPLY_ADD(b.half, weight[1], a.half * weight[0]) +                                                  \
                MULTIPLY_ADD(e.half, weight[3], c.half * weight[2]);
#define ADD_UNITS(FROM)                                                                                                \
    {                                                                                                                  \
        const Two a = load(FROM(0, row[0]), dtype), b = load(FROM(1, row[1]), dtype);                                  \
        const Two c = load(FROM(2, row[2]), dtype), e = load(FROM(3, row[3]), dtype);                                  \
        Two all = load((const char *)(sum + i), FLOAT32);                                                              \
        ASK_FOUR_EARLY                                                                                                 \
        ADD_UNIT(one)                                                                                                  \
        ADD_UNIT(two)                                                                                                  \
        memcpy(sum + i, &all.one, sizeof all.one);                                                                     \
        memcpy(sum + i + LANES, &all.two, sizeof all.two);                                                             \
    }
        FOR_STEPS(, ADD_UNITS, )
    }
}

static NOINLINE void sum_members(const CommunityJob *job, int64_t start, int64_t stop, float *sum)
{
    SPECIALISE(job->x->dtype, sum_of(job, dtype, start, stop, sum))
}

/* Scores of the members from start to stop, of a community of `size`; `early` is how far behind the rows lie that are
 * asked for. */
INLINE void scores_of(const CommunityJob *job, int dtype, int64_t start, int64_t stop, int64_t size, float *sum,
                      int64_t early)
{
    const Rows *x = job->x;
    const int64_t dim = x->dim, step = x->step;
    for (int64_t place = start; place < stop; place += 4) {
        FOUR_ROWS(place + early)
        floats dots[4] = {{0}};
#define ADD_SCORES(FROM)                                                                                               \
    {                                                                                                                  \
        const Two a = load(FROM(0, row[0]), dtype), b = load(FROM(1, row[1]), dtype);                                  \
        const Two c = load(FROM(2, row[2]), dtype), e = load(FROM(3, row[3]), dtype);                                  \
        Two all = load((const char *)(sum + i), FLOAT32);                                                              \
        ASK_FOUR_EARLY                                                                                                 \
        ADD_SCORE(one)                                                                                                 \
        ADD_SCORE(two)                                                                                                 \
    }
#define ADD_SCORE(half)                                                                                                \
    block[0] = MULTIPLY_ADD(a.half, all.half, block[0]);                                                               \
    block[1] = MULTIPLY_ADD(b.half, all.half, block[1]);                                                               \
    block[2] = MULTIPLY_ADD(c.half, all.half, block[2]);                                                               \
    block[3] = MULTIPLY_ADD(e.half, all.half, block[3]);
        FOR_STEPS(floats block[4] = {{0}};, ADD_SCORES, PUT_ASIDE(4, dots))
        for (int64_t k = 0; k < smaller(4, stop - place); k++) {
            double score = total(dots[k]) * inverse(norm[k]);
            if (__builtin_expect(extreme(norm[k]), 0))
                score = extreme_row(x, row[k], norm[k], sum, 0);
            job->out[job->order[place + k]] = (float)clamp((score - (norm[k] > 0)) / (size - 1));
        }
    }
}

static NOINLINE void score_members(const CommunityJob *job, int64_t start, int64_t stop, int64_t size, float *sum,
                                   int64_t early)
{
    SPECIALISE(job->x->dtype, scores_of(job, dtype, start, stop, size, sum, early))
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
    float *sum = job->sums + thread * job->room;
    for (int64_t c = community_from(job, start); c < job->communities && job->begins[c] < stop; c++) {
        const int64_t begin = job->begins[c], size = job->sizes[c], end = begin + size;
        if (size == 2) { /* one product for both, so that no rounding decides between them */
            const int64_t a = job->order[begin], b = job->order[begin + 1];
            job->out[a] = job->out[b] = pair_cosine(job->x, a, b);
        } else if (size <= PIECE) {
            sum_members(job, begin, end, sum);
            score_members(job, begin, end, size, sum, size <= CACHED ? size : 4);
        }
    }
}

/* Units are pieces. */
static void sum_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const CommunityJob *job = pointer;
    for (const Piece *p = job->pieces + start; p < job->pieces + stop; p++)
        sum_members(job, p->start, p->stop, p->sum);
}

/* Units are pieces, backwards: what was summed last is still in cache. */
static void score_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const CommunityJob *job = pointer;
    for (const Piece *p = job->pieces + job->count - start - 1; p > job->pieces + job->count - stop - 1; p--)
        score_members(job, p->start, p->stop, p->size, p->all, 4);
}

/* The sum of each large community in place of that of its first piece. */
static void add_pieces(const CommunityJob *job)
{
    for (Piece *p = job->pieces, *end = p + job->count, *next; p < end; p = next) {
        for (next = p; next < end && next->all == p->all;)
            next++;
        for (int64_t i = 0; i < job->room; i++) {
            double sum = 0;
            for (const Piece *q = p; q < next; q++)
                sum += q->sum[i];
            p->all[i] = (float)sum;
        }
    }
}

/* Returns 0, or 1 when there is no memory. */
int64_t centrality(const Rows *x, const int64_t *labels, const int64_t *sizes, int64_t communities, int64_t vertices,
                   float *out, int64_t threads)
{
    const int64_t room = (x->dim + STEP - 1) / STEP * STEP;
    int64_t shared = 0, members = 0, pieces = 0, failed = 1;
    for (int64_t c = 0; c < communities; c++) {
        shared += sizes[c] > 1;
        members += sizes[c] > 1 ? sizes[c] : 0;
        pieces += sizes[c] > PIECE ? (sizes[c] + PIECE - 1) / PIECE : 0;
    }
    threads = smaller(threads, MAX_THREADS);
    int64_t *numbers = malloc((members + 2 * shared + communities + 1) * sizeof *numbers);
    Piece *piece = malloc((pieces + 1) * sizeof *piece);
    float *sums = malloc((pieces + threads) * room * sizeof *sums);
    if (numbers && piece && sums) {
        int64_t *order = numbers, *begins = order + members, *many = begins + shared, *next = many + shared;
        CommunityJob job = {x, order, begins, many, shared, members, piece, pieces, sums + pieces * room, room, out};
        int64_t place = 0, community = 0, p = 0;
        for (int64_t c = 0; c < communities; c++) {
            next[c] = place;
            if (sizes[c] > 1) {
                begins[community] = place;
                many[community++] = sizes[c];
                float *all = sums + p * room;
                for (int64_t start = place; sizes[c] > PIECE && start < place + sizes[c]; start += PIECE, p++)
                    piece[p] = (Piece){start, smaller(start + PIECE, place + sizes[c]), sizes[c], sums + p * room, all};
                place += sizes[c];
            }
        }
        for (int64_t v = 0; v < vertices; v++)
            if (sizes[labels[v]] > 1)
                order[next[labels[v]]++] = v;
            else
                out[v] = 0;
        share(small_work, &job, members, 64, threads);
        share(sum_work, &job, pieces, 1, threads);
        add_pieces(&job);
        share(score_work, &job, pieces, 1, threads);
        failed = 0;
    }
    free(numbers);
    free(piece);
    free(sums);
    return failed;
}
