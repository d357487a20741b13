#include "core/files/quantised.h"

#include "core/files/tensor_formats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const quantised_format FORMATS[] = {
    {"q8", DT_I8, DT_F32, 8, false, false, false},
    {"q4", DT_U8, DT_F16, 4, true, true, false},
    {"q8-balanced", DT_U8, DT_F32, 8, false, false, true},
    {"q4-balanced", DT_U8, DT_F16, 4, true, false, true},
};

enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

const quantised_format *quantised_format_at(int i) { return i < N_FORMATS ? &FORMATS[i] : NULL; }

const quantised_format *quantised_format_named(const char *name) {
    for (int i = 0; i < N_FORMATS; i++)
        if (!strcmp(name, FORMATS[i].name)) return &FORMATS[i];
    return NULL;
}

uint64_t quantised_groups(const quantised_format *f, uint64_t row) {
    return f->grouped ? row / QUANTISED_GROUP + (row % QUANTISED_GROUP != 0) : 1;
}

void quantised_stored_shape(const quantised_format *f, int ndim, const int64_t *shape, int64_t *stored) {
    memcpy(stored, shape, (size_t)ndim * sizeof *shape);
    if (f->bits == 4) stored[1] /= 2;
}

// ---------------------------------------------------------------- the directory

bool quantised_holds_codes(const tensor_entry *t) {
    size_t n = strlen(t->name), end = strlen("weight");
    return (t->type == DT_I8 || t->type == DT_U8) && t->ndim >= 2 && n >= end &&
           !strcmp(t->name + n - end, "weight");
}

// The tensor beside t, of this type and shape; it is marked as belonging to t.
static status find_beside(tensor_file *f, const tensor_entry *t, const char *ending, dtype type, int ndim,
                          const int64_t *shape, const tensor_entry **found, error *err) {
    char want[100], name[1024];
    tensor_shape_text(shape, ndim, want, sizeof want);
    int n = snprintf(name, sizeof name, "%s_%s", t->name, ending);
    tensor_entry *beside = n < (int)sizeof name ? (tensor_entry *)(uintptr_t)tensor_file_find(f, name) : NULL;
    if (!beside)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is quantised, but its %s %s is missing", f->path,
                    t->name, ending, want);
    if (beside->type != (int)type || beside->ndim != ndim ||
        memcmp(beside->shape, shape, (size_t)ndim * sizeof *shape))
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is not the %s %s that the codes need", f->path, name,
                    dtype_name(type), want);
    beside->auxiliary = true;
    *found = beside;
    return OK;
}

static status link_codes(tensor_file *f, const quantised_format *format, tensor_entry *t, error *err) {
    quantised *q = arena_alloc(&f->strings, sizeof *q);
    if (!q) return fail(err, ERR_TEMP, "%s: out of memory", f->path);
    if (t->type != (int)format->codes)
        return fail(err, ERR_DATA, "%s: tensor '%.200s' is %s; codes of %s are %s", f->path, t->name,
                    t->type_name, format->name, dtype_name(format->codes));
    if (!t->count) return fail(err, ERR_DATA, "%s: tensor '%.200s' is quantised and empty", f->path, t->name);
    uint64_t values =
        format->bits == 4 ? 2 * t->count : t->count; // no overflow: the file holds t->count bytes
    *q = (quantised){.format = format, .stored = t, .row = values / (uint64_t)t->shape[0]};
    q->groups = quantised_groups(format, q->row);
    int ndim = format->grouped ? 2 : 1;
    int64_t scales[2] = {t->shape[0], (int64_t)q->groups}, levels = (int64_t)1 << format->bits;
    TRY(find_beside(f, t, "scale", format->scale, ndim, scales, &q->scale, err));
    if (format->minimum) TRY(find_beside(f, t, "minimum", format->scale, ndim, scales, &q->minimum, err));
    if (format->balanced) TRY(find_beside(f, t, "levels", DT_F32, 1, &levels, &q->levels, err));
    if (format->bits == 4) t->shape[1] *= 2;
    t->count = values;
    t->type_name = format->name;
    t->codes = q;
    return OK;
}

status quantised_link(tensor_file *f, error *err) {
    const char *name = tensor_file_metadata(f, QUANTISED_KEY);
    const quantised_format *format = name ? quantised_format_named(name) : NULL;
    if (!name) return OK;
    if (!format)
        return fail(err, ERR_DATA, "%s: weights are quantised as '%.50s', which calotype does not know",
                    f->path, name);
    for (size_t i = 0; i < f->n; i++)
        if (quantised_holds_codes(&f->tensors[i])) TRY(link_codes(f, format, &f->tensors[i], err));
    return OK;
}

// ---------------------------------------------------------------- values

enum { PIECE = 1 << 13 }; // values decoded at a time

// What a piece of a tensor needs, from the scale of its first value on.
typedef struct {
    unsigned char codes[PIECE];
    float scale[PIECE], minimum[PIECE], levels[QUANTISED_MAX_LEVELS];
} piece;

static status read_finite(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                          float *dst, error *err) {
    TRY(tensor_file_read_f32(f, t, first, count, dst, err));
    for (uint64_t i = 0; i < count; i++)
        if (!isfinite(dst[i]))
            return fail(err, ERR_DATA, "%s: tensor '%.200s' holds a value that is not finite", f->path,
                        t->name);
    return OK;
}

// Which scale is that of value i.
static uint64_t scale_of(const quantised *q, uint64_t i) {
    return i / q->row * q->groups + (q->format->grouped ? i % q->row / QUANTISED_GROUP : 0);
}

// The first value behind i with another scale.
static uint64_t scale_end(const quantised *q, uint64_t i) {
    uint64_t row = i / q->row * q->row, end = row + q->row;
    uint64_t group = q->format->grouped ? i - (i - row) % QUANTISED_GROUP + QUANTISED_GROUP : end;
    return group < end ? group : end;
}

static float level_of(const quantised *q, const piece *p, uint64_t first, uint64_t i) {
    int code =
        q->format->bits == 4 ? p->codes[i / 2 - first / 2] >> (i % 2 ? 4 : 0) & 15 : p->codes[i - first];
    if (q->format->balanced) return p->levels[code];
    return (float)(q->format->codes == DT_I8 ? (int8_t)code : code);
}

static status read_piece(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count,
                         piece *p, float *dst, error *err) {
    const quantised *q = t->codes;
    uint64_t end = first + count, s = scale_of(q, first), scales = scale_of(q, end - 1) - s + 1;
    uint64_t in_byte = q->format->bits == 4 ? 2 : 1, byte = first / in_byte;
    TRY(tensor_file_read(f, t, byte, (end - 1) / in_byte - byte + 1, p->codes, err));
    TRY(read_finite(f, q->scale, s, scales, p->scale, err));
    if (q->minimum) TRY(read_finite(f, q->minimum, s, scales, p->minimum, err));
    for (uint64_t i = first, k = 0; i < end; k++) {
        uint64_t stop = scale_end(q, i) < end ? scale_end(q, i) : end;
        // A 4-bit code times an f16 is exact, so the sum is the only rounding.
        for (; i < stop; i++) {
            float v = p->scale[k] * level_of(q, p, first, i);
            dst[i - first] = q->minimum ? p->minimum[k] + v : v;
        }
    }
    return OK;
}

status quantised_read(const tensor_file *f, const tensor_entry *t, uint64_t first, uint64_t count, float *dst,
                      error *err) {
    const quantised *q = t->codes;
    piece p;
    if (q->levels) TRY(read_finite(f, q->levels, 0, q->levels->count, p.levels, err));
    for (uint64_t at = 0; at < count; at += PIECE)
        TRY(read_piece(f, t, first + at, count - at < PIECE ? count - at : PIECE, &p, dst + at, err));
    return OK;
}
