// The reference backend: inputs become doubles, the op's reference runs, results are rounded once.
#include "core/graph/backend.h"
#include "core/graph/op.h"

#include "core/base/mem.h"

typedef struct {
    kernel k;
    const node *n;
} reference;

typedef struct {
    shape shape;
    dtype dtype;
} output;

static output output_of(const node *n, int k) {
    return k ? (output){n->extra[k - 1].shape, n->extra[k - 1].dtype} : (output){n->shape, n->dtype};
}

static status run(const kernel *k, const kernel_io *io, error *err) {
    (void)err;
    const node *n = ((const reference *)k)->n;
    ref_call call = {.n = n, .team = io->team};
    double *room = io->scratch;
    for (int i = 0; i < n->n_in; i++) {
        if (!n->in[i]) continue;
        size_t count = (size_t)shape_count(n->in[i]->shape);
        dtype_to_f64(n->in[i]->dtype, io->in[i], room, count);
        call.in[i] = room;
        room += count;
    }
    for (int i = 0; i <= n->n_extra; i++) {
        call.out[i] = room;
        room += shape_count(output_of(n, i).shape);
    }
    n->op->ref(&call);
    for (int i = 0; i <= n->n_extra; i++) {
        output o = output_of(n, i);
        dtype_from_f64(o.dtype, call.out[i], io->out[i], (size_t)shape_count(o.shape));
    }
    return OK;
}

static void free_reference(kernel *k) { mem_free(k); }

kernel *reference_kernel(const node *n, error *err) {
    reference *r = mem_calloc(1, sizeof *r);
    if (!r) return fail(err, ERR_TEMP, "out of memory"), NULL;
    if (!n->op->ref) return mem_free(r), fail(err, ERR_INTERNAL, "%s has no reference", n->op->name), NULL;
    *r = (reference){.k = {.name = "reference", .run = run, .free = free_reference}, .n = n};
    int64_t doubles = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) doubles += shape_count(n->in[i]->shape);
    for (int i = 0; i <= n->n_extra; i++) doubles += shape_count(output_of(n, i).shape);
    r->k.scratch = (size_t)doubles * sizeof(double);
    return &r->k;
}

static kernel *prepare(const backend *self, const node *n, bool weight_operand, error *err) {
    (void)self;
    (void)weight_operand;
    return reference_kernel(n, err);
}

static void free_backend(backend *b) { mem_free(b); }

backend *reference_backend(struct team *team) {
    backend *b = mem_calloc(1, sizeof *b);
    if (b) *b = (backend){.name = "reference", .team = team, .prepare = prepare, .free = free_backend};
    return b;
}

void kernel_free(kernel *k) {
    if (k) k->free(k);
}

void backend_free(backend *b) {
    if (b) b->free(b);
}
