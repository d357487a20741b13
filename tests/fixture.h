// The library as a program uses it: a context and a small model in a folder of its own, and what is asked of
// them.
#pragma once
#include "core/calotype.h"

typedef struct {
    char dir[512];
    calo_context *ctx;
    calo_model *model;
} fixture;

// tiny_model_write; the folder is the user's cache too.
void begin_with(fixture *f, const char *name, const char *scheduler, const calo_context_options *o);
calo_context_options options_of(calo_precision p, int threads);
void begin(fixture *f, const char *name, const char *scheduler); // in F32, by one thread
// The model that comes along, which is a trained one: on random weights nothing holds a picture together.
void begin_talbot(fixture *f, const calo_context_options *o);
void end(fixture *f);

calo_images *draw(fixture *f, const calo_txt2img_request *r);
void expect_refused(fixture *f, const calo_txt2img_request *r, calo_status code, const char *says);
// Latents, pixels and description; `what` tells which pictures they are.
void expect_same(const calo_image *a, const calo_image *b, const char *what);

// "run.what" of a golden file.
calo_tensor tensor_named(const calo_tensors *t, int run, const char *what);
