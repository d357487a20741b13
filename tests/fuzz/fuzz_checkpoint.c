// libFuzzer: what kind of model a checkpoint in one file is, and what configurations its tensors say. The
// input is a list of tensors, so that large ones cost nothing:
//
//   the file's name
//   NAME SIZE SIZE ...     a tensor of zeros; with ! in front of the name its last value is 1
//   @KEY VALUE             metadata
//
// What opens must have configurations that are read or refused by name, and its names must come back.
#include "core/base/mem.h"
#include "core/models/checkpoint.h"
#include "core/models/clip.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "samplers/scheduler_config.h"
#include "tests/fuzz/fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TENSORS = 4096, MAX_SIZES = 5, ONE = 0x38 }; // 1.0 in F8_E4M3

static char folder[64];

void fuzz_start(void) { fuzz_folder(folder); }

// ---- from the list to a file

enum { MAX_TEXT = 1 << 20 }; // more than a list of 100,000 bytes and MAX_TENSORS needs

// The header as text: neither jansson nor streams in memory, since those fail on request.
typedef struct {
    char text[MAX_TEXT];
    size_t n;
} pieces;

typedef struct {
    pieces tensors, metadata;
    int64_t end, ones[MAX_TENSORS]; // bytes of values; where those are that are 1
    int n, n_ones;
} listing;

__attribute__((format(printf, 2, 3))) static void put(pieces *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    p->n += (size_t)vsnprintf(p->text + p->n, MAX_TEXT - p->n, format, args);
    va_end(args);
    if (p->n >= MAX_TEXT) abort();
}

static void put_text(pieces *p, const char *text) {
    put(p, "\"");
    for (; *text; text++)
        p->text[p->n++] = *text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '_' : *text;
    put(p, "\"");
}

// Sizes of more bytes than a file has end the list.
static bool add_tensor(listing *l, char *line) {
    char *rest = line, *name = strsep(&rest, " "), shape[200] = "";
    bool one = *name == '!';
    int64_t count = 1;
    for (int i = 0; rest && i < MAX_SIZES; i++) {
        int64_t size = atoll(strsep(&rest, " "));
        if (size < 0 || __builtin_mul_overflow(count, size, &count) || count > INT32_MAX) return false;
        size_t at = strlen(shape);
        snprintf(shape + at, sizeof shape - at, "%s%lld", i ? "," : "", (long long)size);
    }
    put_text(&l->tensors, name + one);
    put(&l->tensors, ":{\"dtype\":\"F8_E4M3\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]},\n", shape,
        (long long)l->end, (long long)(l->end + count));
    l->end += count;
    if (one && count) l->ones[l->n_ones++] = l->end - 1;
    return ++l->n < MAX_TENSORS;
}

static bool add_line(listing *l, char *line) {
    if (*line != '@') return !*line || add_tensor(l, line);
    char *value = line + 1, *key = strsep(&value, " ");
    if (l->metadata.n) put(&l->metadata, ",");
    put_text(&l->metadata, key);
    put(&l->metadata, ":");
    put_text(&l->metadata, value ? value : "");
    return ++l->n < MAX_TENSORS;
}

// The header, and behind it values that take no memory.
static void write_file(const listing *l, const char *path) {
    FILE *f = fopen(path, "wb");
    uint64_t n = l->tensors.n + l->metadata.n + strlen("{\"__metadata__\":{}}");
    if (!f || fwrite(&n, 8, 1, f) != 1) abort();
    fprintf(f, "{%s\"__metadata__\":{%s}}", l->tensors.text, l->metadata.text);
    for (int i = 0; i < l->n_ones; i++)
        if (fseek(f, (long)(n + 8) + l->ones[i], SEEK_SET) || fputc(ONE, f) != ONE) abort();
    if (fclose(f) || truncate(path, (off_t)(n + 8) + l->end)) abort();
}

// ---- what the file says

static void need(bool good) {
    if (!good && !fuzz_failed()) abort();
}

static void read_config(const char *component, const json_t *config) {
    error err = {0};
    unet_config unet;
    vae_config vae;
    clip_config clip;
    schedule_config schedule;
    status s = !strcmp(component, "unet")        ? unet_config_parse(&unet, config, component, &err)
               : !strcmp(component, "vae")       ? vae_config_parse(&vae, config, component, &err)
               : !strcmp(component, "scheduler") ? scheduler_config_read(&schedule, config, &err)
               : strncmp(component, "text", 4)   ? OK
                                                 : clip_config_parse(&clip, config, component, &err);
    if (s && !*err.text) abort();
}

// A name of theirs, or thirds of it, must be told as ours, and ours be such that no row is confused by it.
static void read_name(const file_names *names, const char *theirs) {
    for (tensor_view third = VIEW_WHOLE; third <= VIEW_LAST_THIRD; third++) {
        char ours[NAME_SIZE], needed[NAME_SIZE];
        tensor_view view;
        if (!names_recall(names, theirs, third, ours, &view)) continue;
        if (!*ours) abort();
        for (const name_row *row = names->rows; row->ours; row++)
            if (names_need(names, row, ours, needed) && !*needed) abort();
    }
}

static void read_component(checkpoint *c, const char *component) {
    error err = {0};
    json_t *config = checkpoint_config(c, component, &err);
    if (!config && (!err.code || !*err.text)) abort();
    if (config) read_config(component, config);
    json_decref(config);
    const file_names *names = checkpoint_names(c, component);
    if (!names) return;
    if (!checkpoint_weights(c, component, &(error){0})) need(false);
    const model_files *files = checkpoint_files(c);
    for (size_t i = 0; i < model_files_count(files); i++) {
        const char *theirs = model_files_at(files, i).tensor->name;
        if (!strncmp(theirs, names->prefix, strlen(names->prefix))) read_name(names, theirs);
    }
}

static void read_checkpoint(checkpoint *c) {
    static const char *const COMPONENTS[] = {"unet",      "vae",       "text_encoder", "text_encoder_2",
                                             "scheduler", "tokenizer", "tokenizer_2"};
    const finding *found;
    file_names alone, place;
    int steps = 0;
    json_t *settings = checkpoint_settings(c);
    need(settings != NULL);
    json_decref(settings);
    if (checkpoint_few_steps(c, &steps) && steps < 1) abort();
    for (size_t i = 0; i < sizeof COMPONENTS / sizeof *COMPONENTS; i++) read_component(c, COMPONENTS[i]);
    if (!checkpoint_prediction_known(c)) checkpoint_settle(c, steps ? "sample" : "v_prediction", "a test");
    need(checkpoint_prediction_known(c));
    for (size_t i = 0, n = checkpoint_findings(c, &found); i < n; i++)
        if (!*found[i].what || !*found[i].value || !*found[i].because) abort();
    if (checkpoint_prefix(c, "vae") && !checkpoint_vae_names(checkpoint_files(c), &alone)) abort();
    if (!checkpoint_place(checkpoint_kind_of(c), "unet", &place)) abort();
    if (checkpoint_place(checkpoint_kind_of(c), "scheduler", &place)) abort();
    checkpoint_place(checkpoint_kind_of(c), "text_encoder_2", &place);
    if (!(checkpoint_vae_scaling(checkpoint_kind_of(c)) > 0)) abort();
}

static void open_checkpoint(const char *path) {
    error err = {0};
    checkpoint *c = checkpoint_open(path, &err);
    if (!c && (!err.code || !*err.text)) abort();
    if (c) read_checkpoint(c);
    checkpoint_close(c);
}

void fuzz_input(const uint8_t *data, size_t n) {
    static char text[100001];
    static listing l;
    char *rest = text, path[200];
    if (n >= sizeof text) return;
    memcpy(text, data, n);
    text[n] = 0;
    char *name = strsep(&rest, "\n");
    snprintf(path, sizeof path, "%s/%.100s.safetensors", folder,
             *name && !strchr(name, '/') ? name : "model");
    l.tensors.n = l.metadata.n = 0;
    l.tensors.text[0] = l.metadata.text[0] = 0;
    l.end = l.n = l.n_ones = 0;
    while (rest && add_line(&l, strsep(&rest, "\n"))) continue;
    write_file(&l, path);
    open_checkpoint(path);
    unlink(path);
}
