// Reproductions: the table, the measures, what is learned and read, the small model, and whole runs.
#include "assets/world/autoencoder.h"
#include "assets/world/caption.h"
#include "assets/world/picture.h"
#include "assets/world/reproduce/claims.h"
#include "assets/world/reproduce/gallery.h"
#include "assets/world/reproduce/lesson.h"
#include "assets/world/reproduce/reading.h"
#include "assets/world/reproduce/reproduce.h"
#include "assets/world/reproduce/small_model.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/cpu/cpu.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

static char *new_folder(void) {
    static char path[64];
    snprintf(path, sizeof path, "/tmp/calotype-reproduce-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    return path;
}

static void remove_folder(const char *path) {
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    cr_assert_eq(system(command), 0);
}

// ---- the table

static status one_and_two(void *self, double *v, error *err) {
    (void)err;
    ++*(int *)self;
    v[0] = 1;
    v[1] = 2;
    return OK;
}

static bool rises(const double *v) { return v[1] > v[0]; }
static bool falls(const double *v) { return v[1] < v[0]; }

Test(claims, each_row_is_measured_and_judged) {
    const claim rows[] = {{"up", "more", {"a", "b"}, one_and_two, rises, NULL},
                          {"down", "less", {"a", "b"}, one_and_two, falls, NULL},
                          {"late", "less", {"a", "b"}, one_and_two, falls, "too small"},
                          {"soon", "more", {"a", "b"}, one_and_two, rises, "too small"}};
    finding found[4];
    error err = {0};
    int calls = 0;
    cr_assert_eq(claims_measure(rows, 4, &calls, found, NULL, &err), OK, "%s", err.text);
    cr_assert_eq(calls, 4);
    cr_assert_eq(claims_broken(found, 4), 2);
    cr_assert_eq(claims_unexpected(rows, found, 4, false), 2); // "down" and "late"
    cr_assert_eq(claims_unexpected(rows, found, 4, true), 1);  // "down"
    char *table = claims_table(rows, found, 4, true);
    cr_assert_str_eq(
        table, "| claim | expected | measured | |\n|---|---|---|---|\n"
               "| up | more | a 1.000, b 2.000 | holds |\n"
               "| down | less | a 1.000, b 2.000 | does not hold |\n"
               "| late | less | a 1.000, b 2.000 | does not hold, but a quick run cannot tell: too small |\n"
               "| soon | more | a 1.000, b 2.000 | holds, but a quick run cannot tell: too small |\n");
    mem_free(table);
}

// ---- measures

Test(gallery, measures_of_plain_pictures) {
    float black_white[2 * 12], gray[2 * 12] = {0};
    for (int i = 0; i < 24; i++) black_white[i] = i < 12 ? -1 : 1;
    gallery a = {2, 2, black_white, .each = 1}, b = {2, 2, gray, .each = 1};
    cr_assert_float_eq(gallery_brightness(&a, 0), -1, 1e-12);
    cr_assert_float_eq(gallery_spread(&a), 1, 1e-12);
    cr_assert_float_eq(gallery_spread(&b), 0, 1e-12);
    cr_assert_eq(gallery_overexposed(&a, 0.1), 0);
    black_white[0] = -1.2f;
    cr_assert_float_eq(gallery_overexposed(&a, 0.1), 1.0 / 24, 1e-12);
    black_white[0] = -1;
    cr_assert_float_eq(gallery_difference(&a, &b), 1, 1e-12);
    // 2·E|X − Y| = 2; black from white is 2 apart, gray from gray 0.
    cr_assert_float_eq(gallery_distance(&a, &b), 0, 1e-12);
    // The same pictures of the same prompts: a prompt's own pair, 0 apart, would make them nearer than near.
    cr_assert_float_eq(gallery_distance(&a, &(gallery){2, 2, black_white, .each = 1}), 0, 1e-12);
    // White twice and gray twice: nothing inside, 1 between.
    for (int i = 0; i < 12; i++) black_white[i] = 1;
    cr_assert_float_eq(gallery_distance(&a, &b), sqrt(2), 1e-12);
}

// ---- the small model

Test(small_model, autoencoder_changes_nothing) {
    enum { N = 3, BYTES = N * SMALL_MODEL_SIDE * SMALL_MODEL_SIDE * 3 };
    uint8_t picture[BYTES], after[BYTES];
    uint32_t noise[BYTES];
    error err = {0};
    const char *dir = new_folder();
    json_t *scheduler = json_pack("{s:s}", "_class_name", "DDIMScheduler");
    cr_assert_eq(small_model_save(dir, scheduler, &err), OK, "%s", err.text);
    autoencoder *a = autoencoder_open(dir, SMALL_MODEL_SIDE, DT_F32, NULL, &err);
    cr_assert_not_null(a, "%s", err.text);
    stream_integer((rng_stream){1, 2}, 0, 256, noise, BYTES);
    for (int i = 0; i < BYTES; i++) // noise, all black, all white
        picture[i] = i < BYTES / N ? (uint8_t)noise[i] : i < 2 * BYTES / N ? 0 : 255;
    memcpy(after, picture, BYTES);
    cr_assert_eq(autoencoder_pass(a, after, N, NULL, NULL, &err), OK, "%s", err.text);
    cr_assert_arr_eq(after, picture, BYTES);
    autoencoder_free(a);
    json_decref(scheduler);
    remove_folder(dir);
}

// ---- what is learned, and what is read

Test(lesson, scenes_are_single_plain_and_of_the_training_split) {
    int grounds = 0;
    for (uint64_t i = 0; i < 200; i++) {
        scene s = lesson_scene(7, i), again = lesson_scene(7, i);
        cr_assert_eq(s.count, 1);
        cr_assert_lt(s.background, BG_NIGHT);
        cr_assert_eq(scene_split(&s), SPLIT_TRAIN);
        cr_assert_eq(s.seed, again.seed);
        grounds |= 1 << s.background;
    }
    cr_assert_eq(grounds, (1 << BG_NIGHT) - 1);
}

Test(lesson, is_a_source_of_pictures_and_captions) {
    sample_source source;
    error err = {0};
    facts told;
    char text[SOURCE_CAPTION_MAX];
    uint8_t a[SMALL_MODEL_SIDE * SMALL_MODEL_SIDE * 3], b[sizeof a];
    cr_assert_eq(lesson_open(NULL, "world:", 7, &source, &err), ERR_USAGE);
    cr_assert_eq(lesson_open(NULL, "lesson:", 7, &source, &err), OK, "%s", err.text);
    for (uint64_t i = 0; i < 20; i++) {
        scene s = lesson_scene(7, i);
        cr_assert_eq(source.caption(source.self, i, 0, text, &err), OK);
        cr_assert_eq(caption_parse(text, &told, &err), OK, "%s", err.text);
        cr_assert(facts_hold(&told, &s));
        cr_assert_eq(source.picture(source.self, i, SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, a, NULL, &err), OK);
        cr_assert_eq(picture_rgb8(&s, SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, b, &err), OK);
        cr_assert_arr_eq(a, b, sizeof a);
    }
    source_free(&source);
}

enum { TRUE_PICTURES = 64 };

static void show(gallery *g, arena *mem) {
    scene s[TRUE_PICTURES];
    error err = {0};
    for (int i = 0; i < TRUE_PICTURES; i++) s[i] = lesson_scene(11, (uint64_t)i);
    cr_assert_eq(gallery_show(NULL, s, TRUE_PICTURES, SMALL_MODEL_SIDE, mem, g, &err), OK, "%s", err.text);
}

// At this size the recogniser tells backgrounds and light; what it says of pictures and prompts that do not
// belong together is chance: one background in seven or, as black and white are frequent, a few more.
Test(reading, tells_right_prompts_from_wrong_ones) {
    arena mem = {0};
    gallery g;
    score_sum right, wrong;
    error err = {0};
    const char *other[TRUE_PICTURES];
    show(&g, &mem);
    recogniser *r = recogniser_open(REPRODUCE_RECOGNISER, NULL, &err);
    cr_assert_not_null(r, "%s", err.text);
    cr_assert_eq(reading_take(r, &g, &right, &err), OK, "%s", err.text);
    for (int i = 0; i < TRUE_PICTURES; i++) other[i] = g.prompts[(i + 1) % TRUE_PICTURES];
    g.prompts = other;
    cr_assert_eq(reading_take(r, &g, &wrong, &err), OK, "%s", err.text);
    cr_expect_eq(right.stated[SCORE_BACKGROUND], TRUE_PICTURES);
    cr_expect_gt(score_share(&right, SCORE_BACKGROUND), .95);
    cr_expect_gt(score_share(&right, SCORE_LIGHT), .95);
    cr_expect_lt(score_share(&wrong, SCORE_BACKGROUND), .5);
    recogniser_free(r);
    gallery_free(&g);
    arena_free(&mem);
}

Test(reading, table_begins_with_the_meter_and_says_what_is_missing) {
    arena mem = {0};
    gallery g;
    error err = {0};
    char *table;
    show(&g, &mem);
    const reading_row row = {"the same", &g};
    cr_assert_eq(reading_table(REPRODUCE_RECOGNISER, NULL, &g, &row, 1, &table, &err), OK, "%s", err.text);
    cr_expect_not_null(strstr(table, "| 64 true pictures: the meter itself |"));
    cr_expect_not_null(strstr(table, "\n| the same |"));
    mem_free(table);
    cr_assert_eq(reading_table("no/such/file", NULL, &g, &row, 1, &table, &err), OK, "%s", err.text);
    cr_expect_not_null(strstr(table, "there is no no/such/file"));
    mem_free(table);
    gallery_free(&g);
    arena_free(&mem);
}

// ---- whole runs

static char *table_of(const reproduce_request *r, reproduce_result *result) {
    calo_status code = reproduce("zsnr", r, result);
    cr_assert_eq(code, CALO_OK, "%s", result->message);
    return result->table;
}

Test(zsnr, same_seed_gives_the_same_table) {
    if (SANITIZED) cr_skip_test("training is for release builds");
    reproduce_result a, b, c;
    const char *dir = new_folder();
    char out[3][100];
    for (int i = 0; i < 3; i++) snprintf(out[i], sizeof out[i], "%s/%d", dir, i);
    reproduce_request r = {
        .out = out[0], .recogniser = REPRODUCE_RECOGNISER, .size = REPRODUCE_TINY, .threads = 2, .seed = 1};
    table_of(&r, &a);
    cr_assert_str_eq(table_of(&r, &b), a.table, "going on where all is done");
    calo_free(b.table);
    r.out = out[1];
    r.threads = 1; // two passes an update: on one thread or two, it is the same sum
    cr_assert_str_eq(table_of(&r, &b), a.table);
    r.out = out[2];
    r.seed = 2;
    cr_assert_str_neq(table_of(&r, &c), a.table);
    calo_free(a.table);
    calo_free(b.table);
    calo_free(c.table);
    remove_folder(dir);
}

// Minutes.
Test(zsnr, what_a_quick_run_can_tell_holds, .timeout = 1200) {
    if (SANITIZED) cr_skip_test("training is for release builds");
    reproduce_result result;
    reproduce_request r = {.out = new_folder(),
                           .recogniser = REPRODUCE_RECOGNISER,
                           .size = REPRODUCE_QUICK,
                           .threads = 2,
                           .seed = 1};
    table_of(&r, &result);
    cr_expect_eq(result.unexpected, 0, "\n%s", result.table);
    cr_expect_gt(result.claims, 0);
    calo_free(result.table);
    remove_folder(r.out);
}

Test(reproduce, unknown_names_are_refused) {
    reproduce_result result;
    reproduce_request r = {.out = "unused"};
    cr_assert_eq(reproduce("nothing", &r, &result), CALO_ERR_USAGE);
    cr_assert_not_null(strstr(result.message, "'nothing'"));
}
