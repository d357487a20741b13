// From a prompt to latents and pictures: what calo_txt2img does, step by step.
#pragma once
#include <stdio.h>

#include "core/api.h"
#include "core/models/prompt.h"
#include "core/pipeline_picture.h"
#include "core/pipeline_vae.h"
#include "samplers/samplers.h"

enum { MAX_SIDE = 8192, MAX_STEPS = 1000, MAX_GROUP = 8 }; // pixels of a picture, steps of a pass, images

// A model that leads the latents through steps first .. end - 1 of a pass; through none, where they are
// equal.
typedef struct {
    calo_model *model;
    prediction predicts;
    int first, end;
} expert;

static inline bool expert_leads(const expert *e) { return e->first < e->end; }

// The model that is asked to draw, and behind it the one that finishes what it has begun.
enum { BASE, REFINER, N_EXPERTS };

// A request with every choice made.
typedef struct txt2img {
    calo_model *model;
    const calo_txt2img_request *request;
    int width, height, steps, count;
    int64_t C, h, w; // latents
    double cfg_scale, cfg_rescale;
    bool guided; // the UNet sees the negative prompt too
    emphasis emphasis;
    dtype compute;
    const sampler *sampler;
    sampler_tuning tune;
    schedule schedule;
    schedule_steps points; // of which a picture to begin with leaves the last
    expert experts[N_EXPERTS];
    beginning begin;        // without a picture all zero
    bool inpaints;          // the UNet is told of mask and kept picture: 2C + 1 channels
    bool edits;             // it is told of the picture to begin with, and draws from nothing: 2C channels
    struct txt2img *second; // hires fix: what comes after this pass, or NULL
    const struct txt2img *first; // of such a one, the pass before it
    struct upscaler *enlarger;   // between the two, where a file holds it, or NULL; the first's
} txt2img;

// Fills in the model's defaults; ERR_USAGE names what is out of range. Free with txt2img_free in any case.
status txt2img_init(txt2img *t, calo_model *m, const calo_txt2img_request *r, error *err);
void txt2img_free(txt2img *t);
// Draws all images, each handed to `put` as it is finished; it is valid during the call.
status txt2img_run(const txt2img *t, status (*put)(void *user, const calo_image *im, error *err), void *user,
                   error *err);

// The pass that takes most memory: the last one.
static inline const txt2img *txt2img_largest(const txt2img *t) { return t->second ? t->second : t; }
// How many images go through the UNet together at most.
int txt2img_group(const txt2img *t);
// Whether the first latents are those of a picture.
bool txt2img_begins(const txt2img *t);
// Whether images have texts of their own, instead of one for all.
bool txt2img_has_own_texts(const txt2img *t);
// Of the UNet's batch, for each image. With guidance the last one is positive and those before it negative; a
// model that edits is shown the picture in all but the first.
int txt2img_rows(const txt2img *t, bool guides);
// What its pictures go through.
autoencoder txt2img_autoencoder(const txt2img *t);

// What a model's scheduler says, but for what the request has to say of zero SNR; *suggested is NULL where it
// names no sampler.
status txt2img_read_scheduler(const txt2img *t, const model *m, schedule_config *c, const sampler **suggested,
                              error *err);
// All that is wrong with a model's text encoders and its UNet.
status txt2img_check_expert(model *m, error *err);

// What image i is drawn from. Without a negative prompt (NULL) SDXL may use zeros instead of the embedding of
// "".
const char *txt2img_prompt(const txt2img *t, int i);
const char *txt2img_negative(const txt2img *t, int i);
uint64_t txt2img_seed(const txt2img *t, int i);
// How image i is made, for its file: A1111's words and our JSON. Both are mem_free'd by the caller.
status txt2img_describe(const txt2img *t, int i, char **parameters, char **json, error *err);

// Writes a value of A1111's list of "key: value, ", with the quotes it gives to what would break it.
void infotext_value(FILE *f, const char *text);

// ERR_USAGE: no KIND is called NAME, did you mean ...; there are those of `names`.
status unknown_name(const char *kind, const char *name, const char *(*names)(int i), error *err);

// Where nothing in a checkpoint says what its UNet predicts, one evaluation of it does.
status probe_prediction(calo_model *m, dtype compute, error *err);
