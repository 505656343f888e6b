/* The fused CPU kernels: plain C, compiled once on the machine that runs them, called through ctypes.
 *
 * Every dot product is summed in LANES float64 lanes, which are added in order. The product of two features is exact
 * in float64: sums are as good as exact, the same in every function and on any number of threads, and no magnitude of
 * float32 overflows or vanishes in them.
 *
 * Functions work on a range of their units, so that the caller can share the units among threads.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
#define LANES 8
#else
#define LANES 4
#endif

/* Features between what is read from memory now and what is asked for early. */
#define AHEAD 1024

#define INLINE static inline __attribute__((always_inline))

typedef double lanes __attribute__((vector_size(LANES * sizeof(double))));
typedef float floats __attribute__((vector_size(LANES * sizeof(float))));
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

/* A dense grid of rows: sizes, and strides in elements. */
typedef struct {
    const char *features;
    int64_t dtype, dim, step;
    int64_t frames, height, width;
    int64_t frame_stride, row_stride, column_stride;
} Lattice;

INLINE const char *at(const char *features, int dtype, int64_t element)
{
    return features + element * (dtype == FLOAT32 ? 4 : 2);
}

/* -- conversions: the instructions where compilers do not find them in plain C ------------------------------------- */

INLINE floats as_floats(words bits)
{
    floats value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#if defined __AVX512F__
#define TO_DOUBLES(value) (lanes)_mm512_cvtps_pd((__m256)(value))
#define TO_WORDS(value) (words)_mm256_cvtepu16_epi32((__m128i)(value))
#define FROM_FLOAT16(value) (floats)_mm256_cvtph_ps((__m128i)(value))
#elif defined __AVX2__ && defined __F16C__
#define TO_DOUBLES(value) (lanes)_mm256_cvtps_pd((__m128)(value))
#define TO_WORDS(value) (words)_mm_cvtepu16_epi32(_mm_cvtsi64_si128((int64_t)(value)))
#define FROM_FLOAT16(value) (floats)_mm_cvtph_ps(_mm_cvtsi64_si128((int64_t)(value)))
#else
#define TO_DOUBLES(value) __builtin_convertvector(value, lanes)
#define TO_WORDS(value) __builtin_convertvector(value, words)
#define FROM_FLOAT16(value) from_float16(value)

/* In the bits of a float32 it is 2^112 too small, subnormal or not; Inf and NaN need the largest exponent. */
INLINE floats from_float16(halves value)
{
    const words bits = TO_WORDS(value);
    const floats scaled = as_floats((bits & 0x7fff) << 13) * 0x1p112f;
    words magnitude;
    memcpy(&magnitude, &scaled, sizeof magnitude);
    magnitude |= (words)((bits & 0x7c00) == 0x7c00) & 0x7f800000;
    return as_floats(magnitude | (bits & 0x8000) << 16);
}
#endif

/* `count` ≤ LANES features from element i on, zeros behind them. Nothing is assumed of their alignment. */
INLINE lanes load(const char *row, int dtype, int64_t step, int64_t i, int64_t count)
{
    const int64_t size = dtype == FLOAT32 ? sizeof(float) : sizeof(uint16_t);
    char packed[LANES * sizeof(float)];
    row += i * step * size;
    if (count < LANES || step != 1) {
        memset(packed, 0, sizeof packed);
        for (int64_t k = 0; k < count; k++)
            memcpy(packed + k * size, row + k * step * size, size);
        row = packed;
    }
    if (dtype == FLOAT32) {
        floats value;
        memcpy(&value, row, sizeof value);
        return TO_DOUBLES(value);
    }
    halves value;
    memcpy(&value, row, sizeof value);
    /* A bfloat16 is the upper half of a float32. */
    return TO_DOUBLES(dtype == BFLOAT16 ? as_floats(TO_WORDS(value) << 16) : FROM_FLOAT16(value));
}

INLINE double total(lanes v)
{
    double sum = 0;
    for (int k = 0; k < LANES; k++)
        sum += v[k];
    return sum;
}

INLINE double clamp(double value)
{
    return value > 1 ? 1 : value < -1 ? -1 : value;
}

/* Cosine on the grid of 2^-20; 0 where an end is a zero vector. */
INLINE float cosine(double dot, double left, double right)
{
    double length = left * right;
    return (float)(nearbyint(clamp(length > 0 ? dot / length : 0.0) * 0x1p20) * 0x1p-20);
}

/* `what` for all lanes' worth of features from i on: whole ones, then the rest. */
#define FOR_LANES(dim, what)                                                                                           \
    {                                                                                                                  \
        int64_t i = 0;                                                                                                 \
        for (; i + LANES <= (dim); i += LANES)                                                                         \
            what(LANES)                                                                                                \
        if (i < (dim))                                                                                                 \
            what((dim) - i)                                                                                            \
    }

/* One copy of `body` for each dtype, and for features that lie side by side: both are constants in the inner loop. */
#define SPECIALISE(rows, body, ...)                                                                                    \
    switch ((rows)->dtype * 2 + ((rows)->step == 1)) {                                                                 \
    case FLOAT32 * 2 + 1: body(rows, FLOAT32, 1, __VA_ARGS__); break;                                                  \
    case FLOAT32 * 2: body(rows, FLOAT32, (rows)->step, __VA_ARGS__); break;                                           \
    case FLOAT16 * 2 + 1: body(rows, FLOAT16, 1, __VA_ARGS__); break;                                                  \
    case FLOAT16 * 2: body(rows, FLOAT16, (rows)->step, __VA_ARGS__); break;                                           \
    case BFLOAT16 * 2 + 1: body(rows, BFLOAT16, 1, __VA_ARGS__); break;                                                \
    case BFLOAT16 * 2: body(rows, BFLOAT16, (rows)->step, __VA_ARGS__); break;                                         \
    }

/* -- edges of a dense grid ---------------------------------------------------------------------------------------- */

/* Per position, the squared norm and the dot products with the token to the left, above, and one frame before. */
typedef struct {
    double *squared, *left, *above, *before;
} Dots;

/* Two frames at a time: the frame before a pair is read once for both, so all features are read one and a half times,
 * and the row above is still in cache. Where a neighbour is missing, the token itself stands in and the product is
 * never looked at. */
INLINE void lattice_body(const Lattice *x, int dtype, int64_t step, const Dots *out, int64_t start, int64_t stop)
{
    for (int64_t unit = start; unit < stop; unit++) {
        const int64_t t = unit / x->height * 2, y = unit % x->height;
        const int paired = t + 1 < x->frames;
        const int64_t second = paired ? x->frame_stride : 0;
        for (int64_t column = 0; column < x->width; column++) {
            const int64_t place = t * x->frame_stride + y * x->row_stride + column * x->column_stride;
            const int64_t left = column ? place - x->column_stride : place, above = y ? place - x->row_stride : place;
            const char *a = at(x->features, dtype, place), *b = at(x->features, dtype, place + second);
            const char *al = at(x->features, dtype, left), *bl = at(x->features, dtype, left + second);
            const char *au = at(x->features, dtype, above), *bu = at(x->features, dtype, above + second);
            const char *before = at(x->features, dtype, t ? place - x->frame_stride : place);
            lanes aa = {0}, bb = {0}, la = {0}, lb = {0}, ua = {0}, ub = {0}, pa = {0}, ab = {0};
#define ADD_PRODUCTS(count)                                                                                            \
    {                                                                                                                  \
        const lanes va = load(a, dtype, step, i, count), vb = load(b, dtype, step, i, count);                          \
        __builtin_prefetch(at(a, dtype, (i + AHEAD) * step));                                                          \
        __builtin_prefetch(at(b, dtype, (i + AHEAD) * step));                                                          \
        __builtin_prefetch(at(before, dtype, (i + AHEAD) * step));                                                     \
        aa += va * va;                                                                                                 \
        bb += vb * vb;                                                                                                 \
        ab += va * vb;                                                                                                 \
        la += va * load(al, dtype, step, i, count);                                                                    \
        lb += vb * load(bl, dtype, step, i, count);                                                                    \
        ua += va * load(au, dtype, step, i, count);                                                                    \
        ub += vb * load(bu, dtype, step, i, count);                                                                    \
        pa += va * load(before, dtype, step, i, count);                                                                \
    }
            FOR_LANES(x->dim, ADD_PRODUCTS)
            int64_t token = (t * x->height + y) * x->width + column;
            out->squared[token] = total(aa);
            out->left[token] = total(la);
            out->above[token] = total(ua);
            out->before[token] = total(pa);
            if (paired) {
                token += x->height * x->width;
                out->squared[token] = total(bb);
                out->left[token] = total(lb);
                out->above[token] = total(ub);
                out->before[token] = total(ab);
            }
        }
    }
}

/* Units are pairs of frames times rows of tokens. */
void lattice_dots(const Lattice *x, const Dots *out, int64_t start, int64_t stop)
{
    SPECIALISE(x, lattice_body, out, start, stop)
}

/* The norms in place of their squares, and the cosines of the edges to the right, below and to the next frame, without
 * the places that have none. */
void lattice_cosines(const Lattice *x, const Dots *dots, float *right, float *below, float *next)
{
    const int64_t width = x->width, area = x->height * width, tokens = x->frames * area;
    double *norm = dots->squared;
    for (int64_t i = 0; i < tokens; i++)
        norm[i] = sqrt(norm[i]);
    for (int64_t row = 0; row < tokens; row += width) {
        for (int64_t i = row + 1; i < row + width; i++)
            *right++ = cosine(dots->left[i], norm[i - 1], norm[i]);
        if (row % area)
            for (int64_t i = row; i < row + width; i++)
                *below++ = cosine(dots->above[i], norm[i - width], norm[i]);
    }
    for (int64_t i = area; i < tokens; i++)
        *next++ = cosine(dots->before[i], norm[i - area], norm[i]);
}

/* -- single rows and pairs of them --------------------------------------------------------------------------------- */

INLINE double dot(const Rows *x, int dtype, int64_t step, int64_t a, int64_t b)
{
    const char *left = at(x->features, dtype, x->offset[a]), *right = at(x->features, dtype, x->offset[b]);
    lanes sum = {0};
#define ADD_PRODUCT(count) sum += load(left, dtype, step, i, count) * load(right, dtype, step, i, count);
    FOR_LANES(x->dim, ADD_PRODUCT)
    return total(sum);
}

INLINE void norms_body(const Rows *x, int dtype, int64_t step, double *out, int64_t start, int64_t stop)
{
    for (int64_t v = start; v < stop; v++)
        out[v] = sqrt(dot(x, dtype, step, v, v));
}

/* Units are vertices. */
void row_norms(const Rows *x, double *out, int64_t start, int64_t stop)
{
    SPECIALISE(x, norms_body, out, start, stop)
}

INLINE void pairs_body(const Rows *x, int dtype, int64_t step, const int64_t *left, const int64_t *right, float *out,
                       int64_t start, int64_t stop)
{
    for (int64_t e = start; e < stop; e++)
        out[e] = cosine(dot(x, dtype, step, left[e], right[e]), x->norm[left[e]], x->norm[right[e]]);
}

/* Units are pairs of vertices. */
void pair_cosines(const Rows *x, const int64_t *left, const int64_t *right, float *out, int64_t start, int64_t stop)
{
    SPECIALISE(x, pairs_body, left, right, out, start, stop)
}

/* -- centrality in communities ------------------------------------------------------------------------------------- */

/* Members of each community in ascending order, one community after the other; `ends` holds its first place at first,
 * and its last at the end. */
void group_members(const int64_t *labels, int64_t vertices, int64_t *ends, int64_t *order)
{
    for (int64_t v = 0; v < vertices; v++)
        order[ends[labels[v]]++] = v;
}

INLINE double inverse(double norm)
{
    return norm > 0 ? 1 / norm : 0;
}

/* Members are taken four at a time, so that the sum is carried to and from the cache once for all four. In place of
 * missing ones the first is read again. Near the end of these rows the beginning of the next four is asked for. A sum
 * has room for whole lanes. */
#define FOUR_ROWS                                                                                                      \
    const char *row[4], *next[4];                                                                                      \
    for (int k = 0; k < 4; k++) {                                                                                      \
        row[k] = at(x->features, dtype, x->offset[members[k < count ? k : 0]]);                                        \
        next[k] = at(x->features, dtype, x->offset[members[k + 4 < count ? k + 4 : 0]] - x->dim * step);               \
    }                                                                                                                  \
    const char *a = row[0], *b = row[1], *c = row[2], *e = row[3];

#define ASK_EARLY                                                                                                      \
    __builtin_prefetch(at(i + AHEAD < x->dim ? a : next[0], dtype, (i + AHEAD) * step));                               \
    __builtin_prefetch(at(i + AHEAD < x->dim ? b : next[1], dtype, (i + AHEAD) * step));                               \
    __builtin_prefetch(at(i + AHEAD < x->dim ? c : next[2], dtype, (i + AHEAD) * step));                               \
    __builtin_prefetch(at(i + AHEAD < x->dim ? e : next[3], dtype, (i + AHEAD) * step));

INLINE void sum_body(const Rows *x, int dtype, int64_t step, const int64_t *members, int64_t count, double *sum)
{
    memset(sum, 0, (x->dim + LANES - 1) / LANES * sizeof(lanes));
    for (; count > 0; members += 4, count -= 4) {
        FOUR_ROWS
        double weight[4];
        for (int k = 0; k < 4; k++)
            weight[k] = k < count ? inverse(x->norm[members[k]]) : 0;
#define ADD_UNITS(width)                                                                                               \
    {                                                                                                                  \
        lanes so_far;                                                                                                  \
        memcpy(&so_far, sum + i, sizeof so_far);                                                                       \
        const lanes one = load(a, dtype, step, i, width) * weight[0] + load(b, dtype, step, i, width) * weight[1];     \
        const lanes two = load(c, dtype, step, i, width) * weight[2] + load(e, dtype, step, i, width) * weight[3];     \
        ASK_EARLY                                                                                                      \
        so_far += one + two;                                                                                           \
        memcpy(sum + i, &so_far, sizeof so_far);                                                                       \
    }
        FOR_LANES(x->dim, ADD_UNITS)
    }
}

INLINE void score_body(const Rows *x, int dtype, int64_t step, const int64_t *members, int64_t count,
                       const double *sum, int64_t size, float *out)
{
    for (; count > 0; members += 4, count -= 4) {
        FOUR_ROWS
        lanes dots[4] = {{0}};
#define ADD_SCORES(width)                                                                                              \
    {                                                                                                                  \
        lanes all;                                                                                                     \
        memcpy(&all, sum + i, sizeof all);                                                                             \
        ASK_EARLY                                                                                                      \
        dots[0] += load(a, dtype, step, i, width) * all;                                                               \
        dots[1] += load(b, dtype, step, i, width) * all;                                                               \
        dots[2] += load(c, dtype, step, i, width) * all;                                                               \
        dots[3] += load(e, dtype, step, i, width) * all;                                                               \
    }
        FOR_LANES(x->dim, ADD_SCORES)
        for (int k = 0; k < 4 && k < count; k++) {
            const double norm = x->norm[members[k]];
            out[members[k]] = (float)clamp((total(dots[k]) * inverse(norm) - (norm > 0)) / (size - 1));
        }
    }
}

INLINE void communities_body(const Rows *x, int dtype, int64_t step, const int64_t *order, const int64_t *ends,
                             int64_t longest, double *sum, float *out, int64_t start, int64_t stop)
{
    for (int64_t c = start; c < stop; c++) {
        const int64_t begin = c ? ends[c - 1] : 0, size = ends[c] - begin;
        const int64_t *members = order + begin;
        if (size == 1)
            out[members[0]] = 0;
        else if (size == 2) /* one product for both, so that no rounding decides between them */
            out[members[0]] = out[members[1]] =
                cosine(dot(x, dtype, step, members[0], members[1]), x->norm[members[0]], x->norm[members[1]]);
        else if (size <= longest) {
            sum_body(x, dtype, step, members, size, sum);
            score_body(x, dtype, step, members, size, sum, size, out);
        }
    }
}

/* Units are communities; those of more than `longest` members are left out. */
void community_scores(const Rows *x, const int64_t *order, const int64_t *ends, int64_t longest, double *sum,
                      float *out, int64_t start, int64_t stop)
{
    SPECIALISE(x, communities_body, order, ends, longest, sum, out, start, stop)
}

/* Sum of the unit vectors of some members. */
void member_sum(const Rows *x, const int64_t *members, int64_t count, double *sum)
{
    SPECIALISE(x, sum_body, members, count, sum)
}

/* Centrality of some members of a community of `size`, from the sum over all of them. */
void member_scores(const Rows *x, const int64_t *members, int64_t count, const double *sum, int64_t size, float *out)
{
    SPECIALISE(x, score_body, members, count, sum, size, out)
}
