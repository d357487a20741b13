#include "assets/world/reproduce/gallery.h"

#include <math.h>

#include "core/base/mem.h"

static size_t values(const gallery *g) { return (size_t)g->side * (size_t)g->side * 3; }

static void keep(gallery *g, int at, const calo_image *im) {
    size_t n = (size_t)g->side * (size_t)g->side;
    float *to = g->pixels + (size_t)at * values(g);
    for (size_t c = 0; c < 3; c++) // [3,h,w] to [h,w,3]
        for (size_t i = 0; i < n; i++) to[3 * i + c] = im->latents[c * n + i];
}

status gallery_draw(calo_context *ctx, calo_model *m, const char *const *prompts, int n_prompts, int each,
                    const gallery_style *style, gallery *out, error *err) {
    *out = (gallery){.n = n_prompts * each};
    calo_txt2img_request r = calo_txt2img_defaults();
    r.sampler = "ddim";
    r.steps = style->steps;
    r.spacing = style->spacing;
    r.cfg_scale = style->guidance;
    r.cfg_rescale = style->rescale;
    r.seed = 1;
    r.count = each;
    r.no_hash = 1;
    for (int i = 0; i < n_prompts; i++) {
        calo_images *images = NULL;
        r.prompt = prompts[i];
        calo_status s = calo_txt2img(m, &r, &images);
        for (int k = 0; k < each && !s; k++) {
            const calo_image *im = calo_images_at(images, (size_t)k);
            out->side = im->width;
            if (!out->pixels) out->pixels = mem_calloc((size_t)out->n * values(out), sizeof(float));
            if (!out->pixels) s = CALO_ERR_TEMP;
            if (!s) keep(out, i * each + k, im);
        }
        calo_images_free(images);
        if (s) return fail(err, (status)s, "%s", calo_message(ctx));
    }
    return OK;
}

void gallery_free(gallery *g) {
    mem_free(g->pixels);
    *g = (gallery){0};
}

double gallery_brightness(const gallery *g, int i) {
    double sum = 0;
    for (size_t k = 0; k < values(g); k++) sum += g->pixels[(size_t)i * values(g) + k];
    return sum / (double)values(g);
}

double gallery_spread(const gallery *g) {
    double sum = 0, squares = 0;
    for (int i = 0; i < g->n; i++) {
        double b = gallery_brightness(g, i);
        sum += b;
        squares += b * b;
    }
    return sqrt(fmax(0, squares / g->n - sum / g->n * (sum / g->n)));
}

double gallery_overexposed(const gallery *g, double margin) {
    size_t n = (size_t)g->n * values(g), outside = 0;
    for (size_t i = 0; i < n; i++) outside += fabs(g->pixels[i]) > 1 + margin;
    return (double)outside / (double)n;
}

static double squared(const gallery *a, int i, const gallery *b, int j) {
    const float *x = a->pixels + (size_t)i * values(a), *y = b->pixels + (size_t)j * values(b);
    double sum = 0;
    for (size_t k = 0; k < values(a); k++) sum += (double)(x[k] - y[k]) * (x[k] - y[k]);
    return sum / (double)values(a);
}

double gallery_difference(const gallery *a, const gallery *b) {
    double sum = 0;
    for (int i = 0; i < a->n; i++) sum += squared(a, i, b, i);
    return sqrt(sum / a->n);
}

// E|X − Y|; of one set with itself, over its pairs of different pictures.
static double apart(const gallery *a, const gallery *b) {
    double sum = 0;
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < b->n; j++) sum += sqrt(squared(a, i, b, j));
    return sum / ((double)a->n * (a == b ? b->n - 1 : b->n));
}

double gallery_distance(const gallery *a, const gallery *b) {
    return sqrt(fmax(0, 2 * apart(a, b) - apart(a, a) - apart(b, b)));
}
