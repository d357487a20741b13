// libFuzzer: what kind of model a checkpoint in one file is, and what configurations its tensors say. The
// input is a list of tensors (listing.h). What opens must have configurations that are read or refused by
// name, and its names must come back.
#include "core/base/mem.h"
#include "core/models/checkpoint.h"
#include "core/models/clip.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "samplers/scheduler_config.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/listing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

void fuzz_start(void) { fuzz_folder(folder); }

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
    const char *path = listing_write(folder, data, n);
    if (!path) return;
    open_checkpoint(path);
    unlink(path);
}
