// A plan: the order of the kernels, their places in one block of memory, everything that is computed less
// often than each step taken out. Immutable; an exec is one instance of it with memory.
#pragma once
#include "core/graph/backend.h"
#include "core/graph/graph.h"
#include "core/graph/store.h"

typedef struct plan plan;
typedef struct exec exec;

// Takes the graph over (it is empty afterwards, whatever is returned). `outputs` may not be inputs or
// weights. `be` must outlive the plan. NULL on failure: the first poison of the graph, or what a kernel
// refused.
plan *plan_new(graph *g, node *const *outputs, int n_outputs, const backend *be, error *err);
void plan_free(plan *p);

// Memory that the execs of one context take turns in.
typedef struct {
    void *data;
    size_t bytes;
} workspace;
void workspace_free(workspace *w);

typedef struct {
    size_t workspace, persistent; // bytes
} plan_memory;
plan_memory plan_needs(const plan *p);

typedef struct {
    size_t all;    // bytes of the model-rate values
    size_t making; // the most that making one of them takes beside
    size_t least; // where each is made whenever a step reads it: the most at one step, with what making takes
} plan_values;
plan_values plan_values_need(const plan *p);

// Computes or finds the model-rate values in `values`; beyond its limit they are made by exec_run, which then
// may fail as reading weights does. Never less than plan_values.least: ERR_USAGE. Plan, store and workspace
// must outlive the exec.
exec *exec_new(const plan *p, store *values, workspace *ws, error *err);
void exec_free(exec *e);
// Bytes of model-rate values that each run makes anew.
size_t exec_streamed(const exec *e);

// The buffer of a named input, to be filled before running; NULL if the graph has no such input (or it has no
// use). Asking for a prompt-rate input makes the next run compute the prompt-rate part again.
void *exec_input(exec *e, const char *name);
const void *exec_output(const exec *e, int i);
status exec_run(exec *e, error *err);

// Runs node by node beside the reference and stops at the first node that differs by more than rounding
// explains, or that holds a NaN; the error names its path.
status exec_run_checked(exec *e, error *err);

// One line for each kernel of a run, in order.
typedef struct {
    const char *path, *op, *kernel;
    rate rate;
    shape shape;
    dtype dtype;
    double flops, bytes, seconds; // seconds of the last run with timing, else 0
} plan_line;
void exec_time(exec *e, bool on); // measure each kernel from now on
int exec_lines(const exec *e);
plan_line exec_line(const exec *e, int i);
