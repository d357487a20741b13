// What a training run is told: a JSON file, read by one table of keys.
//
// A file may hold "stages": a list of objects that override the keys marked as belonging to a stage. They are
// gone through in order, each from where the one before ended, with its own learning rate curve.
#pragma once
#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/train/optimizer.h"
#include "core/train/source.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { TRAIN_STAGES_MAX = 32, TRAIN_SIZES_MAX = 32, TRAIN_PROMPTS_MAX = 64 };

typedef enum { TRAIN_VAE, TRAIN_TEXT2IMG, TRAIN_FINETUNE } train_kind;
// "vae", "text2img" or "finetune"; NULL and other words are ERR_USAGE.
status train_kind_find(const char *name, train_kind *kind, error *err);

// Keys that a stage may override.
typedef struct {
    const char *data;
    source_size sizes[TRAIN_SIZES_MAX];
    int n_sizes;
    int64_t samples, batch, accumulate, crop, cache, warmup;
    bool decoder_only;
    double lr, lr_end;
} train_stage;

typedef struct {
    const char *name;    // of the file, for messages; the caller's
    train_kind kind;     // of the call, not of the file
    bool resume;         // of the call
    bool ignore_machine; // of the call
    bool ignore_config;  // of the call
    bool profile;        // of the call: time every kernel and tell at the end of a stage where it went
    const char *model, *start, *out;
    const char *precision; // "auto", "f32", "bf16"
    const char *save_as;   // "F32", "F16", "BF16"
    int64_t seed, threads;
    bool skip_bad;
    double beta1, beta2, eps, weight_decay, clip, ema;
    double l1, mse, edge, kl;
    int64_t pooled_every;
    double caption_dropout, time_power;
    int64_t log_every, checkpoint_every, keep, grid_every, grid_steps;
    double grid_guidance, grid_rescale;
    const char *prompts[TRAIN_PROMPTS_MAX];
    int n_prompts;
    int n_stages;
    train_stage stage[TRAIN_STAGES_MAX];
    arena mem; // strings
} train_config;

// One key, for help texts.
typedef struct {
    const char *name, *otherwise, *range, *help; // "batch", "32", "1 to 4096"
    bool stage;
} train_key;

// Row i of the table, NULL behind the last. `room` holds the texts of the returned row.
typedef struct {
    train_key key;
    char range[64], otherwise[64];
} train_key_room;
const train_key *train_key_at(int i, train_key_room *room);

// Fills every field but those of the call. ERR_DATA names a key that is unknown, malformed or out of range.
// Free with train_config_free, on failure too.
status train_config_load(train_config *c, const char *path, error *err);
status train_config_parse(train_config *c, const char *name, const char *text, size_t n, error *err);
void train_config_free(train_config *c);

// What a checkpoint keeps: an object with every key that a file may hold, each stage with all of its own.
// NULL when memory is short; json_decref.
json_t *train_config_json(const train_config *c);
// What in `now` would have made a run another one that went through `stages` stages, the last one perhaps in
// part, as `then` says; both are from train_config_json. Later stages count for nothing, nor do keys that
// only say what is written where and when, or that the checkpoint's machine stands for. Keys that one of
// them lacks, being of another release, are not compared. Writes a list like
// "lr" of stage 2: 0.001, now 0.01; "seed": 1, now 2
// into text, cut to fit, and returns how many there are.
int train_config_changes(const json_t *then, const json_t *now, int stages, char *text, size_t size);
