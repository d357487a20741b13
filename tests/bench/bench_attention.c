// Attention as a share of this machine's own multiply-add ceiling, for the shapes of the models.
//   bench_attention [threads [filter]]
// Each round measures ceiling, forward and backward in turn; the best of the rounds is printed.
#include "core/base/mem.h"
#include "core/cpu/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

// One thread is timed in processor time, which a busy machine does not spoil.
static double now(const team *t) {
    struct timespec at;
    clock_gettime(team_size(t) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

// ---- ceiling: twelve independent accumulators, registers only ----

enum { CEILING_LOOPS = 1000000, ACCUMULATORS = 12 };

#ifdef __x86_64__
#define CEILING(name, isa, vec, zero, fma)                                                                   \
    __attribute__((target(isa))) static void name(void) {                                                    \
        vec a[ACCUMULATORS], x = zero, y = zero;                                                             \
        for (int i = 0; i < ACCUMULATORS; i++) a[i] = zero;                                                  \
        for (int n = 0; n < CEILING_LOOPS; n++) {                                                            \
            _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) a[i] = fma;                      \
            __asm__ volatile("" : "+v"(a[0]), "+v"(x), "+v"(y));                                             \
        }                                                                                                    \
        for (int i = 0; i < ACCUMULATORS; i++) __asm__ volatile("" ::"v"(a[i]));                             \
    }
CEILING(fma_avx2, "avx2,fma", __m256, _mm256_setzero_ps(), _mm256_fmadd_ps(x, y, a[i]))
CEILING(fma_avx512, "avx512f", __m512, _mm512_setzero_ps(), _mm512_fmadd_ps(x, y, a[i]))
CEILING(fma_avx512bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
        _mm512_dpbf16_ps(a[i], (__m512bh)x, (__m512bh)y))
#endif
typedef float vec4 __attribute__((vector_size(16)));
static void fma_portable(void) {
    vec4 a[ACCUMULATORS] = {0}, x = {0}, y = {0};
    for (int n = 0; n < CEILING_LOOPS; n++) {
        _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) a[i] = a[i] + x * y;
        __asm__ volatile("" : "+m"(x), "+m"(y));
    }
    for (int i = 0; i < ACCUMULATORS; i++) __asm__ volatile("" ::"m"(a[i]));
}

typedef struct {
    void (*run)(void);
    double flops; // of one loop
} ceiling;

static void run_ceiling(void *arg, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) ((const ceiling *)arg)->run();
}

static double ceiling_rate(team *t, attention_isa isa) {
    static const ceiling of[] = {[ATTENTION_PORTABLE] = {fma_portable, 2 * 4 * ACCUMULATORS},
#ifdef __x86_64__
                                 [ATTENTION_AVX2] = {fma_avx2, 2 * 8 * ACCUMULATORS},
                                 [ATTENTION_AVX512] = {fma_avx512, 2 * 16 * ACCUMULATORS},
                                 [ATTENTION_AVX512_BF16] = {fma_avx512bf16, 2 * 32 * ACCUMULATORS}
#endif
    };
    ceiling c = of[isa];
    double start = now(t);
    parallel_for(t, team_size(t), 1, run_ceiling, &c);
    return c.flops * CEILING_LOOPS * team_size(t) / (now(t) - start);
}

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

static void bench(team *t, const shape *s, dtype type, attention_isa limit) {
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
                        .isa = limit};
    attention_isa isa = attention_choose(type, limit);
    void *q = tensor(type, nq), *k = tensor(type, nk), *v = tensor(type, nk), *dout = tensor(type, nq);
    void *o = tensor(type, nq), *dq = tensor(type, nq), *dk = tensor(type, nk), *dv = tensor(type, nk);
    float *lse = mem_alloc((size_t)(s->B * s->heads * s->Tq) * 4);
    void *scratch = mem_alloc(attention_scratch_bytes(&d, team_size(t), false));
    void *scratch_back = mem_alloc(attention_scratch_bytes(&d, team_size(t), true));
    double top = 0, forward = INFINITY, backward = INFINITY, start = now(t);
    for (int round = 0; round < 5 || (round < 100 && now(t) - start < 0.6); round++) {
        top = fmax(top, ceiling_rate(t, isa));
        double t0 = now(t);
        attention_forward(t, &d, q, k, v, o, lse, scratch);
        double t1 = now(t);
        attention_backward(t, &d, q, k, v, o, lse, dout, dq, dk, dv, scratch_back);
        double t2 = now(t);
        forward = fmin(forward, t1 - t0);
        backward = fmin(backward, t2 - t1);
    }
    double flops = 4.0 * (double)(s->B * s->heads * s->Tq * s->Tk * s->D);
    static const char *const isa_name[] = {"", "portable", "avx2", "avx512", "avx512bf16"};
    printf("%-18s %-4s %-10s ceiling %4.0f GF/s | forward %8.3f ms %4.0f GF/s %3.0f %% | backward %8.3f ms "
           "%4.0f GF/s %3.0f %%\n",
           s->name, dtype_name(type), isa_name[isa], top / 1e9, forward * 1e3, flops / forward / 1e9,
           100 * flops / forward / top, backward * 1e3, 2.5 * flops / backward / 1e9,
           250 * flops / backward / top);
    fflush(stdout);
    void *all[] = {q, k, v, dout, o, dq, dk, dv, lse, scratch, scratch_back};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

int main(int argc, char **argv) {
    team *t = team_new(argc > 1 ? atoi(argv[1]) : 0);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (argc > 2 && !strstr(shapes[i].name, argv[2])) continue;
        bench(t, &shapes[i], DT_BF16, ATTENTION_BEST);
        bench(t, &shapes[i], DT_F32, ATTENTION_BEST);
        bench(t, &shapes[i], DT_F32, ATTENTION_AVX2);
    }
    team_free(t);
    return 0;
}
