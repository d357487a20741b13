#include "core/graph/residency.h"

#include <stdlib.h>

#include "core/base/mem.h"

// ---- what a value takes

size_t making_bytes(const plan *p, const node *n) {
    int part;
    size_t offset, bytes = 0;
    const node *b = base_of(n, &part, &offset);
    if (b->op == &OP_WEIGHT) return 0;
    if (b->op != &OP_PACK) bytes = round_up(p->model_kernel[b->id]->scratch);
    for (int e = 1; e <= b->n_extra; e++) bytes += round_up(part_bytes(b, e));
    for (int i = 0; i < b->n_in; i++) {
        if (!b->in[i]) continue;
        const node *in = base_of(b->in[i], &part, &offset);
        if (in->op == &OP_WEIGHT && in->a.leaf.w->value) continue;
        bytes += round_up(part_bytes(in, 0)) + making_bytes(p, in);
    }
    return bytes;
}

// Whether the plan reads the values of this node where they lie anyway.
static bool in_memory(const node *n) { return n->op == &OP_WEIGHT && n->a.leaf.w->value; }

static int value_of(const plan *p, const node *in) {
    const place *at = &p->at[in->id][0];
    return at->space == SPACE_VALUE ? at->index : -1;
}

int streamed_input(const plan *p, const bool *streams, const node *n, int k) {
    int value = n->in[k] ? value_of(p, n->in[k]) : -1;
    if (value < 0 || !streams[value]) return -1;
    for (int j = 0; j < k; j++)
        if (n->in[j] && value_of(p, n->in[j]) == value) return -1;
    return value;
}

// Values lie one after another; what making one takes lies behind it, where the next one will be.
static size_t stage_bytes(const plan *p, const bool *streams) {
    size_t most = 0;
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < p->n_steps[r]; i++) {
            const node *n = p->steps[r][i].n;
            size_t at = 0;
            for (int k = 0; k < n->n_in; k++) {
                int value = streamed_input(p, streams, n, k);
                if (value < 0) continue;
                at += round_up(part_bytes(p->values[value], 0));
                size_t all = at + making_bytes(p, p->values[value]);
                if (all > most) most = all;
            }
        }
    return most;
}

// Everything but what the plan hands out, and what is in memory anyway.
static void stream_all(const plan *p, bool *streams) {
    for (int i = 0; i < p->n_values; i++) streams[i] = !in_memory(p->values[i]);
    for (int i = 0; i < p->n_outputs; i++) {
        int value = value_of(p, p->outputs[i]);
        if (value >= 0) streams[value] = false;
    }
}

static size_t kept_bytes(const plan *p, const bool *streams) {
    size_t bytes = 0;
    for (int i = 0; i < p->n_values; i++)
        if (!streams[i] && !in_memory(p->values[i])) bytes += part_bytes(p->values[i], 0);
    return bytes;
}

// ---- what stays

enum { CALL = 1 << 16 }; // bytes: what asking for a value costs beside its bytes, so that small ones stay

typedef struct {
    int value;
    bool every_step; // not only when the prompt changes
    size_t bytes;
    double saved; // bytes that are not read and packed, for each byte that stays
} candidate;

static int better_first(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->every_step != y->every_step) return x->every_step ? -1 : 1;
    if (x->saved != y->saved) return x->saved > y->saved ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->value - y->value;
}

static int list_candidates(const plan *p, const bool *streams, candidate *c) {
    int n = 0;
    for (int i = 0; i < p->n_values; i++) {
        if (!streams[i]) continue;
        size_t bytes = part_bytes(p->values[i], 0), made = CALL + bytes + making_bytes(p, p->values[i]);
        c[n++] = (candidate){.value = i, .bytes = bytes, .saved = (double)made / (double)(bytes + 1)};
    }
    for (int s = 0; s < p->n_steps[1]; s++)
        for (int k = 0; k < p->steps[1][s].n->n_in; k++) {
            int value = streamed_input(p, streams, p->steps[1][s].n, k);
            for (int i = 0; i < n && value >= 0; i++) c[i].every_step |= c[i].value == value;
        }
    qsort(c, (size_t)n, sizeof *c, better_first);
    return n;
}

// As many as there is room for, the best first. The stage was measured for all being streamed: it may be
// larger than what is streamed in the end needs, never smaller.
static status keep_best(residency *r, const plan *p, size_t room, error *err) {
    candidate *c = mem_calloc((size_t)p->n_values + 1, sizeof *c);
    if (!c) return fail(err, ERR_TEMP, "out of memory");
    int n = list_candidates(p, r->streams, c);
    for (int i = 0; i < n; i++) {
        if (c[i].bytes > room) {
            r->streamed += c[i].bytes;
            continue;
        }
        r->streams[c[i].value] = false;
        room -= c[i].bytes;
        r->kept += c[i].bytes;
    }
    mem_free(c);
    return OK;
}

status residency_choose(residency *r, const plan *p, size_t room, error *err) {
    *r = (residency){.streams = mem_calloc((size_t)p->n_values + 1, sizeof *r->streams)};
    if (!r->streams) return fail(err, ERR_TEMP, "out of memory");
    stream_all(p, r->streams);
    r->kept = kept_bytes(p, r->streams);
    r->stage = stage_bytes(p, r->streams);
    size_t least = r->kept + r->stage;
    if (least > room)
        return fail(err, ERR_USAGE, "weights of %zu bytes do not fit into %zu, not even one layer at a time",
                    least, room);
    return keep_best(r, p, room - least, err);
}

void residency_free(residency *r) {
    mem_free(r->streams);
    *r = (residency){0};
}

status residency_measure(plan *p, error *err) {
    plan_values v = {0};
    bool *streams = mem_calloc((size_t)p->n_values + 1, sizeof *streams);
    if (!streams) return fail(err, ERR_TEMP, "out of memory");
    stream_all(p, streams);
    for (int i = 0; i < p->n_values; i++) {
        if (in_memory(p->values[i])) continue;
        size_t making = making_bytes(p, p->values[i]);
        v.all += part_bytes(p->values[i], 0);
        if (making > v.making) v.making = making;
    }
    v.least = kept_bytes(p, streams) + stage_bytes(p, streams);
    p->value_needs = v;
    mem_free(streams);
    return OK;
}
