// Attention against its definition in double, on every instruction set this CPU has.
#include "core/base/mem.h"
#include "core/cpu/attention.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

// One problem: inputs as the kernel sees them (already rounded to the tensor's type), outputs of both sides.
typedef struct {
    attention_desc d;
    int64_t nq, nk; // elements of q-like and k-like tensors, strides included
    void *q, *k, *v, *o, *dout, *dq, *dk, *dv;
    float *lse;
    double *o_ref, *lse_ref, *dq_ref, *dk_ref, *dv_ref;
} problem;

static uint32_t seed = 1;
static double uniform(void) { // [-1, 1)
    seed = seed * 1664525u + 1013904223u;
    return (int32_t)seed / 2147483648.0;
}

static int64_t rnd(int64_t n) { return (int64_t)((uniform() + 1) / 2 * (double)n); }

static double get(const problem *p, const void *t, int64_t i) {
    return p->d.t == DT_F32 ? ((const float *)t)[i] : bf16_to_f32(((const uint16_t *)t)[i]);
}

static void *random_tensor(const problem *p, int64_t n, double size) {
    void *t = mem_calloc((size_t)n, 4);
    for (int64_t i = 0; i < n; i++) {
        float x = (float)(size * (uniform() + uniform() + uniform()));
        if (p->d.t == DT_F32)
            ((float *)t)[i] = x;
        else
            ((uint16_t *)t)[i] = f32_to_bf16(x);
    }
    return t;
}

// All tensors share one stride a side: ldq = ldo, ldk = ldv.
static problem problem_new(attention_desc d, double size) {
    problem p = {.d = d};
    p.nq = d.B * d.Tq * d.ldq;
    p.nk = d.B * d.Tk * d.ldk;
    p.q = random_tensor(&p, p.nq, size);
    p.k = random_tensor(&p, p.nk, size);
    p.v = random_tensor(&p, p.nk, 1);
    p.dout = random_tensor(&p, p.nq, 1);
    p.o = mem_calloc((size_t)p.nq, 4);
    p.dq = mem_calloc((size_t)p.nq, 4);
    p.dk = mem_calloc((size_t)p.nk, 4);
    p.dv = mem_calloc((size_t)p.nk, 4);
    p.lse = mem_calloc((size_t)(d.B * d.heads * d.Tq), 4);
    p.o_ref = mem_calloc((size_t)p.nq, 8);
    p.dq_ref = mem_calloc((size_t)p.nq, 8);
    p.dk_ref = mem_calloc((size_t)p.nk, 8);
    p.dv_ref = mem_calloc((size_t)p.nk, 8);
    p.lse_ref = mem_calloc((size_t)(d.B * d.heads * d.Tq), 8);
    return p;
}

static void problem_free(problem *p) {
    void *all[] = {p->q,  p->k,   p->v,     p->o,       p->dout,   p->dq,     p->dk,
                   p->dv, p->lse, p->o_ref, p->lse_ref, p->dq_ref, p->dk_ref, p->dv_ref};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

static void reference_query(problem *p, int64_t b, int64_t h, int64_t i, double *w, double *dw) {
    const attention_desc *d = &p->d;
    int64_t q = (b * d->Tq + i) * d->ldq + h * d->D, n = d->causal && i + 1 < d->Tk ? i + 1 : d->Tk;
    double top = -INFINITY, sum = 0, mean = 0;
    for (int64_t j = 0; j < n; j++) {
        int64_t k = (b * d->Tk + j) * d->ldk + h * d->D;
        w[j] = dw[j] = 0;
        for (int64_t c = 0; c < d->D; c++) w[j] += d->scale * get(p, p->q, q + c) * get(p, p->k, k + c);
        for (int64_t c = 0; c < d->D; c++) dw[j] += get(p, p->dout, q + c) * get(p, p->v, k + c);
        top = fmax(top, w[j]);
    }
    for (int64_t j = 0; j < n; j++) sum += w[j] = exp(w[j] - top);
    for (int64_t j = 0; j < n; j++) mean += (w[j] /= sum) * dw[j];
    p->lse_ref[(b * d->heads + h) * d->Tq + i] = top + log(sum);
    for (int64_t j = 0; j < n; j++) {
        int64_t k = (b * d->Tk + j) * d->ldk + h * d->D;
        double ds = w[j] * (dw[j] - mean) * d->scale;
        for (int64_t c = 0; c < d->D; c++) {
            p->o_ref[q + c] += w[j] * get(p, p->v, k + c);
            p->dv_ref[k + c] += w[j] * get(p, p->dout, q + c);
            p->dq_ref[q + c] += ds * get(p, p->k, k + c);
            p->dk_ref[k + c] += ds * get(p, p->q, q + c);
        }
    }
}

static void reference(problem *p) {
    double *w = mem_calloc((size_t)p->d.Tk, 8), *dw = mem_calloc((size_t)p->d.Tk, 8);
    for (int64_t b = 0; b < p->d.B; b++)
        for (int64_t h = 0; h < p->d.heads; h++)
            for (int64_t i = 0; i < p->d.Tq; i++) reference_query(p, b, h, i, w, dw);
    mem_free(w);
    mem_free(dw);
}

static void run(problem *p, int threads, bool backward) {
    team *t = team_new(threads);
    void *scratch = mem_alloc(attention_scratch_bytes(&p->d, threads, false));
    attention_forward(t, &p->d, p->q, p->k, p->v, p->o, p->lse, scratch);
    mem_free(scratch);
    if (backward) {
        scratch = mem_alloc(attention_scratch_bytes(&p->d, threads, true));
        attention_backward(t, &p->d, p->q, p->k, p->v, p->o, p->lse, p->dout, p->dq, p->dk, p->dv, scratch);
        mem_free(scratch);
    }
    team_free(t);
}

static double relative_l2(const problem *p, const void *got, const double *want, int64_t n) {
    double e = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = get(p, got, i) - want[i];
        e += x * x;
        norm += want[i] * want[i];
    }
    return norm > 0 ? sqrt(e / norm) : sqrt(e);
}

static void check(const char *what, const problem *p, double e, double limit) {
    const attention_desc *d = &p->d;
    cr_assert(e <= limit,
              "%s: error %.2e > %.2e (level %d, %s, B %d, heads %d, Tq %d, Tk %d, D %d, ld %d %d, causal %d)",
              what, e, limit, d->limit, dtype_name(d->t), (int)d->B, (int)d->heads, (int)d->Tq, (int)d->Tk,
              (int)d->D, (int)d->ldq, (int)d->ldk, d->causal);
}

static double lse_error(const problem *p) {
    double worst = 0;
    for (int64_t i = 0; i < p->d.B * p->d.heads * p->d.Tq; i++)
        worst = fmax(worst, fabs(p->lse[i] - p->lse_ref[i]) / (1 + fabs(p->lse_ref[i])));
    return worst;
}

// bf16 rounds by up to 2⁻⁹; P, dS and the result are rounded, and where terms cancel (dq, dk) their errors do
// not.
static void check_problem(problem *p, bool backward) {
    bool f32 = p->d.t == DT_F32;
    run(p, 2, backward);
    check("o", p, relative_l2(p, p->o, p->o_ref, p->nq), f32 ? 2e-6 : 6e-3);
    check("lse", p, lse_error(p), f32 ? 2e-6 : 7.5e-5); // bf16: its shorter 2^x
    if (!backward) return;
    check("dv", p, relative_l2(p, p->dv, p->dv_ref, p->nk), f32 ? 4e-6 : 8e-3);
    check("dq", p, relative_l2(p, p->dq, p->dq_ref, p->nq), f32 ? 1e-5 : 1.6e-2);
    check("dk", p, relative_l2(p, p->dk, p->dk_ref, p->nk), f32 ? 1e-5 : 1.6e-2);
}

static attention_desc shape(dtype t, int64_t B, int64_t heads, int64_t Tq, int64_t Tk, int64_t D,
                            bool causal) {
    return (attention_desc){.t = t,
                            .B = B,
                            .heads = heads,
                            .Tq = Tq,
                            .Tk = Tk,
                            .D = D,
                            .scale = 1 / sqrtf((float)D),
                            .causal = causal,
                            .ldq = heads * D,
                            .ldk = heads * D,
                            .ldv = heads * D,
                            .ldo = heads * D};
}

static void check_everywhere(attention_desc d, double size) {
    cpu_level best = attention_level(d.t, CPU_BEST);
    problem p = problem_new(d, size);
    reference(&p);
    for (cpu_level level = CPU_BASE; level <= best; level++) {
        p.d.limit = level;
        check_problem(&p, true);
    }
    problem_free(&p);
}

Test(attention, shapes_of_the_models) {
    static const int64_t s[][5] = {// B heads Tq Tk D
                                   {1, 2, 64, 64, 8},    {2, 2, 256, 256, 32}, {1, 1, 300, 300, 40},
                                   {1, 2, 100, 77, 64},  {1, 2, 128, 24, 80},  {1, 1, 64, 130, 160},
                                   {1, 1, 70, 140, 512}, {2, 3, 1, 77, 24},    {1, 2, 77, 1, 5},
                                   {1, 1, 1, 1, 1},      {1, 1, 33, 2500, 20}};
    for (size_t i = 0; i < sizeof s / sizeof *s; i++)
        for (int t = 0; t < 2; t++)
            check_everywhere(shape(t ? DT_BF16 : DT_F32, s[i][0], s[i][1], s[i][2], s[i][3], s[i][4], i == 1),
                             1);
}

Test(attention, random_shapes_and_strides) {
    for (int i = 0; i < 40; i++) {
        attention_desc d = shape(i % 2 ? DT_BF16 : DT_F32, 1 + rnd(3), 1 + rnd(3), 1 + rnd(200), 1 + rnd(300),
                                 1 + rnd(90), i % 3 == 0);
        d.ldq = d.ldo = d.ldq + rnd(3) * 7;
        d.ldk = d.ldv = d.ldk + rnd(3) * 5;
        check_everywhere(d, 1);
    }
}

// Cross attention reads q from one product and k, v side by side from another.
Test(attention, each_tensor_has_its_own_stride) {
    for (int t = 0; t < 2; t++) {
        attention_desc d = shape(t ? DT_BF16 : DT_F32, 2, 2, 50, 30, 24, false);
        problem p = problem_new(d, 1);
        run(&p, 1, true);
        attention_desc e = d;
        e.ldq = 3 * d.ldq, e.ldk = 2 * d.ldk, e.ldv = 2 * d.ldk + 6, e.ldo = d.ldo + 2;
        void *in[] = {p.q, p.k, p.v, p.o, p.dout, p.dq, p.dk, p.dv}, *wide[8];
        int64_t from[] = {d.ldq, d.ldk, d.ldv, d.ldo, d.ldo, d.ldq, d.ldk, d.ldv};
        int64_t to[] = {e.ldq, e.ldk, e.ldv, e.ldo, e.ldo, e.ldq, e.ldk, e.ldv};
        size_t size = dtype_size(d.t);
        for (int i = 0; i < 8; i++) {
            int64_t rows = from[i] == d.ldk && (i == 1 || i == 2 || i > 5) ? d.B * d.Tk : d.B * d.Tq;
            wide[i] = mem_calloc((size_t)(rows * to[i]), size);
            for (int64_t r = 0; r < rows && i != 3 && i < 5; r++)
                memcpy((char *)wide[i] + (size_t)(r * to[i]) * size,
                       (char *)in[i] + (size_t)(r * from[i]) * size, (size_t)from[i] * size);
        }
        void *scratch = mem_alloc(attention_scratch_bytes(&e, 1, false));
        attention_forward(NULL, &e, wide[0], wide[1], wide[2], wide[3], p.lse, scratch);
        mem_free(scratch);
        scratch = mem_alloc(attention_scratch_bytes(&e, 1, true));
        attention_backward(NULL, &e, wide[0], wide[1], wide[2], wide[3], p.lse, wide[4], wide[5], wide[6],
                           wide[7], scratch);
        mem_free(scratch);
        for (int i = 0; i < 8; i++) {
            int64_t rows = i == 1 || i == 2 || i > 5 ? d.B * d.Tk : d.B * d.Tq;
            for (int64_t r = 0; r < rows; r++)
                cr_assert_eq(memcmp((char *)wide[i] + (size_t)(r * to[i]) * size,
                                    (char *)in[i] + (size_t)(r * from[i]) * size, (size_t)from[i] * size),
                             0, "tensor %d row %d", i, (int)r);
            mem_free(wide[i]);
        }
        problem_free(&p);
    }
}

static void assert_same(const char *what, const void *a, const void *b, int64_t n, dtype t) {
    cr_assert_eq(memcmp(a, b, (size_t)n * dtype_size(t)), 0, "%s differs", what);
}

// Bits must not depend on the team, nor on the samples beside one. 2500 keys are several chunks of the
// gradient.
Test(attention, bits_do_not_depend_on_threads_or_batch) {
    for (int t = 0; t < 2; t++)
        for (cpu_level level = CPU_BASE; level <= attention_level(DT_BF16, CPU_BEST); level++) {
            dtype type = t ? DT_BF16 : DT_F32;
            attention_desc d = shape(type, 4, 2, 130, 2500, 20, false);
            d.limit = level;
            problem one = problem_new(d, 1);
            run(&one, 1, true);
            for (int threads = 2; threads <= 3; threads++) {
                problem p = problem_new(d, 1);
                mem_free(p.q), mem_free(p.k), mem_free(p.v), mem_free(p.dout);
                p.q = one.q, p.k = one.k, p.v = one.v, p.dout = one.dout;
                run(&p, threads, true);
                assert_same("o", p.o, one.o, p.nq, type);
                assert_same("lse", p.lse, one.lse, d.B * d.heads * d.Tq, DT_F32);
                assert_same("dq", p.dq, one.dq, p.nq, type);
                assert_same("dk", p.dk, one.dk, p.nk, type);
                assert_same("dv", p.dv, one.dv, p.nk, type);
                p.q = p.k = p.v = p.dout = NULL;
                problem_free(&p);
            }
            problem p = one; // its third sample alone
            size_t q = (size_t)(2 * d.Tq * d.ldq) * dtype_size(type),
                   k = (size_t)(2 * d.Tk * d.ldk) * dtype_size(type);
            p.d.B = 1;
            p.q = (char *)one.q + q, p.dout = (char *)one.dout + q, p.k = (char *)one.k + k,
            p.v = (char *)one.v + k;
            p.o = mem_calloc((size_t)one.nq, 4), p.dq = mem_calloc((size_t)one.nq, 4);
            p.dk = mem_calloc((size_t)one.nk, 4), p.dv = mem_calloc((size_t)one.nk, 4);
            run(&p, 2, true);
            assert_same("o", p.o, (char *)one.o + q, one.nq / 4, type);
            assert_same("dq", p.dq, (char *)one.dq + q, one.nq / 4, type);
            assert_same("dk", p.dk, (char *)one.dk + k, one.nk / 4, type);
            assert_same("dv", p.dv, (char *)one.dv + k, one.nk / 4, type);
            mem_free(p.o), mem_free(p.dq), mem_free(p.dk), mem_free(p.dv);
            problem_free(&one);
        }
}

// Scores of ±1e4 and, with rising keys, a maximum that must be raised again and again. An f32 score of 1e4 is
// off by some 1e-3, and its weight with it.
Test(attention, large_scores) {
    for (int rising = 0; rising < 2; rising++)
        for (int causal = 0; causal < 2; causal++) {
            attention_desc d = shape(DT_F32, 1, 2, 90, 400, 16, causal);
            problem p = problem_new(d, 60);
            for (int64_t j = 0; rising && j < d.Tk; j++)
                for (int64_t c = 0; c < d.ldk; c++) ((float *)p.k)[j * d.ldk + c] = (float)j;
            for (int64_t i = 0; rising && i < p.nq; i++) ((float *)p.q)[i] = fabsf(((float *)p.q)[i]) / 20;
            reference(&p);
            for (cpu_level level = CPU_BASE; level <= attention_level(DT_F32, CPU_BEST); level++) {
                p.d.limit = level;
                run(&p, 2, true);
                check("o", &p, relative_l2(&p, p.o, p.o_ref, p.nq), 2e-3);
                check("lse", &p, lse_error(&p), 2e-6); // the dot product, its scale and back: 20 roundings
                check("dv", &p, relative_l2(&p, p.dv, p.dv_ref, p.nk), 2e-3);
                for (int64_t i = 0; i < p.nq; i++) cr_assert(isfinite(get(&p, p.dq, i)));
                for (int64_t i = 0; i < p.nk; i++) cr_assert(isfinite(get(&p, p.dk, i)));
            }
            problem_free(&p);
        }
}

// −∞ in a key hides it from every query with positive components; nothing else may notice.
Test(attention, a_key_of_minus_infinity_is_hidden) {
    attention_desc d = shape(DT_F32, 1, 1, 70, 150, 8, false);
    problem p = problem_new(d, 1);
    for (int64_t i = 0; i < p.nq; i++) ((float *)p.q)[i] = fabsf(((float *)p.q)[i]) + 0.1f;
    for (int64_t c = 0; c < d.D; c++) ((float *)p.k)[100 * d.ldk + c] = -1e30f;
    reference(&p);
    for (int64_t c = 0; c < d.D; c++) ((float *)p.k)[100 * d.ldk + c] = -INFINITY;
    for (cpu_level level = CPU_BASE; level <= attention_level(DT_F32, CPU_BEST); level++) {
        p.d.limit = level;
        run(&p, 1, false);
        check("o", &p, relative_l2(&p, p.o, p.o_ref, p.nq), 2e-6);
    }
    problem_free(&p);
}

Test(attention, a_limit_is_never_exceeded) {
    for (cpu_level limit = CPU_BASE; limit <= CPU_AVX512_BF16; limit++) {
        cr_assert_leq(attention_level(DT_BF16, limit), limit);
        cr_assert_leq(attention_level(DT_F32, limit), CPU_AVX512);
    }
    cr_assert_eq(attention_level(DT_F32, CPU_BASE), CPU_BASE);
}
