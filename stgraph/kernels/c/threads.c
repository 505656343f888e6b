/* Units of work are handed out to threads in small chunks. */

#include "rows.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* GOMP_parallel of the OpenMP runtime that torch uses, where there is one. After its operations, torch's threads wait
 * busily for more: threads of our own would have no core to run on. */
typedef void Parallel(void (*work)(void *), void *job, unsigned threads, unsigned flags);

static Parallel *runtime;
static pid_t runtime_of;

int64_t use_runtime(Parallel *parallel)
{
    runtime = parallel;
    runtime_of = getpid(); /* a forked process has lost the threads */
    return 0;
}

/* Where other work keeps the cores busy, a helper that has been put aside is waited for longer than it would take to do
 * its part. So when that has been seen, a number of jobs are done without help, twice as many each time. */
#define LATE 1e-3
#define FEWEST_ALONE 8
#define MOST_ALONE 256

static atomic_int_fast64_t alone, next_alone = FEWEST_ALONE;

typedef struct {
    Work *work;
    const void *job;
    int64_t units, chunk;
    atomic_int_fast64_t next, threads;
    pthread_t caller;
    double done; /* when the caller has found no more to do */
} Share;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void take_chunks(void *pointer)
{
    Share *share = pointer;
    const int64_t thread = atomic_fetch_add(&share->threads, 1);
    int64_t start;
    while ((start = atomic_fetch_add(&share->next, share->chunk)) < share->units)
        share->work(share->job, thread, start, smaller(start + share->chunk, share->units));
    if (pthread_equal(pthread_self(), share->caller))
        share->done = now();
}

static void *help(void *share)
{
    take_chunks(share);
    return NULL;
}

/* A thread that cannot be had is no loss: others do its part. */
static void with_threads(Share *share, int64_t threads)
{
    pthread_t helpers[MAX_THREADS];
    int64_t started = 0;
    while (started < threads - 1 && !pthread_create(&helpers[started], NULL, help, share))
        started++;
    take_chunks(share);
    while (started)
        pthread_join(helpers[--started], NULL);
}

void share(Work *work, const void *job, int64_t units, int64_t chunk, int64_t threads)
{
    Share shared = {.work = work, .job = job, .units = units, .chunk = chunk, .caller = pthread_self()};
    threads = smaller(smaller(threads, MAX_THREADS), pieces_of(units, chunk));
    if (threads > 1 && alone > 0) {
        alone--;
        threads = 1;
    }
    if (threads <= 1) {
        take_chunks(&shared);
        return;
    }
    const double begun = now();
    if (runtime && runtime_of == getpid())
        runtime(take_chunks, &shared, (unsigned)threads, 0);
    else
        with_threads(&shared, threads);
    const double waited = now() - shared.done, worked = shared.done - begun;
    const int late = waited > LATE && waited > worked / 4;
    alone = late ? (int64_t)next_alone : 0;
    next_alone = late ? smaller(2 * next_alone, MOST_ALONE) : FEWEST_ALONE;
}
