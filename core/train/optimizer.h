// AdamW with warm-up, cosine decay, clipping by the global norm and a moving average of the values.
#pragma once
#include "core/base/status.h"
#include "core/base/threads.h"
#include "core/train/params.h"

typedef struct {
    double lr, lr_end; // after warm-up, and at the last step
    double beta1, beta2, eps, weight_decay;
    double clip; // largest norm of all gradients together; 0: no clipping
    double ema;  // share of the moving average that a step keeps, in the long run
    int64_t warmup, steps;
} optimizer_config;

// Of step 0, 1, …: rises linearly over `warmup` steps, then falls along half a cosine from lr to lr_end.
double learning_rate(const optimizer_config *c, int64_t step);

// One update number `step` (from 0; `age` counts the updates before it since the moments were zero).
// gradient[i] belongs to params_at(p, i), NULL for zeros. All is summed in one order, whatever the number of
// threads. *norm is that of all gradients before clipping. A norm that is no number is ERR_DATA and changes
// nothing.
status optimizer_step(params *p, const float *const *gradient, const optimizer_config *c, int64_t step,
                      int64_t age, team *t, double *norm, error *err);
