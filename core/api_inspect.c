// What files hold, told as JSON.
#include "core/pipeline_memory.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/files/model_dir.h"
#include "core/files/recognise.h"

// Hands out a JSON value as text; takes it over. NULL stands for short memory, as in jansson.
static status give(json_t *j, char **text, error *err) {
    char *dump = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    *text = dump ? mem_strdup(dump) : NULL;
    free(dump);
    json_decref(j);
    return *text ? OK : fail(err, ERR_TEMP, "out of memory");
}

// A string of a file: what is not UTF-8 is not shown.
static json_t *text_of(const char *s) {
    json_t *j = json_string(s);
    return j ? j : json_string("(not UTF-8)");
}

// ---- tensors

static json_t *shape_of(const tensor_entry *t) {
    json_t *j = json_array();
    for (int i = 0; i < t->ndim; i++) json_array_append_new(j, json_integer(t->shape[i]));
    return j;
}

static json_t *describe_tensors(const tensor_file *f) {
    json_t *j = json_object(), *list = json_array(), *meta = json_object();
    uint64_t values = 0, bytes = 0;
    for (size_t i = 0; i < tensor_file_count(f); i++) {
        const tensor_entry *t = tensor_file_at(f, i);
        values += t->auxiliary ? 0 : t->count;
        bytes += t->bytes;
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", text_of(t->name), "type",
                                              t->type_name, "shape", shape_of(t)));
    }
    for (size_t i = 0; i < tensor_file_metadata_count(f); i++) {
        metadata_pair p = tensor_file_metadata_at(f, i);
        json_object_set_new(meta, p.key, text_of(p.value));
    }
    recognised what = recognise(f);
    json_object_set_new(j, "kind", json_string("tensors"));
    if (*what.kind) json_object_set_new(j, "what", json_string(what.kind));
    if (*what.base) json_object_set_new(j, "base", json_string(what.base));
    if (what.rank) json_object_set_new(j, "rank", json_integer(what.rank));
    json_object_set_new(j, "values", json_integer((json_int_t)values));
    json_object_set_new(j, "bytes", json_integer((json_int_t)bytes));
    json_object_set_new(j, "metadata", meta);
    json_object_set_new(j, "tensors", list);
    return j;
}

// ---- checkpoints in one file

// What it is, and by what that is known.
static json_t *describe_findings(const checkpoint *c) {
    json_t *list = json_array();
    const finding *f;
    for (size_t i = 0, n = checkpoint_findings(c, &f); i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "what", f[i].what, "value",
                                              text_of(f[i].value), "because", text_of(f[i].because)));
    return list;
}

// What is missing or wrong of the networks that the file holds.
static json_t *describe_problems(model *m) {
    static const struct {
        network net;
        model_part part;
    } NETS[] = {{NET_UNET, PART_UNET},
                {NET_VAE_ENCODER, PART_VAE},
                {NET_VAE_DECODER, PART_VAE},
                {NET_TEXT_ENCODER, PART_TEXT_ENCODER},
                {NET_TEXT_ENCODER_2, PART_TEXT_ENCODER_2}};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof NETS / sizeof *NETS; i++) {
        error err = {0};
        if (model_has(m, NETS[i].part) && model_check(m, NETS[i].net, &err))
            json_array_append_new(list, text_of(err.text));
    }
    return list;
}

static void add_checkpoint(json_t *j, model *m) {
    json_object_set_new(j, "detected", describe_findings(model_checkpoint(m)));
    json_object_set_new(j, "problems", describe_problems(m));
}

static status inspect_tensors(const char *path, char **json, error *err) {
    tensor_file *f = tensor_file_open(path, err);
    if (!f) return err->code;
    json_t *j = describe_tensors(f);
    error none = {0};
    model *m = j ? model_open(path, NULL, &none) : NULL; // most files are no checkpoints
    if (m) add_checkpoint(j, m);
    status s = give(j, json, err);
    model_free(m);
    tensor_file_close(f);
    return s;
}

// ---- pictures

static status inspect_picture(const char *path, char **json, error *err) {
    char *data;
    size_t n;
    image im = {0};
    image_texts texts = {0};
    status s = fs_read_file(path, IMAGE_MAX_FILE, &data, &n, err);
    if (s) return s;
    s = image_decode(data, n, path, &im, err);
    if (!s) s = image_read_texts(data, n, path, &texts, err);
    if (!s) {
        json_t *j = json_pack("{s:s, s:i, s:i, s:i}", "kind", "picture", "width", im.w, "height", im.h,
                              "channels", im.c);
        json_t *list = json_object();
        for (size_t i = 0; i < texts.n; i++)
            json_object_set_new(list, texts.at[i].key, text_of(texts.at[i].text));
        json_object_set_new(j, "texts", list);
        s = give(j, json, err);
    }
    image_texts_free(&texts);
    image_free(&im);
    mem_free(data);
    return s;
}

// ---- models

// Of the tensors that begin with `prefix`.
static json_t *describe_weights(const model_files *f, const char *prefix) {
    uint64_t values = 0, bytes = 0;
    json_t *types = json_object();
    int tensors = 0;
    for (size_t i = 0; i < model_files_count(f); i++) {
        const tensor_entry *t = model_files_at(f, i).tensor;
        if (strncmp(t->name, prefix, strlen(prefix))) continue;
        bytes += t->bytes;
        if (t->auxiliary) continue;
        tensors++;
        values += t->count;
        json_t *n = json_object_get(types, t->type_name);
        json_object_set_new(types, t->type_name, json_integer(json_integer_value(n) + (json_int_t)t->count));
    }
    return json_pack("{s:s, s:i, s:I, s:I, s:o}", "file", fs_basename(model_files_path(f)), "tensors",
                     tensors, "parameters", (json_int_t)values, "bytes", (json_int_t)bytes, "types", types);
}

// A folder's configuration file as it is, and a summary of its weights where it has some.
static json_t *describe_component(const model *m, const model_component *c) {
    json_t *j = json_pack("{s:s, s:s}", "name", c->name, "class", c->class_name);
    char *dir = fs_is_plain_name(c->name) ? fs_join(model_dir(m), c->name) : NULL;
    static const char *const CONFIGS[] = {"config.json", "scheduler_config.json", "tokenizer_config.json"};
    error ignored;
    for (size_t i = 0; dir && i < sizeof CONFIGS / sizeof *CONFIGS; i++) {
        char *path = fs_join(dir, CONFIGS[i]);
        json_t *config = path && fs_exists(path) ? js_load(path, 1 << 20, &ignored) : NULL;
        if (config) json_object_set_new(j, "config", config);
        mem_free(path);
    }
    model_files *f = dir && fs_is_dir(dir) ? model_files_open(dir, NULL, &ignored) : NULL;
    if (f) json_object_set_new(j, "weights", describe_weights(f, ""));
    model_files_close(f);
    mem_free(dir);
    return j;
}

static status list_components(const model *m, json_t *list, error *err) {
    model_index *x = model_index_open(model_dir(m), err);
    if (!x) return err->code;
    for (size_t i = 0; i < model_index_count(x); i++) {
        model_component c = model_index_at(x, i);
        json_array_append_new(list, describe_component(m, &c));
    }
    model_index_close(x);
    return OK;
}

// The configurations that were told from the tensors, and the tensors that belong to each component.
static void list_parts(const model *m, json_t *list) {
    static const char *const CLASSES[N_PARTS] = {"CLIPTextModel", "CLIPTextModelWithProjection",
                                                 "UNet2DConditionModel", "AutoencoderKL"};
    checkpoint *c = model_checkpoint(m);
    for (int p = 0; p < N_PARTS; p++) {
        const char *name = model_part_name((model_part)p), *prefix = checkpoint_prefix(c, name);
        error ignored = {0};
        if (!prefix) continue;
        json_t *j = json_pack("{s:s, s:s, s:o}", "name", name, "class", CLASSES[p], "weights",
                              describe_weights(checkpoint_files(c), prefix));
        json_t *config = checkpoint_config(c, name, &ignored);
        if (config) json_object_set_new(j, "config", config);
        json_array_append_new(list, j);
    }
}

static status inspect_model(model *m, char **json, error *err) {
    json_t *list = json_array();
    status s = OK;
    if (model_checkpoint(m))
        list_parts(m, list);
    else
        s = list_components(m, list, err);
    if (s) return json_decref(list), s;
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:o}", "kind", "model", "name", model_name(m), "folder",
                          model_dir(m), "class", model_class(m), "components", list);
    if (j && model_checkpoint(m))
        add_checkpoint(j, m);
    else if (j && model_is_refiner(m))
        json_object_set_new(j, "detected",
                            json_pack("[{s:s, s:s, s:s}]", "what", "task", "value", REFINER_TASK, "because",
                                      "model_index.json has requires_aesthetics_score"));
    return give(j, json, err);
}

// ---- memory

// How much larger Winograd's method makes the weights.
static status winograd_bytes(const memory_row *r, json_int_t *bytes, error *err) {
    network_memory exact;
    TRY(api_network_memory(r->model, &r->shape, EXACT, &exact, err));
    *bytes = r->need.weights > exact.weights ? (json_int_t)(r->need.weights - exact.weights) : 0;
    return OK;
}

static status describe_network(const memory_row *r, json_t *list, error *err) {
    const network_memory *m = &r->need;
    json_int_t winograd;
    TRY(winograd_bytes(r, &winograd, err));
    size_t peak = (r->tiled ? r->tiled : m->total) + PROCESS_BYTES;
    json_array_append_new(list, json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "name",
                                          network_name(r->shape.net), "refiner", r->refines, "weights",
                                          (json_int_t)m->weights, "winograd", winograd, "largest_layer",
                                          (json_int_t)m->layer, "activations", (json_int_t)m->activations,
                                          "streamed", (json_int_t)(m->stage ? m->weights - m->kept : 0),
                                          "peak", (json_int_t)peak, "in_parts", r->tiled > 0));
    return OK;
}

static status describe_memory(const txt2img *t, char **json, error *err) {
    const txt2img *last = txt2img_largest(t);
    memory_table all;
    char name[MEMORY_NAME];
    json_t *list = json_array();
    size_t packed = 0, most;
    status s = txt2img_memory(t, txt2img_group(t), &all, err);
    if (!s) s = memory_find_least(t, &all, err);
    most = s ? 0 : all.enlarger;
    for (int i = 0; !s && i < all.n; i++) {
        s = describe_network(&all.at[i], list, err);
        packed += all.at[i].need.weights;
        if (all.at[i].need.activations > most) most = all.at[i].need.activations;
    }
    if (s) return json_decref(list), s;
    if (all.enlarger)
        json_array_append_new(list, json_pack("{s:s, s:i, s:I}", "name", "hires_upscaler", "tile", all.tile,
                                              "peak", (json_int_t)(all.enlarger + PROCESS_BYTES)));
    return give(json_pack("{s:s, s:i, s:i, s:s, s:I, s:I, s:I, s:o}", "kind", "memory", "width", last->width,
                          "height", last->height, "precision", dtype_name(t->compute), "limit",
                          (json_int_t)t->model->ctx->options.max_memory, "least",
                          (json_int_t)memory_least(&all, name), "together",
                          (json_int_t)(packed + most + PROCESS_BYTES), "networks", list),
                json, err);
}

calo_status calo_inspect_request(calo_model *m, const calo_txt2img_request *request, char **json) {
    error *err = api_enter(m->ctx);
    txt2img t;
    calo_txt2img_request r = calo_txt2img_defaults();
    *json = NULL;
    status s = api_struct_take(&r, sizeof r, request, "request", err);
    if (s) return api_leave(s);
    if (!r.prediction) r.prediction = CALO_PREDICT_EPS; // nothing is predicted, so nothing is asked
    s = txt2img_init(&t, m, &r, err);
    if (!s) s = describe_memory(&t, json, err);
    txt2img_free(&t);
    return api_leave(s);
}

calo_status calo_inspect_memory(calo_model *m, int width, int height, char **json) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.width = width;
    r.height = height;
    return calo_inspect_request(m, &r, json);
}

calo_status calo_inspect_model(calo_model *m, char **json) {
    error *err = api_enter(m->ctx);
    *json = NULL;
    return api_leave(inspect_model(m->m, json, err));
}

// A model, or else the weights of one network or of an adapter.
static status inspect_folder(const char *path, char **json, error *err) {
    model *m = model_open(path, NULL, err);
    if (m || err->code != ERR_NOINPUT) {
        status s = m ? inspect_model(m, json, err) : err->code;
        model_free(m);
        return s;
    }
    error none = {0};
    model_files *f = model_files_open(path, NULL, &none);
    const char *file = f ? model_files_path(f) : "";
    status s = err->code;
    if (tensor_file_is_named(file)) {
        *err = (error){0};
        s = inspect_tensors(file, json, err);
    }
    model_files_close(f);
    return s;
}

calo_status calo_inspect(calo_context *ctx, const char *path, char **json) {
    error *err = api_enter(ctx);
    *json = NULL;
    return api_leave(fs_is_dir(path)              ? inspect_folder(path, json, err)
                     : tensor_file_is_named(path) ? inspect_tensors(path, json, err)
                                                  : inspect_picture(path, json, err));
}
