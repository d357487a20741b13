// What a picture's file says about its making.
#include "core/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"

static const char *const SPACINGS[] = {"auto", "leading", "linspace", "trailing", "karras"};
static const char *const PREDICTIONS[] = {"eps", "v", "x0"};

static const char *rng_name(calo_rng r) { return r == CALO_RNG_NV ? "nv" : "cpu"; }

// A1111 quotes values that would break its list of "key: value, ".
static void put_value(FILE *f, const char *text) {
    if (!strpbrk(text, ",:\n\"")) {
        fputs(text, f);
        return;
    }
    json_t *s = json_string_nocheck(text);
    char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
    fputs(quoted ? quoted : "\"\"", f);
    free(quoted);
    json_decref(s);
}

static void put_parameters(FILE *f, const txt2img *t, int i) {
    fprintf(f, "%s\n", txt2img_prompt(t, i));
    const char *negative = txt2img_negative(t, i);
    if (negative && *negative) fprintf(f, "Negative prompt: %s\n", negative);
    fprintf(f, "Steps: %d, Sampler: %s", t->steps, t->sampler->label);
    if (t->points.how == SPACING_KARRAS) fputs(", Schedule type: Karras", f);
    fprintf(f, ", CFG scale: %g, Seed: %llu, Size: %dx%d", t->cfg_scale,
            (unsigned long long)txt2img_seed(t, i), t->width, t->height);
    if (*t->model->sha256) fprintf(f, ", Model hash: %.10s", t->model->sha256);
    fputs(", Model: ", f);
    put_value(f, model_name(t->model->m));
    if (t->cfg_rescale > 0) fprintf(f, ", CFG Rescale: %g", t->cfg_rescale);
    fprintf(f, ", RNG: %s", t->request->rng == CALO_RNG_NV ? "NV" : "CPU");
    if (t->schedule.config.zero_snr) fputs(", Noise Schedule: Zero Terminal SNR", f);
    fprintf(f, ", Version: calotype %s", CALO_VERSION);
}

static json_t *description(const txt2img *t, int i) {
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s?, s:i, s:i, s:i, s:s, s:s, s:f, s:f, s:s, s:b, s:s, s:I, s:s, s:s, s:s}",
        "format", 1, "program", "calotype " CALO_VERSION, "prompt", txt2img_prompt(t, i), "negative_prompt",
        txt2img_negative(t, i), "width", t->width, "height", t->height, "steps", t->steps, "sampler",
        t->sampler->name, "scheduler", SPACINGS[t->points.how], "cfg_scale", t->cfg_scale, "cfg_rescale",
        t->cfg_rescale, "prediction", PREDICTIONS[t->schedule.config.predicts], "zero_snr",
        t->schedule.config.zero_snr, "rng", rng_name(t->request->rng), "seed", (json_int_t)txt2img_seed(t, i),
        "precision", t->compute == DT_BF16 ? "bf16" : "f32", "fast",
        t->model->ctx->options.fast == CALO_FAST_OFF ? "off" : "auto", "model", model_name(t->model->m));
    if (j && t->request->init_latents) json_object_set_new(j, "init_latents", json_true());
    if (j && *t->model->sha256) json_object_set_new(j, "model_sha256", json_string(t->model->sha256));
    return j;
}

// The fewest significant digits from which a number comes back, so that a picture can be repeated.
static int exact_digits(double v) {
    char text[40];
    for (int digits = 6; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) return digits;
    }
    return 17;
}

status txt2img_describe(const txt2img *t, int i, char **parameters, char **json, error *err) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (f) {
        put_parameters(f, t, i);
        if (fclose(f)) n = 0;
    }
    json_t *j = description(t, i);
    int digits = exact_digits(t->cfg_scale), more = exact_digits(t->cfg_rescale);
    if (digits < more) digits = more;
    char *dump = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(digits)) : NULL;
    *parameters = text ? mem_strdup(text) : NULL;
    *json = dump ? mem_strdup(dump) : NULL;
    bool whole = *parameters && *json;
    free(dump);
    free(text);
    json_decref(j);
    if (whole) return OK;
    mem_free(*parameters);
    mem_free(*json);
    *parameters = *json = NULL;
    return fail(err, ERR_TEMP, "out of memory");
}
