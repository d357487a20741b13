// The arithmetic of Winograd's convolutions, compiled once for each instruction set (meson.build gives ISA,
// and VL, NV, PER of tile.h): F(2×2, 3×3) where operands are bf16, F(4×4, 3×3) where they are f32.
//
//   V = Bᵀ d B     N×N points of a tile, N = M + 2, each a matrix (tiles, Ci)
//   U = G g Gᵀ     N×N points of the weights, each a matrix (Ci, Co), in panels of NV vectors
//   y = Aᵀ (V·U) A
//
//   x ──► V (N², TILES, Ci) ──► for each panel: S = V·U (N², TILES, panel) ──► y
//         first and second level of the cache                  second level
//
// Measured on one core of a Zen 4 part (ceilings 118 GF/s f32, 236 bf16; batch 2, of the VAE 1), in GF/s of
// the direct method, beside oneDNN 2.6 on the same core: direct, and its own f32 Winograd (gone in 3.x),
// which this replaced. With AVX2 alone the f32 column is 1.0 to 2.2 times direct.
//
//   layer              bf16: direct  here   f32: direct  oneDNN's  here
//   320-320 @ 64              233     444          101       335    338
//   640-640 @ 32              237     454          106       345    349
//   1280-1280 @ 16            240     467          117       257    362
//   1280-1280 @ 8             231     450          117       183    290
//   960-320 @ 64              227     447           91       305    375
//   256-256 @ 256 (VAE)       195     366           82       218    264
//   128-128 @ 512 (VAE)       214     317           96       241    286
//   64-64 @ 32                236     369          115       159    296
//   128-128 @ 8               258     383          122       189    254
#include "core/cpu/tile.h"
#include "core/cpu/winograd_isa.h"

#include <string.h>

#if PER == 2
enum { M = 2, TILES = 48 };
#define TYPE DT_BF16
#define NAME "winograd F(2x2) "
#else
enum { M = 4, TILES = 24 };
#define TYPE DT_F32
#define NAME "winograd F(4x4) "
#endif
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

enum { N = M + 2, POINTS = N * N, PANEL = NV * VL, BYTES = 4 / PER };

// Units of a row of V: whole vectors of channels, those past Ci zero.
static int64_t row_units(const winograd_desc *d) { return round_up(d->Ci, VL) / PER; }

static int64_t panel_bytes(const winograd_desc *d) { return POINTS * steps_of(d->Ci) * PANEL * 4; }

// V, S, and a row of zeros: what lies outside the picture.
static int64_t lane_bytes(const winograd_desc *d) {
    return (POINTS * TILES * (row_units(d) + PANEL) + round_up(row_units(d), VL)) * 4;
}

// ---- the transforms of N values that lie `s` apart, in place (Lavin and Gray, section 4.1 and 4.3)

#if PER == 2

INLINE void transform_data(vec *d, int s) {
    vec a = d[0] - d[2 * s], b = d[s] + d[2 * s], c = d[2 * s] - d[s], e = d[s] - d[3 * s];
    d[0] = a, d[s] = b, d[2 * s] = c, d[3 * s] = e;
}

INLINE void transform_sums(vec *m, int s) {
    vec a = m[0] + m[s] + m[2 * s], b = m[s] - m[2 * s] - m[3 * s];
    m[0] = a, m[s] = b;
}

// Three weights to N, `s` apart.
INLINE void transform_weights(vec *g, int s) {
    vec half = (g[0] + g[2 * s]) * 0.5f, mid = g[s] * 0.5f;
    g[3 * s] = g[2 * s], g[s] = half + mid, g[2 * s] = half - mid;
}

#else

INLINE void transform_data(vec *d, int s) {
    vec d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
    vec even = d4 - d2 * 4.f, odd = d3 - d1 * 4.f, even2 = d4 - d2, odd2 = (d3 - d1) * 2.f;
    d[0] = d0 * 4.f - d2 * 5.f + d4;
    d[s] = even + odd, d[2 * s] = even - odd;
    d[3 * s] = even2 + odd2, d[4 * s] = even2 - odd2;
    d[5 * s] = d1 * 4.f - d3 * 5.f + d5;
}

INLINE void transform_sums(vec *m, int s) {
    vec sum = m[s] + m[2 * s], difference = m[s] - m[2 * s];
    vec sum2 = m[3 * s] + m[4 * s], difference2 = m[3 * s] - m[4 * s];
    m[0] = m[0] + sum + sum2;
    m[s] = difference + difference2 * 2.f;
    m[2 * s] = sum + sum2 * 4.f;
    m[3 * s] = difference + difference2 * 8.f + m[5 * s];
}

INLINE void transform_weights(vec *g, int s) {
    vec g0 = g[0], g1 = g[s], g2 = g[2 * s];
    vec ends = (g0 + g2) * (-1.f / 6), mid = g1 * (1.f / 6);
    vec ends2 = g0 * (1.f / 24) + g2 * (1.f / 6), mid2 = g1 * (1.f / 12);
    g[0] = g0 * 0.25f;
    g[s] = ends - mid, g[2 * s] = ends + mid;
    g[3 * s] = ends2 + mid2, g[4 * s] = ends2 - mid2;
    g[5 * s] = g2;
}

#endif

// ---- weights

// U of VL output channels at input channel k; zeros where there is no such channel.
INLINE void weight_points(const winograd_args *a, int64_t o, int64_t k, vec u[POINTS]) {
    int64_t Ci = a->d.Ci, outputs = min64(VL, a->d.Co - o);
    for (int tap = 0; tap < 9; tap++) {
        vec g = {0};
        if (k < Ci)
            for (int64_t i = 0; i < outputs; i++) g[i] = a->w[((o + i) * Ci + k) * 9 + tap];
        u[tap / 3 * N + tap % 3] = g;
    }
    UNROLL for (int column = 0; column < 3; column++) transform_weights(u + column, N);
    UNROLL for (int row = 0; row < N; row++) transform_weights(u + row * N, 1);
}

// Packed: [panel][point][step of Ci][PANEL units].
static void pack(const winograd_args *a, int64_t panel) {
    int64_t steps = steps_of(a->d.Ci);
    unit *packed = (unit *)((char *)a->packed + panel * panel_bytes(&a->d));
    for (int64_t step = 0; step < steps; step++)
        for (int64_t c = 0; c < PANEL; c += VL) {
            vec u[POINTS];
            weight_points(a, panel * PANEL + c, step * PER, u);
#if PER == 2
            vec next[POINTS];
            weight_points(a, panel * PANEL + c, step * PER + 1, next);
            for (int i = 0; i < POINTS; i++) u[i] = interleave((__m512i)_mm512_cvtne2ps_pbh(next[i], u[i]));
#endif
            for (int i = 0; i < POINTS; i++) store(packed + (i * steps + step) * PANEL + c, u[i]);
        }
}

// ---- a work item

typedef struct {
    int64_t image, top, left; // of its results in y
} tile_place;

static tile_place place_of(const winograd_args *a, int64_t tile) {
    int64_t of_image = a->rows * a->columns, at = tile % of_image;
    return (tile_place){tile / of_image, at / a->columns * M, at % a->columns * M};
}

// One tile: N×N pixels → its row of V at each point, `stride` units apart.
static void transform_tile(const winograd_args *a, int64_t tile, const char *zeros, unit *V, int64_t stride) {
    const winograd_desc *d = &a->d;
    tile_place p = place_of(a, tile);
    const char *pixel[POINTS];
    for (int i = 0; i < POINTS; i++) {
        int64_t h = p.top + i / N - d->top, w = p.left + i % N - d->left;
        bool inside = h >= 0 && h < d->H && w >= 0 && w < d->W;
        pixel[i] = inside ? element(TYPE, a->x, ((p.image * d->H + h) * d->W + w) * d->Ci) : zeros;
    }
    for (int64_t c = 0; c < d->Ci; c += VL) {
        vec v[POINTS];
        int64_t n = min64(VL, d->Ci - c);
        UNROLL for (int y = 0; y < N; y++) UNROLL for (int x = 0; x < N; x++) v[y * N + x] =
            load_f32(TYPE, pixel[y * N + x] + c * BYTES, n);
        UNROLL for (int x = 0; x < N; x++) transform_data(v + x, N);
        UNROLL for (int y = 0; y < N; y++) transform_data(v + y * N, 1);
        UNROLL for (int y = 0; y < N; y++) UNROLL for (int x = 0; x < N; x++)
            store_f32(TYPE, V + (y * N + x) * stride + c / PER, v[y * N + x], VL);
    }
}

// S[rows][PANEL] = V[rows]·U, nv vectors of it.
INLINE void product_tile(int mr, int nv, const unit *V, int64_t row, const unit *U, int64_t steps, float *S) {
    vec sums[MR][NV] = {0};
    multiply(sums, mr, nv, V, row, 1, U, PANEL, steps);
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++)
        store(S + i * PANEL + j * VL, sums[i][j]);
}

#define PRODUCT_TILE(mr) product_tile(mr, NV, V + i * row, row, U, steps, S + i * PANEL)

static void product(int64_t rows, const unit *V, int64_t row, const unit *U, int64_t steps, float *S) {
    for (int64_t i = 0; i < rows; i += MR) BY_ROWS(rows - i, PRODUCT_TILE)
}

// VL channels of one tile: sums at each point → M×M results, of which those inside y are stored.
static void finish_tile(const winograd_args *a, tile_place p, const float *S, int64_t c) {
    const winograd_desc *d = &a->d;
    int64_t Ho = d->H + d->top + d->bottom - 2, Wo = d->W + d->left + d->right - 2;
    int64_t n = min64(VL, d->Co - c);
    vec v[POINTS], bias = a->bias ? load_f32(DT_F32, a->bias + c, n) : (vec){0};
    UNROLL for (int y = 0; y < N; y++) UNROLL for (int x = 0; x < N; x++) v[y * N + x] =
        load(S + (y * N + x) * TILES * PANEL);
    UNROLL for (int x = 0; x < N; x++) transform_sums(v + x, N);
    UNROLL for (int y = 0; y < M; y++) transform_sums(v + y * N, 1);
    UNROLL for (int y = 0; y < M; y++) UNROLL for (int x = 0; x < M; x++) {
        int64_t h = p.top + y, w = p.left + x, at = ((p.image * Ho + h) * Wo + w) * d->Co + c;
        if (h >= Ho || w >= Wo) continue;
        vec result = v[y * N + x] + bias;
        if (a->residual) result += load_f32(TYPE, element(TYPE, a->residual, at), n);
        store_f32(TYPE, (char *)a->y + at * BYTES, result, n);
    }
}

static void run(const winograd_args *a, int64_t t0, int64_t t1, int64_t p0, int64_t p1, void *lane) {
    int64_t row = row_units(&a->d), steps = steps_of(a->d.Ci), tiles = t1 - t0;
    unit *V = lane, *zeros = V + POINTS * TILES * row;
    float *S = zeros + round_up(row, VL);
    memset(zeros, 0, (size_t)row * 4);
    for (int64_t t = 0; t < tiles; t++)
        transform_tile(a, t0 + t, (const char *)zeros, V + t * row, TILES * row);
    for (int64_t p = p0; p < p1; p++) {
        const unit *U = (const unit *)((const char *)a->packed + p * panel_bytes(&a->d));
        for (int64_t i = 0; i < POINTS; i++)
            product(tiles, V + i * TILES * row, row, U + i * steps * PANEL, steps, S + i * TILES * PANEL);
        for (int64_t t = 0; t < tiles; t++) {
            tile_place place = place_of(a, t0 + t);
            for (int64_t c = 0; c < PANEL && p * PANEL + c < a->d.Co; c += VL)
                finish_tile(a, place, S + t * PANEL + c, p * PANEL + c);
        }
    }
}

const winograd_kernels CAT(winograd_, ISA) = {.name = NAME TEXT(ISA),
                                              .m = M,
                                              .panel = PANEL,
                                              .tiles = TILES,
                                              .panel_bytes = panel_bytes,
                                              .lane_bytes = lane_bytes,
                                              .pack = pack,
                                              .run = run};
