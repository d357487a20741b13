#include "adapters/lora.h"

#include "core/graph/op.h"

typedef struct {
    node *down, *up; // down NULL: none for this site
    double scale;    // alpha / r
} pair;

static const weight *find(const lora *l, graph *g, const char *name) {
    int mark = path_push(g, "%s", name);
    const weight *w = l->values->find(l->values, g->path);
    path_pop(g, mark);
    return w;
}

static pair pair_at(const lora *l, graph *g, const site *s) {
    const weight *down = s->kind == SITE_NORM ? NULL : find(l, g, "lora_A.weight");
    if (!down) return (pair){0};
    int64_t r = down->shape.rank ? down->shape.d[0] : 0;
    if (r < 1) return (pair){poison(g, "lora_A.weight has no rows"), NULL, 0};
    shape first = s->shape, second = SHAPE(s->shape.d[0], r);
    first.d[0] = r;
    const weights *base = g->weights;
    g->weights = l->values;
    pair p = {graph_weight(g, "lora_A.weight", first), graph_weight(g, "lora_B.weight", second),
              l->alpha / (double)r};
    g->weights = base;
    return p;
}

// On the thin side: the smallest tensor it can multiply.
static node *strengthened(const lora *l, node *thin) { return l->strength ? mul(thin, l->strength) : thin; }

// W + scale·up·down, the kernel's places as further columns.
static node *merge(const tap *self, graph *g, const site *s, node *w) {
    const lora *l = (const lora *)self;
    pair p = pair_at(l, g, s);
    if (!p.down || g->err.code) return p.down ? g->poison : w;
    int64_t r = p.up->shape.d[1];
    node *columns = reshape(p.down, SHAPE(r, shape_count(p.down->shape) / r));
    node *change = matmul(strengthened(l, p.up), columns, NULL, false, false, p.scale, w->dtype);
    return add(w, reshape(change, w->shape));
}

// y + scale·up(down(x))
static node *side_way(const tap *self, graph *g, const site *s, node *x, node *y) {
    const lora *l = (const lora *)self;
    if (s->kind == SITE_NORM) return y;
    pair p = pair_at(l, g, s);
    if (!p.down || g->err.code) return p.down ? g->poison : y;
    node *h = s->kind == SITE_CONV ? conv2d(x, p.down, NULL, s->geo)
                                   : matmul(x, p.down, NULL, false, true, 1, x->dtype);
    return add(y, matmul(strengthened(l, h), p.up, NULL, false, true, p.scale, y->dtype));
}

lora lora_make(const weights *values, double alpha, node *strength, lora_mode mode) {
    tap t = mode == LORA_MERGED ? (tap){.weight = merge} : (tap){.output = side_way};
    return (lora){t, values, alpha, strength};
}
