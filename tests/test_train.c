// Training: parts against plain calculation and torch, whole runs on tiny networks.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/files/safetensors.h"
#include "core/train/checkpoint.h"
#include "core/train/folder.h"
#include "core/train/optimizer.h"
#include "core/train/order.h"
#include "core/train/recipe.h"
#include "core/train/train.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static error err;
static char dir[64]; // of one test

static void setup(void) {
    snprintf(dir, sizeof dir, "%s/calotype-train-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    cr_assert_not_null(mkdtemp(dir));
    err = (error){0};
}

static void teardown(void) { remove_tree(dir); }

TestSuite(train, .init = setup, .fini = teardown);

// "DIR/…"; each call another buffer of four.
static const char *at(const char *fmt, ...) {
    static char room[4][300];
    static int turn;
    char *p = room[turn++ % 4];
    va_list args;
    int n = snprintf(p, sizeof room[0], "%s/", dir);
    va_start(args, fmt);
    vsnprintf(p + n, sizeof room[0] - (size_t)n, fmt, args);
    va_end(args);
    return p;
}

static void put(const char *path, const char *text) {
    cr_assert_eq(fs_write_atomic(path, text, strlen(text), true, &err), OK, "%s", err.text);
}

// ---- optimiser

static const float *golden(const tensor_file *st, const char *name, float *room, size_t n) {
    const tensor_entry *t = tensor_file_find(st, name);
    cr_assert(t && t->count == n);
    cr_assert_eq(tensor_file_read_f32(st, t, 0, n, room, &err), OK, "%s", err.text);
    return room;
}

static double distance(const float *a, const float *b, size_t n) {
    double d = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        d += (a[i] - b[i]) * (double)(a[i] - b[i]);
        size += b[i] * (double)b[i];
    }
    return sqrt(d / size);
}

// Clipping divides by the norm where torch divides by the norm + 1e-6, and all is f32: rounding of some ten
// steps.
Test(train, updates_equal_torchs_adamw) {
    enum { STEPS = 12, A = 15, B = 37 };
    static const optimizer_config c = {.lr = 0.05,
                                       .lr_end = 0.001,
                                       .beta1 = 0.9,
                                       .beta2 = 0.99,
                                       .eps = 1e-8,
                                       .weight_decay = 0.02,
                                       .clip = 3.5,
                                       .ema = 0.5,
                                       .warmup = 3,
                                       .steps = STEPS};
    float ga[STEPS * A], gb[STEPS * B], va[STEPS * A], vb[STEPS * B], norms[STEPS], ema = 0;
    tensor_file *st = tensor_file_open("tests/golden/adamw.safetensors", &err);
    cr_assert_not_null(st, "%s", err.text);
    params *p = params_new(1);
    const weights *w = params_training(p);
    cr_assert(w->create(w, "a.weight", SHAPE(3, 5)) && w->create(w, "b.weight", SHAPE(37)));
    param *a = params_at(p, 0), *b = params_at(p, 1);
    golden(st, "start.a", a->w.value, A);
    golden(st, "start.b", b->w.value, B);
    params_seal(p);
    golden(st, "gradient.a", ga, STEPS * A);
    golden(st, "gradient.b", gb, STEPS * B);
    golden(st, "value.a", va, STEPS * A);
    golden(st, "value.b", vb, STEPS * B);
    golden(st, "norm", norms, STEPS);
    ema = a->w.value[0];
    for (int i = 0; i < STEPS; i++) {
        const float *gradient[] = {ga + i * A, gb + i * B};
        double norm, keep = fmin(0.5, (1.0 + i) / (10.0 + i));
        cr_assert_eq(optimizer_step(p, gradient, &c, i, i, NULL, &norm, &err), OK);
        cr_expect_float_eq(norm, norms[i], 1e-5 * norms[i]);
        cr_expect_lt(distance(a->w.value, va + i * A, A), 1e-5);
        cr_expect_lt(distance(b->w.value, vb + i * B, B), 1e-5);
        ema = (float)(keep * ema + (1 - keep) * a->w.value[0]);
        cr_expect_float_eq(a->ema[0], ema, 1e-5);
    }
    tensor_file_close(st);
    params_free(p);
}

Test(train, a_gradient_that_is_no_number_changes_nothing) {
    params *p = params_new(1);
    const weights *w = params_training(p);
    cr_assert_not_null(w->create(w, "some.weight", SHAPE(2, 2)));
    params_seal(p);
    float g[4] = {1, NAN, 1, 1}, before = params_at(p, 0)->w.value[0];
    const float *gradient[] = {g};
    double norm;
    optimizer_config c = {.lr = 1, .steps = 10};
    cr_expect_eq(optimizer_step(p, gradient, &c, 0, 0, NULL, &norm, &err), ERR_DATA);
    cr_expect(strstr(err.text, "some.weight"), "%s", err.text);
    cr_expect_eq(params_at(p, 0)->w.value[0], before);
    params_free(p);
}

Test(train, starting_values_follow_from_seed_and_name) {
    params *p = params_new(5), *q = params_new(5);
    const weights *w = params_training(p), *v = params_training(q);
    v->create(v, "x.linear.weight", SHAPE(8, 4)); // another order
    for (int i = 0; i < 2; i++) {
        const weights *in = i ? v : w;
        in->create(in, "unet.down_blocks.0.resnets.0.conv2.weight", SHAPE(4, 4, 3, 3));
        in->create(in, "unet.conv_norm_out.weight", SHAPE(4));
        in->create(in, "text_encoder.text_model.embeddings.token_embedding.weight", SHAPE(500, 64));
        in->create(in, "x.linear.weight", SHAPE(8, 4));
    }
    cr_expect_eq(params_at(p, 0)->w.value[7], 0);
    cr_expect_eq(params_at(p, 1)->w.value[3], 1);
    double squares = 0;
    for (int i = 0; i < 32000; i++) squares += pow(params_at(p, 2)->w.value[i], 2);
    cr_expect_float_eq(sqrt(squares / 32000), 1, 0.02); // 5 deviations of its own: 1/√(2·32000)·5
    const float *a = params_find(p, "x.linear.weight")->w.value, *b = params_at(q, 0)->w.value;
    for (int i = 0; i < 32; i++) {
        cr_expect_eq(a[i], b[i]);
        cr_expect_leq(fabsf(a[i]), 0.5); // 1/√4
    }
    cr_expect_neq(a[0], a[1]);
    params_free(p);
    params_free(q);
}

// ---- order

Test(train, an_epoch_shows_every_sample_of_every_bucket) {
    const uint64_t count[] = {13, 0, 5};
    order o = {.seed = 3, .batch = 4, .n_buckets = 3, .count = count};
    int differs = 0;
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        int seen[3][16] = {0};
        for (uint64_t i = 0; i < 4 + 2; i++) { // ⌈13/4⌉ + ⌈5/4⌉ batches
            order_batch b = order_batch_at(&o, epoch * 6 + i);
            cr_assert_eq(b.epoch, epoch);
            for (int k = 0; k < 4; k++) seen[b.bucket][order_sample(&o, &b, k)]++;
            order_batch first = order_batch_at(&o, i);
            differs += order_sample(&o, &b, 0) != order_sample(&o, &first, 0);
        }
        for (int i = 0; i < 13; i++) cr_expect(seen[0][i] >= 1 && seen[0][i] <= 2);
        for (int i = 0; i < 5; i++) cr_expect(seen[2][i] >= 1 && seen[2][i] <= 2);
    }
    cr_expect_gt(differs, 0);
}

// ---- configuration

static status parse(train_config *c, const char *text) {
    status s = train_config_parse(c, "c.json", text, strlen(text), &err);
    if (s) train_config_free(c);
    return s;
}

Test(train, stages_override_what_the_file_says_for_all) {
    train_config c;
    const char *text =
        "{\"batch\": 8, \"lr\": 0.5, \"prompts\": [\"a\", \"b\"], \"stages\": [{\"samples\": 100},"
        "{\"batch\": 4, \"size\": \"32x16,8x8\", \"data\": \"x\"}]}";
    cr_assert_eq(parse(&c, text), OK, "%s", err.text);
    cr_expect_eq(c.n_stages, 2);
    cr_expect(c.stage[0].batch == 8 && c.stage[0].samples == 100 && c.stage[0].lr == 0.5);
    cr_expect(c.stage[1].batch == 4 && c.stage[1].samples == 100000 && c.stage[1].n_sizes == 2);
    cr_expect(c.stage[1].sizes[0].W == 32 && c.stage[1].sizes[0].H == 16);
    cr_expect_str_eq(c.stage[1].data, "x");
    cr_expect(c.n_prompts == 2 && !strcmp(c.prompts[1], "b"));
    train_config_free(&c);
}

Test(train, a_wrong_configuration_is_told_by_its_key) {
    static const struct {
        const char *text, *told;
    } wrong[] = {
        {"{\"bacth\": 8}", "bacth"},
        {"{\"batch\": 0}", "batch"},
        {"{\"precision\": \"f16\"}", "precision"},
        {"{\"size\": \"64\"}", "size"},
        {"{\"size\": \"64x64,\"}", "size"},
        {"{\"lr\": \"fast\"}", "lr"},
        {"{\"stages\": []}", "stages"},
        {"{\"stages\": [{\"seed\": 3}]}", "seed"},
        {"{\"stages\": [3]}", "stage"},
        {"{\"prompts\": [3]}", "prompts"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        train_config c;
        cr_expect_eq(parse(&c, wrong[i].text), ERR_DATA, "%s", wrong[i].text);
        cr_expect(strstr(err.text, wrong[i].told), "%s: %s", wrong[i].text, err.text);
    }
}

Test(train, every_key_has_default_range_and_help) {
    train_key_room room;
    int n = 0;
    for (const train_key *k; (k = train_key_at(n, &room)); n++)
        cr_expect(*k->name && k->otherwise && *k->range && strlen(k->help) > 5, "%s", k->name);
    cr_expect_gt(n, 30);
    cr_expect_null(train_key_at(-1, &room));
}

// ---- a tiny model and data

static void make_model(void) { tiny_autoencoder_write(at("model")); }

// A disc of one of three colours.
static void make_picture(const char *path, int i, int W, int H) {
    image im = {0};
    cr_assert_eq(image_alloc(&im, W, H, 3, &err), OK);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            double r = hypot(x - W / 2.0 + i % 3, y - H / 2.0);
            for (int c = 0; c < 3; c++) im.px[3 * (y * W + x) + c] = r < W / 4.0 && c == i % 3 ? 230 : 30;
        }
    cr_assert_eq(image_save(path, &im, &(image_options){.format = IMAGE_PNG}, true, &err), OK, "%s",
                 err.text);
    image_free(&im);
}

static void make_data(int n) {
    static const char *const colour[] = {"red", "green", "blue"};
    cr_assert_eq(fs_mkdirs(at("data"), &err), OK);
    for (int i = 0; i < n; i++) {
        char text[40];
        snprintf(text, sizeof text, " a %s disc\n", colour[i % 3]);
        make_picture(at("data/%02d.png", i), i, 20, 16);
        put(at("data/%02d.txt", i), text);
    }
}

static const char VAE_KEYS[] =
    "\"size\": \"16x16\", \"samples\": 48, \"batch\": 4, \"lr\": 5e-3, \"warmup\": 2,"
    "\"checkpoint_every\": 4, \"grid_every\": 0, \"log_every\": 4, \"threads\": 1";

// Runs with "out", "model" and "data" in the test's folder and these further keys.
static status run_in(const char *out, const char *keys, train_kind kind, bool resume, train_hooks hooks) {
    char text[2000];
    train_config c;
    snprintf(text, sizeof text, "{\"model\": \"%s\", \"data\": \"%s\", \"out\": \"%s\", %s}", at("model"),
             at("data"), at("%s", out), keys);
    status s = train_config_parse(&c, "config", text, strlen(text), &err);
    c.kind = kind;
    c.resume = resume;
    if (!s) s = train_run(&c, &hooks, &err);
    train_config_free(&c);
    return s;
}

static char *content(const char *path) {
    char *text = NULL;
    size_t n;
    cr_assert_eq(fs_read_file(path, 1 << 24, &text, &n, &err), OK, "%s", err.text);
    return text;
}

static void expect_same_file(const char *a, const char *b) {
    char *x = content(a), *y = content(b);
    cr_expect_str_eq(x, y);
    mem_free(x);
    mem_free(y);
}

// ---- folders

static status open_data(sample_source *source, bool skip) {
    static const source_size sizes[] = {{16, 16}, {32, 16}};
    folder_options o = {.sizes = sizes, .n_sizes = 2, .captions = true, .skip_bad = skip};
    return folder_open(at("data"), &o, source, &err);
}

Test(train, a_folder_gives_pictures_captions_and_buckets) {
    sample_source s;
    uint8_t rgb[32 * 16 * 3];
    char text[SOURCE_CAPTION_MAX];
    make_data(3);
    make_picture(at("data/03.png"), 0, 50, 25);
    put(at("data/03.txt"), "wide");
    cr_assert_eq(open_data(&s, false), OK, "%s", err.text);
    cr_expect_eq(s.count, 4);
    cr_expect(s.bucket(s.self, 0) == 0 && s.bucket(s.self, 3) == 1);
    cr_assert_eq(s.caption(s.self, 1, 0, text, &err), OK);
    cr_expect_str_eq(text, "a green disc");
    // 20 × 16 to 16 × 16: two columns cut off at each side, nothing is resized
    image im = {0};
    cr_assert_eq(image_load(at("data/01.png"), &im, &err), OK);
    cr_assert_eq(s.picture(s.self, 1, 16, 16, rgb, NULL, &err), OK, "%s", err.text);
    for (int y = 0; y < 16; y++) cr_expect_arr_eq(rgb + y * 48, im.px + y * 60 + 6, 48);
    image_free(&im);
    cr_expect_eq(s.picture(s.self, 3, 32, 16, rgb, NULL, &err), OK, "%s", err.text);
    source_free(&s);
}

Test(train, a_list_of_images_may_name_only_what_is_below_the_folder) {
    sample_source s;
    make_data(2);
    put(at("data/metadata.jsonl"), "{\"file_name\": \"01.png\", \"text\": \"one\"}\n\n");
    cr_assert_eq(open_data(&s, false), OK, "%s", err.text);
    cr_expect_eq(s.count, 1);
    source_free(&s);
    static const char *const bad[] = {"{\"file_name\": \"../x.png\", \"text\": \"\"}",
                                      "{\"file_name\": \"/etc/passwd\", \"text\": \"\"}",
                                      "{\"file_name\": \"01.png\"}",
                                      "{\"text\": \"one\"}",
                                      "[]",
                                      "{\"file_name\": \"02.png\", \"text\": \"\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put(at("data/metadata.jsonl"), bad[i]);
        status code = open_data(&s, false);
        cr_expect(code == ERR_DATA || code == ERR_NOINPUT, "%s", bad[i]);
        cr_expect(strstr(err.text, dir), "%s", err.text);
    }
}

Test(train, bad_samples_are_errors_or_counted) {
    sample_source s;
    make_data(4);
    cr_assert_eq(unlink(at("data/02.txt")), 0);
    cr_expect_eq(open_data(&s, false), ERR_DATA);
    cr_expect(strstr(err.text, "02.txt is missing"), "%s", err.text);
    put(at("data/01.png"), "\x89PNG\r\n\x1a\n and nothing more");
    cr_expect_eq(open_data(&s, false), ERR_DATA);
    cr_expect(strstr(err.text, "01.png"), "%s", err.text);
    cr_assert_eq(open_data(&s, true), OK, "%s", err.text);
    cr_expect_eq(s.count, 2);
    source_free(&s);
}

Test(train, an_empty_or_missing_folder_is_told) {
    sample_source s;
    cr_expect_eq(open_data(&s, true), ERR_NOINPUT);
    cr_assert_eq(fs_mkdirs(at("data"), &err), OK);
    cr_expect_eq(open_data(&s, true), ERR_DATA);
    cr_expect(strstr(err.text, "no usable image"), "%s", err.text);
}

// ---- whole runs

// Loss of line `number` of a run's record.
static double loss_at(const char *out, int number) {
    char *text = content(at("%s/loss.csv", out)), *line = text;
    for (int i = 0; i <= number && line; i++) line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL;
    long long step = -1, samples;
    double loss = NAN;
    if (line) sscanf(line, "%lld,%lld,%lf", &step, &samples, &loss);
    mem_free(text);
    cr_expect_eq(step, number);
    return loss;
}

Test(train, an_autoencoder_learns_and_leaves_a_model) {
    make_model();
    make_data(9);
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    cr_expect_lt(loss_at("run", 11), 0.8 * loss_at("run", 0));
    cr_expect(fs_exists(at("run/loss.png")));
    cr_expect(fs_exists(at("run/model/vae/diffusion_pytorch_model.safetensors")));
    cr_expect(fs_exists(at("run/model/model_index.json")));
    cr_expect(fs_exists(at("run/samples/step-0000000012.png")));
}

typedef struct {
    int left; // updates until the stop
    bool kill;
} stopper;

static bool stop_soon(void *user) {
    stopper *s = user;
    if (--s->left > 0) return false;
    if (s->kill) kill(getpid(), SIGKILL);
    return true;
}

Test(train, a_stopped_run_goes_on_bit_for_bit) {
    make_model();
    make_data(9);
    cr_assert_eq(run_in("whole", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    stopper stop = {.left = 6};
    train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
    cr_assert_eq(run_in("parts", VAE_KEYS, TRAIN_VAE, false, hooks), ERR_CANCELLED);
    cr_assert_eq(run_in("parts", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), ERR_CANTCREAT);
    cr_assert_eq(run_in("parts", VAE_KEYS, TRAIN_VAE, true, (train_hooks){0}), OK, "%s", err.text);
    expect_same_file(at("whole/loss.csv"), at("parts/loss.csv"));
}

Test(train, a_killed_run_goes_on_bit_for_bit) {
    make_model();
    make_data(9);
    pid_t child = fork();
    if (!child) {
        stopper stop = {.left = 7, .kill = true};
        run_in("parts", VAE_KEYS, TRAIN_VAE, false, (train_hooks){.user = &stop, .cancelled = stop_soon});
        _exit(1);
    }
    int how;
    cr_assert_eq(waitpid(child, &how, 0), child);
    cr_assert(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    loss_at("parts", 6); // the record is three updates ahead of the checkpoint
    cr_assert_eq(run_in("parts", VAE_KEYS, TRAIN_VAE, true, (train_hooks){0}), OK, "%s", err.text);
    cr_assert_eq(run_in("whole", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    expect_same_file(at("whole/loss.csv"), at("parts/loss.csv"));
}

Test(train, another_number_of_threads_must_be_allowed) {
    make_model();
    make_data(9);
    stopper stop = {.left = 3};
    train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, false, hooks), ERR_CANCELLED);
    char keys[400];
    snprintf(keys, sizeof keys, "%.*s2", (int)strlen(VAE_KEYS) - 1, VAE_KEYS); // "threads": 2
    cr_assert_eq(run_in("run", keys, TRAIN_VAE, true, (train_hooks){0}), ERR_DATA);
    cr_expect(strstr(err.text, "2 threads") && strstr(err.text, "--ignore-machine"), "%s", err.text);
}

// Stops after three of twelve updates, then resumes with these keys in place of the run's own.
static status resume_with(const char *keys) {
    stopper stop = {.left = 3};
    train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, false, hooks), ERR_CANCELLED);
    char changed[1000];
    snprintf(changed, sizeof changed, "%s, %s", VAE_KEYS, keys);
    return run_in("run", changed, TRAIN_VAE, true, (train_hooks){0});
}

Test(train, a_changed_configuration_must_be_allowed) {
    make_model();
    make_data(9);
    cr_assert_eq(resume_with("\"stages\": [{\"lr\": 0.25}], \"seed\": 7"), ERR_DATA);
    cr_expect(strstr(err.text, "\"seed\": 1, now 7; \"lr\" of stage 1: 0.005, now 0.25") &&
                  strstr(err.text, "--ignore-config"),
              "%s", err.text);
}

Test(train, what_no_loss_depends_on_may_change) {
    make_model();
    make_data(9);
    cr_assert_eq(
        resume_with("\"keep\": 5, \"save_as\": \"F16\", \"stages\": [{}, {\"samples\": 8, \"lr\": 1}]"), OK,
        "%s", err.text);
    loss_at("run", 13); // twelve updates of the first stage, two of the other
}

Test(train, a_finished_run_is_extended_by_a_stage) {
    make_model();
    make_data(9);
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    char keys[1000];
    snprintf(keys, sizeof keys, "%s, \"stages\": [{}, {\"samples\": 8}]", VAE_KEYS);
    cr_assert_eq(run_in("run", keys, TRAIN_VAE, true, (train_hooks){0}), OK, "%s", err.text);
    loss_at("run", 13);
    snprintf(keys, sizeof keys, "%s, \"stages\": [{}, {\"samples\": 12}]", VAE_KEYS);
    cr_assert_eq(run_in("run", keys, TRAIN_VAE, true, (train_hooks){0}), ERR_DATA);
    cr_expect(strstr(err.text, "\"samples\" of stage 2: 8, now 12"), "%s", err.text);
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, true, (train_hooks){0}), ERR_DATA);
    cr_expect(strstr(err.text, "stage"), "%s", err.text);
}

// Overwrites the last value of the newest checkpoint, one of the parameters, with a NaN.
static void spoil(const char *path) {
    float nan = NAN;
    FILE *f = fopen(path, "r+b");
    cr_assert(f && !fseek(f, -4, SEEK_END) && fwrite(&nan, sizeof nan, 1, f) == 1 && !fclose(f));
}

Test(train, a_loss_that_is_no_number_stops_the_run) {
    make_model();
    make_data(9);
    stopper stop = {.left = 3};
    train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, false, hooks), ERR_CANCELLED);
    spoil(at("run/checkpoints/step-0000000003.safetensors"));
    cr_assert_eq(run_in("run", VAE_KEYS, TRAIN_VAE, true, (train_hooks){0}), ERR_DATA);
    cr_expect_str_eq(err.text, "update 3: the loss is not a number");
    char *latest = checkpoint_latest(at("run/checkpoints"));
    cr_expect_str_eq(fs_basename(latest), "step-0000000003.safetensors");
    mem_free(latest);
}

// mean (w·x)², where x is 1, and in update 5 NaN.
static status step_enter(void *self, error *e) { return (void)self, (void)e, OK; }
static int step_variant(void *self, int64_t pass) { return (void)self, (void)pass, 0; }

static node *step_loss(void *self, graph *g, int variant) {
    (void)self, (void)variant;
    node *x = graph_input(g, "x", SHAPE(1, 4), DT_F32, RATE_STEP);
    return mean_all(unary(linear(x, "w", 2, false), UNARY_SQUARE));
}

static status step_fill(void *self, exec *e, int variant, int64_t pass, error *unused) {
    float *x = exec_input(e, "x");
    (void)self, (void)variant, (void)unused;
    for (int i = 0; i < 4; i++) x[i] = pass == 5 ? NAN : 1;
    return OK;
}

static status step_leave(void *self, const char *path, error *e) {
    return (void)self, (void)path, (void)e, OK;
}

static status step_recipe(recipe *r, train_context *context, error *e) {
    (void)context, (void)e;
    *r = (recipe){.kind = "steps",
                  .enter = step_enter,
                  .variant = step_variant,
                  .loss = step_loss,
                  .fill = step_fill,
                  .grid = step_leave,
                  .finish = step_leave};
    return OK;
}

Test(train, updates_before_a_nan_are_kept) {
    char text[600];
    for (int again = 0; again < 2; again++) {
        train_config c;
        snprintf(text, sizeof text, "{\"out\": \"%s\", \"checkpoint_every\": 2, \"keep\": 1, \"threads\": 1}",
                 at("run"));
        cr_assert_eq(train_config_parse(&c, "config", text, strlen(text), &err), OK, "%s", err.text);
        c.resume = again;
        cr_expect_eq(train_recipe(&c, &(train_hooks){0}, step_recipe, &err), ERR_DATA);
        cr_expect_str_eq(err.text,
                         again ? "update 5: the loss is not a number"
                               : "update 5: the loss is not a number; the updates before it are saved");
        cr_expect(fs_exists(at("run/checkpoints/step-0000000004.safetensors")));
        cr_expect(fs_exists(at("run/checkpoints/step-0000000005.safetensors")));
        train_config_free(&c);
    }
    loss_at("run", 4);
}

static bool fill_disk(void *user) {
    stopper *s = user;
    if (--s->left == 0) setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
    return false;
}

Test(train, a_full_disk_loses_nothing) {
    make_model();
    make_data(9);
    pid_t child = fork();
    if (!child) {
        signal(SIGXFSZ, SIG_IGN);
        stopper stop = {.left = 6};
        status s =
            run_in("parts", VAE_KEYS, TRAIN_VAE, false, (train_hooks){.user = &stop, .cancelled = fill_disk});
        _exit(s == ERR_TEMP && strstr(err.text, "step-0000000008") ? 7 : 1);
    }
    int how;
    cr_assert_eq(waitpid(child, &how, 0), child);
    cr_expect(WIFEXITED(how) && WEXITSTATUS(how) == 7);
    cr_assert_eq(run_in("parts", VAE_KEYS, TRAIN_VAE, true, (train_hooks){0}), OK, "%s", err.text);
    cr_assert_eq(run_in("whole", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    expect_same_file(at("whole/loss.csv"), at("parts/loss.csv"));
}

// Whether two finished components, folders of the test, hold the same values of a tensor.
static bool same_tensor(const char *one, const char *other, const char *name) {
    static const char file[] = "diffusion_pytorch_model.safetensors";
    float x[8 * 16 * 9], y[8 * 16 * 9];
    tensor_file *a = tensor_file_open(at("%s/%s", one, file), &err),
                *b = tensor_file_open(at("%s/%s", other, file), &err);
    cr_assert(a && b, "%s", err.text);
    const tensor_entry *t = tensor_file_find(a, name), *u = tensor_file_find(b, name);
    cr_assert(t && u && t->count == u->count && t->count <= sizeof x / sizeof *x);
    cr_assert_eq(tensor_file_read_f32(a, t, 0, t->count, x, &err), OK);
    cr_assert_eq(tensor_file_read_f32(b, u, 0, t->count, y, &err), OK);
    bool same = !memcmp(x, y, t->count * sizeof *x);
    tensor_file_close(a);
    tensor_file_close(b);
    return same;
}

// Sizes of latent channels that a run's log tells of.
static void note_size(void *user, log_level level, const char *text) {
    double *size = user;
    (void)level;
    sscanf(text, "latent channel 0: mean %*f, size %lf", &size[0]);
    sscanf(text, "latent channel 1: mean %*f, size %lf", &size[1]);
}

// What is folded into the finished model makes the latents as large as unit noise, what they are drawn with
// included: a run that changes nothing finds 1.
Test(train, latents_have_unit_size) {
    double size[2] = {0};
    log_sink log = {note_size, size, LOG_LEVEL_INFO};
    char keys[1000];
    make_model();
    make_data(9);
    cr_assert_eq(run_in("first", VAE_KEYS, TRAIN_VAE, false, (train_hooks){.log = &log}), OK, "%s", err.text);
    cr_expect(fabs(size[0] - 1) > 0.05 || fabs(size[1] - 1) > 0.05, "%g %g", size[0], size[1]);
    snprintf(keys, sizeof keys, "%s, \"precision\": \"f32\", \"lr\": 0, \"lr_end\": 0, \"start\": \"%s\"",
             "\"size\": \"16x16\", \"samples\": 4, \"batch\": 4, \"grid_every\": 0, \"threads\": 1",
             at("first/model"));
    cr_assert_eq(run_in("second", keys, TRAIN_VAE, false, (train_hooks){.log = &log}), OK, "%s", err.text);
    cr_expect_float_eq(size[0], 1, 0.02); // the first run measured in the arithmetic it trained in
    cr_expect_float_eq(size[1], 1, 0.02);
}

// A stage of the decoder alone, behind one of both and in a run that starts from a finished model.
Test(train, a_decoder_alone_leaves_the_encoder) {
    static const char only[] = "\"samples\": 16, \"decoder_only\": true";
    static const char encoder[] = "quant_conv.weight", decoder[] = "decoder.conv_in.weight";
    char keys[1000];
    make_model();
    make_data(9);
    cr_assert_eq(run_in("both", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    snprintf(keys, sizeof keys, "%s, \"stages\": [{}, {%s}]", VAE_KEYS, only);
    cr_assert_eq(run_in("behind", keys, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    snprintf(keys, sizeof keys, "%s, \"stages\": [{%s}], \"start\": \"%s\"", VAE_KEYS, only,
             at("both/model"));
    cr_assert_eq(run_in("from", keys, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    cr_expect(same_tensor("both/model/vae", "from/model/vae", encoder));
    cr_expect_not(same_tensor("both/model/vae", "from/model/vae", decoder));
    cr_expect_not(same_tensor("behind/model/vae", "from/model/vae", decoder));
    cr_expect_lt(loss_at("behind", 15), loss_at("behind", 0));
}

// As many values in another order are not the tensor.
Test(train, a_start_of_another_shape_is_refused) {
    char command[700];
    make_model();
    make_data(9);
    cr_assert_eq(run_in("first", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    snprintf(command, sizeof command, "LC_ALL=C sed -i '1s/\\[4,3,3,3]/[3,4,3,3]/' '%s'",
             at("first/model/vae/diffusion_pytorch_model.safetensors"));
    cr_assert_eq(system(command), 0);
    snprintf(command, sizeof command, "%s, \"start\": \"%s\"", VAE_KEYS, at("first/model"));
    cr_expect_eq(run_in("second", command, TRAIN_VAE, false, (train_hooks){0}), ERR_DATA);
    cr_expect(strstr(err.text, "encoder.conv_in.weight is missing or of another shape"), "%s", err.text);
}

// ---- text to image

static void make_diffusion_model(void) {
    char here[300];
    make_model();
    cr_assert_not_null(getcwd(here, sizeof here));
    strncat(here, "/assets/talbot/tokenizer", sizeof here - strlen(here) - 1);
    cr_assert_eq(symlink(here, at("model/tokenizer")), 0);
    cr_assert_eq(fs_mkdirs(at("model/unet"), &err) | fs_mkdirs(at("model/text_encoder"), &err) |
                     fs_mkdirs(at("model/scheduler"), &err),
                 OK);
    put(at("model/scheduler/scheduler_config.json"),
        "{\"_class_name\": \"DDIMScheduler\", \"beta_schedule\": \"scaled_linear\", \"beta_start\": 0.00085,"
        " \"beta_end\": 0.012, \"prediction_type\": \"v_prediction\", \"rescale_betas_zero_snr\": true}");
    put(at("model/text_encoder/config.json"),
        "{\"architectures\": [\"CLIPTextModel\"], \"vocab_size\": 704, \"hidden_size\": 16,"
        " \"intermediate_size\": 32, \"max_position_embeddings\": 24, \"num_hidden_layers\": 1,"
        " \"num_attention_heads\": 2, \"bos_token_id\": 702, \"eos_token_id\": 703, \"pad_token_id\": 703}");
    put(at("model/unet/config.json"),
        "{\"_class_name\": \"UNet2DConditionModel\", \"in_channels\": 2, \"out_channels\": 2,"
        " \"block_out_channels\": [8, 16], \"norm_num_groups\": 4, \"layers_per_block\": 1,"
        " \"cross_attention_dim\": 16, \"attention_head_dim\": 2, \"sample_size\": 8,"
        " \"addition_embed_type\": \"text\", \"addition_embed_type_num_heads\": 2,"
        " \"resnet_time_scale_shift\": \"scale_shift\","
        " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\"],"
        " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"UpBlock2D\"]}");
}

// A trained autoencoder in the model's folder.
static void make_autoencoder(void) {
    char command[700];
    cr_assert_eq(run_in("vae", VAE_KEYS, TRAIN_VAE, false, (train_hooks){0}), OK, "%s", err.text);
    snprintf(command, sizeof command, "cp -r '%s/.' '%s'", at("vae/model/vae"), at("model/vae"));
    cr_assert_eq(system(command), 0);
}

static const char T2I_KEYS[] =
    "\"batch\": 4, \"samples\": 24, \"lr\": 3e-3, \"warmup\": 2, \"checkpoint_every\": 5, \"grid_every\": 6,"
    "\"grid_steps\": 2, \"prompts\": [\"a red circle\", \"a blue star\"], \"log_every\": 4, \"threads\": 1,"
    "\"stages\": [{\"size\": \"16x16\", \"accumulate\": 2}, {\"size\": \"16x16,24x16\"}]";

Test(train, a_text_to_image_model_learns_and_goes_on_bit_for_bit) {
    make_diffusion_model();
    make_data(9);
    make_autoencoder();
    cr_assert_eq(run_in("whole", T2I_KEYS, TRAIN_TEXT2IMG, false, (train_hooks){0}), OK, "%s", err.text);
    cr_expect(fs_exists(at("whole/model/unet/diffusion_pytorch_model.safetensors")));
    cr_expect(fs_exists(at("whole/model/text_encoder/model.safetensors")));
    cr_expect(fs_exists(at("whole/model/vae/diffusion_pytorch_model.safetensors")));
    cr_expect(fs_exists(at("whole/model/tokenizer/merges.txt")));
    cr_expect(fs_exists(at("whole/samples/step-0000000006.png")));
    cr_expect_lt(loss_at("whole", 8), loss_at("whole", 0));
    // stopped within the first stage, and again within the second
    for (int left = 2; left <= 4; left += 2) {
        stopper stop = {.left = left};
        train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
        cr_assert_eq(run_in("parts", T2I_KEYS, TRAIN_TEXT2IMG, left > 2, hooks), ERR_CANCELLED, "%s",
                     err.text);
    }
    cr_assert_eq(run_in("parts", T2I_KEYS, TRAIN_TEXT2IMG, true, (train_hooks){0}), OK, "%s", err.text);
    expect_same_file(at("whole/loss.csv"), at("parts/loss.csv"));
}

static size_t caches(const char *out) {
    char **names;
    size_t n;
    cr_assert_eq(fs_list(at("%s/cache", out), &names, &n, &err), OK, "%s", err.text);
    fs_list_free(names, n);
    return n;
}

// Latents are encoded anew where a picture or the autoencoder's scale has changed, and only there.
Test(train, latents_follow_their_pictures) {
    static const char KEYS[] = "\"size\": \"16x16\", \"batch\": 2, \"samples\": 100, \"threads\": 1";
    char command[700];
    make_diffusion_model();
    make_data(9);
    make_autoencoder();
    for (size_t n = 1; n <= 4; n++) {
        if (n == 2) make_picture(at("data/00.png"), 1, 20, 16);
        if (n == 3) cr_assert_eq(rename(at("data/04.png"), at("data/09.png")), 0);
        if (n == 3) cr_assert_eq(rename(at("data/04.txt"), at("data/09.txt")), 0);
        snprintf(command, sizeof command, "sed -i 's/\"scaling_factor\": *1.0/\"scaling_factor\": 0.5/' '%s'",
                 at("model/vae/config.json"));
        if (n == 4) cr_assert_eq(system(command), 0);
        for (int again = 0; again < 2; again++) {
            stopper stop = {.left = 1};
            train_hooks hooks = {.user = &stop, .cancelled = stop_soon};
            run_in("run", KEYS, TRAIN_TEXT2IMG, n > 1 || again, hooks);
            cr_expect_eq(caches("run"), n, "%zu of %zu: %s", caches("run"), n, err.text);
        }
    }
}

// Three passes an update on two threads: two at once, then one.
Test(train, passes_side_by_side_are_passes_in_turn) {
    static const char *const keys[] = {
        "\"size\": \"16x16\", \"batch\": 2, \"accumulate\": 3, \"samples\": 30, \"threads\": 1",
        "\"size\": \"16x16\", \"batch\": 2, \"accumulate\": 3, \"samples\": 30, \"threads\": 2"};
    make_diffusion_model();
    make_data(9);
    make_autoencoder();
    cr_assert_eq(run_in("one", keys[0], TRAIN_TEXT2IMG, false, (train_hooks){0}), OK, "%s", err.text);
    cr_assert_eq(run_in("two", keys[1], TRAIN_TEXT2IMG, false, (train_hooks){0}), OK, "%s", err.text);
    expect_same_file(at("one/loss.csv"), at("two/loss.csv"));
}

// With a learning rate of 0 the finished model is the one that fine-tuning started from.
Test(train, fine_tuning_starts_from_the_model) {
    make_diffusion_model();
    make_data(9);
    make_autoencoder();
    cr_assert_eq(run_in("first", T2I_KEYS, TRAIN_TEXT2IMG, false, (train_hooks){0}), OK, "%s", err.text);
    cr_assert_eq(rename(at("model"), at("old")), 0);
    cr_assert_eq(rename(at("first/model"), at("model")), 0);
    cr_assert_eq(run_in("tuned",
                        "\"size\": \"16x16\", \"batch\": 2, \"samples\": 2, \"lr\": 0, \"lr_end\": 0,"
                        "\"threads\": 1, \"precision\": \"f32\"",
                        TRAIN_FINETUNE, false, (train_hooks){0}),
                 OK, "%s", err.text);
    cr_expect(same_tensor("model/unet", "tuned/model/unet", "conv_in.weight"));
}
