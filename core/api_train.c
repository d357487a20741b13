// Training, as a caller of the library sees it.
#include "core/api.h"
#include "core/train/train.h"

#include <string.h>

void calo_train_request_init(calo_train_request *request, size_t size) {
    calo_train_request r = {.size = sizeof r};
    api_struct_fill(request, size, &r, sizeof r);
}

static bool is_cancelled(void *user) { return api_cancelled(user); }

calo_status calo_train(calo_context *ctx, const calo_train_request *request) {
    error *err = api_enter(ctx);
    train_config c;
    train_kind kind = TRAIN_VAE;
    calo_train_request r = calo_train_defaults();
    status s = api_struct_take(&r, sizeof r, request, "request", err);
    if (!s && !r.config) s = fail(err, ERR_USAGE, "training needs a configuration file");
    if (!s) s = train_kind_find(r.kind, &kind, err);
    if (s) return api_leave(s);
    if (!(s = train_config_load(&c, r.config, err))) {
        c.kind = kind;
        if (r.model) c.model = r.model;
        c.resume = r.resume;
        c.ignore_machine = r.ignore_machine;
        c.ignore_config = r.ignore_config;
        c.profile = r.profile;
        if (ctx->options.threads) c.threads = ctx->options.threads;
        if (ctx->options.precision)
            c.precision = ctx->options.precision == CALO_PRECISION_F32 ? "f32" : "bf16";
        s = train_run(&c, &(train_hooks){.log = &ctx->log, .user = ctx, .cancelled = is_cancelled}, err);
    }
    train_config_free(&c);
    return api_leave(s);
}

const calo_train_key *calo_train_key_at(calo_context *ctx, int i) {
    const train_key *k = train_key_at(i, &ctx->key_room);
    if (!k) return NULL;
    ctx->key = (calo_train_key){k->name, k->otherwise, k->range, k->help, k->stage};
    return &ctx->key;
}
