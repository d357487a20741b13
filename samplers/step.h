// What the samplers' steps are made of.
//
// r = sigma/alpha is infinite at the start of a zero-SNR schedule and 0 at the clean end. Wherever it would
// be divided by, a step takes its limit instead, which is of first order: "q = 0" below.
#pragma once
#include "samplers/samplers.h"
#include "samplers/weights.h"

// ---- a linear combination, term by term

typedef struct {
    int n;
    double coef[MAX_TERMS];
    const latent *src[MAX_TERMS];
} mix;

void mix_add(mix *m, double coef, const latent *src); // a factor of 0 adds no term
// Draws unit noise for the way `from` .. `to` into `spare` and adds it, unless coef is 0.
status mix_add_noise(const sampler_env *env, mix *m, double coef, const schedule_point *from,
                     const schedule_point *to, latent *spare, error *err);
status mix_into(const sampler_env *env, const mix *m, latent *y, error *err);

// ---- the first-order step with fresh noise

// x' = k x + c x0 + s n. With keep = 1 this is the exact solution of the ODE for a constant x0,
//
//   x' = sigma'/sigma x + (alpha' - alpha sigma'/sigma) x0
//
// (DDIM; Euler in y = x/alpha, r). Of the noise in it a part keep <= 1 is kept and replaced by fresh noise of
// the same variance otherwise: s = sigma' sqrt(1 - keep²).
typedef struct {
    double k, c, s;
    const schedule_point *from, *to;
} transition;

transition transition_make(const schedule_point *from, const schedule_point *to, double keep);
// Adds the noise of t, whose size s_noise multiplies, drawn into `spare`.
status transition_add_noise(const sampler_env *env, const sampling *s, const transition *t, mix *m,
                            latent *spare, error *err);
// x' into y, which may be x; `spare` is for the noise.
status transition_apply(const sampler_env *env, const sampling *s, const transition *t, const latent *x,
                        const latent *x0, latent *spare, latent *y, error *err);

// q = r'/r, 0 from an infinite r and to r' = 0.
double step_ratio(const schedule_point *from, const schedule_point *to);
// Ancestral noise: r_up = eta r' sqrt(1 - q²) of r'² = r_up² + r_down². eta = 1 is DDPM's posterior.
double keep_ancestral(double q, double eta);
// Noise of the reverse SDE with eta times its strength (DPM-Solver++ SDE): e^(-eta h) = q^eta.
double keep_sde(double q, double eta);
// lambda(to) - lambda(from), lambda = log(alpha/sigma) = -log r, both finite.
double lambda_step(const schedule_point *from, const schedule_point *to);

// ---- what multistep methods remember

// A latent of each of the last steps and where it belongs, newest first.
typedef struct {
    latent *value[MAX_NODES];
    schedule_point at[MAX_NODES];
    int n; // usable: none at alpha = 0, from which nothing can be extrapolated, and those since
} history;

history history_over(latent *const *scratch); // MAX_NODES of them
// The newest place, to be filled with what belongs to `at`; of `most` the oldest is forgotten.
latent *history_push(history *h, int most, const schedule_point *at);

// ---- points that are not in the list

// The point of ratio r, 0 < r < infinity, on the way of step i.
schedule_point step_point(const sampling *s, int i, double r);
// *at = where step i starts; with s_churn that is a noisier point than at[i], and x is made noisier with it.
status step_start(const sampler_env *env, const sampling *s, int i, latent *x, latent *spare,
                  schedule_point *at, error *err);

// ---- Heun

// From `at` to at[i + 1], x0 being known: second order, or first where q = 0. Overwrites a and b.
status heun_step(const sampler_env *env, const sampling *s, int i, const schedule_point *at, latent *x,
                 const latent *x0, latent *a, latent *b, error *err);
