#include "core/graph/op.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

const op OP_POISON = {.name = "poison"};

uint64_t weight_new_id(void) {
    static atomic_uint_least64_t last; // identity only: no state that a result depends on
    return atomic_fetch_add(&last, 1) + 1;
}

void graph_init(graph *g, dtype compute) {
    *g = (graph){.compute = compute, .exact = compute == DT_F64 ? DT_F64 : DT_F32};
    g->poisoned = (node){.op = &OP_POISON, .g = g, .path = ""};
    g->poison = &g->poisoned;
}

void graph_free(graph *g) {
    arena_free(&g->mem);
    mem_free(g->nodes);
    *g = (graph){0};
}

int path_push(graph *g, const char *fmt, ...) {
    int mark = (int)strlen(g->path), room = (int)sizeof g->path - mark, dot = mark > 0;
    va_list ap;
    va_start(ap, fmt);
    if (room > 2) {
        if (dot) memcpy(g->path + mark, ".", 2);
        vsnprintf(g->path + mark + dot, (size_t)(room - dot), fmt, ap);
    }
    va_end(ap);
    return mark;
}

void path_pop(graph *g, int mark) { g->path[mark] = 0; }

bool is_poison(const node *n) { return n->op == &OP_POISON; }

node *poison(graph *g, const char *fmt, ...) {
    if (g->err.code) return g->poison;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->err.text, sizeof g->err.text, fmt, ap);
    va_end(ap);
    g->err.code = ERR_DATA;
    if (g->path[0]) fail_in(&g->err, "%s", g->path);
    return g->poison;
}

node *poison_memory(graph *g) {
    if (!g->err.code) fail(&g->err, ERR_TEMP, "out of memory for the graph");
    return g->poison;
}

const char *op_error(node *n, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *s = arena_printf(&n->g->mem, "%s", text);
    return s ? s : "out of memory";
}

const char *same_as_first(node *n) {
    n->shape = n->in[0]->shape;
    n->dtype = n->in[0]->dtype;
    return NULL;
}

void block_begin(graph *g) { g->block = ++g->n_blocks; }
void block_end(graph *g) { g->block = 0; }

static bool append(graph *g, node *n) {
    if (g->n_nodes == g->cap_nodes) {
        int cap = g->cap_nodes ? 2 * g->cap_nodes : 256;
        node **p = mem_realloc(g->nodes, (size_t)cap, sizeof *p);
        if (!p) return false;
        g->nodes = p;
        g->cap_nodes = cap;
    }
    n->id = g->n_nodes;
    g->nodes[g->n_nodes++] = n;
    return true;
}

node *node_new(graph *g, const op *o, int n_in, node *const *in, attrs a, shape want, dtype t) {
    for (int i = 0; i < n_in; i++)
        if (in[i] && is_poison(in[i])) return in[i];
    if (g->err.code) return g->poison;
    node *n = arena_alloc(&g->mem, sizeof *n);
    const char *path = n ? arena_printf(&g->mem, "%s", g->path) : NULL;
    if (!path) return poison_memory(g);
    *n = (node){
        .op = o, .g = g, .n_in = n_in, .a = a, .shape = want, .dtype = t, .path = path, .block = g->block};
    for (int i = 0; i < n_in; i++) {
        n->in[i] = in[i];
        if (!in[i]) continue;
        if (in[i]->rate > n->rate) n->rate = in[i]->rate;
        n->needs_grad |= in[i]->needs_grad;
    }
    const char *wrong = o->infer ? o->infer(n) : NULL;
    if (wrong) return poison(g, "%s: %s", o->name, wrong);
    if (!append(g, n)) return poison_memory(g);
    return n;
}
