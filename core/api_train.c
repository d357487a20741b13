// Training, as a caller of the library sees it.
#include "core/api.h"
#include "core/train/train.h"

#include <string.h>

calo_train_request calo_train_defaults(void) {
    return (calo_train_request){.size = sizeof(calo_train_request)};
}

static bool is_cancelled(void *user) {
    const calo_context_options *o = &((calo_context *)user)->options;
    return o->cancelled && o->cancelled(o->user);
}

calo_status calo_train(calo_context *ctx, const calo_train_request *r) {
    error *err = api_enter(ctx);
    train_config c;
    train_kind kind = TRAIN_VAE;
    if (r->size != sizeof *r || !r->config)
        return api_leave(
            fail(err, ERR_USAGE, "training needs a configuration file, and a request of this version"));
    status s = train_kind_find(r->kind, &kind, err);
    if (s) return api_leave(s);
    if (!(s = train_config_load(&c, r->config, err))) {
        c.kind = kind;
        if (r->model) c.model = r->model;
        c.resume = r->resume;
        c.ignore_machine = r->ignore_machine;
        c.ignore_config = r->ignore_config;
        c.profile = r->profile;
        if (ctx->options.threads) c.threads = ctx->options.threads;
        if (ctx->options.precision)
            c.precision = ctx->options.precision == CALO_PRECISION_F32 ? "f32" : "bf16";
        s = train_run(&c, &(train_hooks){.log = &ctx->log, .user = ctx, .cancelled = is_cancelled}, err);
    }
    train_config_free(&c);
    return api_leave(s);
}

int calo_train_key_at(calo_context *ctx, int i, calo_train_key *key) {
    const train_key *k = train_key_at(i, &ctx->key);
    if (!k) return 0;
    *key = (calo_train_key){k->name, k->otherwise, k->range, k->help, k->stage};
    return 1;
}
