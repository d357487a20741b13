// Two small models, equal but for scheduler_config.json, learn the same pictures from the same start: one
// with Stable Diffusion's schedule, which keeps some signal in its last step, one with the same schedule
// rescaled to zero terminal SNR. Both predict v, since ε says nothing at zero SNR. All pictures are drawn
// with DDIM from the same noise.
#include "assets/world/reproduce/zsnr.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "assets/world/caption.h"
#include "assets/world/picture.h"
#include "assets/world/reproduce/claims.h"
#include "assets/world/reproduce/gallery.h"
#include "assets/world/reproduce/small_model.h"
#include "assets/world/source.h"
#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/train/sheet.h"
#include "core/train/train.h"

// ---- how large

typedef struct {
    int64_t samples; // of each training
    int prompts, each;
    int steps, many; // of a usual and of a long sampling
} scale;

static const scale QUICK = {3000, 8, 4, 12, 30}, FULL = {120000, 48, 4, 25, 100};

// ---- the pictures that are drawn, each set when it is first asked for

typedef enum { FLAWED, FIXED, MODELS } which;
static const char *const MODEL_NAME[MODELS] = {"flawed", "fixed"};

enum {
    FLAWED_FIRST, // what the first step alone believes the picture to be
    FIXED_FIRST,
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
} SET[SETS] = {
    [FLAWED_FIRST] = {FLAWED, FIRST_STEP, CALO_SPACING_TRAILING, 1, 0},
    [FIXED_FIRST] = {FIXED, FIRST_STEP, CALO_SPACING_TRAILING, 1, 0},
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
    calo_context *ctx;
    calo_model *model[MODELS];
    const char **prompts; // [scale->prompts]
    gallery data;         // one picture of each prompt's scene
    gallery set[SETS];
    arena mem;
} zsnr;

static status drawn(zsnr *z, int set, const gallery **g, error *err) {
    const scale *c = z->scale;
    const int steps[] = {1, 5, c->steps, c->many};
    gallery_style style = {steps[SET[set].steps], SET[set].spacing, SET[set].guidance, SET[set].rescale};
    *g = &z->set[set];
    if (z->set[set].pixels) return OK;
    return gallery_draw(z->ctx, z->model[SET[set].model], z->prompts, c->prompts, c->each, &style,
                        &z->set[set], err);
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

// ---- prompts and the data's own pictures

// Every fourth prompt tells of a black, every fourth of a white background; the others are as training shows
// them.
enum { OF_BLACK, OF_WHITE, KINDS_OF_PROMPT = 4 };
static const uint64_t UNSEEN = 0x7a736e72u; // far from the seeds of training

static scene scene_of_prompt(int i) {
    static const int wanted[KINDS_OF_PROMPT] = {BG_BLACK, BG_WHITE, -1, -1};
    uint64_t first = (uint64_t)i << 20;
    scene s;
    do s = scene_sample(UNSEEN, first++, (scene_choice){.split = SPLIT_TRAIN, .count = 1});
    while (wanted[i % KINDS_OF_PROMPT] >= 0 && s.background != wanted[i % KINDS_OF_PROMPT]);
    return s;
}

static status make_prompts(zsnr *z, error *err) {
    int n = z->scale->prompts, side = SMALL_MODEL_SIDE;
    z->prompts = mem_calloc((size_t)n, sizeof *z->prompts);
    z->data = (gallery){n, side, mem_calloc((size_t)n * (size_t)side * (size_t)side * 3, sizeof(float))};
    if (!z->prompts || !z->data.pixels) return fail(err, ERR_TEMP, "out of memory");
    status s = OK;
    for (int i = 0; i < n && !s; i++) {
        char text[CAPTION_SIZE];
        scene sc = scene_of_prompt(i);
        caption_full(&sc, text);
        if (!(z->prompts[i] = arena_printf(&z->mem, "%s", text))) return fail(err, ERR_TEMP, "out of memory");
        s = picture_f32(&sc, side, side, z->data.pixels + (size_t)i * (size_t)side * (size_t)side * 3, err);
    }
    return s;
}

// ---- measures of one set

static double spread(const zsnr *z, const gallery *g) { return gallery_spread(g) / gallery_spread(&z->data); }

static double distance(const zsnr *z, const gallery *g) { return gallery_distance(g, &z->data); }

static double overexposed(const zsnr *z, const gallery *g) {
    (void)z;
    return gallery_overexposed(g, 0.1);
}

// Mean brightness over all pictures of a kind of prompt; data has one picture for each prompt.
static double brightness_of(const gallery *g, int each, int kind) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < g->n; i++)
        if (i / each % KINDS_OF_PROMPT == kind) sum += gallery_brightness(g, i), n++;
    return sum / n;
}

// How far black pictures are from white ones, as a share of what the data shows.
static double range(const zsnr *z, const gallery *g) {
    int each = z->scale->each;
    double white = brightness_of(g, each, OF_WHITE), black = brightness_of(g, each, OF_BLACK);
    return (white - black) / (brightness_of(&z->data, 1, OF_WHITE) - brightness_of(&z->data, 1, OF_BLACK));
}

// Variance of brightness over the seeds of one prompt, mean over prompts, as a share of the data's.
static double seed_share(const zsnr *z, const gallery *g) {
    int each = z->scale->each;
    double sum = 0, data = gallery_spread(&z->data);
    for (int p = 0; p < z->scale->prompts; p++) {
        gallery one = {each, g->side, g->pixels + (size_t)(p * each) * (size_t)g->side * (size_t)g->side * 3};
        double s = gallery_spread(&one);
        sum += s * s;
    }
    return sum / z->scale->prompts / (data * data);
}

// ---- the claims

static status first_step(void *z, double *v, error *err) {
    return measure(z, (int[]){FLAWED_FIRST, FIXED_FIRST}, 2, seed_share, v, err);
}
static bool first_step_holds(const double *v) { return v[1] < 0.05 && v[0] > 2 * v[1]; }

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
    r.prompt = z->prompts[0];
    r.sampler = "ddim";
    r.steps = 1;
    r.prediction = CALO_PREDICT_EPS;
    r.no_hash = 1;
    v[0] = calo_txt2img(z->model[FIXED], &r, &images) == CALO_ERR_USAGE;
    calo_images_free(images);
    return OK;
}
static bool is_one(const double *v) { return v[0] == 1; }

// A quick run's models have not learned what captions say. There the first step (0.181 with the fix), the
// extremes (0.050) and guidance (0.479, 0.510, 0.542) were measured and do not hold; these rows, and the
// distances to the data, which were not tried, are for the full run.
static const claim CLAIMS[] = {
    {"The first step does not look at the noise",
     "variance over seeds of the first step's mean brightness, as a share of the data's: below 0.05 with the "
     "fix, more than twice that without",
     {"flawed", "fixed"},
     first_step,
     first_step_holds,
     true},
    {"Mid-grey pictures are gone",
     "standard deviation of mean brightness as a share of the data's: nearer to 1 with the fix, and within "
     "0.2",
     {"flawed, leading", "flawed, trailing", "fixed"},
     brightness,
     brightness_holds,
     false},
    {"Black and white are reached",
     "white minus black backgrounds as a share of the data's: above 0.9 with the fix, less without",
     {"flawed", "fixed"},
     extremes,
     extremes_hold,
     true},
    {"Guidance 7.5 over-exposes, rescaling it helps",
     "share of values more than 0.1 out of range: falls from φ = 0 to 0.35 to 0.7",
     {"φ = 0", "φ = 0.35", "φ = 0.7"},
     guidance,
     guidance_holds,
     true},
    {"Few steps want trailing timesteps",
     "at 5 steps, distance from the same seed's picture at many steps: leading > linspace > trailing",
     {"leading", "linspace", "trailing"},
     five_steps,
     five_hold,
     false},
    {"and are then nearest to the data",
     "at 5 steps, energy distance to the data: leading > linspace > trailing",
     {"leading", "linspace", "trailing"},
     five_to_data,
     five_hold,
     true},
    {"v-prediction is needed (fix 1)",
     "ε-prediction at zero SNR is refused: 1",
     {"refused"},
     epsilon,
     is_one,
     false},
    {"Each further fix helps (2 trailing, 3 zero SNR, 4 rescaled guidance)",
     "energy distance to the data at guidance 7.5: falls with each",
     {"none", "+2", "+3", "+4"},
     one_by_one,
     one_by_one_holds,
     true},
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
    const reproduce_request *r = user;
    return r->cancelled && r->cancelled(r->user);
}

static char *train_text(zsnr *z, const char *start, const char *out) {
    return arena_printf(&z->mem,
                        "{\"model\": \"%s\", \"out\": \"%s\", \"seed\": %llu, \"threads\": %d,"
                        " \"precision\": \"f32\", \"data\": \"world:pairs=0\", \"size\": \"%dx%d\","
                        " \"batch\": 16, \"samples\": %lld, \"cache\": %lld, \"lr\": 2e-3, \"lr_end\": 1e-4,"
                        " \"warmup\": 20, \"ema\": %s, \"time_power\": 0.75, \"log_every\": 100,"
                        " \"grid_every\": 0}",
                        start, out, (unsigned long long)z->request->seed, z->request->threads,
                        SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, (long long)z->scale->samples,
                        (long long)(z->scale->samples < 40000 ? z->scale->samples : 40000),
                        z->request->quick ? "0.97" : "0.999");
}

static status train_model(zsnr *z, which m, const char *start, const char *out, error *err) {
    train_config c;
    char *text = train_text(z, start, out);
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    status s = train_config_parse(&c, "zsnr", text, strlen(text), err);
    c.kind = TRAIN_TEXT2IMG;
    c.resume = true;
    train_hooks hooks = {z->log, (void *)(uintptr_t)z->request, stopped, world_source_open};
    log_put(z->log, LOG_LEVEL_INFO, "training the %s model", MODEL_NAME[m]);
    if (!s) s = train_run(&c, &hooks, err);
    train_config_free(&c);
    return s;
}

static status make_model(zsnr *z, which m, error *err) {
    char *out = arena_printf(&z->mem, "%s/%s", z->request->out, MODEL_NAME[m]),
         *start = arena_printf(&z->mem, "%s/start", out ? out : ""),
         *model = arena_printf(&z->mem, "%s/model", out ? out : "");
    json_t *scheduler = scheduler_of(m);
    bool room = out && start && model && scheduler;
    status s = room ? fs_mkdirs(start, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = small_model_save(start, scheduler, err);
    if (!s && !fs_is_dir(model)) s = train_model(z, m, start, out, err);
    if (!s && calo_model_open(z->ctx, model, &z->model[m]))
        s = fail(err, ERR_DATA, "%s", calo_message(z->ctx));
    json_decref(scheduler);
    return s;
}

// ---- what is left behind

// Rows: data, flawed, fixed; under guidance 7.5 flawed, fixed, and fixed with φ. One picture of a prompt.
static status save_strip(zsnr *z, const char *path, error *err) {
    static const int rows[] = {-1,           FLAWED_LEADING, FIXED_TRAILING, GUIDED_LEADING,
                               GUIDED_FIXED, GUIDED_RESCALED};
    enum { ROWS = sizeof rows / sizeof *rows, COLUMNS = 8 };
    size_t one = SMALL_MODEL_SIDE * SMALL_MODEL_SIDE * 3;
    float *pixels = mem_calloc(ROWS * COLUMNS * one, sizeof *pixels);
    status s = pixels ? OK : fail(err, ERR_TEMP, "out of memory");
    for (int r = 0; r < ROWS && !s; r++) {
        const gallery *g = &z->data;
        if (rows[r] >= 0) s = drawn(z, rows[r], &g, err);
        for (int c = 0; c < COLUMNS && !s; c++)
            memcpy(pixels + (size_t)(r * COLUMNS + c) * one,
                   g->pixels + (size_t)(c * (rows[r] < 0 ? 1 : z->scale->each)) * one, one * sizeof *pixels);
    }
    if (!s) s = sheet_save(path, pixels, ROWS * COLUMNS, SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, COLUMNS, err);
    mem_free(pixels);
    return s;
}

static status write_page(zsnr *z, const char *path, const char *table, error *err) {
    char *dir = fs_dirname(path), *strip = dir ? fs_join(dir, "reproduction-zsnr.png") : NULL;
    char *page = arena_printf(
        &z->mem,
        "# Reproduction\n\nMade by `calotype reproduce`; the same seed, instruction set and number of "
        "threads "
        "give the same table.\n\n## Zero terminal SNR (arXiv 2305.08891)\n\nTwo models of %dx%d pixels learn "
        "%lld pictures of the world each (seed %llu) and differ in their schedule only. Flawed: Stable "
        "Diffusion's. Fixed: rescaled to zero terminal SNR. Both predict v; DDIM, %d steps unless said "
        "otherwise, %d prompts with %d seeds each.\n\n%s\n![Pictures](reproduction-zsnr.png)\n\nFrom top to "
        "bottom: the data; flawed; fixed; with guidance 7.5: flawed, fixed, fixed with φ = 0.7.\n",
        SMALL_MODEL_SIDE, SMALL_MODEL_SIDE, (long long)z->scale->samples,
        (unsigned long long)z->request->seed, z->scale->steps, z->scale->prompts, z->scale->each, table);
    status s = strip && page ? fs_mkdirs(dir, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = fs_write_atomic(path, page, strlen(page), true, err);
    if (!s) s = save_strip(z, strip, err);
    mem_free(strip);
    mem_free(dir);
    return s;
}

static status write_results(zsnr *z, const finding *found, reproduce_result *result, error *err) {
    char *path = fs_join(z->request->out, "reproduction.md");
    result->broken = claims_broken(found, N_CLAIMS);
    for (int i = 0; i < N_CLAIMS; i++) result->claims += found[i].measured;
    result->table = claims_table(CLAIMS, found, N_CLAIMS);
    status s = path && result->table ? OK : fail(err, ERR_TEMP, "out of memory");
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
    if (calo_context_new(&o, &z->ctx)) return fail(err, ERR_TEMP, "%s", calo_message(z->ctx));
    return OK;
}

status reproduce_zsnr(const reproduce_request *request, const log_sink *log, reproduce_result *result,
                      error *err) {
    zsnr z = {.request = request, .log = log, .scale = request->quick ? &QUICK : &FULL};
    finding found[N_CLAIMS];
    status s = fs_mkdirs(request->out, err);
    if (!s) s = open_context(&z, err);
    if (!s) s = make_prompts(&z, err);
    for (int m = 0; m < MODELS && !s; m++) s = make_model(&z, (which)m, err);
    if (!s) s = claims_measure(CLAIMS, N_CLAIMS, &z, request->quick, found, log, err);
    if (!s) s = write_results(&z, found, result, err);
    for (int i = 0; i < SETS; i++) gallery_free(&z.set[i]);
    for (int m = 0; m < MODELS; m++) calo_model_free(z.model[m]);
    calo_context_free(z.ctx);
    gallery_free(&z.data);
    mem_free(z.prompts);
    arena_free(&z.mem);
    return s;
}
