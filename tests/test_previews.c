// Previews: they change nothing, and linear ones look like the picture.
#include "core/models/latent_rgb.h"
#include "tests/fixture.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

typedef struct {
    int seen, last;
    uint64_t seeds;
    calo_status answer;
} preview_watcher;

static calo_status look(void *user, const calo_image *im, int step) {
    preview_watcher *w = user;
    w->seen++;
    w->last = step;
    w->seeds |= (uint64_t)1 << im->seed;
    cr_expect(im->size == sizeof *im && im->rgb && !im->parameters && !im->json);
    return w->answer;
}

Test(previews, previews_change_nothing) {
    fixture f;
    preview_watcher w = {0};
    begin(&f, "sd", "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "x";
    r.steps = 6;
    r.count = 2;
    calo_images *a = draw(&f, &r), *b;
    r.on_preview = look;
    r.preview_every = 2;
    r.user = &w;
    b = draw(&f, &r);
    cr_expect_eq(w.seen, 2 * 2, "two images after steps 2 and 4");
    cr_expect_eq(w.last, 4);
    cr_expect_eq(w.seeds, 3);
    for (size_t i = 0; i < 2; i++) expect_same(calo_images_at(a, i), calo_images_at(b, i), "previews");
    calo_images_free(b);
    w.answer = CALO_ERR_CANTCREAT;
    cr_expect_eq(calo_txt2img(f.model, &r, &b), CALO_ERR_CANTCREAT);
    cr_expect(strstr(calo_message(f.ctx), "previews"), "%s", calo_message(f.ctx));
    calo_images_free(a);
    calo_images_free(b);
    end(&f);
}

// numpy's lstsq in double, of which normal equations keep half of the digits.
Test(previews, colours_of_latents_are_those_of_least_squares) {
    fixture f;
    calo_tensors *golden;
    error err = {0};
    begin(&f, "sd", "eps");
    cr_assert_eq(calo_tensors_load(f.ctx, "tests/golden/latent_rgb.safetensors", &golden), CALO_OK);
    for (int i = 0; i < 2; i++) {
        calo_tensor x = tensor_named(golden, i, "x"), rgb = tensor_named(golden, i, "rgb"),
                    want = tensor_named(golden, i, "map");
        double map[20 * 3];
        cr_assert_eq(latent_rgb_fit(x.data, rgb.data, x.shape[0], x.shape[1], map, &err), OK, "%s", err.text);
        for (int64_t k = 0; k < want.shape[0] * 3; k++)
            cr_expect_float_eq(map[k], ((const float *)want.data)[k], 1e-6, "fit %d, number %d", i, (int)k);
    }
    calo_tensors_free(golden);
    // Fewer pairs than numbers: what fits them. No numbers: said.
    float x[2 * 4] = {1, 0, 0, 0, 0, 1, 0, 0}, rgb[6] = {1, 0, 0.6f, 0, 1, 0.25f};
    double map[5 * 3];
    uint8_t out[2 * 4 * 3];
    cr_assert_eq(latent_rgb_fit(x, rgb, 2, 4, map, &err), OK, "%s", err.text);
    latent_rgb_draw(map, x, 1, 2, 4, 2, out);
    static const uint8_t WANT[] = {255, 0, 153, 255, 0, 153, 0, 255, 64, 0, 255, 64};
    cr_expect_arr_eq(out, WANT, sizeof WANT);
    cr_expect_arr_eq(out + sizeof WANT, WANT, sizeof WANT);
    x[0] = NAN;
    cr_expect_eq(latent_rgb_fit(x, rgb, 2, 4, map, &err), ERR_DATA);
    end(&f);
}

// What each preview of a job showed, and how much of the autoencoder's the colours of latents tell.
typedef struct {
    double sum[5]; // of a, b, a², b², ab
    int seen, pairs;
    float shown[6][32 * 32 * 3]; // by the autoencoder, a mean for each latent
    bool linear;
} colour_watcher;

static void add_pair(colour_watcher *w, double a, double b) {
    const double v[] = {a, b, a * a, b * b, a * b};
    for (int i = 0; i < 5; i++) w->sum[i] += v[i];
    w->pairs++;
}

static double correlation(const colour_watcher *w) {
    double n = w->pairs, a = w->sum[0] / n, b = w->sum[1] / n;
    return (w->sum[4] / n - a * b) / sqrt((w->sum[2] / n - a * a) * (w->sum[3] / n - b * b));
}

static calo_status compare_colours(void *user, const calo_image *im, int step) {
    colour_watcher *w = user;
    int h = im->latent_shape[1], f = im->height / h, uneven = 0, k = w->seen++;
    (void)step;
    cr_assert(h <= 32 && im->width == im->height && k < 6);
    for (int i = 0; i < h * h * 3; i++) {
        const uint8_t *square = im->rgb + (i / 3 / h * im->width + i / 3 % h) * f * 3 + i % 3;
        double mean = 0;
        for (int p = 0; p < f * f; p++) {
            uint8_t v = square[(p / f * im->width + p % f) * 3];
            uneven += v != *square;
            mean += (double)v / (f * f);
        }
        if (!w->linear)
            w->shown[k][i] = (float)mean;
        else if (k == 2 || k == 4 || k == 5)
            add_pair(w, w->shown[k][i], mean);
        else
            cr_expect_float_eq(w->shown[k][i], mean, 1e-3);
    }
    cr_expect_eq(uneven == 0, w->linear && (k == 2 || k == 4 || k == 5), "preview %d", k + 1);
    return CALO_OK;
}

// On random weights colours explain nothing.
Test(previews, linear_previews_look_like_the_picture) {
    fixture f;
    static colour_watcher w;
    calo_context_options o = options_of(CALO_PRECISION_F32, 1);
    begin_talbot(&f, &o);
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a red balloon over a green hill";
    r.steps = 7;
    r.preview_every = 1;
    r.on_preview = compare_colours;
    r.user = &w;
    calo_images *images[2];
    for (int linear = 0; linear < 2; linear++) {
        w.linear = linear;
        w.seen = 0;
        r.preview_method = linear ? CALO_PREVIEW_LINEAR : CALO_PREVIEW_VAE;
        images[linear] = draw(&f, &r);
        cr_expect_eq(w.seen, 6);
    }
    expect_same(calo_images_at(images[0], 0), calo_images_at(images[1], 0), "linear previews");
    cr_expect_gt(correlation(&w), 0.9, "the correlation is %.3f", correlation(&w));
    for (int i = 0; i < 2; i++) calo_images_free(images[i]);
    end(&f);
}
