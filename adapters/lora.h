// Low-rank adaptation (Hu et al., arXiv 2106.09685): a layer's weight W becomes W + strength·alpha/r·up·down.
//
// down [r,I] or [r,I,kh,kw], up [O,r] or [O,r,1,1]: for a convolution, `down` has the layer's geometry and
// `up` is 1×1. The pair of a site is called PATH.lora_A.weight and PATH.lora_B.weight, as peft calls them; a
// site without them is left alone. Trainable ones learn, whether merged or not.
#pragma once
#include "adapters/adapter.h"

typedef enum {
    LORA_OUTPUT, // y + up(down(x)): two thin products a site; strength may change at every step
    LORA_MERGED  // W itself is replaced, once for a model: costs nothing when running
} lora_mode;

typedef struct {
    tap tap; // first; what graph.taps lists
    const weights *values;
    double alpha;
    node *strength; // [1] of the graph's exact type and any rate, or NULL for 1
} lora;

// `values` and the lora must live as long as the graph is being built, the tensors as long as its plans.
// strength belongs to one graph, and so does a lora that has one. When merging, let it be of model rate
// (graph_fill): with a faster one every run would merge again.
lora lora_make(const weights *values, double alpha, node *strength, lora_mode mode);
