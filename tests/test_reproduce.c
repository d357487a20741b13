// Reproductions: the table, the measures, the small model, and a quick run whose claims must hold.
#include "assets/world/autoencoder.h"
#include "assets/world/reproduce/claims.h"
#include "assets/world/reproduce/gallery.h"
#include "assets/world/reproduce/reproduce.h"
#include "assets/world/reproduce/small_model.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

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
    const claim rows[] = {{"up", "more", {"a", "b"}, one_and_two, rises, false},
                          {"down", "less", {"a", "b"}, one_and_two, falls, false},
                          {"later", "less", {"a", "b"}, one_and_two, falls, true}};
    finding found[3];
    error err = {0};
    int calls = 0;
    cr_assert_eq(claims_measure(rows, 3, &calls, true, found, NULL, &err), OK, "%s", err.text);
    cr_assert_eq(calls, 2); // the last one is left out
    cr_assert_eq(claims_broken(found, 3), 1);
    char *table = claims_table(rows, found, 3);
    cr_assert_str_eq(table, "| claim | expected | measured | |\n|---|---|---|---|\n"
                            "| up | more | a 1.000, b 2.000 | holds |\n"
                            "| down | less | a 1.000, b 2.000 | does not hold |\n"
                            "| later | less | left out of the quick run |  |\n");
    mem_free(table);
}

// ---- measures

Test(gallery, measures_of_plain_pictures) {
    float black_white[2 * 12], gray[2 * 12] = {0};
    for (int i = 0; i < 24; i++) black_white[i] = i < 12 ? -1 : 1;
    gallery a = {2, 2, black_white}, b = {2, 2, gray};
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

// ---- a quick run

Test(zsnr, claims_hold, .timeout = 1200) {
    if (SANITIZED) cr_skip_test("training is for release builds");
    reproduce_result result;
    reproduce_request r = {.out = new_folder(), .quick = 1, .threads = 1, .seed = 1};
    calo_status code = reproduce("zsnr", &r, &result);
    cr_assert_eq(code, CALO_OK, "%s", result.message);
    cr_expect_eq(result.broken, 0, "\n%s", result.table);
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
