#include "core/models/vae_tiles.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapters/adapter.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/graph/runner.h"

enum { MAX_NORMS = 2, MIN_ROWS = 16 };

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

static int64_t at_most(int64_t v, int64_t limit) { return v < limit ? v : limit; }

int64_t vae_untiled_bytes(const vae_config *c, vae_way way, int64_t H, int64_t W, dtype compute) {
    // Where the picture has its full size: what the upsampling's convolution reads and writes, of as many
    // channels as the next level has, and as much to compute it; the encoder's first resnet likewise.
    int64_t C = c->block_out_channels[way == VAE_DECODE && c->n_levels > 1];
    return 3 * H * W * C * (int64_t)dtype_size(compute);
}

int64_t vae_tiled_bytes(const vae_config *c, vae_way way, int64_t H, int64_t W, dtype compute,
                        int64_t pixels) {
    int64_t own = c->block_out_channels[0], before = own;
    if (way == VAE_DECODE && c->n_levels > 1) before = c->block_out_channels[1];
    // The picture before and after the stage that changes its channels; a band and what surrounds it.
    int64_t planes = H * W * (before + own) * (int64_t)dtype_size(compute);
    return planes + 3 * vae_untiled_bytes(c, way, at_most(pixels / W + 1, H), W, compute) / 2;
}

// ---- a picture between two stages

typedef struct {
    dtype type;
    int64_t H, W, C;
    char *px;
} plane;

static size_t row_bytes(const plane *p) { return (size_t)(p->W * p->C) * dtype_size(p->type); }

static char *row_at(const plane *p, int64_t y) { return p->px + (size_t)y * row_bytes(p); }

static status plane_init(plane *p, dtype type, int64_t H, int64_t W, int64_t C, error *err) {
    *p = (plane){.type = type, .H = H, .W = W, .C = C};
    return (p->px = mem_alloc((size_t)H * row_bytes(p))) ? OK : no_memory(err);
}

static void plane_free(plane *p) {
    mem_free(p->px);
    *p = (plane){0};
}

// ---- what a band is computed by: a tap gives group norms their statistics from outside

typedef struct {
    int known;    // norms whose statistics are given
    int met;      // norms
    node *wanted; // the input of the first that is not known
    double eps;   // of that one
    float *stats; // [MAX_NORMS,G,2]: mean and 1/σ
} norms;

typedef struct {
    tap tap;
    norms *n;
} norm_tap;

static const char *const STATS[MAX_NORMS] = {"stats.0", "stats.1"};

static node *give_stats(const tap *self, graph *g, const site *s, node *x, node *y) {
    norms *n = ((const norm_tap *)self)->n;
    if (s->kind != SITE_NORM) return y;
    int i = n->met++, G = y->a.norm.groups;
    if (i == n->known) {
        n->wanted = x;
        n->eps = y->a.norm.eps;
    }
    if (i >= n->known) return y;
    node *stats = graph_input(g, STATS[i], SHAPE(1, G, 2), g->exact, RATE_STEP);
    return group_normalise(x, y->in[1], y->in[2], stats, G, y->a.norm.act);
}

// Stages [first, end) on `rows` rows of x; with `n` as far as the input of the first group norm that is not
// known, if there is one.
typedef struct {
    runner run; // empty where the result is x itself
    int64_t W, C;
    dtype type; // of the result
    norms *n;   // NULL: norms see what there is
} section;

static status section_init(section *s, const vae_tiles *t, int first, int end, const plane *x, int64_t rows,
                           norms *n, error *err) {
    graph g;
    norm_tap give = {{.output = give_stats}, n};
    const tap *const taps[] = {&give.tap};
    graph_init(&g, t->compute);
    g.weights = t->weights;
    g.taps = taps;
    g.n_taps = n != NULL;
    if (n) *n = (norms){.known = n->known, .stats = n->stats};
    node *in = graph_input(&g, "x", SHAPE(1, rows, x->W, x->C), x->type, RATE_STEP), *y = in;
    for (int i = first; i < end; i++) y = vae_stage_build(&g, t->config, t->way, i, y);
    if (n && n->wanted) y = n->wanted;
    *s = (section){.W = y->shape.d[2], .C = y->shape.d[3], .type = y->dtype, .n = n};
    if (y != in || g.err.code) return runner_init(&s->run, &g, &y, 1, t->be, t->values, t->room, err);
    graph_free(&g);
    return OK;
}

static status go_on(const vae_tiles *t, error *err) { return t->progress ? t->progress(t->user, err) : OK; }

// rows: the section's rows of x from `first` on. The result is valid until the next run. NULL on failure.
static const char *section_run(const section *s, const vae_tiles *t, const plane *x, int64_t first,
                               int64_t rows, error *err) {
    exec *e = s->run.exec;
    size_t stats = (size_t)t->config->norm_num_groups * 2;
    if (!e) return go_on(t, err) ? NULL : row_at(x, first);
    void *in = exec_input(e, "x");
    if (!in) return fail(err, ERR_DATA, "the autoencoder does not look at its input"), NULL;
    memcpy(in, row_at(x, first), (size_t)rows * row_bytes(x));
    for (int i = 0; s->n && i < s->n->known; i++) { // a run may have used their memory
        float *to = exec_input(e, STATS[i]);
        if (to) memcpy(to, s->n->stats + (size_t)i * stats, stats * sizeof *to);
    }
    return exec_run(e, err) || go_on(t, err) ? NULL : exec_output(e, 0);
}

// ---- bands

// Of a stage's result, and the windows of its input that they are computed from. All windows have one size,
// so that one plan does; at the picture's edges they lie inside of it.
typedef struct {
    int64_t H, rows;       // of the result, of a band
    int64_t input, window; // rows of the input, of a window
    vae_stage stage;
} bands;

// To the size of a stage's result.
static void rescale(plane *x, vae_stage s) {
    x->H = s.scale > 0 ? 2 * x->H : s.scale < 0 ? x->H / 2 : x->H;
    x->W = s.scale > 0 ? 2 * x->W : s.scale < 0 ? x->W / 2 : x->W;
}

static int64_t to_input(const bands *b, int64_t y) {
    return b->stage.scale > 0 ? y / 2 : b->stage.scale < 0 ? 2 * y : y;
}

static bands bands_of(const vae_tiles *t, int stage, const plane *x) {
    bands b = {.input = x->H, .stage = vae_stage_at(t->config, t->way, stage)};
    plane y = *x;
    rescale(&y, b.stage);
    int64_t rows = t->pixels / y.W & ~(int64_t)1;
    b.H = y.H;
    b.rows = rows < MIN_ROWS ? MIN_ROWS : rows;
    b.window = at_most(to_input(&b, b.rows) + 2 * b.stage.halo, x->H);
    return b;
}

// The first row of the window for the band from row y of the result on.
static int64_t window_of(const bands *b, int64_t y) {
    int64_t first = to_input(b, y) - b->stage.halo;
    return first < 0 ? 0 : at_most(first, b->input - b->window);
}

// Rows of the window's result before the band's.
static int64_t rows_before(const bands *b, int64_t y) {
    int64_t first = window_of(b, y);
    return y - (b->stage.scale > 0 ? 2 * first : b->stage.scale < 0 ? first / 2 : first);
}

// ---- statistics

// Sums of values and of their squares, for each row and group, in double.
typedef struct {
    const char *from;
    dtype type;
    int64_t W, C, G;
    double *sum; // [rows,G,2]
} row_sums;

static float value_at(const row_sums *j, int64_t i) {
    return j->type == DT_BF16 ? bf16_to_f32(((const uint16_t *)(const void *)j->from)[i])
                              : ((const float *)(const void *)j->from)[i];
}

static void sum_rows(void *arg, int64_t y, int64_t end) {
    const row_sums *j = arg;
    int64_t per = j->C / j->G;
    for (; y < end; y++) {
        double *sum = j->sum + y * j->G * 2;
        memset(sum, 0, (size_t)j->G * 2 * sizeof *sum);
        for (int64_t i = 0; i < j->W * j->G; i++) {
            double v1 = 0, v2 = 0;
            for (int64_t k = 0; k < per; k++) {
                double v = value_at(j, (y * j->W * j->G + i) * per + k);
                v1 += v;
                v2 += v * v;
            }
            sum[i % j->G * 2] += v1;
            sum[i % j->G * 2 + 1] += v2;
        }
    }
}

// Rows in order: the same for any bands.
static void finish_stats(const double *sum, int64_t H, int64_t G, double n, double eps, float *stats) {
    for (int64_t g = 0; g < G; g++) {
        double v1 = 0, v2 = 0;
        for (int64_t y = 0; y < H; y++) {
            v1 += sum[(y * G + g) * 2];
            v2 += sum[(y * G + g) * 2 + 1];
        }
        double mean = v1 / n, variance = fmax(v2 / n - mean * mean, 0);
        stats[2 * g] = (float)mean;
        stats[2 * g + 1] = (float)(1 / sqrt(variance + eps));
    }
}

// Of the norm that the section ends before.
static status measure(const vae_tiles *t, const bands *b, const section *s, const plane *x, error *err) {
    int64_t G = t->config->norm_num_groups;
    double *sum = mem_calloc((size_t)b->H * (size_t)G, 2 * sizeof *sum);
    if (!sum) return no_memory(err);
    for (int64_t y = 0; y < b->H; y += b->rows) {
        const char *out = section_run(s, t, x, window_of(b, y), b->window, err);
        if (!out) break;
        out += (size_t)(rows_before(b, y) * s->W * s->C) * dtype_size(s->type);
        row_sums j = {out, s->type, s->W, s->C, G, sum + y * G * 2};
        parallel_for(t->be->team, at_most(b->rows, b->H - y), 1, sum_rows, &j);
    }
    norms *n = s->n;
    if (!err->code)
        finish_stats(sum, b->H, G, (double)b->H * (double)s->W * (double)(s->C / G), n->eps,
                     n->stats + (size_t)n->known * (size_t)G * 2);
    mem_free(sum);
    return err->code;
}

// ---- a stage in bands

// In place the result of a band waits in `pending` until the next one, which still reads its last rows, has
// run.
static status fill_plane(const vae_tiles *t, const bands *b, const section *s, const plane *x, plane *y,
                         error *err) {
    bool in_place = x->px == y->px;
    char *pending = in_place ? mem_alloc((size_t)b->rows * row_bytes(y)) : NULL;
    if (in_place && !pending) return no_memory(err);
    int64_t waiting = 0;
    for (int64_t at = 0; at < b->H; at += b->rows) {
        const char *out = section_run(s, t, x, window_of(b, at), b->window, err);
        if (!out) break;
        if (waiting) memcpy(row_at(y, at - waiting), pending, (size_t)waiting * row_bytes(y));
        int64_t rows = at_most(b->rows, b->H - at);
        memcpy(in_place ? pending : row_at(y, at), out + (size_t)rows_before(b, at) * row_bytes(y),
               (size_t)rows * row_bytes(y));
        waiting = in_place ? rows : 0;
    }
    if (waiting) memcpy(row_at(y, b->H - waiting), pending, (size_t)waiting * row_bytes(y));
    mem_free(pending);
    return err->code;
}

static status take_result(const vae_tiles *t, const bands *b, const section *s, plane *x, error *err) {
    plane y = *x;
    bool same = s->W == x->W && b->H == x->H && s->C == x->C && s->type == x->type;
    if (!same) TRY(plane_init(&y, s->type, b->H, s->W, s->C, err));
    status st = fill_plane(t, b, s, x, &y, err);
    if (!same) {
        plane_free(x);
        *x = y;
    }
    return st;
}

// x becomes the stage's result.
static status run_in_bands(const vae_tiles *t, int stage, plane *x, error *err) {
    bands b = bands_of(t, stage, x);
    norms n = {.stats = mem_calloc((size_t)t->config->norm_num_groups, MAX_NORMS * 2 * sizeof(float))};
    status s = n.stats ? OK : no_memory(err);
    for (bool done = false; !done && !s; n.known++) {
        section part;
        if ((s = section_init(&part, t, stage, stage + 1, x, b.window, &n, err))) break;
        done = !n.wanted;
        s = done ? take_result(t, &b, &part, x, err) : measure(t, &b, &part, x, err);
        runner_free(&part.run);
    }
    mem_free(n.stats);
    return s;
}

// ---- stages that are small enough

static bool fits(const vae_tiles *t, int stage, const plane *x) {
    vae_stage s = vae_stage_at(t->config, t->way, stage);
    int64_t result = s.scale > 0 ? 4 : 1;
    return s.whole || result * x->H * x->W <= t->pixels;
}

// Stages from `first` to the one returned are one network; x becomes its result.
static int run_whole(const vae_tiles *t, int first, plane *x, error *err) {
    plane size = *x;
    int end = first;
    for (; end < vae_stages(t->config, t->way) && fits(t, end, &size); end++)
        rescale(&size, vae_stage_at(t->config, t->way, end));
    section s;
    plane y = {0};
    if (section_init(&s, t, first, end, x, x->H, NULL, err)) return end;
    const char *out = section_run(&s, t, x, 0, x->H, err);
    plane_free(x);
    if (out && !plane_init(&y, s.type, size.H, s.W, s.C, err)) memcpy(y.px, out, (size_t)y.H * row_bytes(&y));
    *x = y;
    runner_free(&s.run);
    return end;
}

int vae_tiles_runs(const vae_tiles *t, int64_t H, int64_t W) {
    plane x = {.H = H, .W = W};
    int64_t runs = 0;
    for (int i = 0, together = 0; i < vae_stages(t->config, t->way); i++) {
        bands b = bands_of(t, i, &x);
        bool whole = fits(t, i, &x);
        runs += !whole ? (b.stage.norms + 1) * ((b.H + b.rows - 1) / b.rows) : !together;
        together = whole;
        rescale(&x, b.stage);
    }
    return (int)runs;
}

status vae_tiles_run(const vae_tiles *t, const float *in, int64_t H, int64_t W, float *out, error *err) {
    int64_t C = t->way == VAE_DECODE ? t->config->latent_channels : t->config->in_channels;
    error local = {0};
    if (!err) err = &local;
    plane x;
    TRY(plane_init(&x, DT_F32, H, W, C, err));
    memcpy(x.px, in, (size_t)H * row_bytes(&x));
    for (int i = 0; i < vae_stages(t->config, t->way) && !err->code;) {
        if (fits(t, i, &x))
            i = run_whole(t, i, &x, err);
        else
            run_in_bands(t, i++, &x, err);
        if (t->forgets) store_clear(t->values);
    }
    if (!err->code) memcpy(out, x.px, (size_t)x.H * row_bytes(&x));
    plane_free(&x);
    return err->code;
}
