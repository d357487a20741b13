#include "core/graph/residency.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

size_t part_bytes(const node *n, int k) {
    if (n->op == &OP_PACK) return n->a.pack.bytes;
    shape s = k ? n->extra[k - 1].shape : n->shape;
    return (size_t)shape_count(s) * dtype_size(k ? n->extra[k - 1].dtype : n->dtype);
}

const node *base_of(const node *x, int *part, size_t *offset) {
    *part = 0;
    *offset = 0;
    for (; x->op == &OP_VIEW; x = x->in[0]) {
        *offset += (size_t)x->a.view.offset * dtype_size(x->dtype);
        *part = x->a.view.part; // a part is never viewed through a node whose own part is asked for
    }
    return x;
}

// ---- 1. what is reachable

typedef struct {
    plan *p;
    int *users;       // by id
    bool *of_weights; // by id: made of weights alone
    kernel **kernels; // by id
    int *last;        // by id of the base: position of the last reader in its rate's list
    error *err;
} planner;

static void count_users(planner *pl) {
    graph *g = &pl->p->g;
    memset(pl->users, 0, (size_t)g->n_nodes * sizeof *pl->users);
    for (int i = 0; i < pl->p->n_outputs; i++) pl->users[pl->p->outputs[i]->id]++;
    for (int id = g->n_nodes - 1; id >= 0; id--)
        for (int k = 0; pl->users[id] && k < g->nodes[id]->n_in; k++)
            if (g->nodes[id]->in[k]) pl->users[g->nodes[id]->in[k]->id]++;
}

// ---- 2. kernels, and the packed forms they ask for

static bool of_weights(const planner *pl, const node *n) {
    if (n->op == &OP_WEIGHT || n->op == &OP_FILL) return true;
    bool all = n->n_in > 0 && n->op != &OP_INPUT;
    for (int i = 0; i < n->n_in; i++) all = all && (!n->in[i] || pl->of_weights[n->in[i]->id]);
    return all;
}

// The packed form of weight w that kernel k wants; one node for all kernels that want the same. A trainable
// weight is packed for each reader: shared, its packed form would live from the forward pass until a block is
// computed again.
static node *packed(planner *pl, node *w, const kernel *k, int before) {
    graph *g = &pl->p->g;
    for (int id = before; id < g->n_nodes && w->rate == RATE_MODEL; id++) {
        node *n = g->nodes[id];
        if (n->op == &OP_PACK && n->in[0] == w && n->a.pack.key == k->packed_key) return n;
    }
    attrs a = {.pack = {.layout = k, .key = k->packed_key, .bytes = k->packed_bytes}};
    node *n = node_new(g, &OP_PACK, 1, &w, a, w->shape, w->dtype);
    if (!is_poison(n)) n->path = w->path;
    return n;
}

static bool needs_kernel(const node *n) {
    return n->op != &OP_WEIGHT && n->op != &OP_INPUT && n->op != &OP_VIEW && n->op != &OP_PACK;
}

// Rates follow from inputs; the pack nodes come behind the graph's own nodes, so they are sorted in
// afterwards.
static status prepare_kernels(planner *pl) {
    graph *g = &pl->p->g;
    int n_nodes = g->n_nodes;
    for (int id = 0; id < n_nodes; id++) {
        node *n = g->nodes[id];
        pl->of_weights[id] = of_weights(pl, n);
        if (!pl->users[id] || !needs_kernel(n)) continue;
        bool weight_operand =
            (n->op == &OP_CONV || n->op == &OP_CONV_DX || n->op == &OP_MATMUL || n->op == &OP_GROW) &&
            pl->of_weights[n->in[1]->id] && n->in[1]->dtype == DT_F32;
        kernel *k = pl->kernels[id] = pl->p->backend->prepare(pl->p->backend, n, weight_operand, pl->err);
        if (!k) return fail_in(pl->err, "%s (%s)", n->path, n->op->name);
        if (!k->packed_bytes) continue;
        node *w = packed(pl, n->in[1], k, n_nodes);
        if (is_poison(w)) return *pl->err = g->err, pl->err->code;
        n->in[1] = w;
    }
    return OK;
}

// Nodes in an order in which every input comes first: pack nodes go right before their first reader.
static status sort_nodes(planner *pl) {
    graph *g = &pl->p->g;
    size_t room = (size_t)g->n_nodes + 1;
    node **sorted = mem_alloc(room * sizeof *sorted);
    kernel **kernels = mem_calloc(room, sizeof *kernels);
    bool *placed = mem_calloc(room, sizeof *placed);
    if (!sorted || !kernels || !placed) {
        mem_free(sorted);
        mem_free(kernels);
        mem_free(placed);
        return fail(pl->err, ERR_TEMP, "out of memory");
    }
    int n = 0;
    for (int id = 0; id < g->n_nodes; id++) {
        node *x = g->nodes[id];
        for (int k = 0; k < x->n_in; k++)
            if (x->in[k] && x->in[k]->op == &OP_PACK && !placed[x->in[k]->id] && x->op != &OP_PACK) {
                placed[x->in[k]->id] = true;
                sorted[n++] = x->in[k];
            }
        if (x->op == &OP_PACK && placed[id]) continue;
        placed[id] = true;
        kernels[n] = pl->kernels[id];
        sorted[n++] = x;
    }
    for (int id = 0; id < n; id++) sorted[id]->id = id;
    mem_free(placed);
    mem_free(pl->kernels);
    pl->kernels = kernels;
    mem_free(g->nodes);
    g->nodes = sorted;
    g->cap_nodes = (int)room;
    return OK;
}

// ---- 3. where values live

// Free intervals of the arena while the walk goes through the steps.
typedef struct {
    size_t at, bytes;
} gap;

typedef struct {
    gap *gaps; // sorted by address, never adjacent
    int n, cap;
    size_t top; // everything above is free
    size_t peak;
} heap;

static bool heap_insert(heap *h, int i, gap g) {
    if (h->n == h->cap) {
        int cap = h->cap ? 2 * h->cap : 64;
        gap *p = mem_realloc(h->gaps, (size_t)cap, sizeof *p);
        if (!p) return false;
        h->gaps = p;
        h->cap = cap;
    }
    memmove(h->gaps + i + 1, h->gaps + i, (size_t)(h->n - i) * sizeof(gap));
    h->gaps[i] = g;
    h->n++;
    return true;
}

static void heap_remove(heap *h, int i) {
    memmove(h->gaps + i, h->gaps + i + 1, (size_t)(h->n - i - 1) * sizeof(gap));
    h->n--;
}

// Best fit: the smallest gap that holds it, else the top.
static size_t heap_take(heap *h, size_t bytes) {
    bytes = round_up(bytes);
    int best = -1;
    for (int i = 0; i < h->n; i++)
        if (h->gaps[i].bytes >= bytes && (best < 0 || h->gaps[i].bytes < h->gaps[best].bytes)) best = i;
    if (best < 0) {
        size_t at = h->top;
        h->top += bytes;
        if (h->top > h->peak) h->peak = h->top;
        return at;
    }
    size_t at = h->gaps[best].at;
    h->gaps[best].at += bytes;
    h->gaps[best].bytes -= bytes;
    if (!h->gaps[best].bytes) heap_remove(h, best);
    return at;
}

// Memory short while planning: the gap is lost, which costs arena bytes and nothing else.
static void heap_give(heap *h, size_t at, size_t bytes) {
    bytes = round_up(bytes);
    if (!bytes) return;
    int i = 0;
    while (i < h->n && h->gaps[i].at < at) i++;
    bool left = i > 0 && h->gaps[i - 1].at + h->gaps[i - 1].bytes == at;
    bool right = i < h->n && at + bytes == h->gaps[i].at;
    if (left) {
        h->gaps[i - 1].bytes += bytes;
        if (right) {
            h->gaps[i - 1].bytes += h->gaps[i].bytes;
            heap_remove(h, i);
        }
        i--;
    } else if (right) {
        h->gaps[i].at = at;
        h->gaps[i].bytes += bytes;
    } else if (!heap_insert(h, i, (gap){at, bytes})) {
        return;
    }
    if (h->gaps[i].at + h->gaps[i].bytes == h->top) {
        h->top = h->gaps[i].at;
        heap_remove(h, i);
    }
}

static bool is_output(const plan *p, const node *n) {
    int part;
    size_t offset;
    for (int i = 0; i < p->n_outputs; i++)
        if (base_of(p->outputs[i], &part, &offset) == n) return true;
    return false;
}

static void put_value(plan *p, node *n) {
    if (p->at[n->id][0].space == SPACE_VALUE) return;
    p->at[n->id][0] = (place){SPACE_VALUE, p->n_values, 0};
    p->values[p->n_values++] = n;
}

static void put_persistent(plan *p, const node *n) {
    for (int k = 0; k <= n->n_extra; k++) {
        p->at[n->id][k] = (place){SPACE_PERSIST, 0, p->persist_bytes};
        p->persist_bytes += round_up(part_bytes(n, k));
    }
}

// Places that do not depend on liveness; and for each base the position of its last reader.
static status place_lasting(planner *pl) {
    plan *p = pl->p;
    graph *g = &p->g;
    for (int id = 0; id < g->n_nodes; id++) {
        node *n = g->nodes[id];
        if (!pl->users[id]) continue;
        if (n->op == &OP_INPUT || (is_output(p, n) && n->rate != RATE_MODEL)) put_persistent(p, n);
        if (n->op == &OP_WEIGHT && n->rate == RATE_STEP) put_value(p, n);
        for (int k = 0; k < n->n_in; k++) {
            if (!n->in[k]) continue;
            int part;
            size_t offset;
            node *b = (node *)(uintptr_t)base_of(n->in[k], &part, &offset);
            if (b->rate == RATE_MODEL && n->rate != RATE_MODEL && n->op != &OP_VIEW) {
                if (part)
                    return fail(pl->err, ERR_INTERNAL, "%s: an extra output of a model-rate node is read",
                                b->path);
                put_value(p, b);
            }
            if (b->rate == RATE_PROMPT && n->rate == RATE_STEP && p->at[b->id][0].space == SPACE_NONE)
                put_persistent(p, b);
            pl->last[b->id] = id;
        }
    }
    for (int i = 0; i < p->n_outputs; i++) {
        int part;
        size_t offset;
        node *b = (node *)(uintptr_t)base_of(p->outputs[i], &part, &offset);
        if (b->rate == RATE_MODEL) put_value(p, b);
    }
    return OK;
}

// The input whose memory the result of n may take over, or -1.
static int taken_over(const planner *pl, const node *n, const kernel *k) {
    for (int i = 0; i < n->n_in; i++) {
        if (!(k->inplace >> i & 1) || !n->in[i]) continue;
        int part;
        size_t offset;
        const node *b = base_of(n->in[i], &part, &offset);
        bool twice = false;
        for (int j = 0; j < n->n_in; j++) {
            int pj;
            size_t oj;
            twice |= j != i && n->in[j] && base_of(n->in[j], &pj, &oj) == b;
        }
        if (!twice && !part && !offset && pl->last[b->id] == n->id &&
            pl->p->at[b->id][0].space == SPACE_ARENA && part_bytes(b, 0) == part_bytes(n, 0))
            return i;
    }
    return -1;
}

static void give_back(planner *pl, heap *h, const node *b) {
    for (int k = 0; k <= b->n_extra; k++)
        if (pl->p->at[b->id][k].space == SPACE_ARENA)
            heap_give(h, pl->p->at[b->id][k].offset, part_bytes(b, k));
}

// One step: room for results and scratch, then inputs that nobody reads any more go back.
static void place_step(planner *pl, heap *h, plan_step *s) {
    plan *p = pl->p;
    const node *n = s->n;
    const node *moved = NULL;
    int part, over = taken_over(pl, n, s->k);
    size_t offset;
    for (int k = 0; k <= n->n_extra; k++) {
        place *at = &p->at[n->id][k];
        if (at->space != SPACE_NONE) continue;
        if (k == 0 && over >= 0) {
            moved = base_of(n->in[over], &part, &offset);
            *at = p->at[moved->id][0];
        } else {
            *at = (place){SPACE_ARENA, 0, heap_take(h, part_bytes(n, k))};
        }
    }
    size_t scratch = s->k ? s->k->scratch : 0;
    if (scratch) {
        s->scratch = (place){SPACE_ARENA, 0, heap_take(h, scratch)};
        heap_give(h, s->scratch.offset, scratch);
    }
    for (int k = 0; k < n->n_in; k++) {
        if (!n->in[k]) continue;
        const node *b = base_of(n->in[k], &part, &offset);
        if (pl->last[b->id] != n->id || b->rate != n->rate) continue;
        pl->last[b->id] = -1; // an input given twice goes back once
        if (b == moved) {
            for (int e = 1; e <= b->n_extra; e++)
                if (p->at[b->id][e].space == SPACE_ARENA)
                    heap_give(h, p->at[b->id][e].offset, part_bytes(b, e));
        } else {
            give_back(pl, h, b);
        }
    }
    if (pl->last[n->id] < 0) give_back(pl, h, n); // results nobody reads (all of an unused op's are extras)
}

static status place_rate(planner *pl, rate r) {
    plan *p = pl->p;
    graph *g = &p->g;
    plan_step *steps = p->steps[r - RATE_PROMPT] = mem_calloc((size_t)g->n_nodes + 1, sizeof *steps);
    if (!steps) return fail(pl->err, ERR_TEMP, "out of memory");
    heap h = {0};
    for (int id = 0; id < g->n_nodes; id++) {
        node *n = g->nodes[id];
        if (!pl->users[id] || n->rate != r || (!needs_kernel(n) && n->op != &OP_PACK)) continue;
        plan_step *s = &steps[p->n_steps[r - RATE_PROMPT]++];
        *s = (plan_step){.n = n,
                         .k = n->op == &OP_PACK ? (kernel *)(uintptr_t)n->a.pack.layout : pl->kernels[id]};
        if (n->op == &OP_PACK) {
            p->at[id][0] = (place){SPACE_ARENA, 0, heap_take(&h, n->a.pack.bytes)};
            int part;
            size_t offset;
            const node *b = base_of(n->in[0], &part, &offset);
            if (pl->last[b->id] == id && b->rate == r) give_back(pl, &h, b);
        } else {
            place_step(pl, &h, s);
        }
    }
    if (h.peak > p->arena_bytes) p->arena_bytes = h.peak;
    mem_free(h.gaps);
    return OK;
}

// Views point into their base, whose place is known now.
static void place_views(planner *pl) {
    graph *g = &pl->p->g;
    for (int id = 0; id < g->n_nodes; id++) {
        node *n = g->nodes[id];
        if (n->op != &OP_VIEW || !pl->users[id]) continue;
        int part;
        size_t offset;
        const node *b = base_of(n, &part, &offset);
        pl->p->at[id][0] = pl->p->at[b->id][part];
        pl->p->at[id][0].offset += offset;
    }
}

static status make(planner *pl) {
    plan *p = pl->p;
    graph *g = &p->g;
    size_t room = 2 * (size_t)g->n_nodes + 1; // each node may gain one pack node
    pl->users = mem_calloc(room, sizeof *pl->users);
    pl->of_weights = mem_calloc(room, sizeof *pl->of_weights);
    pl->kernels = mem_calloc(room, sizeof *pl->kernels);
    pl->last = mem_alloc(room * sizeof *pl->last);
    p->at = mem_calloc(room, sizeof *p->at);
    p->values = mem_calloc(room, sizeof *p->values);
    p->model_kernel = mem_calloc(room, sizeof *p->model_kernel);
    if (!pl->users || !pl->of_weights || !pl->kernels || !pl->last || !p->at || !p->values ||
        !p->model_kernel)
        return fail(pl->err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < room; i++) pl->last[i] = -1;
    count_users(pl);
    fold_graph(g, pl->users, p->backend);
    count_users(pl);
    status s = prepare_kernels(pl);
    if (!s) s = sort_nodes(pl);
    if (s) return s;
    count_users(pl);
    if ((s = place_lasting(pl)) || (s = place_rate(pl, RATE_PROMPT)) || (s = place_rate(pl, RATE_STEP)))
        return s;
    place_views(pl);
    return OK;
}

plan *plan_new(graph *g, node *const *outputs, int n_outputs, const backend *be, error *err) {
    error local = {0};
    plan *p = mem_calloc(1, sizeof *p);
    planner pl = {.p = p, .err = err ? err : &local};
    status s = OK;
    if (g->err.code)
        s = fail(pl.err, g->err.code, "%s", g->err.text);
    else if (!p)
        s = fail(pl.err, ERR_TEMP, "out of memory");
    if (!p) {
        graph_free(g);
        return NULL;
    }
    p->g = *g;
    *g = (graph){0};
    p->g.poison = &p->g.poisoned;
    p->g.poisoned.g = &p->g;
    for (int i = 0; i < p->g.n_nodes; i++) p->g.nodes[i]->g = &p->g;
    p->backend = be;
    p->outputs = mem_calloc((size_t)n_outputs + 1, sizeof *p->outputs);
    if (!s && !p->outputs) s = fail(pl.err, ERR_TEMP, "out of memory");
    if (!s) {
        memcpy(p->outputs, outputs, (size_t)n_outputs * sizeof *outputs);
        p->n_outputs = n_outputs;
        s = make(&pl);
    }
    if (pl.kernels && p->model_kernel)
        for (int id = 0; id < p->g.n_nodes; id++) p->model_kernel[id] = pl.kernels[id];
    mem_free(pl.users);
    mem_free(pl.of_weights);
    mem_free(pl.kernels);
    mem_free(pl.last);
    if (!s) s = residency_measure(p, pl.err);
    if (!s) return p;
    plan_free(p);
    return NULL;
}

void plan_free(plan *p) {
    if (!p) return;
    for (int id = 0; p->model_kernel && id < p->g.n_nodes; id++) kernel_free(p->model_kernel[id]);
    for (int r = 0; r < 2; r++) mem_free(p->steps[r]);
    mem_free(p->model_kernel);
    mem_free(p->at);
    mem_free(p->values);
    mem_free(p->outputs);
    graph_free(&p->g);
    mem_free(p);
}

plan_memory plan_needs(const plan *p) { return (plan_memory){p->arena_bytes, p->persist_bytes}; }
plan_values plan_values_need(const plan *p) { return p->value_needs; }
