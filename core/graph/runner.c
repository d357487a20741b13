#include "core/graph/runner.h"

status runner_init(runner *r, graph *g, node *const *out, int n, const backend *be, store *values,
                   workspace *room, error *err) {
    *r = (runner){.plan = plan_new(g, out, n, be, err)};
    if (r->plan && !values && !(values = r->own_values = store_new())) fail(err, ERR_TEMP, "out of memory");
    if (r->plan && values) r->exec = exec_new(r->plan, values, room ? room : &r->own_room, err);
    if (r->exec) return OK;
    runner_free(r);
    return err->code;
}

void runner_free(runner *r) {
    exec_free(r->exec);
    plan_free(r->plan);
    store_free(r->own_values);
    workspace_free(&r->own_room);
    *r = (runner){0};
}
