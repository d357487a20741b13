#include "core/models/model.h"

#include <math.h>
#include <string.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/hub.h"
#include "core/files/model_dir.h"
#include "core/graph/runner.h"
#include "core/graph/weights_check.h"
#include "core/models/config.h"
#include "core/models/derive.h"

#include <stdlib.h>

// Plans kept: a picture needs three; the rest serves changing sizes and batches. Their bytes are inputs,
// outputs and what depends on the prompt.
enum { MAX_PLANS = 12, MAX_PLAN_BYTES = 512 << 20 };

typedef struct {
    network_shape shape;
    const backend *be;
    runner run;
    uint64_t used; // when, in calls
} cached_plan;

typedef struct {
    bool present, configured;
    weights_file *weights;
    store *values; // packed weights
    tokenizer *tokenizer;
} component;

// An autoencoder of another place than the model's.
typedef struct {
    char *path; // a folder with a config.json, or a file; NULL: the model's own
    model_files *files;
    file_names names;
} other_vae;

struct model {
    char *dir, *name, *class_name, *vocabulary;
    json_t *index;          // model_index.json, or what it would say of a file
    checkpoint *checkpoint; // of a file
    other_vae vae_file;
    bool checked[N_NETS];
    component part[N_PARTS];
    clip_config clip[2];
    unet_config unet;
    vae_config vae;
    cached_plan plans[MAX_PLANS];
    uint64_t calls;
    model *next; // that shares the memory
};

static const char *const PART_NAMES[N_PARTS] = {"text_encoder", "text_encoder_2", "unet", "vae"};
static const char *const TOKENIZER_NAMES[] = {"tokenizer", "tokenizer_2"};

const char *model_dir(const model *m) { return m->dir; }
const char *model_name(const model *m) { return m->name; }
const char *model_class(const model *m) { return m->class_name; }
bool model_has(const model *m, model_part part) { return m->part[part].present; }
const char *model_part_name(model_part part) { return PART_NAMES[part]; }
checkpoint *model_checkpoint(const model *m) { return m->checkpoint; }

const few_steps *model_few_steps(const model *m, int *steps) {
    return m->checkpoint ? checkpoint_few_steps(m->checkpoint, steps) : few_steps_find(m->name, steps);
}

void model_own_advice(const model *m, int *steps, double *cfg_scale) {
    enum { MAX_STEPS = 1000, MAX_SCALE = 1000 };
    const json_t *own = json_object_get(m->index, "_calotype"), *n = json_object_get(own, "steps"),
                 *scale = json_object_get(own, "cfg_scale");
    json_int_t said = json_integer_value(n); // 0: none
    if (said >= 1 && said <= MAX_STEPS) *steps = (int)said;
    if (json_is_number(scale) && fabs(json_number_value(scale)) <= MAX_SCALE)
        *cfg_scale = json_number_value(scale);
}

bool model_flag(const model *m, const char *key, bool otherwise) {
    const json_t *v = json_object_get(m->index, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

bool model_is_refiner(const model *m) { return model_flag(m, "requires_aesthetics_score", false); }

json_t *model_settings(const model *m) {
    json_t *settings = json_object(), *value;
    const char *key;
    int failed = !settings;
    json_object_foreach(m->index, key, value) {
        if (!json_is_array(value)) failed |= json_object_set(settings, key, value);
    }
    if (!failed) return settings;
    json_decref(settings);
    return NULL;
}

// ---- opening

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// "/models/talbot/" is called "talbot", and "/models/dream.safetensors" "dream".
static char *name_of(const char *path) {
    char *copy = mem_strdup(path);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    char *name = copy ? mem_strdup(fs_basename(copy)) : NULL;
    if (name && !fs_is_dir(path) && *fs_extension(name)) name[fs_extension(name) - name - 1] = 0;
    mem_free(copy);
    return name;
}

static status make_stores(model *m, error *err) {
    for (int p = 0; p < N_PARTS; p++)
        if (!(m->part[p].values = store_new())) return no_memory(err);
    return OK;
}

static status find_parts(model *m, const model_index *index, error *err) {
    for (int p = 0; p < N_PARTS; p++) {
        if (!model_index_find(index, PART_NAMES[p])) continue;
        char *dir = fs_join(m->dir, PART_NAMES[p]);
        fs_kind kind = FS_NOTHING;
        status s = dir ? fs_look(dir, &kind, err) : no_memory(err);
        mem_free(dir);
        if (s) return s;
        m->part[p].present = kind == FS_FOLDER;
    }
    return OK;
}

static status open_index(model *m, error *err) {
    model_index *index = model_index_open(m->dir, err);
    if (!index) return err->code;
    char *path = fs_join(m->dir, "model_index.json");
    m->class_name = mem_strdup(model_index_class(index));
    status s = path && m->class_name ? OK : no_memory(err);
    if (!s && !(m->index = js_load(path, CONFIG_BYTES, err))) s = err->code;
    if (!s) s = find_parts(m, index, err);
    mem_free(path);
    model_index_close(index);
    return s;
}

static status open_checkpoint(model *m, error *err) {
    if (!(m->checkpoint = checkpoint_open(m->dir, err))) return err->code;
    m->class_name = mem_strdup(checkpoint_class(m->checkpoint));
    m->index = checkpoint_settings(m->checkpoint);
    for (int p = 0; p < N_PARTS; p++)
        m->part[p].present = checkpoint_prefix(m->checkpoint, PART_NAMES[p]) != NULL;
    return m->class_name && m->index ? OK : no_memory(err);
}

// A name may be that of a file or folder, or a model's in the hub's cache.
static char *find_path(const char *path, error *err) {
    bool in_cache = !fs_exists(path) && hub_is_name(path);
    char *at = in_cache ? hub_find(path, err) : mem_strdup(path);
    if (!at && !in_cache) no_memory(err);
    if (!at || !fs_is_dir(at)) return at;
    char *found = model_dir_resolve(at, err);
    mem_free(at);
    return found;
}

// ---- an autoencoder of its own

// A model's folder stands for the autoencoder in it.
static status find_vae_folder(other_vae *v, error *err) {
    char *config = fs_join(v->path, "config.json"), *inner = fs_join(v->path, "vae");
    status s = config && inner ? OK : no_memory(err);
    if (!s && !fs_exists(config)) {
        if (fs_is_dir(inner)) {
            mem_free(v->path);
            v->path = inner;
            inner = NULL;
        } else {
            s = fail(err, ERR_NOINPUT, "%s: neither an autoencoder's folder nor a model's", v->path);
        }
    }
    mem_free(config);
    mem_free(inner);
    return s;
}

static status open_vae(model *m, const char *path, error *err) {
    other_vae *v = &m->vae_file;
    if (!path) return OK;
    if (!(v->path = find_path(path, err))) return err->code;
    m->part[PART_VAE].present = true;
    if (fs_is_dir(v->path)) return find_vae_folder(v, err);
    if (!(v->files = model_files_open(v->path, NULL, err))) return err->code;
    if (checkpoint_vae_names(v->files, &v->names)) return OK;
    return fail(err, ERR_DATA, "%s: holds no autoencoder of a layout that is known", v->path);
}

// Not the autoencoder's that takes the place of the model's: the latents are the model's.
double model_latent_scaling(const model *m) {
    if (m->checkpoint) return checkpoint_vae_scaling(checkpoint_kind_of(m->checkpoint));
    char *path = fs_join(m->dir, "vae/config.json");
    error ignored = {0}; // whoever uses that autoencoder is told
    json_t *own = path && fs_exists(path) ? js_load(path, CONFIG_BYTES, &ignored) : NULL;
    double scaling = json_number_value(json_object_get(own, "scaling_factor"));
    json_decref(own);
    mem_free(path);
    if (scaling > 0) return scaling;
    return checkpoint_vae_scaling(m->part[PART_TEXT_ENCODER_2].present ? CHECKPOINT_SDXL : CHECKPOINT_SD1);
}

// ---- opening and closing

static status set_options(model *m, const model_options *o, error *err) {
    if (o->vocabulary && !(m->vocabulary = mem_strdup(o->vocabulary))) return no_memory(err);
    return open_vae(m, o->vae, err);
}

model *model_open(const char *path, const model_options *o, error *err) {
    error local = {0};
    if (!err) err = &local;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return no_memory(err), NULL;
    status s = (m->dir = find_path(path, err)) ? OK : err->code;
    if (!s && !(m->name = name_of(path))) s = no_memory(err);
    if (!s) s = make_stores(m, err);
    if (!s) s = fs_exists(m->dir) && !fs_is_dir(m->dir) ? open_checkpoint(m, err) : open_index(m, err);
    if (!s && o) s = set_options(m, o, err);
    if (!s) return m;
    model_free(m);
    return NULL;
}

void model_free(model *m) {
    if (!m) return;
    for (int i = 0; i < MAX_PLANS; i++) runner_free(&m->plans[i].run);
    for (int p = 0; p < N_PARTS; p++) {
        store_free(m->part[p].values);
        weights_file_close(m->part[p].weights);
        tokenizer_free(m->part[p].tokenizer);
    }
    checkpoint_close(m->checkpoint);
    model_files_close(m->vae_file.files);
    mem_free(m->vae_file.path);
    json_decref(m->index);
    mem_free(m->vocabulary);
    mem_free(m->class_name);
    mem_free(m->name);
    mem_free(m->dir);
    mem_free(m);
}

store *model_values(model *m, model_part part) { return m->part[part].values; }

size_t model_bytes(const model *m) {
    size_t n = 0;
    for (int p = 0; p < N_PARTS; p++) n += store_bytes(m->part[p].values);
    return n;
}

// ---- components

static const char *config_file(const char *name) {
    if (!strcmp(name, "scheduler")) return "scheduler_config.json";
    return strncmp(name, "tokenizer", strlen("tokenizer")) ? "config.json" : "tokenizer_config.json";
}

static json_t *load_config(const char *dir, const char *name, char **where, error *err) {
    char *path = dir ? fs_join(dir, config_file(name)) : NULL;
    json_t *j = path ? js_load(path, CONFIG_BYTES, err) : NULL;
    if (!path) no_memory(err);
    if (where)
        *where = path;
    else
        mem_free(path);
    return j;
}

// What the shapes of tensors say, of the file `path`.
static json_t *told_config(json_t *j, const char *path, char **where, error *err) {
    if (where && !(*where = mem_strdup(path))) no_memory(err);
    if (!where || *where) return j;
    json_decref(j);
    return NULL;
}

// Reads shapes only, so the provider does not outlive the call.
static json_t *derive_other_vae(const model *m, error *err) {
    weights_file *w = weights_file_of(m->vae_file.files, &m->vae_file.names, err);
    json_t *j =
        w ? derive_vae(weights_file_weights(w), model_latent_scaling(m), m->vae_file.path, err) : NULL;
    weights_file_close(w);
    return j;
}

json_t *model_config(const model *m, const char *name, char **where, error *err) {
    if (where) *where = NULL;
    bool vae = m->vae_file.path && !strcmp(name, PART_NAMES[PART_VAE]);
    if (vae && m->vae_file.files) return told_config(derive_other_vae(m, err), m->vae_file.path, where, err);
    if (!vae && m->checkpoint)
        return told_config(checkpoint_config(m->checkpoint, name, err), m->dir, where, err);
    char *dir = vae ? mem_strdup(m->vae_file.path) : fs_join(m->dir, name);
    json_t *j = load_config(dir, name, where, err);
    mem_free(dir);
    return j;
}

static status no_part(const model *m, model_part p, error *err) {
    const char *way = p == PART_VAE ? " (name one with --vae)" : "";
    return fail(err, ERR_NOINPUT, "%s: the model has no %s%s", m->dir, PART_NAMES[p], way);
}

// SDXL's refiner is told how good a picture is to be, in place of the size that is wanted.
static status parse_unet(model *m, const json_t *j, const char *where, error *err) {
    TRY(unet_config_parse(&m->unet, j, where, err));
    if (model_is_refiner(m)) m->unet.time_ids = TIME_IDS_SCORE;
    return OK;
}

static status parse_config(model *m, model_part p, const json_t *j, const char *where, error *err) {
    if (p == PART_UNET) return parse_unet(m, j, where, err);
    if (p == PART_VAE) return vae_config_parse(&m->vae, j, where, err);
    return clip_config_parse(&m->clip[p], j, where, err);
}

static status configure(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    if (c->configured) return OK;
    if (!c->present) return no_part(m, p, err);
    char *where;
    json_t *j = model_config(m, PART_NAMES[p], &where, err);
    status s = j ? parse_config(m, p, j, where, err) : err->code;
    json_decref(j);
    mem_free(where);
    c->configured = !s;
    return s;
}

status model_settle(model *m, const char *prediction, const char *because, error *err) {
    checkpoint_settle(m->checkpoint, prediction, because);
    m->part[PART_UNET].configured = false;
    return configure(m, PART_UNET, err);
}

const clip_config *model_clip(model *m, model_part p, error *err) {
    return configure(m, p, err) ? NULL : &m->clip[p];
}

const unet_config *model_unet(model *m, error *err) { return configure(m, PART_UNET, err) ? NULL : &m->unet; }
const vae_config *model_vae(model *m, error *err) { return configure(m, PART_VAE, err) ? NULL : &m->vae; }

// ---- tokenizers

// vocab.json and merges.txt serve all checkpoints, so they lie in the user's data folder.
static const char *vocabulary_folder(const model *m, arena *a) {
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (m->vocabulary) return m->vocabulary;
    if (xdg && *xdg == '/') return arena_printf(a, "%s/calotype/clip", xdg);
    return arena_printf(a, "%s/.local/share/calotype/clip", home ? home : "");
}

static tokenizer *open_shared_tokenizer(const model *m, const char *name, error *err) {
    arena a = {0};
    tokenizer *t = NULL;
    const char *dir = vocabulary_folder(m, &a), *vocab = dir ? arena_printf(&a, "%s/vocab.json", dir) : NULL;
    json_t *config = vocab ? checkpoint_config(m->checkpoint, name, err) : NULL;
    char *text = config ? json_dumps(config, JSON_COMPACT) : NULL;
    if (!vocab || (config && !text))
        no_memory(err);
    else if (text && !fs_exists(vocab))
        fail(err, ERR_NOINPUT,
             "%s: no such file: a checkpoint comes without the tokenizer's vocabulary (./dev vocab in "
             "calotype's "
             "source makes it; --clip-vocab names another folder)",
             vocab);
    else if (text)
        t = tokenizer_open_with(dir, text, err);
    free(text); // jansson's default allocator
    json_decref(config);
    arena_free(&a);
    return t;
}

static tokenizer *open_own_tokenizer(const model *m, const char *name, error *err) {
    char *dir = fs_join(m->dir, name);
    tokenizer *t = NULL;
    if (!dir)
        no_memory(err);
    else if (fs_is_dir(dir))
        t = tokenizer_open(dir, err);
    else
        fail(err, ERR_NOINPUT, "%s: the model has no %s", m->dir, name);
    mem_free(dir);
    return t;
}

const char *model_tokenizer_name(model_part p) { return TOKENIZER_NAMES[p]; }

char *model_tokenizer_dir(const model *m, model_part p) {
    arena a = {0};
    const char *shared = m->checkpoint ? vocabulary_folder(m, &a) : NULL;
    char *dir = !m->checkpoint ? fs_join(m->dir, TOKENIZER_NAMES[p]) : shared ? mem_strdup(shared) : NULL;
    arena_free(&a);
    return dir;
}

const tokenizer *model_tokenizer(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    if (!c->tokenizer && m->checkpoint && !c->present) return no_part(m, p, err), NULL;
    if (!c->tokenizer)
        c->tokenizer = m->checkpoint ? open_shared_tokenizer(m, TOKENIZER_NAMES[p], err)
                                     : open_own_tokenizer(m, TOKENIZER_NAMES[p], err);
    return c->tokenizer;
}

// ---- weights

static char *own_path(const model *m, model_part p) {
    return m->checkpoint ? mem_strdup(m->dir) : fs_join(m->dir, PART_NAMES[p]);
}

char *model_part_path(const model *m, model_part p) {
    return p == PART_VAE && m->vae_file.path ? mem_strdup(m->vae_file.path) : own_path(m, p);
}

status model_other_vae(const model *m, const char **path, error *err) {
    *path = NULL;
    if (!m->vae_file.path) return OK;
    char *own = own_path(m, PART_VAE);
    if (!own) return no_memory(err);
    if (strcmp(own, m->vae_file.path) != 0) *path = m->vae_file.path;
    mem_free(own);
    return OK;
}

const weights *model_weights(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    bool other = p == PART_VAE && m->vae_file.path;
    if (!c->present) return no_part(m, p, err), NULL;
    if (m->checkpoint && !other) return checkpoint_weights(m->checkpoint, PART_NAMES[p], err);
    if (!c->weights && other && m->vae_file.files) {
        c->weights = weights_file_of(m->vae_file.files, &m->vae_file.names, err);
    } else if (!c->weights) {
        char *dir = model_part_path(m, p);
        if (!dir) return no_memory(err), NULL;
        c->weights = weights_file_open(dir, NULL, err);
        mem_free(dir);
    }
    return c->weights ? weights_file_weights(c->weights) : NULL;
}

status model_part_files(model *m, model_part p, const model_files **files, file_names *names, error *err) {
    bool other = p == PART_VAE && m->vae_file.path;
    *names = (file_names){.prefix = ""};
    if (!model_weights(m, p, err)) return err->code;
    if (other && m->vae_file.files) {
        *files = m->vae_file.files;
        *names = m->vae_file.names;
    } else if (m->checkpoint && !other) {
        *files = checkpoint_files(m->checkpoint);
        *names = *checkpoint_names(m->checkpoint, PART_NAMES[p]);
    } else {
        *files = weights_file_files(m->part[p].weights);
    }
    return OK;
}

// ---- networks

// Everything a kind of network needs: which component it is of, and how its graph is built.
typedef struct {
    const char *name;
    model_part part;
    int (*build)(graph *g, const model *m, const network_shape *s, node **out); // number of outputs
} network_row;

static node *float_input(graph *g, const char *name, shape s, rate r) {
    return graph_input(g, name, s, DT_F32, r);
}

static int build_text(graph *g, const model *m, const network_shape *s, node **out) {
    node *ids = graph_input(g, "input_ids", SHAPE(s->B, s->T), DT_I32, RATE_STEP);
    node *eos = graph_input(g, "eos", SHAPE(s->B), DT_I32, RATE_STEP);
    clip_outputs o = clip_build(g, &m->clip[s->net == NET_TEXT_ENCODER_2], s->skip, ids, eos);
    out[0] = o.last_hidden_state;
    out[1] = o.penultimate;
    out[2] = o.pooled;
    return 3;
}

static node *class_input(graph *g, const unet_config *c, int64_t B) {
    switch (c->class_embed) {
    case CLASS_NONE:
        return NULL;
    case CLASS_LABEL:
        return graph_input(g, "class_labels", SHAPE(B), DT_I32, RATE_PROMPT);
    case CLASS_TIMESTEP:
        return float_input(g, "class_labels", SHAPE(B), RATE_PROMPT);
    case CLASS_IDENTITY:
        return float_input(g, "class_labels", SHAPE(B, c->time_embed_dim), RATE_PROMPT);
    default:
        return float_input(g, "class_labels", SHAPE(B, c->projection_input_dim), RATE_PROMPT);
    }
}

static int build_unet(graph *g, const model *m, const network_shape *s, node **out) {
    const unet_config *c = &m->unet;
    int64_t B = s->B;
    bool text_time = c->addition_embed == ADDITION_TEXT_TIME;
    unet_inputs in = {
        .sample = float_input(g, "sample", SHAPE(B, s->H, s->W, c->in_channels), RATE_STEP),
        .timestep = float_input(g, "timestep", SHAPE(B), RATE_STEP),
        .encoder_hidden_states = float_input(g, "encoder_hidden_states",
                                             SHAPE(B, s->T, c->level[0].cross_attention_dim), RATE_PROMPT),
        .timestep_cond = s->has_timestep_cond
                             ? float_input(g, "timestep_cond", SHAPE(B, c->time_cond_proj_dim), RATE_PROMPT)
                             : NULL,
        .class_labels = class_input(g, c, B),
        .text_embeds =
            text_time ? float_input(g, "text_embeds", SHAPE(B, unet_pooled_features(c)), RATE_PROMPT) : NULL,
        .time_ids = text_time ? float_input(g, "time_ids", SHAPE(B, c->time_ids), RATE_PROMPT) : NULL};
    out[0] = unet_build(g, c, &in);
    return 1;
}

static int build_vae_encoder(graph *g, const model *m, const network_shape *s, node **out) {
    vae_moments o = vae_encode_build(
        g, &m->vae, float_input(g, "sample", SHAPE(s->B, s->H, s->W, m->vae.in_channels), RATE_STEP));
    out[0] = o.mean;
    out[1] = o.logvar;
    return 2;
}

static int build_vae_decoder(graph *g, const model *m, const network_shape *s, node **out) {
    out[0] = vae_decode_build(
        g, &m->vae, float_input(g, "latent", SHAPE(s->B, s->H, s->W, m->vae.latent_channels), RATE_STEP));
    return 1;
}

static const network_row NETWORKS[N_NETS] = {
    [NET_TEXT_ENCODER] = {"text_encoder", PART_TEXT_ENCODER, build_text},
    [NET_TEXT_ENCODER_2] = {"text_encoder_2", PART_TEXT_ENCODER_2, build_text},
    [NET_UNET] = {"unet", PART_UNET, build_unet},
    [NET_VAE_ENCODER] = {"vae_encoder", PART_VAE, build_vae_encoder},
    [NET_VAE_DECODER] = {"vae_decoder", PART_VAE, build_vae_decoder},
};

const char *network_name(network net) { return NETWORKS[net].name; }

int network_find(const char *name) {
    for (int i = 0; i < N_NETS; i++)
        if (!strcmp(name, NETWORKS[i].name)) return i;
    return -1;
}

// Any size does: nothing is run.
status model_check(model *m, network net, error *err) {
    const network_row *row = &NETWORKS[net];
    if (m->checked[net]) return OK;
    const weights *w = model_weights(m, row->part, err);
    if (!w || configure(m, row->part, err)) return err->code;
    enum { SIDE = 256 }; // at least a latent at all levels
    network_shape s = {.net = net, .compute = DT_F32, .B = 1, .H = SIDE, .W = SIDE, .T = 1};
    weights_check check;
    graph g;
    node *out[4];
    weights_check_init(&check, w);
    graph_init(&g, DT_F32);
    g.weights = &check.provider;
    row->build(&g, m, &s, out);
    error built = g.err;
    graph_free(&g);
    status listed = weights_check_end(&check, err);
    if (!listed && built.code) *err = built;
    m->checked[net] = !listed && !built.code;
    return listed ? listed : built.code;
}

static status make_plan(model *m, const network_shape *s, const backend *be, cached_plan *c, error *err) {
    const network_row *row = &NETWORKS[s->net];
    if (model_check(m, s->net, err)) return err->code;
    const weights *w = model_weights(m, row->part, err);
    if (!w) return err->code;
    graph g;
    node *out[4];
    graph_init(&g, s->compute);
    g.weights = w;
    int n = row->build(&g, m, s, out);
    *c = (cached_plan){.shape = *s, .be = be, .run.plan = plan_new(&g, out, n, be, err)};
    return c->run.plan ? OK : err->code;
}

static bool same_shape(const network_shape *a, const network_shape *b) {
    return a->net == b->net && a->compute == b->compute && a->B == b->B && a->H == b->H && a->W == b->W &&
           a->T == b->T && a->skip == b->skip && a->has_timestep_cond == b->has_timestep_cond;
}

// An empty place, made by dropping the plans that were not used for longest.
static cached_plan *make_room(model *m) {
    for (;;) {
        cached_plan *empty = NULL, *oldest = NULL;
        size_t bytes = 0;
        for (cached_plan *c = m->plans; c < m->plans + MAX_PLANS; c++) {
            if (!c->run.plan) {
                empty = c;
                continue;
            }
            if (c->run.exec) bytes += plan_needs(c->run.plan).persistent;
            if (!oldest || c->used < oldest->used) oldest = c;
        }
        if (empty && bytes <= MAX_PLAN_BYTES) return empty;
        runner_free(&oldest->run);
    }
}

// The plan from the cache or made now.
static cached_plan *find_plan(model *m, const network_shape *s, const backend *be, error *err) {
    cached_plan *c;
    m->calls++;
    for (c = m->plans; c < m->plans + MAX_PLANS; c++)
        if (c->run.plan && c->be == be && same_shape(&c->shape, s)) break;
    if (c == m->plans + MAX_PLANS && make_plan(m, s, be, c = make_room(m), err)) return NULL;
    c->used = m->calls;
    return c;
}

// ---- memory

// What a plan takes while nothing else of the model is there. The workspace comes with the first run, when no
// weights are being made any more.
static network_memory memory_alone(const plan *p) {
    plan_memory m = plan_needs(p);
    plan_values v = plan_values_need(p);
    network_memory n = {.weights = v.all,
                        .kept = v.all,
                        .making = v.making,
                        .layer = v.least,
                        .activations = m.workspace + m.persistent};
    size_t beside = v.making > m.workspace ? v.making : m.workspace;
    n.total = v.all + m.persistent + beside;
    n.least = n.activations + v.least;
    if (n.least > n.total) n.least = n.total;
    return n;
}

void model_join(model **models, model *m) {
    m->next = *models;
    *models = m;
}

void model_leave(model **models, model *m) {
    while (*models && *models != m) models = &(*models)->next;
    if (*models) *models = m->next;
}

// What a model holds now.
static size_t memory_of(const model *m) {
    size_t bytes = model_bytes(m);
    for (const cached_plan *c = m->plans; c < m->plans + MAX_PLANS; c++)
        if (c->run.exec) bytes += plan_needs(c->run.plan).persistent;
    return bytes;
}

static size_t memory_held(const model *m, const network_means *by) {
    size_t bytes = by->ws->bytes + memory_of(m);
    for (const model *other = by->models; other; other = other->next)
        if (other != m) bytes += memory_of(other);
    return bytes;
}

// Whether a plan fits as well: values that it shares with another are counted twice.
static bool fits_beside(const model *m, const plan *p, const network_means *by) {
    size_t room = plan_needs(p).workspace;
    network_memory n = memory_alone(p);
    size_t grown = room > by->ws->bytes ? room : 0; // the old one is freed first
    return memory_held(m, by) + n.weights + n.making + n.activations - room + grown <= by->memory;
}

static void drop_part(model *m, model_part part) {
    for (cached_plan *c = m->plans; c < m->plans + MAX_PLANS; c++) {
        if (NETWORKS[c->shape.net].part != part) continue;
        exec_free(c->run.exec);
        c->run.exec = NULL;
    }
    store_clear(m->part[part].values);
    store_set_limit(m->part[part].values, SIZE_MAX);
}

void model_forget_part(model *m, model_part part) {
    drop_part(m, part);
    mem_return();
}

void model_forget(model *m, workspace *ws) {
    for (int p = 0; p < N_PARTS; p++) drop_part(m, (model_part)p);
    workspace_free(ws);
    mem_return();
}

void models_forget(model *models, workspace *ws) {
    for (model *m = models; m; m = m->next) model_forget(m, ws);
}

// Everything stays if it can; else what does not fit streams.
static void divide(network_memory *n, size_t memory) {
    if (!memory || n->total <= memory || n->least > memory) return;
    n->stage = n->least - n->activations;
    n->kept = memory - n->least;
    n->total = memory;
}

// The plan of the first backend that fits, or of the last one.
static cached_plan *choose_plan(model *m, const network_shape *s, const network_means *by,
                                network_memory *need, error *err) {
    for (int i = 0;; i++) {
        cached_plan *c = find_plan(m, s, by->be[i], err);
        if (!c) return NULL;
        *need = memory_alone(c->run.plan);
        need->be = i;
        if (by->memory && need->total > by->memory && i < by->n_be - 1) continue;
        divide(need, by->memory);
        need->fits = !by->memory || need->total <= by->memory;
        return c;
    }
}

status model_network_memory(model *m, const network_shape *s, const network_means *by, network_memory *need,
                            error *err) {
    return choose_plan(m, s, by, need, err) ? OK : err->code;
}

// Other models give way first.
static bool make_way(const model *m, const plan *p, const network_means *by) {
    for (model *other = by->models; other && !fits_beside(m, p, by); other = other->next)
        if (other != m) model_forget(other, by->ws);
    return fits_beside(m, p, by);
}

static status make_exec(model *m, cached_plan *c, const network_means *by, const network_memory *need,
                        error *err) {
    store *values = m->part[NETWORKS[c->shape.net].part].values;
    if (by->memory && !make_way(m, c->run.plan, by)) {
        model_forget(m, by->ws);
        if (!need->fits)
            return fail(err, ERR_USAGE, "%s needs %zu bytes of memory at least, and %zu are allowed",
                        network_name(c->shape.net), need->least, by->memory);
        if (need->stage) store_set_limit(values, by->memory - need->activations);
    }
    c->run.exec = exec_new(c->run.plan, values, by->ws, err);
    return c->run.exec ? OK : err->code;
}

exec *model_network(model *m, const network_shape *s, const network_means *by, error *err) {
    error local = {0};
    network_memory need;
    if (!err) err = &local;
    cached_plan *c = choose_plan(m, s, by, &need, err);
    if (!c || (!c->run.exec && make_exec(m, c, by, &need, err))) return NULL;
    return c->run.exec;
}
