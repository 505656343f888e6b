/* Norms of single rows, and cosines of pairs of rows, wherever they lie. */

#include "rows.h"

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

int64_t EXPORT(row_norms)(const Rows *x, double *out, int64_t count, int64_t threads)
{
    share(norms_work, &(NormsJob){x, out}, count, 64, threads);
    return 0;
}

typedef struct {
    const Rows *x;
    const int64_t *left, *right;
    float *out;
} PairsJob;

static void pairs_work(const void *pointer, int64_t thread, int64_t start, int64_t stop)
{
    const PairsJob *job = pointer;
    for (int64_t e = start; e < stop; e++)
        job->out[e] = pair_cosine(job->x, job->left[e], job->right[e]);
}

int64_t EXPORT(pair_cosines)(const Rows *x, const int64_t *left, const int64_t *right, float *out, int64_t count,
                             int64_t threads)
{
    share(pairs_work, &(PairsJob){x, left, right, out}, count, 64, threads);
    return 0;
}
