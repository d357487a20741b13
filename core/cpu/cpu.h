// The CPU backend: oneDNN for dense products (dense.h), own kernels for the rest (kernels.h, attention.h),
// the op's reference where neither has it.
#pragma once
#include "core/graph/backend.h"

// The team must outlive the backend. Free with backend_free.
backend *cpu_backend(struct team *team, error *err);

// The same, but 3×3 convolutions may be done with fewer multiplications (winograd.h): for drawing, where a
// relative error of 1e-5 in f32, or twice that of bf16, is nothing; not for comparing networks.
// And linears and convolutions with weights of 8 bits may be computed in integers (int8.h).
backend *cpu_backend_fast(struct team *team, error *err);
// The same, but their weights are as large as plain ones except where those are small beside the picture:
// slower by some hundredths, in much less memory.
backend *cpu_backend_lean(struct team *team, error *err);

// Whether bf16 products are fast here; if not, f32 is.
bool cpu_has_bf16(void);
