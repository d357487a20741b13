// Training: one call that goes through a configuration's stages.
//
//     train_config c;
//     if (!train_config_load(&c, "talbot.json", &err)) {
//         c.kind = TRAIN_VAE;
//         train_run(&c, &(train_hooks){.log = &log}, &err);
//     }
//     train_config_free(&c);
//
// In the folder `out`: loss.csv and loss.png, checkpoints/, samples/ and at the end model/, a folder in the
// layout of diffusers that holds the moving averages.
#pragma once
#include "core/base/log.h"
#include "core/calotype.h"
#include "core/train/config.h"
#include "core/train/source.h"

#include <stdbool.h>

// Opens a source that is no folder: `spec` is the configuration's data with a word and a colon in front
// ("world:singles"). The source may answer any picture size.
typedef status train_source_opener(void *user, const char *spec, uint64_t seed, sample_source *source,
                                   error *err);

typedef struct {
    const log_sink *log; // may be NULL
    void *user;
    // (optional) Asked after every update; true: write a checkpoint and return ERR_CANCELLED.
    bool (*cancelled)(void *user);
    // (optional) Told of every update and of every file.
    void (*event)(void *user, const calo_train_event *e);
    train_source_opener *open_source; // (optional)
} train_hooks;

// Runs to the end, or from the newest checkpoint on where c->resume says so. Without it, an `out` that holds
// a checkpoint is ERR_CANTCREAT. ERR_DATA also means a loss or gradient that is not a number: the updates
// before it become a checkpoint beside those that there are.
status train_run(const train_config *c, const train_hooks *hooks, error *err);
