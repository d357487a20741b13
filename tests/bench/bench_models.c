// Whole networks of Stable Diffusion 1.5 with generated weights, as shares of the machine's ceiling.
//
//   bench_models [unet | vae_decoder | text_encoder [bf16 | f32 [ROUNDS [PYTHON VARIANT...]]]]
//
// Run from the repository's root. Sizes: 512×512 pictures, a batch of two for guidance (autoencoder: one).
// Every round measures the ceiling, this network, and each VARIANT of the same network in PyTorch (peer.py:
// eager, channels_last, compile), one after the other, so that all see the same clock. One process measures
// one network: the peak memory is the process's.
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/cpu/cpu.h"
#include "core/graph/plan.h"
#include "core/models/clip.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "tests/bench/ceiling.h"
#include "tests/tools/genweights.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ROUNDS = 99, MAX_PEERS = 4, MAX_GROUPS = 512 };

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *why) {
    fprintf(stderr, "bench_models: %s\n", why);
    exit(1);
}

// ---- the machine

// The value of the first line "key : value" of a file of /proc, or "".
static void proc_value(const char *path, const char *key, char *value, size_t size) {
    FILE *f = fopen(path, "r");
    char line[8192];
    *value = 0;
    while (f && !*value && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) || !colon) continue;
        snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        value[strcspn(value, "\n")] = 0;
    }
    if (f) fclose(f);
}

static void print_machine(team *t) {
    static const char *const SETS[] = {"avx2",        "fma",         "avx512f", "avx512_vnni",
                                       "avx512_bf16", "avx512_fp16", "amx_bf16"};
    char model[128], flags[8192];
    proc_value("/proc/cpuinfo", "model name", model, sizeof model);
    proc_value("/proc/cpuinfo", "flags", flags, sizeof flags);
    printf("%s, %d threads:", model, team_size(t));
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++) {
        const char *at = strstr(flags, SETS[i]);
        if (at && strchr(" ", at[strlen(SETS[i])])) printf(" %s", SETS[i]);
    }
    printf("\n");
}

static double peak_gb(void) {
    char text[64];
    proc_value("/proc/self/status", "VmHWM", text, sizeof text);
    return atof(text) * 1024e-9;
}

// ---- weights: names and shapes of a golden case, values generated

typedef struct {
    weights w;
    json_t *json;
    weight *list;
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

static model model_open(const char *path) {
    error err = {0};
    model m = {.w = {find_weight, path}, .json = js_load(path, 1 << 24, &err)};
    if (!m.json) die(err.text);
    const json_t *tensors = json_object_get(m.json, "tensors");
    m.list = mem_calloc(json_array_size(tensors), sizeof *m.list);
    if (!m.list) die("out of memory");
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
    json_decref(m->json);
}

// ---- networks

typedef struct {
    const char *name, *title, *file;
    node *(*build)(graph *g, const json_t *config, error *err);
} network;

static node *build_unet(graph *g, const json_t *config, error *err) {
    unet_config c;
    if (unet_config_parse(&c, config, "config.json", err)) return NULL;
    unet_inputs in = {.sample = graph_input(g, "sample", SHAPE(2, 64, 64, 4), DT_F32, RATE_STEP),
                      .timestep = graph_input(g, "timestep", SHAPE(2), DT_F32, RATE_STEP),
                      .encoder_hidden_states =
                          graph_input(g, "context", SHAPE(2, 77, 768), DT_F32, RATE_PROMPT)};
    return unet_build(g, &c, &in);
}

static node *build_decoder(graph *g, const json_t *config, error *err) {
    vae_config c;
    if (vae_config_parse(&c, config, "config.json", err)) return NULL;
    return vae_decode_build(g, &c, graph_input(g, "latent", SHAPE(1, 64, 64, 4), DT_F32, RATE_STEP));
}

static node *build_text(graph *g, const json_t *config, error *err) {
    clip_config c;
    if (clip_config_parse(&c, config, "config.json", err)) return NULL;
    node *ids = graph_input(g, "ids", SHAPE(2, 77), DT_I32, RATE_STEP);
    return clip_build(g, &c, ids, graph_input(g, "eos", SHAPE(2), DT_I32, RATE_STEP)).last_hidden_state;
}

static const network NETWORKS[] = {
    {"unet", "UNet, 2x64x64 latents, 77 tokens", "tests/golden/networks/unet_sd15_full.json", build_unet},
    {"vae_decoder", "VAE decoder, 64x64 latents to 512x512", "tests/golden/networks/vae_sd15_full.json",
     build_decoder},
    {"text_encoder", "text encoder, 2x77 tokens", "tests/golden/networks/text_sd15_full.json", build_text}};

static const network *network_named(const char *name) {
    for (size_t i = 0; i < sizeof NETWORKS / sizeof *NETWORKS; i++)
        if (!strcmp(NETWORKS[i].name, name)) return &NETWORKS[i];
    die("networks are unet, vae_decoder and text_encoder");
    return NULL;
}

// Uniform values, a step in the middle, the first ids of the vocabulary.
static void fill_inputs(exec *e) {
    static const struct {
        const char *name;
        int64_t n;
    } FLOATS[] = {{"sample", 2 * 64 * 64 * 4}, {"context", 2 * 77 * 768}, {"latent", 64 * 64 * 4}};
    for (int i = 0; i < 3; i++) {
        float *x = exec_input(e, FLOATS[i].name);
        if (x) gen_uniform(FLOATS[i].name, FLOATS[i].n, x);
    }
    float *t = exec_input(e, "timestep");
    for (int i = 0; t && i < 2; i++) t[i] = 500;
    int32_t *ids = exec_input(e, "ids");
    for (int i = 0; ids && i < 2 * 77; i++) ids[i] = i;
}

// ---- PyTorch in another process: a line to it, one evaluation, a line back

typedef struct {
    const char *variant;
    pid_t pid;
    FILE *to, *from;
} peer;

static peer peer_start(const char *python, const char *variant, const network *n, const char *precision,
                       team *t) {
    int ask[2], answer[2];
    char threads[16];
    snprintf(threads, sizeof threads, "%d", team_size(t));
    if (pipe2(ask, O_CLOEXEC) || pipe2(answer, O_CLOEXEC)) die("no pipe");
    pid_t pid = fork();
    if (!pid) {
        dup2(ask[0], 0);
        dup2(answer[1], 1);
        execl(python, python, "tests/bench/peer.py", n->name, n->file, precision, variant, threads,
              (char *)NULL);
        _exit(127);
    }
    close(ask[0]);
    close(answer[1]);
    return (peer){variant, pid, fdopen(ask[1], "w"), fdopen(answer[0], "r")};
}

// Seconds of one evaluation; 0 when the peer is not there.
static double peer_run(peer *p, double *peak) {
    double s = 0;
    if (fputs("run\n", p->to) < 0 || fflush(p->to) || fscanf(p->from, "%lf %lf", &s, peak) != 2) return 0;
    return s;
}

static void peer_stop(peer *p) {
    fclose(p->to);
    fclose(p->from);
    waitpid(p->pid, NULL, 0);
}

// ---- layers: lines of equal op, kernel and shape together

typedef struct {
    plan_line line; // of the first; seconds, flops and bytes of all
    double each;    // FLOPs of one
    int n;
} group;

static bool same_group(const group *g, const plan_line *l) {
    return !strcmp(g->line.op, l->op) && !strcmp(g->line.kernel, l->kernel) &&
           shape_equal(g->line.shape, l->shape) && g->line.dtype == l->dtype && g->each == l->flops;
}

static int slower_first(const void *a, const void *b) {
    double d = ((const group *)b)->line.seconds - ((const group *)a)->line.seconds;
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

static void print_layers(const exec *e, const double *best, double ceiling) {
    static group groups[MAX_GROUPS];
    int n = 0;
    double total = 0;
    for (int i = 0; i < exec_lines(e); i++) {
        plan_line l = exec_line(e, i);
        int k = 0;
        while (k < n && !same_group(&groups[k], &l)) k++;
        if (k == MAX_GROUPS) die("more kinds of layers than a table holds");
        if (k == n) groups[n++] = (group){.line = l, .each = l.flops};
        group *g = &groups[k];
        if (g->n++) {
            g->line.flops += l.flops;
            g->line.bytes += l.bytes;
        } else {
            g->line.seconds = 0;
        }
        g->line.seconds += best[i];
        total += best[i];
    }
    qsort(groups, (size_t)n, sizeof *groups, slower_first);
    printf("%9s %5s %7s %7s %6s  %-11s %-18s %6s  %s\n", "ms", "share", "GF/s", "ceiling", "GB/s", "op",
           "result", "inner", "count, kernel");
    for (int i = 0; i < n; i++) {
        const plan_line *l = &groups[i].line;
        char text[128];
        double speed = l->flops / l->seconds * 1e-9;
        printf("%9.2f %4.1f%% %7.0f %6.0f%% %6.1f  %-11s %-18s %6.0f  %d %s\n", 1e3 * l->seconds,
               100 * l->seconds / total, speed, 100 * speed / ceiling, l->bytes / l->seconds * 1e-9, l->op,
               shape_text(l->shape, text), groups[i].each / 2 / (double)shape_count(l->shape), groups[i].n,
               l->kernel);
    }
    printf("%9.2f ms in kernels\n", 1e3 * total);
}

// ---- rounds

static int ascending(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d > 0 ? 1 : d < 0 ? -1 : 0;
}

// Sorts; then the first is the best and the middle one the median.
static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, ascending);
    return x[n / 2];
}

typedef struct {
    const network *n;
    dtype compute;
    int rounds;
    team *t;
    exec *e;
    peer peers[MAX_PEERS];
    int n_peers;
} bench;

static void measure(bench *b) {
    error err = {0};
    double ours[MAX_ROUNDS], theirs[MAX_PEERS][MAX_ROUNDS], top[MAX_ROUNDS], peak[MAX_PEERS] = {0};
    double *best = mem_calloc((size_t)exec_lines(b->e), sizeof *best), flops = 0;
    ceiling_kind kind = b->compute == DT_BF16                           ? CEILING_AVX512_BF16
                        : ceiling_measure(CEILING_AVX512_F32, b->t) > 0 ? CEILING_AVX512_F32
                                                                        : CEILING_AVX2_F32;
    if (!best) die("out of memory");
    exec_time(b->e, true);
    for (int r = -1; r < b->rounds; r++) { // one round to warm up
        fill_inputs(b->e);                 // the prompt's part is done again, as PyTorch does
        double tops[8], start;
        for (int i = 0; i < 8; i++) tops[i] = -ceiling_measure(kind, b->t);
        median(tops, 8);
        start = seconds();
        if (exec_run(b->e, &err)) die(err.text);
        double s = seconds() - start;
        for (int i = 0; i < exec_lines(b->e); i++) {
            double now = exec_line(b->e, i).seconds;
            if (r <= 0 || now < best[i]) best[i] = now;
        }
        for (int p = 0; p < b->n_peers; p++) {
            double t = peer_run(&b->peers[p], &peak[p]);
            if (r >= 0) theirs[p][r] = t;
        }
        if (r < 0) continue;
        ours[r] = s;
        top[r] = tops[0];
    }
    for (int i = 0; i < exec_lines(b->e); i++) flops += exec_line(b->e, i).flops;
    double middle = -median(top, b->rounds), ceiling = -top[0];
    printf("\nSD1.5 %s, %s: %.0f GFLOP\n", b->n->title, dtype_name(b->compute), flops * 1e-9);
    print_layers(b->e, best, ceiling);
    printf("\n%-24s %9s %9s %14s %8s %8s\n", "best and median of rounds", "best", "median", "of the ceiling",
           "peak GB", "ratio");
    printf("%-24s %7.0f %9.0f  GF/s\n", ceiling_name(kind), ceiling, middle);
    double m = median(ours, b->rounds);
    printf("%-24s %9.3f %9.3f s %11.0f%% %8.2f\n", "calotype", ours[0], m,
           100 * flops * 1e-9 / ours[0] / ceiling, peak_gb());
    for (int p = 0; p < b->n_peers; p++) {
        m = median(theirs[p], b->rounds);
        if (theirs[p][0] > 0)
            printf("PyTorch %-16s %9.3f %9.3f s %11.0f%% %8.2f %7.2fx\n", b->peers[p].variant, theirs[p][0],
                   m, 100 * flops * 1e-9 / theirs[p][0] / ceiling, peak[p], theirs[p][0] / ours[0]);
        else
            printf("PyTorch %-16s did not run\n", b->peers[p].variant);
    }
    fflush(stdout);
    mem_free(best);
}

// ---- one network

static void run(const network *n, dtype compute, int rounds, int n_variants, char **variants) {
    error err = {0};
    bench b = {.n = n, .compute = compute, .rounds = rounds, .t = team_new(0)};
    for (int i = 1; i < n_variants && b.n_peers < MAX_PEERS; i++)
        b.peers[b.n_peers++] = peer_start(variants[0], variants[i], n, dtype_name(compute), b.t);
    print_machine(b.t);
    model m = model_open(n->file);
    graph g;
    graph_init(&g, compute);
    g.weights = &m.w;
    node *out = n->build(&g, json_object_get(m.json, "config"), &err);
    if (!out) die(err.text);
    backend *be = cpu_backend_fast(b.t, &err);
    if (!be) die(err.text);
    double start = seconds();
    plan *p = plan_new(&g, &out, 1, be, &err);
    if (!p) die(err.text);
    double planned = seconds();
    store *values = store_new();
    workspace ws = {0};
    b.e = values ? exec_new(p, values, &ws, &err) : NULL;
    if (!b.e) die(err.text);
    plan_memory needs = plan_needs(p);
    printf("plan %.0f ms, weights %.1f s; packed %.0f MB, arena %.0f MB, inputs and outputs %.1f MB\n",
           1e3 * (planned - start), seconds() - planned, (double)store_bytes(values) * 1e-6,
           (double)needs.workspace * 1e-6, (double)needs.persistent * 1e-6);
    measure(&b);
    for (int i = 0; i < b.n_peers; i++) peer_stop(&b.peers[i]);
    exec_free(b.e);
    store_free(values);
    workspace_free(&ws);
    plan_free(p);
    backend_free(be);
    model_close(&m);
    team_free(b.t);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "unet";
    bool bf16 = argc > 2 ? !strcmp(argv[2], "bf16") : cpu_has_bf16();
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    if (rounds < 1 || rounds > MAX_ROUNDS) die("rounds are 1 to 99");
    run(network_named(name), bf16 ? DT_BF16 : DT_F32, rounds, argc > 5 ? argc - 4 : 0, argv + 4);
}
