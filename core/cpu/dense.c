#include "core/cpu/dense.h"

#if CALO_ONEDNN
#include "core/base/mem.h"

#include <oneapi/dnnl/dnnl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

// What oneDNN was found to do best. Rates are those of 2.6 on two cores with a ceiling of 235 to 256 GF/s f32
// and twice that in bf16, as their clock wanders.
//
// - Activations plain NHWC, weights `any`: forward kernels take NHWC as it is and run at 85 to 99 % of the
// ceiling from
//   16 channels up. Blocked activations gain nothing and would cost reorders.
// - The blocks that `any` chooses depend on the picture in few cases only: 320→320 and 256→256 in bf16 (32 or
// 64 wide,
//   about 15 MB of SD1.5 if both are wanted), and some odd widths. A layout forced on them is either refused
//   by these kernels or served by an older family at 0.85 to 1.0 of the speed. Hence `any` and a key.
// - Stride-1 gradients for x by forward kernels: 0.97 to 1.10 of the backward kernels' speed in both
// precisions (1.3 in
//   f32 on cores with full-width AVX-512 units); 0.8 to 0.9 for gradients from 3 or 4 channels.
// - Gradients for W in NHWC: 65 to 95 % of the ceiling in f32, 65 to 90 in bf16, mostly as fast as in blocked
// layouts.
//   Weak: bf16 with stride 2 and 32 to 64 channels (45 to 60 %), and 3 or 4 output channels (15 to 20 %).
// - 3 or 4 output channels are computed as 16: a quarter of the ceiling at best.
// - The weight gradient of a linear as that of a 1×1 convolution: 1.0 to 1.4 of the speed of a product with
// the
//   transposed dy in f32, 1.05 to 1.75 in bf16. It gives the bias gradient as well.
// - `inner_product` is never used: its results depend on the number of threads.

// "bf16 320 320 3 3 / 92160 64 30720 10240 / 32a 2b": padded sizes, strides, inner blocks.
static void blocked_text(dnnl_data_type_t type, int n, const int64_t *dims, const int64_t *strides,
                         int blocks, const int64_t *block, const int64_t *index, char *text, size_t size) {
    size_t k = (size_t)snprintf(text, size, "%s", type == dnnl_bf16 ? "bf16" : "f32");
    for (int i = 0; i < n && k < size; i++) k += (size_t)snprintf(text + k, size - k, " %" PRId64, dims[i]);
    for (int i = 0; i < n && k < size; i++)
        k += (size_t)snprintf(text + k, size - k, "%s%" PRId64, i ? " " : " / ", strides[i]);
    for (int i = 0; i < blocks && k < size; i++)
        k += (size_t)snprintf(text + k, size - k, "%s%" PRId64 "%c", i ? " " : " / ", block[i],
                              (char)('a' + index[i]));
}

// ---- The two versions of the C API ------------------------------------------------------------------------
// Version 2 passes memory descriptors by address of a struct, version 3 as handles; here both are handles
// that are owned. An operation's descriptor and its "primitive descriptor" are one step in version 3.

typedef struct {
    dnnl_prop_kind_t prop;
    dnnl_alg_kind_t alg;
    dnnl_dims_t stride, pad_begin, pad_end;
} conv_geometry;

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t layout_view;

static dnnl_status_t layout_new(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t t,
                                const int64_t *strides) {
    return strides ? dnnl_memory_desc_create_with_strides(l, n, dims, t, strides)
                   : dnnl_memory_desc_create_with_tag(l, n, dims, t, dnnl_format_tag_any);
}

static void layout_free(layout l) {
    if (l) dnnl_memory_desc_destroy(l);
}

static dnnl_status_t conv_create(dnnl_primitive_desc_t *pd, dnnl_engine_t e, const conv_geometry *g, layout x,
                                 layout w, layout b, layout y, const_dnnl_primitive_desc_t forward,
                                 const_dnnl_primitive_attr_t attr) {
    static const dnnl_dims_t dense_taps = {0, 0};
    if (g->prop == dnnl_backward_data)
        return dnnl_convolution_backward_data_primitive_desc_create(
            pd, e, g->alg, x, w, y, g->stride, dense_taps, g->pad_begin, g->pad_end, forward, attr);
    if (g->prop == dnnl_backward_weights)
        return dnnl_convolution_backward_weights_primitive_desc_create(
            pd, e, g->alg, x, w, b, y, g->stride, dense_taps, g->pad_begin, g->pad_end, forward, attr);
    return dnnl_convolution_forward_primitive_desc_create(pd, e, g->prop, g->alg, x, w, b, y, g->stride,
                                                          dense_taps, g->pad_begin, g->pad_end, attr);
}

static dnnl_status_t matmul_create(dnnl_primitive_desc_t *pd, dnnl_engine_t e, layout a, layout b,
                                   layout bias, layout y, const_dnnl_primitive_attr_t attr) {
    return dnnl_matmul_primitive_desc_create(pd, e, a, b, bias, y, attr);
}

static dnnl_status_t append_scale(dnnl_post_ops_t p, float scale) {
    return dnnl_post_ops_append_eltwise(p, dnnl_eltwise_linear, scale, 0);
}

static dnnl_status_t append_sum(dnnl_post_ops_t p) {
    return dnnl_post_ops_append_sum(p, 1, 0, dnnl_data_type_undef);
}

static void layout_text(layout_view l, char *text, size_t size) {
    int n = 0, blocks = 0;
    dnnl_data_type_t type = dnnl_data_type_undef;
    const dnnl_dims_t *dims, *strides, *block, *index;
    dnnl_memory_desc_query(l, dnnl_query_ndims_s32, &n);
    dnnl_memory_desc_query(l, dnnl_query_data_type, &type);
    dnnl_memory_desc_query(l, dnnl_query_padded_dims, &dims);
    dnnl_memory_desc_query(l, dnnl_query_strides, &strides);
    dnnl_memory_desc_query(l, dnnl_query_inner_nblks_s32, &blocks);
    dnnl_memory_desc_query(l, dnnl_query_inner_blks, &block);
    dnnl_memory_desc_query(l, dnnl_query_inner_idxs, &index);
    blocked_text(type, n, *dims, *strides, blocks, *block, *index, text, size);
}

#else

typedef dnnl_memory_desc_t *layout;
typedef const dnnl_memory_desc_t *layout_view;

static dnnl_status_t layout_new(layout *l, int n, const dnnl_dims_t dims, dnnl_data_type_t t,
                                const int64_t *strides) {
    *l = mem_calloc(1, sizeof **l);
    if (!*l) return dnnl_out_of_memory;
    return strides ? dnnl_memory_desc_init_by_strides(*l, n, dims, t, strides)
                   : dnnl_memory_desc_init_by_tag(*l, n, dims, t, dnnl_format_tag_any);
}

static void layout_free(layout l) { mem_free(l); }

static dnnl_status_t conv_create(dnnl_primitive_desc_t *pd, dnnl_engine_t e, const conv_geometry *g, layout x,
                                 layout w, layout b, layout y, const_dnnl_primitive_desc_t forward,
                                 const_dnnl_primitive_attr_t attr) {
    dnnl_convolution_desc_t c;
    dnnl_status_t s;
    if (g->prop == dnnl_backward_data)
        s = dnnl_convolution_backward_data_desc_init(&c, g->alg, x, w, y, g->stride, g->pad_begin,
                                                     g->pad_end);
    else if (g->prop == dnnl_backward_weights)
        s = dnnl_convolution_backward_weights_desc_init(&c, g->alg, x, w, b, y, g->stride, g->pad_begin,
                                                        g->pad_end);
    else
        s = dnnl_convolution_forward_desc_init(&c, g->prop, g->alg, x, w, b, y, g->stride, g->pad_begin,
                                               g->pad_end);
    return s ? s : dnnl_primitive_desc_create(pd, &c, attr, e, forward);
}

static dnnl_status_t matmul_create(dnnl_primitive_desc_t *pd, dnnl_engine_t e, layout a, layout b,
                                   layout bias, layout y, const_dnnl_primitive_attr_t attr) {
    dnnl_matmul_desc_t m;
    dnnl_status_t s = dnnl_matmul_desc_init(&m, a, b, bias, y);
    return s ? s : dnnl_primitive_desc_create(pd, &m, attr, e, NULL);
}

static dnnl_status_t append_scale(dnnl_post_ops_t p, float scale) {
    return dnnl_post_ops_append_eltwise(p, 1, dnnl_eltwise_linear, scale, 0);
}

static dnnl_status_t append_sum(dnnl_post_ops_t p) { return dnnl_post_ops_append_sum(p, 1); }

static void layout_text(layout_view l, char *text, size_t size) {
    const dnnl_blocking_desc_t *b = &l->format_desc.blocking;
    blocked_text(l->data_type, l->ndims, l->padded_dims, b->strides, b->inner_nblks, b->inner_blks,
                 b->inner_idxs, text, size);
}

#endif

// The library's functions read arrays of DNNL_MAX_NDIMS.
static dnnl_status_t layout_strided(layout *l, int n, const int64_t *dims, dnnl_data_type_t t,
                                    const int64_t *strides) {
    dnnl_dims_t all_dims = {0}, all_strides = {0};
    memcpy(all_dims, dims, (size_t)n * sizeof *dims);
    memcpy(all_strides, strides, (size_t)n * sizeof *strides);
    return layout_new(l, n, all_dims, t, all_strides);
}

static dnnl_status_t layout_any(layout *l, int n, const int64_t *dims, dnnl_data_type_t t) {
    dnnl_dims_t all = {0};
    memcpy(all, dims, (size_t)n * sizeof *dims);
    return layout_new(l, n, all, t, NULL);
}

// ---- Engine -----------------------------------------------------------------------------------------------

struct dense_engine {
    team *team;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
};

struct dense {
    dense_engine *e;
    dense_desc desc;
    bool flipped;            // a CONV_DX that runs as a forward convolution
    dnnl_primitive_t op;     // the operation itself
    dnnl_primitive_t from_y; // the result → plain; NULL if `op` leaves it so
    dnnl_primitive_t pack;   // plain f32 weights → packed
    int x_arg, w_arg, y_arg; // oneDNN's numbers of the operands of `op`
    size_t y_bytes;          // of the staged result in scratch, a multiple of 64
    size_t library_bytes;    // scratch of the primitives, which run one after the other
    char key[DENSE_KEY_MAX];
};

static status dnnl_fail(error *err, dnnl_status_t s, const char *what) {
    if (s == dnnl_out_of_memory) return fail(err, ERR_TEMP, "out of memory");
    return fail(err, ERR_INTERNAL, "oneDNN: %s failed with status %d", what, (int)s);
}

bool dense_has_bf16(void) {
#if defined(__x86_64__)
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
#else
    return false;
#endif
}

void dense_version(int version[3]) {
    const dnnl_version_t *v = dnnl_version();
    version[0] = v->major, version[1] = v->minor, version[2] = v->patch;
}

dense_engine *dense_engine_new(team *t, error *err) {
    dense_engine *e = mem_calloc(1, sizeof *e);
    dnnl_status_t s = e ? dnnl_engine_create(&e->engine, dnnl_cpu, 0) : dnnl_out_of_memory;
    if (!s) s = dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags);
    if (s) {
        dnnl_fail(err, s, "starting");
        dense_engine_free(e);
        return NULL;
    }
    e->team = t;
    return e;
}

void dense_engine_free(dense_engine *e) {
    if (!e) return;
    if (e->stream) dnnl_stream_destroy(e->stream);
    if (e->engine) dnnl_engine_destroy(e->engine);
    mem_free(e);
}

// ---- Shapes -----------------------------------------------------------------------------------------------

typedef __typeof__(((dense_desc *)0)->conv) conv_shape;
typedef __typeof__(((dense_desc *)0)->matmul) matmul_shape;

// Sizes are positive and their product is far from overflowing a byte count.
static bool sane(int n, const int64_t *size) {
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        if (size[i] < 1 || size[i] > INT32_MAX || __builtin_mul_overflow(all, size[i], &all) ||
            all > INT64_C(1) << 40)
            return false;
    return true;
}

static bool pad_fits(int64_t pad, int64_t k) { return pad >= 0 && pad < k; }

static int64_t out_height(const conv_shape *c) {
    return (c->H + c->pad_top + c->pad_bottom - c->kh) / c->stride + 1;
}

static int64_t out_width(const conv_shape *c) {
    return (c->W + c->pad_left + c->pad_right - c->kw) / c->stride + 1;
}

static bool conv_makes_sense(const dense_desc *d) {
    const conv_shape *c = &d->conv;
    return sane(4, (int64_t[]){c->B, c->H, c->W, c->Ci}) &&
           sane(4, (int64_t[]){c->Co, c->Ci, c->kh, c->kw}) && c->stride > 0 && c->stride < INT32_MAX &&
           pad_fits(c->pad_top, c->kh) && pad_fits(c->pad_bottom, c->kh) && pad_fits(c->pad_left, c->kw) &&
           pad_fits(c->pad_right, c->kw) && c->H + c->pad_top + c->pad_bottom >= c->kh &&
           c->W + c->pad_left + c->pad_right >= c->kw &&
           sane(4, (int64_t[]){c->B, out_height(c), out_width(c), c->Co});
}

static bool matmul_makes_sense(const dense_desc *d) {
    const matmul_shape *m = &d->matmul;
    return sane(3, (int64_t[]){m->batch, m->M, m->K}) && sane(3, (int64_t[]){m->batch, m->K, m->N}) &&
           sane(3, (int64_t[]){m->batch, m->M, m->N}) && !(m->packed && m->batch > 1) && m->a_row >= 0 &&
           m->b_row >= 0 && m->y_row >= 0 && m->a_batch >= 0 && m->b_batch >= 0 && m->y_batch >= 0;
}

// The stride-1 gradient for x is itself a convolution of dy, by the kernel turned half around: forward
// kernels are the faster ones, take epilogues, and are bit-equal over batch and threads.
static bool can_flip(const dense_desc *d) { return d->kind == DENSE_CONV_DX && d->conv.stride == 1; }

static bool epilogue_fits(const dense_desc *d) {
    if (d->kind == DENSE_CONV_DW) return !d->accumulate && d->scale == 1 && d->y_type == DT_F32;
    if (d->kind == DENSE_CONV_DX && d->bias) return false;
    return d->kind != DENSE_CONV_DX || can_flip(d) || (!d->accumulate && d->scale == 1);
}

// ---- Preparation ------------------------------------------------------------------------------------------

// An operand as the caller stores it and, where oneDNN may choose its own layout, the wish for that.
typedef struct {
    layout plain, any;
} operand;

typedef struct {
    layout x, bias;
    operand w, y;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t forward, op;
} blueprint;

static void blueprint_clear(blueprint *b) {
    layout all[] = {b->x, b->w.plain, b->w.any, b->y.plain, b->y.any, b->bias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) layout_free(all[i]);
    if (b->attr) dnnl_primitive_attr_destroy(b->attr);
    if (b->forward) dnnl_primitive_desc_destroy(b->forward);
    if (b->op) dnnl_primitive_desc_destroy(b->op);
    *b = (blueprint){0};
}

static layout asked(const operand *o) { return o->any ? o->any : o->plain; }

static dnnl_data_type_t type_of(dtype t) { return t == DT_BF16 ? dnnl_bf16 : dnnl_f32; }

static dnnl_status_t nhwc(layout *l, const int64_t *nchw, dtype t) {
    int64_t C = nchw[1], W = nchw[3];
    return layout_strided(l, 4, nchw, type_of(t), (int64_t[]){nchw[2] * W * C, 1, W * C, C});
}

// Strict f32, the caller's scratch, and the epilogue y = scale · (…) + y.
//
// Adding in place by the library's `sum` costs 1.00 to 1.08 of the plain time; reading another tensor in its
// `binary_add` 1.04 to 1.10, and up to 1.5 in products with few terms; a pass of its own 1.02 after a 3×3
// convolution, but 1.07 to 1.39 after a product (2.6, both precisions, one thread).
static dnnl_status_t make_attr(float scale, bool accumulate, dnnl_primitive_attr_t *attr) {
    dnnl_post_ops_t after = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (!s) s = dnnl_primitive_attr_set_fpmath_mode(*attr, dnnl_fpmath_mode_strict);
    if (!s) s = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!s) s = dnnl_post_ops_create(&after);
    if (!s && scale != 1) s = append_scale(after, scale);
    if (!s && accumulate) s = append_sum(after);
    if (!s) s = dnnl_primitive_attr_set_post_ops(*attr, after);
    if (after) dnnl_post_ops_destroy(after);
    return s;
}

static dnnl_status_t draw_conv(dense *d, blueprint *b) {
    const conv_shape *c = &d->desc.conv;
    const dense_desc *k = &d->desc;
    int64_t taps = c->kh * c->kw;
    int64_t big[4] = {c->B, c->Ci, c->H, c->W}, small[4] = {c->B, c->Co, out_height(c), out_width(c)};
    int64_t kernel[4] = {c->Co, c->Ci, c->kh, c->kw}, kernel_strides[4] = {c->Ci * taps, taps, c->kw, 1};
    conv_geometry g = {.prop = dnnl_forward_inference,
                       .alg = dnnl_convolution_direct,
                       .stride = {c->stride, c->stride},
                       .pad_begin = {c->pad_top, c->pad_left},
                       .pad_end = {c->pad_bottom, c->pad_right}};
    const int64_t *x = k->kind == DENSE_CONV_DX ? small : big, *y = k->kind == DENSE_CONV_DX ? big : small;
    if (d->flipped) {
        kernel[0] = c->Ci, kernel[1] = c->Co;
        kernel_strides[0] = taps, kernel_strides[1] = c->Ci * taps;
        g.pad_begin[0] = c->kh - 1 - c->pad_top, g.pad_begin[1] = c->kw - 1 - c->pad_left;
        g.pad_end[0] = c->kh - 1 - c->pad_bottom, g.pad_end[1] = c->kw - 1 - c->pad_right;
    }
    dnnl_status_t s = nhwc(&b->x, x, k->x_type);
    if (k->kind == DENSE_CONV_DW) {
        if (!s) s = nhwc(&b->w.plain, small, k->w_type);
        if (!s) s = layout_strided(&b->y.plain, 4, kernel, dnnl_f32, kernel_strides);
        if (!s) s = layout_any(&b->y.any, 4, kernel, dnnl_f32);
    } else {
        if (!s) s = layout_strided(&b->w.plain, 4, kernel, dnnl_f32, kernel_strides);
        if (!s) s = layout_any(&b->w.any, 4, kernel, type_of(k->w_type));
        if (!s) s = nhwc(&b->y.plain, y, k->y_type);
    }
    if (!s && k->bias) s = layout_strided(&b->bias, 1, kernel, dnnl_f32, (int64_t[]){1});
    if (!s) s = make_attr(k->scale, k->accumulate, &b->attr);
    if (s) return s;

    layout src = b->x, weights = asked(&b->w), dst = asked(&b->y);
    if (k->kind == DENSE_CONV || d->flipped)
        return conv_create(&b->op, d->e->engine, &g, src, weights, b->bias, dst, NULL, b->attr);
    // A backward primitive wants a forward one beside it, of the same shapes and of the type of the
    // gradients.
    blueprint f = {0};
    dnnl_data_type_t t = type_of(k->x_type);
    g.prop = dnnl_forward_training;
    s = nhwc(&f.x, big, k->x_type);
    if (!s) s = layout_any(&f.w.any, 4, kernel, t);
    if (!s) s = nhwc(&f.y.plain, small, k->x_type);
    if (!s) s = conv_create(&b->forward, d->e->engine, &g, f.x, f.w.any, NULL, f.y.plain, NULL, NULL);
    blueprint_clear(&f);
    if (s) return s;
    g.prop = k->kind == DENSE_CONV_DX ? dnnl_backward_data : dnnl_backward_weights;
    return k->kind == DENSE_CONV_DX
               ? conv_create(&b->op, d->e->engine, &g, dst, weights, NULL, src, b->forward, b->attr)
               : conv_create(&b->op, d->e->engine, &g, src, dst, b->bias, weights, b->forward, b->attr);
}

// A batch of matrices (rows, columns), or of their transposes as stored; a single one has two dimensions, so
// that its packed layout does not know of batches.
static dnnl_status_t matrix(layout *l, const matmul_shape *m, int64_t rows, int64_t columns, bool transposed,
                            int64_t row, int64_t batch, dnnl_data_type_t t) {
    int64_t stored_rows = transposed ? columns : rows;
    if (!row) row = transposed ? rows : columns;
    if (!batch) batch = stored_rows * row;
    int64_t dims[3] = {m->batch, rows, columns};
    int64_t strides[3] = {batch, transposed ? 1 : row, transposed ? row : 1};
    int skip = m->batch == 1;
    return layout_strided(l, 3 - skip, dims + skip, t, strides + skip);
}

static dnnl_status_t draw_matmul(dense *d, blueprint *b) {
    const matmul_shape *m = &d->desc.matmul;
    dnnl_data_type_t wt = type_of(d->desc.w_type);
    dnnl_status_t s =
        matrix(&b->x, m, m->M, m->K, m->a_transposed, m->a_row, m->a_batch, type_of(d->desc.x_type));
    if (!s)
        s = matrix(&b->w.plain, m, m->K, m->N, m->b_transposed, m->packed ? 0 : m->b_row, m->b_batch,
                   m->packed ? dnnl_f32 : wt);
    if (!s && m->packed) s = layout_any(&b->w.any, 2, (int64_t[]){m->K, m->N}, wt);
    if (!s) s = matrix(&b->y.plain, m, m->M, m->N, false, m->y_row, m->y_batch, type_of(d->desc.y_type));
    if (!s && d->desc.bias) {
        int64_t dims[3] = {1, 1, m->N}, strides[3] = {m->N, m->N, 1};
        int skip = m->batch == 1;
        s = layout_strided(&b->bias, 3 - skip, dims + skip, dnnl_f32, strides + skip);
    }
    if (!s) s = make_attr(d->desc.scale, d->desc.accumulate, &b->attr);
    return s ? s : matmul_create(&b->op, d->e->engine, b->x, asked(&b->w), b->bias, b->y.plain, b->attr);
}

static const char *kernel_name(const_dnnl_primitive_desc_t pd) {
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    return name;
}

// Below AVX-512, 2.6 multiplies by a gemm whose order of summation depends on the rows and the threads. The
// same product as a 1×1 convolution of an M×1 picture has a fixed order and is 1.0 to 1.2 times as fast.
// Where `matmul` has its blocked kernels they are equally fast, and their packed layout never depends on the
// rows.
static bool better_as_conv(const dense_desc *k, const blueprint *b) {
    const matmul_shape *m = &k->matmul;
    bool gaps = (m->a_row && m->a_row != m->K) || (m->y_row && m->y_row != m->N);
    return m->packed && !m->a_transposed && !gaps && strncmp(kernel_name(b->op), "brg", 3);
}

static void turn_into_conv(dense_desc *k) {
    matmul_shape m = k->matmul;
    k->kind = m.b_transposed ? DENSE_CONV : DENSE_CONV_DX; // weights stored (out, in) or (in, out)
    k->conv = (conv_shape){.B = 1, .H = m.M, .W = 1, .kh = 1, .kw = 1, .stride = 1};
    k->conv.Ci = m.b_transposed ? m.K : m.N;
    k->conv.Co = m.b_transposed ? m.N : m.K;
}

// Layout of one argument of a primitive; owned by the primitive.
static layout_view layout_of(dnnl_primitive_t p, int arg) {
    const_dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_get_primitive_desc(p, &pd);
    return dnnl_primitive_desc_query_md(pd, dnnl_query_exec_arg_md, arg);
}

static size_t bytes_of(dnnl_primitive_t p, int arg) {
    return (dnnl_memory_desc_get_size(layout_of(p, arg)) + 63) & ~(size_t)63;
}

static dnnl_status_t build(dense *d, dnnl_primitive_desc_t pd, dnnl_primitive_t *p) {
    dnnl_status_t s = dnnl_primitive_create(p, pd);
    if (s) return s;
    size_t bytes = bytes_of(*p, DNNL_ARG_SCRATCHPAD);
    if (bytes > d->library_bytes) d->library_bytes = bytes;
    return dnnl_success;
}

static dnnl_status_t build_reorder(dense *d, layout_view from, layout_view to, dnnl_primitive_t *p) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t s = make_attr(1, false, &attr);
    if (!s) s = dnnl_reorder_primitive_desc_create(&pd, from, d->e->engine, to, d->e->engine, attr);
    if (!s) s = build(d, pd, p);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    return s;
}

// Everything after the choice of the kernel: code, staging of operands in other layouts, packing.
static dnnl_status_t finish(dense *d, const blueprint *b) {
    bool forward = d->desc.kind == DENSE_CONV || d->desc.kind == DENSE_MATMUL || d->flipped;
    bool dw = d->desc.kind == DENSE_CONV_DW;
    d->x_arg = forward || dw ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST;
    d->w_arg = dw ? DNNL_ARG_DIFF_DST : DNNL_ARG_WEIGHTS;
    d->y_arg = forward ? DNNL_ARG_DST : dw ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_DIFF_SRC;
    dnnl_status_t s = build(d, b->op, &d->op);
    if (s) return s;
    layout_view w = layout_of(d->op, d->w_arg), y = layout_of(d->op, d->y_arg);
    if (!dnnl_memory_desc_equal(y, b->y.plain)) {
        d->y_bytes = bytes_of(d->op, d->y_arg);
        s = build_reorder(d, y, b->y.plain, &d->from_y);
    }
    if (!s && b->w.any) {
        s = build_reorder(d, b->w.plain, w, &d->pack);
        const char *view = d->desc.kind != DENSE_MATMUL  ? d->flipped ? "flipped" : "conv"
                           : d->desc.matmul.b_transposed ? "nk"
                                                         : "kn";
        int n = snprintf(d->key, sizeof d->key, "%s ", view);
        layout_text(w, d->key + n, sizeof d->key - (size_t)n);
    }
    return s;
}

static dnnl_status_t draw(dense *d, blueprint *b) {
    dense_desc *k = &d->desc;
    if (k->kind == DENSE_MATMUL) {
        dnnl_status_t s = draw_matmul(d, b);
        if (s || !better_as_conv(k, b)) return s;
        blueprint_clear(b);
        turn_into_conv(k);
    }
    d->flipped = can_flip(k);
    return draw_conv(d, b);
}

static status prepare(dense *d, error *err) {
    const dense_desc *k = &d->desc;
    bool sense = k->kind == DENSE_MATMUL ? matmul_makes_sense(k) : conv_makes_sense(k);
    if (!sense)
        return fail(err, ERR_DATA, "impossible or too large shape of a convolution or matrix product");
    if (!epilogue_fits(k)) return fail(err, ERR_INTERNAL, "this operation has no such epilogue");
    blueprint b = {0};
    dnnl_status_t s = draw(d, &b);
    if (!s) s = finish(d, &b);
    blueprint_clear(&b);
    return s ? dnnl_fail(err, s, "preparing a convolution or matrix product") : OK;
}

dense *dense_prepare(dense_engine *e, const dense_desc *desc, error *err) {
    dense *d = mem_calloc(1, sizeof *d);
    if (!d) {
        fail(err, ERR_TEMP, "out of memory");
        return NULL;
    }
    d->e = e;
    d->desc = *desc;
    if (!d->desc.scale) d->desc.scale = 1;
    int previous = team_enter(e->team);
    status s = prepare(d, err);
    team_leave(previous);
    if (s == OK) return d;
    dense_free(d);
    return NULL;
}

void dense_free(dense *d) {
    if (!d) return;
    dnnl_primitive_t all[] = {d->op, d->from_y, d->pack};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]) dnnl_primitive_destroy(all[i]);
    mem_free(d);
}

// ---- Facts ------------------------------------------------------------------------------------------------

size_t dense_scratch_bytes(const dense *d) { return d->y_bytes + d->library_bytes; }

size_t dense_packed_bytes(const dense *d) { return d->pack ? bytes_of(d->pack, DNNL_ARG_TO) : 0; }

const char *dense_layout_key(const dense *d) { return d->key; }

double dense_flops(const dense *d) {
    const conv_shape *c = &d->desc.conv;
    const matmul_shape *m = &d->desc.matmul;
    if (d->desc.kind == DENSE_MATMUL)
        return 2. * (double)m->batch * (double)m->M * (double)m->N * (double)m->K;
    return 2. * (double)c->B * (double)out_height(c) * (double)out_width(c) * (double)c->Co * (double)c->Ci *
           (double)c->kh * (double)c->kw;
}

const char *dense_kernel(const dense *d) {
    const_dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_get_primitive_desc(d->op, &pd);
    return kernel_name(pd);
}

// ---- Running ----------------------------------------------------------------------------------------------

typedef struct {
    int arg;
    const void *data;
} binding;

// Memory objects are made anew for each run (under a microsecond), which is what keeps a `dense` immutable.
static dnnl_status_t execute(const dense *d, dnnl_primitive_t p, int n, const binding *b) {
    dnnl_exec_arg_t args[8];
    dnnl_status_t s = dnnl_success;
    int made = 0;
    for (; made < n && !s; made++) {
        args[made].arg = b[made].arg;
        s = dnnl_memory_create(&args[made].memory, layout_of(p, b[made].arg), d->e->engine,
                               (void *)b[made].data);
        if (s) break;
    }
    if (!s) s = dnnl_primitive_execute(p, d->e->stream, made, args);
    if (!s) s = dnnl_stream_wait(d->e->stream);
    while (made--) dnnl_memory_destroy(args[made].memory);
    return s;
}

static dnnl_status_t reorder(const dense *d, dnnl_primitive_t p, const void *from, void *to, void *library) {
    return execute(d, p, 3,
                   (binding[]){{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, library}});
}

// No scratch at all is no place to count from.
static char *behind(char *p, size_t bytes) { return bytes ? p + bytes : p; }

static dnnl_status_t run(const dense *d, const dense_args *a) {
    char *y_staged = a->scratch, *library = behind(y_staged, d->y_bytes);
    int n = 0;
    binding b[8];
    b[n++] = (binding){d->x_arg, a->x};
    b[n++] = (binding){d->w_arg, a->w};
    b[n++] = (binding){d->y_arg, d->from_y ? y_staged : a->y};
    b[n++] = (binding){DNNL_ARG_SCRATCHPAD, library};
    if (d->desc.bias && d->desc.kind == DENSE_CONV_DW)
        b[n++] = (binding){DNNL_ARG_DIFF_BIAS, a->dbias};
    else if (d->desc.bias)
        b[n++] = (binding){DNNL_ARG_BIAS, a->bias};
    dnnl_status_t s = execute(d, d->op, n, b);
    return s || !d->from_y ? s : reorder(d, d->from_y, y_staged, a->y, library);
}

status dense_run(const dense *d, const dense_args *a, error *err) {
    int previous = team_enter(d->e->team);
    dnnl_status_t s = run(d, a);
    team_leave(previous);
    return s ? dnnl_fail(err, s, dense_kernel(d)) : OK;
}

typedef struct {
    const float *from;
    float *to;
    int64_t taps;
} turn;

// Turning a kernel half around reverses its taps in memory.
static void turn_kernels(void *arg, int64_t begin, int64_t end) {
    const turn *t = arg;
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = 0; k < t->taps; k++) t->to[i * t->taps + k] = t->from[(i + 1) * t->taps - 1 - k];
}

status dense_pack(const dense *d, const float *w, void *packed, error *err) {
    const conv_shape *c = &d->desc.conv;
    float *turned = NULL;
    void *library = mem_alloc(d->library_bytes);
    dnnl_status_t s = library ? dnnl_success : dnnl_out_of_memory;
    if (!s && d->flipped && c->kh * c->kw > 1) {
        turned = mem_alloc((size_t)(c->Co * c->Ci * c->kh * c->kw) * sizeof *turned);
        if (!turned)
            s = dnnl_out_of_memory;
        else
            parallel_for(d->e->team, c->Co * c->Ci, 4096, turn_kernels,
                         &(turn){.from = w, .to = turned, .taps = c->kh * c->kw});
    }
    int previous = team_enter(d->e->team);
    if (!s) s = reorder(d, d->pack, turned ? turned : w, packed, library);
    team_leave(previous);
    mem_free(turned);
    mem_free(library);
    return s ? dnnl_fail(err, s, "packing") : OK;
}

#endif
