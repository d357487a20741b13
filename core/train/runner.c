#include "core/train/runner.h"

void runner_graph(const train_context *x, graph *g, const weights *from) {
    graph_init(g, x->compute);
    g->weights = from;
}

status runner_make(runner *r, const train_context *x, graph *g, node *const *out, int n, error *err) {
    *r = (runner){.plan = plan_new(g, out, n, x->backend, err)};
    if (!r->plan) return err->code;
    if (!(r->values = store_new())) return fail(err, ERR_TEMP, "out of memory");
    r->exec = exec_new(r->plan, r->values, x->workspace, err);
    return r->exec ? OK : err->code;
}

void runner_free(runner *r) {
    exec_free(r->exec);
    plan_free(r->plan);
    store_free(r->values);
    *r = (runner){0};
}
