// What drawing may compute in other ways than oneDNN does: 3×3 convolutions with fewer multiplications,
// products with weights of 8 bits in integers.
#include "core/cpu/cpu_kernel.h"
#include "core/graph/store.h"

// ---- convolutions with fewer multiplications

static status run_winograd(const kernel *k, const kernel_io *io, error *err) {
    (void)err;
    winograd_run(io->team, &((const cpu_kernel *)k)->winograd, io->in[0], io->in[1], io->in[2], io->in[3],
                 io->out[0], io->scratch);
    return OK;
}

// What is read and what is written are different channels of one buffer.
static status run_winograd_grow(const kernel *k, const kernel_io *io, error *err) {
    (void)err;
    const cpu_kernel *c = (const cpu_kernel *)k;
    char *made = (char *)io->out[0] + c->winograd.Ci * (int64_t)dtype_size(c->n->dtype);
    cpu_copy_whole(c, io, io->in[0]);
    winograd_run(io->team, &c->winograd, io->out[0], io->in[1], io->in[2], NULL, made, io->scratch);
    return OK;
}

static status pack_winograd(const kernel *k, const void *plain, void *packed, error *err) {
    (void)err;
    const cpu_kernel *c = (const cpu_kernel *)k;
    winograd_pack(c->team, &c->winograd, plain, packed);
    return OK;
}

// Winograd's weights are made anew whenever they change, so they must be a model's. Channels: with fewer than
// 32 the transforms cost what the products save. Pixels: 4×4 have no gain (1.0 in bf16, 0.8 in f32), 8×8
// have 1.5 and more.
static bool winograd_pays(const winograd_desc *d) { return d->Ci >= 32 && d->Co >= 32 && d->H * d->W >= 64; }

// Whole weights are worth their memory if a picture is large beside them: in f32, where they are four times
// as large, up to 640→640 at 32×32 (0.4 GB more for all of SD1.5); as large in bf16 where a picture becomes
// twice as large; else in bf16 up to 1280→1280 at 8×8 (0.14 GB less). Where memory is short, in bf16 at 64×64
// and 32×32 of SD1.5, and hardly at all where they are four times as large.
static bool winograd_lean(const winograd_desc *d, winograd_use use) {
    bool fourfold = d->t == DT_F32 || d->up, little = use == WINOGRAD_LEAN;
    int64_t most = fourfold ? (little ? 25 : d->up ? 6400 : 400) : little ? 1600 : 32000;
    return d->Ci * d->Co > most * d->H * d->W;
}

static bool winograd_fits(const cpu *c, const node *n, winograd_desc *d) {
    bool grows = n->op == &OP_GROW;
    if (!c->winograd || (n->op != &OP_CONV && !grows) || n->in[1]->rate != RATE_MODEL) return false;
    shape x = n->in[0]->shape, w = n->in[1]->shape;
    conv_geometry g = geometry_of(n);
    if (w.d[2] != 3 || w.d[3] != 3 || g.stride != 1 || n->dtype != n->in[0]->dtype) return false;
    *d = (winograd_desc){.t = n->dtype,
                         .B = x.d[0],
                         .H = x.d[1],
                         .W = x.d[2],
                         .Ci = w.d[1],
                         .Co = w.d[0],
                         .top = g.top,
                         .left = g.left,
                         .bottom = g.bottom,
                         .right = g.right,
                         .up = g.twice};
    if (grows) {
        d->x_apart = d->y_apart = x.d[3];
        d->leaky = true;
        d->slope = (float)n->a.grow.slope;
    }
    d->lean = winograd_lean(d, c->winograd);
    return winograd_pays(d) && winograd_runs(d);
}

bool cpu_fast_upsamples(const backend *self, const node *n) {
    node small = *n;
    winograd_desc d;
    conv_geometry *g = &small.a.conv.geo;
    small.in[0] = n->in[0]->in[0];
    g->twice = 1;
    return g->top == 1 && g->left == 1 && g->bottom == 1 && g->right == 1 &&
           winograd_fits((const cpu *)self, &small, &d);
}

static kernel *winograd_kernel(const cpu *c, const node *n, const winograd_desc *d, error *err) {
    bool grows = n->op == &OP_GROW;
    kernel about = {.name = winograd_name(d),
                    .run = grows ? run_winograd_grow : run_winograd,
                    .scratch = winograd_scratch_bytes(d, team_size(c->b.team)),
                    .inplace = grows ? 1 : 1u << 3,
                    .packed_bytes = winograd_packed_bytes(d),
                    .packed_key = key_text(winograd_name(d)),
                    .pack = pack_winograd};
    cpu_kernel *k = cpu_kernel_new(c, n, about, err);
    if (!k) return NULL;
    k->winograd = *d;
    return &k->k;
}

// ---- products in 8 bits

static status run_int8(const kernel *k, const kernel_io *io, error *err) {
    (void)err;
    int8_run(io->team, &((const cpu_kernel *)k)->int8, io->in[0], io->in[1], io->in[2], io->in[3], io->out[0],
             io->scratch);
    return OK;
}

static status pack_int8(const kernel *k, const void *plain, void *packed, error *err) {
    (void)err;
    const cpu_kernel *c = (const cpu_kernel *)k;
    int8_pack(c->team, &c->int8, plain, packed);
    return OK;
}

// Linears and convolutions with weights of 8 bits, whatever their shape. In SD 1.5, on a Zen 4 core: linears
// of 2 to 8192 rows are 1.5 to 2.2 times as fast as oneDNN's products in bf16 and 3 to 7 times as those in
// f32, 3×3 convolutions of stride 2 1.7 to 2.1 and 3.5 to 4.2 times. Beside Winograd's method, 64×64 down to
// 8×8: 1.1 to 3.6 times in f32, the more the smaller the picture; in bf16 0.9 to 1.1, with weights of 2/7 its
// size. A picture that is made twice as large first stays Winograd's in bf16, which is 1.4 to 1.7 times as
// fast.
static bool int8_serves(const cpu *c, const node *n, bool weight_operand, int8_desc *d) {
    if (c->winograd == WINOGRAD_NONE || !weight_operand || (n->op != &OP_MATMUL && n->op != &OP_CONV))
        return false;
    const node *x = n->in[0], *w = n->in[1];
    if (w->op != &OP_WEIGHT || !w->a.leaf.w->int8 || w->rate != RATE_MODEL) return false;
    if (!float_type(n->dtype) || x->dtype != n->dtype) return false;
    if (n->op == &OP_MATMUL) {
        if (w->shape.rank != 2 || n->a.matmul.ta || !n->a.matmul.tb || n->a.matmul.scale != 1) return false;
        int64_t K = shape_last(x->shape);
        *d = int8_linear(n->dtype, shape_count(x->shape) / K, w->shape.d[0], K);
    } else {
        conv_geometry g = n->a.conv.geo;
        if (g.twice) return false;
        *d = (int8_desc){.t = n->dtype,
                         .B = x->shape.d[0],
                         .H = x->shape.d[1],
                         .W = x->shape.d[2],
                         .Ci = w->shape.d[1],
                         .Co = w->shape.d[0],
                         .kh = w->shape.d[2],
                         .kw = w->shape.d[3],
                         .stride = g.stride,
                         .top = g.top,
                         .left = g.left,
                         .bottom = g.bottom,
                         .right = g.right};
    }
    return int8_runs() && int8_fits(d);
}

static kernel *int8_kernel(const cpu *c, const node *n, const int8_desc *d, error *err) {
    kernel about = {.name = "int8 vnni",
                    .run = run_int8,
                    .scratch = int8_scratch_bytes(d, team_size(c->b.team)),
                    .inplace = 1u << 3,
                    .packed_bytes = int8_packed_bytes(d),
                    .packed_key = key_text("int8 vnni"),
                    .pack = pack_int8};
    cpu_kernel *k = cpu_kernel_new(c, n, about, err);
    if (!k) return NULL;
    k->int8 = *d;
    return &k->k;
}

// ---- which of them

bool cpu_fast_kernel(const cpu *c, const node *n, bool weight_operand, kernel **k, error *err) {
    winograd_desc winograd;
    int8_desc int8;
    if (int8_serves(c, n, weight_operand, &int8)) return *k = int8_kernel(c, n, &int8, err), true;
    if (!weight_operand || !winograd_fits(c, n, &winograd)) return false;
    return *k = winograd_kernel(c, n, &winograd, err), true;
}
