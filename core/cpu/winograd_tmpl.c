// The arithmetic of Winograd's convolutions, compiled once for each instruction set (meson.build gives ISA,
// and VL, NV, PER of tile.h): F(2×2, 3×3) where operands are bf16, F(4×4, 3×3) where they are f32, and
// with UP four times F(2×2, 2×2).
//
//   V = Bᵀ d B     N×N points of a tile, N = M + 2, each a matrix (tiles, Ci)
//   U = G g Gᵀ     N×N points of the weights, each a matrix (Ci, Co), in panels of NV vectors
//   y = Aᵀ (V·U) A
//
//   x ──► V (N², TILES, Ci) ──► for each panel: S = V·U (N², TILES, panel) ──► y
//
// U is read as it was packed, or, with lean weights, made of nine taps for BLOCK channels at a time, so that
// U and S stay in the second level of the cache while the products take V block by block. The order of every
// sum is the same.
//
// Measured on one core of a Zen 4 part (ceilings 118 GF/s f32, 236 bf16; batch 2, of the VAE 1), in GF/s of
// the direct method, beside oneDNN 2.6 on the same core: direct, and its own f32 Winograd (gone in 3.x),
// which this replaced. With AVX2 alone, f32 comes to 2.6 to 3 times the ceiling with whole weights of 64² and
// 32², to about 2 with lean ones.
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

#ifndef UP // the form for pictures made twice as large
#define UP 0
#endif

#include <string.h>

#if UP
enum { M = 4, SIDE = 4, N = 6, TILES = 24 };
#define NAME "winograd F(2x2,2x2) "
#elif PER == 2
enum { M = 2, SIDE = 4, N = 4, TILES = 48 };
#define NAME "winograd F(2x2) "
#else
enum { M = 4, SIDE = 6, N = 6, TILES = 36 };
#define NAME "winograd F(4x4) "
#endif
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

#define TYPE (PER == 2 ? DT_BF16 : DT_F32)

// A tile has SIDE×SIDE pixels, N×N points and M×M results.
// A panel is 64 output channels, computed in parts as wide as the register tile: V is read once for all of
// them.
enum { STEP = UP ? 2 : 1, POINTS = N * N, WIDE = NV * VL, PANEL = 64, BYTES = 4 / PER, BLOCK = 32 };

// Units of input channels that a product takes at a time, of V and of U: all of them, or where U is made on
// the way as many as the second level of the cache holds.
static int64_t block_units(const winograd_desc *d) {
    int64_t row = round_up(d->Ci, VL) / PER;
    return d->lean ? min64(row, BLOCK) : row;
}

static int64_t blocks_of(const winograd_desc *d) {
    return (steps_of(d->Ci) + block_units(d) - 1) / block_units(d);
}

// Units between two points of V, S and a block of U. Not a multiple of 4 KB: the points of one tile would
// share a few places of the first level.
static int64_t points_apart(int64_t units) { return round_up(units, 64) + 64; }
static int64_t V_apart(const winograd_desc *d) { return points_apart(TILES * block_units(d)); }
enum { S_APART = TILES * PANEL + 64, U_STEP = POINTS * PANEL + VL };

// Outputs that a packed panel has room for: growing networks (RRDB) make 32 at a time.
static int64_t panel_width(const winograd_desc *d) { return d->Co <= PANEL / 2 ? PANEL / 2 : PANEL; }

static int64_t panel_bytes(const winograd_desc *d) {
    return (d->lean ? 9 : POINTS) * steps_of(d->Ci) * panel_width(d) * 4;
}

static int64_t V_units(const winograd_desc *d) { return blocks_of(d) * POINTS * V_apart(d); }
static int64_t zeros_units(const winograd_desc *d) { return round_up(d->Ci, VL * PER); }

// V, S, a row of zeros (what lies outside the picture), a block of U.
static int64_t lane_bytes(const winograd_desc *d) {
    return (V_units(d) + POINTS * S_APART + zeros_units(d) + (d->lean ? BLOCK * U_STEP : 0)) * 4;
}

// ---- the transforms along one side, of values that lie `s` apart, in place: SIDE pixels to N, N sums to M
// (Lavin and Gray, section 4.1 and 4.3)

#if UP

// Pixels i-1 to i+2 of x, results 2i to 2i+3 of the picture twice as large. Even results see the weights
// (g0, g1+g2) from i-1 on, odd ones (g0+g1, g2) from i on; each is an F(2,2):
//   d·k, d'·k with k = (k0, k1):  (d0-d1)·k0 + d1·(k0+k1)  and  d1·(k0+k1) - (d1-d2)·k1
INLINE void transform_data(vec *d, int s) {
    vec a = d[0] - d[s], b = d[s] - d[2 * s], c = d[2 * s] - d[3 * s];
    d[4 * s] = d[2 * s], d[5 * s] = c;
    d[0] = a, d[2 * s] = b, d[3 * s] = b;
}

INLINE void transform_sums(vec *m, int s) {
    vec odd = m[3 * s] + m[4 * s];
    m[0] = m[0] + m[s], m[2 * s] = m[s] - m[2 * s];
    m[s] = odd, m[3 * s] = m[4 * s] - m[5 * s];
}

INLINE void transform_weights(vec *g, int s) {
    vec first = g[0] + g[s], last = g[s] + g[2 * s];
    g[5 * s] = g[2 * s];
    g[4 * s] = g[s] = g[0] + last;
    g[3 * s] = first, g[2 * s] = last;
}

#elif PER == 2

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

// The taps of VL output channels at input channel k, in the corner of N×N; zeros where there is no such
// channel.
INLINE void gather_taps(const winograd_args *a, int64_t o, int64_t k, vec u[POINTS]) {
    int64_t Ci = a->d.Ci, outputs = min64(VL, a->d.Co - o);
    for (int tap = 0; tap < 9; tap++) {
        vec g = {0};
        if (k < Ci)
            for (int64_t i = 0; i < outputs; i++) g[i] = a->w[((o + i) * Ci + k) * 9 + tap];
        u[tap / 3 * N + tap % 3] = g;
    }
}

INLINE void weight_points(vec u[POINTS]) {
    UNROLL for (int column = 0; column < 3; column++) transform_weights(u + column, N);
    UNROLL for (int row = 0; row < N; row++) transform_weights(u + row * N, 1);
}

#if PER == 2
INLINE vec join(vec u[PER][POINTS], int i) {
    return interleave((__m512i)_mm512_cvtne2ps_pbh(u[1][i], u[0][i]));
}

INLINE void split(vec v, vec u[PER][POINTS], int i) {
    u[0][i] = (vec)((uvec)v << 16);
    u[1][i] = (vec)((uvec)v & 0xffff0000u);
}
#else
INLINE vec join(vec u[PER][POINTS], int i) { return u[0][i]; }
INLINE void split(vec v, vec u[PER][POINTS], int i) { u[0][i] = v; }
#endif

// Packed: [panel][point][part][step of Ci][WIDE units], or lean: [panel][step of Ci][tap][PANEL units], of
// panels that have such a width.
static void pack(const winograd_args *a, int64_t panel) {
    int64_t steps = steps_of(a->d.Ci), width = panel_width(&a->d), wide = min64(width, WIDE);
    unit *packed = (unit *)((char *)a->packed + panel * panel_bytes(&a->d));
    for (int64_t step = 0; step < steps; step++)
        for (int64_t c = 0; c < width; c += VL) {
            vec u[PER][POINTS];
            for (int i = 0; i < PER; i++) {
                gather_taps(a, panel * PANEL + c, step * PER + i, u[i]);
                if (!a->d.lean) weight_points(u[i]);
            }
            if (a->d.lean)
                for (int tap = 0; tap < 9; tap++)
                    store(packed + (step * 9 + tap) * width + c, join(u, tap / 3 * N + tap % 3));
            else
                for (int i = 0; i < POINTS; i++)
                    store(packed + i * steps * width + (c / wide * steps + step) * wide + c % wide,
                          join(u, i));
        }
}

// Lean weights of some steps → a block of U: [step][point][PANEL].
static void expand(const unit *taps, int64_t steps, int64_t width, unit *U) {
    for (int64_t i = 0; i < steps * width; i += VL) {
        const unit *from = taps + i / width * 9 * width + i % width;
        unit *to = U + i / width * U_STEP + i % width;
        vec u[PER][POINTS];
        UNROLL for (int tap = 0; tap < 9; tap++) split(load(from + tap * width), u, tap / 3 * N + tap % 3);
        UNROLL for (int k = 0; k < PER; k++) UNROLL for (int x = 0; x < 3; x++)
            transform_weights(u[k] + x, N);
        UNROLL for (int y = 0; y < N; y++) {
            UNROLL for (int k = 0; k < PER; k++) transform_weights(u[k] + y * N, 1);
            UNROLL for (int x = 0; x < N; x++) store(to + (y * N + x) * PANEL, join(u, y * N + x));
        }
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

// One tile: SIDE×SIDE pixels → its rows of V, one for each block and point.
static void transform_tile(const winograd_args *a, int64_t tile, const char *zeros, unit *V) {
    const winograd_desc *d = &a->d;
    int64_t block = block_units(d), apart = V_apart(d), pixels = d->x_apart ? d->x_apart : d->Ci;
    tile_place p = place_of(a, tile);
    const char *pixel[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) {
        int64_t h = p.top / STEP + i / SIDE - d->top, w = p.left / STEP + i % SIDE - d->left;
        bool inside = h >= 0 && h < d->H && w >= 0 && w < d->W;
        pixel[i] = inside ? element(TYPE, a->x, ((p.image * d->H + h) * d->W + w) * pixels) : zeros;
    }
    for (int64_t c = 0; c < d->Ci; c += VL) {
        vec v[POINTS];
        int64_t n = min64(VL, d->Ci - c), at = c / PER;
        unit *row = V + at / block * POINTS * apart + at % block;
        UNROLL for (int y = 0; y < SIDE; y++) UNROLL for (int x = 0; x < SIDE; x++) v[y * N + x] =
            load_f32(TYPE, pixel[y * SIDE + x] + c * BYTES, n);
        UNROLL for (int x = 0; x < SIDE; x++) transform_data(v + x, N);
        UNROLL for (int y = 0; y < N; y++) transform_data(v + y * N, 1);
        UNROLL for (int y = 0; y < N; y++) UNROLL for (int x = 0; x < N; x++)
            store_f32(TYPE, row + (y * N + x) * apart, v[y * N + x], VL);
    }
}

// S[rows][PANEL] (+)= V[rows]·U, nv vectors of it.
INLINE void product_tile(int mr, int nv, const unit *V, int64_t row, const unit *U, int64_t ldu,
                         int64_t steps, stream next, bool add, float *S) {
    vec sums[MR][NV] = {0};
    if (add)
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) sums[i][j] =
            load(S + i * PANEL + j * VL);
    multiply(sums, mr, nv, V, row, 1, U, ldu, steps, next);
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++)
        store(S + i * PANEL + j * VL, sums[i][j]);
}

#define PRODUCT_TILE(mr) product_tile(mr, nv, V + i * row, row, U, ldu, steps, next, add, S + i * PANEL)

// Whole weights are a stream from memory of which the first MR rows read all, and the others nothing new:
// with `streamed` the weights behind U are asked for in equal shares by all rows. One core of a Zen 4 part
// does the layers of 64² and 32² 1.1 to 1.25 times as fast with AVX2, 1.02 to 1.05 times with AVX-512.
INLINE void product(int64_t rows, int nv, const unit *V, int64_t row, const unit *U, int64_t ldu,
                    int64_t steps, bool streamed, bool add, float *S) {
    int64_t turns = (rows + MR - 1) / MR;
    stream next = {(const char *)(U + steps * ldu), streamed ? (4 * ldu + turns - 1) / turns : 0};
    for (int64_t i = 0; i < rows; i += MR, next.at += steps * next.stride) BY_ROWS(rows - i, PRODUCT_TILE)
}

typedef void multiplier(int64_t rows, const unit *V, int64_t row, const unit *U, int64_t ldu, int64_t steps,
                        bool add, float *S);

static void product_whole(int64_t rows, const unit *V, int64_t row, const unit *U, int64_t ldu, int64_t steps,
                          bool add, float *S) {
    product(rows, NV, V, row, U, ldu, steps, true, add, S);
}

static void product_lean(int64_t rows, const unit *V, int64_t row, const unit *U, int64_t ldu, int64_t steps,
                         bool add, float *S) {
    product(rows, NV, V, row, U, ldu, steps, false, add, S);
}

// The first half of the columns, where there are no others: 1.5 to 1.6 times as fast for 32 channels.
static void product_half(int64_t rows, const unit *V, int64_t row, const unit *U, int64_t ldu, int64_t steps,
                         bool add, float *S) {
    product(rows, NV / 2, V, row, U, ldu, steps, false, add, S);
}

// S of one panel at all points.
static void panel_sums(const winograd_args *a, int64_t panel, int64_t tiles, const unit *V, unit *made,
                       float *S) {
    const winograd_desc *d = &a->d;
    const unit *packed = (const unit *)((const char *)a->packed + panel * panel_bytes(d));
    int64_t all = steps_of(d->Ci), block = block_units(d), width = panel_width(d);
    int64_t outputs = min64(PANEL, d->Co - panel * PANEL);
    for (int64_t s = 0; s < all; s += block, V += POINTS * V_apart(d)) {
        int64_t steps = min64(block, all - s);
        const unit *taps = packed + s * 9 * width, *U = d->lean ? made : packed;
        int64_t part_of_taps = round_up(steps * 9 * width / POINTS, 16);
        if (d->lean) expand(taps, steps, width, made);
        int64_t point = d->lean ? PANEL : all * width, part = d->lean ? WIDE : all * WIDE,
                ldu = d->lean ? U_STEP : min64(width, WIDE);
        for (int64_t i = 0; i < POINTS; i++) {
            if (d->lean) {
                // V in time from the third level: 3 to 17 % of layers of 8×8 to 32×32 at two threads.
                fetch(taps + steps * 9 * width + i * part_of_taps, part_of_taps);
                if (s + block < all) fetch(V + (POINTS + i) * V_apart(d), tiles * block);
            }
            for (int64_t k = 0; k * WIDE < outputs; k++) {
                multiplier *multiply_part = outputs - k * WIDE <= WIDE / 2 ? product_half
                                            : d->lean                      ? product_lean
                                                                           : product_whole;
                multiply_part(tiles, V + i * V_apart(d), block, U + i * point + k * part, ldu, steps, s > 0,
                              S + i * S_APART + k * WIDE);
            }
        }
    }
}

INLINE vec leak(vec v, float slope) { // a NaN stays one
    uvec below = (uvec)(v < 0);
    return (vec)(((uvec)v & ~below) | ((uvec)(v * slope) & below));
}

// VL channels of one tile: sums at each point → M×M results, of which those inside y are stored.
static void finish_tile(const winograd_args *a, tile_place p, const float *S, int64_t c) {
    const winograd_desc *d = &a->d;
    int64_t Ho = winograd_rows(d), Wo = winograd_columns(d);
    int64_t n = min64(VL, d->Co - c), pixels = d->y_apart ? d->y_apart : d->Co;
    vec v[POINTS], bias = a->bias ? load_f32(DT_F32, a->bias + c, n) : (vec){0};
    UNROLL for (int y = 0; y < N; y++) UNROLL for (int x = 0; x < N; x++) v[y * N + x] =
        load(S + (y * N + x) * S_APART);
    UNROLL for (int x = 0; x < N; x++) transform_sums(v + x, N);
    UNROLL for (int y = 0; y < M; y++) transform_sums(v + y * N, 1);
    UNROLL for (int y = 0; y < M; y++) UNROLL for (int x = 0; x < M; x++) {
        int64_t h = p.top + y, w = p.left + x, at = ((p.image * Ho + h) * Wo + w) * pixels + c;
        if (h >= Ho || w >= Wo) continue;
        vec result = v[y * N + x] + bias;
        if (d->leaky) result = leak(result, d->slope);
        if (a->residual) result += load_f32(TYPE, element(TYPE, a->residual, at), n);
        store_f32(TYPE, (char *)a->y + at * BYTES, result, n);
    }
}

static void run(const winograd_args *a, int64_t t0, int64_t t1, int64_t p0, int64_t p1, void *lane) {
    unit *V = lane, *zeros = V + V_units(&a->d);
    float *S = zeros + zeros_units(&a->d);
    unit *made = S + POINTS * S_APART;
    memset(zeros, 0, (size_t)zeros_units(&a->d) * 4);
    for (int64_t t = t0; t < t1; t++)
        transform_tile(a, t, (const char *)zeros, V + (t - t0) * block_units(&a->d));
    for (int64_t p = p0; p < p1; p++) {
        panel_sums(a, p, t1 - t0, V, made, S);
        for (int64_t t = t0; t < t1; t++) {
            tile_place place = place_of(a, t);
            for (int64_t c = 0; c < PANEL && p * PANEL + c < a->d.Co; c += VL)
                finish_tile(a, place, S + (t - t0) * PANEL + c, p * PANEL + c);
        }
    }
}

const winograd_kernels CAT(winograd_, ISA) = {.name = {NAME TEXT(ISA), NAME "lean " TEXT(ISA)},
                                              .m = M,
                                              .panel = PANEL,
                                              .tiles = TILES,
                                              .panel_bytes = panel_bytes,
                                              .lane_bytes = lane_bytes,
                                              .pack = pack,
                                              .run = run};
