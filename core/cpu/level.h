// Instruction sets that own kernels are compiled for, each a superset of the one before.
#pragma once
#include <stdbool.h>

typedef enum {
    CPU_BEST, // as a limit: none
    CPU_BASE, // what every CPU of the architecture has
    CPU_AVX2,
    CPU_AVX512,
    CPU_AVX512_BF16,
    CPU_LEVELS
} cpu_level;

// The best level of this CPU that is not above `limit`. ONEDNN_MAX_CPU_ISA is a limit as well, so that own
// kernels and oneDNN's agree on what the CPU has.
cpu_level cpu_level_within(cpu_level limit);
const char *cpu_level_name(cpu_level);
// AVX-512 with products of bytes.
bool cpu_has_vnni(void);
