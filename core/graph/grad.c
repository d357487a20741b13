// The gradient pass: from the loss backwards, each op's rule adds the nodes that pass the gradient on.
//
// Only nodes between a wanted leaf and the loss are visited. A node with several readers gets the sum.
//
// Recomputation: when the walk meets the last node of a block, the block's forward nodes are built a second
// time and the rules read those copies. The originals then have no reader after the forward pass, so that
// liveness lets their memory go; the copies come to life just before they are needed:
//
//     forward   ...─[ block ]─...─ loss ─ ... ─[ block again ]─ gradients of the block ─ ...   backward
#include "core/graph/op.h"

#include "core/base/mem.h"

typedef struct {
    graph *g;
    int n;        // nodes of the forward graph
    node **grad;  // by id: gradient so far
    node **again; // by id: the recomputed copy of a node of a block
} pass;

void graph_require_grad(node *leaf) { leaf->needs_grad = true; }

static void accumulate(pass *p, node *x, node *dx) {
    node **slot = &p->grad[x->id];
    *slot = *slot ? add(*slot, dx) : dx;
}

// The node that backward rules read in place of x.
static node *value_of(pass *p, node *x) { return x && x->id < p->n && p->again[x->id] ? p->again[x->id] : x; }

static void rebuild_block(pass *p, int block, int last) {
    int first = last;
    while (first > 0 && p->g->nodes[first - 1]->block == block) first--;
    for (int id = first; id <= last; id++) {
        node *n = p->g->nodes[id], *in[MAX_IN];
        if (n->block != block || n->op == &OP_WEIGHT || n->op == &OP_INPUT) continue;
        for (int i = 0; i < n->n_in; i++) in[i] = value_of(p, n->in[i]);
        p->again[id] = node_new(p->g, n->op, n->n_in, in, n->a, n->shape, n->dtype);
    }
}

static void visit(pass *p, node *n) {
    node *dy = p->grad[n->id], *dx[MAX_IN] = {0};
    if (!dy || !n->needs_grad || !n->op->grad) return;
    if (n->block && !p->again[n->id]) rebuild_block(p, n->block, n->id);
    int mark = path_push(p->g, "%s", n->path);
    n->op->grad(value_of(p, n), dy, dx);
    for (int i = 0; i < n->n_in; i++)
        if (dx[i] && n->in[i]->needs_grad) accumulate(p, n->in[i], dx[i]);
    path_pop(p->g, mark);
}

void graph_grad(graph *g, node *loss, node *const *wrt, int n, node **out) {
    for (int i = 0; i < n; i++) out[i] = NULL;
    if (g->err.code) return;
    if (shape_count(loss->shape) != 1) {
        poison(g, "the loss is not a scalar");
        return;
    }
    pass p = {.g = g, .n = g->n_nodes};
    p.grad = mem_calloc((size_t)p.n, sizeof *p.grad);
    p.again = mem_calloc((size_t)p.n, sizeof *p.again);
    if (p.grad && p.again) {
        p.grad[loss->id] = graph_fill(g, loss->shape, loss->dtype, 1);
        for (int id = loss->id; id >= 0 && !g->err.code; id--) visit(&p, g->nodes[id]);
        for (int i = 0; i < n; i++)
            if (!is_poison(wrt[i])) out[i] = p.grad[wrt[i]->id];
    } else {
        poison_memory(g);
    }
    mem_free(p.grad);
    mem_free(p.again);
}
