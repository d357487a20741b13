#include "core/train/init.h"

#include <fnmatch.h>
#include <math.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/graph/store.h"

typedef enum {
    INIT_CONSTANT, // all values `scale`
    INIT_NORMAL,   // standard deviation `scale`
    INIT_FAN_IN    // uniform in ±scale/√(inputs of one output): Kaiming's, as torch's layers start
} init_kind;

typedef struct {
    const char *pattern; // fnmatch, on the whole name
    init_kind kind;
    double scale;
} init_rule;

// The first row that matches decides.
static const init_rule RULES[] = {
    // Words are told apart from the first step on; positions are a hint.
    {"*token_embedding.weight", INIT_NORMAL, 1},
    {"*position_embedding.weight", INIT_NORMAL, 0.1},
    {"*pool.positional_embedding", INIT_NORMAL, 0.1},
    // Every branch that is added to a residual stream starts at zero, so that the network starts as its
    // shortest path.
    {"*.resnets.*.conv2.weight", INIT_CONSTANT, 0},
    {"*.proj_out.weight", INIT_CONSTANT, 0},
    {"*.mid_block.attentions.0.to_out.0.weight", INIT_CONSTANT, 0},
    {"*.self_attn.out_proj.weight", INIT_CONSTANT, 0},
    {"*.mlp.fc2.weight", INIT_CONSTANT, 0},
    {"*add_embedding.norm2.weight", INIT_CONSTANT, 0},
    {"unet.conv_out.weight", INIT_CONSTANT, 0},
    {"*norm*.weight", INIT_CONSTANT, 1},
    {"*bias", INIT_CONSTANT, 0},
    {"*", INIT_FAN_IN, 1},
};

static const init_rule *rule_of(const char *name) {
    const init_rule *r = RULES;
    while (fnmatch(r->pattern, name, 0) != 0) r++;
    return r;
}

void init_tensor(uint64_t seed, const char *name, shape s, float *value) {
    const init_rule *r = rule_of(name);
    // A stream for each name, so that the values do not depend on the order in which networks are built.
    rng_stream random = {seed, key_text(name)};
    size_t n = (size_t)shape_count(s);
    if (r->kind == INIT_NORMAL) stream_normal(random, 0, value, n);
    if (r->kind == INIT_FAN_IN) stream_uniform(random, 0, value, n);
    double bound = r->scale / sqrt((double)n / (double)(s.rank ? s.d[0] : 1));
    for (size_t i = 0; i < n; i++) {
        double x = r->kind == INIT_CONSTANT ? r->scale
                   : r->kind == INIT_NORMAL ? r->scale * value[i]
                                            : bound * (2.0 * value[i] - 1);
        value[i] = (float)x;
    }
}
