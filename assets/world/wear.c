#include "assets/world/wear.h"

#include <math.h>
#include <string.h>

#include "core/files/image.h"

// Chances and greatest amounts. The exposure stays far below what tells a dark background from a plain one.
static const double HALF_SIZE = .35, SOFT = .6, NOISY = .6, NOISE = .05, CLOUDED = .5, CLOUDS = .08,
                    CONTRAST = .06, BRIGHTNESS = .05, CAST = .03;
static const double SOFTEST = .4; // share of the side that is left at the softest
enum { CLOUD_SIDE = 32 };         // of the grid of slow noise, as an autoencoder leaves it

static status resized(image *im, int side, error *err) {
    image to = {0};
    status s = image_resize(im, side, side, RESIZE_BICUBIC, &to, err);
    image_free(im);
    *im = to;
    return s;
}

int wear_side(dice *d, int side) { return dice_chance(d, HALF_SIZE) ? side / 2 : side; }

// Smaller and larger again.
static status soften(image *im, dice *d, error *err) {
    int side = im->w, small = (int)(side * dice_range(d, SOFTEST, 1));
    status s = resized(im, small, err);
    return s ? s : resized(im, side, err);
}

// Slow noise: a coarse grid, blown up.
static status add_clouds(dice *d, double amount, int side, float *out, error *err) {
    image im = {0};
    status s = image_alloc(&im, CLOUD_SIDE, CLOUD_SIDE, 3, err);
    for (int i = 0; i < CLOUD_SIDE * CLOUD_SIDE * 3 && !s; i++)
        im.px[i] = (uint8_t)fmin(fmax(128 + 50 * dice_bell(d), 0), 255);
    if (!s) s = resized(&im, side, err);
    for (size_t i = 0; i < (size_t)side * (size_t)side * 3 && !s; i++)
        out[i] += (float)(amount * (im.px[i] - 128.0) / 50);
    image_free(&im);
    return s;
}

static void expose(const uint8_t *rgb, dice *d, size_t pixels, float *out) {
    double gain = 1 + dice_range(d, -CONTRAST, CONTRAST), shift = dice_range(d, -BRIGHTNESS, BRIGHTNESS);
    double of[3];
    for (int c = 0; c < 3; c++) of[c] = shift + dice_range(d, -CAST, CAST);
    for (size_t i = 0; i < pixels * 3; i++) out[i] = (float)(gain * (rgb[i] / 127.5 - 1) + of[i % 3]);
}

static void finish(dice *d, double noise, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) {
        double v = out[i] + (noise > 0 ? noise * dice_bell(d) : 0);
        out[i] = (float)fmin(fmax(v, -1), 1);
    }
}

status picture_wear(const uint8_t *rgb, int drawn, dice *d, int side, float *out, error *err) {
    size_t pixels = (size_t)side * (size_t)side;
    image im = {0};
    status s = image_alloc(&im, drawn, drawn, 3, err);
    if (!s) memcpy(im.px, rgb, (size_t)drawn * (size_t)drawn * 3);
    if (!s && dice_chance(d, SOFT)) s = soften(&im, d, err);
    if (!s && drawn != side) s = resized(&im, side, err);
    if (!s) expose(im.px, d, pixels, out);
    if (!s && dice_chance(d, CLOUDED)) s = add_clouds(d, dice_range(d, 0, CLOUDS), side, out, err);
    if (!s) finish(d, dice_chance(d, NOISY) ? dice_range(d, 0, NOISE) : 0, 3 * pixels, out);
    image_free(&im);
    return s;
}
