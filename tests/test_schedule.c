#include "samplers/scheduler_config.h"
#include "samplers/spacing.h"
#include "tests/golden/samplers_steps.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define LENGTH(a) (int)(sizeof(a) / sizeof(a)[0])

static const schedule_config sd = {.train_steps = 1000,
                                   .betas = BETAS_SCALED_LINEAR,
                                   .beta_start = 0.00085,
                                   .beta_end = 0.012,
                                   .steps_offset = 1};

static schedule make(schedule_config c, bool zero_snr) {
    schedule s;
    c.zero_snr = zero_snr;
    cr_assert_eq(schedule_init(&s, &c, NULL), OK);
    return s;
}

static double snr(const schedule *s, int t) { return pow(s->alpha[t] / s->sigma[t], 2); }

// Table of the zero-SNR paper, section 1.1, and the unclipped cosine.
Test(schedule, last_step_leaks_signal) {
    schedule linear = make((schedule_config){1000, BETAS_LINEAR, 1e-4, 0.02}, false);
    schedule cosine = make((schedule_config){1000, BETAS_COSINE}, false), scaled = make(sd, false);
    cr_assert_float_eq(snr(&linear, 999), 4.036e-5, 5e-9);
    cr_assert_float_eq(linear.alpha[999], 0.006353, 5e-7);
    cr_assert_float_eq(snr(&cosine, 999), 2.429e-9, 5e-13);
    cr_assert_float_eq(cosine.alpha[999], 4.928e-5, 5e-9);
    cr_assert_float_eq(snr(&scaled, 999), 0.004682, 5e-7);
    cr_assert_float_eq(scaled.alpha[999], 0.068265, 5e-7);
    cr_assert_float_eq(scaled.sigma[999], 0.997667, 5e-7);
    schedule exact = make((schedule_config){1000, BETAS_COSINE}, true);
    cr_assert_eq(exact.alpha[999], 0.0);
    for (int t = 0; t < 999; t++) cr_assert_float_eq(exact.alpha[t], cosine.alpha[t], 1e-15);
    schedule_free(&linear), schedule_free(&cosine), schedule_free(&scaled), schedule_free(&exact);
}

Test(schedule, zero_snr_test_values) {
    static const struct {
        int t;
        double before, after;
    } rows[] = {{0, 0.999575, 0.999575},   {1, 0.999148, 0.999116},   {99, 0.946289, 0.942383},
                {249, 0.821847, 0.808820}, {499, 0.526944, 0.492300}, {599, 0.402185, 0.358396},
                {749, 0.237957, 0.182130}, {899, 0.119577, 0.055073}, {950, 0.090814, 0.024202},
                {981, 0.075997, 0.008299}, {998, 0.068678, 0.000444}, {999, 0.068265, 0}};
    schedule before = make(sd, false), after = make(sd, true);
    for (int i = 0; i < LENGTH(rows); i++) {
        cr_assert_float_eq(before.alpha[rows[i].t], rows[i].before, 1e-6);
        cr_assert_float_eq(after.alpha[rows[i].t], rows[i].after, 1e-6);
    }
    cr_assert_eq(after.alpha[0], before.alpha[0]);
    cr_assert_eq(after.alpha[999], 0.0);
    cr_assert_eq(after.sigma[999], 1.0);
    // The betas of the rescaled table: 1 - alpha_t² / alpha_{t-1}².
    cr_assert_float_eq(1 - pow(after.alpha[0], 2), 0.00085, 1e-12);
    cr_assert_float_eq(1 - pow(after.alpha[1] / after.alpha[0], 2), 0.000917333593, 1e-12);
    cr_assert_float_eq(1 - pow(after.alpha[998] / after.alpha[997], 2), 0.751137004, 1e-9);
    for (int t = 0; t < 1000; t++) {
        cr_assert_float_eq(pow(after.alpha[t], 2) + pow(after.sigma[t], 2), 1, 1e-15);
        if (t) cr_assert_lt(after.alpha[t], after.alpha[t - 1]);
    }
    schedule_free(&before), schedule_free(&after);
}

static schedule_steps steps_of(const schedule *s, int n, spacing how, step_grid grid) {
    schedule_steps steps;
    cr_assert_eq(schedule_steps_make(&steps, s, n, how, grid, true, NULL), OK);
    return steps;
}

static void expect(int n, spacing how, step_grid grid, const double *want) {
    schedule s = make(sd, false);
    schedule_steps steps = steps_of(&s, n, how, grid);
    for (int i = 0; i < n; i++)
        cr_assert_eq(steps.at[i].t, want[i], "step %d: %.17g, not %.17g", i, steps.at[i].t, want[i]);
    schedule_steps_free(&steps);
    schedule_free(&s);
}

Test(schedule, timesteps_of_ten_steps) {
    expect(10, SPACING_TRAILING, GRID_INTEGER, (double[]){999, 899, 799, 699, 599, 499, 399, 299, 199, 99});
    expect(10, SPACING_LEADING, GRID_INTEGER, (double[]){901, 801, 701, 601, 501, 401, 301, 201, 101, 1});
    expect(10, SPACING_LINSPACE, GRID_INTEGER, (double[]){999, 888, 777, 666, 555, 444, 333, 222, 111, 0});
    expect(10, SPACING_LINSPACE, GRID_OPEN, (double[]){999, 899, 799, 699, 599, 500, 400, 300, 200, 100});
    expect(10, SPACING_LEADING, GRID_OPEN, (double[]){901, 811, 721, 631, 541, 451, 361, 271, 181, 91});
    expect(10, SPACING_TRAILING, GRID_OPEN, (double[]){999, 899, 799, 699, 599, 499, 399, 299, 199, 99});
    expect(1, SPACING_LINSPACE, GRID_INTEGER, (double[]){999});
    expect(1, SPACING_TRAILING, GRID_FRACTIONAL, (double[]){999});
}

Test(schedule, timesteps_of_25_steps) {
    schedule s = make(sd, false);
    schedule_steps leading = steps_of(&s, 25, SPACING_LEADING, GRID_INTEGER);
    schedule_steps fractional = steps_of(&s, 25, SPACING_LINSPACE, GRID_FRACTIONAL);
    cr_assert_eq(leading.at[0].t, 961);
    cr_assert_eq(fractional.at[0].t, 999);
    cr_assert_eq(fractional.at[1].t, 957.375);
    cr_assert_eq(fractional.at[24].t, 0);
    schedule_steps_free(&leading), schedule_steps_free(&fractional);
    schedule_free(&s);
}

// Where a float sum in the reference goes wrong (S = 48: 937.5 is a tie, 61: an extra point), integers do
// not.
Test(schedule, trailing_rounds_half_to_even_at_every_n) {
    schedule s = make(sd, false);
    for (int n = 1; n <= 1000; n++) {
        schedule_steps steps = steps_of(&s, n, SPACING_TRAILING, GRID_INTEGER);
        for (int i = 0; i < n; i++) {
            double exact = 1000.0 * (n - i) / n; // one rounding: ties come out exactly
            cr_assert_eq(steps.at[i].t, nearbyint(exact) - 1, "n %d step %d", n, i);
        }
        schedule_steps_free(&steps);
    }
    schedule_free(&s);
}

// All timesteps for many n, checksummed against the reference library, where it is not at a tie or an extra
// point.
Test(schedule, timesteps_equal_the_reference) {
    schedule s = make(sd, false);
    for (int k = 0; k < LENGTH(step_sums); k++) {
        int n = step_sums[k].n, weight = 0;
        schedule_steps steps = steps_of(&s, n, (spacing)step_sums[k].spacing, (step_grid)step_sums[k].grid);
        double sum = 0;
        for (int i = 0; i < n; i++) sum += steps.at[i].t * (weight = (weight + 7) % 31);
        cr_assert_float_eq(sum, step_sums[k].sum, 1e-6 * (1 + fabs(sum)), "n %d spacing %d grid %d", n,
                           step_sums[k].spacing, step_sums[k].grid);
        schedule_steps_free(&steps);
    }
    schedule_free(&s);
}

// sigma/alpha of Karras spacing on the SD schedule, and its timesteps, from the reference Euler scheduler.
Test(schedule, karras_equals_the_reference) {
    schedule s = make(sd, false);
    schedule_steps steps = steps_of(&s, LENGTH(karras_sigmas), SPACING_KARRAS, GRID_FRACTIONAL);
    for (int i = 0; i < steps.n; i++) {
        // The reference table is float32: 1 - alpha² = 0.00085 is known to 6e-8, its root to 3.5e-5.
        cr_assert_float_eq(steps.at[i].sigma / steps.at[i].alpha, karras_sigmas[i],
                           3.5e-5 * karras_sigmas[i]);
        cr_assert_float_eq(steps.at[i].t, karras_timesteps[i], 2e-3); // its table is float32
    }
    schedule_steps_free(&steps);
    schedule_free(&s);
}

// The other spacings, each from a function of its own in Python. Both interpolate; only rounding differs.
Test(schedule, spacings_equal_the_reference) {
    schedule s = make(sd, false);
    for (int k = 0; k < LENGTH(spaced); k++) {
        int n = spaced[k].n, at[] = {0, 1, n / 2, n - 1};
        schedule_steps steps = steps_of(&s, n, spaced[k].how, GRID_INTEGER);
        for (int i = 0; i < 4; i++) {
            const schedule_point *p = &steps.at[at[i]];
            cr_assert_float_eq(p->sigma / p->alpha, spaced[k].ratio[i], 1e-9 * spaced[k].ratio[i],
                               "%s, %d steps, point %d", spacing_row_of(spaced[k].how)->name, n, at[i]);
        }
        schedule_steps_free(&steps);
    }
    schedule_free(&s);
}

// Every spacing falls from its start to the clean end, from one step to fifty, with zero SNR and without; the
// rows that begin at the last timestep begin at alpha = 0.
Test(schedule, every_spacing_falls) {
    for (int zero = 0; zero <= 1; zero++) {
        schedule s = make(sd, zero);
        for (int k = 0; spacing_at(k); k++)
            for (int n = 1; n <= 50; n++) {
                const spacing_row *row = spacing_at(k);
                schedule_steps steps = steps_of(&s, n, row->how, GRID_FRACTIONAL);
                for (int i = 0; i < n; i++) {
                    const schedule_point *p = &steps.at[i];
                    cr_assert_gt(p[1].alpha, p->alpha, "%s, %d steps, point %d", row->name, n, i);
                    cr_assert_float_eq(p->alpha * p->alpha + p->sigma * p->sigma, 1, 1e-14);
                    cr_assert(p->t >= 0 && p->t <= 999);
                }
                bool elsewhere = row->how == SPACING_LEADING || row->how == SPACING_DDIM_UNIFORM;
                if (zero && !elsewhere) cr_assert_eq(steps.at[0].alpha, 0, "%s", row->name);
                schedule_steps_free(&steps);
            }
        schedule_free(&s);
    }
}

Test(schedule, spacings_are_found_however_spelled) {
    static const char *const names[][2] = {{"Karras", "karras"},
                                           {"SGM Uniform", "sgm_uniform"},
                                           {"discrete", "normal"},
                                           {"KL Optimal", "kl_optimal"},
                                           {"Align Your Steps", "ays"},
                                           {"DDIM", "ddim_uniform"},
                                           {"Beta", "beta"},
                                           {"Polyexponential", "polyexponential"},
                                           {"ddim-uniform", "ddim_uniform"}};
    for (int i = 0; i < LENGTH(names); i++) {
        const spacing_row *row = spacing_find(names[i][0]);
        cr_assert(row && !strcmp(row->name, names[i][1]), "%s", names[i][0]);
    }
    for (int i = 0; spacing_at(i); i++) {
        cr_assert_eq(spacing_find(spacing_at(i)->name), spacing_at(i));
        cr_assert_eq(spacing_row_of(spacing_at(i)->how), spacing_at(i));
        cr_assert(!spacing_at(i)->ratio != !spacing_at(i)->timestep);
    }
    cr_assert(spacing_is_auto("Automatic") && spacing_is_auto("auto") && !spacing_is_auto("karras"));
    cr_assert_null(spacing_find("kar"));
    cr_assert_null(spacing_find(""));
    cr_assert_null(spacing_row_of(SPACING_AUTO));
    cr_assert_null(spacing_at(-1));
}

// With zero SNR only the first point of the Karras curve moves.
Test(schedule, karras_with_zero_snr_starts_at_alpha_zero) {
    schedule plain = make(sd, false), zero = make(sd, true);
    schedule_steps a = steps_of(&plain, 12, SPACING_KARRAS, GRID_OPEN);
    schedule_steps b = steps_of(&zero, 12, SPACING_KARRAS, GRID_OPEN);
    cr_assert_eq(b.at[0].alpha, 0.0);
    cr_assert_eq(b.at[0].t, 999);
    for (int i = 1; i < 12; i++) {
        cr_assert_float_eq(b.at[i].alpha, a.at[i].alpha, 1e-12);
        cr_assert_lt(b.at[i].t, b.at[i - 1].t);
    }
    schedule_steps_free(&a), schedule_steps_free(&b);
    schedule_free(&plain), schedule_free(&zero);
}

// The cosine curve is steep: its first Karras points lie in the last interval, where sigma/alpha runs to
// infinity.
Test(schedule, karras_timesteps_of_the_zero_snr_cosine) {
    schedule s = make((schedule_config){1000, BETAS_COSINE}, true);
    schedule_steps steps = steps_of(&s, 100, SPACING_KARRAS, GRID_OPEN);
    cr_assert(steps.at[1].t > 998 && steps.at[1].t < 999);
    for (int i = 0; i < 100; i++) {
        if (i) cr_assert_lt(steps.at[i].t, steps.at[i - 1].t);
        if (steps.at[i].t > 998) // the timestep names the same point
            cr_assert_float_eq(schedule_at(&s, steps.at[i].t).alpha, steps.at[i].alpha, 1e-12);
    }
    schedule_steps_free(&steps);
    schedule_free(&s);
}

Test(schedule, fractional_timesteps_lie_between_their_neighbours) {
    for (int zero = 0; zero <= 1; zero++) {
        schedule s = make(sd, zero);
        for (double t = 990; t < 999; t += 0.125) {
            schedule_point p = schedule_at(&s, t), q = schedule_at(&s, t + 0.125);
            cr_assert_gt(p.alpha, q.alpha);
            cr_assert_float_eq(p.alpha * p.alpha + p.sigma * p.sigma, 1, 1e-15);
        }
        schedule_point half = schedule_at(&s, 500.5);
        double r = 0.5 * (s.sigma[500] / s.alpha[500] + s.sigma[501] / s.alpha[501]);
        cr_assert_float_eq(half.sigma / half.alpha, r, 1e-12);
        schedule_free(&s);
    }
}

// A tail is the end of the whole list, whatever the strength; nothing is left of none.
Test(schedule, tail_keeps_the_last_steps) {
    static const struct {
        double strength;
        int keep;
    } rows[] = {{1, 20}, {0.75, 15}, {0.29, 5}, {0.3, 6}, {0.35, 7}, {0.01, 1}, {0, 1}};
    schedule s = make(sd, true);
    schedule_steps whole = steps_of(&s, 20, SPACING_TRAILING, GRID_INTEGER);
    for (int k = 0; k < LENGTH(rows); k++) {
        schedule_steps tail = steps_of(&s, 20, SPACING_TRAILING, GRID_INTEGER);
        schedule_steps_tail(&tail, rows[k].strength);
        cr_assert_eq(tail.n, rows[k].keep);
        cr_assert_eq(tail.first.t, whole.at[0].t);
        for (int i = 0; i <= tail.n; i++) {
            const schedule_point *p = &tail.at[i], *q = &whole.at[20 - tail.n + i];
            cr_assert(p->t == q->t && p->alpha == q->alpha && p->sigma == q->sigma);
        }
        schedule_steps_free(&tail);
    }
    schedule_steps_free(&whole);
    schedule_free(&s);
}

Test(schedule, refuses_what_does_not_fit) {
    schedule s = make(sd, false), bad;
    schedule_steps steps;
    error err = {0};
    cr_assert_eq(schedule_steps_make(&steps, &s, 0, SPACING_TRAILING, GRID_INTEGER, true, &err), ERR_USAGE);
    cr_assert_eq(schedule_steps_make(&steps, &s, 1001, SPACING_TRAILING, GRID_INTEGER, true, &err),
                 ERR_USAGE);
    // steps_offset 1 pushes the first of 1000 leading steps out of the table.
    cr_assert_eq(schedule_steps_make(&steps, &s, 1000, SPACING_LEADING, GRID_INTEGER, true, &err), ERR_USAGE);
    cr_assert_eq(schedule_steps_make(&steps, &s, 1000, SPACING_LINSPACE, GRID_OPEN, true, &err), ERR_USAGE);
    cr_assert_null(steps.at);
    schedule_config c = sd;
    c.train_steps = 1;
    cr_assert_eq(schedule_init(&bad, &c, &err), ERR_DATA);
    c = sd, c.beta_end = NAN;
    cr_assert_eq(schedule_init(&bad, &c, &err), ERR_DATA);
    c = sd, c.steps_offset = -1;
    cr_assert_eq(schedule_init(&bad, &c, &err), ERR_DATA);
    c = sd, c.train_steps = 100000, c.beta_end = 0.999; // alpha underflows
    cr_assert_eq(schedule_init(&bad, &c, &err), ERR_DATA);
    schedule_free(&s);
}

static status read_text(schedule_config *c, const char *text, error *err) {
    json_t *file = json_loads(text, JSON_DECODE_ANY, NULL);
    cr_assert(file);
    status st = scheduler_config_read(c, file, err);
    json_decref(file);
    return st;
}

Test(schedule, reads_the_file_of_sd15) {
    schedule_config c;
    cr_assert_eq(
        read_text(&c,
                  "{\"_class_name\": \"PNDMScheduler\", \"beta_end\": 0.012, \"beta_start\": 0.00085,"
                  "\"beta_schedule\": \"scaled_linear\", \"clip_sample\": false, \"steps_offset\": 1,"
                  "\"num_train_timesteps\": 1000, \"set_alpha_to_one\": false,"
                  "\"skip_prk_steps\": true, \"trained_betas\": null}",
                  NULL),
        OK);
    cr_assert(c.betas == BETAS_SCALED_LINEAR && c.beta_start == 0.00085 && c.beta_end == 0.012);
    cr_assert(c.train_steps == 1000 && c.steps_offset == 1 && !c.set_alpha_to_one && !c.zero_snr);
    cr_assert(c.predicts == PREDICT_EPS && c.spacing == SPACING_AUTO);
}

Test(schedule, absent_fields_take_class_defaults) {
    schedule_config c;
    cr_assert_eq(read_text(&c, "{}", NULL), OK);
    cr_assert(c.betas == BETAS_LINEAR && c.beta_start == 1e-4 && c.beta_end == 0.02 && c.set_alpha_to_one);
    cr_assert(c.steps_offset == 0 && c.train_steps == 1000);
    cr_assert_eq(read_text(&c, "{\"_class_name\": \"PNDMScheduler\"}", NULL), OK);
    cr_assert_not(c.set_alpha_to_one);
    cr_assert_eq(read_text(&c, "{\"_class_name\": \"IPNDMScheduler\"}", NULL), OK);
    cr_assert(c.betas == BETAS_LINEAR && c.beta_start == 1e-4 && c.beta_end == 0.02);
    cr_assert_eq(read_text(&c, "{\"_class_name\": \"HeunDiscreteScheduler\"}", NULL), OK);
    cr_assert(c.betas == BETAS_LINEAR && c.beta_start == 0.00085 && c.beta_end == 0.012);
    cr_assert_eq(read_text(&c, "{\"_class_name\": \"LCMScheduler\"}", NULL), OK);
    cr_assert(c.betas == BETAS_SCALED_LINEAR && c.beta_start == 0.00085);
    cr_assert_eq(read_text(&c,
                           "{\"prediction_type\": \"v_prediction\", \"rescale_betas_zero_snr\": true,"
                           "\"timestep_spacing\": \"trailing\", \"beta_schedule\": \"squaredcos_cap_v2\"}",
                           NULL),
                 OK);
    cr_assert(c.predicts == PREDICT_V && c.zero_snr && c.spacing == SPACING_TRAILING &&
              c.betas == BETAS_COSINE);
    cr_assert_eq(read_text(&c, "{\"use_karras_sigmas\": true, \"prediction_type\": \"sample\"}", NULL), OK);
    cr_assert(c.spacing == SPACING_KARRAS && c.predicts == PREDICT_X0);
    cr_assert_eq(read_text(&c, "{\"use_exponential_sigmas\": true}", NULL), OK);
    cr_assert_eq(c.spacing, SPACING_EXPONENTIAL);
}

Test(schedule, bad_fields_are_named) {
    static const char *const bad[][2] = {
        {"{\"prediction_type\": \"flow_prediction\"}", "prediction_type"},
        {"{\"prediction_type\": 3}", "prediction_type"},
        {"{\"beta_schedule\": \"sigmoid\"}", "beta_schedule"},
        {"{\"beta_start\": \"0.1\"}", "beta_start"},
        {"{\"beta_end\": true}", "beta_end"},
        {"{\"num_train_timesteps\": 1000.5}", "num_train_timesteps"},
        {"{\"num_train_timesteps\": 99999999999}", "num_train_timesteps"},
        {"{\"timestep_spacing\": \"\\u0000\"}", "timestep_spacing"},
        {"{\"timestep_spacing\": \"\"}", "timestep_spacing"},
        {"{\"steps_offset\": []}", "steps_offset"},
        {"{\"set_alpha_to_one\": 1}", "set_alpha_to_one"},
        {"{\"rescale_betas_zero_snr\": \"true\"}", "rescale_betas_zero_snr"},
        {"{\"trained_betas\": [0.1, 0.2]}", "trained_betas"},
        {"{\"thresholding\": true}", "thresholding"},
        {"{\"final_sigmas_type\": \"sigma_min\"}", "final_sigmas_type"},
        {"{\"_class_name\": \"FlowMatchEulerDiscreteScheduler\"}", "_class_name"},
        {"[]", "object"},
    };
    for (int i = 0; i < LENGTH(bad); i++) {
        schedule_config c;
        error err = {0};
        json_t *file = json_loads(bad[i][0], JSON_ALLOW_NUL, NULL);
        cr_assert(file, "%s", bad[i][0]);
        cr_assert_eq(scheduler_config_read(&c, file, &err), ERR_DATA, "%s", bad[i][0]);
        cr_assert(strstr(err.text, bad[i][1]), "%s", err.text);
        json_decref(file);
    }
}
