// Samplers of one look a step that remember nothing.
//
// DDIM (Song et al., arXiv 2010.02502, eq. 12) re-mixes the predicted x0 with the noise that x holds, of
// which a part s is drawn anew:
//
//   x' = alpha' x0 + sqrt(sigma'² - s²) eps + s n,   eps = (x - alpha x0) / sigma
//   s  = eta · sigma'/sigma · sqrt(1 - alpha²/alpha'²) = eta · sigma' sqrt(1 - q²)
//
// eta = 1 is the posterior of DDPM (Ho et al., arXiv 2006.11239, eq. 7): with beta = 1 - alpha²/alpha'²,
// s² = beta sigma'²/sigma², and the factor of x becomes alpha/alpha' · sigma'²/sigma², as there.
//
// Euler in y = x/alpha, r = sigma/alpha (Karras et al., arXiv 2206.00364, alg. 2) is y' = x0 + q (y - x0), so
// x' = alpha' x0 + sigma'/sigma (x - alpha x0): eta = 0. Its ancestral form steps down to r_down = r'²/r and
// adds noise of r_up = r' sqrt(1 - q²), which is eta = 1. The four differ in the steps they take by default.
//
// TCD (Zheng et al., arXiv 2402.19159, alg. 4) jumps to a cleaner time s = (1 - gamma) t', gamma being eta,
// and adds noise up to t': of the noise at t' a part r_s/r' is kept.
//
// LCM (Luo et al., arXiv 2310.04378, alg. 3) draws all noise anew, on top of its consistency function.
//
// All are exact from alpha = 0.
#include "samplers/step.h"

#include <math.h>

typedef double keep_fn(const sampling *s, const schedule_point *from, const schedule_point *to);

static double keep_ddim(const sampling *s, const schedule_point *from, const schedule_point *to) {
    return keep_ancestral(step_ratio(from, to), s->tune.eta);
}

static double keep_tcd(const sampling *s, const schedule_point *from, const schedule_point *to) {
    (void)from;
    if (to->t < 0) return 1; // the end
    if (!s->steps->table) return 1 - s->tune.eta;
    schedule_point cleaner = schedule_at(s->steps->table, floor((1 - s->tune.eta) * to->t));
    return fmin(1, step_ratio(to, &cleaner));
}

static status run(const sampler_env *env, const sampling *s, keep_fn *keep, latent *x, error *err) {
    latent *x0 = env->scratch[0], *spare = env->scratch[1];
    for (int i = 0; i < s->steps->n; i++) {
        schedule_point at;
        const schedule_point *to = &s->steps->at[i + 1];
        TRY(step_start(env, s, i, x, spare, &at, err));
        TRY(env->denoise(env->arg, x, &at, i, x0, err));
        transition t = transition_make(&at, to, keep(s, &at, to));
        TRY(transition_apply(env, s, &t, x, x0, spare, x, err));
    }
    return OK;
}

status ddim_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, keep_ddim, x, err);
}

status tcd_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, keep_tcd, x, err);
}

// f(x, t) = c_skip x + c_out x0 is x at t = 0; ten times the timestep, sigma_data = 0.5.
status lcm_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    latent *x0 = env->scratch[0], *spare = env->scratch[1];
    for (int i = 0; i < s->steps->n; i++) {
        const schedule_point *at = &s->steps->at[i];
        double tau = 10 * at->t, skip = 0.25 / (tau * tau + 0.25), out = tau / sqrt(tau * tau + 0.25);
        mix m = {0};
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        mix_add(&m, at[1].alpha * skip, x);
        mix_add(&m, at[1].alpha * out, x0);
        TRY(mix_add_noise(env, &m, at[1].sigma * s->tune.s_noise, at, at + 1, spare, err));
        TRY(mix_into(env, &m, x, err));
    }
    return OK;
}
