#include "core/pipeline_noise.h"

#include <math.h>

#include "core/base/mem.h"
#include "core/models/layout.h"

// sigma/alpha of what A1111 and ComfyUI take for zero SNR, alpha² = 4.8973451890853435e-8: where their paths
// begin.
static const double ALMOST_ZERO_SNR = 4518.7637;

static size_t latent_size(const txt2img *t) { return (size_t)(t->C * t->h * t->w); }

// Whether one generator draws for all images of the request.
static bool shares(const txt2img *t) {
    return t->request->noise_layout != CALO_NOISE_A1111 && !t->request->seeds;
}

int txt2img_batch(const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (r->noise_layout == CALO_NOISE_A1111) return 1;
    return r->batch_size ? r->batch_size : r->seeds ? 1 : t->count;
}

int txt2img_place(const txt2img *t, int i) {
    if (t->request->noise_layout == CALO_NOISE_A1111) return 0;
    return t->request->batch_index + (shares(t) ? i : 0);
}

bool txt2img_has_path(const txt2img *t) {
    const calo_txt2img_request *r = t->request;
    if (r->step_noise != CALO_STEP_NOISE_AUTO) return r->step_noise == CALO_STEP_NOISE_BROWNIAN;
    return t->sampler->brownian && r->noise_layout != CALO_NOISE_DIFFUSERS;
}

// ---- generators

static void source_seed(noise_source *s, calo_rng kind, uint64_t seed) {
    s->kind = kind;
    s->nv = (nv_rng){.seed = seed};
    mt_seed(&s->mt, seed);
}

static void source_draw(noise_source *s, float *y, size_t n) {
    if (s->kind == CALO_RNG_NV)
        nv_normal(&s->nv, y, n);
    else
        mt_normal(&s->mt, y, n);
}

// That of the first image of its batch.
static uint64_t seed_of(const group_noise *g, int source) {
    int i = shares(g->t) ? 0 : g->first + source;
    return txt2img_seed(g->t, i) - (uint64_t)txt2img_place(g->t, i);
}

static void seed_all(group_noise *g, int64_t delta) {
    for (int i = 0; i < g->sources; i++) source_seed(&g->from[i], g->kind, seed_of(g, i) + (uint64_t)delta);
}

// What one source draws for the images of the group, [n or 1,h,w,C]: it draws for all of the batch.
static void draw_from(group_noise *g, noise_source *from, float *y) {
    const txt2img *t = g->t;
    size_t one = latent_size(t);
    source_draw(from, g->planar, (size_t)txt2img_batch(t) * one);
    const float *ours = g->planar + (size_t)txt2img_place(t, g->first) * one;
    nchw_to_nhwc(ours, y, g->n / g->sources, t->C, t->h, t->w);
}

// ---- paths

static void path_normals(void *arg, uint32_t seed, float *y, size_t n) {
    (void)n;
    group_noise *g = arg;
    noise_source from;
    source_seed(&from, g->kind, seed);
    draw_from(g, &from, y);
}

static double ratio_of(const schedule_point *p) {
    return p->alpha > 0 ? p->sigma / p->alpha : ALMOST_ZERO_SNR;
}

// From the cleanest point that has noise to the noisiest of the schedule; in ComfyUI, of the steps that a
// picture to begin with leaves.
static status begin_paths(group_noise *g, error *err) {
    const schedule_steps *points = &g->t->points;
    bool comfy = g->t->request->noise_layout == CALO_NOISE_COMFY;
    double high = ratio_of(comfy ? &points->at[0] : &points->first);
    double low = ratio_of(&points->at[points->at[points->n].sigma > 0 ? points->n : points->n - 1]);
    size_t each = latent_size(g->t) * (size_t)(g->n / g->sources);
    g->paths = mem_calloc((size_t)g->sources, sizeof *g->paths);
    if (!g->paths) return fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < g->sources; i++)
        TRY(brownian_init(&g->paths[i], seed_of(g, i), low, high, each, path_normals, g, err));
    return OK;
}

// ---- a group's

status group_noise_init(group_noise *g, const txt2img *t, int first, int n, error *err) {
    *g = (group_noise){.t = t, .first = first, .n = n, .kind = t->request->rng, .sources = shares(t) ? 1 : n};
    g->from = mem_calloc((size_t)g->sources, sizeof *g->from);
    g->planar = mem_calloc((size_t)txt2img_batch(t) * latent_size(t), sizeof *g->planar);
    if (!g->from || !g->planar) return fail(err, ERR_TEMP, "out of memory");
    seed_all(g, 0);
    return OK;
}

void group_noise_free(group_noise *g) {
    for (int i = 0; g->paths && i < g->sources; i++) brownian_free(&g->paths[i]);
    mem_free(g->paths);
    mem_free(g->from);
    mem_free(g->planar);
}

void group_noise_draw(group_noise *g, float *y) {
    size_t each = latent_size(g->t) * (size_t)(g->n / g->sources);
    for (int i = 0; i < g->sources; i++) draw_from(g, &g->from[i], y + (size_t)i * each);
}

// What is left in the generators is the steps'; or these are others. Paths have the images' own seeds in any
// case, as in the other programs.
status group_noise_begin_steps(group_noise *g, error *err) {
    const calo_txt2img_request *r = g->t->request;
    bool comfy = r->noise_layout == CALO_NOISE_COMFY;
    if (r->sampler_rng) g->kind = r->sampler_rng == CALO_SAMPLER_RNG_NV ? CALO_RNG_NV : CALO_RNG_CPU;
    if (comfy || r->eta_seed_delta || g->kind != r->rng)
        seed_all(g, r->eta_seed_delta + (comfy && g->kind == CALO_RNG_CPU ? 1 : 0));
    return txt2img_has_path(g->t) ? begin_paths(g, err) : OK;
}

void group_noise_step(group_noise *g, const schedule_point *from, const schedule_point *to, float *y) {
    double start = ratio_of(from), end = ratio_of(to);
    if (!g->paths || end >= start) {
        group_noise_draw(g, y);
        return;
    }
    for (int i = 0; i < g->sources; i++)
        brownian_noise(&g->paths[i], start, end, y + (size_t)i * g->paths[i].n);
}
