// One network at a time: `calo_run` on named tensors, and the plan of a network with its times.
#include "core/api.h"
#include "core/base/arena.h"
#include "core/base/mem.h"
#include "core/models/layout.h"
#include "core/tensors.h"

#include <stdio.h>
#include <string.h>

enum { MAX_INPUTS = 8, MAX_OUTPUTS = 3, MAX_BATCH = 1024, MAX_SIDE = 16384, MAX_TOKENS = 65536 };

// A tensor that goes in or comes out, in the caller's layout. ids > 0: integers below it.
typedef struct {
    const char *name;
    shape shape;
    int64_t ids;
} slot;

typedef struct {
    calo_model *model;
    network_shape shape;
    slot in[MAX_INPUTS], out[MAX_OUTPUTS];
    int n_in, n_out;
} run;

static void expect(run *r, const char *name, shape s, int64_t ids) {
    r->in[r->n_in++] = (slot){name, s, ids};
}
static void give(run *r, const char *name, shape s) { r->out[r->n_out++] = (slot){.name = name, .shape = s}; }

// ---- what each network takes and gives

static status describe_text(run *r, error *err) {
    model_part p = r->shape.net == NET_TEXT_ENCODER ? PART_TEXT_ENCODER : PART_TEXT_ENCODER_2;
    const clip_config *c = model_clip(r->model->m, p, err);
    if (!c) return err->code;
    int64_t B = r->shape.B, T = r->shape.T, E = c->hidden_size;
    expect(r, "input_ids", SHAPE(B, T), c->vocab_size);
    give(r, "last_hidden_state", SHAPE(B, T, E));
    give(r, "penultimate", SHAPE(B, T, E));
    if (c->with_projection)
        give(r, "text_embeds", SHAPE(B, c->projection_dim));
    else
        give(r, "pooler_output", SHAPE(B, E));
    if (T <= c->max_position_embeddings) return OK;
    return fail(err, ERR_DATA, "input_ids: %d tokens, the text encoder has %d positions", (int)T,
                (int)c->max_position_embeddings);
}

static void expect_class_labels(run *r, const unet_config *c) {
    int64_t B = r->shape.B;
    if (c->class_embed == CLASS_LABEL)
        expect(r, "class_labels", SHAPE(B), c->num_class_embeds);
    else if (c->class_embed == CLASS_TIMESTEP)
        expect(r, "class_labels", SHAPE(B), 0);
    else if (c->class_embed != CLASS_NONE)
        expect(r, "class_labels",
               SHAPE(B, c->class_embed == CLASS_IDENTITY ? c->time_embed_dim : c->projection_input_dim), 0);
}

static status describe_unet(run *r, error *err) {
    const unet_config *c = model_unet(r->model->m, err);
    if (!c) return err->code;
    const network_shape *s = &r->shape;
    expect(r, "sample", SHAPE(s->B, c->in_channels, s->H, s->W), 0);
    expect(r, "timestep", SHAPE(s->B), 0);
    expect(r, "encoder_hidden_states", SHAPE(s->B, s->T, c->level[0].cross_attention_dim), 0);
    if (s->has_timestep_cond) expect(r, "timestep_cond", SHAPE(s->B, c->time_cond_proj_dim), 0);
    if (c->addition_embed == ADDITION_TEXT_TIME) {
        expect(r, "text_embeds", SHAPE(s->B, unet_pooled_features(c)), 0);
        expect(r, "time_ids", SHAPE(s->B, c->time_ids), 0);
    }
    expect_class_labels(r, c);
    give(r, "sample", SHAPE(s->B, c->out_channels, s->H, s->W));
    return OK;
}

static status describe_vae(run *r, error *err) {
    const vae_config *c = model_vae(r->model->m, err);
    if (!c) return err->code;
    const network_shape *s = &r->shape;
    int64_t f = vae_factor(c), L = c->latent_channels;
    if (s->net == NET_VAE_DECODER) {
        expect(r, "latent", SHAPE(s->B, L, s->H, s->W), 0);
        give(r, "sample", SHAPE(s->B, c->out_channels, s->H * f, s->W * f));
        return OK;
    }
    expect(r, "sample", SHAPE(s->B, c->in_channels, s->H, s->W), 0);
    give(r, "mean", SHAPE(s->B, L, s->H / f, s->W / f));
    give(r, "logvar", SHAPE(s->B, L, s->H / f, s->W / f));
    if (s->H >= f && s->W >= f) return OK;
    return fail(err, ERR_DATA, "sample: %dx%d pixels are fewer than one latent's %dx%d", (int)s->W, (int)s->H,
                (int)f, (int)f);
}

static status describe(run *r, error *err) {
    switch (r->shape.net) {
    case NET_UNET:
        return describe_unet(r, err);
    case NET_VAE_ENCODER:
    case NET_VAE_DECODER:
        return describe_vae(r, err);
    default:
        return describe_text(r, err);
    }
}

// ---- shapes of what was given

static const char *given_shape(const calo_tensor *t, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%lld", i ? "," : "", (long long)t->shape[i]);
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

// The tensor whose shape decides the others', with this rank and dimensions that are not beyond all use.
static const calo_tensor *key_tensor(const calo_tensor *in, size_t n, const char *name, int rank,
                                     error *err) {
    const calo_tensor *t = tensors_find(in, n, name);
    if (!t) return fail(err, ERR_DATA, "the input '%s' is missing", name), NULL;
    char buf[128];
    bool good = t->rank == rank && t->shape[0] <= MAX_BATCH;
    for (int i = 0; i < t->rank; i++) good = good && t->shape[i] >= 1 && t->shape[i] <= MAX_TOKENS;
    if (good && rank == 4) good = t->shape[2] <= MAX_SIDE && t->shape[3] <= MAX_SIDE;
    if (good) return t;
    return fail(err, ERR_DATA, "'%s' is %s; %d dimensions of a usable size are expected", name,
                given_shape(t, buf, sizeof buf), rank),
           NULL;
}

static status find_shape(run *r, const calo_tensor *in, size_t n, error *err) {
    network_shape *s = &r->shape;
    const calo_tensor *t;
    if (s->net == NET_TEXT_ENCODER || s->net == NET_TEXT_ENCODER_2) {
        if (!(t = key_tensor(in, n, "input_ids", 2, err))) return err->code;
        s->B = t->shape[0];
        s->T = t->shape[1];
        return OK;
    }
    if (!(t = key_tensor(in, n, s->net == NET_VAE_DECODER ? "latent" : "sample", 4, err))) return err->code;
    s->B = t->shape[0];
    s->H = t->shape[2];
    s->W = t->shape[3];
    if (s->net != NET_UNET) return OK;
    s->has_timestep_cond = tensors_find(in, n, "timestep_cond") != NULL;
    s->T = 1;
    if (!tensors_find(in, n, "encoder_hidden_states")) return OK; // right for a UNet that reads no text
    if (!(t = key_tensor(in, n, "encoder_hidden_states", 3, err))) return err->code;
    s->T = t->shape[1];
    return OK;
}

static const slot *slot_named(const run *r, const char *name) {
    for (int i = 0; i < r->n_in; i++)
        if (!strcmp(r->in[i].name, name)) return &r->in[i];
    return NULL;
}

static status check_given(const run *r, const calo_tensor *in, size_t n, error *err) {
    for (size_t i = 0; i < n; i++) {
        const calo_tensor *t = &in[i];
        const slot *s = slot_named(r, t->name);
        char have[128], want[128];
        if (!s) return fail(err, ERR_DATA, "%s has no input '%s'", network_name(r->shape.net), t->name);
        bool scalar = t->rank == 0 && s->shape.rank == 1; // a timestep for all
        bool fits = scalar || t->rank == s->shape.rank;
        for (int k = 0; k < t->rank && fits; k++) fits = t->shape[k] == s->shape.d[k];
        if (!fits || tensor_count(t) < 0)
            return fail(err, ERR_DATA, "'%s' is %s where %s is expected", t->name,
                        given_shape(t, have, sizeof have), shape_text(s->shape, want));
        if (s->ids && t->type == CALO_F32) return fail(err, ERR_DATA, "'%s' must be I32 or I64", t->name);
    }
    return OK;
}

// ---- values

static double value_at(const calo_tensor *t, int64_t i) {
    switch (t->type) {
    case CALO_I32:
        return ((const int32_t *)t->data)[i];
    case CALO_I64:
        return (double)((const int64_t *)t->data)[i];
    default:
        return ((const float *)t->data)[i];
    }
}

static status put_ids(const calo_tensor *t, const slot *s, int32_t *dst, error *err) {
    for (int64_t i = 0, step = t->rank > 0; i < shape_count(s->shape); i++) {
        double v = value_at(t, i * step);
        if (v < 0 || v >= (double)s->ids)
            return fail(err, ERR_DATA, "'%s' holds %.0f, which is not in 0 .. %d", t->name, v,
                        (int)s->ids - 1);
        dst[i] = (int32_t)v;
    }
    return OK;
}

static void put_floats(const calo_tensor *t, const slot *s, float *dst) {
    shape d = s->shape;
    if (d.rank == 4 && t->type == CALO_F32) {
        nchw_to_nhwc(t->data, dst, d.d[0], d.d[1], d.d[2], d.d[3]);
        return;
    }
    int64_t C = d.rank == 4 ? d.d[1] : 1, P = d.rank == 4 ? d.d[2] * d.d[3] : 1;
    for (int64_t i = 0, step = t->rank > 0; i < shape_count(d); i++) {
        int64_t to = d.rank == 4 ? (i / (C * P) * P + i % P) * C + i / P % C : i;
        dst[to] = (float)value_at(t, i * step);
    }
}

static status fill_eos(const run *r, exec *e, error *err) {
    model_part p = r->shape.net == NET_TEXT_ENCODER ? PART_TEXT_ENCODER : PART_TEXT_ENCODER_2;
    const clip_config *c = model_clip(r->model->m, p, err);
    const int32_t *ids = exec_input(e, "input_ids");
    int32_t *eos = exec_input(e, "eos");
    for (int64_t b = 0; b < r->shape.B; b++)
        eos[b] = (int32_t)(b * r->shape.T + clip_eos_position(c, ids + b * r->shape.T, r->shape.T));
    return OK;
}

static status fill_inputs(const run *r, exec *e, const calo_tensor *in, size_t n, error *err) {
    for (int i = 0; i < r->n_in; i++) {
        const slot *s = &r->in[i];
        const calo_tensor *t = tensors_find(in, n, s->name);
        void *dst = exec_input(e, s->name);
        if (!dst) continue; // the network has no use for it
        if (!t) return fail(err, ERR_DATA, "the input '%s' is missing", s->name);
        status st = OK;
        if (s->ids)
            st = put_ids(t, s, dst, err);
        else
            put_floats(t, s, dst);
        if (st) return st;
    }
    bool text = r->shape.net == NET_TEXT_ENCODER || r->shape.net == NET_TEXT_ENCODER_2;
    return text ? fill_eos(r, e, err) : OK;
}

static status take_outputs(const run *r, const exec *e, calo_tensors *out, error *err) {
    for (int i = 0; i < r->n_out; i++) {
        shape s = r->out[i].shape;
        float *dst = tensors_add(out, r->out[i].name, CALO_F32, s.rank, s.d, err);
        if (!dst) return err->code;
        const float *src = exec_output(e, i);
        if (s.rank == 4)
            nhwc_to_nchw(src, dst, s.d[0], s.d[1], s.d[2], s.d[3]);
        else
            memcpy(dst, src, (size_t)shape_count(s) * sizeof *src);
    }
    return OK;
}

static status start(run *r, calo_model *m, const char *name, error *err) {
    int net = network_find(name);
    *r = (run){.model = m, .shape = {.net = (network)net, .compute = api_compute(m->ctx->options.precision)}};
    if (net >= 0) return OK;
    return fail(err, ERR_USAGE,
                "'%s' is no network: unet, vae_encoder, vae_decoder, text_encoder or text_encoder_2", name);
}

calo_status calo_run(calo_model *m, const char *name, const calo_tensor *in, size_t n, calo_tensors **out) {
    error *err = api_enter(m->ctx);
    *out = NULL;
    run r;
    status s = start(&r, m, name, err);
    if (!s) s = find_shape(&r, in, n, err);
    if (!s) s = describe(&r, err);
    if (!s) s = check_given(&r, in, n, err);
    exec *e = s ? NULL : api_network(m, &r.shape, EXACT, err);
    if (!e) return api_leave(err->code);
    calo_tensors *list = tensors_new(err);
    if (!(s = list ? OK : err->code)) s = fill_inputs(&r, e, in, n, err);
    if (!s) s = exec_run(e, err);
    if (!s) s = take_outputs(&r, e, list, err);
    if (s)
        calo_tensors_free(list);
    else
        *out = list;
    return api_leave(s);
}

// ---- plans

struct calo_plan {
    arena strings;
    calo_plan_line *at;
    size_t n, workspace;
};

static status plan_shape(run *r, int batch, int width, int height, error *err) {
    network_shape *s = &r->shape;
    s->B = batch;
    if (s->net == NET_TEXT_ENCODER || s->net == NET_TEXT_ENCODER_2) {
        model_part p = s->net == NET_TEXT_ENCODER ? PART_TEXT_ENCODER : PART_TEXT_ENCODER_2;
        const clip_config *c = model_clip(r->model->m, p, err);
        s->T = c ? c->max_position_embeddings : 0;
        return c ? OK : err->code;
    }
    const vae_config *v = model_vae(r->model->m, err);
    const unet_config *u = v ? model_unet(r->model->m, err) : NULL;
    if (!u) return err->code;
    int64_t f = vae_factor(v), side = (u->sample_size ? u->sample_size : 64) * f;
    s->H = height ? height : side;
    s->W = width ? width : side;
    if (s->net != NET_VAE_ENCODER) {
        s->H /= f;
        s->W /= f;
    }
    s->T = s->net == NET_UNET ? 77 : 0;
    return OK;
}

static const char *own(calo_plan *p, const char *text) {
    const char *copy = arena_printf(&p->strings, "%s", text ? text : "");
    return copy ? copy : "";
}

// Copies, because the model may drop its plan at any later call.
static status keep_lines(calo_plan *p, const exec *e, error *err) {
    p->n = (size_t)exec_lines(e);
    p->at = mem_calloc(p->n ? p->n : 1, sizeof *p->at);
    if (!p->at) return fail(err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < p->n; i++) {
        plan_line l = exec_line(e, (int)i);
        char size[128];
        p->at[i] = (calo_plan_line){.path = own(p, l.path),
                                    .op = own(p, l.op),
                                    .kernel = own(p, l.kernel),
                                    .rate = l.rate == RATE_PROMPT ? "prompt" : "step",
                                    .shape = own(p, shape_text(l.shape, size)),
                                    .type = dtype_name(l.dtype),
                                    .flops = l.flops,
                                    .bytes = l.bytes,
                                    .seconds = l.seconds};
    }
    return OK;
}

calo_status calo_plan_new(calo_model *m, const char *name, int batch, int width, int height,
                          calo_plan **out) {
    error *err = api_enter(m->ctx);
    *out = NULL;
    run r;
    if (batch < 1 || batch > MAX_BATCH || width < 0 || height < 0 || width > MAX_SIDE || height > MAX_SIDE)
        return api_leave(
            fail(err, ERR_USAGE, "a batch of %d pictures of %dx%d is out of range", batch, width, height));
    status s = start(&r, m, name, err);
    if (!s) s = plan_shape(&r, batch, width, height, err);
    exec *e = s ? NULL : api_network(m, &r.shape, FAST, err);
    if (!e) return api_leave(err->code);
    calo_plan *p = mem_calloc(1, sizeof *p);
    s = p ? exec_run(e, err) : fail(err, ERR_TEMP, "out of memory");
    exec_input(e, "encoder_hidden_states"); // so that the prompt's part runs, and is timed, again
    exec_time(e, true);
    if (!s) s = exec_run(e, err);
    exec_time(e, false);
    if (!s) s = keep_lines(p, e, err);
    if (s) {
        calo_plan_free(p);
        return api_leave(s);
    }
    p->workspace = m->ctx->ws.bytes;
    *out = p;
    return CALO_OK;
}

size_t calo_plan_count(const calo_plan *p) { return p ? p->n : 0; }
const calo_plan_line *calo_plan_at(const calo_plan *p, size_t i) { return p && i < p->n ? &p->at[i] : NULL; }
size_t calo_plan_workspace(const calo_plan *p) { return p ? p->workspace : 0; }

void calo_plan_free(calo_plan *p) {
    if (!p) return;
    mem_free(p->at);
    arena_free(&p->strings);
    mem_free(p);
}
