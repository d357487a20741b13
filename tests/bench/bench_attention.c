// Attention as a share of this machine's own multiply-add ceiling, for the shapes of the models.
//   bench_attention [threads [filter]]
// Each round measures ceiling, forward and backward in turn; the best of the rounds is printed.
#include "core/base/mem.h"
#include "core/cpu/attention.h"
#include "tests/bench/ceiling.h"
#include "tests/bench/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ceiling_kind CEILING[] = {[CPU_BASE] = CEILING_AVX2_F32,
                                       [CPU_AVX2] = CEILING_AVX2_F32,
                                       [CPU_AVX512] = CEILING_AVX512_F32,
                                       [CPU_AVX512_BF16] = CEILING_AVX512_BF16};

// ---- shapes ----

typedef struct {
    const char *name;
    int64_t B, heads, Tq, Tk, D;
} shape;

static const shape shapes[] = {
    {"SD1.5 64x64", 2, 8, 4096, 4096, 40},    {"SD1.5 32x32", 2, 8, 1024, 1024, 80},
    {"SD1.5 16x16", 2, 8, 256, 256, 160},     {"SD1.5 text 64x64", 2, 8, 4096, 77, 40},
    {"SD1.5 text 32x32", 2, 8, 1024, 77, 80}, {"VAE 64x64", 1, 1, 4096, 4096, 512},
    {"SDXL 32x32", 2, 20, 1024, 1024, 64},    {"small T=64", 32, 4, 64, 64, 32},
    {"small T=256", 32, 4, 256, 256, 32},     {"small T=1024", 32, 4, 1024, 1024, 32},
    {"small text 1024", 32, 4, 1024, 24, 32},
};

static void *tensor(dtype t, int64_t n) {
    float *f = mem_alloc((size_t)n * 4);
    uint16_t *h = (uint16_t *)f;
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(rand() / (double)RAND_MAX * 4 - 2);
        if (t == DT_F32)
            f[i] = x;
        else
            h[i] = f32_to_bf16(x);
    }
    return f;
}

static void bench(team *t, const shape *s, dtype type, cpu_level limit) {
    int64_t ld = s->heads * s->D, nq = s->B * s->Tq * ld, nk = s->B * s->Tk * ld;
    attention_desc d = {.t = type,
                        .B = s->B,
                        .heads = s->heads,
                        .Tq = s->Tq,
                        .Tk = s->Tk,
                        .D = s->D,
                        .scale = 1 / sqrtf((float)s->D),
                        .ldq = ld,
                        .ldk = ld,
                        .ldv = ld,
                        .ldo = ld,
                        .limit = limit};
    cpu_level level = attention_level(type, limit);
    void *q = tensor(type, nq), *k = tensor(type, nk), *v = tensor(type, nk), *dout = tensor(type, nq);
    void *o = tensor(type, nq), *dq = tensor(type, nq), *dk = tensor(type, nk), *dv = tensor(type, nk);
    float *lse = mem_alloc((size_t)(s->B * s->heads * s->Tq) * 4);
    void *scratch = mem_alloc(attention_scratch_bytes(&d, team_size(t), false));
    void *scratch_back = mem_alloc(attention_scratch_bytes(&d, team_size(t), true));
    double top = 0, forward = INFINITY, backward = INFINITY, start = machine_seconds(t);
    for (int round = 0; round < 5 || (round < 100 && machine_seconds(t) - start < 0.6); round++) {
        top = fmax(top, ceiling_measure(CEILING[level], t));
        double t0 = machine_seconds(t);
        attention_forward(t, &d, q, k, v, o, lse, scratch);
        double t1 = machine_seconds(t);
        attention_backward(t, &d, q, k, v, o, lse, dout, dq, dk, dv, scratch_back);
        double t2 = machine_seconds(t);
        forward = fmin(forward, t1 - t0);
        backward = fmin(backward, t2 - t1);
    }
    double gflop = 4e-9 * (double)(s->B * s->heads * s->Tq * s->Tk * s->D);
    printf("| %-16s | %-4s | %-10s | %7.0f | %10.3f | %4.0f | %12.0f %% | %11.3f | %4.0f | %12.0f %% |\n",
           s->name, dtype_name(type), cpu_level_name(level), top, forward * 1e3, gflop / forward,
           100 * gflop / forward / top, backward * 1e3, 2.5 * gflop / backward, 250 * gflop / backward / top);
    fflush(stdout);
    void *all[] = {q, k, v, dout, o, dq, dk, dv, lse, scratch, scratch_back};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

int main(int argc, char **argv) {
    team *t = team_new(argc > 1 ? atoi(argv[1]) : 0);
    machine_head("Attention", t);
    printf(
        "| %-16s | type | %-10s | ceiling | forward ms | GF/s | of the ceiling | backward ms | GF/s | of the "
        "ceiling |\n",
        "shape", "kernel");
    printf("|---|---|---|---|---|---|---|---|---|---|\n");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (argc > 2 && !strstr(shapes[i].name, argv[2])) continue;
        bench(t, &shapes[i], DT_BF16, CPU_BEST);
        bench(t, &shapes[i], DT_F32, CPU_BEST);
        bench(t, &shapes[i], DT_F32, CPU_AVX2);
    }
    team_free(t);
    return 0;
}
