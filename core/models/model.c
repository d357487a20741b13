#include "core/models/model.h"

#include <string.h>

#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"
#include "core/graph/runner.h"
#include "core/models/config.h"

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

struct model {
    char *dir, *name, *class_name;
    json_t *index;
    component part[N_PARTS];
    clip_config clip[2];
    unet_config unet;
    vae_config vae;
    cached_plan plans[MAX_PLANS];
    uint64_t calls;
};

static const char *const PART_NAMES[N_PARTS] = {"text_encoder", "text_encoder_2", "unet", "vae"};
static const char *const TOKENIZER_NAMES[] = {"tokenizer", "tokenizer_2"};

const char *model_dir(const model *m) { return m->dir; }
const char *model_name(const model *m) { return m->name; }
const char *model_class(const model *m) { return m->class_name; }
bool model_has(const model *m, model_part part) { return m->part[part].present; }
const char *model_part_name(model_part part) { return PART_NAMES[part]; }
char *model_component_dir(const model *m, const char *name) { return fs_join(m->dir, name); }

bool model_flag(const model *m, const char *key, bool otherwise) {
    const json_t *v = json_object_get(m->index, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

// ---- opening

// "/models/talbot/" is called "talbot".
static char *name_of(const char *dir) {
    char *copy = mem_strdup(dir);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    char *name = copy ? mem_strdup(fs_basename(copy)) : NULL;
    mem_free(copy);
    return name;
}

static status find_parts(model *m, const model_index *index, error *err) {
    for (int p = 0; p < N_PARTS; p++) {
        char *dir = model_component_dir(m, PART_NAMES[p]);
        if (!dir || !(m->part[p].values = store_new()))
            return mem_free(dir), fail(err, ERR_TEMP, "out of memory");
        m->part[p].present = model_index_find(index, PART_NAMES[p]) && fs_is_dir(dir);
        mem_free(dir);
    }
    return OK;
}

static status open_index(model *m, error *err) {
    if (!m->dir || !m->name) return fail(err, ERR_TEMP, "out of memory");
    model_index *index = model_index_open(m->dir, err);
    if (!index) return err->code;
    char *path = fs_join(m->dir, "model_index.json");
    m->class_name = mem_strdup(model_index_class(index));
    status s = path && m->class_name ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s && !(m->index = js_load(path, CONFIG_BYTES, err))) s = err->code;
    if (!s) s = find_parts(m, index, err);
    mem_free(path);
    model_index_close(index);
    return s;
}

model *model_open(const char *dir, error *err) {
    error local = {0};
    if (!err) err = &local;
    model *m = mem_calloc(1, sizeof *m);
    if (!m) return fail(err, ERR_TEMP, "out of memory"), NULL;
    m->dir = mem_strdup(dir);
    m->name = name_of(dir);
    if (!open_index(m, err)) return m;
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
    json_decref(m->index);
    mem_free(m->class_name);
    mem_free(m->name);
    mem_free(m->dir);
    mem_free(m);
}

size_t model_bytes(const model *m) {
    size_t n = 0;
    for (int p = 0; p < N_PARTS; p++) n += store_bytes(m->part[p].values);
    return n;
}

// ---- components

static status parse_config(model *m, model_part p, const char *where, error *err) {
    json_t *j = js_load(where, CONFIG_BYTES, err);
    if (!j) return err->code;
    status s;
    if (p == PART_UNET)
        s = unet_config_parse(&m->unet, j, where, err);
    else if (p == PART_VAE)
        s = vae_config_parse(&m->vae, j, where, err);
    else
        s = clip_config_parse(&m->clip[p], j, where, err);
    json_decref(j);
    return s;
}

static status configure(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    if (c->configured) return OK;
    if (!c->present) return fail(err, ERR_NOINPUT, "%s: the model has no %s", m->dir, PART_NAMES[p]);
    char *dir = model_component_dir(m, PART_NAMES[p]), *path = dir ? fs_join(dir, "config.json") : NULL;
    status s = path ? parse_config(m, p, path, err) : fail(err, ERR_TEMP, "out of memory");
    mem_free(path);
    mem_free(dir);
    c->configured = !s;
    return s;
}

const clip_config *model_clip(model *m, model_part p, error *err) {
    return configure(m, p, err) ? NULL : &m->clip[p];
}

const unet_config *model_unet(model *m, error *err) { return configure(m, PART_UNET, err) ? NULL : &m->unet; }
const vae_config *model_vae(model *m, error *err) { return configure(m, PART_VAE, err) ? NULL : &m->vae; }

const tokenizer *model_tokenizer(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    if (c->tokenizer) return c->tokenizer;
    char *dir = model_component_dir(m, TOKENIZER_NAMES[p]);
    if (!dir) return fail(err, ERR_TEMP, "out of memory"), NULL;
    if (fs_is_dir(dir))
        c->tokenizer = tokenizer_open(dir, err);
    else
        fail(err, ERR_NOINPUT, "%s: the model has no %s", m->dir, TOKENIZER_NAMES[p]);
    mem_free(dir);
    return c->tokenizer;
}

const weights *model_weights(model *m, model_part p, error *err) {
    component *c = &m->part[p];
    if (!c->present) return fail(err, ERR_NOINPUT, "%s: the model has no %s", m->dir, PART_NAMES[p]), NULL;
    if (!c->weights) {
        char *dir = model_component_dir(m, PART_NAMES[p]);
        if (!dir) return fail(err, ERR_TEMP, "out of memory"), NULL;
        c->weights = weights_file_open(dir, NULL, err);
        mem_free(dir);
    }
    return c->weights ? weights_file_weights(c->weights) : NULL;
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
    int64_t B = s->B, pooled = c->projection_input_dim - 6 * c->addition_time_embed_dim;
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
        .text_embeds = text_time ? float_input(g, "text_embeds", SHAPE(B, pooled), RATE_PROMPT) : NULL,
        .time_ids = text_time ? float_input(g, "time_ids", SHAPE(B, 6), RATE_PROMPT) : NULL};
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

static status make_plan(model *m, const network_shape *s, const backend *be, workspace *ws, cached_plan *c,
                        error *err) {
    const network_row *row = &NETWORKS[s->net];
    const weights *w = model_weights(m, row->part, err);
    if (!w || configure(m, row->part, err)) return err->code;
    graph g;
    node *out[4];
    graph_init(&g, s->compute);
    g.weights = w;
    int n = row->build(&g, m, s, out);
    *c = (cached_plan){.shape = *s, .be = be};
    return runner_init(&c->run, &g, out, n, be, m->part[row->part].values, ws, err);
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
            if (!c->run.exec) {
                empty = c;
                continue;
            }
            bytes += plan_needs(c->run.plan).persistent;
            if (!oldest || c->used < oldest->used) oldest = c;
        }
        if (empty && bytes <= MAX_PLAN_BYTES) return empty;
        runner_free(&oldest->run);
    }
}

exec *model_network(model *m, const network_shape *s, const backend *be, workspace *ws, error *err) {
    error local = {0};
    if (!err) err = &local;
    m->calls++;
    for (cached_plan *c = m->plans; c < m->plans + MAX_PLANS; c++)
        if (c->run.exec && c->be == be && same_shape(&c->shape, s)) {
            c->used = m->calls;
            return c->run.exec;
        }
    cached_plan *c = make_room(m);
    if (make_plan(m, s, be, ws, c, err)) return NULL;
    c->used = m->calls;
    return c->run.exec;
}
