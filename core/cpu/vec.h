// Short vectors of f32 as wide as the instruction set this file is compiled for, loads and stores that know
// the two activation types, and partial ones for the end of a row. GCC vector extensions: one text for all
// levels.
#pragma once
#include "core/base/dtype.h"

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf splat(float f) { return f - (vf){0}; }

// mask ? a : b, the mask all ones or all zeros per lane as comparisons give it
INLINE vf sel(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

// The instructions' rule for NaN: in a it is dropped, in b it stays.
#if defined(__AVX512F__)
INLINE vf vec_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vec_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vf vec_sqrt(vf a) { return (vf)_mm512_sqrt_ps((__m512)a); }
#elif defined(__AVX2__)
INLINE vf vec_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vec_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vf vec_sqrt(vf a) { return (vf)_mm256_sqrt_ps((__m256)a); }
#else
INLINE vf vec_max(vf a, vf b) { return sel(a > b, a, b); }
INLINE vf vec_min(vf a, vf b) { return sel(a < b, a, b); }
INLINE vf vec_sqrt(vf a) {
    for (int i = 0; i < LANES; i++) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
#endif

INLINE vf vec_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }

// Both join halves with halves, down to one lane: the order is fixed.
typedef float v4f __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));

INLINE v4f quarter(vf a, int k) {
    v4f q;
    memcpy(&q, (const char *)&a + 16 * k, sizeof q);
    return q;
}

INLINE float vec_sum(vf a) {
    v4f s = quarter(a, 0);
    if (LANES == 8) s += quarter(a, 1);
    if (LANES == 16) s = (s + quarter(a, 2)) + (quarter(a, 1) + quarter(a, 3));
    return (s[0] + s[2]) + (s[1] + s[3]);
}

// The largest lane; NaN lanes may be dropped.
INLINE float vec_top(vf a) {
    v4f m = quarter(a, 0);
    for (int k = 1; k < LANES / 4; k++) {
        v4f q = quarter(a, k);
        m = (v4f)(((m > q) & (v4i)m) | (~(m > q) & (v4i)q));
    }
    float x = m[0] > m[1] ? m[0] : m[1], y = m[2] > m[3] ? m[2] : m[3];
    return x > y ? x : y;
}

INLINE vf from_bf16(vh h) {
#if defined(__AVX512F__) // GCC 12 makes two halves of the conversion
    return (vf)((vu)_mm512_cvtepu16_epi32((__m256i)h) << 16);
#else
    return (vf)(__builtin_convertvector(h, vu) << 16);
#endif
}

INLINE vh to_bf16(vf v) {
#if defined(__AVX512BF16__)
    return (vh)_mm512_cvtneps_pbh((__m512)v);
#else
    vu u = (vu)v, rounded = u + 0x7fff + (u >> 16 & 1), quiet = u | 0x400000;
    vu top = (vu)sel(v == v, (vf)rounded, (vf)quiet) >> 16;
#if defined(__AVX512F__)
    return (vh)_mm512_cvtepi32_epi16((__m512i)top);
#else
    return __builtin_convertvector(top, vh);
#endif
#endif
}

INLINE vf load(dtype t, const void *p, int64_t i) {
    vf v;
    vh h;
    if (t == DT_F32) {
        memcpy(&v, (const float *)p + i, sizeof v);
        return v;
    }
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return from_bf16(h);
}

INLINE void store(dtype t, void *p, int64_t i, vf v) {
    if (t == DT_F32) {
        memcpy((float *)p + i, &v, sizeof v);
    } else {
        vh h = to_bf16(v);
        memcpy((uint16_t *)p + i, &h, sizeof h);
    }
}

// The last `left` values of a row, the other lanes as in `pad`; all lanes if left >= LANES.
INLINE vf load_pad(dtype t, const void *p, int64_t i, int64_t left, vf pad) {
    if (__builtin_expect(left >= LANES, 1)) return load(t, p, i);
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    __mmask16 m = (__mmask16)((1u << left) - 1);
    if (t == DT_F32) return (vf)_mm512_mask_loadu_ps((__m512)pad, m, (const float *)p + i);
    vh h = (vh)_mm256_maskz_loadu_epi16(m, (const uint16_t *)p + i);
    return (vf)_mm512_mask_mov_ps((__m512)pad, m, (__m512)from_bf16(h));
#else
    for (int k = 0; k < left; k++)
        pad[k] = t == DT_F32 ? ((const float *)p)[i + k] : bf16_to_f32(((const uint16_t *)p)[i + k]);
    return pad;
#endif
}

INLINE vf load_part(dtype t, const void *p, int64_t i, int64_t left) {
    return load_pad(t, p, i, left, (vf){0});
}

INLINE void store_part(dtype t, void *p, int64_t i, int64_t left, vf v) {
    if (__builtin_expect(left >= LANES, 1)) {
        store(t, p, i, v);
        return;
    }
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    __mmask16 m = (__mmask16)((1u << left) - 1);
    if (t == DT_F32)
        _mm512_mask_storeu_ps((float *)p + i, m, (__m512)v);
    else
        _mm256_mask_storeu_epi16((uint16_t *)p + i, m, (__m256i)to_bf16(v));
#else
    for (int k = 0; k < left; k++)
        if (t == DT_F32)
            ((float *)p)[i + k] = v[k];
        else
            ((uint16_t *)p)[i + k] = f32_to_bf16(v[k]);
#endif
}

// Asks for n values from i on, in the order of memory; they may lie past the end. Loops that read several
// rows side by side do this for their next rows: the hardware sees no stream in their own pattern, which
// halves the bandwidth.
INLINE void fetch(dtype t, const void *p, int64_t i, int64_t n) {
    int64_t size = t == DT_F32 ? 4 : 2;
    for (int64_t b = i * size; b < (i + n) * size; b += 64)
        __builtin_prefetch((const void *)((uintptr_t)p + (uintptr_t)b));
}

// Runs `body` for i = begin, begin + LANES, …, with `left` values to go: the constant LANES in the loop, so
// that the partial loads and stores in it become plain ones, and what remains in one last copy.
#define LANE_LOOP(i, begin, end, ...)                                                                        \
    do {                                                                                                     \
        int64_t i = (begin);                                                                                 \
        for (; i + LANES <= (end); i += LANES) {                                                             \
            const int64_t left = LANES;                                                                      \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
        if (i < (end)) {                                                                                     \
            const int64_t left = (end)-i;                                                                    \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)
