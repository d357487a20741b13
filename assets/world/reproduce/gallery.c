#include "assets/world/reproduce/gallery.h"

#include <math.h>

#include "assets/world/caption.h"
#include "assets/world/picture.h"
#include "core/base/mem.h"

size_t gallery_values(const gallery *g) { return (size_t)g->side * (size_t)g->side * 3; }

static status make_room(gallery *g, error *err) {
    g->pixels = mem_calloc((size_t)g->n * gallery_values(g), sizeof(float));
    return g->pixels ? OK : fail(err, ERR_TEMP, "out of memory");
}

static void keep(gallery *g, int at, const calo_image *im) {
    size_t n = (size_t)g->side * (size_t)g->side;
    float *to = g->pixels + (size_t)at * gallery_values(g);
    for (size_t c = 0; c < 3; c++) // [3,h,w] to [h,w,3]
        for (size_t i = 0; i < n; i++) to[3 * i + c] = im->latents[c * n + i];
}

static status keep_all(gallery *g, const calo_images *images, error *err) {
    g->side = calo_images_at(images, 0)->width;
    status s = make_room(g, err);
    for (int i = 0; i < g->n && !s; i++) keep(g, i, calo_images_at(images, (size_t)i));
    return s;
}

status gallery_draw(calo_context *ctx, calo_model *m, const char *const *prompts, int n_prompts, int each,
                    const gallery_style *style, gallery *out, error *err) {
    *out = (gallery){.n = n_prompts * each, .prompts = prompts, .each = each};
    const char **prompt = mem_calloc((size_t)out->n, sizeof *prompt);
    uint64_t *seed = mem_calloc((size_t)out->n, sizeof *seed);
    calo_txt2img_request r = calo_txt2img_defaults();
    calo_images *images = NULL;
    r.sampler = "ddim";
    r.steps = style->steps;
    r.spacing = style->spacing;
    r.cfg_scale = style->guidance;
    r.cfg_rescale = style->rescale;
    r.count = out->n;
    r.prompts = prompt;
    r.seeds = seed;
    r.no_hash = 1;
    status s = prompt && seed ? OK : fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < out->n && !s; i++) {
        prompt[i] = prompts[i / each];
        seed[i] = (uint64_t)(i % each) + 1;
    }
    calo_status code = s ? CALO_OK : calo_txt2img(m, &r, &images);
    if (code) s = fail(err, (status)code, "%s", calo_message(ctx));
    if (!s) s = keep_all(out, images, err);
    calo_images_free(images);
    mem_free(prompt);
    mem_free(seed);
    return s;
}

status gallery_show(team *t, const scene *scenes, int n, int side, arena *mem, gallery *out, error *err) {
    const char **prompts = arena_alloc(mem, (size_t)n * sizeof *prompts);
    *out = (gallery){.n = n, .side = side, .prompts = prompts, .each = 1};
    status s = prompts ? make_room(out, err) : fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < n && !s; i++) {
        char text[CAPTION_SIZE];
        caption_full(&scenes[i], text);
        if (!(prompts[i] = arena_printf(mem, "%s", text))) s = fail(err, ERR_TEMP, "out of memory");
    }
    return s ? s : pictures_f32(t, scenes, n, side, side, out->pixels, err);
}

void gallery_free(gallery *g) {
    mem_free(g->pixels);
    *g = (gallery){0};
}

double gallery_brightness(const gallery *g, int i) {
    double sum = 0;
    for (size_t k = 0; k < gallery_values(g); k++) sum += g->pixels[(size_t)i * gallery_values(g) + k];
    return sum / (double)gallery_values(g);
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
    size_t n = (size_t)g->n * gallery_values(g), outside = 0;
    for (size_t i = 0; i < n; i++) outside += fabs(g->pixels[i]) > 1 + margin;
    return (double)outside / (double)n;
}

static double squared(const gallery *a, int i, const gallery *b, int j) {
    const float *x = a->pixels + (size_t)i * gallery_values(a),
                *y = b->pixels + (size_t)j * gallery_values(b);
    double sum = 0;
    for (size_t k = 0; k < gallery_values(a); k++) sum += (double)(x[k] - y[k]) * (x[k] - y[k]);
    return sum / (double)gallery_values(a);
}

double gallery_difference(const gallery *a, const gallery *b) {
    double sum = 0;
    for (int i = 0; i < a->n; i++) sum += squared(a, i, b, i);
    return sqrt(sum / a->n);
}

// E|X − Y| over pairs of different prompts, so that what two galleries of the same prompts show of one scene
// does not pass for nearness of distributions.
static double apart(const gallery *a, const gallery *b) {
    double sum = 0, pairs = 0;
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < b->n; j++)
            if (i / a->each != j / b->each) sum += sqrt(squared(a, i, b, j)), pairs++;
    return sum / pairs;
}

double gallery_distance(const gallery *a, const gallery *b) {
    double squared_distance = 2 * apart(a, b) - apart(a, a) - apart(b, b);
    return copysign(sqrt(fabs(squared_distance)), squared_distance);
}
