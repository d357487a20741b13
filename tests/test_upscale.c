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

// Its values, which are zeros.
static float *add_zeros(made *m, const char *name, int ndim, const int64_t *sides) {
    safetensors_item *t = &m->items[m->n++];
    int64_t count = 1;
    *t = (safetensors_item){.name = mem_strdup(name), .type = DT_F32, .ndim = ndim};
    for (int i = 0; i < ndim; i++) count *= t->shape[i] = sides[i];
    float *v = mem_calloc((size_t)count, sizeof *v);
    t->data = v;
    return v;
}

static void add_tensor(made *m, const char *name, int ndim, const int64_t *sides) {
    gen_weight(name, ndim, sides, add_zeros(m, name, ndim, sides));
}

static void add_conv(made *m, const char *name, int64_t out, int64_t in) {
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    add_tensor(m, full, 4, (int64_t[]){out, in, 3, 3});
    snprintf(full, sizeof full, "%s.bias", name);
    add_tensor(m, full, 1, &out);
}

static void save_network(const char *path, made *m) {
    error err = {0};
    cr_assert_eq(safetensors_save(path, m->items, (size_t)m->n, NULL, 0, true, &err), OK, "%s", err.text);
    for (int i = 0; i < m->n; i++) {
        mem_free((void *)(uintptr_t)m->items[i].name);
        mem_free((void *)(uintptr_t)m->items[i].data);
    }
}

// A compact network that adds nothing to the nearest pixels.
static void make_nearest(const char *path, int scale) {
    static made m;
    int64_t features = 4, out = 3 * scale * scale;
    m.n = 0;
    add_zeros(&m, "body.0.weight", 4, (int64_t[]){features, 3, 3, 3});
    add_zeros(&m, "body.0.bias", 1, &features);
    add_zeros(&m, "body.1.weight", 1, &features);
    add_zeros(&m, "body.2.weight", 4, (int64_t[]){out, features, 3, 3});
    add_zeros(&m, "body.2.bias", 1, &out);
    save_network(path, &m);
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
    save_network(path, &m);
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
    image im = scene(190, 133);
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
// in the outermost ring of a receptive field weights are small. Windows begin where Winograd's tiles do, so
// that also bf16 rounds alike; where it does not, a level is what it is worth.
Test(upscale, tiles_give_what_one_piece_gives, .init = scratch_begin, .fini = scratch_end) {
    make_network(file, 32, 32, 1);
    difference f32 = tiled_and_not(cpu_backend, DT_F32), fast = tiled_and_not(cpu_backend_fast, DT_F32);
    difference bf16 = tiled_and_not(cpu_backend_fast, DT_BF16);
    cr_expect(f32.most <= 1 && f32.share < 1e-3, "f32: %d levels, %.2g of the values", f32.most, f32.share);
    cr_expect(fast.most <= 1 && fast.share < 1e-3, "f32, Winograd: %d levels, %.2g", fast.most, fast.share);
    cr_expect(bf16.most <= 1 && bf16.share < 1e-2, "bf16, Winograd: %d levels, %.2g", bf16.most, bf16.share);
}

// Winograd's products differ from direct ones by 1e-5 of a value in f32 and by some roundings of 2⁻⁹ in bf16.
Test(upscale, every_arithmetic_gives_one_picture, .init = scratch_begin, .fini = scratch_end) {
    make_network(file, 32, 32, 1);
    image im = scene(40, 31), large[3];
    for (int i = 0; i < 3; i++) {
        bench b;
        bench_open(&b, i ? cpu_backend_fast : cpu_backend, i == 2 ? DT_BF16 : DT_F32);
        upscaler *u = opened(file);
        large[i] = enlarged(&b, u, &im);
        upscaler_free(u);
        bench_close(&b);
    }
    difference fast = compare(&large[0], &large[1]), bf16 = compare(&large[0], &large[2]);
    cr_expect(fast.most <= 1 && fast.share < 1e-2, "f32, Winograd: %d levels, %.2g", fast.most, fast.share);
    cr_expect(bf16.most <= 8, "bf16: %d levels, %.2g", bf16.most, bf16.share);
    for (int i = 0; i < 3; i++) image_free(&large[i]);
    image_free(&im);
}

// ---- the command

#define NETWORK "tests/golden/upscale/x4.safetensors"
#define PICTURES "tests/golden/files/"

TestSuite(upscale_command, .init = shell_begin, .fini = shell_end);

static image loaded(const char *name) {
    char path[600];
    image im;
    error err = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(image_load(path, &im, &err), OK, "%s", err.text);
    return im;
}

Test(upscale_command, sizes_names_and_alpha) {
    expect("cp " PICTURES "rgb.png \"$D/a.png\"; cp " PICTURES "rgba.png \"$D/b.png\"; N=$PWD/" NETWORK
           "; cd \"$D\" && $C upscale -m \"$N\" a.png b.png",
           0, "a-4x.png\nb-4x.png\n", "2 pictures in ");
    image small = loaded("b.png"), large = loaded("b-4x.png"), lanczos, alpha;
    cr_assert(large.w == 4 * small.w && large.h == 4 * small.h && large.c == 4 && small.c == 4);
    cr_assert_eq(image_alloc(&alpha, small.w, small.h, 1, NULL), OK);
    for (int i = 0; i < small.w * small.h; i++) alpha.px[i] = small.px[4 * i + 3];
    cr_assert_eq(image_resize(&alpha, large.w, large.h, RESIZE_LANCZOS, &lanczos, NULL), OK);
    for (int i = 0; i < large.w * large.h; i++) cr_assert_eq(large.px[4 * i + 3], lanczos.px[i]);
    image_free(&small);
    image_free(&large);
    image_free(&alpha);
    image_free(&lanczos);
    expect("N=$PWD/" NETWORK
           "; cd \"$D\" && $C upscale -m \"$N\" a.png --scale 1.5 -o '{name}-{scale}.webp' -q",
           0, "a-1.5.webp\n", NULL);
    small = loaded("a.png");
    large = loaded("a-1.5.webp");
    cr_assert(large.w == lround(1.5 * small.w) && large.h == lround(1.5 * small.h) && large.c == 3);
    image_free(&small);
    image_free(&large);
}

Test(upscale_command, what_a_picture_says_is_kept) {
    expect("$C txt2img -m \"$M\" -p 'a boat' --steps 1 -s 3 -o \"$D/a.png\" -q && $C upscale -m " NETWORK
           " \"$D/a.png\" -o \"$D/b.png\" -q && $C inspect \"$D/b.png\"",
           0, "Postprocess upscale by: 4, Postprocess upscaler: x4", NULL);
    expect("$C inspect \"$D/b.png\"", 0, "a boat", NULL);
    expect("$C inspect \"$D/b.png\" --json", 0, "\\\"upscale\\\":{\\\"upscaler\\\":\\\"x4\\\"", NULL);
    // The larger picture still tells how to repeat the one it was made from.
    expect("$C txt2img --from \"$D/b.png\" -m \"$M\" -o \"$D/c.png\" -q && cmp \"$D/a.png\" \"$D/c.png\"", 0,
           NULL, NULL);
    expect("$C upscale -m " NETWORK " \"$D/a.png\" -o \"$D/d.jpg\" -q && $C inspect \"$D/d.jpg\"", 0,
           "Postprocess upscaler: x4", NULL);
    expect("$C upscale -m " NETWORK " \"$D/d.jpg\" -o \"$D/e.png\" -q && $C inspect \"$D/e.png\"", 0,
           "Postprocess upscaler: x4, Postprocess upscale by: 4", NULL);
    expect("$C upscale -m " NETWORK " \"$D/a.png\" -o \"$D/h.png\" --scale 1.3 -q && $C inspect \"$D/h.png\"",
           0, "Postprocess upscale by: 1.3, ", NULL);
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/f.png\" -q && $C inspect \"$D/f.png\"", 0,
           "postprocessing", NULL);
    expect("$C upscale -m " NETWORK
           " \"$D/a.png\" -o \"$D/g.png\" --no-metadata -q && $C inspect \"$D/g.png\" --json",
           0, "\"texts\":{}", NULL);
}

Test(upscale_command, what_is_refused) {
    expect("$C upscale " PICTURES "rgb.png", 2, NULL, "Name its file with -m");
    expect("$C upscale -m " NETWORK, 2, NULL, "which pictures?");
    expect("$C upscale -m none.pth " PICTURES "rgb.png -o \"$D/a.png\"", 66, NULL, "none.pth");
    expect("$C upscale -m " NETWORK " none.png -o \"$D/a.png\"", 66, NULL, "none.png");
    expect("$C upscale -m " NETWORK " " NETWORK " -o \"$D/a.png\"", 65, NULL, "not a PNG");
    expect("$C upscale -m \"$M/unet/diffusion_pytorch_model.safetensors\" " PICTURES
           "rgb.png -o \"$D/a.png\"",
           65, NULL, "holds no upscaler of a kind that is known");
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/a.gif\"", 2, NULL, "name a .png");
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png " PICTURES "rgb.bmp -o \"$D/{name}.png\"", 2, NULL,
           "would be the name of two pictures");
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png --tile-size 127 -o \"$D/a.png\"", 2, NULL, "127");
    expect("touch \"$D/a.png\"; $C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/a.png\"", 73, NULL,
           "is there already (--force replaces it)");
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/a.png\" --force -q", 0, "a.png", NULL);
    // The others are done all the same.
    expect("$C upscale -m " NETWORK " none.png " PICTURES "grey.png -o \"$D/{name}.png\" -q", 1, "grey.png",
           "none.png");
}

Test(upscale_command, events) {
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/a.png\" --json", 0,
           "{\"event\":\"upscale\",\"step\":1,\"steps\":1,", NULL);
    expect("$C upscale -m " NETWORK " " PICTURES "rgb.png -o \"$D/b.png\" --json -q", 0,
           "b.png\",\"index\":0}\n{\"event\":\"done\"", NULL);
}

// ---- in little memory

// The megabytes in the message of a limit that is too small.
static int least_memory(const char *flags) {
    char path[600], text[4000], command[1200];
    int least = 0;
    snprintf(command, sizeof command, "cd \"$D\" && $C upscale %s --max-memory 1M 2>err; test $? = 2", flags);
    expect(command, 0, NULL, NULL);
    snprintf(path, sizeof path, "%s/err", folder);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = 0;
    if (f) fclose(f);
    const char *at = strstr(text, "takes ");
    cr_assert(at && sscanf(at, "takes %d MB of memory at least, and 1 MB are allowed", &least) == 1, "%s",
              text);
    return least;
}

static void save_scene(const char *name, int w, int h) {
    char path[600];
    error err = {0};
    image im = scene(w, h);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cr_assert_eq(image_save(path, &im, &(image_options){0}, true, &err), OK, "%s", err.text);
    image_free(&im);
}

// What is foretold of the least is within some megabytes of where a limit begins to work, and is kept: the
// largest part of what a program is allowed beside its networks is not taken here.
Test(upscale_command, a_limit_of_memory_decides_on_the_tiles) {
    char path[600], command[1200];
    snprintf(path, sizeof path, "%s/network.safetensors", folder);
    make_network(path, 32, 32, 1);
    save_scene("a.png", 300, 140);
    int least = least_memory("-m network.safetensors a.png -o b.png");
    expect("cd \"$D\" && ! test -e b.png && $C upscale -m network.safetensors a.png -o b.png --json", 0,
           "\"step\":1,\"steps\":1,", NULL);
    expect("cd \"$D\" && $C upscale -m network.safetensors a.png -o c.png --tile-size 128 -q", 0, "c.png",
           "");
    snprintf(
        command, sizeof command,
        "cd \"$D\" && $C upscale -m network.safetensors a.png -o d.png --json --max-memory %dM && cmp c.png "
        "d.png",
        least);
    expect(command, 0, "\"steps\":15,", "");
    snprintf(command, sizeof command,
             "cd \"$D\" && $C upscale -m network.safetensors a.png -o e.png --max-memory %dM", least - 2);
    expect(command, 2, NULL, "enlarging 300x140 pixels takes ");
    // Without a limit that matters tiles are as they were.
    expect(
        "cd \"$D\" && $C upscale -m network.safetensors a.png -o f.png -q --max-memory 4G && cmp b.png f.png",
        0, "f.png", "");
}

// ---- as a step of hires fix

#define DRAW "cd \"$D\" && $C txt2img -q -m \"$M\" -p 'a boat' --steps 2 -W 24 -H 16 -s 3 "

static void make_networks(void) {
    char path[600];
    for (int scale = 2; scale <= 4; scale += 2) {
        snprintf(path, sizeof path, "%s/%dx,near.safetensors", folder, scale);
        make_nearest(path, scale);
    }
}

// A network that adds nothing is the nearest pixel; it runs again while the picture is smaller than it is to
// be. After the last one Lanczos' filter has nothing to do.
Test(upscale_command, a_network_enlarges_between_two_passes) {
    make_networks();
    expect(DRAW "--hires --hires-upscaler nearest -o a.png && " DRAW
                "--hires --hires-upscaler 2x,near.safetensors -o b.png && ! cmp -s a.png b.png",
           0, NULL, "");
    image a = loaded("a.png"), b = loaded("b.png");
    cr_expect(a.w == 48 && a.h == 32 && compare(&a, &b).most == 0);
    image_free(&a);
    image_free(&b);
    expect(DRAW "--hires-scale 4 --hires-upscaler nearest -o c.png && " DRAW
                "--hires-scale 4 --hires-upscaler 2x,near.safetensors -o d.png && " DRAW
                "--hires-scale 4 --hires-upscaler 4x,near.safetensors -o e.png",
           0, NULL, "");
    a = loaded("c.png");
    for (const char *name = "d.png"; name; name = *name == 'd' ? "e.png" : NULL) {
        b = loaded(name);
        cr_expect(a.w == 96 && a.h == 64 && compare(&a, &b).most == 0, "%s", name);
        image_free(&b);
    }
    image_free(&a);
}

// What is more than is asked for is cut off or made smaller.
Test(upscale_command, a_network_serves_every_hires_size) {
    make_networks();
    static const struct {
        const char *flags;
        int w, h;
    } SIZES[] = {{"--hires-scale 1.5", 36, 24},
                 {"--hires-width 40 --hires-height 40", 40, 40},
                 {"--hires-scale 0.5", 12, 8},
                 {"--hires-scale 9", 216, 144}};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        char command[1000];
        snprintf(command, sizeof command,
                 DRAW "%s --hires-denoise 0.4 --hires-upscaler 2x,near.safetensors --force -o a.png",
                 SIZES[i].flags);
        expect(command, 0, "a.png", "");
        image im = loaded("a.png");
        cr_expect(im.w == SIZES[i].w && im.h == SIZES[i].h, "%s: %dx%d", SIZES[i].flags, im.w, im.h);
        image_free(&im);
    }
}

Test(upscale_command, a_picture_says_which_network_enlarged_it) {
    make_networks();
    expect(DRAW "-b 2 --hires --hires-upscaler ./4x,near.safetensors -o a.png && $C inspect a-2.png", 0,
           "Hires upscaler: \"4x,near\"", NULL);
    expect("$C inspect --json \"$D/a-2.png\"", 0, "\\\"hires_upscaler\\\":\\\"./4x,near.safetensors\\\"",
           NULL);
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" --from a-2.png -o b.png && cmp a-2.png b.png", 0, "b.png",
           "");
    expect("cd \"$D\" && mv 4x,near.safetensors c && $C txt2img -q -m \"$M\" --from a-2.png -o b.png --force",
           66, NULL, "4x,near.safetensors");
    // Without an ending it is a file where there is one, and the flag goes before what the picture says.
    expect("cd \"$D\" && $C txt2img -q -m \"$M\" --from a-2.png --hires-upscaler c -o d.png", 0, "d.png", "");
    image a = loaded("a-2.png"), d = loaded("d.png");
    cr_expect_eq(compare(&a, &d).most, 0);
    image_free(&a);
    image_free(&d);
}

Test(upscale_command, networks_that_cannot_enlarge_are_refused_before_the_work) {
    expect(DRAW "--hires --hires-upscaler none.safetensors -o a.png --json", 66, "", "none.safetensors");
    expect(DRAW "--hires --hires-upscaler none -o a.png", 2, "", "'none'; there are latent");
    expect("cp tests/golden/files/rgb.png \"$D/b.png\"; " DRAW
           "--hires --hires-upscaler b.png -o a.png --json",
           65, "", "b.png");
    expect(DRAW "--hires --hires-upscaler \"$M/unet/diffusion_pytorch_model.safetensors\" -o a.png --json",
           65, "", "holds no upscaler of a kind that is known");
    expect(DRAW "--hires --hires-upscaler \"$(printf 'a\\377.pth')\" -o a.png", 2, "", "not UTF-8");
    make_networks();
    expect(DRAW "-W 8192 -H 4 --hires-scale 1 --hires-upscaler 4x,near.safetensors -o a.png --json", 2, "",
           "enlarges 8192x4 pixels by 4, to more than a picture may have");
    cr_expect_not(there("a.png"));
}

Test(upscale_command, jobs_are_enlarged_between_two_passes) {
    make_networks();
    expect("cd \"$D\" && printf '%s\\n' '{\"id\":\"a\",\"prompt\":\"a "
           "boat\",\"steps\":2,\"width\":24,\"height\":16,"
           "\"seed\":3,\"hires\":true,\"hires-upscaler\":\"2x,near.safetensors\"}' "
           "'{\"id\":\"b\",\"prompt\":\"a boat\",\"hires\":true,\"hires-upscaler\":\"3x.pth\"}' > jobs && "
           "$C batch -q -m \"$M\" jobs -o pictures",
           1, NULL, "3x.pth");
    expect(DRAW "--hires --hires-upscaler 2x,near.safetensors -o a.png", 0, NULL, "");
    image a = loaded("a.png"), b = loaded("pictures/a.png");
    cr_expect_eq(compare(&a, &b).most, 0);
    image_free(&a);
    image_free(&b);
    cr_expect_not(there("pictures/b.png"));
}

Test(upscale_command, hires_fix_tells_of_its_tiles) {
    make_networks();
    expect(DRAW
           "-b 2 -W 200 --hires-scale 2 --hires-upscaler 2x,near.safetensors --max-memory 150M --json -o "
           "a.png",
           0, "{\"event\":\"upscale\",\"step\":1,\"steps\":1,\"image\":1,\"group\":1,\"images\":2,", NULL);
}
