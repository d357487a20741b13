// Says all that is wrong with a network's tensors at once: while a graph is built from these weights for the
// sake of what it asks for, nothing is poison, and what is missing or has another shape is noted.
#pragma once
#include "core/base/arena.h"
#include "core/graph/weights.h"

enum { WEIGHTS_CHECK_LISTED = 20 };

typedef struct {
    weights provider; // for the graph; it must not be run
    const weights *from;
    arena mem;
    const char *lines[WEIGHTS_CHECK_LISTED];
    int wrong;
} weights_check;

void weights_check_init(weights_check *c, const weights *from);
// ERR_DATA when something is wrong: "FILE: ..." with the first tensors that are, by their names in the graph,
// and how many there are. Frees `c`, so the graph is freed before.
status weights_check_end(weights_check *c, error *err);
