// Layers: a named weight, the taps' chance to replace it, the product, the taps' chance to change the result.
#include "adapters/adapter.h"
#include "core/graph/op.h"

#include <stdio.h>

static node *tapped_weight(graph *g, site *s, const char *tensor, shape want) {
    node *w = graph_weight(g, tensor, want);
    s->tensor = tensor;
    s->shape = want;
    for (int i = 0; i < g->n_taps; i++)
        if (g->taps[i]->weight && !is_poison(w)) w = g->taps[i]->weight(g->taps[i], g, s, w);
    return w;
}

static node *tapped_output(graph *g, const site *s, node *x, node *y) {
    for (int i = 0; i < g->n_taps; i++)
        if (g->taps[i]->output && !is_poison(y)) y = g->taps[i]->output(g->taps[i], g, s, x, y);
    return y;
}

node *linear(node *x, const char *name, int64_t out, bool bias) {
    if (is_poison(x)) return x;
    graph *g = x->g;
    int mark = path_push(g, "%s", name);
    shape want = SHAPE(out, shape_last(x->shape));
    site s = {.kind = SITE_LINEAR, .path = g->path};
    node *w = tapped_weight(g, &s, "weight", want), *b = bias ? graph_weight(g, "bias", SHAPE(out)) : NULL;
    node *y = tapped_output(g, &s, x, matmul(x, w, b, false, true, 1, x->dtype));
    path_pop(g, mark);
    return y;
}

node *conv(node *x, const char *name, int64_t out, int kernel, conv_geometry geo, bool bias) {
    if (is_poison(x)) return x;
    graph *g = x->g;
    int mark = path_push(g, "%s", name);
    shape want = SHAPE(out, shape_last(x->shape), kernel, kernel);
    site s = {.kind = SITE_CONV, .path = g->path, .geo = geo};
    node *w = tapped_weight(g, &s, "weight", want), *b = bias ? graph_weight(g, "bias", SHAPE(out)) : NULL;
    node *y = tapped_output(g, &s, x, conv2d(x, w, b, geo));
    path_pop(g, mark);
    return y;
}

node *conv3x3(node *x, const char *name, int64_t out, int stride) {
    return conv(x, name, out, 3, (conv_geometry){stride, 1, 1, 1, 1}, true);
}

typedef struct {
    node *gamma, *beta;
} scale_and_shift;

static scale_and_shift norm_weights(graph *g, int64_t C) {
    site s = {.kind = SITE_NORM, .path = g->path};
    node *gamma = tapped_weight(g, &s, "weight", SHAPE(C));
    return (scale_and_shift){gamma, tapped_weight(g, &s, "bias", SHAPE(C))};
}

node *norm_group(node *x, const char *name, int groups, double eps, norm_act act) {
    if (is_poison(x)) return x;
    int mark = path_push(x->g, "%s", name);
    scale_and_shift w = norm_weights(x->g, shape_last(x->shape));
    site s = {.kind = SITE_NORM, .path = x->g->path};
    node *y = tapped_output(x->g, &s, x, group_norm(x, w.gamma, w.beta, groups, eps, act));
    path_pop(x->g, mark);
    return y;
}

node *norm_layer(node *x, const char *name, double eps) {
    if (is_poison(x)) return x;
    int mark = path_push(x->g, "%s", name);
    scale_and_shift w = norm_weights(x->g, shape_last(x->shape));
    node *y = layer_norm(x, w.gamma, w.beta, eps);
    path_pop(x->g, mark);
    return y;
}
