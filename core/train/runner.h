// A graph that runs now and then beside training: its plan, memory and model-rate values.
#pragma once
#include "core/train/recipe.h"

typedef struct {
    plan *plan;
    exec *exec;
    store *values;
} runner;

// Starts a graph of the run's precision over these weights.
void runner_graph(const train_context *x, graph *g, const weights *from);
// Takes the graph over. Free with runner_free, on failure too.
status runner_make(runner *r, const train_context *x, graph *g, node *const *out, int n, error *err);
void runner_free(runner *r); // a zeroed runner is fine
