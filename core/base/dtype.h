// Number formats of tensors, in memory and in files, and conversion of single values.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum {
    DT_F32,
    DT_BF16,
    DT_F16,
    DT_F64,
    DT_I32,
    DT_I64,
    DT_U8,
    DT_BOOL,
    DT_F8_E4M3,
    DT_F8_E5M2,
    DT_I8,
    DT_I16,
    DT_U16,
    DT_U32,
    DT_U64,
    DT_COUNT
} dtype;

size_t dtype_size(dtype t);         // bytes
const char *dtype_name(dtype t);    // as safetensors spells it: "F32", "BF16", ...
int dtype_from_name(const char *s); // -1 if unknown

static inline bool dtype_is_float(int t) {
    return t == DT_F64 || t == DT_F32 || t == DT_F16 || t == DT_BF16 || t == DT_F8_E4M3 || t == DT_F8_E5M2;
}

static inline float bf16_to_f32(uint16_t b) {
    uint32_t u = (uint32_t)b << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

// Round to nearest even; a NaN stays a (quiet) NaN.
static inline uint16_t f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); // round to nearest even; overflow gives infinity

// Converts n values of any numeric type to float and double, and back. BOOL reads as 0 or 1.
void dtype_to_f32(dtype t, const void *src, float *dst, size_t n);
void dtype_to_f64(dtype t, const void *src, double *dst, size_t n);
// F32 BF16 F16 F64 I32 I64 U8; floats are rounded once, to nearest even.
void dtype_from_f64(dtype t, const double *src, void *dst, size_t n);
