#include "core/models/merge_lora.h"

#include "core/base/arena.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/models/ldm_names.h"
#include "core/models/part_tensors.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float *up, *down; // [O,R], [R,K]
    int64_t R;
    double scale; // weight · alpha / R
} pair;

typedef enum { ROLE_DOWN, ROLE_UP, ROLE_ALPHA, N_ROLES } role;

// A layer of the model, O outputs of K values each.
typedef struct layer {
    value_change plain, turned; // first; turned: of the transposed
    model_part part;
    const char *name; // of its weight
    tensor_entry tensor;
    int64_t O, K;
    pair *pairs;
    int n;
    const tensor_entry *found[N_ROLES]; // in the file at work
} layer;

// A name of a layer in files of LoRAs, dots as underscores.
typedef struct {
    model_part part;
    const char *name;
    layer *of;
} alias;

struct lora_changes {
    layer *layers;
    alias *aliases; // ordered
    size_t n, n_aliases;
    arena memory; // names and values
};

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---- the sum

static void add_plain(const value_change *c, uint64_t first, size_t n, double *v) {
    const layer *l = (const layer *)c;
    for (uint64_t K = (uint64_t)l->K, here; n; v += here, first += here, n -= here) {
        uint64_t o = first / K, k = first % K;
        here = K - k < n ? K - k : n;
        for (const pair *p = l->pairs; p < l->pairs + l->n; p++)
            for (int64_t r = 0; r < p->R; r++) {
                const float *down = p->down + (uint64_t)r * K + k;
                double up = p->scale * p->up[o * (uint64_t)p->R + (uint64_t)r];
                for (uint64_t i = 0; i < here; i++) v[i] += up * down[i];
            }
    }
}

static void add_turned(const value_change *c, uint64_t first, size_t n, double *v) {
    const layer *l = (const layer *)((const char *)c - offsetof(layer, turned));
    uint64_t O = (uint64_t)l->O, K = (uint64_t)l->K;
    for (size_t i = 0; i < n; i++) add_plain(&l->plain, (first + i) % O * K + (first + i) / O, 1, &v[i]);
}

// ---- the layers of a model

static int by_alias(const void *a, const void *b) {
    const alias *x = a, *y = b;
    return x->part != y->part ? (x->part < y->part ? -1 : 1) : strcmp(x->name, y->name);
}

static status add_alias(lora_changes *l, layer *of, const char *name, error *err) {
    char *flat = arena_printf(&l->memory, "%s", name);
    if (!flat) return no_memory(err);
    for (char *c = flat; *c; c++)
        if (*c == '.') *c = '_';
    l->aliases[l->n_aliases++] = (alias){of->part, flat, of};
    return OK;
}

enum { MAX_ALIASES = 4 };

// By our name, without what older processors of attention and transformers leave out, and by the original.
static status name_layer(lora_changes *l, layer *of, const part_tensors *all, const file_names *original,
                         error *err) {
    static const char TEXT_MODEL[] = "text_model.";
    char name[NAME_SIZE], theirs[NAME_SIZE];
    tensor_view view;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(of->name) - strlen(".weight")), of->name);
    TRY(add_alias(l, of, name, err));
    if (!strncmp(name, TEXT_MODEL, strlen(TEXT_MODEL))) TRY(add_alias(l, of, name + strlen(TEXT_MODEL), err));
    if (part_tensors_translate(all, original, of->name, theirs, &view) && text_ends_with(theirs, ".weight")) {
        theirs[strlen(theirs) - strlen(".weight")] = 0;
        TRY(add_alias(l, of, theirs, err));
    }
    if (!text_ends_with(name, ".to_out.0")) return OK;
    name[strlen(name) - strlen(".0")] = 0;
    return add_alias(l, of, name, err);
}

static status add_layer(lora_changes *l, model_part p, const part_tensor *t, error *err) {
    layer *x = &l->layers[l->n++];
    *x = (layer){.plain = {add_plain}, .turned = {add_turned}, .part = p, .tensor = t->tensor};
    x->O = t->tensor.shape[0];
    x->K = (int64_t)t->tensor.count / x->O;
    x->name = arena_printf(&l->memory, "%s", t->name);
    return x->name ? OK : no_memory(err);
}

static status add_part(lora_changes *l, model *m, model_part p, const part_tensors *tensors, error *err) {
    file_names original = {.prefix = ""};
    if (!tensors->n) return OK;
    if (p == PART_UNET) {
        const unet_config *u = model_unet(m, err);
        if (!u) return err->code;
        original.rows = LDM_UNET;
        original.layers = u->level[0].layers;
    }
    for (size_t i = 0; i < tensors->n; i++) {
        if (!part_tensor_is_layer(&tensors->tensors[i])) continue;
        TRY(add_layer(l, p, &tensors->tensors[i], err));
        TRY(name_layer(l, &l->layers[l->n - 1], tensors, &original, err));
    }
    return OK;
}

static bool takes_part(model *m, model_part p) { return p != PART_VAE && model_has(m, p); }

static status list_layers(lora_changes *l, model *m, error *err) {
    part_tensors parts[N_PARTS] = {0};
    size_t room = 0;
    status s = OK;
    for (model_part p = 0; p < N_PARTS && !s; p++)
        if (takes_part(m, p) && !(s = part_tensors_list(&parts[p], m, p, NULL, err))) room += parts[p].n;
    l->layers = s ? NULL : mem_calloc(room + 1, sizeof *l->layers);
    l->aliases = s ? NULL : mem_calloc(MAX_ALIASES * room + 1, sizeof *l->aliases);
    if (!s && (!l->layers || !l->aliases)) s = no_memory(err);
    for (model_part p = 0; p < N_PARTS && !s; p++) s = add_part(l, m, p, &parts[p], err);
    for (model_part p = 0; p < N_PARTS; p++) part_tensors_free(&parts[p]);
    if (!s) qsort(l->aliases, l->n_aliases, sizeof *l->aliases, by_alias);
    return s;
}

// ---- the names of a file

static const struct {
    const char *text;
    role role;
} ENDINGS[] = {
    {".lora_down.weight", ROLE_DOWN},              // kohya
    {".lora_up.weight", ROLE_UP},                  //
    {".lora_A.weight", ROLE_DOWN},                 // peft
    {".lora_B.weight", ROLE_UP},                   //
    {".lora_A.default.weight", ROLE_DOWN},         // the same, an adapter's name not taken away
    {".lora_B.default.weight", ROLE_UP},           //
    {".lora.down.weight", ROLE_DOWN},              // diffusers before peft
    {".lora.up.weight", ROLE_UP},                  //
    {"_lora.down.weight", ROLE_DOWN},              // its processors of attention
    {"_lora.up.weight", ROLE_UP},                  //
    {".lora_linear_layer.down.weight", ROLE_DOWN}, // its text encoders
    {".lora_linear_layer.up.weight", ROLE_UP},     //
    {".alpha", ROLE_ALPHA},
};

static const struct {
    const char *text;
    model_part part;
} BEGINNINGS[] = {
    {"lora_unet_", PART_UNET},
    {"lora_te_", PART_TEXT_ENCODER},
    {"lora_te1_", PART_TEXT_ENCODER},
    {"lora_te2_", PART_TEXT_ENCODER_2},
    {"unet.", PART_UNET},
    {"text_encoder.", PART_TEXT_ENCODER},
    {"text_encoder_2.", PART_TEXT_ENCODER_2},
};

// Where the word is in the text, it goes.
static void cut_out(char *text, const char *word) {
    char *at = strstr(text, word);
    if (at) memmove(at, at + strlen(word), strlen(at + strlen(word)) + 1);
}

// The layer and what the tensor is of it; NULL: none that we know.
static layer *find_layer(const lora_changes *l, const char *name, role *what) {
    char text[NAME_SIZE], *rest = text;
    alias key = {.part = PART_UNET};
    size_t n = strlen(name), e = 0;
    while (e < sizeof ENDINGS / sizeof *ENDINGS && !text_ends_with(name, ENDINGS[e].text)) e++;
    if (e == sizeof ENDINGS / sizeof *ENDINGS || n >= sizeof text) return NULL;
    *what = ENDINGS[e].role;
    snprintf(text, sizeof text, "%.*s", (int)(n - strlen(ENDINGS[e].text)), name);
    if (!strncmp(rest, "base_model.model.", 17)) rest += 17;
    for (size_t i = 0; i < sizeof BEGINNINGS / sizeof *BEGINNINGS; i++)
        if (!strncmp(rest, BEGINNINGS[i].text, strlen(BEGINNINGS[i].text))) {
            key.part = BEGINNINGS[i].part;
            rest += strlen(BEGINNINGS[i].text);
            break;
        }
    for (char *c = rest; *c; c++)
        if (*c == '.') *c = '_';
    cut_out(rest, "_processor");
    key.name = rest;
    const alias *a = bsearch(&key, l->aliases, l->n_aliases, sizeof key, by_alias);
    return a ? a->of : NULL;
}

// ---- what the metadata says: diffusers' "lora_adapter_metadata", peft's configuration of each part

typedef struct {
    double alpha; // NAN: nothing is said
    bool by_root; // of the rank, not by the rank
} setting;

// *other: it asks for more than that.
static void read_setting(js_reader *r, model_part p, setting *s, bool *other) {
    char key[80];
    snprintf(key, sizeof key, "%s.lora_alpha", model_part_name(p));
    s->alpha = js_real(r, key, NAN, -1e9, 1e9);
    snprintf(key, sizeof key, "%s.use_rslora", model_part_name(p));
    s->by_root = js_bool(r, key, false);
    snprintf(key, sizeof key, "%s.use_dora", model_part_name(p));
    bool dora = js_bool(r, key, false);
    snprintf(key, sizeof key, "%s.alpha_pattern", model_part_name(p));
    *other = *other || dora || json_object_size(js_object(r, key));
}

static status read_settings(const tensor_file *f, setting s[N_PARTS], error *err) {
    const char *text = tensor_file_metadata(f, "lora_adapter_metadata");
    bool other = false;
    for (model_part p = 0; p < N_PARTS; p++) s[p] = (setting){NAN, false};
    if (!text) return OK;
    json_t *j = js_parse(tensor_file_path(f), text, strlen(text), err);
    if (!j) return err->code;
    js_reader r = {.object = j, .where = tensor_file_path(f), .err = err};
    for (model_part p = 0; p < N_PARTS; p++) read_setting(&r, p, &s[p], &other);
    json_decref(j);
    if (r.code) return r.code;
    return other ? fail(err, ERR_DATA,
                        "%s: its metadata speak of DoRA or of an alpha for each layer, which are not read",
                        tensor_file_path(f))
                 : OK;
}

// ---- the values of a file

static status read_values(const tensor_file *f, const tensor_entry *t, float *v, error *err) {
    TRY(tensor_file_read_f32(f, t, 0, t->count, v, err));
    for (uint64_t i = 0; i < t->count; i++)
        if (!isfinite(v[i]))
            return fail(err, ERR_DATA, "%s: tensor '%.200s' holds a nan or an infinity", tensor_file_path(f),
                        t->name);
    return OK;
}

// Whether up and down multiply to the layer's weight.
static bool fits(const layer *x) {
    const tensor_entry *up = x->found[ROLE_UP], *down = x->found[ROLE_DOWN], *w = &x->tensor;
    if ((down->ndim != 2 && down->ndim != 4) || (up->ndim != 2 && up->ndim != 4)) return false;
    int64_t R = down->shape[0];
    if (R < 1 || up->shape[0] != x->O || up->shape[1] != R || down->shape[1] != w->shape[1]) return false;
    if (down->ndim == 4 && w->ndim == 4 && (down->shape[2] != w->shape[2] || down->shape[3] != w->shape[3]))
        return false;
    return up->count % (uint64_t)R == 0 && up->count / (uint64_t)R == (uint64_t)x->O &&
           down->count % (uint64_t)R == 0 && down->count / (uint64_t)R == (uint64_t)x->K;
}

static status check_pair(const tensor_file *f, const layer *x, error *err) {
    char up[200], down[200], whole[200];
    const tensor_entry *const *t = x->found;
    if (!t[ROLE_UP] || !t[ROLE_DOWN])
        return fail(err, ERR_DATA, "%s: there is no %s to the %s of '%.200s'", tensor_file_path(f),
                    t[ROLE_UP] ? "down" : "up",
                    t[ROLE_UP]     ? "up"
                    : t[ROLE_DOWN] ? "down"
                                   : "alpha",
                    x->name);
    if (t[ROLE_ALPHA] && t[ROLE_ALPHA]->count != 1)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' has %llu values, expected 1", tensor_file_path(f),
                    t[ROLE_ALPHA]->name, (unsigned long long)t[ROLE_ALPHA]->count);
    if (fits(x)) return OK;
    return fail(err, ERR_DATA, "%s: '%.200s' %s and '%.200s' %s do not make up '%.200s' %s",
                tensor_file_path(f), t[ROLE_UP]->name,
                tensor_shape_text(t[ROLE_UP]->shape, t[ROLE_UP]->ndim, up, sizeof up), t[ROLE_DOWN]->name,
                tensor_shape_text(t[ROLE_DOWN]->shape, t[ROLE_DOWN]->ndim, down, sizeof down), x->name,
                tensor_shape_text(x->tensor.shape, x->tensor.ndim, whole, sizeof whole));
}

static status take_pair(lora_changes *l, const tensor_file *f, layer *x, double times, const setting *said,
                        error *err) {
    const tensor_entry *const *t = x->found;
    float alpha = 0;
    TRY(check_pair(f, x, err));
    if (t[ROLE_ALPHA]) TRY(read_values(f, t[ROLE_ALPHA], &alpha, err));
    pair *p = &x->pairs[x->n];
    *p = (pair){.up = arena_alloc(&l->memory, t[ROLE_UP]->count * sizeof(float)),
                .down = arena_alloc(&l->memory, t[ROLE_DOWN]->count * sizeof(float)),
                .R = t[ROLE_DOWN]->shape[0]};
    if (!p->up || !p->down) return no_memory(err);
    TRY(read_values(f, t[ROLE_UP], p->up, err));
    TRY(read_values(f, t[ROLE_DOWN], p->down, err));
    double R = (double)p->R, by = said->by_root ? sqrt(R) : R;
    p->scale = times * (t[ROLE_ALPHA] ? (double)alpha : isnan(said->alpha) ? by : said->alpha) / by;
    x->n++;
    return OK;
}

// Which layers the file speaks of; all that is no part of a LoRA is told, the first few by name.
static status find_pairs(lora_changes *l, const tensor_file *f, error *err) {
    enum { TOLD = 20, ROOM = 2000 };
    char names[ROOM] = "";
    size_t unknown = 0, at = 0;
    for (size_t i = 0; i < l->n; i++) memset(l->layers[i].found, 0, sizeof l->layers[i].found);
    for (size_t i = 0; i < tensor_file_count(f); i++) {
        const tensor_entry *t = tensor_file_at(f, i);
        role what = ROLE_DOWN;
        layer *x = t->codes || dtype_is_float(t->type) ? find_layer(l, t->name, &what) : NULL;
        if (!x && unknown++ < TOLD && at < ROOM)
            at += (size_t)snprintf(names + at, ROOM - at, "%s'%.80s'", at ? ", " : "", t->name);
        if (x && x->found[what])
            return fail(err, ERR_DATA, "%s: '%.200s' and '%.200s' are the same tensor of a LoRA",
                        tensor_file_path(f), x->found[what]->name, t->name);
        if (x) x->found[what] = t;
    }
    if (!unknown) return OK;
    return fail(err, ERR_DATA, "%s: %zu of %zu tensors are no part of a LoRA of this model: %s%s",
                tensor_file_path(f), unknown, tensor_file_count(f), names, unknown > TOLD ? ", ..." : "");
}

static status take_file(lora_changes *l, const lora_source *source, error *err) {
    setting said[N_PARTS];
    tensor_file *f = tensor_file_open(source->path, err);
    if (!f) return err->code;
    status s = tensor_file_count(f) ? find_pairs(l, f, err)
                                    : fail(err, ERR_DATA, "%s: holds no tensor", source->path);
    if (!s) s = read_settings(f, said, err);
    for (layer *x = l->layers; x < l->layers + l->n && !s; x++)
        if (x->found[ROLE_UP] || x->found[ROLE_DOWN] || x->found[ROLE_ALPHA])
            s = take_pair(l, f, x, source->weight, &said[x->part], err);
    tensor_file_close(f);
    return s;
}

// ---- all of it

lora_changes *lora_changes_open(model *m, const lora_source *sources, int n, error *err) {
    lora_changes *l = mem_calloc(1, sizeof *l);
    status s = l ? list_layers(l, m, err) : no_memory(err);
    for (size_t i = 0; !s && i < l->n; i++)
        if (!(l->layers[i].pairs = arena_alloc(&l->memory, (size_t)n * sizeof(pair)))) s = no_memory(err);
    for (int i = 0; i < n && !s; i++) s = take_file(l, &sources[i], err);
    if (!s) return l;
    lora_changes_free(l);
    return NULL;
}

void lora_changes_free(lora_changes *l) {
    if (!l) return;
    mem_free(l->layers);
    mem_free(l->aliases);
    arena_free(&l->memory);
    mem_free(l);
}

const value_change *lora_change(const lora_changes *l, model_part p, const char *name, bool transposed) {
    for (const layer *x = l ? l->layers : NULL; l && x < l->layers + l->n; x++)
        if (x->n && x->part == p && !strcmp(x->name, name)) return transposed ? &x->turned : &x->plain;
    return NULL;
}
