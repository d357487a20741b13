// The op driver. Every op of the table, over random shapes: gradients against finite differences in float64
// on the reference, then every kernel of the CPU backend beside the reference in f32 and bf16.
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/graph/runner.h"
#include "core/cpu/winograd.h"
#include "tests/backend.h"
#include "tests/op_cases.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_INPUTS = 16 };

// A case as a scalar loss Σ y∘r with the gradient of every input.
typedef struct {
    graph g;
    case_params params;
    node *inputs[MAX_INPUTS], *grads[MAX_INPUTS];
    int n_inputs;
    node *outputs[2 + MAX_INPUTS]; // loss, y, gradients
    int n_outputs;
} problem;

static void build(problem *p, const op_case *c, uint64_t seed, dtype compute) {
    *p = (problem){0};
    dice d = {seed};
    graph_init(&p->g, compute);
    case_params_init(&p->params);
    p->g.weights = &p->params.w;
    node *y = c->build(&p->g, &d);
    cr_assert_eq(p->g.err.code, OK, "%s: %s", c->name, p->g.err.text);
    node *wrt[MAX_INPUTS];
    for (int i = 0; i < p->g.n_nodes; i++)
        if ((p->g.nodes[i]->op == &OP_INPUT || p->g.nodes[i]->op == &OP_WEIGHT) && p->g.nodes[i]->needs_grad)
            wrt[p->n_inputs++] = p->g.nodes[i];
    node *r = graph_input(&p->g, "r", y->shape, y->dtype, RATE_STEP);
    node *loss = reduce_sum(mul(y, r), SHAPE(1), p->g.exact);
    graph_grad(&p->g, loss, wrt, p->n_inputs, p->grads);
    p->outputs[p->n_outputs++] = loss;
    p->outputs[p->n_outputs++] = y;
    for (int i = 0; i < p->n_inputs; i++) {
        cr_assert_not_null(p->grads[i], "%s: input %d has no gradient", c->name, i);
        p->inputs[i] = wrt[i];
        p->outputs[p->n_outputs++] = p->grads[i];
    }
}

static exec *start(runner *r, problem *p, const op_case *c, const backend *be) {
    error err = {0};
    status s = runner_init(r, &p->g, p->outputs, p->n_outputs, be, NULL, NULL, &err);
    cr_assert_eq(s, OK, "%s: %s", c->name, err.text);
    return r->exec;
}

static void fill_inputs(exec *e, const graph *g, const op_case *c, dice *d) {
    for (int i = 0; i < g->n_nodes; i++) {
        const node *n = g->nodes[i];
        void *x = n->op == &OP_INPUT    ? exec_input(e, n->a.leaf.name)
                  : n->op == &OP_WEIGHT ? n->a.leaf.w->value
                                        : NULL;
        for (int64_t k = 0; x && k < shape_count(n->shape); k++) {
            double v = n->dtype == DT_I32 ? (double)dice_range(d, 0, 2) : dice_real(d, c->low, c->high);
            dtype_from_f64(n->dtype, &v, (char *)x + (size_t)k * dtype_size(n->dtype), 1);
        }
    }
}

static void check_gradients(const op_case *c, uint64_t seed) {
    problem p;
    build(&p, c, seed, DT_F64);
    backend *be = reference_backend(NULL);
    runner r;
    error err = {0};
    exec *e = start(&r, &p, c, be);
    dice d = {seed + 1};
    fill_inputs(e, p.inputs[0]->g, c, &d); // nodes live on in the plan
    for (int i = 0; i < p.n_inputs; i++) {
        cr_assert_eq(exec_run(e, &err), OK, "%s: %s", c->name, err.text);
        double *x = exec_input(e, p.inputs[i]->a.leaf.name);
        int64_t n = shape_count(p.inputs[i]->shape);
        double *want = mem_alloc((size_t)n * sizeof *want);
        memcpy(want, exec_output(e, 2 + i), (size_t)n * sizeof *want);
        for (int probe = 0; probe < 6; probe++) {
            int64_t at = dice_range(&d, 0, n - 1);
            double h = 1e-5, keep = x[at], loss[2];
            for (int side = 0; side < 2; side++) {
                x[at] = keep + (side ? h : -h);
                cr_assert_eq(exec_run(e, &err), OK);
                loss[side] = *(const double *)exec_output(e, 0);
            }
            x[at] = keep;
            double slope = (loss[1] - loss[0]) / (2 * h);
            // Truncation h²·f''' and cancellation ε·|loss|/h are both near 1e-10 of the loss.
            double allowed = 1e-6 * (1 + fabs(slope) + fabs(loss[0]));
            cr_expect(fabs(slope - want[at]) <= allowed,
                      "%s (seed %llu): input %d [%lld]: gradient %.12g, finite difference %.12g", c->name,
                      (unsigned long long)seed, i, (long long)at, want[at], slope);
        }
        mem_free(want);
    }
    runner_free(&r);
    backend_free(be);
    case_params_free(&p.params);
}

Test(ops, gradients_equal_finite_differences) {
    for (const op_case *c = OP_CASES; c->name; c++)
        for (uint64_t seed = 1; seed <= 12; seed++) check_gradients(c, seed);
}

// What the kernels of an op took over all cases: [f32, bf16].
enum { MAX_OPS = 200 };
typedef struct {
    double seconds[MAX_OPS][2];
    int runs[MAX_OPS][2];
} timetable;

static void time_kernels(exec *e, const op_case *c, dtype compute, timetable *times) {
    error err = {0};
    exec_time(e, true);
    cr_assert_eq(exec_run(e, &err), OK, "%s: %s", c->name, err.text);
    for (int i = 0; i < exec_lines(e); i++) {
        plan_line l = exec_line(e, i);
        for (int k = 0; OPS[k] && k < MAX_OPS; k++) {
            if (strcmp(OPS[k]->name, l.op) != 0) continue;
            times->seconds[k][compute == DT_BF16] += l.seconds;
            times->runs[k][compute == DT_BF16]++;
        }
    }
}

// A hint, not a benchmark: random small shapes of warm memory.
static void tell_times(const timetable *times) {
    fprintf(stderr, "%-24s %8s %10s %10s\n", "op", "kernels", "f32, us", "bf16, us");
    for (int k = 0; OPS[k] && k < MAX_OPS; k++) {
        const int *n = times->runs[k];
        if (!n[0] && !n[1]) continue;
        fprintf(stderr, "%-24s %8d %10.1f %10.1f\n", OPS[k]->name, n[0] + n[1],
                n[0] ? 1e6 * times->seconds[k][0] / n[0] : 0, n[1] ? 1e6 * times->seconds[k][1] / n[1] : 0);
    }
}

// Forward and gradients of a case, kernel by kernel beside the reference, then timed.
static void check_kernels(const op_case *c, uint64_t seed, dtype compute, team *t, timetable *times) {
    problem p;
    build(&p, c, seed, compute);
    error err = {0};
    backend *be = test_backend(t);
    runner r;
    exec *e = start(&r, &p, c, be);
    const graph *g = p.outputs[0]->g;
    dice d = {seed + 1};
    fill_inputs(e, g, c, &d);
    cr_expect_eq(exec_run_checked(e, &err), OK, "%s (seed %llu, %s): %s", c->name, (unsigned long long)seed,
                 dtype_name(compute), err.text);
    for (int i = 0; CALO_ONEDNN && i < exec_lines(e); i++) {
        plan_line l = exec_line(e, i);
        cr_expect(!l.kernel || strcmp(l.kernel, "reference"), "%s: no kernel for %s in %s", c->name, l.op,
                  dtype_name(compute));
    }
    time_kernels(e, c, compute, times);
    runner_free(&r);
    backend_free(be);
    case_params_free(&p.params);
}

Test(ops, kernels_equal_the_reference) {
    static timetable times;
    team *t = team_new(2);
    for (const op_case *c = OP_CASES; c->name; c++)
        for (uint64_t seed = 1; seed <= 25; seed++) {
            check_kernels(c, seed, DT_F32, t, &times);
            if (cpu_has_bf16()) check_kernels(c, seed, DT_BF16, t, &times);
        }
    tell_times(&times);
    team_free(t);
}

static bool covers(const op *o) {
    for (const op_case *c = OP_CASES; c->name; c++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            problem p;
            build(&p, c, seed, DT_BF16); // where casts are not empty
            bool found = false;
            for (int i = 0; i < p.g.n_nodes; i++) found |= p.g.nodes[i]->op == o;
            graph_free(&p.g);
            case_params_free(&p.params);
            if (found) return true;
        }
    return false;
}

Test(ops, every_op_has_a_case) {
    for (const op *const *o = OPS; *o; o++)
        cr_expect(covers(*o), "%s has no case in tests/op_cases.c", (*o)->name);
}

// Values are shared between plans by op, attributes and inputs: an op must say how large its attributes are.
Test(ops, attributes_are_part_of_the_key) {
    for (const op_case *c = OP_CASES; c->name; c++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            problem p;
            build(&p, c, seed, DT_BF16);
            for (int i = 0; i < p.g.n_nodes; i++) {
                const node *n = p.g.nodes[i];
                static const attrs none;
                if (n->op == &OP_INPUT || n->op == &OP_WEIGHT || n->op->attrs_bytes) continue;
                cr_expect_eq(memcmp(&n->a, &none, sizeof(int64_t)), 0, "%s has attributes", n->op->name);
            }
            graph_free(&p.g);
            case_params_free(&p.params);
        }
}

// A picture convolved with a constant kernel; returns whether Winograd did it.
static bool convolve(backend *be, float *y, int64_t n) {
    graph g;
    graph_init(&g, DT_F32);
    node *x = graph_input(&g, "x", SHAPE(1, 24, 24, 32), DT_F32, RATE_STEP);
    node *out =
        conv2d(x, graph_fill(&g, SHAPE(32, 32, 3, 3), DT_F32, 0.25), NULL, (conv_geometry){1, 1, 1, 1, 1});
    error err = {0};
    runner r;
    cr_assert_eq(runner_init(&r, &g, &out, 1, be, NULL, NULL, &err), OK, "%s", err.text);
    dice d = {3};
    float *in = exec_input(r.exec, "x");
    for (int i = 0; i < 24 * 24 * 32; i++) in[i] = (float)dice_real(&d, 0, 1);
    cr_assert_eq(exec_run(r.exec, &err), OK, "%s", err.text);
    memcpy(y, exec_output(r.exec, 0), (size_t)n * sizeof *y);
    bool winograd = strstr(exec_line(r.exec, 0).kernel, "wino") != NULL;
    runner_free(&r);
    backend_free(be);
    return winograd;
}

Test(ops, winograd_is_used_only_where_it_is_allowed) {
    enum { N = 24 * 24 * 32 };
    static float direct[N], fast[N];
    team *t = team_new(2);
    cr_expect_not(convolve(cpu_backend(t, NULL), direct, N));
    winograd_desc any = {.t = DT_F32};
    cr_expect_eq(convolve(cpu_backend_fast(t, NULL), fast, N), winograd_runs(&any));
    // Values near 36, all positive: nothing cancels but inside Winograd's transforms, whose factors reach 8.
    for (int i = 0; i < N; i++) cr_expect_float_eq(fast[i], direct[i], 1e-4f * direct[i]);
    team_free(t);
}
