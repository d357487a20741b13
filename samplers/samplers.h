// Samplers: from noise to a latent, each a function of (denoise, x, steps, noise) and a row of one table.
//
// They are written in (alpha, sigma) and data prediction and never divide by alpha, so the first step of a
// zero-SNR schedule is like any other. Latents are opaque: a sampler only forms linear combinations of them,
// so they may live on a device.
#pragma once
#include "samplers/schedule.h"

#include <stddef.h>

typedef struct latent latent;

// What a sampler needs from its caller. Each callback's status is forwarded, which is how a caller cancels.
typedef struct {
    void *arg;
    // x0 = the clean latent that the model sees in x at `at`. `step` counts from 0.
    status (*denoise)(void *arg, const latent *x, const schedule_point *at, int step, latent *x0, error *err);
    // y = sum of coef[i] · src[i], 1 <= n <= 3; y may be one of the sources.
    status (*combine)(void *arg, latent *y, int n, const double *coef, const latent *const *src, error *err);
    // y = fresh unit normals
    status (*noise)(void *arg, latent *y, error *err);
    latent *scratch[2]; // of the size of x, contents free to use
} sampler_env;

// x: noise at steps->at[0] on entry, the latent at steps->at[n] on return. eta: share of fresh noise, 0 .. 1.
typedef status sampler_fn(const sampler_env *env, const schedule_steps *steps, double eta, latent *x,
                          error *err);

typedef struct {
    const char *name;    // "euler_a"
    const char *label;   // "Euler a", as picture metadata spells it
    const char *aliases; // other names, comma separated
    sampler_fn *run;
    double eta; // default share of fresh noise
    // How the sampler's reference implementations use a schedule:
    spacing spacing; // where the model's configuration names none
    step_grid grid;
    bool to_one;      // always ends at alpha = 1; otherwise as the configuration says
    bool sigma_space; // starts from sigma · noise instead of unit noise, except with leading spacing
} sampler;

// Row i of the table, NULL behind the last.
const sampler *sampler_at(int i);
// By name, label or alias; case, spaces, "_" and "-" do not matter and "+" reads as "p". A name ending in
// "Karras" sets *how (which may be NULL and is else left alone). NULL when unknown.
const sampler *sampler_find(const char *name, spacing *how);

// The n steps of sampler s. how = SPACING_AUTO: the configuration's spacing, or else the sampler's own.
status sampler_steps(const sampler *s, const schedule *sched, int n, spacing how, schedule_steps *steps,
                     error *err);
// What unit noise is multiplied with to be x at steps->at[0].
double sampler_start_scale(const sampler *s, const schedule_steps *steps);

// The samplers themselves; see the table for their names.
sampler_fn ddim_sample, dpmpp_2m_sample;

// ---- latents in memory ----

// The same callbacks over float arrays of n values. `noise` may be NULL when the sampler runs with eta 0.
typedef struct {
    void *arg;
    status (*denoise)(void *arg, const float *x, const schedule_point *at, int step, float *x0, error *err);
    void (*noise)(void *arg, float *y, size_t n);
} host_model;

// Runs s in place on x. ERR_TEMP when memory is short, else what the callbacks return.
status sampler_run_host(const sampler *s, const schedule_steps *steps, double eta, const host_model *model,
                        float *x, size_t n, error *err);
// y = sum of coef[i] · src[i], summed in double; y may be one of the sources.
void combine_f32(float *y, int count, const double *coef, const float *const *src, size_t n);
