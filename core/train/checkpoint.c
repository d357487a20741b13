#include "core/train/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/safetensors.h"
#include "core/train/config.h"

// A parameter's four tensors, in the order of their prefixes.
enum { KINDS = 4 };
static const char *const PREFIX[KINDS] = {"value", "m", "v", "ema"};

static float *tensor_of(const param *p, int kind) {
    float *const at[KINDS] = {p->w.value, p->m, p->v, p->ema};
    return at[kind];
}

// ---- saving

static bool is_checkpoint(const char *name) {
    int end = 0;
    return sscanf(name, "step-%*[0-9].safetensors%n", &end) == 0 && end && !name[end];
}

// Names have a fixed number of digits, so that their order is that of the steps. What cannot be removed
// stays.
static void remove_old(const char *dir, int keep) {
    char **names = NULL;
    size_t n = 0;
    if (fs_list(dir, &names, &n, NULL)) return;
    int newer = 0;
    for (size_t i = n; i-- > 0;) {
        if (!is_checkpoint(names[i]) || newer++ < keep) continue;
        char *path = fs_join(dir, names[i]);
        if (path) unlink(path);
        mem_free(path);
    }
    fs_list_free(names, n);
}

static safetensors_item *items_of(const params *p, arena *mem) {
    size_t n = params_count(p);
    safetensors_item *items = mem_calloc(KINDS * n + 1, sizeof *items);
    for (size_t i = 0; items && i < KINDS * n; i++) {
        const param *q = params_at(p, i / KINDS);
        items[i] = (safetensors_item){.type = DT_F32,
                                      .name = arena_printf(mem, "%s.%s", PREFIX[i % KINDS], q->w.name),
                                      .ndim = q->w.shape.rank,
                                      .data = tensor_of(q, i % KINDS)};
        for (int k = 0; k < q->w.shape.rank; k++) items[i].shape[k] = q->w.shape.d[k];
        if (items[i].name) continue;
        mem_free(items);
        return NULL;
    }
    return items;
}

status checkpoint_save(const char *dir, const checkpoint_state *s, const params *p, int keep, char **saved,
                       error *err) {
    arena mem = {0};
    safetensors_item *items = items_of(p, &mem);
    char *config = json_dumps(s->config, JSON_COMPACT);
    metadata_pair about[] = {
        {"kind", s->kind},
        {"step", arena_printf(&mem, "%lld", (long long)s->step)},
        {"stage", arena_printf(&mem, "%d", s->stage)},
        {"at", arena_printf(&mem, "%lld", (long long)s->at)},
        {"machine", s->machine},
        {"precision", s->precision},
        {"threads", arena_printf(&mem, "%lld", (long long)s->threads)},
        {"config", config},
    };
    enum { N = sizeof about / sizeof *about };
    bool whole = items != NULL;
    for (int i = 0; i < N; i++) whole &= about[i].value != NULL;
    char *path = arena_printf(&mem, "%s/step-%010lld.safetensors", dir, (long long)s->step);
    status st = fs_mkdirs(dir, err);
    if (!st && (!whole || !path)) st = fail(err, ERR_TEMP, "out of memory");
    if (!st) st = safetensors_save(path, items, KINDS * params_count(p), about, N, true, err);
    if (!st) remove_old(dir, keep);
    if (!st && saved) *saved = mem_strdup(path);
    free(config);
    mem_free(items);
    arena_free(&mem);
    return st;
}

// ---- loading

char *checkpoint_latest(const char *dir) {
    char **names = NULL, *path = NULL;
    size_t n = 0;
    if (fs_list(dir, &names, &n, NULL)) return NULL;
    for (size_t i = n; i-- > 0 && !path;)
        if (is_checkpoint(names[i])) path = fs_join(dir, names[i]);
    fs_list_free(names, n);
    return path;
}

static const char *about(const tensor_file *st, const char *key) {
    const char *text = tensor_file_metadata(st, key);
    return text ? text : "";
}

static int64_t number(const tensor_file *st, const char *key) { return strtoll(about(st, key), NULL, 10); }

// What would not continue bit for bit is an error that names the way out, or a warning.
static status tolerate(bool allowed, const log_sink *log, const char *text, const char *way_out, error *err) {
    if (!allowed) return fail(err, ERR_DATA, "%s (%s)", text, way_out);
    log_put(log, LOG_LEVEL_WARN, "%s", text);
    return OK;
}

static status check_machine(const tensor_file *st, const checkpoint_state *s,
                            const checkpoint_tolerance *allow, error *err) {
    const char *machine = about(st, "machine"), *precision = about(st, "precision");
    if (!strcmp(machine, s->machine) && !strcmp(precision, s->precision) &&
        number(st, "threads") == s->threads)
        return OK;
    char text[600];
    snprintf(text, sizeof text,
             "%s was made with %s, %s and %lld threads; this is %s, %s and %lld threads, so the run would "
             "not continue bit for bit",
             tensor_file_path(st), machine, precision, (long long)number(st, "threads"), s->machine,
             s->precision, (long long)s->threads);
    return tolerate(allow->ignore_machine, allow->log, text, "--ignore-machine continues all the same", err);
}

static status check_config(const tensor_file *st, const checkpoint_state *s,
                           const checkpoint_tolerance *allow, error *err) {
    char what[500], text[900];
    const char *config = tensor_file_metadata(st, "config");
    json_t *then = config ? js_parse(tensor_file_path(st), config, strlen(config), NULL) : NULL;
    if (!then) {
        log_put(allow->log, LOG_LEVEL_WARN,
                "%s does not say of which configuration it is, so whether that has changed is not checked",
                tensor_file_path(st));
        return OK;
    }
    int n = train_config_changes(then, s->config, s->stage + (s->at > 0), what, sizeof what);
    json_decref(then);
    if (!n) return OK;
    snprintf(text, sizeof text, "the configuration is not that of %s: %s; this would be another run",
             tensor_file_path(st), what);
    return tolerate(allow->ignore_config, allow->log, text,
                    "put the old values back, or continue all the same with --ignore-config; stages still to "
                    "come may change freely",
                    err);
}

static status load_param(const tensor_file *st, const param *p, error *err) {
    for (int kind = 0; kind < KINDS; kind++) {
        char name[700];
        snprintf(name, sizeof name, "%s.%s", PREFIX[kind], p->w.name);
        const tensor_entry *t = tensor_file_find(st, name);
        bool fits = t && t->type == DT_F32 && t->ndim == p->w.shape.rank;
        for (int k = 0; fits && k < t->ndim; k++) fits = t->shape[k] == p->w.shape.d[k];
        if (!fits)
            return fail(err, ERR_DATA, "%s: %s is missing or of another shape: not this network",
                        tensor_file_path(st), name);
        status s = tensor_file_read_f32(st, t, 0, t->count, tensor_of(p, kind), err);
        if (s) return s;
    }
    return OK;
}

static status load_all(const tensor_file *st, checkpoint_state *s, params *p,
                       const checkpoint_tolerance *allow, error *err) {
    if (strcmp(about(st, "kind"), s->kind))
        return fail(err, ERR_DATA, "%s: a checkpoint of \"%s\", not of \"%s\"", tensor_file_path(st),
                    about(st, "kind"), s->kind);
    if (tensor_file_count(st) != KINDS * params_count(p))
        return fail(err, ERR_DATA, "%s: holds %zu tensors where %zu are expected: not this network",
                    tensor_file_path(st), tensor_file_count(st), KINDS * params_count(p));
    s->step = number(st, "step");
    s->stage = (int)number(st, "stage");
    s->at = number(st, "at");
    if (s->step < 0 || s->stage < 0 || s->stage > TRAIN_STAGES_MAX || s->at < 0 || s->at > s->step)
        return fail(err, ERR_DATA, "%s: says nonsense about its step", tensor_file_path(st));
    status code = check_config(st, s, allow, err);
    if (!code) code = check_machine(st, s, allow, err);
    for (size_t i = 0; i < params_count(p) && !code; i++) code = load_param(st, params_at(p, i), err);
    return code;
}

status checkpoint_load(const char *path, checkpoint_state *s, params *p, const checkpoint_tolerance *allow,
                       error *err) {
    tensor_file *st = tensor_file_open(path, err);
    if (!st) return err ? err->code : ERR_DATA;
    status code = load_all(st, s, p, allow, err);
    tensor_file_close(st);
    return code;
}
