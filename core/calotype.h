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
// other. Free functions accept NULL. Strings are UTF-8. Layouts: pictures are rows of RGB bytes; latents and
// other images in tensors are [B,C,H,W] floats, as in diffusers.
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
#define CALO_API_VERSION 1

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

// ---- context

typedef enum { CALO_LOG_ERROR, CALO_LOG_WARN, CALO_LOG_INFO, CALO_LOG_DEBUG } calo_log_level;

// bf16 products keep f32 sums and are used where the processor is fast at them; AUTO does, F32 never does.
typedef enum { CALO_PRECISION_AUTO, CALO_PRECISION_F32, CALO_PRECISION_BF16 } calo_precision;

// What a job does now: `step` of `steps` is done; each of the `images` of the request goes through the steps
// in groups, and `image` counts those finished.
typedef struct {
    const char *stage; // "load", "text", "sample", "decode"
    int step, steps;
    int image, group, images;
    double seconds; // of this step
} calo_progress;

typedef struct {
    size_t size; // of this struct, set by the defaults function
    int threads; // 0: one for each core
    calo_precision precision;
    void (*log)(void *user, calo_log_level level, const char *text); // NULL: silent
    calo_log_level log_level;                                        // the most talkative that passes
    void (*progress)(void *user, const calo_progress *p);
    int (*cancelled)(void *user); // asked between steps; nonzero stops the job with CALO_ERR_CANCELLED
    void *user;                   // for the three above
} calo_context_options;

CALO_API calo_context_options calo_context_defaults(void);
// `options` NULL: the defaults. *ctx is freed after everything that was opened in it.
CALO_API calo_status calo_context_new(const calo_context_options *options, calo_context **ctx);
CALO_API void calo_context_free(calo_context *ctx);
// Of the last failed call; "" after none. Valid until the next call. NULL gives "out of memory".
CALO_API const char *calo_message(const calo_context *ctx);
// The precision that AUTO means here, "f32" or "bf16".
CALO_API const char *calo_precision_name(calo_context *ctx);

// ---- models

// A folder in the layout of diffusers (model_index.json and a folder for each component). NULL: the model
// that comes with calotype, looked for in $CALOTYPE_DATA, beside the program, and where it was installed.
// Networks are loaded when they are first used.
CALO_API calo_status calo_model_open(calo_context *ctx, const char *dir, calo_model **model);
CALO_API void calo_model_free(calo_model *model);

// The tokens of a text, without start and end, not cut. *ids is freed with calo_free.
CALO_API calo_status calo_tokenize(calo_model *model, const char *text, size_t length, int32_t **ids,
                                   size_t *n);

// ---- pictures from text

typedef enum {
    CALO_SPACING_AUTO,
    CALO_SPACING_LEADING,
    CALO_SPACING_LINSPACE,
    CALO_SPACING_TRAILING,
    CALO_SPACING_KARRAS
} calo_spacing;
typedef enum { CALO_PREDICT_AUTO, CALO_PREDICT_EPS, CALO_PREDICT_V, CALO_PREDICT_X0 } calo_prediction;
typedef enum { CALO_ZERO_SNR_AUTO, CALO_ZERO_SNR_ON, CALO_ZERO_SNR_OFF } calo_zero_snr;
// CPU: torch's generator on the processor. NV: what other programs call "NV".
typedef enum { CALO_RNG_CPU, CALO_RNG_NV } calo_rng;

typedef struct calo_image calo_image;

// Names follow diffusers. AUTO, 0 for a size and NULL mean: as the model is configured.
typedef struct {
    size_t size;                          // of this struct, set by the defaults function
    const char *prompt, *negative_prompt; // NULL reads as ""
    int width, height;                    // pixels, multiples of the autoencoder's factor
    int steps;                            // 20
    double cfg_scale;                     // 7; 1 is no guidance
    double cfg_rescale;                   // 0 .. 1; negative: 0.7 for a zero-SNR schedule, else 0
    const char *sampler;                  // see calo_sampler_name; NULL: the model's, or "dpmpp_2m"
    calo_spacing spacing;
    calo_prediction prediction;
    calo_zero_snr zero_snr;
    calo_rng rng;
    uint64_t seed; // of the first image; image i has seed + i
    int count;     // images; 0: as many as init_latents has, or 1
    // Unit noise F32 [count,C,H/f,W/f] to start from instead of the seed's; the sampler scales it. Borrowed.
    const struct calo_tensor *init_latents;
    // Called with each finished image in order, valid during the call; another status than CALO_OK ends the
    // job with it.
    calo_status (*on_image)(void *user, const calo_image *image);
    void *user;
    int no_hash; // leave the checksum of the weights (seconds for large models, then cached) out of the
                 // description
    // Where not NULL, one for each of `count` images, which are drawn together all the same. Borrowed.
    const char *const *prompts, *const *negative_prompts;
    const uint64_t *seeds;
} calo_txt2img_request;

struct calo_image {
    int width, height;
    const uint8_t *rgb;   // height rows of width pixels of 3 bytes
    const float *latents; // [C,H/f,W/f], what went to the autoencoder, scaled as the UNet sees it
    int latent_shape[3];  // C, H/f, W/f
    uint64_t seed;
    const char *parameters; // how it was made, in the words of A1111
    const char *json;       // the same as a JSON object
};

CALO_API calo_txt2img_request calo_txt2img_defaults(void);
// *images, which may be NULL when on_image is set, gets the finished images, also when the job ends early.
// The same request gives the same bytes whatever the number of threads and however many images it asks for. A
// NaN is CALO_ERR_DATA: a picture is never made from one.
CALO_API calo_status calo_txt2img(calo_model *model, const calo_txt2img_request *request,
                                  calo_images **images);
CALO_API size_t calo_images_count(const calo_images *images);
CALO_API const calo_image *calo_images_at(const calo_images *images, size_t i); // NULL behind the last
CALO_API void calo_images_free(calo_images *images);

// Row i of the samplers, NULL behind the last.
CALO_API const char *calo_sampler_name(int i);

typedef struct {
    size_t size;     // of this struct, set by the defaults function
    int overwrite;   // replace a file of that name
    int no_metadata; // leave `parameters` and `json` out
    int quality;     // 1 .. 100 for JPEG and WebP; 0: 95, and lossless for WebP
} calo_save_options;

CALO_API calo_save_options calo_save_defaults(void);
// PNG, JPEG or WebP by the extension of `path`; the file appears whole or not at all. `options` may be NULL.
CALO_API calo_status calo_image_save(calo_context *ctx, const calo_image *picture, const char *path,
                                     const calo_save_options *options);

// ---- one network at a time

typedef enum { CALO_F32, CALO_I32, CALO_I64 } calo_type;

typedef struct calo_tensor {
    const char *name;
    calo_type type;
    int rank;
    int64_t shape[8];
    const void *data; // row-major
} calo_tensor;

// Evaluates one network on tensors named as in diffusers. *out gets F32 tensors.
//     unet            sample [B,C,H,W], timestep [] or [B], encoder_hidden_states [B,T,E], and where the
//                     configuration asks for them text_embeds, time_ids, class_labels, timestep_cond → sample
//     vae_encoder     sample [B,3,H,W] → mean, logvar (clamped to [-30, 20])
//     vae_decoder     latent [B,C,h,w], unscaled → sample
//     text_encoder    input_ids [B,T] → last_hidden_state, penultimate (input of the last layer, no final
//     norm), text_encoder_2  and pooler_output or text_embeds
CALO_API calo_status calo_run(calo_model *model, const char *network, const calo_tensor *in, size_t n,
                              calo_tensors **out);
CALO_API size_t calo_tensors_count(const calo_tensors *tensors);
CALO_API calo_tensor calo_tensors_at(const calo_tensors *tensors, size_t i);
CALO_API void calo_tensors_free(calo_tensors *tensors);
// Safetensors files; other number formats than the three are read as F32.
CALO_API calo_status calo_tensors_load(calo_context *ctx, const char *path, calo_tensors **tensors);
CALO_API calo_status calo_tensors_save(calo_context *ctx, const calo_tensor *tensors, size_t n,
                                       const char *path, int overwrite);

// ---- training

typedef struct {
    size_t size;        // of this struct, set by the defaults function
    const char *config; // a JSON file; see calo_train_key
    const char *kind;   // "vae", "text2img" or "finetune"
    const char *model;  // a folder in place of the one that the file names; NULL: as the file says
    int resume;         // go on from the newest checkpoint
    int ignore_machine; // also if it was made with other threads or instructions, which changes the last bits
    int profile;        // tell at the end where the time went
} calo_train_request;

typedef struct {
    const char *name, *otherwise, *range, *help; // "batch", "32", "1 to 4096", ...
    int stage;                                   // a stage may override it
} calo_train_key;

CALO_API calo_train_request calo_train_defaults(void);
// Trains as the file says; progress goes to the context's log. Threads and precision of the context win over
// the file's unless they are 0 and AUTO. Cancelling writes a checkpoint first.
CALO_API calo_status calo_train(calo_context *ctx, const calo_train_request *request);
// Key i of a configuration file in *key, false (0) behind the last. The strings are valid until the next
// call.
CALO_API int calo_train_key_at(calo_context *ctx, int i, calo_train_key *key);

// ---- looking inside

// What a model folder, a safetensors file or a picture holds, as a JSON object with a key "kind": "model",
// "tensors" or "picture". *json is freed with calo_free.
CALO_API calo_status calo_inspect(calo_context *ctx, const char *path, char **json);
// The same of an open model.
CALO_API calo_status calo_inspect_model(calo_model *model, char **json);

typedef struct {
    const char *path, *op, *kernel;
    const char *rate;    // how often it runs: "prompt" or "step"
    const char *shape;   // of the result, in the layout of the engine: "2x64x64x320"
    const char *type;    // of the result: "F32", "BF16"
    double flops, bytes; // of one run
    double seconds;      // measured
} calo_plan_line;

// The kernels of a network in the order they run, for a batch of B pictures of width × height pixels (0: the
// model's size). The network is run twice with zeros, the second time measured.
CALO_API calo_status calo_plan_new(calo_model *model, const char *network, int batch, int width, int height,
                                   calo_plan **plan);
CALO_API size_t calo_plan_count(const calo_plan *plan);
CALO_API calo_plan_line calo_plan_at(const calo_plan *plan, size_t i);
CALO_API size_t calo_plan_workspace(const calo_plan *plan); // bytes, besides the weights
CALO_API void calo_plan_free(calo_plan *plan);

CALO_API void calo_free(void *p);

#ifdef __cplusplus
}
#endif
