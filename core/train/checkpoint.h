// A checkpoint: one safetensors file with the values, moments and averages of all parameters, and in its
// metadata where the run stands. It appears whole or not at all.
#pragma once
#include "core/base/log.h"
#include "core/train/params.h"

#include <jansson.h>

typedef struct {
    const char *kind; // "vae"
    int64_t step;     // updates done, of all stages together
    int stage;        // in which the next update lies
    int64_t at;       // updates done in that stage
    // What must be equal for a bit-identical continuation.
    const char *machine, *precision;
    int64_t threads;
    const json_t *config; // of the run: train_config_json
} checkpoint_state;

// What may be other than it was.
typedef struct {
    bool ignore_machine, ignore_config; // then a warning
    const log_sink *log;                // may be NULL
} checkpoint_tolerance;

// DIR/step-0000001000.safetensors; afterwards only the newest `keep` remain. *saved, unless NULL, is its
// path; mem_free.
status checkpoint_save(const char *dir, const checkpoint_state *s, const params *p, int keep, char **saved,
                       error *err);

// The newest checkpoint of the folder, NULL if there is none (or memory is short); mem_free.
char *checkpoint_latest(const char *dir);

// Fills sealed parameters and the first numbers of `s`, whose other fields are what this run has. Another
// kind or other tensors are ERR_DATA, and so is what would not continue bit for bit, unless tolerated:
// another machine, precision or number of threads; a configuration of which a key has changed that matters to
// what was done already (train_config_changes).
status checkpoint_load(const char *path, checkpoint_state *s, params *p, const checkpoint_tolerance *allow,
                       error *err);
