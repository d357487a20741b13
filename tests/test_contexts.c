// Contexts beside each other and jobs stopped from outside: the library in a program with threads. The thread
// sanitizer runs this group on the reference kernels, so the jobs are small.
#include "core/calotype.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3, PICTURES = 2, THREADS = 2 };

static char folder[512];

static void make_model(void) {
    tiny_model_write("sd", "eps", folder, sizeof folder);
    setenv("XDG_CACHE_HOME", folder, 1);
}

static void remove_model(void) { tiny_model_remove(folder); }

TestSuite(contexts, .init = make_model, .fini = remove_model);

static calo_context_options few_threads(void) {
    calo_context_options o = calo_context_defaults();
    o.threads = 2;
    o.precision = CALO_PRECISION_F32;
    return o;
}

// ---- side by side

// One thread's whole life with the library.
typedef struct {
    calo_status status;
    calo_images *images;
    char message[300];
    pthread_t thread;
} worker;

static void *draw(void *arg) {
    worker *w = arg;
    calo_context_options o = few_threads();
    calo_context *ctx = NULL;
    calo_model *model = NULL;
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = "a red heart";
    r.steps = STEPS;
    r.count = PICTURES;
    w->status = calo_context_new(&o, &ctx);
    if (!w->status) w->status = calo_model_open(ctx, folder, &model);
    if (!w->status) w->status = calo_txt2img(model, &r, &w->images);
    snprintf(w->message, sizeof w->message, "%s", calo_message(ctx));
    calo_model_free(model);
    calo_context_free(ctx);
    return NULL;
}

static void expect_same(const calo_images *a, const calo_images *b) {
    cr_assert_eq(calo_images_count(a), PICTURES);
    cr_assert_eq(calo_images_count(b), PICTURES);
    for (size_t i = 0; i < PICTURES; i++) {
        const calo_image *x = calo_images_at(a, i), *y = calo_images_at(b, i);
        cr_expect_eq(memcmp(x->rgb, y->rgb, 3 * (size_t)x->width * (size_t)x->height), 0, "picture %zu", i);
        cr_expect_str_eq(x->json, y->json);
    }
}

Test(contexts, two_threads_draw_what_one_draws) {
    worker alone = {0}, beside[THREADS] = {0};
    for (int i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&beside[i].thread, NULL, draw, &beside[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(beside[i].thread, NULL);
    draw(&alone);
    cr_assert_eq(alone.status, CALO_OK, "%s", alone.message);
    for (int i = 0; i < THREADS; i++) {
        cr_assert_eq(beside[i].status, CALO_OK, "%s", beside[i].message);
        expect_same(alone.images, beside[i].images);
        calo_images_free(beside[i].images);
    }
    calo_images_free(alone.images);
}

// ---- stopped from outside

// A job and who stops it: after step `after`, either the callback of the progress or another thread.
typedef struct {
    calo_context *ctx;
    calo_model *model;
    const char *stage; // whose steps count
    int after, cancel_here, answer_here;
    atomic_int steps, asked; // steps told so far; the answer of the callback `cancelled`
    atomic_int over;
} job;

static void count_steps(void *user, const calo_progress *p) {
    job *j = user;
    if (strcmp(p->stage, j->stage) != 0) return;
    atomic_store(&j->steps, p->step);
    if (p->step < j->after) return;
    if (j->cancel_here) calo_cancel(j->ctx, 1);
    if (j->answer_here) atomic_store(&j->asked, 1);
}

static int is_asked(void *user) { return atomic_load(&((job *)user)->asked); }

static void begin(job *j) {
    calo_context_options o = few_threads();
    if (!j->stage) j->stage = "sample";
    o.progress = count_steps;
    o.cancelled = is_asked;
    o.user = j;
    cr_assert_eq(calo_context_new(&o, &j->ctx), CALO_OK);
    cr_assert_eq(calo_model_open(j->ctx, folder, &j->model), CALO_OK, "%s", calo_message(j->ctx));
}

static void end(job *j) {
    calo_model_free(j->model);
    calo_context_free(j->ctx);
}

static calo_status draw_request(job *j, const calo_txt2img_request *how) {
    calo_images *images;
    calo_txt2img_request r = *how;
    r.prompt = "x";
    calo_status s = calo_txt2img(j->model, &r, &images);
    cr_expect_eq(calo_images_count(images), s == CALO_OK, "a stopped job gives no picture");
    calo_images_free(images);
    return s;
}

static calo_status draw_steps(job *j, int steps) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = steps;
    return draw_request(j, &r);
}

Test(contexts, a_callback_stops_the_job_after_its_step) {
    for (int by_answer = 0; by_answer < 2; by_answer++) {
        job j = {.after = 2, .cancel_here = !by_answer, .answer_here = by_answer};
        begin(&j);
        cr_expect_eq(draw_steps(&j, 6), CALO_ERR_CANCELLED);
        cr_expect_eq(atomic_load(&j.steps), 2);
        cr_expect_eq(draw_steps(&j, 2), CALO_ERR_CANCELLED, "until told otherwise");
        cr_expect_eq(atomic_load(&j.steps), 2, "before its first step");
        j.after = 100;
        atomic_store(&j.asked, 0);
        calo_cancel(j.ctx, 0);
        cr_expect_eq(draw_steps(&j, 2), CALO_OK, "%s", calo_message(j.ctx));
        end(&j);
    }
}

// The other thread: waits for the first step, calls, and remembers which step was done then.
typedef struct {
    job *job;
    int seen;
} stopper;

static void *stop_soon(void *arg) {
    stopper *s = arg;
    while (!atomic_load(&s->job->steps) && !atomic_load(&s->job->over)) sched_yield();
    calo_cancel(s->job->ctx, 1);
    s->seen = atomic_load(&s->job->steps);
    return NULL;
}

Test(contexts, another_thread_stops_the_job_within_a_step) {
    job j = {.after = 1 << 20};
    stopper s = {&j, 0};
    pthread_t thread;
    begin(&j);
    cr_assert_eq(pthread_create(&thread, NULL, stop_soon, &s), 0);
    cr_expect_eq(draw_steps(&j, 500), CALO_ERR_CANCELLED, "%s", calo_message(j.ctx));
    atomic_store(&j.over, 1);
    pthread_join(thread, NULL);
    // `seen` is read after the call: the step then running is the last one.
    cr_expect_leq(atomic_load(&j.steps), s.seen + 1);
    end(&j);
}

// ---- within an autoencoder in bands, and a network that enlarges in tiles

#define NETWORK "tests/golden/upscale/x4.safetensors"

static calo_txt2img_request in_bands(void) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = 1;
    r.width = r.height = 128;
    r.vae_tiling = CALO_TILING_ON;
    r.vae_tile_size = 64;
    return r;
}

// 800 pixels are three tiles.
static calo_txt2img_request in_tiles(void) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.steps = 1;
    r.width = 800;
    r.height = 16;
    r.hires_scale = 1;
    r.hires_upscaler = NETWORK;
    return r;
}

static calo_status upscale(job *j) {
    static uint8_t rgb[300 * 16 * 3];
    calo_image picture = {.size = sizeof picture, .width = 300, .height = 16, .rgb = rgb};
    calo_upscale_request r = calo_upscale_defaults();
    calo_upscaler *u;
    calo_images *images = NULL;
    r.picture = &picture;
    r.tile = 128;
    cr_assert_eq(calo_upscaler_open(j->ctx, NETWORK, &u), CALO_OK, "%s", calo_message(j->ctx));
    calo_status s = calo_upscale(u, &r, &images);
    calo_images_free(images);
    calo_upscaler_free(u);
    return s;
}

static calo_status work_in_parts(job *j, int which) {
    calo_txt2img_request r = which ? in_tiles() : in_bands();
    return which == 2 ? upscale(j) : draw_request(j, &r);
}

Test(contexts, a_job_stops_between_parts_of_a_picture) {
    for (int which = 0; which < 3; which++) {
        job j = {.stage = which ? "upscale" : "bands", .after = 2, .cancel_here = 1};
        begin(&j);
        cr_expect_eq(work_in_parts(&j, which), CALO_ERR_CANCELLED);
        cr_expect_eq(atomic_load(&j.steps), 2);
        calo_cancel(j.ctx, 0);
        j.after = 1 << 20;
        cr_expect_eq(work_in_parts(&j, which), CALO_OK, "%s", calo_message(j.ctx));
        end(&j);
    }
}

Test(contexts, another_thread_stops_a_job_between_parts_of_a_picture) {
    for (int which = 0; which < 3; which++) {
        job j = {.stage = which ? "upscale" : "bands", .after = 1 << 20};
        stopper s = {&j, 0};
        pthread_t thread;
        begin(&j);
        cr_assert_eq(pthread_create(&thread, NULL, stop_soon, &s), 0);
        calo_status ended = work_in_parts(&j, which);
        atomic_store(&j.over, 1);
        pthread_join(thread, NULL);
        // Three tiles may be done before the other thread has its turn.
        if (which == 0 || ended) cr_expect_eq(ended, CALO_ERR_CANCELLED, "%s", calo_message(j.ctx));
        if (ended) cr_expect_leq(atomic_load(&j.steps), s.seen + 1);
        end(&j);
    }
}
