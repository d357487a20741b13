// Training a text-to-image model as `calotype train` does, beside the same training in PyTorch.
//
//   bench_train [CONFIG [bf16 | f32 [ROUNDS [PYTHON VARIANT...]]]]
//
// Run from the repository's root. CONFIG (tests/bench/train.json) is one of `calotype train --kind text2img`;
// its first stage is trained, on pictures of noise. PyTorch (torch_train.py) has talbot's networks and as
// many samples in each update, batch × accumulate, in one pass.
//
// The trainer itself is timed, from one update to the next: reading latents and captions, drawing noise,
// gradients, AdamW and the moving average.
#include "core/base/clock.h"
#include "core/cpu/cpu.h"
#include "core/graph/runner.h"
#include "core/train/networks.h"
#include "core/train/params.h"
#include "core/train/train.h"
#include "tests/bench/machine.h"
#include "tests/bench/race.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PICTURES = 64, // encoded before the first update
    UPDATES = 8    // of a round; more than there are questions while the pictures are encoded
};

// ---- pictures of noise

static status noise_picture(void *self, uint64_t i, int W, int H, uint8_t *rgb, source_spots *spots,
                            error *err) {
    (void)self, (void)err;
    if (spots) *spots = (source_spots){0};
    for (uint64_t k = 0; k < (uint64_t)W * (uint64_t)H * 3; k++)
        rgb[k] = (uint8_t)((k + i) * 2654435761u >> 24);
    return OK;
}

static status noise_caption(void *self, uint64_t i, uint64_t telling, char text[SOURCE_CAPTION_MAX],
                            error *err) {
    (void)self, (void)i, (void)telling, (void)err;
    strcpy(text, "a red house under a yellow moon on a black background");
    return OK;
}

static status noise_open(void *user, const char *spec, uint64_t seed, sample_source *source, error *err) {
    (void)user, (void)seed;
    *source = (sample_source){.name = "noise",
                              .count = PICTURES,
                              .n_buckets = 1,
                              .picture = noise_picture,
                              .caption = noise_caption};
    return strcmp(spec, "noise:") ? fail(err, ERR_USAGE, "data is to be \"noise:\"") : OK;
}

// ---- what an update is worth

typedef struct {
    int64_t size, tokens; // side of the latents
    double flops;         // of one sample
} work;

// A forward pass and two products as large behind each of its own, for the gradients of inputs and weights.
// What the trainer computes a second time to save memory does not count.
static work work_of(const train_config *c, team *t) {
    networks n;
    error err = {0};
    graph g;
    params *start = params_new(1);
    runner r;
    if (!start) machine_die("out of memory");
    if (networks_open(&n, c->model, &err)) machine_die(err.text);
    work w = {.size = c->stage[0].sizes[0].W / vae_factor(&n.vae), .tokens = n.tokens};
    graph_init(&g, DT_F32);
    g.weights = params_training(start);
    node *ids = graph_input(&g, "ids", SHAPE(1, n.tokens), DT_I32, RATE_STEP);
    node *eos = graph_input(&g, "eos", SHAPE(1), DT_I32, RATE_STEP);
    node *time = graph_input(&g, "timestep", SHAPE(1), DT_F32, RATE_STEP);
    shape latent = SHAPE(1, w.size, w.size, n.vae.latent_channels);
    node *out = networks_build(&g, &n, graph_input(&g, "sample", latent, DT_F32, RATE_STEP), time, ids, eos);
    backend *be = cpu_backend(t, &err);
    if (!be || runner_init(&r, &g, &out, 1, be, NULL, NULL, &err)) machine_die(err.text);
    for (int i = 0; i < exec_lines(r.exec); i++) w.flops += 3 * exec_line(r.exec, i).flops;
    runner_free(&r);
    backend_free(be);
    params_free(start);
    networks_close(&n);
    return w;
}

// ---- rounds

typedef struct {
    race *race;
    int updates;
    double begin;
} training;

// The trainer asks after every update, and now and then while it encodes the pictures: that is a part of the
// round that warms up.
static bool enough(void *user) {
    training *t = user;
    if (++t->updates % UPDATES) return false;
    bool more = race_round(t->race, clock_seconds() - t->begin);
    t->begin = clock_seconds();
    return !more;
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *at) {
    (void)s, (void)type, (void)at;
    return remove(path);
}

// Trains in a folder of its own, which is gone afterwards.
static void train(train_config *c, training *t) {
    char out[] = "/tmp/calotype-bench-XXXXXX";
    error err = {0};
    if (!mkdtemp(out)) machine_die("no temporary folder");
    c->out = out;
    t->begin = clock_seconds();
    status s = train_run(c, &(train_hooks){.user = t, .cancelled = enough, .open_source = noise_open}, &err);
    nftw(out, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    if (s != ERR_CANCELLED) machine_die(s ? err.text : "the configuration's samples are too few");
}

int main(int argc, char **argv) {
    bool bf16 = argc > 2 ? !strcmp(argv[2], "bf16") : cpu_has_bf16();
    train_config c;
    error err = {0};
    if (train_config_load(&c, argc > 1 ? argv[1] : "tests/bench/train.json", &err)) machine_die(err.text);
    c.kind = TRAIN_TEXT2IMG;
    c.precision = bf16 ? "bf16" : "f32";
    team *t = team_new((int)c.threads);
    const train_stage *stage = &c.stage[0];
    int samples = (int)(stage->batch * stage->accumulate);
    work w = work_of(&c, t);
    char title[128], word[3][24];
    snprintf(word[0], sizeof word[0], "%d", samples);
    snprintf(word[1], sizeof word[1], "%lld", (long long)w.size);
    snprintf(word[2], sizeof word[2], "%lld", (long long)w.tokens);
    const char *script[] = {"tests/bench/torch_train.py", word[0], word[1], word[2], NULL};
    training now = {.race = race_new(&(race_setup){.type = bf16 ? DT_BF16 : DT_F32,
                                                   .flops = samples * w.flops,
                                                   .samples = samples,
                                                   .runs = UPDATES,
                                                   .rounds = argc > 3 ? atoi(argv[3]) : 5,
                                                   .team = t,
                                                   .script = script,
                                                   .n_peers = argc > 5 ? argc - 5 : 0,
                                                   .peers = argv + 4})};
    train(&c, &now);
    snprintf(title, sizeof title, "Training talbot, %lldx%lld latents, %lld x %lld samples an update, %s",
             (long long)w.size, (long long)w.size, (long long)stage->accumulate, (long long)stage->batch,
             bf16 ? "BF16" : "F32");
    machine_head(title, t);
    race_print(now.race);
    race_free(now.race);
    team_free(t);
    train_config_free(&c);
}
