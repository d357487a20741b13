#include "core/api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/base/nearest.h"
#include "core/cpu/cpu.h"

_Static_assert((int)CALO_ERR_USAGE == (int)ERR_USAGE && (int)CALO_ERR_DATA == (int)ERR_DATA &&
                   (int)CALO_ERR_NOINPUT == (int)ERR_NOINPUT && (int)CALO_ERR_INTERNAL == (int)ERR_INTERNAL &&
                   (int)CALO_ERR_CANTCREAT == (int)ERR_CANTCREAT && (int)CALO_ERR_IO == (int)ERR_IO &&
                   (int)CALO_ERR_TEMP == (int)ERR_TEMP && (int)CALO_ERR_CANCELLED == (int)ERR_CANCELLED,
               "the public codes are the internal ones");
_Static_assert((int)CALO_LOG_DEBUG == (int)LOG_LEVEL_DEBUG, "and so are the levels");

const char *calo_version(void) { return CALO_VERSION; }
void calo_free(void *p) { mem_free(p); }

error *api_enter(calo_context *ctx) {
    ctx->err = (error){0};
    return &ctx->err;
}

// ---- structs of programs

enum { MAX_STRUCT = 1 << 16 }; // bytes; a size beyond is no size

void api_struct_fill(void *theirs, size_t size, const void *ours, size_t own) {
    if (size < sizeof size) return;
    memset(theirs, 0, size);
    memcpy(theirs, ours, size < own ? size : own);
    memcpy(theirs, &size, sizeof size);
}

status api_struct_take(void *ours, size_t own, const void *theirs, const char *what, error *err) {
    size_t size;
    memcpy(&size, theirs, sizeof size);
    if (size < sizeof size || size > MAX_STRUCT)
        return fail(err, ERR_USAGE, "the %s was not initialised: its first member is not its size", what);
    for (size_t i = own; i < size; i++)
        if (((const char *)theirs)[i])
            return fail(err, ERR_USAGE, "the %s asks for something that calotype %s does not know", what,
                        CALO_VERSION);
    memcpy(ours, theirs, size < own ? size : own);
    memcpy(ours, &own, sizeof own);
    return OK;
}

// ---- context

void calo_context_options_init(calo_context_options *options, size_t size) {
    calo_context_options o = {.size = sizeof o, .log_level = CALO_LOG_WARN};
    api_struct_fill(options, size, &o, sizeof o);
}

static void log_to_caller(void *user, log_level level, const char *text) {
    const calo_context *ctx = user;
    ctx->options.log(ctx->options.user, (calo_log_level)level, text);
}

calo_status calo_context_new(const calo_context_options *options, calo_context **out) {
    *out = NULL;
    calo_context_options o = calo_context_defaults();
    if (options && api_struct_take(&o, sizeof o, options, "options", NULL)) return CALO_ERR_USAGE;
    if (o.threads < 0 || o.threads > 1024) return CALO_ERR_USAGE;
    calo_context *ctx = mem_calloc(1, sizeof *ctx);
    if (!ctx) return CALO_ERR_TEMP;
    ctx->options = o;
    if (o.log) ctx->log = (log_sink){log_to_caller, ctx, (log_level)o.log_level};
    if (!(ctx->team = team_new(o.threads))) return mem_free(ctx), CALO_ERR_TEMP;
    *out = ctx;
    return CALO_OK;
}

void calo_context_free(calo_context *ctx) {
    if (!ctx) return;
    for (int how = EXACT; how <= FAST; how++) backend_free(ctx->be[how]);
    team_free(ctx->team);
    workspace_free(&ctx->ws);
    mem_free(ctx);
}

const char *calo_message(const calo_context *ctx) { return ctx ? ctx->err.text : "out of memory"; }

dtype api_compute(calo_precision p) {
    if (p == CALO_PRECISION_AUTO) p = cpu_has_bf16() ? CALO_PRECISION_BF16 : CALO_PRECISION_F32;
    return p == CALO_PRECISION_BF16 ? DT_BF16 : DT_F32;
}

const char *calo_precision_name(calo_context *ctx) {
    return api_compute(ctx->options.precision) == DT_BF16 ? "bf16" : "f32";
}

const backend *api_backend(calo_context *ctx, arithmetic how, error *err) {
    static backend *(*const MAKERS[])(team *, error *) = {
        [EXACT] = cpu_backend, [LEAN] = cpu_backend_lean, [FAST] = cpu_backend_fast};
    if (ctx->options.fast == CALO_FAST_OFF) how = EXACT;
    if (!ctx->be[how]) ctx->be[how] = MAKERS[how](ctx->team, err);
    return ctx->be[how];
}

// Less memory for weights is wanted only where there is a limit.
static status means_for(calo_context *ctx, arithmetic how, network_means *by, error *err) {
    *by = (network_means){.n_be = 1, .ws = &ctx->ws, .models = ctx->models};
    uint64_t most = ctx->options.max_memory;
    if (most) by->memory = most > PROCESS_BYTES ? (size_t)most - PROCESS_BYTES : 1;
    if (by->memory && how == FAST && ctx->options.fast != CALO_FAST_OFF) by->n_be = 2;
    for (int i = 0; i < by->n_be; i++)
        if (!(by->be[i] = api_backend(ctx, i ? LEAN : how, err))) return err->code;
    return OK;
}

exec *api_network(calo_model *m, const network_shape *s, arithmetic how, error *err) {
    network_means by;
    return means_for(m->ctx, how, &by, err) ? NULL : model_network(m->m, s, &by, err);
}

status api_network_memory(calo_model *m, const network_shape *s, arithmetic how, network_memory *need,
                          error *err) {
    network_means by;
    status st = means_for(m->ctx, how, &by, err);
    return st ? st : model_network_memory(m->m, s, &by, need, err);
}

const char *calo_nearest_name(const char *name, const char *const *names, size_t n) {
    return nearest_name(name, names, n);
}

void calo_cancel(calo_context *ctx, int on) { atomic_store(&ctx->stop, on); }

bool api_cancelled(const calo_context *ctx) {
    const calo_context_options *o = &ctx->options;
    return atomic_load(&ctx->stop) || (o->cancelled && o->cancelled(o->user));
}

status api_progress(calo_context *ctx, calo_progress p, error *err) {
    const calo_context_options *o = &ctx->options;
    p.size = sizeof p;
    if (o->progress) o->progress(o->user, &p);
    return api_cancelled(ctx) ? fail(err, ERR_CANCELLED, "stopped") : OK;
}

api_pieces api_pieces_begin(calo_context *ctx, const char *stage, int index, int images) {
    return (api_pieces){ctx, stage, index, images, clock_seconds()};
}

status api_piece(void *pieces, int done, int all, error *err) {
    api_pieces *at = pieces;
    double now = clock_seconds(), seconds = now - at->begun;
    at->begun = now;
    calo_progress p = {.stage = at->stage,
                       .step = done,
                       .steps = all,
                       .image = at->image,
                       .group = 1,
                       .images = at->images,
                       .seconds = seconds};
    return api_progress(at->ctx, p, err);
}

// ---- models

enum { MAX_PLACES = 5 };

// Where the model that comes with the program may lie. Beside the program means the source tree or an
// installation that was moved, as does beside the library.
static int embedded_places(arena *a, const char **places) {
    char exe[4096];
    const char *data = getenv("CALOTYPE_DATA");
    int n = 0;
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (data && *data) places[n++] = arena_printf(a, "%s/talbot", data);
    if (length > 0) {
        exe[length] = 0;
        char *dir = fs_dirname(exe);
        places[n++] = arena_printf(a, "%s/../../assets/talbot", dir ? dir : ".");
        places[n++] = arena_printf(a, "%s/../share/calotype/talbot", dir ? dir : ".");
        mem_free(dir);
    }
    static const char here = 0; // an address in the library
    Dl_info library;
    if (dladdr(&here, &library) && library.dli_fname) {
        char *dir = fs_dirname(library.dli_fname);
        places[n++] = arena_printf(a, "%s/%s/talbot", dir ? dir : ".", CALO_LIBRARY_TO_DATA);
        mem_free(dir);
    }
    places[n++] = arena_printf(a, "%s/talbot", CALO_DATADIR);
    return n;
}

static model *open_embedded(const model_options *o, error *err) {
    arena a = {0};
    const char *places[MAX_PLACES];
    int n = embedded_places(&a, places);
    model *m = NULL;
    const char *looked = "";
    for (int i = 0; i < n; i++) {
        const char *index = arena_printf(&a, "%s/model_index.json", places[i] ? places[i] : "");
        if (index && fs_exists(index)) {
            m = model_open(places[i], o, err);
            goto done;
        }
        looked = arena_printf(&a, "%s%s%s", looked ? looked : "", i ? ", " : "", places[i] ? places[i] : "?");
    }
    fail(err, ERR_NOINPUT,
         "no model given, and the one that comes with calotype is not there (looked in %s): name a model's "
         "folder, or "
         "set CALOTYPE_DATA to the folder that holds talbot",
         looked ? looked : "?");
done:
    arena_free(&a);
    return m;
}

void calo_model_options_init(calo_model_options *options, size_t size) {
    calo_model_options o = {.size = sizeof o};
    api_struct_fill(options, size, &o, sizeof o);
}

calo_status calo_model_open_with(calo_context *ctx, const char *path, const calo_model_options *options,
                                 calo_model **out) {
    error *err = api_enter(ctx);
    *out = NULL;
    calo_model_options o = calo_model_defaults();
    if (options && api_struct_take(&o, sizeof o, options, "options", err)) return api_leave(err->code);
    model_options inner = {o.vae, o.vocabulary};
    calo_model *m = mem_calloc(1, sizeof *m);
    if (!m) return api_leave(fail(err, ERR_TEMP, "out of memory"));
    m->ctx = ctx;
    m->m = path ? model_open(path, &inner, err) : open_embedded(&inner, err);
    if (!m->m) return mem_free(m), api_leave(err->code);
    model_join(&ctx->models, m->m);
    log_put(&ctx->log, LOG_LEVEL_DEBUG, "model %s", model_dir(m->m));
    *out = m;
    return CALO_OK;
}

calo_status calo_model_open(calo_context *ctx, const char *path, calo_model **out) {
    return calo_model_open_with(ctx, path, NULL, out);
}

void calo_model_free(calo_model *m) {
    if (!m) return;
    model_leave(&m->ctx->models, m->m);
    model_free(m->m);
    mem_free(m);
}

calo_status calo_model_advise(calo_model *m, calo_model_advice *advice) {
    api_enter(m->ctx);
    const calo_txt2img_request usual = calo_txt2img_defaults();
    calo_model_advice a = {sizeof a, NULL, usual.steps, usual.cfg_scale};
    const few_steps *few = model_few_steps(m->m, &a.steps);
    if (few) {
        a.distilled = few->name;
        a.cfg_scale = few->cfg_scale;
    }
    model_own_advice(m->m, &a.steps, &a.cfg_scale);
    api_struct_fill(advice, advice->size, &a, sizeof a);
    return CALO_OK;
}

calo_status calo_tokenize(calo_model *m, const char *text, size_t length, int32_t **ids, size_t *n) {
    error *err = api_enter(m->ctx);
    *ids = NULL;
    model_part part = model_has(m->m, PART_TEXT_ENCODER) || !model_has(m->m, PART_TEXT_ENCODER_2)
                          ? PART_TEXT_ENCODER
                          : PART_TEXT_ENCODER_2;
    const tokenizer *t = model_tokenizer(m->m, part, err);
    return api_leave(t ? tokenizer_encode(t, text, length, ids, n, err) : err->code);
}
