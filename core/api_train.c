// Training, as a caller of the library sees it.
#include "core/api.h"

calo_train_request calo_train_defaults(void) {
    return (calo_train_request){.size = sizeof(calo_train_request)};
}

typedef struct {
    calo_context *ctx;
    const calo_train_request *request;
} job;

static bool is_cancelled(void *user) {
    const calo_context_options *o = &((const job *)user)->ctx->options;
    return o->cancelled && o->cancelled(o->user);
}

static void tell(void *user, const calo_train_event *e) {
    const calo_train_request *r = ((const job *)user)->request;
    if (r->on_event) r->on_event(r->user, e);
}

static void configure(train_config *c, const job *j) {
    const calo_train_request *r = j->request;
    const calo_context_options *o = &j->ctx->options;
    if (r->model) c->model = r->model;
    c->resume = r->resume;
    c->ignore_machine = r->ignore_machine;
    c->ignore_config = r->ignore_config;
    c->profile = r->profile;
    if (o->threads) c->threads = o->threads;
    if (o->precision) c->precision = o->precision == CALO_PRECISION_F32 ? "f32" : "bf16";
}

calo_status api_train(calo_context *ctx, const calo_train_request *r, recipe_maker *make,
                      train_source_opener *open_source, error *err) {
    train_config c;
    job j = {ctx, r};
    train_hooks hooks = {
        .log = &ctx->log, .user = &j, .cancelled = is_cancelled, .event = tell, .open_source = open_source};
    if (r->size != sizeof *r || !r->config)
        return api_leave(
            fail(err, ERR_USAGE, "training needs a configuration file, and a request of this version"));
    train_kind kind = TRAIN_VAE;
    status s = make ? OK : train_kind_find(r->kind, &kind, err);
    if (s) return api_leave(s);
    if (!(s = train_config_load(&c, r->config, err))) {
        c.kind = kind;
        configure(&c, &j);
        s = train_recipe(&c, &hooks, make ? make : recipe_make, err);
    }
    train_config_free(&c);
    return api_leave(s);
}

calo_status calo_train(calo_context *ctx, const calo_train_request *r) {
    return api_train(ctx, r, NULL, NULL, api_enter(ctx));
}

int calo_train_key_at(calo_context *ctx, int i, calo_train_key *key) {
    const train_key *k = train_key_at(i, &ctx->key);
    if (!k) return 0;
    *key = (calo_train_key){k->name, k->otherwise, k->range, k->help, k->stage};
    return 1;
}
