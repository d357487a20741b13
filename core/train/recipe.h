// What is learned, seen from the loop that teaches it: graphs of a loss, their inputs for each pass, samples
// to look at and a model to leave behind. One recipe a file; recipe_make knows them all.
#pragma once
#include "core/base/rng.h"
#include "core/graph/runner.h"
#include "core/train/params.h"
#include "core/train/train.h"

enum { RECIPE_VARIANTS_MAX = 2 * TRAIN_SIZES_MAX };

// What the loop lends its recipe.
typedef struct {
    const train_config *config;
    const train_hooks *hooks;
    const log_sink *log;
    team *team;
    backend *backend;
    workspace *workspace; // for execs, one running at a time
    dtype compute;
    params *params;
    int stage; // index into config->stage
} train_context;

typedef struct recipe {
    void *self;
    const char *kind; // stands in checkpoints
    // Makes ready for context->stage: sources, caches.
    status (*enter)(void *self, error *err);
    // Which graph pass number `pass` of the stage runs, from 0 to RECIPE_VARIANTS_MAX − 1.
    int (*variant)(void *self, int64_t pass);
    // Builds the loss, a scalar of g->exact, with weights from context->params.
    node *(*loss)(void *self, graph *g, int variant);
    // (optional) Replaces the starting values of a new run's parameters.
    status (*start)(void *self, error *err);
    // Fills the inputs: a pure function of configuration, stage and pass.
    status (*fill)(void *self, exec *e, int variant, int64_t pass, error *err);
    // Writes a picture that shows what the moving averages can do.
    status (*grid)(void *self, const char *path, error *err);
    // Writes the finished model below `dir`.
    status (*finish)(void *self, const char *dir, error *err);
    void (*free)(void *self);
} recipe;

// Makes a recipe; `context` outlives it. Free with recipe_free, on failure too.
typedef status recipe_maker(recipe *r, train_context *context, error *err);
void recipe_free(recipe *r);

recipe_maker recipe_make; // of context->config->kind

// train_run with a recipe of the caller's own.
status train_recipe(const train_config *c, const train_hooks *hooks, recipe_maker *make, error *err);

status recipe_vae(recipe *r, train_context *context, error *err);
status recipe_text2img(recipe *r, train_context *context, error *err); // from nothing, and fine-tuning

// Opens the stage's data: a folder, or what the hooks make of "word:…".
status recipe_source(const train_context *context, bool captions, sample_source *source, error *err);

// The type in which finished weights are written.
dtype recipe_export_type(const train_context *context);

// ---- graphs that run now and then beside training

// Starts a graph of the run's precision over these weights.
static inline void recipe_graph(const train_context *x, graph *g, const weights *from) {
    graph_init(g, x->compute);
    g->weights = from;
}

// runner_init on the run's backend and in its workspace.
static inline status recipe_runner(runner *r, const train_context *x, graph *g, node *const *out, int n,
                                   error *err) {
    return runner_init(r, g, out, n, x->backend, NULL, x->workspace, err);
}

// Streams of random numbers, by purpose and stage.
typedef enum { DRAW_NOISE, DRAW_TIME, DRAW_DROPOUT, DRAW_CROP, DRAW_TELLING, DRAW_GRID } draw;
rng_stream recipe_stream(const train_context *context, draw what);
