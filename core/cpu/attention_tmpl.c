// The arithmetic of attention, compiled once for each instruction set (meson.build gives ISA, and VL, NV, PER
// of tile.h). A work item is 64 queries, in parts of QB = NV·VL.
//
// Scores are kept transposed: keys are rows, queries lie along the vectors.
//
// clang-format off
//            64 queries
//          ┌────────────┐
//        D │     Qᵀ     │
//          └────────────┘
//     D
//   ┌─────┐┌────────────┐
//  6│  K  ││ Sᵀ = K·Qᵀ  │ → Pᵀ = 2^(Sᵀ−m)
//   └─────┘└────────────┘     │
//    keys                     │
//   ┌─────┐┌────────────┐     │
//  6│  Vᵀ ││ Oᵀ += Vᵀ·Pᵀ│  ←──┘  60 units of keys a block, 16 KB of Pᵀ
//   └─────┘└────────────┘
//     D
// clang-format on
//
// Maximum, sum and rescaling of the softmax are then vertical, without a shuffle, and both products are one
// register tile: 6 rows × 4 vectors, a row's operand broadcast from memory, the vectors loaded once for six
// rows. Rows are never padded to a vector (D = 40 costs 40, not 48).
//
// A tile of Sᵀ goes from the registers through 2^x into Pᵀ without a stop in memory; that work overlaps with
// the next tile's product. It needs m before the tile is known, so m is any recent maximum and is raised only
// when a score exceeds it by LIMIT. Pᵀ is floating point: its scale costs no accuracy. See forward_block().
//
// The backward pass recomputes Pᵀ from the log-sum-exp and multiplies five times a block (FlashAttention-2,
// Dao 2023, algorithm 2; here with dPᵀ = V·dOᵀ and dSᵀ = Pᵀ∘(dPᵀ − rowsum(dO∘O)) transposed alike):
//
//   dV[keys][D] += Pᵀ·dO        dK[keys][D] += dSᵀ·Q        dQᵀ[D][queries] += Kᵀ·dSᵀ
//
// Measured on one core of a Zen 4 part, as a share of its register-only multiply-add ceiling (236 GF/s bf16,
// 118 f32), forward and backward (counted as 5 products for the forward's 2), and processor time of
// PyTorch 2.13's scaled_dot_product_attention over ours, in bf16:
//
//   Tq × Tk × D                bf16      f32       PyTorch bf16
//   4096 × 4096 × 40           79  72    84  79    3.0  2.2
//   1024 × 1024 × 80           83  82    85  84    2.6  1.9
//   256 × 256 × 160            81  82    81  82    2.6  2.4
//   4096 × 77 × 40             53  52    59  59    3.5  3.1
//   4096 × 4096 × 512          88  84    69  78    2.3  1.7
//   1024 × 1024 × 32, B 32     74  80    78  85    2.8  2.5
//   64 × 64 × 32, B 32         58  61    58  61    4.3  15
//   1024 × 24 × 32, B 32       36  37    32  36    4.4  4.8   (bound by memory)
//
// AVX2 reaches 76 and 80 % at 4096 × 4096 × 40, 81 and 80 % at 1024 × 1024 × 80.
#include "core/cpu/attention_isa.h"
#include "core/cpu/tile.h"

#include <math.h>
#include <string.h>

// A block's weights and, of heads up to 64 wide, its values fill the first level of the cache: with QB = 16
// and D = 40 blocks of 16 KB of weights, which left the values in the second level, cost 5 %.
enum { QB = NV * VL, QSTEPS = QB / PER, KEY_STEPS = 8192 / (QB + 64) / MR * MR, KEYS = KEY_STEPS * PER };
// Of a work item's 64 queries, as many parts as vectors ask for. They take turns at every block of keys,
// which comes from beyond the second level once for all: AVX2 gains 4 % at 64×64 and 15 % where D is 512.
enum { PARTS = 64 / QB };

INLINE vec larger(vec a, vec b) {
#if VL == 16
    return _mm512_max_ps(a, b);
#elif VL == 8
    return _mm256_max_ps(a, b);
#else
    return (vec)(((a > b) & (ivec)a) | (~(a > b) & (ivec)b));
#endif
}

INLINE bool any_above(vec a, float limit) {
#if VL == 16
    return _mm512_cmp_ps_mask(a, splat(limit), _CMP_GT_OQ) != 0;
#elif VL == 8
    return _mm256_movemask_ps(_mm256_cmp_ps(a, splat(limit), _CMP_GT_OQ)) != 0;
#else
    ivec above = a > limit;
    return (above[0] | above[1] | above[2] | above[3]) != 0;
#endif
}

// 2^x for x < 127; −∞ gives 0 or 1e-38. Relative error 7.5e-8 of the polynomial (bf16 results: 7.5e-5, a 26th
// of their own rounding); minimax coefficients for the relative error.
INLINE vec exp2_vec(vec x) {
#if VL == 16
    vec f = _mm512_reduce_ps(x, 1 /* x − ⌊x⌋, exactly */);
#if PER == 2
    vec p = f * 0.0780245212f + 0.226067158f;
    p = p * f + 0.69583354f;
    p = p * f + 0.999925219f;
#else
    vec p = f * 0.00187757666f + 0.00898934013f;
    p = p * f + 0.055826318f;
    p = p * f + 0.240153617f;
    p = p * f + 0.693153073f;
    p = p * f + 0.999999925f;
#endif
    return _mm512_scalef_ps(p, x);
#else
    x = larger(splat(-126.f), x); // a NaN stays one
    vec shifted = x + 0x1.8p23f;  // the integer nearest to x stands in the low bits
    vec f = x - (shifted - 0x1.8p23f);
    vec p = f * 0.00132764719f + 0.00967554133f;
    p = p * f + 0.0555071327f;
    p = p * f + 0.240221197f;
    p = p * f + 0.693146967f;
    p = p * f + 1.00000007f;
    return (vec)((uvec)p + ((uvec)shifted << 23));
#endif
}

// log2 of a positive normal number, absolute error 2e-7: x = 2^e·m with m about 1, log m = 2
// artanh((m−1)/(m+1)).
INLINE vec log2_vec(vec x) {
    ivec e = (ivec)((uvec)x - 0x3f3504f3) >> 23; // m in [√½, √2)
    vec m = (vec)((uvec)x - ((uvec)e << 23));
    vec s = (m - 1.f) / (m + 1.f), t = s * s;
    vec p = t * 0.32059890f + 0.41219859f; // 2/(ln 2 · (2i+1))
    p = p * t + 0.57707802f;
    p = p * t + 0.96179669f;
    p = p * t + 2.88539008f;
    return p * s + __builtin_convertvector(e, vec);
}

// ---- packing ----

// Swaps bit s of the row index with bit s of the lane index; all bits together transpose.
#define LOW(k, s) ((k) & (s) ? VL + (k) - (s) : (k))
#define HIGH(k, s) ((k) & (s) ? VL + (k) : (k) + (s))
#define LANES4(f, s) f(0, s), f(1, s), f(2, s), f(3, s)
#define LANES8(f, s) LANES4(f, s), f(4, s), f(5, s), f(6, s), f(7, s)
#define LANES16(f, s)                                                                                        \
    LANES8(f, s), f(8, s), f(9, s), f(10, s), f(11, s), f(12, s), f(13, s), f(14, s), f(15, s)
#define LANES CAT(LANES, VL)
#define SWAP_BIT(r, s)                                                                                       \
    UNROLL for (int i = 0; i < VL; i++) if (!(i & (s))) {                                                    \
        vec low = r[i], high = r[i + (s)];                                                                   \
        r[i] = __builtin_shufflevector(low, high, LANES(LOW, s));                                            \
        r[i + (s)] = __builtin_shufflevector(low, high, LANES(HIGH, s));                                     \
    }

INLINE void transpose(vec r[VL]) {
    SWAP_BIT(r, 1)
    SWAP_BIT(r, 2)
#if VL >= 8
    SWAP_BIT(r, 4)
#endif
#if VL >= 16
    SWAP_BIT(r, 8)
#endif
}

// n rows of D elements, ld apart → out[steps of D][QB], queries along the vectors; columns past n are zero.
// Asks memory for the rows that the next call will read, if it goes on below (10 % of a cross attention).
static void pack_transposed(dtype t, const void *src, int64_t ld, int64_t n, int64_t D, unit *out) {
    int64_t steps = steps_of(D);
    for (int64_t c = 0; c < QB; c += VL)
        for (int64_t s = 0; s < steps; s += VL) {
            vec r[VL];
            UNROLL for (int i = 0; i < VL; i++)
                __builtin_prefetch((const void *)((uintptr_t)src + (size_t)((c + i + QB) * ld + s * PER) *
                                                                       (t == DT_F32 ? 4 : 2)));
            UNROLL for (int i = 0; i < VL; i++) r[i] =
                c + i < n ? load_units(t, element(t, src, (c + i) * ld + s * PER), D - s * PER) : (vec){0};
            transpose(r);
            int64_t rows = min64(VL, steps - s);
            UNROLL for (int i = 0; i < VL; i++) if (i < rows) store(out + (s + i) * QB + c, r[i]);
        }
}

// n rows of D elements → out[n, made a multiple of PER][steps of D].
static void pack_rows(dtype t, const void *src, int64_t ld, int64_t n, int64_t D, unit *out) {
    int64_t steps = steps_of(D);
    for (int64_t i = 0; i < round_up(n, PER); i++)
        for (int64_t s = 0; s < steps; s += VL) {
            vec v = i < n ? load_units(t, element(t, src, i * ld + s * PER), D - s * PER) : (vec){0};
            store_units(out + i * steps + s, v, steps - s);
        }
}

// n rows of D elements → out[steps of n][width], PER rows in a unit; columns past D are zero.
static void pack_columns(dtype t, const void *src, int64_t ld, int64_t n, int64_t D, unit *out,
                         int64_t width) {
    for (int64_t i = 0; i < n; i += PER)
        for (int64_t c = 0; c < width; c += VL) {
            int64_t left = D - c < 0 ? 0 : min64(VL, D - c);
#if PER == 2
            __mmask16 m = (__mmask16)((1u << left) - 1), m2 = i + 1 < n ? m : 0;
            __m256i a = _mm256_maskz_loadu_epi16(m, element(t, src, i * ld + c));
            __m256i b = _mm256_maskz_loadu_epi16(m2, element(t, src, (i + 1) * ld + c));
            vec v = interleave(_mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1));
#else
            vec v = load_f32(t, element(t, src, i * ld + c), left);
#endif
            store_units(out + i / PER * width + c, v, width - c);
        }
}

// acc[D][QB] → n rows of D elements, times factor[QB].
static void unpack_transposed(dtype t, const float *acc, const float *factor, int64_t n, int64_t D, void *dst,
                              int64_t ld) {
    for (int64_t c = 0; c < n; c += VL)
        for (int64_t d = 0; d < D; d += VL) {
            vec r[VL], f = load(factor + c);
            UNROLL for (int i = 0; i < VL; i++) r[i] =
                d + i < D ? load(acc + (d + i) * QB + c) * f : (vec){0};
            transpose(r);
            int64_t rows = min64(VL, n - c);
            UNROLL for (int i = 0; i < VL; i++) if (i < rows)
                store_f32(t, (char *)(uintptr_t)element(t, dst, (c + i) * ld + d), r[i], min64(VL, D - d));
        }
}

INLINE void add_tile(int mr, int nv, const unit *a, int64_t row, int64_t step, const unit *b, int64_t ldb,
                     int64_t steps, float *out, int64_t ldo) {
    vec c[MR][NV];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++) c[i][j] =
        load(out + i * ldo + j * VL);
    multiply(c, mr, nv, a, row, step, b, ldb, steps, (stream){0});
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < nv; j++)
        store(out + i * ldo + j * VL, c[i][j]);
}

// clang-format off
// The same for keys, of which there are whole units.
#if PER == 2
#define BY_KEYS(n, f)                                                                                        \
    switch (n) {                                                                                             \
    case 2: f(2); break;                                                                                     \
    case 4: f(4); break;                                                                                     \
    default: f(6);                                                                                           \
    }
#else
#define BY_KEYS BY_ROWS
#endif
// clang-format on

#define DEFINE_ADD(nv)                                                                                       \
    static void add_##nv(int64_t rows, const unit *a, int64_t row, int64_t step, const unit *b, int64_t ldb, \
                         int64_t steps, float *out, int64_t ldo) {                                           \
        for (int64_t i = 0; i < rows; i += MR) BY_ROWS(rows - i, ADD_TILE_##nv)                              \
    }
#define ADD_TILE_1(mr) add_tile(mr, 1, a + i * row, row, step, b, ldb, steps, out + i * ldo, ldo)
#define ADD_TILE_2(mr) add_tile(mr, 2, a + i * row, row, step, b, ldb, steps, out + i * ldo, ldo)
#define ADD_TILE_3(mr) add_tile(mr, 3, a + i * row, row, step, b, ldb, steps, out + i * ldo, ldo)
#define ADD_TILE_4(mr) add_tile(mr, 4, a + i * row, row, step, b, ldb, steps, out + i * ldo, ldo)
DEFINE_ADD(1)
DEFINE_ADD(2)
#if NV == 4
DEFINE_ADD(3)
DEFINE_ADD(4)
#endif

// out[rows][width] += a·b for any number of rows and a width in whole vectors.
static void add_product(int64_t rows, int64_t width, const unit *a, int64_t row, int64_t step, const unit *b,
                        int64_t ldb, int64_t steps, float *out, int64_t ldo) {
    for (int64_t c = 0; c < width; c += NV * VL) switch (min64(NV, (width - c) / VL)) {
        case 1:
            add_1(rows, a, row, step, b + c, ldb, steps, out + c, ldo);
            break;
        case 2:
            add_2(rows, a, row, step, b + c, ldb, steps, out + c, ldo);
            break;
#if NV == 4
        case 3:
            add_3(rows, a, row, step, b + c, ldb, steps, out + c, ldo);
            break;
        default:
            add_4(rows, a, row, step, b + c, ldb, steps, out + c, ldo);
#endif
        }
}

// c[mr][NV] as operands of the next product: units of PER keys, queries along the vectors.
INLINE void store_operands(vec c[MR][NV], int mr, unit *out) {
    UNROLL for (int i = 0; i < mr; i += PER) UNROLL for (int j = 0; j < NV; j++) {
#if PER == 2
        store(out + i / 2 * QB + j * VL, interleave((__m512i)_mm512_cvtne2ps_pbh(c[i + 1][j], c[i][j])));
#else
        store(out + i * QB + j * VL, c[i][j]);
#endif
    }
}

// ---- forward ----

// m is raised when a weight would exceed 2^LIMIT.
#define LIMIT 32.f

typedef struct {
    unit *q;            // [steps of D][QB]
    unit *p;            // [KEY_STEPS][QB]
    float *o;           // [D][QB], not yet divided by the sum
    float *x;           // [MR][QB], a tile on the slow way
    float m[QB], l[QB]; // reference point (log2 units) and Σ 2^(x−m)
    float factor[QB];
} __attribute__((aligned(64))) forward_part;

// Packed head: rows of keys, then columns of values.
static int64_t pack_bytes(const attention_desc *d) {
    return round_up((round_up(d->Tk, PER) * steps_of(d->D) + steps_of(d->Tk) * d->D) * 4, 64);
}

static int64_t forward_lane_bytes(const attention_desc *d) {
    int64_t part = (int64_t)sizeof(forward_part) + (steps_of(d->D) + d->D) * QB * 4;
    return PARTS * part + (KEY_STEPS + MR) * QB * 4;
}

static const void *head_of(dtype t, const void *p, int64_t head, const attention_desc *d, int64_t T,
                           int64_t ld) {
    return element(t, p, head / d->heads * T * ld + head % d->heads * d->D);
}

static void pack(const attention_args *a, int64_t head, int64_t k0, int64_t k1) {
    const attention_desc *d = &a->d;
    unit *k = a->packed + head * (pack_bytes(d) / 4), *v = k + round_up(d->Tk, PER) * steps_of(d->D);
    const void *ks = head_of(d->t, a->k, head, d, d->Tk, d->ldk),
               *vs = head_of(d->t, a->v, head, d, d->Tk, d->ldv);
    pack_rows(d->t, element(d->t, ks, k0 * d->ldk), d->ldk, k1 - k0, d->D, k + k0 * steps_of(d->D));
    pack_columns(d->t, element(d->t, vs, k0 * d->ldv), d->ldv, k1 - k0, d->D, v + k0 / PER * d->D, d->D);
}

INLINE void weigh(vec c[MR][NV], int mr, forward_part *w, unit *p) {
    UNROLL for (int j = 0; j < NV; j++) {
        vec sum = load(w->l + j * VL);
        UNROLL for (int i = 0; i < mr; i++) {
            c[i][j] = exp2_vec(c[i][j]);
            sum += c[i][j];
        }
        store(w->l + j * VL, sum);
    }
    store_operands(c, mr, p);
}

// Weights of `mr` keys against the item's queries. False: a score is too high, or the caller asked for
// `slow`; then nothing is done except that w->x holds the scores minus m.
INLINE bool score_tile(int mr, const unit *k, int64_t steps, float scale, bool slow, forward_part *w,
                       unit *p) {
    vec c[MR][NV] = {0}, top = splat(-INFINITY);
    multiply(c, mr, NV, k, steps, 1, w->q, QB, steps, (stream){0});
    UNROLL for (int j = 0; j < NV; j++) {
        vec m = load(w->m + j * VL);
        UNROLL for (int i = 0; i < mr; i++) {
            c[i][j] = c[i][j] * scale - m;
            top = larger(c[i][j], top);
        }
    }
    if (slow || any_above(top, LIMIT)) {
        UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < NV; j++)
            store(w->x + i * QB + j * VL, c[i][j]);
        return false;
    }
    weigh(c, mr, w, p);
    return true;
}

#define SCORE_TILE(mr) return score_tile(mr, k, steps, scale, slow, w, p)
static bool score(int64_t mr, const unit *k, int64_t steps, float scale, bool slow, forward_part *w,
                  unit *p) {
    BY_KEYS(mr, SCORE_TILE)
    return false;
}

#define WEIGH_TILE(mr)                                                                                       \
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < NV; j++) c[i][j] =                        \
        load(w->x + i * QB + j * VL);                                                                        \
    weigh(c, mr, w, p)
static void weigh_slow(int64_t mr, forward_part *w, unit *p) {
    vec c[MR][NV];
    BY_KEYS(mr, WEIGH_TILE)
}

// Hides keys past the end, and those that come after the query when causal.
static void mask(float *x, int64_t rows, int64_t key, const attention_desc *d, int64_t q0, float hidden) {
    for (int64_t i = 0; i < rows; i++) {
        int64_t n = key + i >= d->Tk ? QB : d->causal ? min64(QB, key + i - q0) : 0;
        for (int64_t c = 0; c < n; c++) x[i * QB + c] = hidden;
    }
}

// Raises m for the columns of w->x where it is too low (`first`: to the maximum, whatever it is); false when
// there is none. w->factor then holds what all that was summed before must be multiplied with.
static bool raise(int64_t rows, bool first, forward_part *w) {
    bool raised = false;
    for (int64_t c = 0; c < QB; c += VL) {
        vec top = load(w->x + c);
        for (int64_t i = 1; i < rows; i++) top = larger(load(w->x + i * QB + c), top);
        if (!first) top = (vec)((ivec)top & (top > LIMIT));
        raised |= any_above(top, 0);
        store(w->m + c, load(w->m + c) + top);
        store(w->factor + c, exp2_vec(-top));
        for (int64_t i = 0; i < rows; i++) store(w->x + i * QB + c, load(w->x + i * QB + c) - top);
    }
    return raised && !first;
}

static void rescale(forward_part *w, int64_t D) {
    for (int c = 0; c < QB; c += VL) {
        vec f = load(w->factor + c);
        store(w->l + c, load(w->l + c) * f);
        for (int64_t i = 0; i < D; i++) store(w->o + i * QB + c, load(w->o + i * QB + c) * f);
    }
}

// o += v·p for units [from, to) of the block.
static void add_values(forward_part *w, const unit *v, int64_t D, int64_t from, int64_t to) {
    add_product(D, QB, v + from * D, 1, D, w->p + from * QB, QB, to - from, w->o, QB);
}

// One block of keys k0 ... k0+n against a part's queries. `ahead`: the next block is asked for, 4 % where a
// head is larger than the second level of the cache (f32, 64×64).
static void forward_block(const attention_desc *d, forward_part *w, const unit *k, const unit *v, int64_t q0,
                          int64_t k0, int64_t n, bool ahead) {
    int64_t steps = steps_of(d->D), done = 0; // units of p that o has already
    float scale = d->scale * 1.44269504f;
    k += k0 * steps;
    v += k0 / PER * d->D;
    for (int64_t i = 0; i < n; i += MR) {
        int64_t mr = min64(MR, n - i), end = k0 + i + mr;
        unit *p = w->p + i / PER * QB;
        if (ahead) {
            fetch(k + (n + i) * steps, mr * steps);
            fetch(v + (n + i) / PER * d->D, mr / PER * d->D);
        }
        bool first = end == mr, hidden = end > d->Tk || (d->causal && end - 1 > q0);
        if (score(mr, k + i * steps, steps, scale, first || hidden, w, p)) continue;
        if (hidden) mask(w->x, mr, k0 + i, d, q0, -INFINITY);
        if (raise(mr, first, w)) {
            add_values(w, v, d->D, done, i / PER);
            done = i / PER;
            rescale(w, d->D);
        }
        weigh_slow(mr, w, p);
    }
    add_values(w, v, d->D, done, n / PER);
}

// Queries q0 ... q0+n of one head, n ≤ QB.
static void forward_begin(const attention_args *a, int64_t head, int64_t q0, int64_t n, forward_part *w) {
    const attention_desc *d = &a->d;
    memset(w->m, 0, sizeof w->m);
    memset(w->l, 0, sizeof w->l);
    memset(w->o, 0, (size_t)d->D * QB * 4);
    pack_transposed(d->t, element(d->t, head_of(d->t, a->q, head, d, d->Tq, d->ldq), q0 * d->ldq), d->ldq, n,
                    d->D, w->q);
}

static void forward_end(const attention_args *a, int64_t head, int64_t q0, int64_t n, forward_part *w) {
    const attention_desc *d = &a->d;
    for (int c = 0; c < QB; c += VL) {
        vec l = load(w->l + c);
        store(w->factor + c, 1.f / l);
        if (a->lse && c < n) {
            vec natural = (load(w->m + c) + log2_vec(l)) * 0.693147181f;
            store_f32(DT_F32, a->lse + head * d->Tq + q0 + c, natural, min64(VL, n - c));
        }
    }
    const void *o = element(d->t, head_of(d->t, a->out, head, d, d->Tq, d->ldo), q0 * d->ldo);
    unpack_transposed(d->t, w->o, w->factor, n, d->D, (void *)(uintptr_t)o, d->ldo);
}

static void forward(const attention_args *a, int64_t head, int64_t q0, float *memory) {
    const attention_desc *d = &a->d;
    int64_t steps = steps_of(d->D), parts = min64(PARTS, (d->Tq - q0 + QB - 1) / QB);
    forward_part *w = (forward_part *)(void *)memory;
    unit *p = (unit *)(w + PARTS), *x = p + KEY_STEPS * QB, *more = x + MR * QB;
    for (int64_t i = 0; i < parts; i++, more += (steps + d->D) * QB) {
        w[i].p = p, w[i].x = x, w[i].q = more, w[i].o = more + steps * QB;
        forward_begin(a, head, q0 + i * QB, min64(QB, d->Tq - q0 - i * QB), w + i);
    }
    const unit *k = a->packed + head * (pack_bytes(d) / 4), *v = k + round_up(d->Tk, PER) * steps;
    int64_t last = round_up(d->causal ? min64(d->Tk, q0 + parts * QB) : d->Tk, PER);
    for (int64_t k0 = 0; k0 < last; k0 += KEYS)
        for (int64_t i = 0; i < parts; i++) {
            int64_t q = q0 + i * QB, end = round_up(d->causal ? min64(d->Tk, q + QB) : d->Tk, PER);
            if (k0 < end) forward_block(d, w + i, k, v, q, k0, min64(KEYS, end - k0), i == parts - 1);
        }
    for (int64_t i = 0; i < parts; i++)
        forward_end(a, head, q0 + i * QB, min64(QB, d->Tq - q0 - i * QB), w + i);
}

// ---- backward ----

// One chunk of keys of one head, all its queries. `width` is D in whole vectors.
typedef struct {
    unit *k_rows, *v_rows, *k_cols; // [keys][steps of D] twice, [steps of keys][D]
    float *dk, *dv;                 // [keys][width]
    unit *q, *dout;                 // [steps of D][QB]
    unit *q_cols, *dout_cols;       // [QSTEPS][width]
    float *dq;                      // [D][QB]
    float *p;                       // [KEYS][QB]
    unit *p_rows, *ds_rows;         // [KEYS][QSTEPS]
    unit *ds;                       // [KEY_STEPS][QB]
    int64_t width;
    float lse[QB], mean[QB], scale[QB]; // log-sum-exp in log2 units; rowsum(dO∘O)
} __attribute__((aligned(64))) backward_lane;

// Lays the lane out behind its struct and returns the bytes in all. In f32 rows and columns of a matrix are
// the same memory.
static int64_t backward_layout(const attention_desc *d, int64_t keys, backward_lane *w) {
    int64_t steps = steps_of(d->D), at = sizeof *w / 4;
    float *base = (float *)(void *)w;
    keys = round_up(keys, PER);
    w->width = round_up(d->D, VL);
#define TAKE(member, units) w->member = base + at, at += round_up(units, 16)
    TAKE(k_rows, keys * steps);
    TAKE(v_rows, keys * steps);
    TAKE(dk, keys * w->width);
    TAKE(dv, keys * w->width);
    TAKE(q, steps * QB);
    TAKE(dout, steps * QB);
    TAKE(q_cols, QSTEPS * w->width);
    TAKE(dout_cols, QSTEPS * w->width);
    TAKE(dq, d->D * QB);
    TAKE(p, KEYS * QB);
    TAKE(ds, KEY_STEPS * QB);
#if PER == 2
    TAKE(k_cols, keys / PER * d->D);
    TAKE(p_rows, KEYS * QSTEPS);
    TAKE(ds_rows, KEYS * QSTEPS);
#else
    w->k_cols = w->k_rows;
    w->p_rows = w->p;
    w->ds_rows = w->ds;
#endif
#undef TAKE
    return at * 4;
}

static int64_t backward_lane_bytes(const attention_desc *d, int64_t chunk_keys) {
    backward_lane w;
    return backward_layout(d, chunk_keys, &w);
}

INLINE void store_rows(vec c[MR][NV], int mr, unit *out) {
#if PER == 2
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int j = 0; j < NV; j += 2)
        store(out + i * QSTEPS + j / 2 * VL,
              _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(c[i][j + 1], c[i][j])));
#else
    (void)c, (void)mr, (void)out; // store_operands has done it
#endif
}

// P of mr keys.
INLINE void weight_tile(int mr, const unit *k, int64_t steps, float scale, const backward_lane *w, float *p) {
    vec c[MR][NV] = {0};
    multiply(c, mr, NV, k, steps, 1, w->q, QB, steps, (stream){0});
    UNROLL for (int j = 0; j < NV; j++) {
        vec lse = load(w->lse + j * VL);
        UNROLL for (int i = 0; i < mr; i++) store(p + i * QB + j * VL, exp2_vec(c[i][j] * scale - lse));
    }
}

// dS = P ∘ (V·dOᵀ − mean), and both as rows for the products over queries.
INLINE void gradient_tile(int mr, const unit *v, int64_t steps, const backward_lane *w, int64_t key) {
    vec c[MR][NV] = {0}, p[MR][NV];
    multiply(c, mr, NV, v, steps, 1, w->dout, QB, steps, (stream){0});
    UNROLL for (int j = 0; j < NV; j++) {
        vec mean = load(w->mean + j * VL);
        UNROLL for (int i = 0; i < mr; i++) {
            p[i][j] = load(w->p + (key + i) * QB + j * VL);
            c[i][j] = p[i][j] * (c[i][j] - mean);
        }
    }
    store_operands(c, mr, w->ds + key / PER * QB);
    store_rows(c, mr, w->ds_rows + key * QSTEPS);
    store_rows(p, mr, w->p_rows + key * QSTEPS);
}

// One block, keys k0 ... k0+n of the chunk that begins at `chunk`, against queries q0 ... q0+nq.
static void backward_block(const attention_desc *d, backward_lane *w, int64_t chunk, int64_t k0, int64_t n,
                           int64_t q0, int64_t nq) {
    int64_t steps = steps_of(d->D), width = w->width;
    float scale = d->scale * 1.44269504f;
    for (int64_t i = 0; i < n; i += MR) {
        int64_t mr = min64(MR, n - i), key = chunk + k0 + i;
#define WEIGHT_TILE(rows) weight_tile(rows, w->k_rows + (k0 + i) * steps, steps, scale, w, w->p + i * QB)
        BY_KEYS(mr, WEIGHT_TILE)
        if (key + mr > d->Tk || (d->causal && key + mr - 1 > q0)) mask(w->p + i * QB, mr, key, d, q0, 0);
#define GRADIENT_TILE(rows) gradient_tile(rows, w->v_rows + (k0 + i) * steps, steps, w, i)
        BY_KEYS(mr, GRADIENT_TILE)
    }
    int64_t queries = steps_of(nq);
    add_product(n, width, w->p_rows, QSTEPS, 1, w->dout_cols, width, queries, w->dv + k0 * width, width);
    add_product(n, width, w->ds_rows, QSTEPS, 1, w->q_cols, width, queries, w->dk + k0 * width, width);
    add_product(d->D, QB, w->k_cols + k0 / PER * d->D, 1, d->D, w->ds, QB, n / PER, w->dq, QB);
}

// w->mean = rowsum(dO∘O) for n rows.
static void row_means(const attention_desc *d, const void *o, const void *dout, int64_t n, float *mean) {
    for (int64_t c = 0; c < QB; c += VL) {
        vec r[VL];
        for (int64_t i = 0; i < VL; i++) {
            r[i] = (vec){0};
            for (int64_t e = 0; c + i < n && e < d->D; e += VL) {
                int64_t at = (c + i) * d->ldo + e, left = min64(VL, d->D - e);
                r[i] += load_f32(d->t, element(d->t, o, at), left) *
                        load_f32(d->t, element(d->t, dout, at), left);
            }
        }
        transpose(r);
        vec sum = r[0];
        UNROLL for (int i = 1; i < VL; i++) sum += r[i];
        store(mean + c, sum);
    }
}

static void load_queries(const attention_args *a, int64_t head, int64_t q0, int64_t n, backward_lane *w) {
    const attention_desc *d = &a->d;
    const void *q = element(d->t, head_of(d->t, a->q, head, d, d->Tq, d->ldq), q0 * d->ldq);
    const void *o = element(d->t, head_of(d->t, a->o, head, d, d->Tq, d->ldo), q0 * d->ldo);
    const void *dout = element(d->t, head_of(d->t, a->dout, head, d, d->Tq, d->ldo), q0 * d->ldo);
    pack_transposed(d->t, q, d->ldq, n, d->D, w->q);
    pack_transposed(d->t, dout, d->ldo, n, d->D, w->dout);
    pack_columns(d->t, q, d->ldq, n, d->D, w->q_cols, w->width);
    pack_columns(d->t, dout, d->ldo, n, d->D, w->dout_cols, w->width);
    row_means(d, o, dout, n, w->mean);
    const float *lse = a->lse_in + head * d->Tq + q0;
    for (int64_t c = 0; c < QB; c++) w->lse[c] = c < n ? lse[c] * 1.44269504f : INFINITY;
}

static void store_dq(const attention_args *a, int64_t head, int64_t chunk, int64_t q0, int64_t n,
                     const backward_lane *w) {
    const attention_desc *d = &a->d;
    if (a->chunks > 1) {
        float *part = a->dq_partial + ((chunk * d->B * d->heads + head) * d->Tq + q0) * d->D;
        unpack_transposed(DT_F32, w->dq, w->scale, n, d->D, part, d->D);
    } else {
        const void *dq = element(d->t, head_of(d->t, a->dq, head, d, d->Tq, d->ldq), q0 * d->ldq);
        unpack_transposed(d->t, w->dq, w->scale, n, d->D, (void *)(uintptr_t)dq, d->ldq);
    }
}

// acc[n][width] → n rows of D elements, times factor.
static void store_keys(const attention_desc *d, const float *acc, int64_t width, float factor, int64_t n,
                       void *dst, int64_t ld) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d->D; c += VL)
            store_f32(d->t, (char *)(uintptr_t)element(d->t, dst, i * ld + c),
                      load(acc + i * width + c) * factor, min64(VL, d->D - c));
}

static void backward(const attention_args *a, int64_t head, int64_t chunk, int64_t k0, int64_t k1,
                     float *lane) {
    const attention_desc *d = &a->d;
    int64_t n = k1 - k0, padded = round_up(n, PER);
    backward_lane *w = (backward_lane *)(void *)lane;
    backward_layout(d, n, w);
    for (int c = 0; c < QB; c++) w->scale[c] = d->scale;
    const void *k = element(d->t, head_of(d->t, a->k, head, d, d->Tk, d->ldk), k0 * d->ldk);
    const void *v = element(d->t, head_of(d->t, a->v, head, d, d->Tk, d->ldv), k0 * d->ldv);
    pack_rows(d->t, k, d->ldk, n, d->D, w->k_rows);
    pack_rows(d->t, v, d->ldv, n, d->D, w->v_rows);
    if (w->k_cols != w->k_rows) pack_columns(d->t, k, d->ldk, n, d->D, w->k_cols, d->D);
    memset(w->dk, 0, (size_t)(padded * w->width) * 4);
    memset(w->dv, 0, (size_t)(padded * w->width) * 4);

    for (int64_t q0 = 0; q0 < d->Tq; q0 += QB) {
        int64_t nq = min64(QB, d->Tq - q0), end = d->causal ? min64(padded, q0 + QB - k0) : padded;
        load_queries(a, head, q0, nq, w);
        memset(w->dq, 0, (size_t)d->D * QB * 4);
        for (int64_t i = 0; i < end; i += KEYS) backward_block(d, w, k0, i, min64(KEYS, end - i), q0, nq);
        store_dq(a, head, chunk, q0, nq, w);
    }
    void *dk = (void *)(uintptr_t)element(d->t, head_of(d->t, a->dk, head, d, d->Tk, d->ldk), k0 * d->ldk);
    void *dv = (void *)(uintptr_t)element(d->t, head_of(d->t, a->dv, head, d, d->Tk, d->ldv), k0 * d->ldv);
    store_keys(d, w->dk, w->width, d->scale, n, dk, d->ldk);
    store_keys(d, w->dv, w->width, 1, n, dv, d->ldv);
}

const attention_kernels CAT(attention_, ISA) = {
    .queries = PARTS * QB,
    .pack_bytes = pack_bytes,
    .forward_lane_bytes = forward_lane_bytes,
    .backward_lane_bytes = backward_lane_bytes,
    .pack = pack,
    .forward = forward,
    .backward = backward,
};
