// Training: parts against plain calculation and torch, whole runs on tiny networks.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/train/curve.h"
#include "core/train/train.h"

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

static void teardown(void) {
    char command[200];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
}

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

// ---- a tiny model and data

static void make_model(void) {
    cr_assert_eq(fs_mkdirs(at("model/vae"), &err), OK);
    put(at("model/model_index.json"), "{\"_class_name\": \"StableDiffusionPipeline\"}");
    put(at("model/vae/config.json"),
        "{\"_class_name\": \"AutoencoderKL\", \"in_channels\": 3, \"out_channels\": 3, \"latent_channels\": "
        "2,"
        " \"block_out_channels\": [4, 8], \"norm_num_groups\": 2, \"layers_per_block\": 1,"
        " \"down_block_types\": [\"DownEncoderBlock2D\", \"DownEncoderBlock2D\"],"
        " \"up_block_types\": [\"UpDecoderBlock2D\", \"UpDecoderBlock2D\"],"
        " \"mid_block_add_attention\": false}");
}

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
