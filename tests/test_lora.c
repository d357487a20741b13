// LoRA on a short chain of layers: convolution with stride, 1×1 convolution, linear; and one layer without.
// On a whole UNet, beside peft: test_networks.c.
#include "adapters/lora.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/cpu/cpu.h"
#include "core/graph/runner.h"
#include "tests/backend.h"
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

// ---- tensors with generated values

typedef struct {
    weights w;
    weight *list;
    int n;
} tensors;

static const weight *find(const weights *self, const char *name) {
    const tensors *t = (const tensors *)self;
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->list[i].name, name)) return &t->list[i];
    return NULL;
}

static tensors generate(weight *list, int n) {
    for (int i = 0; i < n; i++) {
        list[i].value = mem_alloc((size_t)shape_count(list[i].shape) * sizeof(float));
        gen_weight(list[i].name, list[i].shape.rank, list[i].shape.d, list[i].value);
        list[i].id = weight_new_id();
    }
    return (tensors){{find, "made.safetensors"}, list, n};
}

static void forget(tensors *t) {
    for (int i = 0; i < t->n; i++) mem_free(t->list[i].value);
}

static weight base_list[] = {
    {.name = "net.a.weight", .shape = {4, {6, 4, 3, 3}}},
    {.name = "net.a.bias", .shape = {1, {6}}},
    {.name = "net.b.weight", .shape = {4, {5, 6, 1, 1}}},
    {.name = "net.b.bias", .shape = {1, {5}}},
    {.name = "net.c.weight", .shape = {2, {7, 5}}},
    {.name = "net.n.weight", .shape = {1, {7}}},
    {.name = "net.n.bias", .shape = {1, {7}}},
    {.name = "net.d.weight", .shape = {2, {3, 7}}},
};
static weight pair_list[] = {
    {.name = "net.a.lora_A.weight", .shape = {4, {2, 4, 3, 3}}},
    {.name = "net.a.lora_B.weight", .shape = {4, {6, 2, 1, 1}}},
    {.name = "net.b.lora_A.weight", .shape = {2, {3, 6}}},
    {.name = "net.b.lora_B.weight", .shape = {2, {5, 3}}},
    {.name = "net.c.lora_A.weight", .shape = {2, {2, 5}}},
    {.name = "net.c.lora_B.weight", .shape = {2, {7, 2}}},
};
enum { BASE = sizeof base_list / sizeof *base_list, PAIRS = sizeof pair_list / sizeof *pair_list };

static tensors base, pairs;
static team *threads;
static backend *exact, *cpu;
static error err;

static void setup(void) {
    base = generate(base_list, BASE);
    pairs = generate(pair_list, PAIRS);
    threads = team_new(2);
    exact = reference_backend(threads);
    cpu = test_backend(threads);
}

static void teardown(void) {
    forget(&base);
    forget(&pairs);
    backend_free(exact);
    backend_free(cpu);
    team_free(threads);
}

TestSuite(lora, .init = setup, .fini = teardown);

// ---- the chain

enum { B = 2, H = 5, W = 6, OUT = B * 3 * 3 * 3 };

static node *chain(graph *g) {
    node *x = cast(graph_input(g, "x", SHAPE(B, H, W, 4), g->exact, RATE_STEP), g->compute);
    int mark = path_push(g, "net");
    x = conv(x, "a", 6, 3, (conv_geometry){2, 1, 1, 1, 1}, true); // [B,3,3,6]
    x = conv(x, "b", 5, 1, (conv_geometry){.stride = 1}, true);   // [B,3,3,5]
    x = linear(reshape(x, SHAPE(B, 9, 5)), "c", 7, false);        // [B,9,7]
    x = linear(norm_layer(x, "n", 1e-5), "d", 3, false);          // [B,9,3]
    path_pop(g, mark);
    return cast(x, g->exact);
}

typedef enum { NO_LORA, OUTPUT, MERGED } form;

typedef struct {
    graph g;
    lora l;
    const tap *taps[1];
    node *out[1 + PAIRS]; // the result or the loss, gradients
    int n_out;
    runner run;
} problem;

// strength: "strength", a step-rate input, for OUTPUT; a constant 0.7 for MERGED.
static void begin(problem *p, form f, dtype compute) {
    *p = (problem){.n_out = 1};
    graph_init(&p->g, compute);
    p->g.weights = &base.w;
    if (f == NO_LORA) return;
    node *strength = f == MERGED ? graph_fill(&p->g, SHAPE(1), p->g.exact, 0.7)
                                 : graph_input(&p->g, "strength", SHAPE(1), p->g.exact, RATE_STEP);
    p->l = lora_make(&pairs.w, 3, strength, f == MERGED ? LORA_MERGED : LORA_OUTPUT);
    p->taps[0] = &p->l.tap;
    p->g.taps = p->taps;
    p->g.n_taps = 1;
}

static void set(exec *e, const char *name, dtype t, int64_t i, double v) {
    dtype_from_f64(t, &v, (char *)exec_input(e, name) + (size_t)i * dtype_size(t), 1);
}

static void ready(problem *p, backend *be) {
    dtype t = p->g.exact;
    status s = runner_init(&p->run, &p->g, p->out, p->n_out, be, NULL, NULL, &err);
    cr_assert_eq(s, OK, "%s", err.text);
    float x[B * H * W * 4];
    gen_uniform("input:x", B * H * W * 4, x);
    for (int i = 0; i < B * H * W * 4; i++) set(p->run.exec, "x", t, i, (double)x[i]);
}

static void run(problem *p, dtype exact_type, double strength, double *y, int64_t n) {
    if (exec_input(p->run.exec, "strength")) set(p->run.exec, "strength", exact_type, 0, strength);
    cr_assert_eq(exec_run(p->run.exec, &err), OK, "%s", err.text);
    dtype_to_f64(exact_type, exec_output(p->run.exec, 0), y, (size_t)n);
}

static void forward(form f, dtype compute, backend *be, double strength, double y[OUT]) {
    problem p;
    begin(&p, f, compute);
    p.out[0] = chain(&p.g);
    dtype t = p.g.exact;
    ready(&p, be);
    run(&p, t, strength, y, OUT);
    runner_free(&p.run);
}

static double distance(const double *a, const double *b, int n) {
    double d = 0, size = 0;
    for (int i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return sqrt(d / size);
}

// ---- merged and unmerged

static void agree(dtype compute, backend *be, double allowed) {
    double merged[OUT], unmerged[OUT], none[OUT];
    forward(MERGED, compute, be, 0.7, merged);
    forward(OUTPUT, compute, be, 0.7, unmerged);
    forward(NO_LORA, compute, be, 0, none);
    double d = distance(merged, unmerged, OUT), effect = distance(unmerged, none, OUT);
    cr_expect_leq(d, allowed, "%s: %.2g", dtype_name(compute), d);
    cr_expect_gt(effect, 5 * allowed, "%s: the adapter changes only %.2g", dtype_name(compute), effect);
}

// Each way rounds some ten times (operands and results of four layers) by at most half a unit in the last
// place, 2⁻⁵³, 2⁻²⁴ or 2⁻⁹, with independent signs: √20 for the two, and the norm magnifies by up to two.
Test(lora, merged_and_unmerged_agree) {
    agree(DT_F64, exact, 9 * 0x1p-53);
    agree(DT_F32, cpu, 9 * 0x1p-24);
    if (cpu_has_bf16()) agree(DT_BF16, cpu, 9 * 0x1p-9);
}

Test(lora, strength_is_an_input_of_every_step) {
    double none[OUT], y[OUT], again[OUT];
    for (int bf16 = 0; bf16 <= cpu_has_bf16(); bf16++) {
        dtype compute = bf16 ? DT_BF16 : DT_F32;
        forward(NO_LORA, compute, cpu, 0, none);
        forward(OUTPUT, compute, cpu, 0.25, y);
        problem p;
        begin(&p, OUTPUT, compute);
        p.out[0] = chain(&p.g);
        ready(&p, cpu);
        run(&p, DT_F32, 1, again, OUT);
        run(&p, DT_F32, 0.25, again, OUT);
        for (int i = 0; i < OUT; i++) cr_expect_eq(again[i], y[i]);
        run(&p, DT_F32, 0, again, OUT);
        for (int i = 0; i < OUT; i++) cr_expect_eq(again[i], none[i], "strength 0 is the model itself");
        runner_free(&p.run);
    }
}

Test(lora, merging_is_done_once_for_a_model) {
    problem p;
    begin(&p, MERGED, DT_F32);
    p.out[0] = chain(&p.g);
    ready(&p, cpu);
    for (int i = 0; i < exec_lines(p.run.exec); i++) {
        plan_line l = exec_line(p.run.exec, i);
        cr_expect(strcmp(l.op, "matmul") || l.shape.rank > 2, "%s merges at every run", l.path);
    }
    runner_free(&p.run);
}

// ---- learning

// Gradients of Σ y² with respect to every matrix of the adapter, one after the other.
static int gradients(form f, double *grads, double *slopes) {
    problem p;
    for (int i = 0; i < PAIRS; i++) pair_list[i].trainable = true;
    begin(&p, f, DT_F64);
    node *y = chain(&p.g), *loss = reduce_sum(mul(y, y), SHAPE(1), DT_F64), *leaves[PAIRS];
    for (int i = 0; i < PAIRS; i++) leaves[i] = graph_leaf(&p.g, &pair_list[i]);
    graph_grad(&p.g, loss, leaves, PAIRS, p.out + 1);
    p.out[0] = loss;
    p.n_out = 1 + PAIRS;
    ready(&p, exact);
    double at = 0;
    run(&p, DT_F64, 0.7, &at, 1);
    int n = 0;
    for (int i = 0; i < PAIRS; i++)
        for (int64_t k = 0; k < shape_count(pair_list[i].shape); k++)
            grads[n++] = (double)((const float *)exec_output(p.run.exec, 1 + i))[k];
    n = 0;
    for (int i = 0; i < PAIRS && slopes; i++)
        for (int64_t k = 0; k < shape_count(pair_list[i].shape); k++) {
            float *v = &pair_list[i].value[k], keep = *v, side[2] = {keep - 0x1p-9f, keep + 0x1p-9f};
            double value[2];
            for (int j = 0; j < 2; j++) {
                *v = side[j];
                run(&p, DT_F64, 0.7, &value[j], 1);
            }
            *v = keep;
            slopes[n++] = (value[1] - value[0]) / ((double)side[1] - (double)side[0]);
        }
    runner_free(&p.run);
    for (int i = 0; i < PAIRS; i++) pair_list[i].trainable = false;
    return n;
}

Test(lora, gradients_are_slopes_merged_or_not) {
    double unmerged[256], merged[256], slopes[256];
    int n = gradients(OUTPUT, unmerged, slopes);
    gradients(MERGED, merged, NULL);
    cr_assert_gt(n, 100);
    // Central differences over ±2⁻⁹ leave out (2⁻⁹)²/6 = 6e-7 of the third derivative. The gradients
    // themselves are f32.
    cr_expect_leq(distance(unmerged, slopes, n), 1e-5, "%.2g", distance(unmerged, slopes, n));
    cr_expect_leq(distance(merged, unmerged, n), 0x1p-23);
}

// ---- files that do not fit

static void refused(int tensor, shape s, const char *name, const char *says) {
    weight keep = pair_list[tensor];
    pair_list[tensor].shape = s;
    if (name) pair_list[tensor].name = name;
    for (form f = OUTPUT; f <= MERGED; f++) {
        problem p;
        begin(&p, f, DT_F32);
        p.out[0] = chain(&p.g);
        cr_expect_null(plan_new(&p.g, p.out, 1, cpu, &err));
        cr_expect(strstr(err.text, says), "%s", err.text);
        err = (error){0};
    }
    pair_list[tensor] = keep;
}

Test(lora, a_pair_that_does_not_fit_is_named) {
    refused(4, SHAPE(2, 6), NULL, "net.c.lora_A.weight: made.safetensors holds 2x6 where 2x5 is expected");
    refused(0, SHAPE(2, 4), NULL, "net.a.lora_A.weight");
    refused(5, SHAPE(7, 3), NULL, "net.c.lora_B.weight");
    refused(5, SHAPE(7, 2), "net.c.other", "net.c.lora_B.weight: made.safetensors has no such tensor");
    refused(4, SHAPE(0, 5), NULL, "net.c: lora_A.weight has no rows");
    refused(4, (shape){0}, NULL, "net.c: lora_A.weight has no rows");
}
