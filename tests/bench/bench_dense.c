// Rates of convolutions and matrix products as shares of the machine's ceiling.
//
//   bench_dense [threads [unet | vae | upscaler | small]]
//
// Shapes: the layers of Stable Diffusion 1.5 (a batch of two for guidance), of its VAE at 512 pixels and of a
// network that enlarges 128 pixels (RRDB), and the layers of a small UNet (batch 32) and VAE (batch 16) in
// training. The best of a few rounds, in turn
// with the ceiling; the share is of the f32 or bf16 ceiling.
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/cpu/dense.h"
#include "core/cpu/int8.h"
#include "core/cpu/winograd.h"
#include "tests/bench/ceiling.h"
#include "tests/bench/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 8 };

typedef struct {
    const char *group;
    int B, Ci, Co, size, kernel, stride; // kernel 0: a linear on B × size rows
} layer;

static const layer layers[] = {
    {"unet", 2, 320, 320, 64, 3, 1},     {"unet", 2, 640, 640, 32, 3, 1},
    {"unet", 2, 1280, 1280, 16, 3, 1},   {"unet", 2, 1280, 1280, 8, 3, 1},
    {"unet", 2, 960, 320, 64, 3, 1},     {"unet", 2, 320, 320, 64, 3, 2},
    {"unet", 2, 4, 320, 64, 3, 1},       {"unet", 2, 320, 4, 64, 3, 1},
    {"unet", 2, 320, 320, 4096, 0, 0},   {"unet", 2, 320, 2560, 4096, 0, 0},
    {"unet", 2, 1280, 10240, 256, 0, 0}, {"unet", 2, 768, 320, 77, 0, 0},
    {"vae", 1, 512, 512, 64, 3, 1},      {"vae", 1, 256, 256, 256, 3, 1},
    {"vae", 1, 128, 128, 512, 3, 1},     {"vae", 1, 128, 3, 512, 3, 1},
    {"upscaler", 1, 64, 32, 128, 3, 1},  {"upscaler", 1, 160, 32, 128, 3, 1},
    {"upscaler", 1, 192, 64, 128, 3, 1}, {"upscaler", 1, 64, 64, 512, 3, 1},
    {"small", 32, 64, 64, 32, 3, 1},     {"small", 32, 128, 128, 16, 3, 1},
    {"small", 32, 128, 64, 32, 3, 1},    {"small", 32, 64, 64, 32, 3, 2},
    {"small", 32, 4, 64, 32, 3, 1},      {"small", 32, 64, 4, 32, 3, 1},
    {"small", 32, 64, 128, 1024, 0, 0},  {"small", 16, 16, 16, 64, 3, 1},
    {"small", 16, 32, 32, 32, 3, 1},     {"small", 16, 64, 64, 16, 3, 1},
    {"small", 16, 32, 32, 64, 3, 2},     {"small", 16, 16, 32, 4096, 0, 0},
};

typedef enum { FORWARD, DX, DW, PASSES } pass;
static const char *const pass_name[] = {"forward", "dx", "dw"};

static dense_desc describe(const layer *l, pass p, dtype t) {
    dense_desc k = {.x_type = t, .w_type = t, .y_type = p == DW ? DT_F32 : t};
    if (l->kernel || p == DW) { // the weight gradient of a linear is that of a 1×1 convolution
        int pad = l->kernel / 2, kernel = l->kernel ? l->kernel : 1, stride = l->stride ? l->stride : 1;
        k.kind = p == DX ? DENSE_CONV_DX : p == DW ? DENSE_CONV_DW : DENSE_CONV;
        k.conv.B = l->B, k.conv.W = l->size, k.conv.H = l->kernel ? l->size : 1;
        k.conv.Ci = l->Ci, k.conv.Co = l->Co, k.conv.kh = k.conv.kw = kernel, k.conv.stride = stride;
        k.conv.pad_top = k.conv.pad_left = k.conv.pad_bottom = k.conv.pad_right = pad;
    } else {
        k.kind = DENSE_MATMUL;
        k.matmul.batch = 1, k.matmul.M = (int64_t)l->B * l->size, k.matmul.packed = true;
        k.matmul.N = p == DX ? l->Ci : l->Co, k.matmul.K = p == DX ? l->Co : l->Ci;
        k.matmul.b_transposed = p != DX;
    }
    return k;
}

// Bytes for any operand of any pass, filled with ones of f32, which are fine numbers of bf16 as well.
static float *operand(int64_t n) {
    float *p = mem_alloc((size_t)n * sizeof *p);
    for (int64_t i = 0; p && i < n; i++) p[i] = 1;
    return p;
}

typedef struct {
    double best, ceiling; // GF/s
} rates;

static void rates_add(rates *r, double rate, double ceiling) {
    if (rate > r->best) r->best = rate;
    if (ceiling > r->ceiling) r->ceiling = ceiling;
}

static void print_row(const layer *l, dtype type, const char *what, const rates *r, const char *kernel) {
    char name[64];
    snprintf(name, sizeof name, "%s %dx%d%s %d-%d@%d b%d", l->group, l->kernel, l->kernel,
             l->stride == 2 ? " s2" : "", l->Ci, l->Co, l->size, l->B);
    printf("| %-30s | %-4s | %-8s | %6.1f | %12.0f %% | %7.0f | %s |\n", name, dtype_name(type), what,
           r->best, 100 * r->best / r->ceiling, r->ceiling, kernel);
    fflush(stdout);
}

// In GF/s of the direct method, so that the rates compare.
static void time_winograd(team *t, const layer *l, dtype type, bool lean) {
    winograd_desc d = {.t = type,
                       .B = l->B,
                       .H = l->size,
                       .W = l->size,
                       .Ci = l->Ci,
                       .Co = l->Co,
                       .top = 1,
                       .left = 1,
                       .bottom = 1,
                       .right = 1,
                       .lean = lean};
    if (l->kernel != 3 || l->stride != 1 || l->Ci < 16 || l->Co < 16 || !winograd_runs(&d)) return;
    int64_t pixels = (int64_t)l->B * l->size * l->size;
    float *x = operand(pixels * l->Ci), *y = operand(pixels * l->Co),
          *w = operand((int64_t)l->Ci * l->Co * 9);
    void *packed = mem_alloc(winograd_packed_bytes(&d)),
         *scratch = mem_alloc(winograd_scratch_bytes(&d, team_size(t)));
    if (!x || !y || !w || !packed || !scratch) machine_die("out of memory");
    winograd_pack(t, &d, w, packed);
    rates r = {0};
    for (int i = 0; i < ROUNDS; i++) {
        double ceiling = ceiling_measure(ceiling_of(type), t), start = clock_seconds();
        winograd_run(t, &d, x, packed, NULL, NULL, y, scratch);
        rates_add(&r, 18e-9 * (double)(pixels * l->Ci * l->Co) / (clock_seconds() - start), ceiling);
    }
    print_row(l, type, "winograd", &r, winograd_name(&d));
    void *all[] = {x, y, w, packed, scratch};
    for (int i = 0; i < 5; i++) mem_free(all[i]);
}

// With weights of 8 bits, beside the ceiling of the activations' type.
static void time_int8(team *t, const layer *l, dtype type) {
    int64_t kernel = l->kernel ? l->kernel : 1, pixels = (int64_t)l->B * l->size * (l->kernel ? l->size : 1);
    int8_desc d = int8_linear(type, pixels, l->Co, l->Ci);
    if (kernel == 3) {
        d.B = l->B;
        d.H = d.W = l->size;
        d.kh = d.kw = 3;
        d.stride = l->stride;
        d.top = d.left = d.bottom = d.right = 1;
    }
    if (!int8_runs() || !int8_fits(&d)) return;
    float *x = operand(pixels * l->Ci), *y = operand(pixels * l->Co),
          *w = operand((int64_t)l->Ci * l->Co * kernel * kernel);
    void *packed = mem_alloc(int8_packed_bytes(&d)),
         *scratch = mem_alloc(int8_scratch_bytes(&d, team_size(t)));
    if (!x || !y || !w || !packed || !scratch) machine_die("out of memory");
    int8_pack(t, &d, w, packed);
    rates r = {0};
    double work = 2e-9 * (double)(pixels * l->Ci * l->Co * kernel * kernel) / (double)(d.stride * d.stride);
    for (int i = 0; i < ROUNDS; i++) {
        double ceiling = ceiling_measure(ceiling_of(type), t), start = clock_seconds();
        int8_run(t, &d, x, packed, NULL, NULL, y, scratch);
        rates_add(&r, work / (clock_seconds() - start), ceiling);
    }
    print_row(l, type, "int8", &r, "int8 vnni");
    void *all[] = {x, y, w, packed, scratch};
    for (int i = 0; i < 5; i++) mem_free(all[i]);
}

static void time_layer(dense_engine *e, team *t, const layer *l, pass p, dtype type) {
    dense_desc k = describe(l, p, type);
    error err = {0};
    dense *d = dense_prepare(e, &k, &err);
    if (!d) {
        printf("%s\n", err.text);
        return;
    }
    int64_t pixels = (int64_t)l->B * l->size * (l->kernel ? l->size : 1);
    float *x = operand(pixels * l->Ci), *y = operand(pixels * l->Co);
    float *w = operand((int64_t)l->Ci * l->Co * (l->kernel ? l->kernel * l->kernel : 1));
    void *packed = mem_alloc(dense_packed_bytes(d)), *scratch = mem_alloc(dense_scratch_bytes(d));
    ceiling_kind c = ceiling_of(type);
    dense_args a = {.x = p == DX ? y : x,
                    .w = p == DW ? y : packed,
                    .y = p == DX   ? x
                         : p == DW ? w
                                   : y,
                    .scratch = scratch};
    if (!x || !y || !w || !packed || !scratch || (p != DW && dense_pack(d, w, packed, &err))) {
        machine_die("out of memory");
    }
    rates r = {0};
    for (int i = 0; i < ROUNDS; i++) {
        double ceiling = ceiling_measure(c, t), start = clock_seconds();
        dense_run(d, &a, &err);
        rates_add(&r, dense_flops(d) / (clock_seconds() - start) * 1e-9, ceiling);
    }
    print_row(l, type, pass_name[p], &r, dense_kernel(d));
    void *all[] = {x, y, w, packed, scratch};
    for (int i = 0; i < 5; i++) mem_free(all[i]);
    dense_free(d);
}

int main(int argc, char **argv) {
    team *t = team_new(argc > 1 ? atoi(argv[1]) : 0);
    error err = {0};
    dense_engine *e = dense_engine_new(t, &err);
    if (!e) machine_die(err.text);
    machine_head("Convolutions and matrix products", t);
    for (ceiling_kind c = 0; c < CEILING_COUNT; c++) {
        double best = 0;
        for (int i = 0; i < ROUNDS; i++) {
            double now = ceiling_measure(c, t);
            if (now > best) best = now;
        }
        if (best > 0) printf("- %s: %.0f GF/s\n", ceiling_name(c), best);
    }
    printf("\n| %-30s | type | %-8s | %6s | of the ceiling | ceiling | kernel "
           "|\n|---|---|---|---|---|---|---|\n",
           "layer", "pass", "GF/s");
    for (unsigned i = 0; i < sizeof layers / sizeof *layers; i++) {
        const layer *l = &layers[i];
        if (argc > 2 && strcmp(l->group, argv[2])) continue;
        for (int type = 0; type < 1 + dense_has_bf16(); type++) {
            dtype dt = type ? DT_BF16 : DT_F32;
            for (pass p = FORWARD; p < PASSES; p++) time_layer(e, t, l, p, dt);
            for (int lean = 0; lean < 2; lean++) time_winograd(t, l, dt, lean);
            time_int8(t, l, dt);
        }
    }
    dense_engine_free(e);
    team_free(t);
}
