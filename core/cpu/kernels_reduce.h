// Part of kernels_tmpl.c: sums.

// One reduction x [outer, n, inner] → y [outer, inner]. Chunks of n give partial sums in f32, lane by lane;
// they are merged in double, in order.
typedef struct {
    dtype t, ty;
    const void *x;
    void *y;
    float *part; // [outer, chunks, inner]
    int64_t n, inner, chunks;
    bool square; // sum x² instead
} sum_job;

INLINE float sum_run(dtype t, const void *x, int64_t i, int64_t end, bool square) {
    vf s[4] = {{0}};
    for (int k = 0; i < end; i += LANES, k = (k + 1) & 3) {
        vf v = load_part(t, x, i, end - i);
        s[k] += square ? v * v : v;
    }
    return vec_sum((s[0] + s[1]) + (s[2] + s[3]));
}

INLINE void sum_rows(dtype t, const void *x, int64_t at, int rows, int64_t inner, float *sum) {
    fetch(t, x, at + rows * inner, rows * inner);
    LANE_LOOP(c, 0, inner, {
        vf s = load_part(DT_F32, sum, c, left);
        for (int r = 0; r < rows; r++) s += load_part(t, x, at + r * inner + c, left);
        store_part(DT_F32, sum, c, left, s);
    });
}

INLINE void sum_chunk(dtype t, const sum_job *j, int64_t u, int64_t end) {
    int64_t inner = j->inner, size = inner == 1 ? SUM_RUN : SUM_ROWS;
    for (; u < end; u++) {
        int64_t o = u / j->chunks, first = u % j->chunks * size, r = 0;
        int64_t n = j->n - first < size ? j->n - first : size, at = (o * j->n + first) * inner;
        float *sum = j->part + u * inner;
        if (inner == 1) {
            *sum = j->square ? sum_run(t, j->x, at, at + n, true) : sum_run(t, j->x, at, at + n, false);
            continue;
        }
        memset(sum, 0, (size_t)inner * sizeof *sum);
        for (; r + 8 <= n; r += 8) sum_rows(t, j->x, at + r * inner, 8, inner, sum);
        for (; r < n; r++) sum_rows(t, j->x, at + r * inner, 1, inner, sum);
    }
}
TYPED(sum_chunk, sum_job)

static double merge_sum(const sum_job *j, int64_t o, int64_t c) {
    double s = 0;
    for (int64_t k = 0; k < j->chunks; k++) s += j->part[(o * j->chunks + k) * j->inner + c];
    return s;
}

static void sum_merge_pass(void *arg, int64_t i, int64_t end) {
    const sum_job *j = arg;
    for (; i < end; i++) {
        float s = (float)merge_sum(j, i / j->inner, i % j->inner);
        if (j->ty == DT_F32)
            ((float *)j->y)[i] = s;
        else
            ((uint16_t *)j->y)[i] = f32_to_bf16(s);
    }
}

static int64_t sum_grain(const sum_job *j) {
    int64_t size = j->inner * (j->n < SUM_ROWS ? j->n : SUM_ROWS);
    return size < BLOCK ? BLOCK / (size + 1) + 1 : 1;
}

static void sum_middle(team *tm, dtype t, const void *x, dtype ty, void *y, int64_t outer, int64_t n,
                       int64_t inner, float *part) {
    sum_job j = {t, ty, x, y, part, n, inner, sum_chunks(n, inner), false};
    parallel_for(tm, outer * j.chunks, sum_grain(&j), sum_chunk_pass, &j);
    parallel_for(tm, outer * inner, BLOCK / 16, sum_merge_pass, &j);
}

// The inner of two separate reductions goes first, into f32.
static void reduce_sum(team *tm, dtype t, const void *x, dtype ty, void *y, const int64_t shape[4],
                       unsigned reduced, void *scratch) {
    sum_shape k = sum_shape_of(shape, reduced);
    int64_t k0 = k.n[0], s0 = k.n[1], k1 = k.n[2], s1 = k.n[3], k2 = k.n[4];
    float *part = scratch;
    if (k0 * k1 * k2 == 0) return;
    if (s1 == 1) {
        sum_middle(tm, t, x, ty, y, k0, s0, k1 * k2, part);
        return;
    }
    if (s0 == 1) {
        sum_middle(tm, t, x, ty, y, k0 * k1, s1, k2, part);
        return;
    }
    float *inner = part + k0 * s0 * k1 * k2 * sum_chunks(s1, k2);
    sum_middle(tm, t, x, DT_F32, inner, k0 * s0 * k1, s1, k2, part);
    sum_middle(tm, DT_F32, inner, ty, y, k0, s0, k1 * k2, part);
}

static double sum_squares(team *tm, const float *x, int64_t n, void *scratch) {
    sum_job j = {DT_F32, DT_F32, x, NULL, scratch, n, 1, sum_chunks(n, 1), true};
    parallel_for(tm, j.chunks, BLOCK / SUM_RUN, sum_chunk_pass, &j);
    return merge_sum(&j, 0, 0);
}
