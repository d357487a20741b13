#include "core/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/nearest.h"
#include "core/base/rng.h"
#include "core/base/utf8.h"
#include "core/models/latent_rgb.h"
#include "core/models/layout.h"
#include "core/pipeline_hires.h"
#include "core/pipeline_memory.h"
#include "core/pipeline_text.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"
#include "samplers/scheduler_config.h"
#include "samplers/spacing.h"

// Letters: n images of a group, B rows of the UNet's batch (2n with guidance: all negative, then all
// positive), C h w latents, T tokens, E features.

enum { MAX_SIDE = 8192, MAX_COUNT = 1 << 20, MAX_STEPS = 1000 };
// Pixels of latents that go through the network together: as many as one picture of 512 pixels has.
enum { GROUP_PIXELS = 64 * 64, MAX_GROUP = 8 };
enum { MIN_VAE_TILE = 64 };

// Tells the caller that a stage is `done` of `all`, for the `n` images of a group from `image` on.
static status tell(const txt2img *t, const char *stage, int done, int all, int finished, int n,
                   double seconds, error *err) {
    calo_progress p = {.stage = stage,
                       .step = done,
                       .steps = all,
                       .image = finished,
                       .group = n,
                       .images = t->count,
                       .seconds = seconds};
    return api_progress(t->model->ctx, p, err);
}

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---- 1. what is asked for, what the model says

static status read_schedule(txt2img *t, const sampler **suggested, error *err) {
    char *where;
    json_t *j = model_config(t->model->m, "scheduler", &where, err);
    schedule_config c;
    status s = j ? scheduler_config_read(&c, j, err) : err->code;
    if (s && j) fail_in(err, "%s", where);
    *suggested = NULL;
    if (!s) {
        const calo_txt2img_request *r = t->request;
        const char *class_name = json_string_value(json_object_get(j, "_class_name"));
        if (class_name) *suggested = sampler_find(class_name, NULL);
        if (r->prediction) c.predicts = (prediction)(r->prediction - CALO_PREDICT_EPS);
        if (r->zero_snr) c.zero_snr = r->zero_snr == CALO_ZERO_SNR_ON;
        if ((s = schedule_init(&t->schedule, &c, err))) fail_in(err, "%s", where);
    }
    json_decref(j);
    mem_free(where);
    return s;
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

static status choose_spacing(const calo_txt2img_request *r, spacing *how, error *err) {
    const spacing_row *row = r->scheduler ? spacing_find(r->scheduler) : spacing_row_of((spacing)r->spacing);
    *how = row ? row->how : SPACING_AUTO;
    if (row || (r->scheduler ? spacing_is_auto(r->scheduler) : r->spacing == CALO_SPACING_AUTO)) return OK;
    if (!r->scheduler) return fail(err, ERR_USAGE, "no spacing has the number %d", (int)r->spacing);
    return unknown_name("scheduler", r->scheduler, calo_spacing_name, err);
}

// Whether the first latents are those of a picture.
static bool begins(const txt2img *t) { return t->first || (t->request->init_image && !t->edits); }

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
    if (!s && begins(t)) schedule_steps_tail(&t->points, r->strength);
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

// All that is wrong with any of the networks is said before the first one runs.
static status check_tensors(const txt2img *t, error *err) {
    model *m = t->model->m;
    status s = OK;
    if (model_has(m, PART_TEXT_ENCODER)) s = model_check(m, NET_TEXT_ENCODER, err);
    if (!s && model_has(m, PART_TEXT_ENCODER_2)) s = model_check(m, NET_TEXT_ENCODER_2, err);
    if (!s) s = model_check(m, NET_UNET, err);
    if (!s && t->request->init_image) s = model_check(m, NET_VAE_ENCODER, err);
    return s ? s : model_check(m, NET_VAE_DECODER, err);
}

// What the user left open is the initial picture's size, or else the one the UNet was trained on.
static status choose_size(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    int64_t f = vae_factor(model_vae(t->model->m, err)), side = model_unet(t->model->m, err)->sample_size;
    int usual = (int)((side ? side : 64) * f);
    const calo_tensor *init = r->init_latents;
    int width = usual, height = usual;
    if (r->init_image && !r->only_masked) {
        beginning_size(r, &width, &height);
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

static bool has_own_texts(const txt2img *t) { return t->request->prompts || t->request->negative_prompts; }

// A picture's description is JSON, which knows UTF-8 only: better refused before the work than after.
static status check_texts(const txt2img *t, error *err) {
    for (int i = 0; i < (has_own_texts(t) ? t->count : 1); i++)
        if (!text_is_utf8(txt2img_prompt(t, i)) || !text_is_utf8(or_empty(txt2img_negative(t, i))))
            return fail(err, ERR_USAGE, "the prompt is not UTF-8");
    return OK;
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
    if ((int)r->noise_layout < 0 || r->noise_layout > CALO_NOISE_DIFFUSERS)
        return fail(err, ERR_USAGE, "no noise layout has the number %d", (int)r->noise_layout);
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
    if (!s && !t->request->prediction) s = probe_prediction(t->model, t->compute, err);
    if (!s) s = choose_size(t, err);
    if (!s) s = choose_beginning(t, err);
    if (!s) s = choose_sampler(t, err);
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
}

// ---- 2. the prompts: core/pipeline_text.c

static text_rules rules_of(const txt2img *t) {
    return (text_rules){.model = t->model,
                        .compute = t->compute,
                        .how = t->emphasis,
                        .clip_skip = t->request->clip_skip,
                        .steps = t->points.n,
                        .before = t->first ? t->first->points.n : 0,
                        .guided = t->guided};
}

// What goes through the UNet together reads as many tokens at each step.
static bool same_tokens(const picture_prompt *a, const picture_prompt *b, int steps) {
    for (int step = 0; step < steps; step++)
        if (picture_prompt_tokens(a, step) != picture_prompt_tokens(b, step)) return false;
    return true;
}

// Of a group of images: as many as have texts of their own, or one for all.
typedef struct {
    picture_prompt at[MAX_GROUP];
    int n;
} group_prompts;

static void prompts_free(group_prompts *p) {
    for (int i = 0; i < p->n; i++) picture_prompt_free(&p->at[i]);
    p->n = 0;
}

// The texts of images `first` .. first + *n - 1, where *n becomes less when their numbers of tokens differ.
static status read_prompts(const txt2img *t, int first, int *n, group_prompts *p, error *err) {
    text_rules rules = rules_of(t);
    double started = clock_seconds();
    int texts = has_own_texts(t) ? *n : 1;
    status s = OK;
    prompts_free(p);
    for (int i = 0; i < texts && !s; i++) {
        picture_prompt *own = &p->at[p->n++];
        s = picture_prompt_plan(&rules, txt2img_prompt(t, first + i), txt2img_negative(t, first + i), own,
                                err);
        if (!s && i && !same_tokens(&p->at[0], own, t->points.n)) {
            picture_prompt_free(&p->at[--p->n]);
            *n = i;
            break;
        }
    }
    for (int i = 0; i < p->n && !s; i++) s = picture_prompt_encode(&rules, &p->at[i], err);
    return s ? s : tell(t, "text", 1, 1, first, 0, clock_seconds() - started, err);
}

// ---- 3. noise: one generator for each image, which also draws what a sampler asks for on the way

typedef struct {
    calo_rng kind;
    mt19937 mt;
    nv_rng nv;
} noise_source;

static void noise_seed(noise_source *g, calo_rng kind, uint64_t seed) {
    g->kind = kind;
    g->nv = (nv_rng){.seed = seed};
    mt_seed(&g->mt, seed);
}

// ---- 4. from latents to pictures

static int64_t latent_size(const txt2img *t) { return t->C * t->h * t->w; }

autoencoder txt2img_autoencoder(const txt2img *t) {
    return (autoencoder){.model = t->model,
                         .compute = t->compute,
                         .C = t->C,
                         .h = t->h,
                         .w = t->w,
                         .tiling = t->request->vae_tiling,
                         .tile = t->request->vae_tile_size};
}

// A picture being handed to the caller, and its memory.
typedef struct {
    const txt2img *t;
    calo_image image;
    uint8_t *rgb, *whole;  // what was drawn; with a mask, in its place
    const double *colours; // where it is to be drawn from the latents' colours alone
    float *latents;
} drawing;

static status drawing_init(drawing *d, const txt2img *t, error *err) {
    const image *whole = t->begin.latent_mask ? &t->begin.whole : NULL;
    *d = (drawing){.t = t,
                   .rgb = mem_alloc(3 * (size_t)t->width * (size_t)t->height),
                   .latents = mem_alloc((size_t)latent_size(t) * sizeof *d->latents)};
    d->image = (calo_image){.size = sizeof d->image,
                            .width = t->width,
                            .height = t->height,
                            .rgb = d->rgb,
                            .latents = d->latents,
                            .latent_shape = {(int)t->C, (int)t->h, (int)t->w}};
    if (whole) {
        d->whole = mem_alloc(3 * (size_t)whole->w * (size_t)whole->h);
        d->image.rgb = d->whole;
        d->image.width = whole->w;
        d->image.height = whole->h;
    }
    return d->image.rgb && d->rgb && d->latents ? OK : no_memory(err);
}

static void drawing_free(drawing *d) {
    mem_free(d->rgb);
    mem_free(d->whole);
    mem_free(d->latents);
}

// x: the latents of image `index`, [h,w,C].
static status drawing_make(drawing *d, const float *x, int index, error *err) {
    const txt2img *t = d->t;
    d->image.seed = txt2img_seed(t, index);
    nhwc_to_nchw(x, d->latents, 1, t->C, t->h, t->w);
    autoencoder a = txt2img_autoencoder(t);
    if (d->colours)
        latent_rgb_draw(d->colours, x, t->h, t->w, t->C, t->width / t->w, d->rgb);
    else
        TRY(autoencoder_decode(&a, x, d->rgb, err));
    return d->whole ? beginning_finish(&t->begin, d->rgb, d->whole, err) : OK;
}

// ---- 5. from a picture to latents

// The picture, and for an inpainting model what it is shown of it.
typedef struct {
    encoded all, kept;
} encoded_pictures;

static status encode_pictures(const txt2img *t, encoded_pictures *p, error *err) {
    *p = (encoded_pictures){0};
    if (!t->request->init_image) return OK;
    double started = clock_seconds();
    autoencoder a = txt2img_autoencoder(t);
    status s = autoencoder_encode(&a, &t->begin.drawn, NULL, &p->all, err);
    if (!s && t->inpaints) s = autoencoder_encode(&a, &t->begin.drawn, &t->begin.hidden, &p->kept, err);
    return s ? s : tell(t, "encode", 1, 1, 0, 0, clock_seconds() - started, err);
}

// ---- 6. sampling a group of images

typedef struct {
    const txt2img *t;
    const group_prompts *prompts;
    const encoded_pictures *pictures;
    int first, n;        // images first .. first + n - 1 of the request
    int reads;           // the step whose texts are in the UNet
    noise_source *noise; // [n], or one that draws for all images of the request
    bool guides;         // whether the UNet is for the negative prompts too
    exec *unet;
    float *sample, *timestep; // the UNet's inputs: [B,h,w,C], [B]
    float *guided, *planar;   // [n,h,w,C], [1 or images,C,h,w]
    float *x;                 // [n,h,w,C]
    int told;                 // steps that the caller has heard of
    int previews;             // seen so far
    double *colours;          // of latents, by the last preview that was decoded, or NULL
    float *shown;             // [n,h,w,3]: what that one showed
    float *init, *kept;       // [n,h,w,C]: the initial picture, what the UNet is shown of it
    double started;
} group;

// Whether one generator draws for all images of the request.
static bool shares_noise(const txt2img *t) {
    return t->request->noise_layout != CALO_NOISE_A1111 && !t->request->seeds;
}

// The generators of a group, of their images' seeds plus delta.
static void seed_noise(group *g, int64_t delta) {
    const txt2img *t = g->t;
    for (int i = 0; i < (shares_noise(t) ? 1 : g->n); i++)
        noise_seed(&g->noise[i], t->request->rng,
                   txt2img_seed(t, shares_noise(t) ? 0 : g->first + i) + (uint64_t)delta);
}

// Called when the first noise is drawn. What is left in the generators is the steps'; or these are others.
static void begin_step_noise(group *g) {
    const calo_txt2img_request *r = g->t->request;
    bool comfy = r->noise_layout == CALO_NOISE_COMFY;
    if (comfy || r->eta_seed_delta)
        seed_noise(g, r->eta_seed_delta + (comfy && r->rng == CALO_RNG_CPU ? 1 : 0));
}

static void draw_planar(group *g, int source, size_t n) {
    noise_source *from = &g->noise[source];
    if (from->kind == CALO_RNG_NV)
        nv_normal(&from->nv, g->planar, n);
    else
        mt_normal(&from->mt, g->planar, n);
}

static void draw_noise(void *arg, float *y, size_t n) {
    group *g = arg;
    const txt2img *t = g->t;
    size_t one = n / (size_t)g->n;
    if (shares_noise(t)) {
        draw_planar(g, 0, (size_t)t->count * one);
        nchw_to_nhwc(g->planar + (size_t)g->first * one, y, g->n, t->C, t->h, t->w);
        return;
    }
    for (int i = 0; i < g->n; i++) {
        draw_planar(g, i, one);
        nchw_to_nhwc(g->planar, y + (size_t)i * one, 1, t->C, t->h, t->w);
    }
}

// Of the UNet's batch, for each image. With guidance the last one is positive and those before it negative;
// a model that edits is shown the picture in all but the first.
static int rows_of(const group *g) { return !g->guides ? 1 : g->t->edits ? 3 : 2; }

// The UNet's inputs of one image and row: negative (0) or positive.
static void fill_text(group *g, int i, int row, float *context, float *pooled, float *size) {
    const txt2img *t = g->t;
    const picture_prompt *p = &g->prompts->at[i % g->prompts->n];
    if (context) picture_prompt_context(p, g->reads, row, context);
    if (pooled) memcpy(pooled, picture_prompt_pooled(p, g->reads, row), (size_t)p->P * sizeof *pooled);
    if (size)
        memcpy(size, (float[6]){(float)t->height, (float)t->width, 0, 0, (float)t->height, (float)t->width},
               6 * sizeof *size);
}

// A UNet may be without use for any of the three.
static void fill_texts(group *g) {
    const picture_prompt *p = &g->prompts->at[0];
    int64_t T = picture_prompt_tokens(p, g->reads), b = 0;
    float *context = exec_input(g->unet, "encoder_hidden_states"),
          *pooled = exec_input(g->unet, "text_embeds"), *size = exec_input(g->unet, "time_ids");
    for (int row = 0, rows = rows_of(g); row < rows; row++)
        for (int i = 0; i < g->n; i++, b++)
            fill_text(g, i, row == rows - 1, context ? context + b * T * p->E : NULL,
                      pooled ? pooled + b * p->P : NULL, size ? size + b * 6 : NULL);
}

// The UNet, from now until another network is asked for, with the texts of g->reads.
static status take_unet(group *g, error *err) {
    const txt2img *t = g->t;
    network_shape s = {.net = NET_UNET,
                       .compute = t->compute,
                       .B = rows_of(g) * g->n,
                       .H = t->h,
                       .W = t->w,
                       .T = picture_prompt_tokens(&g->prompts->at[0], g->reads)};
    if (!(g->unet = api_network(t->model, &s, FAST, err))) return err->code;
    g->sample = exec_input(g->unet, "sample");
    g->timestep = exec_input(g->unet, "timestep");
    if (!g->sample || !g->timestep) return fail(err, ERR_DATA, "the UNet does not look at its input");
    fill_texts(g);
    return OK;
}

// Whether guidance is wanted at a step.
static bool guides(const txt2img *t, int step) {
    double at = step / (double)t->points.n;
    return t->guided && at >= t->request->cfg_start && (at < t->request->cfg_end || t->request->cfg_end == 1);
}

// Texts and guidance that change with the step: what depends on them alone is computed again only then.
static status read_step(group *g, int step, error *err) {
    int before = g->reads;
    bool guided_before = g->guides;
    g->guides = guides(g->t, step);
    g->reads = step < g->t->points.n ? step : g->t->points.n - 1;
    if (g->guides != guided_before) return take_unet(g, err);
    for (int i = 0; i < g->prompts->n; i++)
        if (!picture_prompt_same(&g->prompts->at[i], before, g->reads)) return take_unet(g, err);
    return OK;
}

// Where the latents of an image stop being numbers, the job ends: nothing is drawn from them.
static status check_finite(const group *g, const float *x0, int step, error *err) {
    const txt2img *t = g->t;
    size_t one = (size_t)latent_size(t);
    for (int i = 0; i < g->n; i++)
        if (!all_finite(x0 + (size_t)i * one, one))
            return fail(err, ERR_DATA,
                        "nan: picture %d of %d (seed %llu) is not a number after step %d of %d, so it is not "
                        "drawn%s",
                        g->first + i + 1, t->count, (unsigned long long)txt2img_seed(t, g->first + i),
                        step + 1, t->points.n, t->compute == DT_BF16 ? " (try --precision f32)" : "");
    return OK;
}

// The mean colour of each latent's square of the picture, [h,w,3].
static void mean_colours(const txt2img *t, const uint8_t *rgb, float *to) {
    int64_t f = t->width / t->w;
    for (int64_t i = 0; i < t->h * t->w * 3; i++) {
        const uint8_t *square = rgb + (i / 3 / t->w * t->width + i / 3 % t->w) * f * 3 + i % 3;
        int64_t sum = 0;
        for (int64_t k = 0; k < f * f; k++) sum += square[(k / f * t->width + k % f) * 3];
        to[i] = (float)sum / (float)(255 * f * f);
    }
}

static status preview_image(group *g, drawing *d, const float *x0, int i, int step, error *err) {
    const calo_txt2img_request *r = g->t->request;
    int64_t pixels = g->t->h * g->t->w;
    TRY(drawing_make(d, x0 + i * pixels * g->t->C, g->first + i, err));
    if (g->shown && !d->colours) mean_colours(g->t, d->rgb, g->shown + i * pixels * 3);
    calo_status own = r->on_preview(r->user, &d->image, step);
    if (own && !err->code) fail(err, (status)own, "stopped by the receiver of previews");
    return (status)own;
}

// Shows the caller what the images look like if x0, [n,h,w,C], is right. Linear previews are decoded when
// their number is a power of two, and drawn by the colours of that one until the next. The decoder takes the
// UNet's place and may push it out of the model's memory, so the UNet is asked for again.
static status preview_group(group *g, const float *x0, int step, error *err) {
    const txt2img *t = g->t;
    const calo_txt2img_request *r = t->request;
    if (!r->on_preview || !r->preview_every || step % r->preview_every || step == t->points.n) return OK;
    bool decodes = !g->colours || !(g->previews & (g->previews + 1));
    g->previews++;
    drawing d;
    status s = drawing_init(&d, t, err);
    d.colours = decodes ? NULL : g->colours;
    for (int i = 0; i < g->n && !s; i++) s = preview_image(g, &d, x0, i, step, err);
    drawing_free(&d);
    if (s || !decodes) return s;
    if (g->colours) TRY(latent_rgb_fit(x0, g->shown, g->n * t->h * t->w, t->C, g->colours, err));
    return take_unet(g, err);
}

// The UNet's input: x, and behind its channels the mask and the kept picture for an inpainting model, the
// initial picture for one that edits.
static void feed_unet(group *g, const float *x) {
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t)), C = (size_t)t->C, pixels = (size_t)(t->h * t->w);
    int rows = rows_of(g);
    bool more = t->inpaints || t->edits;
    float *to = g->sample;
    for (int r = 0; r < rows; r++) {
        bool hides = t->edits && rows == 3 && r == 0;
        if (!more) memcpy(g->sample + (size_t)r * n, x, n * sizeof *x);
        for (size_t i = 0; more && i < n; i += C) {
            memcpy(to, x + i, C * sizeof *x);
            to += C;
            if (t->inpaints) *to++ = t->begin.latent_mask[i / C % pixels];
            if (hides)
                memset(to, 0, C * sizeof *x);
            else
                memcpy(to, g->kept + i, C * sizeof *x);
            to += C;
        }
    }
}

// A model that knows nothing of the mask: outside of it the clean latents are the picture's. An inpainting
// model was trained to draw those itself.
static void keep_unmasked(const group *g, float *x0) {
    const txt2img *t = g->t;
    size_t C = (size_t)t->C, pixels = (size_t)(t->h * t->w);
    if (!t->begin.latent_mask || t->inpaints) return;
    for (size_t i = 0; i < (size_t)g->n * pixels; i++)
        if (!t->begin.latent_mask[i % pixels]) memcpy(x0 + i * C, g->init + i * C, C * sizeof *x0);
}

// x0 = what the UNet, with guidance, believes the clean latents to be.
static status denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0, error *err) {
    group *g = arg;
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t));
    prediction_coef c;
    status s = prediction_x0(t->schedule.config.predicts, at->alpha, at->sigma, &c, err);
    if (!s) s = read_step(g, step, err);
    if (s) return s;
    feed_unet(g, x);
    for (int b = 0; b < rows_of(g) * g->n; b++) g->timestep[b] = (float)at->t;
    if ((s = exec_run(g->unet, err))) return s;
    const float *out = exec_output(g->unet, 0);
    if (g->guides) {
        if (t->edits)
            guidance_apply_picture(g->guided, out + 2 * n, out + n, out, g->n, latent_size(t), t->cfg_scale,
                                   t->request->image_cfg_scale, t->cfg_rescale);
        else
            guidance_apply(g->guided, out + n, out, g->n, latent_size(t), t->cfg_scale, t->cfg_rescale);
        out = g->guided;
    }
    combine_f32(x0, 2, (double[]){c.x, c.out}, (const float *[]){x, out}, n);
    if ((s = check_finite(g, x0, step, err))) return s;
    keep_unmasked(g, x0);
    if (step < g->told) return OK; // a second look in one step
    g->told = step + 1;
    s = tell(t, "sample", step + 1, t->points.n, g->first, g->n, clock_seconds() - g->started, err);
    if (!s) s = preview_group(g, x0, step + 1, err);
    g->started = clock_seconds();
    return s;
}

static status prepare_group(group *g, error *err) {
    const txt2img *t = g->t;
    size_t one = (size_t)latent_size(t), n = (size_t)g->n * one;
    g->noise = mem_calloc((size_t)g->n, sizeof *g->noise);
    g->x = mem_calloc(4 * n + (shares_noise(t) ? (size_t)t->count : 1) * one, sizeof *g->x);
    if (!g->noise || !g->x) return no_memory(err);
    if (t->request->preview_method == CALO_PREVIEW_LINEAR) {
        g->colours = mem_calloc((size_t)(t->C + 1), 3 * sizeof *g->colours);
        g->shown = mem_calloc((size_t)(g->n * t->h * t->w), 3 * sizeof *g->shown);
        if (!g->colours || !g->shown) return no_memory(err);
    }
    g->guided = g->x + n;
    g->init = g->guided + n;
    g->kept = g->init + n;
    g->planar = g->kept + n;
    g->guides = guides(t, 0);
    return take_unet(g, err);
}

// Latents of a picture, for each image its own by its generator, scaled for the UNet.
static void draw_latents(group *g, const encoded *e, float *to) {
    const txt2img *t = g->t;
    const vae_config *v = model_vae(t->model->m, NULL);
    size_t one = (size_t)latent_size(t), n = (size_t)g->n * one;
    draw_noise(g, to, n);
    for (size_t i = 0; i < n; i++)
        to[i] =
            (float)((e->mean[i % one] + e->deviation[i % one] * to[i] - v->shift_factor) * v->scaling_factor);
}

// x: unit noise → the latents at the first step. All of the strength leaves nothing of the picture under the
// mask.
static void start_from_picture(group *g, float scale) {
    const txt2img *t = g->t;
    const schedule_point *at = &t->points.at[0];
    const float *mask = t->begin.latent_mask;
    size_t C = (size_t)t->C, pixels = (size_t)(t->h * t->w);
    calo_mask_content content = t->request->mask_content;
    for (size_t i = 0; i < (size_t)(g->n * latent_size(t)); i++) {
        bool masked = mask && mask[i / C % pixels] != 0;
        double init = !masked || content < CALO_CONTENT_NOISE ? g->init[i]
                      : content == CALO_CONTENT_NOISE         ? g->x[i]
                                                              : 0;
        bool fresh = mask && t->request->strength == 1 && (masked || t->inpaints);
        g->x[i] = fresh ? scale * g->x[i] : (float)(at->alpha * init + at->sigma * g->x[i]);
    }
}

static status sample_group(group *g, error *err) {
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t));
    seed_noise(g, 0);
    // The order in which diffusers asks a generator.
    if (begins(t) && !t->first && (!t->inpaints || t->request->strength < 1))
        draw_latents(g, &g->pictures->all, g->init);
    if (t->request->init_latents && !t->first)
        nchw_to_nhwc((const float *)t->request->init_latents->data + g->first * latent_size(t), g->x, g->n,
                     t->C, t->h, t->w);
    else
        draw_noise(g, g->x, n);
    if (t->inpaints) draw_latents(g, &g->pictures->kept, g->kept);
    for (size_t i = 0; i < n && t->edits; i++) // the likeliest latents, as the autoencoder scales them
        g->kept[i] = g->pictures->all.mean[i % (size_t)latent_size(t)];
    begin_step_noise(g);
    double scale = sampler_start_scale(t->sampler, &t->points);
    if (begins(t))
        start_from_picture(g, (float)scale);
    else
        combine_f32(g->x, 1, &scale, (const float *[]){g->x}, n);
    g->started = clock_seconds();
    host_model m = {g, denoise, draw_noise};
    status s = sampler_run_host(t->sampler, &t->points, &t->tune, &m, g->x, n, err);
    if (!s) keep_unmasked(g, g->x);
    return s;
}

// ---- 7. finished pictures

typedef struct {
    status (*put)(void *user, const calo_image *im, error *err);
    void *user;
} receiver;

static status finish_image(const txt2img *t, const float *x, int index, const receiver *to, error *err) {
    double started = clock_seconds();
    char *parameters = NULL, *json = NULL;
    drawing d;
    status s = drawing_init(&d, t, err);
    if (!s) s = drawing_make(&d, x, index, err);
    if (!s) s = txt2img_describe(t->first ? t->first : t, index, &parameters, &json, err);
    if (!s) {
        d.image.parameters = parameters;
        d.image.json = json;
        s = to->put(to->user, &d.image, err);
    }
    mem_free(json);
    mem_free(parameters);
    drawing_free(&d);
    return s ? s : tell(t, "decode", 1, 1, index + 1, 0, clock_seconds() - started, err);
}

// One pass over a group; `before` is the first pass of the second.
static status run_pass(group *g, const group *before, error *err) {
    const txt2img *t = g->t;
    double started = clock_seconds();
    status s = prepare_group(g, err);
    for (int i = 0; before && i < g->n && !s; i++)
        s = hires_enlarge(t, before->x + i * latent_size(before->t), g->init + i * latent_size(t), err);
    if (!s && before) s = take_unet(g, err); // enlarging may have run other networks
    if (!s) s = tell(t, "load", 1, 1, g->first, g->n, clock_seconds() - started, err);
    return s ? s : sample_group(g, err);
}

static void group_free(group *g) {
    mem_free(g->noise);
    mem_free(g->x);
    mem_free(g->colours);
    mem_free(g->shown);
}

// The prompts of both passes.
static status run_group(const txt2img *t, int first, int n, const group_prompts p[2],
                        const encoded_pictures *pictures, const receiver *to, error *err) {
    group one = {.t = t, .prompts = &p[0], .pictures = pictures, .first = first, .n = n};
    group two = {.t = t->second, .prompts = &p[1], .first = first, .n = n};
    status s = run_pass(&one, NULL, err);
    if (!s && t->second) s = run_pass(&two, &one, err);
    const group *last = t->second ? &two : &one;
    for (int i = 0; i < n && !s; i++)
        s = finish_image(last->t, last->x + i * latent_size(last->t), first + i, to, err);
    group_free(&one);
    group_free(&two);
    return s;
}

status txt2img_run(const txt2img *t, status (*put)(void *, const calo_image *, error *), void *user,
                   error *err) {
    receiver to = {put, user};
    group_prompts p[2] = {0};
    encoded_pictures pictures = {0};
    const txt2img *largest = t->second ? t->second : t;
    int64_t fit = GROUP_PIXELS / (largest->h * largest->w);
    int most = fit < 1 ? 1 : fit > MAX_GROUP ? MAX_GROUP : (int)fit;
    status s = txt2img_check_memory(largest, most < t->count ? most : t->count, err);
    if (!s) s = encode_pictures(t, &pictures, err);
    for (int i = 0, n; i < t->count && !s; i += n) {
        n = t->count - i < most ? t->count - i : most;
        bool reads = i == 0 || has_own_texts(t);
        if (reads) s = read_prompts(t, i, &n, &p[0], err);
        if (reads && !s && t->second) s = read_prompts(t->second, i, &n, &p[1], err);
        if (!s) s = run_group(t, i, n, p, &pictures, &to, err);
    }
    prompts_free(&p[0]);
    prompts_free(&p[1]);
    encoded_free(&pictures.all);
    encoded_free(&pictures.kept);
    return s;
}
