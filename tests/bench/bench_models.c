// Whole networks of Stable Diffusion 1.5 and XL, and one that enlarges, with generated weights, as shares of
// the machine's ceiling.
//
//   bench_models [NETWORK [bf16 | f32 [ROUNDS [PYTHON VARIANT...]]]]
//
// Run from the repository's root. Networks: the table NETWORKS; a batch of two for guidance (autoencoder:
// one). Every round measures the ceiling, this network, and each VARIANT of the same network in PyTorch
// (torch_models.py), one after the other. One process measures one network: the peak memory is the process's.
#include "core/base/clock.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/cpu/cpu.h"
#include "core/graph/op.h"
#include "core/graph/plan.h"
#include "core/models/clip.h"
#include "core/models/rrdb.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "tests/bench/machine.h"
#include "tests/bench/race.h"
#include "tests/tools/genweights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_GROUPS = 512 };

// ---- weights: names and shapes of a golden case, or those that are asked for; values generated

enum { MAX_ASKED = 1024, NAME_ROOM = 64 };

typedef struct {
    weights w;
    json_t *json; // NULL: those that are asked for
    weight *list;
    char (*names)[NAME_ROOM];
    int n;
} model;

static status read_weight(const weight *w, float *dst, error *err) {
    (void)err;
    gen_weight(w->name, w->shape.rank, w->shape.d, dst);
    return OK;
}

static const weight *find_weight(const weights *self, const char *name) {
    const model *m = (const model *)self;
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->list[i].name, name)) return &m->list[i];
    return NULL;
}

static const weight *make_weight(const weights *self, const char *name, shape s) {
    const weight *there = find_weight(self, name);
    model *m = (model *)(uintptr_t)self;
    if (there) return there;
    if (m->n == MAX_ASKED || strlen(name) >= NAME_ROOM) machine_die("more weights than there is room for");
    memcpy(m->names[m->n], name, strlen(name) + 1);
    weight *w = &m->list[m->n];
    *w = (weight){.name = m->names[m->n], .shape = s, .read = read_weight, .id = weight_new_id()};
    m->n++;
    return w;
}

static model model_open(const char *path) {
    error err = {0};
    model m = {.w = {find_weight, path}};
    if (!path) {
        m.w = (weights){.find = find_weight, .create = make_weight, .origin = "generated"};
        m.list = mem_calloc(MAX_ASKED, sizeof *m.list);
        m.names = mem_calloc(MAX_ASKED, sizeof *m.names);
        if (!m.list || !m.names) machine_die("out of memory");
        return m;
    }
    if (!(m.json = js_load(path, 1 << 24, &err))) machine_die(err.text);
    const json_t *tensors = json_object_get(m.json, "tensors");
    m.list = mem_calloc(json_array_size(tensors), sizeof *m.list);
    if (!m.list) machine_die("out of memory");
    for (; (size_t)m.n < json_array_size(tensors); m.n++) {
        const json_t *pair = json_array_get(tensors, (size_t)m.n), *dims = json_array_get(pair, 1);
        weight *w = &m.list[m.n];
        *w = (weight){.name = json_string_value(json_array_get(pair, 0)),
                      .shape.rank = (int)json_array_size(dims),
                      .read = read_weight,
                      .id = weight_new_id()};
        for (int k = 0; k < w->shape.rank; k++)
            w->shape.d[k] = json_integer_value(json_array_get(dims, (size_t)k));
    }
    return m;
}

static void model_close(model *m) {
    mem_free(m->list);
    mem_free(m->names);
    json_decref(m->json);
}

// ---- networks

typedef struct network network;

struct network {
    const char *name, *title;
    const char *kind; // what torch_models.py calls it
    const char *file; // configuration, names and shapes of weights; NULL: `build` knows them
    node *(*build)(graph *g, const network *n, const json_t *config, error *err);
    int side; // of the latents, or of the picture
};

enum { TOKENS = 77, TIME_IDS = 6 };

static node *build_unet(graph *g, const network *n, const json_t *config, error *err) {
    unet_config c;
    if (unet_config_parse(&c, config, "config.json", err)) return NULL;
    int64_t E = c.level[0].cross_attention_dim,
            P = c.projection_input_dim - TIME_IDS * c.addition_time_embed_dim;
    unet_inputs in = {.sample = graph_input(g, "sample", SHAPE(2, n->side, n->side, 4), DT_F32, RATE_STEP),
                      .timestep = graph_input(g, "timestep", SHAPE(2), DT_F32, RATE_STEP),
                      .encoder_hidden_states =
                          graph_input(g, "context", SHAPE(2, TOKENS, E), DT_F32, RATE_PROMPT)};
    if (c.addition_embed == ADDITION_TEXT_TIME) {
        in.text_embeds = graph_input(g, "text_embeds", SHAPE(2, P), DT_F32, RATE_PROMPT);
        in.time_ids = graph_input(g, "time_ids", SHAPE(2, TIME_IDS), DT_F32, RATE_PROMPT);
    }
    return unet_build(g, &c, &in);
}

static node *build_decoder(graph *g, const network *n, const json_t *config, error *err) {
    vae_config c;
    if (vae_config_parse(&c, config, "config.json", err)) return NULL;
    return vae_decode_build(g, &c,
                            graph_input(g, "latent", SHAPE(1, n->side, n->side, 4), DT_F32, RATE_STEP));
}

static node *build_text(graph *g, const network *n, const json_t *config, error *err) {
    (void)n;
    clip_config c;
    if (clip_config_parse(&c, config, "config.json", err)) return NULL;
    node *ids = graph_input(g, "ids", SHAPE(2, TOKENS), DT_I32, RATE_STEP);
    return clip_build(g, &c, 0, ids, graph_input(g, "eos", SHAPE(2), DT_I32, RATE_STEP)).last_hidden_state;
}

// Real-ESRGAN x4plus and most of its kin.
static node *build_upscaler(graph *g, const network *n, const json_t *config, error *err) {
    (void)config, (void)err;
    rrdb_config c = {.features = 64, .growth = 32, .blocks = 23, .doublings = 2, .unshuffle = 1, .scale = 4};
    return rrdb_build(g, &c, graph_input(g, "sample", SHAPE(1, n->side, n->side, 3), DT_F32, RATE_STEP));
}

#define SD15_UNET "tests/golden/networks/unet_sd15_full.json"

static const network NETWORKS[] = {
    {"unet", "SD1.5 UNet, 2x64x64 latents, 77 tokens", "unet", SD15_UNET, build_unet, 64},
    {"vae_decoder", "SD1.5 VAE decoder, 64x64 latents to 512x512", "vae_decoder",
     "tests/golden/networks/vae_sd15_full.json", build_decoder, 64},
    {"text_encoder", "SD1.5 text encoder, 2x77 tokens", "text_encoder",
     "tests/golden/networks/text_sd15_full.json", build_text, 0},
    {"unet_256", "SD1.5 UNet, 2x32x32 latents, 77 tokens", "unet", SD15_UNET, build_unet, 32},
    {"unet_1024", "SD1.5 UNet, 2x128x128 latents, 77 tokens", "unet", SD15_UNET, build_unet, 128},
    {"unet_sdxl", "SDXL UNet, 2x128x128 latents, 77 tokens", "unet", "tests/bench/unet_sdxl.json", build_unet,
     128},
    {"upscaler", "RRDB x4 of 23 blocks (64 and 32 channels), 128x128 pixels to 512x512", "upscaler", NULL,
     build_upscaler, 128}};

static const network *network_named(const char *name) {
    for (size_t i = 0; i < sizeof NETWORKS / sizeof *NETWORKS; i++)
        if (!strcmp(NETWORKS[i].name, name)) return &NETWORKS[i];
    machine_die("networks are unet, unet_256, unet_1024, unet_sdxl, vae_decoder, text_encoder and upscaler");
    return NULL;
}

typedef struct {
    const char *name;
    int64_t n;
} input;

enum { MAX_INPUTS = 8 };

// The inputs of numbers that a graph has; a plan takes the graph over.
static int list_inputs(const graph *g, input *to) {
    int n = 0;
    for (int i = 0; i < g->n_nodes && n < MAX_INPUTS; i++)
        if (g->nodes[i]->op == &OP_INPUT && g->nodes[i]->dtype == DT_F32)
            to[n++] = (input){g->nodes[i]->a.leaf.name, shape_count(g->nodes[i]->shape)};
    return n;
}

// Uniform values, a step in the middle, the first ids of the vocabulary.
static void fill_inputs(exec *e, const input *inputs, int n) {
    for (int i = 0; i < n; i++) {
        float *x = exec_input(e, inputs[i].name);
        if (x) gen_uniform(inputs[i].name, inputs[i].n, x);
    }
    float *t = exec_input(e, "timestep");
    for (int i = 0; t && i < 2; i++) t[i] = 500;
    int32_t *ids = exec_input(e, "ids");
    for (int i = 0; ids && i < 2 * TOKENS; i++) ids[i] = i;
}

// ---- tables: what each class of operation takes, and each kind of layer

typedef struct {
    double seconds, flops, bytes;
    int count;
} tally;

static void tally_add(tally *t, const plan_line *l, double seconds) {
    t->seconds += seconds;
    t->flops += l->flops;
    t->bytes += l->bytes;
    t->count++;
}

static void print_header(const char *columns, const char *rule) {
    printf("| %9s | %6s | %6s | %14s | %6s | %5s | %s |\n|---|---|---|---|---|---|%s\n", "ms", "share",
           "GF/s", "of the ceiling", "GB/s", "count", columns, rule);
}

static void print_tally(const tally *t, double total, double ceiling) {
    double speed = t->flops / t->seconds * 1e-9;
    printf("| %9.2f | %4.1f %% | %6.0f | %12.0f %% | %6.1f | %5d |", 1e3 * t->seconds,
           100 * t->seconds / total, speed, 100 * speed / ceiling, t->bytes / t->seconds * 1e-9, t->count);
}

// A line belongs to the first class whose op it has, and whose word its kernel's name begins with.
static const struct {
    const char *name, *op, *kernel;
} CLASSES[] = {
    {"convolutions by Winograd's method", "conv2d", "winograd"},
    {"other convolutions", "conv2d", ""},
    {"linear layers", "matmul", ""},
    {"attention", "attention", ""},
    {"group norms", "group_norm", ""},
    {"layer norms", "layer_norm", ""},
    {"GEGLU", "geglu", ""},
    {"everything else", "", ""},
};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES };

static int class_of(const plan_line *l) {
    int i = 0;
    while (i < N_CLASSES - 1 &&
           (strcmp(CLASSES[i].op, l->op) || strncmp(CLASSES[i].kernel, l->kernel, strlen(CLASSES[i].kernel))))
        i++;
    return i;
}

static tally print_classes(const exec *e, const double *best, double ceiling) {
    tally sums[N_CLASSES] = {0}, total = {0};
    for (int i = 0; i < exec_lines(e); i++) {
        plan_line l = exec_line(e, i);
        tally_add(&sums[class_of(&l)], &l, best[i]);
        tally_add(&total, &l, best[i]);
    }
    print_header("class", "---|");
    for (int i = 0; i < N_CLASSES; i++) {
        if (!sums[i].count) continue;
        print_tally(&sums[i], total.seconds, ceiling);
        printf(" %s |\n", CLASSES[i].name);
    }
    print_tally(&total, total.seconds, ceiling);
    printf(" all |\n\n");
    return total;
}

typedef struct {
    plan_line line; // of the first
    tally sum;
} group; // lines of equal op, kernel, shape and work

static bool same_group(const group *g, const plan_line *l) {
    return !strcmp(g->line.op, l->op) && !strcmp(g->line.kernel, l->kernel) &&
           shape_equal(g->line.shape, l->shape) && g->line.dtype == l->dtype && g->line.flops == l->flops;
}

static int slower_first(const void *a, const void *b) {
    double d = ((const group *)b)->sum.seconds - ((const group *)a)->sum.seconds;
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

static void print_layers(const exec *e, const double *best, double total, double ceiling) {
    static group groups[MAX_GROUPS];
    int n = 0;
    for (int i = 0; i < exec_lines(e); i++) {
        plan_line l = exec_line(e, i);
        int k = 0;
        while (k < n && !same_group(&groups[k], &l)) k++;
        if (k == MAX_GROUPS) machine_die("more kinds of layers than a table holds");
        if (k == n) groups[n++] = (group){.line = l};
        tally_add(&groups[k].sum, &l, best[i]);
    }
    qsort(groups, (size_t)n, sizeof *groups, slower_first);
    print_header("op             | result             |  inner | kernel", "---|---|---|---|");
    for (int i = 0; i < n; i++) {
        const plan_line *l = &groups[i].line;
        char text[128];
        print_tally(&groups[i].sum, total, ceiling);
        printf(" %-14s | %-18s | %6.0f | %s |\n", l->op, shape_text(l->shape, text),
               l->flops / 2 / (double)shape_count(l->shape), l->kernel);
    }
}

// ---- one network

typedef struct {
    int rounds, n_peers;
    char **peers;
} options;

typedef struct {
    const network *of;
    exec *e;
    input inputs[MAX_INPUTS];
    int n_inputs;
} runner;

static void measure(const runner *n, dtype compute, team *t, const options *o) {
    exec *e = n->e;
    char side[12];
    const char *script[] = {"tests/bench/torch_models.py", n->of->kind, n->of->file ? n->of->file : "-", side,
                            NULL};
    snprintf(side, sizeof side, "%d", n->of->side);
    race_setup setup = {.type = compute,
                        .runs = 1,
                        .rounds = o->rounds,
                        .team = t,
                        .script = script,
                        .n_peers = o->n_peers,
                        .peers = o->peers};
    double *best = mem_calloc((size_t)exec_lines(e), sizeof *best), seconds;
    error err = {0};
    if (!best) machine_die("out of memory");
    for (int i = 0; i < exec_lines(e); i++) setup.flops += exec_line(e, i).flops;
    race *r = race_new(&setup);
    exec_time(e, true);
    do {
        fill_inputs(e, n->inputs, n->n_inputs); // the prompt's part is done again, as PyTorch does
        double begin = clock_seconds();
        if (exec_run(e, &err)) machine_die(err.text);
        seconds = clock_seconds() - begin;
        for (int i = 0; i < exec_lines(e); i++) {
            double now = exec_line(e, i).seconds;
            if (!race_warm(r) || now < best[i]) best[i] = now;
        }
    } while (race_round(r, seconds));
    race_print(r);
    printf("\n");
    tally all = print_classes(e, best, race_ceiling(r));
    print_layers(e, best, all.seconds, race_ceiling(r));
    printf("\n%.2f ms in kernels, %.0f MB read and written by them at least.\n", 1e3 * all.seconds,
           all.bytes * 1e-6);
    race_free(r);
    mem_free(best);
}

static void run(const network *n, dtype compute, const options *o) {
    error err = {0};
    char title[128];
    team *t = team_new(0);
    model m = model_open(n->file);
    graph g;
    graph_init(&g, compute);
    g.weights = &m.w;
    runner r = {.of = n};
    node *out = n->build(&g, n, json_object_get(m.json, "config"), &err);
    if (!out) machine_die(err.text);
    backend *be = cpu_backend_fast(t, &err);
    if (!be) machine_die(err.text);
    r.n_inputs = list_inputs(&g, r.inputs);
    double start = clock_seconds();
    plan *p = plan_new(&g, &out, 1, be, &err);
    if (!p) machine_die(err.text);
    double planned = clock_seconds();
    store *values = store_new();
    workspace ws = {0};
    r.e = values ? exec_new(p, values, &ws, &err) : NULL;
    if (!r.e) machine_die(err.text);
    double packed = clock_seconds();
    plan_memory needs = plan_needs(p);
    snprintf(title, sizeof title, "%s, %s", n->title, dtype_name(compute));
    machine_head(title, t);
    printf(
        "Planned in %.0f ms, weights made and packed in %.1f s (%.0f MB); arena %.0f MB, inputs and outputs "
        "%.1f MB.\n\n",
        1e3 * (planned - start), packed - planned, (double)store_bytes(values) * 1e-6,
        (double)needs.workspace * 1e-6, (double)needs.persistent * 1e-6);
    measure(&r, compute, t, o);
    exec_free(r.e);
    store_free(values);
    workspace_free(&ws);
    plan_free(p);
    backend_free(be);
    model_close(&m);
    team_free(t);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "unet";
    bool bf16 = argc > 2 ? !strcmp(argv[2], "bf16") : cpu_has_bf16();
    options o = {argc > 3 ? atoi(argv[3]) : 5, argc > 5 ? argc - 5 : 0, argv + 4};
    run(network_named(name), bf16 ? DT_BF16 : DT_F32, &o);
}
