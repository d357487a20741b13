// A second model that finishes the picture of the first one. Beside diffusers: test_api.c.
#include "core/calotype.h"
#include "tests/shell.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASE, REFINER };

// Two models of one context, each in a folder of its own.
typedef struct {
    char dir[2][512];
    calo_context *ctx;
    calo_model *model[2];
} pair;

static void open_models(pair *p, const calo_context_options *o) {
    cr_assert_eq(calo_context_new(o, &p->ctx), CALO_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(calo_model_open(p->ctx, p->dir[i], &p->model[i]), CALO_OK, "%s", calo_message(p->ctx));
}

static void close_models(pair *p) {
    for (int i = 0; i < 2; i++) calo_model_free(p->model[i]);
    calo_context_free(p->ctx);
}

static calo_context_options options_of(int threads) {
    calo_context_options o = calo_context_defaults();
    o.precision = CALO_PRECISION_F32;
    o.threads = threads;
    return o;
}

static void begin_with(pair *p, const char *base, const char *base_schedule, const char *refiner,
                       const char *refiner_schedule) {
    calo_context_options o = options_of(1);
    tiny_model_write(base, base_schedule, p->dir[BASE], sizeof p->dir[BASE]);
    tiny_model_write(refiner, refiner_schedule, p->dir[REFINER], sizeof p->dir[REFINER]);
    setenv("XDG_CACHE_HOME", p->dir[BASE], 1);
    open_models(p, &o);
}

static void begin(pair *p) { begin_with(p, "sdxl", "eps", "refiner", "eps"); }

static void end(pair *p) {
    close_models(p);
    for (int i = 0; i < 2; i++) tiny_model_remove(p->dir[i]);
}

static calo_txt2img_request request(const pair *p) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a [boat:house:0.5] and [red|blue|grey] (hills:1.2)";
    r.sampler = "dpmpp_2m";
    r.steps = 4;
    r.seed = 7;
    r.refiner = p->model[REFINER];
    r.refiner_switch_at = 0.5;
    return r;
}

static calo_images *draw(const pair *p, const calo_txt2img_request *r) {
    calo_images *images;
    cr_assert_eq(calo_txt2img(p->model[BASE], r, &images), CALO_OK, "%s", calo_message(p->ctx));
    return images;
}

static bool same(const calo_image *a, const calo_image *b) {
    size_t n = (size_t)(a->latent_shape[0] * a->latent_shape[1] * a->latent_shape[2]);
    return a->width == b->width && a->height == b->height &&
           !memcmp(a->latents, b->latents, n * sizeof *a->latents) &&
           !memcmp(a->rgb, b->rgb, 3 * (size_t)a->width * (size_t)a->height);
}

// Whether two requests give the same first picture.
static bool draw_same(const pair *p, const calo_txt2img_request *a, const calo_txt2img_request *b) {
    calo_images *first = draw(p, a), *second = draw(p, b);
    bool equal = same(calo_images_at(first, 0), calo_images_at(second, 0));
    calo_images_free(first);
    calo_images_free(second);
    return equal;
}

Test(refiner, at_the_ends_one_model_draws_alone) {
    pair p;
    begin(&p);
    calo_txt2img_request r = request(&p), alone = r;
    alone.refiner = NULL;
    r.refiner_switch_at = 1;
    cr_expect(draw_same(&p, &r, &alone), "switch at 1");
    r.refiner_switch_at = 0.76; // of four steps the last begins at 0.75
    cr_expect(draw_same(&p, &r, &alone), "a switch behind the last step");
    r.refiner_switch_at = 0.75;
    cr_expect_not(draw_same(&p, &r, &alone));
    r.refiner_switch_at = 0;
    calo_images *first = draw(&p, &r), *other;
    cr_assert_eq(calo_txt2img(p.model[REFINER], &alone, &other), CALO_OK, "%s", calo_message(p.ctx));
    cr_expect(same(calo_images_at(first, 0), calo_images_at(other, 0)), "the autoencoders are the same");
    calo_images_free(first);
    calo_images_free(other);
    end(&p);
}

// The sampler's history, the noise on the way and what texts say at a step do not see the switch.
Test(refiner, a_model_refines_itself_to_its_own_picture) {
    static const char *const SAMPLERS[] = {"dpmpp_2m", "euler_a", "dpmpp_3m_sde", "heun", "unipc", "restart"};
    pair p;
    begin(&p);
    for (size_t i = 0; i < sizeof SAMPLERS / sizeof *SAMPLERS; i++) {
        calo_txt2img_request r = request(&p), alone = r;
        r.sampler = alone.sampler = SAMPLERS[i];
        alone.refiner = NULL;
        r.refiner = p.model[BASE];
        cr_expect(draw_same(&p, &r, &alone), "%s", SAMPLERS[i]);
    }
    end(&p);
}

Test(refiner, bytes_do_not_depend_on_threads_or_batch) {
    static const char *const PROMPTS[] = {"a boat", "a [tree::0.4] on a [hill|sea] BREAK b",
                                          "x BREAK y BREAK z", "a [b:c BREAK d:0.7]"};
    enum { N = sizeof PROMPTS / sizeof *PROMPTS };
    pair p;
    begin(&p);
    calo_txt2img_request r = request(&p);
    r.sampler = "euler_a";
    r.count = N;
    for (int own = 0; own < 2; own++) {
        r.prompts = own ? PROMPTS : NULL;
        calo_images *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            close_models(&p);
            calo_context_options o = options_of(threads);
            open_models(&p, &o);
            r.refiner = p.model[REFINER];
            calo_images *now = draw(&p, &r);
            for (size_t i = 0; first && i < N; i++)
                cr_expect(same(calo_images_at(now, i), calo_images_at(first, i)), "%d threads", threads);
            if (first) calo_images_free(now);
            if (!first) first = now;
        }
        for (size_t i = 0; i < N; i++) {
            calo_txt2img_request one = r;
            one.count = 1;
            one.prompts = NULL;
            if (own) one.prompt = PROMPTS[i];
            one.seed += i;
            calo_images *alone = draw(&p, &one);
            cr_expect(same(calo_images_at(first, i), calo_images_at(alone, 0)), "picture %zu", i);
            calo_images_free(alone);
        }
        calo_images_free(first);
    }
    end(&p);
}

// As A1111 does unless it is told otherwise: what will be drawn over is not refined.
Test(refiner, of_two_passes_it_takes_part_in_the_second) {
    pair p;
    begin(&p);
    calo_txt2img_request r = request(&p), alone = r;
    alone.refiner = NULL;
    r.hires = alone.hires = 1;
    r.hires_denoise = alone.hires_denoise = 0.5;
    cr_expect_not(draw_same(&p, &r, &alone));
    r.hires_steps = alone.hires_steps = 1; // the second pass's only step begins at 0
    cr_expect(draw_same(&p, &r, &alone), "the first pass is not refined");
    end(&p);
}

static calo_status count_preview(void *user, const calo_image *im, int step) {
    (void)im, (void)step;
    ++*(int *)user;
    return CALO_OK;
}

// The smallest limit of memory, and how many of the networks are the refiner's.
static uint64_t foretold(const pair *p, const calo_txt2img_request *r, int *refiners) {
    char *text;
    cr_assert_eq(calo_inspect_request(p->model[BASE], r, &text), CALO_OK, "%s", calo_message(p->ctx));
    json_t *j = json_loads(text, 0, NULL), *n;
    uint64_t least = (uint64_t)json_integer_value(json_object_get(j, "least"));
    size_t i;
    *refiners = 0;
    json_array_foreach(json_object_get(j, "networks"), i, n) *refiners +=
        json_is_true(json_object_get(n, "refiner"));
    json_decref(j);
    calo_free(text);
    return least;
}

// Both models under one limit: each gives way to the other, and to the decoder of previews.
Test(refiner, little_memory_gives_the_same_picture) {
    pair p;
    begin(&p);
    close_models(&p);
    calo_context_options o = options_of(1);
    o.fast = CALO_FAST_OFF; // the choice of convolutions may follow from the limit
    open_models(&p, &o);
    calo_txt2img_request r = request(&p);
    calo_images *want = draw(&p, &r);
    int refiners;
    uint64_t least = foretold(&p, &r, &refiners);
    cr_expect_eq(refiners, 2, "a text encoder and a UNet");
    uint64_t low = 100000000, high = 200 << 20; // what any process takes
    int drawn = 0, previews = 0;
    r.on_preview = count_preview;
    r.preview_every = 1;
    r.user = &previews;
    while (high - low > 20000) {
        calo_images *images;
        o.max_memory = low + (high - low) / 2;
        close_models(&p);
        open_models(&p, &o);
        r.refiner = p.model[REFINER];
        calo_status s = calo_txt2img(p.model[BASE], &r, &images);
        if (s) {
            cr_assert_eq(s, CALO_ERR_USAGE, "%s", calo_message(p.ctx));
            cr_expect_not_null(strstr(calo_message(p.ctx), "of memory at least (the "));
            low = o.max_memory;
        } else {
            cr_expect(same(calo_images_at(images, 0), calo_images_at(want, 0)));
            high = o.max_memory;
            drawn++;
        }
        calo_images_free(images);
    }
    cr_expect_gt(drawn, 3);
    cr_expect(low < least && least <= high, "%llu foretold, found between %llu and %llu",
              (unsigned long long)least, (unsigned long long)low, (unsigned long long)high);
    r.refiner_switch_at = 1;
    foretold(&p, &r, &refiners);
    cr_expect_eq(refiners, 0, "it leads no step");
    cr_expect_eq(previews, 3 * drawn);
    calo_images_free(want);
    end(&p);
}

static void expect_refused(const pair *p, const calo_txt2img_request *r, calo_status code, const char *why) {
    calo_images *images = NULL;
    cr_expect_eq(calo_txt2img(p->model[BASE], r, &images), code, "%s", why);
    cr_expect_not_null(strstr(calo_message(p->ctx), why), "'%s' is not in: %s", why, calo_message(p->ctx));
    calo_images_free(images);
}

static void expect_no_pair(const char *base, const char *base_schedule, const char *refiner,
                           const char *refiner_schedule, const char *why) {
    pair p;
    begin_with(&p, base, base_schedule, refiner, refiner_schedule);
    static uint8_t rgb[32 * 32 * 3];
    calo_image picture = {.size = sizeof picture, .width = 32, .height = 32, .rgb = rgb};
    calo_txt2img_request r = request(&p);
    r.init_image = &picture;
    if (!strcmp(base, "inpaint")) r.mask = &picture;
    expect_refused(&p, &r, CALO_ERR_USAGE, why);
    end(&p);
}

Test(refiner, models_that_do_not_go_together_are_refused_by_name) {
    expect_no_pair("sdxl", "eps", "sd", "eps", "its latents are scaled by 0.18215, those of ");
    expect_no_pair("sd", "eps", "refiner", "eps", "its latents are scaled by 0.13025, those of ");
    expect_no_pair("sd", "eps", "inpaint", "eps", "a UNet from 9 to 4 channels cannot refine latents of 4");
    expect_no_pair("inpaint", "eps", "sd", "eps", "a model that inpaints or edits takes no refiner");
    expect_no_pair("edit", "eps", "sd", "eps", "a model that inpaints or edits takes no refiner");
    expect_no_pair("sdxl", "v", "refiner", "eps", "one ends at zero SNR");
    pair p, other;
    begin(&p);
    begin(&other);
    calo_txt2img_request r = request(&p);
    r.refiner_switch_at = 1.1;
    expect_refused(&p, &r, CALO_ERR_USAGE, "a switch to the refiner at 1.1 of the steps");
    r.refiner_switch_at = NAN;
    expect_refused(&p, &r, CALO_ERR_USAGE, "a switch to the refiner at nan of the steps");
    r = request(&other);
    expect_refused(&p, &r, CALO_ERR_USAGE, "another context");
    end(&other);
    end(&p);
}

// Models of one family may follow each other whatever they predict, and the schedule's word is for both.
Test(refiner, models_of_one_kind_follow_each_other) {
    pair p;
    begin_with(&p, "sd", "eps", "sd", "v");
    calo_txt2img_request r = request(&p);
    r.zero_snr = CALO_ZERO_SNR_OFF;
    calo_images_free(draw(&p, &r));
    r.zero_snr = CALO_ZERO_SNR_ON;
    expect_refused(&p, &r, CALO_ERR_USAGE, "zero");
    r.prediction = CALO_PREDICT_V; // of the first model
    calo_images_free(draw(&p, &r));
    end(&p);
}

Test(refiner, what_is_wrong_with_it_is_said_before_the_first_step) {
    pair p;
    begin(&p);
    char path[700];
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", p.dir[REFINER]);
    cr_assert_eq(remove(path), 0);
    calo_txt2img_request r = request(&p);
    int previews = 0;
    r.on_preview = count_preview;
    r.preview_every = 1;
    r.user = &previews;
    expect_refused(&p, &r, CALO_ERR_NOINPUT, "/refiner/unet");
    cr_expect_eq(previews, 0);
    end(&p);
}

Test(refiner, a_nan_in_it_is_told_with_its_step) {
    pair p;
    begin(&p);
    tiny_model_spoil(p.dir[REFINER], "unet", "mid_block.resnets.0.conv1.weight", INFINITY);
    calo_txt2img_request r = request(&p);
    expect_refused(&p, &r, CALO_ERR_DATA, "is not a number after step 3 of 4");
    end(&p);
}

Test(refiner, the_pictures_file_names_it) {
    pair p;
    begin(&p);
    calo_txt2img_request r = request(&p);
    calo_images *images = draw(&p, &r);
    const calo_image *im = calo_images_at(images, 0);
    const char *at = strstr(im->parameters, ", Refiner: refiner [");
    cr_assert_not_null(at, "%s", im->parameters);
    cr_expect_eq(strspn(at + 20, "0123456789abcdef"), 10);
    cr_expect_not_null(strstr(at, "], Refiner switch at: 0.5, Refiner switch by sampling steps: True, "),
                       "%s", at);
    cr_expect_not_null(strstr(im->json, "\"refiner\":\"refiner\",\"refiner_switch_at\":0.5"), "%s", im->json);
    cr_expect_not_null(strstr(im->json, "\"refiner_sha256\":\""), "%s", im->json);
    calo_images_free(images);
    r.refiner = NULL;
    images = draw(&p, &r);
    cr_expect_null(strstr(calo_images_at(images, 0)->parameters, "efiner"));
    cr_expect_null(strstr(calo_images_at(images, 0)->json, "efiner"));
    calo_images_free(images);
    end(&p);
}

// ---- the program

static void begin_shell(void) {
    char dir[512], command[1200];
    shell_begin();
    tiny_model_write("sdxl", "eps", dir, sizeof dir);
    snprintf(command, sizeof command, "mv '%s' \"$D/base\"", dir);
    expect(command, 0, NULL, NULL);
    tiny_model_remove(dir);
    tiny_model_write("refiner", "eps", dir, sizeof dir);
    snprintf(command, sizeof command, "mv '%s' \"$D/fine\"", dir);
    expect(command, 0, NULL, NULL);
    tiny_model_remove(dir);
}

TestSuite(refiner_runs, .init = begin_shell, .fini = shell_end, .timeout = 600);

Test(refiner_runs, a_picture_is_repeated) {
    expect("cd \"$D\" && $C txt2img -q -m base -p 'a [boat|house]' --steps 4 -s 3 --refiner fine "
           "--refiner-switch-at "
           "0.3 -o a.png && $C txt2img -q -m base --from a.png --refiner fine -o b.png && cmp a.png b.png",
           0, NULL, NULL);
    expect("cd \"$D\" && $C txt2img -m base --from a.png -o c.png", 65, NULL, "name it with --refiner");
    expect("cd \"$D\" && $C txt2img -m base --from a.png --refiner base -o c.png", 0, NULL,
           "was made with the refiner");
    expect("cd \"$D\" && $C txt2img -q -m base -p b --steps 2 -s 3 -o plain.png && CALOTYPE_REFINER=fine $C "
           "txt2img "
           "-q -m base --from plain.png -o again.png && cmp plain.png again.png",
           0, NULL, NULL);
    expect("cd \"$D\" && $C txt2img -m base -p b --refiner none -o c.png --force", 66, NULL, "none");
    expect("cd \"$D\" && $C txt2img -m fine -p b --steps 1 -o d.png", 0, NULL, "is a refiner");
    expect("cd \"$D\" && $C txt2img -m fine -i a.png -p b --steps 2 -o e.png 2>&1 | grep 'is a refiner'", 1,
           NULL, NULL);
}

Test(refiner_runs, a_folder_says_what_it_is_for) {
    expect("$C inspect \"$D/fine\"", 0, "the last steps of an SDXL model's picture (--refiner)", NULL);
    expect("$C inspect \"$D/base\" | grep refiner", 1, NULL, NULL);
}

Test(refiner_runs, jobs_name_theirs) {
    expect("cd \"$D\" && echo a > one && $C batch -q -m base one -o no --refiner none; test $? = 66 && ls "
           "no/manifest.jsonl",
           2, NULL, "none/model_index.json");
    // Those that name the same one are drawn together.
    expect("cd \"$D\" && printf '%s\\n' '{\"prompt\":\"a\",\"id\":\"a\",\"refiner\":\"fine\"}' "
           "'{\"prompt\":\"b\",\"id\":\"b\",\"refiner\":\"fine\"}' '{\"prompt\":\"a\",\"id\":\"c\"}' "
           "'{\"prompt\":\"a\",\"id\":\"d\",\"refiner\":\"base\"}' "
           "'{\"prompt\":\"a\",\"id\":\"e\",\"refiner\":\"no\"}' "
           "'{\"prompt\":\"a\",\"id\":\"f\",\"refiner\":\"fine\",\"refiner-switch-at\":0}' > jobs.jsonl; $C "
           "batch -q -m "
           "base jobs.jsonl -o drawn --steps 2 --seed 5",
           1, NULL, "line 5: no");
    expect(
        "cd \"$D\" && for j in 'a a --refiner fine' 'c a' 'd a --refiner base' 'f a --refiner fine "
        "--refiner-switch-at 0'; do set -- $j; id=$1; shift; $C txt2img -q -m base -p \"$@\" --steps 2 -s 5 "
        "-o x.png --force && cmp x.png drawn/$id.png || exit 9; done; ls drawn | grep -c png",
        0, "5", NULL);
}
