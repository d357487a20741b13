// Separable resampling with antialiasing in fixed point, arranged so that every rounding falls where Pillow's
// falls: weights in double, rounded to 22 bits; first along rows, then along columns, 8 bits in between; RGBA
// in premultiplied form.
#include "core/base/mem.h"
#include "core/files/image.h"

#include <math.h>
#include <string.h>

// 8 bits of value and 2 of head room for overshoot and the sum of weights leave 22 for the fraction.
enum { FRACTION_BITS = 32 - 8 - 2 };

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1 : 0; }

static double triangle(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

// Keys' cubic with a = -1/2.
static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

static double sinc(double x) {
    if (x == 0) return 1;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos3(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }

static const struct {
    double (*at)(double x);
    double radius;
} FILTERS[] = {
    [RESIZE_BOX] = {box, 0.5},
    [RESIZE_BILINEAR] = {triangle, 1},
    [RESIZE_BICUBIC] = {cubic, 2},
    [RESIZE_LANCZOS] = {lanczos3, 3},
};

// What output sample o is made of: inputs first[o] to first[o] + n[o] - 1 with the weights from w + o·width
// on.
typedef struct {
    int width;
    int *first, *n;
    int32_t *w;
} taps;

static void taps_free(taps *t) {
    mem_free(t->first);
    mem_free(t->n);
    mem_free(t->w);
}

static void weigh(int32_t *w, int n, double centre, double stretch, double (*filter)(double),
                  double *scratch) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += scratch[i] = filter((i - centre + 0.5) * (1 / stretch));
    for (int i = 0; i < n; i++) {
        double v = (sum != 0 ? scratch[i] / sum : scratch[i]) * (1 << FRACTION_BITS);
        w[i] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
}

// Shrinking stretches the filter over all inputs that an output covers.
static status make_taps(taps *t, int in, int out, resize_filter f, error *err) {
    double scale = (double)in / out, stretch = scale < 1 ? 1 : scale, radius = FILTERS[f].radius * stretch;
    t->width = (int)ceil(radius) * 2 + 1;
    t->first = mem_calloc((size_t)out, sizeof *t->first);
    t->n = mem_calloc((size_t)out, sizeof *t->n);
    t->w = mem_calloc((size_t)out * (size_t)t->width, sizeof *t->w);
    double *scratch = mem_calloc((size_t)t->width, sizeof *scratch);
    status s = t->first && t->n && t->w && scratch ? OK : fail(err, ERR_TEMP, "out of memory");
    for (int o = 0; o < out && !s; o++) {
        double centre = (o + 0.5) * scale;
        int begin = (int)(centre - radius + 0.5), end = (int)(centre + radius + 0.5);
        if (begin < 0) begin = 0;
        if (end > in) end = in;
        t->first[o] = begin;
        t->n[o] = end - begin;
        weigh(t->w + (size_t)o * (size_t)t->width, end - begin, centre - begin, stretch, FILTERS[f].at,
              scratch);
    }
    mem_free(scratch);
    return s;
}

static uint8_t to_byte(int32_t v) {
    v >>= FRACTION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

// Σ weight · sample for samples `step` bytes apart.
static uint8_t mix(const uint8_t *from, size_t step, const int32_t *w, int n) {
    int32_t sum = 1 << (FRACTION_BITS - 1);
    for (int i = 0; i < n; i++) sum += from[(size_t)i * step] * w[i];
    return to_byte(sum);
}

static void resize_rows(const image *im, const taps *t, image *dst) {
    size_t c = (size_t)im->c;
    for (int y = 0; y < im->h; y++)
        for (int x = 0; x < dst->w; x++) {
            const uint8_t *from = im->px + ((size_t)y * (size_t)im->w + (size_t)t->first[x]) * c;
            uint8_t *to = dst->px + ((size_t)y * (size_t)dst->w + (size_t)x) * c;
            for (size_t k = 0; k < c; k++)
                to[k] = mix(from + k, c, t->w + (size_t)x * (size_t)t->width, t->n[x]);
        }
}

static void resize_columns(const image *im, const taps *t, image *dst) {
    size_t row = (size_t)im->w * (size_t)im->c;
    for (int y = 0; y < dst->h; y++)
        for (size_t i = 0; i < row; i++)
            dst->px[(size_t)y * row + i] = mix(im->px + (size_t)t->first[y] * row + i, row,
                                               t->w + (size_t)y * (size_t)t->width, t->n[y]);
}

// One pass along one axis; an axis that keeps its size is copied, as its weights would be 1.
static status pass(const image *im, int size, bool rows, resize_filter f, image *dst, error *err) {
    status s = image_alloc(dst, rows ? size : im->w, rows ? im->h : size, im->c, err);
    if (s) return s;
    int in = rows ? im->w : im->h;
    if (in == size) {
        memcpy(dst->px, im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c);
        return OK;
    }
    taps t = {0};
    s = make_taps(&t, in, size, f, err);
    if (!s) (rows ? resize_rows : resize_columns)(im, &t, dst);
    taps_free(&t);
    return s;
}

// Colour times alpha, so that the colour under transparent pixels does not leak into its neighbours.
static void premultiply(image *im) {
    size_t n = (size_t)im->w * (size_t)im->h * 4;
    for (size_t i = 0; i < n; i++) {
        unsigned v = (unsigned)im->px[i] * im->px[i | 3] + 128;
        if (i % 4 != 3) im->px[i] = (uint8_t)((v + (v >> 8)) >> 8);
    }
}

static void unpremultiply(image *im) {
    size_t n = (size_t)im->w * (size_t)im->h * 4;
    for (size_t i = 0; i < n; i++) {
        unsigned a = im->px[i | 3];
        if (i % 4 == 3 || a == 0 || a == 255) continue;
        unsigned v = 255u * im->px[i] / a;
        im->px[i] = (uint8_t)(v > 255 ? 255 : v);
    }
}

status image_resize(const image *im, int w, int h, resize_filter filter, image *dst, error *err) {
    image own = {0}, half = {0};
    // The order decides what is rounded twice. Up to release 12 Pillow always began with the rows; since 13
    // it begins with the columns where these shrink a lot more. This is what release 13 does, found by
    // experiment.
    bool rows_first = h >= im->h || im->h - h <= 2 * (im->w - w);
    bool alpha = im->c == 4 && (w != im->w || h != im->h);
    *dst = (image){0};
    status s = OK;
    if (alpha && !(s = image_channels(im, 4, &own, err))) {
        premultiply(&own);
        im = &own;
    }
    if (!s) s = pass(im, rows_first ? w : h, rows_first, filter, &half, err);
    if (!s) s = pass(&half, rows_first ? h : w, !rows_first, filter, dst, err);
    if (!s && alpha) unpremultiply(dst);
    image_free(&own);
    image_free(&half);
    if (s) image_free(dst);
    return s;
}
