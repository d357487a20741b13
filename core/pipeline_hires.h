// Hires fix: a picture drawn small, made larger, and drawn over once more, as A1111's users know it.
#pragma once
#include "core/pipeline.h"

// Row i of the ways to make latents larger, NULL behind the last.
const char *hires_upscaler_name(int i);
// The request's, by its name or as A1111 calls it.
const char *hires_upscaler_of(const calo_txt2img_request *r, bool label);

// Whether the request asks for a second pass.
bool hires_wanted(const calo_txt2img_request *r);
// For a request whose first pass is all chosen: makes t->second, which txt2img_free frees. ERR_USAGE names
// what is out of range.
status hires_init(txt2img *t, error *err);
// x: latents of the first pass, [h,w,C]; y: those that the second begins from, in its size.
status hires_enlarge(const txt2img *second, const float *x, float *y, error *err);
