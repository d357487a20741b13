#include "tests/bench/ceiling.h"

#include "core/base/clock.h"
#include "core/cpu/level.h"

#include <stdbool.h>

const char *ceiling_name(ceiling_kind k) {
    return (const char *[]){"AVX2 f32", "AVX-512 f32", "AVX-512 bf16"}[k];
}

ceiling_kind ceiling_of(dtype type) {
    if (type == DT_BF16) return CEILING_AVX512_BF16;
    return cpu_level_within(CPU_BEST) >= CPU_AVX512 ? CEILING_AVX512_F32 : CEILING_AVX2_F32;
}

#if defined(__x86_64__)
#include <immintrin.h>

enum { CHAINS = 12, TURNS = 20000 }; // enough independent sums to hide the latency of every known core

// Each loop keeps its sums in registers; the empty assembly makes the compiler believe that they are used.
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define USE(i) __asm__ volatile("" ::"v"(s##i));

__attribute__((target("avx2,fma"))) static void avx2_f32(void *arg, int64_t begin, int64_t end) {
    (void)arg;
    __m256 x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(0.001f);
#define START(i) __m256 s##i = _mm256_set1_ps(i);
#define STEP(i) s##i = _mm256_fmadd_ps(s##i, x, y);
    TWELVE(START)
    for (int64_t n = (end - begin) * TURNS; n > 0; n--) {
        TWELVE(STEP)
        TWELVE(USE)
    }
#undef START
#undef STEP
}

__attribute__((target("avx512f"))) static void avx512_f32(void *arg, int64_t begin, int64_t end) {
    (void)arg;
    __m512 x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(0.001f);
#define START(i) __m512 s##i = _mm512_set1_ps(i);
#define STEP(i) s##i = _mm512_fmadd_ps(s##i, x, y);
    TWELVE(START)
    for (int64_t n = (end - begin) * TURNS; n > 0; n--) {
        TWELVE(STEP)
        TWELVE(USE)
    }
#undef STEP
}

__attribute__((target("avx512f,avx512bf16"))) static void avx512_bf16(void *arg, int64_t begin, int64_t end) {
    (void)arg;
    __m512bh x = (__m512bh)_mm512_set1_epi16(0x3c00), y = x;
    __asm__ volatile("" : "+v"(x), "+v"(y));
#define STEP(i) s##i = _mm512_dpbf16_ps(s##i, x, y);
    TWELVE(START)
    for (int64_t n = (end - begin) * TURNS; n > 0; n--) {
        TWELVE(STEP)
        TWELVE(USE)
    }
#undef START
#undef STEP
}

double ceiling_measure(ceiling_kind k, team *t) {
    static void (*const loop[])(void *, int64_t, int64_t) = {avx2_f32, avx512_f32, avx512_bf16};
    static const double flops_a_step[] = {16, 32, 64};
    bool has[] = {__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
                  __builtin_cpu_supports("avx512f"), __builtin_cpu_supports("avx512bf16")};
    if (!has[k]) return 0;
    int64_t chunks = 32 * team_size(t);
    double start = clock_seconds();
    parallel_for(t, chunks, 1, loop[k], NULL);
    return (double)chunks * TURNS * CHAINS * flops_a_step[k] / (clock_seconds() - start) * 1e-9;
}

#else

double ceiling_measure(ceiling_kind k, team *t) {
    (void)k, (void)t;
    return 0;
}

#endif
