#include "assets/world/picture.h"
#include "assets/world/backdrop.h"
#include "assets/world/figures.h"

#include <stdatomic.h>
#include <string.h>

// Outline width in shares of the shorter side: 1.8 pixels at 128.
static const double PEN = .014;

static void paint_scene(cairo_t *cx, const scene *s, int H, int W, view look) {
    double side = H < W ? H : W;
    brush b = {.cx = cx, .view = look, .width = W / side, .height = H / side, .pen = PEN};
    cairo_scale(cx, side, side);
    cairo_set_line_join(cx, CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(cx, CAIRO_LINE_CAP_ROUND);
    if (look == VIEW_MASK) {
        cairo_set_antialias(cx, CAIRO_ANTIALIAS_NONE);
        cairo_set_operator(cx, CAIRO_OPERATOR_SOURCE);
    } else {
        backdrop_draw(&b, s);
    }
    for (int i = s->count - 1; i >= 0; i--) {
        b.label = (i + 1) / 255.;
        figure_draw(&b, &s->objects[i]);
    }
}

// A surface with the scene drawn, for the caller to destroy.
static status draw(const scene *s, int H, int W, view look, cairo_surface_t **out, error *err) {
    if (H < 1 || W < 1 || H > PICTURE_MAX_SIDE || W > PICTURE_MAX_SIDE)
        return fail(err, ERR_USAGE, "a picture of %d×%d: sides are from 1 to %d", W, H, PICTURE_MAX_SIDE);
    cairo_format_t format = look == VIEW_MASK ? CAIRO_FORMAT_A8 : CAIRO_FORMAT_RGB24;
    cairo_surface_t *surface = cairo_image_surface_create(format, W, H);
    cairo_t *cx = cairo_create(surface);
    paint_scene(cx, s, H, W, look);
    cairo_status_t result = cairo_status(cx);
    cairo_destroy(cx);
    cairo_surface_flush(surface);
    if (result == CAIRO_STATUS_SUCCESS) {
        *out = surface;
        return OK;
    }
    cairo_surface_destroy(surface);
    return fail(err, result == CAIRO_STATUS_NO_MEMORY ? ERR_TEMP : ERR_INTERNAL, "cairo: %s",
                cairo_status_to_string(result));
}

static const uint8_t *row(cairo_surface_t *surface, int y) {
    return cairo_image_surface_get_data(surface) + (ptrdiff_t)y * cairo_image_surface_get_stride(surface);
}

static uint32_t pixel(const uint8_t *row, int x) {
    uint32_t p; // 0xXXRRGGBB in the machine's byte order
    memcpy(&p, row + 4 * (size_t)x, 4);
    return p;
}

status picture_rgb8(const scene *s, int H, int W, uint8_t *out, error *err) {
    cairo_surface_t *surface;
    status st = draw(s, H, W, VIEW_PICTURE, &surface, err);
    if (st) return st;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++, out += 3) {
            uint32_t p = pixel(row(surface, y), x);
            out[0] = (uint8_t)(p >> 16), out[1] = (uint8_t)(p >> 8), out[2] = (uint8_t)p;
        }
    cairo_surface_destroy(surface);
    return OK;
}

status picture_f32(const scene *s, int H, int W, float *out, error *err) {
    cairo_surface_t *surface;
    status st = draw(s, H, W, VIEW_PICTURE, &surface, err);
    if (st) return st;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (uint32_t p = pixel(row(surface, y), x), c = 0; c < 3; c++, p <<= 8)
                *out++ = (float)(p >> 16 & 255) / 127.5f - 1;
    cairo_surface_destroy(surface);
    return OK;
}

status picture_lines(const scene *s, int H, int W, uint8_t *lines, error *err) {
    cairo_surface_t *surface;
    status st = draw(s, H, W, VIEW_LINES, &surface, err);
    if (st) return st;
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) *lines++ = (uint8_t)pixel(row(surface, y), x); // grey: any channel
    cairo_surface_destroy(surface);
    return OK;
}

status picture_mask(const scene *s, int H, int W, uint8_t *mask, error *err) {
    cairo_surface_t *surface;
    status st = draw(s, H, W, VIEW_MASK, &surface, err);
    if (st) return st;
    for (int y = 0; y < H; y++) memcpy(mask + (size_t)y * W, row(surface, y), (size_t)W);
    cairo_surface_destroy(surface);
    return OK;
}

// B pictures as bytes or as floats, whichever pointer is set.
typedef struct {
    const scene *scenes;
    int H, W;
    uint8_t *rgb8;
    float *f32;
    atomic_int failure; // the first status that is not OK
} batch;

static void draw_some(void *arg, int64_t begin, int64_t end) {
    batch *b = arg;
    size_t size = 3 * (size_t)b->H * (size_t)b->W;
    for (int64_t i = begin; i < end; i++) {
        const scene *s = &b->scenes[i];
        status st = b->rgb8 ? picture_rgb8(s, b->H, b->W, b->rgb8 + (size_t)i * size, NULL)
                            : picture_f32(s, b->H, b->W, b->f32 + (size_t)i * size, NULL);
        int none = OK;
        if (st) atomic_compare_exchange_strong(&b->failure, &none, (int)st);
    }
}

static status draw_batch(team *t, batch *b, int B, error *err) {
    parallel_for(t, B, 1, draw_some, b);
    if (!b->failure) return OK;
    return fail(err, (status)b->failure, "could not draw %d pictures of %d×%d", B, b->W, b->H);
}

status pictures_rgb8(team *t, const scene *s, int B, int H, int W, uint8_t *out, error *err) {
    return draw_batch(t, &(batch){.scenes = s, .H = H, .W = W, .rgb8 = out}, B, err);
}

status pictures_f32(team *t, const scene *s, int B, int H, int W, float *out, error *err) {
    return draw_batch(t, &(batch){.scenes = s, .H = H, .W = W, .f32 = out}, B, err);
}
