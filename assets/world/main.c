// calotype-world: pictures, captions and the tokenizer of the embedded model's world.
#include "assets/world/export.h"
#include "assets/world/meter_commands.h"
#include "assets/world/options.h"
#include "assets/world/picture.h"
#include "assets/world/train.h"
#include "assets/world/vocab.h"
#include "cli/standard.h"
#include "core/base/clock.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static status make_folder(const char *path, error *err) {
    if (!mkdir(path, 0777) || errno == EEXIST) return OK;
    return fail(err, ERR_CANTCREAT, "%s: %s", path, strerror(errno));
}

static status needs_out(const options *o, error *err) {
    return o->out ? OK : fail(err, ERR_USAGE, "%s needs --out", o->command);
}

static scene nth_scene(const options *o, int i) {
    scene s = scene_sample(o->seed, (uint64_t)i, o->choice);
    return o->time > 0 ? scene_at(&s, o->time) : s;
}

static void nth_caption(const options *o, int i, const scene *s, char text[CAPTION_SIZE]) {
    dice d = dice_new(~o->seed, (uint64_t)i); // apart from the scene's own dice
    caption_write(s, o->style, &d, text);
}

// ---- dataset

static status write_text(const char *path, const char *text, error *err) {
    FILE *f = fopen(path, "w");
    if (!f) return fail(err, ERR_CANTCREAT, "%s: %s", path, strerror(errno));
    bool bad = fprintf(f, "%s\n", text) < 0;
    bad |= fclose(f) != 0;
    return bad ? fail(err, ERR_IO, "%s: %s", path, strerror(errno)) : OK;
}

static status write_json_line(FILE *f, json_t *line, error *err) {
    bool bad = !line || json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(6)) || fputc('\n', f) == EOF;
    json_decref(line);
    return bad ? fail(err, ERR_IO, "metadata: %s", strerror(errno)) : OK;
}

// One way of looking at a scene, as a file DIR/FOLDER/NNNNNN.png.
static status save_view(const options *o, const scene *s, int i, const char *folder, uint8_t *pixels,
                        status (*draw)(const scene *, int, int, uint8_t *, error *), error *err) {
    char path[4200];
    snprintf(path, sizeof path, "%.4000s/%s%06d.png", o->out, folder, i);
    status st = draw(s, o->H, o->W, pixels, err);
    return st ? st : png_save(path, o->H, o->W, draw == picture_rgb8 ? 3 : 1, pixels, err);
}

static status write_example(const options *o, int i, uint8_t *pixels, FILE *metadata, error *err) {
    char path[4200], name[32], text[CAPTION_SIZE];
    scene s = nth_scene(o, i);
    nth_caption(o, i, &s, text);
    status st = save_view(o, &s, i, "", pixels, picture_rgb8, err);
    if (!st && o->mask) st = save_view(o, &s, i, "mask/", pixels, picture_mask, err);
    if (!st && o->lines) st = save_view(o, &s, i, "lines/", pixels, picture_lines, err);
    snprintf(path, sizeof path, "%.4000s/%06d.txt", o->out, i);
    if (!st) st = write_text(path, text, err);
    if (st) return st;
    snprintf(name, sizeof name, "%06d.png", i);
    json_t *line = json_pack("{s:s, s:s, s:o}", "file_name", name, "text", text, "scene", scene_json(&s));
    return write_json_line(metadata, line, err);
}

static status write_examples(const options *o, FILE *metadata, error *err) {
    uint8_t *pixels = mem_alloc(3 * (size_t)o->H * (size_t)o->W);
    if (!pixels) return fail(err, ERR_TEMP, "out of memory");
    status st = OK;
    for (int i = 0; i < o->count && !st; i++) st = write_example(o, i, pixels, metadata, err);
    mem_free(pixels);
    return st;
}

static status make_dataset(const options *o, error *err) {
    char path[4200];
    status st = needs_out(o, err);
    if (!st) st = make_folder(o->out, err);
    if (st) return st;
    snprintf(path, sizeof path, "%.4000s/mask", o->out);
    if (o->mask && (st = make_folder(path, err))) return st;
    snprintf(path, sizeof path, "%.4000s/lines", o->out);
    if (o->lines && (st = make_folder(path, err))) return st;
    snprintf(path, sizeof path, "%.4000s/metadata.jsonl", o->out);
    FILE *metadata = fopen(path, "w");
    if (!metadata) return fail(err, ERR_CANTCREAT, "%s: %s", path, strerror(errno));
    st = write_examples(o, metadata, err);
    if (fclose(metadata) && !st) st = fail(err, ERR_IO, "%s: %s", path, strerror(errno));
    return st;
}

// ---- prompts

static status print_prompts(const options *o, error *err) {
    status st = OK;
    for (int i = 0; i < o->count && !st; i++) {
        char text[CAPTION_SIZE];
        scene s = nth_scene(o, i);
        nth_caption(o, i, &s, text);
        if (o->json)
            st = write_json_line(stdout, json_pack("{s:s, s:o}", "text", text, "scene", scene_json(&s)), err);
        else
            puts(text);
    }
    return st;
}

// ---- grid

enum { GRID_COLUMNS = 12 };

static status draw_tile(const options *o, int i, uint8_t *tile, error *err) {
    scene s = nth_scene(o, i);
    if (o->mask) return picture_mask(&s, o->H, o->W, tile, err);
    if (o->lines) return picture_lines(&s, o->H, o->W, tile, err);
    return picture_rgb8(&s, o->H, o->W, tile, err);
}

static status make_grid(const options *o, error *err) {
    status st = needs_out(o, err);
    if (st) return st;
    int columns = o->count < GRID_COLUMNS ? o->count : GRID_COLUMNS,
        rows = (o->count + columns - 1) / columns;
    size_t channels = o->mask || o->lines ? 1 : 3;
    size_t line = channels * (size_t)o->W, width = line * (size_t)columns;
    uint8_t *tile = mem_alloc(line * (size_t)o->H), *grid = mem_calloc((size_t)rows * (size_t)o->H, width);
    if (!tile || !grid) st = fail(err, ERR_TEMP, "out of memory for a grid of %d pictures", o->count);
    for (int i = 0; i < o->count && !st; i++) {
        st = draw_tile(o, i, tile, err);
        for (int y = 0; y < o->H; y++) {
            uint8_t *to = grid + (size_t)(i / columns * o->H + y) * width + (size_t)(i % columns) * line;
            memcpy(to, tile + (size_t)y * line, line);
            if (o->mask)
                for (size_t x = 0; x < line; x++)
                    to[x] = (uint8_t)(to[x] * 127); // labels 1 and 2 for the eye
        }
    }
    if (!st) st = png_save(o->out, rows * o->H, columns * o->W, (int)channels, grid, err);
    mem_free(tile);
    mem_free(grid);
    return st;
}

// ---- vocab

static status make_vocab(const options *o, error *err) {
    arena a = {0};
    vocab v;
    status st = needs_out(o, err);
    if (!st) st = make_folder(o->out, err);
    if (!st) st = vocab_build(&v, &a, err);
    if (!st) st = vocab_save(&v, o->out, err);
    if (!st) printf("%d tokens, %d merges\n", v.tokens, v.merges);
    arena_free(&a);
    return st;
}

// ---- bench

static status run_bench(const options *o, error *err) {
    float *pixels = mem_alloc(3 * (size_t)o->H * (size_t)o->W * sizeof *pixels);
    if (!pixels) return fail(err, ERR_TEMP, "out of memory");
    status st = OK;
    double best = 0;
    for (int round = 0; round < 5 && !st; round++) {
        double start = clock_seconds();
        for (int i = 0; i < o->count && !st; i++) {
            scene s = nth_scene(o, i);
            st = picture_f32(&s, o->H, o->W, pixels, err);
        }
        double speed = o->count / (clock_seconds() - start);
        if (speed > best) best = speed;
    }
    if (!st)
        printf("%.0f pictures/s of %d×%d on one core (scene and floats, best of 5 rounds)\n", best, o->W,
               o->H);
    mem_free(pixels);
    return st;
}

static const struct {
    const char *name;
    status (*run)(const options *, error *);
    bool words; // takes more than options
} COMMANDS[] = {{"dataset", make_dataset, false}, {"prompts", print_prompts, false},
                {"grid", make_grid, false},       {"vocab", make_vocab, false},
                {"bench", run_bench, false},      {"recogniser", recogniser_command, true},
                {"score", score_command, true}};

static status run(const options *o, error *err) {
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        if (strcmp(o->command, COMMANDS[i].name) != 0) continue;
        if (o->words && !COMMANDS[i].words) return fail(err, ERR_USAGE, "'%s' is no option", o->word[0]);
        return COMMANDS[i].run(o, err);
    }
    return fail(err, ERR_USAGE, "'%s' is no command; see calotype-world --help", o->command);
}

int main(int argc, char **argv) {
    options o;
    error err = {0};
    standard_hold();
    if (argc > 1 && !strcmp(argv[1], "train")) return train_command(argc - 1, argv + 1, world_train, NULL);
    if (argc > 2 && !strcmp(argv[1], "recogniser") && !strcmp(argv[2], "train"))
        return train_command(argc - 2, argv + 2, world_train_recogniser, "recogniser");
    status st = world_options(argc, argv, &o, &err);
    if (!st && (o.help || argc == 1))
        fputs(OPTIONS_HELP, stdout);
    else if (!st)
        st = run(&o, &err);
    if (st) fprintf(stderr, "calotype-world: %s\n", err.text);
    return (int)st;
}
