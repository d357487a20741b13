#include "core/files/weights_file.h"

#include "core/base/mem.h"
#include "core/files/model_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    weight weight;
    model_tensor place;
} entry;

struct weights_file {
    weights provider;
    model_files *files;
    entry *entries; // by name
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

static int by_name(const void *name, const void *e) { return strcmp(name, ((const entry *)e)->weight.name); }

static const entry *find_exact(const weights_file *f, const char *name) {
    return f->n ? bsearch(name, f->entries, f->n, sizeof *f->entries, by_name) : NULL;
}

static const weight *find(const weights *self, const char *name) {
    const weights_file *f = (const weights_file *)self;
    const entry *e = find_exact(f, name);
    for (size_t i = 0; i < sizeof OTHER_NAMES / sizeof *OTHER_NAMES && !e; i++) {
        const char *at = strstr(name, OTHER_NAMES[i].ours);
        char other[1024];
        if (!at) continue;
        int n = snprintf(other, sizeof other, "%.*s%s%s", (int)(at - name), name, OTHER_NAMES[i].theirs,
                         at + strlen(OTHER_NAMES[i].ours));
        if (n < (int)sizeof other) e = find_exact(f, other);
    }
    return e ? &e->weight : NULL;
}

static status read_all(const weight *w, float *dst, error *err) {
    const model_tensor *p = w->source;
    return tensor_file_read_f32(p->file, p->tensor, 0, p->tensor->count, dst, err);
}

// Tensors of more dimensions than a graph knows belong to no network of ours and are left out.
static void add(weights_file *f, model_tensor place) {
    const tensor_entry *t = place.tensor;
    if (t->ndim > MAX_RANK) return;
    entry *e = &f->entries[f->n++];
    e->place = place;
    e->weight = (weight){.name = t->name, .read = read_all, .source = &e->place, .id = weight_new_id()};
    e->weight.shape.rank = t->ndim;
    for (int i = 0; i < t->ndim; i++) e->weight.shape.d[i] = t->shape[i];
}

weights_file *weights_file_open(const char *path, const char *variant, error *err) {
    model_files *files = model_files_open(path, variant, err);
    if (!files) return NULL;
    size_t n = model_files_count(files);
    weights_file *f = mem_calloc(1, sizeof *f);
    entry *entries = mem_calloc(n + 1, sizeof *entries);
    if (!f || !entries) {
        mem_free(f);
        mem_free(entries);
        model_files_close(files);
        return fail(err, ERR_TEMP, "out of memory"), NULL;
    }
    *f = (weights_file){{find, model_files_path(files)}, files, entries, 0};
    for (size_t i = 0; i < n; i++) add(f, model_files_at(files, i));
    return f;
}

void weights_file_close(weights_file *f) {
    if (!f) return;
    model_files_close(f->files);
    mem_free(f->entries);
    mem_free(f);
}

const weights *weights_file_weights(const weights_file *f) { return &f->provider; }
