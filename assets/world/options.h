// The command line of calotype-world: a command, options and, for some commands, further words.
#pragma once
#include "assets/world/caption.h"
#include "assets/world/scene.h"
#include "core/base/status.h"

#include <stdint.h>

typedef struct {
    const char *command, *out;
    scene_choice choice;
    caption_style style;
    uint64_t seed;
    int count, H, W;
    double time;
    bool mask, lines, json, help;
    const char *weights, *vae, *captions;
    char *const *word; // what is no option, NULL-terminated
    int words;
} options;

status world_options(int argc, char **argv, options *out, error *err);
extern const char OPTIONS_HELP[];
