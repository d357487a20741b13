// A packed panel is [steps][64 columns][4 operands] of weights + 128, then 64 scales: the instruction
// multiplies unsigned by signed bytes, so 128 times the sum of a row of x is taken off again.
#include "core/cpu/int8_isa.h"
#include "core/cpu/tile.h"

#include <math.h>
#include <string.h>

// ---- weights

static void pack_column(const float *w, int64_t K, int64_t column, uint8_t *panel, float *scale) {
    float most = 0;
    for (int64_t k = 0; k < K; k++) most = fmaxf(most, fabsf(w[k]));
    *scale = most / 127;
    for (int64_t k = 0; k < K; k++) {
        float code = *scale > 0 ? rintf(w[k] / *scale) : 0;
        code = fminf(fmaxf(code, -127), 127);
        panel[(k / 4 * INT8_PANEL + column) * 4 + k % 4] = (uint8_t)((int)code + 128);
    }
}

void int8_pack_panel(const int8_args *a, int64_t panel) {
    uint8_t *packed = (uint8_t *)a->packed + panel * int8_panel_bytes(&a->d);
    float *scale = (float *)(packed + INT8_PANEL * int8_row_bytes(&a->d));
    memset(packed, 128, (size_t)(INT8_PANEL * int8_row_bytes(&a->d)));
    memset(scale, 0, INT8_PANEL * sizeof *scale);
    for (int64_t j = 0; j < INT8_PANEL && panel * INT8_PANEL + j < a->d.N; j++)
        pack_column(a->w + (panel * INT8_PANEL + j) * a->d.K, a->d.K, j, packed, &scale[j]);
}

// ---- rows of x

typedef struct {
    float scale[INT8_ROWS];
    int32_t excess[INT8_ROWS]; // 128 times the sum of the row's codes
    int8_t codes[];            // [rows][K, a multiple of 16]
} rounded_rows;

// Of bits without the sign: numbers are ordered as integers are, and what is not finite is above them.
static float largest(dtype t, const void *x, int64_t K) {
    __m512i most = _mm512_setzero_si512(), sign = _mm512_set1_epi32(0x7fffffff);
    for (int64_t k = 0; k < K; k += VL) {
        vec v = load_f32(t, element(t, x, k), min64(K - k, VL));
        most = _mm512_max_epu32(most, _mm512_and_si512((__m512i)v, sign));
    }
    uint32_t bits = _mm512_reduce_max_epu32(most);
    float value;
    memcpy(&value, &bits, sizeof value);
    return isfinite(value) ? value : NAN;
}

static void round_row(dtype t, const void *x, int64_t K, int8_t *codes, float *scale, int32_t *excess) {
    float most = largest(t, x, K), factor = most > 0x1p-100f ? 127 / most : 0;
    __m512i sum = _mm512_setzero_si512();
    for (int64_t k = 0; k < K; k += VL) {
        vec v = load_f32(t, element(t, x, k), min64(K - k, VL)) * splat(factor);
        __m512i code = _mm512_cvtps_epi32((__m512)v);
        sum = _mm512_add_epi32(sum, code);
        _mm_storeu_si128((__m128i *)(codes + k), _mm512_cvtsepi32_epi8(code));
    }
    *scale = factor > 0 ? most / 127 : most * 0; // NaN of NaN
    *excess = factor > 0 ? 128 * _mm512_reduce_add_epi32(sum) : 0;
}

// ---- the product

// Codes are 4 bytes a step; rows of them `row` bytes apart.
INLINE void multiply_codes(__m512i c[MR][NV], int mr, const int8_t *a, int64_t row, const uint8_t *b,
                           int64_t steps) {
    for (int64_t s = 0; s < steps; s++) {
        __m512i bv[NV];
        UNROLL for (int j = 0; j < NV; j++) bv[j] = _mm512_loadu_si512(b + (s * NV + j) * 64);
        UNROLL for (int i = 0; i < mr; i++) {
            int32_t four;
            memcpy(&four, a + i * row + 4 * s, 4);
            __m512i av = _mm512_set1_epi32(four);
            UNROLL for (int j = 0; j < NV; j++) c[i][j] = _mm512_dpbusd_epi32(c[i][j], bv[j], av);
        }
    }
}

INLINE void store_result(dtype t, void *y, vec v, int64_t n) {
    if (t == DT_F32) {
        store_f32(t, y, v, n);
        return;
    }
    __m512i bits = (__m512i)v, even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i nearest = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
    __mmask16 none = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q); // NaNs stay such
    nearest = _mm512_mask_or_epi32(nearest, none, bits, _mm512_set1_epi32(0x400000));
    _mm512_mask_cvtepi32_storeu_epi16(y, (__mmask16)((1u << n) - 1), _mm512_srli_epi32(nearest, 16));
}

// A row of a panel's sums, from column n0 on.
static void finish_row(const int8_args *a, const int32_t *sums, int64_t row, int64_t n0, const float *w_scale,
                       float x_scale, int32_t excess) {
    for (int64_t j = 0; j < INT8_PANEL && n0 + j < a->d.N; j += VL) {
        int64_t n = min64(a->d.N - n0 - j, VL), place = row * a->d.N + n0 + j;
        __m512i sum = _mm512_load_si512(sums + j);
        vec v = (vec)_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(excess)));
        v = v * splat(x_scale) * load(w_scale + j);
        if (a->bias) v += load_f32(DT_F32, a->bias + n0 + j, n);
        if (a->residual) v += load_f32(a->d.t, element(a->d.t, a->residual, place), n);
        store_result(a->d.t, (char *)(uintptr_t)element(a->d.t, a->y, place), v, n);
    }
}

// Inlined once for each number of rows, so it leaves the sums in memory for what is the same for all.
#define TILE(MR_)                                                                                            \
    {                                                                                                        \
        __m512i c[MR][NV] = {0};                                                                             \
        multiply_codes(c, MR_, codes, row_bytes, panel, steps);                                              \
        UNROLL for (int i = 0; i < MR_; i++) UNROLL for (int j = 0; j < NV; j++)                             \
            _mm512_store_si512(sums[i] + j * VL, c[i][j]);                                                   \
    }

void int8_run_rows(const int8_args *a, int64_t first, int64_t n, int64_t p0, int64_t p1, void *lane) {
    rounded_rows *r = lane;
    int64_t K = a->d.K, row_bytes = round_up(K, 16), steps = int8_row_bytes(&a->d) / 4;
    _Alignas(64) int32_t sums[MR][INT8_PANEL];
    for (int64_t m = 0; m < n; m++)
        round_row(a->d.t, element(a->d.t, a->x, (first + m) * K), K, r->codes + m * row_bytes, &r->scale[m],
                  &r->excess[m]);
    for (int64_t p = p0; p < p1; p++) {
        const uint8_t *panel = (const uint8_t *)a->packed + p * int8_panel_bytes(&a->d);
        const float *scale = (const float *)(panel + INT8_PANEL * int8_row_bytes(&a->d));
        for (int64_t m = 0; m < n; m += MR) {
            const int8_t *codes = r->codes + m * row_bytes;
            BY_ROWS(min64(n - m, MR), TILE)
            for (int64_t i = m; i < m + MR && i < n; i++)
                finish_row(a, sums[i - m], first + i, p * INT8_PANEL, scale, r->scale[i], r->excess[i]);
        }
    }
}
