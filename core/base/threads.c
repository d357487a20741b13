#include "core/base/threads.h"
#include "core/base/mem.h"

#include <sched.h>
#include <stdatomic.h>

#if CALO_OPENMP
#include <omp.h>
#else
#include <pthread.h>
#endif

typedef struct {
    void (*fn)(void *, int64_t, int64_t);
    void *arg;
    int64_t n, grain;
    atomic_int_least64_t next; // first index nobody has taken
} job;

static void job_work(job *j) {
    for (;;) {
        int64_t b = atomic_fetch_add_explicit(&j->next, j->grain, memory_order_relaxed);
        if (b >= j->n) return;
        j->fn(j->arg, b, b + j->grain < j->n ? b + j->grain : j->n);
    }
}

static int cores(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

#if CALO_OPENMP

struct team {
    int size;
};

team *team_new(int threads) {
    team *t = mem_calloc(1, sizeof *t);
    if (t) t->size = threads > 0 ? threads : cores();
    return t;
}

void team_free(team *t) { mem_free(t); }

static void run_job(team *t, job *j, int threads) {
    (void)t;
#pragma omp parallel num_threads(threads)
    job_work(j);
}

int team_enter(const team *t) {
    int previous = omp_get_max_threads();
    omp_set_num_threads(team_size(t));
    return previous;
}

void team_leave(int previous) { omp_set_num_threads(previous); }

#else

// Workers sleep until `round` moves; the caller works too and waits until `busy` is zero again.
struct team {
    int size, started, busy, quit;
    unsigned round;
    job *job;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    pthread_t thread[];
};

static void *worker(void *arg) {
    team *t = arg;
    unsigned seen = 0;
    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (t->round == seen && !t->quit) pthread_cond_wait(&t->wake, &t->lock);
        if (t->quit) break;
        seen = t->round;
        job *j = t->job;
        pthread_mutex_unlock(&t->lock);
        job_work(j);
        pthread_mutex_lock(&t->lock);
        if (--t->busy == 0) pthread_cond_signal(&t->done);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

team *team_new(int threads) {
    int n = threads > 0 ? threads : cores();
    team *t = mem_calloc(1, sizeof *t + (size_t)n * sizeof(pthread_t));
    if (!t) return NULL;
    t->size = n;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->done, NULL);
    while (t->started < n - 1 && !pthread_create(&t->thread[t->started], NULL, worker, t)) t->started++;
    return t;
}

void team_free(team *t) {
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    t->quit = 1;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (int i = 0; i < t->started; i++) pthread_join(t->thread[i], NULL);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
    pthread_cond_destroy(&t->done);
    mem_free(t);
}

static void run_job(team *t, job *j, int threads) {
    (void)threads;
    pthread_mutex_lock(&t->lock);
    t->job = j;
    t->busy = t->started;
    t->round++;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    job_work(j);
    pthread_mutex_lock(&t->lock);
    while (t->busy) pthread_cond_wait(&t->done, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

int team_enter(const team *t) {
    (void)t;
    return 0;
}

void team_leave(int previous) { (void)previous; }

#endif

int team_size(const team *t) { return t ? t->size : 1; }

int64_t parallel_split(const team *t, int64_t n, int64_t most) {
    int64_t threads = team_size(t), wanted = (4 * threads + n - 1) / n;
    return threads == 1 || wanted < 1 ? 1 : wanted < most ? wanted : most;
}

void parallel_for(team *t, int64_t n, int64_t grain, void (*fn)(void *, int64_t, int64_t), void *arg) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    job j = {.fn = fn, .arg = arg, .n = n, .grain = grain};
    int64_t chunks = (n + grain - 1) / grain;
    int threads = chunks < team_size(t) ? (int)chunks : team_size(t);
    if (threads > 1)
        run_job(t, &j, threads);
    else
        job_work(&j);
}

typedef struct {
    void (*fn)(void *, int64_t, int64_t);
    void *arg;
    int64_t n;
    atomic_int_least64_t next; // first item nobody has taken
} items;

static void work_lane(void *arg, int64_t lane, int64_t end) {
    (void)end;
    items *t = arg;
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed);
        if (i >= t->n) return;
        t->fn(t->arg, i, lane);
    }
}

void parallel_items(team *t, int64_t n, void (*fn)(void *, int64_t, int64_t), void *arg) {
    items all = {.fn = fn, .arg = arg, .n = n};
    int64_t lanes = team_size(t);
    parallel_for(t, lanes < n ? lanes : n, 1, work_lane, &all);
}
