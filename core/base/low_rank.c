#include "core/base/low_rank.h"

#include "core/base/mem.h"
#include "core/base/rng.h"

#include <math.h>
#include <string.h>

#if CALO_LAPACK
#include <lapacke.h>
#undef I // of complex.h

// More columns than asked for, and rounds: what lies below the last value asked for falls by the 13th power
// of its ratio to what lies past the last column.
enum { MORE = 16, ROUNDS = 6, SEED = 1, GRAIN = 16 };

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// Y [n,K] = A X, X [m,K], of a matrix A [n,m] whose elements lie `row` and `column` apart.
typedef struct {
    const double *A;
    int64_t n, m, K, row, column;
    const double *X;
    double *Y;
} product;

// Some rows of Y at a time, so that X is read once for all of them. Earns its place beside BLAS, whose
// reference library is what Debian installs: that took 37 s for one Gram matrix half as wide as SD1.5's
// largest convolution, where this loop is through with the whole convolution (1280×11520, rank 32) in 8 s.
static void multiply_rows(void *arg, int64_t begin, int64_t end) {
    const product *p = arg;
    memset(p->Y + begin * p->K, 0, (size_t)((end - begin) * p->K) * sizeof *p->Y);
    for (int64_t j = 0; j < p->m; j++)
        for (int64_t i = begin; i < end; i++) {
            const double a = p->A[i * p->row + j * p->column], *x = p->X + j * p->K;
            double *y = p->Y + i * p->K;
            for (int64_t k = 0; k < p->K; k++) y[k] += a * x[k];
        }
}

// The columns of A [n,K], n ≥ K, become orthonormal.
static status orthonormalise(double *A, int64_t n, int64_t K, double *tau, error *err) {
    lapack_int failed = LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, (lapack_int)n, (lapack_int)K, A, (lapack_int)K, tau);
    if (!failed)
        failed = LAPACKE_dorgqr(LAPACK_ROW_MAJOR, (lapack_int)n, (lapack_int)K, (lapack_int)K, A,
                                (lapack_int)K, tau);
    return failed ? no_memory(err) : OK;
}

typedef struct {
    const double *D;
    int64_t O, I, K;
    team *t;
    double *left, *right;    // [O,K], [I,K]
    double *tau, *sigma, *V; // [K], [K], [K,K]
    double *U;               // [I,K]
} space;

static void multiply_by_right(space *s) {
    product p = {s->D, s->O, s->I, s->K, s->I, 1, s->right, s->left};
    parallel_for(s->t, s->O, GRAIN, multiply_rows, &p);
}

static void multiply_by_left(space *s) {
    product p = {s->D, s->I, s->O, s->K, 1, s->I, s->left, s->right};
    parallel_for(s->t, s->I, GRAIN, multiply_rows, &p);
}

// left: orthonormal columns that span what D's largest singular values act on; right = Dᵀ·left.
static status iterate(space *s, error *err) {
    for (int round = 0; round <= ROUNDS; round++) {
        multiply_by_right(s);
        TRY(orthonormalise(s->left, s->O, s->K, s->tau, err));
        multiply_by_left(s);
        if (round < ROUNDS) TRY(orthonormalise(s->right, s->I, s->K, s->tau, err));
    }
    return OK;
}

// right = U·diag(sigma)·V, so D ≈ left·Vᵀ·diag(sigma)·Uᵀ.
static status decompose(space *s, error *err) {
    lapack_int K = (lapack_int)s->K, failed = LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)s->I, K,
                                                             s->right, K, s->sigma, s->U, K, s->V, K);
    if (failed > 0) return fail(err, ERR_DATA, "the singular values of a difference were not found");
    return failed ? no_memory(err) : OK;
}

static void split(const space *s, int R, double *up, double *down, double *sigma) {
    for (int r = 0; r < R; r++) {
        double root = sqrt(s->sigma[r]);
        sigma[r] = s->sigma[r];
        for (int64_t i = 0; i < s->I; i++) down[r * s->I + i] = root * s->U[i * s->K + r];
        for (int64_t o = 0; o < s->O; o++) {
            double sum = 0;
            for (int64_t k = 0; k < s->K; k++) sum += s->left[o * s->K + k] * s->V[r * s->K + k];
            up[o * R + r] = root * sum;
        }
    }
}

static status begin(space *s, error *err) {
    size_t O = (size_t)s->O, I = (size_t)s->I, K = (size_t)s->K;
    float *noise = mem_calloc(I * K, sizeof *noise);
    mt19937 from;
    s->left = mem_calloc(O * K, sizeof(double));
    s->right = mem_calloc(I * K, sizeof(double));
    s->tau = mem_calloc(K, sizeof(double));
    s->sigma = mem_calloc(K, sizeof(double));
    s->V = mem_calloc(K * K, sizeof(double));
    s->U = mem_calloc(I * K, sizeof(double));
    bool room = noise && s->left && s->right && s->tau && s->sigma && s->V && s->U;
    mt_seed(&from, SEED);
    if (room) mt_normal(&from, noise, I * K);
    for (size_t i = 0; room && i < I * K; i++) s->right[i] = noise[i];
    mem_free(noise);
    return room ? OK : no_memory(err);
}

static void finish(space *s) {
    double *all[] = {s->left, s->right, s->tau, s->sigma, s->V, s->U};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

bool low_rank_available(void) { return true; }

status low_rank(const double *D, int64_t O, int64_t I, int R, double *up, double *down, double *sigma,
                team *t, error *err) {
    int64_t least = O < I ? O : I;
    space s = {.D = D, .O = O, .I = I, .K = R + MORE < least ? R + MORE : least, .t = t};
    status st = begin(&s, err);
    if (!st) st = iterate(&s, err);
    if (!st) st = decompose(&s, err);
    if (!st) split(&s, R, up, down, sigma);
    finish(&s);
    return st;
}

#else

bool low_rank_available(void) { return false; }

status low_rank(const double *D, int64_t O, int64_t I, int R, double *up, double *down, double *sigma,
                team *t, error *err) {
    (void)D, (void)O, (void)I, (void)R, (void)up, (void)down, (void)sigma, (void)t;
    return fail(err, ERR_USAGE, "this calotype was built without LAPACK, which singular values need");
}

#endif
