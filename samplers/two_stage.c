// Samplers that look twice a step, the second time at a point in between or at the end.
//
// With q = r'/r (toward r_down where fresh noise is added after the step) all of them are
//
//   x' = k x + c ((1 - w) x0 + w x0_mid) + s n
//
// Heun (Karras et al., arXiv 2206.00364, alg. 2), at the end: y' = y + (r' - r)(eps + eps')/2, and as
//   eps' = eps + (x0 - x0')/r', the factor of x0' - x0 is alpha' (r - r')/(2 r'): w = 1/(2q).
// DPM-Solver-2 (Lu et al., arXiv 2206.00927, alg. 1; "DPM2"), at r_mid = sqrt(r r'):
//   y' = y + (r' - r) eps_mid, w = r/r_mid = 1/sqrt(q).
// DPM-Solver++(2S) (Lu et al., arXiv 2211.01095, alg. 1, r = 1/2), at r_mid: w = 1.
// DPM-Solver++ SDE (the same with the reverse SDE's noise in both halves): w = 1.
//
// The weights grow without bound as q falls, so from alpha = 0 and to sigma' = 0, where q = 0, a step is the
// first-order one and looks once.
#include "samplers/step.h"

#include <math.h>

typedef enum { HEUN, DPM2, DPMPP_2S, DPMPP_SDE } method;

static status finish_step(const sampler_env *env, const sampling *s, const transition *t, double w, latent *x,
                          const latent *x0, const latent *x0_mid, latent *spare, error *err) {
    mix m = {0};
    mix_add(&m, t->k, x);
    mix_add(&m, t->c * (1 - w), x0);
    mix_add(&m, t->c * w, x0_mid);
    TRY(transition_add_noise(env, s, t, &m, spare, err));
    return mix_into(env, &m, x, err);
}

static status second_half(const sampler_env *env, const sampling *s, int i, const schedule_point *at,
                          method how, latent *x, const latent *x0, latent *a, latent *b, error *err) {
    const schedule_point *to = &s->steps->at[i + 1];
    double eta = how == HEUN ? 0 : s->tune.eta, q = step_ratio(at, to), keep = keep_ancestral(q, eta);
    double down = q * keep;
    transition whole = transition_make(at, to, keep);
    if (down == 0) return transition_apply(env, s, &whole, x, x0, a, x, err);
    double part = how == HEUN ? q : sqrt(how == DPMPP_SDE ? q : down);
    schedule_point mid = how == HEUN ? *to : step_point(s, i, at->sigma / at->alpha * part);
    transition first = transition_make(at, &mid, how == DPMPP_SDE ? keep_ancestral(part, eta) : 1);
    TRY(transition_apply(env, s, &first, x, x0, b, a, err));
    TRY(env->denoise(env->arg, a, &mid, i, b, err));
    double w = how == HEUN ? 1 / (2 * q) : how == DPM2 ? 1 / sqrt(down) : 1;
    return finish_step(env, s, &whole, w, x, x0, b, a, err);
}

status heun_step(const sampler_env *env, const sampling *s, int i, const schedule_point *at, latent *x,
                 const latent *x0, latent *a, latent *b, error *err) {
    return second_half(env, s, i, at, HEUN, x, x0, a, b, err);
}

static status run(const sampler_env *env, const sampling *s, method how, latent *x, error *err) {
    latent *x0 = env->scratch[0], *a = env->scratch[1], *b = env->scratch[2];
    for (int i = 0; i < s->steps->n; i++) {
        schedule_point at;
        TRY(step_start(env, s, i, x, a, &at, err));
        TRY(env->denoise(env->arg, x, &at, i, x0, err));
        TRY(second_half(env, s, i, &at, how, x, x0, a, b, err));
    }
    return OK;
}

status heun_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, HEUN, x, err);
}

status dpm2_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, DPM2, x, err);
}

status dpmpp_2s_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, DPMPP_2S, x, err);
}

status dpmpp_sde_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, DPMPP_SDE, x, err);
}
