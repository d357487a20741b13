// Restart (Xu et al., arXiv 2306.14878, alg. 1): Heun's method that goes back. Once sigma/alpha has fallen to
// T_MIN, noise is added as at T_MAX and the steps in between are done anew: K times, none for few steps.
#include "samplers/step.h"

#include <math.h>

static const double T_MIN = 0.1, T_MAX = 2;

// The first point at or below ratio r.
static int first_below(const schedule_steps *steps, double r) {
    int i = 0;
    while (i < steps->n && steps->at[i].sigma > r * steps->at[i].alpha) i++;
    return i;
}

static int times(int steps) { return steps < 20 ? 0 : steps < 36 ? 1 : 2; }

// Steps first .. last - 1.
static status walk(const sampler_env *env, const sampling *s, int first, int last, latent *x, error *err) {
    latent *x0 = env->scratch[0], *a = env->scratch[1], *b = env->scratch[2];
    for (int i = first; i < last; i++) {
        const schedule_point *at = &s->steps->at[i];
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        TRY(heun_step(env, s, i, at, x, x0, a, b, err));
    }
    return OK;
}

// From a point to a noisier one: y stays, noise of r'² - r² is added.
static status go_back(const sampler_env *env, const sampling *s, const schedule_point *from,
                      const schedule_point *to, latent *x, error *err) {
    mix m = {0};
    double k = to->alpha / from->alpha;
    mix_add(&m, k, x);
    double added = sqrt(fmax(0, to->sigma * to->sigma - pow(k * from->sigma, 2)));
    TRY(mix_add_noise(env, &m, added * s->tune.s_noise, from, to, env->scratch[0], err));
    return mix_into(env, &m, x, err);
}

status restart_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    const schedule_steps *steps = s->steps;
    int high = first_below(steps, T_MAX), low = first_below(steps, T_MIN);
    if (low == steps->n) low--; // the last point with noise in it
    TRY(walk(env, s, 0, low, x, err));
    for (int k = 0; k < times(steps->n) && high < low; k++) {
        TRY(go_back(env, s, &steps->at[low], &steps->at[high], x, err));
        TRY(walk(env, s, high, low, x, err));
    }
    return walk(env, s, low, steps->n, x, err);
}
