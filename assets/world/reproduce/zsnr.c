// Two small models, equal but for scheduler_config.json, learn the same pictures from the same start: one
// with Stable Diffusion's schedule, which keeps some signal in its last step, one with the same schedule
// rescaled to zero terminal SNR. Both predict v, since ε says nothing at zero SNR. All pictures are drawn
// with DDIM from the same noise.
//
// The flaw is that the last training step still shows the picture's mean, which a model learns to read; pure
// noise, which sampling begins with, says "grey" to it. How much that weighs depends on what is left to read:
// much where the prompt is empty, little where it tells the background. Rows on the flaw itself therefore
// look at empty prompts, the others at prompts that tell all.
#include "assets/world/reproduce/zsnr.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "assets/world/reproduce/claims.h"
#include "assets/world/reproduce/gallery.h"
#include "assets/world/reproduce/lesson.h"
#include "assets/world/reproduce/reading.h"
#include "assets/world/reproduce/small_model.h"
#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/cpu/kernels.h"
#include "core/train/sheet.h"
#include "core/train/train.h"

// ---- how large

typedef struct {
    const char *name;
    int64_t samples, cache; // of each training, and how many different ones
    int batch;              // of a pass; two make an update
    double lr, ema;
    int prompts, each; // pictures of each prompt; as many are drawn of the empty one
    int steps, many;   // of a usual and of a long sampling
    int world;         // true pictures that are looked at
} scale;

// One idle core of a Zen 4 trains about 175 samples a second in bf16 and 115 in f32, and evaluates the
// network 370 times a second: two cores need about 50 (80) minutes for a full run, 3 (4) for a quick one.
static const scale SCALE[] = {
    [REPRODUCE_FULL] = {"full", 500000, 40960, 16, 2e-3, 0.999, 48, 4, 25, 100, 500},
    [REPRODUCE_QUICK] = {"quick", 24000, 8192, 8, 2e-3, 0.99, 16, 4, 12, 50, 200},
    [REPRODUCE_TINY] = {"tiny", 64, 64, 8, 1e-3, 0.9, 4, 2, 2, 3, 16},
};

// ---- the pictures that are drawn, each set when it is first asked for

typedef enum { FLAWED, FIXED, MODELS } which;
static const char *const MODEL_NAME[MODELS] = {"flawed", "fixed"};

enum {
    FLAWED_FIRST, // of the empty prompt: what the first step alone believes the picture to be
    FIXED_FIRST,
    FLAWED_OPEN, // of the empty prompt, in many steps
    FIXED_OPEN,
    FLAWED_LEADING,
    FLAWED_TRAILING,
    FIXED_TRAILING,
    FIXED_LONG,
    FIVE_LEADING,
    FIVE_LINSPACE,
    FIVE_TRAILING,
    GUIDED_LEADING,  // guidance 7.5 of the flawed model, as it is used by default
    GUIDED_TRAILING, // and from its last timestep
    GUIDED_FIXED,    // zero SNR
    GUIDED_HALF,
    GUIDED_RESCALED, // φ = 0.7
    SETS
};

typedef enum { FIRST_STEP, FIVE_STEPS, USUAL_STEPS, MANY_STEPS } length;

static const struct {
    which model;
    length steps;
    calo_spacing spacing;
    double guidance, rescale;
    bool open; // of the empty prompt
} SET[SETS] = {
    [FLAWED_FIRST] = {FLAWED, FIRST_STEP, CALO_SPACING_TRAILING, 1, 0, true},
    [FIXED_FIRST] = {FIXED, FIRST_STEP, CALO_SPACING_TRAILING, 1, 0, true},
    [FLAWED_OPEN] = {FLAWED, MANY_STEPS, CALO_SPACING_LEADING, 1, 0, true},
    [FIXED_OPEN] = {FIXED, MANY_STEPS, CALO_SPACING_TRAILING, 1, 0, true},
    [FLAWED_LEADING] = {FLAWED, USUAL_STEPS, CALO_SPACING_LEADING, 1, 0},
    [FLAWED_TRAILING] = {FLAWED, USUAL_STEPS, CALO_SPACING_TRAILING, 1, 0},
    [FIXED_TRAILING] = {FIXED, USUAL_STEPS, CALO_SPACING_TRAILING, 1, 0},
    [FIXED_LONG] = {FIXED, MANY_STEPS, CALO_SPACING_TRAILING, 1, 0},
    [FIVE_LEADING] = {FIXED, FIVE_STEPS, CALO_SPACING_LEADING, 1, 0},
    [FIVE_LINSPACE] = {FIXED, FIVE_STEPS, CALO_SPACING_LINSPACE, 1, 0},
    [FIVE_TRAILING] = {FIXED, FIVE_STEPS, CALO_SPACING_TRAILING, 1, 0},
    [GUIDED_LEADING] = {FLAWED, USUAL_STEPS, CALO_SPACING_LEADING, 7.5, 0},
    [GUIDED_TRAILING] = {FLAWED, USUAL_STEPS, CALO_SPACING_TRAILING, 7.5, 0},
    [GUIDED_FIXED] = {FIXED, USUAL_STEPS, CALO_SPACING_TRAILING, 7.5, 0},
    [GUIDED_HALF] = {FIXED, USUAL_STEPS, CALO_SPACING_TRAILING, 7.5, 0.35},
    [GUIDED_RESCALED] = {FIXED, USUAL_STEPS, CALO_SPACING_TRAILING, 7.5, 0.7},
};

typedef struct {
    const reproduce_request *request;
    const log_sink *log;
    const scale *scale;
    team *team;
    calo_context *ctx;
    calo_model *model[MODELS];
    gallery data;  // of each prompt's scene; its prompts are those of the sets
    gallery world; // of other scenes, as training shows them
    gallery set[SETS];
    arena mem;
} zsnr;

static status drawn(zsnr *z, int set, const gallery **g, error *err) {
    static const char *const open[] = {""};
    const scale *c = z->scale;
    const int steps[] = {1, 5, c->steps, c->many};
    gallery_style style = {steps[SET[set].steps], SET[set].spacing, SET[set].guidance, SET[set].rescale};
    calo_model *m = z->model[SET[set].model];
    *g = &z->set[set];
    if (z->set[set].pixels) return OK;
    if (SET[set].open)
        return gallery_draw(z->ctx, m, open, 1, c->prompts * c->each, &style, &z->set[set], err);
    return gallery_draw(z->ctx, m, z->data.prompts, c->prompts, c->each, &style, &z->set[set], err);
}

// Measures `n` sets in a row.
static status measure(zsnr *z, const int *sets, int n, double (*of)(const zsnr *, const gallery *),
                      double *value, error *err) {
    status s = OK;
    for (int i = 0; i < n && !s; i++) {
        const gallery *g;
        if (!(s = drawn(z, sets[i], &g, err))) value[i] = of(z, g);
    }
    return s;
}

// ---- prompts and true pictures

// Every fourth prompt tells of a black, every fourth of a white background; the others are as training shows
// them.
enum { OF_BLACK, OF_WHITE, KINDS_OF_PROMPT = 4 };
static const uint64_t UNSEEN = 0x7a736e72u; // far from the seeds of training

static scene scene_of_prompt(int i) {
    static const int wanted[KINDS_OF_PROMPT] = {BG_BLACK, BG_WHITE, -1, -1};
    uint64_t at = (uint64_t)i << 20;
    scene s;
    do s = lesson_scene(UNSEEN, at++);
    while (wanted[i % KINDS_OF_PROMPT] >= 0 && s.background != wanted[i % KINDS_OF_PROMPT]);
    return s;
}

static status show_world(zsnr *z, error *err) {
    int n = z->scale->prompts, world = z->scale->world;
    scene *s = arena_alloc(&z->mem, (size_t)(n + world) * sizeof *s);
    if (!s) return fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < n; i++) s[i] = scene_of_prompt(i);
    for (int i = 0; i < world; i++) s[n + i] = lesson_scene(UNSEEN + 1, (uint64_t)i);
    status st = gallery_show(z->team, s, n, SMALL_MODEL_SIDE, &z->mem, &z->data, err);
    return st ? st : gallery_show(z->team, s + n, world, SMALL_MODEL_SIDE, &z->mem, &z->world, err);
}

// ---- measures of one set

static double spread(const zsnr *z, const gallery *g) { return gallery_spread(g) / gallery_spread(&z->data); }

static double open_spread(const zsnr *z, const gallery *g) {
    return gallery_spread(g) / gallery_spread(&z->world);
}

static double open_variance(const zsnr *z, const gallery *g) {
    double s = open_spread(z, g);
    return s * s;
}

static double distance(const zsnr *z, const gallery *g) { return gallery_distance(g, &z->data); }

static double overexposed(const zsnr *z, const gallery *g) {
    (void)z;
    return gallery_overexposed(g, 0.1);
}

// Mean brightness over all pictures of a kind of prompt.
static double brightness_of(const gallery *g, int kind) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (i / g->each % KINDS_OF_PROMPT == kind) sum += gallery_brightness(g, i), n++;
    return sum / n;
}

// How far black pictures are from white ones, as a share of what the data shows.
static double range(const zsnr *z, const gallery *g) {
    return (brightness_of(g, OF_WHITE) - brightness_of(g, OF_BLACK)) /
           (brightness_of(&z->data, OF_WHITE) - brightness_of(&z->data, OF_BLACK));
}

// ---- the claims

static status first_step(void *z, double *v, error *err) {
    return measure(z, (int[]){FLAWED_FIRST, FIXED_FIRST}, 2, open_variance, v, err);
}
static bool first_step_holds(const double *v) { return v[1] < 0.05 && v[0] > 2 * v[1]; }

static status open_brightness(void *z, double *v, error *err) {
    return measure(z, (int[]){FLAWED_OPEN, FIXED_OPEN}, 2, open_spread, v, err);
}
static bool open_brightness_holds(const double *v) {
    return fabs(1 - v[1]) < fabs(1 - v[0]) && fabs(1 - v[1]) < 0.2;
}

static status brightness(void *z, double *v, error *err) {
    return measure(z, (int[]){FLAWED_LEADING, FLAWED_TRAILING, FIXED_TRAILING}, 3, spread, v, err);
}
static bool brightness_holds(const double *v) {
    return fabs(1 - v[2]) < fabs(1 - v[0]) && fabs(1 - v[2]) < 0.2;
}

static status extremes(void *z, double *v, error *err) {
    return measure(z, (int[]){FLAWED_LEADING, FIXED_TRAILING}, 2, range, v, err);
}
static bool extremes_hold(const double *v) { return v[1] > v[0] && v[1] > 0.9; }

static status guidance(void *z, double *v, error *err) {
    return measure(z, (int[]){GUIDED_FIXED, GUIDED_HALF, GUIDED_RESCALED}, 3, overexposed, v, err);
}
static bool guidance_holds(const double *v) { return v[0] > v[1] && v[1] > v[2]; }

static double from_long(const zsnr *z, const gallery *g) {
    return gallery_difference(g, &z->set[FIXED_LONG]);
}

static status five_steps(void *self, double *v, error *err) {
    zsnr *z = self;
    const gallery *many;
    status s = drawn(z, FIXED_LONG, &many, err);
    return s ? s : measure(z, (int[]){FIVE_LEADING, FIVE_LINSPACE, FIVE_TRAILING}, 3, from_long, v, err);
}
static bool five_hold(const double *v) { return v[0] > v[1] && v[1] > v[2]; }

static status five_to_data(void *z, double *v, error *err) {
    return measure(z, (int[]){FIVE_LEADING, FIVE_LINSPACE, FIVE_TRAILING}, 3, distance, v, err);
}

static status one_by_one(void *z, double *v, error *err) {
    return measure(z, (int[]){GUIDED_LEADING, GUIDED_TRAILING, GUIDED_FIXED, GUIDED_RESCALED}, 4, distance, v,
                   err);
}
static bool one_by_one_holds(const double *v) { return v[0] > v[1] && v[1] > v[2] && v[2] > v[3]; }

// ε at zero SNR: 1 if the program refuses, which it must.
static status epsilon(void *self, double *v, error *err) {
    zsnr *z = self;
    calo_images *images = NULL;
    calo_txt2img_request r = calo_txt2img_defaults();
    (void)err;
    r.prompt = z->data.prompts[0];
    r.sampler = "ddim";
    r.steps = 1;
    r.prediction = CALO_PREDICT_EPS;
    r.no_hash = 1;
    v[0] = calo_txt2img(z->model[FIXED], &r, &images) == CALO_ERR_USAGE;
    calo_images_free(images);
    return OK;
}
static bool is_one(const double *v) { return v[0] == 1; }

static const char NEAR_TIE[] = "linspace and trailing, which both begin at the last timestep, are a near tie "
                               "for models that know backgrounds but no objects yet";

static const claim CLAIMS[] = {
    {"The first step does not look at the noise",
     "variance over seeds of the first step's mean brightness, empty prompt, as a share of the data's: below "
     "0.05 with the fix, more than twice that without",
     {"flawed", "fixed"},
     first_step,
     first_step_holds,
     "after 1,500 updates the model still reads a mean where there is none; few timesteps have none, "
     "and those just before them show one"},
    {"Brightness is the data's, not the noise's",
     "standard deviation of mean brightness, empty prompt, many steps, as a share of the data's: nearer to 1 "
     "with the fix, and within 0.2",
     {"flawed", "fixed"},
     open_brightness,
     open_brightness_holds,
     NULL},
    {"Mid-grey pictures are gone",
     "the same over prompts that tell the background: nearer to 1 with the fix, and within 0.2",
     {"flawed, leading", "flawed, trailing", "fixed"},
     brightness,
     brightness_holds,
     NULL},
    {"Black and white are reached",
     "white minus black backgrounds as a share of the data's: above 0.9 with the fix, less without",
     {"flawed", "fixed"},
     extremes,
     extremes_hold,
     NULL},
    {"Guidance 7.5 over-exposes, rescaling it helps",
     "share of values more than 0.1 out of range: falls from φ = 0 to 0.35 to 0.7",
     {"φ = 0", "φ = 0.35", "φ = 0.7"},
     guidance,
     guidance_holds,
     NULL},
    {"Few steps want trailing timesteps",
     "at 5 steps, distance from the same seed's picture at many steps: leading > linspace > trailing",
     {"leading", "linspace", "trailing"},
     five_steps,
     five_hold,
     NEAR_TIE},
    {"and are then nearest to the data",
     "at 5 steps, energy distance to the data: leading > linspace > trailing",
     {"leading", "linspace", "trailing"},
     five_to_data,
     five_hold,
     NEAR_TIE},
    {"v-prediction is needed (fix 1)",
     "ε-prediction at zero SNR is refused: 1",
     {"refused"},
     epsilon,
     is_one,
     NULL},
    {"Each further fix helps (2 trailing, 3 zero SNR, 4 rescaled guidance)",
     "energy distance to the data at guidance 7.5: falls with each",
     {"none", "+2", "+3", "+4"},
     one_by_one,
     one_by_one_holds,
     NULL},
};
enum { N_CLAIMS = sizeof CLAIMS / sizeof *CLAIMS };

// ---- training

static json_t *scheduler_of(which m) {
    return json_pack("{s:s, s:i, s:f, s:f, s:s, s:b, s:b, s:i, s:s, s:b, s:s}", "_class_name",
                     "DDIMScheduler", "num_train_timesteps", 1000, "beta_start", 0.00085, "beta_end", 0.012,
                     "beta_schedule", "scaled_linear", "clip_sample", 0, "set_alpha_to_one", 1,
                     "steps_offset", 1, "prediction_type", "v_prediction", "rescale_betas_zero_snr",
                     m == FIXED, "timestep_spacing", m == FIXED ? "trailing" : "leading");
}

static bool stopped(void *user) {
    const reproduce_request *r = ((const zsnr *)user)->request;
    return r->cancelled && r->cancelled(r->user);
}

static void tell(void *user, const calo_train_event *e) {
    const zsnr *z = user;
    if (!e->due || !e->seconds) return;
    log_put(z->log, LOG_LEVEL_INFO, "update %lld of %lld, loss %.4f, %.0f samples/s, %.0f s left",
            (long long)e->update, (long long)e->updates, e->loss, e->samples_per_second, e->left);
}

static const char *const PRECISIONS[] = {
    [CALO_PRECISION_AUTO] = "auto", [CALO_PRECISION_F32] = "f32", [CALO_PRECISION_BF16] = "bf16"};

// Two passes an update, so that each of two threads has one for itself.
static char *train_text(zsnr *z, const char *start, const char *out) {
    const scale *c = z->scale;
    return arena_printf(&z->mem,
                        "{\"model\": \"%s\", \"out\": \"%s\", \"seed\": %llu, \"threads\": %d,"
                        " \"precision\": \"%s\", \"data\": \"lesson:\", \"size\": \"%dx%d\","
                        " \"batch\": %d, \"accumulate\": 2, \"samples\": %lld, \"cache\": %lld,"
                        " \"lr\": %g, \"lr_end\": %g, \"warmup\": 30, \"ema\": %g, \"caption_dropout\": 0.15,"
                        " \"time_power\": 0.75, \"log_every\": 100, \"grid_every\": 0}",
                        start, out, (unsigned long long)z->request->seed, z->request->threads,
                        PRECISIONS[z->request->precision], SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, c->batch,
                        (long long)c->samples, (long long)c->cache, c->lr, c->lr / 20, c->ema);
}

// A finished run is gone through again in no time: its checkpoint is at the end.
static status train_model(zsnr *z, which m, const char *start, const char *out, error *err) {
    train_config c;
    char *text = train_text(z, start, out);
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    status s = train_config_parse(&c, "zsnr", text, strlen(text), err);
    c.kind = TRAIN_TEXT2IMG;
    c.resume = true;
    train_hooks hooks = {
        .log = z->log, .user = z, .cancelled = stopped, .event = tell, .open_source = lesson_open};
    log_put(z->log, LOG_LEVEL_INFO, "training the %s model", MODEL_NAME[m]);
    if (!s) s = train_run(&c, &hooks, err);
    train_config_free(&c);
    return s;
}

static status make_model(zsnr *z, which m, error *err) {
    char *out = arena_printf(&z->mem, "%s/zsnr-%s/%s", z->request->out, z->scale->name, MODEL_NAME[m]),
         *start = arena_printf(&z->mem, "%s/start", out ? out : ""),
         *model = arena_printf(&z->mem, "%s/model", out ? out : "");
    json_t *scheduler = scheduler_of(m);
    bool room = out && start && model && scheduler;
    status s = room ? fs_mkdirs(start, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = small_model_save(start, scheduler, err);
    if (!s) s = train_model(z, m, start, out, err);
    if (!s && calo_model_open(z->ctx, model, &z->model[m]))
        s = fail(err, ERR_DATA, "%s", calo_message(z->ctx));
    json_decref(scheduler);
    return s;
}

// ---- what is left behind

// One picture of a prompt in each of these, below the data's.
static const struct {
    int set;
    const char *name;
} SHOWN[] = {{FLAWED_LEADING, "flawed"},
             {FIXED_TRAILING, "fixed"},
             {GUIDED_LEADING, "flawed, guidance 7.5"},
             {GUIDED_FIXED, "fixed, guidance 7.5"},
             {GUIDED_RESCALED, "fixed, guidance 7.5, φ = 0.7"}};
enum { N_SHOWN = sizeof SHOWN / sizeof *SHOWN, COLUMNS = 8 };

static status save_strip(zsnr *z, const char *path, error *err) {
    int columns = z->scale->prompts < COLUMNS ? z->scale->prompts : COLUMNS;
    size_t one = gallery_values(&z->data);
    float *pixels = mem_calloc((size_t)((N_SHOWN + 1) * columns) * one, sizeof *pixels), *to = pixels;
    status s = pixels ? OK : fail(err, ERR_TEMP, "out of memory");
    for (int r = -1; r < N_SHOWN && !s; r++) {
        const gallery *g = &z->data;
        if (r >= 0) s = drawn(z, SHOWN[r].set, &g, err);
        for (int c = 0; c < columns && !s; c++, to += one)
            memcpy(to, g->pixels + (size_t)(c * g->each) * one, one * sizeof *pixels);
    }
    if (!s)
        s = sheet_save(path, pixels, (N_SHOWN + 1) * columns, SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, columns,
                       err);
    mem_free(pixels);
    return s;
}

static const char *about(zsnr *z) {
    const scale *c = z->scale;
    calo_precision p = z->request->precision;
    const char *all = arena_printf(
        &z->mem,
        "# Reproduction\n\nMade by `calotype reproduce`; the same seed, instruction set and number of "
        "threads "
        "give the same table.\n\n## Zero terminal SNR (arXiv 2305.08891)\n\nThis is the %s run (seed %llu, "
        "%s%s%s, "
        "threads: %d). Two models of %d×%d pixels learn %lld pictures of the world each, one object on a "
        "plain "
        "background, and differ in their schedule only. Flawed: Stable Diffusion's, leading timesteps. "
        "Fixed: "
        "rescaled to zero terminal SNR, trailing timesteps. Both predict v; DDIM, %d steps unless said "
        "otherwise, many steps are %d; %d prompts with %d seeds each, the empty prompt with %d.\n\n",
        c->name, (unsigned long long)z->request->seed, cpu_level_name(cpu_level_within(CPU_BEST)),
        p ? " in " : "", p ? PRECISIONS[p] : "", team_size(z->team), SMALL_MODEL_SIDE, SMALL_MODEL_SIDE,
        (long long)c->samples, c->steps, c->many, c->prompts, c->each, c->prompts * c->each);
    return all;
}

static status write_page(zsnr *z, const char *path, const char *table, error *err) {
    char *dir = fs_dirname(path), *strip = dir ? fs_join(dir, "reproduction-zsnr.png") : NULL;
    const char *page = about(z);
    if (page)
        page = arena_printf(
            &z->mem, "%s%s\n![Pictures](reproduction-zsnr.png)\n\nFrom top to bottom: the data", page, table);
    for (int i = 0; i < N_SHOWN && page; i++) page = arena_printf(&z->mem, "%s; %s", page, SHOWN[i].name);
    if (page) page = arena_printf(&z->mem, "%s.\n", page);
    status s = strip && page ? fs_mkdirs(dir, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = fs_write_atomic(path, page, strlen(page), true, err);
    if (!s) s = save_strip(z, strip, err);
    mem_free(strip);
    mem_free(dir);
    return s;
}

// Both tables, into result->table.
static status make_table(zsnr *z, const finding *found, reproduce_result *result, error *err) {
    reading_row rows[N_SHOWN];
    char *read = NULL, *claims = NULL;
    status s = OK;
    for (int i = 0; i < N_SHOWN && !s; i++) {
        rows[i].name = SHOWN[i].name;
        s = drawn(z, SHOWN[i].set, &rows[i].pictures, err);
    }
    if (!s) s = reading_table(z->request->recogniser, z->team, &z->world, rows, N_SHOWN, &read, err);
    if (!s) claims = claims_table(CLAIMS, found, N_CLAIMS, z->request->size == REPRODUCE_QUICK);
    const char *both = read && claims ? arena_printf(&z->mem, "%s\n%s", claims, read) : NULL;
    if (!s && !(result->table = both ? mem_strdup(both) : NULL)) s = fail(err, ERR_TEMP, "out of memory");
    mem_free(claims);
    mem_free(read);
    return s;
}

static status write_results(zsnr *z, const finding *found, reproduce_result *result, error *err) {
    char *path = fs_join(z->request->out, "reproduction.md");
    result->claims = N_CLAIMS;
    result->broken = claims_broken(found, N_CLAIMS);
    result->unexpected = claims_unexpected(CLAIMS, found, N_CLAIMS, z->request->size == REPRODUCE_QUICK);
    status s = path ? make_table(z, found, result, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = write_page(z, path, result->table, err);
    if (!s && z->request->docs) s = write_page(z, z->request->docs, result->table, err);
    mem_free(path);
    return s;
}

static status open_context(zsnr *z, error *err) {
    calo_context_options o = calo_context_defaults();
    o.threads = z->request->threads;
    o.precision = CALO_PRECISION_F32;
    o.cancelled = z->request->cancelled;
    o.user = z->request->user;
    z->team = team_new(z->request->threads);
    if (!z->team || calo_context_new(&o, &z->ctx)) return fail(err, ERR_TEMP, "out of memory");
    return OK;
}

status reproduce_zsnr(const reproduce_request *request, const log_sink *log, reproduce_result *result,
                      error *err) {
    zsnr z = {.request = request, .log = log, .scale = &SCALE[request->size]};
    finding found[N_CLAIMS];
    status s = fs_mkdirs(request->out, err);
    if (!s) s = open_context(&z, err);
    if (!s) s = show_world(&z, err);
    for (int m = 0; m < MODELS && !s; m++) s = make_model(&z, (which)m, err);
    if (!s) s = claims_measure(CLAIMS, N_CLAIMS, &z, found, log, err);
    if (!s) s = write_results(&z, found, result, err);
    for (int i = 0; i < SETS; i++) gallery_free(&z.set[i]);
    for (int m = 0; m < MODELS; m++) calo_model_free(z.model[m]);
    calo_context_free(z.ctx);
    team_free(z.team);
    gallery_free(&z.data);
    gallery_free(&z.world);
    arena_free(&z.mem);
    return s;
}
