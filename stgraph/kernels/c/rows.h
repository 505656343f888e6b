/* What all fused CPU kernels share: reading rows of features, products of rows, sums of unit vectors, threads.
 *
 * The kernels are plain C, compiled once on the machine that runs them, called through ctypes. Every dot product is
 * summed in LANES float32 lanes: the features of one BLOCK after the other, whose sums are then added up. So no sum is
 * long, and its error is far below the grid that cosines are rounded to. Rows so large or so small that float32 products
 * would overflow or vanish are taken again in float64.
 *
 * Memory is the limit, so rows are read as few times as possible, and what comes next is asked for early: processors
 * that follow one run of addresses by themselves lose track of four at once.
 *
 * Units of work are handed out to threads in small chunks. Each number is made by one thread from its own rows alone.
 */

#ifndef STGRAPH_ROWS_H
#define STGRAPH_ROWS_H

#include <math.h>
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

/* Bytes between what is read now and what is asked for early. */
#define EARLY 2048

/* A cache line in bytes. */
#define LINE 64

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define UNUSED __attribute__((unused))

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

INLINE int64_t size_of(int dtype)
{
    return dtype == FLOAT32 ? 4 : 2;
}

INLINE int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Pieces of at most so many units. */
INLINE int64_t pieces_of(int64_t units, int64_t most)
{
    return (units + most - 1) / most;
}

/* -- threads: threads.c -------------------------------------------------------------------------------------------- */

#define MAX_THREADS 256

/* Do the units from start to stop of a job, as one of several threads. */
typedef void Work(const void *job, int64_t thread, int64_t start, int64_t stop);

/* Do all units of a job, each of at most so many threads taking the next chunk. */
void share(Work *work, const void *job, int64_t units, int64_t chunk, int64_t threads);

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
#elif defined __aarch64__
typedef __fp16 numbers __attribute__((vector_size(LANES * sizeof(__fp16))));
#define FROM_FLOAT16(value) __builtin_convertvector((numbers)(value), floats)
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
static UNUSED NOINLINE const char *gather(Rest *rest, const char *row, int dtype, int64_t step, int64_t i, int64_t dim)
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
static UNUSED NOINLINE double wide_dot(const char *a, const char *b, int64_t number, int64_t dim, int64_t step)
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

static UNUSED NOINLINE double rows_dot(const Rows *x, const char *a, const char *b)
{
    double found = 0;
    SPECIALISE(x->dtype, found = dot(a, b, dtype, x->dim, x->step))
    return found;
}

INLINE float pair_cosine(const Rows *x, int64_t left, int64_t right)
{
    const char *a = row_at(x, left), *b = row_at(x, right);
    return cosine(rows_dot(x, a, b), a, b, x->norm[left], x->norm[right], x->dtype, x->dim, x->step);
}

/* -- sums of unit vectors, and products with them ------------------------------------------------------------------ */

/* Some rows that follow each other in `row`; after the first `reach` there nothing may be read. */
typedef struct {
    const char *const *row;
    const double *norm;
    int64_t count, reach, dtype, dim, step;
} Units;

INLINE double inverse(double norm)
{
    return norm > 0 ? 1 / norm : 0;
}

/* Floats of a sum: whole steps. */
INLINE int64_t room_of(int64_t dim)
{
    return pieces_of(dim, STEP) * STEP;
}

/* Four rows at a time, so that the sum is carried to and from the cache once for all four. In place of missing ones the
 * first is read again. Meanwhile the four rows `early` places further on are asked for: near the end of these rows, what
 * is read early is the beginning of those. */
#define FOUR_ROWS(early)                                                                                               \
    const char *row[4], *next[4];                                                                                      \
    const int64_t near_end = dim - EARLY / size_of(dtype);                                                             \
    double norm[4];                                                                                                    \
    Rest rest[4];                                                                                                      \
    for (int k = 0; k < 4; k++) {                                                                                      \
        const int64_t there = place + k < x->count ? place + k : place;                                                \
        row[k] = x->row[there];                                                                                        \
        norm[k] = x->norm[there];                                                                                      \
        next[k] = x->row[smaller(place + (early) + k, x->reach - 1)] - dim * size_of(dtype);                           \
    }

#define ASK_FOUR_EARLY                                                                                                 \
    for (int k = 0; k < 4; k++)                                                                                        \
        ASK_EARLY(i < near_end ? row[k] : next[k])

/* A row of any magnitude as a unit vector: added to a sum, or multiplied with one. */
static UNUSED NOINLINE double extreme_row(const Units *x, const char *row, double norm, float *sum, int add)
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

/* Rows that are summed before their sum is put aside: no sum is long, or the errors of equal rows would add up. */
#define FEW 64

/* Add the unit vectors of at most FEW rows to a sum. */
INLINE void add_few_of(const Units *x, int dtype, float *sum)
{
    const int64_t dim = x->dim, step = x->step;
    for (int64_t place = 0; place < x->count; place += 4) {
        FOUR_ROWS(4)
        floats weight[4];
        for (int k = 0; k < 4; k++) {
            const int real = place + k < x->count;
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

/* Add the unit vectors of these rows to a sum; `part` is room for another. */
INLINE void add_units_of(const Units *x, int dtype, float *sum, float *part)
{
    const int64_t room = room_of(x->dim);
    for (int64_t place = 0; place < x->count; place += FEW) {
        const int64_t count = smaller(FEW, x->count - place);
        const Units few = {x->row + place, x->norm + place, count, x->reach - place, x->dtype, x->dim, x->step};
        memset(part, 0, room * sizeof *part);
        add_few_of(&few, dtype, part);
        for (int64_t i = 0; i < room; i++)
            sum[i] += part[i];
    }
}

static UNUSED NOINLINE void add_units(const Units *x, float *sum, float *part)
{
    SPECIALISE(x->dtype, add_units_of(x, dtype, sum, part))
}

/* The product of each row's unit vector with a sum; `early` is how many places behind the rows lie that are asked
 * for. */
INLINE void score_units_of(const Units *x, int dtype, float *sum, int64_t early, double *scores)
{
    const int64_t dim = x->dim, step = x->step;
    for (int64_t place = 0; place < x->count; place += 4) {
        FOUR_ROWS(early)
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
        for (int64_t k = 0; k < smaller(4, x->count - place); k++)
            scores[place + k] = __builtin_expect(extreme(norm[k]), 0) ? extreme_row(x, row[k], norm[k], sum, 0)
                                                                       : total(dots[k]) * inverse(norm[k]);
    }
}

static UNUSED NOINLINE void score_units(const Units *x, float *sum, int64_t early, double *scores)
{
    SPECIALISE(x->dtype, score_units_of(x, dtype, sum, early, scores))
}

#endif
