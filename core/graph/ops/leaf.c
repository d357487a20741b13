// Leaves: values that come from outside.
#include "core/graph/op.h"

#include <stdio.h>

const op OP_WEIGHT = {.name = "weight"};
const op OP_INPUT = {.name = "input"};

bool weight_fits(shape have, shape want) {
    while (have.rank > 2 && have.d[have.rank - 1] == 1) have.rank--;
    while (want.rank > 2 && want.d[want.rank - 1] == 1) want.rank--;
    return shape_equal(have, want);
}

node *graph_leaf(const graph *g, const weight *w) {
    for (int i = 0; i < g->n_nodes; i++)
        if (g->nodes[i]->op == &OP_WEIGHT && g->nodes[i]->a.leaf.w == w) return g->nodes[i];
    return NULL;
}

static node *leaf_of(graph *g, const weight *w) {
    node *n = graph_leaf(g, w);
    if (n) return n;
    n = node_new(g, &OP_WEIGHT, 0, NULL, (attrs){.leaf.w = w}, w->shape, DT_F32);
    if (is_poison(n)) return n;
    n->rate = w->trainable ? RATE_STEP : RATE_MODEL;
    n->needs_grad = w->trainable;
    return n;
}

static const weight *provided(const weights *from, const char *name, shape s) {
    if (!from) return NULL;
    return from->create ? from->create(from, name, s) : from->find(from, name);
}

node *graph_weight(graph *g, const char *name, shape s) {
    if (g->err.code) return g->poison;
    int mark = path_push(g, "%s", name);
    const weight *w = provided(g->weights, g->path, s);
    char want[128], have[128];
    const char *origin = g->weights && g->weights->origin ? g->weights->origin : "the model";
    node *n;
    if (!w && g->weights && g->weights->create)
        n = poison_memory(g);
    else if (!w)
        n = poison(g, "%s has no such tensor (%s expected)", origin, shape_text(s, want));
    else if (!weight_fits(w->shape, s))
        n = poison(g, "%s holds %s where %s is expected", origin, shape_text(w->shape, have),
                   shape_text(s, want));
    else
        n = cast(leaf_of(g, w), g->exact); // the leaf is what its provider holds, f32
    path_pop(g, mark);
    return shape_equal(n->shape, s) ? n : reshape(n, s);
}

node *graph_input(graph *g, const char *name, shape s, dtype t, rate r) {
    const char *copy = arena_printf(&g->mem, "%s", name);
    if (!copy) return poison_memory(g);
    node *n = node_new(g, &OP_INPUT, 0, NULL, (attrs){.leaf.name = copy}, s, t);
    if (!is_poison(n)) n->rate = r;
    return n;
}

static void fill_ref(const ref_call *c) {
    for (int64_t i = 0, n = shape_count(c->n->shape); i < n; i++) c->out[0][i] = c->n->a.leaf.value;
}

const op OP_FILL = {.name = "fill", .attrs_bytes = sizeof(((attrs *)0)->leaf), .ref = fill_ref};

node *graph_fill(graph *g, shape s, dtype t, double value) {
    return node_new(g, &OP_FILL, 0, NULL, (attrs){.leaf.value = value}, s, t);
}
