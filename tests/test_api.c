// The library as a program uses it: determinism, limits, refusals, other versions' programs, single networks.
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "tests/fixture.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

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

// ---- what is refused

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
    r = calo_txt2img_defaults();
    r.hires_scale = 1.5;
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

// ---- programs that are older or newer than the library

// Padding at the end would let a new field overlap what an old program never wrote.
#define ENDS_WITH(TYPE, FIELD)                                                                               \
    _Static_assert(offsetof(TYPE, FIELD) + sizeof(((TYPE *)0)->FIELD) == sizeof(TYPE), #TYPE)
ENDS_WITH(calo_context_options, max_memory);
ENDS_WITH(calo_txt2img_request, forget);
ENDS_WITH(calo_image, json);
// reserved stands where padding would.
ENDS_WITH(calo_save_options, reserved);
ENDS_WITH(calo_train_request, user);
ENDS_WITH(calo_train_event, reserved);

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

Test(api, the_model_that_comes_along_says_how_it_is_drawn_best) {
    fixture f;
    calo_model *m;
    calo_model_advice a = {.size = sizeof a};
    begin(&f, "sd", "eps");
    cr_assert_eq(calo_model_open(f.ctx, "assets/talbot", &m), CALO_OK, "%s", calo_message(f.ctx));
    cr_assert_eq(calo_model_advise(m, &a), CALO_OK);
    cr_expect(a.steps == 12 && a.cfg_scale == 2 && !a.distilled, "%d steps, guidance %g", a.steps,
              a.cfg_scale);
    calo_model_free(m);
    cr_assert_eq(calo_model_advise(f.model, &a), CALO_OK);
    cr_expect(a.steps == 20 && a.cfg_scale == 7, "%d steps, guidance %g", a.steps, a.cfg_scale);
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
