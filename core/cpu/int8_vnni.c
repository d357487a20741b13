// A packed panel is 64 scales, [taps][64] sums of codes, and the codes, [taps][steps][64 outputs][4
// channels].
#include "core/cpu/int8_isa.h"
#include "core/cpu/tile.h"

#include <math.h>
#include <string.h>

typedef struct {
    float *scale, *sum;
    int8_t *codes;
} panel_parts;

static panel_parts parts_of(const int8_args *a, int64_t panel) {
    float *scale = (float *)((char *)a->packed + panel * int8_panel_bytes(&a->d)), *sum = scale + INT8_PANEL;
    return (panel_parts){scale, sum, (int8_t *)(sum + int8_taps(&a->d) * INT8_PANEL)};
}

// ---- weights

static void pack_output(const int8_desc *d, const float *w, int64_t column, const panel_parts *to) {
    int64_t taps = int8_taps(d);
    float most = 0;
    for (int64_t i = 0; i < d->Ci * taps; i++) most = fmaxf(most, fabsf(w[i]));
    float scale = to->scale[column] = most / 127;
    for (int64_t tap = 0; tap < taps; tap++) {
        int8_t *codes = to->codes + tap * int8_tap_bytes(d);
        int32_t sum = 0;
        for (int64_t k = 0; k < d->Ci; k++) {
            float code = scale > 0 ? rintf(w[k * taps + tap] / scale) : 0;
            int8_t c = (int8_t)fminf(fmaxf(code, -127), 127);
            codes[(k / 4 * INT8_PANEL + column) * 4 + k % 4] = c;
            sum += c;
        }
        to->sum[tap * INT8_PANEL + column] = (float)sum;
    }
}

void int8_pack_panel(const int8_args *a, int64_t panel) {
    const int8_desc *d = &a->d;
    panel_parts to = parts_of(a, panel);
    memset(to.scale, 0, (size_t)int8_panel_bytes(d));
    for (int64_t j = 0; j < INT8_PANEL && panel * INT8_PANEL + j < d->Co; j++)
        pack_output(d, a->w + (panel * INT8_PANEL + j) * d->Ci * int8_taps(d), j, &to);
}

// ---- pixels of x

typedef struct {
    vec none; // zeros, as long as all are finite
    __m512 low, high;
} extent;

INLINE void extend(extent *e, vec v) {
    e->none += v * 0;
    e->low = _mm512_min_ps(e->low, (__m512)v);
    e->high = _mm512_max_ps(e->high, (__m512)v);
}

// NaN where a value is not finite.
static int8_fact range_of(dtype t, const void *x, int64_t C) {
    extent e = {0};
    int64_t k = 0;
    for (; k + VL <= C; k += VL) extend(&e, load_f32(t, element(t, x, k), VL));
    if (k < C) extend(&e, load_f32(t, element(t, x, k), C - k));
    if (_mm512_cmp_ps_mask((__m512)e.none, (__m512)e.none, _CMP_UNORD_Q)) return (int8_fact){NAN, NAN};
    float low = _mm512_reduce_min_ps(e.low), scale = _mm512_reduce_max_ps(e.high) / 255 - low / 255;
    return (int8_fact){scale > 0x1p-100f ? scale : 0, low};
}

INLINE void store_codes(uint8_t *codes, vec v) {
    _mm_storeu_si128((__m128i *)codes, _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32((__m512)v)));
}

// No code is below 0: x − low is at least what rounding `start` has made of 0, which is far from −1/2.
static void round_pixel(dtype t, const void *x, int64_t C, const int8_fact *f, uint8_t *codes) {
    vec factor = splat(f->scale > 0 ? 1 / f->scale : 0), start = splat(f->low) * factor;
    int64_t k = 0;
    for (; k + VL <= C; k += VL) store_codes(codes + k, load_f32(t, element(t, x, k), VL) * factor - start);
    if (k < C) store_codes(codes + k, load_f32(t, element(t, x, k), C - k) * factor - start);
}

void int8_round(const int8_args *a, int64_t first, int64_t last) {
    int64_t C = a->d.Ci;
    for (int64_t i = first; i < last; i++) {
        const char *x = element(a->d.t, a->x, i * C);
        a->facts[i] = range_of(a->d.t, x, C);
        round_pixel(a->d.t, x, C, &a->facts[i], a->codes + i * int8_pixel_bytes(&a->d));
    }
}

// ---- the product

typedef struct {
    int32_t whole[MR][INT8_PANEL];     // of the tile and tap at hand
    float sums[INT8_ROWS][INT8_PANEL]; // over the taps
    int64_t places[];                  // [taps][rows]: pixels of x
} working;

int64_t int8_lane_bytes(const int8_desc *d) {
    return round_up((int64_t)sizeof(working) + int8_taps(d) * INT8_ROWS * (int64_t)sizeof(int64_t), 64);
}

static int64_t place_of(const int8_desc *d, int64_t b, int64_t y, int64_t x) {
    bool inside = y >= 0 && y < d->H && x >= 0 && x < d->W;
    return inside ? (b * d->H + y) * d->W + x : int8_pixels(d);
}

static void find_places(const int8_desc *d, int64_t first, int64_t n, int64_t *places) {
    int64_t Ho = int8_rows(d), Wo = int8_columns(d), x = first % Wo, y = first / Wo % Ho, b = first / Wo / Ho;
    for (int64_t m = 0; m < n; m++) {
        int64_t top = y * d->stride - d->top, left = x * d->stride - d->left;
        for (int64_t i = 0; i < d->kh; i++)
            for (int64_t j = 0; j < d->kw; j++)
                places[(i * d->kw + j) * INT8_ROWS + m] = place_of(d, b, top + i, left + j);
        if (++x < Wo) continue;
        x = 0;
        if (++y < Ho) continue;
        y = 0;
        b++;
    }
}

// Codes are 4 bytes a step.
INLINE void multiply_codes(__m512i c[MR][NV], int mr, const uint8_t *const x[MR], const int8_t *w,
                           int64_t steps) {
    const uint8_t *row[MR];
    UNROLL for (int i = 0; i < mr; i++) row[i] = x[i];
    for (int64_t s = 0; s < steps; s++) {
        __m512i wv[NV];
        UNROLL for (int j = 0; j < NV; j++) wv[j] = _mm512_loadu_si512(w + (s * NV + j) * 64);
        UNROLL for (int i = 0; i < mr; i++) {
            int32_t four;
            memcpy(&four, row[i] + 4 * s, 4);
            __m512i xv = _mm512_set1_epi32(four);
            UNROLL for (int j = 0; j < NV; j++) c[i][j] = _mm512_dpbusd_epi32(c[i][j], xv, wv[j]);
        }
    }
}

// Inlined once for each number of rows, so it leaves the sums in memory for what is the same for all.
#define TILE(MR_)                                                                                            \
    {                                                                                                        \
        __m512i c[MR][NV] = {0};                                                                             \
        multiply_codes(c, MR_, x, w, steps);                                                                 \
        UNROLL for (int i = 0; i < MR_; i++) UNROLL for (int j = 0; j < NV; j++)                             \
            _mm512_store_si512(l->whole[i] + j * VL, c[i][j]);                                               \
    }

static void multiply_tile(working *l, int64_t rows, const uint8_t *const x[MR], const int8_t *w,
                          int64_t steps){BY_ROWS(rows, TILE)}

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

// What a tap adds to outputs: Σ w·(low + scale·code), without the scale of w.
INLINE vec tap_sum(const int32_t *whole, const int8_fact *f, const float *w_sum) {
    vec sum = (vec)_mm512_cvtepi32_ps(_mm512_load_si512(whole));
    return sum * splat(f->scale) + splat(f->low) * load(w_sum);
}

// From output o of a row of y on.
INLINE void finish(const int8_args *a, vec v, const float *w_scale, int64_t row, int64_t o) {
    int64_t n = min64(a->d.Co - o, VL), place = row * a->d.Co + o;
    if (n <= 0) return;
    v *= load(w_scale);
    if (a->bias) v += load_f32(DT_F32, a->bias + o, n);
    if (a->residual) v += load_f32(a->d.t, element(a->d.t, a->residual, place), n);
    store_result(a->d.t, (char *)(uintptr_t)element(a->d.t, a->y, place), v, n);
}

// Rows [first, first + n) of y, as far as one tap.
static void run_tap(const int8_args *a, working *l, int64_t panel, int64_t tap, int64_t first, int64_t n) {
    const int64_t *places = l->places + tap * INT8_ROWS, last = int8_taps(&a->d) - 1;
    panel_parts p = parts_of(a, panel);
    for (int64_t m = 0; m < n; m += MR) {
        int64_t rows = min64(n - m, MR);
        const uint8_t *x[MR] = {0};
        for (int64_t i = 0; i < rows; i++) x[i] = a->codes + places[m + i] * int8_pixel_bytes(&a->d);
        multiply_tile(l, rows, x, p.codes + tap * int8_tap_bytes(&a->d), (a->d.Ci + 3) / 4);
        for (int64_t i = 0; i < rows; i++) {
            const int8_fact *f = &a->facts[places[m + i]];
            for (int64_t j = 0; j < INT8_PANEL; j += VL) {
                float *sum = l->sums[m + i] + j;
                vec v = tap_sum(l->whole[i] + j, f, p.sum + tap * INT8_PANEL + j);
                if (tap) v += load(sum);
                if (tap < last)
                    store(sum, v);
                else
                    finish(a, v, p.scale + j, first + m + i, panel * INT8_PANEL + j);
            }
        }
    }
}

void int8_run_rows(const int8_args *a, int64_t first, int64_t n, int64_t p0, int64_t p1, void *lane) {
    working *l = lane;
    find_places(&a->d, first, n, l->places);
    for (int64_t p = p0; p < p1; p++)
        for (int64_t tap = 0; tap < int8_taps(&a->d); tap++) run_tap(a, l, p, tap, first, n);
}
