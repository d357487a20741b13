// Every network's output and gradients beside those of diffusers and transformers (tests/golden/networks).
#include "adapters/lora.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/graph/runner.h"
#include "core/models/clip.h"
#include "core/models/layout.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "tests/backend.h"
#include "tests/golden_case.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { MAX_IO = 8, MAX_ROWS = 2048 };

// What one precision is expected to reach: ‖a−b‖/‖b‖ for each tensor.
typedef struct {
    backend *be;
    dtype compute;
    double forward, gradient;
    bool recompute;
    const tap *tap; // NULL for none
} setting;

typedef struct {
    golden *c;
    int run;
    bool recompute;
    golden_run about;
    graph g;
    node *in[MAX_IO], *dout[MAX_IO];
    node *wrt[MAX_ROWS], *grads[MAX_ROWS]; // by row; NULL where the network has no such leaf
    node *out[MAX_IO + MAX_ROWS];
    int n_out;
} problem;

// ---- layout: images are NHWC in the graph

static shape inside(shape s) { return s.rank == 4 ? SHAPE(s.d[0], s.d[2], s.d[3], s.d[1]) : s; }

// Index in the graph's layout of element i in the file's layout s.
static int64_t place_of(shape s, int64_t i) {
    if (s.rank != 4) return i;
    int64_t x = i % s.d[3], y = i / s.d[3] % s.d[2], c = i / (s.d[3] * s.d[2]) % s.d[1],
            b = i / (s.d[3] * s.d[2] * s.d[1]);
    return ((b * s.d[2] + y) * s.d[3] + x) * s.d[1] + c;
}

static void put(void *dst, dtype t, shape s, const double *v) {
    for (int64_t i = 0; i < shape_count(s); i++)
        dtype_from_f64(t, &v[i], (char *)dst + (size_t)place_of(s, i) * dtype_size(t), 1);
}

static double *get(const void *src, dtype t, shape s) {
    double *v = mem_alloc((size_t)shape_count(s) * sizeof *v);
    cr_assert_not_null(v);
    for (int64_t i = 0; i < shape_count(s); i++)
        dtype_to_f64(t, (const char *)src + (size_t)place_of(s, i) * dtype_size(t), &v[i], 1);
    return v;
}

// ---- building

static node *input_named(const problem *p, const char *name) {
    for (int i = 0; i < p->about.n_inputs; i++)
        if (!strcmp(golden_input(p->c, p->run, i).name, name)) return p->in[i];
    return NULL;
}

static void make_inputs(problem *p, const unet_config *unet) {
    for (int i = 0; i < p->about.n_inputs; i++) {
        golden_tensor t = golden_input(p->c, p->run, i);
        bool ids = !strcmp(t.name, "input_ids") ||
                   (!strcmp(t.name, "class_labels") && unet->class_embed == CLASS_LABEL);
        p->in[i] = graph_input(&p->g, t.name, inside(t.shape), ids ? DT_I32 : p->g.exact, RATE_STEP);
        if (t.generated && p->about.gradients) graph_require_grad(p->in[i]);
    }
}

static void build_text(problem *p) {
    clip_config c;
    error err = {0};
    cr_assert_eq(clip_config_parse(&c, golden_config(p->c), "config.json", &err), OK, "%s", err.text);
    c.recompute = p->recompute;
    cr_assert_eq(c.with_projection, !strcmp(p->about.network, "text_encoder_2"));
    make_inputs(p, NULL);
    node *eos = graph_input(&p->g, "eos", SHAPE(p->in[0]->shape.d[0]), DT_I32, RATE_STEP);
    clip_outputs o = clip_build(&p->g, &c, 0, p->in[0], eos);
    p->out[0] = o.last_hidden_state;
    p->out[1] = o.penultimate;
    p->out[2] = o.pooled;
}

static void build_vae(problem *p) {
    vae_config c;
    error err = {0};
    cr_assert_eq(vae_config_parse(&c, golden_config(p->c), "config.json", &err), OK, "%s", err.text);
    c.recompute = p->recompute;
    make_inputs(p, NULL);
    if (!strcmp(p->about.network, "vae_encoder")) {
        vae_moments m = vae_encode_build(&p->g, &c, p->in[0]);
        p->out[0] = m.mean;
        p->out[1] = m.logvar;
    } else {
        p->out[0] = vae_decode_build(&p->g, &c, p->in[0]);
    }
}

static void build_unet(problem *p) {
    unet_config c;
    error err = {0};
    cr_assert_eq(unet_config_parse(&c, golden_config(p->c), "config.json", &err), OK, "%s", err.text);
    c.recompute = p->recompute;
    make_inputs(p, &c);
    unet_inputs in = {.sample = input_named(p, "sample"),
                      .timestep = input_named(p, "timestep"),
                      .encoder_hidden_states = input_named(p, "encoder_hidden_states"),
                      .timestep_cond = input_named(p, "timestep_cond"),
                      .class_labels = input_named(p, "class_labels"),
                      .text_embeds = input_named(p, "text_embeds"),
                      .time_ids = input_named(p, "time_ids")};
    p->out[0] = unet_build(&p->g, &c, &in);
}

// loss = Σ over outputs of Σ out·dout; its gradients with respect to every row's leaf.
static void add_gradients(problem *p) {
    node *loss = NULL;
    for (int i = 0; i < p->about.n_outputs; i++) {
        char name[32];
        snprintf(name, sizeof name, "dout%d", i);
        p->dout[i] = graph_input(&p->g, name, p->out[i]->shape, p->g.exact, RATE_STEP);
        node *term = reduce_sum(mul(p->out[i], p->dout[i]), SHAPE(1), p->g.exact);
        loss = loss ? add(loss, term) : term;
    }
    node *wrt[MAX_ROWS], *grads[MAX_ROWS];
    int row_of[MAX_ROWS], n = 0, rows = golden_rows(p->c, p->run);
    cr_assert_leq(rows, MAX_ROWS);
    for (int r = 0; r < rows; r++) {
        const char *input;
        const weight *w = golden_row(p->c, p->run, r, &input);
        node *leaf = w ? graph_leaf(&p->g, w) : input_named(p, input);
        if (!leaf) continue; // a weight of the other half of the autoencoder
        row_of[n] = r;
        wrt[n++] = leaf;
    }
    graph_grad(&p->g, loss, wrt, n, grads);
    for (int i = 0; i < n; i++)
        if (grads[i]) {
            p->grads[row_of[i]] = grads[i];
            p->out[p->n_out++] = grads[i];
        }
}

static void build(problem *p, golden *c, int run, const setting *s) {
    *p = (problem){.c = c, .run = run, .recompute = s->recompute, .about = golden_run_at(c, run)};
    graph_init(&p->g, s->compute);
    p->g.weights = golden_weights(c, p->about.gradients);
    p->g.taps = &s->tap;
    p->g.n_taps = s->tap != NULL;
    if (!strncmp(p->about.network, "text", 4))
        build_text(p);
    else if (!strncmp(p->about.network, "vae", 3))
        build_vae(p);
    else
        build_unet(p);
    p->n_out = p->about.n_outputs;
    cr_assert_eq(p->g.err.code, OK, "%s", p->g.err.text);
    for (int i = 0; i < p->n_out; i++)
        cr_assert(shape_equal(p->out[i]->shape, inside(golden_output(c, run, i).shape)));
    if (p->about.gradients) add_gradients(p);
}

// ---- running

static void fill(exec *e, const char *name, dtype t, shape s, const double *v) {
    void *x = exec_input(e, name);
    if (x) put(x, t, s, v); // an input may have no use
}

static void fill_eos(problem *p, exec *e, const double *ids) {
    clip_config c;
    clip_config_parse(&c, golden_config(p->c), "config.json", NULL);
    int32_t *eos = exec_input(e, "eos"), row[128];
    shape s = p->in[0]->shape;
    for (int64_t b = 0; b < s.d[0]; b++) {
        for (int64_t t = 0; t < s.d[1]; t++) row[t] = (int32_t)ids[b * s.d[1] + t];
        eos[b] = (int32_t)(b * s.d[1] + clip_eos_position(&c, row, s.d[1]));
    }
}

static void fill_inputs(problem *p, exec *e) {
    for (int i = 0; i < p->about.n_inputs; i++) {
        golden_tensor t = golden_input(p->c, p->run, i);
        double *v = mem_alloc((size_t)shape_count(t.shape) * sizeof *v);
        golden_input_values(p->c, p->run, i, v);
        fill(e, t.name, p->in[i]->dtype, t.shape, v);
        if (!strcmp(t.name, "input_ids")) fill_eos(p, e, v);
        mem_free(v);
    }
    for (int i = 0; i < p->about.n_outputs && p->about.gradients; i++) {
        golden_tensor t = golden_output(p->c, p->run, i);
        double *v = mem_alloc((size_t)shape_count(t.shape) * sizeof *v);
        golden_loss_values(p->c, p->run, i, v);
        fill(e, p->dout[i]->a.leaf.name, p->dout[i]->dtype, t.shape, v);
        mem_free(v);
    }
}

static void compare_outputs(const problem *p, const exec *e, const setting *s) {
    for (int i = 0; i < p->about.n_outputs; i++) {
        golden_tensor t = golden_output(p->c, p->run, i);
        double *v = get(exec_output(e, i), p->out[i]->dtype, t.shape);
        double d = golden_output_distance(p->c, p->run, i, v);
        cr_expect(d <= s->forward, "%s, run %d: output %s differs by %.2g", dtype_name(s->compute), p->run,
                  t.name, d);
        mem_free(v);
    }
}

static shape row_shape(problem *p, int row, const char **name) {
    const weight *w = golden_row(p->c, p->run, row, name);
    if (w) return *name = w->name, w->shape;
    for (int i = 0;; i++)
        if (!strcmp(golden_input(p->c, p->run, i).name, *name)) return golden_input(p->c, p->run, i).shape;
}

// Weights are in the file's layout, inputs that are images are not.
static double *gradient_of(problem *p, const exec *e, int row, int out) {
    const char *name, *input;
    shape layout = row_shape(p, row, &name);
    if (golden_row(p->c, p->run, row, &input)) layout = SHAPE(shape_count(layout));
    return get(exec_output(e, out), p->grads[row]->dtype, layout);
}

static void compare_gradients(problem *p, const exec *e, const setting *s) {
    int out = p->about.n_outputs;
    const char *name;
    for (int r = 0; r < golden_rows(p->c, p->run); r++) {
        double *v = p->grads[r] ? gradient_of(p, e, r, out++) : NULL;
        double d = golden_row_distance(p->c, p->run, r, v);
        row_shape(p, r, &name);
        cr_expect(d <= s->gradient, "%s, run %d: gradient of %s differs by %.2g", dtype_name(s->compute),
                  p->run, name, d);
        mem_free(v);
    }
}

// Returns the bytes that the plan works in.
static size_t check_run(golden *c, int run, const setting *s) {
    static problem p; // large
    build(&p, c, run, s);
    error err = {0};
    runner r;
    cr_assert_eq(runner_init(&r, &p.g, p.out, p.n_out, s->be, NULL, NULL, &err), OK, "%s", err.text);
    fill_inputs(&p, r.exec);
    cr_assert_eq(exec_run(r.exec, &err), OK, "%s", err.text);
    compare_outputs(&p, r.exec, s);
    if (p.about.gradients) compare_gradients(&p, r.exec, s);
    size_t bytes = plan_needs(r.plan).workspace;
    runner_free(&r);
    return bytes;
}

// Returns the bytes of the first run.
static size_t check_case(golden *c, setting s) {
    size_t bytes = 0;
    for (int run = golden_runs(c) - 1; run >= 0; run--) bytes = check_run(c, run, &s);
    return bytes;
}

static size_t check(const char *path, setting s) {
    golden *c = golden_open(path);
    size_t bytes = check_case(c, s);
    golden_close(c);
    return bytes;
}

// The golden numbers are float64 results stored as float32. In float64 what is left is that storage (6e-8)
// and the order of sums; in float32 the tolerances are those of tests/parity/README.md.
static void check_shrunk(const char *path) {
    team *t = team_new(0);
    backend *exact = reference_backend(t), *be = test_backend(t);
    check(path, (setting){exact, DT_F64, 1e-6, 1e-6});
    check(path, (setting){be, DT_F32, 1e-5, 1e-4});
    backend_free(exact);
    backend_free(be);
    team_free(t);
}

#define SHRUNK(NAME)                                                                                         \
    Test(networks, NAME) { check_shrunk("networks/" #NAME); }

SHRUNK(text_sd1)
SHRUNK(text_eos)
SHRUNK(text_sd2)
SHRUNK(text_sdxl)
SHRUNK(vae_sd)
SHRUNK(vae_talbot)
SHRUNK(vae_noquant)
SHRUNK(unet_sd15)
SHRUNK(unet_sd2)
SHRUNK(unet_sdxl)
SHRUNK(unet_talbot)
SHRUNK(unet_class_label)
SHRUNK(unet_class_timestep)
SHRUNK(unet_class_identity)
SHRUNK(unet_class_projection)
SHRUNK(unet_class_simple)
SHRUNK(unet_rare)
SHRUNK(unet_time_cond)
SHRUNK(unet_only_cross)
SHRUNK(unet_attn)
SHRUNK(unet_no_mid)

Test(networks, computing_blocks_again_changes_memory_and_nothing_else) {
    const char *paths[] = {"networks/text_sd1", "networks/vae_talbot", "networks/unet_sdxl"};
    team *t = team_new(0);
    backend *be = test_backend(t);
    for (int i = 0; i < 3; i++) {
        size_t bytes[2];
        for (int again = 0; again < 2; again++)
            bytes[again] = check(paths[i], (setting){be, DT_F32, 1e-5, 1e-4, again});
        cr_expect_lt(bytes[1], bytes[0], "%s needs %zu bytes, and %zu with recomputation", paths[i], bytes[0],
                     bytes[1]);
    }
    backend_free(be);
    team_free(t);
}

// bf16 keeps 8 bits: each rounding is worth 2⁻⁹ = 0.002, some dozens of them follow one another on the way
// forward (0.02 was measured) and as many again on the way back (0.13). Wrong arithmetic is worth 0.5 or
// more.
Test(networks, bf16_activations_are_close) {
    const char *paths[] = {"networks/text_sd1", "networks/vae_talbot", "networks/unet_talbot",
                           "networks/unet_sdxl"};
    team *t = team_new(0);
    backend *be = test_backend(t);
    for (int i = 0; i < 4; i++) check(paths[i], (setting){be, DT_BF16, 0.04, 0.25});
    backend_free(be);
    team_free(t);
}

// A LoRA with alpha 8 on every linear layer, beside peft's.
Test(networks, lora_sd15) {
    team *t = team_new(0);
    backend *exact = reference_backend(t), *be = test_backend(t);
    for (lora_mode mode = LORA_OUTPUT; mode <= LORA_MERGED; mode++) {
        golden *c = golden_open("lora/lora_sd15");
        lora l = lora_make(golden_weights(c, true), 8, NULL, mode);
        check_case(c, (setting){exact, DT_F64, 1e-6, 1e-6, .tap = &l.tap});
        check_case(c, (setting){be, DT_F32, 1e-5, 1e-4, .tap = &l.tap});
        golden_close(c);
    }
    backend_free(exact);
    backend_free(be);
    team_free(t);
}

// ---- full width: only as fast as a fast backend

static void check_full(const char *path) {
    team *t = team_new(0);
    backend *be = test_backend(t);
    if (strcmp(be->name, "reference"))
        check(path, (setting){be, DT_F32, 1e-5, 1e-4});
    else
        cr_log_warn("%s is left out on the reference backend", path);
    backend_free(be);
    team_free(t);
}

#define FULL(NAME)                                                                                           \
    Test(networks, NAME) { check_full("networks/" #NAME); }

FULL(text_sd15_full)
FULL(vae_sd15_full)
FULL(unet_sd15_full)
