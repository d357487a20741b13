// Training as a user types it: a folder of pictures, runs that are stopped, killed and resumed, and what can
// go wrong on the way.
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "tests/shell.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static error err;

static char *path_of(const char *format, ...) {
    static char path[700];
    va_list args;
    int n = snprintf(path, sizeof path, "%s/", folder);
    va_start(args, format);
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    return path;
}

static void put(const char *name, const char *text) {
    cr_assert_eq(fs_write_atomic(path_of("%s", name), text, strlen(text), true, &err), OK, "%s", err.text);
}

// A disc of one of three colours.
static void put_picture(const char *name, int i) {
    image im = {0};
    cr_assert_eq(image_alloc(&im, 18, 16, 3, &err), OK);
    for (int y = 0; y < im.h; y++)
        for (int x = 0; x < im.w; x++)
            for (int c = 0; c < 3; c++)
                im.px[3 * (y * im.w + x) + c] = hypot(x - 9 + i % 4, y - 8) < 5 && c == i % 3 ? 230 : 30;
    image_options png = {.format = IMAGE_PNG};
    cr_assert_eq(image_save(path_of("%s", name), &im, &png, true, &err), OK, "%s", err.text);
    image_free(&im);
}

enum { PICTURES = 9 };

static void begin(void) {
    shell_begin();
    static const char *const COLOUR[] = {"red", "green", "blue"};
    cr_assert_eq(fs_mkdirs(path_of("data"), &err), OK, "%s", err.text);
    for (int i = 0; i < PICTURES; i++) {
        char name[32], text[32];
        snprintf(name, sizeof name, "data/%d.png", i);
        put_picture(name, i);
        snprintf(name, sizeof name, "data/%d.txt", i);
        snprintf(text, sizeof text, "a %s disc\n", COLOUR[i % 3]);
        put(name, text);
    }
}

TestSuite(train_cli, .init = begin, .fini = shell_end, .timeout = 7200);

// $D/NAME.json: a configuration of one thread whose "out" is $D/NAME; `keys` come on top.
static void configure(const char *name, const char *keys) {
    char text[2000], file[64];
    snprintf(text, sizeof text,
             "{\"out\": \"%s/%s\", \"data\": \"%s/data\", \"threads\": 1, \"size\": \"16x16\", \"batch\": 2,"
             " \"warmup\": 2, %s}",
             folder, name, folder, keys);
    snprintf(file, sizeof file, "%s.json", name);
    put(file, text);
}

static const char SHORT[] = "\"samples\": 8, \"checkpoint_every\": 2, \"log_every\": 2";

// Long enough to be hit in the middle.
static const char LONG[] = "\"samples\": 400, \"checkpoint_every\": 30";

static void expect_same(const char *a, const char *b) {
    char *x = contents(a), *y = contents(b);
    cr_expect_str_eq(x, y, "%s and %s differ", a, b);
    mem_free(x);
    mem_free(y);
}

// ---- models

Test(train_cli, an_autoencoder_and_a_text_to_image_model_come_out_of_a_folder) {
    configure("vae", SHORT);
    expect("$C train \"$D/vae.json\" --kind vae -m \"$M\"", 0, "/vae/model\n",
           "stage 1 of 1, update 2 of 4, loss ");
    cr_expect(there("vae/model/vae/diffusion_pytorch_model.safetensors") && there("vae/loss.csv") &&
              there("vae/loss.png") && there("vae/samples/step-0000000004.png"));
    expect("cp \"$D/vae/model/vae/\"* \"$M/vae/\"", 0, NULL, NULL);
    // Captions of a list now, which names one picture less.
    char list[1000] = "";
    for (int i = 1; i < PICTURES; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list),
                 "{\"file_name\": \"%d.png\", \"text\": \"a disc\"}\n", i);
    put("data/metadata.jsonl", list);
    configure("t2i", "\"samples\": 8, \"grid_steps\": 2, \"prompts\": [\"a red disc\"]");
    expect("$C train \"$D/t2i.json\" --kind text2img -m \"$M\" -q", 0, "/t2i/model\n", "");
    expect("$C txt2img -q -m \"$D/t2i/model\" -p 'a red disc' --steps 2 -W 16 -H 16 -o \"$D/disc.png\"", 0,
           "disc.png", NULL);
    // Without prompts the grid shows captions of the data.
    configure("told", "\"samples\": 8, \"grid_steps\": 2, \"grid_every\": 1");
    expect("$C train \"$D/told.json\" --kind text2img -m \"$M\" -q && ls \"$D/told/samples\"", 0,
           "step-0000000001.png", "");
}

static int count_events(char *out, const char *wanted, const char *field) {
    int n = 0;
    char *rest, *line;
    for (line = strtok_r(out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = json_loads(line, 0, NULL);
        const char *event = json_string_value(json_object_get(j, "event"));
        cr_assert_not_null(event, "%s", line);
        if (!strcmp(event, wanted)) {
            n++;
            cr_expect_not_null(json_object_get(j, field), "%s", line);
        }
        json_decref(j);
    }
    return n;
}

Test(train_cli, events_are_json_lines) {
    static const struct {
        const char *event, *field;
        int n;
    } EVENTS[] = {{"stage", "stages", 2},    {"update", "samples_per_second", 4},
                  {"checkpoint", "file", 5}, {"grid", "file", 3},
                  {"model", "file", 1},      {"done", "seconds", 1}};
    char keys[300];
    snprintf(keys, sizeof keys, "%s, \"grid_every\": 4, \"stages\": [{}, {}]", SHORT);
    configure("run", keys);
    result r = sh("$C train \"$D/run.json\" --kind vae -m \"$M\" --json");
    cr_assert_eq(r.code, 0, "%s", r.err);
    for (size_t i = 0; i < sizeof EVENTS / sizeof *EVENTS; i++) {
        char *copy = mem_strdup(r.out);
        int n = count_events(copy, EVENTS[i].event, EVENTS[i].field);
        cr_expect_eq(n, EVENTS[i].n, "%d of %s:\n%s", n, EVENTS[i].event, r.out);
        mem_free(copy);
    }
    drop(r);
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\" --json", 73, "\"event\":\"error\",\"code\":73",
           "is there already");
}

Test(train_cli, a_terminal_gets_a_bar_and_a_log_gets_lines) {
    configure("run", SHORT);
    expect("export C M D LC_ALL=C.UTF-8; TERM=xterm script -qec '$C train \"$D/run.json\" --kind vae -m "
           "\"$M\"' /dev/null",
           0, "█ 100%  stage 1 of 1, update 4 of 4, loss", NULL);
    expect("export C M D; rm -r \"$D/run\"; TERM=dumb script -qec '$C train \"$D/run.json\" --kind vae -m "
           "\"$M\"' /dev/null | grep -a █",
           1, "", NULL);
    expect(
        "export C M D; NO_COLOR=1 TERM=xterm script -qec '$C train \"$D/none.json\" --kind vae' /dev/null | "
        "grep -a '\\[31m'",
        1, "", NULL);
}

// ---- stopped and resumed

// Starts $1 in the background and sends it signal $2 when its record has $3 lines; its exit code is the code.
static const char STRIKE[] =
    "strike() { $C train \"$D/$1.json\" --kind vae -m \"$M\" $4 & p=$!;"
    " while kill -0 $p 2>/dev/null && [ \"$(wc -l <\"$D/$1/loss.csv\" 2>/dev/null || echo 0)\" -lt $3 ];"
    " do sleep 0.002; done; kill -$2 $p; wait $p; }; ";

static int strike(const char *name, const char *signal, int lines, bool resume) {
    char command[1000];
    snprintf(command, sizeof command, "%s strike %s %s %d %s", STRIKE, name, signal, lines,
             resume ? "--resume" : "");
    result r = sh(command);
    int code = r.code;
    cr_expect(strcmp(signal, "INT") || strstr(r.err, "stopped after update"), "%s", r.err);
    drop(r);
    return code;
}

static void run_whole(void) {
    configure("whole", LONG);
    expect("$C train \"$D/whole.json\" --kind vae -m \"$M\"", 0, NULL, NULL);
}

Test(train_cli, an_interrupt_leaves_a_checkpoint_to_go_on_from) {
    run_whole();
    configure("parts", LONG);
    cr_expect_eq(strike("parts", "INT", 12, false), 130);
    expect("ls \"$D/parts/checkpoints\"", 0, "step-", NULL);
    cr_expect_eq(strike("parts", "TERM", 70, true), 143);
    expect("$C train \"$D/parts.json\" --kind vae -m \"$M\" --resume", 0, "/parts/model\n", "going on from");
    expect_same("whole/loss.csv", "parts/loss.csv");
    expect("cmp \"$D/whole/model/vae/\"*.safetensors \"$D/parts/model/vae/\"*.safetensors", 0, NULL, NULL);
}

// The run in parts has left what the whole one has, to the byte: record, model, the newest checkpoints, and
// no other file.
static void expect_recovered(void) {
    expect_same("whole/loss.csv", "parts/loss.csv");
    expect("cmp \"$D/whole/model/vae/\"*.safetensors \"$D/parts/model/vae/\"*.safetensors", 0, NULL, NULL);
    expect("cd \"$D\"; (cd whole; find . | sort) >files; (cd parts; find . | sort) | diff files -", 0, NULL,
           NULL);
}

// At the beginning, beside the writing of checkpoints (after 30, 60, … updates), and between them.
Test(train_cli, a_killed_run_goes_on_as_if_nothing_had_been) {
    static const int MOMENTS[] = {1, 31, 47, 62, 91, 120};
    run_whole();
    configure("parts", LONG);
    for (size_t i = 0; i < sizeof MOMENTS / sizeof *MOMENTS; i++)
        cr_expect_eq(strike("parts", "KILL", MOMENTS[i], i > 0), 137, "killed at line %d", MOMENTS[i]);
    expect("$C train \"$D/parts.json\" --kind vae -m \"$M\" --resume", 0, NULL, NULL);
    expect_recovered();
}

// A few of every day; ./dev soak (CALO_SOAK) asks for more.
Test(train_cli, killed_at_any_moment_a_run_ends_as_undisturbed) {
    int kills = getenv("CALO_SOAK") ? 300 : 8, done = 0, runs = 1;
    static const char BRIEF[] = "\"samples\": 60, \"checkpoint_every\": 3, \"log_every\": 2";
    struct timespec a, b;
    configure("whole", BRIEF);
    configure("parts", BRIEF);
    clock_gettime(CLOCK_MONOTONIC, &a);
    expect("$C train \"$D/whole.json\" --kind vae -m \"$M\"", 0, NULL, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    // A run that goes on is shorter: moments before, in and after its work.
    double longest = 0.7 * ((double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) * 1e-3);
    srand(9);
    for (int rounds = 0; done < kills; rounds++) {
        cr_assert_lt(rounds, 100 * kills);
        if (killed_after("$C train parts.json --kind vae -m $M --resume",
                         (unsigned)(longest * rand() / RAND_MAX))) {
            done++;
            continue;
        }
        expect_recovered();
        expect("rm -r \"$D/parts\"", 0, NULL, NULL);
        runs++;
    }
    expect("$C train \"$D/parts.json\" --kind vae -m \"$M\" --resume", 0, NULL, NULL);
    expect_recovered();
    fprintf(stderr, "%d kills in %d runs of 30 updates\n", done, runs);
}

Test(train_cli, a_changed_configuration_is_told_by_its_key) {
    configure("run", SHORT);
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\"", 0, NULL, NULL);
    configure("run", "\"samples\": 8, \"checkpoint_every\": 2, \"lr\": 0.25");
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\" --resume", 65, "",
           "\"lr\" of stage 1: 0.001, now 0.25");
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\" --resume --ignore-config", 0, NULL, "now 0.25");
    configure("run", "\"samples\": 8, \"stages\": [{}, {\"samples\": 4, \"lr\": 0.25}]");
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\" --resume --ignore-config", 0, NULL, NULL);
    expect("tail -n 1 \"$D/run/loss.csv\"", 0, "5,10,", NULL);
}

// ---- what goes wrong

Test(train_cli, bad_pictures_and_missing_captions_are_named) {
    configure("run", SHORT);
    put("data/3.png", "\x89PNG\r\n\x1a\n and nothing more");
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\"", 65, "", "data/3.png");
    put_picture("data/3.png", 3);
    expect("rm \"$D/data/4.txt\"; $C train \"$D/run.json\" --kind text2img -m \"$M\"", 65, "",
           "4.txt is missing");
    expect("$C train \"$D/run.json\" --kind vae -m \"$M\"", 0, NULL, NULL); // which needs no captions
    configure("skips", "\"samples\": 8, \"skip_bad\": true");
    expect("$C train \"$D/skips.json\" --kind text2img -m \"$M\"", 0, NULL, "4.txt");
    expect("rm -r \"$D/data\"; $C train \"$D/skips.json\" --kind vae -m \"$M\" --resume", 66, "", "/data");
}

// The limit stands in for a full disk: a checkpoint is larger, the record is not.
Test(train_cli, a_full_disk_loses_nothing) {
    run_whole();
    configure("parts", LONG);
    cr_expect_eq(strike("parts", "INT", 40, false), 130);
    expect("(ulimit -f 40; $C train \"$D/parts.json\" --kind vae -m \"$M\" --resume)", 75, "",
           "File too large");
    expect("$C train \"$D/parts.json\" --kind vae -m \"$M\" --resume", 0, NULL, NULL);
    expect_same("whole/loss.csv", "parts/loss.csv");
}

Test(train_cli, a_loss_that_is_no_number_ends_the_run) {
    tiny_model_spoil(model, "unet", "mid_block.resnets.0.conv1.weight", INFINITY);
    configure("run", SHORT);
    expect("$C train \"$D/run.json\" --kind finetune -m \"$M\" --json", 65, "\"event\":\"error\",\"code\":65",
           "update 0: the loss is not a number");
    cr_expect(!there("run/model"));
}
