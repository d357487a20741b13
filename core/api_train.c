// Training, as a caller of the library sees it.
#include "core/api.h"

void calo_train_request_init(calo_train_request *request, size_t size) {
    calo_train_request r = {.size = sizeof r};
    api_struct_fill(request, size, &r, sizeof r);
}

typedef struct {
    calo_context *ctx;
    const calo_train_request *request;
} job;

static bool is_cancelled(void *user) { return api_cancelled(((const job *)user)->ctx); }

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

calo_status api_train(calo_context *ctx, const calo_train_request *request, recipe_maker *make,
                      train_source_opener *open_source, error *err) {
    train_config c;
    calo_train_request r = calo_train_defaults();
    job j = {ctx, &r};
    train_hooks hooks = {
        .log = &ctx->log, .user = &j, .cancelled = is_cancelled, .event = tell, .open_source = open_source};
    train_kind kind = TRAIN_VAE;
    status s = api_struct_take(&r, sizeof r, request, "request", err);
    if (!s && !r.config) s = fail(err, ERR_USAGE, "training needs a configuration file");
    if (!s && !make) s = train_kind_find(r.kind, &kind, err);
    if (s) return api_leave(s);
    if (!(s = train_config_load(&c, r.config, err))) {
        c.kind = kind;
        configure(&c, &j);
        s = train_recipe(&c, &hooks, make ? make : recipe_make, err);
    }
    train_config_free(&c);
    return api_leave(s);
}

calo_status calo_train(calo_context *ctx, const calo_train_request *request) {
    return api_train(ctx, request, NULL, NULL, api_enter(ctx));
}

const calo_train_key *calo_train_key_at(calo_context *ctx, int i) {
    const train_key *k = train_key_at(i, &ctx->key_room);
    if (!k) return NULL;
    ctx->key = (calo_train_key){k->name, k->otherwise, k->range, k->help, k->stage};
    return &ctx->key;
}
