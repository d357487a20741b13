// What one picture is drawn from: the options that txt2img has and a job of batch may give.
#pragma once
#include "cli/session.h"

// Begins the struct that a command's options are stored in.
typedef struct {
    common common;
    const char *prompt, *negative, *sampler;
    int width, height, steps, scheduler, prediction, zero_snr, count, rng, quality;
    double cfg_scale, cfg_rescale;
    long long seed; // negative: random
    bool no_metadata;
} drawing;

extern const option DRAWING_OPTIONS[];
drawing drawing_defaults(void);
// All but the seed, which may have to be chosen. Texts are borrowed.
calo_txt2img_request drawing_request(const drawing *d);
// How its file is written.
calo_save_options drawing_save_options(const drawing *d, bool overwrite);
// Whether a file of this name can be written.
bool drawing_has_format(const char *path);
