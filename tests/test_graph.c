// The engine around the ops: poison, rates, the store, recomputation, folding, memory.
#include "core/base/mem.h"
#include "core/cpu/winograd.h"
#include "core/graph/op.h"
#include "core/graph/runner.h"
#include "tests/backend.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

// ---- a provider of made-up weights: any name, values that follow from it

typedef struct {
    weights w;
    shape matrix; // of all but biases
    weight made[64];
    int n, reads;
} maker;

static status read_made(const weight *w, float *dst, error *err) {
    (void)err;
    ((maker *)(uintptr_t)w->source)->reads++;
    for (int64_t i = 0; i < shape_count(w->shape); i++)
        dst[i] = (float)sin((double)(i + 1) * (double)strlen(w->name));
    return OK;
}

static const weight *find_made(const weights *self, const char *name) {
    maker *m = (maker *)(uintptr_t)self;
    if (strstr(name, "missing")) return NULL;
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->made[i].name, name)) return &m->made[i];
    char *copy = mem_strdup(name);
    shape s = strstr(name, "bias") ? SHAPE(4) : m->matrix;
    m->made[m->n] = (weight){.name = copy, .shape = s, .read = read_made, .source = m, .id = weight_new_id()};
    return &m->made[m->n++];
}

static maker make(void) {
    return (maker){.w = {.find = find_made, .origin = "made.safetensors"}, .matrix = SHAPE(4, 4)};
}

static void forget(maker *m) {
    for (int i = 0; i < m->n; i++) mem_free((void *)(uintptr_t)m->made[i].name);
}

// ---- a run in a few words

static backend *reference;
static store *values;
static workspace room;
static error err;

static void setup(void) {
    reference = reference_backend(NULL);
    values = store_new();
}

static void teardown(void) {
    backend_free(reference);
    store_free(values);
    workspace_free(&room);
}

TestSuite(graph, .init = setup, .fini = teardown);

static runner start(graph *g, node *const *out, int n, const backend *be) {
    runner r;
    cr_assert_eq(runner_init(&r, g, out, n, be, values, &room, &err), OK, "%s", err.text);
    return r;
}

static void go(const runner *r) { cr_assert_eq(exec_run(r->exec, &err), OK, "%s", err.text); }

Test(graph, the_first_error_names_its_path_and_survives_what_is_built_on_it) {
    maker m = make();
    graph g;
    graph_init(&g, DT_F32);
    g.weights = &m.w;
    node *x = graph_input(&g, "x", SHAPE(1, 2, 4), DT_F32, RATE_STEP);
    int mark = path_push(&g, "mid_block.attentions.%d", 0);
    node *y = linear(x, "missing_one", 4, true);
    path_pop(&g, mark);
    y = unary(add(linear(y, "to_q", 4, true), x), UNARY_SILU);
    y = conv3x3(concat(y, x, 2), "other", 8, 1);
    cr_assert_null(plan_new(&g, &y, 1, reference, &err));
    cr_expect_eq(err.code, ERR_DATA);
    cr_expect_str_eq(
        err.text,
        "mid_block.attentions.0.missing_one.weight: made.safetensors has no such tensor (4x4 expected)");
    forget(&m);
}

Test(graph, shapes_that_do_not_fit_are_told) {
    graph g;
    graph_init(&g, DT_F32);
    node *a = graph_input(&g, "a", SHAPE(2, 3), DT_F32, RATE_STEP),
         *b = graph_input(&g, "b", SHAPE(2, 4), DT_F32, RATE_STEP);
    node *y = add(a, b);
    cr_assert_null(plan_new(&g, &y, 1, reference, &err));
    cr_expect_str_eq(err.text, "binary: F32 2x3 cannot be broadcast to F32 2x4");
}

Test(graph, slower_values_are_computed_once) {
    maker m = make();
    graph g;
    graph_init(&g, DT_F32);
    g.weights = &m.w;
    node *c = graph_input(&g, "context", SHAPE(1, 3, 4), DT_F32, RATE_PROMPT);
    node *x = graph_input(&g, "x", SHAPE(1, 3, 4), DT_F32, RATE_STEP);
    node *k = linear(c, "to_k", 4, false), *y = add(linear(x, "to_q", 4, false), k);
    cr_expect_eq(k->rate, RATE_PROMPT);
    cr_expect_eq(y->rate, RATE_STEP);
    runner r = start(&g, &y, 1, reference);
    int prompt_lines = 0;
    for (int i = 0; i < exec_lines(r.exec); i++) prompt_lines += exec_line(r.exec, i).rate == RATE_PROMPT;
    cr_expect_eq(prompt_lines, 1);
    cr_expect_eq(m.reads, 2);
    float *in = exec_input(r.exec, "context");
    in[0] = 1;
    go(&r);
    float first = ((const float *)exec_output(r.exec, 0))[0];
    in[0] = 5; // without asking for the input again: the kept value is used
    go(&r);
    cr_expect_eq(((const float *)exec_output(r.exec, 0))[0], first);
    exec_input(r.exec, "context");
    go(&r);
    cr_expect_neq(((const float *)exec_output(r.exec, 0))[0], first);
    runner_free(&r);
    forget(&m);
}

Test(graph, weights_in_memory_are_widened_for_float64) {
    maker m = make();
    float held[16];
    weight *w = (weight *)(uintptr_t)find_made(&m.w, "held");
    read_made(w, held, NULL);
    w->value = held;
    graph g;
    graph_init(&g, DT_F64);
    g.weights = &m.w;
    node *in[2] = {graph_weight(&g, "held", m.matrix), graph_weight(&g, "on_file", m.matrix)}, *out[2];
    for (int i = 0; i < 2; i++) out[i] = affine(in[i], 2, 0);
    runner r = start(&g, out, 2, reference);
    go(&r);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 16; k++)
            cr_expect_eq(((const double *)exec_output(r.exec, i))[k],
                         2 * (double)(float)sin((k + 1) * (i ? 7.0 : 4.0)));
    runner_free(&r);
    forget(&m);
}

Test(graph, plans_share_what_depends_on_the_model_alone) {
    maker m = make();
    for (int T = 1; T <= 3; T++) {
        graph g;
        graph_init(&g, DT_F32);
        g.weights = &m.w;
        node *x = graph_input(&g, "x", SHAPE(1, T, 4), DT_F32, RATE_STEP);
        node *w = graph_weight(&g, "q.weight", SHAPE(4, 4));
        node *y = matmul(x, affine(w, 2, 0), NULL, false, true, 1, DT_F32); // as a merged adapter would
        runner r = start(&g, &y, 1, reference);
        go(&r);
        runner_free(&r);
    }
    cr_expect_eq(m.reads, 1);
    cr_expect_eq(store_bytes(values), 64);
    forget(&m);
}

static node *block(node *x, const char *name, bool recompute) {
    graph *g = x->g;
    if (recompute) block_begin(g);
    int mark = path_push(g, "%s", name);
    node *h = linear(unary(linear(x, "one", 4, true), UNARY_SILU), "two", 4, true);
    h = unary(add(h, x), UNARY_GELU);
    path_pop(g, mark);
    if (recompute) block_end(g);
    return h;
}

// Loss and gradient of a chain of blocks; *bytes gets the bytes of its plan.
static void chain(maker *m, bool recompute, float *loss, float *dx, size_t *bytes) {
    graph g;
    graph_init(&g, DT_F32);
    g.weights = &m->w;
    node *x = graph_input(&g, "x", SHAPE(1, 200, 4), DT_F32, RATE_STEP), *y = x;
    graph_require_grad(x);
    for (int i = 0; i < 8; i++) {
        char name[8];
        snprintf(name, sizeof name, "b%d", i);
        y = block(y, name, recompute);
    }
    node *out[2] = {mean_all(mul(y, y))};
    graph_grad(&g, out[0], &x, 1, &out[1]);
    runner r = start(&g, out, 2, reference);
    *bytes = plan_needs(r.plan).workspace;
    float *in = exec_input(r.exec, "x");
    for (int i = 0; i < 800; i++) in[i] = (float)sin(i);
    go(&r);
    *loss = *(const float *)exec_output(r.exec, 0);
    memcpy(dx, exec_output(r.exec, 1), 800 * sizeof *dx);
    runner_free(&r);
}

Test(graph, recomputed_blocks_give_the_same_gradient_with_less_memory) {
    maker m = make();
    float loss[2], dx[2][800];
    size_t bytes[2];
    for (int k = 0; k < 2; k++) chain(&m, k, &loss[k], dx[k], &bytes[k]);
    cr_expect_eq(loss[0], loss[1]);
    cr_expect_arr_eq(dx[0], dx[1], sizeof dx[0]);
    cr_expect(bytes[1] < bytes[0], "%zu and %zu bytes", bytes[1], bytes[0]);
    forget(&m);
}

Test(graph, a_residual_is_folded_into_the_product) {
    maker m = make();
    graph g;
    graph_init(&g, DT_F32);
    g.weights = &m.w;
    node *x = graph_input(&g, "x", SHAPE(1, 5, 4), DT_F32, RATE_STEP);
    node *y = add(x, linear(x, "q", 4, true));
    runner r = start(&g, &y, 1, reference);
    go(&r);
    cr_expect_eq(exec_lines(r.exec), 1);
    cr_expect_eq(exec_run_checked(r.exec, &err), OK, "%s", err.text);
    runner_free(&r);
    forget(&m);
}

// A picture made twice as large and convolved in bf16; returns the number of upsampling kernels.
static int convolve_upsampled(backend *be, bool checked, float *y, int64_t n) {
    maker m = make();
    m.matrix = SHAPE(32, 32, 3, 3);
    graph g;
    graph_init(&g, DT_BF16);
    g.weights = &m.w;
    node *x = graph_input(&g, "x", SHAPE(2, 9, 8, 32), DT_F32, RATE_STEP);
    node *up = upsample_nearest(cast(x, DT_BF16), 18, 16);
    node *out = cast(conv(up, "up", 32, 3, (conv_geometry){1, 1, 1, 1, 1}, false), DT_F32);
    runner r = start(&g, &out, 1, be);
    float *in = exec_input(r.exec, "x");
    for (int i = 0; i < 2 * 9 * 8 * 32; i++) in[i] = (float)sin(i);
    if (checked) cr_expect_eq(exec_run_checked(r.exec, &err), OK, "%s", err.text);
    go(&r);
    memcpy(y, exec_output(r.exec, 0), (size_t)n * sizeof *y);
    int kernels = 0;
    for (int i = 0; i < exec_lines(r.exec); i++)
        kernels += !strcmp(exec_line(r.exec, i).op, OP_UPSAMPLE.name);
    runner_free(&r);
    backend_free(be);
    forget(&m);
    return kernels;
}

Test(graph, upsampling_is_folded_into_a_convolution_that_gains_by_it) {
    enum { N = 2 * 18 * 16 * 32 };
    static float direct[N], folded[N];
    team *t = team_new(2);
    winograd_desc d = {.t = DT_BF16, .up = true};
    cr_expect_eq(convolve_upsampled(cpu_backend(t, NULL), false, direct, N), 1);
    cr_expect_eq(convolve_upsampled(cpu_backend_fast(t, NULL), true, folded, N), !winograd_runs(&d));
    double difference = 0, size = 0;
    for (int i = 0; i < N; i++) {
        difference += (folded[i] - direct[i]) * (folded[i] - direct[i]);
        size += direct[i] * direct[i];
    }
    cr_expect_leq(sqrt(difference / size),
                  1e-2); // of two sums of bf16 products, each within 5.3e-3 (test_winograd.c)
    team_free(t);
}

Test(graph, a_chain_needs_no_more_memory_than_two_links) {
    graph g;
    graph_init(&g, DT_F32);
    node *x = graph_input(&g, "x", SHAPE(1000), DT_F32, RATE_STEP), *y = x;
    for (int i = 0; i < 50; i++) y = slice(concat(y, x, 0), 0, 1, 1000);
    runner r = start(&g, &y, 1, reference);
    // One joined, one sliced, rounded up, and the reference's doubles (in and out).
    cr_expect_leq(plan_needs(r.plan).workspace, 2 * (8000 + 4000) + 8 * 5000 + 2048);
    runner_free(&r);
}

Test(graph, checked_mode_names_the_node_that_is_not_a_number) {
    graph g;
    graph_init(&g, DT_F32);
    node *x = graph_input(&g, "x", SHAPE(4), DT_F32, RATE_STEP);
    int mark = path_push(&g, "vae.decoder");
    node *y = unary(unary(affine(x, 1, -1), UNARY_LOG), UNARY_SQUARE);
    path_pop(&g, mark);
    runner r = start(&g, &y, 1, reference);
    cr_expect_eq(exec_run_checked(r.exec, &err), ERR_INTERNAL);
    cr_expect_str_eq(err.text, "vae.decoder (unary): not a number");
    runner_free(&r);
}

// ---- operands made of weights

// Packed forms are made from f32: an operand that was cast to bf16 before is taken as it is.
Test(graph, a_cast_weight_is_not_packed_as_f32) {
    maker m = make();
    team *t = team_new(1);
    backend *cpu = test_backend(t);
    graph g;
    graph_init(&g, DT_BF16);
    g.weights = &m.w;
    node *x = cast(graph_input(&g, "x", SHAPE(4, 4), DT_F32, RATE_STEP), DT_BF16);
    node *w = cast(graph_weight(&g, "w", SHAPE(4, 4)), DT_BF16);
    node *y = matmul(x, w, NULL, true, false, 1, DT_F32);
    runner r = start(&g, &y, 1, cpu);
    float *in = exec_input(r.exec, "x");
    for (int i = 0; i < 16; i++) in[i] = (float)i / 8;
    cr_expect_eq(exec_run_checked(r.exec, &err), OK, "%s", err.text);
    runner_free(&r);
    backend_free(cpu);
    team_free(t);
    forget(&m);
}
