// What one picture is drawn from: the options that txt2img has and a job of batch may give.
#pragma once
#include "cli/session.h"

// Begins the struct that a command's options are stored in.
typedef struct {
    common common;
    const char *prompt, *negative, *sampler, *scheduler;
    int width, height; // side by side: --size sets both
    int steps, prediction, zero_snr, count, rng, sampler_rng, quality;
    int emphasis, clip_skip, noise_layout, step_noise, ensd, batch_index, batch_size;
    int vae_tiling, vae_tile_size;
    const char *init_img, *mask; // files
    int resize_mode, mask_content, mask_blur, mask_padding;
    const char *outpaint; // "left,right,top,bottom"
    bool only_masked, hires;
    int hires_width, hires_height, hires_steps;
    double hires_scale, hires_denoise;
    const char *hires_upscaler;
    const char *refiner;
    double refiner_switch_at;
    double strength, image_cfg_scale;
    double cfg_scale, cfg_rescale, cfg_start, cfg_end;
    double eta, s_noise, s_churn, s_tmin, s_tmax;
    long long seed; // negative: random
    bool no_metadata;
} drawing;

extern const option DRAWING_OPTIONS[];
drawing drawing_defaults(void);
// Steps and guidance become what the model decides, unless they are told; `settle` fills them in.
void drawing_leave_open(drawing *d);
void drawing_settle(drawing *d, calo_model *m);
// All but the seed, which may have to be chosen. Texts are borrowed.
calo_txt2img_request drawing_request(const drawing *d);
// How its file is written.
calo_save_options drawing_save_options(const drawing *d, bool overwrite);
// Opens the refiner that a drawing names; NULL where it names none. As calo_model_open.
calo_status drawing_open_refiner(calo_context *ctx, const drawing *d, calo_model **refiner);
// The pictures that a request begins with.
typedef struct {
    calo_images *init, *mask;
} drawing_pictures;
// Reads them where the drawing names them, and puts them into the request. Returns an exit code and why. Free
// with drawing_free_pictures in any case.
int drawing_load_pictures(calo_context *ctx, const drawing *d, calo_txt2img_request *r, drawing_pictures *p,
                          char *message, size_t size);
void drawing_free_pictures(drawing_pictures *p);
// All of a drawing but its texts and seed, as one text: drawings of one shape may be one request. NULL when
// memory is short. The caller frees it.
char *drawing_shape(const drawing *d);
// Whether a file of this name can be written.
bool drawing_has_format(const char *path);
