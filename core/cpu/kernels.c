#include "core/cpu/kernels.h"
#include "core/cpu/kernels_layout.h"

extern const cpu_kernels cpu_kernels_base;
#if defined(__x86_64__)
extern const cpu_kernels cpu_kernels_avx2, cpu_kernels_avx512, cpu_kernels_avx512_bf16;
#endif

const cpu_kernels *cpu_kernels_for(cpu_level limit) {
    static const cpu_kernels *const TABLES[CPU_LEVELS] = {
        [CPU_BASE] = &cpu_kernels_base,
#if defined(__x86_64__)
        [CPU_AVX2] = &cpu_kernels_avx2,
        [CPU_AVX512] = &cpu_kernels_avx512,
        [CPU_AVX512_BF16] = &cpu_kernels_avx512_bf16,
#endif
    };
    return TABLES[cpu_level_within(limit)];
}

size_t group_norm_scratch(int64_t B, int64_t S, int64_t C) { return (size_t)(B * norm_space(S, C)); }

size_t layer_norm_scratch(int64_t R, int64_t C) {
    return (size_t)((R + NORM_ROWS - 1) / NORM_ROWS * 2 * C) * sizeof(float);
}

size_t reduce_sum_scratch(const int64_t shape[4], unsigned reduced) {
    sum_shape s = sum_shape_of(shape, reduced);
    int64_t k0 = s.n[0], s0 = s.n[1], k1 = s.n[2], s1 = s.n[3], k2 = s.n[4];
    int64_t outer = k0 * sum_chunks(s0, k1 * k2) * k1 * k2;
    int64_t inner = s1 == 1 ? 0 : k0 * s0 * k1 * k2 * (sum_chunks(s1, k2) + 1);
    return (size_t)(outer > inner ? outer : inner) * sizeof(float);
}

size_t sum_squares_scratch(int64_t n) { return (size_t)sum_chunks(n, 1) * sizeof(float); }
