// AutoencoderKL: reconstruction, a little divergence from unit normals, and now and then a
// halved latent that must decode to the halved picture, so that latents behave like small pictures.
//
//   loss = l1·mean|d| + mse·mean d² + edge·(mean|∂x d| + mean|∂y d|) + kl·½·mean(μ² + σ² − 1 − ln σ²),
//   d = decoded − picture
#include <math.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/models/config.h"
#include "core/models/vae.h"
#include "core/train/export.h"
#include "core/train/feed.h"
#include "core/train/recipe.h"
#include "core/train/sheet.h"
#include "core/train/start.h"

enum {
    GRID = 8,      // pictures of a grid, each above what is decoded of it
    MEASURED = 32, // batches of GRID from which the latents' mean and size are taken
    SPOT_REACH = 5 // a crop's middle lies within SPOT_REACH/8 of its side of an object
};
// Passes far behind any that is trained on: an endless source shows fresh samples there.
static const int64_t UNSEEN = (int64_t)1 << 40;

typedef struct {
    train_context *x;
    json_t *json; // config.json
    vae_config config;
    feed feed;
} vae;

static const train_stage *stage_of(const vae *v) { return v->feed.stage; }

// ---- graph

static node *mean_abs(node *x) { return mean_all(unary(x, UNARY_ABS)); }

static node *difference(node *x, int axis) {
    int64_t n = x->shape.d[axis] - 1;
    return sub(slice(x, axis, 1, n), slice(x, axis, 0, n));
}

static node *halve(node *x) { return affine(sum_pool(x, x->shape.d[1] / 2, x->shape.d[2] / 2), 0.25, 0); }

static node *reconstruction(const train_config *c, node *decoded, node *picture) {
    node *d = sub(decoded, picture);
    node *edges = add(mean_abs(difference(d, 1)), mean_abs(difference(d, 2)));
    node *sum = affine(mean_abs(d), c->l1, 0);
    sum = add(sum, affine(mean_all(unary(d, UNARY_SQUARE)), c->mse, 0));
    return add(sum, affine(edges, c->edge, 0));
}

// ½(μ² + σ² − 1 − ln σ²)
static node *divergence(const vae_moments *m) {
    node *sum = sub(add(unary(m->mean, UNARY_SQUARE), unary(m->logvar, UNARY_EXP)), m->logvar);
    return affine(mean_all(sum), 0.5, -0.5);
}

static source_size size_of(const vae *v, int bucket) {
    int side = (int)stage_of(v)->crop;
    return side ? (source_size){side, side} : feed_size(&v->feed, bucket);
}

// Variants: two for each bucket, the second with halved latents. Crops have one size whatever the bucket.
static int vae_variant(void *self, int64_t pass) {
    const vae *v = self;
    int64_t every = v->x->config->pooled_every;
    int bucket = stage_of(v)->crop ? 0 : feed_bucket(&v->feed, pass);
    return 2 * bucket + (every && pass % every == every - 1);
}

static node *vae_loss(void *self, graph *g, int variant) {
    const vae *v = self;
    const train_config *c = v->x->config;
    source_size size = size_of(v, variant / 2);
    int64_t B = stage_of(v)->batch, f = vae_factor(&v->config), L = v->config.latent_channels;
    int mark = path_push(g, "vae");
    node *picture = graph_input(g, "picture", SHAPE(B, size.H, size.W, 3), DT_F32, RATE_STEP);
    node *noise = graph_input(g, "noise", SHAPE(B, size.H / f, size.W / f, L), DT_F32, RATE_STEP);
    if (stage_of(v)->decoder_only) g->weights = params_fixed(v->x->params);
    vae_moments m = vae_encode_build(g, &v->config, picture);
    g->weights = params_training(v->x->params);
    node *z = add(m.mean, mul(unary(affine(m.logvar, 0.5, 0), UNARY_EXP), noise));
    node *kl = divergence(&m);
    if (variant % 2) {
        z = halve(z);
        picture = halve(picture);
    }
    node *decoded = vae_decode_build(g, &v->config, z);
    path_pop(g, mark);
    return add(reconstruction(c, decoded, picture), affine(kl, c->kl, 0));
}

// ---- inputs

// Rows of a cropped picture as values from −1 to 1.
static void take_crop(const uint8_t *rgb, source_size from, int x, int y, source_size to, float *dst) {
    for (int r = 0; r < to.H; r++) {
        const uint8_t *row = rgb + ((size_t)(y + r) * (size_t)from.W + (size_t)x) * 3;
        for (int i = 0; i < 3 * to.W; i++)
            dst[(size_t)r * (size_t)to.W * 3 + (size_t)i] = row[i] / 127.5f - 1;
    }
}

static int crop_start(const float *u, float middle, int whole, int part) {
    double at = middle < 0 ? u[0] * (whole - part + 1)
                           : middle * whole - 0.5 * part + (2 * u[0] - 1) * part * SPOT_REACH / 8;
    return (int)fmin(fmax(floor(at), 0), whole - part);
}

static void crop_batch(const vae *v, int64_t pass, const uint8_t *rgb, const source_spots *spots,
                       source_size from, source_size to, float *dst) {
    rng_stream random = recipe_stream(v->x, DRAW_CROP);
    for (int64_t k = 0, B = stage_of(v)->batch; k < B; k++) {
        float u[4];
        stream_uniform(random, (uint64_t)(pass * B + k) * 4, u, 4);
        const source_spots *s = &spots[k];
        source_spot at = s->n ? s->at[(int)(u[2] * (float)s->n)] : (source_spot){-1, -1};
        int x = crop_start(u, at.x, from.W, to.W), y = crop_start(u + 1, at.y, from.H, to.H);
        take_crop(rgb + (size_t)k * (size_t)from.W * (size_t)from.H * 3, from, x, y, to,
                  dst + (size_t)k * (size_t)to.W * (size_t)to.H * 3);
    }
}

static status fetch(const vae *v, int64_t pass, int B, source_size size, uint8_t *rgb, source_spots *spots,
                    error *err) {
    uint64_t *sample = mem_calloc((size_t)B, sizeof *sample);
    if (!sample) return fail(err, ERR_TEMP, "out of memory");
    int bucket = feed_bucket(&v->feed, pass);
    for (int k = 0; k < B; k++) sample[k] = feed_at(&v->feed, bucket, feed_place(&v->feed, pass, k));
    status s = feed_pictures(&v->feed, sample, B, size, rgb, spots, err);
    mem_free(sample);
    return s;
}

static status vae_fill(void *self, exec *e, int variant, int64_t pass, error *err) {
    const vae *v = self;
    int B = (int)stage_of(v)->batch;
    source_size from = feed_size(&v->feed, feed_bucket(&v->feed, pass)), to = size_of(v, variant / 2);
    uint8_t *rgb = mem_alloc((size_t)B * (size_t)from.W * (size_t)from.H * 3);
    source_spots *spots = mem_calloc((size_t)B, sizeof *spots);
    status s = rgb && spots ? fetch(v, pass, B, from, rgb, spots, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) crop_batch(v, pass, rgb, spots, from, to, exec_input(e, "picture"));
    mem_free(rgb);
    mem_free(spots);
    int64_t f = vae_factor(&v->config), n = B * (to.W / f) * (to.H / f) * v->config.latent_channels;
    if (!s)
        stream_normal(recipe_stream(v->x, DRAW_NOISE), (uint64_t)(pass * n), exec_input(e, "noise"),
                      (size_t)n);
    return s;
}

static status check_sizes(const vae *v, error *err) {
    int f = (int)vae_factor(&v->config) * (v->x->config->pooled_every ? 2 : 1);
    const train_stage *s = stage_of(v);
    for (int i = 0; i < s->n_sizes; i++) {
        source_size size = s->sizes[i];
        if (s->crop > size.W || s->crop > size.H)
            return fail(err, ERR_DATA, "\"crop\" %d is larger than the pictures", (int)s->crop);
        if (s->crop) size = (source_size){(int)s->crop, (int)s->crop};
        if (size.W % f || size.H % f)
            return fail(err, ERR_DATA, "training pictures of %dx%d: sides must be multiples of %d", size.W,
                        size.H, f);
    }
    return OK;
}

static status vae_enter(void *self, error *err) {
    vae *v = self;
    feed_close(&v->feed);
    status s = feed_open(&v->feed, v->x, false, 0, err);
    return s ? s : check_sizes(v, err);
}

// ---- looking at it

enum { MEAN, LOGVAR, DECODED, N_OUT }; // of latents and of the picture made of their mean

// Encoder and decoder with the averaged weights, on GRID pictures.
typedef struct {
    runner run;
    source_size size;
    int64_t latents, numbers; // values of GRID latents and pictures
    uint8_t *rgb;
} viewer;

static void viewer_free(viewer *w) {
    runner_free(&w->run);
    mem_free(w->rgb);
    *w = (viewer){0};
}

static status viewer_make(viewer *w, const vae *v, error *err) {
    graph g;
    *w = (viewer){.size = feed_size(&v->feed, 0)};
    w->rgb = mem_alloc((size_t)GRID * (size_t)w->size.W * (size_t)w->size.H * 3);
    if (!w->rgb) return fail(err, ERR_TEMP, "out of memory");
    recipe_graph(v->x, &g, params_average(v->x->params));
    int mark = path_push(&g, "vae");
    node *picture = graph_input(&g, "picture", SHAPE(GRID, w->size.H, w->size.W, 3), DT_F32, RATE_STEP);
    vae_moments m = vae_encode_build(&g, &v->config, picture);
    node *out[] = {
        [MEAN] = m.mean, [LOGVAR] = m.logvar, [DECODED] = vae_decode_build(&g, &v->config, m.mean)};
    path_pop(&g, mark);
    w->latents = shape_count(m.mean->shape);
    w->numbers = shape_count(picture->shape);
    return recipe_runner(&w->run, v->x, &g, out, N_OUT, err);
}

static status viewer_run(viewer *w, const vae *v, int64_t pass, error *err) {
    uint64_t sample[GRID];
    bool endless = !v->feed.source.count;
    for (uint64_t k = 0; k < GRID; k++) {
        uint64_t i = (uint64_t)pass * GRID + k;
        sample[k] = endless ? (uint64_t)UNSEEN + i : i % v->feed.source.count;
    }
    status s = feed_pictures(&v->feed, sample, GRID, w->size, w->rgb, NULL, err);
    if (s) return s;
    float *picture = exec_input(w->run.exec, "picture");
    for (int64_t i = 0; i < w->numbers; i++) picture[i] = w->rgb[i] / 127.5f - 1;
    return exec_run(w->run.exec, err);
}

static status vae_grid(void *self, const char *path, error *err) {
    vae *v = self;
    viewer w;
    status s = viewer_make(&w, v, err);
    if (!s) s = viewer_run(&w, v, 0, err);
    size_t n = (size_t)w.numbers;
    float *both = s ? NULL : mem_alloc(2 * n * sizeof *both);
    if (!s && !both) s = fail(err, ERR_TEMP, "out of memory");
    if (!s) {
        memcpy(both, exec_input(w.run.exec, "picture"), n * sizeof *both);
        memcpy(both + n, exec_output(w.run.exec, DECODED), n * sizeof *both);
        s = sheet_save(path, both, 2 * GRID, w.size.H, w.size.W, GRID, err);
    }
    mem_free(both);
    viewer_free(&w);
    return s;
}

static status vae_start(void *self, error *err) { return start_component(((vae *)self)->x, "vae", err); }

// ---- the finished model

enum { CHANNELS_MAX = 64 }; // of latents that are measured

// Sums over latents, by channel, and over squared errors of decoded pictures.
typedef struct {
    double sum[CHANNELS_MAX], squares[CHANNELS_MAX], variance[CHANNELS_MAX], error;
    double latents, values; // how many
} measure;

static void measure_add(measure *m, const viewer *w, int64_t L) {
    const float *mean = exec_output(w->run.exec, MEAN), *logvar = exec_output(w->run.exec, LOGVAR);
    const float *decoded = exec_output(w->run.exec, DECODED), *picture = exec_input(w->run.exec, "picture");
    for (int64_t i = 0; i < w->latents; i++) {
        m->sum[i % L] += mean[i];
        m->squares[i % L] += (double)mean[i] * mean[i];
        m->variance[i % L] += exp(logvar[i]);
    }
    for (int64_t i = 0; i < w->numbers; i++) {
        double d = fminf(fmaxf(decoded[i], -1), 1) - picture[i];
        m->error += d * d;
    }
    m->latents += (double)(w->latents / L);
    m->values += (double)w->numbers;
}

static status measure_all(measure *m, const vae *v, error *err) {
    viewer w;
    *m = (measure){0};
    status s = viewer_make(&w, v, err);
    for (int64_t i = 0; i < MEASURED && !s; i++)
        if (!(s = viewer_run(&w, v, i, err))) measure_add(m, &w, v->config.latent_channels);
    viewer_free(&w);
    return s;
}

// Makes channel c of the latents (mean − shift)/scale by changing the averages of the two 1×1 convolutions
// next to them: quant_conv gives it out, post_quant_conv takes it back.
static void fold_channel(params *p, int64_t L, int64_t c, double shift, double scale) {
    param *qw = params_find(p, "vae.quant_conv.weight"), *qb = params_find(p, "vae.quant_conv.bias");
    param *pw = params_find(p, "vae.post_quant_conv.weight"),
          *pb = params_find(p, "vae.post_quant_conv.bias");
    for (int64_t i = 0; i < 2 * L; i++) qw->ema[c * 2 * L + i] = (float)(qw->ema[c * 2 * L + i] / scale);
    qb->ema[c] = (float)((qb->ema[c] - shift) / scale);
    qb->ema[L + c] = (float)(qb->ema[L + c] - 2 * log(scale)); // the logarithm of the variance
    for (int64_t o = 0; o < L; o++) {
        pb->ema[o] = (float)(pb->ema[o] + pw->ema[o * L + c] * shift);
        pw->ema[o * L + c] = (float)(pw->ema[o * L + c] * scale);
    }
}

// Latents get mean 0 and size 1: by channel where there are layers to fold that into, else by one factor. The
// size is that of latents as they are drawn, with their own variance: a channel that carries nothing has
// variance 1 and hardly a mean, and would be blown up to noise that a model of the latents must learn in
// vain.
static void scale_latents(vae *v, const measure *m) {
    int64_t L = v->config.latent_channels;
    double all = 0;
    bool folds = v->config.use_quant_conv && v->config.use_post_quant_conv;
    for (int64_t c = 0; c < L; c++) {
        double mean = m->sum[c] / m->latents, square = (m->squares[c] + m->variance[c]) / m->latents;
        double size = sqrt(fmax(square - mean * mean, 1e-12));
        log_put(v->x->log, LOG_LEVEL_INFO, "latent channel %d: mean %.3f, size %.3f, of that %.0f %% noise",
                (int)c, mean, size, 100 * m->variance[c] / m->latents / (size * size));
        all += square;
        if (folds) fold_channel(v->x->params, L, c, mean, size);
    }
    double factor = folds ? 1 : 1 / sqrt(fmax(all / (double)L, 1e-12));
    json_object_set_new(v->json, "scaling_factor", json_real(factor));
}

// Whether the run has changed the encoder, and with it what its latents mean.
static bool has_new_latents(const vae *v) {
    const train_config *c = v->x->config;
    bool any = false;
    for (int i = 0; i < c->n_stages; i++) any |= !c->stage[i].decoder_only;
    return any;
}

static status vae_finish(void *self, const char *dir, error *err) {
    static const char *const trained[] = {"vae", NULL};
    vae *v = self;
    measure m;
    status s = OK;
    if (v->config.latent_channels > CHANNELS_MAX) s = fail(err, ERR_DATA, "too many latent channels");
    if (!s) s = measure_all(&m, v, err);
    if (s) return s;
    double psnr = 10 * log10(4 / fmax(m.error / m.values, 1e-12));
    log_put(v->x->log, LOG_LEVEL_INFO, "reconstruction: %.2f dB over %d pictures%s", psnr, MEASURED * GRID,
            v->feed.source.count ? "" : " that were not trained on");
    if (has_new_latents(v)) scale_latents(v, &m);
    s = export_component(v->x->params, "vae", "diffusion_pytorch_model.safetensors", v->json,
                         recipe_export_type(v->x), dir, err);
    return s ? s : export_rest(v->x->config->model, dir, trained, err);
}

// ---- the recipe

static void vae_free(void *self) {
    vae *v = self;
    feed_close(&v->feed);
    json_decref(v->json);
    mem_free(v);
}

static status read_config(vae *v, error *err) {
    char *path = fs_join(v->x->config->model, "vae/config.json");
    if (!path) return fail(err, ERR_TEMP, "out of memory");
    v->json = js_load(path, CONFIG_BYTES, err);
    status s = v->json ? vae_config_parse(&v->config, v->json, path, err) : err->code;
    mem_free(path);
    if (!s && (v->config.in_channels != 3 || v->config.out_channels != 3))
        s = fail(err, ERR_DATA, "vae/config.json: pictures have 3 channels");
    return s;
}

status recipe_vae(recipe *r, train_context *context, error *err) {
    vae *v = mem_calloc(1, sizeof *v);
    if (!v) return fail(err, ERR_TEMP, "out of memory");
    v->x = context;
    *r = (recipe){.self = v,
                  .kind = "vae",
                  .enter = vae_enter,
                  .variant = vae_variant,
                  .loss = vae_loss,
                  .start = vae_start,
                  .fill = vae_fill,
                  .grid = vae_grid,
                  .finish = vae_finish,
                  .free = vae_free};
    return read_config(v, err);
}
