// calotype draws pictures with diffusion models. A whole program:
//
//     #include <calotype.h>
//     int main(void) {
//         calo_context *ctx = NULL;
//         calo_model *model = NULL;
//         calo_images *images = NULL;
//         calo_txt2img_request r = calo_txt2img_defaults();
//         r.prompt = "a red balloon over a green hill, night";
//         if (calo_context_new(NULL, &ctx) || calo_model_open(ctx, NULL, &model) ||
//             calo_txt2img(model, &r, &images) || calo_image_save(ctx, calo_images_at(images, 0), "out.png",
//             NULL)) fprintf(stderr, "%s\n", calo_message(ctx));
//         calo_images_free(images), calo_model_free(model), calo_context_free(ctx);
//     }
//
// Every function that can fail returns a calo_status, which is also a good exit code; calo_message(ctx) says
// the same for people. On failure an output argument is NULL or untouched, except where said. Nothing here
// exits, aborts, prints, or keeps global state. Model folders, tensor files and pictures may come from
// anybody.
//
// A context and everything opened in it belong to one thread at a time; contexts are independent of each
// other, so two threads with a context each work side by side. Callbacks run in the thread of the call and
// may not call the library with the same context, except calo_image_save, calo_message and calo_cancel.
//
// Free functions accept NULL. Strings are UTF-8; those passed in are borrowed for the call. Layouts: pictures
// are rows of RGB bytes; latents and other images in tensors are [B,C,H,W] floats, as in diffusers.
//
// A program keeps running with a newer library of the same soname: requests begin with their size, which
// their init function writes together with the defaults, and fields behind that size have their defaults. A
// request that is larger than the library knows is refused only where the unknown part is not zero. Structs
// that the library hands out by pointer may grow at their end; calo_tensor never changes.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CALO_API __attribute__((visibility("default")))
#else
#define CALO_API
#endif

// Grows when functions or fields are added; calo_version is the release.
#define CALO_API_VERSION 10

typedef enum {
    CALO_OK = 0,
    CALO_ERR_USAGE = 2,      // wrong call or option
    CALO_ERR_DATA = 65,      // bad input or model: permanent
    CALO_ERR_NOINPUT = 66,   // input missing or unreadable
    CALO_ERR_INTERNAL = 70,  // a bug in calotype
    CALO_ERR_CANTCREAT = 73, // output cannot be created, or is there already
    CALO_ERR_IO = 74,        // reading or writing failed half way
    CALO_ERR_TEMP = 75,      // out of memory, disk full: may work later
    CALO_ERR_CANCELLED = 130 // stopped by the caller
} calo_status;

typedef struct calo_context calo_context;
typedef struct calo_model calo_model;
typedef struct calo_images calo_images;
typedef struct calo_tensors calo_tensors;
typedef struct calo_plan calo_plan;

CALO_API const char *calo_version(void); // "0.1.0"
// A JSON object: version, api, the instruction set that is used on this processor, what the library was built
// with, and the versions of the libraries that are loaded. Freed with calo_free; NULL when memory is short.
CALO_API char *calo_build(void);

// ---- context

typedef enum { CALO_LOG_ERROR, CALO_LOG_WARN, CALO_LOG_INFO, CALO_LOG_DEBUG } calo_log_level;

// bf16 products keep f32 sums and are used where the processor is fast at them; AUTO does, F32 never does.
typedef enum { CALO_PRECISION_AUTO, CALO_PRECISION_F32, CALO_PRECISION_BF16 } calo_precision;

// Convolutions with fewer multiplications (Winograd's) where they are faster. In bf16 their rounding error is
// up to twice that of direct arithmetic, in f32 1e-5 of a result. calo_run and training always compute
// directly.
typedef enum { CALO_FAST_AUTO, CALO_FAST_OFF } calo_fast;

// What a job does now: `step` of `steps` is done; each of the `images` of the request goes through the steps
// in groups of `group`, and `image` counts those finished. Valid during the callback. Within encoding and
// decoding in parts (vae_tiling) steps of "bands" are runs over a part, and those of "upscale" are tiles.
typedef struct {
    size_t size;       // of this struct, as the library knows it
    const char *stage; // "text", "load", "encode", "sample", "decode", "bands", "upscale"
    int step, steps;
    int image, group, images;
    double seconds; // of this step
} calo_progress;

typedef struct {
    size_t size; // of this struct, set by the init function
    int threads; // 0: one for each core this process may run on; at most 1024
    calo_precision precision;
    void (*log)(void *user, calo_log_level level, const char *text); // NULL: silent
    calo_log_level log_level;                                        // the most talkative that passes
    void (*progress)(void *user, const calo_progress *p);            // after every step; may be NULL
    int (*cancelled)(void *user); // asked after every step; nonzero ends the job with CALO_ERR_CANCELLED
    void *user;                   // for the three above
    calo_fast fast;
    int reserved; // 0
    // The most memory that calo_txt2img and calo_upscale may take, in bytes of the whole process; 0: as much
    // as is fastest. All models of the context share it: with a limit the networks take turns, Winograd's
    // weights are kept small where it is needed, and what still does not fit is read from the model's files
    // again in every step. A network that enlarges works in smaller tiles.
    uint64_t max_memory;
} calo_context_options;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_context_options_init(calo_context_options *options, size_t size);
static inline calo_context_options calo_context_defaults(void) {
    calo_context_options o;
    calo_context_options_init(&o, sizeof o);
    return o;
}

// `options` NULL: the defaults. CALO_ERR_USAGE for options out of range, CALO_ERR_TEMP when memory is short;
// there is no message then. *ctx is freed after everything that was opened in it.
CALO_API calo_status calo_context_new(const calo_context_options *options, calo_context **ctx);
CALO_API void calo_context_free(calo_context *ctx);
// Of the last failed call; "" after none. Valid until the next call. NULL gives "out of memory".
CALO_API const char *calo_message(const calo_context *ctx);
// While on is not 0, calo_txt2img, calo_upscale and calo_train end with CALO_ERR_CANCELLED after the step
// they are in; off again by calo_cancel(ctx, 0). The only function that another thread, a callback or a
// signal handler may call at any time.
CALO_API void calo_cancel(calo_context *ctx, int on);
// The precision that AUTO means here, "f32" or "bf16".
CALO_API const char *calo_precision_name(calo_context *ctx);

// ---- models

// A folder in the layout of diffusers (model_index.json and a folder for each component), a checkpoint in one
// file
// (.safetensors in the original layout of SD 1, SD 2 or SDXL), or "org/name", which is looked for in the
// cache of the Hugging Face hub and never downloaded. NULL: the model that comes with calotype, looked for in
// $CALOTYPE_DATA, beside the program, beside the library, and where it was installed. Networks are loaded
// when they are first used, so what is wrong with one is said then: CALO_ERR_NOINPUT names what is missing,
// CALO_ERR_DATA what is malformed. *model is freed before ctx.
CALO_API calo_status calo_model_open(calo_context *ctx, const char *path, calo_model **model);

typedef struct {
    size_t size;     // of this struct, set by the init function
    const char *vae; // an autoencoder in place of the model's: a file, its folder, or a model's; may be NULL
    const char *vocabulary; // folder of vocab.json and merges.txt for checkpoints in one file; NULL:
                            // calotype/clip in $XDG_DATA_HOME or ~/.local/share
} calo_model_options;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_model_options_init(calo_model_options *options, size_t size);
static inline calo_model_options calo_model_defaults(void) {
    calo_model_options o;
    calo_model_options_init(&o, sizeof o);
    return o;
}

// calo_model_open with choices; `options` may be NULL.
CALO_API calo_status calo_model_open_with(calo_context *ctx, const char *path,
                                          const calo_model_options *options, calo_model **model);
CALO_API void calo_model_free(calo_model *model);

// What a model is drawn with when nothing else is asked for; a request's defaults are an ordinary model's.
typedef struct {
    size_t size;           // of this struct, set by the caller
    const char *distilled; // "Turbo", "Lightning", "LCM", "Hyper": it draws in few steps; NULL: ordinary
    int steps;
    double cfg_scale;
} calo_model_advice;

// By the metadata of a checkpoint, the name of a file or folder, or what a folder's model_index.json says:
// "_calotype": {"steps": 12, "cfg_scale": 2}. The text is the library's.
CALO_API calo_status calo_model_advise(calo_model *model, calo_model_advice *advice);

// The *n tokens of a text of `length` bytes, without start and end, not cut, as the model's first text
// encoder reads them. *ids is freed with calo_free.
CALO_API calo_status calo_tokenize(calo_model *model, const char *text, size_t length, int32_t **ids,
                                   size_t *n);

// ---- pictures from text

typedef enum {
    CALO_SPACING_AUTO,
    CALO_SPACING_LEADING,
    CALO_SPACING_LINSPACE,
    CALO_SPACING_TRAILING,
    CALO_SPACING_KARRAS,
    CALO_SPACING_NORMAL,
    CALO_SPACING_SIMPLE,
    CALO_SPACING_SGM_UNIFORM,
    CALO_SPACING_DDIM_UNIFORM,
    CALO_SPACING_BETA,
    CALO_SPACING_EXPONENTIAL,
    CALO_SPACING_POLYEXPONENTIAL,
    CALO_SPACING_KL_OPTIMAL,
    CALO_SPACING_AYS,
    CALO_SPACING_AYS_SDXL,
    CALO_SPACING_LCM
} calo_spacing;
typedef enum { CALO_PREDICT_AUTO, CALO_PREDICT_EPS, CALO_PREDICT_V, CALO_PREDICT_X0 } calo_prediction;
typedef enum { CALO_ZERO_SNR_AUTO, CALO_ZERO_SNR_ON, CALO_ZERO_SNR_OFF } calo_zero_snr;
// CPU: torch's generator on the processor. NV: what other programs call "NV".
typedef enum { CALO_RNG_CPU, CALO_RNG_NV } calo_rng;
// Another generator for the steps' noise, of the same seed, as stable-diffusion.cpp has it: what is left of
// the first one's where they are of one kind. With COMFY's layout CPU for the first noise and NV for the
// steps' is ComfyUI on a graphics card.
typedef enum { CALO_SAMPLER_RNG_SAME, CALO_SAMPLER_RNG_CPU, CALO_SAMPLER_RNG_NV } calo_sampler_rng;
// How several images share a generator. A1111: one for each, from its seed. DIFFUSERS: one draws for all
// together, from the first seed, as its pipelines with a single generator. COMFY: so does ComfyUI, but the
// steps' noise comes from another one (of the next seed with CALO_RNG_CPU). Images with `seeds` of their own
// never share.
typedef enum { CALO_NOISE_A1111, CALO_NOISE_COMFY, CALO_NOISE_DIFFUSERS } calo_noise_layout;
// PLAIN: every step draws anew. BROWNIAN: steps take what one Brownian motion over sigma/alpha does between
// their ends, so a seed means the same path whatever the number of steps; that of k-diffusion's
// BrownianTreeNoiseSampler. AUTO: brownian with the layouts A1111 and COMFY for the samplers whose noise is
// of that kind there: dpmpp_sde, dpmpp_2m_sde, dpmpp_2m_sde_heun, dpmpp_3m_sde.
typedef enum { CALO_STEP_NOISE_AUTO, CALO_STEP_NOISE_PLAIN, CALO_STEP_NOISE_BROWNIAN } calo_step_noise;
// How weights in a prompt count. ORIGINAL: as in A1111, NO_NORM: as there with "No norm", COMFY: as in
// ComfyUI. With NONE prompts are plain text without any syntax, cut where one row of tokens ends.
typedef enum {
    CALO_EMPHASIS_ORIGINAL,
    CALO_EMPHASIS_NO_NORM,
    CALO_EMPHASIS_COMFY,
    CALO_EMPHASIS_NONE
} calo_emphasis;

// How a picture takes the size that is asked for: stretched; scaled until it covers all, and the rest cut;
// scaled until all of it is to be seen, and its edges going on.
typedef enum { CALO_RESIZE_STRETCH, CALO_RESIZE_CROP, CALO_RESIZE_FILL } calo_resize;
// What the network finds under the mask at first: the picture, the colours around, noise, or nothing.
typedef enum {
    CALO_CONTENT_ORIGINAL,
    CALO_CONTENT_FILL,
    CALO_CONTENT_NOISE,
    CALO_CONTENT_ZEROS
} calo_mask_content;

typedef enum { CALO_PREVIEW_VAE, CALO_PREVIEW_LINEAR } calo_preview_method;
typedef enum { CALO_TILING_AUTO, CALO_TILING_ON, CALO_TILING_OFF } calo_tiling;

typedef struct calo_image calo_image;

// Names follow diffusers. AUTO, 0 for a size and NULL mean: as the model is configured.
typedef struct {
    size_t size;                          // of this struct, set by the init function
    const char *prompt, *negative_prompt; // NULL reads as ""
    int width, height;                    // pixels, multiples of the autoencoder's factor f, at most 8192
    int steps;                            // 20; 1 .. 1000
    int count;                            // images; 0: as many as init_latents has, or 1
    double cfg_scale;                     // 7; 1 is no guidance
    double cfg_rescale;                   // 0 .. 1; negative: 0.7 for a zero-SNR schedule, else 0
    const char *sampler;                  // see calo_sampler_name; NULL: the model's, or "dpmpp_2m"
    calo_spacing spacing;
    calo_prediction prediction;
    calo_zero_snr zero_snr;
    calo_rng rng;
    uint64_t seed; // of the first image; image i has seed + i
    // Unit noise F32 [count,C,H/f,W/f] to start from instead of the seed's; the sampler scales it. Borrowed.
    const struct calo_tensor *init_latents;
    // Called with each finished image in order, valid during the call; another status than CALO_OK ends the
    // job with it. May be NULL.
    calo_status (*on_image)(void *user, const calo_image *image);
    // Called with each image of the group after every `preview_every` steps but the last: what it looks like
    // if the network is right so far, without a description. By default it costs a run of the autoencoder for
    // each image; the finished images are the same. Otherwise as on_image; image->seed tells which one it is.
    calo_status (*on_preview)(void *user, const calo_image *image, int step);
    void *user;        // for the two above
    int preview_every; // 0: never
    int no_hash;       // leave the checksum of the weights (seconds for large models, then cached) out of the
                       // description
    // Where not NULL, one for each of `count` images, which are drawn together all the same. Borrowed.
    const char *const *prompts, *const *negative_prompts;
    const uint64_t *seeds;
    // Prompts hold (weights:1.2), [from:to:when], [a|b] and BREAK; see docs/prompts.md.
    calo_emphasis emphasis;
    int clip_skip; // 0: as trained; 1: the text encoder's last layer, 2: the one before, ...
    // Where not NULL, a picture to begin with, of any size; its rgb counts. Borrowed. The autoencoder's
    // latents are drawn from their distribution by the seed, before the noise, as in diffusers.
    const calo_image *init_image;
    // White is drawn anew, black kept: outside of it the finished picture's bytes are those of init_image, in
    // its new size. Taken to init_image's size. Borrowed. An inpainting model (of 9 channels) needs one.
    const calo_image *mask;
    double strength; // 0.75; 0 .. 1: floor(strength · steps) of the steps are taken, at least one
    calo_resize resize;
    calo_mask_content mask_content;
    int mask_blur;    // 4; pixels of init_image, standard deviation
    int only_masked;  // draw what the mask shows alone, in the size that is asked for
    int mask_padding; // 32; and so many pixels around it
    int outpaint_left, outpaint_right, outpaint_top, outpaint_bottom; // pixels added to init_image, masked
    calo_noise_layout noise_layout;
    const char *scheduler; // a spacing by its name, see calo_spacing_name; NULL: `spacing`
    double eta;            // share of fresh noise at each step, 0 .. 1; negative: the sampler's own
    // 1, 0, 0, 0: factor of the steps' noise; how much noise euler, heun and dpm2 add before a step whose
    // sigma/alpha is in tmin .. tmax (0: no limit).
    double s_noise, s_churn, s_tmin, s_tmax;
    // 0, 1: guidance from this share of the steps on, up to that one; elsewhere the prompt is followed alone.
    double cfg_start, cfg_end;
    // 0; else the steps' noise comes from a generator of its own, of the seed plus this
    int64_t eta_seed_delta;
    // The autoencoder in parts of about vae_tile_size² pixels (0: 256): the same picture but for rounding, in
    // less memory and more time. AUTO: where the whole would take more than 3 GiB.
    calo_tiling vae_tiling;
    int vae_tile_size;
    // 1.5; how much of init_image shows in the pictures of a model that edits (8 channels, instruct-pix2pix):
    // guidance toward it. Such a model draws from nothing, so neither strength nor a mask counts.
    double image_cfg_scale;
    // Hires fix: the finished latents are made larger and drawn over with the last steps of a longer
    // schedule, noise and texts as in A1111. Wanted where one of hires, hires_scale, hires_width and
    // hires_height is not 0; width and height are then those of the first pass. See calo_hires_upscaler_name,
    // or a file that calo_upscaler_open reads: its network enlarges the first picture, with progress after
    // each tile (stage "upscale"), and Lanczos' filter brings it to the size; NULL: "latent".
    const char *hires_upscaler;
    double hires_scale;            // 0: 2
    double hires_denoise;          // 0.7; above 0, up to 1
    int hires_width, hires_height; // of the finished picture; 0: in proportion, or by hires_scale
    int hires_steps;               // 0: `steps`
    int hires;
    // LINEAR: the first, second, fourth, eighth ... preview is decoded; those in between show each latent as
    // a square of its colour, by a linear map fitted to the last one that was. They cost almost nothing.
    calo_preview_method preview_method;
    calo_step_noise step_noise;
    // NULL: none. A second model of the same latents and context that leads the last steps, as SDXL's
    // refiner: those from refiner_switch_at of them on (0.8, of 0 .. 1; with 1 it leads none). Its own text
    // encoders read the prompts, and it predicts what its own files say: prediction is of the first model,
    // zero_snr of both. Everything else is the first model's, and the sampler goes on as with one. With hires
    // fix it takes part in the second pass alone.
    calo_model *refiner;
    double refiner_switch_at;
    calo_sampler_rng sampler_rng;
    // 0, 0: the images are a whole batch. Else, in the layouts COMFY and DIFFUSERS, they are number
    // batch_index (from 0) and following of batch_size for which one generator of the seed `seed` -
    // batch_index draws: so a picture of a batch comes back alone. With `seeds` each is that of a batch of
    // its own.
    int batch_index, batch_size;
    // No other request of these models is to follow: each network is forgotten when it is done, the text
    // encoders behind the prompts and the UNets behind the last picture's steps, and the peak of memory is
    // that of the largest. What a later request wants it reads and packs again.
    int forget;
} calo_txt2img_request;

struct calo_image {
    size_t size;          // of this struct: sizeof, in one that a program makes to save it
    int width, height;    // pixels
    const uint8_t *rgb;   // height rows of width pixels of 3 bytes
    const float *latents; // [C,H/f,W/f], what went to the autoencoder, scaled as the UNet sees it
    int latent_shape[3];  // C, H/f, W/f
    uint64_t seed;
    const char *parameters; // how it was made, in the words of A1111; NULL in a preview
    const char *json;       // the same as a JSON object; NULL in a preview
};

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_txt2img_request_init(calo_txt2img_request *request, size_t size);
static inline calo_txt2img_request calo_txt2img_defaults(void) {
    calo_txt2img_request r;
    calo_txt2img_request_init(&r, sizeof r);
    return r;
}

// *images, which may be NULL when on_image is set, gets the finished images, also when the job ends early;
// freed with calo_images_free in any case. The same request gives the same bytes whatever the number of
// threads and however many images it asks for. CALO_ERR_USAGE names what of the request is out of range. A
// NaN is CALO_ERR_DATA and ends the job: a picture is never made from one (a picture that the autoencoder
// loses in bf16 is first decoded again in f32).
CALO_API calo_status calo_txt2img(calo_model *model, const calo_txt2img_request *request,
                                  calo_images **images);
CALO_API size_t calo_images_count(const calo_images *images);
// NULL behind the last. Belongs to the list.
CALO_API const calo_image *calo_images_at(const calo_images *images, size_t i);
CALO_API void calo_images_free(calo_images *images);
// A picture from a file, as a list of one: PNG, JPEG, WebP, BMP or TGA; alpha is dropped. It has no latents
// and no description. CALO_ERR_NOINPUT when there is none, CALO_ERR_DATA when it is malformed.
CALO_API calo_status calo_image_load(calo_context *ctx, const char *path, calo_images **picture);

// Row i of the samplers, NULL behind the last.
CALO_API const char *calo_sampler_name(int i);
// Row i of the spacings, NULL behind the last.
CALO_API const char *calo_spacing_name(int i);
// Row i of the ways in which hires fix makes latents larger, NULL behind the last.
CALO_API const char *calo_hires_upscaler_name(int i);

typedef struct {
    size_t size;     // of this struct, set by the init function
    int overwrite;   // replace a file of that name
    int no_metadata; // leave `parameters` and `json` out
    int quality;     // 1 .. 100 for JPEG and WebP; 0: 95, and lossless for WebP
    int reserved;    // 0
} calo_save_options;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_save_options_init(calo_save_options *options, size_t size);
static inline calo_save_options calo_save_defaults(void) {
    calo_save_options o;
    calo_save_options_init(&o, sizeof o);
    return o;
}

// PNG, JPEG or WebP by the extension of `path`; the file appears whole or not at all. `options` may be NULL.
// CALO_ERR_CANTCREAT when the file is there and `overwrite` is not set.
CALO_API calo_status calo_image_save(calo_context *ctx, const calo_image *picture, const char *path,
                                     const calo_save_options *options);

// ---- larger pictures

typedef struct calo_upscaler calo_upscaler;

// A network that enlarges pictures: RRDB in the layouts of ESRGAN, BasicSR and Real-ESRGAN, or
// SRVGGNetCompact, as .safetensors or as a file of torch, which is read as data. CALO_ERR_NOINPUT when there
// is none, CALO_ERR_DATA names what is malformed or missing. *upscaler is freed before ctx.
CALO_API calo_status calo_upscaler_open(calo_context *ctx, const char *path, calo_upscaler **upscaler);
CALO_API void calo_upscaler_free(calo_upscaler *upscaler);
// How much larger its pictures are on each side, 1 to 8.
CALO_API int calo_upscaler_scale(const calo_upscaler *upscaler);

typedef struct {
    size_t size;               // of this struct, set by the init function
    const char *in;            // a picture's file
    const char *out;           // the larger picture's file; may be NULL where a list is asked for
    const calo_image *picture; // in place of `in`, of which rgb, parameters and json count
    double
        scale; // of the sides in the end, by Lanczos' filter where it is not the network's; 0: the network's
    // At most so many pixels of the picture at once on a side, 128 .. 4096; 0: 384. Fewer where the context's
    // max_memory asks for it: the picture is what a tile of those gives.
    int tile;
    int overwrite;   // replace a file of that name
    int no_metadata; // leave out what the picture's file says, and what was done to it
    int quality;     // as in calo_save_options
} calo_upscale_request;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_upscale_request_init(calo_upscale_request *request, size_t size);
static inline calo_upscale_request calo_upscale_defaults(void) {
    calo_upscale_request r;
    calo_upscale_request_init(&r, sizeof r);
    return r;
}

// Enlarges one picture, with progress after each tile (stage "upscale"). Alpha is enlarged by Lanczos'
// filter, the texts of its file are kept, and what was done is added to them. *images, which may be NULL
// where there is an `out`, gets the larger picture without alpha as a list of one. CALO_ERR_USAGE names what
// of the request is out of range. A NaN is CALO_ERR_DATA, after a second try in f32 where it came from bf16.
CALO_API calo_status calo_upscale(calo_upscaler *upscaler, const calo_upscale_request *request,
                                  calo_images **images);

// ---- one network at a time

typedef enum { CALO_F32, CALO_I32, CALO_I64 } calo_type;

typedef struct calo_tensor {
    const char *name;
    calo_type type;
    int rank;         // 0 .. 8; 0 is a scalar
    int64_t shape[8]; // the first `rank` count
    const void *data; // row-major, the last dimension running fastest
} calo_tensor;

// Evaluates one network on n tensors named as in diffusers, which are borrowed for the call. *out gets F32
// tensors and is freed with calo_tensors_free. CALO_ERR_DATA names an input that is missing or does not fit.
//     unet            sample [B,C,H,W], timestep [] or [B], encoder_hidden_states [B,T,E], and where the
//                     configuration asks for them text_embeds, time_ids, class_labels, timestep_cond → sample
//     vae_encoder     sample [B,3,H,W] → mean, logvar (clamped to [-30, 20])
//     vae_decoder     latent [B,C,h,w], unscaled → sample
//     text_encoder    input_ids [B,T] → last_hidden_state, penultimate (input of the last layer, without the
//     text_encoder_2  final norm), and pooler_output or text_embeds
CALO_API calo_status calo_run(calo_model *model, const char *network, const calo_tensor *in, size_t n,
                              calo_tensors **out);
CALO_API size_t calo_tensors_count(const calo_tensors *tensors);
// Name and data belong to the list. All zero behind the last.
CALO_API calo_tensor calo_tensors_at(const calo_tensors *tensors, size_t i);
CALO_API void calo_tensors_free(calo_tensors *tensors);
// A safetensors file; other number formats than the three are read as F32.
CALO_API calo_status calo_tensors_load(calo_context *ctx, const char *path, calo_tensors **tensors);
// Writes n tensors as a safetensors file, which appears whole or not at all. CALO_ERR_CANTCREAT when it is
// there and `overwrite` is 0.
CALO_API calo_status calo_tensors_save(calo_context *ctx, const calo_tensor *tensors, size_t n,
                                       const char *path, int overwrite);

// ---- training

// What training has just done. Counts are of what is done and of all.
typedef struct {
    size_t size;             // of this struct
    const char *event;       // "stage" (begins), "update", "checkpoint", "grid", "model"
    const char *path;        // what was written; NULL for a stage and an update
    int stage, stages;       // from 1
    int64_t update, updates; // of the stage
    int64_t step, steps;     // updates of all stages
    double loss;             // mean of the last `log_every` updates
    double lr, grad_norm;    // of the last update; the norm before clipping
    double seconds;          // of an update, and
    double left;             // of all that are left; 0 while not known
    double samples_per_second;
    int due;      // an update after which `log_every` asks for a line
    int reserved; // 0
} calo_train_event;

typedef struct {
    size_t size;        // of this struct, set by the init function
    const char *config; // a JSON file; see calo_train_key_at
    const char *kind;   // "vae", "text2img" or "finetune"
    const char *model;  // a folder in place of the one that the file names; NULL: as the file says
    int resume;         // go on from the newest checkpoint
    int ignore_machine; // also if it was made with other threads or instructions, which changes the last bits
    int ignore_config;  // also if the configuration has changed in what was trained already
    int profile;        // tell at the end where the time went
    void (*on_event)(void *user, const calo_train_event *e); // after every update and file; may be NULL
    void *user;
} calo_train_request;

typedef struct {
    const char *name, *otherwise, *range, *help; // "batch", "32", "1 to 4096", ...
    int stage;                                   // a stage may override it
} calo_train_key;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_train_request_init(calo_train_request *request, size_t size);
static inline calo_train_request calo_train_defaults(void) {
    calo_train_request r;
    calo_train_request_init(&r, sizeof r);
    return r;
}

// Trains as the file says. Threads and precision of the context win over
// the file's unless they are 0 and AUTO. Cancelling writes a checkpoint first.
CALO_API calo_status calo_train(calo_context *ctx, const calo_train_request *request);
// Key i of a configuration file, NULL behind the last. Valid until the next call.
CALO_API const calo_train_key *calo_train_key_at(calo_context *ctx, int i);

// ---- converting weights

typedef enum {
    CALO_WEIGHTS_AS_STORED,
    CALO_WEIGHTS_F32,
    CALO_WEIGHTS_F16,
    CALO_WEIGHTS_BF16,
    // The matrices and convolutions of UNet and text encoders as codes of 8 or 4 bits, evenly spaced or each
    // used about equally often; all else as stored.
    CALO_WEIGHTS_Q8,
    CALO_WEIGHTS_Q4,
    CALO_WEIGHTS_Q8_BALANCED,
    CALO_WEIGHTS_Q4_BALANCED
} calo_weights_type;

// How the files of a whole model lie.
typedef enum {
    CALO_LAYOUT_AS_STORED, // a file stays a file, and names stay as they are
    CALO_LAYOUT_DIFFUSERS, // a folder: model_index.json and a folder for each component
    CALO_LAYOUT_SINGLE     // one file in the original layout
} calo_layout;

// What calo_convert has done. Valid during the callback.
typedef struct {
    size_t size;         // of this struct
    const char *path;    // a file (the index of shards last) or a folder that is finished; NULL: a piece
    int64_t done, total; // bytes of values
} calo_convert_event;

typedef struct {
    size_t size; // of this struct, set by the init function
    // A tensor file (.safetensors, .ckpt, .pt, .pth, .bin), an index of shards, or the folder of a network.
    const char *in;
    const char *out; // NAME.safetensors
    // Bytes of values in a file; what is more goes into NAME-00001-of-00002.safetensors, ... and
    // NAME.safetensors.index.json. 0: no limit.
    int64_t max_shard;
    const char *only; // beginnings of the names to take, with commas between; NULL: all
    // A merge: in + weight (plus - minus), computed in double and rounded once; minus NULL: in. What the
    // others lack, and what is no float, stays as it is. plus NULL: none.
    const char *plus, *minus;
    double weight;          // 0.5
    calo_weights_type type; // of all that are floats
    int overwrite;
    void (*on_event)(void *user, const calo_convert_event *e); // may be NULL
    void *user;

    // With another layout than as stored, `in` is what calo_model_open takes, and `out` a new folder
    // (DIFFUSERS) or NAME.safetensors; there is no merge and no `only` then. A UNet of which nothing says
    // what it predicts is asked by one evaluation, as in drawing.
    calo_layout layout;
    calo_prediction prediction;   // what its files shall say, AUTO: as detected
    const char *vae, *vocabulary; // as of calo_model_options

    // A LoRA instead: what the model `in` has learned beyond this one, of its UNet and text encoders. Both
    // are what calo_model_open takes; there is no other change then. NULL: none.
    const char *lora_base;
    int lora_rank;     // 32; of smaller matrices theirs
    double lora_clamp; // 1; of each pair, values beyond this quantile of their sizes become it
    int lora_peft;     // names: 0: kohya's ("lora_unet_..."), 1: peft's, as diffusers writes them

    // LoRA files merged into the model `in`, which is what calo_model_open takes: W + weight alpha / rank up
    // down, computed in double and rounded once. `out` is in `layout`, AS_STORED: that of `in`; there is no
    // merge of models and no `only` then. A tensor of a LoRA that belongs to no layer of the model is
    // CALO_ERR_DATA.
    const char *const *loras;
    const double *lora_weights; // as many; NULL: 1 each
    int n_loras;
} calo_convert_request;

// Writes the defaults into a struct of `size` bytes.
CALO_API void calo_convert_request_init(calo_convert_request *request, size_t size);
static inline calo_convert_request calo_convert_defaults(void) {
    calo_convert_request r;
    calo_convert_request_init(&r, sizeof r);
    return r;
}

// Writes weights as safetensors, each file whole or not at all. Formats of torch are read as data: nothing in
// them is run, and what would have to be is CALO_ERR_DATA. Values are rounded to nearest, ties to even; those
// too large for the type become infinite, which is a warning in the log with the tensor's name.
CALO_API calo_status calo_convert(calo_context *ctx, const calo_convert_request *request);

// ---- looking inside

// What a model, a tensor file or a picture holds, as a JSON object with a key "kind": "model",
// "tensors" or "picture"; of a checkpoint in one file also what it is and by what that is known, and what is
// missing or wrong of it. *json is freed with calo_free. CALO_ERR_NOINPUT when there is nothing at `path`,
// CALO_ERR_DATA when it is none of the three or malformed.
CALO_API calo_status calo_inspect(calo_context *ctx, const char *path, char **json);
// The same of an open model.
CALO_API calo_status calo_inspect_model(calo_model *model, char **json);
// What a picture of this size (0: the model's own) takes of memory, without reading any weights: "kind" is
// "memory", "networks" lists in bytes the weights as they are packed, what Winograd's method adds to them,
// the largest layer while it is packed, activations, and the peak under the context's max_memory; "together"
// is the peak without a limit, "least" the smallest limit there is. The network that is in memory counts
// alone where there is a limit.
CALO_API calo_status calo_inspect_memory(calo_model *model, int width, int height, char **json);
// The same of what calo_txt2img would draw by this request, with its refiner ("refiner" of a network says
// whose it is), hires fix (a network that enlarges is "hires_upscaler"), initial picture, guidance, and the
// images that are drawn together; prompts of more than one row of tokens take a little more.
CALO_API calo_status calo_inspect_request(calo_model *model, const calo_txt2img_request *request,
                                          char **json);

typedef struct {
    const char *path, *op, *kernel;
    const char *rate;    // how often it runs: "prompt" or "step"
    const char *shape;   // of the result, in the layout of the engine: "2x64x64x320"
    const char *type;    // of the result: "F32", "BF16"
    double flops, bytes; // of one run
    double seconds;      // of one run, measured
} calo_plan_line;

// The kernels of a network in the order they run, for a batch of B pictures of width × height pixels (0: the
// model's size). The network is run twice with zeros, the second time measured.
CALO_API calo_status calo_plan_new(calo_model *model, const char *network, int batch, int width, int height,
                                   calo_plan **plan);
CALO_API size_t calo_plan_count(const calo_plan *plan);
// NULL behind the last. Belongs to the plan.
CALO_API const calo_plan_line *calo_plan_at(const calo_plan *plan, size_t i);
CALO_API size_t calo_plan_workspace(const calo_plan *plan); // bytes, besides the weights
CALO_API void calo_plan_free(calo_plan *plan);

// The first of those of n names that are fewest slips of the finger from `name`, or NULL where it is like
// none of them.
CALO_API const char *calo_nearest_name(const char *name, const char *const *names, size_t n);

// Frees what a function's description says.
CALO_API void calo_free(void *p);

#ifdef __cplusplus
}
#endif
