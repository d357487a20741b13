#include "core/train/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/json.h"
#include "core/base/mem.h"

enum { CONFIG_MAX = 1 << 20 }; // bytes of a file

typedef enum { KEY_INT, KEY_REAL, KEY_BOOL, KEY_TEXT, KEY_SIZES, KEY_LIST } key_type;

typedef struct {
    const char *name;
    key_type type;
    bool stage;
    size_t at; // offset in train_config or train_stage
    double min, max, otherwise;
    const char *text; // default of texts and sizes; for KEY_TEXT, `choices` too
    const char *choices;
    const char *help;
    bool free; // may change in the middle of a run: no loss depends on it
} row;

#define RUN(field) false, offsetof(train_config, field)
#define STAGE(field) true, offsetof(train_stage, field)

#define FREE .free = true

static const row ROWS[] = {
    {"model", KEY_TEXT, RUN(model), 0, 0, 0, "", NULL,
     "folder in the layout of diffusers: configurations and tokenizer; the weights that are not trained from "
     "nothing"},
    {"start", KEY_TEXT, RUN(start), 0, 0, 0, "", NULL,
     "folder of the model whose weights the run begins with; none: from nothing, finetune from \"model\""},
    {"out", KEY_TEXT, RUN(out), 0, 0, 0, "train", NULL,
     "folder for checkpoints, loss.csv, loss.png, grids and the finished model", FREE},
    {"data", KEY_TEXT, STAGE(data), 0, 0, 0, "", NULL, "folder of images with captions, or world:…"},
    {"size", KEY_SIZES, STAGE(sizes), 8, 4096, 0, "64x64", NULL,
     "width x height of training pictures; several, separated by commas, are aspect buckets"},
    {"samples", KEY_INT, STAGE(samples), 1, 1e12, 100000, NULL, NULL, "samples shown in this stage"},
    {"batch", KEY_INT, STAGE(batch), 1, 4096, 32, NULL, NULL, "samples of one forward and backward pass"},
    {"accumulate", KEY_INT, STAGE(accumulate), 1, 4096, 1, NULL, NULL, "passes summed into one update"},
    {"crop", KEY_INT, STAGE(crop), 0, 4096, 0, NULL, NULL,
     "vae: side of random crops, around objects where they are known; 0: whole pictures"},
    {"decoder_only", KEY_BOOL, STAGE(decoder_only), 0, 1, 0, NULL, NULL,
     "vae: leave the encoder as it is, so that models of its latents stay valid"},
    {"cache", KEY_INT, STAGE(cache), 0, 1e9, 0, NULL, NULL,
     "text2img: samples encoded to latents once; 0: all of a folder, 60000 of an endless source"},
    {"lr", KEY_REAL, STAGE(lr), 0, 10, 1e-3, NULL, NULL, "learning rate after warm-up"},
    {"lr_end", KEY_REAL, STAGE(lr_end), 0, 10, 1e-5, NULL, NULL,
     "learning rate at the stage's end, reached along a cosine"},
    {"warmup", KEY_INT, STAGE(warmup), 0, 1e9, 100, NULL, NULL, "updates until the learning rate is reached"},
    {"seed", KEY_INT, RUN(seed), 0, 9007199254740992.0, 1, NULL, NULL, "of everything random"},
    {"precision", KEY_TEXT, RUN(precision), 0, 0, 0, "auto", "auto f32 bf16",
     "arithmetic of activations; auto: bf16 where the processor has it. Values, gradients and statistics "
     "are f32",
     FREE},
    {"save_as", KEY_TEXT, RUN(save_as), 0, 0, 0, "F32", "F32 F16 BF16",
     "type of the finished model's weights", FREE},
    {"threads", KEY_INT, RUN(threads), 0, 1024, 0, NULL, NULL, "0: one for each core", FREE},
    {"skip_bad", KEY_BOOL, RUN(skip_bad), 0, 1, 0, NULL, NULL,
     "count broken images and missing captions instead of stopping"},
    {"beta1", KEY_REAL, RUN(beta1), 0, 0.99999, 0.9, NULL, NULL, "AdamW: decay of the first moment"},
    {"beta2", KEY_REAL, RUN(beta2), 0, 0.9999999, 0.99, NULL, NULL, "AdamW: decay of the second moment"},
    {"eps", KEY_REAL, RUN(eps), 1e-15, 1, 1e-8, NULL, NULL, "AdamW: added to the root of the second moment"},
    {"weight_decay", KEY_REAL, RUN(weight_decay), 0, 10, 1e-2, NULL, NULL, "AdamW: times the learning rate"},
    {"clip", KEY_REAL, RUN(clip), 0, 1e9, 1, NULL, NULL, "largest norm of all gradients; 0: no clipping"},
    {"ema", KEY_REAL, RUN(ema), 0, 0.9999999, 0.9995, NULL, NULL,
     "share of the moving average that an update keeps"},
    {"l1", KEY_REAL, RUN(l1), 0, 1e6, 1, NULL, NULL, "vae: weight of the mean absolute difference"},
    {"mse", KEY_REAL, RUN(mse), 0, 1e6, 2, NULL, NULL, "vae: weight of the mean squared difference"},
    {"edge", KEY_REAL, RUN(edge), 0, 1e6, 0.5, NULL, NULL,
     "vae: weight of the mean absolute difference of neighbouring pixels' differences"},
    {"kl", KEY_REAL, RUN(kl), 0, 1e6, 5e-3, NULL, NULL, "vae: weight of the divergence from unit normals"},
    {"pooled_every", KEY_INT, RUN(pooled_every), 0, 1e9, 4, NULL, NULL,
     "vae: one update in so many decodes the halved latent against the halved picture; 0: none"},
    {"caption_dropout", KEY_REAL, RUN(caption_dropout), 0, 1, 0.1, NULL, NULL,
     "text2img: share of samples with an empty caption"},
    {"time_power", KEY_REAL, RUN(time_power), 0.01, 100, 0.75, NULL, NULL,
     "text2img: timesteps are T·u^time_power of even u; below 1 for more noise"},
    {"log_every", KEY_INT, RUN(log_every), 1, 1e9, 50, NULL, NULL, "updates between progress lines", FREE},
    {"checkpoint_every", KEY_INT, RUN(checkpoint_every), 1, 1e9, 1000, NULL, NULL,
     "updates between checkpoints", FREE},
    {"keep", KEY_INT, RUN(keep), 1, 1000, 2, NULL, NULL, "checkpoints kept", FREE},
    {"grid_every", KEY_INT, RUN(grid_every), 0, 1e9, 1000, NULL, NULL,
     "updates between sample grids; 0: none", FREE},
    {"grid_steps", KEY_INT, RUN(grid_steps), 1, 1000, 12, NULL, NULL, "text2img: sampling steps of a grid",
     FREE},
    {"grid_guidance", KEY_REAL, RUN(grid_guidance), 0, 100, 2, NULL, NULL, "text2img: guidance of a grid",
     FREE},
    {"grid_rescale", KEY_REAL, RUN(grid_rescale), 0, 1, 0.7, NULL, NULL,
     "text2img: guidance rescale of a grid", FREE},
    {"prompts", KEY_LIST, RUN(prompts), 0, 0, 0, "", NULL,
     "text2img: list of prompts of a grid; none: captions of the first samples", FREE},
};
enum { N_ROWS = sizeof ROWS / sizeof *ROWS };

// ---- reading

typedef struct {
    train_config *c;
    js_reader r;
} reader;

static void wrong(reader *x, const char *key, const char *what) {
    if (!x->r.code) x->r.code = fail(x->r.err, ERR_DATA, "%s: \"%s\" %s", x->r.where, key, what);
}

static const char *keep_text(reader *x, const char *key, const char *text) {
    char *copy = arena_printf(&x->c->mem, "%s", text);
    if (!copy && !x->r.code)
        x->r.code = fail(x->r.err, ERR_TEMP, "%s: \"%s\": out of memory", x->r.where, key);
    return copy;
}

static bool among(const char *choices, const char *word) {
    size_t n = strlen(word);
    for (const char *p = choices; p && *p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
        if (!strncmp(p, word, n) && (p[n] == ' ' || !p[n])) return true;
    return false;
}

static void read_text(reader *x, const row *k, const char **dst) {
    const char *text = js_string(&x->r, k->name, NULL);
    if (!text) return;
    if (k->choices && !among(k->choices, text)) {
        char what[100];
        snprintf(what, sizeof what, "must be one of: %s", k->choices);
        wrong(x, k->name, what);
    }
    *dst = keep_text(x, k->name, text);
}

static void parse_sizes(reader *x, const row *k, const char *text, train_stage *s) {
    s->n_sizes = 0;
    for (const char *p = text;; p++) {
        char *end;
        long w = strtol(p, &end, 10), h = *end == 'x' ? strtol(end + 1, &end, 10) : 0;
        bool fits = w >= k->min && w <= k->max && h >= k->min && h <= k->max;
        if (!fits || (*end && *end != ',') || s->n_sizes == TRAIN_SIZES_MAX) {
            wrong(x, k->name, "must read like \"64x64\" or \"64x64,96x48\", sides from 8 to 4096");
            return;
        }
        s->sizes[s->n_sizes++] = (source_size){(int)w, (int)h};
        p = end;
        if (!*p) return;
    }
}

static void read_list(reader *x, const row *k) {
    const json_t *list = js_array(&x->r, k->name, TRAIN_PROMPTS_MAX), *entry;
    size_t i;
    if (!list) return;
    x->c->n_prompts = 0;
    json_array_foreach(list, i, entry) {
        const char *text = json_string_value(entry);
        if (!text) {
            wrong(x, k->name, "must be a list of texts");
            return;
        }
        x->c->prompts[x->c->n_prompts++] = keep_text(x, k->name, text);
    }
}

// Absent keys leave what is there: the default, or for a stage the file's own value.
static void read_row(reader *x, const row *k, void *base) {
    void *at = (char *)base + k->at;
    const char *text;
    switch (k->type) {
    case KEY_INT:
        *(int64_t *)at = js_int(&x->r, k->name, *(int64_t *)at, (int64_t)k->min, (int64_t)k->max);
        break;
    case KEY_REAL:
        *(double *)at = js_real(&x->r, k->name, *(double *)at, k->min, k->max);
        break;
    case KEY_BOOL:
        *(bool *)at = js_bool(&x->r, k->name, *(bool *)at);
        break;
    case KEY_TEXT:
        read_text(x, k, at);
        break;
    case KEY_SIZES:
        if ((text = js_string(&x->r, k->name, NULL))) parse_sizes(x, k, text, base);
        break;
    case KEY_LIST:
        read_list(x, k);
        break;
    }
}

static void set_default(reader *x, const row *k, void *base) {
    void *at = (char *)base + k->at;
    if (k->type == KEY_INT) *(int64_t *)at = (int64_t)k->otherwise;
    if (k->type == KEY_REAL) *(double *)at = k->otherwise;
    if (k->type == KEY_BOOL) *(bool *)at = k->otherwise != 0;
    if (k->type == KEY_TEXT) *(const char **)at = k->text;
    if (k->type == KEY_SIZES) parse_sizes(x, k, k->text, base);
}

static void check_names(reader *x, bool stage) {
    const char *known[N_ROWS + 2];
    int n = 0;
    for (int i = 0; i < N_ROWS; i++)
        if (!stage || ROWS[i].stage) known[n++] = ROWS[i].name;
    if (!stage) known[n++] = "stages";
    known[n] = NULL;
    js_only(&x->r, known);
}

static void read_stage(reader *x, const json_t *object, int i) {
    char where[600];
    snprintf(where, sizeof where, "%s: stage %d", x->r.where, i + 1);
    reader s = {x->c, {.object = object, .where = where, .err = x->r.err}};
    if (!json_is_object(object)) {
        wrong(&s, "stages", "must be a list of objects");
    } else {
        check_names(&s, true);
        for (int k = 0; k < N_ROWS; k++)
            if (ROWS[k].stage) read_row(&s, &ROWS[k], &x->c->stage[i]);
    }
    if (!x->r.code) x->r.code = s.r.code;
}

static void read_all(reader *x) {
    train_config *c = x->c;
    train_stage base = {0};
    check_names(x, false);
    for (int i = 0; i < N_ROWS; i++) {
        void *at = ROWS[i].stage ? (void *)&base : (void *)c;
        set_default(x, &ROWS[i], at);
        read_row(x, &ROWS[i], at);
    }
    const json_t *stages = js_array(&x->r, "stages", TRAIN_STAGES_MAX);
    c->n_stages = stages ? (int)json_array_size(stages) : 1;
    if (!c->n_stages) wrong(x, "stages", "is empty");
    for (int i = 0; i < c->n_stages && !x->r.code; i++) {
        c->stage[i] = base;
        if (stages) read_stage(x, json_array_get(stages, (size_t)i), i);
    }
}

static status read_object(train_config *c, const char *name, json_t *object, error *err) {
    *c = (train_config){.name = name};
    if (!object) return err->code;
    reader x = {c, {.object = object, .where = name, .err = err}};
    read_all(&x);
    json_decref(object);
    return x.r.code;
}

status train_config_load(train_config *c, const char *path, error *err) {
    error local = {0};
    if (!err) err = &local;
    return read_object(c, path, js_load(path, CONFIG_MAX, err), err);
}

status train_config_parse(train_config *c, const char *name, const char *text, size_t n, error *err) {
    error local = {0};
    if (!err) err = &local;
    return read_object(c, name, js_parse(name, text, n, err), err);
}

void train_config_free(train_config *c) {
    arena_free(&c->mem);
    *c = (train_config){0};
}

// ---- what a checkpoint keeps

static json_t *sizes_json(const train_stage *s) {
    char text[TRAIN_SIZES_MAX * 12];
    size_t at = 0;
    for (int i = 0; i < s->n_sizes; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%dx%d", i ? "," : "", s->sizes[i].W,
                               s->sizes[i].H);
    return json_string(text);
}

static json_t *prompts_json(const train_config *c) {
    json_t *list = json_array();
    for (int i = 0; i < c->n_prompts; i++) json_array_append_new(list, json_string(c->prompts[i]));
    return list;
}

static json_t *value_json(const row *k, const void *base) {
    const void *at = (const char *)base + k->at;
    switch (k->type) {
    case KEY_INT:
        return json_integer(*(const int64_t *)at);
    case KEY_REAL:
        return json_real(*(const double *)at);
    case KEY_BOOL:
        return json_boolean(*(const bool *)at);
    case KEY_TEXT:
        return json_string(*(const char *const *)at);
    case KEY_SIZES:
        return sizes_json(base);
    case KEY_LIST:
        return prompts_json(base);
    }
    return NULL;
}

// false when memory is short.
static bool add_keys(json_t *object, bool stage, const void *base) {
    for (int k = 0; k < N_ROWS; k++)
        if (ROWS[k].stage == stage && json_object_set_new(object, ROWS[k].name, value_json(&ROWS[k], base)))
            return false;
    return true;
}

json_t *train_config_json(const train_config *c) {
    json_t *all = json_object(), *stages = json_array();
    bool good = add_keys(all, false, c);
    for (int i = 0; i < c->n_stages && good; i++) {
        json_t *stage = json_object();
        good = add_keys(stage, true, &c->stage[i]) && !json_array_append(stages, stage);
        json_decref(stage);
    }
    if (good && !json_object_set(all, "stages", stages)) return json_decref(stages), all;
    json_decref(stages);
    json_decref(all);
    return NULL;
}

typedef struct {
    char *text;
    size_t size, at;
    int n;
} changes;

static void add_change(changes *c, const char *key, int stage, const json_t *then, const json_t *now) {
    char *old = json_dumps(then, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)),
         *new = json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)), of[32] = "";
    if (stage) snprintf(of, sizeof of, " of stage %d", stage);
    int n = snprintf(c->text + c->at, c->size - c->at, "%s\"%s\"%s: %s, now %s", c->n ? "; " : "", key, of,
                     old ? old : "?", new ? new : "?");
    c->at = c->at + (size_t)n < c->size ? c->at + (size_t)n : c->size - 1;
    c->n++;
    free(old);
    free(new);
}

// `stage` 0: the keys of the whole run.
static void compare_keys(changes *c, int stage, const json_t *then, const json_t *now) {
    for (int k = 0; k < N_ROWS; k++) {
        const json_t *a = json_object_get(then, ROWS[k].name), *b = json_object_get(now, ROWS[k].name);
        if (ROWS[k].stage == (stage > 0) && !ROWS[k].free && a && b && !json_equal(a, b))
            add_change(c, ROWS[k].name, stage, a, b);
    }
}

int train_config_changes(const json_t *then, const json_t *now, int stages, char *text, size_t size) {
    changes c = {.text = text, .size = size};
    text[0] = 0;
    compare_keys(&c, 0, then, now);
    for (int i = 0; i < stages; i++)
        compare_keys(&c, i + 1, json_array_get(json_object_get(then, "stages"), (size_t)i),
                     json_array_get(json_object_get(now, "stages"), (size_t)i));
    return c.n;
}

// ---- help

const train_key *train_key_at(int i, train_key_room *room) {
    if (i < 0 || i >= N_ROWS) return NULL;
    const row *k = &ROWS[i];
    snprintf(room->otherwise, sizeof room->otherwise, "%.15g", k->otherwise);
    snprintf(room->range, sizeof room->range, "%.15g to %.15g", k->min, k->max);
    room->key = (train_key){k->name, room->otherwise, room->range, k->help, k->stage};
    if (k->type == KEY_BOOL) {
        room->key.otherwise = k->otherwise != 0 ? "true" : "false";
        room->key.range = "true, false";
    }
    if (k->type == KEY_TEXT || k->type == KEY_SIZES || k->type == KEY_LIST) {
        room->key.otherwise = k->text;
        room->key.range = k->choices ? k->choices : k->type == KEY_LIST ? "list of texts" : "text";
    }
    if (k->type == KEY_SIZES) snprintf(room->range, sizeof room->range, "sides %g to %g", k->min, k->max);
    if (k->type == KEY_SIZES) room->key.range = room->range;
    return &room->key;
}

status train_kind_find(const char *name, train_kind *kind, error *err) {
    static const char *const KINDS[] = {
        [TRAIN_VAE] = "vae", [TRAIN_TEXT2IMG] = "text2img", [TRAIN_FINETUNE] = "finetune"};
    for (size_t i = 0; name && i < sizeof KINDS / sizeof *KINDS; i++)
        if (!strcmp(name, KINDS[i])) return *kind = (train_kind)i, OK;
    return fail(err, ERR_USAGE, "'%s' is no kind of training: vae, text2img or finetune", name ? name : "");
}
