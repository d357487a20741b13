// calotype txt2img: pictures from a prompt.
#include "cli/commands.h"
#include "cli/drawing.h"
#include "cli/files.h"
#include "cli/infotext.h"
#include "cli/metadata.h"
#include "cli/outputs.h"
#include "cli/terminal.h"
#include "cli/text.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    drawing drawing;
    const char *prompt_file, *output, *init_latents, *save_latents, *from;
    int show, preview, preview_interval, preview_method;
    bool force;
    json_t *from_settings; // owns the texts that came from the picture
    json_t *made_by;       // checksums of the models that made it
} options;

// Where previews go; or in the words of stable-diffusion.cpp, how they are made, and then where they can.
static const char *const PREVIEWS[] = {TERMINAL_SHOW_NAMES, "none", "proj", "vae", "tae", NULL};
enum { PREVIEW_NONE = SHOW_BLOCKS + 1, PREVIEW_PROJ, PREVIEW_VAE, PREVIEW_TAE };
static const char *const PREVIEW_METHODS[] = {"vae", "linear", NULL};
#define AT(field) offsetof(options, field)
static const option OPTIONS[] = {
    {0, "prompt-file", OPTION_TEXT, AT(prompt_file), "FILE",
     "what to draw is the text of this file; - is standard input"},
    {'o', "output", OPTION_TEXT, AT(output), "FILE",
     "png, jpg or webp; {seed} and {i} are filled in (calotype-{seed}.png)"},
    {0, "from", OPTION_TEXT, AT(from), "FILE",
     "repeat this picture, of calotype, A1111, ComfyUI, InvokeAI or sd.cpp; flags change what they name"},
    {0, "show", OPTION_CHOICE, AT(show), "HOW",
     "draw it in the terminal: auto, kitty, iterm2, sixel or blocks", .choices = TERMINAL_SHOWS,
     .alone = "auto"},
    {0, "preview", OPTION_CHOICE, AT(preview), "HOW",
     "draw it there while it forms, too, by the same ways; vae and proj: as --preview-method vae and linear",
     .choices = PREVIEWS, .alone = "auto"},
    {0, "preview-interval", OPTION_INT, AT(preview_interval), "N",
     "steps from one preview to the next; each costs a run of the autoencoder (1)", 1, 1000},
    {0, "preview-method", OPTION_CHOICE, AT(preview_method), "HOW",
     "vae, or linear: the autoencoder draws a few, and most are a square of colour for each latent (vae)",
     .choices = PREVIEW_METHODS},
    {0, "force", OPTION_FLAG, AT(force), NULL, "replace existing files"},
    {0, "init-latents", OPTION_TEXT, AT(init_latents), "FILE",
     "unit noise to start from: F32 latents [B,C,h,w]"},
    {0, "save-latents", OPTION_TEXT, AT(save_latents), "FILE", "write what goes to the autoencoder"},
    {0}};

const command_line TXT2IMG_LINE = {
    "txt2img",
    "-p TEXT [-o FILE] [OPTION...]",
    "Draws pictures from a prompt.",
    "Samplers and schedulers are understood as other programs spell them, too (\"DPM++ 2M Karras\").\n"
    "The names of the files are printed on standard output.",
    {DRAWING_OPTIONS, OPTIONS, MODEL_OPTIONS, COMMON_OPTIONS},
    0};

typedef struct {
    session s;
    options *o;
    int count, done;
    unsigned long long seed;
    terminal_view view;  // on stderr, as all that is no result
    calo_tensor latents; // collected for --save-latents
    float *values;
    char *prompt; // read from a file
} job;

// ---- names of files

// Of picture `index`; false when it is too long.
static bool name_of(const job *j, int index, char path[PATH_MAX]) {
    char seed[24], number[16];
    snprintf(seed, sizeof seed, "%llu", j->seed + (unsigned long long)index);
    snprintf(number, sizeof number, "%d", index + 1);
    const output_word words[] = {{"{seed}", seed}, {"{i}", number}, {0}};
    return output_name(j->o->output, words, j->count > 1 ? index + 1 : 0, path);
}

// Whether they are one name in one folder, also of a file that is still to be written.
static bool is_one_file(const char *a, const char *b) {
    const char *const paths[] = {a, b};
    const char *names[2];
    struct stat folders[2];
    for (int i = 0; i < 2; i++) {
        char dir[PATH_MAX];
        snprintf(dir, sizeof dir, "%s", paths[i]);
        char *slash = strrchr(dir, '/');
        names[i] = slash ? paths[i] + (slash - dir) + 1 : paths[i];
        if (slash) slash[slash == dir] = 0;
        if (stat(slash ? dir : ".", &folders[i])) return false;
    }
    return !strcmp(names[0], names[1]) && folders[0].st_dev == folders[1].st_dev &&
           folders[0].st_ino == folders[1].st_ino;
}

static int check_names(job *j) {
    char path[PATH_MAX];
    int code = 0;
    for (int i = 0; i < j->count && !code; i++) {
        if (!name_of(j, i, path)) return session_fail(&j->s, CALO_ERR_USAGE, "the output's name is too long");
        if (!drawing_has_format(path))
            return session_fail(&j->s, CALO_ERR_USAGE, "%s: name a .png, .jpg or .webp file", path);
        if (j->o->save_latents && is_one_file(path, j->o->save_latents))
            return session_fail(&j->s, CALO_ERR_USAGE, "%s: cannot be the picture and its latents", path);
        code = output_check(&j->s, path, j->o->force);
    }
    return code || !j->o->save_latents ? code : output_check(&j->s, j->o->save_latents, j->o->force);
}

// ---- results

static void announce(const job *j, const char *path, const calo_image *im) {
    if (!j->o->drawing.common.json) {
        puts(path);
    } else {
        printf("{\"event\":\"image\",\"file\":");
        print_json_string(path);
        printf(",\"index\":%d,\"description\":%s}\n", j->done, im->json);
    }
    fflush(stdout);
}

static calo_status keep_latents(job *j, const calo_image *im) {
    size_t n = (size_t)im->latent_shape[0] * (size_t)im->latent_shape[1] * (size_t)im->latent_shape[2];
    float *more = realloc(j->values, (size_t)(j->done + 1) * n * sizeof *more);
    if (!more) return CALO_ERR_TEMP;
    memcpy(more + (size_t)j->done * n, im->latents, n * sizeof *more);
    j->values = more;
    j->latents = (calo_tensor){"latents",
                               CALO_F32,
                               4,
                               {j->done + 1, im->latent_shape[0], im->latent_shape[1], im->latent_shape[2]},
                               more};
    return CALO_OK;
}

static const char *text_of(const json_t *j, const char *key) {
    return json_string_value(json_object_get(j, key));
}

static void warn_of_other(job *j, const char *what, const char *expected, const char *used) {
    char text[METADATA_WHY];
    snprintf(text, sizeof text, "was made with the %s %.50s, this is %.50s", what, expected, used);
    text_tame(text);
    session_say(&j->s, "calotype: warning: %s %s", j->o->from, text);
}

// Others know ten digits of a checksum.
static void check_sum(job *j, const char *what, const char *expected, const char *used) {
    char first[2][11];
    snprintf(first[0], sizeof first[0], "%s", expected);
    snprintf(first[1], sizeof first[1], "%s", used);
    if (strncmp(used, expected, strlen(expected)) != 0) warn_of_other(j, what, first[0], first[1]);
}

// Other programs do not always name it.
static void check_vae(job *j, const json_t *own) {
    const json_t *by = j->o->made_by;
    const char *used = text_of(own, "vae"), *expected = text_of(by, "vae");
    const char *used_sum = text_of(own, "vae_sha256"), *sum = text_of(by, "vae_sha256");
    if (!expected && (!used || !json_object_get(by, "program"))) return;
    if (used_sum && sum)
        check_sum(j, "autoencoder", sum, used_sum);
    else if (!used || !expected || strcmp(used, expected) != 0)
        warn_of_other(j, "autoencoder", expected ? expected : "of its model",
                      used ? used : "that of the model");
}

// With another model the same settings give another picture.
static void check_models(job *j, const calo_image *im) {
    static const struct {
        const char *key, *what;
    } MODELS[] = {{"model_sha256", "model"}, {"refiner_sha256", "refiner"}};
    json_t *own = j->o->made_by ? json_loads(im->json, 0, NULL) : NULL;
    for (size_t i = 0; i < sizeof MODELS / sizeof *MODELS; i++) {
        const char *used = text_of(own, MODELS[i].key), *expected = text_of(j->o->made_by, MODELS[i].key);
        if (used && expected) check_sum(j, MODELS[i].what, expected, used);
    }
    if (own) check_vae(j, own);
    json_decref(own);
}

// Networks are not read from prompts.
static void warn_of_networks(job *j) {
    static const char *const TAGS[] = {"<lora:", "<lyco:"};
    const char *const texts[] = {j->o->drawing.prompt, j->o->drawing.negative};
    for (size_t i = 0; i < 4; i++) {
        const char *tag = TAGS[i % 2], *at = texts[i / 2] ? strstr(texts[i / 2], tag) : NULL;
        size_t n = at ? strcspn(at, ">") : 0;
        char found[METADATA_WHY];
        if (n <= strlen(tag) || !at[n]) continue;
        snprintf(found, sizeof found, "%.*s", (int)n + 1, at);
        text_tame(found);
        session_say(&j->s,
                    "calotype: warning: %s in the prompt is read as words; merge a LoRA with calotype "
                    "convert --lora",
                    found);
        return;
    }
}

static void open_view(job *j) {
    terminal_show how = (terminal_show)(j->o->preview ? j->o->preview : j->o->show);
    terminal_view_open(&j->view, stderr, how, j->o->preview != SHOW_OFF);
}

static int settle_preview(job *j) {
    options *o = j->o;
    if (o->preview < PREVIEW_NONE) return 0;
    if (o->preview == PREVIEW_TAE)
        return session_fail(
            &j->s, CALO_ERR_USAGE,
            "--preview tae: tiny autoencoders are not read; --preview proj (by the colours of "
            "latents) costs almost nothing, too");
    if (o->preview != PREVIEW_NONE)
        o->preview_method = o->preview == PREVIEW_PROJ ? CALO_PREVIEW_LINEAR : CALO_PREVIEW_VAE;
    o->preview = o->preview == PREVIEW_NONE ? SHOW_OFF : SHOW_AUTO;
    return 0;
}

// Of a group that is drawn together the first alone.
static calo_status preview(void *user, const calo_image *im, int step) {
    job *j = user;
    (void)step;
    if (im->seed != j->seed + (unsigned long long)j->done) return CALO_OK;
    if (!j->view.lines) session_clear(&j->s); // the bar's line becomes the picture's first
    terminal_view_draw(&j->view, im->rgb, im->width, im->height);
    return CALO_OK;
}

// The finished picture goes where its previews were.
static void show(job *j, const calo_image *im) {
    if (j->view.how == SHOW_OFF) return;
    terminal_view_draw(&j->view, im->rgb, im->width, im->height);
    terminal_view_leave(&j->view);
}

static calo_status receive(void *user, const calo_image *im) {
    job *j = user;
    char path[PATH_MAX];
    calo_save_options save = drawing_save_options(&j->o->drawing, j->o->force);
    if (!name_of(j, j->done, path)) return CALO_ERR_USAGE;
    session_clear(&j->s);
    calo_status status = calo_image_save(j->s.ctx, im, path, &save);
    if (!status && j->o->save_latents) status = keep_latents(j, im);
    if (status) return status;
    show(j, im);
    if (!j->done) check_models(j, im);
    announce(j, path, im);
    j->done++;
    return CALO_OK;
}

// ---- the job

static unsigned long long choose_seed(long long wanted) {
    unsigned seed = 0;
    if (wanted >= 0) return (unsigned long long)wanted;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (unsigned)getpid();
    return seed;
}

static int load_init(job *j, calo_tensors **file, calo_tensor *init) {
    int code = session_end(&j->s, calo_tensors_load(j->s.ctx, j->o->init_latents, file));
    for (size_t i = 0; i < calo_tensors_count(*file) && !init->name; i++)
        if (!strcmp(calo_tensors_at(*file, i).name, "latents")) *init = calo_tensors_at(*file, i);
    if (!code && (!init->name || init->rank != 4 || init->shape[0] < 1 || init->shape[0] > INT_MAX))
        code = session_fail(&j->s, CALO_ERR_DATA, "%s: has no tensor 'latents' of four dimensions",
                            j->o->init_latents);
    if (!code && !j->count) j->count = (int)init->shape[0];
    return code;
}

// All of the file but white space at its end.
static int read_prompt(job *j) {
    enum { LONGEST = 1 << 16 }; // the library takes no longer one
    const char *path = j->o->prompt_file;
    bool piped = !strcmp(path, "-");
    size_t n = 0;
    int fd = piped ? STDIN_FILENO : file_open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    int wrong = fd < 0 ? errno : file_read(fd, LONGEST, &j->prompt, &n);
    if (fd >= 0 && !piped) close(fd);
    if (session_stopped()) return session_end(&j->s, CALO_ERR_CANCELLED);
    if (wrong)
        return session_fail(&j->s, file_code(wrong, CALO_ERR_NOINPUT), "%s: cannot be read: %s", path,
                            strerror(wrong));
    if (n > LONGEST || strlen(j->prompt) != n)
        return session_fail(&j->s, CALO_ERR_DATA, "%s: %s", path,
                            n > LONGEST ? "a prompt has at most 64 KiB" : "a prompt holds no NUL");
    while (n && strchr(" \t\r\n", j->prompt[n - 1])) j->prompt[--n] = 0;
    j->o->drawing.prompt = j->prompt;
    return 0;
}

static int draw(job *j, calo_model *m, calo_model *refiner, const calo_tensor *init) {
    calo_txt2img_request r = drawing_request(&j->o->drawing);
    r.refiner = refiner;
    r.seed = j->seed;
    r.count = j->count;
    r.on_image = receive;
    r.user = j;
    r.forget = 1; // the program ends with it
    if (j->o->preview && j->view.how != SHOW_OFF) {
        r.on_preview = preview;
        r.preview_every = j->o->preview_interval;
        r.preview_method = (calo_preview_method)j->o->preview_method;
    }
    if (init->name) r.init_latents = init;
    drawing_pictures pictures;
    char why[1024];
    int code = drawing_load_pictures(j->s.ctx, &j->o->drawing, &r, &pictures, why, sizeof why);
    code = code ? session_fail(&j->s, code, "%s", why) : session_end(&j->s, calo_txt2img(m, &r, NULL));
    drawing_free_pictures(&pictures);
    if (!code && j->o->save_latents)
        code =
            session_end(&j->s, calo_tensors_save(j->s.ctx, &j->latents, 1, j->o->save_latents, j->o->force));
    if (!code && j->o->drawing.common.json)
        printf("{\"event\":\"done\",\"images\":%d,\"seconds\":%.6f}\n", j->done, session_seconds(&j->s));
    if (!code)
        session_say(&j->s, "%d picture%s in %.2f s, seed %llu, %s", j->done, j->done == 1 ? "" : "s",
                    session_seconds(&j->s), j->seed, calo_precision_name(j->s.ctx));
    return code;
}

static int work(job *j) {
    calo_model *m = NULL, *refiner = NULL;
    calo_tensors *file = NULL;
    calo_tensor init = {0};
    int code = settle_preview(j);
    if (!code && j->o->prompt_file) code = read_prompt(j);
    if (!code && !j->o->drawing.prompt)
        code = session_fail(&j->s, CALO_ERR_USAGE, "what to draw? Give a prompt with -p \"...\"");
    if (!code) warn_of_networks(j);
    if (!code && j->o->init_latents) code = load_init(j, &file, &init);
    if (!code && !j->count) j->count = 1;
    if (!code) code = check_names(j);
    if (!code) code = session_model(&j->s, &m);
    if (!code) drawing_settle(&j->o->drawing, m);
    if (!code) code = session_end(&j->s, drawing_open_refiner(j->s.ctx, &j->o->drawing, &refiner));
    open_view(j);
    if (!code) code = draw(j, m, refiner, &init);
    free(j->values);
    free(j->prompt);
    calo_tensors_free(file);
    calo_model_free(refiner);
    calo_model_free(m);
    return code;
}

// ---- a picture as it was made

// What its file says that is no option: checked, or of no effect on the picture.
static json_t *settings_of(const options *o, json_t *j) {
    static const char *const OTHERS[] = {
        "format",         "program",      "model",      "model_sha256", "vae",     "vae_sha256", "refiner",
        "refiner_sha256", "init_latents", "init_image", "mask_image",   "upscale", "notes"};
    json_t *settings = json_copy(j);
    // Before prompts had a syntax they were plain text.
    if (!json_object_get(j, "emphasis")) json_object_set_new(settings, "emphasis", json_string("none"));
    for (size_t i = 0; i < sizeof OTHERS / sizeof *OTHERS; i++) json_object_del(settings, OTHERS[i]);
    if (o->drawing.count) json_object_del(settings, "count");
    return settings;
}

static int refuse_from(const options *o, const char *why) {
    fprintf(stderr, "calotype: --from %s: %s\n", o->from, why);
    return CALO_ERR_DATA;
}

// Anybody's file may set what a picture is drawn from, but not say where outputs go.
static int take_settings(options *o) {
    static const char *const FILES[] = {"init-img", "init_img", "mask"};
    for (size_t i = 0; i < sizeof FILES / sizeof *FILES; i++)
        if (json_object_get(o->from_settings, FILES[i]))
            return refuse_from(o, "has an unknown key: a picture's description names no files");
    option arithmetic[3] = {*options_find(&TXT2IMG_LINE, "precision"), *options_find(&TXT2IMG_LINE, "fast")};
    command_line line = {"txt2img", "", "", NULL, {DRAWING_OPTIONS, arithmetic}, 0};
    return options_json(&line, o, o->from_settings, o->from, NULL);
}

// Of the text that calotype wrote, or else another program, a JSON object; NULL where there is none, and
// `why` if there is one that cannot be repeated.
static json_t *read_texts(const json_t *texts, char why[METADATA_WHY]) {
    static const char *const KEYS[] = {"parameters", "UserComment"};
    const char *own = json_string_value(json_object_get(texts, "calotype"));
    json_t *found = own ? NULL : metadata_read(texts, why);
    for (size_t i = 0; !own && !found && i < sizeof KEYS / sizeof *KEYS; i++) {
        const char *text = json_string_value(json_object_get(texts, KEYS[i]));
        if (text) found = infotext_read(text);
    }
    return own ? json_loads(own, JSON_REJECT_DUPLICATES, NULL) : found;
}

// What is not repeated, and by which model it was drawn, in the words of somebody's file.
static void tell_notes(session *s, const options *o, const json_t *found) {
    const json_t *notes = json_object_get(found, "notes");
    const char *model = json_string_value(json_object_get(found, "model"));
    char text[METADATA_WHY];
    size_t i;
    json_t *note;
    if (json_object_get(found, "upscale"))
        session_say(s, "calotype: warning: %s was made larger afterwards, which is not repeated", o->from);
    if (!notes) return;
    snprintf(text, sizeof text, "made with the model %s", model ? model : "that it does not name");
    text_tame(text);
    session_say(s, "calotype: %s: %s", o->from, text);
    json_array_foreach(notes, i, note) {
        snprintf(text, sizeof text, "%s", json_string_value(note));
        text_tame(text);
        session_say(s, "calotype: warning: %s: %s", o->from, text);
    }
}

static json_t *read_description(session *s, const options *o, int *code) {
    char *text = NULL, why[METADATA_WHY] = "";
    *code = session_end(s, calo_inspect(s->ctx, o->from, &text));
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    json_t *found = read_texts(json_object_get(j, "texts"), why);
    text_tame(why);
    if (!*code && !json_is_object(found))
        *code = refuse_from(o, *why ? why : "does not say in words that are read here how it was made");
    if (!*code && json_integer_value(json_object_get(found, "format")) != 1)
        *code = refuse_from(o, "was made by a newer calotype");
    if (!*code && json_is_true(json_object_get(found, "init_latents")) && !o->init_latents)
        *code = refuse_from(o, "was made from initial latents: name them with --init-latents");
    if (!*code && json_is_true(json_object_get(found, "init_image")) && !o->drawing.init_img)
        *code = refuse_from(o, "began from a picture: name it with --init-img");
    if (!*code && json_is_true(json_object_get(found, "mask_image")) && !o->drawing.mask)
        *code = refuse_from(o, "was drawn under a mask: name it with --mask");
    if (!*code && json_object_get(found, "refiner") && !o->drawing.refiner)
        *code = refuse_from(o, "was finished by a refiner: name it with --refiner");
    const char *model = json_string_value(json_object_get(found, "model"));
    if (!*code && !o->drawing.common.model && (!model || strcmp(model, "talbot")))
        *code = refuse_from(o, "was made with another model: name its folder with -m");
    tell_notes(s, o, found);
    json_decref(j);
    calo_free(text);
    return found;
}

// The picture's settings, then the flags again, which win.
static int apply_from(options *o, int argc, char **argv) {
    session s;
    json_t *own = NULL;
    int code = session_open(&s, &o->drawing.common, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code) own = read_description(&s, o, &code);
    calo_context_free(s.ctx);
    o->made_by = own;
    if (!code) {
        if (!json_object_get(own, "refiner")) o->drawing.refiner = NULL; // that the configuration may name
        o->from_settings = settings_of(o, own);
        if (take_settings(o)) code = CALO_ERR_DATA;
        if (!code && options_peek(&TXT2IMG_LINE, o, argc, argv) < 0) code = CALO_ERR_USAGE;
    }
    return code;
}

int cmd_txt2img(int argc, char **argv) {
    options o = {.drawing = drawing_defaults(), .output = "calotype-{seed}.png", .preview_interval = 1};
    drawing_leave_open(&o.drawing);
    char **all = calloc((size_t)argc + 1, sizeof *all); // the flags are read once more behind --from
    if (!all) return CALO_ERR_TEMP;
    memcpy(all, argv, (size_t)argc * sizeof *all);
    int n = session_options(&TXT2IMG_LINE, &o.drawing.common, argc, argv), code = options_code(n);
    if (n >= 0 && o.from) code = apply_from(&o, argc, all);
    free(all);
    if (n < 0) return code;
    job j = {.o = &o, .count = o.drawing.count, .seed = choose_seed(o.drawing.seed)};
    // Who sets a limit of memory is told what it leads to.
    calo_log_level level = o.drawing.common.max_memory ? CALO_LOG_INFO : CALO_LOG_WARN;
    if (!code)
        code = session_open(&j.s, &o.drawing.common, CALO_PRECISION_AUTO, level);
    else
        j.s = (session){.options = &o.drawing.common};
    if (!code) code = work(&j);
    session_close(&j.s);
    json_decref(o.from_settings);
    json_decref(o.made_by);
    return code;
}
