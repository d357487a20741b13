// Samplers beside the reference, step by step; what prediction and guidance give them; the table.
#include "core/base/brownian.h"
#include "core/base/rng.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"
#include "samplers/spacing.h"
#include "tests/golden/samplers.h"
#include "tests/sampling.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

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
    for (int rescale = 0; rescale < 2;
         rescale++) { // a picture that says nothing, or all, is no second condition
        guidance_apply_picture(out, guidance_pos, guidance_neg, guidance_neg, B, M, 7.5, 3, 0.7 * rescale);
        for (int i = 0; i < B * M; i++)
            cr_assert_float_eq(out[i], (rescale ? guidance_rescaled : guidance_cfg)[i], 5e-6);
        guidance_apply_picture(out, guidance_pos, guidance_pos, guidance_neg, B, M, 3, 7.5, 0.7 * rescale);
        for (int i = 0; i < B * M; i++)
            cr_assert_float_eq(out[i], (rescale ? guidance_rescaled : guidance_cfg)[i], 5e-6);
    }
    float flat[2] = {3, 3};
    guidance_apply(flat, flat, flat, 1, 2, 7.5, 0.7); // no spread: nothing to rescale, no NaN
    cr_assert(flat[0] == 3 && flat[1] == 3);
}

// ---- the reference, step by step ----

typedef struct {
    prediction predicts;
    float *seen; // x at the first look of every step, (STEPS, N)
    int steps;   // seen so far
} fake;

// The network of tests/parity/samplers.py, turned into x0.
static status fake_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                           error *err) {
    static const float a[N] = {0.9f, 0.7f, 1.1f, 0.5f};
    fake *f = arg;
    if (f->seen && step == f->steps) memcpy(f->seen + f->steps++ * N, x, N * sizeof *x);
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

static void world_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y, size_t n) {
    (void)from, (void)to;
    mt_normal(&((fake_world *)arg)->noise, y, n);
}

// Largest difference between our trajectory and the reference's.
static double difference(int which) {
    float seen[(STEPS + 1) * N];
    double worst = 0;
    fake_world w = {{(prediction)trajectories[which].predicts, seen, 0}, {.next = 0}};
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
    sampler_tuning tune = sampler_defaults(s);
    tune.eta = trajectories[which].eta;
    cr_assert_eq(sampler_run_host(s, &steps, &tune, &model, x, N, NULL), OK);
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
        bool deis =
            !strcmp(trajectories[i].name, "deis"); // its float32 weights are differences of larger terms
        cr_assert_leq(difference(i),
                      clamped ? 0x1p-12 / 0.055 * 2
                      : deis  ? 3e-5
                              : 1e-5,
                      "%s, case %d", trajectories[i].name, i);
    }
}

// ---- on a path of noise

typedef struct {
    fake network;
    brownian path;
} path_world;

static void path_normals(void *arg, uint32_t seed, float *y, size_t n) {
    mt19937 mt;
    (void)arg;
    mt_seed(&mt, seed);
    mt_normal(&mt, y, n);
}

static double ratio(const schedule_point *p) { return p->sigma / p->alpha; }

static void path_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y, size_t n) {
    (void)n;
    brownian_noise(&((path_world *)arg)->path, ratio(from), ratio(to), y);
}

// From sigma times noise of seed 5 along the path of seed 6: x at the first look of each step and at the end.
static void walk_on_a_path(const sampler *s, const schedule_steps *steps, float *seen) {
    path_world w = {{PREDICT_EPS, seen, 0}, {0}};
    mt19937 mt;
    float *x = seen + steps->n * N;
    mt_seed(&mt, 5);
    mt_normal(&mt, x, N);
    for (int i = 0; i < N; i++) x[i] *= (float)steps->at[0].sigma;
    cr_assert_eq(brownian_init(&w.path, 6, ratio(&steps->at[steps->n - 1]), ratio(&steps->at[0]), N,
                               path_normals, NULL, NULL),
                 OK);
    host_model model = {&w, fake_denoise, path_noise};
    cr_assert_eq(sampler_run_host(s, steps, NULL, &model, x, N, NULL), OK);
    brownian_free(&w.path);
}

// As k-diffusion walks with its BrownianTreeNoiseSampler. Where the two round a ratio to another millionth,
// noise differs by 1e-3; these do not.
Test(samplers, trajectories_on_a_path_equal_the_reference) {
    schedule sched = sd_schedule(false, PREDICT_EPS);
    for (int k = 0; k < LENGTH(on_a_path); k++) {
        float seen[(STEPS + 1) * N];
        schedule_steps steps;
        const sampler *s = sampler_find(on_a_path[k].name, NULL);
        cr_assert(s->brownian);
        cr_assert_eq(sampler_steps(s, &sched, STEPS, SPACING_KARRAS, &steps, NULL), OK);
        walk_on_a_path(s, &steps, seen);
        for (int i = 0; i < STEPS * N; i++)
            cr_assert_float_eq(seen[N + i], on_a_path[k].x[i], 1e-5, "%s, value %d", s->name, i);
        schedule_steps_free(&steps);
    }
    schedule_free(&sched);
}

// Every sampler is in the list, but for restart, which is Heun's method for so few steps, and dpm_adaptive,
// which has as many as it wants.
Test(samplers, every_sampler_has_a_reference) {
    for (int i = 0; sampler_at(i); i++) {
        bool found = !strcmp(sampler_at(i)->name, "restart") || sampler_at(i)->adaptive;
        for (int k = 0; k < LENGTH(trajectories); k++)
            found |= !strcmp(sampler_at(i)->name, trajectories[k].name);
        cr_assert(found, "%s", sampler_at(i)->name);
    }
}

Test(samplers, restart_equals_the_reference) {
    fake_world w = {{PREDICT_EPS, NULL, 0}, {.next = 0}};
    const sampler *s = sampler_find("restart", NULL);
    schedule sched = sd_schedule(false, PREDICT_EPS);
    schedule_steps steps;
    float x[N];
    cr_assert_eq(sampler_steps(s, &sched, 20, SPACING_KARRAS, &steps, NULL), OK);
    mt_seed(&w.noise, 5);
    mt_normal(&w.noise, x, N);
    for (int i = 0; i < N; i++) x[i] *= (float)sampler_start_scale(s, &steps);
    mt_seed(&w.noise, 6);
    host_model model = {&w, world_denoise, world_noise};
    cr_assert_eq(sampler_run_host(s, &steps, NULL, &model, x, N, NULL), OK);
    for (int i = 0; i < N; i++) cr_assert_float_eq(x[i], restart_of_20[i], 1e-5);
    schedule_steps_free(&steps);
    schedule_free(&sched);
}

// ---- DPM adaptive

typedef struct {
    fake_world world;
    float x[MOST_LOOKS * N]; // at each look
    int looks, steps;        // so far, and told
} watched;

static status watched_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                              error *err) {
    watched *w = arg;
    cr_assert(w->looks < MOST_LOOKS && step >= w->steps && step < STEPS);
    memcpy(w->x + N * w->looks++, x, N * sizeof *x);
    w->steps = step;
    return fake_denoise(&w->world.network, x, at, step, x0, err);
}

static void watched_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y,
                          size_t n) {
    world_noise(&((watched *)arg)->world, from, to, y, n);
}

// The same steps, some of them tried again with noise, as k-diffusion takes. Their length follows from a
// difference of floats that are nearly equal, which multiplies rounding.
static void compare_adaptive(double eta, int looks, const float *want) {
    static watched w;
    w = (watched){{{PREDICT_EPS, NULL, 0}, {.next = 0}}, {0}, 0, 0};
    const sampler *s = sampler_find("dpm_adaptive", NULL);
    schedule sched = sd_schedule(false, PREDICT_EPS);
    schedule_steps steps;
    float x[N];
    cr_assert_eq(sampler_steps(s, &sched, STEPS, SPACING_KARRAS, &steps, NULL), OK);
    mt_seed(&w.world.noise, 5);
    mt_normal(&w.world.noise, x, N);
    for (int i = 0; i < N; i++) x[i] *= (float)sampler_start_scale(s, &steps);
    mt_seed(&w.world.noise, 6);
    host_model model = {&w, watched_denoise, watched_noise};
    sampler_tuning tune = sampler_defaults(s);
    tune.eta = eta;
    cr_assert_eq(sampler_run_host(s, &steps, &tune, &model, x, N, NULL), OK);
    cr_assert_eq(w.looks, looks);
    for (int i = 0; i < looks * N; i++) cr_assert_float_eq(w.x[i], want[i], 5e-5, "look %d", i / N);
    for (int i = 0; i < N; i++) cr_assert_float_eq(x[i], want[looks * N + i], 5e-5);
    schedule_steps_free(&steps);
    schedule_free(&sched);
}

Test(samplers, adaptive_steps_equal_the_reference) {
    compare_adaptive(0, ADAPTIVE_LOOKS_0, adaptive_0);
    compare_adaptive(1, ADAPTIVE_LOOKS_1, adaptive_1);
}

static status jumping_denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0,
                              error *err) {
    (void)x, (void)at, (void)step, (void)err;
    ++*(int *)arg;
    for (int i = 0; i < N; i++) x0[i] = *(int *)arg % 2 ? 1000 : -1000; // no two looks agree
    return OK;
}

// However wild the network is.
Test(samplers, adaptive_looks_are_bounded) {
    schedule sched = sd_schedule(true, PREDICT_V);
    for (int n = 1; n <= 50; n += 7) {
        schedule_steps steps;
        int looks = 0;
        float x[N] = {1, 2, 3, 4};
        host_model model = {&looks, jumping_denoise, NULL};
        const sampler *s = sampler_find("dpm_adaptive", NULL);
        cr_assert_eq(sampler_steps(s, &sched, n, SPACING_TRAILING, &steps, NULL), OK);
        cr_assert_eq(sampler_run_host(s, &steps, NULL, &model, x, N, NULL), OK);
        cr_assert(looks <= MOST_LOOKS && (n < 3 || looks > MOST_LOOKS - 110), "%d looks", looks);
        schedule_steps_free(&steps);
    }
    schedule_free(&sched);
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
                                           {"DPMSolverMultistepScheduler", "dpmpp_2m"},
                                           {"DPM++ 2M SDE", "dpmpp_2m_sde"},
                                           {"dpm++2s_a", "dpmpp_2s_a"},
                                           {"dpmpp_2s_ancestral", "dpmpp_2s_a"},
                                           {"DPM2 a", "dpm2_a"},
                                           {"DPM fast", "dpm_fast"},
                                           {"DPM adaptive", "dpm_adaptive"},
                                           {"SASolverScheduler", "sa_solver"},
                                           {"dpm_2_ancestral", "dpm2_a"},
                                           {"KDPM2DiscreteScheduler", "dpm2"},
                                           {"PLMS", "pndm"},
                                           {"PNDMScheduler", "pndm"},
                                           {"uni_pc_bh2", "unipc"},
                                           {"UniPCMultistepScheduler", "unipc"},
                                           {"DEISMultistepScheduler", "deis"},
                                           {"LCM", "lcm"},
                                           {"dpmpp_3m_sde_gpu", "dpmpp_3m_sde"}};
    for (int i = 0; i < LENGTH(names); i++) {
        spacing how = SPACING_AUTO;
        const sampler *s = sampler_find(names[i][0], &how);
        cr_assert(s && !strcmp(s->name, names[i][1]), "%s", names[i][0]);
        cr_assert_eq(how, SPACING_AUTO);
    }
    spacing how = SPACING_AUTO;
    cr_assert_str_eq(sampler_find("DPM++ 2M Karras", &how)->name, "dpmpp_2m");
    cr_assert_eq(how, SPACING_KARRAS);
    cr_assert_str_eq(sampler_find("DPM++ 2M SDE Exponential", &how)->name, "dpmpp_2m_sde");
    cr_assert_eq(how, SPACING_EXPONENTIAL);
    cr_assert_str_eq(sampler_find("Euler SGM Uniform", &how)->name, "euler");
    cr_assert_eq(how, SPACING_SGM_UNIFORM);
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
        cr_assert(spacing_row_of(sampler_at(i)->spacing));
    }
    cr_assert_null(sampler_at(-1));
}

// The spacing asked for wins over the model's, which wins over the sampler's; DDIM may end before alpha
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
    cr_assert_eq(sampler_steps(sampler_find("lcm", NULL), &sched, 4, SPACING_AUTO, &steps, NULL), OK);
    cr_assert(steps.how == SPACING_LCM && steps.at[1].t == 759 && steps.at[2].t == 499 &&
              steps.at[3].t == 259);
    schedule_steps_free(&steps);
    cr_assert_eq(sampler_steps(euler, &sched, 10, SPACING_LEADING, &steps, NULL), OK);
    cr_assert_eq(steps.how, SPACING_LEADING);
    cr_assert_eq(sampler_start_scale(euler, &steps), 1.0);
    schedule_steps_free(&steps);
    schedule_free(&sched);
}

static void no_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y, size_t n) {
    (void)arg, (void)from, (void)to;
    memset(y, 0, n * sizeof *y);
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
        host_model model = {&calls, cancelling_denoise, no_noise};
        cr_assert_eq(sampler_steps(sampler_at(i), &sched, 10, SPACING_AUTO, &steps, NULL), OK);
        cr_assert_eq(sampler_run_host(sampler_at(i), &steps, 0, &model, &x, 1, NULL), ERR_CANCELLED);
        cr_assert_lt(calls, sampler_at(i)->adaptive ? 30 : 8); // at most two looks a step
        model.noise = NULL;
        if (sampler_at(i)->eta > 0 &&
            strcmp(sampler_at(i)->name, "restart")) // asked for noise, and there is none
            cr_assert_eq(sampler_run_host(sampler_at(i), &steps, NULL, &model, &x, 1, NULL), ERR_INTERNAL);
        schedule_steps_free(&steps);
    }
    schedule_free(&sched);
}
