// The inside of a plan, shared by the files that make it (plan.c, fold.c) and the one that runs it (exec.c).
#pragma once
#include "core/graph/op.h"
#include "core/graph/plan.h"

typedef enum {
    SPACE_NONE,
    SPACE_ARENA,   // alive for part of a run; shared by all plans of a context
    SPACE_PERSIST, // inputs, outputs, prompt-rate values: belongs to one exec
    SPACE_VALUE    // model-rate values and trainable weights: an index into exec->values
} space;

typedef struct {
    space space;
    int index; // SPACE_VALUE
    size_t offset;
} place;

typedef struct {
    const node *n;
    kernel *k;
    place scratch;
} plan_step;

struct plan {
    graph g;
    const backend *backend;
    place (*at)[1 + MAX_EXTRA]; // by node id and part
    kernel **model_kernel;      // by node id: kernels of model-rate nodes
    plan_step *steps[2];        // RATE_PROMPT, RATE_STEP
    int n_steps[2];
    node **values; // what exec->values holds: model-rate nodes that faster nodes read, and trainable weights
    int n_values;
    node **outputs;
    int n_outputs;
    size_t arena_bytes, persist_bytes;
    plan_values value_needs;
};

// Buffers begin at multiples of this many bytes, of every vector and cache line.
enum { ALIGN = 256 };
static inline size_t round_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

// users[id]: how many reachable nodes (and outputs) read node id; 0 for a dead node.
void fold_graph(graph *g, const int *users, const backend *be);

// The node whose memory x is: views are followed to their base. *offset and *part describe where in it x
// starts.
const node *base_of(const node *x, int *part, size_t *offset);
size_t part_bytes(const node *n, int k);
