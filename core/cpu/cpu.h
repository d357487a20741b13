// The CPU backend: oneDNN for dense products (dense.h), own kernels for the rest (kernels.h, attention.h),
// the op's reference where neither has it.
#pragma once
#include "core/graph/backend.h"

// The team must outlive the backend. Free with backend_free.
backend *cpu_backend(struct team *team, error *err);

// Whether bf16 products are fast here; if not, f32 is.
bool cpu_has_bf16(void);
