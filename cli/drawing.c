#include "cli/drawing.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const PREDICTIONS[] = {"auto", "eps", "v", "x0", NULL};
static const char *const EMPHASES[] = {"original", "no-norm", "comfy", "none", NULL};
static const char *const LAYOUTS[] = {"a1111", "comfy", "diffusers", NULL};
static const char *const STEP_NOISES[] = {"auto", "plain", "brownian", NULL};
static const char *const RESIZES[] = {"stretch", "crop", "fill", NULL};
static const char *const CONTENTS[] = {"original", "fill", "noise", "zeros", NULL};
static const char *const TILINGS[] = {"auto", "on", "off", NULL};
static const char *const RNGS[] = {"cpu", "nv", NULL};
static const char *const SAMPLER_RNGS[] = {"same", "cpu", "nv", NULL};

#define AT(field) offsetof(drawing, field)
const option DRAWING_OPTIONS[] = {
    {'p', "prompt", OPTION_TEXT, AT(prompt), "TEXT", "what to draw"},
    {'n', "negative-prompt", OPTION_TEXT, AT(negative), "TEXT", "what to keep away from"},
    {'W', "width", OPTION_INT, AT(width), "N", "pixels (default: as the model was trained)", 1, 8192,
     .memory = true},
    {'H', "height", OPTION_INT, AT(height), "N", "pixels", 1, 8192, .memory = true},
    {0, "size", OPTION_SIZE, AT(width), "WxH", "width and height at once", 1, 8192, .memory = true},
    {0, "steps", OPTION_INT, AT(steps), "N", "sampling steps (20, or what the model is made for)", 1, 1000,
     .memory = true},
    {0, "cfg-scale", OPTION_REAL, AT(cfg_scale), "X",
     "guidance; 1 is none (7, or what the model is made for)", -1000, 1000, .memory = true},
    {0, "cfg-rescale", OPTION_REAL, AT(cfg_rescale), "X", "0 to 1 (0.7 for a zero-SNR model, else 0)", 0, 1},
    {0, "sampling-method", OPTION_TEXT, AT(sampler), "NAME", "a sampler (the model's, or dpmpp_2m)",
     .names = calo_sampler_name, .memory = true},
    {0, "scheduler", OPTION_TEXT, AT(scheduler), "NAME", "which points the steps visit (the model's)",
     .names = calo_spacing_name},
    {0, "eta", OPTION_REAL, AT(eta), "X", "share of fresh noise at each step, 0 to 1 (the sampler's)", 0, 1},
    {0, "s-noise", OPTION_REAL, AT(s_noise), "X", "factor of the steps' noise (1)", 0, 100},
    {0, "s-churn", OPTION_REAL, AT(s_churn), "X",
     "noise that euler, heun and dpm2 add before their steps (0)", 0, 900},
    {0, "s-tmin", OPTION_REAL, AT(s_tmin), "X", "where sigma/alpha is at least this", 0, 1e9},
    {0, "s-tmax", OPTION_REAL, AT(s_tmax), "X", "and at most this", 0, 1e9},
    {0, "cfg-start", OPTION_REAL, AT(cfg_start), "X", "guidance from this share of the steps on (0)", 0, 1},
    {0, "cfg-end", OPTION_REAL, AT(cfg_end), "X", "and up to this one; the prompt alone elsewhere (1)", 0, 1},
    {0, "prediction", OPTION_CHOICE, AT(prediction), "NAME", "eps, v or x0 (the model's)",
     .choices = PREDICTIONS},
    {0, "zero-snr", OPTION_SET, AT(zero_snr), NULL, "rescale the schedule to zero terminal SNR",
     .value = CALO_ZERO_SNR_ON, .memory = true},
    {0, "no-zero-snr", OPTION_SET, AT(zero_snr), NULL, "leave it as it is", .value = CALO_ZERO_SNR_OFF,
     .memory = true},
    {'s', "seed", OPTION_LONG, AT(seed), "N", "picture i has seed + i; negative: random (-1)", -1e18, 1e18},
    {'b', "batch-count", OPTION_INT, AT(count), "N", "pictures (1)", 1, 100000},
    {0, "rng", OPTION_CHOICE, AT(rng), "NAME", "cpu or nv: which program's noise a seed means (cpu)",
     .choices = RNGS},
    {0, "sampler-rng", OPTION_CHOICE, AT(sampler_rng), "NAME",
     "the same of the steps' noise, where it is another one's: same, cpu or nv (same)",
     .choices = SAMPLER_RNGS},
    {0, "noise-layout", OPTION_CHOICE, AT(noise_layout), "NAME",
     "a1111, comfy or diffusers: how pictures share a generator, and whether steps have their own (a1111)",
     .choices = LAYOUTS},
    {0, "batch-index", OPTION_INT, AT(batch_index), "N",
     "draw again what a batch of these layouts had from this picture on, counted from 0 (0)", 0, 99999},
    {0, "batch-size", OPTION_INT, AT(batch_size), "N", "and how many pictures that batch had (-b)", 1,
     100000},
    {0, "step-noise", OPTION_CHOICE, AT(step_noise), "NAME",
     "plain; brownian: a seed's is the same with any number of steps; auto: as the layout's program (auto)",
     .choices = STEP_NOISES},
    {0, "ensd", OPTION_INT, AT(ensd), "N", "the steps' noise has a generator of the seed plus this (none)",
     -2147483647, 2147483647},
    {0, "emphasis", OPTION_CHOICE, AT(emphasis), "HOW",
     "what (weights:1.2) do: original and no-norm as in A1111, comfy, none: prompts are plain text "
     "(original)",
     .choices = EMPHASES},
    {0, "clip-skip", OPTION_INT, AT(clip_skip), "N",
     "layer of the text encoder, 1 is the last (as the model was trained)", 1, 100},
    {'i', "init-img", OPTION_TEXT, AT(init_img), "FILE", "begin from this picture", .memory = true},
    {0, "strength", OPTION_REAL, AT(strength), "X", "share of the steps that change it (0.75)", 0, 1},
    {0, "image-cfg-scale", OPTION_REAL, AT(image_cfg_scale), "X",
     "guidance by that picture, of models that edit (instruct-pix2pix); 1 is none (1.5)", -1000, 1000},
    {0, "resize-mode", OPTION_CHOICE, AT(resize_mode), "HOW",
     "stretch, crop or fill: how it takes another size (stretch)", .choices = RESIZES},
    {0, "mask", OPTION_TEXT, AT(mask), "FILE", "draw it anew where this picture is white", .memory = true},
    {0, "mask-blur", OPTION_INT, AT(mask_blur), "N", "pixels of its border (4)", 0, 256},
    {0, "mask-content", OPTION_CHOICE, AT(mask_content), "WHAT",
     "what is there at first: original, fill, noise or zeros (original)", .choices = CONTENTS},
    {0, "inpaint-full-res", OPTION_FLAG, AT(only_masked), NULL, "draw what is masked alone, in full size",
     .memory = true},
    {0, "mask-padding", OPTION_INT, AT(mask_padding), "N", "and so many pixels around it (32)", 0, 8192},
    {0, "outpaint", OPTION_TEXT, AT(outpaint), "L,R,T,B", "add pixels at left, right, top, bottom, masked",
     .memory = true},
    {0, "hires", OPTION_FLAG, AT(hires), NULL, "make the picture larger and draw over it once more",
     .memory = true},
    {0, "hires-scale", OPTION_REAL, AT(hires_scale), "X", "larger by this factor (2)", 0.1, 64,
     .memory = true},
    {0, "hires-width", OPTION_INT, AT(hires_width), "N", "or as wide as this", 1, 8192, .memory = true},
    {0, "hires-height", OPTION_INT, AT(hires_height), "N", "or as high; what does not fit both is cut", 1,
     8192, .memory = true},
    {0, "hires-upscaler", OPTION_TEXT, AT(hires_upscaler), "NAME",
     "how it is made larger, or the file of a network as upscale reads it (latent)",
     .names = calo_hires_upscaler_name, .memory = true},
    {0, "hires-steps", OPTION_INT, AT(hires_steps), "N", "steps of drawing over (--steps)", 1, 1000,
     .memory = true},
    {0, "hires-denoise", OPTION_REAL, AT(hires_denoise), "X", "how much that changes, above 0 to 1 (0.7)", 0,
     1, .memory = true},
    {0, "refiner", OPTION_TEXT, AT(refiner), "MODEL",
     "a second model that finishes the picture (SDXL's refiner): a folder, a file, org/name", .memory = true},
    {0, "refiner-switch-at", OPTION_REAL, AT(refiner_switch_at), "X",
     "from this share of the steps on; 1 is never (0.8)", 0, 1, .memory = true},
    {0, "vae-tiling", OPTION_CHOICE, AT(vae_tiling), "WHEN",
     "on, off or auto: the autoencoder in parts, in less memory and more time (auto: beyond 3 GiB)",
     .choices = TILINGS, .alone = "on", .memory = true},
    {0, "vae-tile-size", OPTION_INT, AT(vae_tile_size), "N", "and each as large as N x N pixels (256)", 64,
     8192, .memory = true},
    {0, "quality", OPTION_INT, AT(quality), "N", "of jpg and webp (95; webp: lossless)", 1, 100},
    {0, "no-metadata", OPTION_FLAG, AT(no_metadata), NULL, "do not write into the picture how it was made"},
    {0, "sampler", OPTION_TEXT, AT(sampler), "NAME", NULL, .memory = true},
    {0, "img-cfg-scale", OPTION_REAL, AT(image_cfg_scale), "X", NULL, -1000, 1000},
    {0, "only-masked", OPTION_FLAG, AT(only_masked), NULL, NULL, .memory = true},
    {0, "hires-denoising-strength", OPTION_REAL, AT(hires_denoise), "X", NULL, 0, 1, .memory = true},
    {0, "disable-image-metadata", OPTION_FLAG, AT(no_metadata), NULL, NULL},
    {0}};

drawing drawing_defaults(void) {
    calo_txt2img_request r = calo_txt2img_defaults();
    return (drawing){.common = common_defaults(),
                     .steps = r.steps,
                     .cfg_scale = r.cfg_scale,
                     .cfg_rescale = r.cfg_rescale,
                     .seed = -1,
                     .eta = r.eta,
                     .s_noise = r.s_noise,
                     .cfg_end = r.cfg_end,
                     .hires_denoise = r.hires_denoise,
                     .refiner_switch_at = r.refiner_switch_at,
                     .strength = r.strength,
                     .image_cfg_scale = r.image_cfg_scale,
                     .mask_blur = r.mask_blur,
                     .mask_padding = r.mask_padding};
}

void drawing_leave_open(drawing *d) {
    d->steps = 0;
    d->cfg_scale = NAN;
}

void drawing_settle(drawing *d, calo_model *m) {
    calo_model_advice a = {.size = sizeof a};
    calo_model_advise(m, &a);
    if (!d->steps) d->steps = a.steps;
    if (isnan(d->cfg_scale)) d->cfg_scale = a.cfg_scale;
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
    r.scheduler = d->scheduler;
    r.eta = d->eta;
    r.s_noise = d->s_noise;
    r.s_churn = d->s_churn;
    r.s_tmin = d->s_tmin;
    r.s_tmax = d->s_tmax;
    r.cfg_start = d->cfg_start;
    r.cfg_end = d->cfg_end;
    r.noise_layout = (calo_noise_layout)d->noise_layout;
    r.step_noise = (calo_step_noise)d->step_noise;
    r.eta_seed_delta = d->ensd;
    r.batch_index = d->batch_index;
    r.batch_size = d->batch_size;
    r.prediction = (calo_prediction)d->prediction;
    r.zero_snr = (calo_zero_snr)d->zero_snr;
    r.rng = (calo_rng)d->rng;
    r.sampler_rng = (calo_sampler_rng)d->sampler_rng;
    r.emphasis = (calo_emphasis)d->emphasis;
    r.clip_skip = d->clip_skip;
    r.strength = d->strength;
    r.image_cfg_scale = d->image_cfg_scale;
    r.resize = (calo_resize)d->resize_mode;
    r.mask_content = (calo_mask_content)d->mask_content;
    r.mask_blur = d->mask_blur;
    r.mask_padding = d->mask_padding;
    r.only_masked = d->only_masked;
    r.hires = d->hires;
    r.hires_scale = d->hires_scale;
    r.hires_width = d->hires_width;
    r.hires_height = d->hires_height;
    r.hires_upscaler = d->hires_upscaler;
    r.hires_steps = d->hires_steps;
    r.hires_denoise = d->hires_denoise;
    r.refiner_switch_at = d->refiner_switch_at;
    r.vae_tiling = (calo_tiling)d->vae_tiling;
    r.vae_tile_size = d->vae_tile_size;
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

// It draws into the first model's latents, so that one's autoencoder counts.
calo_status drawing_open_refiner(calo_context *ctx, const drawing *d, calo_model **refiner) {
    calo_model_options o = calo_model_defaults();
    o.vocabulary = d->common.clip_vocab;
    *refiner = NULL;
    return d->refiner ? calo_model_open_with(ctx, d->refiner, &o, refiner) : CALO_OK;
}

// ---- pictures to begin with

static int load(calo_context *ctx, const char *path, calo_images **list, const calo_image **picture) {
    int code = path ? (int)calo_image_load(ctx, path, list) : 0;
    *picture = calo_images_at(*list, 0);
    return code;
}

// Four numbers that are not negative, and nothing behind them.
static bool read_borders(const char *text, calo_txt2img_request *r) {
    int *const to[] = {&r->outpaint_left, &r->outpaint_right, &r->outpaint_top, &r->outpaint_bottom};
    char *end = (char *)(uintptr_t)text;
    for (int i = 0; i < 4; i++) {
        long v = *end >= '0' && *end <= '9' ? strtol(end, &end, 10) : -1;
        if (v < 0 || v > 8192 || *end != (i < 3 ? ',' : 0)) return false;
        *to[i] = (int)v;
        end += i < 3;
    }
    return true;
}

int drawing_load_pictures(calo_context *ctx, const drawing *d, calo_txt2img_request *r, drawing_pictures *p,
                          char *message, size_t size) {
    *p = (drawing_pictures){0};
    if ((d->mask || d->outpaint) && !d->init_img)
        return snprintf(message, size, "a mask or outpainting needs a picture: name one with --init-img"),
               CALO_ERR_USAGE;
    if (d->outpaint && !read_borders(d->outpaint, r))
        return snprintf(message, size,
                        "--outpaint %s: four numbers of 0 to 8192 are meant, left,right,top,bottom",
                        d->outpaint),
               CALO_ERR_USAGE;
    int code = load(ctx, d->init_img, &p->init, &r->init_image);
    if (!code) code = load(ctx, d->mask, &p->mask, &r->mask);
    if (code) snprintf(message, size, "%s", calo_message(ctx));
    return code;
}

void drawing_free_pictures(drawing_pictures *p) {
    calo_images_free(p->init);
    calo_images_free(p->mask);
}

// ---- shapes

static const char *or_none(const char *text) { return text ? text : ""; }

// What is not as usual, so that jobs keep the identities they had before there was a choice.
static void shape_tuning(FILE *f, const drawing *d) {
    drawing usual = drawing_defaults();
    if (d->scheduler) fprintf(f, "\nscheduler %s", d->scheduler);
    if (d->vae_tiling || d->vae_tile_size) fprintf(f, "\ntiles %d %d", d->vae_tiling, d->vae_tile_size);
    if (d->noise_layout || d->ensd) fprintf(f, "\nnoise %d %d", d->noise_layout, d->ensd);
    if (d->batch_index || d->batch_size) fprintf(f, "\nof a batch %d %d", d->batch_index, d->batch_size);
    if (d->sampler_rng) fprintf(f, "\nsampler rng %d", d->sampler_rng);
    if (d->step_noise) fprintf(f, "\nstep noise %d", d->step_noise);
    if (d->cfg_start != usual.cfg_start || d->cfg_end != usual.cfg_end)
        fprintf(f, "\nguidance %.17g %.17g", d->cfg_start, d->cfg_end);
    if (d->eta != usual.eta || d->s_noise != usual.s_noise || d->s_churn != usual.s_churn ||
        d->s_tmin != usual.s_tmin || d->s_tmax != usual.s_tmax)
        fprintf(f, "\ntuning %.17g %.17g %.17g %.17g %.17g", d->eta, d->s_noise, d->s_churn, d->s_tmin,
                d->s_tmax);
}

static void shape_second(FILE *f, const drawing *d) {
    if (d->hires || d->hires_scale != 0 || d->hires_width || d->hires_height)
        fprintf(f, "\nhires %.17g %d %d %d %.17g %s", d->hires_scale, d->hires_width, d->hires_height,
                d->hires_steps, d->hires_denoise, or_none(d->hires_upscaler));
}

char *drawing_shape(const drawing *d) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    fprintf(f, "%d %d %d 0 %d %d %d %d %.17g %.17g %s", d->width, d->height, d->steps, d->prediction,
            d->zero_snr, d->rng, d->no_metadata, d->cfg_scale, d->cfg_rescale, or_none(d->sampler));
    if (d->emphasis || d->clip_skip) fprintf(f, "\n%d %d", d->emphasis, d->clip_skip);
    if (d->init_img)
        fprintf(f, "\n%s\n%s\n%.17g %d %d %d %d %d %s", d->init_img, or_none(d->mask), d->strength,
                d->resize_mode, d->mask_content, d->mask_blur, d->mask_padding, d->only_masked,
                or_none(d->outpaint));
    if (d->image_cfg_scale != drawing_defaults().image_cfg_scale)
        fprintf(f, "\nedit %.17g", d->image_cfg_scale);
    shape_second(f, d);
    if (d->refiner) fprintf(f, "\nrefiner %.17g %s", d->refiner_switch_at, d->refiner);
    shape_tuning(f, d);
    if (!fclose(f)) return text;
    free(text);
    return NULL;
}

bool drawing_has_format(const char *path) {
    static const char *const KNOWN[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!strcasecmp(dot, KNOWN[i])) return true;
    return false;
}
