#include "core/models/layout.h"

// Both directions transpose the [rows, cols] matrix of each image.
static void transpose(const float *src, float *dst, int64_t B, int64_t rows, int64_t cols) {
    for (int64_t b = 0; b < B; b++, src += rows * cols, dst += rows * cols)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++) dst[j * rows + i] = src[i * cols + j];
}

void nchw_to_nhwc(const float *src, float *dst, int64_t B, int64_t C, int64_t H, int64_t W) {
    transpose(src, dst, B, C, H * W);
}

void nhwc_to_nchw(const float *src, float *dst, int64_t B, int64_t C, int64_t H, int64_t W) {
    transpose(src, dst, B, H * W, C);
}
