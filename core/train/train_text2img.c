// Text encoder and UNet together, from nothing or from an existing model, on cached latents.
//
//   x_t = α_t·x0 + σ_t·ε,  loss = mean (network(x_t, t, caption) − target)²,  target by what the model's
//   schedule says it predicts: v = α·ε − σ·x0 (Salimans and Ho, arXiv 2202.00512), ε or x0.
#include <math.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/train/export.h"
#include "core/train/latents.h"
#include "core/train/preview.h"
#include "core/train/start.h"
#include "samplers/prediction.h"

// Samples of an endless source that are encoded where the configuration does not say how many.
enum { CACHE = 60000 };

typedef struct {
    train_context *x;
    networks n;
    feed feed;
    latents *latents;
    char *vae; // folder
} text2img;

static const train_stage *stage_of(const text2img *t) { return t->feed.stage; }

static shape latent_shape(const text2img *t, int bucket) {
    source_size size = feed_size(&t->feed, bucket);
    int64_t f = vae_factor(&t->n.vae);
    return SHAPE(stage_of(t)->batch, size.H / f, size.W / f, t->n.vae.latent_channels);
}

// ---- graph

static int t2i_variant(void *self, int64_t pass) {
    return feed_bucket(&((const text2img *)self)->feed, pass);
}

static node *t2i_loss(void *self, graph *g, int variant) {
    const text2img *t = self;
    int64_t B = stage_of(t)->batch;
    shape latent = latent_shape(t, variant);
    node *x = graph_input(g, "sample", latent, DT_F32, RATE_STEP);
    node *target = graph_input(g, "target", latent, DT_F32, RATE_STEP);
    node *time = graph_input(g, "timestep", SHAPE(B), DT_F32, RATE_STEP);
    node *ids = graph_input(g, "ids", SHAPE(B, t->n.tokens), DT_I32, RATE_STEP);
    node *eos = graph_input(g, "eos", SHAPE(B), DT_I32, RATE_STEP);
    node *out = networks_build(g, &t->n, x, time, ids, eos);
    return mean_all(unary(sub(out, target), UNARY_SQUARE));
}

// ---- inputs

// Times of a batch are spread evenly: sample k's u lies in [k, k + 1)/B.
static int draw_time(const text2img *t, int64_t pass, int64_t k) {
    float u;
    int64_t B = stage_of(t)->batch, T = t->n.schedule.config.train_steps;
    stream_uniform(recipe_stream(t->x, DRAW_TIME), (uint64_t)(pass * B + k), &u, 1);
    double at = pow(((double)k + u) / (double)B, t->x->config->time_power) * (double)T;
    return at < (double)(T - 1) ? (int)at : (int)(T - 1);
}

// x holds x0 and target ε on entry.
static void add_noise(const text2img *t, int time, float *x, float *target, size_t n) {
    double alpha = t->n.schedule.alpha[time], sigma = t->n.schedule.sigma[time];
    prediction_target want = prediction_target_of(t->n.schedule.config.predicts, alpha, sigma);
    for (size_t i = 0; i < n; i++) {
        double x0 = x[i], eps = target[i];
        x[i] = (float)(alpha * x0 + sigma * eps);
        target[i] = (float)(want.x0 * x0 + want.eps * eps);
    }
}

static status fill_caption(const text2img *t, exec *e, int64_t pass, int64_t k, uint64_t sample, error *err) {
    char text[SOURCE_CAPTION_MAX] = "";
    float u;
    uint32_t telling;
    uint64_t position = (uint64_t)(pass * stage_of(t)->batch + k);
    stream_uniform(recipe_stream(t->x, DRAW_DROPOUT), position, &u, 1);
    stream_integer(recipe_stream(t->x, DRAW_TELLING), position, UINT32_MAX, &telling, 1);
    status s = OK;
    if (u >= t->x->config->caption_dropout)
        s = t->feed.source.caption(t->feed.source.self, sample, telling, text, err);
    int32_t *ids = exec_input(e, "ids"), *eos = exec_input(e, "eos"), unused;
    return s ? s : networks_caption(&t->n, text, (int)k, ids + k * t->n.tokens, eos ? eos + k : &unused, err);
}

static status t2i_fill(void *self, exec *e, int variant, int64_t pass, error *err) {
    const text2img *t = self;
    shape latent = latent_shape(t, variant);
    int64_t B = latent.d[0], n = shape_count(latent) / B;
    float *x = exec_input(e, "sample"), *target = exec_input(e, "target"), *time = exec_input(e, "timestep");
    stream_normal(recipe_stream(t->x, DRAW_NOISE), (uint64_t)(pass * B * n), target, (size_t)(B * n));
    status s = OK;
    for (int64_t k = 0; k < B && !s; k++) {
        uint64_t place = feed_place(&t->feed, pass, (int)k);
        int at = draw_time(t, pass, k);
        time[k] = (float)at;
        s = latents_read(t->latents, variant, place, x + k * n, err);
        if (!s) add_noise(t, at, x + k * n, target + k * n, (size_t)n);
        if (!s) s = fill_caption(t, e, pass, k, feed_at(&t->feed, variant, place), err);
    }
    return s;
}

// ---- stages

static status check_sizes(const text2img *t, error *err) {
    const train_stage *s = stage_of(t);
    int f = (int)vae_factor(&t->n.vae);
    for (int i = 0; i < s->n_sizes; i++)
        if (s->sizes[i].W % f || s->sizes[i].H % f)
            return fail(err, ERR_DATA, "training pictures of %dx%d: sides must be multiples of %d",
                        s->sizes[i].W, s->sizes[i].H, f);
    return OK;
}

static status t2i_enter(void *self, error *err) {
    text2img *t = self;
    int64_t cache = t->x->config->stage[t->x->stage].cache;
    latents_close(t->latents);
    t->latents = NULL;
    feed_close(&t->feed);
    status s = feed_open(&t->feed, t->x, true, (uint64_t)(cache ? cache : CACHE), err);
    if (!s) s = check_sizes(t, err);
    if (!s && !(t->latents = latents_open(&t->feed, &t->n.vae, t->vae, err))) s = err->code;
    return s;
}

// ---- an existing model

static status t2i_start(void *self, error *err) {
    text2img *t = self;
    status s = start_component(t->x, "text_encoder", err);
    return s ? s : start_component(t->x, "unet", err);
}

// ---- results

static status t2i_grid(void *self, const char *path, error *err) {
    const text2img *t = self;
    return preview_save(t->x, &t->n, &t->feed.source, t->vae, path, err);
}

static status t2i_finish(void *self, const char *dir, error *err) {
    static const char *const trained[] = {"unet", "text_encoder", NULL};
    const text2img *t = self;
    dtype type = recipe_export_type(t->x);
    status s = export_component(t->x->params, "unet", "diffusion_pytorch_model.safetensors", t->n.unet_json,
                                type, dir, err);
    if (!s)
        s = export_component(t->x->params, "text_encoder", "model.safetensors", t->n.text_json, type, dir,
                             err);
    return s ? s : export_rest(t->x->config->model, dir, trained, err);
}

static void t2i_free(void *self) {
    text2img *t = self;
    latents_close(t->latents);
    feed_close(&t->feed);
    networks_close(&t->n);
    mem_free(t->vae);
    mem_free(t);
}

status recipe_text2img(recipe *r, train_context *context, error *err) {
    text2img *t = mem_calloc(1, sizeof *t);
    if (!t) return fail(err, ERR_TEMP, "out of memory");
    t->x = context;
    *r = (recipe){.self = t,
                  .kind = context->config->kind == TRAIN_FINETUNE ? "finetune" : "text2img",
                  .enter = t2i_enter,
                  .variant = t2i_variant,
                  .loss = t2i_loss,
                  .start = t2i_start,
                  .fill = t2i_fill,
                  .grid = t2i_grid,
                  .finish = t2i_finish,
                  .free = t2i_free};
    t->vae = fs_join(context->config->model, "vae");
    return t->vae ? networks_open(&t->n, context->config->model, err) : fail(err, ERR_TEMP, "out of memory");
}
