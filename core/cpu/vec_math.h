// Elementary functions on vectors of f32. Relative error below 4e-7, of Φ 1.2e-6 for |x| ≤ 5, where the
// rounding of x² counts (limits of tests/test_kernels.c); correct at overflow, underflow and infinities, but
// that a sigmoid below the normal range may be 0. NaN gives NaN. The polynomials are minimax fits of the
// functions named.
#pragma once
#include "core/cpu/vec.h"

// ln 2 in two parts; a product of the first with an exponent is exact.
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f

// 2^k for the normal range, k from -126 to 127
INLINE vf exp2_int(vi k) { return (vf)((vu)(k + 127) << 23); }

// x = k·ln2 + r, |r| ≤ ln2/2: gives k and expm1(r).
INLINE vf exp_reduce(vf x, vi *k) {
    const float shift = 0x1.8p23f; // adding it leaves the nearest integer in the low bits
    vf t = x * 0x1.715476p0f + shift, n = t - shift;
    *k = (vi)t - (vi)splat(shift);
    vf r = x - n * LN2_HIGH - n * LN2_LOW;
    vf q = splat(1.3882507e-3f) * r + 8.36658e-3f;
    q = q * r + 4.16672006e-2f;
    q = q * r + 0.166665435f;
    q = q * r + 0.49999997f;
    return q * r * r + r;
}

INLINE vf vec_exp(vf x) {
    // Beyond these bounds the result is 0 and infinity; max and min keep a NaN of x.
    x = vec_min(splat(89), vec_max(splat(-104), x));
    vi k;
    vf p = exp_reduce(x, &k) + 1;
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)p, _mm512_cvtepi32_ps((__m512i)k));
#else
    vi half = k >> 1; // two factors reach the subnormals and infinity
    return p * exp2_int(half) * exp2_int(k - half);
#endif
}

INLINE vf vec_sigmoid(vf x) { return 1 / (1 + vec_exp(-x)); }

// tanh x = e/(e + 2) with e = expm1(2x) = 2^k·expm1(r) + (2^k − 1), which does not cancel near 0
INLINE vf vec_tanh(vf x) {
    vf y = vec_min(splat(20), vec_max(splat(-20), 2 * x));
    vi k;
    vf p = exp_reduce(y, &k), scale = exp2_int(k);
    vf e = scale * p + (scale - 1);
    return sel(x == 0, x, e / (e + 2));
}

INLINE vf vec_log(vf x) {
    vi tiny = x < 0x1p-126f;
    vf y = sel(tiny, x * 0x1p23f, x);
    // y = 2^k·(1 + f) with 1 + f from √½ to √2
    vi bits = (vi)((vu)y - 0x3f3504f3u);
    vi k = bits >> 23;
    vf f = (vf)((vu)(bits & 0x7fffff) + 0x3f3504f3u) - 1;
    vf n = __builtin_convertvector(k - (tiny & 23), vf);
    vf q = splat(-7.6344296e-2f) * f + 0.127615497f;
    q = q * f - 0.131601945f;
    q = q * f + 0.142017618f;
    q = q * f - 0.16623357f;
    q = q * f + 0.200012267f;
    q = q * f - 0.250008225f;
    q = q * f + 0.333333313f;
    vf r = n * LN2_LOW + f * f * (f * q - 0.5f);
    r = n * LN2_HIGH + (r + f);
    r = sel(x == __builtin_inff(), x, r);
    r = sel(x == 0, splat(-__builtin_inff()), r);
    return sel((x < 0) | (x != x), splat(__builtin_nanf("")), r);
}

// Φ(x), the normal distribution function, and φ(x), its density:
// Φ(−t) = exp(−t²/2)·u·P(u) with u = 1/(1 + t/4), t ≥ 0; P fits it for t up to 14.
INLINE vf vec_normal(vf x, vf *density) {
    vf u = 1 / (1 + 0.25f * vec_abs(x)), e = vec_exp(-0.5f * x * x);
    vf p = splat(1.65803786e-2f) * u - 6.27961159e-2f;
    p = p * u + 5.16616143e-2f;
    p = p * u + 2.84235552e-2f;
    p = p * u + 1.27219623e-2f;
    p = p * u + 8.66515189e-2f;
    p = p * u + 7.20012560e-2f;
    p = p * u + 9.55153331e-2f;
    p = p * u + 9.94926021e-2f;
    p = p * u + 9.97479036e-2f;
    vf tail = e * u * p;
    *density = e * 0.39894228f;
    return sel(x > 0, 1 - tail, tail);
}

INLINE vf vec_silu(vf x) { return x / (1 + vec_exp(-x)); }

INLINE vf silu_slope(vf x) {
    vf s = vec_sigmoid(x);
    return s * (1 + x * (1 - s));
}
