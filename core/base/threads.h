// Data-parallel loops. The team belongs to a context; there is no global pool.
//
// With oneDNN the loop runs on the OpenMP runtime that oneDNN itself uses; without it on pthreads, which is
// the build that the thread sanitizer checks.
#pragma once
#include <stdint.h>

typedef struct team team;

// threads <= 0: one for each core this process may run on. NULL when memory is short.
team *team_new(int threads);
void team_free(team *t);
int team_size(const team *t); // 1 for NULL

// Calls fn(arg, begin, end) over [0, n) in chunks of `grain`. Chunk borders depend on n and grain only, never
// on the number of threads, so a reduction kept per chunk is reproducible. A NULL team runs in the calling
// thread. fn must not call parallel_for.
void parallel_for(team *t, int64_t n, int64_t grain, void (*fn)(void *arg, int64_t begin, int64_t end),
                  void *arg);

// Calls fn(arg, item, lane) for each item of [0, n), in no order. A lane is a number below team_size that no
// two calls at once share: a thread's part of a scratch.
void parallel_items(team *t, int64_t n, void (*fn)(void *arg, int64_t item, int64_t lane), void *arg);

// Into how many parts, at most `most`, to cut each of n items so that every thread gets about four.
int64_t parallel_split(const team *t, int64_t n, int64_t most);

// The calling thread's OpenMP team size is `t`'s between these two, so that oneDNN uses as many threads as we
// do.
int team_enter(const team *t);
void team_leave(int previous);
