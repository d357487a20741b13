// The library as a program uses it: pictures beside diffusers' own, determinism, limits, refusals.
#include "core/models/latent_resize.h"
#include "core/models/latent_rgb.h"
#include "core/models/layout.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/calotype.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct {
    char dir[512];
    calo_context *ctx;
    calo_model *model;
} fixture;

static void begin_with(fixture *f, const char *name, const char *scheduler, const calo_context_options *o) {
    tiny_model_write(name, scheduler, f->dir, sizeof f->dir);
    setenv("XDG_CACHE_HOME", f->dir, 1);
    cr_assert_eq(calo_context_new(o, &f->ctx), CALO_OK);
    cr_assert_eq(calo_model_open(f->ctx, f->dir, &f->model), CALO_OK, "%s", calo_message(f->ctx));
}

static calo_context_options options_of(calo_precision p, int threads) {
    calo_context_options o = calo_context_defaults();
    o.precision = p;
    o.threads = threads;
    return o;
}

static void begin(fixture *f, const char *name, const char *scheduler) {
    calo_context_options o = options_of(CALO_PRECISION_F32, 1); // quickest for networks this small
    begin_with(f, name, scheduler, &o);
}

static void end(fixture *f) {
    calo_model_free(f->model);
    calo_context_free(f->ctx);
    tiny_model_remove(f->dir);
}

static calo_images *draw(fixture *f, const calo_txt2img_request *r) {
    calo_images *images;
    cr_assert_eq(calo_txt2img(f->model, r, &images), CALO_OK, "%s", calo_message(f->ctx));
    return images;
}

// ---- the same pictures as diffusers

static calo_tensor tensor_named(const calo_tensors *t, int run, const char *what) {
    char name[32];
    snprintf(name, sizeof name, "%d.%s", run, what);
    for (size_t i = 0; i < calo_tensors_count(t); i++)
        if (!strcmp(calo_tensors_at(t, i).name, name)) return calo_tensors_at(t, i);
    cr_assert(false, "no golden '%s'", name);
    return (calo_tensor){0};
}

static calo_emphasis emphasis_of(const char *name) {
    static const char *const NAMES[] = {"original", "no-norm", "comfy", "none"};
    int i = 0;
    while (strcmp(NAMES[i], name) != 0) cr_assert_lt(++i, 4, "no emphasis '%s'", name);
    return (calo_emphasis)i;
}

static calo_txt2img_request request_of(const json_t *run) {
    error err = {0};
    js_reader r = {run, "runs.json", &err, OK};
    calo_txt2img_request q = calo_txt2img_defaults();
    q.prompt = js_string(&r, "prompt", "");
    q.negative_prompt = js_string(&r, "negative_prompt", NULL);
    q.sampler = js_string(&r, "sampler", NULL);
    q.spacing = js_string(&r, "scheduler", NULL) ? CALO_SPACING_KARRAS
                : strcmp(q.sampler, "ddim")      ? CALO_SPACING_LINSPACE
                                                 : CALO_SPACING_AUTO;
    q.steps = (int)js_int(&r, "steps", 0, 1, 100);
    q.cfg_scale = js_real(&r, "cfg_scale", 1, 0, 100);
    q.cfg_rescale = js_real(&r, "cfg_rescale", 0, 0, 1);
    q.emphasis = emphasis_of(js_string(&r, "emphasis", "original"));
    q.clip_skip = (int)js_int(&r, "clip_skip", 0, 0, 100);
    q.seed = (uint64_t)js_int(&r, "seed", 0, 0, 100);
    q.count = (int)js_int(&r, "count", 1, 1, 4);
    q.width = (int)js_int(&r, "width", 0, 0, 100);
    q.height = (int)js_int(&r, "height", 0, 0, 100);
    q.hires_upscaler = js_string(&r, "hires_upscaler", NULL);
    q.hires_scale = js_real(&r, "hires_scale", 0, 0, 4);
    q.hires_width = (int)js_int(&r, "hires_width", 0, 0, 100);
    q.hires_height = (int)js_int(&r, "hires_height", 0, 0, 100);
    q.hires_steps = (int)js_int(&r, "hires_steps", 0, 0, 100);
    q.hires_denoise = js_real(&r, "hires_denoise", 0.7, 0, 1);
    q.hires = json_object_get(run, "hires_denoise") != NULL;
    q.refiner_switch_at = js_real(&r, "refiner_switch_at", 0.8, 0, 1);
    cr_assert_eq(r.code, OK, "%s", err.text);
    return q;
}

// A difference in float32 arithmetic (1e-6 a network) grows by the guidance scale and the steps: 1e-4 at the
// end. Bytes then differ where a value stands on the border of two, by one.
static void compare(const calo_images *images, const calo_tensors *golden, int run, const char *model) {
    calo_tensor latents = tensor_named(golden, run, "latents"), picture = tensor_named(golden, run, "image");
    double difference = 0, norm = 0;
    int most = 0;
    for (size_t i = 0; i < calo_images_count(images); i++) {
        const calo_image *im = calo_images_at(images, i);
        size_t n = (size_t)(latents.shape[1] * latents.shape[2] * latents.shape[3]);
        for (size_t k = 0; k < n; k++) {
            double want = (double)((const float *)latents.data)[i * n + k];
            difference += pow((double)im->latents[k] - want, 2);
            norm += want * want;
        }
        size_t bytes = 3 * (size_t)im->width * (size_t)im->height;
        for (size_t k = 0; k < bytes; k++)
            most = (int)fmax(most, fabs(im->rgb[k] - (double)((const float *)picture.data)[i * bytes + k]));
    }
    cr_expect_leq(sqrt(difference / norm), 1e-4, "%s run %d: latents differ by %.2g", model, run,
                  sqrt(difference / norm));
    cr_expect_leq(most, 1, "%s run %d: bytes differ by %d", model, run, most);
}

// `runs` names the list of requests and the file of results.
// The picture and the mask of tests/parity/pictures.py.
typedef struct {
    uint8_t rgb[2][40 * 40 * 3];
    calo_image picture, mask;
} beginning_pictures;

static void make_beginning(beginning_pictures *b, int w, int h) {
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) {
                b->rgb[0][(y * w + x) * 3 + c] = (uint8_t)(7 * x + 5 * y + 60 * c + x * y / 4);
                b->rgb[1][(y * w + x) * 3 + c] = x >= 8 && x < 24 && y >= 12 && y < 28 ? 255 : 0;
            }
    b->picture = (calo_image){.size = sizeof b->picture, .width = w, .height = h, .rgb = b->rgb[0]};
    b->mask = (calo_image){.size = sizeof b->mask, .width = w, .height = h, .rgb = b->rgb[1]};
}

static void begin_as_asked(calo_txt2img_request *r, const json_t *run, beginning_pictures *b) {
    const json_t *strength = json_object_get(run, "strength"),
                 *edits = json_object_get(run, "image_cfg_scale");
    if (!strength && !edits) return;
    if (edits) r->image_cfg_scale = json_real_value(edits);
    make_beginning(b, r->width ? r->width : 32, r->height ? r->height : 32);
    if (strength) r->strength = json_real_value(strength);
    r->init_image = &b->picture;
    if (json_object_get(run, "mask")) r->mask = &b->mask;
    r->mask_blur = 0;
}

// The refiner that a run asks for, by its scheduler; `dir` is emptied where there is none.
static calo_model *refiner_of(fixture *f, const json_t *run, char dir[512]) {
    const char *scheduler = json_string_value(json_object_get(run, "refiner"));
    calo_model *m;
    *dir = 0;
    if (!json_object_get(run, "refiner_switch_at")) return NULL;
    tiny_model_write("refiner", scheduler ? scheduler : "eps", dir, 512);
    cr_assert_eq(calo_model_open(f->ctx, dir, &m), CALO_OK, "%s", calo_message(f->ctx));
    return m;
}

static void pictures_are_those_of_diffusers(const char *model, const char *runs_name) {
    char path[128];
    fixture f[2];
    error err = {0};
    calo_tensors *golden;
    begin(&f[0], model, "eps");
    begin(&f[1], model, strncmp(model, "sd", 2) ? "eps" : "v");
    snprintf(path, sizeof path, "tests/golden/pipeline/%s/%s.safetensors", model, runs_name);
    cr_assert_eq(calo_tensors_load(f[0].ctx, path, &golden), CALO_OK, "%s", calo_message(f[0].ctx));
    snprintf(path, sizeof path, "tests/golden/pipeline/%s/%s.json", model, runs_name);
    json_t *j = js_load(path, 1 << 20, &err), *runs = json_object_get(j, "runs");
    cr_assert_geq(json_array_size(runs), 2, "%s", err.text);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i);
        beginning_pictures pictures;
        fixture *by = &f[json_object_get(run, "schedule") != NULL];
        calo_txt2img_request r = request_of(run);
        begin_as_asked(&r, run, &pictures);
        char dir[512];
        r.refiner = refiner_of(by, run, dir);
        calo_images *images = draw(by, &r);
        compare(images, golden, (int)i, model);
        calo_images_free(images);
        calo_model_free(r.refiner);
        if (*dir) tiny_model_remove(dir);
    }
    json_decref(j);
    calo_tensors_free(golden);
    end(&f[0]);
    end(&f[1]);
}

Test(api, pictures_are_those_of_diffusers) { pictures_are_those_of_diffusers("sd", "runs"); }
Test(api, pictures_of_two_text_encoders_are_those_of_diffusers) {
    pictures_are_those_of_diffusers("sdxl", "runs");
}
Test(api, prompts_are_read_as_other_programs_do) {
    pictures_are_those_of_diffusers("sd", "prompts");
    pictures_are_those_of_diffusers("sdxl", "prompts");
}

Test(api, pictures_begin_from_pictures_as_in_diffusers) { pictures_are_those_of_diffusers("sd", "pictures"); }
Test(api, inpainting_models_draw_as_in_diffusers) { pictures_are_those_of_diffusers("inpaint", "pictures"); }
Test(api, refiners_draw_alone_as_in_diffusers) { pictures_are_those_of_diffusers("refiner", "pictures"); }
Test(api, refiners_finish_pictures_as_in_diffusers) { pictures_are_those_of_diffusers("sdxl", "refiner"); }
Test(api, models_that_edit_draw_as_in_diffusers) { pictures_are_those_of_diffusers("edit", "pictures"); }

// ---- pictures that begin from pictures

static void expect_same(const calo_image *a, const calo_image *b, const char *what) {
    size_t latents = (size_t)a->latent_shape[0] * (size_t)a->latent_shape[1] * (size_t)a->latent_shape[2];
    cr_expect_eq(memcmp(a->rgb, b->rgb, 3 * (size_t)a->width * (size_t)a->height), 0, "pixels, %s", what);
    cr_expect_eq(memcmp(a->latents, b->latents, latents * sizeof(float)), 0, "latents, %s", what);
    cr_expect_str_eq(a->json, b->json, "%s", what);
}

static calo_txt2img_request request_from(beginning_pictures *b, bool masked) {
    calo_txt2img_request r = calo_txt2img_defaults();
    make_beginning(b, 40, 32);
    r.prompt = "a boat";
    r.steps = 3;
    r.init_image = &b->picture;
    r.mask = masked ? &b->mask : NULL;
    r.strength = 0.7;
    r.mask_blur = 0;
    return r;
}

static void expect_refused(fixture *f, const calo_txt2img_request *r, calo_status code, const char *says) {
    cr_expect_eq(calo_txt2img(f->model, r, NULL), code);
    cr_expect(strstr(calo_message(f->ctx), says), "'%s' does not say '%s'", calo_message(f->ctx), says);
}

// Pixels that differ inside and outside of the mask.
static void count_changes(const calo_image *im, const beginning_pictures *b, int *inside, int *outside) {
    *inside = *outside = 0;
    for (int i = 0; i < im->width * im->height; i++)
        *(b->rgb[1][3 * i] ? inside : outside) += memcmp(im->rgb + 3 * i, b->rgb[0] + 3 * i, 3) != 0;
}

Test(api, what_is_not_masked_keeps_its_bytes) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    for (int only = 0; only <= 1; only++)
        for (int content = CALO_CONTENT_ORIGINAL; content <= CALO_CONTENT_ZEROS; content++) {
            calo_txt2img_request r = request_from(&b, true);
            int inside, outside;
            r.only_masked = only;
            r.mask_padding = 4;
            r.mask_content = (calo_mask_content)content;
            calo_images *images = draw(&f, &r);
            const calo_image *im = calo_images_at(images, 0);
            cr_assert(im->width == 40 && im->height == 32);
            count_changes(im, &b, &inside, &outside);
            cr_expect_eq(outside, 0, "%d pixels of content %d, only masked %d", outside, content, only);
            cr_expect_gt(inside, 200, "of 256, content %d, only masked %d", content, only);
            calo_images_free(images);
        }
    end(&f);
}

// Content and strength reach the network: each gives another picture; and the seed alone decides.
Test(api, each_way_to_begin_is_another_picture) {
    fixture f;
    beginning_pictures b;
    enum { WAYS = 9 };
    calo_images *all[WAYS];
    begin(&f, "sd", "eps");
    for (int i = 0; i < WAYS; i++) {
        calo_txt2img_request r = request_from(&b, i < 5);
        if (i < 4) r.mask_content = (calo_mask_content)i;
        if (i == 4) r.only_masked = 1;
        if (i == 5) r.strength = 1;
        if (i > 5) r.width = r.height = 32, r.resize = (calo_resize)(i - 6);
        all[i] = draw(&f, &r);
        calo_images *again = draw(&f, &r);
        expect_same(calo_images_at(all[i], 0), calo_images_at(again, 0), "drawn again");
        calo_images_free(again);
    }
    for (int i = 0; i < WAYS; i++)
        for (int k = 0; k < i; k++) {
            const calo_image *x = calo_images_at(all[i], 0), *y = calo_images_at(all[k], 0);
            size_t n = (size_t)(x->latent_shape[0] * x->latent_shape[1] * x->latent_shape[2]);
            cr_expect(memcmp(x->latent_shape, y->latent_shape, sizeof x->latent_shape) != 0 ||
                          memcmp(x->latents, y->latents, n * sizeof(float)) != 0,
                      "ways %d and %d", k, i);
        }
    for (int i = 0; i < WAYS; i++) calo_images_free(all[i]);
    end(&f);
}

Test(api, models_that_edit_need_a_picture_and_no_mask) {
    fixture f;
    beginning_pictures b;
    begin(&f, "edit", "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    expect_refused(&f, &r, CALO_ERR_USAGE, "needs an initial picture");
    r = request_from(&b, true);
    expect_refused(&f, &r, CALO_ERR_USAGE, "takes no mask");
    r = request_from(&b, false);
    r.image_cfg_scale = NAN;
    expect_refused(&f, &r, CALO_ERR_USAGE, "picture's guidance scale");
    calo_images *all[3];
    for (int i = 0; i < 3; i++) {
        r = request_from(&b, false);
        r.steps = 2;
        r.cfg_scale = 1;
        r.image_cfg_scale = i ? 2 : 1;
        r.strength = i == 2 ? 0.1 : 0.9;
        all[i] = draw(&f, &r);
    }
    const calo_image *one = calo_images_at(all[0], 0), *two = calo_images_at(all[1], 0);
    size_t bytes =
        sizeof(float) * (size_t)(one->latent_shape[0] * one->latent_shape[1] * one->latent_shape[2]);
    cr_expect_neq(memcmp(one->latents, two->latents, bytes), 0,
                  "guidance by the picture alone changes nothing");
    expect_same(two, calo_images_at(all[2], 0), "another strength");
    cr_expect(strstr(two->parameters, ", Image CFG scale: 2,"), "%s", two->parameters);
    cr_expect(strstr(two->json, "\"image_cfg_scale\":2.0"), "%s", two->json);
    for (int i = 0; i < 3; i++) calo_images_free(all[i]);
    end(&f);
}

Test(api, outpainting_adds_what_is_asked_for) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_from(&b, false);
    r.outpaint_left = 8;
    r.outpaint_top = 4;
    r.outpaint_bottom = 12;
    r.strength = 1;
    calo_images *images = draw(&f, &r);
    const calo_image *im = calo_images_at(images, 0);
    cr_assert(im->width == 48 && im->height == 48, "%dx%d", im->width, im->height);
    for (int y = 0; y < 32; y++)
        cr_expect_eq(memcmp(im->rgb + ((y + 4) * 48 + 8) * 3, b.rgb[0] + y * 40 * 3, 40 * 3), 0, "row %d", y);
    cr_expect(strstr(im->json, "\"outpaint\":\"8,0,4,12\""), "%s", im->json);
    calo_images_free(images);
    end(&f);
}

// Images that begin from one picture do not depend on their number either.
Test(api, one_of_several_that_begin_from_a_picture_is_drawn_alone) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_from(&b, true);
    r.sampler = "euler_a";
    r.seed = 3;
    r.count = 3;
    r.mask_blur = 2;
    calo_images *three = draw(&f, &r);
    r.seed = 5;
    r.count = 1;
    calo_images *alone = draw(&f, &r);
    expect_same(calo_images_at(three, 2), calo_images_at(alone, 0), "the third of three");
    calo_images_free(three);
    calo_images_free(alone);
    end(&f);
}

// The autoencoder in parts: the same values but for rounding, so bytes differ where a value stands on the
// border of two, by one.
Test(api, an_autoencoder_in_parts_draws_the_same) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    for (int begins = 0; begins < 2; begins++) {
        calo_images *images[2];
        for (int on = 0; on < 2; on++) {
            calo_txt2img_request r = begins ? request_from(&b, false) : calo_txt2img_defaults();
            r.width = 160;
            r.height = 136;
            r.steps = 2;
            r.vae_tiling = on ? CALO_TILING_ON : CALO_TILING_AUTO;
            r.vae_tile_size = on ? 64 : 0;
            images[on] = draw(&f, &r);
        }
        const calo_image *a = calo_images_at(images[0], 0), *c = calo_images_at(images[1], 0);
        double most = 0, size = 0;
        for (int i = 0; i < a->latent_shape[0] * a->latent_shape[1] * a->latent_shape[2]; i++) {
            most = fmax(most, fabs(a->latents[i] - c->latents[i]));
            size = fmax(size, fabs(a->latents[i]));
        }
        cr_expect_leq(most, begins ? 1e-4 * size : 0, "latents differ by %g of %g", most, size);
        for (int i = 0; i < 160 * 136 * 3; i++) cr_assert_leq(abs(a->rgb[i] - c->rgb[i]), 1, "byte %d", i);
        cr_expect_null(strstr(a->json, "vae_til"));
        cr_expect(strstr(c->json, "\"vae_tiling\":\"on\",\"vae_tile_size\":64"), "%s", c->json);
        calo_images_free(images[0]);
        calo_images_free(images[1]);
    }
    calo_txt2img_request r = calo_txt2img_defaults();
    r.vae_tile_size = 63;
    expect_refused(&f, &r, CALO_ERR_USAGE, "tiles of 63 pixels");
    r = calo_txt2img_defaults();
    r.vae_tiling = (calo_tiling)3;
    expect_refused(&f, &r, CALO_ERR_USAGE, "tiling 3");
    end(&f);
}

// ---- hires fix

Test(api, pictures_are_drawn_over_as_in_diffusers) { pictures_are_those_of_diffusers("sd", "hires"); }

// Sums in float32 by torch, in double here.
Test(api, latents_are_made_larger_as_by_torch) {
    static const struct {
        const char *name;
        latent_filter filter;
        bool antialias;
    } WAYS[] = {
        {"latent", LATENT_BILINEAR, false},        {"latent-antialiased", LATENT_BILINEAR, true},
        {"latent-bicubic", LATENT_BICUBIC, false}, {"latent-bicubic-antialiased", LATENT_BICUBIC, true},
        {"latent-nearest", LATENT_NEAREST, false}, {"latent-nearest-exact", LATENT_NEAREST_EXACT, false}};
    fixture f;
    calo_tensors *golden;
    error err = {0};
    begin(&f, "sd", "eps");
    cr_assert_eq(calo_tensors_load(f.ctx, "tests/golden/latent_resize.safetensors", &golden), CALO_OK);
    for (int i = 0; i < 4 * 6; i++) {
        calo_tensor x = tensor_named(golden, i / 6, "x"),
                    want = tensor_named(golden, i / 6, WAYS[i % 6].name);
        int64_t h = x.shape[2], w = x.shape[3], H = want.shape[2], W = want.shape[3];
        float from[12 * 12 * 2], to[23 * 23 * 2], got[23 * 23 * 2];
        nchw_to_nhwc(x.data, from, 1, 2, h, w);
        cr_assert_eq(latents_resize(from, h, w, 2, WAYS[i % 6].filter, WAYS[i % 6].antialias, to, H, W, &err),
                     OK);
        nhwc_to_nchw(to, got, 1, 2, H, W);
        for (int64_t k = 0; k < 2 * H * W; k++)
            cr_assert_float_eq(got[k], ((const float *)want.data)[k], 2e-6, "%s, shape %d, value %d",
                               WAYS[i % 6].name, i / 6, (int)k);
    }
    calo_tensors_free(golden);
    end(&f);
}

static calo_txt2img_request request_larger(void) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a [boat:house:1.5] and [a|b]";
    r.width = r.height = 24;
    r.steps = 2;
    r.hires_scale = 1.5;
    return r;
}

// Larger by a factor or to a size, in any batch, through latents or pixels; and the file says how.
Test(api, pictures_are_drawn_over) {
    fixture f;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_larger();
    calo_images *first = NULL;
    for (int i = 0; calo_hires_upscaler_name(i); i++) {
        r.hires_upscaler = calo_hires_upscaler_name(i);
        calo_images *images = draw(&f, &r);
        const calo_image *im = calo_images_at(images, 0);
        cr_assert(im->width == 36 && im->height == 36, "%dx%d", im->width, im->height);
        cr_assert(im->latent_shape[1] == 9 && im->latent_shape[2] == 9);
        if (!first)
            first = images;
        else
            cr_expect_neq(memcmp(im->latents, calo_images_at(first, 0)->latents, 4 * 81 * sizeof(float)), 0,
                          "%s", r.hires_upscaler);
        if (first != images) calo_images_free(images);
    }
    const calo_image *im = calo_images_at(first, 0);
    cr_expect(strstr(im->parameters, "Size: 24x24"), "%s", im->parameters);
    cr_expect(strstr(im->parameters, "Denoising strength: 0.7, Hires upscale: 1.5, Hires upscaler: Latent,"),
              "%s", im->parameters);
    r = request_larger();
    r.seed = (uint64_t)-2; // the third is picture 0
    r.count = 3;
    calo_images *three = draw(&f, &r);
    cr_expect_arr_eq(calo_images_at(three, 2)->rgb, im->rgb, 36 * 36 * 3);
    calo_images_free(three);
    calo_images_free(first);
    r = request_larger();
    r.hires_scale = 0;
    r.hires_width = 48;
    r.hires_height = 28;
    r.hires_steps = 1;
    r.hires_upscaler = "Latent (nearest)"; // as A1111 calls it
    three = draw(&f, &r);
    im = calo_images_at(three, 0);
    cr_expect(im->width == 48 && im->height == 28, "%dx%d", im->width, im->height);
    cr_expect(
        strstr(im->parameters, "Hires resize: 48x28, Hires steps: 1, Hires upscaler: Latent (nearest),"),
        "%s", im->parameters);
    cr_expect(strstr(im->json, "\"hires_upscaler\":\"latent-nearest\""), "%s", im->json);
    calo_images_free(three);
    end(&f);
}

Test(api, wrong_second_passes_are_refused_by_name) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_from(&b, false);
    r.hires = 1;
    expect_refused(&f, &r, CALO_ERR_USAGE, "draws its own first picture");
    r = request_larger();
    r.hires_scale = NAN;
    expect_refused(&f, &r, CALO_ERR_USAGE, "hires scale");
    r.hires_scale = 60;
    r.width = r.height = 200;
    expect_refused(&f, &r, CALO_ERR_USAGE, "the hires size is not in 4 .. 8192");
    r = request_larger(); // 1024 times as high before it is cut
    r.width = 4;
    r.height = 4096;
    r.hires_width = 4096;
    r.hires_height = 8192;
    expect_refused(&f, &r, CALO_ERR_USAGE, "would not be before it is cut");
    r = request_larger();
    r.hires_width = -1;
    expect_refused(&f, &r, CALO_ERR_USAGE, "hires size of -1x0");
    r = request_larger();
    r.hires_denoise = 0;
    expect_refused(&f, &r, CALO_ERR_USAGE, "denoising strength 0");
    r = request_larger();
    r.hires_steps = 500;
    r.hires_denoise = 0.2;
    expect_refused(&f, &r, CALO_ERR_USAGE, "500 hires steps");
    r = request_larger();
    r.hires_upscaler = "ESRGAN";
    expect_refused(&f, &r, CALO_ERR_USAGE, "'ESRGAN'; there are latent latent-antialiased");
    end(&f);
}

// ---- the same bytes

Test(api, bytes_do_not_depend_on_threads_or_batch) {
    for (int p = CALO_PRECISION_F32; p <= CALO_PRECISION_BF16; p++) {
        calo_txt2img_request r = calo_txt2img_defaults();
        r.prompt = "a boat";
        r.steps = 2;
        r.width = 48;
        r.sampler = "euler_a";
        r.seed = 11;
        r.count = 4;
        calo_images *four[3];
        fixture f[3];
        for (int t = 0; t < 3; t++) {
            calo_context_options o = options_of((calo_precision)p, t + 1);
            begin_with(&f[t], "sd", "v", &o);
            four[t] = draw(&f[t], &r);
        }
        for (size_t i = 0; i < 4; i++) {
            calo_txt2img_request one = r;
            one.seed = r.seed + i;
            one.count = 1;
            calo_images *alone = draw(&f[0], &one);
            expect_same(calo_images_at(four[0], i), calo_images_at(alone, 0), "one of four");
            expect_same(calo_images_at(four[0], i), calo_images_at(four[1], i), "two threads");
            expect_same(calo_images_at(four[0], i), calo_images_at(four[2], i), "three threads");
            calo_images_free(alone);
        }
        for (int t = 0; t < 3; t++) {
            calo_images_free(four[t]);
            end(&f[t]);
        }
    }
}

static void texts_and_seeds_of_their_own(const char *model) {
    static const char *const PROMPTS[] =
        {"a boat", NULL, "a red tree on a hill", "(x:1.3) [g|h] BREAK x", "a boat", "a BREAK b BREAK c", "z",
         "w",      "v"},
                             *const NEGATIVES[] = {NULL, "grey", "", NULL, "fog", NULL, NULL, NULL, "u"};
    static const uint64_t SEEDS[] = {5, 1, 5, 900, 0, 7, 8, 9, 10};
    enum { N = sizeof SEEDS / sizeof *SEEDS }; // more than go through the UNet together
    fixture f;
    begin(&f, model, "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = 3;
    r.count = N;
    r.prompts = PROMPTS;
    r.negative_prompts = NEGATIVES;
    r.seeds = SEEDS;
    calo_images *together = draw(&f, &r);
    for (int i = 0; i < N; i++) {
        calo_txt2img_request one = calo_txt2img_defaults();
        one.steps = 3;
        one.prompt = PROMPTS[i];
        one.negative_prompt = NEGATIVES[i];
        one.seed = SEEDS[i];
        calo_images *alone = draw(&f, &one);
        expect_same(calo_images_at(together, (size_t)i), calo_images_at(alone, 0), model);
        calo_images_free(alone);
    }
    cr_expect_eq(calo_images_at(together, 3)->seed, 900);
    calo_images_free(together);
    end(&f);
}

Test(api, pictures_with_their_own_texts_are_those_drawn_alone) {
    texts_and_seeds_of_their_own("sd");
    texts_and_seeds_of_their_own("sdxl");
}

Test(api, initial_latents_replace_the_seeds_noise) {
    static const float noise[4 * 8 * 8] = {[0] = 1, [70] = -2, [255] = 0.5f};
    calo_tensor init = {"latents", CALO_F32, 4, {1, 4, 8, 8}, noise};
    fixture f;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = 2;
    calo_images *seeded = draw(&f, &r);
    r.init_latents = &init;
    calo_images *a = draw(&f, &r);
    r.seed = 99;
    calo_images *b = draw(&f, &r);
    cr_expect_arr_eq(calo_images_at(a, 0)->latents, calo_images_at(b, 0)->latents, sizeof noise);
    cr_expect_arr_neq(calo_images_at(a, 0)->latents, calo_images_at(seeded, 0)->latents, sizeof noise);
    init.shape[3] = 4;
    r.width = 32;
    calo_images *none;
    cr_expect_eq(calo_txt2img(f.model, &r, &none), CALO_ERR_USAGE);
    cr_expect(strstr(calo_message(f.ctx), "[1,4,8,8]"), "%s", calo_message(f.ctx));
    calo_images_free(none);
    calo_images_free(a);
    calo_images_free(b);
    calo_images_free(seeded);
    end(&f);
}

// ---- progress, cancelling, failing

typedef struct {
    int events, steps, stop_after;
} watcher;

static void watch(void *user, const calo_progress *p) {
    watcher *w = user;
    w->events++;
    w->steps += !strcmp(p->stage, "sample");
}

static int stop(void *user) {
    watcher *w = user;
    return w->stop_after && w->steps >= w->stop_after;
}

Test(api, a_job_reports_its_steps_and_stops_between_them) {
    watcher w = {0};
    fixture f;
    calo_context_options o = options_of(CALO_PRECISION_F32, 1); // quickest for networks this small
    o.progress = watch;
    o.cancelled = stop;
    o.user = &w;
    begin_with(&f, "sd", "eps", &o);
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "x";
    r.steps = 5;
    calo_images *images = draw(&f, &r);
    cr_expect_eq(w.steps, 5);
    cr_expect_eq(w.events, 5 + 3, "text, load, decode");
    calo_images_free(images);
    w = (watcher){.stop_after = 2};
    cr_expect_eq(calo_txt2img(f.model, &r, &images), CALO_ERR_CANCELLED);
    cr_expect_eq(w.steps, 2);
    cr_expect_eq(calo_images_count(images), 0);
    calo_images_free(images);
    end(&f);
}

Test(api, nothing_is_drawn_from_a_nan) {
    static const char *const WHERE[][2] = {{"unet", "conv_out.bias"}, {"vae", "decoder.conv_out.bias"}};
    for (int i = 0; i < 2; i++) {
        fixture f;
        begin(&f, "sd", "eps");
        tiny_model_spoil(f.dir, WHERE[i][0], WHERE[i][1], NAN);
        calo_txt2img_request r = calo_txt2img_defaults();
        calo_images *images;
        cr_expect_eq(calo_txt2img(f.model, &r, &images), CALO_ERR_DATA);
        cr_expect(strstr(calo_message(f.ctx), "nan:"), "%s", calo_message(f.ctx));
        cr_expect_eq(calo_images_count(images), 0);
        calo_images_free(images);
        end(&f);
    }
}

Test(api, a_nan_is_told_with_picture_and_step) {
    fixture f;
    calo_context_options o = options_of(CALO_PRECISION_AUTO, 1);
    begin_with(&f, "sd", "eps", &o);
    tiny_model_spoil(f.dir, "unet", "mid_block.resnets.0.conv1.weight", INFINITY);
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = 3;
    r.count = 2;
    r.seed = 40;
    cr_expect_eq(calo_txt2img(f.model, &r, NULL), CALO_ERR_DATA);
    cr_expect(strstr(calo_message(f.ctx), "picture 1 of 2 (seed 40)") &&
                  strstr(calo_message(f.ctx), "step 1 of 3"),
              "%s", calo_message(f.ctx));
    end(&f);
}

static void keep_warning(void *user, calo_log_level level, const char *text) {
    if (level == CALO_LOG_WARN) snprintf(user, 300, "%s", text);
}

// 3.4e38 is a number in f32 and rounds to infinity in bf16.
Test(api, a_picture_lost_in_bf16_is_decoded_again) {
    char warning[300] = "";
    uint8_t first[3 * 8];
    for (int again = 0; again < 2; again++) {
        fixture f;
        calo_context_options o = options_of(again ? CALO_PRECISION_AUTO : CALO_PRECISION_F32, 1);
        o.log = keep_warning;
        o.user = warning;
        begin_with(&f, "sd", "eps", &o);
        tiny_model_spoil(f.dir, "vae", "decoder.conv_out.bias", 3.4e38f);
        calo_txt2img_request r = calo_txt2img_defaults();
        r.steps = 1;
        calo_images *images = draw(&f, &r);
        const calo_image *im = calo_images_at(images, 0);
        if (!again) memcpy(first, im->rgb, sizeof first);
        cr_expect_arr_eq(im->rgb, first, sizeof first);
        bool bf16 = !strcmp(calo_precision_name(f.ctx), "bf16");
        cr_expect_eq(strstr(warning, "in F32") != NULL, again && bf16, "%s", warning);
        calo_images_free(images);
        end(&f);
    }
}

Test(api, wrong_requests_are_refused_by_name) {
    fixture f;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.width = 30;
    expect_refused(&f, &r, CALO_ERR_USAGE, "multiples of 4");
    r = calo_txt2img_defaults();
    r.steps = 0;
    expect_refused(&f, &r, CALO_ERR_USAGE, "0 steps");
    r = calo_txt2img_defaults();
    r.sampler = "plmz";
    expect_refused(&f, &r, CALO_ERR_USAGE, "'plmz'");
    r = calo_txt2img_defaults();
    r.cfg_scale = NAN;
    expect_refused(&f, &r, CALO_ERR_USAGE, "guidance");
    r = calo_txt2img_defaults();
    r.zero_snr = CALO_ZERO_SNR_ON;
    r.spacing = CALO_SPACING_TRAILING;
    expect_refused(&f, &r, CALO_ERR_USAGE, "zero");
    r = calo_txt2img_defaults();
    r.prompt = "\xff";
    expect_refused(&f, &r, CALO_ERR_USAGE, "UTF-8");
    r = calo_txt2img_defaults();
    r.scheduler = "even";
    expect_refused(&f, &r, CALO_ERR_USAGE, "'even'; there are leading");
    r = calo_txt2img_defaults();
    r.spacing = (calo_spacing)99;
    expect_refused(&f, &r, CALO_ERR_USAGE, "99");
    r = calo_txt2img_defaults();
    r.s_churn = NAN;
    expect_refused(&f, &r, CALO_ERR_USAGE, "s_churn");
    r = calo_txt2img_defaults();
    r.cfg_start = 0.6;
    r.cfg_end = 0.5;
    expect_refused(&f, &r, CALO_ERR_USAGE, "guidance from 0.6");
    r = calo_txt2img_defaults();
    r.step_noise = (calo_step_noise)3;
    expect_refused(&f, &r, CALO_ERR_USAGE, "noise of steps");
    r = calo_txt2img_defaults();
    r.noise_layout = (calo_noise_layout)3;
    expect_refused(&f, &r, CALO_ERR_USAGE, "noise layout");
    r = calo_txt2img_defaults();
    r.preview_every = -1;
    expect_refused(&f, &r, CALO_ERR_USAGE, "preview");
    r = (calo_txt2img_request){.steps = 1};
    expect_refused(&f, &r, CALO_ERR_USAGE, "initialised");
    r = calo_txt2img_defaults();
    r.clip_skip = 3;
    expect_refused(&f, &r, CALO_ERR_USAGE, "clip skip of 3 is not in 1 .. 2");
    r.clip_skip = -1;
    expect_refused(&f, &r, CALO_ERR_USAGE, "clip skip of -1");
    r = calo_txt2img_defaults();
    r.emphasis = (calo_emphasis)4;
    expect_refused(&f, &r, CALO_ERR_USAGE, "emphasis of 4");
    r = calo_txt2img_defaults();
    r.prompt = "(a:2000)";
    expect_refused(&f, &r, CALO_ERR_USAGE, "weight 2000");
    r.prompt = "[a|b|c|d|e|f|g] [a|b|c|d|e|f|g|h|i|j|k] [a|b|c]";
    r.steps = 300;
    expect_refused(&f, &r, CALO_ERR_USAGE, "more than 128 different texts");
    end(&f);
}

Test(api, wrong_beginnings_are_refused_by_name) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_from(&b, true);
    r.init_image = NULL;
    expect_refused(&f, &r, CALO_ERR_USAGE, "a mask needs");
    const double strengths[] = {-0.1, 1.1, NAN};
    for (int i = 0; i < 3; i++) {
        r = request_from(&b, true);
        r.strength = strengths[i];
        expect_refused(&f, &r, CALO_ERR_USAGE, "the strength");
    }
    r = request_from(&b, true);
    r.mask_blur = 257;
    expect_refused(&f, &r, CALO_ERR_USAGE, "mask blur of 257");
    r = request_from(&b, true);
    r.mask_padding = -1;
    expect_refused(&f, &r, CALO_ERR_USAGE, "mask padding of -1");
    r = request_from(&b, true);
    r.resize = (calo_resize)3;
    expect_refused(&f, &r, CALO_ERR_USAGE, "resizing 3");
    r = request_from(&b, true);
    r.outpaint_top = 8193;
    expect_refused(&f, &r, CALO_ERR_USAGE, "border of 8193");
    r = request_from(&b, true);
    b.mask.rgb = NULL;
    expect_refused(&f, &r, CALO_ERR_USAGE, "the mask is no picture");
    r = request_from(&b, true);
    b.picture.size = sizeof(size_t);
    expect_refused(&f, &r, CALO_ERR_USAGE, "the initial picture is no picture");
    r = request_from(&b, true);
    b.picture.width = 1 << 20;
    expect_refused(&f, &r, CALO_ERR_USAGE, "the initial picture is no picture");
    end(&f);
    begin(&f, "inpaint", "eps");
    r = calo_txt2img_defaults();
    expect_refused(&f, &r, CALO_ERR_USAGE, "an inpainting model needs");
    r = request_from(&b, false);
    expect_refused(&f, &r, CALO_ERR_USAGE, "an inpainting model needs a mask");
    end(&f);
}

// ---- programs that are older or newer than the library

// The last `size` bytes before a page that nobody may touch.
typedef struct {
    char *pages;
    size_t page;
} brink;

static void *brink_of(brink *b, size_t size) {
    b->page = (size_t)sysconf(_SC_PAGESIZE);
    b->pages = mmap(NULL, 2 * b->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq((void *)b->pages, MAP_FAILED);
    cr_assert_eq(mprotect(b->pages + b->page, b->page, PROT_NONE), 0);
    return memset(b->pages + b->page - size, 0xa5, size);
}

static void brink_free(brink *b) { munmap(b->pages, 2 * b->page); }

// An old program's structs end early: nothing behind them is written or read, and what they lack is the
// default.
Test(api, a_program_with_shorter_structs_keeps_running) {
    fixture f;
    brink b[3];
    calo_images *images, *usual;
    size_t size = offsetof(calo_txt2img_request, seed) + sizeof(uint64_t);
    calo_txt2img_request *r = brink_of(&b[0], size), whole = calo_txt2img_defaults();
    calo_txt2img_request_init(r, size);
    cr_expect_eq(r->size, size);
    cr_expect_eq(r->cfg_scale, 7);
    r->prompt = whole.prompt = "x";
    r->steps = whole.steps = 2;
    r->seed = whole.seed = 5;
    size = offsetof(calo_context_options, progress);
    calo_context_options *o = brink_of(&b[1], size);
    calo_context_options_init(o, size);
    o->threads = 1;
    o->precision = CALO_PRECISION_F32;
    begin_with(&f, "sd", "eps", o);
    images = draw(&f, r);
    usual = draw(&f, &whole);
    expect_same(calo_images_at(images, 0), calo_images_at(usual, 0), "a shorter request");
    char path[600];
    snprintf(path, sizeof path, "%s/short.png", f.dir);
    size = offsetof(calo_image, latents);
    calo_image *im = brink_of(&b[2], size);
    memcpy(im, calo_images_at(images, 0), size);
    im->size = size;
    cr_expect_eq(calo_image_save(f.ctx, im, path, NULL), CALO_OK, "%s", calo_message(f.ctx));
    calo_images_free(images);
    calo_images_free(usual);
    end(&f);
    for (int i = 0; i < 3; i++) brink_free(&b[i]);
}

// A new program's structs go on behind ours: fine while it asks for nothing there.
Test(api, a_program_with_longer_structs_is_served_what_is_known) {
    fixture f;
    struct {
        calo_txt2img_request known;
        int64_t news;
    } r;
    struct {
        calo_save_options known;
        int64_t news;
    } o;
    begin(&f, "sd", "eps");
    calo_txt2img_request_init(&r.known, sizeof r);
    cr_expect_eq(r.known.size, sizeof r);
    cr_expect_eq(r.news, 0);
    r.known.steps = 1;
    calo_images *images = draw(&f, &r.known);
    r.news = 1;
    expect_refused(&f, &r.known, CALO_ERR_USAGE, "does not know");
    calo_save_options_init(&o.known, sizeof o);
    o.news = 1;
    cr_expect_eq(calo_image_save(f.ctx, calo_images_at(images, 0), "never.png", &o.known), CALO_ERR_USAGE);
    calo_train_request t = {.size = 7};
    cr_expect_eq(calo_train(f.ctx, &t), CALO_ERR_USAGE);
    calo_context *none;
    calo_context_options c = {.threads = 1};
    cr_expect_eq(calo_context_new(&c, &none), CALO_ERR_USAGE);
    cr_expect_null(none);
    calo_images_free(images);
    end(&f);
}

// ---- noise as other programs share it out, tuning, guidance for a part of the steps

static bool same_latents(const calo_images *a, const calo_images *b, size_t i) {
    const calo_image *x = calo_images_at(a, i), *y = calo_images_at(b, i);
    size_t n = (size_t)x->latent_shape[0] * (size_t)x->latent_shape[1] * (size_t)x->latent_shape[2];
    return !memcmp(x->latents, y->latents, n * sizeof *x->latents);
}

static bool draws_the_same(fixture *f, const calo_txt2img_request *a, const calo_txt2img_request *b) {
    calo_images *x = draw(f, a), *y = draw(f, b);
    bool same = calo_images_count(x) == calo_images_count(y);
    for (size_t i = 0; same && i < calo_images_count(x); i++) same = same_latents(x, y, i);
    calo_images_free(x);
    calo_images_free(y);
    return same;
}

static calo_txt2img_request request_with(const char *sampler, calo_noise_layout layout, int count) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.steps = 3;
    r.seed = 11;
    r.count = count;
    r.sampler = sampler;
    r.scheduler = "Trailing";
    r.noise_layout = layout;
    return r;
}

// Initial noise: one generator's run over the whole batch, also where the batch is drawn in groups of eight.
Test(api, noise_of_a_batch_is_from_one_generator) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_COMFY; layout <= CALO_NOISE_DIFFUSERS; layout++) {
        calo_txt2img_request r = request_with("ddim", (calo_noise_layout)layout, 10), given = r;
        calo_images *one = draw(&f, &r);
        const int *shape = calo_images_at(one, 0)->latent_shape;
        calo_tensor noise = {"latents", CALO_F32, 4, {r.count, shape[0], shape[1], shape[2]}, NULL};
        size_t n = (size_t)r.count * (size_t)(shape[0] * shape[1] * shape[2]);
        float *values = malloc(n * sizeof *values);
        mt19937 mt;
        mt_seed(&mt, r.seed);
        mt_normal(&mt, values, n);
        noise.data = values;
        given.init_latents = &noise;
        cr_expect(draws_the_same(&f, &r, &given), "layout %d", layout);
        calo_images_free(one);
        free(values);
    }
    end(&f);
}

Test(api, noise_layouts_differ_where_they_should) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request a = request_with("euler_a", CALO_NOISE_A1111, 1), b = a;
    b.noise_layout = CALO_NOISE_DIFFUSERS;
    cr_expect(draws_the_same(&f, &a, &b)); // of one picture
    b.noise_layout = CALO_NOISE_COMFY;
    cr_expect_not(draws_the_same(&f, &a, &b));
    a.eta_seed_delta = 1; // which is what ComfyUI's generator for the steps amounts to
    cr_expect(draws_the_same(&f, &a, &b));
    b.rng = a.rng = CALO_RNG_NV;
    cr_expect_not(draws_the_same(&f, &a, &b)); // on that device it has the same seed
    a = b = request_with("euler_a", CALO_NOISE_COMFY, 2);
    b.noise_layout = CALO_NOISE_DIFFUSERS;
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.noise_layout = CALO_NOISE_A1111;
    cr_expect_not(draws_the_same(&f, &a, &b));
    uint64_t seeds[] = {11, 12}; // of their own: each image is a batch of one
    a.seeds = seeds;
    calo_images *both = draw(&f, &a);
    a = request_with("euler_a", CALO_NOISE_COMFY, 1);
    a.seed = 12;
    calo_images *second = draw(&f, &a);
    cr_expect(!memcmp(calo_images_at(both, 1)->latents, calo_images_at(second, 0)->latents, 64));
    calo_images_free(both);
    calo_images_free(second);
    end(&f);
}

// Which noise is chosen; tests/test_samplers.c has the noise itself.
Test(api, sde_samplers_walk_on_a_path) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_A1111; layout <= CALO_NOISE_DIFFUSERS; layout++)
        for (int i = 0; i < 2; i++) {
            const char *name = i ? "dpmpp_2m_sde" : "euler_a";
            calo_txt2img_request a = request_with(name, (calo_noise_layout)layout, 1), plain = a, path = a;
            plain.step_noise = CALO_STEP_NOISE_PLAIN;
            path.step_noise = CALO_STEP_NOISE_BROWNIAN;
            cr_expect_not(draws_the_same(&f, &plain, &path), "%s, layout %d", name, layout);
            bool usual = i && layout != CALO_NOISE_DIFFUSERS;
            cr_expect(draws_the_same(&f, &a, usual ? &path : &plain), "%s, layout %d", name, layout);
        }
    calo_txt2img_request a = request_with("dpmpp_sde", CALO_NOISE_A1111, 1), b = a;
    a.eta_seed_delta = 5; // is not the path's seed
    cr_expect(draws_the_same(&f, &a, &b));
    b.rng = CALO_RNG_NV;
    cr_expect_not(draws_the_same(&f, &a, &b));
    end(&f);
}

// True batches: a picture's path is its own, also in the second group of a batch and beside other seeds.
Test(api, paths_of_a_batch_are_those_of_single_pictures) {
    fixture f;
    begin(&f, "sd", "v");
    for (int layout = CALO_NOISE_A1111; layout <= CALO_NOISE_COMFY; layout++) {
        uint64_t seeds[10];
        calo_txt2img_request batch = request_with("dpmpp_2m_sde", (calo_noise_layout)layout,
                                                  (int)(sizeof seeds / sizeof *seeds)),
                             single = request_with("dpmpp_2m_sde", (calo_noise_layout)layout, 1);
        for (int i = 0; i < (int)(sizeof seeds / sizeof *seeds); i++) seeds[i] = 11 + 100 * (uint64_t)i;
        batch.seeds = seeds;
        calo_images *all = draw(&f, &batch);
        for (int i = 0; i < (int)(sizeof seeds / sizeof *seeds); i += 9) {
            single.seed = seeds[i];
            calo_images *one = draw(&f, &single);
            const calo_image *x = calo_images_at(all, (size_t)i), *y = calo_images_at(one, 0);
            size_t n = (size_t)(x->latent_shape[0] * x->latent_shape[1] * x->latent_shape[2]);
            cr_expect_arr_eq(x->latents, y->latents, n * sizeof *x->latents, "layout %d, picture %d", layout,
                             i);
            calo_images_free(one);
        }
        calo_images_free(all);
    }
    end(&f);
}

Test(api, guidance_may_last_for_some_of_the_steps) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request always = request_with("ddim", CALO_NOISE_A1111, 2), r = always, never = always;
    r.cfg_start = r.cfg_end = 0;
    never.cfg_scale = 1;
    never.cfg_rescale = r.cfg_rescale = always.cfg_rescale = 0;
    cr_expect(draws_the_same(&f, &r, &never));
    r.cfg_end = 1;
    cr_expect(draws_the_same(&f, &r, &always));
    r.cfg_start = 0.4; // of three steps the last one
    cr_expect_not(draws_the_same(&f, &r, &always));
    cr_expect_not(draws_the_same(&f, &r, &never));
    never = r;
    never.cfg_start = 0.6;
    cr_expect(draws_the_same(&f, &r, &never));
    end(&f);
}

Test(api, tuning_reaches_the_sampler) {
    fixture f;
    begin(&f, "sd", "v");
    calo_txt2img_request a = request_with("euler_a", CALO_NOISE_A1111, 1), b = a;
    b.sampler = "euler";
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.eta = 1;
    cr_expect(draws_the_same(&f, &a, &b));
    b.s_noise = 0.5;
    cr_expect_not(draws_the_same(&f, &a, &b));
    a = b = request_with("heun", CALO_NOISE_A1111, 1);
    b.s_churn = 1;
    cr_expect_not(draws_the_same(&f, &a, &b));
    b.s_tmin = 1e6;
    cr_expect(draws_the_same(&f, &a, &b));
    end(&f);
}

// Every sampler draws, and tells each step once.
static void count_steps(void *user, const calo_progress *p) {
    if (!strcmp(p->stage, "sample")) ++*(int *)user;
}

Test(api, every_sampler_tells_every_step_once) {
    fixture f;
    int steps = 0;
    calo_context_options o = options_of(CALO_PRECISION_F32, 1);
    o.progress = count_steps;
    o.user = &steps;
    begin_with(&f, "sd", "v", &o);
    for (int i = 0; calo_sampler_name(i); i++) {
        calo_txt2img_request r = request_with(calo_sampler_name(i), CALO_NOISE_A1111, 1);
        steps = 0;
        calo_images_free(draw(&f, &r));
        cr_expect_eq(steps, r.steps, "%s", r.sampler);
    }
    end(&f);
}

// Padding at the end would let a new field overlap what an old program never wrote.
#define ENDS_WITH(TYPE, FIELD)                                                                               \
    _Static_assert(offsetof(TYPE, FIELD) + sizeof(((TYPE *)0)->FIELD) == sizeof(TYPE), #TYPE)
ENDS_WITH(calo_context_options, max_memory);
ENDS_WITH(calo_txt2img_request, refiner_switch_at);
ENDS_WITH(calo_image, json);
// reserved stands where padding would.
ENDS_WITH(calo_save_options, reserved);
ENDS_WITH(calo_train_request, user);
ENDS_WITH(calo_train_event, reserved);

// ---- previews

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

Test(api, previews_change_nothing) {
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
Test(api, colours_of_latents_are_those_of_least_squares) {
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

// On the model that comes along, which is a trained one: on random weights colours explain nothing.
Test(api, linear_previews_look_like_the_picture) {
    calo_context *ctx;
    calo_model *m;
    static colour_watcher w;
    calo_context_options o = options_of(CALO_PRECISION_F32, 1);
    cr_assert_eq(calo_context_new(&o, &ctx), CALO_OK);
    cr_assert_eq(calo_model_open(ctx, "assets/talbot", &m), CALO_OK, "%s", calo_message(ctx));
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
        cr_assert_eq(calo_txt2img(m, &r, &images[linear]), CALO_OK, "%s", calo_message(ctx));
        cr_expect_eq(w.seen, 6);
    }
    expect_same(calo_images_at(images[0], 0), calo_images_at(images[1], 0), "linear previews");
    cr_expect_gt(correlation(&w), 0.9, "the correlation is %.3f", correlation(&w));
    for (int i = 0; i < 2; i++) calo_images_free(images[i]);
    calo_model_free(m);
    calo_context_free(ctx);
}

Test(api, names_that_are_nearly_right_are_suggested) {
    fixture f;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.sampler = "euler_b";
    expect_refused(&f, &r, CALO_ERR_USAGE, "'euler_b' (did you mean euler_a?); there are ddim");
    r.sampler = "Unipcc";
    expect_refused(&f, &r, CALO_ERR_USAGE, "(did you mean unipc?)");
    r = calo_txt2img_defaults();
    r.scheduler = "karas";
    expect_refused(&f, &r, CALO_ERR_USAGE, "(did you mean karras?)");
    r = request_larger();
    r.hires_upscaler = "latent-bicubik";
    expect_refused(&f, &r, CALO_ERR_USAGE, "(did you mean latent-bicubic?)");
    r.hires_upscaler = "zzzzzzzz";
    expect_refused(&f, &r, CALO_ERR_USAGE, "'zzzzzzzz'; there are");
    static const char *const NAMES[] = {"steps", "seed"};
    cr_expect_str_eq(calo_nearest_name("setps", NAMES, 2), "steps");
    cr_expect_null(calo_nearest_name("strength", NAMES, 2));
    end(&f);
}

Test(api, models_that_are_not_there_or_not_whole_are_named) {
    fixture f;
    calo_model *m;
    begin(&f, "sd", "eps");
    cr_expect_eq(calo_model_open(f.ctx, "no/such/folder", &m), CALO_ERR_NOINPUT);
    cr_expect_null(m);
    cr_expect(strstr(calo_message(f.ctx), "no/such/folder"), "%s", calo_message(f.ctx));
    char path[600];
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", f.dir);
    remove(path);
    calo_txt2img_request r = calo_txt2img_defaults();
    expect_refused(&f, &r, CALO_ERR_NOINPUT, "/unet");
    end(&f);
    begin(&f, "sd", "eps");
    snprintf(path, sizeof path, "%s/vae/config.json", f.dir);
    remove(path);
    expect_refused(&f, &r, CALO_ERR_NOINPUT, "vae/config.json");
    end(&f);
}

Test(api, the_model_that_comes_along_is_found_in_calotype_data) {
    fixture f;
    calo_model *m;
    char from[600], to[600];
    begin(&f, "sd", "eps");
    char *data = fs_dirname(f.dir);
    snprintf(from, sizeof from, "%s/sd", data);
    snprintf(to, sizeof to, "%s/talbot", data);
    cr_assert_eq(rename(from, to), 0);
    setenv("CALOTYPE_DATA", data, 1);
    cr_expect_eq(calo_model_open(f.ctx, NULL, &m), CALO_OK, "%s", calo_message(f.ctx));
    calo_model_free(m);
    mem_free(data);
    end(&f);
}

// ---- single networks

static const calo_tensor *find(const calo_tensors *list, const char *name, calo_tensor *t) {
    for (size_t i = 0; i < calo_tensors_count(list); i++) {
        *t = calo_tensors_at(list, i);
        if (!strcmp(t->name, name)) return t;
    }
    return NULL;
}

static float values[4 * 8 * 8 * 4];

Test(api, a_scalar_timestep_counts_for_all) {
    fixture f;
    calo_tensors *a, *b;
    calo_tensor x, y;
    begin(&f, "sd", "eps");
    for (int i = 0; i < 512; i++) values[i] = sinf((float)i);
    int64_t one = 500, two[] = {500, 500};
    calo_tensor in[] = {{"sample", CALO_F32, 4, {2, 4, 8, 8}, values},
                        {"timestep", CALO_I64, 0, {0}, &one},
                        {"encoder_hidden_states", CALO_F32, 3, {2, 3, 12}, values}};
    cr_assert_eq(calo_run(f.model, "unet", in, 3, &a), CALO_OK, "%s", calo_message(f.ctx));
    in[1] = (calo_tensor){"timestep", CALO_I64, 1, {2}, two};
    cr_assert_eq(calo_run(f.model, "unet", in, 3, &b), CALO_OK, "%s", calo_message(f.ctx));
    cr_assert_not_null(find(a, "sample", &x));
    cr_assert_not_null(find(b, "sample", &y));
    cr_assert_eq(x.rank, 4);
    cr_expect_arr_eq(x.shape, ((int64_t[]){2, 4, 8, 8}), 4 * sizeof(int64_t));
    cr_expect_arr_eq(x.data, y.data, 512 * sizeof(float));
    calo_tensors_free(a);
    calo_tensors_free(b);
    end(&f);
}

Test(api, networks_give_what_they_promise) {
    fixture f;
    calo_tensors *out;
    calo_tensor t;
    begin(&f, "sdxl", "eps");
    int32_t ids[2 * 5] = {572, 3, 4, 573, 573, 572, 5, 573, 573, 573};
    calo_tensor text = {"input_ids", CALO_I32, 2, {2, 5}, ids};
    cr_assert_eq(calo_run(f.model, "text_encoder_2", &text, 1, &out), CALO_OK, "%s", calo_message(f.ctx));
    cr_expect_eq(calo_tensors_count(out), 3);
    cr_assert_not_null(find(out, "text_embeds", &t));
    cr_expect_eq(t.shape[1], 10);
    cr_expect_not_null(find(out, "penultimate", &t));
    calo_tensors_free(out);
    calo_tensor latent = {"latent", CALO_F32, 4, {1, 4, 3, 5}, values};
    cr_assert_eq(calo_run(f.model, "vae_decoder", &latent, 1, &out), CALO_OK, "%s", calo_message(f.ctx));
    cr_assert_not_null(find(out, "sample", &t));
    cr_expect_arr_eq(t.shape, ((int64_t[]){1, 3, 12, 20}), 4 * sizeof(int64_t));
    calo_tensor back = t;
    calo_tensors *moments;
    cr_assert_eq(calo_run(f.model, "vae_encoder", &back, 1, &moments), CALO_OK, "%s", calo_message(f.ctx));
    cr_assert_not_null(find(moments, "logvar", &t));
    cr_expect_arr_eq(t.shape, ((int64_t[]){1, 4, 3, 5}), 4 * sizeof(int64_t));
    calo_tensors_free(moments);
    calo_tensors_free(out);
    end(&f);
}

static void expect_no_run(fixture *f, const char *network, const calo_tensor *in, size_t n,
                          const char *says) {
    calo_tensors *out;
    cr_expect_neq(calo_run(f->model, network, in, n, &out), CALO_OK);
    cr_expect_null(out);
    cr_expect(strstr(calo_message(f->ctx), says), "'%s' does not say '%s'", calo_message(f->ctx), says);
}

Test(api, inputs_that_do_not_fit_are_named) {
    fixture f;
    begin(&f, "sd", "eps");
    int32_t high[] = {574}, low[] = {-1};
    calo_tensor ids = {"input_ids", CALO_I32, 2, {1, 1}, high},
                sample = {"sample", CALO_F32, 4, {1, 4, 8, 8}, values};
    expect_no_run(&f, "text_encoder", &ids, 1, "574");
    ids.data = low;
    expect_no_run(&f, "text_encoder", &ids, 1, "-1");
    ids = (calo_tensor){"input_ids", CALO_F32, 2, {1, 1}, values};
    expect_no_run(&f, "text_encoder", &ids, 1, "I32");
    ids.shape[1] = 13;
    expect_no_run(&f, "text_encoder", &ids, 1, "13 tokens");
    expect_no_run(&f, "text_encoder_2", &ids, 1, "no text_encoder_2");
    expect_no_run(&f, "unet", &sample, 1, "'timestep' is missing");
    expect_no_run(&f, "unet", NULL, 0, "'sample' is missing");
    expect_no_run(&f, "upscaler", NULL, 0, "'upscaler'");
    calo_tensor odd[] = {sample, {"time_ids", CALO_F32, 2, {1, 6}, values}};
    expect_no_run(&f, "unet", odd, 2, "no input 'time_ids'");
    sample.shape[1] = 3;
    expect_no_run(&f, "unet", &sample, 1, "'sample' is [1,3,8,8]");
    sample.shape[2] = INT64_MAX;
    expect_no_run(&f, "unet", &sample, 1, "'sample'");
    sample.shape[2] = -1;
    expect_no_run(&f, "unet", &sample, 1, "'sample'");
    end(&f);
}

// ---- looking inside

Test(api, inspection_tells_the_kinds_apart) {
    fixture f;
    char path[600], *json;
    begin(&f, "sdxl", "eps");
    cr_assert_eq(calo_inspect_model(f.model, &json), CALO_OK, "%s", calo_message(f.ctx));
    cr_expect(strstr(json, "\"kind\":\"model\"") && strstr(json, "StableDiffusionXLPipeline") &&
                  strstr(json, "\"parameters\""),
              "%s", json);
    calo_free(json);
    snprintf(path, sizeof path, "%s/vae/diffusion_pytorch_model.safetensors", f.dir);
    cr_assert_eq(calo_inspect(f.ctx, path, &json), CALO_OK, "%s", calo_message(f.ctx));
    cr_expect(strstr(json, "\"kind\":\"tensors\"") && strstr(json, "decoder.conv_out.bias"), "%s", json);
    calo_free(json);
    cr_assert_eq(calo_inspect(f.ctx, "tests/golden/files/texts.png", &json), CALO_OK, "%s",
                 calo_message(f.ctx));
    cr_expect(strstr(json, "\"kind\":\"picture\""), "%s", json);
    calo_free(json);
    end(&f);
}

Test(api, a_plan_lists_measured_kernels) {
    fixture f;
    calo_plan *p;
    begin(&f, "sd", "eps");
    cr_assert_eq(calo_plan_new(f.model, "unet", 2, 0, 0, &p), CALO_OK, "%s", calo_message(f.ctx));
    double seconds = 0, flops = 0;
    int prompt = 0;
    for (size_t i = 0; i < calo_plan_count(p); i++) {
        const calo_plan_line *l = calo_plan_at(p, i);
        seconds += l->seconds;
        flops += l->flops;
        prompt += !strcmp(l->rate, "prompt");
        cr_expect(*l->kernel && *l->shape);
        cr_expect_gt(l->seconds, 0, "%s", l->path);
    }
    cr_expect_gt(calo_plan_count(p), 50);
    cr_expect_gt(prompt, 3, "keys and values of the text");
    cr_expect_gt(seconds, 0);
    cr_expect_gt(flops, 1e5);
    calo_plan_free(p);
    end(&f);
}

Test(api, a_saved_picture_says_how_it_was_made) {
    fixture f;
    char path[600], *json;
    begin(&f, "sd", "v");
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a \"red\" heart, ♥";
    r.steps = 2;
    r.seed = 7;
    calo_images *images = draw(&f, &r);
    snprintf(path, sizeof path, "%s/out.png", f.dir);
    cr_assert_eq(calo_image_save(f.ctx, calo_images_at(images, 0), path, NULL), CALO_OK, "%s",
                 calo_message(f.ctx));
    cr_expect_eq(calo_image_save(f.ctx, calo_images_at(images, 0), path, NULL), CALO_ERR_CANTCREAT);
    cr_assert_eq(calo_inspect(f.ctx, path, &json), CALO_OK, "%s", calo_message(f.ctx));
    json_t *j = json_loads(json, 0, NULL), *texts = json_object_get(j, "texts");
    const char *a1111 = json_string_value(json_object_get(texts, "parameters"));
    cr_assert_not_null(a1111);
    cr_expect_eq(
        strncmp(
            a1111,
            "a \"red\" heart, ♥\nSteps: 2, Sampler: DDIM, CFG scale: 7, Seed: 7, Size: 32x32, Model hash: ",
            strlen("a \"red\" heart, ♥\nSteps: 2, Sampler: DDIM, CFG scale: 7, Seed: 7, Size: 32x32, Model "
                   "hash: ")),
        0, "%s", a1111);
    cr_expect(
        strstr(a1111, "Model: sd, CFG Rescale: 0.7, RNG: CPU, Noise Schedule: Zero Terminal SNR, Version: "),
        "%s", a1111);
    json_t *own = json_loads(json_string_value(json_object_get(texts, "calotype")), 0, NULL);
    cr_expect_str_eq(json_string_value(json_object_get(own, "prompt")), r.prompt);
    cr_expect_eq(json_integer_value(json_object_get(own, "seed")), 7);
    json_decref(own);
    json_decref(j);
    calo_free(json);
    calo_images_free(images);
    end(&f);
}

Test(api, tokens_of_a_text) {
    fixture f;
    int32_t *ids;
    size_t n;
    begin(&f, "sd", "eps");
    cr_assert_eq(calo_tokenize(f.model, "a\0b", 3, &ids, &n), CALO_OK, "%s", calo_message(f.ctx));
    cr_expect_geq(n, 3);
    calo_free(ids);
    end(&f);
}
