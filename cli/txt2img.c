// calotype txt2img: pictures from a prompt.
#include "cli/commands.h"
#include "cli/session.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

typedef struct {
    common common;
    const char *prompt, *negative, *output, *sampler, *init_latents, *save_latents;
    int width, height, steps, scheduler, prediction, zero_snr, count, rng, quality;
    double cfg_scale, cfg_rescale;
    long long seed;
    bool force, no_metadata;
} options;

static const char *const SCHEDULERS[] = {"auto", "leading", "linspace", "trailing", "karras", NULL};
static const char *const PREDICTIONS[] = {"auto", "eps", "v", "x0", NULL};
static const char *const RNGS[] = {"cpu", "nv", NULL};

#define AT(field) offsetof(options, field)
static const option OPTIONS[] = {
    {'p', "prompt", OPTION_TEXT, AT(prompt), "TEXT", "what to draw"},
    {'n', "negative-prompt", OPTION_TEXT, AT(negative), "TEXT", "what to keep away from"},
    {'o', "output", OPTION_TEXT, AT(output), "FILE",
     "png, jpg or webp; {seed} and {i} are filled in (calotype-{seed}.png)"},
    {0, "force", OPTION_FLAG, AT(force), NULL, "replace existing files"},
    {'W', "width", OPTION_INT, AT(width), "N", "pixels (default: as the model was trained)", 1, 8192},
    {'H', "height", OPTION_INT, AT(height), "N", "pixels", 1, 8192},
    {0, "steps", OPTION_INT, AT(steps), "N", "sampling steps (20)", 1, 1000},
    {0, "cfg-scale", OPTION_REAL, AT(cfg_scale), "X", "guidance; 1 is none (7)", -1000, 1000},
    {0, "cfg-rescale", OPTION_REAL, AT(cfg_rescale), "X", "0 to 1 (0.7 for a zero-SNR model, else 0)", 0, 1},
    {0, "sampling-method", OPTION_TEXT, AT(sampler), "NAME", "see below (default: the model's, or dpmpp_2m)",
     .names = calo_sampler_name},
    {0, "scheduler", OPTION_CHOICE, AT(scheduler), "NAME",
     "leading, linspace, trailing or karras (the model's)", .choices = SCHEDULERS},
    {0, "prediction", OPTION_CHOICE, AT(prediction), "NAME", "eps, v or x0 (the model's)",
     .choices = PREDICTIONS},
    {0, "zero-snr", OPTION_SET, AT(zero_snr), NULL, "rescale the schedule to zero terminal SNR",
     .value = CALO_ZERO_SNR_ON},
    {0, "no-zero-snr", OPTION_SET, AT(zero_snr), NULL, "leave it as it is", .value = CALO_ZERO_SNR_OFF},
    {'s', "seed", OPTION_LONG, AT(seed), "N", "picture i has seed + i; negative: random (-1)", -1e18, 1e18},
    {'b', "batch-count", OPTION_INT, AT(count), "N", "pictures (1)", 1, 100000},
    {0, "rng", OPTION_CHOICE, AT(rng), "NAME", "cpu or nv: which program's noise a seed means (cpu)",
     .choices = RNGS},
    {0, "init-latents", OPTION_TEXT, AT(init_latents), "FILE",
     "unit noise to start from: F32 latents [B,C,h,w]"},
    {0, "save-latents", OPTION_TEXT, AT(save_latents), "FILE", "write what goes to the autoencoder"},
    {0, "quality", OPTION_INT, AT(quality), "N", "of jpg and webp (95; webp: lossless)", 1, 100},
    {0, "no-metadata", OPTION_FLAG, AT(no_metadata), NULL, "do not write into the picture how it was made"},
    {0, "disable-image-metadata", OPTION_FLAG, AT(no_metadata), NULL, NULL},
    {0}};

const command_line TXT2IMG_LINE = {
    "txt2img",
    "-p TEXT [-o FILE] [OPTION...]",
    "Draws pictures from a prompt.",
    "samplers: ddim, ddpm, euler, euler_a, dpmpp_2m; names as other programs spell them are understood\n"
    "(\"DPM++ 2M Karras\"). The names of the files are printed on standard output.",
    {OPTIONS, COMMON_OPTIONS},
    0};

typedef struct {
    session s;
    const options *o;
    int count, done;
    unsigned long long seed;
    calo_tensor latents; // collected for --save-latents
    float *values;
} job;

// ---- names of files

static size_t add_text(char *path, size_t at, const char *text) {
    size_t n = strlen(text);
    if (at + n < PATH_MAX) memcpy(path + at, text, n + 1);
    return at + n;
}

// Fills in {seed} and {i}, counted from 1; with several pictures a pattern without either is numbered before
// its extension. false when the path is too long.
static bool name_of(const job *j, int index, char path[PATH_MAX]) {
    const char *pattern = j->o->output;
    char seed[24], number[16], numbered[16];
    bool unnumbered = j->count > 1 && !strstr(pattern, "{seed}") && !strstr(pattern, "{i}");
    const char *slash = strrchr(pattern, '/'), *dot = strrchr(slash ? slash : pattern, '.');
    size_t at = 0;
    snprintf(seed, sizeof seed, "%llu", j->seed + (unsigned long long)index);
    snprintf(number, sizeof number, "%d", index + 1);
    snprintf(numbered, sizeof numbered, "-%d", index + 1);
    path[0] = 0;
    for (const char *p = pattern; *p;) {
        if (unnumbered && p == dot) at = add_text(path, at, numbered);
        bool is_seed = !strncmp(p, "{seed}", 6), is_number = !strncmp(p, "{i}", 3);
        at = add_text(path, at, is_seed ? seed : is_number ? number : (char[]){*p, 0});
        p += is_seed ? 6 : is_number ? 3 : 1;
    }
    return at < PATH_MAX;
}

// Refuses before the work what would be refused after it.
static int check_name(job *j, const char *path) {
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    if (access(slash ? dir : ".", W_OK))
        return session_fail(&j->s, CALO_ERR_CANTCREAT, "%s: cannot be created: %s", path, strerror(errno));
    if (!j->o->force && !access(path, F_OK))
        return session_fail(&j->s, CALO_ERR_CANTCREAT, "%s: is there already (--force replaces it)", path);
    return 0;
}

static bool has_format(const char *path) {
    static const char *const KNOWN[] = {".png", ".jpg", ".jpeg", ".webp"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!strcasecmp(dot, KNOWN[i])) return true;
    return false;
}

static int check_names(job *j) {
    char path[PATH_MAX];
    int code = 0;
    for (int i = 0; i < j->count && !code; i++) {
        if (!name_of(j, i, path)) return session_fail(&j->s, CALO_ERR_USAGE, "the output's name is too long");
        if (!has_format(path))
            return session_fail(&j->s, CALO_ERR_USAGE, "%s: name a .png, .jpg or .webp file", path);
        code = check_name(j, path);
    }
    return code || !j->o->save_latents ? code : check_name(j, j->o->save_latents);
}

// ---- results

static void announce(const job *j, const char *path, const calo_image *im) {
    if (!j->o->common.json) {
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

static calo_status receive(void *user, const calo_image *im) {
    job *j = user;
    char path[PATH_MAX];
    calo_save_options save = calo_save_defaults();
    save.overwrite = j->o->force;
    save.no_metadata = j->o->no_metadata;
    save.quality = j->o->quality;
    if (!name_of(j, j->done, path)) return CALO_ERR_USAGE;
    session_clear(&j->s);
    calo_status status = calo_image_save(j->s.ctx, im, path, &save);
    if (!status && j->o->save_latents) status = keep_latents(j, im);
    if (status) return status;
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

static calo_txt2img_request request_of(const options *o, job *j) {
    calo_txt2img_request r = calo_txt2img_defaults();
    r.prompt = o->prompt;
    r.negative_prompt = o->negative;
    r.width = o->width;
    r.height = o->height;
    r.steps = o->steps;
    r.cfg_scale = o->cfg_scale;
    r.cfg_rescale = o->cfg_rescale;
    r.sampler = o->sampler;
    r.spacing = (calo_spacing)o->scheduler;
    r.prediction = (calo_prediction)o->prediction;
    r.zero_snr = (calo_zero_snr)o->zero_snr;
    r.rng = (calo_rng)o->rng;
    r.seed = j->seed;
    r.count = j->count;
    r.no_hash = o->no_metadata;
    r.on_image = receive;
    r.user = j;
    return r;
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

static int draw(job *j, calo_model *m, const calo_tensor *init) {
    calo_txt2img_request r = request_of(j->o, j);
    if (init->name) r.init_latents = init;
    int code = session_end(&j->s, calo_txt2img(m, &r, NULL));
    if (!code && j->o->save_latents)
        code =
            session_end(&j->s, calo_tensors_save(j->s.ctx, &j->latents, 1, j->o->save_latents, j->o->force));
    if (!code && j->o->common.json)
        printf("{\"event\":\"done\",\"images\":%d,\"seconds\":%.6f}\n", j->done, session_seconds(&j->s));
    if (!code)
        session_say(&j->s, "%d picture%s in %.2f s, seed %llu, %s", j->done, j->done == 1 ? "" : "s",
                    session_seconds(&j->s), j->seed, calo_precision_name(j->s.ctx));
    return code;
}

static int work(job *j) {
    calo_model *m = NULL;
    calo_tensors *file = NULL;
    calo_tensor init = {0};
    int code = 0;
    if (!j->o->prompt)
        code = session_fail(&j->s, CALO_ERR_USAGE, "what to draw? Give a prompt with -p \"...\"");
    if (!code && j->o->init_latents) code = load_init(j, &file, &init);
    if (!code && !j->count) j->count = 1;
    if (!code) code = check_names(j);
    if (!code) code = session_model(&j->s, &m);
    if (!code) code = draw(j, m, &init);
    free(j->values);
    calo_tensors_free(file);
    calo_model_free(m);
    return code;
}

int cmd_txt2img(int argc, char **argv) {
    options o = {.common = common_defaults(),
                 .output = "calotype-{seed}.png",
                 .steps = 20,
                 .cfg_scale = 7,
                 .cfg_rescale = -1,
                 .seed = -1};
    int n = session_options(&TXT2IMG_LINE, &o.common, argc, argv);
    if (n < 0) return n == -1 ? CALO_ERR_USAGE : 0;
    job j = {.o = &o, .count = o.count, .seed = choose_seed(o.seed)};
    int code = session_open(&j.s, &o.common, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code) code = work(&j);
    session_close(&j.s);
    return code;
}
