// A graph ready to run: its plan and one exec of it, with the store and the workspace they need.
#pragma once
#include "core/graph/plan.h"

typedef struct {
    plan *plan;
    exec *exec;
    store *own_values; // where none was lent
    workspace own_room;
} runner;

// Takes the graph over as plan_new does. `values` and `room` are lent, or NULL: then the runner has its own,
// and must stay where it is. What is lent must outlive it. Empty after a failure.
status runner_init(runner *r, graph *g, node *const *out, int n, const backend *be, store *values,
                   workspace *room, error *err);
void runner_free(runner *r); // a zeroed one is fine
