#include "core/cpu/level.h"

#include <stdlib.h>
#include <string.h>

static cpu_level level_of_cpu(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CPU_BASE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return CPU_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? CPU_AVX512_BF16 : CPU_AVX512;
#else
    return CPU_BASE;
#endif
}

// oneDNN's names; those that are not here limit nothing that own kernels use.
static cpu_level level_of_environment(void) {
    static const struct {
        const char *name;
        cpu_level level;
    } ROWS[] = {{"SSE41", CPU_BASE},     {"AVX", CPU_BASE},           {"AVX2", CPU_AVX2},
                {"AVX2_VNNI", CPU_AVX2}, {"AVX512_CORE", CPU_AVX512}, {"AVX512_CORE_VNNI", CPU_AVX512}};
    const char *name = getenv("ONEDNN_MAX_CPU_ISA");
    for (size_t i = 0; name && i < sizeof ROWS / sizeof *ROWS; i++)
        if (!strcmp(name, ROWS[i].name)) return ROWS[i].level;
    return CPU_LEVELS;
}

static cpu_level lower(cpu_level a, cpu_level b) { return a < b ? a : b; }

cpu_level cpu_level_within(cpu_level limit) {
    cpu_level best = lower(level_of_cpu(), level_of_environment());
    return limit == CPU_BEST ? best : lower(limit, best);
}

const char *cpu_level_name(cpu_level level) {
    static const char *const NAMES[CPU_LEVELS] = {"best", "base", "avx2", "avx512", "avx512_bf16"};
    return NAMES[level];
}

bool cpu_has_vnni(void) {
#if defined(__x86_64__)
    const char *limit = getenv("ONEDNN_MAX_CPU_ISA");
    bool without = limit && !strcmp(limit, "AVX512_CORE");
    return !without && cpu_level_within(CPU_BEST) >= CPU_AVX512 && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}
