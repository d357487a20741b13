#include "core/pipeline_hires.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "core/api.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/tensor_file.h"
#include "core/models/latent_resize.h"
#include "core/pipeline_refiner.h"
#include "core/upscaler_fit.h"

#define USUAL_SCALE 2.0
enum { MOST_RUNS = 3 }; // of a network, one after the other, as A1111 does

// ---- ways to make latents larger

typedef struct {
    const char *name, *label;
    bool latent; // else through pixels
    latent_filter filter;
    bool antialias;
    resize_filter pixels; // a box is the nearest pixel where a picture grows
} way;

static const way WAYS[] = {
    {"latent", "Latent", true, LATENT_BILINEAR},
    {"latent-antialiased", "Latent (antialiased)", true, LATENT_BILINEAR, true},
    {"latent-bicubic", "Latent (bicubic)", true, LATENT_BICUBIC},
    {"latent-bicubic-antialiased", "Latent (bicubic antialiased)", true, LATENT_BICUBIC, true},
    {"latent-nearest", "Latent (nearest)", true, LATENT_NEAREST},
    {"latent-nearest-exact", "Latent (nearest-exact)", true, LATENT_NEAREST_EXACT},
    {"lanczos", "Lanczos", .pixels = RESIZE_LANCZOS},
    {"nearest", "Nearest", .pixels = RESIZE_BOX},
};
enum { N_WAYS = sizeof WAYS / sizeof *WAYS };

// A file's network, and what brings its picture to the size that is asked for.
static const way NETWORK = {.pixels = RESIZE_LANCZOS};

const char *hires_upscaler_name(int i) { return i >= 0 && i < N_WAYS ? WAYS[i].name : NULL; }

static const way *find_way(const char *name) {
    if (!name) return WAYS;
    for (int i = 0; i < N_WAYS; i++)
        if (!strcasecmp(name, WAYS[i].name) || !strcasecmp(name, WAYS[i].label)) return &WAYS[i];
    return NULL;
}

static bool is_file(const char *name) { return tensor_file_is_named(name) || fs_exists(name); }

// Of a request that has been checked.
static const way *way_of(const txt2img *t) {
    return t->enlarger ? &NETWORK : find_way(t->request->hires_upscaler);
}

const char *hires_upscaler_of(const txt2img *t, bool label) {
    if (t->enlarger) return label ? upscaler_name(t->enlarger) : t->request->hires_upscaler;
    return label ? way_of(t)->label : way_of(t)->name;
}

// ---- what is asked for

bool hires_wanted(const calo_txt2img_request *r) {
    return r->hires || r->hires_scale != 0 || r->hires_width || r->hires_height;
}

static status check(const txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    double steps = r->hires_steps ? r->hires_steps : t->steps;
    if (r->init_image)
        return fail(err, ERR_USAGE, "hires fix draws its own first picture, so there is none to begin with");
    if (r->hires_scale != 0 && !(r->hires_scale >= 0.1 && r->hires_scale <= 64))
        return fail(err, ERR_USAGE, "the hires scale %g is not in 0.1 .. 64", r->hires_scale);
    if (r->hires_width < 0 || r->hires_height < 0)
        return fail(err, ERR_USAGE, "there is no hires size of %dx%d", r->hires_width, r->hires_height);
    if (!(r->hires_denoise > 0 && r->hires_denoise <= 1))
        return fail(err, ERR_USAGE, "the hires denoising strength %g is not in 0 .. 1, without 0",
                    r->hires_denoise);
    if (r->hires_steps < 0 || !(steps / r->hires_denoise < MAX_STEPS + 1))
        return fail(err, ERR_USAGE, "%g hires steps at a denoising strength of %g are more than %d in all",
                    steps, r->hires_denoise, MAX_STEPS);
    if (find_way(r->hires_upscaler)) return OK;
    if (!is_file(r->hires_upscaler))
        return unknown_name("hires upscaler", r->hires_upscaler, hires_upscaler_name, err);
    if (text_is_utf8(r->hires_upscaler)) return OK;
    return fail(err, ERR_USAGE, "the name of the hires upscaler's file is not UTF-8");
}

// The size that the first picture is brought to, in latents. With a width and a height it covers both, in its
// own proportions, and what is more is cut.
static void enlarged_size(const txt2img *t, int64_t f, int64_t *w, int64_t *h) {
    const calo_txt2img_request *r = t->request;
    double scale = r->hires_scale != 0 ? r->hires_scale : USUAL_SCALE;
    int64_t W = t->width, H = t->height, x = r->hires_width, y = r->hires_height;
    if (!x && !y) {
        x = (int64_t)((double)W * scale);
        y = (int64_t)((double)H * scale);
    } else if (!y || (x && W * y < x * H)) {
        y = x * H / W;
    } else {
        x = y * W / H;
    }
    *w = x / f;
    *h = y / f;
}

bool hires_encodes(const txt2img *t) { return t->first && !way_of(t)->latent; }

autoencoder hires_autoencoder(const txt2img *t) {
    autoencoder a = txt2img_autoencoder(t);
    enlarged_size(t->first, t->first->width / t->first->w, &a.w, &a.h);
    return a;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static status open_enlarger(txt2img *t, error *err) {
    const char *path = t->request->hires_upscaler;
    if (!(t->enlarger = upscaler_open(path, err))) return err->code;
    int scale = upscaler_scale(t->enlarger);
    if (image_fits((int64_t)t->width * scale, (int64_t)t->height * scale)) return OK;
    return fail(err, ERR_USAGE, "%s: enlarges %dx%d pixels by %d, to more than a picture may have", path,
                t->width, t->height, scale);
}

// Whether what goes through pixels can do so.
static status check_pixels(txt2img *t, error *err) {
    model *m = t->model->m;
    TRY(model_check(m, NET_VAE_ENCODER, err));
    if (model_vae(m, err)->in_channels != 3)
        return fail(err, ERR_DATA, "%s: the autoencoder reads %d channels, not 3", model_dir(m),
                    (int)model_vae(m, err)->in_channels);
    return OK;
}

status hires_init(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    TRY(check(t, err));
    model *m = t->model->m;
    if (!find_way(r->hires_upscaler)) TRY(open_enlarger(t, err));
    if (!way_of(t)->latent) TRY(check_pixels(t, err));
    txt2img *s = t->second = mem_alloc(sizeof *s);
    if (!s) return fail(err, ERR_TEMP, "out of memory");
    *s = *t;
    s->points = (schedule_steps){0};
    s->second = NULL;
    s->first = t;
    int64_t f = vae_factor(model_vae(m, err));
    enlarged_size(t, f, &s->w, &s->h);
    bool fits = s->w <= MAX_SIDE / f && s->h <= MAX_SIDE / f;
    if (r->hires_width && r->hires_height) {
        s->w = least(s->w, r->hires_width / f);
        s->h = least(s->h, r->hires_height / f);
    }
    if (!fits || s->w < 1 || s->h < 1)
        return fail(err, ERR_USAGE, "the hires size is not in %d .. %d, or would not be before it is cut",
                    (int)f, MAX_SIDE);
    s->width = (int)(s->w * f);
    s->height = (int)(s->h * f);
    s->steps = r->hires_steps ? r->hires_steps : t->steps;
    // A1111: as many steps as are asked for, the last ones of a schedule that is longer by the strength.
    int all = (int)(s->steps / fmin(r->hires_denoise, 0.999));
    TRY(sampler_steps(t->sampler, &t->schedule, all, t->points.how, &s->points, err));
    schedule_steps_tail(&s->points, (double)s->steps / all);
    refiner_divide(s);
    return OK;
}

// ---- a network between the passes

// As A1111 does: again while the picture is smaller than it is to be. *w, *h: pixels before the last time.
static int runs_of(const txt2img *t, int *w, int *h) {
    int64_t f = t->first->width / t->first->w, W, H;
    int scale = upscaler_scale(t->enlarger), n = 1;
    enlarged_size(t->first, f, &W, &H);
    *w = t->first->width;
    *h = t->first->height;
    for (; n < MOST_RUNS && scale > 1; n++) {
        int64_t x = (int64_t)*w * scale, y = (int64_t)*h * scale;
        if ((x >= W * f && y >= H * f) || !image_fits(x * scale, y * scale)) break;
        *w = (int)x;
        *h = (int)y;
    }
    return n;
}

status hires_memory(const txt2img *t, uint64_t limit, size_t *bytes, int *tile, error *err) {
    upscaling how = {.compute = t->compute};
    int w, h;
    runs_of(t, &w, &h);
    TRY(upscaler_fit(t->enlarger, t->model->ctx, limit, w, h, &how, bytes, err));
    *tile = how.tile;
    return OK;
}

// Within a limit of memory it has the place of all other networks, as long as it runs.
static status run_network(const txt2img *t, int index, image *im, error *err) {
    calo_context *ctx = t->model->ctx;
    api_pieces at = api_pieces_begin(ctx, "upscale", index, t->count);
    upscaling how = {.compute = t->compute, .progress = api_piece, .user = &at};
    int w, h, n = runs_of(t, &w, &h);
    uint64_t limit = ctx->options.max_memory;
    TRY(upscaler_fit(t->enlarger, ctx, limit, w, h, &how, NULL, err));
    if (limit) models_forget(ctx->models, how.ws);
    status s = OK;
    for (int i = 0; i < n && !s; i++) {
        image larger;
        if ((s = upscaler_run(t->enlarger, &how, im, &larger, err))) break;
        image_free(im);
        *im = larger;
    }
    if (limit) upscaler_forget(t->enlarger, how.ws);
    return s;
}

// ---- between the passes

static status enlarge_pixels(const txt2img *t, const way *how, const float *x, int index, float *y,
                             error *err) {
    const vae_config *v = model_vae(t->model->m, err);
    autoencoder a = txt2img_autoencoder(t->first), b = hires_autoencoder(t);
    int64_t f = vae_factor(v), W = b.w * f, H = b.h * f;
    a.image = b.image = index;
    image im = {0}, large = {0};
    encoded e = {0};
    status s = image_alloc(&im, t->first->width, t->first->height, 3, err);
    if (!s) s = autoencoder_decode(&a, x, im.px, err);
    if (!s && t->enlarger) s = run_network(t, index, &im, err);
    if (!s) s = image_resize(&im, (int)W, (int)H, how->pixels, &large, err);
    image_free(&im);
    if (!s) s = autoencoder_encode(&b, &large, NULL, &e, err);
    for (int64_t i = 0; i < b.w * b.h * t->C && !s; i++)
        y[i] = (float)((e.mean[i] - v->shift_factor) * v->scaling_factor);
    encoded_free(&e);
    image_free(&large);
    return s;
}

status hires_enlarge(const txt2img *t, const float *x, int index, float *y, error *err) {
    const txt2img *first = t->first;
    const way *how = way_of(t);
    int64_t w, h, C = t->C;
    enlarged_size(first, first->width / first->w, &w, &h);
    float *all = mem_alloc((size_t)(w * h * C) * sizeof *all);
    if (!all) return fail(err, ERR_TEMP, "out of memory");
    status s = how->latent
                   ? latents_resize(x, first->h, first->w, C, how->filter, how->antialias, all, h, w, err)
                   : enlarge_pixels(t, how, x, index, all, err);
    int64_t left = (w - t->w) / 2, top = (h - t->h) / 2; // of what is cut
    for (int64_t i = 0; i < t->h && !s; i++)
        memcpy(y + i * t->w * C, all + ((top + i) * w + left) * C, (size_t)(t->w * C) * sizeof *y);
    mem_free(all);
    return s;
}
