#include "samplers/spacing.h"
#include "samplers/names.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

// ---- timesteps

// a/b rounded half to even, a >= 0, b > 0.
static int64_t round_ratio(int64_t a, int64_t b) {
    int64_t q = a / b, twice = 2 * (a % b);
    return q + (twice > b || (twice == b && q % 2));
}

// From an index each: the sum of a float step misses ties and may add a point.

static double leading(const schedule *s, int i, int n, step_grid grid) {
    int points = n + (grid == GRID_OPEN);
    return (points - 1 - i) * (s->config.train_steps / points) + s->config.steps_offset;
}

static double trailing(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    return (double)(round_ratio((int64_t)s->config.train_steps * (n - i), n) - 1);
}

// Point i of `points` from T-1 to 0, rounded so that ties fall as in numpy.
static double even(const schedule *s, int i, int points) {
    double last = s->config.train_steps - 1;
    return i == 0 ? last : (points - 1 - i) * (last / (points - 1));
}

static double linspace(const schedule *s, int i, int n, step_grid grid) {
    double t = even(s, i, n + (grid == GRID_OPEN));
    return grid == GRID_FRACTIONAL ? t : nearbyint(t);
}

static double normal(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    return even(s, i, n);
}

static double sgm_uniform(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    return even(s, i, n + 1);
}

static double simple(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    int64_t T = s->config.train_steps;
    return (double)(T - 1 - i * T / n);
}

static double ddim_uniform(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    return (n - 1 - i) * (s->config.train_steps / n) + 1;
}

// The share of a Beta(b, b) variable below x <= 1/2, times B(b, b): ∫_0^x u^(b-1) (1-u)^(b-1) du.
static double beta_below(double x, double b) {
    double term = pow(x, b), sum = 0;
    for (int k = 0; k < 64; k++) {
        sum += term / (b + k);
        term *= x * (k + 1 - b) / (k + 1);
    }
    return sum;
}

// The quantile u of Beta(b, b), by bisection.
static double beta_quantile(double u, double b) {
    double half = beta_below(0.5, b), low = 0, high = 0.5;
    if (u > 0.5) return 1 - beta_quantile(1 - u, b);
    for (int k = 0; k < 60; k++) {
        double middle = (low + high) / 2;
        if (beta_below(middle, b) <= 2 * u * half) // so that u = 1/2 gives 1/2
            low = middle;
        else
            high = middle;
    }
    return high;
}

// Rounded, as where it comes from, unless so many steps would meet in one timestep.
static double beta(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    double t = beta_quantile(1 - (double)i / n, 0.6) * (s->config.train_steps - 1);
    return n <= s->config.train_steps / 20 ? nearbyint(t) : t;
}

// Steps of distillation k i - 1, i = 1 .. m, evenly chosen from the end.
static double lcm(const schedule *s, int i, int n, step_grid grid) {
    (void)grid;
    int64_t T = s->config.train_steps, m = n > 50 ? n : T < 50 ? T : 50;
    return (double)(T / m * (m - i * m / n) - 1);
}

// ---- ratios

// The part of the way that is left at point i of n.
static double left(int i, int n) { return n > 1 ? 1 - i / (double)(n - 1) : 1; }

static double ratio_min(const schedule *s) { return s->sigma[0] / s->alpha[0]; }

static double karras(const schedule *s, int i, int n) {
    const double rho = 7;
    double first = pow(s->ratio_max, 1 / rho), last = pow(ratio_min(s), 1 / rho);
    return pow(last + (first - last) * left(i, n), rho);
}

static double exponential(const schedule *s, int i, int n) {
    return ratio_min(s) * pow(s->ratio_max / ratio_min(s), left(i, n));
}

static double kl_optimal(const schedule *s, int i, int n) {
    double first = s->config.zero_snr ? M_PI / 2 : atan(s->ratio_max), last = atan(ratio_min(s));
    return tan(last + (first - last) * left(i, n));
}

// Of n + 1 points on an optimised curve, linear in log r between its 11, the last is dropped.
static double ays_of(const double *curve, int i, int n) {
    double at = 10.0 * i / n;
    int k = (int)at;
    return curve[k] * pow(curve[k + 1] / curve[k], at - k);
}

static double ays(const schedule *s, int i, int n) {
    static const double sd15[] = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396,
                                  0.963,  0.652, 0.399, 0.152, 0.029};
    (void)s;
    return ays_of(sd15, i, n);
}

static double ays_sdxl(const schedule *s, int i, int n) {
    static const double sdxl[] = {14.615, 6.315, 3.771, 2.181, 1.342, 0.862,
                                  0.555,  0.380, 0.234, 0.113, 0.029};
    (void)s;
    return ays_of(sdxl, i, n);
}

// ---- the table

static const spacing_row table[] = {
    // Lin et al., arXiv 2305.08891, table 2
    {SPACING_LEADING, "leading", NULL, NULL, leading, NULL},
    {SPACING_LINSPACE, "linspace", NULL, NULL, linspace, NULL},
    {SPACING_TRAILING, "trailing", NULL, NULL, trailing, NULL},
    // Karras et al., arXiv 2206.00364, eq. 5, rho = 7
    {SPACING_KARRAS, "karras", "Karras", NULL, NULL, karras},
    // k-diffusion: even from T-1 to 0, not rounded
    {SPACING_NORMAL, "normal", "Normal", "discrete, uniform", normal, NULL},
    // ComfyUI: every T/n-th from T-1, rounded up
    {SPACING_SIMPLE, "simple", "Simple", NULL, simple, NULL},
    // Stability's generative models: one point more than normal, the last one dropped
    {SPACING_SGM_UNIFORM, "sgm_uniform", "SGM Uniform", NULL, sgm_uniform, NULL},
    // DDIM's own: leading with an offset of 1
    {SPACING_DDIM_UNIFORM, "ddim_uniform", "DDIM", NULL, ddim_uniform, NULL},
    // Lee et al., arXiv 2407.12173: quantiles of Beta(0.6, 0.6)
    {SPACING_BETA, "beta", "Beta", NULL, beta, NULL},
    // even in log r
    {SPACING_EXPONENTIAL, "exponential", "Exponential", NULL, NULL, exponential},
    // k-diffusion, whose rho = 1 makes it the exponential one
    {SPACING_POLYEXPONENTIAL, "polyexponential", "Polyexponential", NULL, NULL, exponential},
    // Sabour et al., arXiv 2404.14507, section 4.1: even in atan r
    {SPACING_KL_OPTIMAL, "kl_optimal", "KL Optimal", NULL, NULL, kl_optimal},
    // the same, "Align Your Steps", optimised for SD 1.5 and for SDXL
    {SPACING_AYS, "ays", "Align Your Steps", "align_your_steps_sd15", NULL, ays},
    {SPACING_AYS_SDXL, "ays_sdxl", NULL, "ays_xl", NULL, ays_sdxl},
    // Luo et al., arXiv 2310.04378: of the 50 steps of distillation
    {SPACING_LCM, "lcm", NULL, NULL, lcm, NULL},
};

const spacing_row *spacing_at(int i) {
    return i >= 0 && i < (int)(sizeof table / sizeof *table) ? &table[i] : NULL;
}

const spacing_row *spacing_row_of(spacing how) {
    for (int i = 0; spacing_at(i); i++)
        if (table[i].how == how) return &table[i];
    return NULL;
}

const spacing_row *spacing_find(const char *name) {
    char plain[MAX_NAME];
    if (name_plain(name, plain) <= 0) return NULL;
    for (int i = 0; spacing_at(i); i++)
        if (name_listed(table[i].name, plain) || name_listed(table[i].label, plain) ||
            name_listed(table[i].aliases, plain))
            return &table[i];
    return NULL;
}

bool spacing_is_auto(const char *name) {
    char plain[MAX_NAME];
    return name_plain(name, plain) > 0 && name_listed("auto, automatic, default", plain);
}

status spacing_fill(schedule_steps *steps, const schedule *s, step_grid grid, error *err) {
    const spacing_row *row = spacing_row_of(steps->how);
    int n = steps->n, T = s->config.train_steps;
    for (int i = 0; i < n; i++) {
        schedule_point *p = &steps->at[i];
        if (row->ratio) {
            *p = i == 0 && s->config.zero_snr ? schedule_at(s, T - 1)
                                              : schedule_of_ratio(s, row->ratio(s, i, n));
            continue;
        }
        double t = row->timestep(s, i, n, grid);
        if (t < 0 || t > T - 1 || (i && t >= p[-1].t))
            return fail(err, ERR_USAGE,
                        "%d steps do not fit into %d timesteps with this spacing and offset %d", n, T,
                        s->config.steps_offset);
        *p = schedule_at(s, t);
    }
    return OK;
}
