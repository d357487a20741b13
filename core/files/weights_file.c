#include "core/files/weights_file.h"

#include "core/base/mem.h"
#include "core/files/quantised.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A tensor as a row of the names sees it.
typedef struct {
    tensor_entry tensor;
    model_tensor place;
    weight weight;
} seen;

// A tensor of the files. A weight is made of it when it is first asked for: one for all of it, or one for
// each third.
typedef struct {
    const char *name;
    model_tensor place;
    seen seen[3];
} entry;

struct weights_file {
    weights provider;
    const model_files *files;
    model_files *own_files; // NULL: borrowed
    file_names names;       // rows NULL: ours, and OTHER_NAMES
    entry *entries;         // by name
    size_t n;
};

// What of a name may be written otherwise.
static const struct {
    const char *ours, *theirs;
} OTHER_NAMES[] = {
    {"text_model.", ""}, // transformers 5 leaves the text encoder's own name out
    // the autoencoder's middle, diffusers before 0.15
    {".to_q.", ".query."},
    {".to_k.", ".key."},
    {".to_v.", ".value."},
    {".to_out.0.", ".proj_attn."},
};

// ---- values

static status read_all(const weight *w, float *dst, error *err) {
    const model_tensor *p = w->source;
    return tensor_file_read_f32(p->file, p->tensor, 0, p->tensor->count, dst, err);
}

static void expect(const weight *w) {
    const model_tensor *p = w->source;
    tensor_file_expect(p->file, p->tensor);
}

static const weight *view_of(entry *e, tensor_view view) {
    seen *s = &e->seen[view_is_third(view) ? view - VIEW_FIRST_THIRD : 0];
    if (s->weight.name) return &s->weight;
    s->tensor = view_load(e->place.tensor, view);
    s->place = (model_tensor){e->place.file, &s->tensor};
    s->weight = (weight){.name = s->tensor.name,
                         .read = read_all,
                         .source = &s->place,
                         .expect = expect,
                         .id = weight_new_id()};
    const quantised *codes = s->tensor.codes;
    s->weight.int8 = codes && codes->format->codes == DT_I8 && !s->tensor.strided;
    s->weight.shape.rank = s->tensor.ndim;
    for (int i = 0; i < s->tensor.ndim; i++) s->weight.shape.d[i] = s->tensor.shape[i];
    return &s->weight;
}

// ---- names

static int by_name(const void *name, const void *e) { return strcmp(name, ((const entry *)e)->name); }

static entry *find_exact(const weights_file *f, const char *name) {
    return f->n ? bsearch(name, f->entries, f->n, sizeof *f->entries, by_name) : NULL;
}

static const weight *find_mapped(const weights_file *f, const char *name) {
    char theirs[NAME_SIZE];
    tensor_view view;
    for (const name_row *row = f->names.rows; row->ours; row++) {
        entry *e = names_translate(&f->names, row, name, theirs, &view) ? find_exact(f, theirs) : NULL;
        if (e) return view_of(e, view);
    }
    return NULL;
}

static const weight *find(const weights *self, const char *name) {
    const weights_file *f = (const weights_file *)self;
    if (f->names.rows) return find_mapped(f, name);
    entry *e = find_exact(f, name);
    for (size_t i = 0; i < sizeof OTHER_NAMES / sizeof *OTHER_NAMES && !e; i++) {
        const char *at = strstr(name, OTHER_NAMES[i].ours);
        char other[1024];
        if (!at) continue;
        int n = snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, OTHER_NAMES[i].theirs,
                         at + strlen(OTHER_NAMES[i].ours));
        if (n < (int)sizeof other) e = find_exact(f, other);
    }
    return e ? view_of(e, VIEW_WHOLE) : NULL;
}

// By the first row that knows the name.
static void spell(const weights *self, const char *name, char *buf, size_t size) {
    const weights_file *f = (const weights_file *)self;
    char theirs[NAME_SIZE];
    tensor_view view;
    for (const name_row *row = f->names.rows; row->ours; row++) {
        if (!names_translate(&f->names, row, name, theirs, &view)) continue;
        snprintf(buf, size, "%s", theirs);
        return;
    }
    snprintf(buf, size, "%s", name);
}

// ---- opening

// Tensors of more dimensions than a graph knows belong to no network of ours and are left out.
static weights_file *open_files(const model_files *files, error *err) {
    size_t n = model_files_count(files);
    weights_file *f = mem_calloc(1, sizeof *f);
    entry *entries = mem_calloc(n + 1, sizeof *entries);
    if (!f || !entries) {
        mem_free(f);
        mem_free(entries);
        return fail(err, ERR_TEMP, "out of memory"), NULL;
    }
    *f = (weights_file){.provider = {find, model_files_path(files)}, .files = files, .entries = entries};
    for (size_t i = 0; i < n; i++) {
        model_tensor t = model_files_at(files, i);
        if (t.tensor->ndim <= MAX_RANK) entries[f->n++] = (entry){.name = t.tensor->name, .place = t};
    }
    return f;
}

weights_file *weights_file_of(const model_files *files, const file_names *names, error *err) {
    weights_file *f = open_files(files, err);
    if (!f) return NULL;
    f->names = *names;
    if (names->rows) f->provider.spell = spell;
    return f;
}

weights_file *weights_file_open(const char *path, const char *variant, error *err) {
    model_files *files = model_files_open(path, variant, err);
    weights_file *f = files ? open_files(files, err) : NULL;
    if (!f) return model_files_close(files), NULL;
    f->own_files = files;
    for (size_t i = 0; i < f->n; i++) view_of(&f->entries[i], VIEW_WHOLE); // so that find changes nothing
    return f;
}

void weights_file_close(weights_file *f) {
    if (!f) return;
    model_files_close(f->own_files);
    mem_free(f->entries);
    mem_free(f);
}

const weights *weights_file_weights(const weights_file *f) { return &f->provider; }

const model_files *weights_file_files(const weights_file *f) { return f->files; }

bool weights_usual_name(const char *stored, char ours[NAME_SIZE]) {
    static const char *const TEXT_MODEL[] = {"embeddings.", "encoder.layers.", "final_layer_norm."};
    const char *lacks = "";
    for (size_t i = 0; i < sizeof TEXT_MODEL / sizeof *TEXT_MODEL; i++)
        if (!strncmp(stored, TEXT_MODEL[i], strlen(TEXT_MODEL[i]))) lacks = OTHER_NAMES[0].ours;
    for (size_t i = 1; i < sizeof OTHER_NAMES / sizeof *OTHER_NAMES; i++) {
        const char *at = strstr(stored, OTHER_NAMES[i].theirs);
        if (!at) continue;
        int n = snprintf(ours, NAME_SIZE, "%.*s%s%s", (int)(at - stored), stored, OTHER_NAMES[i].ours,
                         at + strlen(OTHER_NAMES[i].theirs));
        return n < NAME_SIZE;
    }
    return snprintf(ours, NAME_SIZE, "%s%s", lacks, stored) < NAME_SIZE;
}
