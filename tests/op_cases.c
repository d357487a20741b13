#include "tests/op_cases.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>

// splitmix64
uint64_t dice_roll(dice *d) {
    uint64_t z = d->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t dice_range(dice *d, int64_t low, int64_t high) {
    return low + (int64_t)(dice_roll(d) % (uint64_t)(high - low + 1));
}
double dice_real(dice *d, double low, double high) {
    return low + (high - low) * (double)(dice_roll(d) >> 11) * 0x1p-53;
}

static node *input_of_type(graph *g, shape s, dtype t) {
    char name[16];
    snprintf(name, sizeof name, "in%d", g->n_nodes);
    return graph_input(g, name, s, t, RATE_STEP);
}

// A differentiable activation.
static node *input_of(graph *g, shape s) {
    node *n = input_of_type(g, s, g->compute);
    graph_require_grad(n);
    return n;
}

static const weight *find_param(const weights *self, const char *name) {
    case_params *p = (case_params *)(uintptr_t)self;
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->made[i].name, name)) return &p->made[i];
    return NULL;
}

void case_params_init(case_params *p) { *p = (case_params){.w = {.find = find_param, .origin = "the case"}}; }

void case_params_free(case_params *p) {
    for (int i = 0; i < p->n; i++) mem_free(p->made[i].value);
}

// A differentiable parameter: a trainable weight, or an input in float64, where finite differences are taken.
static node *param_of(graph *g, shape s) {
    if (g->compute == DT_F64) return input_of(g, s);
    case_params *p = (case_params *)(uintptr_t)g->weights;
    weight *w = &p->made[p->n];
    snprintf(p->names[p->n], sizeof p->names[0], "p%d", p->n);
    *w = (weight){.name = p->names[p->n], .shape = s, .trainable = true, .id = weight_new_id()};
    w->value = mem_calloc((size_t)shape_count(s), sizeof(float));
    p->n++;
    return graph_weight(g, w->name, s);
}

static shape random_shape(dice *d, int rank, int64_t high) {
    shape s = {.rank = rank};
    for (int i = 0; i < rank; i++) s.d[i] = dice_range(d, 1, high);
    return s;
}

static node *case_unary(graph *g, dice *d) {
    node *x = input_of(g, random_shape(d, 3, 9)), *y = x;
    for (int k = 0; k < UNARY_COUNT; k++)
        if (k != UNARY_LOG && k != UNARY_SQRT) y = add(y, unary(x, (unary_kind)k));
    return y;
}

static node *case_unary_positive(graph *g, dice *d) {
    node *x = input_of(g, random_shape(d, 2, 20));
    return add(unary(x, UNARY_LOG), unary(x, UNARY_SQRT));
}

// Each dimension of the second operand is 1 or the first's, leading ones may be missing.
static shape broadcast_shape(dice *d, shape s) {
    shape b = {.rank = (int)dice_range(d, 1, s.rank)};
    for (int i = 1; i <= b.rank; i++) b.d[b.rank - i] = dice_range(d, 0, 1) ? s.d[s.rank - i] : 1;
    return b;
}

static node *case_binary(graph *g, dice *d) {
    shape s = random_shape(d, 4, 7);
    node *y = input_of(g, s);
    y = binary(y, input_of(g, s), BINARY_ADD);
    y = binary(y, input_of(g, broadcast_shape(d, s)), BINARY_MUL);
    y = binary(y, input_of(g, SHAPE(s.d[3])), BINARY_ADD);
    y = binary(y, input_of(g, SHAPE(s.d[0], 1, 1, s.d[3])), BINARY_MUL);
    y = binary(y, input_of(g, broadcast_shape(d, s)), BINARY_SUB);
    return binary(y, input_of(g, broadcast_shape(d, s)), BINARY_DIV);
}

static node *case_affine(graph *g, dice *d) { return affine(input_of(g, random_shape(d, 3, 9)), -1.5, 0.25); }

static node *case_clamp(graph *g, dice *d) { return clamp(input_of(g, random_shape(d, 3, 9)), -0.7, 1.1); }

static node *case_cast(graph *g, dice *d) {
    return mul(cast(input_of(g, random_shape(d, 2, 30)), g->exact), graph_fill(g, SHAPE(1), g->exact, 2));
}

static node *case_geglu(graph *g, dice *d) {
    shape s = random_shape(d, 3, 9);
    s.d[2] *= 2;
    return geglu(input_of(g, s));
}

static node *case_prelu(graph *g, dice *d) {
    shape s = random_shape(d, 3, 40);
    return leaky_relu(prelu(input_of(g, s), param_of(g, SHAPE(s.d[2]))), 0.2);
}

static node *case_shapes(graph *g, dice *d) {
    shape s = random_shape(d, 4, 6);
    int axis = (int)dice_range(d, 0, 3);
    shape t = s;
    t.d[axis] = dice_range(d, 1, 6);
    node *y = concat(input_of(g, s), input_of(g, t), axis);
    int64_t length = y->shape.d[axis], start = dice_range(d, 0, length - 1);
    node *middle = slice(y, axis, start, dice_range(d, 1, length - start));
    return mul(y, pad(middle, axis, start, length - start - middle->shape.d[axis]));
}

static node *case_reduce(graph *g, dice *d) {
    shape s = random_shape(d, 4, 7);
    node *x = input_of(g, s);
    node *y = broadcast(reduce_sum(x, broadcast_shape(d, s), g->compute), s);
    y = add(y, broadcast(reduce_sum(x, SHAPE(s.d[3]), g->compute), s));
    y = add(y, broadcast(reduce_sum(x, SHAPE(s.d[0], 1, 1, s.d[3]), g->compute), s));
    return add(y, broadcast(cast(mean_all(x), g->compute), s));
}

static node *case_softmax(graph *g, dice *d) {
    node *x = input_of(g, random_shape(d, 3, 20));
    return mul(softmax(x), log_softmax(x));
}

// A linear layer as it stands in networks: bias, and the sum that folding moves into it.
static node *case_linear(graph *g, dice *d) {
    int64_t B = dice_range(d, 1, 3), T = dice_range(d, 1, 40), K = dice_range(d, 1, 70),
            N = dice_range(d, 1, 70);
    node *y = matmul(input_of(g, SHAPE(B, T, K)), param_of(g, SHAPE(N, K)), param_of(g, SHAPE(N)), false,
                     true, 1, g->compute);
    return add(y, input_of(g, SHAPE(B, T, N)));
}

static node *case_matmul(graph *g, dice *d) {
    bool ta = dice_range(d, 0, 1), tb = dice_range(d, 0, 1);
    int64_t B = dice_range(d, 1, 3), M = dice_range(d, 1, 30), K = dice_range(d, 1, 30),
            N = dice_range(d, 1, 30);
    node *a = input_of(g, ta ? SHAPE(B, K, M) : SHAPE(B, M, K)),
         *b = input_of(g, tb ? SHAPE(B, N, K) : SHAPE(B, K, N));
    return matmul(a, b, NULL, ta, tb, 0.5, g->compute);
}

static node *case_conv(graph *g, dice *d) {
    int k = dice_range(d, 0, 2) ? 3 : 1, stride = (int)dice_range(d, 1, 2);
    conv_geometry geo = {stride, 0, 0, 0, 0};
    if (k == 3) geo = (conv_geometry){stride, (int)dice_range(d, 0, 1), (int)dice_range(d, 0, 1), 1, 1};
    int64_t B = dice_range(d, 1, 3), H = dice_range(d, 3, 12), W = dice_range(d, 3, 12),
            I = dice_range(d, 1, 40), O = dice_range(d, 1, 40);
    node *x = input_of(g, SHAPE(B, H, W, I)), *w = param_of(g, SHAPE(O, I, k, k));
    node *y = conv2d(x, w, dice_range(d, 0, 1) ? param_of(g, SHAPE(O)) : NULL, geo);
    return dice_range(d, 0, 1) ? add(y, input_of(g, y->shape)) : y;
}

// As in a dense block: the second convolution reads what the first has made.
static node *case_grow(graph *g, dice *d) {
    int64_t I = dice_range(d, 1, 40), O = dice_range(d, 1, 20), more = dice_range(d, 0, 5);
    shape s = SHAPE(dice_range(d, 1, 2), dice_range(d, 1, 9), dice_range(d, 1, 9), I + 2 * O + more);
    node *x = grow(input_of(g, s), param_of(g, SHAPE(O, I, 3, 3)), param_of(g, SHAPE(O)), 0.2);
    return grow(x, param_of(g, SHAPE(O, I + O, 3, 3)), param_of(g, SHAPE(O)), 0.2);
}

static node *case_group_norm(graph *g, dice *d) {
    int64_t G = dice_range(d, 1, 5), C = G * dice_range(d, 1, 12);
    node *x = input_of(g, SHAPE(dice_range(d, 1, 3), dice_range(d, 1, 7), dice_range(d, 2, 7), C));
    norm_act act = dice_range(d, 0, 1) ? ACT_SILU : ACT_NONE;
    return group_norm(x, param_of(g, SHAPE(C)), param_of(g, SHAPE(C)), (int)G, 1e-5, act);
}

// Without a gradient, so only the factor has one.
static node *case_group_normalise(graph *g, dice *d) {
    int64_t B = dice_range(d, 1, 3), G = dice_range(d, 1, 5), C = G * dice_range(d, 1, 12);
    norm_act act = dice_range(d, 0, 1) ? ACT_SILU : ACT_NONE;
    node *x = input_of_type(g, SHAPE(B, dice_range(d, 1, 7), dice_range(d, 2, 7), C), g->compute);
    node *gamma = input_of_type(g, SHAPE(C), g->exact), *beta = input_of_type(g, SHAPE(C), g->exact);
    node *stats = input_of_type(g, SHAPE(B, G, 2), g->exact);
    return mul(group_normalise(x, gamma, beta, stats, (int)G, act), input_of(g, SHAPE(1)));
}

static node *case_layer_norm(graph *g, dice *d) {
    int64_t C = dice_range(d, 2, 90);
    node *x = input_of(g, SHAPE(dice_range(d, 1, 3), dice_range(d, 1, 20), C));
    return layer_norm(x, param_of(g, SHAPE(C)), param_of(g, SHAPE(C)), 1e-5);
}

static node *case_attention(graph *g, dice *d) {
    int heads = (int)dice_range(d, 1, 4);
    bool causal = dice_range(d, 0, 1);
    int64_t B = dice_range(d, 1, 3), C = heads * dice_range(d, 1, 40), Tq = dice_range(d, 1, 70);
    int64_t Tk = causal ? Tq : dice_range(d, 1, 90);
    node *q = input_of(g, SHAPE(B, Tq, C)), *k = input_of(g, SHAPE(B, Tk, C)),
         *v = input_of(g, SHAPE(B, Tk, C));
    return attention(q, k, v, heads, 0.3, causal);
}

static node *case_resample(graph *g, dice *d) {
    node *x = input_of(g, random_shape(d, 4, 6));
    int64_t H = x->shape.d[1], W = x->shape.d[2];
    node *y = upsample_nearest(x, 2 * H - dice_range(d, 0, 1), 2 * W - dice_range(d, 0, 1));
    return dice_range(d, 0, 1) ? y : sum_pool(y, H, W);
}

static node *case_embedding(graph *g, dice *d) {
    int64_t V = dice_range(d, 3, 30), C = dice_range(d, 1, 40);
    node *ids = input_of_type(g, SHAPE(dice_range(d, 1, 3), dice_range(d, 1, 20)), DT_I32);
    return embedding(ids, param_of(g, SHAPE(V, C)));
}

// Rows of activations, as the text encoder takes its pooled state.
static node *case_gather(graph *g, dice *d) {
    int64_t V = dice_range(d, 3, 30), C = dice_range(d, 1, 40);
    node *ids = input_of_type(g, SHAPE(dice_range(d, 1, 5)), DT_I32);
    return embedding(ids, input_of(g, SHAPE(V, C)));
}

static node *case_timestep(graph *g, dice *d) {
    node *t = input_of_type(g, SHAPE(dice_range(d, 1, 4)), DT_F32);
    node *y =
        timestep_embedding(t, dice_range(d, 4, 40), dice_range(d, 0, 1), (double)dice_range(d, 0, 1), 10000);
    return mul(cast(y, g->compute), input_of(g, SHAPE(1)));
}

const op_case OP_CASES[] = {
    {"unary", case_unary, -3, 3},
    {"unary of positive values", case_unary_positive, 0.2, 3},
    {"binary", case_binary, 0.5, 2},
    {"affine", case_affine, -2, 2},
    {"clamp", case_clamp, -2, 2},
    {"cast", case_cast, -2, 2},
    {"geglu", case_geglu, -3, 3},
    {"prelu", case_prelu, -3, 3},
    {"slice, pad, concat", case_shapes, -2, 2},
    {"reduce, broadcast", case_reduce, -2, 2},
    {"softmax", case_softmax, -4, 4},
    {"linear", case_linear, -1, 1},
    {"matmul", case_matmul, -1, 1},
    {"conv2d", case_conv, -1, 1},
    {"grow", case_grow, -1, 1},
    {"group_norm", case_group_norm, -2, 2},
    {"group_normalise", case_group_normalise, -2, 2},
    {"layer_norm", case_layer_norm, -2, 2},
    {"attention", case_attention, -2, 2},
    {"resample", case_resample, -2, 2},
    {"embedding", case_embedding, -2, 2},
    {"embedding of activations", case_gather, -2, 2},
    {"timestep_embedding", case_timestep, 0, 2},
    {0},
};
