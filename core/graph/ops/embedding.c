// Rows of a table by number, and timesteps as sines and cosines.
#include "core/graph/op.h"

#include <math.h>

static const char *embedding_infer(node *n) {
    const node *ids = n->in[0], *table = n->in[1];
    if (ids->dtype != DT_I32) return "the ids are not I32";
    if (table->shape.rank != 2 || ids->shape.rank >= MAX_RANK) return "the table is not a matrix";
    n->shape = ids->shape;
    n->shape.d[n->shape.rank++] = table->shape.d[1];
    return NULL;
}

// Rows that are taken often sum up many gradients: summed in the exact type, whatever the table's is.
static void embedding_grad(node *n, node *dy, node **dx) {
    node *table = n->in[1];
    dx[1] = cast(NODE(OP_EMBEDDING_GRAD, NO_ATTRS, table->shape, n->g->exact, n->in[0], dy), table->dtype);
}

// An id outside the table is refused where ids enter; here it reads as zeros.
static void embedding_ref(const ref_call *c) {
    int64_t V = c->n->in[1]->shape.d[0], C = c->n->in[1]->shape.d[1];
    for (int64_t r = 0, R = shape_rows(c->n->shape); r < R; r++) {
        int64_t id = (int64_t)c->in[0][r];
        for (int64_t i = 0; i < C; i++) c->out[0][r * C + i] = id >= 0 && id < V ? c->in[1][id * C + i] : 0;
    }
}

static void embedding_grad_ref(const ref_call *c) {
    int64_t V = c->n->shape.d[0], C = c->n->shape.d[1];
    for (int64_t i = 0; i < V * C; i++) c->out[0][i] = 0;
    for (int64_t r = 0, R = shape_count(c->n->in[0]->shape); r < R; r++) {
        int64_t id = (int64_t)c->in[0][r];
        for (int64_t i = 0; i < C && id >= 0 && id < V; i++) c->out[0][id * C + i] += c->in[1][r * C + i];
    }
}

const op OP_EMBEDDING = {
    .name = "embedding", .infer = embedding_infer, .grad = embedding_grad, .ref = embedding_ref};
const op OP_EMBEDDING_GRAD = {.name = "embedding_grad", .ref = embedding_grad_ref};

node *embedding(node *ids, node *table) {
    if (is_poison(ids) || is_poison(table)) return is_poison(ids) ? ids : table;
    dtype t = table->dtype == ids->g->exact ? ids->g->compute : table->dtype;
    return NODE(OP_EMBEDDING, NO_ATTRS, ANY_SHAPE, t, ids, table);
}

// ---- timesteps: half sines, half cosines of t·max_period^(−i/(dim/2 − shift)) (arXiv 2006.11239; diffusers)

static const char *timestep_infer(node *n) {
    if (n->in[0]->shape.rank != 1) return "timesteps [B] are expected";
    if ((double)(n->shape.d[1] / 2) <= n->a.timestep.shift) return "too few values for a frequency";
    n->shape.d[0] = n->in[0]->shape.d[0];
    n->dtype = n->g->exact;
    return NULL;
}

// Frequencies and angles are rounded to f32 before sine and cosine, in every precision: networks were trained
// on exactly these values, and at t = 999 the rounding is worth 3e-5.
static void timestep_ref(const ref_call *c) {
    int64_t B = c->n->shape.d[0], dim = c->n->shape.d[1], half = dim / 2;
    bool flip = c->n->a.timestep.flip_sin_to_cos;
    float log_period = logf((float)c->n->a.timestep.max_period),
          span = (float)((double)half - c->n->a.timestep.shift);
    for (int64_t b = 0; b < B; b++) {
        double *y = c->out[0] + b * dim;
        for (int64_t i = 0; i < half; i++) {
            float frequency = expf(-log_period * (float)i / span), angle = (float)c->in[0][b] * frequency;
            y[flip ? half + i : i] = (double)sinf(angle);
            y[flip ? i : half + i] = (double)cosf(angle);
        }
        if (dim % 2) y[dim - 1] = 0;
    }
}

const op OP_TIMESTEP = {.name = "timestep_embedding",
                        .attrs_bytes = sizeof(((attrs *)0)->timestep),
                        .infer = timestep_infer,
                        .ref = timestep_ref};

node *timestep_embedding(node *t, int64_t dim, bool flip_sin_to_cos, double shift, double max_period) {
    attrs a = {.timestep = {shift, max_period, flip_sin_to_cos}};
    return NODE(OP_TIMESTEP, a, SHAPE(0, dim), DT_F32, t);
}
