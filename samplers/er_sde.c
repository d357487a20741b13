// ER-SDE-Solver-3 (Cui et al., arXiv 2309.06169, alg. 3) with the noise scale phi(r) = r g(r)^eta,
// g = e^(r^0.3) + 10, its eq. 20 at eta = 1; eta = 0 is the ODE. With S = ∫ phi(r')/phi over [r', r]
//
//   x' = k x + c x0 + alpha' (r' - r + S) D1 + alpha' ((r' - r)²/2 + S_1) D2 + s n
//
// S_1 having the factor (r - r') under its integral, D1 and D2 differences of x0 by r. From r = infinity the
// step is of first order, and differences begin behind it.
#include "samplers/step.h"

#include <math.h>

enum { POINTS = 200 }; // of the integrals

static double noise_scale(double r, double eta) { return r * pow(exp(pow(r, 0.3)) + 10, eta); }

typedef struct {
    double first, second; // factors of D1 and D2
} factors;

static factors integrals(double r, double to, double eta) {
    double step = (r - to) / POINTS, end = noise_scale(to, eta), d = to - r;
    factors f = {d, d * d / 2};
    for (int i = 0; i < POINTS; i++) {
        double at = to + (i + 0.5) * step, part = end / noise_scale(at, eta) * step;
        f.first += part;
        f.second += part * (at - r);
    }
    return f;
}

// Of phi(r')/phi(r) the part that is not r'/r.
static double keep(double r, double to, double eta) {
    return isinf(r) ? pow(0, eta) : noise_scale(to, eta) / to / (noise_scale(r, eta) / r);
}

// Adds the terms of D1 and D2 to the step from the newest x0.
static void add_differences(mix *m, const history *h, double to, const schedule_point *at, double eta) {
    double r[MAX_NODES];
    int n = h->n;
    if (n < 2) return;
    for (int j = 0; j < n; j++) r[j] = h->at[j].sigma / h->at[j].alpha;
    factors f = integrals(r[0], to, eta);
    double a = at->alpha * f.first / (r[0] - r[1]);
    double b = n < 3 ? 0 : at->alpha * f.second * 2 / (r[0] - r[2]);
    double newer = b / (r[0] - r[1]), older = n < 3 ? 0 : b / (r[1] - r[2]);
    m->coef[1] += a + newer; // of x0[0]
    mix_add(m, -a - newer - older, h->value[1]);
    mix_add(m, older, h->value[2]);
}

status er_sde_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    history h = history_over(env->scratch);
    double eta = s->tune.eta;
    for (int i = 0; i < s->steps->n; i++) {
        const schedule_point *at = &s->steps->at[i], *to = at + 1;
        latent *x0 = history_push(&h, 3, at);
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        double r = at->alpha > 0 ? at->sigma / at->alpha : INFINITY, next = to->sigma / to->alpha;
        transition t = transition_make(at, to, next > 0 ? keep(r, next, eta) : 1);
        mix m = {2, {t.k, t.c}, {x, x0}};
        if (next > 0) add_differences(&m, &h, next, to, eta);
        TRY(transition_add_noise(env, s, &t, &m, env->scratch[3], err));
        TRY(mix_into(env, &m, x, err));
    }
    return OK;
}
