#include "cli/infotext.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef enum { WORDS, LOWER, INTEGER, REAL, SIZE } field_kind;

static const struct {
    const char *key, *option; // of a size, the option of its width, and that of its height follows
    field_kind kind;
} FIELDS[] = {{"Steps", "steps", INTEGER},
              {"Sampler", "sampling-method", WORDS},
              {"Schedule type", "scheduler", WORDS},
              {"CFG scale", "cfg-scale", REAL},
              {"CFG Rescale", "cfg-rescale", REAL},
              {"Image CFG scale", "image-cfg-scale", REAL},
              {"Seed", "seed", INTEGER},
              {"Size", "width\0height", SIZE},
              {"Model", "model", WORDS},
              {"VAE", "vae", WORDS},
              {"VAE hash", "vae_sha256", WORDS},
              {"Clip skip", "clip-skip", INTEGER},
              {"Denoising strength", "strength", REAL},
              {"Mask blur", "mask-blur", INTEGER},
              {"Hires upscale", "hires-scale", REAL},
              {"Hires resize", "hires-width\0hires-height", SIZE},
              {"Hires steps", "hires-steps", INTEGER},
              {"Hires upscaler", "hires-upscaler", WORDS},
              {"ENSD", "ensd", INTEGER},
              {"Eta", "eta", REAL},
              {"Sigma churn", "s-churn", REAL},
              {"Sigma tmin", "s-tmin", REAL},
              {"Sigma tmax", "s-tmax", REAL},
              {"Sigma noise", "s-noise", REAL},
              {"RNG", "rng", LOWER},
              {"Sampler RNG", "sampler-rng", LOWER}};

static void set_size(json_t *to, const char *names, const char *value) {
    int w, h;
    if (sscanf(value, "%6dx%6d", &w, &h) != 2) return;
    json_object_set_new(to, names, json_integer(w));
    json_object_set_new(to, names + strlen(names) + 1, json_integer(h));
}

static void set_lower(json_t *to, const char *name, char *value) {
    for (char *c = value; *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c + 'a' - 'A');
    bool card = !strcmp(value, "cuda"); // stable-diffusion.cpp's word
    json_object_set_new(to, name, json_string(card ? "nv" : value));
}

static bool is_one_of(const char *name, const char *const *names) {
    for (; *names; names++)
        if (!strcasecmp(name, *names)) return true;
    return false;
}

// What changes the picture and has no option.
static void note_field(json_t *to, const char *key, const char *value) {
    static const char *const OTHERS[] = {"Lora hashes",
                                         "TI hashes",
                                         "Hypernet",
                                         "Variation seed",
                                         "Variation seed strength",
                                         "Seed resize from",
                                         "Refiner",
                                         "Hires sampler",
                                         "Hires schedule type",
                                         "Hires prompt",
                                         "Hires negative prompt",
                                         "Hires checkpoint",
                                         "Face restoration",
                                         "Tiling",
                                         NULL};
    if (!strncmp(key, "ControlNet", strlen("ControlNet")) || is_one_of(key, OTHERS))
        json_array_append_new(json_object_get(to, "notes"), json_sprintf("not repeated: %s: %s", key, value));
}

static void set_field(json_t *to, const char *key, char *value) {
    note_field(to, key, value);
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        const char *name = FIELDS[i].option;
        if (strcmp(FIELDS[i].key, key) != 0) continue;
        switch (FIELDS[i].kind) {
        case WORDS:
            json_object_set_new(to, name, json_string(value));
            break;
        case LOWER:
            set_lower(to, name, value);
            break;
        case INTEGER:
            json_object_set_new(to, name, json_integer(strtoll(value, NULL, 10)));
            break;
        case REAL:
            json_object_set_new(to, name, json_real(strtod(value, NULL)));
            break;
        case SIZE:
            set_size(to, name, value);
            break;
        }
    }
    if (!strcmp(key, "Noise Schedule") && !strcmp(value, "Zero Terminal SNR"))
        json_object_set_new(to, "zero-snr", json_true());
    if (!strcmp(key, "Emphasis") && !strcmp(value, "No norm"))
        json_object_set_new(to, "emphasis", json_string("no-norm"));
    if (!strcmp(key, "Emphasis") && !strcmp(value, "None"))
        json_object_set_new(to, "emphasis", json_string("none"));
    if (!strcmp(key, "Inpaint area") && !strcmp(value, "Only masked"))
        json_object_set_new(to, "inpaint-full-res", json_true());
}

// The value at `at`: a JSON string, or all up to the next comma or the end. *next is behind it. Owned by the
// caller.
static char *read_value(const char *at, const char **next) {
    json_error_t where;
    json_t *quoted = *at == '"' ? json_loads(at, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &where) : NULL;
    const char *end = quoted ? at + where.position : strstr(at, ", ");
    char *value;
    if (!end) end = at + strlen(at);
    value = quoted ? strdup(json_string_value(quoted)) : strndup(at, (size_t)(end - at));
    json_decref(quoted);
    *next = *end == ',' ? end + 1 + (end[1] == ' ') : NULL;
    return value;
}

static bool read_fields(json_t *to, const char *line) {
    while (line && *line) {
        const char *colon = strstr(line, ": ");
        if (!colon) break;
        char *key = strndup(line, (size_t)(colon - line)), *value = read_value(colon + 2, &line);
        bool whole = key && value;
        if (whole) set_field(to, key, value);
        free(key);
        free(value);
        if (!whole) return false;
    }
    return true;
}

// ---- what A1111 means by what it does not write

// Its samplers take the model's own spacing where no other is written, these by other ways; and with
// "Automatic" some have one of their own.
static void set_spacing(json_t *to) {
    static const char *const OTHERS[] = {"DDIM", "DDIM CFG++", "PLMS", "UniPC", "LCM", NULL};
    static const char *const KARRAS[] = {"DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2",
                                         "DPM2 a",   "Restart",   NULL};
    static const char *const EXPONENTIAL[] = {"DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", NULL};
    static const char *const WITH_SPACING[] = {" Karras", " Exponential", NULL};
    const char *given = json_string_value(json_object_get(to, "scheduler"));
    const char *sampler = json_string_value(json_object_get(to, "sampling-method"));
    bool automatic = given && !strcasecmp(given, "Automatic");
    if (!sampler || (given && !automatic)) return;
    json_object_del(to, "scheduler");
    for (int i = 0; WITH_SPACING[i]; i++) {
        size_t n = strlen(sampler), m = strlen(WITH_SPACING[i]);
        if (n > m && !strcasecmp(sampler + n - m, WITH_SPACING[i])) return;
    }
    if (is_one_of(sampler, OTHERS)) return;
    json_object_set_new(to, "scheduler",
                        json_string(automatic && is_one_of(sampler, KARRAS)        ? "karras"
                                    : automatic && is_one_of(sampler, EXPONENTIAL) ? "exponential"
                                                                                   : "normal"));
}

static void set_unwritten(json_t *to) {
    static const char *const ANCESTRAL[] = {"DPM fast", "DPM adaptive", NULL};
    const char *sampler = json_string_value(json_object_get(to, "sampling-method"));
    bool hires = json_object_get(to, "hires-scale") || json_object_get(to, "hires-width");
    json_t *strength = json_object_get(to, "strength");
    set_spacing(to);
    if (!json_object_get(to, "rng")) json_object_set_new(to, "rng", json_string("nv")); // a GPU's
    if (!json_object_get(to, "emphasis")) json_object_set_new(to, "emphasis", json_string("original"));
    if (sampler && is_one_of(sampler, ANCESTRAL) && !json_object_get(to, "eta"))
        json_object_set_new(to, "eta", json_real(1));
    if (strength && hires) {
        json_object_set(to, "hires-denoise", strength);
        json_object_del(to, "strength");
    } else if (strength) {
        json_object_set_new(to, "init_image", json_true());
    }
    if (json_object_get(to, "mask-blur") || json_object_get(to, "inpaint-full-res")) {
        json_object_set_new(to, "init_image", json_true());
        json_object_set_new(to, "mask_image", json_true());
    }
}

// ---- the whole

// The last line that begins with `words`.
static const char *last_line(const char *text, const char *words) {
    const char *found = NULL;
    for (const char *at = text; at; at = strchr(at, '\n')) {
        at += *at == '\n';
        if (!strncmp(at, words, strlen(words))) found = at;
    }
    return found;
}

// The text from `at` up to the line `end`.
static json_t *text_of(const char *at, const char *end) {
    return json_stringn(at, end > at ? (size_t)(end - at - (end[-1] == '\n')) : 0);
}

json_t *infotext_read(const char *text) {
    static const char STEPS[] = "Steps: ", NEGATIVE[] = "Negative prompt: ";
    const char *fields = last_line(text, STEPS), *negative = last_line(text, NEGATIVE);
    if (!fields) return NULL;
    char *line = strndup(fields, strcspn(fields, "\n"));
    json_t *to = json_pack("{s:i, s:[]}", "format", 1, "notes");
    bool whole = line && to && read_fields(to, line);
    free(line);
    if (!whole) return json_decref(to), NULL;
    if (negative > fields) negative = NULL;
    json_object_set_new(to, "prompt", text_of(text, negative ? negative : fields));
    if (negative) json_object_set_new(to, "negative-prompt", text_of(negative + strlen(NEGATIVE), fields));
    if (strstr(text, "<hypernet:"))
        json_array_append_new(json_object_get(to, "notes"), json_string("its hypernetworks are left out"));
    set_unwritten(to);
    return to;
}
