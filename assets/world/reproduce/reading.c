#include "assets/world/reproduce/reading.h"

#include <string.h>

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/train/sheet.h"

enum { SOME = 16 }; // pictures at a time
static const double ENOUGH = .98;

// ---- looking

// Picture i as the recogniser wants it: [wanted,wanted,3].
static status show(const gallery *g, int i, int wanted, uint8_t *to, error *err) {
    size_t n = gallery_values(g);
    image im = {0}, large = {0};
    status s = image_alloc(&im, g->side, g->side, 3, err);
    for (size_t k = 0; k < n && !s; k++) im.px[k] = sheet_byte(g->pixels[(size_t)i * n + k]);
    if (!s) s = image_resize(&im, wanted, wanted, RESIZE_BICUBIC, &large, err);
    if (!s) memcpy(to, large.px, (size_t)wanted * (size_t)wanted * 3);
    image_free(&im);
    image_free(&large);
    return s;
}

static status judge(const gallery *g, int i, const int seen[LABELS], score_sum *out, error *err) {
    facts asked;
    status st = caption_parse(g->prompts[i / g->each], &asked, err);
    if (st) return st;
    score s = score_labels(&asked, seen);
    score_add(out, &s);
    return OK;
}

status reading_take(recogniser *r, const gallery *g, score_sum *out, error *err) {
    int side = recogniser_side(r), seen[SOME][LABELS];
    size_t each = (size_t)side * (size_t)side * 3;
    uint8_t *shown = mem_alloc(SOME * each);
    status s = shown ? OK : fail(err, ERR_TEMP, "out of memory");
    *out = (score_sum){0};
    for (int at = 0; at < g->n && !s; at += SOME) {
        int n = g->n - at < SOME ? g->n - at : SOME;
        for (int k = 0; k < n && !s; k++) s = show(g, at + k, side, shown + (size_t)k * each, err);
        if (!s) s = recogniser_see(r, shown, n, seen, err);
        for (int k = 0; k < n && !s; k++) s = judge(g, at + k, seen[k], out, err);
    }
    mem_free(shown);
    return s;
}

// ---- the table

static const char *put_row(arena *a, const char *all, const char *name, const score_sum *sum,
                           const score_sum *meter) {
    all = arena_printf(a, "%s| %s |", all, name);
    for (int q = 0; q < SCORE_ALL && all; q++)
        all = score_share(meter, q) < ENOUGH
                  ? arena_printf(a, "%s – |", all)
                  : arena_printf(a, "%s %.0f %% |", all, 100 * score_share(sum, q));
    return all;
}

static const char *put_meter(arena *a, const score_sum *meter, int n) {
    const char *all = "| shows what was asked for |", *line = "|---|";
    for (int q = 0; q < SCORE_ALL && all && line; q++) {
        all = arena_printf(a, "%s %s |", all, SCORE_WORD[q]);
        line = arena_printf(a, "%s---|", line);
    }
    if (all && line) all = arena_printf(a, "%s\n%s\n| %d true pictures: the meter itself |", all, line, n);
    for (int q = 0; q < SCORE_ALL && all; q++)
        all = arena_printf(a, "%s %.1f %% |", all, 100 * score_share(meter, q));
    return all;
}

static bool left_out(const score_sum *meter) {
    for (int q = 0; q < SCORE_ALL; q++)
        if (score_share(meter, q) < ENOUGH) return true;
    return false;
}

static status write_table(recogniser *r, arena *a, const gallery *truth, const reading_row *rows, int n,
                          char **table, error *err) {
    score_sum meter, sum;
    status s = reading_take(r, truth, &meter, err);
    const char *all = s ? NULL : put_meter(a, &meter, truth->n);
    for (int i = 0; i < n && all && !s; i++) {
        s = reading_take(r, rows[i].pictures, &sum, err);
        if (!s && (all = arena_printf(a, "%s\n", all))) all = put_row(a, all, rows[i].name, &sum, &meter);
    }
    if (all) all = arena_printf(a, "%s\n", all);
    if (all && left_out(&meter))
        all = arena_printf(
            a,
            "%s\n–: not measured, as the recogniser itself reads it right in fewer than %.0f %% of "
            "true pictures of %d×%d pixels.\n",
            all, 100 * ENOUGH, truth->side, truth->side);
    if (!s && !(*table = all ? mem_strdup(all) : NULL)) s = fail(err, ERR_TEMP, "out of memory");
    return s;
}

static status without(const char *path, arena *a, char **table, error *err) {
    const char *text = arena_printf(a, "What the pictures show was not read: there is no %s.\n", path);
    *table = text ? mem_strdup(text) : NULL;
    return *table ? OK : fail(err, ERR_TEMP, "out of memory");
}

status reading_table(const char *path, team *t, const gallery *truth, const reading_row *rows, int n,
                     char **table, error *err) {
    arena a = {0};
    *table = NULL;
    recogniser *r = fs_exists(path) ? recogniser_open(path, t, err) : NULL;
    status s = r                 ? write_table(r, &a, truth, rows, n, table, err)
               : fs_exists(path) ? err->code
                                 : without(path, &a, table, err);
    recogniser_free(r);
    arena_free(&a);
    return s;
}
