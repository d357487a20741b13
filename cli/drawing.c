#include "cli/drawing.h"

#include <string.h>

static const char *const SCHEDULERS[] = {"auto", "leading", "linspace", "trailing", "karras", NULL};
static const char *const PREDICTIONS[] = {"auto", "eps", "v", "x0", NULL};
static const char *const RNGS[] = {"cpu", "nv", NULL};

#define AT(field) offsetof(drawing, field)
const option DRAWING_OPTIONS[] = {
    {'p', "prompt", OPTION_TEXT, AT(prompt), "TEXT", "what to draw"},
    {'n', "negative-prompt", OPTION_TEXT, AT(negative), "TEXT", "what to keep away from"},
    {'W', "width", OPTION_INT, AT(width), "N", "pixels (default: as the model was trained)", 1, 8192},
    {'H', "height", OPTION_INT, AT(height), "N", "pixels", 1, 8192},
    {0, "steps", OPTION_INT, AT(steps), "N", "sampling steps (20)", 1, 1000},
    {0, "cfg-scale", OPTION_REAL, AT(cfg_scale), "X", "guidance; 1 is none (7)", -1000, 1000},
    {0, "cfg-rescale", OPTION_REAL, AT(cfg_rescale), "X", "0 to 1 (0.7 for a zero-SNR model, else 0)", 0, 1},
    {0, "sampling-method", OPTION_TEXT, AT(sampler), "NAME", "see below (default: the model's, or dpmpp_2m)",
     .names = calo_sampler_name},
    {0, "scheduler", OPTION_CHOICE, AT(scheduler), "NAME",
     "leading, linspace, trailing or karras (the model's)", .choices = SCHEDULERS},
    {0, "prediction", OPTION_CHOICE, AT(prediction), "NAME", "eps, v or x0 (the model's)",
     .choices = PREDICTIONS},
    {0, "zero-snr", OPTION_SET, AT(zero_snr), NULL, "rescale the schedule to zero terminal SNR",
     .value = CALO_ZERO_SNR_ON},
    {0, "no-zero-snr", OPTION_SET, AT(zero_snr), NULL, "leave it as it is", .value = CALO_ZERO_SNR_OFF},
    {'s', "seed", OPTION_LONG, AT(seed), "N", "picture i has seed + i; negative: random (-1)", -1e18, 1e18},
    {'b', "batch-count", OPTION_INT, AT(count), "N", "pictures (1)", 1, 100000},
    {0, "rng", OPTION_CHOICE, AT(rng), "NAME", "cpu or nv: which program's noise a seed means (cpu)",
     .choices = RNGS},
    {0, "quality", OPTION_INT, AT(quality), "N", "of jpg and webp (95; webp: lossless)", 1, 100},
    {0, "no-metadata", OPTION_FLAG, AT(no_metadata), NULL, "do not write into the picture how it was made"},
    {0, "sampler", OPTION_TEXT, AT(sampler), "NAME", NULL},
    {0, "disable-image-metadata", OPTION_FLAG, AT(no_metadata), NULL, NULL},
    {0}};

drawing drawing_defaults(void) {
    return (drawing){.common = common_defaults(), .steps = 20, .cfg_scale = 7, .cfg_rescale = -1, .seed = -1};
}

calo_txt2img_request drawing_request(const drawing *d) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = d->prompt;
    r.negative_prompt = d->negative;
    r.width = d->width;
    r.height = d->height;
    r.steps = d->steps;
    r.cfg_scale = d->cfg_scale;
    r.cfg_rescale = d->cfg_rescale;
    r.sampler = d->sampler;
    r.spacing = (calo_spacing)d->scheduler;
    r.prediction = (calo_prediction)d->prediction;
    r.zero_snr = (calo_zero_snr)d->zero_snr;
    r.rng = (calo_rng)d->rng;
    r.no_hash = d->no_metadata;
    return r;
}

calo_save_options drawing_save_options(const drawing *d, bool overwrite) {
    calo_save_options o = calo_save_defaults();
    o.overwrite = overwrite;
    o.no_metadata = d->no_metadata;
    o.quality = d->quality;
    return o;
}

bool drawing_has_format(const char *path) {
    static const char *const KNOWN[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!strcasecmp(dot, KNOWN[i])) return true;
    return false;
}
