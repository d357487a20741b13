// Linear multistep methods for the noise eps(r) = (x - alpha x0) / sigma: y = x/alpha moves by ∫ eps dr.
//
// With weights w_j of the last noises, which sum to r' - r,
//
//   x' = alpha' x0 + sigma' eps_0 + alpha' Σ_{j>0} w_j (eps_j - eps_0)
//
// LMS (k-diffusion): the integral of the polynomial in r through four noises (Adams-Bashforth).
// DEIS (Zhang and Chen, arXiv 2204.13902, rho-AB): of the polynomial in log r through three.
// iPNDM (the same, eq. 35): Adams-Bashforth weights of even steps, whatever the steps are.
// PNDM (Liu et al., arXiv 2202.09778, "PLMS"): the same, begun with a step of Heun's method, eq. 22.
// Gradient estimation (Permenter and Yuan, arXiv 2306.04848, alg. 2): 2 eps_0 - eps_1.
//
// eps(r) has no value to go on from at r = infinity: from alpha = 0 the step is the first-order one and the
// history begins behind it. So is a last step of DEIS to log r' = -infinity. And so is one that takes away
// nearly all noise of what still has much, as the last steps of lists do that end far from r = 0: what the
// noise was like does not tell what it will be, and pictures with guidance came out black or glaring.
#include "samplers/step.h"

#include <math.h>

// w[0 .. n-1] for the step from r[0] to `to`, r[j] being j steps earlier.
typedef void weights_fn(int n, const double *r, double to, double *w);

static void lms_weights(int n, const double *r, double to, double *w) {
    double v[MAX_NODES], moment[MAX_NODES];
    for (int j = 0; j < n; j++) {
        v[j] = r[j] - r[0];
        moment[j] = pow(to - r[0], j + 1) / (j + 1);
    }
    moment_weights(n, v, moment, w);
}

static void deis_weights(int n, const double *r, double to, double *w) {
    double v[MAX_NODES], moment[MAX_NODES];
    if (to == 0) n = 1;
    exponential_moments(log(to / r[0]), n, moment); // dr = r d(log r)
    for (int j = 0; j < n; j++) {
        v[j] = log(r[j] / r[0]);
        moment[j] *= r[0];
    }
    moment_weights(n, v, moment, w);
}

static void even_weights(int n, const double *r, double to, double *w) {
    static const double adams_bashforth[MAX_NODES][MAX_NODES] = {
        {1}, {3. / 2, -1. / 2}, {23. / 12, -16. / 12, 5. / 12}, {55. / 24, -59. / 24, 37. / 24, -9. / 24}};
    for (int j = 0; j < n; j++) w[j] = (to - r[0]) * adams_bashforth[n - 1][j];
}

static void gradient_weights(int n, const double *r, double to, double *w) {
    static const double gamma = 2;
    w[0] = (to - r[0]) * (n > 1 ? gamma : 1);
    if (n > 1) w[1] = (to - r[0]) * (1 - gamma);
}

typedef struct {
    weights_fn *weights;
    int order;
    bool heun_start;
} method;

// eps = (x - alpha x0) / sigma becomes the newest.
static status remember(const sampler_env *env, history *h, int most, const schedule_point *at,
                       const latent *x, const latent *x0, error *err) {
    latent *eps = history_push(h, most, at);
    mix m = {0};
    mix_add(&m, 1 / at->sigma, x);
    mix_add(&m, -at->alpha / at->sigma, x0);
    return mix_into(env, &m, eps, err);
}

static bool takes_nearly_all(double r, double to) { return r > 0.1 && to < r / 12; }

static status advance(const sampler_env *env, const method *how, const history *h, const schedule_point *to,
                      latent *x, const latent *x0, error *err) {
    double r[MAX_NODES], w[MAX_NODES] = {0}, rest = 0;
    for (int j = 0; j < h->n; j++) r[j] = h->at[j].sigma / h->at[j].alpha;
    double r_to = to->sigma / to->alpha;
    if (h->n > 1 && !takes_nearly_all(r[0], r_to)) how->weights(h->n, r, r_to, w);
    for (int j = 1; j < h->n; j++) rest += w[j];
    mix m = {0};
    mix_add(&m, to->alpha, x0);
    mix_add(&m, to->sigma - to->alpha * rest, h->value[0]);
    for (int j = 1; j < h->n; j++) mix_add(&m, to->alpha * w[j], h->value[j]);
    return mix_into(env, &m, x, err);
}

static status run(const sampler_env *env, const sampling *s, const method *how, latent *x, error *err) {
    latent *x0 = env->scratch[0], *spare = env->scratch[MAX_NODES + 1];
    history h = history_over(env->scratch + 1);
    for (int i = 0; i < s->steps->n; i++) {
        const schedule_point *at = &s->steps->at[i];
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        TRY(remember(env, &h, how->order, at, x, x0, err));
        if (how->heun_start && h.n == 1)
            TRY(heun_step(env, s, i, at, x, x0, spare, h.value[1], err));
        else
            TRY(advance(env, how, &h, at + 1, x, x0, err));
    }
    return OK;
}

status lms_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, &(method){lms_weights, 4, false}, x, err);
}

status deis_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, &(method){deis_weights, 3, false}, x, err);
}

status ipndm_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, &(method){even_weights, 4, false}, x, err);
}

status pndm_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, &(method){even_weights, 4, true}, x, err);
}

status gradient_estimation_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, &(method){gradient_weights, 2, false}, x, err);
}
