#include "assets/world/meter_commands.h"

#include <stdio.h>
#include <string.h>

#include "assets/world/meter.h"
#include "assets/world/score.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/image.h"

#include <jansson.h>

// ---- recogniser test

// What a command holds open.
typedef struct {
    team *t;
    recogniser *r;
} tools;

static status tools_open(tools *x, const options *o, error *err) {
    *x = (tools){.t = team_new(0)};
    if (!x->t) return fail(err, ERR_TEMP, "out of memory");
    x->r = recogniser_open(o->weights, x->t, err);
    return x->r ? OK : err->code;
}

static void tools_close(tools *x) {
    recogniser_free(x->r);
    team_free(x->t);
}

// The bounds hold for all but the last view, which is only read: releases are measured at full size.
enum { VIEWS = 4, VIEWS_BOUND = 3 };
static const struct {
    const char *name;
    int divisor; // of the recogniser's side
    bool coded;
} VIEW[VIEWS] = {
    {"fresh", 1, false}, {"half size", 2, false}, {"decoded", 1, true}, {"half, decoded", 2, true}};

static status read_view(const tools *x, int view, const char *vae, int n, meter *m, error *err) {
    meter_view v = {.drawn = recogniser_side(x->r) / VIEW[view].divisor, .t = x->t};
    if (VIEW[view].coded && !(v.through = autoencoder_open(vae, v.drawn, DT_F32, x->t, err)))
        return err->code;
    status s = meter_read(x->r, &v, n, m, err);
    autoencoder_free(v.through);
    return s;
}

// Without an autoencoder only the first half of the views.
static status read_views(const tools *x, const char *vae, int n, meter m[VIEWS], int *views, error *err) {
    status s = OK;
    *views = 0;
    for (int i = 0; i < VIEWS && !s; i++) {
        if (VIEW[i].coded && !vae) continue;
        s = read_view(x, i, vae, n, &m[i], err);
        *views += !s;
    }
    return s;
}

static void print_meters(const meter *m, int views, int n) {
    printf("The recogniser, %d scenes that it never saw (right, %%)\n%-20s", n, "");
    for (int v = 0; v < views; v++) printf("%15s", VIEW[v].name);
    for (int row = 0; row < METER_ROWS; row++) {
        printf("\n%-20s", METER_WORD[row]);
        for (int v = 0; v < views; v++) printf("%15.2f", 100 * meter_share(&m[v], row));
    }
    puts("");
}

static status check_meters(const meter *m, int views, error *err) {
    for (int v = 0; v < views && v < VIEWS_BOUND; v++)
        if (!meter_is_good(&m[v]))
            return fail(
                err, ERR_DATA,
                "the recogniser is too weak to measure with (%s): 98 %% of each question and 95 %% of "
                "whole scenes are wanted",
                VIEW[v].name);
    return OK;
}

static status test(const options *o, error *err) {
    tools x;
    meter m[VIEWS];
    int views = 0;
    status s = tools_open(&x, o, err);
    if (!s) s = read_views(&x, o->vae, o->count, m, &views, err);
    if (!s) print_meters(m, views, o->count);
    if (!s) s = check_meters(m, views, err);
    tools_close(&x);
    return s;
}

status recogniser_command(const options *o, error *err) {
    const char *what = o->words ? o->word[0] : "";
    if (!strcmp(what, "test")) return test(o, err);
    return fail(err, ERR_USAGE, "recogniser wants train or test");
}

// ---- score: which pictures

enum { PICTURES_MAX = 100000, CAPTIONS_MAX = 16 << 20 };

typedef struct {
    arena mem;
    const char *file[PICTURES_MAX], *caption[PICTURES_MAX];
    int n;
} pictures;

static status keep(pictures *p, const char *folder, const char *name, error *err) {
    if (p->n == PICTURES_MAX) return fail(err, ERR_DATA, "more than %d pictures", PICTURES_MAX);
    p->file[p->n] = folder ? arena_printf(&p->mem, "%s/%s", folder, name) : arena_printf(&p->mem, "%s", name);
    return p->file[p->n++] ? OK : fail(err, ERR_TEMP, "out of memory");
}

static bool is_picture(const char *name) {
    image_format f;
    return *name != '.' && !image_format_of(name, &f, NULL);
}

static status find_pictures(pictures *p, const char *path, error *err) {
    if (!fs_is_dir(path)) return keep(p, NULL, path, err);
    char **names = NULL;
    size_t n = 0;
    status s = fs_list(path, &names, &n, err);
    for (size_t i = 0; i < n && !s; i++)
        if (is_picture(names[i])) s = keep(p, path, names[i], err);
    fs_list_free(names, n);
    return s;
}

static status read_text(pictures *p, const char *path, char **text, error *err) {
    char *data = NULL;
    size_t n = 0;
    status s = fs_read_file(path, CAPTIONS_MAX, &data, &n, err);
    if (s) return s;
    *text = arena_printf(&p->mem, "%s", data);
    mem_free(data);
    return *text ? OK : fail(err, ERR_TEMP, "out of memory");
}

static status captions_of_list(pictures *p, const char *path, error *err) {
    char *text, *rest, *line;
    int n = 0;
    status s = read_text(p, path, &text, err);
    if (s) return s;
    for (line = strtok_r(text, "\r\n", &rest); line && n < p->n; line = strtok_r(NULL, "\r\n", &rest))
        p->caption[n++] = line;
    if (line || n < p->n)
        return fail(err, ERR_DATA, "%s: wants %d captions, one for each picture", path, p->n);
    return OK;
}

// NAME.txt beside NAME.png
static status captions_beside(pictures *p, error *err) {
    status s = OK;
    for (int i = 0; i < p->n && !s; i++) {
        int stem = (int)(strlen(p->file[i]) - strlen(fs_extension(p->file[i])));
        char *path = arena_printf(&p->mem, "%.*stxt", stem, p->file[i]), *text = NULL;
        s = path ? read_text(p, path, &text, err) : fail(err, ERR_TEMP, "out of memory");
        if (!s) text[strcspn(text, "\r\n")] = 0;
        p->caption[i] = text;
    }
    return s;
}

static status gather(pictures *p, const options *o, error *err) {
    status s = o->words ? OK : fail(err, ERR_USAGE, "score wants pictures or folders of them");
    for (int i = 0; i < o->words && !s; i++) s = find_pictures(p, o->word[i], err);
    if (!s && !p->n) s = fail(err, ERR_NOINPUT, "%s: no pictures", o->word[0]);
    if (!s) s = o->captions ? captions_of_list(p, o->captions, err) : captions_beside(p, err);
    return s;
}

// ---- score: what they show

static status load_picture(const char *path, int side, uint8_t *rgb, error *err) {
    image any = {0}, colour = {0}, fit = {0};
    status s = image_load(path, &any, err);
    if (!s) s = image_channels(&any, 3, &colour, err);
    if (!s) s = image_resize(&colour, side, side, RESIZE_BICUBIC, &fit, err);
    if (!s) memcpy(rgb, fit.px, (size_t)side * (size_t)side * 3);
    image_free(&any);
    image_free(&colour);
    image_free(&fit);
    return s;
}

static status judge_picture(recogniser *r, const char *file, const char *caption, uint8_t *rgb, score *out,
                            error *err) {
    facts f;
    int seen[1][LABELS];
    status s = caption_parse(caption, &f, err);
    if (s) return fail_in(err, "caption of %s", file);
    if (!s) s = load_picture(file, recogniser_side(r), rgb, err);
    if (!s) s = recogniser_see(r, rgb, 1, seen, err);
    if (!s) *out = score_labels(&f, seen[0]);
    return s;
}

static status judge_pictures(recogniser *r, const pictures *p, score *each, score_sum *sum, error *err) {
    size_t side = (size_t)recogniser_side(r);
    uint8_t *rgb = mem_alloc(side * side * 3);
    status s = rgb ? OK : fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < p->n && !s; i++) {
        s = judge_picture(r, p->file[i], p->caption[i], rgb, &each[i], err);
        if (!s) score_add(sum, &each[i]);
    }
    mem_free(rgb);
    return s;
}

static void print_scores(const score_sum *sum, int n) {
    printf("\n%d pictures against their captions\n%-20s%15s%15s%15s\n", n, "", "stated", "right", "%");
    for (int i = 0; i < SCORES; i++)
        printf("%-20s%15d%15d%15.2f\n", SCORE_WORD[i], sum->stated[i], sum->right[i],
               100 * score_share(sum, i));
}

static json_t *meter_json(const meter *m) {
    json_t *j = json_object();
    for (int i = 0; i < METER_ROWS; i++) json_object_set_new(j, METER_WORD[i], json_real(meter_share(m, i)));
    return j;
}

static json_t *picture_json(const char *file, const char *caption, const score *s) {
    json_t *j = json_pack("{s:s, s:s}", "file", file, "caption", caption);
    for (int i = 0; i < SCORES; i++)
        if (s->of[i] >= 0) json_object_set_new(j, SCORE_WORD[i], json_boolean(s->of[i]));
    return j;
}

// {"meter": {VIEW: {QUESTION: share}}, "scores": {QUESTION: {stated, right, share}}, "pictures": [...]}
static status print_json(const meter *m, int views, const pictures *p, const score *each,
                         const score_sum *sum, error *err) {
    json_t *meters = json_object(), *scores = json_object(), *list = json_array();
    for (int v = 0; v < views; v++) json_object_set_new(meters, VIEW[v].name, meter_json(&m[v]));
    for (int i = 0; i < SCORES; i++)
        json_object_set_new(scores, SCORE_WORD[i],
                            json_pack("{s:i, s:i, s:f}", "stated", sum->stated[i], "right", sum->right[i],
                                      "share", score_share(sum, i)));
    for (int i = 0; i < p->n; i++)
        json_array_append_new(list, picture_json(p->file[i], p->caption[i], &each[i]));
    json_t *all = json_pack("{s:o, s:o, s:o}", "meter", meters, "scores", scores, "pictures", list);
    bool bad = !all || json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(all);
    return bad ? fail(err, ERR_IO, "the scores could not be written") : (puts(""), OK);
}

// The meter's own reading first; a weak one ends the command.
static status score_pictures(const tools *x, const options *o, const pictures *p, score *each, error *err) {
    enum { SCENES = 300 };
    meter m[VIEWS];
    score_sum sum = {0};
    int views = 0;
    status s = read_views(x, o->vae, SCENES, m, &views, err);
    if (!s && !o->json) print_meters(m, views, SCENES);
    if (!s) s = check_meters(m, views, err);
    if (!s) s = judge_pictures(x->r, p, each, &sum, err);
    if (!s && o->json) return print_json(m, views, p, each, &sum, err);
    if (!s) print_scores(&sum, p->n);
    return s;
}

status score_command(const options *o, error *err) {
    tools x = {0};
    pictures *p = mem_calloc(1, sizeof *p);
    if (!p) return fail(err, ERR_TEMP, "out of memory");
    status s = gather(p, o, err);
    score *each = mem_calloc((size_t)p->n, sizeof *each);
    if (!s && !each) s = fail(err, ERR_TEMP, "out of memory");
    if (!s) s = tools_open(&x, o, err);
    if (!s) s = score_pictures(&x, o, p, each, err);
    tools_close(&x);
    mem_free(each);
    arena_free(&p->mem);
    mem_free(p);
    return s;
}
