#include "core/pipeline.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/models/latent_rgb.h"
#include "core/models/layout.h"
#include "core/pipeline_hires.h"
#include "core/pipeline_memory.h"
#include "core/pipeline_noise.h"
#include "core/pipeline_refiner.h"
#include "core/pipeline_text.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"

// Letters: n images of a group, B rows of the UNet's batch (2n with guidance: all negative, then all
// positive), C h w latents, T tokens, E features.

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

// ---- 1. the prompts: core/pipeline_text.c

static text_rules rules_of(const txt2img *t, const expert *e) {
    return (text_rules){.model = e->model,
                        .compute = t->compute,
                        .how = t->emphasis,
                        .clip_skip = t->request->clip_skip,
                        .steps = t->points.n,
                        .before = t->first ? t->first->points.n : 0,
                        .first = e->first,
                        .end = e->end,
                        .guided = t->guided};
}

// What goes through the UNet together reads as many tokens at each step.
static bool same_tokens(const picture_prompt *a, const picture_prompt *b, const expert *e) {
    for (int step = e->first; step < e->end; step++)
        if (picture_prompt_tokens(a, step) != picture_prompt_tokens(b, step)) return false;
    return true;
}

// Of a group of images, for one expert: as many as have texts of their own, or one for all.
typedef struct {
    picture_prompt at[MAX_GROUP];
    int n;
} group_prompts;

static void prompts_free(group_prompts *p) {
    for (int i = 0; i < p->n; i++) picture_prompt_free(&p->at[i]);
    p->n = 0;
}

// The texts of images `first` .. first + *n - 1, where *n becomes less when their numbers of tokens differ.
static status read_prompts(const txt2img *t, const expert *e, int first, int *n, group_prompts *p,
                           error *err) {
    text_rules rules = rules_of(t, e);
    int texts = txt2img_has_own_texts(t) ? *n : 1;
    status s = OK;
    prompts_free(p);
    for (int i = 0; i < texts && !s; i++) {
        picture_prompt *own = &p->at[p->n++];
        s = picture_prompt_plan(&rules, txt2img_prompt(t, first + i), txt2img_negative(t, first + i), own,
                                err);
        if (!s && i && !same_tokens(&p->at[0], own, e)) {
            picture_prompt_free(&p->at[--p->n]);
            *n = i;
            break;
        }
    }
    for (int i = 0; i < p->n && !s; i++) s = picture_prompt_encode(&rules, &p->at[i], err);
    return s;
}

// Those of all experts, each in the words of its own encoders.
static status read_all_prompts(const txt2img *t, int first, int *n, group_prompts p[N_EXPERTS], error *err) {
    double started = clock_seconds();
    for (int k = 0; k < N_EXPERTS; k++)
        if (expert_leads(&t->experts[k])) TRY(read_prompts(t, &t->experts[k], first, n, &p[k], err));
    return tell(t, "text", 1, 1, first, 0, clock_seconds() - started, err);
}

// ---- 2. noise: core/pipeline_noise.c

// ---- 3. from latents to pictures

static int64_t latent_size(const txt2img *t) { return t->C * t->h * t->w; }

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
    a.image = index;
    if (d->colours)
        latent_rgb_draw(d->colours, x, t->h, t->w, t->C, t->width / t->w, d->rgb);
    else
        TRY(autoencoder_decode(&a, x, d->rgb, err));
    return d->whole ? beginning_finish(&t->begin, d->rgb, d->whole, err) : OK;
}

// ---- 4. from a picture to latents

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

// ---- 5. sampling a group of images

typedef struct {
    const txt2img *t;
    const group_prompts *prompts; // [N_EXPERTS]
    const encoded_pictures *pictures;
    int first, n; // images first .. first + n - 1 of the request
    int leads;    // the expert whose UNet is taken
    int reads;    // the step whose texts are in it
    group_noise noise;
    bool guides; // whether it is for the negative prompts too
    exec *unet;
    float *sample, *timestep; // the UNet's inputs: [B,h,w,C], [B]
    float *guided, *x;        // [n,h,w,C]
    int told;                 // steps that the caller has heard of
    int previews;             // seen so far
    double *colours;          // of latents, by the last preview that was decoded, or NULL
    float *shown;             // [n,h,w,3]: what that one showed
    float *init, *kept;       // [n,h,w,C]: the initial picture, what the UNet is shown of it
    double started;
} group;

static int rows_of(const group *g) { return txt2img_rows(g->t, g->guides); }

static calo_model *leader_of(const group *g) { return g->t->experts[g->leads].model; }

// What the leader reads.
static const group_prompts *prompts_of(const group *g) { return &g->prompts[g->leads]; }

// What SDXL is told beside the text: the size from which a picture was made, what was cut off at the top and
// at the left, and the size that is wanted. Its refiner is told in place of that how much people like such
// pictures: 6, or 2.5 of what is to be avoided (diffusers and A1111).
static void fill_size(const txt2img *t, int row, int n, float *to) {
    float h = (float)t->height, w = (float)t->width;
    if (n == TIME_IDS_SCORE)
        memcpy(to, (float[]){h, w, 0, 0, row ? 6 : 2.5f}, TIME_IDS_SCORE * sizeof *to);
    else
        memcpy(to, (float[]){h, w, 0, 0, h, w}, TIME_IDS_SIZE * sizeof *to);
}

// The UNet's inputs of one image and row: negative (0) or positive.
static void fill_text(group *g, int i, int row, float *context, float *pooled) {
    const picture_prompt *p = &prompts_of(g)->at[i % prompts_of(g)->n];
    if (context) picture_prompt_context(p, g->reads, row, context);
    if (pooled) memcpy(pooled, picture_prompt_pooled(p, g->reads, row), (size_t)p->P * sizeof *pooled);
}

// A UNet may be without use for any of the three.
static void fill_texts(group *g) {
    const picture_prompt *p = &prompts_of(g)->at[0];
    int numbers = model_unet(leader_of(g)->m, NULL)->time_ids, rows = rows_of(g);
    int64_t T = picture_prompt_tokens(p, g->reads), b = 0;
    float *context = exec_input(g->unet, "encoder_hidden_states"),
          *pooled = exec_input(g->unet, "text_embeds"), *size = exec_input(g->unet, "time_ids");
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < g->n; i++, b++) {
            fill_text(g, i, row == rows - 1, context ? context + b * T * p->E : NULL,
                      pooled ? pooled + b * p->P : NULL);
            if (size) fill_size(g->t, row == rows - 1, numbers, size + b * numbers);
        }
}

// The leader's UNet, from now until another network is asked for, with the texts of g->reads.
static status take_unet(group *g, error *err) {
    const txt2img *t = g->t;
    network_shape s = {.net = NET_UNET,
                       .compute = t->compute,
                       .B = rows_of(g) * g->n,
                       .H = t->h,
                       .W = t->w,
                       .T = picture_prompt_tokens(&prompts_of(g)->at[0], g->reads)};
    if (!(g->unet = api_network(leader_of(g), &s, FAST, err))) return err->code;
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

// What is to be read at a step, and by whom: some samplers look once more at the end of the last one.
static void turn_to(group *g, int step) {
    g->guides = guides(g->t, step);
    g->reads = step < g->t->points.n ? step : g->t->points.n - 1;
    g->leads = g->reads < g->t->experts[REFINER].first ? BASE : REFINER;
}

// Expert, texts and guidance change with the step: what depends on them alone is computed again only then.
static status read_step(group *g, int step, error *err) {
    int read = g->reads, led = g->leads;
    bool guided = g->guides;
    turn_to(g, step);
    if (g->guides != guided || g->leads != led) return take_unet(g, err);
    for (int i = 0; i < prompts_of(g)->n; i++)
        if (!picture_prompt_same(&prompts_of(g)->at[i], read, g->reads)) return take_unet(g, err);
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
    status s = read_step(g, step, err);
    if (!s) s = prediction_x0(t->experts[g->leads].predicts, at->alpha, at->sigma, &c, err);
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

static void step_noise(void *arg, const schedule_point *from, const schedule_point *to, float *y, size_t n) {
    (void)n;
    group_noise_step(&((group *)arg)->noise, from, to, y);
}

static status prepare_group(group *g, error *err) {
    const txt2img *t = g->t;
    size_t n = (size_t)(g->n * latent_size(t));
    TRY(group_noise_init(&g->noise, t, g->first, g->n, err));
    g->x = mem_calloc(4 * n, sizeof *g->x);
    if (!g->x) return no_memory(err);
    if (t->request->preview_method == CALO_PREVIEW_LINEAR) {
        g->colours = mem_calloc((size_t)(t->C + 1), 3 * sizeof *g->colours);
        g->shown = mem_calloc((size_t)(g->n * t->h * t->w), 3 * sizeof *g->shown);
        if (!g->colours || !g->shown) return no_memory(err);
    }
    g->guided = g->x + n;
    g->init = g->guided + n;
    g->kept = g->init + n;
    turn_to(g, 0);
    return OK;
}

// Latents of a picture, for each image its own by its generator, scaled for the UNet.
static void draw_latents(group *g, const encoded *e, float *to) {
    const txt2img *t = g->t;
    const vae_config *v = model_vae(t->model->m, NULL);
    size_t one = (size_t)latent_size(t), n = (size_t)g->n * one;
    group_noise_draw(&g->noise, to);
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
    // The order in which diffusers asks a generator.
    if (txt2img_begins(t) && !t->first && (!t->inpaints || t->request->strength < 1))
        draw_latents(g, &g->pictures->all, g->init);
    if (t->request->init_latents && !t->first)
        nchw_to_nhwc((const float *)t->request->init_latents->data + g->first * latent_size(t), g->x, g->n,
                     t->C, t->h, t->w);
    else
        group_noise_draw(&g->noise, g->x);
    if (t->inpaints) draw_latents(g, &g->pictures->kept, g->kept);
    for (size_t i = 0; i < n && t->edits; i++) // the likeliest latents, as the autoencoder scales them
        g->kept[i] = g->pictures->all.mean[i % (size_t)latent_size(t)];
    TRY(group_noise_begin_steps(&g->noise, err));
    double scale = sampler_start_scale(t->sampler, &t->points);
    if (txt2img_begins(t))
        start_from_picture(g, (float)scale);
    else
        combine_f32(g->x, 1, &scale, (const float *[]){g->x}, n);
    g->started = clock_seconds();
    host_model m = {g, denoise, step_noise};
    status s = sampler_run_host(t->sampler, &t->points, &t->tune, &m, g->x, n, err);
    if (!s && g->told < t->points.n) // an adaptive sampler's last steps were long
        s = tell(t, "sample", t->points.n, t->points.n, g->first, g->n, clock_seconds() - g->started, err);
    if (!s) keep_unmasked(g, g->x);
    return s;
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
        s = hires_enlarge(t, before->x + i * latent_size(before->t), g->first + i,
                          g->init + i * latent_size(t), err);
    if (!s) s = take_unet(g, err); // after enlarging, which may run other networks
    if (!s) s = tell(t, "load", 1, 1, g->first, g->n, clock_seconds() - started, err);
    return s ? s : sample_group(g, err);
}

static void group_free(group *g) {
    group_noise_free(&g->noise);
    mem_free(g->x);
    mem_free(g->colours);
    mem_free(g->shown);
}

// A network that neither pass will run again: both have the same experts.
static void forget(const txt2img *t, model_part part) {
    for (int k = 0; k < N_EXPERTS; k++)
        if (t->experts[k].model) model_forget_part(t->experts[k].model->m, part);
}

// The prompts of both passes.
static status run_group(const txt2img *t, int first, int n, group_prompts p[2][N_EXPERTS],
                        const encoded_pictures *pictures, const receiver *to, error *err) {
    group one = {.t = t, .prompts = p[0], .pictures = pictures, .first = first, .n = n};
    group two = {.t = t->second, .prompts = p[1], .first = first, .n = n};
    status s = run_pass(&one, NULL, err);
    if (!s && t->second) s = run_pass(&two, &one, err);
    if (t->request->forget && first + n == t->count) forget(t, PART_UNET);
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
    group_prompts p[2][N_EXPERTS] = {0};
    encoded_pictures pictures = {0};
    int most = txt2img_group(t);
    refiner_hint(t);
    status s = txt2img_check_memory(t, &most, err);
    if (!s) s = encode_pictures(t, &pictures, err);
    for (int i = 0, n; i < t->count && !s; i += n) {
        n = t->count - i < most ? t->count - i : most;
        bool reads = i == 0 || txt2img_has_own_texts(t);
        if (reads) s = read_all_prompts(t, i, &n, p[0], err);
        if (reads && !s && t->second) s = read_all_prompts(t->second, i, &n, p[1], err);
        if (t->request->forget && (i + n == t->count || !txt2img_has_own_texts(t))) {
            forget(t, PART_TEXT_ENCODER);
            forget(t, PART_TEXT_ENCODER_2);
        }
        if (!s) s = run_group(t, i, n, p, &pictures, &to, err);
    }
    for (int k = 0; k < N_EXPERTS; k++) {
        prompts_free(&p[0][k]);
        prompts_free(&p[1][k]);
    }
    encoded_free(&pictures.all);
    encoded_free(&pictures.kept);
    return s;
}
