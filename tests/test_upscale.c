// Upscalers: their networks beside PyTorch's (tests/parity/upscale.py), tiles beside the picture in one
// piece, the function and the command.
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/cpu/cpu.h"
#include "core/files/safetensors.h"
#include "core/graph/runner.h"
#include "core/models/rrdb.h"
#include "core/upscaler.h"
#include "tests/shell.h"
#include "tests/tools/genweights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/golden/upscale/"

// ---- networks

static float *golden(const char *name, int64_t sides[3]) {
    error err = {0};
    tensor_file *f = tensor_file_open(GOLDEN "goldens.safetensors", &err);
    cr_assert_not_null(f, "%s", err.text);
    const tensor_entry *t = tensor_file_find(f, name);
    cr_assert(t && t->ndim == 3, "%s", name);
    memcpy(sides, t->shape, 3 * sizeof *sides);
    float *v = mem_alloc(t->count * sizeof *v);
    cr_assert_eq(tensor_file_read_f32(f, t, 0, t->count, v, &err), OK, "%s", err.text);
    tensor_file_close(f);
    return v;
}

static image golden_picture(void) {
    int64_t s[3];
    image im;
    float *v = golden("picture", s);
    cr_assert_eq(image_alloc(&im, (int)s[1], (int)s[0], 3, NULL), OK);
    for (int64_t i = 0; i < s[0] * s[1] * 3; i++) im.px[i] = (uint8_t)v[i];
    mem_free(v);
    return im;
}

// What upscaling needs of a context.
typedef struct {
    team *team;
    backend *be;
    workspace ws;
    upscaling how;
} bench;

static void bench_open(bench *b, backend *(*make)(struct team *, error *), dtype compute) {
    b->team = team_new(0);
    b->be = make(b->team, NULL);
    b->ws = (workspace){0};
    cr_assert(b->team && b->be);
    b->how = (upscaling){.be = b->be, .ws = &b->ws, .compute = compute};
}

static void bench_close(bench *b) {
    workspace_free(&b->ws);
    backend_free(b->be);
    team_free(b->team);
}

static upscaler *opened(const char *path) {
    error err = {0};
    upscaler *u = upscaler_open(path, &err);
    cr_assert_not_null(u, "%s", err.text);
    return u;
}

static image enlarged(bench *b, upscaler *u, const image *im) {
    image large;
    error err = {0};
    cr_assert_eq(upscaler_run(u, &b->how, im, &large, &err), OK, "%s", err.text);
    return large;
}

static double to_level(float v) { return 255 * fmin(fmax((double)v, 0), 1); }

// The goldens are float64 results; f32 differs from them by 1e-5 at most, which is 0.003 of 255 levels, so
// that the byte is theirs but for what lies next to a half.
static void check_golden(const char *file, const char *name, int scale) {
    bench b;
    bench_open(&b, cpu_backend, DT_F32);
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", file);
    upscaler *u = opened(path);
    cr_expect_eq(upscaler_scale(u), scale, "%s", file);
    image im = golden_picture(), large = enlarged(&b, u, &im);
    int64_t s[3];
    float *v = golden(name, s);
    cr_assert(large.h == s[0] && large.w == s[1], "%s", file);
    for (int64_t i = 0; i < s[0] * s[1] * 3; i++)
        cr_assert_lt(fabs(large.px[i] - to_level(v[i])), 0.5 + 0.01, "%s, value %lld", file, (long long)i);
    mem_free(v);
    image_free(&im);
    image_free(&large);
    upscaler_free(u);
    bench_close(&b);
}

Test(upscale, every_layout_gives_what_pytorch_gives) {
    check_golden("x4.safetensors", "x4", 4);
    check_golden("x4_old.safetensors", "x4", 4);
    check_golden("x4_trunk.safetensors", "x4", 4);
    check_golden("x2_old.pth", "x2_old", 2);
    check_golden("x2.pth", "x2_old", 2);
    check_golden("x2_shuffled.safetensors", "x2_shuffled", 2);
    check_golden("x1_shuffled.safetensors", "x1_shuffled", 1);
    check_golden("compact.safetensors", "compact", 4);
}

// ---- files that are made here

typedef struct {
    safetensors_item items[1000];
    int n;
} made;

static void add_tensor(made *m, const char *name, int ndim, const int64_t *sides) {
    safetensors_item *t = &m->items[m->n++];
    int64_t count = 1;
    *t = (safetensors_item){.name = mem_strdup(name), .type = DT_F32, .ndim = ndim};
    for (int i = 0; i < ndim; i++) count *= t->shape[i] = sides[i];
    float *v = mem_alloc((size_t)count * sizeof *v);
    gen_weight(name, ndim, sides, v);
    t->data = v;
}

static void add_conv(made *m, const char *name, int64_t out, int64_t in) {
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    add_tensor(m, full, 4, (int64_t[]){out, in, 3, 3});
    snprintf(full, sizeof full, "%s.bias", name);
    add_tensor(m, full, 1, &out);
}

// A network of ×2 with these sizes, in the layout of BasicSR.
static void make_network(const char *path, int64_t features, int64_t growth, int blocks) {
    static made m;
    char name[64];
    m.n = 0;
    add_conv(&m, "conv_first", features, 3);
    for (int i = 0; i < blocks * 15; i++) {
        int k = i % 5;
        snprintf(name, sizeof name, "body.%d.rdb%d.conv%d", i / 15, i / 5 % 3 + 1, k + 1);
        add_conv(&m, name, k == 4 ? features : growth, features + k * growth);
    }
    add_conv(&m, "conv_body", features, features);
    add_conv(&m, "conv_up1", features, features);
    add_conv(&m, "conv_hr", features, features);
    add_conv(&m, "conv_last", 3, features);
    error err = {0};
    cr_assert_eq(safetensors_save(path, m.items, (size_t)m.n, NULL, 0, true, &err), OK, "%s", err.text);
    for (int i = 0; i < m.n; i++) {
        mem_free((void *)(uintptr_t)m.items[i].name);
        mem_free((void *)(uintptr_t)m.items[i].data);
    }
}

// Smooth, with edges and some noise: what pictures are made of.
static image scene(int w, int h) {
    image im;
    cr_assert_eq(image_alloc(&im, w, h, 3, NULL), OK);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++) {
                double v = 128 + 60 * sin(0.05 * x + c) + 40 * cos(0.07 * y) +
                           ((x / 17 + y / 23) % 2 ? 20 : -20) +
                           (double)(gen_word("noise", (uint64_t)((y * w + x) * 3 + c)) % 9);
                im.px[(y * w + x) * 3 + c] = (uint8_t)fmin(fmax(v, 0), 255);
            }
    return im;
}

static char scratch[] = "/tmp/calotype-upscale-XXXXXX", file[64];
static void scratch_begin(void) {
    cr_assert(mkdtemp(scratch));
    snprintf(file, sizeof file, "%s/network.safetensors", scratch);
}
static void scratch_end(void) {
    unlink(file);
    rmdir(scratch);
}

typedef struct {
    int most;     // levels
    double share; // of the values that differ at all
} difference;

static difference compare(const image *a, const image *b) {
    difference d = {0};
    size_t n = 3 * (size_t)a->w * (size_t)a->h, other = 0;
    cr_assert(a->w == b->w && a->h == b->h);
    for (size_t i = 0; i < n; i++) {
        int v = abs(a->px[i] - b->px[i]);
        if (v > d.most) d.most = v;
        other += v > 0;
    }
    d.share = (double)other / (double)n;
    return d;
}

static difference tiled_and_not(backend *(*make)(struct team *, error *), dtype compute) {
    bench b;
    bench_open(&b, make, compute);
    upscaler *u = opened(file);
    image im = scene(150, 101);
    image whole = enlarged(&b, u, &im);
    b.how.tile = UPSCALE_MIN_TILE;
    image tiled = enlarged(&b, u, &im);
    difference d = compare(&whole, &tiled);
    image_free(&im);
    image_free(&whole);
    image_free(&tiled);
    upscaler_free(u);
    bench_close(&b);
    return d;
}

// One block sees 15 pixels far, the convolutions around it less than 4: the halo less the feather is 16, and
// in the outermost ring of a receptive field weights are small. What differs is the order of sums: a byte
// where f32 lies next to a half; in bf16, where the neighbour of a tile's edge is rounded another way, a
// level.
Test(upscale, tiles_give_what_one_piece_gives, .init = scratch_begin, .fini = scratch_end) {
    make_network(file, 32, 32, 1);
    difference f32 = tiled_and_not(cpu_backend, DT_F32), fast = tiled_and_not(cpu_backend_fast, DT_F32);
    cr_expect(f32.most <= 1 && f32.share < 1e-3, "f32: %d levels, %.2g of the values", f32.most, f32.share);
    cr_expect(fast.most <= 1 && fast.share < 1e-3, "f32, Winograd: %d levels, %.2g", fast.most, fast.share);
}
