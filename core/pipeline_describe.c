// What a picture's file says about its making.
#include "core/pipeline_hires.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/pipeline_noise.h"
#include "samplers/spacing.h"

static const char *const EMPHASES[] = {"original", "no-norm", "comfy", "none"};
static const char *const EMPHASIS_LABELS[] = {"Original", "No norm", "Comfy", "None"}; // A1111's, but Comfy
static const char *const LAYOUTS[] = {"a1111", "comfy", "diffusers"};
static const char *const SAMPLER_RNGS[] = {"same", "cpu", "nv"};
static const char *const STEP_NOISES[] = {"auto", "plain", "brownian"};
static const char *const RESIZES[] = {"stretch", "crop", "fill"};
static const char *const CONTENTS[] = {"original", "fill", "noise", "zeros"};
static const char *const TILINGS[] = {"auto", "on", "off"};
static const char *const PREDICTIONS[] = {"eps", "v", "x0"};

static const char *rng_name(calo_rng r) { return r == CALO_RNG_NV ? "nv" : "cpu"; }

void infotext_value(FILE *f, const char *text) {
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

// ---- an autoencoder that takes the place of the model's

enum { VAE_NAME = 300 };
typedef struct {
    char name[VAE_NAME]; // "": it is the model's own
    const char *sha256;  // "": there is to be none
} other_vae;

// A file's whole name, as A1111 has it; of a folder the model's that it belongs to.
static void name_vae(const char *path, char name[VAE_NAME]) {
    static const char CACHED[] = "/models--", PART[] = "/vae"; // the hub's "models--org--name"
    const char *cached = fs_is_dir(path) ? strstr(path, CACHED) : NULL, *from;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n > strlen(PART) && !strncmp(path + n - strlen(PART), PART, strlen(PART))) n -= strlen(PART);
    for (from = path + n; from > path && from[-1] != '/'; from--) {
    }
    if (cached && (cached = strstr(cached + strlen(CACHED), "--"))) {
        from = cached + 2;
        n = (size_t)(from - path) + strcspn(from, "/");
    }
    snprintf(name, VAE_NAME, "%.*s", (int)(path + n - from), from);
    if (!text_is_utf8(name)) snprintf(name, VAE_NAME, "?");
}

static status find_other_vae(const txt2img *t, other_vae *v, error *err) {
    const char *path;
    *v = (other_vae){.sha256 = t->request->no_hash ? "" : t->model->vae_sha256};
    TRY(model_other_vae(t->model->m, &path, err));
    if (path) name_vae(path, v->name);
    return OK;
}

// ---- A1111's words

// What is not as usual, in A1111's words where it has them.
static void put_tuning(FILE *f, const calo_txt2img_request *r) {
    calo_txt2img_request usual = calo_txt2img_defaults();
    if (r->eta >= 0) fprintf(f, ", Eta: %g", r->eta);
    if (r->s_churn != usual.s_churn) fprintf(f, ", Sigma churn: %g", r->s_churn);
    if (r->s_tmin != usual.s_tmin) fprintf(f, ", Sigma tmin: %g", r->s_tmin);
    if (r->s_tmax != usual.s_tmax) fprintf(f, ", Sigma tmax: %g", r->s_tmax);
    if (r->s_noise != usual.s_noise) fprintf(f, ", Sigma noise: %g", r->s_noise);
    if (r->eta_seed_delta) fprintf(f, ", ENSD: %lld", (long long)r->eta_seed_delta);
    if (r->cfg_start != usual.cfg_start || r->cfg_end != usual.cfg_end)
        fprintf(f, ", Guidance: %g to %g", r->cfg_start, r->cfg_end);
    if (r->noise_layout) fprintf(f, ", Noise layout: %s", LAYOUTS[r->noise_layout]);
    if (r->step_noise) fprintf(f, ", Step noise: %s", STEP_NOISES[r->step_noise]);
    if (r->sampler_rng) fprintf(f, ", Sampler RNG: %s", r->sampler_rng == CALO_SAMPLER_RNG_NV ? "NV" : "CPU");
}

// In A1111's words where it has some.
static void put_beginning(FILE *f, const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (!r->init_image) return;
    if (t->edits) {
        fprintf(f, ", Image CFG scale: %g", r->image_cfg_scale);
        return;
    }
    fprintf(f, ", Denoising strength: %g", r->strength);
    if (!t->begin.latent_mask) return;
    fprintf(f, ", Mask blur: %d", r->mask_blur);
    if (r->only_masked) fprintf(f, ", Inpaint area: Only masked, Masked area padding: %d", r->mask_padding);
}

// In A1111's words.
static void put_second(FILE *f, const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (!t->second) return;
    fprintf(f, ", Denoising strength: %g", r->hires_denoise);
    if (r->hires_width || r->hires_height)
        fprintf(f, ", Hires resize: %dx%d", t->second->width, t->second->height);
    else
        fprintf(f, ", Hires upscale: %g", r->hires_scale != 0 ? r->hires_scale : 2);
    if (r->hires_steps) fprintf(f, ", Hires steps: %d", r->hires_steps);
    fputs(", Hires upscaler: ", f);
    infotext_value(f, hires_upscaler_of(t, true));
}

// In A1111's words, which says by what it counts where that is not the timestep.
static void put_refiner(FILE *f, const txt2img *t) {
    const calo_model *m = t->request->refiner;
    char name[300]; // a file's name, and ten digits
    if (!m) return;
    if (*m->sha256)
        snprintf(name, sizeof name, "%s [%.10s]", model_name(m->m), m->sha256);
    else
        snprintf(name, sizeof name, "%s", model_name(m->m));
    fputs(", Refiner: ", f);
    infotext_value(f, name);
    fprintf(f, ", Refiner switch at: %g, Refiner switch by sampling steps: True",
            t->request->refiner_switch_at);
}

static void put_vae(FILE *f, const other_vae *v) {
    if (*v->sha256) fprintf(f, ", VAE hash: %.10s", v->sha256);
    if (!*v->name) return;
    fputs(", VAE: ", f);
    infotext_value(f, v->name);
}

static void put_parameters(FILE *f, const txt2img *t, int i, const other_vae *v) {
    fprintf(f, "%s\n", txt2img_prompt(t, i));
    const char *negative = txt2img_negative(t, i);
    if (negative && *negative) fprintf(f, "Negative prompt: %s\n", negative);
    fprintf(f, "Steps: %d, Sampler: %s", t->steps, t->sampler->label);
    const char *schedule_type = spacing_row_of(t->points.how)->label;
    if (schedule_type) fprintf(f, ", Schedule type: %s", schedule_type);
    fprintf(f, ", CFG scale: %g, Seed: %llu, Size: %dx%d", t->cfg_scale,
            (unsigned long long)txt2img_seed(t, i), t->width, t->height);
    if (*t->model->sha256) fprintf(f, ", Model hash: %.10s", t->model->sha256);
    fputs(", Model: ", f);
    infotext_value(f, model_name(t->model->m));
    put_vae(f, v);
    if (t->cfg_rescale > 0) fprintf(f, ", CFG Rescale: %g", t->cfg_rescale);
    put_beginning(f, t);
    put_second(f, t);
    put_refiner(f, t);
    if (t->request->clip_skip) fprintf(f, ", Clip skip: %d", t->request->clip_skip);
    if (t->emphasis) fprintf(f, ", Emphasis: %s", EMPHASIS_LABELS[t->emphasis]);
    put_tuning(f, t->request);
    fprintf(f, ", RNG: %s", t->request->rng == CALO_RNG_NV ? "NV" : "CPU");
    if (t->schedule.config.zero_snr) fputs(", Noise Schedule: Zero Terminal SNR", f);
    fprintf(f, ", Version: calotype %s", CALO_VERSION);
}

// ---- our JSON: each returns whether all of it is in `j`

// What is not as usual, under the names of the options.
static bool describe_tuning(json_t *j, const calo_txt2img_request *r) {
    calo_txt2img_request usual = calo_txt2img_defaults();
    const struct {
        const char *key;
        double value, usual;
    } reals[] = {{"eta", r->eta, usual.eta},
                 {"s_churn", r->s_churn, usual.s_churn},
                 {"s_tmin", r->s_tmin, usual.s_tmin},
                 {"s_tmax", r->s_tmax, usual.s_tmax},
                 {"s_noise", r->s_noise, usual.s_noise},
                 {"cfg_start", r->cfg_start, usual.cfg_start},
                 {"cfg_end", r->cfg_end, usual.cfg_end}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (reals[i].value != reals[i].usual &&
            json_object_set_new(j, reals[i].key, json_real(reals[i].value)))
            return false;
    if (r->eta_seed_delta && json_object_set_new(j, "ensd", json_integer(r->eta_seed_delta))) return false;
    if (r->vae_tiling && json_object_set_new(j, "vae_tiling", json_string(TILINGS[r->vae_tiling])))
        return false;
    if (r->vae_tile_size && json_object_set_new(j, "vae_tile_size", json_integer(r->vae_tile_size)))
        return false;
    if (r->noise_layout && json_object_set_new(j, "noise_layout", json_string(LAYOUTS[r->noise_layout])))
        return false;
    if (r->sampler_rng && json_object_set_new(j, "sampler_rng", json_string(SAMPLER_RNGS[r->sampler_rng])))
        return false;
    return !r->step_noise || !json_object_set_new(j, "step_noise", json_string(STEP_NOISES[r->step_noise]));
}

static bool describe_mask(json_t *j, const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    char borders[64];
    snprintf(borders, sizeof borders, "%d,%d,%d,%d", r->outpaint_left, r->outpaint_right, r->outpaint_top,
             r->outpaint_bottom);
    return !json_object_set_new(j, "mask_image", json_boolean(r->mask != NULL)) &&
           !json_object_set_new(j, "mask_blur", json_integer(r->mask_blur)) &&
           !json_object_set_new(j, "mask_content", json_string(CONTENTS[r->mask_content])) &&
           !json_object_set_new(j, "inpaint_full_res", json_boolean(r->only_masked)) &&
           !json_object_set_new(j, "mask_padding", json_integer(r->mask_padding)) &&
           !json_object_set_new(j, "outpaint", json_string(borders));
}

static bool describe_beginning(json_t *j, const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (!r->init_image) return true;
    const char *key = t->edits ? "image_cfg_scale" : "strength";
    return !json_object_set_new(j, "init_image", json_true()) &&
           !json_object_set_new(j, key, json_real(t->edits ? r->image_cfg_scale : r->strength)) &&
           !json_object_set_new(j, "resize_mode", json_string(RESIZES[r->resize])) &&
           (!t->begin.latent_mask || describe_mask(j, t));
}

static bool describe_second(json_t *j, const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (!t->second) return true;
    const struct {
        const char *key;
        int value;
    } numbers[] = {
        {"hires_width", r->hires_width}, {"hires_height", r->hires_height}, {"hires_steps", r->hires_steps}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value && json_object_set_new(j, numbers[i].key, json_integer(numbers[i].value)))
            return false;
    if (r->hires_scale != 0 && json_object_set_new(j, "hires_scale", json_real(r->hires_scale))) return false;
    return !json_object_set_new(j, "hires", json_true()) &&
           !json_object_set_new(j, "hires_upscaler", json_string(hires_upscaler_of(t, false))) &&
           !json_object_set_new(j, "hires_denoise", json_real(r->hires_denoise));
}

static bool describe_refiner(json_t *j, const txt2img *t) {
    const calo_model *m = t->request->refiner;
    if (!m) return true;
    return !json_object_set_new(j, "refiner", json_string(model_name(m->m))) &&
           !json_object_set_new(j, "refiner_switch_at", json_real(t->request->refiner_switch_at)) &&
           (!*m->sha256 || !json_object_set_new(j, "refiner_sha256", json_string(m->sha256)));
}

static bool describe_text(json_t *j, const txt2img *t) {
    int skip = t->request->clip_skip;
    return !json_object_set_new(j, "emphasis", json_string(EMPHASES[t->emphasis])) &&
           (!skip || !json_object_set_new(j, "clip_skip", json_integer(skip)));
}

static bool describe_vae(json_t *j, const other_vae *v) {
    return (!*v->name || !json_object_set_new(j, "vae", json_string(v->name))) &&
           (!*v->sha256 || !json_object_set_new(j, "vae_sha256", json_string(v->sha256)));
}

// Which of the pictures of its generator it is.
static bool describe_batch(json_t *j, const txt2img *t, int i) {
    int n = txt2img_batch(t);
    return n == 1 || (!json_object_set_new(j, "batch_index", json_integer(txt2img_place(t, i))) &&
                      !json_object_set_new(j, "batch_size", json_integer(n)));
}

static json_t *description(const txt2img *t, int i, const other_vae *v) {
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s?, s:i, s:i, s:i, s:s, s:s, s:f, s:f, s:s, s:b, s:s, s:I, s:s, s:s, s:s}",
        "format", 1, "program", "calotype " CALO_VERSION, "prompt", txt2img_prompt(t, i), "negative_prompt",
        txt2img_negative(t, i), "width", t->width, "height", t->height, "steps", t->steps, "sampler",
        t->sampler->name, "scheduler", spacing_row_of(t->points.how)->name, "cfg_scale", t->cfg_scale,
        "cfg_rescale", t->cfg_rescale, "prediction", PREDICTIONS[t->schedule.config.predicts], "zero_snr",
        t->schedule.config.zero_snr, "rng", rng_name(t->request->rng), "seed", (json_int_t)txt2img_seed(t, i),
        "precision", t->compute == DT_BF16 ? "bf16" : "f32", "fast",
        t->model->ctx->options.fast == CALO_FAST_OFF ? "off" : "auto", "model", model_name(t->model->m));
    if (j &&
        !(describe_tuning(j, t->request) && describe_text(j, t) && describe_beginning(j, t) &&
          describe_second(j, t) && describe_refiner(j, t) && describe_vae(j, v) && describe_batch(j, t, i))) {
        json_decref(j);
        return NULL;
    }
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

static int exact_digits_of(json_t *j) {
    const char *key;
    json_t *v;
    int most = 6;
    json_object_foreach(j, key, v) {
        int digits = json_is_real(v) ? exact_digits(json_real_value(v)) : 0;
        if (digits > most) most = digits;
    }
    return most;
}

status txt2img_describe(const txt2img *t, int i, char **parameters, char **json, error *err) {
    char *text = NULL;
    size_t n;
    other_vae v;
    TRY(find_other_vae(t, &v, err));
    FILE *f = open_memstream(&text, &n);
    if (f) {
        put_parameters(f, t, i, &v);
        if (fclose(f)) n = 0;
    }
    json_t *j = description(t, i, &v);
    char *dump = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(exact_digits_of(j))) : NULL;
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
