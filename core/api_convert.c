// Converting weights, as a caller of the library sees it.
#include "core/api.h"
#include "core/base/mem.h"
#include "core/files/convert.h"
#include "core/files/quantised.h"
#include "core/models/extract.h"
#include "core/models/merge_lora.h"
#include "core/models/rewrite.h"
#include "core/pipeline.h"

#include <math.h>

void calo_convert_request_init(calo_convert_request *request, size_t size) {
    calo_convert_request r = {.size = sizeof r, .weight = 0.5, .lora_rank = 32, .lora_clamp = 1};
    api_struct_fill(request, size, &r, sizeof r);
}

typedef struct {
    calo_context *ctx;
    const calo_convert_request *request;
} job;

static status tell(void *user, const char *file, uint64_t done, uint64_t total, error *err) {
    const job *j = user;
    calo_convert_event e = {sizeof e, file, (int64_t)done, (int64_t)total};
    if (j->request->on_event) j->request->on_event(j->request->user, &e);
    return api_cancelled(j->ctx) ? fail(err, ERR_CANCELLED, "stopped") : OK;
}

static status check(const calo_convert_request *r, error *err) {
    if (!r->in || !r->out) return fail(err, ERR_USAGE, "converting needs a file to read and one to write");
    if ((unsigned)r->type > CALO_WEIGHTS_Q4_BALANCED)
        return fail(err, ERR_USAGE, "there is no weights type %d", (int)r->type);
    if (r->max_shard < 0) return fail(err, ERR_USAGE, "a file cannot have fewer than 0 bytes");
    if (r->minus && !r->plus) return fail(err, ERR_USAGE, "a model to subtract, but none to add");
    if ((unsigned)r->layout > CALO_LAYOUT_SINGLE)
        return fail(err, ERR_USAGE, "there is no layout %d", (int)r->layout);
    if ((unsigned)r->prediction > CALO_PREDICT_V)
        return fail(err, ERR_USAGE, "the files of a model cannot say the prediction %d", (int)r->prediction);
    if (r->lora_base && (r->layout || r->plus || r->only || r->max_shard || r->type >= CALO_WEIGHTS_Q8))
        return fail(err, ERR_USAGE, "a LoRA is taken from whole models, into one file of numbers");
    if (r->layout && (r->plus || r->only))
        return fail(err, ERR_USAGE,
                    "another layout is for whole models: merge, or take a part, before or after");
    if (r->n_loras < 0 || (r->n_loras && !r->loras))
        return fail(err, ERR_USAGE, "a list of %d LoRAs that is not there", r->n_loras);
    for (int i = 0; i < r->n_loras; i++)
        if (!r->loras[i] || (r->lora_weights && !isfinite(r->lora_weights[i])))
            return fail(err, ERR_USAGE, "LoRA %d has no file, or a weight that is no number", i + 1);
    if (r->n_loras && (r->lora_base || r->plus || r->only))
        return fail(err, ERR_USAGE, "LoRAs are merged into whole models: merge models before or after");
    return OK;
}

// NULL, with *s set, on failure; with *s OK: there are none.
static lora_changes *open_loras(model *m, const calo_convert_request *r, status *s, error *err) {
    if (*s || !r->n_loras) return NULL;
    lora_source *sources = mem_calloc((size_t)r->n_loras, sizeof *sources);
    if (!sources) return *s = fail(err, ERR_TEMP, "out of memory"), NULL;
    for (int i = 0; i < r->n_loras; i++)
        sources[i] = (lora_source){r->loras[i], r->lora_weights ? r->lora_weights[i] : 1};
    lora_changes *l = lora_changes_open(m, sources, r->n_loras, err);
    if (!l) *s = err->code;
    mem_free(sources);
    return l;
}

static model_layout layout_of(const calo_convert_request *r, const model *m) {
    bool keep = r->layout == CALO_LAYOUT_AS_STORED;
    return (keep ? model_checkpoint(m) != NULL : r->layout == CALO_LAYOUT_SINGLE) ? LAYOUT_SINGLE
                                                                                  : LAYOUT_DIFFUSERS;
}

// A model whose prediction nothing tells is asked, for its new files have to say it.
static status convert_model(calo_context *ctx, const calo_convert_request *r, const conversion *c,
                            error *err) {
    static const char *const PREDICTIONS[] = {NULL, "epsilon", "v_prediction"};
    const char *predicted = PREDICTIONS[r->prediction];
    const model_options o = {r->vae, r->vocabulary};
    calo_model m = {ctx, model_open(r->in, &o, err), ""};
    status s = m.m ? OK : err->code;
    lora_changes *loras = open_loras(m.m, r, &s, err);
    if (!s && !predicted) s = probe_prediction(&m, api_compute(CALO_PRECISION_AUTO), err);
    if (!s) s = model_rewrite(m.m, layout_of(r, m.m), predicted, loras, c, err);
    lora_changes_free(loras);
    model_free(m.m);
    return s;
}

static status convert_to_lora(calo_context *ctx, const calo_convert_request *r, const conversion *c,
                              error *err) {
    extraction x = {.tuned = model_open(r->in, NULL, err),
                    .rank = r->lora_rank,
                    .clamp = r->lora_clamp,
                    .names = r->lora_peft ? LORA_NAMES_PEFT : LORA_NAMES_KOHYA,
                    .team = ctx->team};
    status s = x.tuned ? OK : err->code;
    if (!s && !(x.base = model_open(r->lora_base, NULL, err))) s = err->code;
    if (!s) s = lora_extract(&x, c, err);
    model_free(x.tuned);
    model_free(x.base);
    return s;
}

static status convert(calo_context *ctx, const calo_convert_request *request, error *err) {
    static const int TYPES[] = {-1, DT_F32, DT_F16, DT_BF16};
    static const char *const CODES[] = {[CALO_WEIGHTS_Q8] = "q8",
                                        [CALO_WEIGHTS_Q4] = "q4",
                                        [CALO_WEIGHTS_Q8_BALANCED] = "q8-balanced",
                                        [CALO_WEIGHTS_Q4_BALANCED] = "q4-balanced"};
    calo_convert_request r = calo_convert_defaults();
    job j = {ctx, &r};
    TRY(api_struct_take(&r, sizeof r, request, "request", err));
    TRY(check(&r, err));
    conversion c = {.in = r.in,
                    .out = r.out,
                    .type = r.type < CALO_WEIGHTS_Q8 ? TYPES[r.type] : -1,
                    .quantise = r.type < CALO_WEIGHTS_Q8 ? NULL : quantised_format_named(CODES[r.type]),
                    .max_shard = (uint64_t)r.max_shard,
                    .only = r.only,
                    .plus = r.plus,
                    .minus = r.minus,
                    .weight = r.weight,
                    .overwrite = r.overwrite,
                    .team = ctx->team,
                    .log = &ctx->log,
                    .progress = tell,
                    .user = &j};
    if (r.lora_base) return convert_to_lora(ctx, &r, &c, err);
    return r.layout || r.n_loras ? convert_model(ctx, &r, &c, err) : convert_weights(&c, err);
}

calo_status calo_convert(calo_context *ctx, const calo_convert_request *request) {
    return api_leave(convert(ctx, request, api_enter(ctx)));
}
