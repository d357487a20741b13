// One piece of work done by this program and by PyTorch, in turn with the machine's ceiling, so that all see
// the same clock: processors change theirs by half within a minute.
//
//     race *r = race_new(&(race_setup){.type = DT_BF16, .flops = f, .runs = 1, .rounds = 5, .team = t});
//     do begin = clock_seconds(), work(); while (race_round(r, clock_seconds() - begin));
//     race_print(r);
//     race_free(r);
//
// A peer is a process of PYTHON SCRIPT... VARIANT PRECISION THREADS (peer.py tells what is said to it).
#pragma once
#include "core/base/dtype.h"
#include "core/base/threads.h"

#include <stdbool.h>

typedef struct {
    dtype type;          // DT_F32 or DT_BF16: whose ceiling, and the peers' precision
    double flops;        // of one run, a multiply-add counted as two
    int samples;         // of one run, where samples per second are to be printed; else 0
    int runs;            // of a round
    int rounds;          // that count, 1 to RACE_ROUNDS_MAX; one more warms up
    team *team;          // the peers use as many threads
    const char **script; // path and arguments, NULL at the end
    int n_peers;         // 0: nobody beside this program
    char **peers;        // PYTHON VARIANT...: 1 + n_peers words
} race_setup;

enum { RACE_ROUNDS_MAX = 99, RACE_PEERS_MAX = 8 };

typedef struct race race;

// Starts the peers one after the other; each is ready, compiled and warm, when the next one starts.
race *race_new(const race_setup *setup);
void race_free(race *r);

// After this program's `runs` runs, which took so many seconds in all: ceiling and peers have their turn. The
// first round is not counted. False after the last.
bool race_round(race *r, double seconds);
bool race_warm(const race *r); // a round has been there

double race_ceiling(const race *r); // GF/s, the best of the rounds
// A table of Markdown: the best and the median of the rounds, shares of the best ceiling, peak memory of each
// process, and how many times as fast this program is, best against best.
void race_print(race *r);
