#include "core/cpu/cpu.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/cpu/cpu_kernel.h"
#include "core/graph/store.h"

// ---- what the rows below read

static dtype type_of(const cpu_kernel *k) { return k->n->dtype; }
static int64_t count_of(const cpu_kernel *k) { return shape_count(k->n->shape); }
static int64_t rows_of(const cpu_kernel *k) { return shape_rows(k->n->shape); }
static int64_t last_of(const cpu_kernel *k) { return shape_last(k->n->shape); }

// Aligned at the innermost dimension, ones in front.
static void four(shape s, int64_t d[4]) {
    for (int i = 1; i <= 4; i++) d[4 - i] = i <= s.rank ? s.d[s.rank - i] : 1;
}

// ---- a kernel

static void free_kernel(kernel *k) {
    cpu_kernel *c = (cpu_kernel *)k;
#if CALO_ONEDNN
    dense_free(c->dense);
#endif
    mem_free(c);
}

cpu_kernel *cpu_kernel_new(const cpu *c, const node *n, kernel k, error *err) {
    cpu_kernel *new = mem_calloc(1, sizeof *new);
    if (!new) return fail(err, ERR_TEMP, "out of memory"), NULL;
    *new = (cpu_kernel){.k = k, .n = n, .own = c->own, .team = c->b.team};
    new->k.free = free_kernel;
    return new;
}

void cpu_copy_whole(const cpu_kernel *k, const kernel_io *io, const void *x) {
    int64_t bytes = count_of(k) * (int64_t)dtype_size(type_of(k)), run = 1 << 16, rest = bytes % run;
    if (!x || x == io->out[0]) return;
    k->own->copy_block(io->team, x, run, io->out[0], run, bytes / run, run);
    if (rest) memcpy((char *)io->out[0] + bytes - rest, (const char *)x + bytes - rest, (size_t)rest);
}

// ---- elementwise

static void run_unary(const cpu_kernel *k, const kernel_io *io) {
    k->own->unary(io->team, k->n->a.unary, type_of(k), io->in[0], io->out[0], count_of(k));
}

static void run_unary_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->unary_grad(io->team, k->n->a.unary, type_of(k), io->in[0], io->in[1], io->out[0], count_of(k));
}

static void run_binary(const cpu_kernel *k, const kernel_io *io) {
    int64_t y[4], b[4];
    four(k->n->shape, y);
    four(k->n->in[1]->shape, b);
    k->own->binary(io->team, k->n->a.binary, type_of(k), io->in[0], k->n->in[1]->dtype, io->in[1], b,
                   io->out[0], y);
}

static void run_affine(const cpu_kernel *k, const kernel_io *io) {
    k->own->affine(io->team, type_of(k), io->in[0], io->out[0], count_of(k), (float)k->n->a.affine.scale,
                   (float)k->n->a.affine.shift);
}

static void run_clamp(const cpu_kernel *k, const kernel_io *io) {
    k->own->clamp(io->team, type_of(k), io->in[0], io->out[0], count_of(k), (float)k->n->a.clamp.low,
                  (float)k->n->a.clamp.high);
}

static void run_clamp_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->clamp_grad(io->team, type_of(k), io->in[0], io->in[1], io->out[0], count_of(k),
                       (float)k->n->a.clamp.low, (float)k->n->a.clamp.high);
}

static void run_cast(const cpu_kernel *k, const kernel_io *io) {
    k->own->cast(io->team, k->n->in[0]->dtype, io->in[0], type_of(k), io->out[0], count_of(k));
}

static void run_fill(const cpu_kernel *k, const kernel_io *io) {
    k->own->fill(io->team, type_of(k), io->out[0], count_of(k), (float)k->n->a.leaf.value);
}

static void run_geglu(const cpu_kernel *k, const kernel_io *io) {
    k->own->geglu(io->team, type_of(k), io->in[0], io->out[0], rows_of(k), last_of(k));
}

static void run_geglu_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->geglu_grad(io->team, type_of(k), io->in[0], io->in[1], io->out[0], rows_of(k), last_of(k) / 2);
}

static void run_prelu(const cpu_kernel *k, const kernel_io *io) {
    k->own->prelu(io->team, type_of(k), io->in[0], io->in[1], io->out[0], rows_of(k), last_of(k));
}

// ---- sums and softmax

static unsigned reduced_dims(const node *n, int64_t big[4]) {
    int64_t small[4];
    unsigned mask = 0;
    four(n->in[0]->shape, big);
    four(n->shape, small);
    for (int i = 0; i < 4; i++)
        if (small[i] != big[i]) mask |= 1u << i;
    return mask;
}

static void run_reduce(const cpu_kernel *k, const kernel_io *io) {
    int64_t d[4];
    unsigned mask = reduced_dims(k->n, d);
    k->own->reduce_sum(io->team, k->n->in[0]->dtype, io->in[0], type_of(k), io->out[0], d, mask, io->scratch);
}

static void run_broadcast(const cpu_kernel *k, const kernel_io *io) {
    int64_t y[4], b[4];
    four(k->n->shape, y);
    four(k->n->in[0]->shape, b);
    k->own->fill(io->team, type_of(k), io->out[0], count_of(k), 0);
    k->own->binary(io->team, BINARY_ADD, type_of(k), io->out[0], type_of(k), io->in[0], b, io->out[0], y);
}

static void run_softmax(const cpu_kernel *k, const kernel_io *io) {
    k->own->softmax(io->team, type_of(k), io->in[0], io->out[0], rows_of(k), last_of(k));
}

static void run_softmax_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->softmax_grad(io->team, type_of(k), io->in[0], io->in[1], io->out[0], rows_of(k), last_of(k));
}

static void run_log_softmax(const cpu_kernel *k, const kernel_io *io) {
    k->own->log_softmax(io->team, type_of(k), io->in[0], io->out[0], rows_of(k), last_of(k));
}

static void run_log_softmax_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->log_softmax_grad(io->team, type_of(k), io->in[0], io->in[1], io->out[0], rows_of(k), last_of(k));
}

// ---- copies: [outer, axis, inner] as `outer` runs of bytes

typedef struct {
    int64_t outer, unit; // runs, bytes of one index of the axis
} runs;

static runs runs_of(shape s, int axis, dtype t) {
    runs r = {1, (int64_t)dtype_size(t)};
    for (int i = 0; i < s.rank; i++) {
        if (i < axis) r.outer *= s.d[i];
        if (i > axis) r.unit *= s.d[i];
    }
    return r;
}

static void run_slice(const cpu_kernel *k, const kernel_io *io) {
    int axis = k->n->a.span.axis;
    runs r = runs_of(k->n->shape, axis, type_of(k));
    const char *from = (const char *)io->in[0] + k->n->a.span.start * r.unit;
    int64_t length = k->n->shape.d[axis] * r.unit;
    k->own->copy_block(io->team, from, k->n->in[0]->shape.d[axis] * r.unit, io->out[0], length, r.outer,
                       length);
}

static void run_pad(const cpu_kernel *k, const kernel_io *io) {
    int axis = k->n->a.span.axis;
    runs r = runs_of(k->n->shape, axis, type_of(k));
    int64_t length = k->n->in[0]->shape.d[axis] * r.unit, total = k->n->shape.d[axis] * r.unit;
    int64_t before = k->n->a.span.start * r.unit, after = total - before - length;
    char *y = io->out[0];
    if (before) k->own->copy_block(io->team, NULL, 0, y, total, r.outer, before);
    k->own->copy_block(io->team, io->in[0], length, y + before, total, r.outer, length);
    if (after) k->own->copy_block(io->team, NULL, 0, y + before + length, total, r.outer, after);
}

static void run_concat(const cpu_kernel *k, const kernel_io *io) {
    int axis = k->n->a.span.axis;
    runs r = runs_of(k->n->shape, axis, type_of(k));
    int64_t total = k->n->shape.d[axis] * r.unit, at = 0;
    for (int i = 0; i < 2; i++) {
        int64_t length = k->n->in[i]->shape.d[axis] * r.unit;
        k->own->copy_block(io->team, io->in[i], length, (char *)io->out[0] + at, total, r.outer, length);
        at += length;
    }
}

// ---- norms

static void run_group_norm(const cpu_kernel *k, const kernel_io *io) {
    shape x = k->n->shape;
    int64_t C = shape_last(x);
    k->own->group_norm(io->team, type_of(k), io->in[0], io->in[1], io->in[2], io->out[0], io->out[1], x.d[0],
                       count_of(k) / x.d[0] / C, C, k->n->a.norm.groups, (float)k->n->a.norm.eps,
                       k->n->a.norm.act == ACT_SILU, io->scratch);
}

static void run_group_normalise(const cpu_kernel *k, const kernel_io *io) {
    shape x = k->n->shape;
    int64_t C = shape_last(x);
    k->own->group_normalise(io->team, type_of(k), io->in[0], io->in[1], io->in[2], io->in[3], io->out[0],
                            x.d[0], count_of(k) / x.d[0] / C, C, k->n->a.norm.groups,
                            k->n->a.norm.act == ACT_SILU, io->scratch);
}

static void run_group_norm_grad(const cpu_kernel *k, const kernel_io *io) {
    shape x = k->n->shape;
    int64_t C = shape_last(x);
    k->own->group_norm_grad(io->team, type_of(k), io->in[0], io->in[1], io->in[2], io->in[3], io->in[4],
                            io->out[0], io->out[1], io->out[2], x.d[0], count_of(k) / x.d[0] / C, C,
                            k->n->a.norm.groups, k->n->a.norm.act == ACT_SILU, io->scratch);
}

static size_t group_norm_room(const node *n) {
    int64_t B = n->shape.d[0], C = shape_last(n->shape);
    return group_norm_scratch(B, shape_count(n->shape) / B / C, C);
}

static void run_layer_norm(const cpu_kernel *k, const kernel_io *io) {
    k->own->layer_norm(io->team, type_of(k), io->in[0], io->in[1], io->in[2], io->out[0], io->out[1],
                       rows_of(k), last_of(k), (float)k->n->a.norm.eps);
}

static void run_layer_norm_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->layer_norm_grad(io->team, type_of(k), io->in[0], io->in[1], io->in[3], io->in[4], io->out[0],
                            io->out[1], io->out[2], rows_of(k), last_of(k), io->scratch);
}

static size_t layer_norm_room(const node *n) {
    return layer_norm_scratch(shape_rows(n->shape), shape_last(n->shape));
}

static size_t reduce_room(const node *n) {
    int64_t d[4];
    unsigned mask = reduced_dims(n, d);
    return reduce_sum_scratch(d, mask);
}

// ---- resampling, look-ups

static void run_upsample(const cpu_kernel *k, const kernel_io *io) {
    shape x = k->n->in[0]->shape, y = k->n->shape;
    k->own->upsample_nearest(io->team, type_of(k), io->in[0], io->out[0], x.d[0], x.d[1], x.d[2], x.d[3],
                             y.d[1], y.d[2]);
}

static void run_sum_pool(const cpu_kernel *k, const kernel_io *io) {
    shape x = k->n->in[0]->shape, y = k->n->shape;
    k->own->sum_pool(io->team, type_of(k), io->in[0], io->out[0], y.d[0], y.d[1], y.d[2], y.d[3], x.d[1],
                     x.d[2]);
}

static void run_embedding(const cpu_kernel *k, const kernel_io *io) {
    const node *table = k->n->in[1];
    k->own->embedding(io->team, table->dtype, io->in[1], io->in[0], type_of(k), io->out[0], rows_of(k),
                      table->shape.d[0], table->shape.d[1]);
}

static void run_embedding_grad(const cpu_kernel *k, const kernel_io *io) {
    k->own->embedding_grad(io->team, k->n->in[1]->dtype, io->in[0], io->in[1], io->out[0],
                           shape_count(k->n->in[0]->shape), k->n->shape.d[0], k->n->shape.d[1]);
}

static void run_timestep(const cpu_kernel *k, const kernel_io *io) {
    k->own->timestep_embedding(io->team, io->in[0], io->out[0], k->n->shape.d[0], k->n->shape.d[1],
                               k->n->a.timestep.flip_sin_to_cos, (float)k->n->a.timestep.shift,
                               (float)k->n->a.timestep.max_period);
}

// ---- attention

static attention_desc attention_of(const node *n) {
    shape q = n->in[0]->shape, k = n->in[1]->shape;
    int64_t C = shape_last(q), heads = n->a.attention.heads;
    return (attention_desc){.t = n->dtype,
                            .B = q.d[0],
                            .heads = heads,
                            .Tq = q.d[1],
                            .Tk = k.d[1],
                            .D = C / heads,
                            .scale = (float)n->a.attention.scale,
                            .causal = n->a.attention.causal,
                            .ldq = C,
                            .ldk = C,
                            .ldv = C,
                            .ldo = C};
}

static void run_attention(const cpu_kernel *k, const kernel_io *io) {
    attention_forward(io->team, &k->attention, io->in[0], io->in[1], io->in[2], io->out[0], io->out[1],
                      io->scratch);
}

static void run_attention_grad(const cpu_kernel *k, const kernel_io *io) {
    attention_backward(io->team, &k->attention, io->in[0], io->in[1], io->in[2], io->in[3], io->in[4],
                       io->in[5], io->out[0], io->out[1], io->out[2], io->scratch);
}

// ---- the rows: which kernel serves which op

typedef struct {
    const op *op;
    const char *name;
    void (*run)(const cpu_kernel *k, const kernel_io *io);
    size_t (*room)(const node *n); // scratch bytes; NULL for none
    int max_rank;                  // of any operand; 0 for no limit
} row;

static const row ROWS[] = {
    {&OP_FILL, "fill", run_fill},
    {&OP_UNARY, "unary", run_unary},
    {&OP_UNARY_GRAD, "unary_grad", run_unary_grad},
    {&OP_BINARY, "binary", run_binary, .max_rank = 4},
    {&OP_AFFINE, "affine", run_affine},
    {&OP_CLAMP, "clamp", run_clamp},
    {&OP_CLAMP_GRAD, "clamp_grad", run_clamp_grad},
    {&OP_CAST, "cast", run_cast},
    {&OP_GEGLU, "geglu", run_geglu},
    {&OP_GEGLU_GRAD, "geglu_grad", run_geglu_grad},
    {&OP_PRELU, "prelu", run_prelu},
    {&OP_REDUCE, "reduce_sum", run_reduce, reduce_room, 4},
    {&OP_BROADCAST, "broadcast", run_broadcast, .max_rank = 4},
    {&OP_SOFTMAX, "softmax", run_softmax},
    {&OP_SOFTMAX_GRAD, "softmax_grad", run_softmax_grad},
    {&OP_LOG_SOFTMAX, "log_softmax", run_log_softmax},
    {&OP_LOG_SOFTMAX_GRAD, "log_softmax_grad", run_log_softmax_grad},
    {&OP_SLICE, "copy", run_slice},
    {&OP_PAD, "copy", run_pad},
    {&OP_CONCAT, "copy", run_concat},
    {&OP_GROUP_NORM, "group_norm", run_group_norm, group_norm_room},
    {&OP_GROUP_NORM_GRAD, "group_norm_grad", run_group_norm_grad, group_norm_room},
    {&OP_GROUP_NORMALISE, "group_normalise", run_group_normalise, group_norm_room},
    {&OP_LAYER_NORM, "layer_norm", run_layer_norm},
    {&OP_LAYER_NORM_GRAD, "layer_norm_grad", run_layer_norm_grad, layer_norm_room},
    {&OP_UPSAMPLE, "upsample", run_upsample},
    {&OP_SUM_POOL, "sum_pool", run_sum_pool},
    {&OP_EMBEDDING, "embedding", run_embedding},
    {&OP_EMBEDDING_GRAD, "embedding_grad", run_embedding_grad},
    {&OP_TIMESTEP, "timestep", run_timestep},
    {&OP_ATTENTION, "attention", run_attention},
    {&OP_ATTENTION_GRAD, "attention_grad", run_attention_grad},
};

// The kernels know f32 and bf16 activations; everything else is the reference's.
static bool serves(const row *r, const node *n) {
    if (r->op != n->op || !float_type(n->dtype)) return false;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        bool ids = n->in[i]->dtype == DT_I32 && (n->op == &OP_EMBEDDING || n->op == &OP_EMBEDDING_GRAD);
        if (!float_type(n->in[i]->dtype) && !ids) return false;
        if (r->max_rank && n->in[i]->shape.rank > r->max_rank) return false;
    }
    return !r->max_rank || n->shape.rank <= r->max_rank;
}

static status run_own(const kernel *k, const kernel_io *io, error *err) {
    (void)err;
    const cpu_kernel *c = (const cpu_kernel *)k;
    c->run(c, io);
    return OK;
}

static kernel *own_kernel(const cpu *c, const row *r, const node *n, error *err) {
    kernel about = {.name = r->name, .run = run_own, .inplace = n->op->inplace};
    cpu_kernel *k = cpu_kernel_new(c, n, about, err);
    if (!k) return NULL;
    k->run = r->run;
    if (r->room) k->k.scratch = r->room(n);
    if (n->op == &OP_ATTENTION || n->op == &OP_ATTENTION_GRAD) {
        k->attention = attention_of(n);
        k->k.scratch =
            attention_scratch_bytes(&k->attention, team_size(c->b.team), n->op == &OP_ATTENTION_GRAD);
    }
    return &k->k;
}

// ---- dense products

#if CALO_ONEDNN

// The library adds to what y holds: the residual.
static status run_dense(const kernel *k, const kernel_io *io, error *err) {
    const cpu_kernel *c = (const cpu_kernel *)k;
    cpu_copy_whole(c, io, io->in[3]);
    dense_args a = {
        .x = io->in[0], .w = io->in[1], .bias = io->in[2], .y = io->out[0], .scratch = io->scratch};
    return dense_run(c->dense, &a, err);
}

// dW = dyᵀ·x as the weight gradient of a 1×1 convolution: the operands change places.
static status run_linear_dw(const kernel *k, const kernel_io *io, error *err) {
    const cpu_kernel *c = (const cpu_kernel *)k;
    dense_args a = {.x = io->in[1], .w = io->in[0], .y = io->out[0], .scratch = io->scratch};
    return dense_run(c->dense, &a, err);
}

static status pack_dense(const kernel *k, const void *plain, void *packed, error *err) {
    return dense_pack(((const cpu_kernel *)k)->dense, plain, packed, err);
}

// The library wants pictures without gaps: what a convolution reads and makes lies in scratch before its own.
typedef struct {
    int64_t I, O, P, rows, size; // channels of x, of y and of both and more; pixels; bytes of a value
    size_t x_bytes, y_bytes;
} gaps;

static gaps gaps_of(const node *n) {
    shape x = n->shape, w = n->in[1]->shape;
    gaps g = {w.d[1], w.d[0], x.d[3], x.d[0] * x.d[1] * x.d[2], (int64_t)dtype_size(n->dtype), 0, 0};
    g.x_bytes = ((size_t)(g.rows * g.I * g.size) + 63) & ~(size_t)63;
    g.y_bytes = ((size_t)(g.rows * g.O * g.size) + 63) & ~(size_t)63;
    return g;
}

static status run_dense_grow(const kernel *k, const kernel_io *io, error *err) {
    const cpu_kernel *c = (const cpu_kernel *)k;
    gaps g = gaps_of(c->n);
    char *x = io->scratch, *y = x + g.x_bytes, *made = (char *)io->out[0] + g.I * g.size;
    dense_args a = {.x = x, .w = io->in[1], .bias = io->in[2], .y = y, .scratch = y + g.y_bytes};
    cpu_copy_whole(c, io, io->in[0]);
    c->own->copy_block(io->team, io->in[0], g.P * g.size, x, g.I * g.size, g.rows, g.I * g.size);
    TRY(dense_run(c->dense, &a, err));
    c->own->leaky_rows(io->team, type_of(c), y, (float)c->n->a.grow.slope, made, g.P, g.rows, g.O);
    return OK;
}

static bool is_linear_dw(const node *n) {
    return n->op == &OP_MATMUL && n->a.matmul.ta && !n->a.matmul.tb && n->in[0]->shape.rank == 2 &&
           n->in[1]->shape.rank == 2 && !n->in[2] && !n->in[3] && n->dtype == DT_F32 &&
           n->in[0]->dtype == n->in[1]->dtype;
}

static void describe_matmul(const node *n, bool packed, dense_desc *d) {
    const node *a = n->in[0], *b = n->in[1];
    int ra = a->shape.rank, rb = b->shape.rank;
    bool ta = n->a.matmul.ta, tb = n->a.matmul.tb;
    d->kind = DENSE_MATMUL;
    d->scale = (float)n->a.matmul.scale;
    d->matmul.M = a->shape.d[ra - (ta ? 1 : 2)];
    d->matmul.K = a->shape.d[ra - (ta ? 2 : 1)];
    d->matmul.N = b->shape.d[rb - (tb ? 2 : 1)];
    d->matmul.batch = shape_count(a->shape) / (d->matmul.M * d->matmul.K);
    if (rb == 2) { // a b for all rows: one product
        d->matmul.M *= d->matmul.batch;
        d->matmul.batch = 1;
    }
    d->matmul.a_transposed = ta;
    d->matmul.b_transposed = tb;
    d->matmul.packed = packed && d->matmul.batch == 1;
}

static void describe_linear_dw(const node *n, dense_desc *d) {
    shape dy = n->in[0]->shape, x = n->in[1]->shape;
    d->kind = DENSE_CONV_DW;
    d->scale = (float)n->a.matmul.scale;
    d->conv.B = d->conv.W = d->conv.kh = d->conv.kw = d->conv.stride = 1;
    d->conv.H = x.d[0];
    d->conv.Ci = x.d[1];
    d->conv.Co = dy.d[1];
}

static void describe_conv(const node *n, dense_desc *d) {
    shape x = n->in[0]->shape, w = n->in[1]->shape;
    conv_geometry g = geometry_of(n);
    int64_t kh = w.d[2], kw = w.d[3], O = w.d[0];
    d->kind = DENSE_CONV;
    if (n->op == &OP_GROW) x.d[3] = w.d[1];
    if (n->op == &OP_CONV_DX) {
        d->kind = DENSE_CONV_DX;
        x = n->shape;
    } else if (n->op == &OP_CONV_DW) {
        d->kind = DENSE_CONV_DW;
        kh = n->a.conv.H;
        kw = n->a.conv.W;
        O = w.d[3]; // in[1] is dy
    }
    bool pointwise = kh == 1 && kw == 1 && g.stride == 1 && !(g.top | g.left | g.bottom | g.right);
    if (pointwise && d->kind != DENSE_CONV_DW) { // every pixel is a row; W is stored [O,I]
        bool forward = d->kind == DENSE_CONV;
        d->kind = DENSE_MATMUL;
        d->matmul.batch = 1;
        d->matmul.M = x.d[0] * x.d[1] * x.d[2];
        d->matmul.K = forward ? w.d[1] : w.d[0];
        d->matmul.N = forward ? w.d[0] : w.d[1];
        d->matmul.b_transposed = forward;
        d->matmul.packed = true;
        return;
    }
    d->conv.B = x.d[0];
    d->conv.H = x.d[1];
    d->conv.W = x.d[2];
    d->conv.Ci = x.d[3];
    d->conv.Co = O;
    d->conv.kh = kh;
    d->conv.kw = kw;
    d->conv.stride = g.stride;
    d->conv.pad_top = g.top;
    d->conv.pad_left = g.left;
    d->conv.pad_bottom = g.bottom;
    d->conv.pad_right = g.right;
}

// Whether oneDNN can have it: products of weights and activations, or of activations of one type.
static bool is_dense(const node *n, bool weight_operand) {
    bool conv_like = n->op == &OP_CONV || n->op == &OP_CONV_DX || n->op == &OP_GROW;
    if (n->op == &OP_CONV && n->a.conv.geo.twice) return false;
    if (!conv_like && n->op != &OP_CONV_DW && n->op != &OP_MATMUL) return false;
    const node *a = n->in[0], *b = n->in[1];
    if (!float_type(a->dtype) || !float_type(b->dtype) || !float_type(n->dtype)) return false;
    if (conv_like && !weight_operand) return false;
    if (n->op == &OP_MATMUL && n->in[2] && n->a.matmul.scale != 1)
        return false; // oneDNN would scale the bias too
    return weight_operand || a->dtype == b->dtype;
}

// NULL: `err` says whether memory is short, or oneDNN refuses the shape and the reference serves.
static kernel *dense_kernel_for(const cpu *c, const node *n, bool weight_operand, error *err) {
    dense_desc d = {.x_type = n->in[0]->dtype,
                    .w_type = weight_operand ? n->in[0]->dtype : n->in[1]->dtype,
                    .y_type = n->dtype};
    bool linear_dw = is_linear_dw(n) && !weight_operand;
    if (linear_dw) {
        d.x_type = d.w_type;
        describe_linear_dw(n, &d);
    } else if (n->op == &OP_MATMUL) {
        describe_matmul(n, weight_operand, &d);
    } else {
        describe_conv(n, &d);
    }
    bool has_extra = n->op == &OP_CONV || n->op == &OP_MATMUL, grows = n->op == &OP_GROW;
    d.bias = (has_extra || grows) && n->in[2];
    d.accumulate = has_extra && n->in[3];
    dense *made = dense_prepare(c->engine, &d, err);
    if (!made) return NULL;
    kernel about = {.name = dense_kernel(made),
                    .run = linear_dw ? run_linear_dw
                           : grows   ? run_dense_grow
                                     : run_dense,
                    .scratch = dense_scratch_bytes(made),
                    .packed_bytes = dense_packed_bytes(made),
                    .pack = pack_dense};
    if (d.accumulate) about.inplace = 1u << 3;
    if (grows) {
        gaps g = gaps_of(n);
        about.inplace = 1;
        about.scratch += g.x_bytes + g.y_bytes;
    }
    if (about.packed_bytes) about.packed_key = key_text(dense_layout_key(made));
    cpu_kernel *k = cpu_kernel_new(c, n, about, err);
    if (!k) return dense_free(made), NULL;
    k->dense = made;
    return &k->k;
}

#endif

// ---- the backend

static kernel *prepare(const backend *self, const node *n, bool weight_operand, error *err) {
    const cpu *c = (const cpu *)self;
    kernel *k;
    if (cpu_fast_kernel(c, n, weight_operand, &k, err)) return k;
#if CALO_ONEDNN
    error why = {0};
    k = is_dense(n, weight_operand) ? dense_kernel_for(c, n, weight_operand, &why) : NULL;
    if (k) return k;
    if (why.code == ERR_TEMP) return fail(err, ERR_TEMP, "%s", why.text), NULL;
#endif
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++)
        if (serves(&ROWS[i], n)) return own_kernel(c, &ROWS[i], n, err);
    return reference_kernel(n, err);
}

static void free_cpu(backend *b) {
#if CALO_ONEDNN
    dense_engine_free(((cpu *)b)->engine);
#endif
    mem_free(b);
}

backend *cpu_backend(team *t, error *err) {
    cpu *c = mem_calloc(1, sizeof *c);
    if (!c) return fail(err, ERR_TEMP, "out of memory"), NULL;
    *c = (cpu){.b = {.name = "cpu",
                     .team = t,
                     .prepare = prepare,
                     .upsamples = cpu_fast_upsamples,
                     .free = free_cpu},
               .own = cpu_kernels_for(CPU_BEST)};
#if CALO_ONEDNN
    c->engine = dense_engine_new(t, err);
    if (!c->engine) return mem_free(c), NULL;
#endif
    return &c->b;
}

static backend *with_winograd(team *t, winograd_use use, error *err) {
    backend *b = cpu_backend(t, err);
    if (b) ((cpu *)b)->winograd = use;
    return b;
}

backend *cpu_backend_fast(team *t, error *err) { return with_winograd(t, WINOGRAD_ALL, err); }
backend *cpu_backend_lean(team *t, error *err) { return with_winograd(t, WINOGRAD_LEAN, err); }

bool cpu_has_bf16(void) {
#if CALO_ONEDNN
    return dense_has_bf16();
#else
    return false;
#endif
}
