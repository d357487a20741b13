#include "core/upscaler.h"

#include <math.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/graph/runner.h"
#include "core/graph/weights_check.h"
#include "core/models/rrdb.h"
#include "core/pipeline_vae.h"

struct upscaler {
    char *name;
    model_files *files;
    file_names names;
    weights_file *weights;
    store *values; // packed weights
    rrdb_config config;
    runner run; // of tiles of this size, in pixels of the picture
    int tile_w, tile_h;
    dtype compute;
};

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---- opening

static node *sample_input(graph *g, const rrdb_config *c, int w, int h) {
    int64_t H = h / c->unshuffle, W = w / c->unshuffle;
    return graph_input(g, "sample", SHAPE(1, H, W, rrdb_in_channels(c)), DT_F32, RATE_STEP);
}

// Any size does: nothing is run.
static status check(const upscaler *u, error *err) {
    weights_check check;
    graph g;
    weights_check_init(&check, weights_file_weights(u->weights));
    graph_init(&g, DT_F32);
    g.weights = &check.provider;
    rrdb_build(&g, &u->config, sample_input(&g, &u->config, 2 * UPSCALE_HALO, 2 * UPSCALE_HALO));
    error built = g.err;
    graph_free(&g);
    status listed = weights_check_end(&check, err);
    if (!listed && built.code) *err = built;
    return listed ? listed : built.code;
}

static status open_files(upscaler *u, const char *path, error *err) {
    u->name = mem_strdup(fs_basename(path));
    u->values = store_new();
    if (!u->name || !u->values) return no_memory(err);
    if (*fs_extension(u->name)) u->name[fs_extension(u->name) - u->name - 1] = 0;
    if (!(u->files = model_files_open(path, NULL, err))) return err->code;
    TRY(rrdb_recognise(u->files, &u->config, &u->names, err));
    if (!(u->weights = weights_file_of(u->files, &u->names, err))) return err->code;
    return check(u, err);
}

upscaler *upscaler_open(const char *path, error *err) {
    upscaler *u = mem_calloc(1, sizeof *u);
    if (!u) return no_memory(err), NULL;
    if (!open_files(u, path, err)) return u;
    upscaler_free(u);
    return NULL;
}

void upscaler_free(upscaler *u) {
    if (!u) return;
    runner_free(&u->run);
    store_free(u->values);
    weights_file_close(u->weights);
    model_files_close(u->files);
    mem_free(u->name);
    mem_free(u);
}

void upscaler_forget(upscaler *u, workspace *ws) {
    runner_free(&u->run);
    store_clear(u->values);
    workspace_free(ws);
    mem_return();
}

int upscaler_scale(const upscaler *u) { return u->config.scale; }
const char *upscaler_name(const upscaler *u) { return u->name; }

static node *build(const upscaler *u, dtype compute, int w, int h, graph *g) {
    graph_init(g, compute);
    g->weights = weights_file_weights(u->weights);
    return rrdb_build(g, &u->config, sample_input(g, &u->config, w, h));
}

// The network for tiles of this size, from the last call or made now. NULL on failure.
static exec *network_for(upscaler *u, const upscaling *how, dtype compute, int w, int h, error *err) {
    if (u->run.exec && u->tile_w == w && u->tile_h == h && u->compute == compute) return u->run.exec;
    runner_free(&u->run);
    graph g;
    node *out = build(u, compute, w, h, &g);
    u->tile_w = w;
    u->tile_h = h;
    u->compute = compute;
    if (runner_init(&u->run, &g, &out, 1, how->be, u->values, how->ws, err)) return NULL;
    return u->run.exec;
}

// ---- where tiles lie

// One direction: n parts of a side, each within a window of the same size. In pixels of the given picture.
// Windows begin at multiples of `step`, four pixels of the network's input, so that Winograd's tiles are
// those of the whole picture, and so is what they round.
typedef struct {
    int length; // a multiple of the network's unshuffle: pixels behind the picture repeat its last
    int n, size, step;
} axis;

static int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// Parts may be longer than the average by a step, and windows lie lower than in their middle by one.
static axis make_axis(int length, int tile, int unshuffle) {
    axis a = {.length = round_up(length, unshuffle), .n = 1, .step = 4 * unshuffle};
    int around = 2 * UPSCALE_HALO + 3 * a.step;
    a.size = a.length;
    if (a.length <= tile) return a;
    a.n = (a.length + tile - around - 1) / (tile - around);
    int needed = (a.length + a.n - 1) / a.n + around;
    a.size = a.length - (a.length - needed) / a.step * a.step;
    return a;
}

// Where part i begins, and part i − 1 ends.
static int part_at(const axis *a, int i) {
    return i == a->n ? a->length : (int)((int64_t)i * a->length / a->n) / a->step * a->step;
}

// Where its window begins: around it, but inside of the picture.
static int window_at(const axis *a, int i) {
    int middle = (part_at(a, i) + part_at(a, i + 1) - a->size) / 2, last = a->length - a->size;
    return (middle < 0 ? 0 : middle > last ? last : middle) / a->step * a->step;
}

// ---- one tile

typedef struct {
    upscaler *u;
    const image *im;
    image *larger;
    axis x, y;
    int scale, feather;  // of the enlarged picture: pixels on each side of a border in which tiles fade
    float *tile;         // the enlarged window, RGB of 0 to 1
    float *left, *above; // what the tiles before have left for the places where the next fade in
} job;

static int within(int i, int n) { return i < n ? i : n - 1; }

static void fill_input(const job *j, int x0, int y0, float *in) {
    int unit = j->u->config.unshuffle, row = j->x.size / unit;
    int64_t channels = rrdb_in_channels(&j->u->config);
    for (int y = 0; y < j->y.size; y++)
        for (int x = 0; x < j->x.size; x++) {
            size_t at =
                (size_t)within(y0 + y, j->im->h) * (size_t)j->im->w + (size_t)within(x0 + x, j->im->w);
            float *to = in + ((int64_t)(y / unit) * row + x / unit) * channels + y % unit * unit + x % unit;
            for (int c = 0; c < 3; c++) to[c * unit * unit] = j->im->px[3 * at + (size_t)c] / 255.0f;
        }
}

// A compact network says what is to be added to the nearest pixels, in squares.
static void read_output(const job *j, const float *in, const float *out) {
    int s = j->scale, W = j->x.size * s, H = j->y.size * s;
    if (!j->u->config.compact) {
        memcpy(j->tile, out, 3 * (size_t)W * (size_t)H * sizeof *out);
        return;
    }
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            for (int c = 0; c < 3; c++) {
                size_t pixel = (size_t)(y / s) * (size_t)j->x.size + (size_t)(x / s);
                j->tile[3 * ((size_t)y * (size_t)W + (size_t)x) + (size_t)c] =
                    out[pixel * 3 * (size_t)(s * s) + (size_t)((c * s + y % s) * s + x % s)] +
                    in[3 * pixel + (size_t)c];
            }
}

static status run_tile(const job *j, exec *e, int x0, int y0, error *err) {
    float *in = exec_input(e, "sample");
    fill_input(j, x0, y0, in);
    TRY(exec_run(e, err));
    read_output(j, in, exec_output(e, 0));
    return OK;
}

// ---- putting tiles together: a pixel's place decides between the picture and what is left for the next

// Of one direction: what a tile writes, from begin to end, of which the first and last pixels are shared.
typedef struct {
    int begin, end, window;
    bool fades_in, fades_out;
} extent;

static extent extent_of(const axis *a, int i, int scale, int feather, int side) {
    extent e = {.begin = part_at(a, i) * scale,
                .end = part_at(a, i + 1) * scale,
                .window = window_at(a, i) * scale,
                .fades_in = i > 0,
                .fades_out = i < a->n - 1};
    if (e.fades_in) e.begin -= feather;
    e.end = e.fades_out ? e.end + feather : side;
    return e;
}

static bool is_first(const extent *e, int at, int feather) {
    return e->fades_in && at < e->begin + 2 * feather;
}
static bool is_last(const extent *e, int at, int feather) {
    return e->fades_out && at >= e->end - 2 * feather;
}

static void fade(float *v, const float *before, int step, int feather) {
    float share = ((float)step + 0.5f) / (float)(2 * feather);
    for (int c = 0; c < 3; c++) v[c] = before[c] + share * (v[c] - before[c]);
}

static uint8_t to_byte(float v) { return (uint8_t)lrintf(fminf(fmaxf(v, 0), 1) * 255); }

static void put_pixel(const job *j, const extent *ex, const extent *ey, int x, int y) {
    int f = j->feather, W = j->x.size * j->scale;
    const float *from = j->tile + 3 * ((size_t)(y - ey->window) * (size_t)W + (size_t)(x - ex->window));
    float v[3] = {from[0], from[1], from[2]};
    float *left = j->left + 6 * (size_t)f * (size_t)(y - ey->begin);
    if (is_first(ex, x, f)) fade(v, left + 3 * (x - ex->begin), x - ex->begin, f);
    if (is_last(ex, x, f)) {
        memcpy(left + 3 * (x - ex->end + 2 * f), v, sizeof v);
        return;
    }
    size_t column = 3 * (size_t)x, row = 3 * (size_t)j->larger->w;
    if (is_first(ey, y, f)) fade(v, j->above + row * (size_t)(y - ey->begin) + column, y - ey->begin, f);
    if (is_last(ey, y, f)) {
        memcpy(j->above + row * (size_t)(y - ey->end + 2 * f) + column, v, sizeof v);
        return;
    }
    for (int c = 0; c < 3; c++) j->larger->px[row * (size_t)y + column + (size_t)c] = to_byte(v[c]);
}

static void put_tile(const job *j, int column, int row) {
    extent ex = extent_of(&j->x, column, j->scale, j->feather, j->larger->w),
           ey = extent_of(&j->y, row, j->scale, j->feather, j->larger->h);
    for (int y = ey.begin; y < ey.end; y++)
        for (int x = ex.begin; x < ex.end; x++) put_pixel(j, &ex, &ey, x, y);
}

// ---- the picture

// *finite: whether all of it was made of numbers; if not, the picture is not finished.
static status run_tiles(const job *j, const upscaling *how, dtype compute, bool *finite, error *err) {
    exec *e = network_for(j->u, how, compute, j->x.size, j->y.size, err);
    size_t values = 3 * (size_t)j->scale * (size_t)j->x.size * (size_t)j->scale * (size_t)j->y.size;
    int tiles = j->x.n * j->y.n;
    *finite = true;
    if (!e) return err->code;
    for (int i = 0; i < tiles; i++) {
        int column = i % j->x.n, row = i / j->x.n;
        TRY(run_tile(j, e, window_at(&j->x, column), window_at(&j->y, row), err));
        if (!(*finite = all_finite(j->tile, values))) return OK;
        put_tile(j, column, row);
        if (how->progress) TRY(how->progress(how->user, i + 1, tiles, err));
    }
    return OK;
}

static status run(const job *j, const upscaling *how, error *err) {
    bool finite;
    TRY(run_tiles(j, how, how->compute, &finite, err));
    if (!finite && how->compute != DT_F32) {
        log_put(how->log, LOG_LEVEL_WARN, "the enlarged picture is not a number in %s: once more in F32",
                dtype_name(how->compute));
        TRY(run_tiles(j, how, DT_F32, &finite, err));
    }
    return finite ? OK : fail(err, ERR_DATA, "nan: the enlarged picture is not a number, so it is not kept");
}

// What a job has beside the network, in bytes.
typedef struct {
    size_t tile, left, above;
} buffers;

static job make_job(upscaler *u, const upscaling *how, int w, int h, buffers *b) {
    int s = u->config.scale, tile = how->tile ? how->tile : UPSCALE_TILE;
    job j = {.u = u, .scale = s, .feather = UPSCALE_FEATHER * s};
    j.x = make_axis(w, tile, u->config.unshuffle);
    j.y = make_axis(h, tile, u->config.unshuffle);
    size_t shared = 6 * (size_t)j.feather * sizeof(float), rows = (size_t)(j.y.size * s);
    *b = (buffers){.tile = 3 * rows * (size_t)(j.x.size * s) * sizeof *j.tile,
                   .left = rows * shared,
                   .above = (size_t)(w * s) * shared};
    return j;
}

status upscaler_memory(upscaler *u, const upscaling *how, int w, int h, size_t *bytes, error *err) {
    buffers b;
    graph g;
    job j = make_job(u, how, w, h, &b);
    node *out = build(u, how->compute, j.x.size, j.y.size, &g);
    plan *p = plan_new(&g, &out, 1, how->be, err);
    if (!p) return err->code;
    plan_memory m = plan_needs(p);
    plan_values v = plan_values_need(p);
    plan_free(p);
    size_t larger = 3 * (size_t)(w * j.scale) * (size_t)(h * j.scale);
    *bytes = larger + b.tile + b.left + b.above + v.all + m.persistent +
             (v.making > m.workspace ? v.making : m.workspace);
    return OK;
}

status upscaler_run(upscaler *u, const upscaling *how, const image *im, image *larger, error *err) {
    buffers b;
    job j = make_job(u, how, im->w, im->h, &b);
    j.im = im;
    j.larger = larger;
    TRY(image_alloc(larger, im->w * j.scale, im->h * j.scale, 3, err));
    j.tile = mem_calloc(1, b.tile);
    j.left = mem_calloc(1, b.left);
    j.above = mem_calloc(1, b.above);
    status code = j.tile && j.left && j.above ? run(&j, how, err) : no_memory(err);
    mem_free(j.tile);
    mem_free(j.left);
    mem_free(j.above);
    if (code) image_free(larger);
    return code;
}
