// Noise schedules as pairs (alpha, sigma): x_t = alpha_t x0 + sigma_t noise, alpha² + sigma² = 1, t = 0 ..
// T-1.
//
// Everything is double. Zero terminal SNR means alpha_{T-1} = 0 exactly: an ordinary point, no clamp. The
// ratio sigma/alpha, which other tools call "sigma", serves as a label for interpolation and Karras spacing
// only.
#pragma once
#include "core/base/status.h"

typedef enum { BETAS_LINEAR, BETAS_SCALED_LINEAR, BETAS_COSINE } beta_curve;

// What the network predicts of x_t = alpha x0 + sigma eps; v = alpha eps - sigma x0.
typedef enum { PREDICT_EPS, PREDICT_V, PREDICT_X0 } prediction;

// Which points n sampling steps visit; samplers/spacing.h has a row for each. SPACING_AUTO in a
// configuration: the sampler's own. In the order of calo_spacing.
typedef enum {
    SPACING_AUTO,
    SPACING_LEADING,
    SPACING_LINSPACE,
    SPACING_TRAILING,
    SPACING_KARRAS,
    SPACING_NORMAL,
    SPACING_SIMPLE,
    SPACING_SGM_UNIFORM,
    SPACING_DDIM_UNIFORM,
    SPACING_BETA,
    SPACING_EXPONENTIAL,
    SPACING_POLYEXPONENTIAL,
    SPACING_KL_OPTIMAL,
    SPACING_AYS,
    SPACING_AYS_SDXL,
    SPACING_LCM,
} spacing;

typedef struct {
    int train_steps; // T
    beta_curve betas;
    double beta_start, beta_end; // not read by BETAS_COSINE
    bool zero_snr;               // rescale to zero terminal SNR; the cosine curve just loses its clip
    prediction predicts;
    spacing spacing;
    int steps_offset;      // added to every timestep of SPACING_LEADING
    bool set_alpha_to_one; // the last step goes to alpha = 1, otherwise to the table's first entry
} schedule_config;

typedef struct {
    schedule_config config;
    double *alpha, *sigma; // (T), alpha falls
    double ratio_max;      // sigma/alpha at T-1 before the rescaling to zero SNR
} schedule;

// ERR_USAGE names a field out of range. Free with schedule_free, which accepts a zeroed schedule.
status schedule_init(schedule *s, const schedule_config *config, error *err);
void schedule_free(schedule *s);

typedef struct {
    double t; // what the network is told; may be fractional
    double alpha, sigma;
} schedule_point;

// 0 <= t <= T-1. Between table entries sigma/alpha is interpolated linearly, as sigma-space samplers do; in
// the last interval of a zero-SNR table, where it is infinite at one end, alpha/sigma is.
schedule_point schedule_at(const schedule *s, double t);
// The point where sigma/alpha = r, 0 < r < infinity. Its timestep is interpolated in log r (in 1/r where the
// table ends at zero SNR); values outside the table get its ends.
schedule_point schedule_of_ratio(const schedule *s, double r);

// Families of samplers read one spacing differently; pictures of other tools are repeated only by doing the
// same.
typedef enum {
    GRID_INTEGER,    // DDIM, DDPM
    GRID_FRACTIONAL, // Euler: linspace is not rounded
    GRID_OPEN        // DPM-Solver: leading and linspace place n + 1 points and drop the last
} step_grid;

// Step i leads from at[i] to at[i + 1]; at[n] is the clean end and has t = -1.
typedef struct {
    int n;
    spacing how;
    schedule_point *at;    // (n + 1)
    const schedule *table; // where they are from, for points in between; NULL: hand-made
    schedule_point first;  // of the whole list, which may have lost its beginning
} schedule_steps;

// ERR_USAGE when n steps do not fit into the T timesteps. The steps remember `s`.
status schedule_steps_make(schedule_steps *steps, const schedule *s, int n, spacing how, step_grid grid,
                           bool to_one, error *err);
void schedule_steps_free(schedule_steps *steps);

// Keeps the last floor(n · strength) steps, at least one, 0 <= strength <= 1: what a picture that is already
// there needs, with noise added for at[0]: x = alpha x0 + sigma noise. Samplers know no other start than
// at[0], so all of them honour it.
void schedule_steps_tail(schedule_steps *steps, double strength);
