// The arithmetic ceiling of this machine: multiply-adds on registers only. Every benchmark measures it in the
// same run, in turn with what it times, and prints shares of it: the same part runs at another clock from
// minute to minute, and machines differ by factors.
#pragma once
#include "core/base/dtype.h"
#include "core/base/threads.h"

typedef enum { CEILING_AVX2_F32, CEILING_AVX512_F32, CEILING_AVX512_BF16, CEILING_COUNT } ceiling_kind;

const char *ceiling_name(ceiling_kind k);

// GF/s (10⁹ multiply-adds × 2 a second) of the whole team over some 5 ms; take the best of several calls. 0
// where the CPU lacks the instructions.
double ceiling_measure(ceiling_kind k, team *t);

// The ceiling of arithmetic in F32 or BF16 here: of the widest registers. 0 GF/s where no loop runs.
ceiling_kind ceiling_of(dtype type);
