#include "assets/world/meter.h"

#include <string.h>

#include "assets/world/picture.h"
#include "core/base/mem.h"
#include "core/files/image.h"

// Far from the small seeds of training and of data sets.
static const uint64_t UNSEEN = 0x6d65746572u;
enum { SOME = 32 }; // scenes at a time

const char *const METER_WORD[METER_ROWS] = {
    "count", "place and relation", "background", "light", "object", "color", "size", "whole scene"};
static const int ROW_OF[LABELS] = {METER_COUNT,  METER_LAYOUT, METER_BACKGROUND, METER_LIGHT,  METER_KIND,
                                   METER_COLOUR, METER_SIZE,   METER_KIND,       METER_COLOUR, METER_SIZE};

static void tally(meter *m, const scene *s, const int seen[LABELS]) {
    int label[LABELS];
    bool all = true;
    labels_of_scene(s, label);
    for (int h = 0; h < LABELS; h++) {
        if (label[h] < 0) continue;
        bool right = seen[h] == label[h];
        m->asked[ROW_OF[h]]++;
        m->right[ROW_OF[h]] += right;
        all &= right;
    }
    m->asked[METER_SCENE]++;
    m->right[METER_SCENE] += all;
}

static scene nth(int i) {
    return scene_sample(UNSEEN, (uint64_t)i, (scene_choice){.split = (split)(i % SPLITS)});
}

static status resize_each(const uint8_t *from, int side, uint8_t *to, int wanted, int n, error *err) {
    size_t small = (size_t)side * (size_t)side * 3, large = (size_t)wanted * (size_t)wanted * 3;
    for (int k = 0; k < n; k++) {
        image im = {side, side, 3, (uint8_t *)(uintptr_t)(from + (size_t)k * small)}, big = {0};
        status s = image_resize(&im, wanted, wanted, RESIZE_BICUBIC, &big, err);
        if (!s) memcpy(to + (size_t)k * large, big.px, large);
        image_free(&big);
        if (s) return s;
    }
    return OK;
}

static status look(recogniser *r, const meter_view *v, const scene *s, int n, uint8_t *drawn, uint8_t *shown,
                   int (*seen)[LABELS], error *err) {
    status st = pictures_rgb8(v->t, s, n, v->drawn, v->drawn, drawn, err);
    if (!st && v->through) st = autoencoder_pass(v->through, drawn, n, NULL, NULL, err);
    if (!st) st = resize_each(drawn, v->drawn, shown, recogniser_side(r), n, err);
    return st ? st : recogniser_see(r, shown, n, seen, err);
}

status meter_read(recogniser *r, const meter_view *v, int n, meter *out, error *err) {
    size_t from = (size_t)v->drawn * (size_t)v->drawn * 3,
           to = (size_t)recogniser_side(r) * (size_t)recogniser_side(r) * 3;
    uint8_t *drawn = mem_alloc(SOME * from), *shown = mem_alloc(SOME * to);
    status st = drawn && shown ? OK : fail(err, ERR_TEMP, "out of memory");
    *out = (meter){0};
    for (int at = 0; at < n && !st; at += SOME) {
        scene s[SOME];
        int seen[SOME][LABELS], some = n - at < SOME ? n - at : SOME;
        for (int k = 0; k < some; k++) s[k] = nth(at + k);
        st = look(r, v, s, some, drawn, shown, seen, err);
        for (int k = 0; k < some && !st; k++) tally(out, &s[k], seen[k]);
    }
    mem_free(drawn);
    mem_free(shown);
    return st;
}

double meter_share(const meter *m, int row) {
    return m->asked[row] ? (double)m->right[row] / m->asked[row] : 0;
}

bool meter_is_good(const meter *m) {
    for (int row = 0; row < METER_SCENE; row++)
        if (meter_share(m, row) < .98) return false;
    return meter_share(m, METER_SCENE) >= .95;
}
