/* What all fused CPU kernels share: reading rows of features, products of rows, sums of unit vectors, threads.
 *
 * The kernels are plain C, called through ctypes. They are compiled once for each level of vector instructions (see
 * build.py), and the same bits come out at every level and on every processor: a dot product is always summed in LANES
 * float32 lanes, one BLOCK of features after the other, and products are rounded before they are added. So no sum is
 * long, and its error is far below the grid that cosines are rounded to. Rows so large or so small that float32 products
 * would overflow or vanish are taken again in float64.
 *
 * Memory is the limit. Rows are read as few times as possible, and what comes next is asked for early, because
 * processors lose track of four runs of addresses at once.
 *
 * Each number is made by one thread from its own rows alone, so the number of threads changes no bit.
 */

#ifndef STGRAPH_ROWS_H
#define STGRAPH_ROWS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX__
#include <immintrin.h>
#endif

/* The name of an exported function at the level that is being compiled: row_norms_avx2, for instance. */
#define JOIN(name, level) name##_##level
#define AT_LEVEL(name, level) JOIN(name, level)
#define EXPORT(name) AT_LEVEL(name, LEVEL)

/* Floats of a vector register. */
#if defined __AVX512F__
#define REGISTER 16
#elif defined __AVX2__
#define REGISTER 8
#else
#define REGISTER 4
#endif

/* Lanes of every sum, whatever the processor has: one to four registers. */
#define LANES 16
#define PARTS (LANES / REGISTER)

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
#define FOR_PARTS _Pragma("GCC unroll 4") for (int p = 0; p < PARTS; p++)

typedef float vector __attribute__((vector_size(REGISTER * sizeof(float))));
typedef uint32_t words __attribute__((vector_size(REGISTER * sizeof(uint32_t))));
typedef uint16_t halves __attribute__((vector_size(REGISTER * sizeof(uint16_t))));

typedef struct {
    vector part[PARTS];
} Lanes;

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

/* -- threads ------------------------------------------------------------------------------------------------------- */

/* Do the units from start to stop of a job, as one of several threads. */
typedef void Work(const void *job, int64_t thread, int64_t start, int64_t stop);

/* Do all units of a job, in chunks that the threads take one after the other. */
INLINE void share(Work *work, const void *job, int64_t units, int64_t chunk, int64_t threads)
{
    const int64_t chunks = pieces_of(units, chunk);
    threads = smaller(threads, chunks);
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic) num_threads((int)threads) if (threads > 1)
    for (int64_t i = 0; i < chunks; i++)
        work(job, omp_get_thread_num(), i * chunk, smaller((i + 1) * chunk, units));
#else
    for (int64_t i = 0; i < chunks; i++)
        work(job, 0, i * chunk, smaller((i + 1) * chunk, units));
#endif
}

/* -- reading features ---------------------------------------------------------------------------------------------- */

/* STEP features, in an order that depends on the dtype alone. */
typedef struct {
    Lanes one, two;
} Two;

INLINE vector as_floats(words bits)
{
    vector value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined __AVX512F__
#define FROM_FLOAT16(value) (vector)_mm512_cvtph_ps((__m256i)(value))
#elif defined __AVX2__ && defined __F16C__
#define FROM_FLOAT16(value) (vector)_mm256_cvtph_ps((__m128i)(value))
#elif defined __aarch64__
typedef __fp16 numbers __attribute__((vector_size(REGISTER * sizeof(__fp16))));
#define FROM_FLOAT16(value) __builtin_convertvector((numbers)(value), vector)
#else
#define FROM_FLOAT16(value) from_float16(value)

/* In the bits of a float32 it is 2^112 too small, subnormal or not; Inf and NaN need the largest exponent. */
INLINE vector from_float16(halves value)
{
    words bits;
    for (int k = 0; k < REGISTER; k++)
        bits[k] = value[k];
    const vector scaled = as_floats((bits & 0x7fff) << 13) * 0x1p112f;
    words magnitude;
    memcpy(&magnitude, &scaled, sizeof magnitude);
    magnitude |= (words)((bits & 0x7c00) == 0x7c00) & 0x7f800000;
    return as_floats(magnitude | (bits & 0x8000) << 16);
}
#endif

/* Nothing is assumed of the alignment. */
INLINE Two load(const char *from, int dtype)
{
    Two value;
    FOR_PARTS {
        const int64_t at = p * REGISTER;
        if (dtype == FLOAT32) {
            memcpy(&value.one.part[p], from + at * 4, sizeof(vector));
            memcpy(&value.two.part[p], from + (at + LANES) * 4, sizeof(vector));
        } else if (dtype == FLOAT16) {
            halves one, two;
            memcpy(&one, from + at * 2, sizeof one);
            memcpy(&two, from + (at + LANES) * 2, sizeof two);
            value.one.part[p] = FROM_FLOAT16(one);
            value.two.part[p] = FROM_FLOAT16(two);
        } else { /* a bfloat16 is the upper half of a float32, and a word holds two */
            words both;
            memcpy(&both, from + at * 4, sizeof both);
            value.one.part[p] = as_floats(both << 16);
            value.two.part[p] = as_floats(both & 0xffff0000);
        }
    }
    return value;
}

INLINE void add(Lanes *sum, Lanes more)
{
    FOR_PARTS sum->part[p] += more.part[p];
}

/* Add the products of both halves. They are rounded before they are added: not all processors can do both at once. */
INLINE void add_products(Lanes *sum, Two a, Two b)
{
    FOR_PARTS sum->part[p] += a.one.part[p] * b.one.part[p];
    FOR_PARTS sum->part[p] += a.two.part[p] * b.two.part[p];
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

INLINE double total(Lanes lanes)
{
    float v[LANES];
    memcpy(v, &lanes, sizeof v);
    for (int k = 4; k < LANES; k++)
        v[k % 4] += v[k];
    return ((double)v[0] + v[1]) + ((double)v[2] + v[3]);
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

/* Ask for what is read EARLY bytes after the features at i, into the second cache of the core: the first one is too small
 * for four rows and a sum, and would lose it again before it is read. */
#define ASK_EARLY(row)                                                                                                 \
    for (int k_ = 0; k_ < (STEP * size_of(dtype) + LINE - 1) / LINE; k_++)                                             \
        __builtin_prefetch((row) + i * size_of(dtype) + EARLY + k_ * LINE, 0, 2);

/* The sums of a block, added to those of the blocks before. */
#define PUT_ASIDE(count, sum)                                                                                          \
    _Pragma("GCC unroll 8")                                                                                            \
    for (int k = 0; k < (count); k++)                                                                                  \
        add(&(sum)[k], block[k]);

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
    Lanes sum = {0};
    Rest rest[2];
#define ADD_PRODUCT(FROM) add_products(&block, load(FROM(0, a), dtype), load(FROM(1, b), dtype));
    FOR_STEPS(Lanes block = {0};, ADD_PRODUCT, add(&sum, block);)
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
        float weight[4];
        for (int k = 0; k < 4; k++) {
            const int real = place + k < x->count;
            weight[k] = real && !extreme(norm[k]) ? (float)(1 / norm[k]) : 0;
            if (__builtin_expect(real && extreme(norm[k]), 0))
                extreme_row(x, row[k], norm[k], sum, 1);
        }
#define ADD_UNIT(half)                                                                                                 \
    FOR_PARTS all.half.part[p] += (a.half.part[p] * weight[0] + b.half.part[p] * weight[1]) +                          \
                                  (c.half.part[p] * weight[2] + e.half.part[p] * weight[3]);
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
        Lanes dots[4] = {0};
#define ADD_SCORES(FROM)                                                                                               \
    {                                                                                                                  \
        const Two all = load((const char *)(sum + i), FLOAT32);                                                        \
        ASK_FOUR_EARLY                                                                                                 \
        add_products(&block[0], load(FROM(0, row[0]), dtype), all);                                                    \
        add_products(&block[1], load(FROM(1, row[1]), dtype), all);                                                    \
        add_products(&block[2], load(FROM(2, row[2]), dtype), all);                                                    \
        add_products(&block[3], load(FROM(3, row[3]), dtype), all);                                                    \
    }
        FOR_STEPS(Lanes block[4] = {0};, ADD_SCORES, PUT_ASIDE(4, dots))
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
