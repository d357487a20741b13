#include "core/pipeline_hires.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "core/api.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/models/latent_resize.h"

#define USUAL_SCALE 2.0

// ---- ways to make latents larger

typedef struct {
    const char *name, *label;
    bool latent; // else through pixels
    latent_filter filter;
    bool antialias;
    resize_filter pixels; // a box is the nearest pixel where a picture grows
} upscaler;

static const upscaler UPSCALERS[] = {
    {"latent", "Latent", true, LATENT_BILINEAR},
    {"latent-antialiased", "Latent (antialiased)", true, LATENT_BILINEAR, true},
    {"latent-bicubic", "Latent (bicubic)", true, LATENT_BICUBIC},
    {"latent-bicubic-antialiased", "Latent (bicubic antialiased)", true, LATENT_BICUBIC, true},
    {"latent-nearest", "Latent (nearest)", true, LATENT_NEAREST},
    {"latent-nearest-exact", "Latent (nearest-exact)", true, LATENT_NEAREST_EXACT},
    {"lanczos", "Lanczos", .pixels = RESIZE_LANCZOS},
    {"nearest", "Nearest", .pixels = RESIZE_BOX},
};
enum { N_UPSCALERS = sizeof UPSCALERS / sizeof *UPSCALERS };

const char *hires_upscaler_name(int i) { return i >= 0 && i < N_UPSCALERS ? UPSCALERS[i].name : NULL; }

static const upscaler *find_upscaler(const char *name) {
    if (!name) return UPSCALERS;
    for (int i = 0; i < N_UPSCALERS; i++)
        if (!strcasecmp(name, UPSCALERS[i].name) || !strcasecmp(name, UPSCALERS[i].label))
            return &UPSCALERS[i];
    return NULL;
}

const char *hires_upscaler_of(const calo_txt2img_request *r, bool label) {
    const upscaler *u = find_upscaler(r->hires_upscaler);
    return label ? u->label : u->name;
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
    if (find_upscaler(r->hires_upscaler)) return OK;
    return unknown_name("hires upscaler", r->hires_upscaler, hires_upscaler_name, err);
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

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

status hires_init(txt2img *t, error *err) {
    const calo_txt2img_request *r = t->request;
    TRY(check(t, err));
    model *m = t->model->m;
    if (!find_upscaler(r->hires_upscaler)->latent) {
        TRY(model_check(m, NET_VAE_ENCODER, err));
        if (model_vae(m, err)->in_channels != 3)
            return fail(err, ERR_DATA, "%s: the autoencoder reads %d channels, not 3", model_dir(m),
                        (int)model_vae(m, err)->in_channels);
    }
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
    return OK;
}

// ---- between the passes

static status enlarge_pixels(const txt2img *t, const upscaler *how, const float *x, float *y, int64_t w,
                             int64_t h, error *err) {
    const vae_config *v = model_vae(t->model->m, err);
    int f = (int)vae_factor(v);
    autoencoder a = txt2img_autoencoder(t->first), b = txt2img_autoencoder(t);
    image small = {0}, large = {0};
    encoded e = {0};
    b.w = w;
    b.h = h;
    status s = image_alloc(&small, t->first->width, t->first->height, 3, err);
    if (!s) s = autoencoder_decode(&a, x, small.px, err);
    if (!s) s = image_resize(&small, (int)w * f, (int)h * f, how->pixels, &large, err);
    if (!s) s = autoencoder_encode(&b, &large, NULL, &e, err);
    for (int64_t i = 0; i < w * h * t->C && !s; i++)
        y[i] = (float)((e.mean[i] - v->shift_factor) * v->scaling_factor);
    encoded_free(&e);
    image_free(&small);
    image_free(&large);
    return s;
}

status hires_enlarge(const txt2img *t, const float *x, float *y, error *err) {
    const txt2img *first = t->first;
    const upscaler *how = find_upscaler(t->request->hires_upscaler);
    int64_t w, h, C = t->C;
    enlarged_size(first, first->width / first->w, &w, &h);
    float *all = mem_alloc((size_t)(w * h * C) * sizeof *all);
    if (!all) return fail(err, ERR_TEMP, "out of memory");
    status s = how->latent
                   ? latents_resize(x, first->h, first->w, C, how->filter, how->antialias, all, h, w, err)
                   : enlarge_pixels(t, how, x, all, w, h, err);
    int64_t left = (w - t->w) / 2, top = (h - t->h) / 2; // of what is cut
    for (int64_t i = 0; i < t->h && !s; i++)
        memcpy(y + i * t->w * C, all + ((top + i) * w + left) * C, (size_t)(t->w * C) * sizeof *y);
    mem_free(all);
    return s;
}
