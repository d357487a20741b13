#include "core/models/part_tensors.h"

#include "core/base/mem.h"
#include "core/base/text.h"

#include <stdlib.h>
#include <string.h>

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

static int by_name(const void *a, const void *b) {
    return strcmp(((const part_tensor *)a)->name, ((const part_tensor *)b)->name);
}

static status add_tensor(part_tensors *l, const char *name, model_tensor t, tensor_view view, error *err) {
    part_tensor *p = &l->tensors[l->n++];
    *p = (part_tensor){
        .name = arena_printf(&l->strings, "%s", name), .tensor = view_load(t.tensor, view), .file = t.file};
    l->bytes += p->tensor.bytes;
    return p->name ? OK : no_memory(err);
}

// All that a file's tensor is of ours.
static status add_stored(part_tensors *l, const file_names *names, model_tensor t, bool *used, error *err) {
    char ours[NAME_SIZE];
    tensor_view view = VIEW_WHOLE;
    const char *name = t.tensor->name;
    if (!names->rows) {
        *used = weights_usual_name(name, ours);
        return *used ? add_tensor(l, ours, t, VIEW_WHOLE, err) : OK;
    }
    if (strncmp(name, names->prefix, strlen(names->prefix))) return OK;
    for (int third = VIEW_FIRST_THIRD; third <= VIEW_LAST_THIRD; third++) {
        if (!names_recall(names, name, (tensor_view)third, ours, &view)) break;
        *used = true;
        TRY(add_tensor(l, ours, t, view, err));
        if (!view_is_third(view)) break;
    }
    return OK;
}

static status check_names(const part_tensors *l, const char *path, error *err) {
    for (size_t i = 1; i < l->n; i++)
        if (!strcmp(l->tensors[i - 1].name, l->tensors[i].name))
            return fail(err, ERR_DATA, "%s: '%.200s' and '%.200s' are the same tensor of the network", path,
                        l->tensors[i - 1].tensor.name, l->tensors[i].tensor.name);
    return OK;
}

status part_tensors_list(part_tensors *l, model *m, model_part p, bool *used, error *err) {
    const model_files *files;
    file_names names;
    *l = (part_tensors){0};
    TRY(model_part_files(m, p, &files, &names, err));
    const checkpoint *c = model_checkpoint(m);
    bool own = used && c && files == checkpoint_files(c);
    size_t n = model_files_count(files);
    if (!(l->tensors = mem_calloc(3 * n, sizeof *l->tensors))) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        bool taken = false;
        TRY(add_stored(l, &names, model_files_at(files, i), &taken, err));
        if (own) used[i] |= taken;
    }
    if (!l->n)
        return fail(err, ERR_DATA, "%s: no tensor of the %s", model_files_path(files), model_part_name(p));
    qsort(l->tensors, l->n, sizeof *l->tensors, by_name);
    return check_names(l, model_files_path(files), err);
}

void part_tensors_free(part_tensors *l) {
    mem_free(l->tensors);
    arena_free(&l->strings);
}

const part_tensor *part_tensors_find(const part_tensors *l, const char *name) {
    const part_tensor key = {.name = name};
    return l->n ? bsearch(&key, l->tensors, l->n, sizeof key, by_name) : NULL;
}

bool part_tensor_is_layer(const part_tensor *t) {
    return (t->tensor.ndim == 2 || t->tensor.ndim == 4) && t->tensor.count &&
           (t->tensor.codes || dtype_is_float(t->tensor.type)) && text_ends_with(t->name, ".weight");
}

bool part_tensors_translate(const part_tensors *l, const file_names *names, const char *ours,
                            char theirs[NAME_SIZE], tensor_view *view) {
    char needed[NAME_SIZE];
    for (const name_row *row = names->rows; row && row->ours; row++)
        if (names_translate(names, row, ours, theirs, view) &&
            (!row->with || (names_need(names, row, ours, needed) && part_tensors_find(l, needed))))
            return true;
    return false;
}
