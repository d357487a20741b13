#include "core/pipeline_picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

enum { MAX_BORDER = 8192, MAX_BLUR = 256 };

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

static int clamp_to(int v, int lo, int hi) { return v < lo ? lo : v > hi ? hi : v; }

static uint8_t *pixel(const image *im, int x, int y) {
    return im->px + ((size_t)y * (size_t)im->w + (size_t)x) * (size_t)im->c;
}

void beginning_free(beginning *b) {
    image_free(&b->whole);
    image_free(&b->mask);
    image_free(&b->drawn);
    image_free(&b->hidden);
    mem_free(b->latent_mask);
    *b = (beginning){0};
}

// ---- 1. sizes

// dst of w × h shows `im` from (x, y) on; beyond its edges their pixels go on.
static status window(const image *im, int x, int y, int w, int h, image *dst, error *err) {
    TRY(image_alloc(dst, w, h, im->c, err));
    for (int i = 0; i < h; i++)
        for (int j = 0; j < w; j++)
            memcpy(pixel(dst, j, i), pixel(im, clamp_to(x + j, 0, im->w - 1), clamp_to(y + i, 0, im->h - 1)),
                   (size_t)im->c);
    return OK;
}

// STRETCH: both sides change as they must. CROP: scaled until it covers all, the rest cut; FILL: scaled until
// all of it is to be seen, its edges going on. Both in the middle.
static status fit(const image *im, int w, int h, calo_resize how, image *dst, error *err) {
    double x = (double)w / im->w, y = (double)h / im->h;
    double scale = how == CALO_RESIZE_CROP ? fmax(x, y) : fmin(x, y);
    int sw = w, sh = h;
    if (how != CALO_RESIZE_STRETCH) {
        sw = clamp_to((int)lrint(im->w * scale), 1, IMAGE_MAX_SIDE);
        sh = clamp_to((int)lrint(im->h * scale), 1, IMAGE_MAX_SIDE);
    }
    image scaled = {0};
    status s = image_resize(im, sw, sh, RESIZE_LANCZOS, &scaled, err);
    if (!s) s = window(&scaled, (sw - w) / 2, (sh - h) / 2, w, h, dst, err); // both differences have one sign
    image_free(&scaled);
    return s;
}

// ---- 2. masks

// Gaussian of standard deviation `sigma` along rows (step 1) or columns, mirrored at the ends.
static void blur_line(const uint8_t *from, uint8_t *to, int n, size_t step, const float *kernel, int radius) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = -radius; k <= radius; k++) {
            int at = n == 1 ? 0 : abs(i + k) % (2 * (n - 1));
            sum += kernel[k + radius] * from[(size_t)(at < n ? at : 2 * (n - 1) - at) * step];
        }
        to[(size_t)i * step] = (uint8_t)lrintf(fminf(sum, 255));
    }
}

// As far as A1111's: 2.5 standard deviations.
static status blur(image *mask, int sigma, error *err) {
    float kernel[2 * (5 * MAX_BLUR / 2 + 1) + 1], sum = 0;
    int radius = (int)(2.5 * sigma + 0.5);
    for (int k = -radius; k <= radius; k++)
        sum += kernel[k + radius] = expf(-(float)(k * k) / (float)(2 * sigma * sigma));
    for (int k = 0; k <= 2 * radius; k++) kernel[k] /= sum;
    image half = {0};
    TRY(image_alloc(&half, mask->w, mask->h, 1, err));
    for (int y = 0; y < mask->h; y++)
        blur_line(pixel(mask, 0, y), pixel(&half, 0, y), mask->w, 1, kernel, radius);
    for (int x = 0; x < mask->w; x++)
        blur_line(pixel(&half, x, 0), pixel(mask, x, 0), mask->h, (size_t)mask->w, kernel, radius);
    image_free(&half);
    return OK;
}

// 1 where at least half of the pixels behind a latent are drawn, weighed by the mask.
static status make_latent_mask(beginning *b, int f, error *err) {
    int w = b->width / f, h = b->height / f;
    if (!(b->latent_mask = mem_calloc((size_t)w * (size_t)h, sizeof *b->latent_mask))) return no_memory(err);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            int64_t sum = 0;
            for (int i = 0; i < f * f; i++) sum += *pixel(&b->hidden, x * f + i % f, y * f + i / f);
            b->latent_mask[y * w + x] = 2 * sum >= 255 * (int64_t)f * f;
        }
    return OK;
}

// ---- 3. what is drawn: all, or what the mask shows and some pixels around it

static rectangle bounds(const image *mask) {
    int x0 = mask->w, y0 = mask->h, x1 = 0, y1 = 0;
    for (int y = 0; y < mask->h; y++)
        for (int x = 0; x < mask->w; x++) {
            if (!*pixel(mask, x, y)) continue;
            if (x < x0) x0 = x;
            if (x >= x1) x1 = x + 1;
            if (y < y0) y0 = y;
            y1 = y + 1;
        }
    return x1 ? (rectangle){x0, y0, x1 - x0, y1 - y0} : (rectangle){0, 0, mask->w, mask->h};
}

// Grows [*at, *at + *size) around its middle to `want`, inside [0, limit).
static void grow(int *at, int *size, int want, int limit) {
    want = clamp_to(want, *size, limit);
    *at = clamp_to(*at - (want - *size) / 2, 0, limit - want);
    *size = want;
}

static rectangle choose_part(const beginning *b, int padding) {
    rectangle r = bounds(&b->mask);
    int x1 = clamp_to(r.x + r.w + padding, 0, b->whole.w), y1 = clamp_to(r.y + r.h + padding, 0, b->whole.h);
    r.x = clamp_to(r.x - padding, 0, r.x);
    r.y = clamp_to(r.y - padding, 0, r.y);
    r.w = x1 - r.x;
    r.h = y1 - r.y;
    // In the proportions of what is drawn, where the picture is large enough.
    grow(&r.x, &r.w, (int)((int64_t)r.h * b->width / b->height), b->whole.w);
    grow(&r.y, &r.h, (int)((int64_t)r.w * b->height / b->width), b->whole.h);
    return r;
}

// ---- 4. filling from around: each masked pixel takes the mean of the kept ones near it

typedef struct {
    int w, h;
    float *v; // [h,w,4]: sums of red, green and blue, and their weight
} level;

// Squares of 2 × 2 of the finer level.
static status coarser(const level *fine, level *l, error *err) {
    *l = (level){(fine->w + 1) / 2, (fine->h + 1) / 2, NULL};
    if (!(l->v = mem_calloc((size_t)l->w * (size_t)l->h * 4, sizeof *l->v))) return no_memory(err);
    for (int y = 0; y < fine->h; y++)
        for (int x = 0; x < fine->w; x++)
            for (int k = 0; k < 4; k++)
                l->v[(y / 2 * l->w + x / 2) * 4 + k] += fine->v[(y * fine->w + x) * 4 + k];
    return OK;
}

// Gives what has no weight the colours of the coarser level, which all have one.
static void refine(const level *coarse, level *l) {
    for (int y = 0; y < l->h; y++)
        for (int x = 0; x < l->w; x++) {
            float *v = l->v + (y * l->w + x) * 4;
            const float *from = coarse->v + (y / 2 * coarse->w + x / 2) * 4;
            for (int k = 0; k < 4 && v[3] == 0; k++) v[k] = k < 3 ? from[k] / from[3] : 0;
            if (v[3] == 0) v[3] = 1;
        }
}

static status fill_level(level *l, error *err) {
    if (l->w == 1 && l->h == 1) {
        if (l->v[3] == 0) l->v[3] = 1; // nothing is kept: black
        return OK;
    }
    level next = {0};
    status s = coarser(l, &next, err);
    if (!s) s = fill_level(&next, err);
    if (!s) refine(&next, l);
    mem_free(next.v);
    return s;
}

static status fill_hidden(image *im, const image *mask, error *err) {
    level l = {im->w, im->h, mem_calloc((size_t)im->w * (size_t)im->h * 4, sizeof *l.v)};
    if (!l.v) return no_memory(err);
    size_t n = (size_t)im->w * (size_t)im->h;
    for (size_t i = 0; i < n; i++) {
        float kept = mask->px[i] < 128;
        for (size_t k = 0; k < 3; k++) l.v[4 * i + k] = kept * im->px[3 * i + k];
        l.v[4 * i + 3] = kept;
    }
    status s = fill_level(&l, err);
    for (size_t i = 0; i < 3 * n && !s; i++)
        im->px[i] = (uint8_t)lrintf(l.v[i / 3 * 4 + i % 3] / l.v[i / 3 * 4 + 3]);
    mem_free(l.v);
    return s;
}

// ---- 5. together

static bool has_borders(const calo_txt2img_request *r) {
    return r->outpaint_left || r->outpaint_right || r->outpaint_top || r->outpaint_bottom;
}

status beginning_check(const calo_txt2img_request *r, error *err) {
    const calo_image *all[] = {r->init_image, r->mask};
    const int borders[] = {r->outpaint_left, r->outpaint_right, r->outpaint_top, r->outpaint_bottom};
    for (int i = 0; i < 2; i++)
        if (all[i] &&
            (all[i]->size < offsetof(calo_image, latents) || !all[i]->rgb || all[i]->width < 1 ||
             all[i]->height < 1 || all[i]->width > IMAGE_MAX_SIDE || all[i]->height > IMAGE_MAX_SIDE))
            return fail(err, ERR_USAGE, "the %s is no picture of 1 to %d pixels",
                        i ? "mask" : "initial picture", IMAGE_MAX_SIDE);
    for (int i = 0; i < 4; i++)
        if (borders[i] < 0 || borders[i] > MAX_BORDER)
            return fail(err, ERR_USAGE, "a border of %d pixels is not in 0 .. %d", borders[i], MAX_BORDER);
    if (r->mask_blur < 0 || r->mask_blur > MAX_BLUR)
        return fail(err, ERR_USAGE, "a mask blur of %d is not in 0 .. %d", r->mask_blur, MAX_BLUR);
    if (r->mask_padding < 0 || r->mask_padding > MAX_BORDER)
        return fail(err, ERR_USAGE, "a mask padding of %d is not in 0 .. %d", r->mask_padding, MAX_BORDER);
    if (r->only_masked && r->init_image && !r->mask && !has_borders(r))
        return fail(err, ERR_USAGE, "to draw only what is masked takes a mask or borders");
    if (!(r->strength >= 0 && r->strength <= 1))
        return fail(err, ERR_USAGE, "the strength %g is not in 0 .. 1", r->strength);
    if ((int)r->resize < 0 || r->resize > CALO_RESIZE_FILL || (int)r->mask_content < 0 ||
        r->mask_content > CALO_CONTENT_ZEROS)
        return fail(err, ERR_USAGE, "there is no way of resizing %d or mask content %d", (int)r->resize,
                    (int)r->mask_content);
    return OK;
}

void beginning_size(const calo_txt2img_request *r, int f, int *w, int *h) {
    *w = r->init_image->width + r->outpaint_left + r->outpaint_right;
    *h = r->init_image->height + r->outpaint_top + r->outpaint_bottom;
    if (!has_borders(r)) return;
    *w = (*w + f - 1) / f * f;
    *h = (*h + f - 1) / f * f;
}

static image as_image(const calo_image *im) {
    return (image){.w = im->width, .h = im->height, .c = 3, .px = (uint8_t *)(uintptr_t)im->rgb};
}

// The mask beside the picture without its borders: grey, in its size. Without one all is kept.
static status take_mask(const calo_txt2img_request *r, image *mask, error *err) {
    int w = r->init_image->width, h = r->init_image->height;
    if (!r->mask) {
        TRY(image_alloc(mask, w, h, 1, err));
        memset(mask->px, 0, (size_t)w * (size_t)h);
        return OK;
    }
    image given = as_image(r->mask), grey = {0};
    status s = image_channels(&given, 1, &grey, err);
    if (!s) s = image_resize(&grey, w, h, RESIZE_BILINEAR, mask, err);
    image_free(&grey);
    return s;
}

static void show_borders(const calo_txt2img_request *r, image *mask) {
    rectangle in = {r->outpaint_left, r->outpaint_top, r->init_image->width, r->init_image->height};
    for (int y = 0; y < mask->h; y++)
        for (int x = 0; x < mask->w; x++)
            if (x < in.x || x >= in.x + in.w || y < in.y || y >= in.y + in.h) *pixel(mask, x, y) = 255;
}

// `whole` and `mask` with their borders, before they are fitted.
static status take_pictures(beginning *b, const calo_txt2img_request *r, int f, error *err) {
    int w, h;
    image given = as_image(r->init_image), mask = {0};
    beginning_size(r, f, &w, &h);
    TRY(window(&given, -r->outpaint_left, -r->outpaint_top, w, h, &b->whole, err));
    if (!r->mask && !has_borders(r)) return OK;
    status s = take_mask(r, &mask, err);
    if (!s) s = window(&mask, -r->outpaint_left, -r->outpaint_top, w, h, &b->mask, err);
    image_free(&mask);
    if (!s) show_borders(r, &b->mask);
    return s || !r->mask_blur ? s : blur(&b->mask, r->mask_blur, err);
}

// Makes what the finished picture shows as large as what is drawn.
static status fit_whole(beginning *b, calo_resize how, error *err) {
    image *all[] = {&b->whole, &b->mask};
    for (int i = 0; i < 2; i++) {
        image fitted = {0};
        if (!all[i]->px || (all[i]->w == b->width && all[i]->h == b->height)) continue;
        TRY(fit(all[i], b->width, b->height, how, &fitted, err));
        image_free(all[i]);
        *all[i] = fitted;
    }
    b->part = (rectangle){0, 0, b->width, b->height};
    return OK;
}

static status take_part(const beginning *b, const image *from, image *to, error *err) {
    image part = {0};
    TRY(window(from, b->part.x, b->part.y, b->part.w, b->part.h, &part, err));
    status s = image_resize(&part, b->width, b->height, RESIZE_LANCZOS, to, err);
    image_free(&part);
    return s;
}

status beginning_make(beginning *b, const calo_txt2img_request *r, int width, int height, int f, error *err) {
    *b = (beginning){.width = width, .height = height};
    TRY(take_pictures(b, r, f, err));
    if (r->only_masked && b->mask.px)
        b->part = choose_part(b, r->mask_padding);
    else
        TRY(fit_whole(b, r->resize, err));
    TRY(take_part(b, &b->whole, &b->drawn, err));
    if (!b->mask.px) return OK;
    TRY(take_part(b, &b->mask, &b->hidden, err));
    TRY(make_latent_mask(b, f, err));
    return r->mask_content == CALO_CONTENT_FILL ? fill_hidden(&b->drawn, &b->hidden, err) : OK;
}

// ---- 6. finished pictures

static uint8_t mix(uint8_t kept, uint8_t drawn, unsigned share) {
    return (uint8_t)((kept * (255 - share) + drawn * share + 127) / 255);
}

status beginning_finish(const beginning *b, const uint8_t *rgb, uint8_t *out, error *err) {
    image drawn = {.w = b->width, .h = b->height, .c = 3, .px = (uint8_t *)(uintptr_t)rgb}, part = {0};
    const rectangle *p = &b->part;
    TRY(image_resize(&drawn, p->w, p->h, RESIZE_LANCZOS, &part, err));
    memcpy(out, b->whole.px, (size_t)b->whole.w * (size_t)b->whole.h * 3);
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            unsigned share = b->mask.px ? *pixel(&b->mask, p->x + x, p->y + y) : 255;
            size_t at = 3 * ((size_t)(p->y + y) * (size_t)b->whole.w + (size_t)(p->x + x));
            for (size_t k = 0; k < 3; k++) out[at + k] = mix(out[at + k], pixel(&part, x, y)[k], share);
        }
    image_free(&part);
    return OK;
}
