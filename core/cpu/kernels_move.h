// Part of kernels_tmpl.c: copies, resizing, look-ups.

typedef struct {
    const char *src;
    char *dst;
    int64_t src_stride, dst_stride, bytes;
} copy_job;

static void copy_pass(void *arg, int64_t r, int64_t end) {
    const copy_job *j = arg;
    for (; r < end; r++) {
        if (j->src)
            memcpy(j->dst + r * j->dst_stride, j->src + r * j->src_stride, (size_t)j->bytes);
        else
            memset(j->dst + r * j->dst_stride, 0, (size_t)j->bytes);
    }
}

static void copy_block(team *tm, const void *src, int64_t src_stride, void *dst, int64_t dst_stride,
                       int64_t rows, int64_t row_bytes) {
    const int64_t piece = BLOCK * (int64_t)sizeof(float);
    if (rows <= 0 || row_bytes <= 0) return;
    bool dense = rows == 1 || (dst_stride == row_bytes && (!src || src_stride == row_bytes));
    if (!dense) {
        copy_job j = {src, dst, src_stride, dst_stride, row_bytes};
        parallel_for(tm, rows, 1 + piece / row_bytes, copy_pass, &j);
        return;
    }
    int64_t total = rows * row_bytes, whole = total / piece * piece; // one run: cut it for the threads
    copy_job j = {src, dst, piece, piece, piece};
    parallel_for(tm, whole / piece, 1, copy_pass, &j);
    copy_job rest = {src ? j.src + whole : NULL, j.dst + whole, 0, 0, total - whole};
    copy_pass(&rest, 0, 1);
}

typedef struct {
    dtype t;
    const void *x;
    void *y;
    int64_t H, W, C, H2, W2;
} resize_job;

// One task row: a target row of the upsampled image.
static void upsample_pass(void *arg, int64_t r, int64_t end) {
    const resize_job *j = arg;
    size_t pixel = (size_t)j->C * dtype_size(j->t);
    for (; r < end; r++) {
        int64_t row = r / j->H2 * j->H + nearest_index(r % j->H2, j->H, j->H2);
        const char *src = (const char *)j->x + (size_t)(row * j->W) * pixel;
        char *dst = (char *)j->y + (size_t)(r * j->W2) * pixel;
        for (int64_t i = 0; i < j->W2; i++)
            memcpy(dst + (size_t)i * pixel, src + (size_t)nearest_index(i, j->W, j->W2) * pixel, pixel);
    }
}

static void upsample_nearest(team *tm, dtype t, const void *x, void *y, int64_t B, int64_t H, int64_t W,
                             int64_t C, int64_t H2, int64_t W2) {
    resize_job j = {t, x, y, H, W, C, H2, W2};
    if (H * W * C * W2 > 0) parallel_for(tm, B * H2, 1 + BLOCK / (W2 * C), upsample_pass, &j);
}

// The first target of source s: nearest_index is monotone, so the targets of s are those from here to the
// next's.
static int64_t first_target(int64_t s, int64_t n, int64_t n2) {
    int64_t i = s * n2 / n;
    while (i > 0 && nearest_index(i - 1, n, n2) >= s) i--;
    while (i < n2 && nearest_index(i, n, n2) < s) i++;
    return i;
}

INLINE void pool_rows(dtype t, const resize_job *j, int64_t r, int64_t end) {
    int64_t C = j->C;
    for (; r < end; r++) {
        int64_t y = r % j->H, top = first_target(y, j->H, j->H2), bottom = first_target(y + 1, j->H, j->H2);
        int64_t next = first_target(0, j->W, j->W2), image = r / j->H * j->H2;
        for (int64_t x = 0; x < j->W; x++) {
            int64_t from = next;
            next = first_target(x + 1, j->W, j->W2);
            LANE_LOOP(c, 0, C, {
                vf s = {0};
                for (int64_t v = top; v < bottom; v++)
                    for (int64_t u = from; u < next; u++)
                        s += load_part(t, j->x, ((image + v) * j->W2 + u) * C + c, left);
                store_part(t, j->y, (r * j->W + x) * C + c, left, s);
            });
        }
    }
}
TYPED(pool_rows, resize_job)

static void sum_pool(team *tm, dtype t, const void *dy, void *dx, int64_t B, int64_t H, int64_t W, int64_t C,
                     int64_t H2, int64_t W2) {
    resize_job j = {t, dy, dx, H, W, C, H2, W2};
    if (W * C > 0) parallel_for(tm, B * H, 1 + BLOCK / (W * C), pool_rows_pass, &j);
}

typedef struct {
    dtype t, tt; // of y (dy) and of the table
    const void *x;
    void *y;
    const int32_t *ids;
    int64_t N, V, C;
} look_up_job;

INLINE void look_up(dtype t, dtype tt, const look_up_job *j, int64_t i, int64_t end) {
    for (; i < end; i++) {
        bool known = j->ids[i] >= 0 && j->ids[i] < j->V;
        LANE_LOOP(c, 0, j->C, {
            vf v = known ? load_part(tt, j->x, j->ids[i] * j->C + c, left) : splat(0);
            store_part(t, j->y, i * j->C + c, left, v);
        });
    }
}

INLINE void look_up_rows(dtype t, const look_up_job *j, int64_t i, int64_t end) {
    if (j->tt == DT_BF16)
        look_up(t, DT_BF16, j, i, end);
    else
        look_up(t, DT_F32, j, i, end);
}
TYPED(look_up_rows, look_up_job)

static void embedding(team *tm, dtype tt, const void *table, const int32_t *ids, dtype t, void *y, int64_t N,
                      int64_t V, int64_t C) {
    look_up_job j = {t, tt, table, y, ids, N, V, C};
    parallel_for(tm, N, 64, look_up_rows_pass, &j);
}

// A task owns the table rows [v, end) and adds in the order of ids.
INLINE void look_up_grad_rows(dtype t, const look_up_job *j, int64_t v, int64_t end) {
    float *table = j->y;
    int64_t C = j->C;
    memset(table + v * C, 0, (size_t)((end - v) * C) * sizeof *table);
    for (int64_t i = 0; i < j->N; i++) {
        if (j->ids[i] < v || j->ids[i] >= end) continue;
        float *row = table + j->ids[i] * C;
        LANE_LOOP(c, 0, C, {
            store_part(DT_F32, row, c, left,
                       load_part(DT_F32, row, c, left) + load_part(t, j->x, i * C + c, left));
        });
    }
}
TYPED(look_up_grad_rows, look_up_job)

static void embedding_grad(team *tm, dtype t, const int32_t *ids, const void *dy, float *dtable, int64_t N,
                           int64_t V, int64_t C) {
    look_up_job j = {t, DT_F32, dy, dtable, ids, N, V, C};
    parallel_for(tm, V, V / 32 + 1, look_up_grad_rows_pass, &j);
}

// Step by step in f32 as diffusers does: a phase of 1000 rad has an ulp of 6e-5, so another order of the same
// arithmetic gives visibly other sinusoids.
static void timestep_embedding(team *tm, const float *timesteps, float *y, int64_t B, int64_t D, bool flip,
                               float freq_shift, float max_period) {
    (void)tm;
    int64_t half = D / 2;
    float log_period = (float)log(max_period);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0; i < half; i++) {
            float phase = timesteps[b] * expf(-log_period * (float)i / ((float)half - freq_shift));
            y[b * D + (flip ? half : 0) + i] = (float)sin(phase);
            y[b * D + (flip ? 0 : half) + i] = (float)cos(phase);
        }
        if (D & 1) y[b * D + D - 1] = 0;
    }
}
