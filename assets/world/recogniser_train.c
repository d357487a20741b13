#include "assets/world/recogniser_train.h"

#include <string.h>

#include "assets/world/recogniser.h"
#include "assets/world/wear.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/train/export.h"
#include "core/train/sheet.h"

enum { GRID = 32, GRID_COLUMNS = 8 };

static const train_stage *stage_of(const train_context *x) { return &x->config->stage[x->stage]; }

static status enter(void *self, error *err) {
    (void)self;
    (void)err;
    return OK;
}

static int variant(void *self, int64_t pass) {
    (void)self;
    (void)pass;
    return 0;
}

// −Σ wanted·log softmax(logits) over all heads, mean over the batch. `wanted` is one-hot, zero where a head
// has no answer.
static node *loss(void *self, graph *g, int unused) {
    const train_context *x = self;
    (void)unused;
    int64_t B = stage_of(x)->batch, side = RECOGNISER_CONFIG.side;
    node *picture = graph_input(g, "picture", SHAPE(B, side, side, 3), DT_F32, RATE_STEP);
    node *wanted = graph_input(g, "wanted", SHAPE(B, recogniser_logits()), DT_F32, RATE_STEP);
    int mark = path_push(g, "recogniser");
    node *logits = recogniser_build(g, &RECOGNISER_CONFIG, picture), *sum = NULL;
    path_pop(g, mark);
    for (int h = 0; h < LABELS; h++) {
        int at = recogniser_offset(h), n = LABEL_HEAD[h].classes;
        node *hits = mul(log_softmax(slice(logits, 1, at, n)), slice(wanted, 1, at, n));
        node *one = reduce_sum(hits, SHAPE(1), g->exact);
        sum = sum ? add(sum, one) : one;
    }
    return affine(sum, -1.0 / (double)B, 0);
}

// ---- lessons

// Every split: a meter of held-out scenes must know them.
static scene lesson(uint64_t seed, uint64_t i) {
    dice d = dice_new(seed + 1, i);
    double u = dice_unit(&d);
    split which = u < .7 ? SPLIT_TRAIN : u < .85 ? SPLIT_HELD : SPLIT_PAIRS;
    return scene_sample(seed, i, (scene_choice){.split = which});
}

static void set_wanted(const scene *s, float *wanted) {
    int label[LABELS];
    labels_of_scene(s, label);
    memset(wanted, 0, (size_t)recogniser_logits() * sizeof *wanted);
    for (int h = 0; h < LABELS; h++)
        if (label[h] >= 0) wanted[recogniser_offset(h) + label[h]] = 1;
}

typedef struct {
    uint64_t seed, first; // the first scene of the batch
    float *picture, *wanted;
    error *errors; // by picture
} batch;

static void draw_some(void *arg, int64_t begin, int64_t end) {
    const batch *b = arg;
    int side = RECOGNISER_CONFIG.side;
    size_t each = (size_t)side * (size_t)side * 3;
    for (int64_t k = begin; k < end; k++) {
        uint64_t i = b->first + (uint64_t)k;
        scene s = lesson(b->seed, i);
        dice d = dice_new(b->seed + 2, i);
        picture_worn(&s, &d, side, b->picture + (size_t)k * each, &b->errors[k]);
        if (b->wanted) set_wanted(&s, b->wanted + k * recogniser_logits());
    }
}

static status draw_batch(const train_context *x, uint64_t first, int B, float *picture, float *wanted,
                         error *err) {
    // A stage goes on where no other one began.
    batch b = {(uint64_t)x->config->seed, (uint64_t)x->stage << 40 | first, picture, wanted,
               mem_calloc((size_t)B, sizeof(error))};
    if (!b.errors) return fail(err, ERR_TEMP, "out of memory");
    parallel_for(x->team, B, 1, draw_some, &b);
    status s = OK;
    for (int k = 0; k < B && !s; k++)
        if ((s = b.errors[k].code) && err) *err = b.errors[k];
    mem_free(b.errors);
    return s;
}

static status fill(void *self, exec *e, int unused, int64_t pass, error *err) {
    const train_context *x = self;
    (void)unused;
    int B = (int)stage_of(x)->batch;
    return draw_batch(x, (uint64_t)pass * (uint64_t)B, B, exec_input(e, "picture"), exec_input(e, "wanted"),
                      err);
}

// ---- results

// The first lessons, as the network sees them.
static status grid(void *self, const char *path, error *err) {
    int side = RECOGNISER_CONFIG.side;
    float *picture = mem_alloc((size_t)GRID * (size_t)side * (size_t)side * 3 * sizeof *picture);
    if (!picture) return fail(err, ERR_TEMP, "out of memory");
    status s = draw_batch(self, 0, GRID, picture, NULL, err);
    if (!s) s = sheet_save(path, picture, GRID, side, side, GRID_COLUMNS, err);
    mem_free(picture);
    return s;
}

static status finish(void *self, const char *dir, error *err) {
    const train_context *x = self;
    const recogniser_config *c = &RECOGNISER_CONFIG;
    json_t *widths = json_array();
    for (int i = 0; i < RECOGNISER_LEVELS; i++) json_array_append_new(widths, json_integer(c->width[i]));
    json_t *json = json_pack("{s:i, s:o, s:i, s:i}", "side", c->side, "width", widths, "groups", c->groups,
                             "heads", c->heads);
    if (!json) return fail(err, ERR_TEMP, "out of memory");
    status s = export_component(x->params, "recogniser", "recogniser.safetensors", json,
                                recipe_export_type(x), dir, err);
    json_decref(json);
    return s;
}

status recogniser_recipe(recipe *r, train_context *context, error *err) {
    (void)err;
    *r = (recipe){.self = context,
                  .kind = "recogniser",
                  .enter = enter,
                  .variant = variant,
                  .loss = loss,
                  .fill = fill,
                  .grid = grid,
                  .finish = finish};
    return OK;
}
