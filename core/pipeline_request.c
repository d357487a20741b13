#include "core/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/nearest.h"
#include "core/base/text.h"
#include "core/pipeline_hires.h"
#include "core/pipeline_refiner.h"
#include "core/upscaler.h"
#include "samplers/scheduler_config.h"
#include "samplers/spacing.h"

enum { MAX_COUNT = 1 << 20, MIN_VAE_TILE = 64 };

// ---- what the model says, and which sampler

enum { MAX_NAMES = 64, MAX_NAME = 64 };

status unknown_name(const char *kind, const char *name, const char *(*names)(int i), error *err) {
    const char *all[MAX_NAMES];
    char list[MAX_NAMES * 16] = "", small[MAX_NAME] = "";
    size_t n = 0, at = 0;
    for (; n < MAX_NAMES && (all[n] = names((int)n)) && at < sizeof list; n++)
        at += (size_t)snprintf(list + at, sizeof list - at, " %s", all[n]);
    for (size_t i = 0; name[i] && i < MAX_NAME - 1; i++)
        small[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 'a' - 'A'
                          : name[i] == ' '                 ? '_'
                                                           : name[i]);
    const char *best = nearest_name(small, all, n);
    return fail(err, ERR_USAGE, "no %s is called '%s'%s%s%s; there are%s", kind, name,
                best ? " (did you mean " : "", best ? best : "", best ? "?)" : "", list);
}

// NULL where the class is none of those that sample.
static const sampler *sampler_of(const json_t *scheduler) {
    const char *class_name = json_string_value(json_object_get(scheduler, "_class_name")),
               *algorithm = json_string_value(json_object_get(scheduler, "algorithm_type"));
    if (!class_name) return NULL;
    bool multistep = !strcmp(class_name, "DPMSolverMultistepScheduler");
    if (multistep && algorithm && !strcmp(algorithm, "sde-dpmsolver++")) class_name = "dpmpp_2m_sde";
    return sampler_find(class_name, NULL);
}

status txt2img_read_scheduler(const txt2img *t, const model *m, schedule_config *c, const sampler **suggested,
                              error *err) {
    const calo_txt2img_request *r = t->request;
    char *where;
    json_t *j = model_config(m, "scheduler", &where, err);
    status s = j ? scheduler_config_read(c, j, err) : err->code;
    *suggested = sampler_of(j);
    if (s && j) fail_in(err, "%s", where);
    if (!s && r->zero_snr) c->zero_snr = r->zero_snr == CALO_ZERO_SNR_ON;
    json_decref(j);
    mem_free(where);
    return s;
}

static status read_schedule(txt2img *t, const sampler **suggested, error *err) {
    const calo_txt2img_request *r = t->request;
    schedule_config c;
    TRY(txt2img_read_scheduler(t, t->model->m, &c, suggested, err));
    if (r->prediction) c.predicts = (prediction)(r->prediction - CALO_PREDICT_EPS);
    if (schedule_init(&t->schedule, &c, err)) fail_in(err, "%s", model_dir(t->model->m));
    return err->code;
}

static void choose_tuning(txt2img *t) {
    const calo_txt2img_request *r = t->request;
    t->tune = sampler_defaults(t->sampler);
    if (r->eta >= 0) t->tune.eta = r->eta;
    t->tune.s_noise = r->s_noise;
    t->tune.s_churn = r->s_churn;
    t->tune.s_tmin = r->s_tmin;
    if (r->s_tmax > 0) t->tune.s_tmax = r->s_tmax;
}

static status choose_spacing(const calo_txt2img_request *r, spacing *how, error *err) {
    const spacing_row *row = r->scheduler ? spacing_find(r->scheduler) : spacing_row_of((spacing)r->spacing);
    *how = row ? row->how : SPACING_AUTO;
    if (row || (r->scheduler ? spacing_is_auto(r->scheduler) : r->spacing == CALO_SPACING_AUTO)) return OK;
    if (!r->scheduler) return fail(err, ERR_USAGE, "no spacing has the number %d", (int)r->spacing);
    return unknown_name("scheduler", r->scheduler, calo_spacing_name, err);
}

bool txt2img_begins(const txt2img *t) { return t->first || (t->request->init_image && !t->edits); }

static status choose_sampler(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    const sampler *suggested;
    status s = read_schedule(t, &suggested, err);
    if (s) return s;
    spacing how, named = SPACING_AUTO;
    if ((s = choose_spacing(r, &how, err))) return s;
    t->sampler = r->sampler  ? sampler_find(r->sampler, &named)
                 : suggested ? suggested
                             : sampler_find("dpmpp_2m", NULL);
    if (!t->sampler) return unknown_name("sampler", r->sampler, calo_sampler_name, err);
    if (how == SPACING_AUTO) how = named;
    choose_tuning(t);
    s = sampler_steps(t->sampler, &t->schedule, t->steps, how, &t->points, err);
    if (!s && txt2img_begins(t)) schedule_steps_tail(&t->points, r->strength);
    return s;
}

static status check_networks(txt2img *t, error *err) {
    model *m = t->model->m;
    const unet_config *u = model_unet(m, err);
    const vae_config *v = u ? model_vae(m, err) : NULL;
    if (!v) return err->code;
    t->C = v->latent_channels;
    t->inpaints = u->in_channels == 2 * t->C + 1;
    t->edits = u->in_channels == 2 * t->C;
    if ((u->in_channels != t->C && !t->inpaints && !t->edits) || u->out_channels != t->C)
        return fail(err, ERR_DATA,
                    "%s: a UNet from %d to %d channels over latents of %d is not for text to image",
                    model_dir(m), (int)u->in_channels, (int)u->out_channels, (int)v->latent_channels);
    if (t->inpaints && !t->request->init_image)
        return fail(err, ERR_USAGE, "%s: an inpainting model needs an initial picture and a mask",
                    model_dir(m));
    if (t->edits && !t->request->init_image)
        return fail(err, ERR_USAGE, "%s: a model that edits pictures needs an initial picture", model_dir(m));
    if (t->request->init_image && v->in_channels != 3)
        return fail(err, ERR_DATA, "%s: the autoencoder reads %d channels, not 3", model_dir(m),
                    (int)v->in_channels);
    if (v->out_channels != 3)
        return fail(err, ERR_DATA, "%s: the autoencoder's pictures have %d channels, not 3", model_dir(m),
                    (int)v->out_channels);
    if (u->class_embed != CLASS_NONE)
        return fail(err, ERR_DATA, "%s: the UNet asks for class labels, which a prompt does not give",
                    model_dir(m));
    return OK;
}

// What is wrong with a network goes behind what is wrong with others, as far as there is room.
static void check_network(model *m, network net, error *all) {
    error err = {0};
    if (!model_check(m, net, &err)) return;
    size_t used = strlen(all->text);
    if (!all->code)
        *all = err;
    else if (all->code == err.code && used + strlen(err.text) + 3 < sizeof all->text)
        sprintf(all->text + used, "; %s", err.text);
}

static void check_expert(model *m, error *all) {
    if (model_has(m, PART_TEXT_ENCODER)) check_network(m, NET_TEXT_ENCODER, all);
    if (model_has(m, PART_TEXT_ENCODER_2)) check_network(m, NET_TEXT_ENCODER_2, all);
    check_network(m, NET_UNET, all);
}

static status hand_on(const error *all, error *err) {
    return all->code ? fail(err, all->code, "%s", all->text) : OK;
}

status txt2img_check_expert(model *m, error *err) {
    error all = {0};
    check_expert(m, &all);
    return hand_on(&all, err);
}

// All that is wrong with any of the networks is said before the first one runs.
static status check_tensors(const txt2img *t, error *err) {
    model *m = t->model->m;
    error all = {0};
    check_expert(m, &all);
    if (t->request->init_image) check_network(m, NET_VAE_ENCODER, &all);
    check_network(m, NET_VAE_DECODER, &all);
    return hand_on(&all, err);
}

// What the user left open is the initial picture's size, or else the one the UNet was trained on.
static status choose_size(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    int64_t f = vae_factor(model_vae(t->model->m, err)), side = model_unet(t->model->m, err)->sample_size;
    int usual = (int)((side ? side : 64) * f);
    const calo_tensor *init = r->init_latents;
    int width = usual, height = usual;
    if (r->init_image && !r->only_masked) {
        beginning_size(r, (int)f, &width, &height);
        width = width < f ? (int)f : width - width % (int)f;
        height = height < f ? (int)f : height - height % (int)f;
    } else if (init) {
        width = (int)(init->shape[3] * f);
        height = (int)(init->shape[2] * f);
    }
    t->width = r->width ? r->width : width;
    t->height = r->height ? r->height : height;
    if (t->width < 1 || t->height < 1 || t->width > MAX_SIDE || t->height > MAX_SIDE || t->width % f ||
        t->height % f)
        return fail(err, ERR_USAGE, "the size %dx%d is not made of multiples of %d up to %d", t->width,
                    t->height, (int)f, MAX_SIDE);
    t->h = t->height / f;
    t->w = t->width / f;
    if (!init || (init->shape[0] == t->count && init->shape[1] == t->C && init->shape[2] == t->h &&
                  init->shape[3] == t->w))
        return OK;
    return fail(err, ERR_USAGE,
                "the initial latents are [%d,%d,%d,%d]; %d images of %dx%d need [%d,%d,%d,%d]",
                (int)init->shape[0], (int)init->shape[1], (int)init->shape[2], (int)init->shape[3], t->count,
                t->width, t->height, t->count, (int)t->C, (int)t->h, (int)t->w);
}

// Latents of a usable shape: the caller's file may say anything.
static bool is_latents(const calo_tensor *x) {
    bool good = x->rank == 4 && x->type == CALO_F32 && x->data;
    for (int i = 0; i < 4 && good; i++) good = x->shape[i] >= 1 && x->shape[i] <= MAX_SIDE;
    return good;
}

static int first_dimension(const calo_tensor *x) { return is_latents(x) ? (int)x->shape[0] : 1; }

// ---- what differs between the images of a request

static const char *text_at(const char *const *each, const char *all, int i) { return each ? each[i] : all; }

static const char *or_empty(const char *text) { return text ? text : ""; }

const char *txt2img_prompt(const txt2img *t, int i) {
    return or_empty(text_at(t->request->prompts, t->request->prompt, i));
}

const char *txt2img_negative(const txt2img *t, int i) {
    return text_at(t->request->negative_prompts, t->request->negative_prompt, i);
}

uint64_t txt2img_seed(const txt2img *t, int i) {
    return t->request->seeds ? t->request->seeds[i] : t->request->seed + (uint64_t)i;
}

bool txt2img_has_own_texts(const txt2img *t) { return t->request->prompts || t->request->negative_prompts; }

// A picture's description is JSON, which knows UTF-8 only: better refused before the work than after.
static status check_texts(const txt2img *t, error *err) {
    for (int i = 0; i < (txt2img_has_own_texts(t) ? t->count : 1); i++)
        for (int negative = 0; negative < 2; negative++)
            if (!text_is_utf8(negative ? or_empty(txt2img_negative(t, i)) : txt2img_prompt(t, i)))
                return fail(err, ERR_USAGE, "the %sprompt is not UTF-8", negative ? "negative " : "");
    return OK;
}

static status check_batch(const txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    int64_t first = r->batch_index, n = r->seeds ? 1 : t->count;
    if (r->batch_size ? first >= 0 && first + n <= r->batch_size : !first) return OK;
    return fail(err, ERR_USAGE, "%d picture%s from number %d on are no part of a batch of %d", (int)n,
                n == 1 ? "" : "s", r->batch_index, r->batch_size);
}

static status check_numbers(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    if (r->init_latents && !is_latents(r->init_latents))
        return fail(err, ERR_USAGE, "the initial latents are not F32 of four dimensions");
    if (r->steps < 1 || r->steps > MAX_STEPS)
        return fail(err, ERR_USAGE, "%d steps are not in 1 .. %d", r->steps, MAX_STEPS);
    if (t->count < 1 || t->count > MAX_COUNT)
        return fail(err, ERR_USAGE, "%d images are not in 1 .. %d", t->count, MAX_COUNT);
    if (!(fabs(r->cfg_scale) <= 1000))
        return fail(err, ERR_USAGE, "the guidance scale %g is not a usable number", r->cfg_scale);
    if (!(fabs(r->image_cfg_scale) <= 1000))
        return fail(err, ERR_USAGE, "the picture's guidance scale %g is not a usable number",
                    r->image_cfg_scale);
    if (r->preview_every < 0 || (int)r->preview_method < 0 || r->preview_method > CALO_PREVIEW_LINEAR)
        return fail(err, ERR_USAGE, "a preview every %d steps by method %d makes no sense", r->preview_every,
                    (int)r->preview_method);
    if (!(r->cfg_rescale <= 1))
        return fail(err, ERR_USAGE, "the guidance rescale %g is not in 0 .. 1", r->cfg_rescale);
    if (!(r->eta <= 1) || !(r->s_noise >= 0) || !(r->s_churn >= 0) || !(r->s_tmin >= 0) ||
        !(r->s_tmax >= 0) || !(r->s_noise + r->s_churn <= 1000))
        return fail(err, ERR_USAGE, "eta %g, s_noise %g, s_churn %g, s_tmin %g or s_tmax %g is out of range",
                    r->eta, r->s_noise, r->s_churn, r->s_tmin, r->s_tmax);
    if (!(r->cfg_start >= 0) || !(r->cfg_end <= 1) || !(r->cfg_start <= r->cfg_end))
        return fail(err, ERR_USAGE, "guidance from %g to %g is not within 0 .. 1", r->cfg_start, r->cfg_end);
    if (!(r->refiner_switch_at >= 0) || !(r->refiner_switch_at <= 1))
        return fail(err, ERR_USAGE, "a switch to the refiner at %g of the steps is not within 0 .. 1",
                    r->refiner_switch_at);
    if ((int)r->noise_layout < 0 || r->noise_layout > CALO_NOISE_DIFFUSERS)
        return fail(err, ERR_USAGE, "no noise layout has the number %d", (int)r->noise_layout);
    TRY(check_batch(t, err));
    if ((int)r->sampler_rng < 0 || r->sampler_rng > CALO_SAMPLER_RNG_NV)
        return fail(err, ERR_USAGE, "no generator of the steps' noise has the number %d",
                    (int)r->sampler_rng);
    if ((int)r->step_noise < 0 || r->step_noise > CALO_STEP_NOISE_BROWNIAN)
        return fail(err, ERR_USAGE, "no noise of steps has the number %d", (int)r->step_noise);
    if ((int)r->vae_tiling < 0 || r->vae_tiling > CALO_TILING_OFF ||
        (r->vae_tile_size && (r->vae_tile_size < MIN_VAE_TILE || r->vae_tile_size > MAX_SIDE)))
        return fail(err, ERR_USAGE, "tiling %d or tiles of %d pixels are out of range", (int)r->vae_tiling,
                    r->vae_tile_size);
    if (r->clip_skip < 0 || (int)r->emphasis < 0 || r->emphasis > CALO_EMPHASIS_NONE)
        return fail(err, ERR_USAGE, "a clip skip of %d or an emphasis of %d is out of range", r->clip_skip,
                    (int)r->emphasis);
    return OK;
}

static status choose_beginning(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    if (!r->init_image) return r->mask ? fail(err, ERR_USAGE, "a mask needs an initial picture") : OK;
    int f = (int)vae_factor(model_vae(t->model->m, err));
    TRY(beginning_make(&t->begin, r, t->width, t->height, f, err));
    if (t->inpaints && !t->begin.latent_mask)
        return fail(err, ERR_USAGE, "%s: an inpainting model needs a mask", model_dir(t->model->m));
    if (t->edits && t->begin.latent_mask)
        return fail(err, ERR_USAGE, "%s: a model that edits pictures takes no mask", model_dir(t->model->m));
    return OK;
}

status txt2img_init(txt2img *t, calo_model *m, const calo_txt2img_request *r, error *err) {
    *t = (txt2img){.model = m, .request = r};
    t->steps = r->steps;
    t->count = r->count ? r->count : r->init_latents ? first_dimension(r->init_latents) : 1;
    t->cfg_scale = r->cfg_scale;
    t->guided = r->cfg_scale != 1;
    t->emphasis = (emphasis)r->emphasis;
    t->compute = api_compute(m->ctx->options.precision);
    status s = check_numbers(t, err);
    if (!s) s = check_texts(t, err);
    if (!s) s = beginning_check(r, err);
    if (!s) s = check_networks(t, err);
    t->guided = t->guided || (t->edits && r->image_cfg_scale != 1);
    if (!s) s = check_tensors(t, err);
    if (!s && r->refiner) s = refiner_check(t, err);
    if (!s && !r->prediction) s = probe_prediction(t->model, t->compute, err);
    if (!s) s = choose_size(t, err);
    if (!s) s = choose_beginning(t, err);
    if (!s) s = choose_sampler(t, err);
    if (!s) s = refiner_init(t, err);
    t->cfg_rescale = r->cfg_rescale >= 0 ? r->cfg_rescale : t->schedule.config.zero_snr ? 0.7 : 0;
    if (!s && hires_wanted(r)) s = hires_init(t, err);
    return s;
}

void txt2img_free(txt2img *t) {
    beginning_free(&t->begin);
    schedule_steps_free(&t->points);
    schedule_free(&t->schedule);
    if (t->second) schedule_steps_free(&t->second->points); // all else is the first pass's
    mem_free(t->second);
    upscaler_free(t->enlarger);
}

// ---- what follows from it

// As many pixels of latents as one picture of 512 pixels has.
int txt2img_group(const txt2img *t) {
    enum { GROUP_PIXELS = 64 * 64 };
    const txt2img *largest = txt2img_largest(t);
    int64_t fit = GROUP_PIXELS / (largest->h * largest->w);
    int most = fit < 1 || t->sampler->adaptive ? 1 : fit > MAX_GROUP ? MAX_GROUP : (int)fit;
    return most < t->count ? most : t->count;
}

int txt2img_rows(const txt2img *t, bool guides) { return !guides ? 1 : t->edits ? 3 : 2; }

autoencoder txt2img_autoencoder(const txt2img *t) {
    return (autoencoder){.model = t->model,
                         .compute = t->compute,
                         .C = t->C,
                         .h = t->h,
                         .w = t->w,
                         .tiling = t->request->vae_tiling,
                         .tile = t->request->vae_tile_size,
                         .images = t->count};
}
