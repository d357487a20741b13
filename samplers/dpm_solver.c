// DPM-Solver of orders 1 to 3 (Lu et al., arXiv 2206.00927, alg. 1 and 2), single steps in lambda = log(1/r),
// and what k-diffusion makes of it: "DPM fast", even steps with a given number of looks, and "DPM adaptive",
// steps as long as its orders 2 and 3 agree.
//
// Over a step of h = lambda' - lambda, with looks at r_i = r e^(-c_i h) and e_i = eps_i - eps there,
//
//   x' = first-order step - sigma' (w_1 e_1 + w_2 e_2)
//   order 2:   w_1 = (e^h - 1) / (2 c_1)
//   at r_2:    w_1 = c_2/c_1 phi(c_2 h),   phi(z) = (e^z - 1)/z - 1
//   order 3:   w_2 = phi(h) / c_2
//
// After a first-order step, as to r_1, eps_1 - eps = (x0 - x0_1) / r_1. What is added to x at r_2 comes off
// e_2 = (x0 - x0_2) / r_2 - c_2/c_1 phi(c_2 h) e_1. So all are sums of x and x0 and nothing divides by alpha.
//
// Only the ends of the list of points count. A step from alpha = 0, to the second point, and one to sigma =
// 0, from the last point with noise, are of first order.
#include "samplers/step.h"

#include <math.h>

typedef struct {
    const sampler_env *env;
    const sampling *s;
    latent *x0, *x0_1, *x0_2; // at the step's start, at r_1, at r_2
    latent *spare;            // x at r_1 and r_2; noise
    int step;                 // what looks are told to belong to
    int each;                 // by how much a look raises that
} solver;

static solver solver_of(const sampler_env *env, const sampling *s, int each) {
    latent *const *l = env->scratch;
    return (solver){env, s, l[0], l[1], l[2], l[3], 0, each};
}

static double ratio(const schedule_point *p) { return p->sigma / p->alpha; }

static schedule_point point(const solver *d, double r) { return step_point(d->s, 0, r); }

static status look(solver *d, const latent *x, const schedule_point *at, latent *x0, error *err) {
    status s = d->env->denoise(d->env->arg, x, at, d->step, x0, err);
    d->step += d->each;
    return s;
}

// ---- one step

typedef struct {
    const schedule_point *from, *to;
    double h, c_1;
} stride;

static stride stride_of(const schedule_point *from, const schedule_point *to, double c_1) {
    return (stride){from, to, lambda_step(from, to), c_1};
}

static const double C_2 = 2. / 3;

static double phi(double z) { return expm1(z) / z - 1; }

static double added_at_2(const stride *t) { return C_2 / t->c_1 * phi(C_2 * t->h); }

static schedule_point between(const solver *d, const stride *t, double c) {
    return point(d, ratio(t->from) * exp(-c * t->h));
}

// y = x at `to`, an end or between, by the looks that the weights name.
static status reach(const solver *d, const stride *t, const schedule_point *to, double w_1, double w_2,
                    const latent *x, latent *y, error *err) {
    transition first_order = transition_make(t->from, to, 1);
    double r = ratio(t->from), sigma = to->sigma;
    double a = sigma * (w_1 - w_2 * added_at_2(t)) * exp(t->c_1 * t->h) / r;
    double b = sigma * w_2 * exp(C_2 * t->h) / r;
    mix m = {0};
    mix_add(&m, first_order.k, x);
    mix_add(&m, first_order.c - a - b, d->x0);
    mix_add(&m, a, d->x0_1);
    mix_add(&m, b, d->x0_2);
    return mix_into(d->env, &m, y, err);
}

// Order - 1 looks on the way.
static status look_between(solver *d, const stride *t, int order, const latent *x, error *err) {
    if (order == 1) return OK;
    schedule_point at = between(d, t, t->c_1);
    TRY(reach(d, t, &at, 0, 0, x, d->spare, err));
    TRY(look(d, d->spare, &at, d->x0_1, err));
    if (order == 2) return OK;
    at = between(d, t, C_2);
    TRY(reach(d, t, &at, added_at_2(t), 0, x, d->spare, err));
    return look(d, d->spare, &at, d->x0_2, err);
}

static status arrive(const solver *d, const stride *t, int order, const latent *x, latent *y, error *err) {
    return reach(d, t, t->to, order == 2 ? expm1(t->h) / (2 * t->c_1) : 0, order == 3 ? phi(t->h) / C_2 : 0,
                 x, y, err);
}

// With fresh noise a step goes farther, though not beyond `end`, and comes back to `to`.
static schedule_point below(const solver *d, const schedule_point *from, const schedule_point *to,
                            const schedule_point *end) {
    double keep = keep_ancestral(step_ratio(from, to), d->s->tune.eta);
    return keep == 1 ? *to : point(d, fmax(ratio(to) * keep, ratio(end)));
}

static status come_back(const solver *d, const schedule_point *from, const schedule_point *down,
                        const schedule_point *to, const latent *y, latent *x, error *err) {
    mix m = {0};
    double up = to->alpha * sqrt(fmax(0, pow(ratio(to), 2) - pow(ratio(down), 2)));
    mix_add(&m, to->alpha / down->alpha, y);
    TRY(mix_add_noise(d->env, &m, up * d->s->tune.s_noise, from, to, d->x0_1, err));
    return mix_into(d->env, &m, x, err);
}

// ---- the ends, where lambda is infinite

static int first_inner(const schedule_steps *p) { return p->at[0].alpha == 0; }

static int last_inner(const schedule_steps *p) {
    int last = p->n - (p->at[p->n].sigma == 0);
    return last < first_inner(p) ? first_inner(p) : last;
}

static status first_order_step(solver *d, int i, latent *x, error *err) {
    const schedule_point *at = &d->s->steps->at[i];
    transition t = transition_make(at, at + 1, keep_ancestral(step_ratio(at, at + 1), d->s->tune.eta));
    d->step = i;
    TRY(look(d, x, at, d->x0, err));
    return transition_apply(d->env, d->s, &t, x, d->x0, d->spare, x, err);
}

// All of the list, `inner` being what solves from at[first] to at[last], with something in between.
static status from_end_to_end(solver *d,
                              status (*inner)(solver *d, int first, int last, latent *x, error *err),
                              latent *x, error *err) {
    const schedule_steps *p = d->s->steps;
    int first = first_inner(p), last = last_inner(p);
    if (first) TRY(first_order_step(d, 0, x, err));
    if (first < last && lambda_step(&p->at[first], &p->at[last]) > 0) TRY(inner(d, first, last, x, err));
    return last < p->n ? first_order_step(d, last, x, err) : OK;
}

// ---- DPM fast: as many looks as steps are asked for

// Of step i of m, for n looks in all: 3 as long as they last.
static int order_of(int i, int m, int n) {
    int rest = n - 3 * i;
    if (n % 3 == 0 && i >= m - 2) return m - i; // 2 and 1
    return rest < 3 ? rest : 3;
}

static status walk_evenly(solver *d, int first, int last, latent *x, error *err) {
    const schedule_point *start = &d->s->steps->at[first], *end = &d->s->steps->at[last];
    int n = last - first, m = n / 3 + 1;
    double way = lambda_step(start, end);
    schedule_point from = *start;
    for (int i = 0; i < m; i++) {
        schedule_point to = i == m - 1 ? *end : point(d, ratio(start) * exp(-way * (i + 1) / m));
        schedule_point down = below(d, &from, &to, end);
        int order = order_of(i, m, n);
        stride t = stride_of(&from, &down, order == 2 ? 1. / 2 : 1. / 3);
        TRY(look(d, x, &from, d->x0, err));
        TRY(look_between(d, &t, order, x, err));
        TRY(arrive(d, &t, order, x, d->spare, err));
        TRY(come_back(d, &from, &down, &to, d->spare, x, err));
        from = to;
    }
    return OK;
}

status dpm_fast_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    solver d = solver_of(env, s, 1);
    return from_end_to_end(&d, walk_evenly, x, err);
}

// ---- DPM adaptive: as many looks as it takes

// k-diffusion's. After MOST_LOOKS what is left goes in steps of a LATE_STEPS-th of the way.
static const double RTOL = 0.05, ATOL = 0.0078, FIRST_H = 0.05, ACCEPT = 0.81;
enum { MOST_LOOKS = 900, LATE_STEPS = 33 };

// The factor of h for an error of 1 where all is well: k-diffusion's controller, whose proportional and
// differential parts are 0 there.
static double next_factor(double difference, double eta) {
    double root = pow(1 / (difference + 1e-8), eta > 0 ? 1 / 1.5 : 1. / 3);
    return 1 + atan(root - 1);
}

typedef struct {
    latent *high, *low, *before; // orders 3 and 2 at the end of the step; order 2 at the end of the last one
    double before_alpha;
    double h;
    int looks;
} control;

// Whether the step is good enough; the next one's length.
static status judge(const solver *d, control *c, double alpha, bool *good, error *err) {
    double difference;
    const latent *before = c->before;
    TRY(d->env->combine(d->env->arg, c->before, 1, (double[]){alpha / c->before_alpha}, &before, err));
    c->before_alpha = alpha;
    TRY(d->env->difference(d->env->arg, c->low, c->high, c->before, ATOL * alpha, RTOL, &difference, err));
    double factor = next_factor(difference, d->s->tune.eta);
    *good = factor >= ACCEPT;
    c->h *= factor;
    return OK;
}

static status try_step(solver *d, control *c, const stride *t, const latent *x, bool *good, error *err) {
    TRY(look_between(d, t, 3, x, err));
    TRY(arrive(d, t, 2, x, c->low, err));
    TRY(arrive(d, t, 3, x, c->high, err));
    c->looks += 2;
    return judge(d, c, t->to->alpha, good, err);
}

static status walk_as_it_goes(solver *d, int first, int last, latent *x, error *err) {
    const schedule_point *end = &d->s->steps->at[last];
    schedule_point from = d->s->steps->at[first];
    control c = {d->spare, d->env->scratch[4], d->env->scratch[5], from.alpha, FIRST_H, 0};
    double way = lambda_step(&from, end), left;
    const latent *start = x;
    bool good = true;
    TRY(d->env->combine(d->env->arg, c.before, 1, (double[]){1}, &start, err));
    while ((left = lambda_step(&from, end)) > 1e-5) {
        bool late = c.looks >= MOST_LOOKS;
        if (late) c.h = way / LATE_STEPS;
        schedule_point to = c.h < left ? point(d, ratio(&from) * exp(-c.h)) : *end;
        schedule_point down = below(d, &from, &to, end);
        stride t = stride_of(&from, &down, 1. / 3);
        d->step = first + (int)((last - first) * (1 - left / way));
        c.looks += good;
        if (good) TRY(look(d, x, &from, d->x0, err)); // else it is known
        TRY(try_step(d, &c, &t, x, &good, err));
        good |= late;
        if (!good) continue;
        latent *low = c.low;
        c.low = c.before;
        c.before = low;
        TRY(come_back(d, &from, &down, &to, c.high, x, err));
        from = to;
    }
    return OK;
}

status dpm_adaptive_sample(const sampler_env *env, const sampling *s, latent *x, error *err) {
    solver d = solver_of(env, s, 0);
    return from_end_to_end(&d, walk_as_it_goes, x, err);
}
