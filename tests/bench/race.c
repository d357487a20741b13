#include "tests/bench/race.h"

#include "core/base/mem.h"
#include "tests/bench/ceiling.h"
#include "tests/bench/machine.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SCRIPT_WORDS_MAX = 16, CEILING_CALLS = 8 };

typedef struct {
    const char *variant;
    char version[32];
    pid_t pid;
    FILE *to, *from;
    double seconds[RACE_ROUNDS_MAX], peak; // of a run; GB
    bool lost;                             // did not start, or ended
} peer;

struct race {
    race_setup setup;
    ceiling_kind kind;
    int round;                                                 // −1: the one that warms up
    double seconds[RACE_ROUNDS_MAX], ceiling[RACE_ROUNDS_MAX]; // of a run; GF/s
    peer peer[RACE_PEERS_MAX];
};

// ---- PyTorch in another process: a line to it, some runs, a line back

static void peer_exec(const race_setup *s, const char *variant) {
    const char *word[SCRIPT_WORDS_MAX] = {s->peers[0]};
    char threads[16];
    int n = 1;
    snprintf(threads, sizeof threads, "%d", team_size(s->team));
    for (const char **w = s->script; *w && n < SCRIPT_WORDS_MAX - 4; w++) word[n++] = *w;
    word[n++] = variant;
    word[n++] = dtype_name(s->type);
    word[n++] = threads;
    execv(word[0], (char *const *)(uintptr_t)word);
}

static void peer_start(peer *p, const race_setup *s, const char *variant) {
    int ask[2], answer[2];
    if (pipe2(ask, O_CLOEXEC) || pipe2(answer, O_CLOEXEC)) machine_die("no pipe");
    pid_t pid = fork();
    if (!pid) {
        dup2(ask[0], 0);
        dup2(answer[1], 1);
        peer_exec(s, variant);
        _exit(127);
    }
    close(ask[0]);
    close(answer[1]);
    *p = (peer){.variant = variant, .pid = pid, .to = fdopen(ask[1], "w"), .from = fdopen(answer[0], "r")};
    p->lost = pid < 0 || fscanf(p->from, "%31s", p->version) != 1;
}

// Seconds of so many runs.
static double peer_run(peer *p, int runs) {
    double s = 0;
    if (!p->lost)
        p->lost = fprintf(p->to, "%d\n", runs) < 0 || fflush(p->to) ||
                  fscanf(p->from, "%lf %lf", &s, &p->peak) != 2;
    return s;
}

static void peer_stop(peer *p) {
    fclose(p->to);
    fclose(p->from);
    waitpid(p->pid, NULL, 0);
}

// ---- rounds

race *race_new(const race_setup *s) {
    race *r = mem_calloc(1, sizeof *r);
    if (!r) machine_die("out of memory");
    if (s->rounds < 1 || s->rounds > RACE_ROUNDS_MAX) machine_die("rounds are 1 to 99");
    if (s->n_peers > RACE_PEERS_MAX) machine_die("too many variants");
    *r = (race){.setup = *s, .kind = ceiling_of(s->type), .round = -1};
    signal(SIGPIPE, SIG_IGN); // a peer that ended is a row of the table
    for (int i = 0; i < s->n_peers; i++) peer_start(&r->peer[i], s, s->peers[1 + i]);
    return r;
}

void race_free(race *r) {
    for (int i = 0; i < r->setup.n_peers; i++) peer_stop(&r->peer[i]);
    mem_free(r);
}

bool race_round(race *r, double seconds) {
    int runs = r->setup.runs,
        at = r->round < 0 ? 0 : r->round; // the first real round writes over the warm-up
    double top = 0;
    for (int i = 0; i < CEILING_CALLS; i++) top = fmax(top, ceiling_measure(r->kind, r->setup.team));
    r->ceiling[at] = top;
    r->seconds[at] = seconds / runs;
    for (int i = 0; i < r->setup.n_peers; i++) r->peer[i].seconds[at] = peer_run(&r->peer[i], runs) / runs;
    return ++r->round < r->setup.rounds;
}

bool race_warm(const race *r) { return r->round >= 0; }

double race_ceiling(const race *r) {
    double top = 0;
    for (int i = 0; i < r->setup.rounds; i++) top = fmax(top, r->ceiling[i]);
    return top;
}

// ---- the table

static int ascending(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

// Sorts; then the first is the least and the middle one the median.
static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

static void print_row(race *r, const char *who, double *seconds, double peak) {
    const race_setup *s = &r->setup;
    double middle = median(seconds, s->rounds), best = seconds[0];
    printf("| %-36s | %9.4f s | %9.4f s |", who, best, middle);
    if (s->samples) printf(" %9.1f | %9.1f |", s->samples / best, s->samples / middle);
    printf(" %9.0f | %12.0f %% | %7.2f |", s->flops * 1e-9 / best,
           100 * s->flops * 1e-9 / best / race_ceiling(r), peak);
}

void race_print(race *r) {
    const race_setup *s = &r->setup;
    bool rates = s->samples > 0;
    double top = race_ceiling(r), middle = median(r->ceiling, s->rounds);
    printf("%s: best %.0f GF/s, median %.0f. %.1f GFLOP a run; rounds: %d, runs in each: %d.\n\n",
           ceiling_name(r->kind), top, middle, s->flops * 1e-9, s->rounds, s->runs);
    printf("| %-36s | %11s | %11s |%s %9s | %14s | %7s | %6s |\n", "", "best", "median",
           rates ? " samples/s |    median |" : "", "GF/s", "of the ceiling", "peak GB", "ratio");
    printf("|---|---|---|%s---|---|---|---|\n", rates ? "---|---|" : "");
    print_row(r, "calotype", r->seconds, machine_peak_gb());
    printf("        |\n");
    for (int i = 0; i < s->n_peers; i++) {
        peer *p = &r->peer[i];
        char who[64];
        snprintf(who, sizeof who, "PyTorch %s %s", p->version, p->variant);
        if (p->lost) {
            printf("| %-36s | did not run |  |%s  |  |  |  |\n", who, rates ? "  |  |" : "");
            continue;
        }
        print_row(r, who, p->seconds, p->peak);
        printf(" %5.2fx |\n", p->seconds[0] / r->seconds[0]);
    }
    fflush(stdout);
}
