#include "core/models/latent_resize.h"

#include <math.h>

#include "core/base/mem.h"

// What the outputs along one axis are made of: `width` inputs each, at[o·width + k] with weight[o·width + k].
typedef struct {
    int64_t width;
    int64_t *at;
    double *weight;
} axis;

static double triangle(double x) { return fmax(1 - fabs(x), 0); }

// Keys' cubic.
static double cubic(double x, double a) {
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    return 0;
}

static int64_t inside(int64_t i, int64_t n) { return i < 0 ? 0 : i < n ? i : n - 1; }

// torch computes these in float32, which decides where a sum falls on the border of two pixels.
static void take_nearest(axis *a, int64_t in, int64_t out, float offset) {
    float scale = (float)in / (float)out;
    for (int64_t o = 0; o < out; o++) {
        a->at[o] = inside((int64_t)floorf(((float)o + offset) * scale), in);
        a->weight[o] = 1;
    }
}

// Pixels beyond the edge are those at the edge.
static void take_around(axis *a, int64_t in, int64_t out, bool bicubic) {
    for (int64_t o = 0; o < out; o++) {
        double middle = ((double)o + 0.5) * (double)in / (double)out - 0.5;
        int64_t first = (int64_t)floor(middle) - a->width / 2 + 1;
        for (int64_t k = 0; k < a->width; k++) {
            double x = (double)(first + k) - middle;
            a->at[o * a->width + k] = inside(first + k, in);
            a->weight[o * a->width + k] = bicubic ? cubic(x, -0.75) : triangle(x);
        }
    }
}

// As Pillow does.
static void take_antialiased(axis *a, int64_t in, int64_t out, bool bicubic) {
    double scale = (double)in / (double)out, stretch = fmax(scale, 1);
    for (int64_t o = 0; o < out; o++) {
        double middle = ((double)o + 0.5) * scale, sum = 0, *weight = a->weight + o * a->width;
        int64_t first = inside((int64_t)floor(middle - (bicubic ? 2 : 1) * stretch + 0.5), in);
        for (int64_t k = 0; k < a->width; k++) {
            double x = ((double)(first + k) + 0.5 - middle) / stretch;
            a->at[o * a->width + k] = inside(first + k, in);
            weight[k] = first + k >= in ? 0 : bicubic ? cubic(x, -0.5) : triangle(x);
            sum += weight[k];
        }
        for (int64_t k = 0; k < a->width; k++) weight[k] /= sum;
    }
}

static status axis_init(axis *a, int64_t in, int64_t out, latent_filter f, bool antialias, error *err) {
    bool smooth = f >= LATENT_BILINEAR, bicubic = f == LATENT_BICUBIC;
    double stretch = antialias ? fmax((double)in / (double)out, 1) : 1;
    a->width = smooth ? (bicubic ? 4 : 2) : 1;
    if (smooth && antialias) a->width = 2 * (int64_t)ceil((bicubic ? 2 : 1) * stretch) + 1;
    a->at = mem_calloc((size_t)(out * a->width), sizeof *a->at);
    a->weight = mem_calloc((size_t)(out * a->width), sizeof *a->weight);
    if (!a->at || !a->weight) return fail(err, ERR_TEMP, "out of memory");
    if (!smooth)
        take_nearest(a, in, out, f == LATENT_NEAREST ? 0 : 0.5f);
    else
        (antialias ? take_antialiased : take_around)(a, in, out, bicubic);
    return OK;
}

static void axis_free(axis *a) {
    mem_free(a->at);
    mem_free(a->weight);
}

// Along one axis of x [rows,in,C], of which `out` become y [rows,out,C].
static void resize_axis(const axis *a, const float *x, float *y, int64_t rows, int64_t in, int64_t out,
                        int64_t C) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < out; o++)
            for (int64_t c = 0; c < C; c++) {
                double sum = 0;
                for (int64_t k = o * a->width; k < (o + 1) * a->width; k++)
                    sum += a->weight[k] * x[(r * in + a->at[k]) * C + c];
                y[(r * out + o) * C + c] = (float)sum;
            }
}

status latents_resize(const float *x, int64_t h, int64_t w, int64_t C, latent_filter filter, bool antialias,
                      float *y, int64_t H, int64_t W, error *err) {
    axis rows = {0}, columns = {0};
    float *wide = mem_calloc((size_t)(h * W * C), sizeof *wide);
    status s = wide ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = axis_init(&rows, w, W, filter, antialias, err);
    if (!s) s = axis_init(&columns, h, H, filter, antialias, err);
    if (!s) {
        resize_axis(&rows, x, wide, h, w, W, C);
        resize_axis(&columns, wide, y, 1, h, H, W * C);
    }
    axis_free(&rows);
    axis_free(&columns);
    mem_free(wide);
    return s;
}
