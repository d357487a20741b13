#include "core/models/rrdb.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CHANNELS = 1024, MAX_DOUBLINGS = 3, MAX_SCALE = 8, DENSE_CONVS = 5 };

// ---- names: ours are those of BasicSR and Real-ESRGAN

static const name_row BASICSR[] = {{"*", "*"}, {0}};

// ESRGAN's own: one list of layers, activations and upsampling counted too.
static const name_row ESRGAN_CONV[] = {{"conv{i}.*", "conv{i}.0.*"}, {0}};
static const name_row ESRGAN[] = {
    {"conv_first.*", "model.0.*"},
    {"body.{i}.rdb{j}.*", "model.1.sub.{i}.RDB{j}.*", .rest = ESRGAN_CONV},
    {"conv_body.*", "model.1.sub.{layers}.*"},
    {"conv_up{i}.*", "model.{3i}.*"},
    {"conv_hr.*", "model.{3levels+2}.*"},
    {"conv_last.*", "model.{3levels+4}.*"},
    {0},
};

// ESRGAN's second.
static const name_row TRUNK[] = {
    {"body.{i}.rdb{j}.*", "RRDB_trunk.{i}.RDB{j}.*"},
    {"conv_body.*", "trunk_conv.*"},
    {"conv_up{i}.*", "upconv{i}.*"},
    {"conv_hr.*", "HRconv.*"},
    {"*", "*"},
    {0},
};

// A tensor that decides for a layout. What a trainer averaged goes before what it trained.
static const struct {
    const char *mark;
    const name_row *rows;
    bool compact;
} LAYOUTS[] = {
    {"body.0.rdb1.conv1.weight", BASICSR, false},
    {"model.1.sub.0.RDB1.conv1.0.weight", ESRGAN, false},
    {"RRDB_trunk.0.RDB1.conv1.weight", TRUNK, false},
    {"body.1.weight", BASICSR, true},
};
static const char *const PREFIXES[] = {"params_ema.", "params.", "module.", ""};

// ---- configuration

static const weight *look(const weights *w, const char *format, int i) {
    char name[64];
    snprintf(name, sizeof name, format, i);
    return w->find(w, name);
}

// Of names counted from `first` on without a hole.
static int count(const weights *w, const char *format, int first) {
    int n = 0;
    while (look(w, format, first + n)) n++;
    return n;
}

static status refuse(const weights *w, error *err, const char *what, int64_t n) {
    return fail(err, ERR_DATA, "%s: an upscaler with %lld %s, which is not supported", w->origin,
                (long long)n, what);
}

static bool channels_fit(int64_t n) { return n >= 1 && n <= MAX_CHANNELS; }

static status read_dense(rrdb_config *c, const weights *w, error *err) {
    const weight *first = look(w, "conv_first.weight", 0), *mark = look(w, "body.0.rdb1.conv1.weight", 0);
    c->growth = mark->shape.rank == 4 ? mark->shape.d[0] : 0;
    c->features = mark->shape.rank == 4 ? mark->shape.d[1] : 0;
    if (!channels_fit(c->features)) return refuse(w, err, "features", c->features);
    if (!channels_fit(c->growth)) return refuse(w, err, "growth channels", c->growth);
    c->blocks = count(w, "body.%d.rdb1.conv1.weight", 0);
    c->doublings = count(w, "conv_up%d.weight", 1);
    if (c->doublings > MAX_DOUBLINGS) return refuse(w, err, "doublings", c->doublings);
    int64_t in = first && first->shape.rank == 4 ? first->shape.d[1] : 3;
    c->unshuffle = in == 3 ? 1 : in == 12 ? 2 : in == 48 ? 4 : 0;
    if (!c->unshuffle || 1 << c->doublings < c->unshuffle) return refuse(w, err, "input channels", in);
    c->scale = (1 << c->doublings) / c->unshuffle;
    return OK;
}

// body.0 and every second after it are convolutions, with the slopes of their activations in between.
static status read_compact(rrdb_config *c, const weights *w, error *err) {
    int layers = count(w, "body.%d.weight", 0);
    const weight *slopes = look(w, "body.1.weight", 0), *last = look(w, "body.%d.weight", layers - 1);
    if (layers < 3 || layers % 2 == 0) return refuse(w, err, "layers", layers);
    c->features = slopes->shape.rank == 1 ? slopes->shape.d[0] : 0;
    if (!channels_fit(c->features)) return refuse(w, err, "features", c->features);
    c->blocks = layers / 2;
    c->unshuffle = 1;
    int64_t out = last->shape.rank == 4 ? last->shape.d[0] : 0;
    for (c->scale = 1; c->scale < MAX_SCALE && 3 * c->scale * c->scale < out;) c->scale++;
    return 3 * c->scale * c->scale == out ? OK : refuse(w, err, "output channels", out);
}

static bool find_layout(const model_files *files, rrdb_config *c, file_names *names) {
    for (size_t p = 0; p < sizeof PREFIXES / sizeof *PREFIXES; p++)
        for (size_t i = 0; i < sizeof LAYOUTS / sizeof *LAYOUTS; i++) {
            char mark[NAME_SIZE];
            snprintf(mark, sizeof mark, "%s%s", PREFIXES[p], LAYOUTS[i].mark);
            if (!model_files_find(files, mark, NULL)) continue;
            *names = (file_names){.prefix = PREFIXES[p], .rows = LAYOUTS[i].rows};
            *c = (rrdb_config){.compact = LAYOUTS[i].compact};
            return true;
        }
    return false;
}

// Tensors that nobody asks for would be arithmetic that nobody does.
static status check_count(const rrdb_config *c, const model_files *files, const char *prefix, error *err) {
    size_t n = 0, expected = rrdb_tensors(c);
    for (size_t i = 0; i < model_files_count(files); i++)
        n += !strncmp(model_files_at(files, i).tensor->name, prefix, strlen(prefix));
    if (n <= expected) return OK;
    return fail(err, ERR_DATA,
                "%s: has %zu tensors beside the %zu of such an upscaler: another architecture?",
                model_files_path(files), n - expected, expected);
}

// Names of the end of the network depend on how long it is, so that is counted first.
status rrdb_recognise(const model_files *files, rrdb_config *c, file_names *names, error *err) {
    if (!find_layout(files, c, names))
        return fail(err, ERR_DATA,
                    "%s: holds no upscaler of a kind that is known: RRDB (ESRGAN, Real-ESRGAN) or "
                    "SRVGGNetCompact",
                    model_files_path(files));
    weights_file *w = weights_file_of(files, names, err);
    if (!w) return err->code;
    status s = (c->compact ? read_compact : read_dense)(c, weights_file_weights(w), err);
    weights_file_close(w);
    names->levels = c->doublings;
    names->layers = c->blocks;
    return s ? s : check_count(c, files, names->prefix, err);
}

// Weight and bias of each convolution; slopes.
size_t rrdb_tensors(const rrdb_config *c) {
    size_t blocks = (size_t)c->blocks;
    return c->compact ? 3 * blocks + 2 : 2 * (3 * DENSE_CONVS * blocks + (size_t)c->doublings + 4);
}

int64_t rrdb_in_channels(const rrdb_config *c) { return 3 * (int64_t)c->unshuffle * c->unshuffle; }

// ---- network

static const double SLOPE = 0.2, RESIDUAL = 0.2;

typedef struct {
    node *w, *bias;
} conv_weights;

static conv_weights weights_of(graph *g, int k, int64_t out, int64_t in) {
    int mark = path_push(g, "conv%d", k);
    conv_weights c = {graph_weight(g, "weight", SHAPE(out, in, 3, 3)), graph_weight(g, "bias", SHAPE(out))};
    path_pop(g, mark);
    return c;
}

// Each convolution sees the input and what all before it have made. The last one's factor is that of its
// weights, so that the input is added to its result while that is hot.
static node *dense_block(node *x, const rrdb_config *c) {
    graph *g = x->g;
    int64_t I = c->features;
    node *all = pad(x, 3, 0, (DENSE_CONVS - 1) * c->growth);
    for (int k = 1; k < DENSE_CONVS; k++, I += c->growth) {
        conv_weights w = weights_of(g, k, c->growth, I);
        all = grow(all, w.w, w.bias, SLOPE);
    }
    conv_weights w = weights_of(g, DENSE_CONVS, c->features, I);
    if (g->err.code) return g->poison;
    return add(
        conv2d(all, affine(w.w, RESIDUAL, 0), affine(w.bias, RESIDUAL, 0), (conv_geometry){1, 1, 1, 1, 1}),
        x);
}

static node *residual_block(node *x, const rrdb_config *c) {
    node *y = x;
    for (int k = 1; k <= 3; k++) {
        int mark = path_push(x->g, "rdb%d", k);
        y = dense_block(y, c);
        path_pop(x->g, mark);
    }
    return add(affine(y, RESIDUAL, 0), x);
}

static node *build_dense(node *x, const rrdb_config *c) {
    char name[32];
    // 1. in
    x = conv3x3(x, "conv_first", c->features, 1); // [B,H,W,F]
    // 2. blocks
    node *y = x;
    for (int i = 0; i < c->blocks; i++) {
        int mark = path_push(x->g, "body.%d", i);
        y = residual_block(y, c);
        path_pop(x->g, mark);
    }
    y = add(conv3x3(y, "conv_body", c->features, 1), x);
    // 3. larger
    for (int k = 1; k <= c->doublings; k++) {
        snprintf(name, sizeof name, "conv_up%d", k);
        y = upsample_nearest(y, 2 * y->shape.d[1], 2 * y->shape.d[2]);
        y = leaky_relu(conv3x3(y, name, c->features, 1), SLOPE);
    }
    // 4. out
    y = leaky_relu(conv3x3(y, "conv_hr", c->features, 1), SLOPE);
    return conv3x3(y, "conv_last", 3, 1);
}

static node *build_compact(node *x, const rrdb_config *c) {
    char name[32];
    for (int k = 0; k < c->blocks; k++) {
        snprintf(name, sizeof name, "body.%d", 2 * k);
        x = conv3x3(x, name, c->features, 1);
        snprintf(name, sizeof name, "body.%d.weight", 2 * k + 1);
        x = prelu(x, graph_weight(x->g, name, SHAPE(c->features)));
    }
    snprintf(name, sizeof name, "body.%d", 2 * c->blocks);
    return conv3x3(x, name, 3 * c->scale * c->scale, 1);
}

node *rrdb_build(graph *g, const rrdb_config *c, node *sample) {
    node *x = cast(sample, g->compute);
    return cast(c->compact ? build_compact(x, c) : build_dense(x, c), g->exact);
}
