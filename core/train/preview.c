#include "core/train/preview.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/files/weights_file.h"
#include "core/train/recipe.h"
#include "core/train/sheet.h"
#include "samplers/guidance.h"
#include "samplers/prediction.h"
#include "samplers/samplers.h"

enum { COLUMNS = 8, UNASKED = 4 };

// P prompts, run beside P empty ones.
typedef struct {
    const train_context *x;
    const networks *n;
    const sample_source *source;
    runner run;
    int P;
    int64_t h, w;
    size_t values; // of P latents
} preview;

// Where the configuration has no prompts, captions of the first samples.
static int count_prompts(const train_config *c, const sample_source *source) {
    if (c->n_prompts) return c->n_prompts;
    return source->count && source->count < UNASKED ? (int)source->count : UNASKED;
}

static status fill_text(const preview *p, error *err) {
    int32_t *ids = exec_input(p->run.exec, "ids"), *eos = exec_input(p->run.exec, "eos"), unused;
    const train_config *c = p->x->config;
    char caption[SOURCE_CAPTION_MAX];
    status s = OK;
    for (int i = 0; i < 2 * p->P && !s; i++) {
        const char *text = i >= p->P ? "" : c->n_prompts ? c->prompts[i] : caption;
        if (text == caption) s = p->source->caption(p->source->self, (uint64_t)i, 0, caption, err);
        if (!s) s = networks_caption(p->n, text, i, ids + i * p->n->tokens, eos ? eos + i : &unused, err);
    }
    return s;
}

static status make(preview *p, error *err) {
    graph g;
    int64_t B = 2 * p->P;
    recipe_graph(p->x, &g, params_average(p->x->params));
    node *x = graph_input(&g, "sample", SHAPE(B, p->h, p->w, p->n->vae.latent_channels), DT_F32, RATE_STEP);
    node *t = graph_input(&g, "timestep", SHAPE(B), DT_F32, RATE_STEP);
    node *ids = graph_input(&g, "ids", SHAPE(B, p->n->tokens), DT_I32, RATE_PROMPT);
    node *eos = graph_input(&g, "eos", SHAPE(B), DT_I32, RATE_PROMPT);
    node *out = networks_build(&g, p->n, x, t, ids, eos);
    status s = recipe_runner(&p->run, p->x, &g, &out, 1, err);
    return s ? s : fill_text(p, err);
}

static status denoise(void *arg, const float *x, const schedule_point *at, int step, float *x0, error *err) {
    const preview *p = arg;
    const train_config *c = p->x->config;
    (void)step;
    float *sample = exec_input(p->run.exec, "sample"), *t = exec_input(p->run.exec, "timestep");
    for (int half = 0; half < 2; half++) memcpy(sample + half * p->values, x, p->values * sizeof *x);
    for (int i = 0; i < 2 * p->P; i++) t[i] = (float)at->t;
    prediction_coef k;
    status s = exec_run(p->run.exec, err);
    if (!s) s = prediction_x0(p->n->schedule.config.predicts, at->alpha, at->sigma, &k, err);
    if (s) return s;
    const float *out = exec_output(p->run.exec, 0);
    guidance_apply(x0, out, out + p->values, p->P, (int64_t)(p->values / (size_t)p->P), c->grid_guidance,
                   c->grid_rescale);
    for (size_t i = 0; i < p->values; i++) x0[i] = (float)(k.x * x[i] + k.out * x0[i]);
    return OK;
}

static status sample(preview *p, float *x, error *err) {
    const sampler *ddim = sampler_find("ddim", NULL);
    schedule_steps steps = {0};
    host_model model = {.arg = p, .denoise = denoise};
    status s =
        sampler_steps(ddim, &p->n->schedule, (int)p->x->config->grid_steps, SPACING_TRAILING, &steps, err);
    rng_stream noise = {(uint64_t)p->x->config->seed, DRAW_GRID}; // of no stage: the same in all of them
    stream_normal(noise, 0, x, p->values);
    if (!s) s = sampler_run_host(ddim, &steps, 0, &model, x, p->values, err);
    schedule_steps_free(&steps);
    return s;
}

static status decode(const preview *p, const float *x, const weights_file *file, const char *path,
                     error *err) {
    const vae_config *c = &p->n->vae;
    graph g;
    runner r;
    recipe_graph(p->x, &g, weights_file_weights(file));
    node *z = graph_input(&g, "latent", SHAPE(p->P, p->h, p->w, c->latent_channels), DT_F32, RATE_STEP);
    node *picture = vae_decode_build(&g, c, affine(z, 1 / c->scaling_factor, c->shift_factor));
    status s = recipe_runner(&r, p->x, &g, &picture, 1, err);
    if (!s) memcpy(exec_input(r.exec, "latent"), x, p->values * sizeof *x);
    if (!s) s = exec_run(r.exec, err);
    int64_t f = vae_factor(c);
    int columns = p->P < COLUMNS ? p->P : COLUMNS;
    if (!s)
        s = sheet_save(path, exec_output(r.exec, 0), p->P, (int)(p->h * f), (int)(p->w * f), columns, err);
    runner_free(&r);
    return s;
}

status preview_save(const train_context *x, const networks *n, const sample_source *source, const char *vae,
                    const char *path, error *err) {
    source_size size = x->config->stage[x->stage].sizes[0];
    int64_t f = vae_factor(&n->vae);
    preview p = {.x = x,
                 .n = n,
                 .source = source,
                 .P = count_prompts(x->config, source),
                 .h = size.H / f,
                 .w = size.W / f};
    p.values = (size_t)(p.P * p.h * p.w * n->vae.latent_channels);
    float *z = mem_alloc(p.values * sizeof *z);
    weights_file *file = weights_file_open(vae, NULL, err);
    status s = !file ? err->code : z ? make(&p, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = sample(&p, z, err);
    runner_free(&p.run);
    if (!s) s = decode(&p, z, file, path, err);
    weights_file_close(file);
    mem_free(z);
    return s;
}
