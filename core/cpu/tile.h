// The register tile of products, and loads and stores of tensors around it: compiled once for each
// instruction set (meson.build gives VL, NV, PER) into what includes it.
//
//   VL   floats of a vector
//   NV   vectors of a tile's row
//   PER  operands of a product that share 4 bytes: 1 f32, or 2 bf16 that one instruction multiplies and adds.
//        Memory of operands is counted in such units; `steps` is a length in units.
#pragma once
#include "core/base/dtype.h"

#include <stdint.h>

#if VL > 4
#include <immintrin.h>
#endif

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    MR = 6
}; // rows of a tile: 6 × 4 vectors of sums, 4 of operands and a broadcast are 29 of 32 registers

typedef float vec __attribute__((vector_size(4 * VL)));
typedef int32_t ivec __attribute__((vector_size(4 * VL)));
typedef uint32_t uvec __attribute__((vector_size(4 * VL)));
typedef float vec_any __attribute__((vector_size(4 * VL), aligned(4), may_alias));
typedef float unit __attribute__((may_alias)); // 4 bytes of operands

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
INLINE int64_t steps_of(int64_t n) { return (n + PER - 1) / PER; }
INLINE vec load(const unit *p) { return *(const vec_any *)p; }
INLINE void store(unit *p, vec v) { *(vec_any *)p = v; }
INLINE vec splat(float x) { return x - (vec){0}; } // not x + 0, which is an addition for the sake of −0

// Asks for what the next block reads, while the products of this one are computed.
INLINE void fetch(const unit *from, int64_t units) {
    for (int64_t i = 0; i < units; i += 16) __builtin_prefetch(from + i, 0, 2);
}

// c + a·b, in bf16 over both operands of a unit.
INLINE vec dot(vec c, vec a, vec b) {
#if PER == 2
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
    return a * b + c;
#endif
}

// ---- loads and stores of tensors: n elements of type t, the rest of the vector zero ----

INLINE const char *element(dtype t, const void *p, int64_t i) {
    return (const char *)p + i * (t == DT_F32 ? 4 : 2);
}

INLINE vec load_f32(dtype t, const void *p, int64_t n) {
#if VL == 16
    __mmask16 m = (__mmask16)((1u << n) - 1);
    if (t == DT_F32) return _mm512_maskz_loadu_ps(m, p);
    __m512i h = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(h, 16));
#else
    if (t == DT_F32 && n == VL) return load(p);
    vec v = {0};
    for (int64_t i = 0; i < n; i++)
        v[i] = t == DT_F32 ? ((const float *)p)[i] : bf16_to_f32(((const uint16_t *)p)[i]);
    return v;
#endif
}

INLINE void store_f32(dtype t, void *p, vec v, int64_t n) {
#if VL == 16
    __mmask16 m = (__mmask16)((1u << n) - 1);
    if (t == DT_F32) {
        _mm512_mask_storeu_ps(p, m, v);
        return;
    }
#if PER == 2
    _mm256_mask_storeu_epi16(p, m, (__m256i)_mm512_cvtneps_pbh(v));
    return;
#endif
#endif
    if (t == DT_F32 && n == VL) {
        store(p, v);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        if (t == DT_F32)
            ((float *)p)[i] = v[i];
        else
            ((uint16_t *)p)[i] = f32_to_bf16(v[i]);
}

// Up to VL units, from n elements.
INLINE vec load_units(dtype t, const void *p, int64_t n) {
#if PER == 2
    (void)t;
    __mmask32 m = n >= 32 ? 0xffffffffu : (1u << n) - 1;
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(m, p));
#else
    return load_f32(t, p, min64(n, VL));
#endif
}

INLINE void store_units(unit *p, vec v, int64_t n) {
    if (n >= VL)
        store(p, v);
    else
        store_f32(DT_F32, p, v, n);
}

// Row a and row b as units (a[i], b[i]).
#if PER == 2
INLINE vec interleave(__m512i ab) { // a in the lower half
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, ab));
}
#endif

// ---- the register tile ----

// What memory is asked for meanwhile: `stride` bytes at every step, from `at` on; 0: nothing.
typedef struct {
    const char *at;
    int64_t stride;
} stream;

// c[mr][nv vectors] += Σ_s a(i, s)·b[s][nv vectors]; a(i, s) is the unit at a + i·row + s·step.
INLINE void multiply(vec c[MR][NV], int mr, int nv, const unit *a, int64_t row, int64_t step, const unit *b,
                     int64_t ldb, int64_t steps, stream next) {
    for (int64_t s = 0; s < steps; s++) {
        vec bv[NV];
        if (next.stride) __builtin_prefetch(next.at + s * next.stride);
        UNROLL for (int j = 0; j < nv; j++) bv[j] = load(b + s * ldb + j * VL);
        UNROLL for (int i = 0; i < mr; i++) {
            vec av = splat(a[i * row + s * step]);
            UNROLL for (int j = 0; j < nv; j++) c[i][j] = dot(c[i][j], av, bv[j]);
        }
    }
}

// clang-format off
// f(1) ... f(MR) by the value of n.
#define BY_ROWS(n, f)                                                                                        \
    switch (n) {                                                                                             \
    case 1: f(1); break;                                                                                     \
    case 2: f(2); break;                                                                                     \
    case 3: f(3); break;                                                                                     \
    case 4: f(4); break;                                                                                     \
    case 5: f(5); break;                                                                                     \
    default: f(6);                                                                                           \
    }
// clang-format on
