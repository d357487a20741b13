#include "samplers/schedule.h"
#include "core/base/mem.h"
#include "samplers/spacing.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { MAX_TRAIN_STEPS = 100000 };

// ---- the table ----

static double cosine_alpha_bar(double u) {
    double c = cos((u + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

// beta_i; `clip` bounds the cosine curve as its paper does, which keeps some signal in the last step. Without
// it the last beta is exactly 1: its ratio is below 1e-20.
static double beta(const schedule_config *c, int i, bool clip) {
    double T = c->train_steps, u = i / (T - 1);
    switch (c->betas) {
    case BETAS_LINEAR:
        return c->beta_start + (c->beta_end - c->beta_start) * u;
    case BETAS_SCALED_LINEAR: {
        double root = sqrt(c->beta_start) + (sqrt(c->beta_end) - sqrt(c->beta_start)) * u;
        return root * root;
    }
    case BETAS_COSINE:
        break;
    }
    double b = 1 - cosine_alpha_bar((i + 1) / T) / cosine_alpha_bar(i / T);
    return clip && b > 0.999 ? 0.999 : b;
}

// Rescales sqrt(alpha_bar) so that the first value stays and the last is 0 (arXiv 2305.08891, algorithm 1).
// The cosine curve, which ends at 0 already, is not changed.
static void rescale_to_zero_snr(double *alpha, int T) {
    double first = alpha[0], last = alpha[T - 1];
    for (int i = 1; i < T; i++) alpha[i] = (alpha[i] - last) * (first / (first - last));
    alpha[T - 1] = 0;
}

static void fill_table(schedule *s) {
    const schedule_config *c = &s->config;
    int T = c->train_steps;
    double alpha_bar = 1, last_clipped = 0;
    for (int i = 0; i < T; i++) {
        last_clipped = alpha_bar * (1 - beta(c, i, true));
        alpha_bar *= 1 - beta(c, i, !c->zero_snr);
        s->alpha[i] = sqrt(alpha_bar);
    }
    s->ratio_max = sqrt((1 - last_clipped) / last_clipped);
    if (c->zero_snr) rescale_to_zero_snr(s->alpha, T);
    for (int i = 0; i < T; i++) s->sigma[i] = sqrt(1 - s->alpha[i] * s->alpha[i]);
}

static status check_config(const schedule_config *c, error *err) {
    if (c->train_steps < 2 || c->train_steps > MAX_TRAIN_STEPS)
        return fail(err, ERR_DATA, "num_train_timesteps is %d, not in 2..%d", c->train_steps,
                    MAX_TRAIN_STEPS);
    if (c->betas != BETAS_COSINE && !(c->beta_start > 0 && c->beta_start < c->beta_end && c->beta_end < 1))
        return fail(err, ERR_DATA, "beta_start %g and beta_end %g do not satisfy 0 < start < end < 1",
                    c->beta_start, c->beta_end);
    if (c->steps_offset < 0 || c->steps_offset >= c->train_steps)
        return fail(err, ERR_DATA, "steps_offset is %d, not in 0..%d", c->steps_offset, c->train_steps - 1);
    return OK;
}

status schedule_init(schedule *s, const schedule_config *config, error *err) {
    *s = (schedule){.config = *config};
    status st = check_config(config, err);
    if (st) return st;
    size_t T = (size_t)config->train_steps;
    s->alpha = mem_calloc(2 * T, sizeof *s->alpha);
    if (!s->alpha) return fail(err, ERR_TEMP, "no memory for a schedule of %zu steps", T);
    s->sigma = s->alpha + T;
    fill_table(s);
    if (!(s->alpha[T - 2] > 0)) { // also keeps sigma/alpha finite everywhere but at zero SNR's last step
        schedule_free(s);
        return fail(err, ERR_DATA, "the betas leave no signal before the last of %zu timesteps", T);
    }
    return OK;
}

void schedule_free(schedule *s) {
    mem_free(s->alpha);
    s->alpha = s->sigma = NULL;
}

// ---- points between table entries ----

// The point whose alpha : sigma is a : b.
static schedule_point point_of_ratio(double t, double a, double b) {
    double length = hypot(a, b);
    return (schedule_point){t, a / length, b / length};
}

schedule_point schedule_at(const schedule *s, double t) {
    int i = (int)t;
    double w = t - i;
    if (w == 0) return (schedule_point){t, s->alpha[i], s->sigma[i]};
    double low = s->sigma[i] / s->alpha[i];
    if (s->alpha[i + 1] == 0) return point_of_ratio(t, (1 - w) / low, 1);
    return point_of_ratio(t, 1, (1 - w) * low + w * s->sigma[i + 1] / s->alpha[i + 1]);
}

// The timestep of sigma/alpha = r, by interpolation of log r (of 1/r where the table ends at zero SNR).
// Values outside the table give its ends.
static double timestep_of(const schedule *s, double r) {
    int low = 0, high = s->config.train_steps - 1; // sigma/alpha at low <= r < at high
    if (r * s->alpha[low] <= s->sigma[low]) return low;
    if (r * s->alpha[high] >= s->sigma[high]) return high;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (r * s->alpha[middle] >= s->sigma[middle])
            low = middle;
        else
            high = middle;
    }
    double r_low = s->sigma[low] / s->alpha[low];
    if (s->alpha[high] == 0) return low + 1 - r_low / r;
    return low + log(r / r_low) / log(s->sigma[high] / s->alpha[high] / r_low);
}

schedule_point schedule_of_ratio(const schedule *s, double r) {
    return point_of_ratio(timestep_of(s, r), 1, r);
}

// ---- the steps of a sampler ----

status schedule_steps_make(schedule_steps *steps, const schedule *s, int n, spacing how, step_grid grid,
                           bool to_one, error *err) {
    *steps = (schedule_steps){0};
    if (n < 1 || n > s->config.train_steps)
        return fail(err, ERR_USAGE, "%d steps asked, not in 1..%d", n, s->config.train_steps);
    if (!spacing_row_of(how)) return fail(err, ERR_INTERNAL, "no spacing chosen");
    steps->at = mem_calloc((size_t)n + 1, sizeof *steps->at);
    if (!steps->at) return fail(err, ERR_TEMP, "no memory for %d steps", n);
    steps->n = n;
    steps->how = how;
    steps->table = s;
    steps->at[n] = to_one ? (schedule_point){-1, 1, 0} : (schedule_point){-1, s->alpha[0], s->sigma[0]};
    status st = spacing_fill(steps, s, grid, err);
    steps->first = steps->at[0];
    if (st) schedule_steps_free(steps);
    return st;
}

void schedule_steps_tail(schedule_steps *steps, double strength) {
    int keep = (int)(steps->n * strength + 1e-9); // 0.29 · 100 means 29
    keep = keep < 1 ? 1 : keep > steps->n ? steps->n : keep;
    memmove(steps->at, steps->at + steps->n - keep, ((size_t)keep + 1) * sizeof *steps->at);
    steps->n = keep;
}

void schedule_steps_free(schedule_steps *steps) {
    mem_free(steps->at);
    *steps = (schedule_steps){0};
}
