// Drawing within a limit of memory: the same bytes, a peak below it, weights that are read again and again
// from files that fail, end early or change.
#include "core/api.h"
#include "core/base/mem.h"
#include "core/cpu/cpu.h"
#include "core/graph/op.h"
#include "core/graph/runner.h"
#include "core/pipeline_vae.h"
#include "core/upscaler.h"
#include "tests/backend.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- what the heap holds: the linker sends the library's calls here (--wrap, tests/meson.build)

static atomic_long held, peak;

static void count(long change) {
    long now = atomic_fetch_add(&held, change) + change, before = atomic_load(&peak);
    while (now > before && !atomic_compare_exchange_weak(&peak, &before, now)) {
    }
}

void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __real_free(void *p);
void __wrap_free(void *p);

void *__wrap_aligned_alloc(size_t alignment, size_t n) {
    void *p = __real_aligned_alloc(alignment, n);
    if (p) count((long)malloc_usable_size(p));
    return p;
}

void *__wrap_realloc(void *p, size_t n) {
    long before = p ? (long)malloc_usable_size(p) : 0;
    void *q = __real_realloc(p, n);
    if (q) count((long)malloc_usable_size(q) - before);
    return q;
}

void __wrap_free(void *p) {
    if (p) count(-(long)malloc_usable_size(p));
    __real_free(p);
}

// ---- a network of made-up weights

enum { WIDTH = 128, LAYERS = 16, ROWS = 8, TABLES = 32 << 10 }; // TABLES: bytes of an exec beside its buffers

typedef struct {
    weights w;
    weight made[2 * LAYERS];
    char names[2 * LAYERS][20];
    int reads, fail_at; // the read that fails, from 0; -1: none
    status code;
} maker;

static status read_made(const weight *w, float *dst, error *err) {
    maker *m = (maker *)(uintptr_t)w->source;
    if (m->reads++ == m->fail_at) return fail(err, m->code, "the disk is gone");
    for (int64_t i = 0; i < shape_count(w->shape); i++) dst[i] = 0.1f * sinf((float)(i * 7 + w->name[0]));
    return OK;
}

static const weight *find_made(const weights *self, const char *name) {
    const maker *m = (const maker *)self;
    for (int i = 0; i < 2 * LAYERS; i++)
        if (!strcmp(m->names[i], name)) return &m->made[i];
    return NULL;
}

static void make(maker *m) {
    *m = (maker){.w = {.find = find_made, .origin = "made"}, .fail_at = -1};
    for (int i = 0; i < 2 * LAYERS; i++) {
        snprintf(m->names[i], sizeof m->names[i], "%c.%s", 'a' + i / 2, i % 2 ? "bias" : "weight");
        m->made[i] = (weight){.name = m->names[i],
                              .shape = i % 2 ? SHAPE(WIDTH) : SHAPE(WIDTH, WIDTH),
                              .read = read_made,
                              .source = m,
                              .id = weight_new_id()};
    }
}

typedef struct {
    maker m;
    team *t;
    backend *be;
    plan *p;
    store *values;
    workspace ws;
    error err;
} engine;

static void engine_begin(engine *e) {
    *e = (engine){.t = team_new(2)};
    e->be = test_backend(e->t);
    e->values = store_new();
    make(&e->m);
    graph g;
    graph_init(&g, DT_F32);
    g.weights = &e->m.w;
    node *x = graph_input(&g, "x", SHAPE(1, ROWS, WIDTH), DT_F32, RATE_STEP);
    node *context = graph_input(&g, "context", SHAPE(1, ROWS, WIDTH), DT_F32, RATE_PROMPT);
    x = add(x, unary(linear(context, "a", WIDTH, true), UNARY_SILU));
    for (int i = 1; i < LAYERS; i++) x = linear(x, (char[]){(char)('a' + i), 0}, WIDTH, true);
    e->p = plan_new(&g, &x, 1, e->be, &e->err);
    cr_assert_not_null(e->p, "%s", e->err.text);
}

static void engine_end(engine *e) {
    plan_free(e->p);
    store_free(e->values);
    workspace_free(&e->ws);
    backend_free(e->be);
    team_free(e->t);
}

static void fill(exec *e, float context) {
    float *x = exec_input(e, "x"), *c = exec_input(e, "context");
    for (int i = 0; i < ROWS * WIDTH; i++) x[i] = cosf((float)i), c[i] = context;
}

// Two prompts, two steps each. Returns the bytes that the exec and its runs took at most.
static size_t run_engine(engine *e, size_t limit, float out[ROWS * WIDTH], bool *streams) {
    long before = atomic_load(&held);
    atomic_store(&peak, before);
    store_set_limit(e->values, limit);
    exec *x = exec_new(e->p, e->values, &e->ws, &e->err);
    cr_assert_not_null(x, "%s", e->err.text);
    for (int run = 0; run < 4; run++) {
        fill(x, (float)(run / 2));
        cr_assert_eq(exec_run(x, &e->err), OK, "%s", e->err.text);
    }
    memcpy(out, exec_output(x, 0), ROWS * WIDTH * sizeof *out);
    *streams = exec_streamed(x) > 0;
    exec_free(x);
    store_clear(e->values);
    workspace_free(&e->ws);
    return (size_t)(atomic_load(&peak) - before);
}

static size_t buffers(const engine *e) {
    plan_memory m = plan_needs(e->p);
    return m.workspace + m.persistent;
}

Test(memory, any_limit_gives_the_same_bytes_and_is_kept) {
    engine e;
    static float all[ROWS * WIDTH], some[ROWS * WIDTH];
    bool streams;
    engine_begin(&e);
    plan_values need = plan_values_need(e.p);
    cr_expect_gt(need.all, LAYERS * WIDTH * WIDTH * sizeof(float) - 1);
    cr_expect_lt(need.least, need.all / 4);
    size_t taken = run_engine(&e, SIZE_MAX, all, &streams);
    cr_expect_not(streams);
    cr_expect_gt(taken, need.all);
    size_t step = (need.all - need.least) / 5;
    for (size_t limit = need.least; limit < need.all; limit += step) {
        int reads = e.m.reads;
        taken = run_engine(&e, limit, some, &streams);
        cr_expect(streams);
        cr_expect_gt(e.m.reads - reads, 2 * LAYERS, "nothing was read again");
        cr_expect_leq(taken, limit + buffers(&e) + TABLES, "%zu bytes with a limit of %zu", taken, limit);
        cr_expect_eq(memcmp(all, some, sizeof all), 0, "other values with a limit of %zu", limit);
    }
    run_engine(&e, need.all + need.making, some, &streams);
    cr_expect_not(streams, "there is room for all");
    engine_end(&e);
}

Test(memory, a_limit_below_one_layer_is_refused) {
    engine e;
    engine_begin(&e);
    store_set_limit(e.values, plan_values_need(e.p).least - 1);
    cr_assert_null(exec_new(e.p, e.values, &e.ws, &e.err));
    cr_expect_eq(e.err.code, ERR_USAGE, "%s", e.err.text);
    engine_end(&e);
}

Test(memory, what_is_needed_only_for_the_prompt_streams_first) {
    engine e;
    engine_begin(&e);
    plan_values need = plan_values_need(e.p);
    // a layer less than all, and the stage takes the place of a few more
    store_set_limit(e.values, need.all + need.making - WIDTH * WIDTH * sizeof(float));
    exec *x = exec_new(e.p, e.values, &e.ws, &e.err);
    cr_assert_not_null(x, "%s", e.err.text);
    int reads[2];
    for (int again = 0; again < 2; again++) { // with the same prompt
        int before = e.m.reads;
        if (!again) fill(x, 1);
        cr_assert_eq(exec_run(x, &e.err), OK, "%s", e.err.text);
        reads[again] = e.m.reads - before;
    }
    cr_expect_gt(reads[1], 0);
    cr_expect_gt(reads[0], reads[1], "the prompt's layer stays in memory");
    exec_free(x);
    engine_end(&e);
}

Test(memory, a_failing_file_ends_the_run_and_the_next_one_is_whole) {
    engine e;
    static float all[ROWS * WIDTH];
    bool streams;
    engine_begin(&e);
    run_engine(&e, SIZE_MAX, all, &streams);
    store_set_limit(e.values, plan_values_need(e.p).least);
    exec *x = exec_new(e.p, e.values, &e.ws, &e.err);
    cr_assert_not_null(x, "%s", e.err.text);
    for (int at = 0; at < 2 * LAYERS; at++) {
        fill(x, 1);
        e.m.fail_at = e.m.reads + at;
        e.m.code = at % 2 ? ERR_IO : ERR_TEMP;
        e.err = (error){0};
        cr_expect_eq(exec_run(x, &e.err), e.m.code, "read %d: %s", at, e.err.text);
        cr_expect_not_null(strstr(e.err.text, "the disk is gone"));
    }
    cr_assert_eq(exec_run(x, &e.err), OK, "%s", e.err.text);
    cr_expect_eq(memcmp(exec_output(x, 0), all, sizeof all), 0);
    exec_free(x);
    engine_end(&e);
}

// ---- a whole model

typedef struct {
    char dir[512];
    uint64_t least;
} small;

static void small_begin(small *s) {
    tiny_model_write("sd", "v", s->dir, sizeof s->dir);
    s->least = tiny_model_least_memory(s->dir, 1);
}

static calo_context *f32_context(int threads, uint64_t limit, calo_fast fast) {
    calo_context_options o = calo_context_defaults();
    calo_context *ctx;
    o.precision = CALO_PRECISION_F32;
    o.max_memory = limit;
    o.fast = fast;
    o.threads = threads;
    cr_assert_eq(calo_context_new(&o, &ctx), CALO_OK);
    return ctx;
}

Test(memory, as_many_pictures_are_drawn_together_as_fit) {
    small s;
    small_begin(&s);
    calo_context *ctx = f32_context(1, s.least, CALO_FAST_OFF);
    calo_model *m;
    calo_images *images = NULL;
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.steps = 1;
    r.width = r.height = 32;
    r.count = 8;
    cr_assert_eq(calo_model_open(ctx, s.dir, &m), CALO_OK);
    cr_expect_eq(calo_txt2img(m, &r, &images), CALO_OK, "%s", calo_message(ctx));
    cr_expect_eq(calo_images_count(images), 8);
    calo_images_free(images);
    calo_model_free(m);
    calo_context_free(ctx);
    tiny_model_remove(s.dir);
}

static calo_status draw_within(const char *dir, uint64_t limit, calo_fast fast,
                               void (*between)(const char *dir), calo_images **images, char message[1000]) {
    calo_context *ctx = f32_context(1, limit, fast);
    calo_model *m = NULL;
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.steps = 3;
    r.width = r.height = 32;
    r.cfg_end = 0.5; // two plans of the UNet
    calo_status s = calo_model_open(ctx, dir, &m);
    if (!s && between) s = calo_txt2img(m, &r, NULL);
    if (!s && between) between(dir);
    if (!s) s = calo_txt2img(m, &r, images);
    snprintf(message, 1000, "%s", calo_message(ctx));
    calo_model_free(m);
    calo_context_free(ctx);
    return s;
}

Test(memory, a_picture_is_the_same_with_little_memory) {
    small s;
    char message[1000];
    small_begin(&s);
    calo_images *much, *little;
    cr_assert_eq(draw_within(s.dir, 0, CALO_FAST_OFF, NULL, &much, message), CALO_OK, "%s", message);
    for (int i = 0; i < 2; i++) { // as little as there is, and a little more
        calo_status st =
            draw_within(s.dir, s.least + (uint64_t)i * 20000, CALO_FAST_OFF, NULL, &little, message);
        cr_assert_eq(st, CALO_OK, "%s", message);
        const calo_image *a = calo_images_at(much, 0), *b = calo_images_at(little, 0);
        cr_expect_eq(memcmp(a->rgb, b->rgb, 3 * 32 * 32), 0);
        size_t latents = (size_t)(a->latent_shape[0] * a->latent_shape[1] * a->latent_shape[2]);
        cr_expect_eq(memcmp(a->latents, b->latents, latents * sizeof *a->latents), 0);
        calo_images_free(little);
    }
    calo_images_free(much);
    tiny_model_remove(s.dir);
}

typedef struct {
    calo_model *m;
    size_t held[2]; // by UNet and text encoder while a picture is handed over
    uint8_t rgb[3 * 32 * 32];
} forgetful;

static calo_status look(void *user, const calo_image *im) {
    forgetful *f = user;
    f->held[0] = store_bytes(model_values(f->m->m, PART_UNET));
    f->held[1] = store_bytes(model_values(f->m->m, PART_TEXT_ENCODER));
    memcpy(f->rgb, im->rgb, sizeof f->rgb);
    return CALO_OK;
}

Test(memory, what_no_step_runs_again_is_forgotten) {
    static forgetful f[3];
    static const char *const PROMPTS[] = {"a boat", "a house"};
    small s;
    small_begin(&s);
    for (int limited = 0; limited < 2; limited++) { // with a limit one picture after the other
        calo_context *ctx = f32_context(1, limited ? s.least : 0, CALO_FAST_OFF);
        calo_model *m;
        cr_assert_eq(calo_model_open(ctx, s.dir, &m), CALO_OK);
        for (int i = 0; i < 3; i++) {
            calo_txt2img_request r = calo_txt2img_defaults();
            f[i].m = m;
            r.prompts = PROMPTS;
            r.count = 2;
            r.steps = 2;
            r.width = r.height = 32;
            r.forget = i == 1;
            r.on_image = look;
            r.user = &f[i];
            cr_assert_eq(calo_txt2img(m, &r, NULL), CALO_OK, "%s", calo_message(ctx));
            cr_expect_eq(memcmp(f[i].rgb, f[0].rgb, sizeof f->rgb), 0);
            for (int k = 0; k < 2 && (i == 1 || !limited); k++)
                cr_expect_eq(f[i].held[k] == 0, i == 1, "%d: %d holds %zu", i, k, f[i].held[k]);
        }
        calo_model_free(m);
        calo_context_free(ctx);
    }
    tiny_model_remove(s.dir);
}

Test(memory, too_little_is_told_before_anything_is_loaded) {
    small s;
    char message[1000];
    small_begin(&s);
    calo_images *images = NULL;
    cr_expect_eq(draw_within(s.dir, 700, CALO_FAST_AUTO, NULL, &images, message), CALO_ERR_USAGE);
    calo_images_free(images);
    cr_expect_not_null(strstr(message, "a picture of 32x32 takes 101 MB of memory at least (the "), "%s",
                       message);
    tiny_model_remove(s.dir);
}

Test(memory, the_smallest_limit_is_foretold) {
    small s;
    calo_context *ctx = f32_context(1, 0, CALO_FAST_AUTO);
    calo_model *m;
    char *text;
    small_begin(&s);
    cr_assert_eq(calo_model_open(ctx, s.dir, &m), CALO_OK);
    cr_assert_eq(calo_inspect_memory(m, 32, 32, &text), CALO_OK, "%s", calo_message(ctx));
    json_t *j = json_loads(text, 0, NULL), *list = json_object_get(j, "networks");
    uint64_t least = (uint64_t)json_integer_value(json_object_get(j, "least"));
    cr_expect(least <= s.least && s.least <= least + 4000, "%llu foretold, %llu found",
              (unsigned long long)least, (unsigned long long)s.least);
    cr_expect_eq(json_array_size(list), 3);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *n = json_array_get(list, i);
        cr_expect_gt(json_integer_value(json_object_get(n, "weights")), 0);
        cr_expect_eq(json_integer_value(json_object_get(n, "streamed")), 0, "there is no limit");
    }
    json_decref(j);
    calo_free(text);
    calo_model_free(m);
    calo_context_free(ctx);
    tiny_model_remove(s.dir);
}

static void change_file(const char *dir, bool cut) {
    char path[700];
    snprintf(path, sizeof path, "%s/unet/diffusion_pytorch_model.safetensors", dir);
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    off_t end = lseek(fd, 0, SEEK_END);
    cr_assert_eq(cut ? ftruncate(fd, end / 2) : (int)pwrite(fd, "x", 1, end - 1) - 1, 0);
    close(fd);
}

static void cut_file(const char *dir) { change_file(dir, true); }
static void write_file(const char *dir) { change_file(dir, false); }

Test(memory, a_file_that_changes_meanwhile_is_an_error) {
    static void (*const CHANGES[])(const char *) = {cut_file, write_file};
    static const char *const TOLD[] = {"the file ends before byte",
                                       "the file was changed while it is in use"};
    for (int i = 0; i < 2; i++) {
        small s;
        char message[1000];
        calo_images *images = NULL;
        small_begin(&s);
        cr_expect_eq(draw_within(s.dir, s.least, CALO_FAST_AUTO, CHANGES[i], &images, message),
                     CALO_ERR_DATA);
        cr_expect_not_null(strstr(message, TOLD[i]), "%s", message);
        calo_images_free(images);
        tiny_model_remove(s.dir);
    }
}

enum { SIDE = 64 }; // of the latents; each is 8 × 8 pixels

// What the autoencoder makes of the same latents. Returns the bytes that it took.
static size_t decode(const char *dir, uint64_t limit, calo_tiling tiling, uint8_t *rgb, status *s) {
    static float latents[SIDE * SIDE * 4];
    calo_context *ctx = f32_context(2, limit, CALO_FAST_AUTO);
    calo_model *m;
    for (int i = 0; i < SIDE * SIDE * 4; i++) latents[i] = cosf((float)i);
    cr_assert_eq(calo_model_open(ctx, dir, &m), CALO_OK);
    autoencoder a = {
        .model = m, .compute = DT_F32, .C = 4, .h = SIDE, .w = SIDE, .tiling = tiling, .tile = 64};
    const vae_config *v = model_vae(m->m, NULL);
    cr_assert_eq(v->latent_channels, 4);
    long before = atomic_load(&held);
    atomic_store(&peak, before);
    *s = autoencoder_decode(&a, latents, rgb, &ctx->err);
    size_t taken = (size_t)(atomic_load(&peak) - before);
    calo_model_free(m);
    calo_context_free(ctx);
    return taken;
}

Test(memory, the_autoencoder_works_in_parts_where_it_must) {
    enum { BYTES = 3 * 64 * SIDE * SIDE, PLANS = 1 << 20 };
    static uint8_t whole[BYTES], parts[BYTES];
    char dir[512];
    status s;
    tiny_model_write("sd", "v", dir, sizeof dir);
    size_t all = decode(dir, 0, CALO_TILING_AUTO, whole, &s);
    cr_assert_eq(s, OK);
    size_t limit = all * 3 / 4;
    decode(dir, PROCESS_BYTES + limit, CALO_TILING_OFF, parts, &s);
    cr_expect_eq(s, ERR_USAGE);
    size_t taken = decode(dir, PROCESS_BYTES + limit, CALO_TILING_AUTO, parts, &s);
    cr_assert_eq(s, OK);
    cr_expect_leq(taken, limit + PLANS, "%zu bytes with a limit of %zu; the whole takes %zu", taken, limit,
                  all);
    for (int i = 0; i < BYTES; i++) cr_assert_leq(abs(whole[i] - parts[i]), 1);
    tiny_model_remove(dir);
}

// ---- a network that enlarges

#define NETWORK "tests/golden/upscale/x4.safetensors"

// In tiles and in one piece.
Test(memory, what_an_upscaler_takes_is_foretold) {
    enum { W = 300, H = 200, SLACK = 1 << 18 }; // an exec's tables
    team *t = team_new(2);
    backend *be = cpu_backend_fast(t, NULL);
    image im, larger;
    error err = {0};
    cr_assert_eq(image_alloc(&im, W, H, 3, &err), OK);
    memset(im.px, 100, 3 * W * H);
    for (int tile = UPSCALE_MIN_TILE; tile <= UPSCALE_TILE; tile += UPSCALE_TILE - UPSCALE_MIN_TILE) {
        workspace ws = {0};
        upscaling how = {.be = be, .ws = &ws, .compute = DT_F32, .tile = tile};
        upscaler *u = upscaler_open(NETWORK, &err);
        size_t bytes;
        cr_assert_not_null(u, "%s", err.text);
        cr_assert_eq(upscaler_memory(u, &how, W, H, &bytes, &err), OK, "%s", err.text);
        long before = atomic_load(&held);
        atomic_store(&peak, before);
        cr_assert_eq(upscaler_run(u, &how, &im, &larger, &err), OK, "%s", err.text);
        size_t taken = (size_t)(atomic_load(&peak) - before);
        cr_expect(taken <= bytes + SLACK && bytes <= taken + SLACK, "tile %d: %zu foretold, %zu taken", tile,
                  bytes, taken);
        image_free(&larger);
        upscaler_forget(u, &ws);
        upscaler_free(u);
    }
    image_free(&im);
    backend_free(be);
    team_free(t);
}

static calo_txt2img_request twice(void) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a boat";
    r.steps = 2;
    r.width = r.height = 64;
    r.hires_scale = 1.5;
    r.hires_upscaler = NETWORK;
    return r;
}

static calo_status draw_twice(const char *dir, uint64_t limit, calo_images **images, char message[1000]) {
    calo_context *ctx = f32_context(1, limit, CALO_FAST_AUTO);
    calo_model *m = NULL;
    calo_txt2img_request r = twice();
    calo_status s = calo_model_open(ctx, dir, &m);
    if (!s) s = calo_txt2img(m, &r, images);
    snprintf(message, 1000, "%s", calo_message(ctx));
    calo_model_free(m);
    calo_context_free(ctx);
    return s;
}

// What inspect says of the two passes, of 96 pixels in the end: the smallest limit.
static double foretold_least(const char *dir) {
    calo_context *ctx = f32_context(1, 0, CALO_FAST_AUTO);
    calo_model *m = NULL;
    char *text = NULL;
    calo_txt2img_request r = twice();
    cr_assert(!calo_model_open(ctx, dir, &m) && !calo_inspect_request(m, &r, &text), "%s", calo_message(ctx));
    json_t *j = json_loads(text, 0, NULL), *list = json_object_get(j, "networks");
    json_t *last = json_array_get(list, json_array_size(list) - 1);
    double least = json_number_value(json_object_get(j, "least"));
    cr_expect_eq(json_integer_value(json_object_get(j, "width")), 96);
    cr_expect_str_eq(json_string_value(json_object_get(last, "name")), "hires_upscaler");
    cr_expect_geq(json_number_value(json_object_get(last, "peak")), least);
    cr_expect_geq(json_integer_value(json_object_get(last, "tile")), 128);
    json_decref(j);
    calo_free(text);
    calo_model_free(m);
    calo_context_free(ctx);
    return least;
}

// The network's turn is as any other's: its peak decides here.
Test(memory, an_upscaler_between_two_passes_keeps_the_limit) {
    enum { PLANS = 1800000 }; // of all networks of two passes
    char dir[512], message[1000];
    calo_images *much, *little;
    double least = 0;
    tiny_model_write("sd", "v", dir, sizeof dir);
    cr_assert_eq(draw_twice(dir, 0, &much, message), CALO_OK, "%s", message);
    cr_expect_eq(draw_twice(dir, PROCESS_BYTES, &little, message), CALO_ERR_USAGE);
    calo_images_free(little);
    const char *told = strstr(message, "takes ");
    cr_assert(told && sscanf(told, "takes %lf MB of memory at least (the hires upscaler)", &least) == 1 &&
                  strstr(message, "(the hires upscaler)"),
              "%s", message);
    double foretold = foretold_least(dir); // told in whole MB, and one more
    cr_expect(foretold <= least * 1e6 && foretold > (least - 2) * 1e6, "%g foretold, %g MB told", foretold,
              least);
    uint64_t limit = (uint64_t)(least * 1e6);
    cr_expect_eq(draw_twice(dir, limit - 2000000, &little, message), CALO_ERR_USAGE);
    calo_images_free(little);
    long before = atomic_load(&held);
    atomic_store(&peak, before);
    cr_assert_eq(draw_twice(dir, limit, &little, message), CALO_OK, "%s", message);
    size_t taken = (size_t)(atomic_load(&peak) - before);
    cr_expect_leq(taken, limit - PROCESS_BYTES + PLANS, "%zu bytes with a limit of %llu", taken,
                  (unsigned long long)limit);
    const calo_image *a = calo_images_at(much, 0), *b = calo_images_at(little, 0);
    cr_expect(a->width == 96 && !memcmp(a->rgb, b->rgb, 3 * 96 * 96));
    calo_images_free(much);
    calo_images_free(little);
    tiny_model_remove(dir);
}
