// Samplers: from noise to a latent, each a function of (denoise, x, steps, noise) and a row of one table.
//
// They are written in (alpha, sigma) and data prediction and never divide by alpha, so the first step of a
// zero-SNR schedule is like any other. Latents are opaque: a sampler only forms linear combinations of them,
// so they may live on a device.
#pragma once
#include "samplers/schedule.h"

#include <stddef.h>

typedef struct latent latent;

enum { MAX_TERMS = 6, MAX_SCRATCH = 6 };

// What a sampler needs from its caller. Each callback's status is forwarded, which is how a caller cancels.
typedef struct {
    void *arg;
    // x0 = the clean latent that the model sees in x at `at`. `step` counts from 0; samplers that look more
    // than once on the way from at[step] to at[step + 1], or go back, tell a step again.
    status (*denoise)(void *arg, const latent *x, const schedule_point *at, int step, latent *x0, error *err);
    // y = sum of coef[i] · src[i], 1 <= n <= MAX_TERMS; y may be one of the sources.
    status (*combine)(void *arg, latent *y, int n, const double *coef, const latent *const *src, error *err);
    // y = unit normals for the way from one point to another: fresh ones, or what a path of noise has there.
    status (*noise)(void *arg, const schedule_point *from, const schedule_point *to, latent *y, error *err);
    // The root of the mean square of (a - b) / max(atol, rtol |a|, rtol |c|), for samplers that are
    // `adaptive`.
    status (*difference)(void *arg, const latent *a, const latent *b, const latent *c, double atol,
                         double rtol, double *root, error *err);
    latent *scratch[MAX_SCRATCH]; // of the size of x, contents free to use
} sampler_env;

// What a caller may tune.
typedef struct {
    double eta;     // share of fresh noise, 0 .. 1
    double s_noise; // factor of the fresh noise; 1
    // Karras et al., arXiv 2206.00364, algorithm 2: in steps from sigma/alpha between tmin and tmax, noise is
    // added first; `churn` in all, at most sqrt(2) - 1 of what is there. euler, heun and dpm2; 0: never.
    double s_churn, s_tmin, s_tmax;
} sampler_tuning;

typedef struct {
    const schedule_steps *steps;
    sampler_tuning tune;
} sampling;

// x: noise at steps->at[0] on entry, the latent at steps->at[n] on return.
typedef status sampler_fn(const sampler_env *env, const sampling *s, latent *x, error *err);

typedef struct {
    const char *name;    // "euler_a"
    const char *label;   // "Euler a", as picture metadata spells it
    const char *aliases; // other names, comma separated; may be NULL
    sampler_fn *run;
    // Of convergence on the ODE (eta = 0), as the tests measure it; 0: solves none. Above 1 it is not exact
    // from alpha = 0: there the first step is of first order, and so is one to sigma = 0 that has an end in
    // lambda.
    int order;
    double eta; // default share of fresh noise
    // How the sampler's reference implementations use a schedule:
    spacing spacing; // where the model's configuration names none
    step_grid grid;
    bool to_one;      // always ends at alpha = 1; otherwise as the configuration says
    bool sigma_space; // starts from sigma · noise instead of unit noise, except with leading spacing
    bool brownian;    // its noise is that of one Brownian motion over sigma/alpha
    bool adaptive;    // its steps follow from the picture, so pictures are drawn one by one
} sampler;

// Row i of the table, NULL behind the last.
const sampler *sampler_at(int i);
// By name, label or alias; case, spaces, "_" and "-" do not matter and "+" reads as "p". A name that ends in
// that of a spacing ("DPM++ 2M Karras") sets *how (which may be NULL and is else left alone). NULL when
// unknown.
const sampler *sampler_find(const char *name, spacing *how);

// The n steps of sampler s. how = SPACING_AUTO: the configuration's spacing, or else the sampler's own (which
// lcm and tcd take in any case). The steps remember `sched`, which outlives them.
status sampler_steps(const sampler *s, const schedule *sched, int n, spacing how, schedule_steps *steps,
                     error *err);
// What unit noise is multiplied with to be x at steps->at[0].
double sampler_start_scale(const sampler *s, const schedule_steps *steps);
sampler_tuning sampler_defaults(const sampler *s);

// The samplers themselves; see the table for their names.
sampler_fn ddim_sample, tcd_sample, lcm_sample;
sampler_fn heun_sample, dpm2_sample, dpmpp_2s_sample, dpmpp_sde_sample, restart_sample;
sampler_fn dpmpp_2m_sample, dpmpp_3m_sample, res_2_sample, unipc_2_sample, unipc_3_sample;
sampler_fn lms_sample, deis_sample, ipndm_sample, pndm_sample, gradient_estimation_sample;
sampler_fn er_sde_sample, sa_solver_sample, dpm_fast_sample, dpm_adaptive_sample;

// ---- latents in memory ----

// The same callbacks over float arrays of n values. `noise` may be NULL when the sampler draws none.
typedef struct {
    void *arg;
    status (*denoise)(void *arg, const float *x, const schedule_point *at, int step, float *x0, error *err);
    void (*noise)(void *arg, const schedule_point *from, const schedule_point *to, float *y, size_t n);
} host_model;

// Runs s in place on x; tune = NULL: the defaults. ERR_TEMP when memory is short, else what the callbacks
// return.
status sampler_run_host(const sampler *s, const schedule_steps *steps, const sampler_tuning *tune,
                        const host_model *model, float *x, size_t n, error *err);
// y = sum of coef[i] · src[i], summed in double; y may be one of the sources.
void combine_f32(float *y, int count, const double *coef, const float *const *src, size_t n);
