// Pictures as diffusers draws them, pictures that begin from pictures, and those that are drawn over.
#include "core/base/json.h"
#include "core/cpu/level.h"
#include "core/models/latent_resize.h"
#include "core/models/layout.h"
#include "tests/fixture.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- the same pictures as diffusers

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

// `runs_name`: of the list of requests and the file of results.
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

Test(pictures, pictures_are_those_of_diffusers) { pictures_are_those_of_diffusers("sd", "runs"); }
Test(pictures, pictures_of_two_text_encoders_are_those_of_diffusers) {
    pictures_are_those_of_diffusers("sdxl", "runs");
}
Test(pictures, prompts_are_read_as_other_programs_do) {
    pictures_are_those_of_diffusers("sd", "prompts");
    pictures_are_those_of_diffusers("sdxl", "prompts");
}

Test(pictures, pictures_begin_from_pictures_as_in_diffusers) {
    pictures_are_those_of_diffusers("sd", "pictures");
}
Test(pictures, inpainting_models_draw_as_in_diffusers) {
    pictures_are_those_of_diffusers("inpaint", "pictures");
}
Test(pictures, refiners_draw_alone_as_in_diffusers) {
    pictures_are_those_of_diffusers("refiner", "pictures");
}
Test(pictures, refiners_finish_pictures_as_in_diffusers) {
    pictures_are_those_of_diffusers("sdxl", "refiner");
}
Test(pictures, models_that_edit_draw_as_in_diffusers) { pictures_are_those_of_diffusers("edit", "pictures"); }

// ---- pictures that begin from pictures

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

// Pixels that differ inside and outside of the mask.
static void count_changes(const calo_image *im, const beginning_pictures *b, int *inside, int *outside) {
    *inside = *outside = 0;
    for (int i = 0; i < im->width * im->height; i++)
        *(b->rgb[1][3 * i] ? inside : outside) += memcmp(im->rgb + 3 * i, b->rgb[0] + 3 * i, 3) != 0;
}

Test(pictures, what_is_not_masked_keeps_its_bytes) {
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
Test(pictures, each_way_to_begin_is_another_picture) {
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

Test(pictures, models_that_edit_need_a_picture_and_no_mask) {
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

Test(pictures, outpainting_adds_what_is_asked_for) {
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

// The picture keeps its pixels: what is asked for grows to the next size that can be drawn.
Test(pictures, borders_of_any_width_leave_the_picture_as_it_is) {
    fixture f;
    beginning_pictures b;
    begin(&f, "sd", "eps");
    calo_txt2img_request r = request_from(&b, false);
    r.outpaint_left = 3;
    r.outpaint_top = 1;
    r.strength = 1;
    calo_images *images = draw(&f, &r);
    const calo_image *im = calo_images_at(images, 0);
    cr_assert(im->width == 44 && im->height == 36, "%dx%d", im->width, im->height);
    for (int y = 0; y < 32; y++)
        cr_expect_eq(memcmp(im->rgb + ((y + 1) * 44 + 3) * 3, b.rgb[0] + y * 40 * 3, 40 * 3), 0, "row %d", y);
    calo_images_free(images);
    end(&f);
}

// Images that begin from one picture do not depend on their number either.
Test(pictures, one_of_several_that_begin_from_a_picture_is_drawn_alone) {
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
Test(pictures, an_autoencoder_in_parts_draws_the_same) {
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

Test(pictures, wrong_beginnings_are_refused_by_name) {
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
    r = request_from(&b, false);
    r.only_masked = true;
    expect_refused(&f, &r, CALO_ERR_USAGE, "takes a mask or borders");
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

// ---- hires fix

Test(pictures, pictures_are_drawn_over_as_in_diffusers) { pictures_are_those_of_diffusers("sd", "hires"); }

// Sums in float32 by torch, in double here.
Test(pictures, latents_are_made_larger_as_by_torch) {
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
Test(pictures, pictures_are_drawn_over) {
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

Test(pictures, wrong_second_passes_are_refused_by_name) {
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

// ---- fast arithmetic beside exact

enum { SEEDS = 5, LEVELS = 64 * 64 * 3 };

static void draw_talbot(calo_precision precision, calo_fast fast, uint8_t rgb[SEEDS][LEVELS]) {
    fixture f;
    calo_context_options o = options_of(precision, 2);
    o.fast = fast;
    begin_talbot(&f, &o);
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a big red heart on a white background";
    r.width = r.height = 64;
    r.steps = 6;
    r.count = SEEDS;
    calo_images *images = draw(&f, &r);
    for (size_t i = 0; i < SEEDS; i++) memcpy(rgb[i], calo_images_at(images, i)->rgb, LEVELS);
    calo_images_free(images);
    end(&f);
}

static double decibels(const uint8_t a[LEVELS], const uint8_t b[LEVELS]) {
    double difference = 0;
    for (size_t k = 0; k < LEVELS; k++) difference += pow(a[k] - b[k], 2) / LEVELS;
    return 10 * log10(255 * 255 / fmax(difference, 1e-9));
}

static int by_value(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static double median_decibels(uint8_t a[SEEDS][LEVELS], uint8_t b[SEEDS][LEVELS]) {
    double of[SEEDS];
    for (size_t i = 0; i < SEEDS; i++) of[i] = decibels(a[i], b[i]);
    qsort(of, SEEDS, sizeof *of, by_value);
    return of[SEEDS / 2];
}

// f32 has 16 bits more than a picture's 8, of which F(4×4) costs three. The error of F(2×2) in bf16 is up
// to 1.9 times that of direct arithmetic (core/cpu/winograd.h), which is 5.6 dB; where bf16 is emulated both
// are direct, and slow.
Test(pictures, fast_arithmetic_gives_the_picture_of_exact) {
    static uint8_t exact[SEEDS][LEVELS], fast[SEEDS][LEVELS];
    draw_talbot(CALO_PRECISION_F32, CALO_FAST_OFF, exact);
    draw_talbot(CALO_PRECISION_F32, CALO_FAST_AUTO, fast);
    double f32 = median_decibels(fast, exact);
    cr_expect_geq(f32, 70, "f32, Winograd: %.1f dB", f32);
    if (cpu_level_within(CPU_BEST) < CPU_AVX512_BF16) return;
    draw_talbot(CALO_PRECISION_BF16, CALO_FAST_OFF, fast);
    double direct = median_decibels(fast, exact);
    draw_talbot(CALO_PRECISION_BF16, CALO_FAST_AUTO, fast);
    double winograd = median_decibels(fast, exact);
    cr_expect_geq(direct, 34, "bf16: %.1f dB", direct);
    cr_expect_geq(winograd, direct - 7, "bf16, Winograd: %.1f dB, direct %.1f", winograd, direct);
}
