#include "core/cpu/winograd.h"
#include "core/cpu/kernels.h"
#include "core/cpu/winograd_isa.h"

// NULL where the CPU lacks the instructions.
static const winograd_kernels *kernels(const winograd_desc *d) {
#ifdef __x86_64__
    cpu_level level = cpu_level_within(d->limit);
    if (d->up) return d->t == DT_BF16 && level >= CPU_AVX512_BF16 ? &winograd_avx512bf16_up : NULL;
    if (d->t == DT_BF16) return level >= CPU_AVX512_BF16 ? &winograd_avx512bf16 : NULL;
    if (d->t == DT_F32 && level >= CPU_AVX512) return &winograd_avx512;
    if (d->t == DT_F32 && level >= CPU_AVX2) return &winograd_avx2;
#else
    (void)d;
#endif
    return NULL;
}

static int64_t panels(const winograd_kernels *k, const winograd_desc *d) {
    return (d->Co + k->panel - 1) / k->panel;
}

bool winograd_runs(const winograd_desc *d) { return kernels(d) != NULL; }

const char *winograd_name(const winograd_desc *d) { return kernels(d)->name[d->lean]; }

size_t winograd_packed_bytes(const winograd_desc *d) {
    const winograd_kernels *k = kernels(d);
    return (size_t)(panels(k, d) * k->panel_bytes(d));
}

size_t winograd_scratch_bytes(const winograd_desc *d, int threads) {
    return (size_t)(kernels(d)->lane_bytes(d) * (threads < 1 ? 1 : threads));
}

typedef struct {
    winograd_args a;
    const winograd_kernels *k;
    int64_t tiles, chunks;  // all tiles, and into how many parts they are split
    int64_t panels, groups; // groups of panels that the items of a chunk are split into
    char *lanes;
    int64_t lane_bytes;
} pass;

static void pack_panel(void *arg, int64_t panel, int64_t lane) {
    (void)lane;
    const pass *p = arg;
    p->k->pack(&p->a, panel);
}

void winograd_pack(team *t, const winograd_desc *d, const float *w, void *packed) {
    const winograd_kernels *k = kernels(d);
    pass p = {.a = {.d = *d, .w = w, .packed = packed}, .k = k};
    parallel_items(t, panels(k, d), pack_panel, &p);
}

static void run_item(void *arg, int64_t item, int64_t lane) {
    const pass *p = arg;
    int64_t chunk = item / p->groups, g = item % p->groups;
    p->k->run(&p->a, chunk * p->tiles / p->chunks, (chunk + 1) * p->tiles / p->chunks,
              g * p->panels / p->groups, (g + 1) * p->panels / p->groups, p->lanes + lane * p->lane_bytes);
}

void winograd_run(team *t, const winograd_desc *d, const void *x, const void *packed, const float *bias,
                  const void *residual, void *y, void *scratch) {
    const winograd_kernels *k = kernels(d);
    int64_t rows = (winograd_rows(d) + k->m - 1) / k->m, columns = (winograd_columns(d) + k->m - 1) / k->m;
    pass p = {.a = {.d = *d,
                    .x = x,
                    .residual = residual,
                    .bias = bias,
                    .y = y,
                    .packed = (void *)packed,
                    .rows = rows,
                    .columns = columns},
              .k = k,
              .tiles = d->B * rows * columns,
              .panels = panels(k, d),
              .lanes = scratch,
              .lane_bytes = k->lane_bytes(d)};
    p.chunks = (p.tiles + k->tiles - 1) / k->tiles;
    // Small pictures are few items: then their output channels are split too, for the price of transforming
    // the tiles once for each group.
    p.groups = parallel_split(t, p.chunks, p.panels);
    parallel_items(t, p.chunks * p.groups, run_item, &p);
}
