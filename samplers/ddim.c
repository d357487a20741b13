// DDIM (Song et al., arXiv 2010.02502, eq. 12), and with it DDPM, Euler and Euler ancestral.
//
// A step from (alpha, sigma) to (alpha', sigma') re-mixes the predicted x0 with the noise that x holds, of
// which a part s is drawn anew:
//
//   x' = alpha' x0 + sqrt(sigma'² - s²) eps + s n,   eps = (x - alpha x0) / sigma
//   s  = eta · sigma'/sigma · sqrt(1 - alpha²/alpha'²)
//
// eta = 1 is the posterior of DDPM (Ho et al., arXiv 2006.11239, eq. 7): with beta = 1 - alpha²/alpha'²,
// s² = beta sigma'²/sigma², and the factor of x becomes alpha/alpha' · sigma'²/sigma², as there.
//
// Euler in y = x/alpha, r = sigma/alpha (Karras et al., arXiv 2206.00364, alg. 2) is y' = x0 + r'/r (y - x0),
// so x' = alpha' x0 + sigma'/sigma (x - alpha x0): eta = 0. Its ancestral form steps down to r_down = r'²/r
// and adds noise of r_up = r' sqrt(1 - r'²/r²), which is eta = 1. The four differ in the steps they take by
// default.
#include "samplers/samplers.h"

#include <math.h>

static status ddim_step(const sampler_env *env, const schedule_point *from, const schedule_point *to,
                        double eta, latent *x, error *err) {
    latent *x0 = env->scratch[0], *noise = env->scratch[1];
    double kept = from->alpha / to->alpha; // to->alpha > 0: it is never below from->alpha, and not first
    double s = eta * to->sigma / from->sigma * sqrt(fmax(0, 1 - kept * kept));
    double k = sqrt(fmax(0, to->sigma * to->sigma - s * s)) / from->sigma;
    if (s > 0) {
        status st = env->noise(env->arg, noise, err);
        if (st) return st;
    }
    return env->combine(env->arg, x, s > 0 ? 3 : 2, (double[]){k, to->alpha - from->alpha * k, s},
                        (const latent *[]){x, x0, noise}, err);
}

status ddim_sample(const sampler_env *env, const schedule_steps *steps, double eta, latent *x, error *err) {
    for (int i = 0; i < steps->n; i++) {
        const schedule_point *at = &steps->at[i];
        status st = env->denoise(env->arg, x, at, i, env->scratch[0], err);
        if (!st) st = ddim_step(env, at, at + 1, eta, x, err);
        if (st) return st;
    }
    return OK;
}
