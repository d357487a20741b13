// Multistep methods for x0(lambda), lambda = log(alpha/sigma), which the ODE and its SDEs integrate against
// an exponential: over a step of h, with v counted from its start and eta times the SDE's noise,
//
//   x' = k x + c Σ_j b_j x0_j + s n,   Σ_j b_j p(v_j) = ∫_0^h e^((1+eta) v) p(v) dv / ∫_0^h e^((1+eta) v) dv
//
// for all polynomials p that the nodes v_j, where x0_j is known, can tell apart. The methods differ in how
// exactly they know the moments J_m of that mean:
//
// DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, alg. 2) and its SDE: h/2 for J_1.
// RES (Zhang et al., arXiv 2308.02157; "res_multistep") and 2M SDE Heun: J_1.
// DPM-Solver++(3M): J_1 and, as its authors' code has it, J_2 / 2: of second order all the same.
// UniPC (Zhao et al., arXiv 2302.04867, B_2): all of them, but h/2 with two nodes. Its corrector repeats the
// last step with x0 at its end as one more node, at no cost. Before sigma' = 0 its order falls by one a step.
// SA-Solver (Xue et al., arXiv 2309.05019, alg. 1) of two nodes: the same for its SDE, whose tau² is our eta,
// and the corrector's step has the noise of the predictor's. Its authors weigh the second node's moment as if
// it were not against an exponential, J_0 J_1 = h²/2; at a distance of h³.
//
// lambda is infinite at both ends. From alpha = 0 and to sigma' = 0 the step takes the x0 at hand, which is
// of first order, and the history begins behind alpha = 0. The global error of n steps of a second-order
// method falls as n^-2 log n when they reach such an end.
#include "samplers/step.h"

#include <math.h>

// Of J_1; of all; of all but J_2, which is halved; of J_0 J_1, which is h²/2.
typedef enum { HALF, EXACT, HALF_SECOND, PLAIN } precision;

static void moments(double h, double eta, precision how, int n, double *J) {
    exponential_moments((1 + eta) * h, n, J);
    double all = J[0];
    for (int m = 0; m < n; m++) J[m] /= all * pow(1 + eta, m);
    if (how == HALF && n > 1) J[1] = h / 2;
    if (how == HALF_SECOND && n > 2) J[2] /= 2;
    if (how == PLAIN && n > 1) J[1] = h * h / 2 * (1 + eta) / -expm1(-(1 + eta) * h);
}

// x' of a step from `from` to `to` by the n newest nodes, into y. The noise is drawn, or is there already.
typedef enum { DRAWN, THERE } noise_state;

static status integrate(const sampler_env *env, const sampling *s, const history *h, int n,
                        const schedule_point *from, const schedule_point *to, precision how,
                        noise_state noise, const latent *x, latent *y, error *err) {
    double v[MAX_NODES], J[MAX_NODES], b[MAX_NODES] = {1};
    double eta = s->tune.eta, q = step_ratio(from, to);
    if (n > 1) {
        for (int j = 0; j < n; j++) v[j] = lambda_step(from, &h->at[j]);
        moments(lambda_step(from, to), eta, how, n, J);
        moment_weights(n, v, J, b);
    }
    transition t = transition_make(from, to, keep_sde(q, eta));
    mix m = {0};
    mix_add(&m, t.k, x);
    for (int j = 0; j < n; j++) mix_add(&m, t.c * b[j], h->value[j]);
    if (noise == THERE)
        mix_add(&m, t.s * s->tune.s_noise, env->scratch[MAX_NODES]);
    else
        TRY(transition_add_noise(env, s, &t, &m, env->scratch[MAX_NODES], err));
    return mix_into(env, &m, y, err);
}

static int least(int a, int b) { return a < b ? a : b; }

// Nodes for the step from the newest one.
static int nodes(const history *h, int order, const schedule_point *to) {
    return h->n == 0 || to->sigma == 0 ? 1 : least(h->n, order);
}

static status run(const sampler_env *env, const sampling *s, int order, precision how, latent *x,
                  error *err) {
    history h = history_over(env->scratch);
    for (int i = 0; i < s->steps->n; i++) {
        const schedule_point *at = &s->steps->at[i];
        latent *x0 = history_push(&h, order, at);
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        TRY(integrate(env, s, &h, nodes(&h, order, at + 1), at, at + 1, how, DRAWN, x, x, err));
    }
    return OK;
}

status dpmpp_2m_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, 2, HALF, x, err);
}

status res_2_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, 2, EXACT, x, err);
}

status dpmpp_3m_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return run(env, s, 3, HALF_SECOND, x, err);
}

// ---- with a corrector

typedef struct {
    int predictor, corrector; // most nodes
    precision (*precision)(int n);
    double (*eta)(const sampling *s, const schedule_point *at); // of the step from there; NULL: 0
    bool lowers; // the order, before any end; otherwise before sigma' = 0
} predictor_corrector;

static status copy(const sampler_env *env, const latent *x, latent *y, error *err) {
    return env->combine(env->arg, y, 1, (double[]){1}, &x, err);
}

// The corrector's step ends where the predictor's did and has its noise.
static status predict_and_correct(const sampler_env *env, const sampling *given, const predictor_corrector *p,
                                  latent *x, error *err) {
    sampling s = *given;
    history h = history_over(env->scratch);
    latent *noise = env->scratch[MAX_NODES],
           *before = env->scratch[MAX_NODES + 1]; // x at the last step's start
    bool draws = p->eta != NULL && s.tune.eta > 0;
    int n = 0; // nodes of the last step; 0: nothing to correct
    s.tune.eta = 0;
    for (int i = 0; i < s.steps->n; i++) {
        const schedule_point *at = &s.steps->at[i], *to = at + 1;
        latent *x0 = history_push(&h, p->predictor + 1, at);
        int all = least(n + 1, p->corrector);
        TRY(env->denoise(env->arg, x, at, i, x0, err));
        if (n > 0) TRY(integrate(env, &s, &h, all, at - 1, at, p->precision(all), THERE, before, x, err));
        TRY(copy(env, x, before, err));
        n = nodes(&h, p->predictor, to);
        if (p->lowers || s.steps->at[s.steps->n].sigma == 0) n = least(n, s.steps->n - i);
        if (draws) {
            s.tune.eta = p->eta(given, at);
            TRY(env->noise(env->arg, at, to, noise, err));
        }
        TRY(integrate(env, &s, &h, n, at, to, p->precision(n), THERE, x, x, err));
        if (h.n == 0) n = 0;
    }
    return OK;
}

// UniPC is the ODE's, whatever eta is.
static precision unipc_precision(int n) { return n == 2 ? HALF : EXACT; }

status unipc_2_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return predict_and_correct(env, s, &(predictor_corrector){2, 3, unipc_precision, NULL, false}, x, err);
}

status unipc_3_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return predict_and_correct(env, s, &(predictor_corrector){3, 4, unipc_precision, NULL, false}, x, err);
}

static precision sa_precision(int n) {
    (void)n;
    return PLAIN;
}

// Noise in the middle of the way, as its authors draw it for latents; noise is drawn, though not used,
// outside.
static double sa_eta(const sampling *s, const schedule_point *at) {
    double T = s->steps->table ? s->steps->table->config.train_steps : s->steps->n;
    return at->t >= 0.2 * T && at->t <= 0.8 * T ? s->tune.eta : 0;
}

status sa_solver_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    return predict_and_correct(env, s, &(predictor_corrector){2, 2, sa_precision, sa_eta, true}, x, err);
}
