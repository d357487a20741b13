#include "core/cpu/int8.h"
#include "core/cpu/int8_isa.h"
#include "core/cpu/level.h"

bool int8_runs(void) {
#ifdef __x86_64__
    return cpu_has_vnni();
#else
    return false;
#endif
}

// Products are at most 255 · 128.
bool int8_fits(const int8_desc *d) { return d->K <= INT32_MAX / (255 * 128) && d->K > 0; }

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t panels(const int8_desc *d) { return (d->N + INT8_PANEL - 1) / INT8_PANEL; }

int64_t int8_row_bytes(const int8_desc *d) { return round_up(d->K, 4); }

int64_t int8_panel_bytes(const int8_desc *d) {
    return INT8_PANEL * (int8_row_bytes(d) + (int64_t)sizeof(float));
}

static int64_t lane_bytes(const int8_desc *d) {
    int64_t facts = INT8_ROWS * (int64_t)(sizeof(float) + sizeof(int32_t));
    return round_up(facts + INT8_ROWS * round_up(d->K, 16), 64);
}

size_t int8_packed_bytes(const int8_desc *d) { return (size_t)(panels(d) * int8_panel_bytes(d)); }

size_t int8_scratch_bytes(const int8_desc *d, int threads) {
    return (size_t)(lane_bytes(d) * (threads < 1 ? 1 : threads));
}

typedef struct {
    int8_args a;
    int64_t chunks, panels, groups; // groups of panels that the items of a chunk are split into
    char *lanes;
} pass;

static void pack_panel(void *arg, int64_t panel, int64_t lane) {
    (void)lane;
    int8_pack_panel(&((const pass *)arg)->a, panel);
}

void int8_pack(team *t, const int8_desc *d, const float *w, void *packed) {
    pass p = {.a = {.d = *d, .w = w, .packed = packed}};
    parallel_items(t, panels(d), pack_panel, &p);
}

static void run_item(void *arg, int64_t item, int64_t lane) {
    const pass *p = arg;
    int64_t first = item / p->groups * INT8_ROWS, g = item % p->groups, rest = p->a.d.M - first;
    int8_run_rows(&p->a, first, rest < INT8_ROWS ? rest : INT8_ROWS, g * p->panels / p->groups,
                  (g + 1) * p->panels / p->groups, p->lanes + lane * lane_bytes(&p->a.d));
}

void int8_run(team *t, const int8_desc *d, const void *x, const void *packed, const float *bias,
              const void *residual, void *y, void *scratch) {
    pass p = {.a = {.d = *d, .x = x, .bias = bias, .residual = residual, .y = y, .packed = (void *)packed},
              .chunks = (d->M + INT8_ROWS - 1) / INT8_ROWS,
              .panels = panels(d),
              .lanes = scratch};
    // Few rows are few items: then their columns are split too, and the rows rounded once for each group.
    p.groups = parallel_split(t, p.chunks, p.panels);
    parallel_items(t, p.chunks * p.groups, run_item, &p);
}
