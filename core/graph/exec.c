#include "core/graph/residency.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/threads.h"

struct exec {
    const plan *p;
    workspace *ws;
    void *arena; // ws->data when `io` was resolved
    char *persist;
    void **values; // by index of plan->values; NULL where it streams
    store *store;
    residency residency;
    kernel_io *io[2];
    double *seconds[2];
    bool timed, prompt_stale, resolved;
};

// ---- model-rate values

// A value on the way: `base` is what to free if it is owned, `data` where a view of it starts.
typedef struct {
    void *base;
    const void *data;
    bool owned;
} temporary;

typedef struct {
    exec *e;
    store *values;
    error *err;
    char *room; // what is made on the way comes here first, then from the heap
    size_t left;
} evaluator;

static temporary take(evaluator *v, size_t bytes) {
    temporary t = {.base = v->room, .data = v->room};
    size_t whole = round_up(bytes);
    if (whole > v->left) {
        t.data = t.base = mem_alloc(bytes);
        t.owned = true;
    } else {
        v->room += whole;
        v->left -= whole;
    }
    return t;
}

static void give(temporary *t) {
    if (t->owned) mem_free(t->base);
}

static store_key expression_key(const node *n) {
    store_key k = key_start();
    k = key_add(k, n->op->name, strlen(n->op->name));
    k = key_add(k, &n->shape, sizeof n->shape);
    k = key_add(k, &n->dtype, sizeof n->dtype);
    if (n->op == &OP_WEIGHT) return key_add(k, &n->a.leaf.w->id, sizeof n->a.leaf.w->id);
    if (n->op == &OP_PACK)
        k = key_add(k, &n->a.pack.key, sizeof n->a.pack.key);
    else
        k = key_add(k, &n->a, n->op->attrs_bytes);
    for (int i = 0; i < n->n_in; i++) {
        store_key in = n->in[i] ? expression_key(n->in[i]) : (store_key){0, (uint64_t)i};
        k = key_add(k, &in, sizeof in);
    }
    return k;
}

static status evaluate(evaluator *v, const node *n, void *into, temporary *out);

static status compute(evaluator *v, const node *n, void *into) {
    const plan *p = v->e->p;
    temporary in[MAX_IN] = {0}, room = {0};
    kernel_io io = {.out = {into}, .team = p->backend->team};
    status s = OK;
    for (int i = 0; i < n->n_in && !s; i++)
        if (n->in[i] && !(s = evaluate(v, n->in[i], NULL, &in[i]))) io.in[i] = in[i].data;
    const kernel *k = n->op == &OP_PACK ? n->a.pack.layout : p->model_kernel[n->id];
    // A model-rate node's extra outputs are read by nobody; they get scratch room behind the kernel's own.
    size_t bytes = n->op == &OP_PACK ? 0 : round_up(k->scratch);
    for (int e = 1; e <= n->n_extra; e++) bytes += round_up(part_bytes(n, e));
    if (!s && bytes && !(room = take(v, bytes)).base) s = fail(v->err, ERR_TEMP, "out of memory");
    char *at = room.base ? (char *)room.base + round_up(k->scratch) : NULL;
    for (int e = 1; e <= n->n_extra && at; at += round_up(part_bytes(n, e++))) io.out[e] = at;
    io.scratch = room.base;
    if (!s) {
        s = n->op == &OP_PACK ? k->pack(k, io.in[0], into, v->err) : k->run(k, &io, v->err);
        if (s) fail_in(v->err, "%s (%s)", n->path, n->op->name);
    }
    give(&room);
    for (int i = 0; i < n->n_in; i++) give(&in[i]);
    return s;
}

// Weights in memory are read in place.
static void *resident(const node *n) { return n->op == &OP_WEIGHT ? n->a.leaf.w->value : NULL; }

// The value of a model-rate node: resident, from the store, or computed into `into` (a fresh buffer if NULL).
static status evaluate(evaluator *v, const node *n, void *into, temporary *out) {
    int part;
    size_t offset;
    const node *b = base_of(n, &part, &offset);
    place at = v->e->p->at[b->id][0];
    void *known = at.space == SPACE_VALUE ? v->e->values[at.index] : NULL;
    if (!known) known = resident(b);
    if (!known) known = store_find(v->values, expression_key(b));
    if (known && !into) return *out = (temporary){.base = known, .data = (char *)known + offset}, OK;
    size_t bytes = part_bytes(b, 0);
    temporary t = into ? (temporary){.base = into} : take(v, bytes);
    if (!t.base) return fail(v->err, ERR_TEMP, "out of memory for %zu bytes of %s", bytes, b->path);
    status s = b->op == &OP_WEIGHT ? b->a.leaf.w->read(b->a.leaf.w, t.base, v->err) : compute(v, b, t.base);
    t.data = (char *)t.base + offset;
    if (s)
        give(&t);
    else
        *out = t;
    return s;
}

// Room for all that is not in the store yet: then nothing streams, else residency.c chooses.
static status choose_residents(evaluator *v) {
    exec *e = v->e;
    const plan *p = e->p;
    size_t limit = store_limit(v->values), held = store_bytes(v->values), missing = 0;
    size_t room = limit > held ? limit - held : 0;
    if (limit == SIZE_MAX) return OK;
    for (int i = 0; i < p->n_values; i++)
        if (!resident(p->values[i]) && !store_find(v->values, expression_key(p->values[i])))
            missing += part_bytes(p->values[i], 0);
    if (missing + p->value_needs.making <= room) return OK;
    residency_free(&e->residency);
    return residency_choose(&e->residency, p, room, v->err);
}

static status fill_values(evaluator *v) {
    const plan *p = v->e->p;
    TRY(choose_residents(v));
    for (int i = 0; i < p->n_values; i++) {
        const node *n = p->values[i];
        if (v->e->residency.streams[i] || (v->e->values[i] = resident(n))) continue;
        if (n->op == &OP_WEIGHT && n->a.leaf.w->trainable && !n->a.leaf.w->value)
            return fail(v->err, ERR_INTERNAL, "%s: a trainable weight must be resident", n->path);
        store_key key = expression_key(n);
        if ((v->e->values[i] = store_find(v->values, key))) continue;
        // Computed first and added afterwards, so that a failure leaves no half-made value in the store.
        temporary t;
        size_t bytes = part_bytes(n, 0);
        void *room = mem_alloc(bytes);
        if (!room) return fail(v->err, ERR_TEMP, "out of memory for %zu bytes of %s", bytes, n->path);
        status s = evaluate(v, n, room, &t);
        if (s || !store_add(v->values, key, room, bytes)) {
            mem_free(room);
            return s ? s : fail(v->err, ERR_TEMP, "out of memory");
        }
        v->e->values[i] = room;
    }
    return OK;
}

// ---- making and freeing

void workspace_free(workspace *w) {
    mem_free(w->data);
    *w = (workspace){0};
}

static void *resolve(const exec *e, place at) {
    switch (at.space) {
    case SPACE_ARENA:
        return (char *)e->ws->data + at.offset;
    case SPACE_PERSIST:
        return e->persist + at.offset;
    case SPACE_VALUE: // what streams has its place when it is there
        return e->residency.streams[at.index] ? NULL : (char *)e->values[at.index] + at.offset;
    default:
        return NULL;
    }
}

static void resolve_all(exec *e) {
    const plan *p = e->p;
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < p->n_steps[r]; i++) {
            const plan_step *s = &p->steps[r][i];
            kernel_io *io = &e->io[r][i];
            *io = (kernel_io){.scratch = resolve(e, s->scratch), .team = p->backend->team};
            for (int k = 0; k < s->n->n_in; k++)
                if (s->n->in[k]) io->in[k] = resolve(e, p->at[s->n->in[k]->id][0]);
            for (int k = 0; k <= s->n->n_extra; k++) io->out[k] = resolve(e, p->at[s->n->id][k]);
        }
    e->arena = e->ws->data;
    e->resolved = true;
}

// The stage lies behind the arena.
static size_t stage_at(const exec *e) { return round_up(e->p->arena_bytes); }

static status reserve(exec *e, error *err) {
    workspace *w = e->ws;
    size_t bytes = e->residency.stage ? stage_at(e) + e->residency.stage : e->p->arena_bytes;
    if (w->bytes >= bytes) return OK;
    mem_free(w->data);
    *w = (workspace){.data = mem_alloc(bytes), .bytes = bytes};
    if (w->data) return OK;
    *w = (workspace){0};
    return fail(err, ERR_TEMP, "out of memory for a workspace of %zu bytes", bytes);
}

exec *exec_new(const plan *p, store *values, workspace *ws, error *err) {
    exec *e = mem_calloc(1, sizeof *e);
    if (!e) return fail(err, ERR_TEMP, "out of memory"), NULL;
    *e = (exec){.p = p, .ws = ws, .store = values, .prompt_stale = true};
    e->residency.streams = mem_calloc((size_t)p->n_values + 1, sizeof *e->residency.streams);
    e->persist = mem_calloc(1, p->persist_bytes + 1);
    e->values = mem_calloc((size_t)p->n_values + 1, sizeof *e->values);
    bool room = e->persist && e->values && e->residency.streams;
    for (int r = 0; r < 2; r++) {
        e->io[r] = mem_calloc((size_t)p->n_steps[r] + 1, sizeof *e->io[r]);
        e->seconds[r] = mem_calloc((size_t)p->n_steps[r] + 1, sizeof *e->seconds[r]);
        room = room && e->io[r] && e->seconds[r];
    }
    int threads = team_enter(p->backend->team);
    evaluator v = {.e = e, .values = values, .err = err};
    status s = room ? fill_values(&v) : fail(err, ERR_TEMP, "out of memory");
    team_leave(threads);
    if (!s) return e;
    exec_free(e);
    return NULL;
}

void exec_free(exec *e) {
    if (!e) return;
    for (int r = 0; r < 2; r++) {
        mem_free(e->io[r]);
        mem_free(e->seconds[r]);
    }
    residency_free(&e->residency);
    mem_free(e->values);
    mem_free(e->persist);
    mem_free(e);
}

size_t exec_streamed(const exec *e) { return e->residency.streamed; }

void *exec_input(exec *e, const char *name) {
    const graph *g = &e->p->g;
    for (int id = 0; id < g->n_nodes; id++) {
        const node *n = g->nodes[id];
        if (n->op != &OP_INPUT || strcmp(n->a.leaf.name, name) || e->p->at[id][0].space != SPACE_PERSIST)
            continue;
        if (n->rate == RATE_PROMPT) e->prompt_stale = true;
        return resolve(e, e->p->at[id][0]);
    }
    return NULL;
}

const void *exec_output(const exec *e, int i) { return resolve(e, e->p->at[e->p->outputs[i]->id][0]); }

// ---- values that stream

static void expect_leaves(const node *n) {
    if (n->op == &OP_WEIGHT && n->a.leaf.w->expect) n->a.leaf.w->expect(n->a.leaf.w);
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) expect_leaves(n->in[i]);
}

// The operating system may fetch what the next step that streams reads, while this one computes.
static void expect_next(const exec *e, int r, int i) {
    const bool *streams = e->residency.streams;
    for (bool found = false; ++i < e->p->n_steps[r] && !found;) {
        const node *n = e->p->steps[r][i].n;
        for (int k = 0; k < n->n_in; k++) {
            int value = streamed_input(e->p, streams, n, k);
            if (value < 0) continue;
            expect_leaves(e->p->values[value]);
            found = true;
        }
    }
}

// Makes what a step streams, and shows its kernel where that is.
static status make_streamed(exec *e, int r, int i, error *err) {
    const plan *p = e->p;
    const node *n = p->steps[r][i].n;
    const residency *how = &e->residency;
    kernel_io *io = &e->io[r][i];
    char *at = (char *)e->ws->data + stage_at(e), *end = at + how->stage;
    bool any = false;
    for (int k = 0; k < n->n_in; k++) {
        int value = streamed_input(p, how->streams, n, k);
        if (value < 0) continue;
        char *behind = at + round_up(part_bytes(p->values[value], 0));
        evaluator v = {
            .e = e, .values = e->store, .err = err, .room = behind, .left = (size_t)(end - behind)};
        temporary made;
        TRY(evaluate(&v, p->values[value], at, &made));
        for (int j = k; j < n->n_in; j++) {
            place in = n->in[j] ? p->at[n->in[j]->id][0] : (place){0};
            if (in.space == SPACE_VALUE && in.index == value) io->in[j] = at + in.offset;
        }
        at = behind;
        any = true;
    }
    if (any) expect_next(e, r, i);
    return OK;
}

// ---- running

static status run_step(exec *e, int r, int i, error *err) {
    const plan_step *s = &e->p->steps[r][i];
    const kernel_io *io = &e->io[r][i];
    double start = e->timed ? clock_seconds() : 0;
    status st =
        s->n->op == &OP_PACK ? s->k->pack(s->k, io->in[0], io->out[0], err) : s->k->run(s->k, io, err);
    if (e->timed) e->seconds[r][i] = clock_seconds() - start;
    return st ? fail_in(err, "%s (%s)", s->n->path, s->n->op->name) : OK;
}

// Gets memory ready, then runs every step that is due through `step`.
static status run_all(exec *e, bool everything, status (*step)(exec *, int, int, error *), error *err) {
    status s = reserve(e, err);
    if (s) return s;
    if (e->arena != e->ws->data || !e->resolved) resolve_all(e);
    int threads = team_enter(e->p->backend->team);
    for (int r = everything || e->prompt_stale ? 0 : 1; r < 2; r++)
        for (int i = 0; i < e->p->n_steps[r] && !s; i++) {
            if (e->residency.stage) s = make_streamed(e, r, i, err);
            if (!s) s = step(e, r, i, err);
        }
    team_leave(threads);
    e->prompt_stale = s != OK;
    return s;
}

status exec_run(exec *e, error *err) { return run_all(e, false, run_step, err); }

// ---- checked mode

// Rounding of one product of operands in type t; a sum of n of them grows like √n in both numerator and
// denominator, so one bound serves all sizes. The factor covers chains inside one kernel (softmax, norms).
static double tolerance(dtype t) {
    switch (t) {
    case DT_F64:
        return 1e-12;
    case DT_BF16:
        return 4 * 0x1p-8;
    default:
        return 1e-5;
    }
}

static bool operands_are_bf16(const node *n) {
    bool any = n->dtype == DT_BF16;
    for (int i = 0; i < n->n_in; i++) any |= n->in[i] && n->in[i]->dtype == DT_BF16;
    return any;
}

static double norm(const double *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sqrt(sum);
}

// `size`: what the difference is measured against.
static status compare(const node *n, int part, const void *got, const double *want, double size, error *err) {
    dtype t = part ? n->extra[part - 1].dtype : n->dtype;
    size_t count = (size_t)shape_count(part ? n->extra[part - 1].shape : n->shape);
    double *have = mem_alloc(count * sizeof *have);
    if (!have) return fail(err, ERR_TEMP, "out of memory");
    dtype_to_f64(t, got, have, count);
    for (size_t i = 0; i < count; i++) have[i] -= want[i];
    double difference = norm(have, (int64_t)count), allowed = tolerance(operands_are_bf16(n) ? DT_BF16 : t);
    mem_free(have);
    if (!isfinite(difference)) return fail(err, ERR_INTERNAL, "%s (%s): not a number", n->path, n->op->name);
    if (difference <= allowed * size + 1e-30) return OK;
    return fail(err, ERR_INTERNAL,
                "%s (%s, output %d): differs from the reference by %.2g of its size (%.2g allowed)", n->path,
                n->op->name, part, difference / (size + 1e-300), allowed);
}

// The plain values behind input i of a step, also where the kernel reads a packed form.
static status plain_input(exec *e, const node *in, const void *from, double *dst, error *err) {
    if (in->op != &OP_PACK) return dtype_to_f64(in->dtype, from, dst, (size_t)shape_count(in->shape)), OK;
    const node *w = in->in[0];
    store *empty = store_new();
    if (!empty) return fail(err, ERR_TEMP, "out of memory");
    temporary t = {0};
    status s = OK;
    if (w->rate == RATE_MODEL)
        s = evaluate(&(evaluator){.e = e, .values = empty, .err = err}, w, NULL, &t);
    else
        t.data = resolve(e, e->p->at[w->id][0]);
    if (!s) dtype_to_f64(w->dtype, t.data, dst, (size_t)shape_count(w->shape));
    if (t.owned) mem_free(t.base);
    store_free(empty);
    return s;
}

// Inputs are captured before the kernel runs, since it may write over them: so the reference runs first.
typedef struct {
    double *room;
    ref_call call;
} reference_run;

static status run_reference(exec *e, const plan_step *s, const kernel_io *io, reference_run *r, error *err) {
    const node *n = s->n;
    int64_t doubles = 0;
    for (int i = 0; i < n->n_in; i++) doubles += n->in[i] ? shape_count(n->in[i]->shape) : 0;
    for (int i = 0; i <= n->n_extra; i++) doubles += shape_count(i ? n->extra[i - 1].shape : n->shape);
    *r = (reference_run){.room = mem_alloc((size_t)doubles * sizeof(double)),
                         .call = {.n = n, .team = io->team}};
    if (!r->room) return fail(err, ERR_TEMP, "out of memory");
    double *at = r->room;
    status st = OK;
    for (int i = 0; i < n->n_in && !st; i++) {
        if (!n->in[i]) continue;
        st = plain_input(e, n->in[i], io->in[i], at, err);
        r->call.in[i] = at;
        at += shape_count(n->in[i]->shape);
    }
    for (int i = 0; i <= n->n_extra; i++) {
        r->call.out[i] = at;
        at += shape_count(i ? n->extra[i - 1].shape : n->shape);
    }
    if (!st) n->op->ref(&r->call);
    return st;
}

static void sizes_of(reference_run *r, double size[1 + MAX_EXTRA]) {
    const node *n = r->call.n;
    for (int k = 0; k <= n->n_extra; k++)
        size[k] = norm(r->call.out[k], shape_count(k ? n->extra[k - 1].shape : n->shape));
    if (n->op->measure != MEASURE_LARGEST) return;
    double largest = 0;
    for (int k = 0; k <= n->n_extra; k++) largest = fmax(largest, size[k]);
    for (int k = 0; k <= n->n_extra; k++) size[k] = largest;
}

// Replaces the results by those on absolute inputs, which bound what rounding can do to a sum.
static void absolute(reference_run *r) {
    const node *n = r->call.n;
    for (double *x = r->room; x < r->call.out[0]; x++) *x = fabs(*x);
    n->op->ref(&r->call);
}

static status checked_step(exec *e, int rate_index, int i, error *err) {
    const plan_step *s = &e->p->steps[rate_index][i];
    const node *n = s->n;
    if (n->op == &OP_PACK) return run_step(e, rate_index, i, err);
    reference_run r = {0}, bound = {0};
    double size[1 + MAX_EXTRA];
    status st = run_reference(e, s, &e->io[rate_index][i], &r, err);
    if (!st) sizes_of(&r, size);
    if (!st && n->op->measure == MEASURE_ABSOLUTE &&
        !(st = run_reference(e, s, &e->io[rate_index][i], &bound, err))) {
        absolute(&bound);
        sizes_of(&bound, size);
    }
    if (!st) st = run_step(e, rate_index, i, err);
    for (int k = 0; k <= n->n_extra && !st; k++)
        st = compare(n, k, e->io[rate_index][i].out[k], r.call.out[k], size[k], err);
    mem_free(r.room);
    mem_free(bound.room);
    return st;
}

status exec_run_checked(exec *e, error *err) { return run_all(e, true, checked_step, err); }

// ---- what a run consists of

void exec_time(exec *e, bool on) { e->timed = on; }
int exec_lines(const exec *e) { return e->p->n_steps[0] + e->p->n_steps[1]; }

plan_line exec_line(const exec *e, int i) {
    int r = i >= e->p->n_steps[0];
    if (r) i -= e->p->n_steps[0];
    const plan_step *s = &e->p->steps[r][i];
    const node *n = s->n;
    plan_line l = {.path = n->path,
                   .op = n->op->name,
                   .kernel = n->op == &OP_PACK ? "pack" : s->k->name,
                   .rate = n->rate,
                   .shape = n->shape,
                   .dtype = n->dtype,
                   .seconds = e->seconds[r][i]};
    if (n->op->flops) l.flops = n->op->flops(n);
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k]) l.bytes += (double)part_bytes(n->in[k], 0);
    for (int k = 0; k <= n->n_extra; k++) l.bytes += (double)part_bytes(n, k);
    return l;
}
