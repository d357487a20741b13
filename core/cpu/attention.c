#include "core/cpu/attention.h"
#include "core/cpu/attention_isa.h"

cpu_level attention_level(dtype t, cpu_level limit) {
    cpu_level level = cpu_level_within(limit);
    return t != DT_BF16 && level > CPU_AVX512 ? CPU_AVX512 : level;
}

static const attention_kernels *kernels(const attention_desc *d) {
#ifdef __x86_64__
    switch (attention_level(d->t, d->limit)) {
    case CPU_AVX512_BF16:
        return &attention_avx512bf16;
    case CPU_AVX512:
        return &attention_avx512;
    case CPU_AVX2:
        return &attention_avx2;
    default:
        break;
    }
#else
    (void)d;
#endif
    return &attention_portable;
}

// Long key sequences are cut in the backward pass, so that one head is work for several threads. The cut
// depends on Tk alone: it orders the sums of dq, which therefore do not know the batch or the team.
enum { CHUNK_KEYS = 1024, MAX_CHUNKS = 4 };

static int64_t chunk_count(const attention_desc *d) {
    int64_t n = (d->Tk + CHUNK_KEYS - 1) / CHUNK_KEYS;
    return n < MAX_CHUNKS ? n : MAX_CHUNKS;
}

static int64_t chunk_keys(const attention_desc *d) {
    int64_t n = chunk_count(d);
    return ((d->Tk + n - 1) / n + 1) & ~(int64_t)1;
}

static int64_t partial_bytes(const attention_desc *d) {
    int64_t n = chunk_count(d);
    return n == 1 ? 0 : (n * d->B * d->heads * d->Tq * d->D * 4 + 63) & ~(int64_t)63;
}

size_t attention_scratch_bytes(const attention_desc *d, int threads, bool backward) {
    const attention_kernels *k = kernels(d);
    if (threads < 1) threads = 1;
    int64_t shared = backward ? partial_bytes(d) : d->B * d->heads * k->pack_bytes(d);
    int64_t lane = backward ? k->backward_lane_bytes(d, chunk_keys(d)) : k->forward_lane_bytes(d);
    return (size_t)(shared + threads * lane);
}

// A lane is a thread's share of the scratch.
typedef struct {
    const attention_args *a;
    const attention_kernels *k;
    int64_t per_head; // items of one head
    void (*run)(const attention_args *a, const attention_kernels *k, int64_t head, int64_t part, float *lane);
    char *lanes;
    int64_t lane_bytes;
} pass;

static void run_item(void *arg, int64_t item, int64_t lane) {
    const pass *p = arg;
    float *own = p->lane_bytes ? (float *)(p->lanes + lane * p->lane_bytes) : NULL;
    p->run(p->a, p->k, item / p->per_head, item % p->per_head, own);
}

static void run_pass(team *threads, pass *p) {
    parallel_items(threads, p->a->d.B * p->a->d.heads * p->per_head, run_item, p);
}

enum { PACK_KEYS = 256 };

static void run_pack(const attention_args *a, const attention_kernels *k, int64_t head, int64_t part,
                     float *lane) {
    (void)lane;
    int64_t k0 = part * PACK_KEYS, k1 = k0 + PACK_KEYS;
    k->pack(a, head, k0, k1 < a->d.Tk ? k1 : a->d.Tk);
}

static void run_forward(const attention_args *a, const attention_kernels *k, int64_t head, int64_t part,
                        float *lane) {
    k->forward(a, head, part * k->queries, lane);
}

void attention_forward(team *threads, const attention_desc *d, const void *q, const void *k, const void *v,
                       void *o, float *lse, void *scratch) {
    const attention_kernels *kern = kernels(d);
    attention_args a = {.d = *d, .q = q, .k = k, .v = v, .out = o, .lse = lse, .packed = scratch};
    pass pack = {.a = &a, .k = kern, .run = run_pack, .per_head = (d->Tk + PACK_KEYS - 1) / PACK_KEYS};
    run_pass(threads, &pack);
    pass p = {.a = &a,
              .k = kern,
              .run = run_forward,
              .per_head = (d->Tq + kern->queries - 1) / kern->queries,
              .lanes = (char *)scratch + d->B * d->heads * kern->pack_bytes(d),
              .lane_bytes = kern->forward_lane_bytes(d)};
    run_pass(threads, &p);
}

static void run_backward(const attention_args *a, const attention_kernels *k, int64_t head, int64_t part,
                         float *lane) {
    int64_t n = chunk_keys(&a->d), k0 = part * n, k1 = k0 + n;
    if (k0 < a->d.Tk) k->backward(a, head, part, k0, k1 < a->d.Tk ? k1 : a->d.Tk, lane);
}

// dq of query rows [begin, end), counted over B·heads·Tq: the sum of the chunks' parts, in their order.
static void sum_partials(void *arg, int64_t begin, int64_t end) {
    const attention_args *a = arg;
    const attention_desc *d = &a->d;
    int64_t all = d->B * d->heads * d->Tq * d->D;
    for (int64_t r = begin; r < end; r++) {
        int64_t head = r / d->Tq, b = head / d->heads, row = b * d->Tq + r % d->Tq;
        int64_t at = row * d->ldq + head % d->heads * d->D;
        for (int64_t i = 0; i < d->D; i++) {
            float sum = 0;
            for (int64_t c = 0; c < a->chunks; c++) sum += a->dq_partial[c * all + r * d->D + i];
            if (d->t == DT_F32)
                ((float *)a->dq)[at + i] = sum;
            else
                ((uint16_t *)a->dq)[at + i] = f32_to_bf16(sum);
        }
    }
}

void attention_backward(team *threads, const attention_desc *d, const void *q, const void *k, const void *v,
                        const void *o, const float *lse, const void *dout, void *dq, void *dk, void *dv,
                        void *scratch) {
    const attention_kernels *kern = kernels(d);
    int64_t n = chunk_keys(d);
    attention_args a = {.d = *d,
                        .q = q,
                        .k = k,
                        .v = v,
                        .o = o,
                        .dout = dout,
                        .dq = dq,
                        .dk = dk,
                        .dv = dv,
                        .lse_in = lse,
                        .dq_partial = scratch,
                        .chunks = (d->Tk + n - 1) / n};
    pass p = {.a = &a,
              .k = kern,
              .run = run_backward,
              .per_head = a.chunks,
              .lanes = (char *)scratch + partial_bytes(d),
              .lane_bytes = kern->backward_lane_bytes(d, n)};
    run_pass(threads, &p);
    if (a.chunks > 1) parallel_for(threads, d->B * d->heads * d->Tq, 64, sum_partials, &a);
}
