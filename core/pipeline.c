#include "core/pipeline.h"

#include <math.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/models/layout.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"
#include "samplers/scheduler_config.h"

// Letters: n images of a group, B rows of the UNet's batch (2n with guidance: all negative, then all
// positive), C h w latents, T tokens, E features.

enum { MAX_SIDE = 8192, MAX_COUNT = 1 << 20, MAX_STEPS = 1000 };
// Pixels of latents that go through the network together: as many as one picture of 512 pixels has.
enum { GROUP_PIXELS = 64 * 64, MAX_GROUP = 8 };

// Tells the caller that a stage is `done` of `all`, for the `n` images of a group from `image` on.
static status tell(const txt2img *t, const char *stage, int done, int all, int image, int n, double seconds,
                   error *err) {
    calo_progress p = {.stage = stage,
                       .step = done,
                       .steps = all,
                       .image = image,
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

static status choose_sampler(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    const sampler *suggested;
    status s = read_schedule(t, &suggested, err);
    if (s) return s;
    spacing how = (spacing)r->spacing, named = SPACING_AUTO;
    t->sampler = r->sampler  ? sampler_find(r->sampler, &named)
                 : suggested ? suggested
                             : sampler_find("dpmpp_2m", NULL);
    if (!t->sampler) return fail(err, ERR_USAGE, "no sampler is called '%s'", r->sampler);
    if (how == SPACING_AUTO) how = named;
    return sampler_steps(t->sampler, &t->schedule, t->steps, how, &t->points, err);
}

static status check_networks(txt2img *t, error *err) {
    model *m = t->model->m;
    const unet_config *u = model_unet(m, err);
    const vae_config *v = u ? model_vae(m, err) : NULL;
    if (!v) return err->code;
    if (u->in_channels != v->latent_channels || u->out_channels != u->in_channels)
        return fail(err, ERR_DATA,
                    "%s: a UNet from %d to %d channels over latents of %d is not for text to image",
                    model_dir(m), (int)u->in_channels, (int)u->out_channels, (int)v->latent_channels);
    if (v->out_channels != 3)
        return fail(err, ERR_DATA, "%s: the autoencoder's pictures have %d channels, not 3", model_dir(m),
                    (int)v->out_channels);
    if (u->class_embed != CLASS_NONE)
        return fail(err, ERR_DATA, "%s: the UNet asks for class labels, which a prompt does not give",
                    model_dir(m));
    t->C = u->in_channels;
    return OK;
}

// All that is wrong with any of the networks is said before the first one runs.
static status check_tensors(const txt2img *t, error *err) {
    model *m = t->model->m;
    status s = OK;
    if (model_has(m, PART_TEXT_ENCODER)) s = model_check(m, NET_TEXT_ENCODER, err);
    if (!s && model_has(m, PART_TEXT_ENCODER_2)) s = model_check(m, NET_TEXT_ENCODER_2, err);
    if (!s) s = model_check(m, NET_UNET, err);
    return s ? s : model_check(m, NET_VAE_DECODER, err);
}

// What the user left open is the size the UNet was trained on.
static status choose_size(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    int64_t f = vae_factor(model_vae(t->model->m, err)), side = model_unet(t->model->m, err)->sample_size;
    int usual = (int)((side ? side : 64) * f);
    const calo_tensor *init = r->init_latents;
    t->width = r->width ? r->width : init ? (int)(init->shape[3] * f) : usual;
    t->height = r->height ? r->height : init ? (int)(init->shape[2] * f) : usual;
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

// A picture's description is JSON, which knows UTF-8 only: better refused before the work than after.
static bool is_utf8(const char *text) {
    json_t *j = json_string(text);
    json_decref(j);
    return j != NULL;
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

static status check_texts(const txt2img *t, error *err) {
    for (int i = 0; i < (has_own_texts(t) ? t->count : 1); i++)
        if (!is_utf8(txt2img_prompt(t, i)) || !is_utf8(or_empty(txt2img_negative(t, i))))
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
    if (r->preview_every < 0)
        return fail(err, ERR_USAGE, "a preview every %d steps makes no sense", r->preview_every);
    if (!(r->cfg_rescale <= 1))
        return fail(err, ERR_USAGE, "the guidance rescale %g is not in 0 .. 1", r->cfg_rescale);
    return OK;
}

status txt2img_init(txt2img *t, calo_model *m, const calo_txt2img_request *r, error *err) {
    *t = (txt2img){.model = m, .request = r};
    t->steps = r->steps;
    t->count = r->count ? r->count : r->init_latents ? first_dimension(r->init_latents) : 1;
    t->cfg_scale = r->cfg_scale;
    t->guided = r->cfg_scale != 1;
    t->compute = api_compute(m->ctx->options.precision);
    status s = check_numbers(t, err);
    if (!s) s = check_texts(t, err);
    if (!s) s = check_networks(t, err);
    if (!s) s = check_tensors(t, err);
    if (!s) s = probe_prediction(t, err);
    if (!s) s = choose_size(t, err);
    if (!s) s = choose_sampler(t, err);
    t->cfg_rescale = r->cfg_rescale >= 0 ? r->cfg_rescale : t->schedule.config.zero_snr ? 0.7 : 0;
    return s;
}

void txt2img_free(txt2img *t) {
    schedule_steps_free(&t->points);
    schedule_free(&t->schedule);
}

// ---- 2. the prompt, read by one or two text encoders

// Of the images of a group; one for all of them where they share their texts.
typedef struct {
    int rows;       // of an image. 2: negative and positive; 1 without guidance
    int texts;      // 1, or as many as the group has images
    int64_t T, E;   // tokens, features of all encoders
    float *context; // [rows,texts,T,E]
    int64_t P;
    float *pooled; // [rows,texts,P] of the last encoder
} prompt_embeds;

static void embeds_free(prompt_embeds *p) {
    mem_free(p->context);
    mem_free(p->pooled);
    *p = (prompt_embeds){0};
}

// The rows of ids of image i for one encoder: [rows,T].
static status tokenize(const txt2img *t, model_part part, const prompt_embeds *p, int i, int32_t *ids,
                       error *err) {
    const tokenizer *tok = model_tokenizer(t->model->m, part, err);
    const clip_config *c = tok ? model_clip(t->model->m, part, err) : NULL;
    if (!c) return err->code;
    const vocabulary *v = tokenizer_vocabulary(tok);
    if ((int64_t)v->size > c->vocab_size || (int64_t)v->max_length != p->T ||
        p->T > c->max_position_embeddings)
        return fail(err, ERR_DATA,
                    "%s: a tokenizer of %zu ids in rows of %zu does not fit a %s of %d ids in rows of %d",
                    model_dir(t->model->m), v->size, v->max_length, model_part_name(part), (int)c->vocab_size,
                    (int)c->max_position_embeddings);
    const char *texts[] = {or_empty(txt2img_negative(t, i)), txt2img_prompt(t, i)};
    for (int r = 0; r < p->rows; r++) {
        const char *text = texts[p->rows == 2 ? r : 1];
        status s = tokenizer_encode_row(tok, text, strlen(text), ids + r * p->T, NULL, err);
        if (s) return s;
    }
    return OK;
}

static exec *run_encoder(const txt2img *t, model_part part, const prompt_embeds *p, int i, error *err) {
    const clip_config *c = model_clip(t->model->m, part, err);
    network_shape s = {.net = part == PART_TEXT_ENCODER ? NET_TEXT_ENCODER : NET_TEXT_ENCODER_2,
                       .compute = t->compute,
                       .B = p->rows,
                       .T = p->T};
    exec *e = c ? api_network(t->model, &s, FAST, err) : NULL;
    if (!e) return NULL;
    int32_t *ids = exec_input(e, "input_ids"), *eos = exec_input(e, "eos");
    if (tokenize(t, part, p, i, ids, err)) return NULL;
    for (int r = 0; r < p->rows; r++)
        eos[r] = (int32_t)(r * p->T + clip_eos_position(c, ids + r * p->T, p->T));
    return exec_run(e, err) ? NULL : e;
}

// Row r of text k.
static float *context_at(const prompt_embeds *p, int r, int k) {
    return p->context + (r * p->texts + k) * p->T * p->E;
}

static float *pooled_at(const prompt_embeds *p, int r, int k) {
    return p->pooled + (r * p->texts + k) * p->P;
}

// Puts an encoder's features of text k, [rows,T,E], into the columns from `at` on.
static void place_columns(prompt_embeds *p, int k, const float *x, int64_t E, int64_t at) {
    for (int r = 0; r < p->rows; r++)
        for (int64_t i = 0; i < p->T; i++, x += E)
            memcpy(context_at(p, r, k) + i * p->E + at, x, (size_t)E * sizeof *x);
}

typedef struct {
    model_part parts[2];
    int n;
} text_encoders;

static text_encoders encoders_of(const model *m) {
    bool first = model_has(m, PART_TEXT_ENCODER), both = model_has(m, PART_TEXT_ENCODER_2);
    return (text_encoders){{first ? PART_TEXT_ENCODER : PART_TEXT_ENCODER_2, PART_TEXT_ENCODER_2},
                           first && both ? 2 : 1};
}

static status prepare_embeds(const txt2img *t, const text_encoders *of, int texts, prompt_embeds *p,
                             error *err) {
    model *m = t->model->m;
    const tokenizer *tok = model_tokenizer(m, of->parts[0], err);
    if (!tok) return err->code;
    *p = (prompt_embeds){
        .rows = t->guided ? 2 : 1, .texts = texts, .T = (int64_t)tokenizer_vocabulary(tok)->max_length};
    for (int i = 0; i < of->n; i++) {
        const clip_config *c = model_clip(m, of->parts[i], err);
        if (!c) return err->code;
        p->E += c->hidden_size;
        p->P = c->with_projection ? c->projection_dim : c->hidden_size;
    }
    const unet_config *u = model_unet(m, err);
    if (p->E != u->level[0].cross_attention_dim)
        return fail(err, ERR_DATA, "%s: the text has %d features, the UNet reads %d", model_dir(m), (int)p->E,
                    (int)u->level[0].cross_attention_dim);
    if (u->addition_embed == ADDITION_TEXT_TIME &&
        p->P != u->projection_input_dim - 6 * u->addition_time_embed_dim)
        return fail(err, ERR_DATA, "%s: the pooled text has %d features, the UNet reads %d", model_dir(m),
                    (int)p->P, (int)(u->projection_input_dim - 6 * u->addition_time_embed_dim));
    p->context = mem_calloc((size_t)(p->rows * p->texts * p->T * p->E), sizeof *p->context);
    p->pooled = mem_calloc((size_t)(p->rows * p->texts * p->P), sizeof *p->pooled);
    return p->context && p->pooled ? OK : no_memory(err);
}

// With two encoders the UNet reads the last but one state of both, side by side, and the second one's pooled
// text. Fills text k from image i.
static status encode_text(const txt2img *t, const text_encoders *of, int i, int k, prompt_embeds *p,
                          error *err) {
    for (int64_t n = 0, at = 0; n < of->n; n++) {
        exec *e = run_encoder(t, of->parts[n], p, i, err);
        if (!e) return err->code;
        int64_t E = model_clip(t->model->m, of->parts[n], err)->hidden_size;
        place_columns(p, k, exec_output(e, of->n == 2 ? 1 : 0), E, at);
        at += E;
        const float *pooled = exec_output(e, 2);
        for (int r = 0; n == of->n - 1 && r < p->rows; r++)
            memcpy(pooled_at(p, r, k), pooled + r * p->P, (size_t)p->P * sizeof *pooled);
    }
    if (of->n == 2 && p->rows == 2 && !txt2img_negative(t, i) &&
        model_flag(t->model->m, "force_zeros_for_empty_prompt", true)) {
        memset(context_at(p, 0, k), 0, (size_t)(p->T * p->E) * sizeof *p->context);
        memset(pooled_at(p, 0, k), 0, (size_t)p->P * sizeof *p->pooled);
    }
    return OK;
}

// The texts of images first .. first + n - 1.
static status encode_prompts(const txt2img *t, int first, int n, prompt_embeds *p, error *err) {
    text_encoders of = encoders_of(t->model->m);
    double started = clock_seconds();
    status s = prepare_embeds(t, &of, has_own_texts(t) ? n : 1, p, err);
    for (int k = 0; k < p->texts && !s; k++) s = encode_text(t, &of, first + k, k, p, err);
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

static bool all_finite(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static uint8_t to_byte(float v) { return (uint8_t)lrintf(fminf(fmaxf(v * 0.5f + 0.5f, 0), 1) * 255); }

// x: one image's latents [h,w,C] → [H,W,3] around −1 … 1, borrowed until the next network is asked for. NULL
// on failure.
static const float *run_decoder(const txt2img *t, dtype compute, const float *x, error *err) {
    const vae_config *v = model_vae(t->model->m, err);
    network_shape s = {.net = NET_VAE_DECODER, .compute = compute, .B = 1, .H = t->h, .W = t->w};
    exec *e = api_network(t->model, &s, FAST, err);
    if (!e) return NULL;
    float *in = exec_input(e, "latent");
    for (int64_t i = 0; in && i < latent_size(t); i++)
        in[i] = (float)(x[i] / v->scaling_factor + v->shift_factor);
    return exec_run(e, err) ? NULL : exec_output(e, 0);
}

// rgb: [H,W,3]. Autoencoders are known to overflow where the UNet does not: f32 is the second try.
static status decode(const txt2img *t, const float *x, uint8_t *rgb, error *err) {
    size_t n = 3 * (size_t)t->width * (size_t)t->height;
    const float *out = run_decoder(t, t->compute, x, err);
    if (out && t->compute != DT_F32 && !all_finite(out, n)) {
        log_put(&t->model->ctx->log, LOG_LEVEL_WARN,
                "the autoencoder's picture is not a number in %s: decoding it again in F32",
                dtype_name(t->compute));
        out = run_decoder(t, DT_F32, x, err);
    }
    if (!out) return err->code;
    if (!all_finite(out, n))
        return fail(err, ERR_DATA, "nan: the autoencoder's picture is not a number, so it is not drawn");
    for (size_t i = 0; i < n; i++) rgb[i] = to_byte(out[i]);
    return OK;
}

// A picture being handed to the caller, and its memory.
typedef struct {
    const txt2img *t;
    calo_image image;
    uint8_t *rgb;
    float *latents;
} drawing;

static status drawing_init(drawing *d, const txt2img *t, error *err) {
    *d = (drawing){.t = t,
                   .rgb = mem_alloc(3 * (size_t)t->width * (size_t)t->height),
                   .latents = mem_alloc((size_t)latent_size(t) * sizeof *d->latents)};
    d->image = (calo_image){.size = sizeof d->image,
                            .width = t->width,
                            .height = t->height,
                            .rgb = d->rgb,
                            .latents = d->latents,
                            .latent_shape = {(int)t->C, (int)t->h, (int)t->w}};
    return d->rgb && d->latents ? OK : no_memory(err);
}

static void drawing_free(drawing *d) {
    mem_free(d->rgb);
    mem_free(d->latents);
}

// x: the latents of image `index`, [h,w,C].
static status drawing_make(drawing *d, const float *x, int index, error *err) {
    const txt2img *t = d->t;
    d->image.seed = txt2img_seed(t, index);
    nhwc_to_nchw(x, d->latents, 1, t->C, t->h, t->w);
    return decode(t, x, d->rgb, err);
}

// ---- 5. sampling a group of images

typedef struct {
    const txt2img *t;
    const prompt_embeds *prompt;
    int first, n;        // images first .. first + n - 1 of the request
    noise_source *noise; // [n]
    exec *unet;
    float *sample, *timestep; // the UNet's inputs: [B,h,w,C], [B]
    float *guided, *planar;   // [n,h,w,C], [C,h,w]
    float *x;                 // [n,h,w,C]
    double started;
} group;

static void draw_noise(void *arg, float *y, size_t n) {
    group *g = arg;
    const txt2img *t = g->t;
    size_t one = n / (size_t)g->n;
    for (int i = 0; i < g->n; i++) {
        if (g->noise[i].kind == CALO_RNG_NV)
            nv_normal(&g->noise[i].nv, g->planar, one);
        else
            mt_normal(&g->noise[i].mt, g->planar, one);
        nchw_to_nhwc(g->planar, y + (size_t)i * one, 1, t->C, t->h, t->w);
    }
}

// rows: [n_rows,texts,width], where texts is 1 or n.
static void fill_rows(exec *e, const char *name, const float *rows, int n_rows, int texts, int64_t width,
                      int n) {
    float *x = exec_input(e, name);
    if (!x) return; // a UNet without use for it
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < n; i++, x += width)
            memcpy(x, rows + (r * texts + i % texts) * width, (size_t)width * sizeof *x);
}

static void fill_prompt(group *g) {
    const txt2img *t = g->t;
    const prompt_embeds *p = g->prompt;
    float size[2][6];
    for (int r = 0; r < 2; r++)
        memcpy(size[r],
               (float[6]){(float)t->height, (float)t->width, 0, 0, (float)t->height, (float)t->width},
               sizeof size[r]);
    fill_rows(g->unet, "encoder_hidden_states", p->context, p->rows, p->texts, p->T * p->E, g->n);
    fill_rows(g->unet, "text_embeds", p->pooled, p->rows, p->texts, p->P, g->n);
    fill_rows(g->unet, "time_ids", size[0], p->rows, 1, 6, g->n);
}

// The UNet, from now until another network is asked for.
static status take_unet(group *g, error *err) {
    const txt2img *t = g->t;
    network_shape s = {.net = NET_UNET,
                       .compute = t->compute,
                       .B = g->prompt->rows * g->n,
                       .H = t->h,
                       .W = t->w,
                       .T = g->prompt->T};
    if (!(g->unet = api_network(t->model, &s, FAST, err))) return err->code;
    g->sample = exec_input(g->unet, "sample");
    g->timestep = exec_input(g->unet, "timestep");
    if (!g->sample || !g->timestep) return fail(err, ERR_DATA, "the UNet does not look at its input");
    fill_prompt(g);
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
                        step + 1, t->steps, t->compute == DT_BF16 ? " (try --precision f32)" : "");
    return OK;
}

// Shows the caller what the images look like if x0, [n,h,w,C], is right. The decoder takes the UNet's place
// and may push it out of the model's memory, so the UNet is asked for again.
static status preview_group(group *g, const float *x0, int step, error *err) {
    const txt2img *t = g->t;
    const calo_txt2img_request *r = t->request;
    if (!r->on_preview || !r->preview_every || step % r->preview_every || step == t->steps) return OK;
    drawing d;
    status s = drawing_init(&d, t, err);
    for (int i = 0; i < g->n && !s; i++) {
        if ((s = drawing_make(&d, x0 + i * latent_size(t), g->first + i, err))) break;
        calo_status own = r->on_preview(r->user, &d.image, step);
        if (own && !err->code) fail(err, (status)own, "stopped by the receiver of previews");
        s = (status)own;
    }
    drawing_free(&d);
    return s ? s : take_unet(g, err);
}

// x0 = what the UNet, with guidance, believes the clean latents to be.
static status denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0, error *err) {
    group *g = arg;
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t));
    int rows = t->guided ? 2 : 1;
    prediction_coef c;
    status s = prediction_x0(t->schedule.config.predicts, at->alpha, at->sigma, &c, err);
    if (s) return s;
    for (int r = 0; r < rows; r++) memcpy(g->sample + (size_t)r * n, x, n * sizeof *x);
    for (int b = 0; b < rows * g->n; b++) g->timestep[b] = (float)at->t;
    if ((s = exec_run(g->unet, err))) return s;
    const float *out = exec_output(g->unet, 0);
    if (t->guided) {
        guidance_apply(g->guided, out + n, out, g->n, latent_size(t), t->cfg_scale, t->cfg_rescale);
        out = g->guided;
    }
    combine_f32(x0, 2, (double[]){c.x, c.out}, (const float *[]){x, out}, n);
    if ((s = check_finite(g, x0, step, err))) return s;
    s = tell(t, "sample", step + 1, t->steps, g->first, g->n, clock_seconds() - g->started, err);
    if (!s) s = preview_group(g, x0, step + 1, err);
    g->started = clock_seconds();
    return s;
}

static status prepare_group(group *g, error *err) {
    const txt2img *t = g->t;
    size_t one = (size_t)latent_size(t), n = (size_t)g->n * one;
    g->noise = mem_calloc((size_t)g->n, sizeof *g->noise);
    g->x = mem_calloc(2 * n + one, sizeof *g->x);
    if (!g->noise || !g->x) return no_memory(err);
    g->guided = g->x + n;
    g->planar = g->guided + n;
    return take_unet(g, err);
}

static status sample_group(group *g, error *err) {
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t));
    for (int i = 0; i < g->n; i++) noise_seed(&g->noise[i], t->request->rng, txt2img_seed(t, g->first + i));
    if (t->request->init_latents)
        nchw_to_nhwc((const float *)t->request->init_latents->data + g->first * latent_size(t), g->x, g->n,
                     t->C, t->h, t->w);
    else
        draw_noise(g, g->x, n);
    combine_f32(g->x, 1, (double[]){sampler_start_scale(t->sampler, &t->points)}, (const float *[]){g->x}, n);
    g->started = clock_seconds();
    host_model m = {g, denoise, draw_noise};
    return sampler_run_host(t->sampler, &t->points, t->sampler->eta, &m, g->x, n, err);
}

// ---- 6. finished pictures

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
    if (!s) s = txt2img_describe(t, index, &parameters, &json, err);
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

static status run_group(const txt2img *t, int first, int n, const prompt_embeds *p, const receiver *to,
                        error *err) {
    group g = {.t = t, .prompt = p, .first = first, .n = n};
    double started = clock_seconds();
    status s = prepare_group(&g, err);
    if (!s) s = tell(t, "load", 1, 1, first, n, clock_seconds() - started, err);
    if (!s) s = sample_group(&g, err);
    for (int i = 0; i < n && !s; i++) s = finish_image(t, g.x + i * latent_size(t), first + i, to, err);
    mem_free(g.noise);
    mem_free(g.x);
    return s;
}

status txt2img_run(const txt2img *t, status (*image)(void *, const calo_image *, error *), void *user,
                   error *err) {
    receiver to = {image, user};
    prompt_embeds p = {0};
    int64_t fit = GROUP_PIXELS / (t->h * t->w);
    int most = fit < 1 ? 1 : fit > MAX_GROUP ? MAX_GROUP : (int)fit;
    status s = OK;
    for (int i = 0; i < t->count && !s; i += most) {
        int n = t->count - i < most ? t->count - i : most;
        if (i == 0 || has_own_texts(t)) {
            embeds_free(&p);
            s = encode_prompts(t, i, n, &p, err);
        }
        if (!s) s = run_group(t, i, n, &p, &to, err);
    }
    embeds_free(&p);
    return s;
}
