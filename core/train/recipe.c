#include "core/train/recipe.h"

#include <string.h>

#include "core/train/folder.h"

status recipe_make(recipe *r, train_context *context, error *err) {
    *r = (recipe){0};
    if (!*context->config->model)
        return fail(err, ERR_DATA, "%s: names no \"model\", nor does -m", context->config->name);
    switch (context->config->kind) {
    case TRAIN_VAE:
        return recipe_vae(r, context, err);
    case TRAIN_TEXT2IMG:
    case TRAIN_FINETUNE:
        return recipe_text2img(r, context, err);
    }
    return fail(err, ERR_USAGE, "no such kind of training");
}

void recipe_free(recipe *r) {
    if (r->free) r->free(r->self);
    *r = (recipe){0};
}

// "world:singles", but not "./a:b" or "/data/a:b".
static bool is_spec(const char *data) {
    size_t word = strspn(data, "abcdefghijklmnopqrstuvwxyz");
    return word > 1 && data[word] == ':';
}

status recipe_source(const train_context *x, bool captions, sample_source *source, error *err) {
    const train_stage *stage = &x->config->stage[x->stage];
    if (is_spec(stage->data)) {
        if (!x->hooks->open_source)
            return fail(err, ERR_USAGE,
                        "data \"%s\": this program has no such source; calotype-world train, which is built "
                        "where cairo was found, has \"world:\"",
                        stage->data);
        return x->hooks->open_source(x->hooks->user, stage->data, (uint64_t)x->config->seed, source, err);
    }
    if (!*stage->data) return fail(err, ERR_DATA, "%s: names no \"data\"", x->config->name);
    folder_options o = {.sizes = stage->sizes,
                        .n_sizes = stage->n_sizes,
                        .captions = captions,
                        .skip_bad = x->config->skip_bad,
                        .log = x->log};
    return folder_open(stage->data, &o, source, err);
}

dtype recipe_export_type(const train_context *x) { return (dtype)dtype_from_name(x->config->save_as); }

rng_stream recipe_stream(const train_context *x, draw what) {
    // Initial values use streams named by hashes; small numbers are free.
    return (rng_stream){(uint64_t)x->config->seed, (uint64_t)x->stage << 8 | (uint64_t)what};
}
