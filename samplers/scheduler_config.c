#include "samplers/scheduler_config.h"

#include <limits.h>
#include <string.h>

// What a class means by an absent field. Most share one set; see the reference library's constructors.
typedef struct {
    const char *name;
    beta_curve betas;
    double beta_start, beta_end;
    bool set_alpha_to_one;
} class_defaults;

static const class_defaults classes[] = {
    {"DDIMScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DDIMParallelScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DDPMScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DDPMParallelScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"PNDMScheduler", BETAS_LINEAR, 0.0001, 0.02, false},
    {"IPNDMScheduler", BETAS_LINEAR, 0.0001, 0.02, true}, // whose constructor knows no betas
    {"EulerDiscreteScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"EulerAncestralDiscreteScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"LMSDiscreteScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DPMSolverMultistepScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DPMSolverSinglestepScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DEISMultistepScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"UniPCMultistepScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"SASolverScheduler", BETAS_LINEAR, 0.0001, 0.02, true},
    {"DPMSolverSDEScheduler", BETAS_LINEAR, 0.00085, 0.012, true},
    {"HeunDiscreteScheduler", BETAS_LINEAR, 0.00085, 0.012, true},
    {"KDPM2DiscreteScheduler", BETAS_LINEAR, 0.00085, 0.012, true},
    {"KDPM2AncestralDiscreteScheduler", BETAS_LINEAR, 0.00085, 0.012, true},
    {"LCMScheduler", BETAS_SCALED_LINEAR, 0.00085, 0.012, true},
    {"TCDScheduler", BETAS_SCALED_LINEAR, 0.00085, 0.012, true},
};

// A field's value, NULL when absent or null.
static const json_t *field(const json_t *file, const char *key) {
    const json_t *v = json_object_get(file, key);
    return json_is_null(v) ? NULL : v;
}

static status read_bool(const json_t *file, const char *key, bool *out, error *err) {
    const json_t *v = field(file, key);
    if (v && !json_is_boolean(v)) return fail(err, ERR_DATA, "%s is not true or false", key);
    if (v) *out = json_is_true(v);
    return OK;
}

static status read_int(const json_t *file, const char *key, int *out, error *err) {
    const json_t *v = field(file, key);
    if (!v) return OK;
    if (!json_is_integer(v) || json_integer_value(v) < INT_MIN || json_integer_value(v) > INT_MAX)
        return fail(err, ERR_DATA, "%s is not an integer of normal size", key);
    *out = (int)json_integer_value(v);
    return OK;
}

static status read_number(const json_t *file, const char *key, double *out, error *err) {
    const json_t *v = field(file, key);
    if (v && !json_is_number(v)) return fail(err, ERR_DATA, "%s is not a number", key);
    if (v) *out = json_number_value(v);
    return OK;
}

// The index of a string field's value in a NULL-terminated list of those we have.
static status read_choice(const json_t *file, const char *key, const char *const *choices, int *out,
                          error *err) {
    const json_t *v = field(file, key);
    if (!v) return OK;
    if (!json_is_string(v)) return fail(err, ERR_DATA, "%s is not a string", key);
    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], json_string_value(v))) continue;
        *out = i;
        return OK;
    }
    return fail(err, ERR_DATA, "%s '%s' is not supported", key, json_string_value(v));
}

// Fields that change what the timesteps mean and that we have only switched off.
static status refuse(const json_t *file, error *err) {
    static const char *const unsupported[] = {
        "trained_betas",   "thresholding",         "use_beta_sigmas", "use_lu_lambdas",
        "use_flow_sigmas", "use_dynamic_shifting", "shift_terminal",  NULL};
    for (int i = 0; unsupported[i]; i++) {
        const json_t *v = field(file, unsupported[i]);
        if (v && !json_is_false(v)) return fail(err, ERR_DATA, "%s is not supported", unsupported[i]);
    }
    static const char *const discrete[] = {"discrete", NULL}, *const linear[] = {"linear", NULL};
    static const char *const zero[] = {"zero", NULL};
    int only;
    status st = read_choice(file, "timestep_type", discrete, &only, err);
    if (!st) st = read_choice(file, "interpolation_type", linear, &only, err);
    if (!st) st = read_choice(file, "final_sigmas_type", zero, &only, err);
    return st;
}

static status find_class(const json_t *file, const class_defaults **found, error *err) {
    const json_t *v = field(file, "_class_name");
    *found = &classes[0];
    if (!v) return OK;
    const char *name = json_is_string(v) ? json_string_value(v) : "?";
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strcmp(name, classes[i].name)) continue;
        *found = &classes[i];
        return OK;
    }
    return fail(err, ERR_DATA, "_class_name '%s' is not a scheduler we know", name);
}

static status read_fields(schedule_config *c, const json_t *file, error *err) {
    static const char *const curves[] = {"linear", "scaled_linear", "squaredcos_cap_v2", NULL};
    static const char *const predictions[] = {"epsilon", "v_prediction", "sample", NULL};
    static const char *const spacings[] = {"leading", "linspace", "trailing", NULL};
    int betas = c->betas, predicts = PREDICT_EPS, how = -1; // -1: absent
    bool karras = false, exponential = false;
    status st = read_int(file, "num_train_timesteps", &c->train_steps, err);
    if (!st) st = read_choice(file, "beta_schedule", curves, &betas, err);
    if (!st) st = read_number(file, "beta_start", &c->beta_start, err);
    if (!st) st = read_number(file, "beta_end", &c->beta_end, err);
    if (!st) st = read_bool(file, "rescale_betas_zero_snr", &c->zero_snr, err);
    if (!st) st = read_choice(file, "prediction_type", predictions, &predicts, err);
    if (!st) st = read_choice(file, "timestep_spacing", spacings, &how, err);
    if (!st) st = read_bool(file, "use_karras_sigmas", &karras, err);
    if (!st) st = read_bool(file, "use_exponential_sigmas", &exponential, err);
    if (!st) st = read_int(file, "steps_offset", &c->steps_offset, err);
    if (!st) st = read_bool(file, "set_alpha_to_one", &c->set_alpha_to_one, err);
    c->betas = (beta_curve)betas;
    c->predicts = (prediction)predicts;
    c->spacing = karras        ? SPACING_KARRAS
                 : exponential ? SPACING_EXPONENTIAL
                 : how < 0     ? SPACING_AUTO
                               : (spacing)(SPACING_LEADING + how);
    return st;
}

status scheduler_config_read(schedule_config *config, const json_t *file, error *err) {
    if (!json_is_object(file)) return fail(err, ERR_DATA, "the scheduler configuration is not a JSON object");
    const class_defaults *d;
    status st = find_class(file, &d, err);
    if (st) return st;
    *config = (schedule_config){.train_steps = 1000,
                                .betas = d->betas,
                                .beta_start = d->beta_start,
                                .beta_end = d->beta_end,
                                .set_alpha_to_one = d->set_alpha_to_one};
    st = refuse(file, err);
    return st ? st : read_fields(config, file, err);
}
