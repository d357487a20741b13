// Memory that runs out and files that fail, at every single call: a small txt2img, one with hires fix and an
// autoencoder in bands, an upscaling, batch, conversion, merge and training run end with the right code,
// leave earlier outputs alone and nothing half done, lose no memory and no descriptor; a call that was only
// interrupted changes nothing.
//
// Here a few calls fail; with CALO_SWEEP=full (./dev soak) the first and the last of each distinct call
// stack.
#include "cli/commands.h"
#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/calotype.h"
#include "core/files/image.h"
#include "tests/tiny_model.h"
#include "tests/tools/faults.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_POINTS = 1 << 17, MAX_OUTPUTS = 8, FEW = 20 };

static char model[512], folder[512]; // the folder is a fresh one around the model

static void begin(void) {
    if (!access("/dev/shm", W_OK)) setenv("TMPDIR", "/dev/shm", 1); // thousands of small files
    faults_share();
    tiny_model_settle(model, folder, sizeof folder);
}

static void end(void) { tiny_model_remove(model); }

TestSuite(sweep, .init = begin, .fini = end, .timeout = 7200);

static const char *at(const char *name) {
    static char room[4][700];
    static int turn;
    char *p = room[turn++ % 4];
    snprintf(p, sizeof room[0], "%s/%s", folder, name);
    return p;
}

static int open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    cr_assert_not_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

// Blocks that nobody points to any more; only the leak sanitizer can tell.
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

// ---- jobs

// What is swept. `run` leaves the outputs, named relative to the folder, below "out".
typedef struct {
    const char *name;
    calo_status (*run)(char *message, size_t size, bool again);
    const char *outputs[MAX_OUTPUTS];
    bool resumes;        // running it again after a failure must end in the same outputs
    const char *journal; // has a line for each output; NULL: there is none
} job;

static calo_status finish(calo_context *ctx, calo_status s, char *message, size_t size) {
    snprintf(message, size, "%s", s ? calo_message(ctx) : "");
    calo_context_free(ctx);
    return s;
}

static uint64_t max_memory; // of the contexts below; 0: no limit

static calo_context *one_thread(calo_status *s) {
    calo_context *ctx = NULL;
    calo_context_options o = calo_context_defaults();
    o.threads = 1;
    o.max_memory = max_memory;
    o.precision = CALO_PRECISION_F32;
    *s = calo_context_new(&o, &ctx);
    return ctx;
}

typedef struct {
    calo_context *ctx;
    int n;
} saver;

static calo_status save(void *user, const calo_image *im) {
    static const char *const NAMES[] = {"out/1.png", "out/2.webp", "out/3.jpg"};
    saver *to = user;
    const char *name = NAMES[to->n++];
    return calo_image_save(to->ctx, im, at(name), NULL);
}

// Draws r, with a refiner where wanted, by one thread.
static calo_status draw(calo_txt2img_request r, bool refined, char *message, size_t size) {
    calo_status s;
    calo_context *ctx = one_thread(&s);
    calo_model *m = NULL;
    saver to = {ctx, 0};
    r.on_image = save;
    r.user = &to;
    if (!s) s = calo_model_open(ctx, model, &m);
    if (!s && refined) s = calo_model_open(ctx, model, &r.refiner);
    if (!s) s = calo_txt2img(m, &r, NULL);
    calo_model_free(r.refiner);
    calo_model_free(m);
    return finish(ctx, s, message, size);
}

static calo_status run_txt2img(char *message, size_t size, bool again) {
    (void)again;
    calo_txt2img_request r = calo_txt2img_defaults();
    static uint8_t rgb[2][24 * 16 * 3];
    memset(rgb[1], 255, sizeof rgb[1] / 2);
    calo_image picture = {.size = sizeof picture, .width = 24, .height = 16, .rgb = rgb[0]}, mask = picture;
    mask.rgb = rgb[1];
    r.prompt = "a (boat:1.2) [x|y]";
    r.emphasis = CALO_EMPHASIS_COMFY;
    r.init_image = &picture;
    r.mask = &mask;
    r.mask_content = CALO_CONTENT_FILL;
    r.width = r.height = 32;
    r.strength = 1;
    r.steps = 3;
    r.count = 3;
    return draw(r, false, message, size);
}

#define NETWORK "tests/golden/upscale/x4_old.safetensors"

// Two passes with a network between them, each picture through the autoencoder in bands.
static calo_status run_hires(char *message, size_t size, bool again) {
    (void)again;
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.width = r.height = 64;
    r.steps = 1;
    r.hires_scale = 1.25;
    r.hires_upscaler = NETWORK;
    r.vae_tiling = CALO_TILING_ON;
    r.vae_tile_size = 64;
    return draw(r, false, message, size);
}

// In tiles, of a picture with alpha and a text.
static calo_status run_upscale(char *message, size_t size, bool again) {
    (void)again;
    calo_status s;
    calo_context *ctx = one_thread(&s);
    calo_upscaler *u = NULL;
    calo_upscale_request r = calo_upscale_defaults();
    r.in = at("small.png");
    r.out = at("out/1.png");
    r.scale = 3;
    r.tile = 128;
    if (!s) s = calo_upscaler_open(ctx, NETWORK, &u);
    if (!s) s = calo_upscale(u, &r, NULL);
    calo_upscaler_free(u);
    return finish(ctx, s, message, size);
}

// Two models of one context, the second one finishing the pictures.
static calo_status run_refined(char *message, size_t size, bool again) {
    (void)again;
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a [boat:tree:2] [x|y]";
    r.width = r.height = 32;
    r.steps = 3;
    r.count = 3;
    r.refiner_switch_at = 0.5;
    return draw(r, true, message, size);
}

static calo_status run_train(char *message, size_t size, bool again) {
    calo_status s;
    calo_context *ctx = one_thread(&s);
    calo_train_request r = calo_train_defaults();
    char config[700], checkpoints[700], **names = NULL;
    size_t n = 0;
    snprintf(config, sizeof config, "%s", at("train.json"));
    snprintf(checkpoints, sizeof checkpoints, "%s", at("out/run/checkpoints"));
    // Only after a failure, when nothing fails any more.
    if (again && fs_is_dir(checkpoints)) fs_list(checkpoints, &names, &n, NULL);
    fs_list_free(names, n);
    r.config = config;
    r.kind = "vae";
    r.resume = n > 0;
    if (!s) s = calo_train(ctx, &r);
    return finish(ctx, s, message, size);
}

// From files of torch, which are zip archives, into shards.
static calo_status run_convert(char *message, size_t size, bool again) {
    (void)again;
    calo_status s;
    calo_context *ctx = one_thread(&s);
    calo_convert_request r = calo_convert_defaults();
    r.in = "tests/golden/ckpt/model_a.ckpt";
    r.plus = "tests/golden/ckpt/model_b.ckpt";
    r.minus = "tests/golden/ckpt/model_c.ckpt";
    r.out = at("out/m.safetensors");
    r.type = CALO_WEIGHTS_F32;
    r.max_shard = 1000;
    r.overwrite = 1;
    if (!s) s = calo_convert(ctx, &r);
    return finish(ctx, s, message, size);
}

// Two LoRAs into a whole model, as its folder or as one file in the other layout.
static calo_status run_merge(calo_layout layout, const char *out, char *message, size_t size) {
    static const char *const LORAS[] = {"tests/golden/merge_lora/kohya.safetensors",
                                        "tests/golden/merge_lora/peft.safetensors"};
    calo_status s;
    calo_context *ctx = one_thread(&s);
    calo_convert_request r = calo_convert_defaults();
    r.in = model;
    r.out = at(out);
    r.loras = LORAS;
    r.lora_weights = (double[]){0.8, -0.5};
    r.n_loras = 2;
    r.layout = layout;
    r.type = CALO_WEIGHTS_F16;
    r.overwrite = 1;
    if (!s) s = calo_convert(ctx, &r);
    return finish(ctx, s, message, size);
}

static calo_status run_merge_folder(char *message, size_t size, bool again) {
    (void)again;
    return run_merge(CALO_LAYOUT_AS_STORED, "out/m", message, size);
}

static calo_status run_merge_file(char *message, size_t size, bool again) {
    (void)again;
    return run_merge(CALO_LAYOUT_SINGLE, "out/m.safetensors", message, size);
}

// As calotype does. What it prints goes to memory.
static calo_status run_batch(char *message, size_t size, bool again) {
    (void)again;
    char printed[4000], jobs[700], wildcards[700], out[700];
    snprintf(jobs, sizeof jobs, "%s", at("jobs.jsonl"));
    snprintf(wildcards, sizeof wildcards, "%s", at("wildcards"));
    snprintf(out, sizeof out, "%s", at("out"));
    const char *argv[] = {"batch", jobs, "-o",          out,   "-m",         model, "--wildcards", wildcards,
                          "-t",    "1",  "--precision", "f32", "--together", "2",   NULL};
    FILE *output = stdout, *errors = stderr;
    stdout = fmemopen(printed, sizeof printed, "w");
    stderr = fmemopen(message, size, "w");
    int code = cmd_batch(sizeof argv / sizeof *argv - 1, (char **)(uintptr_t)argv);
    fclose(stdout);
    fclose(stderr);
    stdout = output;
    stderr = errors;
    return (calo_status)code;
}

static const job TXT2IMG = {"txt2img", run_txt2img, {"out/1.png", "out/2.webp", "out/3.jpg"}, false};
static const job HIRES = {"hires", run_hires, {"out/1.png"}, false};
static const job UPSCALE = {"upscale", run_upscale, {"out/1.png"}, false};
static const job REFINED = {"refined", run_refined, {"out/1.png", "out/2.webp", "out/3.jpg"}, false};
static const job TRAIN = {
    "train", run_train, {"out/run/loss.csv", "out/run/model/vae/diffusion_pytorch_model.safetensors"}, true};

static const job CONVERT = {
    "convert",
    run_convert,
    {"out/m-00001-of-00002.safetensors", "out/m-00002-of-00002.safetensors", "out/m.safetensors.index.json"},
    true};

static const job MERGE_FOLDER = {"merge",
                                 run_merge_folder,
                                 {"out/m/model_index.json", "out/m/unet/diffusion_pytorch_model.safetensors",
                                  "out/m/text_encoder/model.safetensors",
                                  "out/m/vae/diffusion_pytorch_model.safetensors"},
                                 true};

static const job MERGE_FILE = {"single", run_merge_file, {"out/m.safetensors"}, true};

static const job BATCH = {
    "batch", run_batch, {"out/a.png", "out/b.png", "out/c.webp"}, true, "out/manifest.jsonl"};

static void put(const char *path, const char *text) {
    error err = {0};
    cr_assert_eq(fs_write_atomic(path, text, strlen(text), true, &err), OK, "%s", err.text);
}

static void make_training(void) {
    char text[2000];
    error err = {0};
    tiny_autoencoder_write(at("small"));
    cr_assert_eq(fs_mkdirs(at("data"), &err), OK);
    for (int i = 0; i < 4; i++) {
        image im = {0};
        char name[20];
        snprintf(name, sizeof name, "data/%d.png", i);
        cr_assert_eq(image_alloc(&im, 16, 16, 3, &err), OK);
        for (int k = 0; k < 16 * 16 * 3; k++) im.px[k] = (uint8_t)(k * (i + 1));
        cr_assert_eq(image_save(at(name), &im, &(image_options){.format = IMAGE_PNG}, true, &err), OK);
        image_free(&im);
    }
    snprintf(text, sizeof text,
             "{\"model\": \"%s\", \"data\": \"%s\", \"out\": \"%s\", \"size\": \"16x16\", \"samples\": 4,"
             "\"batch\": 2, \"checkpoint_every\": 1, \"grid_every\": 0, \"threads\": 1}",
             at("small"), at("data"), at("out/run"));
    put(at("train.json"), text);
}

static void make_picture(void) {
    error err = {0};
    image im;
    const image_text texts[] = {{"parameters", "a boat"}, {"calotype", "{\"format\": 1}"}};
    cr_assert_eq(image_alloc(&im, 150, 6, 4, &err), OK);
    for (int i = 0; i < 150 * 6 * 4; i++) im.px[i] = (uint8_t)(i * 7);
    cr_assert_eq(image_save(at("small.png"), &im, &(image_options){.texts = texts, .n_texts = 2}, true, &err),
                 OK);
    image_free(&im);
}

static void make_jobs(void) {
    error err = {0};
    cr_assert_eq(fs_mkdirs(at("wildcards"), &err), OK);
    put(at("wildcards/colour.txt"), "red\nblue\n");
    put(at("jobs.jsonl"),
        "{\"id\": \"a\", \"prompt\": \"a {red|blue} boat\", \"steps\": 1, \"seed\": 1}\n"
        "{\"id\": \"b\", \"prompt\": \"a __colour__ boat\", \"steps\": 1, \"negative_prompt\": \"dull\"}\n"
        "{\"prompt\": \"a house\", \"steps\": 2, \"output\": \"c.webp\"}\n");
}

// ---- outputs

typedef struct {
    char *data[MAX_OUTPUTS];
    size_t size[MAX_OUTPUTS];
} outputs;

static void read_outputs(const job *j, outputs *o) {
    error err = {0};
    for (int i = 0; j->outputs[i]; i++)
        cr_assert_eq(fs_read_file(at(j->outputs[i]), 1 << 24, &o->data[i], &o->size[i], &err), OK, "%s",
                     err.text);
}

static void free_outputs(outputs *o) {
    for (int i = 0; i < MAX_OUTPUTS; i++) mem_free(o->data[i]);
}

static bool same_output(const job *j, int i, const outputs *want) {
    char *data;
    size_t n;
    if (fs_read_file(at(j->outputs[i]), 1 << 24, &data, &n, NULL)) return false;
    bool same = n == want->size[i] && !memcmp(data, want->data[i], n);
    mem_free(data);
    return same;
}

// Whether the journal names every output exactly once.
static bool journal_is_right(const job *j) {
    char *text, name[100];
    size_t n;
    bool right = true;
    if (!j->journal) return true;
    if (fs_read_file(at(j->journal), 1 << 20, &text, &n, NULL)) return false;
    for (int i = 0; j->outputs[i]; i++) {
        snprintf(name, sizeof name, "\"file\":\"%s\"", fs_basename(j->outputs[i]));
        const char *first = strstr(text, name);
        right = right && first && !strstr(first + 1, name);
    }
    mem_free(text);
    return right;
}

static bool all_there(const job *j, const outputs *want) {
    for (int i = 0; j->outputs[i]; i++)
        if (!same_output(j, i, want)) return false;
    return journal_is_right(j);
}

// A log of losses is written line by line; every other output is whole or absent.
static bool none_torn(const job *j, const outputs *want) {
    for (int i = 0; j->outputs[i]; i++)
        if (strcmp(fs_extension(j->outputs[i]), "csv") && fs_exists(at(j->outputs[i])) &&
            !same_output(j, i, want))
            return false;
    return true;
}

static void clear_outputs(void) {
    error err = {0};
    remove_tree(at("out"));
    remove_tree(at("calotype")); // the cache
    cr_assert_eq(fs_mkdirs(at("out"), &err), OK, "%s", err.text);
    put(at("out/earlier.png"), "a picture of yesterday");
}

static bool earlier_is_intact(void) {
    char *data;
    size_t n;
    if (fs_read_file(at("out/earlier.png"), 1000, &data, &n, NULL)) return false;
    bool intact = !strcmp(data, "a picture of yesterday");
    mem_free(data);
    return intact;
}

// ---- the sweep

typedef struct {
    long calls, points, absorbed, failed; // calls of an undisturbed run; calls that failed, and their ends
    double seconds;
} tally;

// A name that cannot be looked at counts as absent: "missing or unreadable"; 1 is a batch whose jobs miss it.
static bool expected(fault_kind kind, int s) {
    if ((s == CALO_ERR_NOINPUT || s == 1) && !strcmp(faults_door(), "stat64")) return true;
    if (kind == FAULT_EINTR || kind == FAULT_SHORT) return false; // only success will do
    return s == CALO_ERR_TEMP || (s == CALO_ERR_IO && kind == FAULT_EIO);
}

enum { NONE = -1, RECORD = -2 };

// What a child process tells.
typedef struct {
    char message[1000];
    bool finished, descriptors_left, memory_left;
} report;

static report *told; // shared memory

static void tell(const job *j, bool again, fault_kind kind, long point) {
    alarm(60);
    int before = open_descriptors();
    if (point == RECORD)
        faults_record(kind);
    else
        faults_arm(kind, point);
    calo_status s = j->run(told->message, sizeof told->message, again);
    faults_disarm(NULL);
    told->descriptors_left = open_descriptors() != before;
    told->memory_left = __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check();
    told->finished = true;
    _exit((int)s);
}

// The job's exit code, or 128 + the signal that ended it. `point`: the call that fails, NONE or RECORD.
static int run(const job *j, bool again, fault_kind kind, long point) {
    if (!told) told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *told = (report){0};
    fflush(NULL);
    pid_t child = fork();
    if (!child) tell(j, again, kind, point);
    int ended = 0;
    cr_assert_eq(waitpid(child, &ended, 0), child);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
}

// One run with one fault. NULL, or what is wrong.
static const char *sweep_point(const job *j, fault_kind kind, long point, const outputs *want, tally *t) {
    bool hit;
    clear_outputs();
    int s = run(j, false, kind, point);
    faults_disarm(&hit);
    t->points += hit;
    t->absorbed += hit && !s;
    t->failed += hit && s;
    if (s >= 128) return "a signal";
    if (told->descriptors_left) return "a descriptor stays open";
    if (told->memory_left) return "memory is lost";
    if (!earlier_is_intact()) return "an earlier output has changed";
    if (!hit && s) return "it fails although nothing failed";
    if (!s)
        return all_there(j, want) ? NULL : "it claims success and the outputs are not what they should be";
    if (!expected(kind, s)) return "wrong code";
    if (told->finished && !*told->message) return "no message";
    if (!none_torn(j, want)) return "half an output";
    if (!j->resumes) return NULL;
    if (run(j, true, kind, NONE)) return "it cannot go on afterwards";
    return all_there(j, want) ? NULL : "going on gives other outputs";
}

// The numbers of the calls that shall fail, by $CALO_SWEEP: every call ("every"), one ("17"), the first and
// the last call of each distinct call stack ("full"); otherwise FEW of these.
static size_t choose_points(const job *j, fault_kind kind, long *point, tally *t) {
    const char *how = getenv("CALO_SWEEP");
    size_t n = 0;
    clear_outputs();
    cr_assert_eq(run(j, false, kind, RECORD), CALO_OK, "%s", told->message);
    t->calls = faults_disarm(NULL);
    if (how && *how >= '0' && *how <= '9') return *point = atol(how), 1;
    if (how && !strcmp(how, "every")) {
        for (; n < MAX_POINTS && (long)n < t->calls; n++) point[n] = (long)n;
        return n;
    }
    size_t all = faults_stacks(point, MAX_POINTS);
    if (all <= FEW || (how && !strcmp(how, "full"))) return all;
    for (; n < FEW; n++) point[n] = point[n * (all - 1) / (FEW - 1)];
    return n;
}

static void sweep(const job *j, fault_kind kind) {
    static const char *const NAMES[] = {"no memory", "EIO", "ENOSPC", "EINTR", "short counts"};
    static long point[MAX_POINTS];
    outputs want = {0};
    tally t = {.seconds = -clock_seconds()};
    int wrong = 0;
    clear_outputs();
    cr_assert_eq(run(j, false, kind, NONE), CALO_OK, "%s", told->message);
    read_outputs(j, &want);
    size_t n = choose_points(j, kind, point, &t);
    for (size_t i = 0; i < n; i++) {
        const char *what = sweep_point(j, kind, point[i], &want, &t);
        if (what && wrong++ < 40)
            fprintf(stderr, "%s, %s at call %ld (%s): %s: %s\n", j->name, NAMES[kind], point[i],
                    faults_door(), what, told->message);
    }
    t.seconds += clock_seconds();
    fprintf(stderr, "%-8s %-12s %6ld calls, %5ld failed one by one: %ld errors, %ld without effect, %.0f s\n",
            j->name, NAMES[kind], t.calls, t.points, t.failed, t.absorbed, t.seconds);
    free_outputs(&want);
    cr_expect_eq(wrong, 0, "%s, %s: %d of %zu faults are not taken as they should", j->name, NAMES[kind],
                 wrong, n);
    cr_expect_gt(t.points, 0);
}

Test(sweep, txt2img_without_memory) { sweep(&TXT2IMG, FAULT_MEMORY); }

Test(sweep, txt2img_with_failing_files) {
    for (fault_kind k = FAULT_EIO; k < FAULT_KINDS; k++) sweep(&TXT2IMG, k);
}

Test(sweep, refined) {
    sweep(&REFINED, FAULT_MEMORY);
    sweep(&REFINED, FAULT_EIO);
}

// In a process of its own, as every job: what OpenMP keeps of a run would look lost in those made after it.
static uint64_t least_memory(void) {
    uint64_t *least = mmap(NULL, sizeof *least, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ended = 0;
    cr_assert_neq(least, MAP_FAILED);
    pid_t child = fork();
    if (!child) {
        *least = tiny_model_least_memory(model, 3);
        _exit(0);
    }
    cr_assert(waitpid(child, &ended, 0) == child && !ended && *least);
    uint64_t found = *least;
    munmap(least, sizeof *least);
    return found;
}

// Weights are read in every step.
Test(sweep, txt2img_in_little_memory) {
    max_memory = least_memory();
    sweep(&REFINED, FAULT_MEMORY);
    sweep(&TXT2IMG, FAULT_MEMORY);
    sweep(&TXT2IMG, FAULT_EIO);
    sweep(&TXT2IMG, FAULT_SHORT);
}

Test(sweep, hires_without_memory) { sweep(&HIRES, FAULT_MEMORY); }

Test(sweep, hires_with_failing_files) {
    for (fault_kind k = FAULT_EIO; k < FAULT_KINDS; k++) sweep(&HIRES, k);
}

Test(sweep, upscale) {
    make_picture();
    for (fault_kind k = FAULT_MEMORY; k < FAULT_KINDS; k++) sweep(&UPSCALE, k);
}

Test(sweep, batch_without_memory) {
    make_jobs();
    sweep(&BATCH, FAULT_MEMORY);
}

Test(sweep, batch_with_failing_files) {
    make_jobs();
    for (fault_kind k = FAULT_EIO; k < FAULT_KINDS; k++) sweep(&BATCH, k);
}

Test(sweep, convert) {
    for (fault_kind k = FAULT_MEMORY; k < FAULT_KINDS; k++) sweep(&CONVERT, k);
}

Test(sweep, merge_folder) {
    for (fault_kind k = FAULT_MEMORY; k < FAULT_KINDS; k++) sweep(&MERGE_FOLDER, k);
}

Test(sweep, merge_file) {
    for (fault_kind k = FAULT_MEMORY; k < FAULT_KINDS; k++) sweep(&MERGE_FILE, k);
}

Test(sweep, train_without_memory) {
    make_training();
    sweep(&TRAIN, FAULT_MEMORY);
}

Test(sweep, train_with_failing_files) {
    make_training();
    for (fault_kind k = FAULT_EIO; k < FAULT_KINDS; k++) sweep(&TRAIN, k);
}
