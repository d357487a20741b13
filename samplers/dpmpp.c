// DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2).
//
// With lambda = log(alpha/sigma) and h = lambda' - lambda a step is
//
//   x' = sigma'/sigma x - alpha' (e^-h - 1) D,   D = x0 + h/(2 h_last) (x0 - x0_last)
//
// As alpha' e^-h = alpha sigma'/sigma, the factor of D is alpha' - alpha sigma'/sigma: finite at both ends,
// where lambda is not. The extrapolation keeps its limit after a step that left alpha = 0, where h_last is
// infinite and D = x0. The step to sigma' = 0 takes D = x0 too, as its h is infinite. The global error of n
// steps, of second order elsewhere, falls as n^-2 log n when they reach such an end.
#include "samplers/samplers.h"

#include <math.h>

// lambda(b) - lambda(a), both finite.
static double lambda_step(const schedule_point *a, const schedule_point *b) {
    return log(b->alpha * a->sigma / (b->sigma * a->alpha));
}

// h / (2 h_last) of the step from at[0], or 0 where there is no history to extrapolate.
static double extrapolation(const schedule_point *at, int step) {
    if (step == 0 || at[-1].alpha == 0 || at[1].sigma == 0) return 0;
    return lambda_step(at, at + 1) / (2 * lambda_step(at - 1, at));
}

status dpmpp_2m_sample(const sampler_env *env, const schedule_steps *steps, double eta, latent *x,
                       error *err) {
    (void)eta; // an ODE solver
    latent *x0 = env->scratch[0], *x0_last = env->scratch[1];
    for (int i = 0; i < steps->n; i++) {
        const schedule_point *at = &steps->at[i];
        status st = env->denoise(env->arg, x, at, i, x0, err);
        if (st) return st;
        double k = at[1].sigma / at->sigma, c = at[1].alpha - at->alpha * k, w = extrapolation(at, i);
        st = env->combine(env->arg, x, w != 0 ? 3 : 2, (double[]){k, c * (1 + w), -c * w},
                          (const latent *[]){x, x0, x0_last}, err);
        if (st) return st;
        latent *swap = x0_last;
        x0_last = x0;
        x0 = swap;
    }
    return OK;
}
