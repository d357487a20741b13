// Bandwidth of the CPU kernels beside memcpy: `bench_kernels [threads] [rounds]`.
//
// Prints one line for each case: name, type, shape, microseconds (best round), GB/s counting each operand
// once, and the share of what memcpy moves in a buffer of the same size with the same number of threads,
// measured next to it. tests/bench/torch_kernels.py prints PyTorch's times of the same cases.
#include "core/base/mem.h"
#include "core/cpu/kernels.h"
#include "tests/bench/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const cpu_kernels *k;
    team *team;
    dtype t;
    int64_t B, S, C;
    void *x, *y, *z;
    float *gamma, *beta, *stats;
    void *scratch;
} context;

#define GROUPS 32
#define COUNT(c) ((c)->B * (c)->S * (c)->C)

static void copy_part(void *arg, int64_t begin, int64_t end) {
    context *c = arg;
    memcpy((char *)c->y + begin, (char *)c->x + begin, (size_t)(end - begin));
}
static void run_copy(context *c) {
    int64_t bytes = COUNT(c) * (int64_t)dtype_size(c->t);
    parallel_for(c->team, bytes, (bytes - 1) / team_size(c->team) + 1, copy_part, c);
}
static void run_group_norm(context *c) {
    c->k->group_norm(c->team, c->t, c->x, c->gamma, c->beta, c->y, c->stats, c->B, c->S, c->C,
                     c->C < GROUPS ? c->C / 2 : GROUPS, 1e-5f, true, c->scratch);
}
static void run_group_norm_grad(context *c) {
    c->k->group_norm_grad(c->team, c->t, c->x, c->gamma, c->beta, c->stats, c->z, c->y, c->gamma + c->C,
                          c->beta + c->C, c->B, c->S, c->C, c->C < GROUPS ? c->C / 2 : GROUPS, true,
                          c->scratch);
}
static void run_layer_norm(context *c) {
    c->k->layer_norm(c->team, c->t, c->x, c->gamma, c->beta, c->y, NULL, c->B * c->S, c->C, 1e-5f);
}
static void run_gelu(context *c) { c->k->unary(c->team, UNARY_GELU, c->t, c->x, c->y, COUNT(c)); }
static void run_silu(context *c) { c->k->unary(c->team, UNARY_SILU, c->t, c->x, c->y, COUNT(c)); }
static void run_silu_grad(context *c) {
    c->k->unary_grad(c->team, UNARY_SILU, c->t, c->x, c->z, c->y, COUNT(c));
}
static void run_softmax(context *c) { c->k->softmax(c->team, c->t, c->x, c->y, c->B * c->S, c->C); }
static void run_add(context *c) {
    int64_t n[4] = {1, c->B, c->S, c->C};
    c->k->binary(c->team, BINARY_ADD, c->t, c->x, c->t, c->z, n, c->y, n);
}
static void run_bias(context *c) {
    int64_t n[4] = {1, c->B, c->S, c->C}, m[4] = {1, 1, 1, c->C};
    c->k->binary(c->team, BINARY_ADD, c->t, c->x, DT_F32, c->beta, m, c->y, n);
}
static void run_bias_grad(context *c) {
    int64_t n[4] = {1, c->B, c->S, c->C};
    c->k->reduce_sum(c->team, c->t, c->x, DT_F32, c->stats, n, 7, c->scratch);
}

static const struct {
    const char *name;
    void (*run)(context *);
    int operands; // tensors read and written
} CASES[] = {{"memcpy", run_copy, 2},
             {"group_norm+silu", run_group_norm, 2},
             {"group_norm+silu grad", run_group_norm_grad, 3},
             {"layer_norm", run_layer_norm, 2},
             {"gelu", run_gelu, 2},
             {"silu", run_silu, 2},
             {"silu grad", run_silu_grad, 3},
             {"softmax", run_softmax, 2},
             {"add", run_add, 3},
             {"add bias", run_bias, 2},
             {"bias grad", run_bias_grad, 1}};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

// The best of `rounds`, each about 5 ms, the cases in turn so that a busy machine hurts all alike.
static void time_cases(context *c, int rounds, double best[CASE_COUNT]) {
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < CASE_COUNT; i++) {
            double start = machine_seconds(c->team), end;
            int runs = 0;
            do {
                CASES[i].run(c);
                runs++;
            } while ((end = machine_seconds(c->team)) - start < 5e-3);
            double t = (end - start) / runs;
            if (r == 0 || t < best[i]) best[i] = t;
        }
}

static void bench(context c, int64_t B, int64_t S, int64_t C, dtype t, int rounds) {
    int64_t n = B * S * C;
    size_t bytes = (size_t)n * dtype_size(t);
    double best[CASE_COUNT];
    c.t = t, c.B = B, c.S = S, c.C = C;
    c.x = mem_alloc(bytes), c.y = mem_alloc(bytes), c.z = mem_alloc(bytes);
    c.gamma = mem_calloc(2 * (size_t)C, sizeof(float)), c.beta = mem_calloc(2 * (size_t)C, sizeof(float));
    c.stats = mem_calloc((size_t)(B * C * 2), sizeof(float));
    int64_t shape[4] = {1, B, S, C};
    size_t g = group_norm_scratch(B, S, C), s = reduce_sum_scratch(shape, 7);
    c.scratch = mem_alloc(g > s ? g : s);
    if (!c.x || !c.y || !c.z || !c.gamma || !c.beta || !c.stats || !c.scratch) return;
    double *values = mem_alloc((size_t)n * sizeof *values);
    for (int64_t i = 0; values && i < n; i++) values[i] = (double)(i * 2654435761u % 1000003) / 250000 - 2;
    if (values) dtype_from_f64(t, values, c.x, (size_t)n), dtype_from_f64(t, values, c.z, (size_t)n);
    mem_free(values);
    time_cases(&c, rounds, best);
    for (int i = 0; i < CASE_COUNT; i++) {
        double rate = (double)bytes * CASES[i].operands / best[i] * 1e-9,
               copy = (double)bytes * 2 / best[0] * 1e-9;
        printf("| %-20s | %-4s | %3ldx%6ldx%4ld | %9.1f | %7.1f | %9.0f %% |\n", CASES[i].name, dtype_name(t),
               (long)B, (long)S, (long)C, best[i] * 1e6, rate, 100 * rate / copy);
    }
    mem_free(c.x), mem_free(c.y), mem_free(c.z), mem_free(c.gamma), mem_free(c.beta), mem_free(c.stats);
    mem_free(c.scratch);
}

int main(int argc, char **argv) {
    static const int64_t SHAPES[][3] = {
        {16, 256, 32}, {16, 1024, 64}, {32, 256, 128}, {2, 4096, 320}, {1, 262144, 128}};
    context c = {.k = cpu_kernels_for(CPU_BEST), .team = team_new(argc > 1 ? atoi(argv[1]) : 0)};
    int rounds = argc > 2 ? atoi(argv[2]) : 8;
    machine_head("Kernels", c.team);
    printf("Level %s.\n\n| %-20s | type | %-15s | %9s | %7s | of memcpy |\n|---|---|---|---|---|---|\n",
           cpu_level_name(cpu_level_within(CPU_BEST)), "kernel", "shape", "us", "GB/s");
    for (dtype t = DT_F32; t <= DT_BF16; t++)
        for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
            bench(c, SHAPES[i][0], SHAPES[i][1], SHAPES[i][2], t, rounds);
    team_free(c.team);
    return 0;
}
