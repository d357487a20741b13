// The interface between networks and adapters.
//
// While a network is built, each named site is offered to the taps in order. A site has two hooks: `weight`
// replaces the tensor (its nodes depend on model-rate values only, so merging is evaluating them once),
// `output` changes what the layer returns. An adapter's nodes are planned, differentiated and run like all
// others; the network knows none of them by name, and an adapter is made trainable by giving it trainable
// leaves.
#pragma once
#include "core/graph/graph.h"

typedef enum {
    SITE_LINEAR, // x [..,I], weight [O,I]
    SITE_CONV,   // x [B,H,W,I], weight [O,I,kh,kw]
    SITE_NORM    // gamma and beta, one after the other; output hook of group norms only
} site_kind;

typedef struct {
    site_kind kind;
    const char *path;   // the layer: "mid_block.attentions.0.proj_in"
    const char *tensor; // weight hook: "weight" or "bias"
    shape shape;        // of the weight
    conv_geometry geo;  // SITE_CONV
} site;

typedef struct tap {
    // Both are optional and return their last argument where they have nothing to do.
    node *(*weight)(const struct tap *self, graph *g, const site *s, node *w);
    node *(*output)(const struct tap *self, graph *g, const site *s, node *x, node *y);
} tap;
