// Samplers over float arrays: a latent handle is a pointer to its values.
#include "core/base/mem.h"
#include "samplers/samplers.h"

#include <math.h>
#include <stdint.h>

typedef struct {
    const host_model *model;
    size_t n; // values of a latent
} host;

void combine_f32(float *y, int count, const double *coef, const float *const *src, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < count; k++) sum += coef[k] * src[k][i];
        y[i] = (float)sum;
    }
}

static status host_denoise(void *arg, const latent *x, const schedule_point *at, int step, latent *x0,
                           error *err) {
    const host *h = arg;
    return h->model->denoise(h->model->arg, (const float *)x, at, step, (float *)x0, err);
}

static status host_combine(void *arg, latent *y, int count, const double *coef, const latent *const *src,
                           error *err) {
    (void)err;
    const float *values[MAX_TERMS];
    for (int k = 0; k < count; k++) values[k] = (const float *)src[k];
    combine_f32((float *)y, count, coef, values, ((host *)arg)->n);
    return OK;
}

static status host_noise(void *arg, const schedule_point *from, const schedule_point *to, latent *y,
                         error *err) {
    const host *h = arg;
    if (!h->model->noise) return fail(err, ERR_INTERNAL, "a sampler that draws noise has no noise source");
    h->model->noise(h->model->arg, from, to, (float *)y, h->n);
    return OK;
}

static status host_difference(void *arg, const latent *a, const latent *b, const latent *c, double atol,
                              double rtol, double *root, error *err) {
    const float *x = (const float *)a, *y = (const float *)b, *z = (const float *)c;
    size_t n = ((const host *)arg)->n;
    double sum = 0;
    (void)err;
    for (size_t i = 0; i < n; i++) {
        double part = ((double)x[i] - y[i]) / fmax(atol, rtol * fmax(fabs(x[i]), fabs(z[i])));
        sum += part * part;
    }
    *root = sqrt(sum / (double)n);
    return OK;
}

status sampler_run_host(const sampler *s, const schedule_steps *steps, const sampler_tuning *tune,
                        const host_model *model, float *x, size_t n, error *err) {
    host h = {model, n};
    sampling run = {steps, tune ? *tune : sampler_defaults(s)};
    sampler_env env = {&h, host_denoise, host_combine, host_noise, host_difference, {0}};
    float *scratch = n <= SIZE_MAX / MAX_SCRATCH ? mem_calloc(n * MAX_SCRATCH, sizeof *scratch) : NULL;
    if (!scratch) return fail(err, ERR_TEMP, "no memory for latents of %zu values", n);
    for (size_t i = 0; i < MAX_SCRATCH; i++) env.scratch[i] = (latent *)(scratch + i * n);
    status st = s->run(&env, &run, (latent *)x, err);
    mem_free(scratch);
    return st;
}
