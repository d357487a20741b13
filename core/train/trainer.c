// The loop that all recipes share: plans, updates, the record, checkpoints, progress.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/cpu/cpu.h"
#include "core/cpu/kernels.h"
#include "core/graph/runner.h"
#include "core/train/checkpoint.h"
#include "core/train/curve.h"
#include "core/train/recipe.h"

// One of a recipe's graphs, planned: output 0 is the loss, the others the gradients of the parameters that it
// depends on.
typedef struct {
    runner run;
    const float **gradient; // by parameter, NULL where the loss does not depend on it
    double *best;           // by line of the exec: fewest seconds of all runs; NULL without profiling
} pass_plan;

// Runs one pass at a time, with threads and memory of its own. Where an update has at least as many passes
// as there are threads, each thread is a lane: passes side by side on one thread each lose nothing to waiting
// for each other within them, and what they compute does not depend on how many run at once.
typedef struct {
    team *team;
    backend *backend;
    store *values;
    workspace room;
    pass_plan variant[RECIPE_VARIANTS_MAX];
    const pass_plan *now; // of the running pass
    error err;            // how that ended
} lane;

typedef struct {
    train_context context;
    recipe recipe;
    team *team;
    params *params;
    backend *backend; // with `room`: for what runs beside the passes
    workspace room;
    lane *lane; // of the stage
    int n_lanes;
    float **sum; // by parameter: gradients of the passes of one update, where there are several
    const float **gradient;
    curve *curve;
    char *checkpoints, *samples, *model;
    json_t *config; // the resolved one
    checkpoint_state state;
    int64_t saved; // updates of the newest checkpoint
    int64_t samples_seen;
    bool planned;              // during this update
    double seconds_per_update; // running mean, 0 before the first
} trainer;

static const train_stage *stage_of(const trainer *t, int i) { return &t->context.config->stage[i]; }

static int64_t updates_of(const train_stage *s) {
    int64_t per_update = s->batch * s->accumulate;
    return (s->samples + per_update - 1) / per_update;
}

// ---- lanes and plans

static void drop_lane(lane *l) {
    for (int i = 0; i < RECIPE_VARIANTS_MAX; i++) {
        runner_free(&l->variant[i].run);
        mem_free(l->variant[i].gradient);
        mem_free(l->variant[i].best);
    }
    store_free(l->values);
    workspace_free(&l->room);
    backend_free(l->backend);
    team_free(l->team);
}

static void drop_lanes(trainer *t) {
    for (int i = 0; i < t->n_lanes; i++) drop_lane(&t->lane[i]);
    mem_free(t->lane);
    t->lane = NULL;
    t->n_lanes = 0;
}

static int lanes_for(const trainer *t, const train_stage *s) {
    return s->accumulate < team_size(t->team) ? 1 : team_size(t->team);
}

static status make_lanes(trainer *t, error *err) {
    int n = lanes_for(t, stage_of(t, t->context.stage));
    if (!(t->lane = mem_calloc((size_t)n, sizeof *t->lane))) return fail(err, ERR_TEMP, "out of memory");
    while (t->n_lanes < n) {
        lane *l = &t->lane[t->n_lanes++];
        l->team = team_new(team_size(t->team) / n);
        l->values = store_new();
        if (!l->team || !l->values) return fail(err, ERR_TEMP, "out of memory");
        if (!(l->backend = cpu_backend(l->team, err))) return err->code;
    }
    return OK;
}

static node *build_loss(trainer *t, graph *g, int variant) {
    graph_init(g, t->context.compute);
    g->weights = params_training(t->params);
    return t->recipe.loss(t->recipe.self, g, variant);
}

// The first build makes the parameters; there may be none afterwards.
static status make_params(trainer *t, error *err) {
    graph g;
    build_loss(t, &g, t->recipe.variant(t->recipe.self, 0));
    status s = g.err.code ? fail(err, g.err.code, "%s", g.err.text) : OK;
    graph_free(&g);
    if (!s && !params_count(t->params)) s = fail(err, ERR_INTERNAL, "the loss depends on no parameter");
    params_seal(t->params);
    return s;
}

static status plan_gradients(trainer *t, lane *l, graph *g, node *loss, node **wrt, node **out, int *output,
                             int n, pass_plan *v, error *err) {
    int outputs = 1;
    for (int i = 0; i < n; i++) {
        node *leaf = graph_leaf(g, &params_at(t->params, (size_t)i)->w);
        wrt[i] = leaf ? leaf : loss; // the gradient with respect to the loss is not looked at
    }
    out[0] = loss;
    graph_grad(g, loss, wrt, n, out + 1);
    for (int i = 0; i < n; i++) {
        output[i] = wrt[i] == loss || !out[i + 1] ? 0 : outputs;
        if (output[i]) out[outputs++] = out[i + 1];
    }
    status s = runner_init(&v->run, g, out, outputs, l->backend, l->values, &l->room, err);
    if (s) return s;
    if (t->context.config->profile) {
        exec_time(v->run.exec, true);
        v->best = mem_calloc((size_t)exec_lines(v->run.exec), sizeof *v->best);
    }
    for (int i = 0; i < n; i++) v->gradient[i] = output[i] ? exec_output(v->run.exec, output[i]) : NULL;
    return OK;
}

static status make_plan(trainer *t, lane *l, int variant, error *err) {
    pass_plan *v = &l->variant[variant];
    t->planned = true;
    int n = (int)params_count(t->params);
    node **wrt = mem_calloc((size_t)n, sizeof *wrt), **out = mem_calloc((size_t)n + 1, sizeof *out);
    int *output = mem_calloc((size_t)n, sizeof *output);
    v->gradient = mem_calloc((size_t)n, sizeof *v->gradient);
    status s = OK;
    if (wrt && out && output && v->gradient) {
        graph g;
        node *loss = build_loss(t, &g, variant);
        s = plan_gradients(t, l, &g, loss, wrt, out, output, n, v, err);
    } else {
        s = fail(err, ERR_TEMP, "out of memory");
    }
    mem_free(wrt);
    mem_free(out);
    mem_free(output);
    if (s) return s;
    plan_memory m = plan_needs(v->run.plan);
    log_put(t->context.log, LOG_LEVEL_DEBUG, "planned graph %d: %.1f MB of activations, %.1f MB of results",
            variant, (double)m.workspace * 1e-6, (double)m.persistent * 1e-6);
    return OK;
}

// ---- where the time goes

enum { PROFILE_ROWS = 64 };

typedef struct {
    const char *op, *kernel;
    double seconds, flops, bytes;
    int n;
} profile_row;

static void profile_add(profile_row *rows, const plan_line *l) {
    profile_row *r = rows;
    while (r < rows + PROFILE_ROWS - 1 && r->op && (strcmp(r->op, l->op) || strcmp(r->kernel, l->kernel)))
        r++;
    r->op = l->op;
    r->kernel = l->kernel;
    r->seconds += l->seconds;
    r->flops += l->flops;
    r->bytes += l->bytes;
    r->n++;
}

static int slower_first(const void *a, const void *b) {
    double x = ((const profile_row *)a)->seconds, y = ((const profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

static void time_pass(const pass_plan *v) {
    for (int i = 0; v->best && i < exec_lines(v->run.exec); i++) {
        double seconds = exec_line(v->run.exec, i).seconds;
        if (!v->best[i] || seconds < v->best[i]) v->best[i] = seconds;
    }
}

// Each kernel's best time among the runs of one graph.
static void tell_profile(const trainer *t, const pass_plan *v) {
    profile_row rows[PROFILE_ROWS] = {0}, sum = {0};
    for (int i = 0; i < exec_lines(v->run.exec); i++) {
        plan_line l = exec_line(v->run.exec, i);
        l.seconds = v->best[i];
        profile_add(rows, &l);
        sum.seconds += l.seconds;
        sum.flops += l.flops;
    }
    qsort(rows, PROFILE_ROWS, sizeof *rows, slower_first);
    for (int i = 0; i < PROFILE_ROWS && rows[i].op; i++)
        log_put(t->context.log, LOG_LEVEL_INFO,
                "%-20s %-24s %4d  %8.3f ms %5.1f %%  %8.1f GFLOP/s %7.1f GB/s", rows[i].op, rows[i].kernel,
                rows[i].n, rows[i].seconds * 1e3, 100 * rows[i].seconds / sum.seconds,
                rows[i].flops / rows[i].seconds * 1e-9, rows[i].bytes / rows[i].seconds * 1e-9);
    log_put(t->context.log, LOG_LEVEL_INFO, "one pass: %.1f ms, %.2f GFLOP, %.1f GFLOP/s; an update %.1f ms",
            sum.seconds * 1e3, sum.flops * 1e-9, sum.flops / sum.seconds * 1e-9, t->seconds_per_update * 1e3);
}

// ---- one update

static status fill_pass(trainer *t, lane *l, int64_t pass, error *err) {
    int variant = t->recipe.variant(t->recipe.self, pass);
    pass_plan *v = &l->variant[variant];
    status s = v->run.exec ? OK : make_plan(t, l, variant, err);
    l->now = v;
    return s ? s : t->recipe.fill(t->recipe.self, v->run.exec, variant, pass, err);
}

static double loss_of(const lane *l) { return *(const float *)exec_output(l->now->run.exec, 0); }

static void run_lanes(void *arg, int64_t begin, int64_t end) {
    for (lane *l = (lane *)arg + begin; l < (lane *)arg + end; l++) {
        l->err = (error){0};
        exec_run(l->now->run.exec, &l->err);
    }
}

// Runs passes first … first + n − 1, one on each lane.
static status run_passes(trainer *t, int64_t first, int n, error *err) {
    status s = OK;
    for (int i = 0; i < n && !s; i++) s = fill_pass(t, &t->lane[i], first + i, err);
    if (s) return s;
    parallel_for(t->n_lanes > 1 ? t->team : NULL, n, 1, run_lanes, t->lane);
    for (int i = 0; i < n && !s; i++) {
        if ((s = t->lane[i].err.code) && err) *err = t->lane[i].err;
        time_pass(t->lane[i].now);
    }
    return s;
}

typedef struct {
    trainer *t;
    int n; // lanes
    float share;
    bool first;
} gradient_sum;

// In the order of the passes, however many ran at once.
static void add_some(void *arg, int64_t begin, int64_t end) {
    const gradient_sum *a = arg;
    for (int64_t i = begin; i < end; i++) {
        float *sum = a->t->sum[i];
        size_t n = params_at(a->t->params, (size_t)i)->n;
        if (a->first) memset(sum, 0, n * sizeof *sum);
        for (int k = 0; k < a->n; k++) {
            const float *g = a->t->lane[k].now->gradient[i];
            for (size_t j = 0; g && j < n; j++) sum[j] += a->share * g[j];
        }
        a->t->gradient[i] = sum;
    }
}

static status make_sums(trainer *t, error *err) {
    size_t n = params_count(t->params);
    t->gradient = mem_calloc(n, sizeof *t->gradient);
    t->sum = mem_calloc(n, sizeof *t->sum);
    bool needed = false;
    for (int i = 0; i < t->context.config->n_stages; i++) needed |= stage_of(t, i)->accumulate > 1;
    if (!t->gradient || !t->sum) return fail(err, ERR_TEMP, "out of memory");
    for (size_t i = 0; needed && i < n; i++)
        if (!(t->sum[i] = mem_alloc(params_at(t->params, i)->n * sizeof(float))))
            return fail(err, ERR_TEMP, "out of memory");
    return OK;
}

static optimizer_config optimizer_of(const trainer *t, const train_stage *s) {
    const train_config *c = t->context.config;
    return (optimizer_config){.lr = s->lr,
                              .lr_end = s->lr_end,
                              .beta1 = c->beta1,
                              .beta2 = c->beta2,
                              .eps = c->eps,
                              .weight_decay = c->weight_decay,
                              .clip = c->clip,
                              .ema = c->ema,
                              .warmup = s->warmup,
                              .steps = updates_of(s)};
}

static status update(trainer *t, const train_stage *s, curve_point *p, error *err) {
    optimizer_config o = optimizer_of(t, s);
    *p = (curve_point){
        .step = t->state.step, .samples = t->samples_seen, .lr = learning_rate(&o, t->state.at)};
    gradient_sum a = {.t = t, .share = 1.0f / (float)s->accumulate};
    for (int64_t i = 0; i < s->accumulate; i += a.n) {
        a.n = s->accumulate - i < t->n_lanes ? (int)(s->accumulate - i) : t->n_lanes;
        a.first = i == 0;
        status code = run_passes(t, t->state.at * s->accumulate + i, a.n, err);
        if (code) return code;
        for (int k = 0; k < a.n; k++) p->loss += loss_of(&t->lane[k]) / (double)s->accumulate;
        if (!isfinite(p->loss)) return fail(err, ERR_DATA, "the loss is not a number");
        if (s->accumulate > 1) parallel_for(t->team, (int64_t)params_count(t->params), 1, add_some, &a);
    }
    const float *const *gradient = s->accumulate > 1 ? t->gradient : t->lane[0].now->gradient;
    return optimizer_step(t->params, gradient, &o, t->state.at, t->state.step, t->team, &p->norm, err);
}

// ---- around the updates

static int64_t updates_left(const trainer *t) {
    int64_t left = -t->state.at;
    for (int i = t->state.stage; i < t->context.config->n_stages; i++) left += updates_of(stage_of(t, i));
    return left;
}

static void tell(const trainer *t, calo_train_event e, const char *event, const char *path) {
    const train_hooks *h = t->context.hooks;
    const train_config *c = t->context.config;
    if (!h->event) return;
    e.size = sizeof e;
    e.event = event;
    e.path = path;
    e.stages = c->n_stages;
    e.stage = t->state.stage < e.stages ? t->state.stage + 1 : e.stages;
    e.update = e.updates = updates_of(stage_of(t, e.stage - 1));
    if (t->state.stage < e.stages) e.update = t->state.at;
    e.step = t->state.step;
    e.steps = e.step + updates_left(t);
    h->event(h->user, &e);
}

static void tell_update(const trainer *t, const train_stage *s, const curve_point *p, bool line) {
    calo_train_event e = {.loss = curve_recent(t->curve, (size_t)t->context.config->log_every),
                          .lr = p->lr,
                          .grad_norm = p->norm,
                          .seconds = t->seconds_per_update,
                          .due = line};
    if (e.seconds > 0) e.samples_per_second = (double)(s->batch * s->accumulate) / e.seconds;
    e.left = (double)updates_left(t) * e.seconds;
    tell(t, e, "update", NULL);
}

static status save(trainer *t, int64_t keep, error *err) {
    char *path = NULL;
    status s = curve_sync(t->curve, err);
    if (!s) s = checkpoint_save(t->checkpoints, &t->state, t->params, (int)keep, &path, err);
    if (!s) t->saved = t->state.step;
    if (!s) tell(t, (calo_train_event){0}, "checkpoint", path);
    mem_free(path);
    return s ? fail_in(err, "checkpoint of update %lld", (long long)t->state.step) : OK;
}

static status draw_grid(trainer *t, error *err) {
    char name[64];
    snprintf(name, sizeof name, "step-%010lld.png", (long long)t->state.step);
    char *path = fs_join(t->samples, name);
    status s = path ? fs_mkdirs(t->samples, err) : fail(err, ERR_TEMP, "out of memory");
    if (!s) s = t->recipe.grid(t->recipe.self, path, err);
    if (!s && fs_exists(path)) tell(t, (calo_train_event){0}, "grid", path); // not every recipe draws one
    mem_free(path);
    return s;
}

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

static status after_update(trainer *t, const train_stage *s, const curve_point *p, error *err) {
    const train_config *c = t->context.config;
    status code = curve_add(t->curve, p, err);
    t->state.step++;
    t->state.at++;
    t->samples_seen += s->batch * s->accumulate;
    if (!code) tell_update(t, s, p, due(t->state.step, c->log_every));
    bool stop = !code && t->context.hooks->cancelled && t->context.hooks->cancelled(t->context.hooks->user);
    if (!code && (stop || due(t->state.step, c->checkpoint_every))) code = save(t, c->keep, err);
    if (!code && (stop || due(t->state.step, c->checkpoint_every))) code = curve_draw(t->curve, err);
    if (!code && !stop && due(t->state.step, c->grid_every)) code = draw_grid(t, err);
    if (!code && stop)
        code = fail(err, ERR_CANCELLED, "stopped after update %lld; --resume goes on from here",
                    (long long)t->state.step);
    return code;
}

// Updates that made a plan are slower and do not count.
static void clock_update(trainer *t, double seconds) {
    double mean = t->seconds_per_update;
    if (!t->planned) t->seconds_per_update = mean > 0 ? 0.95 * mean + 0.05 * seconds : seconds;
    t->planned = false;
}

static bool values_are_finite(const params *p) {
    for (size_t i = 0; i < params_count(p); i++)
        for (size_t j = 0; j < params_at(p, i)->n; j++)
            if (!isfinite(params_at(p, i)->w.value[j])) return false;
    return true;
}

// A loss or gradient that is no number has changed nothing. What was learned before it is kept, unless the
// values themselves are spoilt, and beside all that is kept already: the trouble may have begun earlier.
static status keep_updates(trainer *t, error *err) {
    error why = *err, trouble = {0};
    if (t->state.step == t->saved || !values_are_finite(t->params)) return why.code;
    if (!save(t, t->context.config->keep + 1, &trouble))
        return fail(err, why.code, "%s; the updates before it are saved", why.text);
    log_put(t->context.log, LOG_LEVEL_WARN, "the updates before it are lost: %s", trouble.text);
    return why.code;
}

static status run_stage(trainer *t, error *err) {
    const train_stage *s = stage_of(t, t->state.stage);
    status code = OK;
    while (t->state.at < updates_of(s) && !code) {
        curve_point p;
        double begin = clock_seconds();
        if ((code = update(t, s, &p, err))) {
            fail_in(err, "update %lld", (long long)t->state.step);
            return isfinite(p.loss) && isfinite(p.norm) ? code : keep_updates(t, err);
        }
        clock_update(t, clock_seconds() - begin);
        code = after_update(t, s, &p, err);
    }
    if (t->context.config->profile)
        for (int i = 0; i < RECIPE_VARIANTS_MAX; i++)
            if (t->lane[0].variant[i].best) tell_profile(t, &t->lane[0].variant[i]);
    return code;
}

static status enter_stage(trainer *t, int stage, error *err) {
    t->context.stage = stage;
    drop_lanes(t);
    status s = make_lanes(t, err);
    if (!s) s = t->recipe.enter(t->recipe.self, err);
    return s && t->context.config->n_stages > 1 ? fail_in(err, "stage %d", stage + 1) : s;
}

static status run_stages(trainer *t, error *err) {
    const train_config *c = t->context.config;
    status s = OK;
    while (!s && t->state.stage < c->n_stages) {
        if (t->context.stage != t->state.stage) s = enter_stage(t, t->state.stage, err);
        if (!s) tell(t, (calo_train_event){0}, "stage", NULL);
        if (!s) s = run_stage(t, err);
        if (s) return s;
        t->state.stage++;
        t->state.at = 0;
    }
    if (!s) s = save(t, c->keep, err);
    if (!s) s = curve_draw(t->curve, err);
    if (!s) s = draw_grid(t, err);
    if (!s) s = t->recipe.finish(t->recipe.self, t->model, err);
    if (!s) tell(t, (calo_train_event){0}, "model", t->model);
    return s;
}

// ---- beginning and end

static status continue_run(trainer *t, error *err) {
    const train_config *c = t->context.config;
    checkpoint_tolerance allow = {c->ignore_machine, c->ignore_config, t->context.log};
    char *path = checkpoint_latest(t->checkpoints);
    status s = OK;
    if (path && !c->resume)
        s = fail(err, ERR_CANTCREAT, "%s is there already: resume that run, or choose another \"out\"", path);
    if (path && !s) s = checkpoint_load(path, &t->state, t->params, &allow, err);
    t->saved = t->state.step;
    if (path && !s)
        log_put(t->context.log, LOG_LEVEL_INFO, "going on from %s, update %lld", path,
                (long long)t->state.step);
    if (!path && c->resume) log_put(t->context.log, LOG_LEVEL_INFO, "no checkpoint yet: starting anew");
    if (!path && t->recipe.start && !(s = t->recipe.start(t->recipe.self, err))) params_seal(t->params);
    mem_free(path);
    if (!s && t->state.stage + (t->state.at > 0) > c->n_stages)
        s = fail(err, ERR_DATA, "the checkpoint is of stage %d, the configuration has %d", t->state.stage + 1,
                 c->n_stages);
    for (int i = 0; i < t->state.stage && !s; i++)
        t->samples_seen += updates_of(stage_of(t, i)) * stage_of(t, i)->batch * stage_of(t, i)->accumulate;
    if (!s && t->state.stage < c->n_stages) {
        const train_stage *stage = stage_of(t, t->state.stage);
        t->samples_seen += t->state.at * stage->batch * stage->accumulate;
    }
    return s;
}

static status open_outputs(trainer *t, error *err) {
    const char *out = t->context.config->out;
    t->checkpoints = fs_join(out, "checkpoints");
    t->samples = fs_join(out, "samples");
    t->model = fs_join(out, "model");
    if (!t->checkpoints || !t->samples || !t->model) return fail(err, ERR_TEMP, "out of memory");
    return fs_mkdirs(out, err);
}

static status choose_precision(trainer *t, error *err) {
    const char *want = t->context.config->precision;
    bool bf16 = !strcmp(want, "bf16") || (!strcmp(want, "auto") && cpu_has_bf16());
    t->context.compute = bf16 ? DT_BF16 : DT_F32;
    t->team = team_new((int)t->context.config->threads);
    if (!t->team) return fail(err, ERR_TEMP, "out of memory");
    t->backend = cpu_backend(t->team, err);
    t->state.machine = cpu_level_name(cpu_level_within(CPU_BEST));
    t->state.precision = dtype_name(t->context.compute);
    t->state.threads = team_size(t->team);
    return t->backend ? OK : err->code;
}

static status prepare(trainer *t, recipe_maker *make, error *err) {
    status s = choose_precision(t, err);
    if (!s) s = open_outputs(t, err);
    t->params = params_new((uint64_t)t->context.config->seed);
    t->config = train_config_json(t->context.config);
    if (!s && (!t->params || !t->config)) s = fail(err, ERR_TEMP, "out of memory");
    if (s) return s;
    t->context.team = t->team;
    t->context.backend = t->backend;
    t->context.workspace = &t->room;
    t->context.params = t->params;
    if ((s = make(&t->recipe, &t->context, err))) return s;
    t->state.kind = t->recipe.kind;
    t->state.config = t->config;
    // A recipe may need its data to know its graphs: the first stage is entered to make the parameters.
    if ((s = enter_stage(t, 0, err)) || (s = make_params(t, err)) || (s = continue_run(t, err))) return s;
    if ((s = make_sums(t, err))) return s;
    log_put(t->context.log, LOG_LEVEL_INFO, "%zu parameters, %s, %s, %lld threads",
            params_elements(t->params), t->state.precision, t->state.machine, (long long)t->state.threads);
    t->curve = curve_open(t->context.config->out, t->state.step, err);
    return t->curve ? OK : err->code;
}

static void release(trainer *t) {
    drop_lanes(t);
    recipe_free(&t->recipe);
    curve_close(t->curve);
    json_decref(t->config);
    for (size_t i = 0; t->sum && i < params_count(t->params); i++) mem_free(t->sum[i]);
    mem_free(t->sum);
    mem_free(t->gradient);
    params_free(t->params);
    workspace_free(&t->room);
    backend_free(t->backend);
    team_free(t->team);
    mem_free(t->checkpoints);
    mem_free(t->samples);
    mem_free(t->model);
}

status train_recipe(const train_config *c, const train_hooks *hooks, recipe_maker *make, error *err) {
    error local = {0};
    if (!err) err = &local;
    trainer *t = mem_calloc(1, sizeof *t);
    if (!t) return fail(err, ERR_TEMP, "out of memory");
    t->context = (train_context){.config = c, .hooks = hooks, .log = hooks->log};
    status s = prepare(t, make, err);
    if (!s) s = run_stages(t, err);
    release(t);
    mem_free(t);
    return s;
}

status train_run(const train_config *c, const train_hooks *hooks, error *err) {
    return train_recipe(c, hooks, recipe_make, err);
}
