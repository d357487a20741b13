// Hires fix: a picture drawn small, made larger, and drawn over once more, as A1111's users know it.
#pragma once
#include "core/pipeline.h"

// Row i of the ways to make latents larger, NULL behind the last.
const char *hires_upscaler_name(int i);
// The request's, by its name or as A1111 calls it: of a file its path, or its name without extension.
const char *hires_upscaler_of(const txt2img *t, bool label);

// Whether the request asks for a second pass.
bool hires_wanted(const calo_txt2img_request *r);
// For a request whose first pass is all chosen: makes t->second, which txt2img_free frees. ERR_USAGE names
// what is out of range. A network that a file holds is opened and checked.
status hires_init(txt2img *t, error *err);
// x: latents of the first pass, [h,w,C]; y: those that the second begins from, in its size. A network tells
// its progress as that of image `index`.
status hires_enlarge(const txt2img *second, const float *x, int index, float *y, error *err);

// Whether the pass begins with what the autoencoder makes of a larger picture, and that one.
bool hires_encodes(const txt2img *t);
autoencoder hires_autoencoder(const txt2img *second);
// Bytes that the file's network takes, in tiles of so many pixels: within `limit` bytes of the process (0:
// none), or the least that it can.
status hires_memory(const txt2img *second, uint64_t limit, size_t *bytes, int *tile, error *err);
