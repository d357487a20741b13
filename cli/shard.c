#include "cli/shard.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1000000 };

// What a launcher sets. `first` and `step` are of array tasks, which may be numbered 3, 5, 7, ...
typedef struct {
    const char *rank, *count, *or_count, *first, *step;
} launcher;

static const launcher OUTER[] = {
    {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", NULL, "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"},
    {"JOB_COMPLETION_INDEX", "JOB_COMPLETION_COUNT"},
    {0}};
static const launcher INNER[] = {
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}, // a step may have fewer than the allocation
    {0}};

static bool read_number(const char *text, long *to) {
    char *end;
    errno = 0;
    *to = strtol(text, &end, 10);
    return end != text && !*end && !errno && *to >= 0 && *to <= MOST;
}

// 1: set; 0: not set; -1: not a number.
static int variable(const char *name, long *to) {
    const char *text = name ? getenv(name) : NULL;
    return !text || !*text ? 0 : read_number(text, to) ? 1 : -1;
}

// Rank and count by the first launcher that is there; a count that nobody tells is 0.
static int ask(const launcher *list, shard *s, const char **who, char *message, size_t size) {
    for (const launcher *l = list; l->rank; l++) {
        long first = 0, step = 1;
        int has = variable(l->rank, &s->rank), counted = variable(l->count, &s->count);
        if (!has) continue;
        if (!counted) counted = variable(l->or_count, &s->count);
        if (has < 0 || counted < 0 || variable(l->first, &first) < 0 || variable(l->step, &step) < 0 || !step)
            return snprintf(message, size, "the environment's %s or %s is not a usable number", l->rank,
                            l->count),
                   -1;
        s->rank = (s->rank - first) / step;
        *who = l->rank;
        return 1;
    }
    *s = (shard){0, 1};
    return 0;
}

static int environment(shard *s, const char **who, char *message, size_t size) {
    shard outer = {0, 0}, inner = {0, 0};
    const char *of_inner = NULL;
    if (ask(OUTER, &outer, who, message, size) < 0 || ask(INNER, &inner, &of_inner, message, size) < 0)
        return -1;
    if (!*who) *who = of_inner;
    // A count is missing: then only a lone rank can be told, and the caller must know of how many.
    s->count = outer.count * inner.count;
    s->rank = inner.count ? outer.rank * inner.count + inner.rank : outer.rank + inner.rank;
    return 0;
}

int shard_choose(const char *text, shard *s, char *message, size_t size) {
    const char *who = NULL;
    char head[32] = "";
    long count = 0;
    *s = (shard){0, 1};
    if (text) {
        int n = (int)strcspn(text, "/");
        snprintf(head, sizeof head, "%.*s", n, text);
        if (!text[n] || n >= (int)sizeof head || !read_number(text + n + 1, &count) || !count ||
            (*head && (!read_number(head, &s->rank) || !s->rank || s->rank > count)))
            return snprintf(message, size, "--shard is '%s', not i/n with i from 1 to n", text), -1;
        s->count = count;
        if (*head) return s->rank--, 0;
    }
    if (environment(s, &who, message, size)) return -1;
    if (text && !who)
        return snprintf(message, size, "--shard %s: the environment does not say which part this is", text),
               -1;
    if (text) s->count = count;
    if (!s->count) return snprintf(message, size, "%s is set, but not of how many: give --shard /N", who), -1;
    if (s->rank < 0 || s->rank >= s->count)
        return snprintf(message, size, "%s makes this part %ld of %ld", who ? who : "the environment",
                        s->rank + 1, s->count),
               -1;
    return 0;
}
