// Scaled dot-product attention per head. The log-sum-exp of each row of scores is kept as an extra output,
// from which the gradient recomputes the scores (Dao et al., FlashAttention, arXiv 2205.14135, appendix B).
#include "core/graph/op.h"

#include "core/base/threads.h"

#include <math.h>

typedef struct {
    const ref_call *c;
    int64_t Tq, Tk, heads, C, D;
    double scale;
    bool causal;
} job;

static job job_of(const ref_call *c, shape q, shape k) {
    const node *n = c->n;
    int64_t C = shape_last(q), heads = n->a.attention.heads;
    return (job){c, q.d[1], k.d[1], heads, C, C / heads, n->a.attention.scale, n->a.attention.causal};
}

static const char *attention_infer(node *n) {
    shape q = n->in[0]->shape, k = n->in[1]->shape, v = n->in[2]->shape;
    int heads = n->a.attention.heads;
    char a[128], b[128], c[128];
    if (q.rank != 3 || k.rank != 3 || !shape_equal(k, v) || q.d[0] != k.d[0] || q.d[2] != k.d[2] ||
        heads < 1 || q.d[2] % heads)
        return op_error(n, "q %s, k %s, v %s, %d heads", shape_text(q, a), shape_text(k, b), shape_text(v, c),
                        heads);
    n->shape = q;
    n->dtype = n->in[0]->dtype;
    n->n_extra = 1;
    n->extra[0].shape = SHAPE(q.d[0], heads, q.d[1]);
    n->extra[0].dtype = n->g->exact;
    return NULL;
}

static void attention_grad(node *n, node *dy, node **dx) {
    node *d =
        NODE(OP_ATTENTION_GRAD, n->a, ANY_SHAPE, n->dtype, n->in[0], n->in[1], n->in[2], n, part(n, 1), dy);
    dx[0] = d;
    dx[1] = part(d, 1);
    dx[2] = part(d, 2);
}

static double dot(const double *a, const double *b, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

static int64_t visible(const job *j, int64_t row) { return j->causal && row + 1 < j->Tk ? row + 1 : j->Tk; }

static void forward(void *arg, int64_t begin, int64_t end) {
    const job *j = arg;
    for (int64_t item = begin; item < end; item++) { // item = (b, head)
        int64_t b = item / j->heads, col = item % j->heads * j->D;
        const double *q = j->c->in[0] + b * j->Tq * j->C + col, *k = j->c->in[1] + b * j->Tk * j->C + col;
        const double *v = j->c->in[2] + b * j->Tk * j->C + col;
        double *o = j->c->out[0] + b * j->Tq * j->C + col, *lse = j->c->out[1] + item * j->Tq;
        for (int64_t r = 0; r < j->Tq; r++) {
            double top = -INFINITY, sum = 0;
            int64_t n = visible(j, r);
            for (int64_t t = 0; t < n; t++) top = fmax(top, j->scale * dot(q + r * j->C, k + t * j->C, j->D));
            for (int64_t i = 0; i < j->D; i++) o[r * j->C + i] = 0;
            for (int64_t t = 0; t < n; t++) {
                double p = exp(j->scale * dot(q + r * j->C, k + t * j->C, j->D) - top);
                sum += p;
                for (int64_t i = 0; i < j->D; i++) o[r * j->C + i] += p * v[t * j->C + i];
            }
            for (int64_t i = 0; i < j->D; i++) o[r * j->C + i] /= sum;
            lse[r] = top + log(sum);
        }
    }
}

static void attention_ref(const ref_call *c) {
    job j = job_of(c, c->n->in[0]->shape, c->n->in[1]->shape);
    parallel_for(c->team, c->n->shape.d[0] * j.heads, 1, forward, &j);
}

static double attention_flops(const node *n) {
    shape q = n->in[0]->shape, k = n->in[1]->shape;
    return 4.0 * (double)(q.d[0] * q.d[1] * q.d[2]) * (double)k.d[1];
}

const op OP_ATTENTION = {.name = "attention",
                         .attrs_bytes = sizeof(((attrs *)0)->attention),
                         .infer = attention_infer,
                         .grad = attention_grad,
                         .ref = attention_ref,
                         .flops = attention_flops};

node *attention(node *q, node *k, node *v, int heads, double scale, bool causal) {
    return NODE(OP_ATTENTION, ((attrs){.attention = {scale, heads, causal}}), ANY_SHAPE, q->dtype, q, k, v);
}

// ---- gradient: inputs q, k, v, o, lse, do; results dq, dk, dv

static const char *grad_infer(node *n) {
    same_as_first(n);
    n->n_extra = 2;
    for (int i = 0; i < 2; i++) {
        n->extra[i].shape = n->in[1 + i]->shape;
        n->extra[i].dtype = n->in[1 + i]->dtype;
    }
    return NULL;
}

// p = exp(scale·q·k − lse), δ = do·o:  dv += p·do,  ds = p·(do·v − δ),  dq += scale·ds·k,  dk += scale·ds·q
static void backward(void *arg, int64_t begin, int64_t end) {
    const job *j = arg;
    for (int64_t item = begin; item < end; item++) {
        int64_t b = item / j->heads, col = item % j->heads * j->D, C = j->C;
        int64_t atq = b * j->Tq * C + col, atk = b * j->Tk * C + col;
        const double *q = j->c->in[0] + atq, *k = j->c->in[1] + atk, *v = j->c->in[2] + atk,
                     *o = j->c->in[3] + atq;
        const double *lse = j->c->in[4] + item * j->Tq, *dy = j->c->in[5] + atq;
        double *dq = j->c->out[0] + atq, *dk = j->c->out[1] + atk, *dv = j->c->out[2] + atk;
        for (int64_t t = 0; t < j->Tk; t++)
            for (int64_t i = 0; i < j->D; i++) dk[t * C + i] = dv[t * C + i] = 0;
        for (int64_t r = 0; r < j->Tq; r++) {
            double delta = dot(dy + r * C, o + r * C, j->D);
            for (int64_t i = 0; i < j->D; i++) dq[r * C + i] = 0;
            for (int64_t t = 0, n = visible(j, r); t < n; t++) {
                double p = exp(j->scale * dot(q + r * C, k + t * C, j->D) - lse[r]);
                double ds = j->scale * p * (dot(dy + r * C, v + t * C, j->D) - delta);
                for (int64_t i = 0; i < j->D; i++) {
                    dv[t * C + i] += p * dy[r * C + i];
                    dq[r * C + i] += ds * k[t * C + i];
                    dk[t * C + i] += ds * q[r * C + i];
                }
            }
        }
    }
}

static void attention_grad_ref(const ref_call *c) {
    job j = job_of(c, c->n->in[0]->shape, c->n->in[1]->shape);
    parallel_for(c->team, c->n->shape.d[0] * j.heads, 1, backward, &j);
}

static double attention_grad_flops(const node *n) { return 2.5 * attention_flops(n); }

const op OP_ATTENTION_GRAD = {.name = "attention_grad",
                              .attrs_bytes = sizeof(((attrs *)0)->attention),
                              .infer = grad_infer,
                              .ref = attention_grad_ref,
                              .flops = attention_grad_flops,
                              .measure = MEASURE_LARGEST};
