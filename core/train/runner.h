// Graphs that run now and then beside training, with what the run lends.
#pragma once
#include "core/graph/runner.h"
#include "core/train/recipe.h"

// Starts a graph of the run's precision over these weights.
static inline void runner_graph(const train_context *x, graph *g, const weights *from) {
    graph_init(g, x->compute);
    g->weights = from;
}

// runner_init on the run's backend and in its workspace.
static inline status runner_make(runner *r, const train_context *x, graph *g, node *const *out, int n,
                                 error *err) {
    return runner_init(r, g, out, n, x->backend, NULL, x->workspace, err);
}
