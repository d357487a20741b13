#include "assets/world/recogniser.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/cpu/cpu.h"
#include "core/files/weights_file.h"
#include "core/graph/op.h"
#include "core/graph/runner.h"
#include "core/models/blocks.h"

enum { BATCH = 16, QUERIES = 3 };

const recogniser_config RECOGNISER_CONFIG = {
    .side = 128, .width = {16, 32, 64, 128}, .groups = 8, .heads = 4};

// ---- network

int recogniser_offset(int head) {
    int n = 0;
    for (int i = 0; i < head; i++) n += LABEL_HEAD[i].classes;
    return n;
}

int recogniser_logits(void) { return recogniser_offset(LABELS); }

// [B,side,side,3] → [B,side/16,side/16,C]. What is added to the residual stream is normed, the stream is not:
// the light of a scene is a matter of absolute brightness.
static node *trunk(const recogniser_config *c, node *x) {
    resnet_style style = {.groups = c->groups, .eps = 1e-5, .divisor = 1};
    x = unary(conv3x3(x, "conv_in", c->width[0], 2), UNARY_SILU);
    for (int i = 1; i < RECOGNISER_LEVELS; i++) {
        int mark = path_push(x->g, "levels.%d", i - 1);
        x = conv3x3(x, "down", c->width[i], 2);
        int inner = path_push(x->g, "resnets.0");
        x = resnet(x, NULL, c->width[i], &style);
        path_pop(x->g, inner);
        path_pop(x->g, mark);
    }
    return norm_group(x, "norm_out", c->groups, 1e-5, ACT_SILU);
}

// A learned table of n rows added to or standing for tokens of each picture: [1,n,C] of g->compute.
static node *table(graph *g, const char *name, int64_t n, int64_t C) {
    return cast(reshape(graph_weight(g, name, SHAPE(n, C)), SHAPE(1, n, C)), g->compute);
}

// [B,h,w,C] → [B,QUERIES,C]
static node *pool(const recogniser_config *c, node *x) {
    if (is_poison(x)) return x;
    graph *g = x->g;
    int64_t B = x->shape.d[0], C = shape_last(x->shape);
    int mark = path_push(g, "pool");
    node *tokens = as_tokens(x);
    tokens = add(tokens, table(g, "position_embedding.weight", tokens->shape.d[1], C));
    node *queries = broadcast(table(g, "queries.weight", QUERIES, C), SHAPE(B, QUERIES, C));
    node *y = attend(queries, tokens, c->heads, true);
    path_pop(g, mark);
    return y;
}

// [B,n,C] → [B,n·classes] of g->exact
static node *answers(node *x, const char *name, int first_head, int last_head) {
    if (is_poison(x)) return x;
    int classes = recogniser_offset(last_head + 1) - recogniser_offset(first_head);
    int mark = path_push(x->g, "%s", name);
    node *h = unary(linear(x, "fc1", shape_last(x->shape), true), UNARY_SILU);
    node *y = linear(h, "fc2", classes, true);
    path_pop(x->g, mark);
    if (is_poison(y)) return y;
    return cast(reshape(y, SHAPE(y->shape.d[0], y->shape.d[1] * classes)), y->g->exact);
}

node *recogniser_build(graph *g, const recogniser_config *c, node *picture) {
    node *x = pool(c, trunk(c, cast(picture, g->compute)));                         // [B,3,C]
    node *objects = answers(slice(x, 1, 0, 2), "object", LABEL_KIND, LABEL_SIZE);   // [B,2·23]
    node *whole = answers(slice(x, 1, 2, 1), "scene", LABEL_COUNT, LABEL_KIND - 1); // [B,21]
    return concat(whole, objects, 1);
}

// ---- at work

struct recogniser {
    weights_file *file;
    backend *backend;
    runner run;
    team *own_team;
};

static status make_plan(recogniser *r, error *err) {
    const recogniser_config *c = &RECOGNISER_CONFIG;
    graph g;
    graph_init(&g, DT_F32);
    g.weights = weights_file_weights(r->file);
    node *picture = graph_input(&g, "picture", SHAPE(BATCH, c->side, c->side, 3), DT_F32, RATE_STEP);
    node *logits = recogniser_build(&g, c, picture);
    return runner_init(&r->run, &g, &logits, 1, r->backend, NULL, NULL, err);
}

recogniser *recogniser_open(const char *path, team *t, error *err) {
    error local = {0};
    if (!err) err = &local;
    recogniser *r = mem_calloc(1, sizeof *r);
    if (!r) return fail(err, ERR_TEMP, "out of memory"), NULL;
    if (!t) t = r->own_team = team_new(1);
    status s = t ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s && !(r->file = weights_file_open(path, NULL, err))) s = err->code;
    if (!s && !(r->backend = cpu_backend(t, err))) s = err->code;
    if (!s) s = make_plan(r, err);
    if (!s) return r;
    recogniser_free(r);
    return NULL;
}

void recogniser_free(recogniser *r) {
    if (!r) return;
    runner_free(&r->run);
    backend_free(r->backend);
    weights_file_close(r->file);
    team_free(r->own_team);
    mem_free(r);
}

int recogniser_side(const recogniser *r) {
    (void)r;
    return RECOGNISER_CONFIG.side;
}

static int largest(const float *x, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static void read_labels(const float *logits, int label[LABELS]) {
    for (int h = 0; h < LABELS; h++) label[h] = largest(logits + recogniser_offset(h), LABEL_HEAD[h].classes);
    if (!label[LABEL_COUNT])
        label[LABEL_OTHER_KIND] = label[LABEL_OTHER_COLOUR] = label[LABEL_OTHER_SIZE] = -1;
}

status recogniser_see(recogniser *r, const uint8_t *rgb, int n, int (*label)[LABELS], error *err) {
    size_t side = (size_t)recogniser_side(r), each = side * side * 3;
    for (int at = 0; at < n; at += BATCH) {
        int some = n - at < BATCH ? n - at : BATCH;
        float *picture = exec_input(r->run.exec, "picture");
        memset(picture, 0, BATCH * each * sizeof *picture);
        for (size_t i = 0; i < (size_t)some * each; i++) picture[i] = rgb[(size_t)at * each + i] / 127.5f - 1;
        status s = exec_run(r->run.exec, err);
        if (s) return s;
        const float *logits = exec_output(r->run.exec, 0);
        for (int i = 0; i < some; i++) read_labels(logits + i * recogniser_logits(), label[at + i]);
    }
    return OK;
}
