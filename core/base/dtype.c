#include "core/base/dtype.h"

static const struct {
    const char *name;
    size_t size;
} TYPES[DT_COUNT] = {
    [DT_F32] = {"F32", 4},         [DT_BF16] = {"BF16", 2}, [DT_F16] = {"F16", 2},
    [DT_F64] = {"F64", 8},         [DT_I32] = {"I32", 4},   [DT_I64] = {"I64", 8},
    [DT_U8] = {"U8", 1},           [DT_BOOL] = {"BOOL", 1}, [DT_F8_E4M3] = {"F8_E4M3", 1},
    [DT_F8_E5M2] = {"F8_E5M2", 1}, [DT_I8] = {"I8", 1},     [DT_I16] = {"I16", 2},
    [DT_U16] = {"U16", 2},         [DT_U32] = {"U32", 4},   [DT_U64] = {"U64", 8},
};

size_t dtype_size(dtype t) { return TYPES[t].size; }
const char *dtype_name(dtype t) { return TYPES[t].name; }

int dtype_from_name(const char *s) {
    for (int t = 0; t < DT_COUNT; t++)
        if (!strcmp(TYPES[t].name, s)) return t;
    return -1;
}

float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, u;
    float f;
    if (rest >= 0x7c00) { // infinity, NaN
        u = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else if (rest >= 0x400) {
        u = sign | ((rest << 13) + (112u << 23));
    } else { // subnormal: rest · 2^-24 is exact in f32
        f = (float)rest * 0x1p-24f;
        memcpy(&u, &f, 4);
        u |= sign;
    }
    memcpy(&f, &u, 4);
    return f;
}

uint16_t f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000) return sign | 0x7e00;
    if (u >= 0x47800000) return sign | 0x7c00; // 65536 and more; 65520 rounds up below
    if (u < 0x38800000) {                      // subnormal: let the f32 adder round to a multiple of 2^-24
        memcpy(&f, &u, 4);
        f += 0.5f;
        memcpy(&u, &f, 4);
        return sign | (uint16_t)(u - 0x3f000000);
    }
    u += 0xfff + (u >> 13 & 1) - (112u << 23);
    return sign | (uint16_t)(u >> 13);
}

static float f8_to_f32(uint8_t b, int mantissa_bits, int bias, int has_inf) {
    int e = (b & 0x7f) >> mantissa_bits, m = b & ((1 << mantissa_bits) - 1), top = 0x7f >> mantissa_bits;
    float v;
    if (has_inf && e == top)
        v = m ? __builtin_nanf("") : __builtin_inff();
    else if (!has_inf && (b & 0x7f) == 0x7f)
        v = __builtin_nanf("");
    else if (e == 0)
        v = __builtin_ldexpf((float)m, 1 - bias - mantissa_bits);
    else
        v = __builtin_ldexpf((float)(m + (1 << mantissa_bits)), e - bias - mantissa_bits);
    return b & 0x80 ? -v : v;
}

#define EACH(T, VALUE)                                                                                       \
    for (size_t i = 0; i < n; i++) {                                                                         \
        T v = ((const T *)src)[i];                                                                           \
        dst[i] = VALUE;                                                                                      \
    }                                                                                                        \
    return

// One list serves both destinations; `dst` is float* or double*.
#define CONVERT(D)                                                                                           \
    switch (t) {                                                                                             \
    case DT_F32:                                                                                             \
        EACH(float, v);                                                                                      \
    case DT_BF16:                                                                                            \
        EACH(uint16_t, bf16_to_f32(v));                                                                      \
    case DT_F16:                                                                                             \
        EACH(uint16_t, f16_to_f32(v));                                                                       \
    case DT_F64:                                                                                             \
        EACH(double, (D)v);                                                                                  \
    case DT_I32:                                                                                             \
        EACH(int32_t, (D)v);                                                                                 \
    case DT_I64:                                                                                             \
        EACH(int64_t, (D)v);                                                                                 \
    case DT_U8:                                                                                              \
        EACH(uint8_t, v);                                                                                    \
    case DT_BOOL:                                                                                            \
        EACH(uint8_t, v != 0);                                                                               \
    case DT_F8_E4M3:                                                                                         \
        EACH(uint8_t, f8_to_f32(v, 3, 7, 0));                                                                \
    case DT_F8_E5M2:                                                                                         \
        EACH(uint8_t, f8_to_f32(v, 2, 15, 1));                                                               \
    case DT_I8:                                                                                              \
        EACH(int8_t, v);                                                                                     \
    case DT_I16:                                                                                             \
        EACH(int16_t, v);                                                                                    \
    case DT_U16:                                                                                             \
        EACH(uint16_t, v);                                                                                   \
    case DT_U32:                                                                                             \
        EACH(uint32_t, (D)v);                                                                                \
    case DT_U64:                                                                                             \
        EACH(uint64_t, (D)v);                                                                                \
    default:                                                                                                 \
        return;                                                                                              \
    }

void dtype_to_f32(dtype t, const void *src, float *dst, size_t n) { CONVERT(float) }

void dtype_to_f64(dtype t, const void *src, double *dst, size_t n) { CONVERT(double) }

// Rounded to odd: what is inexact has its last bit set, so that rounding once more, to fewer bits, rounds as
// if from the double itself (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums").
static float f64_to_f32_odd(double d) {
    float f = (float)d;
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((double)f < d || (double)f > d) {
        if (!(u & 1)) u += (f < d) == (d > 0) ? 1 : UINT32_MAX;
        memcpy(&f, &u, 4);
    }
    return f;
}

void dtype_from_f64(dtype t, const double *src, void *dst, size_t n) {
    for (size_t i = 0; i < n; i++) switch (t) {
        case DT_F32:
            ((float *)dst)[i] = (float)src[i];
            break;
        case DT_BF16:
            ((uint16_t *)dst)[i] = f32_to_bf16(f64_to_f32_odd(src[i]));
            break;
        case DT_F16:
            ((uint16_t *)dst)[i] = f32_to_f16(f64_to_f32_odd(src[i]));
            break;
        case DT_F64:
            ((double *)dst)[i] = src[i];
            break;
        case DT_I32:
            ((int32_t *)dst)[i] = (int32_t)src[i];
            break;
        case DT_I64:
            ((int64_t *)dst)[i] = (int64_t)src[i];
            break;
        case DT_U8:
            ((uint8_t *)dst)[i] = (uint8_t)src[i];
            break;
        default:
            return;
        }
}
