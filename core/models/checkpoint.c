#include "core/models/checkpoint.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/recognise.h"
#include "core/models/derive.h"
#include "core/models/ldm_names.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_COMPONENTS = 4, MAX_FINDINGS = 8, MAX_BLOCKS = 40 };

// What all models of a kind have in common. `side`: of the latents they were trained on, when nothing says
// more.
static const struct {
    const char *name, *class_name;
    double vae_scaling;
    int side;
} KINDS[N_CHECKPOINTS] = {
    [CHECKPOINT_SD1] = {"SD 1.x", "StableDiffusionPipeline", 0.18215, 64},
    [CHECKPOINT_SD2] = {"SD 2.x", "StableDiffusionPipeline", 0.18215, 64},
    [CHECKPOINT_SDXL] = {"SDXL", "StableDiffusionXLPipeline", 0.13025, 128},
    [CHECKPOINT_REFINER] = {"SDXL refiner", "StableDiffusionXLImg2ImgPipeline", 0.13025, 128},
};

// Where the components lie. The first row of a component whose prefix some tensor has decides. `kinds`: of
// which files are written so.
enum {
    SD1 = 1 << CHECKPOINT_SD1,
    SD2 = 1 << CHECKPOINT_SD2,
    SDXL = 1 << CHECKPOINT_SDXL,
    REFINER = 1 << CHECKPOINT_REFINER
};
static const struct {
    const char *component, *prefix;
    const name_row *rows;
    unsigned kinds;
} PLACES[] = {
    {"unet", "model.diffusion_model.", LDM_UNET, SD1 | SD2 | SDXL | REFINER},
    {"vae", "first_stage_model.", LDM_VAE, SD1 | SD2 | SDXL | REFINER},
    {"vae", "vae.", LDM_VAE, 0},
    {"text_encoder", "cond_stage_model.transformer.", LDM_CLIP, SD1},
    {"text_encoder", "cond_stage_model.model.", LDM_OPENCLIP, SD2},
    {"text_encoder", "conditioner.embedders.0.transformer.", LDM_CLIP, SDXL},
    {"text_encoder_2", "conditioner.embedders.1.model.", LDM_OPENCLIP, SDXL},
    {"text_encoder_2", "conditioner.embedders.0.model.", LDM_OPENCLIP, REFINER}, // it has one alone
};
static const char *const COMPONENTS[N_COMPONENTS] = {"unet", "vae", "text_encoder", "text_encoder_2"};

typedef struct {
    file_names names; // prefix NULL: not in the file
    weights_file *weights;
} component;

struct checkpoint {
    model_files *files;
    component components[N_COMPONENTS];
    checkpoint_kind kind;
    const char *prediction; // NULL: not known yet
    bool zero_snr;
    const few_steps *few; // NULL: an ordinary model
    int steps;            // of `few`
    int side;
    finding findings[MAX_FINDINGS];
    size_t n_findings;
    arena strings;
};

// ---- looking into the file

static const char *path_of(const checkpoint *c) { return model_files_path(c->files); }

static bool any_begins(const model_files *f, const char *prefix) {
    size_t n = strlen(prefix);
    for (size_t i = 0; i < model_files_count(f); i++)
        if (!strncmp(model_files_at(f, i).tensor->name, prefix, n)) return true;
    return false;
}

static const tensor_entry *tensor_of(const checkpoint *c, const char *name) {
    model_tensor t;
    return model_files_find(c->files, name, &t) ? t.tensor : NULL;
}

static const char *metadata_of(const checkpoint *c, const char *key) {
    return tensor_file_metadata(model_files_at(c->files, 0).file, key);
}

static component *component_of(const checkpoint *c, const char *name) {
    for (int i = 0; i < N_COMPONENTS; i++)
        if (!strcmp(COMPONENTS[i], name)) return (component *)(uintptr_t)&c->components[i];
    return NULL;
}

const char *checkpoint_prefix(const checkpoint *c, const char *name) {
    const component *p = component_of(c, name);
    return p ? p->names.prefix : NULL;
}

const file_names *checkpoint_names(const checkpoint *c, const char *name) {
    return checkpoint_prefix(c, name) ? &component_of(c, name)->names : NULL;
}

bool checkpoint_place(checkpoint_kind kind, const char *name, file_names *names) {
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        if (strcmp(PLACES[i].component, name) || !(PLACES[i].kinds & 1u << kind)) continue;
        *names = (file_names){.prefix = PLACES[i].prefix, .rows = PLACES[i].rows};
        return true;
    }
    return false;
}

__attribute__((format(printf, 4, 5))) static void found(checkpoint *c, const char *what, const char *value,
                                                        const char *format, ...) {
    char because[600];
    va_list args;
    va_start(args, format);
    vsnprintf(because, sizeof because, format, args);
    va_end(args);
    const char *kept = arena_printf(&c->strings, "%s", because),
               *copy = arena_printf(&c->strings, "%s", value);
    size_t i = 0;
    while (i < c->n_findings && strcmp(c->findings[i].what, what)) i++;
    if (i == MAX_FINDINGS) return;
    c->findings[i] = (finding){what, copy ? copy : "?", kept ? kept : "?"};
    if (i == c->n_findings) c->n_findings++;
}

// "TENSOR is (320, 9, 3, 3)"
static void found_by_shape(checkpoint *c, const char *what, const char *value, const tensor_entry *t) {
    char text[200];
    found(c, what, value, "%s is %s", t->name, tensor_shape_text(t->shape, t->ndim, text, sizeof text));
}

// ---- components

// Blocks of the way down are counted through, so the first downsampler tells how many resnets a level has.
static int layers_of(const checkpoint *c, const char *prefix) {
    char name[NAME_SIZE];
    int n = 0;
    for (int i = 1; i < MAX_BLOCKS; i++) {
        snprintf(name, sizeof name, "%sinput_blocks.%d.0.op.weight", prefix, i);
        if (tensor_of(c, name)) return i - 1;
        snprintf(name, sizeof name, "%sinput_blocks.%d.0.in_layers.0.weight", prefix, i);
        if (tensor_of(c, name)) n = i;
    }
    return n;
}

// Levels of an autoencoder, of which the way up counts from the other end.
static int levels_of(const model_files *f, const char *prefix) {
    char name[NAME_SIZE];
    int n = 0;
    for (int i = 0; i < MAX_BLOCKS; i++) {
        static const char *const HALVES[] = {"encoder.down", "decoder.up"};
        for (int half = 0; half < 2; half++) {
            snprintf(name, sizeof name, "%s%s.%d.", prefix, HALVES[half], i);
            if (any_begins(f, name)) n = i + 1;
        }
    }
    return n;
}

static void find_components(checkpoint *c) {
    for (size_t i = 0; i < sizeof PLACES / sizeof *PLACES; i++) {
        component *p = component_of(c, PLACES[i].component);
        if (p->names.prefix || !any_begins(c->files, PLACES[i].prefix)) continue;
        p->names = (file_names){.prefix = PLACES[i].prefix, .rows = PLACES[i].rows};
        if (PLACES[i].rows == LDM_UNET) p->names.layers = layers_of(c, PLACES[i].prefix);
        if (PLACES[i].rows == LDM_VAE) p->names.levels = levels_of(c->files, PLACES[i].prefix);
    }
}

const weights *checkpoint_weights(checkpoint *c, const char *name, error *err) {
    component *p = component_of(c, name);
    if (!p || !p->names.prefix) return fail(err, ERR_NOINPUT, "%s: holds no %s", path_of(c), name), NULL;
    if (!p->weights) p->weights = weights_file_of(c->files, &p->names, err);
    return p->weights ? weights_file_weights(p->weights) : NULL;
}

bool checkpoint_vae_names(const model_files *files, file_names *names) {
    static const struct {
        const char *mark, *prefix;
        const name_row *rows;
    } ALONE[] = {
        {"first_stage_model.", "first_stage_model.", LDM_VAE},
        {"vae.", "vae.", LDM_VAE},
        {"decoder.mid.", "", LDM_VAE},
        {"decoder.mid_block.", "", NULL},
    };
    for (size_t i = 0; i < sizeof ALONE / sizeof *ALONE; i++) {
        if (!any_begins(files, ALONE[i].mark)) continue;
        *names = (file_names){ALONE[i].prefix, ALONE[i].rows, levels_of(files, ALONE[i].prefix), 0};
        return true;
    }
    return false;
}

// ---- the kind

static status refuse_kind(const checkpoint *c, const char *kind, error *err) {
    return fail(err, ERR_DATA, "%s: a checkpoint of the kind %s, which is not supported", path_of(c), kind);
}

// The first tensor of the UNet that reads the text.
static const tensor_entry *text_reader(const checkpoint *c) {
    for (size_t i = 0; i < model_files_count(c->files); i++) {
        const tensor_entry *t = model_files_at(c->files, i).tensor;
        if (!strncmp(t->name, "model.diffusion_model.", 22) && strstr(t->name, ".attn2.to_k.weight"))
            return t;
    }
    return NULL;
}

static void decide(checkpoint *c, checkpoint_kind kind, const tensor_entry *by) {
    c->kind = kind;
    c->side = KINDS[kind].side;
    if (by) found_by_shape(c, "kind", KINDS[kind].name, by);
}

// SDXL adds the pooled text and six numbers of 256 waves each to the time, its refiner five. SD 2 reads a
// text encoder with OpenCLIP's names and 1024 features.
static status find_kind(checkpoint *c, error *err) {
    const tensor_entry *added = tensor_of(c, "model.diffusion_model.label_emb.0.0.weight"),
                       *text = text_reader(c);
    const file_names *encoder = &component_of(c, "text_encoder")->names;
    int64_t width = text && text->ndim == 2 ? text->shape[1] : 0;
    if (tensor_of(c, "model.diffusion_model.label_emb.weight")) return refuse_kind(c, "SD 2 upscaler", err);
    if (!text)
        return fail(err, ERR_DATA, "%s: the UNet reads no text, so it is of no known kind", path_of(c));
    if (added && added->ndim == 2) {
        if (encoder->rows == LDM_OPENCLIP) return refuse_kind(c, "SD 2 unCLIP", err);
        decide(c, added->shape[1] == width + 5 * 256 ? CHECKPOINT_REFINER : CHECKPOINT_SDXL, added);
    } else if (encoder->rows) {
        decide(c, encoder->rows == LDM_OPENCLIP ? CHECKPOINT_SD2 : CHECKPOINT_SD1, NULL);
        found(c, "kind", KINDS[c->kind].name, "the text encoder's tensors begin with %s", encoder->prefix);
    } else {
        decide(c, width == 1024 ? CHECKPOINT_SD2 : CHECKPOINT_SD1, text);
    }
    return OK;
}

static const tensor_entry *first_convolution(const checkpoint *c) {
    return tensor_of(c, "model.diffusion_model.input_blocks.0.0.weight");
}

// Of what the UNet reads: the latents, and what belongs to the task beside them.
static int64_t input_channels(const checkpoint *c) {
    const tensor_entry *in = first_convolution(c);
    return in && in->ndim == 4 ? in->shape[1] : 0;
}

// SDXL's refiner was trained on the lowest 200 of 1000 levels of noise (Podell et al., arXiv
// 2307.01952, 2.5).
static void find_task(checkpoint *c) {
    static const struct {
        int64_t channels;
        const char *task;
    } TASKS[] = {{4, "text to image"}, {8, "instruct-pix2pix"}, {9, "inpainting"}};
    if (c->kind == CHECKPOINT_REFINER) {
        found(c, "task", REFINER_TASK, "refiners are trained on little noise alone");
        return;
    }
    for (size_t i = 0; i < sizeof TASKS / sizeof *TASKS; i++)
        if (input_channels(c) == TASKS[i].channels)
            found_by_shape(c, "task", TASKS[i].task, first_convolution(c));
}

// ---- the schedule

// The buffer of ᾱ that the training program kept in the file: its last value is exactly 0 then.
static status find_zero_snr(checkpoint *c, error *err) {
    model_tensor t;
    float last = 1;
    if (model_files_find(c->files, "ztsnr", &t)) {
        c->zero_snr = true;
        found(c, "zero SNR", "yes", "the tensor 'ztsnr' marks it");
        return OK;
    }
    if (!model_files_find(c->files, "alphas_cumprod", &t) || t.tensor->ndim != 1 || !t.tensor->count)
        return OK;
    status s = tensor_file_read_f32(t.file, t.tensor, t.tensor->count - 1, 1, &last, err);
    if (s || !(last < 1e-7f)) return s;
    c->zero_snr = true;
    found(c, "zero SNR", "yes", "alphas_cumprod ends with %g", last);
    return OK;
}

// ---- few steps

// false: the text does not name such a kind.
static bool found_few_steps(checkpoint *c, const char *text, const char *where) {
    char wants[200];
    c->few = text ? few_steps_find(text, &c->steps) : NULL;
    if (!c->few) return false;
    snprintf(wants, sizeof wants, "%d steps, guidance %g, %s%s%s", c->steps, c->few->cfg_scale,
             c->few->scheduler, c->few->spacing ? ", " : "", c->few->spacing ? c->few->spacing : "");
    found(c, "distilled", c->few->name, "%s names it: '%.200s'", where, text);
    found(c, "wants", wants, "such models do");
    return true;
}

// The tensors are those of any model of the kind, so words have to tell.
static void find_few_steps(checkpoint *c) {
    static const char *const KEYS[] = {"modelspec.architecture", "modelspec.title", "ss_output_name"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        char where[100];
        snprintf(where, sizeof where, "metadata %s", KEYS[i]);
        if (found_few_steps(c, metadata_of(c, KEYS[i]), where)) return;
    }
    found_few_steps(c, fs_basename(path_of(c)), "the file's name");
}

const few_steps *checkpoint_few_steps(const checkpoint *c, int *steps) {
    if (c->few) *steps = c->steps;
    return c->few;
}

// ---- prediction

static bool among(const char *text, const char *const *words) {
    for (; text && *words; words++)
        if (!strcmp(text, *words)) return true;
    return false;
}

static const char *known_prediction(const char *text) {
    static const char *const V[] = {"v", "v_prediction", "v-prediction", "vpred", NULL};
    static const char *const EPS[] = {"epsilon", "eps", "epsilon_prediction", NULL};
    return among(text, V) ? "v_prediction" : among(text, EPS) ? "epsilon" : NULL;
}

static void predicts(checkpoint *c, const char *prediction, const char *because) {
    c->prediction = prediction;
    found(c, "prediction", prediction, "%s", because);
    if (c->kind == CHECKPOINT_SD2) c->side = strcmp(prediction, "epsilon") ? 96 : 64;
}

static void find_prediction(checkpoint *c) {
    const char *said = known_prediction(metadata_of(c, "modelspec.prediction_type")),
               *architecture = metadata_of(c, "modelspec.architecture");
    if (tensor_of(c, "v_pred"))
        predicts(c, "v_prediction", "the tensor 'v_pred' marks it");
    else if (said)
        predicts(c, said, "metadata modelspec.prediction_type says so");
    else if (c->zero_snr)
        predicts(c, "v_prediction", "at zero SNR the noise cannot be predicted");
    else if (architecture && strstr(architecture, "v2-768-v"))
        predicts(c, "v_prediction", "metadata modelspec.architecture names it");
    else if (architecture && strstr(architecture, "v2-512"))
        predicts(c, "epsilon", "metadata modelspec.architecture names it");
    else if (c->few && c->kind == CHECKPOINT_SD2)
        predicts(c, "epsilon", "models of few steps are made of SD 2.1 base");
    else if (c->kind != CHECKPOINT_SD2 || input_channels(c) != 4)
        predicts(c, "epsilon", "nothing says otherwise");
    else
        found(c, "prediction", "epsilon or v_prediction", "nothing says which; drawing begins with a test");
}

// "768x768"
static void find_size(checkpoint *c) {
    const char *text = metadata_of(c, "modelspec.resolution");
    int pixels = text ? atoi(text) : 0;
    if (pixels < 64 || pixels > 8192 || pixels % 8) return;
    c->side = pixels / 8;
    found(c, "size", text, "metadata modelspec.resolution");
}

void checkpoint_settle(checkpoint *c, const char *prediction, const char *because) {
    predicts(c, known_prediction(prediction) ? known_prediction(prediction) : "epsilon", because);
    find_size(c);
}

bool checkpoint_prediction_known(const checkpoint *c) { return c->prediction != NULL; }

static status refuse_other(const checkpoint *c, error *err) {
    const char *kind = recognise(model_files_at(c->files, 0).file).kind;
    const char *why = "no tensor begins with 'model.diffusion_model.'";
    return *kind ? fail(err, ERR_DATA, "%s: no checkpoint but a %s: %s", path_of(c), kind, why)
                 : fail(err, ERR_DATA, "%s: no checkpoint: %s", path_of(c), why);
}

static status detect(checkpoint *c, error *err) {
    find_components(c);
    if (!checkpoint_prefix(c, "unet")) return refuse_other(c, err);
    if (tensor_of(c, "edm_vpred.sigma_max")) return refuse_kind(c, "EDM with v-prediction", err);
    status s = find_kind(c, err);
    if (s) return s;
    find_task(c);
    if ((s = find_zero_snr(c, err))) return s;
    find_few_steps(c);
    find_prediction(c);
    find_size(c);
    return OK;
}

// ---- opening

checkpoint *checkpoint_open(const char *path, error *err) {
    checkpoint *c = mem_calloc(1, sizeof *c);
    if (!c) return fail(err, ERR_TEMP, "out of memory"), NULL;
    c->files = model_files_open(path, NULL, err);
    if (c->files && !model_files_count(c->files)) fail(err, ERR_DATA, "%s: holds no tensor", path);
    if (c->files && model_files_count(c->files) && !detect(c, err)) return c;
    checkpoint_close(c);
    return NULL;
}

void checkpoint_close(checkpoint *c) {
    if (!c) return;
    for (int i = 0; i < N_COMPONENTS; i++) weights_file_close(c->components[i].weights);
    model_files_close(c->files);
    arena_free(&c->strings);
    mem_free(c);
}

checkpoint_kind checkpoint_kind_of(const checkpoint *c) { return c->kind; }

const char *checkpoint_class(const checkpoint *c) {
    bool xl = c->kind == CHECKPOINT_SDXL;
    switch (input_channels(c)) {
    case 8:
        return xl ? "StableDiffusionXLInstructPix2PixPipeline" : "StableDiffusionInstructPix2PixPipeline";
    case 9:
        return xl ? "StableDiffusionXLInpaintPipeline" : "StableDiffusionInpaintPipeline";
    default:
        return KINDS[c->kind].class_name;
    }
}

json_t *checkpoint_settings(const checkpoint *c) {
    json_t *j = json_pack("{s:s}", "_class_name", checkpoint_class(c));
    bool xl = c->kind == CHECKPOINT_SDXL, refiner = c->kind == CHECKPOINT_REFINER;
    int failed = !j;
    if (xl || refiner) failed |= json_object_set_new(j, "force_zeros_for_empty_prompt", json_boolean(xl));
    if (refiner) failed |= json_object_set_new(j, "requires_aesthetics_score", json_true());
    if (!xl && !refiner) failed |= json_object_set_new(j, "requires_safety_checker", json_false());
    if (!failed) return j;
    json_decref(j);
    return NULL;
}

const model_files *checkpoint_files(const checkpoint *c) { return c->files; }
double checkpoint_vae_scaling(checkpoint_kind kind) { return KINDS[kind].vae_scaling; }

size_t checkpoint_findings(const checkpoint *c, const finding **list) {
    *list = c->findings;
    return c->n_findings;
}

// ---- configurations

// The schedule of all these models. Without a class but for those of few steps: which sampler others were
// published with does not matter.
static json_t *scheduler_config(const checkpoint *c) {
    json_t *j = json_pack("{s:i, s:s, s:f, s:f, s:i, s:b, s:s, s:b}", "num_train_timesteps", 1000,
                          "beta_schedule", "scaled_linear", "beta_start", 0.00085, "beta_end", 0.012,
                          "steps_offset", 1, "set_alpha_to_one", 0, "prediction_type",
                          c->prediction ? c->prediction : "epsilon", "rescale_betas_zero_snr", c->zero_snr);
    const char *spacing = c->few ? c->few->spacing : c->zero_snr ? "trailing" : NULL;
    if (j && c->few) json_object_set_new(j, "_class_name", json_string(c->few->scheduler));
    if (j && spacing) json_object_set_new(j, "timestep_spacing", json_string(spacing));
    return j;
}

// SD 2 was trained on the last but one layer of its text encoder, so the last one is never used.
static json_t *clip_config_of(checkpoint *c, const char *name, error *err) {
    const weights *w = checkpoint_weights(c, name, err);
    bool open_clip = w && component_of(c, name)->names.rows == LDM_OPENCLIP,
         second = !strcmp(name, "text_encoder_2");
    clip_traits traits = {open_clip, second, c->kind == CHECKPOINT_SD2};
    return w ? derive_clip(w, &traits, path_of(c), err) : NULL;
}

// OpenCLIP pads with the token 0, which is called "!".
static json_t *tokenizer_config(checkpoint *c, const char *encoder, error *err) {
    json_t *clip = clip_config_of(c, encoder, err);
    if (!clip) return NULL;
    bool open_clip = component_of(c, encoder)->names.rows == LDM_OPENCLIP;
    json_t *j = json_pack("{s:s, s:O, s:s}", "tokenizer_class", "CLIPTokenizer", "model_max_length",
                          json_object_get(clip, "max_position_embeddings"), "pad_token",
                          open_clip ? "!" : "<|endoftext|>");
    json_decref(clip);
    return j;
}

static json_t *no_memory(json_t *j, error *err) {
    if (!j && !err->code) fail(err, ERR_TEMP, "out of memory");
    return j;
}

static json_t *unet_config_of(const checkpoint *c, const weights *w, error *err) {
    bool told = component_of(c, "text_encoder")->names.prefix; // else its kind is a guess
    unet_traits traits = {c->side, c->kind != CHECKPOINT_SD1 ? HEADS_OF_64
                                   : told                    ? HEADS_EIGHT
                                                             : HEADS_BY_SHAPE};
    return derive_unet(w, &traits, path_of(c), err);
}

json_t *checkpoint_config(checkpoint *c, const char *name, error *err) {
    if (!strcmp(name, "scheduler")) return no_memory(scheduler_config(c), err);
    if (!strcmp(name, "tokenizer")) return no_memory(tokenizer_config(c, "text_encoder", err), err);
    if (!strcmp(name, "tokenizer_2")) return no_memory(tokenizer_config(c, "text_encoder_2", err), err);
    if (!strncmp(name, "text_encoder", strlen("text_encoder"))) return clip_config_of(c, name, err);
    const weights *w = checkpoint_weights(c, name, err);
    if (!w) return NULL;
    return !strcmp(name, "vae") ? derive_vae(w, KINDS[c->kind].vae_scaling, path_of(c), err)
                                : unet_config_of(c, w, err);
}
