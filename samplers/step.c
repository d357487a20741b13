#include "samplers/step.h"

#include <math.h>

// ---- a linear combination, term by term

void mix_add(mix *m, double coef, const latent *src) {
    if (coef == 0) return;
    m->coef[m->n] = coef;
    m->src[m->n++] = src;
}

status mix_add_noise(const sampler_env *env, mix *m, double coef, const schedule_point *from,
                     const schedule_point *to, latent *spare, error *err) {
    if (coef == 0) return OK;
    mix_add(m, coef, spare);
    return env->noise(env->arg, from, to, spare, err);
}

status mix_into(const sampler_env *env, const mix *m, latent *y, error *err) {
    return env->combine(env->arg, y, m->n, m->coef, m->src, err);
}

// ---- the first-order step with fresh noise

transition transition_make(const schedule_point *from, const schedule_point *to, double keep) {
    double k = to->sigma / from->sigma * keep;
    return (transition){k, to->alpha - from->alpha * k, to->sigma * sqrt(fmax(0, 1 - keep * keep)), from, to};
}

status transition_add_noise(const sampler_env *env, const sampling *s, const transition *t, mix *m,
                            latent *spare, error *err) {
    return mix_add_noise(env, m, t->s * s->tune.s_noise, t->from, t->to, spare, err);
}

status transition_apply(const sampler_env *env, const sampling *s, const transition *t, const latent *x,
                        const latent *x0, latent *spare, latent *y, error *err) {
    mix m = {0};
    mix_add(&m, t->k, x);
    mix_add(&m, t->c, x0);
    TRY(transition_add_noise(env, s, t, &m, spare, err));
    return mix_into(env, &m, y, err);
}

double step_ratio(const schedule_point *from, const schedule_point *to) {
    return from->alpha * to->sigma / (from->sigma * to->alpha);
}

double keep_ancestral(double q, double eta) { return sqrt(fmax(0, 1 - eta * eta * (1 - q * q))); }

double keep_sde(double q, double eta) { return pow(q, eta); }

double lambda_step(const schedule_point *from, const schedule_point *to) {
    return -log(step_ratio(from, to));
}

// ---- what multistep methods remember

history history_over(latent *const *scratch) {
    history h = {0};
    for (int j = 0; j < MAX_NODES; j++) h.value[j] = scratch[j];
    return h;
}

latent *history_push(history *h, int most, const schedule_point *at) {
    latent *oldest = h->value[most - 1];
    for (int j = most - 1; j > 0; j--) {
        h->value[j] = h->value[j - 1];
        h->at[j] = h->at[j - 1];
    }
    h->at[0] = *at;
    h->n = at->alpha > 0 ? (h->n < most ? h->n + 1 : most) : 0;
    return h->value[0] = oldest;
}

// ---- points that are not in the list

schedule_point step_point(const sampling *s, int i, double r) {
    const schedule_steps *steps = s->steps;
    if (steps->table) return schedule_of_ratio(steps->table, r);
    return (schedule_point){steps->at[i].t, 1 / hypot(1, r), r / hypot(1, r)};
}

// gamma of algorithm 2.
static double churn_at(const sampling *s, const schedule_point *at) {
    const sampler_tuning *t = &s->tune;
    if (!(t->s_churn > 0) || at->alpha == 0) return 0;
    double r = at->sigma / at->alpha;
    return r < t->s_tmin || r > t->s_tmax ? 0 : fmin(t->s_churn / s->steps->n, sqrt(2) - 1);
}

status step_start(const sampler_env *env, const sampling *s, int i, latent *x, latent *spare,
                  schedule_point *at, error *err) {
    const schedule_point *from = &s->steps->at[i];
    double gamma = churn_at(s, from), r = from->sigma / from->alpha;
    *at = *from;
    if (gamma == 0) return OK;
    mix m = {0};
    *at = step_point(s, i, r * (1 + gamma));
    mix_add(&m, at->alpha / from->alpha, x);
    double added = at->alpha * r * sqrt(gamma * (2 + gamma));
    TRY(mix_add_noise(env, &m, added * s->tune.s_noise, from, at, spare, err));
    return mix_into(env, &m, x, err);
}
