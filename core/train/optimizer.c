#include "core/train/optimizer.h"

#include <math.h>

#include "core/base/mem.h"
#include "core/cpu/kernels.h"

double learning_rate(const optimizer_config *c, int64_t step) {
    if (step < c->warmup) return c->lr * (double)(step + 1) / (double)(c->warmup + 1);
    double falling = (double)(c->steps - c->warmup);
    double share = falling > 0 ? fmin(1, (double)(step - c->warmup) / falling) : 1;
    return c->lr_end + (c->lr - c->lr_end) * (0.5 + 0.5 * cos(M_PI * share));
}

static status global_norm(const params *p, const float *const *gradient, team *t, double *norm, error *err) {
    const cpu_kernels *k = cpu_kernels_for(CPU_BEST);
    size_t longest = 0;
    for (size_t i = 0; i < params_count(p); i++)
        if (params_at(p, i)->n > longest) longest = params_at(p, i)->n;
    void *scratch = mem_alloc(sum_squares_scratch((int64_t)longest));
    if (!scratch) return fail(err, ERR_TEMP, "out of memory");
    double sum = 0;
    for (size_t i = 0; i < params_count(p); i++)
        if (gradient[i]) sum += k->sum_squares(t, gradient[i], (int64_t)params_at(p, i)->n, scratch);
    mem_free(scratch);
    *norm = sqrt(sum);
    return OK;
}

// The name of the first tensor whose gradient is not finite.
static const char *first_bad(const params *p, const float *const *gradient) {
    for (size_t i = 0; i < params_count(p); i++)
        for (size_t j = 0; gradient[i] && j < params_at(p, i)->n; j++)
            if (!isfinite(gradient[i][j])) return params_at(p, i)->w.name;
    return "all of them together";
}

status optimizer_step(params *p, const float *const *gradient, const optimizer_config *c, int64_t step,
                      int64_t age, team *t, double *norm, error *err) {
    const cpu_kernels *k = cpu_kernels_for(CPU_BEST);
    status s = global_norm(p, gradient, t, norm, err);
    if (s) return s;
    if (!isfinite(*norm))
        return fail(err, ERR_DATA, "the gradient is not a number or too large (%s)", first_bad(p, gradient));
    adamw_step a = {
        .lr = (float)learning_rate(c, step),
        .b1 = (float)c->beta1,
        .b2 = (float)c->beta2,
        .eps = (float)c->eps,
        .wd = (float)c->weight_decay,
        .c1 = (float)(1 - pow(c->beta1, (double)(age + 1))),
        .c2 = (float)(1 - pow(c->beta2, (double)(age + 1))),
        .grad_scale = c->clip > 0 && *norm > c->clip ? (float)(c->clip / *norm) : 1,
    };
    // A young average follows faster: after n steps it looks back at most over n/10 or so of them.
    float keep = (float)fmin(c->ema, (1.0 + (double)age) / (10.0 + (double)age));
    for (size_t i = 0; i < params_count(p); i++) {
        param *q = params_at(p, i);
        if (gradient[i]) k->adamw(t, &a, q->w.value, q->m, q->v, gradient[i], (int64_t)q->n);
        k->ema(t, q->ema, q->w.value, (int64_t)q->n, keep);
    }
    return OK;
}
