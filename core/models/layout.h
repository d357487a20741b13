// Images cross the border of the program as NCHW, the layout of the files and of diffusers; inside they are
// NHWC.
#pragma once
#include <stdint.h>

void nchw_to_nhwc(const float *src, float *dst, int64_t B, int64_t C, int64_t H, int64_t W);
void nhwc_to_nchw(const float *src, float *dst, int64_t B, int64_t C, int64_t H, int64_t W);
