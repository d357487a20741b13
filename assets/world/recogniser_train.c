#include "assets/world/recogniser_train.h"

#include <string.h>

#include "assets/world/autoencoder.h"
#include "assets/world/picture.h"
#include "assets/world/recogniser.h"
#include "assets/world/wear.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/train/export.h"
#include "core/train/sheet.h"

enum { GRID = 32, GRID_COLUMNS = 8 };
// Of a stage with decoded pictures: how many are, how many of these get noise, and its greatest deviation;
// latents have deviation 1.
static const double DECODED = .5, NOISY = .5, NOISE = .2;

typedef struct {
    const train_context *x;
    autoencoder *coder[2]; // of whole and of half pictures; NULL in a stage of fresh ones
} teacher;

static const train_stage *stage_of(const train_context *x) { return &x->config->stage[x->stage]; }

static void close_coders(teacher *t) {
    for (int half = 0; half < 2; half++) {
        autoencoder_free(t->coder[half]);
        t->coder[half] = NULL;
    }
}

static status enter(void *self, error *err) {
    teacher *t = self;
    const char *data = stage_of(t->x)->data;
    close_coders(t);
    if (!*data || !strcmp(data, "fresh")) return OK;
    if (strcmp(data, "decoded") != 0) return fail(err, ERR_DATA, "data \"%s\": wants fresh or decoded", data);
    for (int half = 0; half < 2; half++) {
        t->coder[half] = autoencoder_open(t->x->config->model, RECOGNISER_CONFIG.side >> half, t->x->compute,
                                          t->x->team, err);
        if (!t->coder[half]) return err->code;
    }
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
    const train_context *x = ((teacher *)self)->x;
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

// One scene on its way to the network.
typedef struct {
    scene s;
    dice d;    // of its wear
    int drawn; // pixels
    bool decoded;
    float noise; // in its latents
    error err;
} lesson;

typedef struct {
    uint64_t first; // the first scene of the batch
    int B;
    lesson *lesson;            // [B]
    uint8_t *rgb, *contiguous; // [B], places of a whole picture
    float *picture, *wanted;   // [B]; wanted may be NULL
} batch;

static size_t place_bytes(void) {
    return (size_t)RECOGNISER_CONFIG.side * (size_t)RECOGNISER_CONFIG.side * 3;
}

// Every split: a meter of held-out scenes must know them.
static scene nth_scene(uint64_t seed, uint64_t i) {
    dice d = dice_new(seed + 1, i);
    double u = dice_unit(&d);
    split which = u < .7 ? SPLIT_TRAIN : u < .85 ? SPLIT_HELD : SPLIT_PAIRS;
    return scene_sample(seed, i, (scene_choice){.split = which});
}

static void plan_lessons(const teacher *t, const batch *b) {
    uint64_t seed = (uint64_t)t->x->config->seed;
    for (int k = 0; k < b->B; k++) {
        uint64_t i = b->first + (uint64_t)k;
        lesson *l = &b->lesson[k];
        *l = (lesson){.s = nth_scene(seed, i), .d = dice_new(seed + 2, i)};
        l->drawn = wear_side(&l->d, RECOGNISER_CONFIG.side);
        dice d = dice_new(seed + 3, i);
        l->decoded = t->coder[0] && dice_chance(&d, DECODED);
        if (dice_chance(&d, NOISY)) l->noise = (float)dice_range(&d, 0, NOISE);
    }
}

static void draw_some(void *arg, int64_t begin, int64_t end) {
    const batch *b = arg;
    for (int64_t k = begin; k < end; k++) {
        lesson *l = &b->lesson[k];
        picture_rgb8(&l->s, l->drawn, l->drawn, b->rgb + (size_t)k * place_bytes(), &l->err);
    }
}

static void wear_some(void *arg, int64_t begin, int64_t end) {
    const batch *b = arg;
    for (int64_t k = begin; k < end; k++) {
        lesson *l = &b->lesson[k];
        size_t at = (size_t)k * place_bytes();
        if (!l->err.code)
            picture_wear(b->rgb + at, l->drawn, &l->d, RECOGNISER_CONFIG.side, b->picture + at, &l->err);
    }
}

// Takes the pictures of one size out of their places, through the autoencoder and back.
static status decode_some(const teacher *t, const batch *b, int half, error *err) {
    int side = RECOGNISER_CONFIG.side >> half, n = 0;
    size_t each = (size_t)side * (size_t)side * 3;
    float *noise = mem_calloc((size_t)b->B, sizeof *noise);
    if (!noise) return fail(err, ERR_TEMP, "out of memory");
    for (int k = 0; k < b->B; k++) {
        const lesson *l = &b->lesson[k];
        if (!l->decoded || l->drawn != side) continue;
        memcpy(b->contiguous + (size_t)n * each, b->rgb + (size_t)k * place_bytes(), each);
        noise[n++] = l->noise;
    }
    dice d = dice_new((uint64_t)t->x->config->seed + 4 + (uint64_t)half, b->first);
    status s = autoencoder_pass(t->coder[half], b->contiguous, n, noise, &d, err);
    for (int k = b->B - 1; k >= 0 && !s; k--)
        if (b->lesson[k].decoded && b->lesson[k].drawn == side)
            memcpy(b->rgb + (size_t)k * place_bytes(), b->contiguous + (size_t)--n * each, each);
    mem_free(noise);
    return s;
}

static void set_wanted(const scene *s, float *wanted) {
    int label[LABELS];
    labels_of_scene(s, label);
    memset(wanted, 0, (size_t)recogniser_logits() * sizeof *wanted);
    for (int h = 0; h < LABELS; h++)
        if (label[h] >= 0) wanted[recogniser_offset(h) + label[h]] = 1;
}

static status make_lessons(const teacher *t, batch *b, error *err) {
    status s = OK;
    plan_lessons(t, b);
    parallel_for(t->x->team, b->B, 1, draw_some, b);
    for (int half = 0; half < 2 && t->coder[half] && !s; half++) s = decode_some(t, b, half, err);
    if (s) return s;
    parallel_for(t->x->team, b->B, 1, wear_some, b);
    for (int k = 0; k < b->B; k++) {
        if (b->lesson[k].err.code) return *err = b->lesson[k].err, err->code;
        if (b->wanted) set_wanted(&b->lesson[k].s, b->wanted + k * recogniser_logits());
    }
    return OK;
}

static status teach(const teacher *t, int64_t pass, int B, float *picture, float *wanted, error *err) {
    // A stage begins where no other one comes to.
    batch b = {.first = (uint64_t)t->x->stage << 40 | (uint64_t)pass * (uint64_t)B,
               .B = B,
               .lesson = mem_calloc((size_t)B, sizeof(lesson)),
               .rgb = mem_alloc((size_t)B * place_bytes()),
               .contiguous = mem_alloc((size_t)B * place_bytes()),
               .picture = picture,
               .wanted = wanted};
    bool room = b.lesson && b.rgb && b.contiguous;
    status s = room ? make_lessons(t, &b, err) : fail(err, ERR_TEMP, "out of memory");
    mem_free(b.lesson);
    mem_free(b.rgb);
    mem_free(b.contiguous);
    return s;
}

static status fill(void *self, exec *e, int unused, int64_t pass, error *err) {
    const teacher *t = self;
    (void)unused;
    return teach(t, pass, (int)stage_of(t->x)->batch, exec_input(e, "picture"), exec_input(e, "wanted"), err);
}

// ---- results

// The stage's first lessons, as the network sees them.
static status grid(void *self, const char *path, error *err) {
    int side = RECOGNISER_CONFIG.side;
    float *picture = mem_alloc(GRID * place_bytes() * sizeof *picture);
    if (!picture) return fail(err, ERR_TEMP, "out of memory");
    status s = teach(self, 0, GRID, picture, NULL, err);
    if (!s) s = sheet_save(path, picture, GRID, side, side, GRID_COLUMNS, err);
    mem_free(picture);
    return s;
}

static status finish(void *self, const char *dir, error *err) {
    const train_context *x = ((teacher *)self)->x;
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

static void release(void *self) {
    close_coders(self);
    mem_free(self);
}

status recogniser_recipe(recipe *r, train_context *context, error *err) {
    teacher *t = mem_calloc(1, sizeof *t);
    if (!t) return fail(err, ERR_TEMP, "out of memory");
    t->x = context;
    *r = (recipe){.self = t,
                  .kind = "recogniser",
                  .enter = enter,
                  .variant = variant,
                  .loss = loss,
                  .fill = fill,
                  .grid = grid,
                  .finish = finish,
                  .free = release};
    return OK;
}
