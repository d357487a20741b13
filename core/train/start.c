#include "core/train/start.h"

#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/weights_file.h"

static status read_param(const weights *from, const char *path, const char *name, param *p, error *err) {
    const weight *w = from->find(from, name);
    if (!w || !weight_fits(w->shape, p->w.shape))
        return fail(err, ERR_DATA, "%s: %s is missing or of another shape", path, name);
    return w->read(w, p->w.value, err);
}

static status read_folder(params *to, const char *component, const char *path, error *err) {
    weights_file *file = weights_file_open(path, NULL, err);
    if (!file) return err->code;
    status s = OK;
    for (size_t i = 0; i < params_count(to) && !s; i++) {
        param *p = params_at(to, i);
        const char *name = param_below(p, component);
        if (name) s = read_param(weights_file_weights(file), path, name, p, err);
    }
    weights_file_close(file);
    return s;
}

status start_component(const train_context *x, const char *component, error *err) {
    const char *folder = x->config->start;
    if (!*folder && x->config->kind == TRAIN_FINETUNE) folder = x->config->model;
    if (!*folder) return OK;
    char *path = fs_join(folder, component);
    status s = path ? read_folder(x->params, component, path, err) : fail(err, ERR_TEMP, "out of memory");
    mem_free(path);
    return s;
}
