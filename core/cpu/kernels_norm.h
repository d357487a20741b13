// Part of kernels_tmpl.c: group norm and layer norm with their gradients.

// ---- Group norm -------------------------------------------------------------------------------------------
// The S rows of a sample are cut into chunks of NORM_ROWS. A chunk gives two numbers for each channel, taken
// along the rows, so that memory is read in order whatever C/G is; chunks and channels are merged in double.
// A sample that fits the cache goes through all passes in one task, larger ones pass by pass with all
// threads: the arithmetic is the same.

typedef struct {
    dtype t;
    const void *x, *dy;
    void *y; // dx in the gradient
    const float *gamma, *beta;
    float *stats, *dgamma, *dbeta;
    int64_t B, S, C, G, chunks;
    float eps;
    bool silu;
    char *scratch;
} group_job;

// What one sample keeps in scratch; each array has C values.
typedef struct {
    double *sum[2]; // gradient: Σ dz and Σ dz·x̂ over the rows; forward: mean and Σ(x − mean)²
    float *mean, *rstd, *gamma, *beta; // of each channel, NULL parameters filled in
    float *k0, *k1;                    // gradient: the group's means of dx̂ and dx̂·x̂
    float *part;                       // [chunks][2][C]
} group_space;

static group_space space_of(const group_job *j, int64_t b) {
    char *p = j->scratch + b * norm_space(j->S, j->C);
    float *f = (float *)p + 4 * j->C;
    int64_t C = j->C;
    return (group_space){
        {(double *)p, (double *)p + C}, f, f + C, f + 2 * C, f + 3 * C, f + 4 * C, f + 5 * C, f + 6 * C};
}

static int64_t chunk_rows(const group_job *j, int64_t chunk) {
    int64_t left = j->S - chunk * NORM_ROWS;
    return left < NORM_ROWS ? left : NORM_ROWS;
}

// Merges `rows` rows into the mean and Σ(x − mean)² of the n rows before them (Chan, Golub and LeVeque 1983,
// eq. 2.1). Within the rows differences are taken from the first one, so that a mean far from zero costs no
// precision.
INLINE void moment_rows(dtype t, const void *x, int64_t at, int rows, int64_t n, int64_t C, float *mean,
                        float *square) {
    vf weight = splat((float)rows / (float)(n + rows)), before = splat((float)n);
    fetch(t, x, at + rows * C, rows * C);
    LANE_LOOP(c, 0, C, {
        vf d[8], first = load_part(t, x, at + c, left), own = {0}, q = {0};
        for (int r = 1; r < rows; r++) own += d[r] = load_part(t, x, at + r * C + c, left) - first;
        own *= 1 / (float)rows;
        for (int r = 1; r < rows; r++) q += (d[r] - own) * (d[r] - own);
        q += own * own;
        vf m = load_part(DT_F32, mean, c, left), step = first + own - m;
        store_part(DT_F32, mean, c, left, m + step * weight);
        store_part(DT_F32, square, c, left,
                   load_part(DT_F32, square, c, left) + (q + step * step * weight * before));
    });
}

// mean and Σ(x − mean)² of each channel of a chunk
INLINE void group_moments(dtype t, const group_job *j, int64_t b, int64_t chunk) {
    int64_t C = j->C, n = chunk_rows(j, chunk), first = (b * j->S + chunk * NORM_ROWS) * C, r = 0;
    float *mean = space_of(j, b).part + chunk * 2 * C, *square = mean + C;
    memset(mean, 0, (size_t)C * 2 * sizeof *mean);
    for (; r + 8 <= n; r += 8) moment_rows(t, j->x, first + r * C, 8, r, C, mean, square);
    for (; r < n; r++) moment_rows(t, j->x, first + r * C, 1, r, C, mean, square);
}

static void add_scaled(double *restrict sum, const float *restrict x, double scale, int64_t n) {
    for (int64_t i = 0; i < n; i++) sum[i] += scale * x[i];
}

static void add_moments(double *restrict sum, const float *restrict square, const float *restrict mean,
                        const double *restrict centre, double n, int64_t C) {
    for (int64_t c = 0; c < C; c++) {
        double d = mean[c] - centre[c];
        sum[c] += square[c] + n * d * d;
    }
}

static void fill_parameters(const group_job *j, int64_t b, const group_space *s) {
    int64_t per = j->C / j->G;
    for (int64_t c = 0; c < j->C; c++) {
        const float *stats = j->stats + (b * j->G + c / per) * 2;
        s->mean[c] = stats[0];
        s->rstd[c] = stats[1];
        s->gamma[c] = j->gamma ? j->gamma[c] : 1;
        s->beta[c] = j->beta ? j->beta[c] : 0;
    }
}

// Merges chunks, then the channels of each group, by the same equation.
static void group_stats(const group_job *j, int64_t b) {
    group_space s = space_of(j, b);
    int64_t C = j->C, per = C / j->G;
    memset(s.sum[0], 0, (size_t)C * 2 * sizeof(double));
    for (int64_t k = 0; k < j->chunks; k++)
        add_scaled(s.sum[0], s.part + k * 2 * C, (double)chunk_rows(j, k) / (double)j->S, C);
    for (int64_t k = 0; k < j->chunks; k++)
        add_moments(s.sum[1], s.part + (k * 2 + 1) * C, s.part + k * 2 * C, s.sum[0],
                    (double)chunk_rows(j, k), C);
    for (int64_t g = 0; g < j->G; g++) {
        const double *mean = s.sum[0] + g * per, *square = s.sum[1] + g * per;
        double m = 0, q = 0;
        for (int64_t c = 0; c < per; c++) m += mean[c] / (double)per;
        for (int64_t c = 0; c < per; c++) q += square[c] + (double)j->S * (mean[c] - m) * (mean[c] - m);
        float *stats = j->stats + (b * j->G + g) * 2;
        stats[0] = (float)m;
        stats[1] = (float)(1 / sqrt(q / (double)(per * j->S) + j->eps));
    }
    fill_parameters(j, b, &s);
}

INLINE void group_apply_rows(dtype t, const group_job *j, const group_space *s, int64_t at, int rows,
                             bool silu) {
    int64_t C = j->C;
    fetch(t, j->x, at + rows * C, rows * C);
    LANE_LOOP(c, 0, C, {
        vf mean = load_part(DT_F32, s->mean, c, left), beta = load_part(DT_F32, s->beta, c, left);
        vf a = load_part(DT_F32, s->rstd, c, left) * load_part(DT_F32, s->gamma, c, left);
        for (int r = 0; r < rows; r++) {
            vf z = (load_part(t, j->x, at + r * C + c, left) - mean) * a + beta;
            store_part(t, j->y, at + r * C + c, left, silu ? vec_silu(z) : z);
        }
    });
}

INLINE void group_apply(dtype t, const group_job *j, int64_t b, int64_t chunk) {
    group_space s = space_of(j, b);
    int64_t n = chunk_rows(j, chunk), at = (b * j->S + chunk * NORM_ROWS) * j->C, r = 0;
    if (j->silu) {
        for (; r + 4 <= n; r += 4) group_apply_rows(t, j, &s, at + r * j->C, 4, true);
        for (; r < n; r++) group_apply_rows(t, j, &s, at + r * j->C, 1, true);
    } else {
        for (; r + 4 <= n; r += 4) group_apply_rows(t, j, &s, at + r * j->C, 4, false);
        for (; r < n; r++) group_apply_rows(t, j, &s, at + r * j->C, 1, false);
    }
}

INLINE vf group_xhat(dtype t, const group_job *j, const group_space *s, int64_t at, int64_t c, int64_t left) {
    return (load_part(t, j->x, at + c, left) - load_part(DT_F32, s->mean, c, left)) *
           load_part(DT_F32, s->rstd, c, left);
}

// dz = dy, or dy·silu'(z)
INLINE vf group_dz(dtype t, const group_job *j, const group_space *s, int64_t at, int64_t c, int64_t left,
                   bool silu, vf xhat) {
    vf dy = load_part(t, j->dy, at + c, left);
    if (!silu) return dy;
    return dy * silu_slope(xhat * load_part(DT_F32, s->gamma, c, left) + load_part(DT_F32, s->beta, c, left));
}

// In f32 the dz of a SiLU waits in dx for the second pass; bf16 would round it, so there it is computed
// twice.
INLINE bool group_keeps_dz(dtype t, bool silu) { return silu && t == DT_F32; }

INLINE void group_sum_rows(dtype t, const group_job *j, const group_space *s, int64_t at, int rows, bool silu,
                           float *sum, float *dot) {
    fetch(t, j->x, at + rows * j->C, rows * j->C);
    fetch(t, j->dy, at + rows * j->C, rows * j->C);
    LANE_LOOP(c, 0, j->C, {
        vf a = load_part(DT_F32, sum, c, left), d = load_part(DT_F32, dot, c, left);
        for (int r = 0; r < rows; r++) {
            vf xhat = group_xhat(t, j, s, at + r * j->C, c, left);
            vf dz = group_dz(t, j, s, at + r * j->C, c, left, silu, xhat);
            if (group_keeps_dz(t, silu)) store_part(t, j->y, at + r * j->C + c, left, dz);
            a += dz;
            d += dz * xhat;
        }
        store_part(DT_F32, sum, c, left, a);
        store_part(DT_F32, dot, c, left, d);
    });
}

// Σ dz and Σ dz·x̂ of each channel of a chunk
INLINE void group_sums(dtype t, const group_job *j, int64_t b, int64_t chunk) {
    group_space s = space_of(j, b);
    int64_t C = j->C, n = chunk_rows(j, chunk), at = (b * j->S + chunk * NORM_ROWS) * C, r = 0;
    float *sum = s.part + chunk * 2 * C, *dot = sum + C;
    memset(sum, 0, (size_t)C * 2 * sizeof *sum);
    if (j->silu) {
        for (; r + 4 <= n; r += 4) group_sum_rows(t, j, &s, at + r * C, 4, true, sum, dot);
        for (; r < n; r++) group_sum_rows(t, j, &s, at + r * C, 1, true, sum, dot);
    } else {
        for (; r + 4 <= n; r += 4) group_sum_rows(t, j, &s, at + r * C, 4, false, sum, dot);
        for (; r < n; r++) group_sum_rows(t, j, &s, at + r * C, 1, false, sum, dot);
    }
}

static void group_means(const group_job *j, int64_t b) {
    group_space s = space_of(j, b);
    int64_t C = j->C, per = C / j->G;
    memset(s.sum[0], 0, (size_t)C * 2 * sizeof(double));
    for (int64_t k = 0; k < j->chunks; k++) add_scaled(s.sum[0], s.part + k * 2 * C, 1, 2 * C); // both sums
    for (int64_t g = 0; g < j->G; g++) {
        double m0 = 0, m1 = 0, n = (double)(per * j->S);
        for (int64_t c = g * per; c < (g + 1) * per; c++) {
            m0 += s.gamma[c] * s.sum[0][c] / n;
            m1 += s.gamma[c] * s.sum[1][c] / n;
        }
        for (int64_t c = g * per; c < (g + 1) * per; c++) {
            s.k0[c] = (float)m0;
            s.k1[c] = (float)m1;
        }
    }
}

// dx = rstd·(dx̂ − mean(dx̂) − x̂·mean(dx̂·x̂)) with dx̂ = gamma·dz
INLINE void group_dx_rows(dtype t, const group_job *j, int64_t b, int64_t chunk, bool silu) {
    group_space s = space_of(j, b);
    int64_t C = j->C, n = chunk_rows(j, chunk), first = (b * j->S + chunk * NORM_ROWS) * C;
    for (int64_t at = first; at < first + n * C; at += C)
        LANE_LOOP(c, 0, C, {
            vf xhat = group_xhat(t, j, &s, at, c, left);
            vf dz = group_keeps_dz(t, silu) ? load_part(t, j->y, at + c, left)
                                            : group_dz(t, j, &s, at, c, left, silu, xhat);
            vf d = load_part(DT_F32, s.gamma, c, left) * dz - load_part(DT_F32, s.k0, c, left) -
                   xhat * load_part(DT_F32, s.k1, c, left);
            store_part(t, j->y, at + c, left, d * load_part(DT_F32, s.rstd, c, left));
        });
}

INLINE void group_dx(dtype t, const group_job *j, int64_t b, int64_t chunk) {
    if (j->silu)
        group_dx_rows(t, j, b, chunk, true);
    else
        group_dx_rows(t, j, b, chunk, false);
}

// A pass over chunks [i, end) of all samples
#define CHUNK_PASS(name)                                                                                     \
    static void name##_pass(void *arg, int64_t i, int64_t end) {                                             \
        const group_job *j = arg;                                                                            \
        for (; i < end; i++)                                                                                 \
            if (j->t == DT_BF16)                                                                             \
                name(DT_BF16, j, i / j->chunks, i % j->chunks);                                              \
            else                                                                                             \
                name(DT_F32, j, i / j->chunks, i % j->chunks);                                               \
    }
CHUNK_PASS(group_moments)
CHUNK_PASS(group_apply)
CHUNK_PASS(group_sums)
CHUNK_PASS(group_dx)

static void group_stats_pass(void *arg, int64_t b, int64_t end) {
    for (; b < end; b++) group_stats(arg, b);
}

static void group_fill_pass(void *arg, int64_t b, int64_t end) {
    for (; b < end; b++) {
        group_space s = space_of(arg, b);
        fill_parameters(arg, b, &s);
    }
}

static void group_means_pass(void *arg, int64_t b, int64_t end) {
    for (; b < end; b++) group_means(arg, b);
}

static void group_sample_pass(void *arg, int64_t b, int64_t end) {
    int64_t chunks = ((const group_job *)arg)->chunks;
    for (; b < end; b++) {
        group_moments_pass(arg, b * chunks, (b + 1) * chunks);
        group_stats(arg, b);
        group_apply_pass(arg, b * chunks, (b + 1) * chunks);
    }
}

static void group_sample_grad_pass(void *arg, int64_t b, int64_t end) {
    int64_t chunks = ((const group_job *)arg)->chunks;
    for (; b < end; b++) {
        group_fill_pass(arg, b, b + 1);
        group_sums_pass(arg, b * chunks, (b + 1) * chunks);
        group_means(arg, b);
        group_dx_pass(arg, b * chunks, (b + 1) * chunks);
    }
}

// Whether a sample of `bytes` is one task: it stays in the cache between the passes, and there are enough of
// them (or so little work that more threads would not help).
static bool sample_at_once(const team *t, int64_t B, int64_t bytes) {
    return bytes <= 1 << 16 || (bytes <= 1 << 20 && B >= team_size(t));
}

static int64_t chunk_grain(int64_t C) { return C * NORM_ROWS < BLOCK ? BLOCK / (C * NORM_ROWS) : 1; }

static void group_norm(team *tm, dtype t, const void *x, const float *gamma, const float *beta, void *y,
                       float *stats, int64_t B, int64_t S, int64_t C, int64_t G, float eps, bool silu,
                       void *scratch) {
    group_job j = {.t = t,
                   .x = x,
                   .y = y,
                   .gamma = gamma,
                   .beta = beta,
                   .stats = stats,
                   .B = B,
                   .S = S,
                   .C = C,
                   .G = G,
                   .chunks = (S + NORM_ROWS - 1) / NORM_ROWS,
                   .eps = eps,
                   .silu = silu,
                   .scratch = scratch};
    if (B * S * C == 0) return;
    if (sample_at_once(tm, B, S * C * (int64_t)dtype_size(t))) {
        parallel_for(tm, B, 1 + BLOCK / (S * C), group_sample_pass, &j);
        return;
    }
    parallel_for(tm, B * j.chunks, chunk_grain(C), group_moments_pass, &j);
    parallel_for(tm, B, 1, group_stats_pass, &j);
    parallel_for(tm, B * j.chunks, chunk_grain(C), group_apply_pass, &j);
}

static void group_normalise(team *tm, dtype t, const void *x, const float *gamma, const float *beta,
                            const float *stats, void *y, int64_t B, int64_t S, int64_t C, int64_t G,
                            bool silu, void *scratch) {
    group_job j = {.t = t,
                   .x = x,
                   .y = y,
                   .gamma = gamma,
                   .beta = beta,
                   .stats = (float *)stats,
                   .B = B,
                   .S = S,
                   .C = C,
                   .G = G,
                   .chunks = (S + NORM_ROWS - 1) / NORM_ROWS,
                   .silu = silu,
                   .scratch = scratch};
    if (B * S * C == 0) return;
    parallel_for(tm, B, 1, group_fill_pass, &j);
    parallel_for(tm, B * j.chunks, chunk_grain(C), group_apply_pass, &j);
}

static void group_norm_grad(team *tm, dtype t, const void *x, const float *gamma, const float *beta,
                            const float *stats, const void *dy, void *dx, float *dgamma, float *dbeta,
                            int64_t B, int64_t S, int64_t C, int64_t G, bool silu, void *scratch) {
    group_job j = {.t = t,
                   .x = x,
                   .dy = dy,
                   .y = dx,
                   .gamma = gamma,
                   .beta = beta,
                   .stats = (float *)stats,
                   .B = B,
                   .S = S,
                   .C = C,
                   .G = G,
                   .chunks = (S + NORM_ROWS - 1) / NORM_ROWS,
                   .silu = silu,
                   .scratch = scratch};
    if (C == 0) return;
    if (S > 0 && sample_at_once(tm, B, 2 * S * C * (int64_t)dtype_size(t))) {
        parallel_for(tm, B, 1 + BLOCK / (S * C), group_sample_grad_pass, &j);
    } else if (S > 0) {
        parallel_for(tm, B, 1, group_fill_pass, &j);
        parallel_for(tm, B * j.chunks, chunk_grain(C), group_sums_pass, &j);
        parallel_for(tm, B, 1, group_means_pass, &j);
        parallel_for(tm, B * j.chunks, chunk_grain(C), group_dx_pass, &j);
    }
    for (int64_t c = 0; c < C; c++) {
        double db = 0, dg = 0;
        for (int64_t b = 0; b < B && S > 0; b++) {
            db += space_of(&j, b).sum[0][c];
            dg += space_of(&j, b).sum[1][c];
        }
        if (dbeta) dbeta[c] = (float)db;
        if (dgamma) dgamma[c] = (float)dg;
    }
}

// ---- Layer norm -------------------------------------------------------------------------------------------

typedef struct {
    dtype t;
    const void *x, *dy;
    void *y;
    const float *gamma, *beta;
    float *stats, *part; // part: [chunks][2][C], Σ dy·x̂ and Σ dy of NORM_ROWS rows
    int64_t R, C;
    float eps;
} layer_job;

// Two passes over a row in the cache; the second also corrects the rounding of the mean.
INLINE void row_stats(dtype t, const void *x, int64_t at, int64_t C, float eps, float stats[2]) {
    vf s = {0}, d = {0}, q = {0};
    LANE_LOOP(c, 0, C, { s += load_part(t, x, at + c, left); });
    vf mean = splat(vec_sum(s) / (float)C);
    LANE_LOOP(c, 0, C, {
        vf v = load_pad(t, x, at + c, left, mean) - mean;
        d += v;
        q += v * v;
    });
    float rest = vec_sum(d) / (float)C;
    stats[0] = mean[0] + rest;
    stats[1] = 1 / sqrtf(vec_sum(q) / (float)C - rest * rest + eps);
}

INLINE void layer_rows(dtype t, const layer_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++) {
        float own[2], *stats = j->stats ? j->stats + 2 * r : own;
        row_stats(t, j->x, r * C, C, j->eps, stats);
        vf mean = splat(stats[0]), rstd = splat(stats[1]);
        LANE_LOOP(c, 0, C, {
            vf v = (load_part(t, j->x, r * C + c, left) - mean) * rstd;
            if (j->gamma) v *= load_part(DT_F32, j->gamma, c, left);
            if (j->beta) v += load_part(DT_F32, j->beta, c, left);
            store_part(t, j->y, r * C + c, left, v);
        });
    }
}

INLINE void layer_grad_row(dtype t, const layer_job *j, int64_t r, float *dgamma, float *dbeta) {
    int64_t C = j->C, at = r * C;
    vf mean = splat(j->stats[2 * r]), rstd = splat(j->stats[2 * r + 1]), s = {0}, q = {0};
    LANE_LOOP(c, 0, C, {
        vf xhat = (load_pad(t, j->x, at + c, left, mean) - mean) * rstd,
           dy = load_part(t, j->dy, at + c, left);
        store_part(DT_F32, dgamma, c, left, load_part(DT_F32, dgamma, c, left) + dy * xhat);
        store_part(DT_F32, dbeta, c, left, load_part(DT_F32, dbeta, c, left) + dy);
        vf d = j->gamma ? dy * load_part(DT_F32, j->gamma, c, left) : dy;
        s += d;
        q += d * xhat;
    });
    vf m0 = splat(vec_sum(s) / (float)C), m1 = splat(vec_sum(q) / (float)C);
    LANE_LOOP(c, 0, C, {
        vf xhat = (load_part(t, j->x, at + c, left) - mean) * rstd, d = load_part(t, j->dy, at + c, left);
        if (j->gamma) d *= load_part(DT_F32, j->gamma, c, left);
        store_part(t, j->y, at + c, left, (d - m0 - xhat * m1) * rstd);
    });
}

INLINE void layer_grad_rows(dtype t, const layer_job *j, int64_t r, int64_t end) {
    float *part = j->part + r / NORM_ROWS * 2 * j->C;
    memset(part, 0, (size_t)j->C * 2 * sizeof *part);
    for (; r < end; r++) layer_grad_row(t, j, r, part, part + j->C);
}

TYPED(layer_rows, layer_job)
TYPED(layer_grad_rows, layer_job)

static void layer_norm(team *tm, dtype t, const void *x, const float *gamma, const float *beta, void *y,
                       float *stats, int64_t R, int64_t C, float eps) {
    layer_job j = {t, x, NULL, y, gamma, beta, stats, NULL, R, C, eps};
    if (C > 0) parallel_for(tm, R, 1 + BLOCK / C, layer_rows_pass, &j);
}

static void layer_norm_grad(team *tm, dtype t, const void *x, const float *gamma, const float *stats,
                            const void *dy, void *dx, float *dgamma, float *dbeta, int64_t R, int64_t C,
                            void *scratch) {
    layer_job j = {t, x, dy, dx, gamma, NULL, (float *)stats, scratch, R, C, 0};
    parallel_for(tm, R, NORM_ROWS, layer_grad_rows_pass, &j);
    for (int64_t c = 0; c < C; c++) {
        double dg = 0, db = 0;
        for (int64_t k = 0; k * NORM_ROWS < R; k++) {
            dg += j.part[k * 2 * C + c];
            db += j.part[(k * 2 + 1) * C + c];
        }
        if (dgamma) dgamma[c] = (float)dg;
        if (dbeta) dbeta[c] = (float)db;
    }
}
