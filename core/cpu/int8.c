#include "core/cpu/int8.h"
#include "core/cpu/int8_isa.h"
#include "core/cpu/level.h"

#include <string.h>

enum { ROUNDED = 64 }; // pixels of a work item

bool int8_runs(void) {
#ifdef __x86_64__
    return cpu_has_vnni();
#else
    return false;
#endif
}

// Products are at most 255 · 128, and the sums of a tap are whole numbers of 32 bits.
bool int8_fits(const int8_desc *d) { return d->Ci <= INT32_MAX / (255 * 128) && d->Ci > 0; }

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t panels(const int8_desc *d) { return (d->Co + INT8_PANEL - 1) / INT8_PANEL; }

int64_t int8_pixel_bytes(const int8_desc *d) { return round_up(d->Ci, 16); }
int64_t int8_tap_bytes(const int8_desc *d) { return INT8_PANEL * round_up(d->Ci, 4); }

// Scales of the outputs; for each tap the sums of their codes; the codes.
int64_t int8_panel_bytes(const int8_desc *d) {
    int64_t floats = INT8_PANEL * (int64_t)sizeof(float);
    return floats + int8_taps(d) * (floats + int8_tap_bytes(d));
}

static int64_t facts_bytes(const int8_desc *d) {
    return round_up((int8_pixels(d) + 1) * (int64_t)sizeof(int8_fact), 64);
}

static int64_t codes_bytes(const int8_desc *d) {
    return round_up((int8_pixels(d) + 1) * int8_pixel_bytes(d), 64);
}

static int64_t rounded_bytes(const int8_desc *d) { return facts_bytes(d) + codes_bytes(d); }

static bool is_linear(const int8_desc *d) {
    return int8_taps(d) == 1 && d->stride == 1 && !(d->top | d->left | d->bottom | d->right);
}

// A lane of a linear rounds the rows that it multiplies, so that their codes do not leave the cache between
// the two; pixels that many others are made of are rounded first, for all.
static int64_t shared_bytes(const int8_desc *d) { return is_linear(d) ? 0 : rounded_bytes(d); }

static int64_t lane_bytes(const int8_desc *d) {
    int8_desc chunk = int8_linear(d->t, INT8_ROWS, d->Co, d->Ci);
    return int8_lane_bytes(d) + (is_linear(d) ? rounded_bytes(&chunk) : 0);
}

size_t int8_packed_bytes(const int8_desc *d) { return (size_t)(panels(d) * int8_panel_bytes(d)); }

size_t int8_scratch_bytes(const int8_desc *d, int threads) {
    return (size_t)(shared_bytes(d) + lane_bytes(d) * (threads < 1 ? 1 : threads));
}

typedef struct {
    int8_args a;
    bool linear;
    int64_t rows, chunks;   // pixels of y, and into how many parts they are split
    int64_t panels, groups; // groups of panels that the items of a chunk are split into
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

// Where codes and facts of the pixels of x are to lie.
static void set_rounded(int8_args *a, void *room) {
    a->facts = room;
    a->codes = (uint8_t *)room + facts_bytes(&a->d);
}

static void round_pixels(void *arg, int64_t begin, int64_t end) {
    int8_round(&((const pass *)arg)->a, begin, end);
}

static void round_picture(team *t, pass *p, void *room) {
    int64_t padding = int8_pixels(&p->a.d), bytes = int8_pixel_bytes(&p->a.d);
    set_rounded(&p->a, room);
    p->a.facts[padding] = (int8_fact){0, 0};
    memset(p->a.codes + padding * bytes, 0, (size_t)bytes);
    parallel_for(t, padding, ROUNDED, round_pixels, p);
}

// Some rows of a linear, which are a linear themselves, rounded.
static int8_args rows_of(const int8_args *all, int64_t first, int64_t n, void *room) {
    int8_args a = *all;
    int64_t size = (int64_t)dtype_size(a.d.t), x = first * a.d.Ci * size, y = first * a.d.Co * size;
    a.d = int8_linear(a.d.t, n, a.d.Co, a.d.Ci);
    a.x = (const char *)a.x + x;
    a.y = (char *)a.y + y;
    if (a.residual) a.residual = (const char *)a.residual + y;
    set_rounded(&a, room);
    int8_round(&a, 0, n);
    return a;
}

static void run_item(void *arg, int64_t item, int64_t lane) {
    const pass *p = arg;
    int64_t first = item / p->groups * INT8_ROWS, g = item % p->groups, rest = p->rows - first;
    int64_t n = rest < INT8_ROWS ? rest : INT8_ROWS;
    int64_t p0 = g * p->panels / p->groups, p1 = (g + 1) * p->panels / p->groups;
    char *room = p->lanes + lane * lane_bytes(&p->a.d);
    if (p->linear) {
        int8_args a = rows_of(&p->a, first, n, room + int8_lane_bytes(&p->a.d));
        int8_run_rows(&a, 0, n, p0, p1, room);
    } else {
        int8_run_rows(&p->a, first, n, p0, p1, room);
    }
}

void int8_run(team *t, const int8_desc *d, const void *x, const void *packed, const float *bias,
              const void *residual, void *y, void *scratch) {
    pass p = {.a = {.d = *d, .x = x, .bias = bias, .residual = residual, .y = y, .packed = (void *)packed},
              .linear = is_linear(d),
              .rows = d->B * int8_rows(d) * int8_columns(d),
              .panels = panels(d),
              .lanes = (char *)scratch + shared_bytes(d)};
    if (!p.linear) round_picture(t, &p, scratch);
    // Few rows are few items: then their columns are split too, and the rows of a linear rounded once for
    // each group.
    p.chunks = (p.rows + INT8_ROWS - 1) / INT8_ROWS;
    p.groups = parallel_split(t, p.chunks, p.panels);
    parallel_items(t, p.chunks * p.groups, run_item, &p);
}
