// The autoencoder in bands: beside diffusers, beside itself in one piece, and in the memory it saves.
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/base/threads.h"
#include "core/graph/runner.h"
#include "core/models/layout.h"
#include "core/models/vae_tiles.h"
#include "tests/backend.h"
#include "tests/golden_case.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

// An autoencoder of tests/golden/networks and what runs it.
typedef struct {
    golden *c;
    vae_config config;
    team *team;
    backend *be;
    store *values;
    workspace room;
} setting;

static void open_setting(setting *s, const char *path, int threads, bool fast) {
    error err = {0};
    *s = (setting){.c = golden_open(path), .team = team_new(threads), .values = store_new()};
    s->be = fast ? cpu_backend_fast(s->team, &err) : test_backend(s->team);
    cr_assert(s->be && s->values);
    cr_assert_eq(vae_config_parse(&s->config, golden_config(s->c), "config.json", &err), OK, "%s", err.text);
}

static void close_setting(setting *s) {
    workspace_free(&s->room);
    store_free(s->values);
    backend_free(s->be);
    team_free(s->team);
    golden_close(s->c);
}

typedef struct {
    int64_t H, W, C;
    float *v; // [H,W,C]
} picture;

static picture new_picture(int64_t H, int64_t W, int64_t C) {
    picture p = {H, W, C, mem_calloc((size_t)(H * W * C), sizeof *p.v)};
    cr_assert_not_null(p.v);
    return p;
}

static picture noise(int64_t H, int64_t W, int64_t C) {
    picture p = new_picture(H, W, C);
    mt19937 mt;
    mt_seed(&mt, 7);
    mt_normal(&mt, p.v, (size_t)(H * W * C));
    return p;
}

static picture input_of(const setting *s, vae_way way, int64_t h, int64_t w) {
    int64_t f = way == VAE_ENCODE ? vae_factor(&s->config) : 1;
    return noise(h * f, w * f, way == VAE_ENCODE ? s->config.in_channels : s->config.latent_channels);
}

static picture result_for(const setting *s, vae_way way, const picture *x) {
    int64_t f = vae_factor(&s->config);
    return way == VAE_ENCODE ? new_picture(x->H / f, x->W / f, 2 * s->config.latent_channels)
                             : new_picture(x->H * f, x->W * f, s->config.out_channels);
}

static picture tiled(setting *s, vae_way way, dtype compute, int64_t pixels, const picture *x) {
    error err = {0};
    vae_tiles t = {&s->config, way, compute, golden_weights(s->c, false), s->values, s->be, &s->room, pixels};
    picture y = result_for(s, way, x);
    cr_assert_eq(vae_tiles_run(&t, x->v, x->H, x->W, y.v, &err), OK, "%s", err.text);
    return y;
}

// The network as a single graph.
static picture whole(setting *s, vae_way way, dtype compute, const picture *x, size_t *bytes) {
    error err = {0};
    graph g;
    runner r;
    graph_init(&g, compute);
    g.weights = golden_weights(s->c, false);
    node *in = graph_input(&g, "x", SHAPE(1, x->H, x->W, x->C), DT_F32, RATE_STEP), *out[2];
    int n = 1;
    if (way == VAE_DECODE) {
        out[0] = vae_decode_build(&g, &s->config, in);
    } else {
        vae_moments m = vae_encode_build(&g, &s->config, in);
        out[0] = m.mean;
        out[1] = m.logvar;
        n = 2;
    }
    cr_assert_eq(runner_init(&r, &g, out, n, s->be, NULL, NULL, &err), OK, "%s", err.text);
    memcpy(exec_input(r.exec, "x"), x->v, (size_t)(x->H * x->W * x->C) * sizeof *x->v);
    cr_assert_eq(exec_run(r.exec, &err), OK, "%s", err.text);
    picture y = result_for(s, way, x);
    int64_t C = y.C / n;
    for (int64_t i = 0; i < y.H * y.W; i++)
        for (int k = 0; k < n; k++)
            memcpy(y.v + (i * n + k) * C, (const float *)exec_output(r.exec, k) + i * C,
                   (size_t)C * sizeof(float));
    if (bytes) *bytes = plan_needs(r.plan).workspace;
    runner_free(&r);
    return y;
}

// The largest difference, in units of the largest value. Logarithms of variances beyond the clamp are equal.
static double difference(const setting *s, vae_way way, const picture *a, const picture *b) {
    double most = 0, size = 0;
    for (int64_t i = 0; i < a->H * a->W * a->C; i++) {
        double v = a->v[i];
        if (way == VAE_ENCODE && i % a->C >= s->config.latent_channels)
            v = fmin(fmax(v, VAE_LOW_LOGVAR), VAE_HIGH_LOGVAR);
        most = fmax(most, fabs(v - b->v[i]));
        size = fmax(size, fabs(b->v[i]));
    }
    return most / size;
}

static void compare(setting *s, vae_way way, dtype compute, int64_t pixels, int64_t h, int64_t w,
                    double tolerance) {
    picture x = input_of(s, way, h, w), a = tiled(s, way, compute, pixels, &x),
            b = whole(s, way, compute, &x, NULL);
    double d = difference(s, way, &a, &b);
    cr_expect(d <= tolerance, "%s of %dx%d latents in bands of %d pixels, %s: differs by %.2g",
              way == VAE_DECODE ? "decoding" : "encoding", (int)w, (int)h, (int)pixels, dtype_name(compute),
              d);
    mem_free(x.v), mem_free(a.v), mem_free(b.v);
}

// Sums in another order: 1e-6 was measured, where forgetting a halo or taking a band's own statistics gives
// 1e-2 and more.
static void check_autoencoder(const char *path) {
    static const int64_t PIXELS[] = {1, 700, 3000, 20000, 1 << 20};
    setting s;
    open_setting(&s, path, 0, false);
    for (vae_way way = VAE_ENCODE; way <= VAE_DECODE; way++)
        for (size_t i = 0; i < sizeof PIXELS / sizeof *PIXELS; i++) {
            compare(&s, way, DT_F32, PIXELS[i], 13, 9, 1e-5);
            compare(&s, way, DT_F32, PIXELS[i], 3, 17, 1e-5);
        }
    close_setting(&s);
}

// ---- told and stopped after each run

typedef struct {
    int runs, stop_at; // 0: never
} counter;

static status count_run(void *user, error *err) {
    counter *c = user;
    return ++c->runs == c->stop_at ? fail(err, ERR_CANCELLED, "stopped") : OK;
}

static void check_runs(const char *path) {
    static const int64_t PIXELS[] = {1, 700, 3000, 1 << 20};
    setting s;
    open_setting(&s, path, 0, false);
    for (vae_way way = VAE_ENCODE; way <= VAE_DECODE; way++)
        for (size_t i = 0; i < sizeof PIXELS / sizeof *PIXELS; i++) {
            picture x = input_of(&s, way, 13, 9), y = result_for(&s, way, &x);
            counter c = {0};
            vae_tiles t = {.config = &s.config,
                           .way = way,
                           .compute = DT_F32,
                           .weights = golden_weights(s.c, false),
                           .values = s.values,
                           .be = s.be,
                           .room = &s.room,
                           .pixels = PIXELS[i],
                           .progress = count_run,
                           .user = &c};
            int runs = vae_tiles_runs(&t, x.H, x.W);
            cr_expect_eq(vae_tiles_run(&t, x.v, x.H, x.W, y.v, NULL), OK);
            cr_expect_eq(c.runs, runs, "%d pixels: %d runs of %d", (int)PIXELS[i], c.runs, runs);
            for (int stop = 1; stop <= runs; stop += 1 + runs / 5) {
                error err = {0};
                c = (counter){.stop_at = stop};
                cr_expect_eq(vae_tiles_run(&t, x.v, x.H, x.W, y.v, &err), ERR_CANCELLED);
                cr_expect_eq(c.runs, stop);
            }
            mem_free(x.v), mem_free(y.v);
        }
    close_setting(&s);
}

Test(tiles, runs_are_counted_and_stopped_sd) { check_runs("networks/vae_sd"); }
Test(tiles, runs_are_counted_and_stopped_talbot) { check_runs("networks/vae_talbot"); }

Test(tiles, equal_the_whole_sd) { check_autoencoder("networks/vae_sd"); }
Test(tiles, equal_the_whole_talbot) { check_autoencoder("networks/vae_talbot"); }
Test(tiles, equal_the_whole_noquant) { check_autoencoder("networks/vae_noquant"); }

// bf16 values that fall on the other side of a rounding are 2⁻⁸ apart, and so on through thirty layers.
Test(tiles, equal_the_whole_in_bf16) {
    setting s;
    open_setting(&s, "networks/vae_sd", 0, false);
    compare(&s, VAE_DECODE, DT_BF16, 3000, 13, 9, 0.05);
    compare(&s, VAE_ENCODE, DT_BF16, 3000, 13, 9, 0.05);
    close_setting(&s);
}

// Winograd's transforms round in other places: 1e-5 of a result (core/cpu/winograd.h).
Test(tiles, equal_the_whole_with_fewer_multiplications) {
    setting s;
    open_setting(&s, "networks/vae_sd", 0, true);
    compare(&s, VAE_DECODE, DT_F32, 3000, 13, 9, 1e-4);
    compare(&s, VAE_ENCODE, DT_F32, 3000, 13, 9, 1e-4);
    close_setting(&s);
}

// ---- beside diffusers

static void check_golden(setting *s, int run) {
    golden_run about = golden_run_at(s->c, run);
    vae_way way = strcmp(about.network, "vae_encoder") ? VAE_DECODE : VAE_ENCODE;
    shape in = golden_input(s->c, run, 0).shape;
    size_t n = (size_t)shape_count(in), one = n / (size_t)in.d[0];
    double *values = mem_alloc(n * sizeof *values);
    golden_input_values(s->c, run, 0, values);
    int64_t L = s->config.latent_channels;
    for (int i = 0; i < about.n_outputs; i++) {
        shape out = golden_output(s->c, run, i).shape;
        double *got = mem_alloc((size_t)shape_count(out) * sizeof *got), *to = got;
        for (int64_t b = 0; b < in.d[0]; b++) {
            picture x = new_picture(in.d[2], in.d[3], in.d[1]);
            for (size_t k = 0; k < one; k++)
                x.v[k % (size_t)(x.H * x.W) * (size_t)x.C + k / (size_t)(x.H * x.W)] =
                    (float)values[(size_t)b * one + k];
            picture y = tiled(s, way, DT_F32, 1, &x);
            for (int64_t c = i * L; c < i * L + out.d[1]; c++)
                for (int64_t k = 0; k < y.H * y.W; k++) *to++ = y.v[k * y.C + c];
            mem_free(x.v), mem_free(y.v);
        }
        double d = golden_output_distance(s->c, run, i, got);
        cr_expect(d <= 1e-5, "run %d, output %d: differs by %.2g from diffusers", run, i, d);
        mem_free(got);
    }
    mem_free(values);
}

Test(tiles, equal_diffusers) {
    static const char *const PATHS[] = {"networks/vae_sd", "networks/vae_noquant", "networks/vae_talbot"};
    for (int i = 0; i < 3; i++) {
        setting s;
        open_setting(&s, PATHS[i], 0, false);
        for (int run = 0; run < golden_runs(s.c); run++) check_golden(&s, run);
        close_setting(&s);
    }
}

// ---- threads and memory

Test(tiles, do_not_depend_on_the_threads) {
    picture y[2];
    for (int i = 0; i < 2; i++) {
        setting s;
        open_setting(&s, "networks/vae_sd", 1 + 2 * i, false);
        picture x = input_of(&s, VAE_DECODE, 13, 9);
        y[i] = tiled(&s, VAE_DECODE, DT_F32, 3000, &x);
        mem_free(x.v);
        close_setting(&s);
    }
    cr_expect_arr_eq(y[0].v, y[1].v, (size_t)(y[0].H * y[0].W * y[0].C) * sizeof(float));
    mem_free(y[0].v), mem_free(y[1].v);
}

// What is said of the memory without bands, which decides whether there are some.
Test(tiles, know_what_they_save) {
    setting s;
    open_setting(&s, "networks/vae_sd", 0, false);
    int64_t f = vae_factor(&s.config);
    for (vae_way way = VAE_ENCODE; way <= VAE_DECODE; way++) {
        size_t without;
        picture x = input_of(&s, way, 24, 32), a = whole(&s, way, DT_F32, &x, &without),
                b = tiled(&s, way, DT_F32, 64 * 64, &x);
        double said = (double)vae_untiled_bytes(&s.config, way, 24 * f, 32 * f, DT_F32);
        cr_expect(said / (double)without > 0.6 && said / (double)without < 1.2, "%g bytes, not %zu", said,
                  without);
        cr_expect_lt(s.room.bytes, without / 2, "bands take %zu bytes, the whole %zu", s.room.bytes, without);
        mem_free(x.v), mem_free(a.v), mem_free(b.v);
    }
    close_setting(&s);
}
