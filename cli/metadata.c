#include "cli/metadata.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef enum { INVOKEAI, SDCPP, COMFYUI, N_PROGRAMS } program;
typedef enum { TEXT, WHOLE, REAL } value_kind;

// Options, and where each program says them: a dot leads into an object. ComfyUI's are those that read_graph
// finds in the nodes.
static const struct {
    const char *option;
    value_kind kind;
    const char *at[N_PROGRAMS];
} NAMES[] = {{"prompt", TEXT, {"positive_prompt", "prompt.positive", "positive"}},
             {"negative-prompt", TEXT, {"negative_prompt", "prompt.negative", "negative"}},
             {"width", WHOLE, {"width", "width", "width"}},
             {"height", WHOLE, {"height", "height", "height"}},
             {"batch-count", WHOLE, {NULL, NULL, "batch_size"}},
             {"steps", WHOLE, {"steps", "sampling.steps", "steps"}},
             {"cfg-scale", REAL, {"cfg_scale", "sampling.guidance.txt_cfg", "cfg"}},
             {"cfg-rescale", REAL, {"cfg_rescale_multiplier", NULL, "multiplier"}},
             {"sampling-method", TEXT, {"scheduler", "sampling.method", "sampler_name"}},
             {"scheduler", TEXT, {NULL, "sampling.scheduler", "scheduler"}},
             {"seed", WHOLE, {"seed", "seed", "seed"}},
             {"seed", WHOLE, {NULL, NULL, "noise_seed"}},
             {"rng", TEXT, {"rand_device", "rng", NULL}},
             {"sampler-rng", TEXT, {NULL, "sampler_rng", NULL}},
             {"clip-skip", WHOLE, {"clip_skip", "clip_skip", "stop_at_clip_layer"}},
             {"prediction", TEXT, {NULL, NULL, "sampling"}},
             {"model", TEXT, {"model.name", "models.model", "model_name"}},
             {"model", TEXT, {"model.model_name", NULL, NULL}},
             {"vae", TEXT, {"vae.name", NULL, NULL}},
             {"vae", TEXT, {"vae.model_name", NULL, NULL}}};

static const json_t *value_at(const json_t *j, const char *path) {
    char key[32];
    for (; path && j; path = strchr(path, '.') ? strchr(path, '.') + 1 : NULL) {
        snprintf(key, sizeof key, "%.*s", (int)strcspn(path, "."), path);
        j = json_object_get(j, key);
    }
    return j;
}

static const char *text_at(const json_t *j, const char *path) {
    const char *text = json_string_value(value_at(j, path));
    return text ? text : "";
}

static void set_value(json_t *to, const char *option, value_kind kind, const json_t *v) {
    double number = json_number_value(v);
    if (kind == TEXT && json_is_string(v))
        json_object_set_new(to, option, json_string(json_string_value(v)));
    else if (kind == WHOLE && json_is_integer(v))
        json_object_set_new(to, option, json_integer(json_integer_value(v)));
    else if (kind == REAL && json_is_number(v) && isfinite(number))
        json_object_set_new(to, option, json_real(number));
}

static json_t *translate(const json_t *j, program from) {
    json_t *to = json_pack("{s:i, s:[]}", "format", 1, "notes");
    for (size_t i = 0; to && i < sizeof NAMES / sizeof *NAMES; i++)
        if (NAMES[i].at[from]) set_value(to, NAMES[i].option, NAMES[i].kind, value_at(j, NAMES[i].at[from]));
    return to;
}

static void set_text(json_t *to, const char *option, const char *text) {
    json_object_set_new(to, option, json_string(text));
}

__attribute__((format(printf, 2, 3))) static void add_note(json_t *to, const char *format, ...) {
    char text[METADATA_WHY];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_array_append_new(json_object_get(to, "notes"), json_string(text));
}

static void note_loras(json_t *to, const json_t *loras) {
    if (json_array_size(loras)) add_note(to, "its LoRAs are left out");
}

static void set_generator(json_t *to, const char *option) {
    const char *name = json_string_value(json_object_get(to, option));
    if (name && strcmp(name, "cpu") != 0) set_text(to, option, "nv"); // cuda, mps
}

// ---- InvokeAI

// Its samplers are those of diffusers; "_k" at the end stands for Karras' spacing. It counts the layers of
// the text encoder that are left out, and has another syntax of weights than any of ours.
static json_t *read_invokeai(const json_t *j) {
    json_t *to = translate(j, INVOKEAI);
    const char *sampler = text_at(to, "sampling-method"), *mode = text_at(j, "generation_mode");
    size_t n = strlen(sampler);
    json_int_t skipped = json_integer_value(json_object_get(to, "clip-skip"));
    if (n > 2 && !strcmp(sampler + n - 2, "_k")) {
        json_object_set_new(to, "sampling-method", json_stringn(sampler, n - 2));
        set_text(to, "scheduler", "karras");
    }
    if (skipped > 0)
        json_object_set_new(to, "clip-skip", json_integer(skipped + 1));
    else
        json_object_del(to, "clip-skip");
    if (strstr(mode, "img2img") || strstr(mode, "inpaint") || strstr(mode, "outpaint")) {
        json_object_set_new(to, "init_image", json_true());
        set_value(to, "strength", REAL, json_object_get(j, "strength"));
    }
    set_generator(to, "rng");
    set_text(to, "noise-layout", "diffusers");
    set_text(to, "emphasis", "none");
    if (strpbrk(text_at(to, "prompt"), "()+")) add_note(to, "its prompt is read as plain text");
    if (json_is_object(json_object_get(j, "refiner_model"))) add_note(to, "its refiner is left out");
    note_loras(to, json_object_get(j, "loras"));
    return to;
}

// ---- stable-diffusion.cpp

static void set_hires(json_t *to, const json_t *hires) {
    static const struct {
        const char *option, *at;
        value_kind kind;
    } SECOND[] = {{"hires-scale", "scale", REAL},
                  {"hires-steps", "steps", WHOLE},
                  {"hires-denoise", "denoising_strength", REAL},
                  {"hires-upscaler", "upscaler", TEXT}};
    if (!json_is_true(json_object_get(hires, "enabled"))) return;
    json_object_set_new(to, "hires", json_true());
    for (size_t i = 0; i < sizeof SECOND / sizeof *SECOND; i++) {
        const json_t *v = json_object_get(hires, SECOND[i].at);
        if (!json_is_number(v) || json_number_value(v) > 0)
            set_value(to, SECOND[i].option, SECOND[i].kind, v);
    }
}

static json_t *read_sdcpp(const json_t *j, char *why) {
    if (strcmp(text_at(j, "mode"), "img_gen") != 0 && *text_at(j, "mode")) {
        snprintf(why, METADATA_WHY, "is no single picture of stable-diffusion.cpp");
        return NULL;
    }
    json_t *to = translate(j, SDCPP);
    if (json_integer_value(json_object_get(to, "clip-skip")) < 1) json_object_del(to, "clip-skip");
    set_generator(to, "rng");
    set_generator(to, "sampler-rng");
    set_text(to, "emphasis", "original");
    set_hires(to, json_object_get(j, "hires"));
    note_loras(to, json_object_get(j, "loras"));
    return to;
}

// ---- ComfyUI: "prompt" is a graph, { id: { "class_type": ..., "inputs": { name: value or [id, output] } } }

enum { MAX_HOPS = 64 }; // a link may lead in a circle

typedef struct {
    const json_t *nodes;
    json_t *found; // flat, by the names of NAMES
    char *why;
    bool loras;
} graph;

static const char *class_of(const json_t *node) { return text_at(node, "class_type"); }

static bool is(const json_t *node, const char *name) { return !strcmp(class_of(node), name); }

static const json_t *input(const json_t *node, const char *name) {
    return json_object_get(json_object_get(node, "inputs"), name);
}

static const json_t *linked(const graph *g, const json_t *link) {
    const char *id = json_string_value(json_array_get(link, 0));
    return id ? json_object_get(g->nodes, id) : NULL;
}

__attribute__((format(printf, 2, 3))) static bool refuse(graph *g, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = snprintf(g->why, METADATA_WHY, "is of ComfyUI, and ");
    vsnprintf(g->why + n, (size_t)(METADATA_WHY - n), format, args);
    va_end(args);
    return false;
}

static void keep(graph *g, const char *name, const json_t *v) {
    json_object_set(g->found, name, (json_t *)(uintptr_t)v);
}

// A value that is there, or that of the node that gives it; NULL where none is found.
static const json_t *value_behind(const graph *g, const json_t *v) {
    static const char *const INPUTS[] = {"value", "text", "string", "prompt",
                                         "seed",  "int",  "float",  "number"};
    int hops = 0;
    for (; json_is_array(v) && hops < MAX_HOPS; hops++) {
        const json_t *node = linked(g, v);
        v = NULL;
        for (size_t i = 0; !v && i < sizeof INPUTS / sizeof *INPUTS; i++) v = input(node, INPUTS[i]);
    }
    return hops < MAX_HOPS ? v : NULL;
}

// Inputs of a node, which must be known.
static bool read_inputs(graph *g, const json_t *node, const char *const *names) {
    for (; *names; names++) {
        const json_t *v = value_behind(g, input(node, *names));
        if (!json_is_number(v) && !json_is_string(v))
            return refuse(g, "the %s of its %.60s is not found", *names, class_of(node));
        keep(g, *names, v);
    }
    return true;
}

// Up from a text encoder's clip.
static void read_clip(graph *g, const json_t *link) {
    const json_t *node;
    for (int hops = 0; (node = linked(g, link)) && hops < MAX_HOPS; hops++) {
        json_int_t layer = json_integer_value(input(node, "stop_at_clip_layer"));
        if (is(node, "CLIPSetLastLayer") && layer < 0 && layer > -100)
            json_object_set_new(g->found, "stop_at_clip_layer", json_integer(-layer));
        if (!strncmp(class_of(node), "LoraLoader", 10)) g->loras = true;
        link = input(node, "clip");
    }
}

static bool read_text(graph *g, const json_t *link, const char *name) {
    const json_t *node = linked(g, link);
    if (!is(node, "CLIPTextEncode"))
        return refuse(g, "its text comes from a node that is not read (%.60s)", class_of(node));
    const json_t *text = value_behind(g, input(node, "text"));
    if (!json_is_string(text)) return refuse(g, "the text of its %s prompt is not found", name);
    keep(g, name, text);
    read_clip(g, input(node, "clip"));
    return true;
}

static bool read_latent(graph *g, const json_t *node) {
    if (!is(node, "EmptyLatentImage"))
        return refuse(g, "its latents come from a node that is not read (%.60s)", class_of(node));
    static const char *const OWN[] = {"width", "height", "batch_size", NULL};
    return read_inputs(g, node, OWN);
}

// Up from the sampler to the file. What stands between and is not known changes the picture.
static void read_model(graph *g, const json_t *link, json_t *notes) {
    const json_t *node;
    for (int hops = 0; (node = linked(g, link)) && hops < MAX_HOPS; hops++) {
        const char *name = class_of(node);
        const json_t *file = input(node, "ckpt_name");
        if (!file) file = input(node, "unet_name");
        if (file) {
            keep(g, "model_name", file);
            return;
        }
        if (is(node, "ModelSamplingDiscrete")) {
            bool v = !strcmp(text_at(node, "inputs.sampling"), "v_prediction");
            if (v || !strcmp(text_at(node, "inputs.sampling"), "eps"))
                json_object_set_new(g->found, "sampling", json_string(v ? "v" : "eps"));
            if (json_is_true(input(node, "zsnr"))) json_object_set_new(g->found, "zsnr", json_true());
        } else if (is(node, "RescaleCFG")) {
            keep(g, "multiplier", input(node, "multiplier"));
        } else if (!strncmp(name, "LoraLoader", 10)) {
            g->loras = true;
        } else {
            add_note(notes, "its node %.80s is left out", name);
        }
        link = input(node, "model");
    }
}

// The only one. With several it is not told which of them made the picture.
static const json_t *find_sampler(graph *g) {
    const char *id;
    json_t *node, *found = NULL;
    int n = 0;
    json_object_foreach((json_t *)(uintptr_t)g->nodes, id, node) {
        const char *name = class_of(node);
        if (strncmp(name, "KSampler", 8) != 0 && strncmp(name, "SamplerCustom", 13) != 0) continue;
        n += strcmp(name, "KSamplerSelect") != 0;
        if (is(node, "KSampler") || is(node, "KSamplerAdvanced")) found = node;
    }
    if (n == 1 && found) return found;
    refuse(g, "%s", n > 1 ? "several samplers worked on it" : "no KSampler worked on it");
    return NULL;
}

// Of the two samplers, whether one draws all of the steps from nothing.
static bool is_whole(const json_t *sampler) {
    const json_t *denoise = input(sampler, "denoise");
    double end = json_number_value(input(sampler, "end_at_step"));
    if (is(sampler, "KSampler")) return !denoise || json_number_value(denoise) == 1;
    return !strcmp(text_at(sampler, "inputs.add_noise"), "enable") &&
           !json_integer_value(input(sampler, "start_at_step")) &&
           end >= json_number_value(input(sampler, "steps"));
}

static bool read_graph(graph *g, json_t *notes) {
    static const char *const OWN[] = {"steps", "cfg", "sampler_name", "scheduler", NULL};
    static const char *const SEED[] = {"seed", NULL}, *const NOISE_SEED[] = {"noise_seed", NULL};
    const json_t *sampler = find_sampler(g);
    if (!sampler) return false;
    if (!is_whole(sampler)) return refuse(g, "its %s took a part of the steps", class_of(sampler));
    read_model(g, input(sampler, "model"), notes);
    return read_inputs(g, sampler, OWN) &&
           read_inputs(g, sampler, is(sampler, "KSampler") ? SEED : NOISE_SEED) &&
           read_text(g, input(sampler, "positive"), "positive") &&
           read_text(g, input(sampler, "negative"), "negative") &&
           read_latent(g, linked(g, input(sampler, "latent_image")));
}

// The first noise is drawn on the processor, that of the steps on a graphics card; but the Brownian path of
// samplers without "gpu" in their names on the processor, too.
static void set_noise(json_t *to) {
    const char *sampler = text_at(to, "sampling-method");
    size_t n = strlen(sampler);
    bool path = strstr(sampler, "_sde") && strncmp(sampler, "er_", 3) != 0;
    bool card = !path || (n > 4 && !strcmp(sampler + n - 4, "_gpu"));
    set_text(to, "noise-layout", "comfy");
    set_text(to, "rng", "cpu");
    set_text(to, "sampler-rng", card ? "nv" : "cpu");
    set_text(to, "emphasis", "comfy");
}

static json_t *read_comfyui(const json_t *nodes, char *why) {
    graph g = {.nodes = nodes, .found = json_object(), .why = why};
    json_t *notes = json_pack("{s:[]}", "notes"), *to = NULL;
    if (g.found && notes && read_graph(&g, notes)) to = translate(g.found, COMFYUI);
    if (to) {
        set_noise(to);
        if (json_object_get(g.found, "zsnr")) json_object_set_new(to, "zero-snr", json_true());
        if (g.loras) add_note(notes, "its LoRAs are left out");
        json_object_set(to, "notes", json_object_get(notes, "notes"));
    }
    json_decref(notes);
    json_decref(g.found);
    return to;
}

// ---- which of them

// Where stable-diffusion.cpp's begin: behind the words that A1111 would write, or alone.
static const char *find_sdcpp(const json_t *texts) {
    static const char *const KEYS[] = {"sdcpp", "parameters", "UserComment"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        const char *text = text_at(texts, KEYS[i]), *behind = NULL;
        for (const char *p = text; (p = strstr(p, ", SDCPP: {")); p++) behind = p + strlen(", SDCPP: ");
        if (behind) return behind;
        if (*text == '{' && strstr(text, "\"sdcpp.image.params")) return text;
    }
    return NULL;
}

// Other programs write a text under this word; and where A1111's words stand beside it, they are read.
static const char *find_graph(const json_t *texts) {
    const char *text = text_at(texts, "prompt");
    bool found = *text == '{' && strstr(text, "\"class_type\"") && !json_object_get(texts, "parameters");
    return found ? text : NULL;
}

json_t *metadata_read(const json_t *texts, char why[METADATA_WHY]) {
    static const char *const WHOSE[] = {"InvokeAI", "stable-diffusion.cpp", "ComfyUI"};
    const char *text = json_string_value(json_object_get(texts, "invokeai_metadata"));
    program from = INVOKEAI;
    *why = 0;
    if (!text && (text = find_sdcpp(texts))) from = SDCPP;
    if (!text && (text = find_graph(texts))) from = COMFYUI;
    if (!text) return NULL;
    json_t *j = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL), *found = NULL;
    if (!json_is_object(j))
        snprintf(why, METADATA_WHY, "has settings of %s that are no JSON, or hold too large a number",
                 WHOSE[from]);
    else
        found = from == INVOKEAI ? read_invokeai(j)
                : from == SDCPP  ? read_sdcpp(j, why)
                                 : read_comfyui(j, why);
    json_decref(j);
    return found;
}
