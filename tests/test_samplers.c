#include "core/base/rng.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"
#include "samplers/samplers.h"
#include "tests/golden/samplers.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(a) (int)(sizeof(a) / sizeof(a)[0])

static schedule sd_schedule(bool zero_snr, prediction predicts) {
    schedule s;
    schedule_config c = {.train_steps = 1000,
                         .betas = BETAS_SCALED_LINEAR,
                         .beta_start = 0.00085,
                         .beta_end = 0.012,
                         .zero_snr = zero_snr,
                         .predicts = predicts,
                         .steps_offset = 1};
    cr_assert_eq(schedule_init(&s, &c, NULL), OK);
    return s;
}

// ---- prediction and guidance ----

static void prediction_of(prediction p, double alpha, double sigma) {
    const double x0 = 0.8, eps = -1.7, x = alpha * x0 + sigma * eps;
    prediction_target t = prediction_target_of(p, alpha, sigma);
    double out = t.x0 * x0 + t.eps * eps;
    prediction_coef c;
    if (p != PREDICT_EPS || alpha > 0) {
        cr_assert_eq(prediction_x0(p, alpha, sigma, &c, NULL), OK);
        cr_assert_float_eq(c.x * x + c.out * out, x0, 1e-14 / fmax(alpha, 0.01));
    }
    if (p != PREDICT_X0 || sigma > 0) {
        cr_assert_eq(prediction_eps(p, alpha, sigma, &c, NULL), OK);
        cr_assert_float_eq(c.x * x + c.out * out, eps, 1e-14 / fmax(sigma, 0.01));
    }
}

Test(samplers, prediction_gives_back_x0_and_eps) {
    for (int p = PREDICT_EPS; p <= PREDICT_X0; p++)
        for (int i = 0; i <= 10; i++)
            prediction_of((prediction)p, i == 0 ? 0 : sin(i * M_PI / 20), i == 10 ? 0 : cos(i * M_PI / 20));
}

Test(samplers, prediction_at_alpha_zero_is_exact_or_refused) {
    prediction_coef c;
    error err = {0};
    cr_assert_eq(prediction_x0(PREDICT_V, 0, 1, &c, &err), OK);
    cr_assert(c.x == 0 && c.out == -1); // v = -x0
    cr_assert_eq(prediction_x0(PREDICT_X0, 0, 1, &c, &err), OK);
    cr_assert(c.x == 0 && c.out == 1);
    cr_assert_eq(prediction_x0(PREDICT_EPS, 0, 1, &c, &err), ERR_USAGE);
    cr_assert(strstr(err.text, "epsilon prediction") && strstr(err.text, "zero terminal SNR"));
    cr_assert_eq(prediction_eps(PREDICT_X0, 1, 0, &c, &err), ERR_USAGE);
}

static double std_of(const float *x, int n) {
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) mean += x[i] / (double)n;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return sqrt(squares / (n - 1));
}

Test(samplers, guidance_equals_the_reference) {
    enum { B = 2, M = 8 };
    float out[B * M];
    // Values are up to about 20: a few units of their last place in float32.
    guidance_apply(out, guidance_pos, guidance_neg, B, M, 7.5, 0);
    for (int i = 0; i < B * M; i++) cr_assert_float_eq(out[i], guidance_cfg[i], 5e-6);
    guidance_apply(out, guidance_pos, guidance_neg, B, M, 7.5, 0.7);
    for (int i = 0; i < B * M; i++) cr_assert_float_eq(out[i], guidance_rescaled[i], 5e-6);
    memcpy(out, guidance_pos, sizeof out); // in place, full rescale
    guidance_apply(out, out, guidance_neg, B, M, 7.5, 1);
    for (int b = 0; b < B; b++)
        cr_assert_float_eq(std_of(out + b * M, M), std_of(guidance_pos + b * M, M), 1e-6);
    float flat[2] = {3, 3};
    guidance_apply(flat, flat, flat, 1, 2, 7.5, 0.7); // no spread: nothing to rescale, no NaN
    cr_assert(flat[0] == 3 && flat[1] == 3);
}

// ---- the reference, step by step ----

typedef struct {
    prediction predicts;
    float *seen; // x at every denoise call, (STEPS, N)
} fake;

// The network of tests/parity/samplers.py, turned into x0.
static status fake_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                           error *err) {
    static const float a[N] = {0.9f, 0.7f, 1.1f, 0.5f};
    fake *f = arg;
    memcpy(f->seen + step * N, x, N * sizeof *x);
    prediction_coef c;
    status st = prediction_x0(f->predicts, at->alpha, at->sigma, &c, err);
    if (st) return st;
    for (int i = 0; i < N; i++)
        x0[i] =
            (float)(c.x * x[i] + c.out * tanh(a[i] * x[i] + 0.3 * x[(i + 1) % N] + 0.4 * at->t / 1000 - 0.2));
    return OK;
}

typedef struct {
    fake network;
    mt19937 noise;
} fake_world;

static status world_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                            error *err) {
    return fake_denoise(&((fake_world *)arg)->network, x, at, step, x0, err);
}

static void world_noise(void *arg, float *y, size_t n) { mt_normal(&((fake_world *)arg)->noise, y, n); }

// Largest difference between our trajectory and the reference's.
static double difference(int which) {
    float seen[(STEPS + 1) * N];
    double worst = 0;
    fake_world w = {{(prediction)trajectories[which].predicts, seen}, {.next = 0}};
    const sampler *s = sampler_find(trajectories[which].name, NULL);
    schedule sched = sd_schedule(trajectories[which].zero_snr, w.network.predicts);
    schedule_steps steps;
    cr_assert_eq(sampler_steps(s, &sched, STEPS, (spacing)trajectories[which].spacing, &steps, NULL), OK);
    float *x = seen + STEPS * N;
    mt_seed(&w.noise, 5);
    mt_normal(&w.noise, x, N);
    for (int i = 0; i < N; i++) x[i] *= (float)sampler_start_scale(s, &steps);
    mt_seed(&w.noise, 6);
    host_model model = {&w, world_denoise, world_noise};
    cr_assert_eq(sampler_run_host(s, &steps, trajectories[which].eta, &model, x, N, NULL), OK);
    for (int i = 0; i < STEPS * N; i++)
        worst = fmax(worst, fabs((double)seen[N + i] - trajectories[which].x[i]));
    schedule_steps_free(&steps);
    schedule_free(&sched);
    return worst;
}

// Its tables are float32: sqrt(alpha_bar) is off by up to 3e-7, 4.4e-6 of the smallest alpha, and x
// reaches 2. With zero SNR it is exact in DDIM and DDPM; in Euler it starts at alpha = 2^-12, not 0, which
// leaves up to 2^-12/alpha_1 |x| of the start in x (alpha_1 = 0.055), and 2M extrapolates from there, so is
// not comparable.
Test(samplers, trajectories_equal_the_reference) {
    for (int i = 0; i < LENGTH(trajectories); i++) {
        bool clamped = trajectories[i].zero_snr && !strncmp(trajectories[i].name, "euler", 5);
        cr_assert_leq(difference(i), clamped ? 0x1p-12 / 0.055 * 2 : 1e-5, "%s, case %d",
                      trajectories[i].name, i);
    }
}

// ---- Gaussian data N(m, S²), for which the best denoiser and the ODE's solution are known ----

typedef struct {
    double m, S;
    mt19937 noise;
    size_t n;
} gaussian;

static status gaussian_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                               error *err) {
    (void)step, (void)err;
    const gaussian *g = arg;
    double a = at->alpha, gain = g->S * g->S * a / (a * a * g->S * g->S + at->sigma * at->sigma);
    for (size_t i = 0; i < g->n; i++) x0[i] = (float)(g->m + gain * (x[i] - a * g->m));
    return OK;
}

static void gaussian_noise(void *arg, float *y, size_t n) { mt_normal(&((gaussian *)arg)->noise, y, n); }

static double spread(const gaussian *g, const schedule_point *p) { // std of x at p
    return hypot(p->alpha * g->S, p->sigma);
}

// The ODE keeps (x - alpha m) / std constant.
static double exact_end(const gaussian *g, const schedule_steps *steps, double x) {
    const schedule_point *p = steps->at, *q = steps->at + steps->n;
    return q->alpha * g->m + spread(g, q) / spread(g, p) * (x - p->alpha * g->m);
}

// n even steps in the angle atan(alpha/sigma).
static schedule_steps angle_steps(int n, double first, double last) {
    schedule_steps steps = {.n = n, .at = calloc((size_t)n + 1, sizeof *steps.at)};
    for (int i = 0; i <= n; i++) {
        double angle = first + (last - first) * i / n;
        steps.at[i] = (schedule_point){i, sin(angle), cos(angle)};
    }
    if (first == 0) steps.at[0] = (schedule_point){0, 0, 1};
    if (last == M_PI / 2) steps.at[n] = (schedule_point){n, 1, 0};
    return steps;
}

static double error_of(const sampler *s, int n, double first, double last) {
    gaussian g = {.m = 0.7, .S = 0.5, .n = 1};
    schedule_steps steps = angle_steps(n, first, last);
    float x = 1.5f;
    double want = exact_end(&g, &steps, x);
    host_model model = {&g, gaussian_denoise, NULL};
    cr_assert_eq(sampler_run_host(s, &steps, 0, &model, &x, 1, NULL), OK);
    schedule_steps_free(&steps);
    return fabs(x - want);
}

static double order_of(const char *name, int n, const double span[2]) {
    const sampler *s = sampler_find(name, NULL);
    return log2(error_of(s, n, span[0], span[1]) / error_of(s, 2 * n, span[0], span[1]));
}

// The error falls as n^-order, over spans with and without alpha = 0 and sigma = 0. 2M extrapolates in
// lambda, which is infinite at those ends: there n^-2 log n is left, whose slope from 128 to 256 steps
// is 1.81. Errors stay far above the 1e-7 of float32 latents.
Test(samplers, solvers_converge_with_their_order) {
    static const double inner[] = {0.2, 1.3};
    static const double to_ends[][2] = {{0, 1.3}, {0.2, M_PI / 2}, {0, M_PI / 2}};
    cr_assert_float_eq(order_of("ddim", 64, inner), 1, 0.05);
    cr_assert_float_eq(order_of("euler", 64, inner), 1, 0.05);
    cr_assert_geq(order_of("dpmpp_2m", 32, inner), 1.95);
    for (int k = 0; k < LENGTH(to_ends); k++) {
        cr_assert_float_eq(order_of("ddim", 64, to_ends[k]), 1, 0.05);
        cr_assert_float_eq(order_of("euler", 64, to_ends[k]), 1, 0.05);
        cr_assert_float_eq(order_of("dpmpp_2m", 128, to_ends[k]), 1.81, 0.2);
    }
}

// Mean and variance that 50 ancestral steps make of Gaussian noise, against the recursion of DDPM's
// posterior; and that recursion over all 1000 steps against the data.
typedef struct {
    double mean, var;
} moments;

// DDPM's posterior q(x' | x, x0) as its paper writes it, averaged over x.
static moments ddpm_moments(const gaussian *g, const schedule_steps *steps) {
    moments x = {0, 1};
    for (int i = 0; i < steps->n; i++) {
        double a = steps->at[i].alpha, next = steps->at[i + 1].alpha;
        double bar = a * a, bar_next = next * next, beta = 1 - bar / bar_next;
        double of_x0 = next * beta / (1 - bar), of_x = a / next * (1 - bar_next) / (1 - bar);
        double gain = g->S * g->S * a / (bar * g->S * g->S + 1 - bar);
        double slope = of_x + of_x0 * gain;
        x.mean = slope * x.mean + of_x0 * (g->m - gain * a * g->m);
        x.var = slope * slope * x.var + beta * (1 - bar_next) / (1 - bar);
    }
    return x;
}

static moments sampled_moments(gaussian *g, const sampler *s, const schedule_steps *steps) {
    float *x = malloc(g->n * sizeof *x);
    moments got = {0};
    host_model model = {g, gaussian_denoise, gaussian_noise};
    mt_seed(&g->noise, 11);
    mt_normal(&g->noise, x, g->n);
    cr_assert_eq(sampler_run_host(s, steps, s->eta, &model, x, g->n, NULL), OK);
    for (size_t i = 0; i < g->n; i++) got.mean += x[i] / (double)g->n;
    for (size_t i = 0; i < g->n; i++) got.var += pow(x[i] - got.mean, 2) / (double)(g->n - 1);
    free(x);
    return got;
}

static void stochastic(const char *name, bool zero_snr) {
    gaussian g = {.m = 0.7, .S = 0.5, .n = 20000};
    schedule sched = sd_schedule(zero_snr, PREDICT_V);
    const sampler *s = sampler_find(name, NULL);
    schedule_steps few, many;
    cr_assert_eq(sampler_steps(s, &sched, 50, SPACING_TRAILING, &few, NULL), OK);
    cr_assert_eq(sampler_steps(s, &sched, 1000, SPACING_TRAILING, &many, NULL), OK);
    moments got = sampled_moments(&g, s, &few), want = ddpm_moments(&g, &few),
            limit = ddpm_moments(&g, &many);
    double se = 5 / sqrt((double)g.n); // five standard errors
    cr_assert_float_eq(got.mean, want.mean, se * sqrt(want.var));
    cr_assert_float_eq(got.var, want.var, se * sqrt(2) * want.var);
    // Steps of finite length lose a little variance; a start with signal in it loses 0.2 % of the mean.
    cr_assert_float_eq(limit.mean, g.m, zero_snr ? 1e-9 : 0.002 * g.m);
    cr_assert_float_eq(limit.var, g.S * g.S, 0.03 * g.S * g.S);
    schedule_steps_free(&few), schedule_steps_free(&many);
    schedule_free(&sched);
}

Test(samplers, stochastic_samplers_have_the_right_moments) {
    stochastic("ddpm", false), stochastic("ddpm", true);
    stochastic("euler_a", false), stochastic("euler_a", true);
}

// From alpha = 0 every sampler reaches the ODE's end, within the first-order error of 30 steps.
Test(samplers, alpha_zero_is_an_ordinary_point) {
    schedule sched = sd_schedule(true, PREDICT_V);
    for (int i = 0; sampler_at(i); i++)
        for (int how = SPACING_LINSPACE; how <= SPACING_KARRAS; how++) { // leading does not start there
            schedule_steps steps;
            gaussian g = {.m = 0.7, .S = 0.5, .n = 16};
            float x[16];
            cr_assert_eq(sampler_steps(sampler_at(i), &sched, 30, (spacing)how, &steps, NULL), OK);
            cr_assert_eq(steps.at[0].alpha, 0.0);
            host_model model = {&g, gaussian_denoise, gaussian_noise};
            mt_seed(&g.noise, 3);
            mt_normal(&g.noise, x, 16);
            double want = exact_end(&g, &steps, x[0]);
            cr_assert_eq(sampler_run_host(sampler_at(i), &steps, 0, &model, x, 16, NULL), OK);
            cr_assert_float_eq(x[0], want, 0.01, "%s, spacing %d", sampler_at(i)->name, how);
            schedule_steps_free(&steps);
        }
    schedule_free(&sched);
}

// ---- the brightness law ----

// N×N pictures whose mean brightness has std s = 0.5: along the mean (a unit vector over pixels) the data has
// std s N beside unit noise. Spread of the sampled mean over that of the data, for DDIM.
static double brightness(int N_side, int n, spacing how, bool zero_snr) {
    gaussian g = {.m = 0, .S = 0.5 * N_side, .n = 1};
    schedule sched = sd_schedule(zero_snr, PREDICT_V);
    schedule_steps steps;
    const sampler *s = sampler_find("ddim", NULL);
    cr_assert_eq(sampler_steps(s, &sched, n, how, &steps, NULL), OK);
    float x = 1; // one standard deviation of the noise; the steps are linear in x
    host_model model = {&g, gaussian_denoise, NULL};
    cr_assert_eq(sampler_run_host(s, &steps, 0, &model, &x, 1, NULL), OK);
    schedule_steps_free(&steps);
    schedule_free(&sched);
    return x / g.S;
}

// Printed values have two digits.
Test(samplers, brightness_law) {
    static const struct {
        int N, n;
        double leading, trailing, zero_snr;
    } rows[] = {{16, 25, 0.80, 0.85, 0.91},   {16, 250, 0.87, 0.88, 0.99}, {32, 25, 0.58, 0.66, 0.86},
                {32, 250, 0.67, 0.67, 0.985}, {64, 25, 0.34, 0.41, 0.76},  {64, 250, 0.41, 0.42, 0.97}};
    for (int i = 0; i < LENGTH(rows); i++) {
        cr_assert_float_eq(brightness(rows[i].N, rows[i].n, SPACING_LEADING, false), rows[i].leading, 0.015);
        cr_assert_float_eq(brightness(rows[i].N, rows[i].n, SPACING_TRAILING, false), rows[i].trailing,
                           0.015);
        cr_assert_float_eq(brightness(rows[i].N, rows[i].n, SPACING_TRAILING, true), rows[i].zero_snr, 0.015);
    }
}

// The exact ODE's closed form: R = 1 / sqrt(1 + alpha_bar (s²N² - 1)), which is 1 with zero SNR.
Test(samplers, brightness_law_in_the_limit) {
    for (int N_side = 16; N_side <= 64; N_side *= 2) {
        double alpha_bar = 0.068265 * 0.068265, S2 = 0.25 * N_side * N_side;
        double R = 1 / sqrt(1 + alpha_bar * (S2 - 1)); // 1000 DDIM steps are within 1 % of the ODE
        cr_assert_float_eq(brightness(N_side, 1000, SPACING_TRAILING, false), R, 0.002);
        cr_assert_float_eq(brightness(N_side, 1000, SPACING_TRAILING, true), 1, 0.01);
    }
}

// ---- the table ----

Test(samplers, names_are_found_however_spelled) {
    static const char *const names[][2] = {{"ddim", "ddim"},
                                           {"DDIMScheduler", "ddim"},
                                           {"DDPM", "ddpm"},
                                           {"Euler", "euler"},
                                           {"k_euler", "euler"},
                                           {"EulerDiscreteScheduler", "euler"},
                                           {"Euler a", "euler_a"},
                                           {"euler_a", "euler_a"},
                                           {"euler-ancestral", "euler_a"},
                                           {"k_euler_a", "euler_a"},
                                           {"EulerAncestralDiscrete", "euler_a"},
                                           {"DPM++ 2M", "dpmpp_2m"},
                                           {"dpm++2m", "dpmpp_2m"},
                                           {"dpmpp2m", "dpmpp_2m"},
                                           {"DPMSolverMultistepScheduler", "dpmpp_2m"}};
    for (int i = 0; i < LENGTH(names); i++) {
        spacing how = SPACING_AUTO;
        const sampler *s = sampler_find(names[i][0], &how);
        cr_assert(s && !strcmp(s->name, names[i][1]), "%s", names[i][0]);
        cr_assert_eq(how, SPACING_AUTO);
    }
    spacing how = SPACING_AUTO;
    cr_assert_str_eq(sampler_find("DPM++ 2M Karras", &how)->name, "dpmpp_2m");
    cr_assert_eq(how, SPACING_KARRAS);
    static const char *const unknown[] = {
        "", " ", "karras", "DPM++ 3M", "eulerx", "euler,ddim", "Euler a Karras Karras"};
    for (int i = 0; i < LENGTH(unknown); i++)
        cr_assert_null(sampler_find(unknown[i], NULL), "%s", unknown[i]);
    char longest[200] = {0};
    memset(longest, 'e', sizeof longest - 1);
    cr_assert_null(sampler_find(longest, NULL));
}

// A name means one sampler.
Test(samplers, table_is_consistent) {
    for (int i = 0; sampler_at(i); i++) {
        cr_assert_eq(sampler_find(sampler_at(i)->name, NULL), sampler_at(i));
        cr_assert_eq(sampler_find(sampler_at(i)->label, NULL), sampler_at(i));
        cr_assert_neq(sampler_at(i)->spacing, SPACING_AUTO);
    }
    cr_assert_null(sampler_at(-1));
}

// The spacing asked for wins over the model's, which wins over the sampler's; only DDIM may end before alpha
// = 1.
Test(samplers, steps_follow_request_model_and_sampler) {
    schedule sched = sd_schedule(false, PREDICT_EPS);
    schedule_steps steps;
    const sampler *ddim = sampler_find("ddim", NULL), *euler = sampler_find("euler", NULL);
    cr_assert_eq(sampler_steps(euler, &sched, 10, SPACING_AUTO, &steps, NULL), OK);
    cr_assert(steps.how == SPACING_LINSPACE && steps.at[10].alpha == 1 && steps.at[10].sigma == 0);
    cr_assert_eq(sampler_start_scale(euler, &steps), sched.sigma[999]);
    cr_assert_eq(sampler_start_scale(ddim, &steps), 1.0);
    schedule_steps_free(&steps);
    sched.config.spacing = SPACING_TRAILING;
    cr_assert_eq(sampler_steps(ddim, &sched, 10, SPACING_AUTO, &steps, NULL), OK);
    cr_assert(steps.how == SPACING_TRAILING && steps.at[10].alpha == sched.alpha[0]);
    schedule_steps_free(&steps);
    cr_assert_eq(sampler_steps(euler, &sched, 10, SPACING_LEADING, &steps, NULL), OK);
    cr_assert_eq(steps.how, SPACING_LEADING);
    cr_assert_eq(sampler_start_scale(euler, &steps), 1.0);
    schedule_steps_free(&steps);
    schedule_free(&sched);
}

static status cancelling_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                                 error *err) {
    (void)x, (void)at;
    *x0 = 0;
    ++*(int *)arg;
    return step < 3 ? OK : fail(err, ERR_CANCELLED, "stopped");
}

Test(samplers, a_callback_stops_the_run) {
    schedule sched = sd_schedule(true, PREDICT_V);
    for (int i = 0; sampler_at(i); i++) {
        schedule_steps steps;
        int calls = 0;
        float x = 1;
        host_model model = {&calls, cancelling_denoise, NULL};
        cr_assert_eq(sampler_steps(sampler_at(i), &sched, 10, SPACING_AUTO, &steps, NULL), OK);
        cr_assert_eq(sampler_run_host(sampler_at(i), &steps, 0, &model, &x, 1, NULL), ERR_CANCELLED);
        cr_assert_eq(calls, 4);
        if (sampler_at(i)->eta > 0) // asked for noise, and there is none
            cr_assert_eq(sampler_run_host(sampler_at(i), &steps, 1, &model, &x, 1, NULL), ERR_INTERNAL);
        schedule_steps_free(&steps);
    }
    schedule_free(&sched);
}
