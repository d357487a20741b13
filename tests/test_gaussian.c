// Samplers on Gaussian data N(m, S²), for which the best denoiser is known: the orders of solvers, moments of
// what is drawn, every spacing, the brightness of pictures.
#include "core/base/rng.h"
#include "samplers/prediction.h"
#include "samplers/spacing.h"
#include "tests/sampling.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// The exact ODE keeps x - alpha m over its std.
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

static void gaussian_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y,
                           size_t n) {
    (void)from, (void)to;
    mt_normal(&((gaussian *)arg)->noise, y, n);
}

static double spread(const gaussian *g, const schedule_point *p) { // std of x at p
    return hypot(p->alpha * g->S, p->sigma);
}

// ---- exact moments
//
// On Gaussian data every sampler is affine in the noise. A latent that holds the factors of 1, of the start's
// unit normal and of each normal drawn on the way, in double, tells mean and standard deviation of the result
// without sampling, and no rounding hides a solver's order.

enum { NOISES = 1100, FACTORS = 2 + NOISES };

typedef struct {
    double m, S;         // the data
    prediction predicts; // what the network is asked for
    int drawn, calls;    // normals, and looks at the network
} affine_world;

static status affine_denoise(void *arg, const latent *x, const schedule_point *at, int step, latent *x0,
                             error *err) {
    (void)step;
    affine_world *w = arg;
    const double *from = (const double *)x;
    double *to = (double *)x0, a = at->alpha,
           gain = w->S * w->S * a / (a * a * w->S * w->S + at->sigma * at->sigma);
    prediction_target t = prediction_target_of(w->predicts, a, at->sigma);
    prediction_coef c;
    status st = prediction_x0(w->predicts, a, at->sigma, &c, err);
    if (st) return st;
    for (int i = 0; i < FACTORS; i++) {
        double clean = gain * from[i] + (i ? 0 : w->m - gain * a * w->m);
        to[i] = c.x * from[i] + c.out * (t.x0 * clean + t.eps * (from[i] - a * clean) / at->sigma);
    }
    w->calls++;
    return OK;
}

static status affine_combine(void *arg, latent *y, int n, const double *coef, const latent *const *src,
                             error *err) {
    (void)arg, (void)err;
    for (int i = 0; i < FACTORS; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++) sum += coef[k] * ((const double *)src[k])[i];
        ((double *)y)[i] = sum;
    }
    return OK;
}

static status affine_noise(void *arg, const schedule_point *from, const schedule_point *to, latent *y,
                           error *err) {
    (void)from, (void)to;
    affine_world *w = arg;
    if (w->drawn == NOISES) return fail(err, ERR_INTERNAL, "too many normals");
    memset(y, 0, FACTORS * sizeof(double));
    ((double *)y)[2 + w->drawn++] = 1;
    return OK;
}

// What adaptive samplers steer by: of Gaussian data one value of each factor would do as well.
static status affine_difference(void *arg, const latent *a, const latent *b, const latent *c, double atol,
                                double rtol, double *root, error *err) {
    double sum = 0;
    (void)arg, (void)err;
    for (int i = 0; i < 2; i++) {
        double x = ((const double *)a)[i], y = ((const double *)b)[i], z = ((const double *)c)[i];
        sum += pow((x - y) / fmax(atol, rtol * fmax(fabs(x), fabs(z))), 2);
    }
    *root = sqrt(sum / 2);
    return OK;
}

typedef struct {
    double mean, sd; // of the result, less those of the exact distribution there
} moment_errors;

// From x of the exact distribution at steps->at[0]. eta < 0: the sampler's own.
static moment_errors moments_of(const sampler *s, const schedule_steps *steps, double eta, affine_world *w) {
    double(*memory)[FACTORS] = calloc(MAX_SCRATCH + 1, sizeof *memory), *x = memory[MAX_SCRATCH],
    variance = 0;
    gaussian g = {.m = w->m, .S = w->S};
    sampler_env env = {w, affine_denoise, affine_combine, affine_noise, affine_difference, {0}};
    for (int i = 0; i < MAX_SCRATCH; i++) env.scratch[i] = (latent *)memory[i];
    sampling run = {steps, sampler_defaults(s)};
    if (eta >= 0) run.tune.eta = eta;
    w->drawn = w->calls = 0;
    x[0] = steps->at[0].alpha * w->m;
    x[1] = spread(&g, steps->at);
    error err = {0};
    cr_assert_eq(s->run(&env, &run, (latent *)x, &err), OK, "%s: %s", s->name, err.text);
    for (int i = 1; i < FACTORS; i++) variance += x[i] * x[i];
    const schedule_point *end = &steps->at[steps->n];
    moment_errors e = {x[0] - end->alpha * w->m, sqrt(variance) - spread(&g, end)};
    free(memory);
    return e;
}

// ---- orders

// n steps of the angle atan(alpha/sigma), with lengths that grow from the start as u^(power - 1).
static schedule_steps angle_steps(int n, double first, double last, double power) {
    schedule_steps steps = {.n = n, .at = calloc((size_t)n + 1, sizeof *steps.at)};
    for (int i = 0; i <= n; i++) {
        double angle = first + (last - first) * pow((double)i / n, power);
        steps.at[i] = (schedule_point){i, sin(angle), cos(angle)};
    }
    if (first == 0) steps.at[0] = (schedule_point){0, 0, 1};
    if (last == M_PI / 2) steps.at[n] = (schedule_point){n, 1, 0};
    return steps;
}

static double error_of(const sampler *s, double S, int n, double first, double last, double power) {
    affine_world w = {.m = 0.7, .S = S, .predicts = PREDICT_V};
    schedule_steps steps = angle_steps(n, first, last, power);
    double e = fabs(moments_of(s, &steps, 0, &w).sd);
    schedule_steps_free(&steps);
    return e;
}

static double order_of(const char *name, double S, double first, double last, double power) {
    const sampler *s = sampler_find(name, NULL);
    // Of three looks each but for two: dpm_fast then ends in steps of the same order.
    double coarse = error_of(s, S, 257, first, last, power), fine = error_of(s, S, 515, first, last, power);
    return log(coarse / fine) / log(515 / 257.);
}

// The error of the ODE falls as n^-order between inner points. Multistep methods begin with steps of lower
// order: these are made short (power 4), or they would be all that is seen. ipndm and pndm take even steps
// for granted, which leaves second order; so does the halved moment of dpmpp_3m_sde, and what er_sde calls
// its second derivative. S is chosen where the leading term is large beside the next. lcm solves no equation.
Test(gaussian, solvers_converge_with_their_order) {
    static const struct {
        const char *name;
        double S, power;
    } rows[] = {{"dpmpp_2m", 2, 4}, {"dpmpp_2m_sde", 2, 4}, {"ipndm", 2, 4}, {"deis", 0.8, 4},
                {"unipc", 2, 4},    {"unipc_3", 2, 4},      {"lms", 2, 4}};
    for (int i = 0; sampler_at(i); i++) {
        const sampler *s = sampler_at(i);
        double S = 0.8, power = 1;
        for (int k = 0; k < LENGTH(rows); k++)
            if (!strcmp(rows[k].name, s->name)) S = rows[k].S, power = rows[k].power;
        if (s->order)
            cr_assert_float_eq(order_of(s->name, S, 0.2, 1.3, power), s->order, 0.25, "%s", s->name);
    }
}

// Steps from alpha = 0 and to sigma = 0 are of first order where lambda or r is infinite. There are one or
// two of them, so an error of n^-2 log n is left of second order and more; the first-order ones are a hundred
// times farther off.
Test(gaussian, ends_cost_no_more_than_a_logarithm) {
    static const double spans[][2] = {{0, 1.3}, {0.2, M_PI / 2}, {0, M_PI / 2}};
    for (int i = 0; sampler_at(i); i++) {
        const char *name = sampler_at(i)->name;
        if (!sampler_at(i)->order) continue;
        for (int k = 0; k < LENGTH(spans); k++)
            for (int n = 64; n <= 512; n *= 2) {
                double most = sampler_at(i)->order == 1 ? 4. / n : 20 * log(n) / n / n;
                cr_assert_leq(error_of(sampler_at(i), 2, n, spans[k][0], spans[k][1], 1), most,
                              "%s, span %d, %d steps", name, k, n);
            }
    }
}

// Float latents, which host models are, lie within rounding of the doubles above: 100 steps of values up
// to 2.
Test(gaussian, floats_follow_doubles) {
    for (int i = 0; sampler_at(i); i++) {
        gaussian g = {.m = 0.7, .S = 0.5, .n = 1};
        affine_world w = {.m = 0.7, .S = 0.5, .predicts = PREDICT_V};
        if (sampler_at(i)->adaptive) continue; // steers by the values
        if (sampler_at(i)->eta > 0 && strcmp(sampler_at(i)->name, "dpmpp_2m_sde")) continue;
        schedule_steps steps = angle_steps(100, 0, M_PI / 2, 1);
        float x = 1;
        host_model model = {&g, gaussian_denoise, NULL};
        sampler_tuning tune = sampler_defaults(sampler_at(i));
        tune.eta = 0;
        cr_assert_eq(sampler_run_host(sampler_at(i), &steps, &tune, &model, &x, 1, NULL), OK);
        cr_assert_float_eq(x, 0.7 + 0.5 + moments_of(sampler_at(i), &steps, 0, &w).sd, 2e-5, "%s",
                           sampler_at(i)->name);
        schedule_steps_free(&steps);
    }
}

// ---- moments of what is drawn with fresh noise

typedef struct {
    double mean, var;
} moments;

// DDPM's posterior q(x' | x, x0) as its paper writes it, averaged over x.
static moments ddpm_moments(const gaussian *g, const schedule_steps *steps) {
    moments x = {steps->at[0].alpha * g->m, pow(spread(g, steps->at), 2)};
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

Test(gaussian, ancestral_moments_are_those_of_ddpm) {
    static const char *const names[] = {"ddpm", "euler_a"};
    for (int zero = 0; zero <= 1; zero++)
        for (int k = 0; k < LENGTH(names); k++) {
            const sampler *s = sampler_find(names[k], NULL);
            gaussian g = {.m = 0.7, .S = 0.5};
            affine_world w = {.m = 0.7, .S = 0.5, .predicts = PREDICT_V};
            schedule sched = sd_schedule(zero, PREDICT_V);
            schedule_steps steps;
            cr_assert_eq(sampler_steps(s, &sched, 50, SPACING_TRAILING, &steps, NULL), OK);
            moments want = ddpm_moments(&g, &steps);
            moment_errors got = moments_of(s, &steps, -1, &w);
            cr_assert_float_eq(got.mean + g.m, want.mean, 1e-12);
            cr_assert_float_eq(pow(got.sd + g.S, 2), want.var, 1e-12);
            schedule_steps_free(&steps);
            schedule_free(&sched);
        }
}

// With fresh noise the data's mean is met exactly, its deviation more closely with every doubling of the
// steps, from alpha = 0 as elsewhere. (TCD draws the same share of noise however short the steps are, so its
// error does not vanish.)
Test(gaussian, stochastic_samplers_have_the_right_moments) {
    static const char *const names[] = {"ddpm",         "euler_a",           "dpm2_a",       "dpmpp_2s_a",
                                        "dpmpp_2m_sde", "dpmpp_sde",         "dpmpp_3m_sde", "er_sde",
                                        "restart",      "dpmpp_2m_sde_heun", "sa_solver"};
    for (int k = 0; k < LENGTH(names); k++)
        for (int from_zero = 0; from_zero <= 1; from_zero++) {
            double last = INFINITY;
            for (int n = 32; n <= 256; n *= 2) {
                affine_world w = {.m = 0.7, .S = 0.5, .predicts = PREDICT_V};
                schedule_steps steps = angle_steps(n, from_zero ? 0 : 0.07, M_PI / 2, 1);
                moment_errors e = moments_of(sampler_find(names[k], NULL), &steps, -1, &w);
                cr_assert_float_eq(e.mean, 0, 1e-9, "%s, %d steps", names[k], n);
                cr_assert_lt(fabs(e.sd), fmax(last * 0.75, 2e-3), "%s, %d steps", names[k], n);
                last = fabs(e.sd);
                schedule_steps_free(&steps);
            }
            cr_assert_lt(last, 0.02, "%s", names[k]);
        }
}

// The noise of steps is from the generator: 20000 drawn values have the moments that are computed without.
Test(gaussian, drawn_moments_are_the_computed_ones) {
    static const char *const names[] = {"euler_a", "dpmpp_2m_sde", "dpmpp_sde", "restart", "lcm", "tcd"};
    for (int k = 0; k < LENGTH(names); k++) {
        enum { VALUES = 20000 };
        gaussian g = {.m = 0.7, .S = 0.5, .n = VALUES};
        affine_world w = {.m = 0.7, .S = 0.5, .predicts = PREDICT_V};
        const sampler *s = sampler_find(names[k], NULL);
        schedule sched = sd_schedule(true, PREDICT_V);
        schedule_steps steps;
        cr_assert_eq(sampler_steps(s, &sched, 20, SPACING_TRAILING, &steps, NULL), OK);
        moment_errors want = moments_of(s, &steps, -1, &w);
        float *x = malloc(VALUES * sizeof *x);
        double mean = 0, var = 0, sd = want.sd + g.S;
        host_model model = {&g, gaussian_denoise, gaussian_noise};
        mt_seed(&g.noise, 11);
        mt_normal(&g.noise, x, VALUES);
        cr_assert_eq(sampler_run_host(s, &steps, NULL, &model, x, VALUES, NULL), OK);
        for (int i = 0; i < VALUES; i++) mean += x[i] / (double)VALUES;
        for (int i = 0; i < VALUES; i++) var += pow(x[i] - mean, 2) / (VALUES - 1);
        double se = 5 / sqrt(VALUES); // five standard errors
        cr_assert_float_eq(mean, g.m + want.mean, se * sd, "%s", names[k]);
        cr_assert_float_eq(var, sd * sd, se * sqrt(2) * sd * sd, "%s", names[k]);
        free(x);
        schedule_steps_free(&steps);
        schedule_free(&sched);
    }
}

// s_churn adds noise and s_noise scales it; both leave the mean alone. Within [s_tmin, s_tmax] only.
Test(gaussian, churn_adds_noise_where_it_is_asked_for) {
    static const char *const names[] = {"euler", "heun", "dpm2"};
    schedule sched = sd_schedule(true, PREDICT_V);
    for (int k = 0; k < LENGTH(names); k++) {
        gaussian g = {.m = 0.7, .S = 0.5, .n = 1};
        const sampler *s = sampler_find(names[k], NULL);
        schedule_steps steps;
        cr_assert_eq(sampler_steps(s, &sched, 50, SPACING_KARRAS, &steps, NULL), OK);
        static const struct {
            double churn, tmin, tmax, drawn;
        } rows[] = {{0, 0, INFINITY, 0}, {20, 0, INFINITY, 49}, {20, 0.5, 2, 0}, {20, 20, 30, 0}};
        for (int r = 0; r < LENGTH(rows); r++) {
            int inside = 0;
            for (int i = 1; i < steps.n; i++) {
                double ratio = steps.at[i].sigma / steps.at[i].alpha;
                inside += rows[r].churn > 0 && ratio >= rows[r].tmin && ratio <= rows[r].tmax;
            }
            affine_world w = {.m = g.m, .S = g.S, .predicts = PREDICT_V};
            double(*memory)[FACTORS] = calloc(MAX_SCRATCH + 1, sizeof *memory), *x = memory[MAX_SCRATCH],
            var = 0;
            sampler_env env = {&w, affine_denoise, affine_combine, affine_noise, affine_difference, {0}};
            for (int i = 0; i < MAX_SCRATCH; i++) env.scratch[i] = (latent *)memory[i];
            sampling run = {
                &steps,
                {.s_noise = 1, .s_churn = rows[r].churn, .s_tmin = rows[r].tmin, .s_tmax = rows[r].tmax}};
            x[1] = 1;
            cr_assert_eq(s->run(&env, &run, (latent *)x, NULL), OK);
            for (int i = 1; i < FACTORS; i++) var += x[i] * x[i];
            cr_assert_eq(w.drawn, inside, "%s, row %d", names[k], r);
            cr_assert_float_eq(x[0], g.m, 1e-9);
            cr_assert_float_eq(sqrt(var), g.S, 0.06); // euler's error is 0.02 without, more with noise
            free(memory);
        }
        schedule_steps_free(&steps);
    }
    schedule_free(&sched);
}

// ---- every sampler with every spacing

typedef struct {
    int n;
    double sd;
} bound;

// Heun and DPM2 divide by q, so a list that falls from the noisiest to the cleanest sigma/alpha at once (one
// or two steps) may leave 1/(2q) times too much; extrapolation through two or three uneven steps is milder.
static void every_spacing(bool zero, prediction predicts, bound most) {
    schedule sched = sd_schedule(zero, predicts);
    for (int i = 0; sampler_at(i); i++)
        for (int k = 0; spacing_at(k); k++) {
            const sampler *s = sampler_at(i);
            affine_world w = {.m = 0.7, .S = 0.5, .predicts = predicts};
            schedule_steps steps;
            cr_assert_eq(sampler_steps(s, &sched, most.n, spacing_at(k)->how, &steps, NULL), OK);
            if (predicts == PREDICT_EPS && steps.at[0].alpha == 0) { // eps says nothing there
                schedule_steps_free(&steps);
                continue;
            }
            moment_errors e = moments_of(s, &steps, -1, &w);
            // lcm's f(x, 0) = x mixes in the noisy x at t = 0
            cr_assert_leq(fabs(e.mean), strcmp(s->name, "lcm") ? 1e-9 : 2e-3, "%s, %s", s->name,
                          spacing_at(k)->name);
            cr_assert_leq(fabs(e.sd), most.sd, "%s, %s, %d steps: %g", s->name, spacing_at(k)->name, most.n,
                          e.sd);
            cr_assert_leq(w.calls, s->adaptive ? MOST_LOOKS : 4 * most.n); // restart's: twice two
            schedule_steps_free(&steps);
        }
    schedule_free(&sched);
}

Test(gaussian, every_sampler_takes_every_spacing) {
    static const bound bounds[] = {{1, 8}, {2, 15}, {3, 5}, {7, 2}, {20, 1.5}};
    for (int k = 0; k < LENGTH(bounds); k++)
        for (int zero = 0; zero <= 1; zero++)
            for (int p = PREDICT_EPS; p <= PREDICT_X0; p++) every_spacing(zero, (prediction)p, bounds[k]);
}

// From alpha = 0 every sampler reaches the data with the steps that suit it, within the first-order error
// of 50.
Test(gaussian, alpha_zero_is_an_ordinary_point) {
    static const spacing kinds[] = {SPACING_TRAILING, SPACING_KARRAS, SPACING_SGM_UNIFORM, SPACING_KL_OPTIMAL,
                                    SPACING_AYS};
    schedule sched = sd_schedule(true, PREDICT_V);
    for (int i = 0; sampler_at(i); i++)
        for (int k = 0; k < LENGTH(kinds); k++) {
            schedule_steps steps;
            affine_world w = {.m = 0.7, .S = 0.5, .predicts = PREDICT_V};
            if (!strcmp(sampler_at(i)->name, "lcm")) continue;
            cr_assert_eq(sampler_steps(sampler_at(i), &sched, 50, kinds[k], &steps, NULL), OK);
            cr_assert_eq(steps.at[0].alpha, 0.0);
            double most = sampler_at(i)->adaptive ? 0.2 : 0.07; // 5 % of what is there, also of much noise
            cr_assert_leq(fabs(moments_of(sampler_at(i), &steps, -1, &w).sd), most, "%s, %s",
                          sampler_at(i)->name, spacing_row_of(kinds[k])->name);
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
Test(gaussian, brightness_law) {
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
Test(gaussian, brightness_law_in_the_limit) {
    for (int N_side = 16; N_side <= 64; N_side *= 2) {
        double alpha_bar = 0.068265 * 0.068265, S2 = 0.25 * N_side * N_side;
        double R = 1 / sqrt(1 + alpha_bar * (S2 - 1)); // 1000 DDIM steps are within 1 % of the ODE
        cr_assert_float_eq(brightness(N_side, 1000, SPACING_TRAILING, false), R, 0.002);
        cr_assert_float_eq(brightness(N_side, 1000, SPACING_TRAILING, true), 1, 0.01);
    }
}
