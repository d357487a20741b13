// op(a)·op(b)·scale + bias. Every linear layer, every adapter product and both gradients of each are this op.
#include "core/graph/op.h"

#include "core/base/threads.h"

typedef struct {
    int64_t batch, M, N, K;
    bool shared_b; // one b for the whole batch
} product;

// Leading dimensions of a are rows where b is shared and a is not transposed, so that a linear layer is one
// product.
static product dims(const node *n) {
    const node *a = n->in[0], *b = n->in[1];
    int ra = a->shape.rank, rb = b->shape.rank;
    product p = {.batch = 1, .shared_b = rb == 2};
    int64_t a0 = a->shape.d[ra - 2], a1 = a->shape.d[ra - 1];
    p.M = n->a.matmul.ta ? a1 : a0;
    p.K = n->a.matmul.ta ? a0 : a1;
    p.N = b->shape.d[n->a.matmul.tb ? rb - 2 : rb - 1];
    for (int i = 0; i < ra - 2; i++) p.batch *= a->shape.d[i];
    if (p.shared_b && !n->a.matmul.ta) {
        p.M *= p.batch;
        p.batch = 1;
    }
    return p;
}

static const char *matmul_infer(node *n) {
    const node *a = n->in[0], *b = n->in[1], *bias = n->in[2];
    int ra = a->shape.rank, rb = b->shape.rank;
    char at[128], bt[128];
    bool fits = ra >= 2 && (rb == 2 || rb == ra) && !(rb == 2 && ra > 2 && n->a.matmul.ta);
    for (int i = 0; fits && rb > 2 && i < ra - 2; i++) fits = a->shape.d[i] == b->shape.d[i];
    if (fits) {
        product p = dims(n);
        fits = b->shape.d[n->a.matmul.tb ? rb - 1 : rb - 2] == p.K;
        if (bias && (bias->shape.rank != 1 || bias->shape.d[0] != p.N))
            return "the bias has another size than the result";
        n->shape = a->shape;
        n->shape.d[ra - 2] = n->a.matmul.ta ? p.M : a->shape.d[ra - 2];
        n->shape.d[ra - 1] = p.N;
    }
    if (!fits)
        return op_error(n, "%s%s · %s%s", shape_text(a->shape, at), n->a.matmul.ta ? "ᵀ" : "",
                        shape_text(b->shape, bt), n->a.matmul.tb ? "ᵀ" : "");
    return NULL;
}

static node *flat(node *x) { return reshape(x, SHAPE(shape_rows(x->shape), shape_last(x->shape))); }

static void matmul_grad(node *n, node *dy, node **dx) {
    node *a = n->in[0], *b = n->in[1], *bias = n->in[2];
    bool ta = n->a.matmul.ta, tb = n->a.matmul.tb;
    double s = n->a.matmul.scale;
    if (a->needs_grad) // A = op(a): dA = dY·op(b)ᵀ
        dx[0] =
            ta ? matmul(b, dy, NULL, tb, true, s, a->dtype) : matmul(dy, b, NULL, false, !tb, s, a->dtype);
    if (b->needs_grad) { // B = op(b): dB = op(a)ᵀ·dY; a shared b sums over all rows
        if (b->shape.rank == 2 && !ta) {
            a = flat(a);
            dy = flat(dy);
        }
        dx[1] =
            tb ? matmul(dy, a, NULL, true, ta, s, b->dtype) : matmul(a, dy, NULL, !ta, false, s, b->dtype);
    }
    if (bias && bias->needs_grad) dx[2] = reduce_sum(dy, bias->shape, bias->dtype);
}

typedef struct {
    const ref_call *c;
    product p;
} ref_job;

static void ref_rows(void *arg, int64_t begin, int64_t end) {
    const ref_job *j = arg;
    const product *p = &j->p;
    const node *n = j->c->n;
    bool ta = n->a.matmul.ta, tb = n->a.matmul.tb;
    for (int64_t row = begin; row < end; row++) {
        int64_t batch = row / p->M, m = row % p->M;
        const double *a = j->c->in[0] + batch * p->M * p->K,
                     *b = j->c->in[1] + (p->shared_b ? 0 : batch * p->K * p->N);
        for (int64_t i = 0; i < p->N; i++) {
            double sum = 0;
            for (int64_t k = 0; k < p->K; k++)
                sum += a[ta ? k * p->M + m : m * p->K + k] * b[tb ? i * p->K + k : k * p->N + i];
            j->c->out[0][row * p->N + i] = n->a.matmul.scale * sum + (j->c->in[2] ? j->c->in[2][i] : 0) +
                                           (j->c->in[3] ? j->c->in[3][row * p->N + i] : 0);
        }
    }
}

static void matmul_ref(const ref_call *c) {
    ref_job j = {c, dims(c->n)};
    parallel_for(c->team, j.p.batch * j.p.M, 8, ref_rows, &j);
}

static double matmul_flops(const node *n) {
    product p = dims(n);
    return 2.0 * (double)(p.batch * p.M) * (double)p.N * (double)p.K;
}

const op OP_MATMUL = {.name = "matmul",
                      .attrs_bytes = sizeof(((attrs *)0)->matmul),
                      .infer = matmul_infer,
                      .grad = matmul_grad,
                      .ref = matmul_ref,
                      .flops = matmul_flops};

// in[3], a residual of the result's shape and type, is put there by folding only.
node *matmul(node *a, node *b, node *bias, bool ta, bool tb, double scale, dtype t) {
    return NODE(OP_MATMUL, ((attrs){.matmul = {scale, ta, tb}}), ANY_SHAPE, t, a, b, bias, NULL);
}
