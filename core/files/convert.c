#include "core/files/convert.h"

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/base/threads.h"
#include "core/files/model_dir.h"
#include "core/files/quantise.h"
#include "core/files/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 2048 };   // elements converted at a time
enum { ROWS = 1 << 20 }; // values in rows that threads turn into codes together

typedef struct job job;
typedef struct passage passage;

// What becomes codes, and whether its bins are known.
typedef struct {
    quantiser q;
    const passage *codes;
    bool balanced;
} matrix;

typedef enum { PART_VALUES, PART_CODES, PART_SCALE, PART_MINIMUM, PART_LEVELS } part;

// A tensor on its way: the sources of in + weight · (plus − minus).
struct passage {
    job *job;
    model_tensor in[CONVERT_MAX_PARTS]; // one after another
    const value_change *change[CONVERT_MAX_PARTS];
    int n_parts;
    model_tensor plus, minus; // plus.file NULL: no merge; minus.file NULL: `in`
    uint64_t row, common;     // of each `row` values of `in`, the first `common` are merged
    part part;                // of the result
    matrix *matrix;           // NULL for PART_VALUES
    dtype type;               // of the result
    uint64_t bytes;           // of the result
    uint64_t infinite;        // finite values that became infinite
    bool attached;            // stands in the same file as the one before
};

// What a thread works with: a row of a matrix, and a census; and what failed, of what comes first.
typedef struct {
    double *v;
    float *scale, *minimum;
    quantise_census *census; // NULL unless bins are balanced
    error err;
    int64_t item;
} lane;

// Rows of a matrix as a file holds them: of the part that `of` is.
typedef struct {
    passage *of;
    uint64_t first, n;
    unsigned char *bytes;
    unsigned char bins[QUANTISE_STEPS]; // of `of`'s matrix
} working_rows;

struct job {
    const conversion *c;
    bool decoded; // codes of the input become numbers
    model_files *in, *plus, *minus;
    passage *passages; // by name
    safetensors_item *items;
    size_t n, merged, unmerged;
    matrix *matrices;
    size_t n_matrices;
    uint64_t longest; // row of a matrix
    lane *lanes;
    working_rows *rows;
    metadata_pair *metadata;
    size_t n_metadata;
    uint64_t done, total; // bytes of results
    arena strings;
};

static status short_of_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

// ---------------------------------------------------------------- values

static bool is_numbers(const tensor_entry *t) { return t->codes || dtype_is_float(t->type); }

// From here on, values become infinite.
static double limit_of(dtype t) { return t == DT_F16 ? 65520 : t == DT_BF16 ? 0x1.ffp127 : 0x1.ffffffp127; }

static status read_f64(model_tensor t, uint64_t first, size_t n, double *dst, error *err) {
    return tensor_file_read_f64(t.file, t.tensor, first, n, dst, err);
}

// At most PIECE values, from value `first` of `plus` on.
static status merge_run(const passage *p, uint64_t first, size_t n, double *v, error *err) {
    double plus[PIECE], minus[PIECE];
    TRY(read_f64(p->plus, first, n, plus, err));
    if (p->minus.file) TRY(read_f64(p->minus, first, n, minus, err));
    for (size_t i = 0; i < n; i++) v[i] += p->job->c->weight * (plus[i] - (p->minus.file ? minus[i] : v[i]));
    return OK;
}

// At most PIECE values.
static status merge(const passage *p, uint64_t first, size_t n, double *v, error *err) {
    for (size_t i = 0, run; i < n; i += run) {
        uint64_t row = (first + i) / p->row, at = (first + i) % p->row,
                 left = (at < p->common ? p->common : p->row) - at;
        run = left < n - i ? (size_t)left : n - i;
        if (at < p->common) TRY(merge_run(p, row * p->common + at, run, v + i, err));
    }
    return OK;
}

// Of part i.
static status read_part(const passage *p, int i, uint64_t first, size_t n, double *v, error *err) {
    TRY(read_f64(p->in[i], first, n, v, err));
    for (size_t k = 0; k < n && p->plus.file; k += PIECE)
        TRY(merge(p, first + k, n - k < PIECE ? n - k : PIECE, v + k, err));
    if (p->change[i]) p->change[i]->add(p->change[i], first, n, v);
    return OK;
}

// Which of n elements from element *first of all on are in part i; *first becomes the first one of the part,
// or of what follows it.
static size_t find_in_part(const passage *p, int i, uint64_t *first, size_t n) {
    uint64_t count = p->in[i].tensor->count;
    if (*first < count) return count - *first < n ? (size_t)(count - *first) : n;
    *first -= count;
    return 0;
}

// ---------------------------------------------------------------- values as numbers

static status convert_piece(passage *p, int i, uint64_t first, size_t n, char *dst, error *err) {
    double v[PIECE], limit = limit_of(p->type);
    TRY(read_part(p, i, first, n, v, err));
    dtype_from_f64(p->type, v, dst, n);
    for (size_t k = 0; k < n && p->type != DT_F64; k++) p->infinite += isfinite(v[k]) && fabs(v[k]) >= limit;
    return OK;
}

static bool is_copy(const passage *p, int i) {
    const tensor_entry *t = p->in[i].tensor;
    return !p->plus.file && !p->change[i] && (int)p->type == t->type && !(t->codes && p->job->decoded);
}

// Elements of one part.
static status deliver_part(passage *p, int i, uint64_t first, size_t n, char *dst, error *err) {
    size_t size = dtype_size(p->type);
    for (size_t k = 0; k < n; k += PIECE)
        TRY(convert_piece(p, i, first + k, n - k < PIECE ? n - k : PIECE, dst + k * size, err));
    return OK;
}

static status deliver_values(passage *p, uint64_t first, size_t n, char *dst, error *err) {
    size_t size = dtype_size(p->type);
    if (p->n_parts == 1 && is_copy(p, 0)) // of codes, bytes are copied, not values
        return tensor_file_read(p->in[0].file, p->in[0].tensor, first, n, dst, err);
    for (int i = 0; i < p->n_parts && n; i++) {
        size_t here = find_in_part(p, i, &first, n);
        if (!here) continue;
        TRY(is_copy(p, i) ? tensor_file_read(p->in[i].file, p->in[i].tensor, first, here, dst, err)
                          : deliver_part(p, i, first, here, dst, err));
        dst += here * size;
        n -= here;
        first = 0;
    }
    return OK;
}

// ---------------------------------------------------------------- values as codes

static uint64_t rows_of(const passage *p) {
    uint64_t count = 0;
    for (int i = 0; i < p->n_parts; i++) count += p->in[i].tensor->count;
    return count / p->matrix->q.row;
}

// Reads row `index`, which lies in one part, and finds its scales.
static status take_row(const passage *p, uint64_t index, lane *l, error *err) {
    const quantiser *q = &p->matrix->q;
    uint64_t first = index * q->row;
    int i = 0;
    while (!find_in_part(p, i, &first, q->row)) i++;
    TRY(read_part(p, i, first, q->row, l->v, err));
    if (quantise_scales(q, l->v, l->scale, l->minimum)) return OK;
    return fail(err, ERR_DATA,
                "%s: tensor '%.200s' holds values that cannot be quantised: infinite, or no numbers",
                tensor_file_path(p->in[i].file), p->in[i].tensor->name);
}

static void note_failure(lane *l, int64_t item, const error *err) {
    if (l->err.code && l->item < item) return;
    l->err = *err;
    l->item = item;
}

// fn for each item by the job's threads; of failures, that of the first item.
static status for_items(job *j, int64_t n, void (*fn)(void *, int64_t, int64_t), void *arg, error *err) {
    const lane *first = NULL;
    int lanes = team_size(j->c->team);
    for (int i = 0; i < lanes; i++) j->lanes[i].err.code = OK;
    parallel_items(j->c->team, n, fn, arg);
    for (const lane *l = j->lanes; l < j->lanes + lanes; l++)
        if (l->err.code && (!first || l->item < first->item)) first = l;
    if (!first) return OK;
    *err = first->err;
    return err->code;
}

// A matrix in one thread: sums of another order would be rounded to other levels.
static void balance_matrix(void *arg, int64_t item, int64_t at) {
    matrix *m = (matrix *)arg + item;
    const passage *p = m->codes;
    lane *l = &p->job->lanes[at];
    error err = {0};
    memset(l->census, 0, sizeof *l->census);
    for (uint64_t i = 0; i < rows_of(p) && !err.code; i++)
        if (!take_row(p, i, l, &err)) quantise_count(&m->q, l->v, l->scale, l->census);
    if (err.code) {
        note_failure(l, item, &err);
        return;
    }
    quantise_balance(&m->q, l->census);
    m->balanced = true;
}

// With the next ones, as results are written in this order.
static status balance(const passage *p, error *err) {
    enum { TOGETHER = 16 }; // for each thread
    job *j = p->job;
    size_t left = (size_t)(j->matrices + j->n_matrices - p->matrix),
           most = TOGETHER * (size_t)team_size(j->c->team);
    if (p->matrix->balanced || !p->matrix->q.format->balanced) return OK;
    return for_items(j, (int64_t)(left < most ? left : most), balance_matrix, p->matrix, err);
}

static void put_scales(const passage *p, const float *from, void *to) {
    if (p->type == DT_F32)
        memcpy(to, from, p->matrix->q.groups * sizeof *from);
    else
        for (uint64_t g = 0; g < p->matrix->q.groups; g++) ((uint16_t *)to)[g] = f32_to_f16(from[g]);
}

// What the file holds of a row.
static void make_row(void *arg, int64_t i, int64_t at) {
    const passage *p = arg;
    const quantiser *q = &p->matrix->q;
    working_rows *r = p->job->rows;
    lane *l = &p->job->lanes[at];
    unsigned char *to = r->bytes + (uint64_t)i * (p->bytes / rows_of(p));
    error err = {0};
    if (take_row(p, r->first + (uint64_t)i, l, &err))
        note_failure(l, i, &err);
    else if (p->part == PART_CODES)
        quantise_codes(q, l->v, l->scale, l->minimum, r->bins, to);
    else
        put_scales(p, p->part == PART_SCALE ? l->scale : l->minimum, to);
}

static uint64_t most_values(const job *j) { return j->longest > ROWS ? j->longest : ROWS; }

// Rows from `first` on, as many as there is room for.
static status make_rows(passage *p, uint64_t first, error *err) {
    job *j = p->job;
    working_rows *r = j->rows;
    uint64_t room = most_values(j) / p->matrix->q.row, left = rows_of(p) - first;
    if (r->of == p && first >= r->first && first - r->first < r->n) return OK;
    if (r->of != p && p->part == PART_CODES && p->matrix->balanced) quantise_bins(&p->matrix->q, r->bins);
    r->of = NULL;
    r->first = first;
    r->n = left < room ? left : room;
    TRY(for_items(j, (int64_t)r->n, make_row, p, err));
    r->of = p;
    return OK;
}

static status deliver_rows(passage *p, uint64_t offset, char *dst, size_t bytes, error *err) {
    const working_rows *r = p->job->rows;
    uint64_t row = p->bytes / rows_of(p);
    for (size_t n; bytes; dst += n, offset += n, bytes -= n) {
        TRY(make_rows(p, offset / row, err));
        uint64_t end = (r->first + r->n) * row;
        n = end - offset < bytes ? (size_t)(end - offset) : bytes;
        memcpy(dst, r->bytes + (offset - r->first * row), n);
    }
    return OK;
}

static status deliver_codes(passage *p, uint64_t offset, char *dst, size_t bytes, error *err) {
    if (p->part == PART_CODES || p->part == PART_LEVELS) TRY(balance(p, err));
    if (p->part == PART_LEVELS) return memcpy(dst, (const char *)p->matrix->q.levels + offset, bytes), OK;
    return deliver_rows(p, offset, dst, bytes, err);
}

// ---------------------------------------------------------------- a tensor of the result

// What safetensors_save asks for; pieces begin and end between elements.
static status deliver(void *user, uint64_t offset, void *dst, size_t bytes, error *err) {
    passage *p = user;
    job *j = p->job;
    size_t size = dtype_size(p->type);
    TRY(p->matrix ? deliver_codes(p, offset, dst, bytes, err)
                  : deliver_values(p, offset / size, bytes / size, dst, err));
    j->done += bytes;
    if (offset + bytes == p->bytes && p->infinite)
        log_put(j->c->log, LOG_LEVEL_WARN,
                "tensor '%s': %llu values are too large for %s and became infinite", p->in[0].tensor->name,
                (unsigned long long)p->infinite, dtype_name(p->type));
    return j->c->progress ? j->c->progress(j->c->user, NULL, j->done, j->total, err) : OK;
}

// ---------------------------------------------------------------- which tensors

static bool is_taken(const char *name, const char *only) {
    if (!only || !*only) return true;
    for (size_t n; *only; only += n + (only[n] == ','))
        if ((n = strcspn(only, ",")) && !strncmp(name, only, n)) return true;
    return false;
}

// What belongs to scaled 8-bit floats is of no use beside other floats.
static bool is_scale(const char *name) {
    static const char *const ENDINGS[] = {".scale_weight", ".weight_scale", ".scale_input", ".input_scale",
                                          "scaled_fp8"};
    for (size_t i = 0; i < sizeof ENDINGS / sizeof *ENDINGS; i++)
        if (text_ends_with(name, ENDINGS[i])) return true;
    return false;
}

static bool holds_scaled(const model_files *m) {
    for (size_t i = 0; i < model_files_count(m); i++)
        if (model_files_at(m, i).tensor->scale) return true;
    return false;
}

// An inpainting model's first convolution sees more channels, behind those that other models see.
static bool is_wider(const tensor_entry *t, const tensor_entry *other) {
    return t->ndim == 4 && other->ndim == 4 && t->shape[0] == other->shape[0] &&
           t->shape[1] > other->shape[1] && t->shape[2] == other->shape[2] && t->shape[3] == other->shape[3];
}

static status take_others(job *j, passage *p, const tensor_entry *like, error *err) {
    const tensor_entry *t = p->in[0].tensor;
    TRY(model_files_need(j->plus, t->name, like->ndim, like->shape, &p->plus, err));
    if (j->minus) TRY(model_files_need(j->minus, t->name, like->ndim, like->shape, &p->minus, err));
    p->row = p->common = t->count;
    if (like != t) {
        p->row = t->count / (uint64_t)t->shape[0];
        p->common = like->count / (uint64_t)t->shape[0];
        log_put(j->c->log, LOG_LEVEL_WARN,
                "tensor '%s': the first %lld of its %lld input channels are merged, the others stay", t->name,
                (long long)like->shape[1], (long long)t->shape[1]);
    }
    j->merged++;
    return OK;
}

static status find_others(job *j, passage *p, error *err) {
    const tensor_entry *t = p->in[0].tensor;
    model_tensor plus;
    if (!j->plus || !is_numbers(t) || t->auxiliary) return OK;
    if (model_files_find(j->plus, t->name, &plus) && (!j->minus || model_files_find(j->minus, t->name, NULL)))
        return take_others(j, p, t->count && is_wider(t, plus.tensor) ? plus.tensor : t, err);
    j->unmerged++;
    return OK;
}

// A tensor of the result.
static status put(job *j, const passage *p, const char *name, int ndim, const int64_t *shape, error *err) {
    safetensors_item *item = &j->items[j->n];
    passage *own = &j->passages[j->n];
    if (!name) return short_of_memory(err);
    *own = *p;
    *item = (safetensors_item){.name = name, .type = p->type, .ndim = ndim, .read = deliver, .user = own};
    own->bytes = dtype_size(p->type); // no overflow: files hold what was counted, in half a byte at least
    for (int i = 0; i < ndim; i++) own->bytes *= (uint64_t)(item->shape[i] = shape[i]);
    j->total += own->bytes;
    j->n++;
    return OK;
}

static status put_matrix(job *j, passage p, const char *name, int ndim, const int64_t *shape, error *err) {
    const quantised_format *f = j->c->quantise;
    matrix *m = p.matrix = &j->matrices[j->n_matrices++];
    m->q = (quantiser){.format = f, .row = p.in[0].tensor->count / (uint64_t)p.in[0].tensor->shape[0]};
    m->q.groups = quantised_groups(f, m->q.row);
    if (m->q.row > j->longest) j->longest = m->q.row;
    int64_t stored[TENSOR_MAX_DIMS], levels = (int64_t)1 << f->bits,
                                     scales[] = {shape[0], (int64_t)m->q.groups};
    quantised_stored_shape(f, ndim, shape, stored);
    p.part = PART_CODES;
    p.type = f->codes;
    m->codes = &j->passages[j->n];
    TRY(put(j, &p, name, ndim, stored, err));
    p.attached = true;
    p.part = PART_SCALE;
    p.type = f->scale;
    TRY(put(j, &p, arena_printf(&j->strings, "%s_scale", name), f->grouped ? 2 : 1, scales, err));
    p.part = PART_MINIMUM;
    if (f->minimum) TRY(put(j, &p, arena_printf(&j->strings, "%s_minimum", name), 2, scales, err));
    p.part = PART_LEVELS;
    p.type = DT_F32;
    if (f->balanced) TRY(put(j, &p, arena_printf(&j->strings, "%s_levels", name), 1, &levels, err));
    return OK;
}

// What a tensor becomes that does not become codes.
static dtype type_of(const job *j, const tensor_entry *t) {
    bool scaled = t->codes || (t->scale && j->c->quantise);
    if (j->c->type >= 0 && is_numbers(t)) return (dtype)j->c->type;
    return j->decoded && scaled ? DT_F32 : (dtype)t->type;
}

static bool is_changed(const convert_item *item) {
    bool changed = false;
    for (int i = 0; i < item->n_parts; i++) changed = changed || item->change[i];
    return changed;
}

static status add(job *j, const convert_item *item, error *err) {
    const tensor_entry *t = item->part[0].tensor;
    const char *path = tensor_file_path(item->part[0].file);
    passage p = {.job = j, .n_parts = item->n_parts, .attached = t->auxiliary};
    int64_t shape[TENSOR_MAX_DIMS];
    if (t->type < 0)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' has the unknown type '%.50s'", path, t->name,
                    t->type_name);
    memcpy(p.in, item->part, sizeof p.in);
    memcpy(p.change, item->change, sizeof p.change);
    memcpy(shape, t->shape, sizeof shape);
    for (int i = 1; i < item->n_parts; i++) shape[0] += item->part[i].tensor->shape[0];
    TRY(find_others(j, &p, err));
    if (j->c->quantise && is_numbers(t) && quantise_takes(item->name, t->ndim, shape))
        return put_matrix(j, p, item->name, t->ndim, shape, err);
    if (j->c->quantise && !t->codes && quantised_holds_codes(t))
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is %s already, in a way that calotype does not know",
                    path, t->name, t->type_name);
    p.type = type_of(j, t);
    if ((p.plus.file || is_changed(item)) && dtype_size(p.type) == 1)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is %s; a merge of such needs another type", path,
                    t->name, t->type_name);
    if (t->codes && is_copy(&p, 0)) quantised_stored_shape(t->codes->format, t->ndim, t->shape, shape);
    return put(j, &p, item->name, t->ndim, shape, err);
}

static status make_room(job *j, size_t n, error *err) {
    size_t most = j->c->quantise ? 4 * n : n; // codes, scale, minimum or levels
    j->passages = mem_calloc(most, sizeof *j->passages);
    j->items = mem_calloc(most, sizeof *j->items);
    j->matrices = mem_calloc(n, sizeof *j->matrices);
    return j->passages && j->items && j->matrices ? OK : short_of_memory(err);
}

static status make_lane(job *j, lane *l, error *err) {
    const quantised_format *f = j->c->quantise;
    uint64_t groups = quantised_groups(f, j->longest);
    l->v = mem_calloc(j->longest, sizeof *l->v);
    l->scale = mem_calloc(groups, sizeof *l->scale);
    l->minimum = mem_calloc(groups, sizeof *l->minimum);
    if (f->balanced) l->census = mem_calloc(1, sizeof *l->census);
    return l->v && l->scale && l->minimum && (l->census || !f->balanced) ? OK : short_of_memory(err);
}

// For the longest row, when all matrices are known.
static status make_lanes(job *j, error *err) {
    int n = team_size(j->c->team);
    if (!j->n_matrices) return OK;
    j->lanes = mem_calloc((size_t)n, sizeof *j->lanes);
    j->rows = mem_calloc(1, sizeof *j->rows);
    if (!j->lanes || !j->rows || !(j->rows->bytes = mem_alloc(most_values(j)))) return short_of_memory(err);
    for (int i = 0; i < n; i++) TRY(make_lane(j, &j->lanes[i], err));
    return OK;
}

// Whether a tensor is of use in the result.
static bool stays(const job *j, const tensor_entry *t, bool scaled) {
    return is_taken(t->name, j->c->only) && !(j->decoded && t->auxiliary) && !(scaled && is_scale(t->name));
}

static status choose(job *j, error *err) {
    size_t n = model_files_count(j->in);
    bool scaled = j->decoded && holds_scaled(j->in);
    TRY(make_room(j, n, err));
    for (size_t i = 0; i < n; i++) {
        model_tensor t = model_files_at(j->in, i);
        const convert_item item = {t.tensor->name, 1, {t}, {NULL}};
        if (stays(j, t.tensor, scaled)) TRY(add(j, &item, err));
    }
    if (!j->n)
        return fail(err, ERR_DATA, "%s: no tensor%s%.200s", j->c->in,
                    j->c->only ? " whose name begins with " : "", j->c->only ? j->c->only : "");
    if (j->c->quantise && !j->n_matrices)
        return fail(err, ERR_DATA, "%s: no matrix of a UNet or a text encoder to quantise", j->c->in);
    if (j->plus && !j->merged)
        return fail(err, ERR_DATA,
                    "%s: none of its tensors has a name that is also in %s%s%s; are they of one layout?",
                    j->c->in, j->c->plus, j->minus ? " and " : "", j->minus ? j->c->minus : "");
    if (j->unmerged)
        log_put(j->c->log, LOG_LEVEL_WARN, "%zu of %zu tensors are not in every model and stay as they are",
                j->unmerged, j->n);
    return OK;
}

// ---------------------------------------------------------------- files

// The end of the file that begins with item `first`: at least one, then as many as there is room for.
static size_t shard_end(const job *j, size_t first) {
    uint64_t bytes = j->passages[first].bytes;
    size_t i = first + 1;
    while (i < j->n &&
           (!j->c->max_shard || j->passages[i].attached || bytes + j->passages[i].bytes <= j->c->max_shard))
        bytes += j->passages[i++].bytes;
    return i;
}

static size_t shard_count(const job *j) {
    size_t n = 0;
    for (size_t i = 0; i < j->n; i = shard_end(j, i)) n++;
    return n;
}

static status save(job *j, const char *path, size_t first, size_t end, error *err) {
    if (!path) return short_of_memory(err);
    TRY(safetensors_save(path, j->items + first, end - first, j->metadata, j->n_metadata, j->c->overwrite,
                         err));
    return j->c->progress ? j->c->progress(j->c->user, path, j->done, j->total, err) : OK;
}

static status save_index(job *j, json_t *map, error *err) {
    const char *path = arena_printf(&j->strings, "%s.index.json", j->c->out);
    json_t *index =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)j->total, "weight_map", map);
    char *text = index ? json_dumps(index, JSON_INDENT(2)) : NULL;
    status s =
        path && text ? fs_write_atomic(path, text, strlen(text), j->c->overwrite, err) : short_of_memory(err);
    free(text);
    json_decref(index);
    if (s || !j->c->progress) return s;
    return j->c->progress(j->c->user, path, j->done, j->total, err);
}

static status save_shards(job *j, size_t n, error *err) {
    json_t *map = json_object();
    int stem = (int)(strlen(j->c->out) - strlen(".safetensors"));
    status s = map ? OK : short_of_memory(err);
    for (size_t i = 0, shard = 1; i < j->n && !s; shard++) {
        size_t end = shard_end(j, i);
        const char *path =
            arena_printf(&j->strings, "%.*s-%05zu-of-%05zu.safetensors", stem, j->c->out, shard, n);
        s = save(j, path, i, end, err);
        for (; i < end && !s; i++)
            if (json_object_set_new(map, j->items[i].name, json_string(fs_basename(path))))
                s = short_of_memory(err);
    }
    if (!s) s = save_index(j, map, err);
    json_decref(map);
    return s;
}

// ---------------------------------------------------------------- all of it

static status save_all(job *j, error *err) {
    size_t n = shard_count(j);
    TRY(make_lanes(j, err));
    return n == 1 ? save(j, j->c->out, 0, j->n, err) : save_shards(j, n, err);
}

status convert_check_name(const char *out, error *err) {
    if (text_ends_with(out, ".safetensors") && *fs_basename(out)) return OK;
    return fail(err, ERR_USAGE, "'%s': what is written is called NAME.safetensors", out);
}

static status open_models(job *j, error *err) {
    const conversion *c = j->c;
    TRY(convert_check_name(c->out, err));
    if (!(j->in = model_files_open(c->in, NULL, err))) return err->code;
    if (c->plus && !(j->plus = model_files_open(c->plus, NULL, err))) return err->code;
    if (c->minus && !(j->minus = model_files_open(c->minus, NULL, err))) return err->code;
    return OK;
}

// In the order of keys; what is said of codes becomes what there is to say.
static status take_metadata(job *j, const metadata_pair *pairs, size_t n, error *err) {
    const quantised_format *q = j->c->quantise;
    bool told = !q;
    if (!(j->metadata = mem_calloc(n + 1, sizeof *j->metadata))) return short_of_memory(err);
    for (size_t i = 0; i < n; i++) {
        int order = strcmp(pairs[i].key, QUANTISED_KEY);
        if (order > 0 && !told) j->metadata[j->n_metadata++] = (metadata_pair){QUANTISED_KEY, q->name};
        told = told || order > 0;
        if (order || !j->decoded) j->metadata[j->n_metadata++] = pairs[i];
    }
    if (!told) j->metadata[j->n_metadata++] = (metadata_pair){QUANTISED_KEY, q->name};
    return OK;
}

// Shards repeat their metadata.
static status read_metadata(job *j, error *err) {
    const tensor_file *f = j->passages[0].in[0].file;
    size_t n = tensor_file_metadata_count(f);
    metadata_pair *pairs = mem_calloc(n, sizeof *pairs);
    for (size_t i = 0; i < n && pairs; i++) pairs[i] = tensor_file_metadata_at(f, i);
    status s = pairs ? take_metadata(j, pairs, n, err) : short_of_memory(err);
    mem_free(pairs);
    return s;
}

static void finish(job *j) {
    mem_free(j->metadata);
    mem_free(j->passages);
    mem_free(j->items);
    mem_free(j->matrices);
    for (lane *l = j->lanes; l && l < j->lanes + team_size(j->c->team); l++) {
        mem_free(l->v);
        mem_free(l->scale);
        mem_free(l->minimum);
        mem_free(l->census);
    }
    mem_free(j->lanes);
    if (j->rows) mem_free(j->rows->bytes);
    mem_free(j->rows);
    model_files_close(j->in);
    model_files_close(j->plus);
    model_files_close(j->minus);
    arena_free(&j->strings);
}

status convert_weights(const conversion *c, error *err) {
    job j = {.c = c, .decoded = c->type >= 0 || c->quantise};
    error unseen;
    if (!err) err = &unseen;
    status s = open_models(&j, err);
    if (!s) s = choose(&j, err);
    if (!s) s = read_metadata(&j, err);
    if (!s) s = save_all(&j, err);
    finish(&j);
    return s;
}

status convert_items(const conversion *c, const convert_item *items, size_t n, const metadata_pair *metadata,
                     size_t n_metadata, error *err) {
    job j = {.c = c, .decoded = true};
    bool scaled = false;
    status s = make_room(&j, n, err);
    for (size_t i = 0; i < n; i++)
        scaled = scaled || ((c->type >= 0 || c->quantise) && items[i].part[0].tensor->scale);
    for (size_t i = 0; i < n && !s; i++)
        if (!items[i].part[0].tensor->auxiliary && !(scaled && is_scale(items[i].name)))
            s = add(&j, &items[i], err);
    if (!s) s = take_metadata(&j, metadata, n_metadata, err);
    if (!s) s = save_all(&j, err);
    finish(&j);
    return s;
}
