// Local rewrites before planning. Each can be switched off; each is drawn.
#include "core/graph/plan_internal.h"

// Residual: the sum after a product becomes the product's last input, so that it is added while the result is
// hot.
//
//     x ─ conv ─┐                x ─┬ conv ─ y
//     r ────────┴ add ─ y        r ─┘
static bool can_take_residual(const node *p, const node *sum, const int *users) {
    return (p->op == &OP_CONV || p->op == &OP_MATMUL) && !p->in[3] && users[p->id] == 1 &&
           shape_equal(p->shape, sum->shape) && p->dtype == sum->dtype;
}

static void fold_residual(node *sum, const int *users) {
    if (sum->op != &OP_BINARY || sum->a.binary != BINARY_ADD) return;
    node *a = sum->in[0], *b = sum->in[1];
    if (!shape_equal(a->shape, b->shape)) return;
    bool take_a = can_take_residual(a, sum, users), take_b = can_take_residual(b, sum, users);
    if (!take_a && !take_b) return;
    node *p = take_a && (!take_b || a->id > b->id) ? a : b, *residual = p == a ? b : a;
    sum->op = p->op;
    sum->a = p->a;
    sum->n_in = p->n_in;
    sum->path = p->path;
    for (int i = 0; i < p->n_in; i++) sum->in[i] = p->in[i];
    sum->in[3] = residual;
}

// Upsampling: a convolution that reads each pixel as 2×2 ones needs no larger picture.
//
//     x ─ upsample ─ conv ─ y            x ─ conv (twice) ─ y
static void fold_upsampling(node *n, const int *users, const backend *be) {
    if (n->op != &OP_CONV || !be->upsamples) return;
    node *up = n->in[0], *x = up->in[0];
    if (up->op != &OP_UPSAMPLE || users[up->id] != 1 || up->shape.d[1] != 2 * x->shape.d[1] ||
        up->shape.d[2] != 2 * x->shape.d[2] || !be->upsamples(be, n))
        return;
    n->in[0] = x;
    n->a.conv.geo.twice = 1;
}

void fold_graph(graph *g, const int *users, const backend *be) {
    for (int i = 0; i < g->n_nodes; i++)
        if (users[i]) fold_residual(g->nodes[i], users);
    for (int i = 0; i < g->n_nodes; i++)
        if (users[i]) fold_upsampling(g->nodes[i], users, be);
}
