#include "core/pipeline_text.h"

#include <string.h>

#include "core/api.h"
#include "core/base/mem.h"

// More different texts than this are a mistake, and each costs a run of the text encoders.
enum { MAX_TEXTS = 128 };

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

typedef struct {
    model_part parts[2];
    int n;
    bool penultimate; // the UNet reads the last but one state of each
} text_encoders;

// SDXL has both, its refiner the second one alone. A model without any lacks the first one.
static text_encoders encoders_of(const model *m) {
    bool second = model_has(m, PART_TEXT_ENCODER_2), first = model_has(m, PART_TEXT_ENCODER) || !second;
    return (text_encoders){{first ? PART_TEXT_ENCODER : PART_TEXT_ENCODER_2, PART_TEXT_ENCODER_2},
                           first && second ? 2 : 1,
                           second};
}

void picture_prompt_free(picture_prompt *p) {
    for (int i = 0; i < p->n; i++) {
        mem_free(p->texts[i].text);
        mem_free(p->texts[i].context);
        mem_free(p->texts[i].pooled);
    }
    mem_free(p->texts);
    mem_free(p->at);
    *p = (picture_prompt){0};
}

// ---- 1. which text counts when

// What a model of two text encoders may lack, as the end of a message.
static const char *missing_encoder(const model *m, const unet_config *u) {
    if (u->addition_embed != ADDITION_TEXT_TIME) return "";
    return !model_has(m, PART_TEXT_ENCODER)     ? ", and there is no text_encoder"
           : !model_has(m, PART_TEXT_ENCODER_2) ? ", and there is no text_encoder_2"
                                                : "";
}

static status read_sizes(const text_rules *r, picture_prompt *p, error *err) {
    model *m = r->model->m;
    text_encoders of = encoders_of(m);
    const tokenizer *tok = model_tokenizer(m, of.parts[0], err);
    if (!tok) return err->code;
    p->T = (int64_t)tokenizer_vocabulary(tok)->max_length;
    for (int i = 0; i < of.n; i++) {
        const clip_config *c = model_clip(m, of.parts[i], err);
        if (!c) return err->code;
        if (r->clip_skip > c->num_hidden_layers)
            return fail(err, ERR_USAGE, "a clip skip of %d is not in 1 .. %d, the layers of the %s",
                        r->clip_skip, c->num_hidden_layers, model_part_name(of.parts[i]));
        p->E += c->hidden_size;
        p->P = c->with_projection ? c->projection_dim : c->hidden_size;
    }
    const unet_config *u = model_unet(m, err);
    if (!u) return err->code;
    if (p->E != u->level[0].cross_attention_dim)
        return fail(err, ERR_DATA, "%s: the text has %d features, the UNet reads %d%s", model_dir(m),
                    (int)p->E, (int)u->level[0].cross_attention_dim, missing_encoder(m, u));
    if (u->addition_embed == ADDITION_TEXT_TIME && p->P != unet_pooled_features(u))
        return fail(err, ERR_DATA, "%s: the pooled text has %d features, the UNet reads %d", model_dir(m),
                    (int)p->P, (int)unet_pooled_features(u));
    return OK;
}

static bool same_text(const char *a, const char *b) { return a && b ? !strcmp(a, b) : a == b; }

// The index of a text, which is taken over; added if it is new. -1 on failure.
static int add_text(picture_prompt *p, char *text, error *err) {
    for (int i = 0; i < p->n; i++)
        if (same_text(p->texts[i].text, text)) return mem_free(text), i;
    if (p->n == p->room) {
        int room = p->room ? 2 * p->room : 2;
        prompt_text *more = mem_realloc(p->texts, (size_t)room, sizeof *more);
        if (!more) return mem_free(text), no_memory(err), -1;
        p->texts = more;
        p->room = room;
    }
    p->texts[p->n] = (prompt_text){.text = text, .rows = 1};
    if (++p->n <= MAX_TEXTS) return p->n - 1;
    return fail(err, ERR_USAGE, "the prompts change into more than %d different texts", MAX_TEXTS), -1;
}

static status add_prompt(const text_rules *r, const char *prompt, int row, picture_prompt *p, error *err) {
    bool edited = prompt && r->how != EMPHASIS_NONE;
    for (int step = r->first; step < r->end; step++) {
        char *text = NULL;
        if (step > r->first && !edited) {
            p->at[step][row] = p->at[step - 1][row];
            continue;
        }
        status s = OK;
        if (edited)
            s = prompt_at_step(prompt, step, r->steps, r->before, &text, &edited, err);
        else if (prompt && !(text = mem_strdup(prompt)))
            s = no_memory(err);
        if (s || (p->at[step][row] = add_text(p, text, err)) < 0) return err->code;
    }
    return OK;
}

static status make_rows(const text_rules *r, model_part part, const char *text, prompt_rows *rows,
                        error *err) {
    *rows = (prompt_rows){0};
    const tokenizer *tok = model_tokenizer(r->model->m, part, err);
    return tok ? prompt_rows_make(tok, text, r->how, rows, err) : err->code;
}

// How many rows the texts have, and whether some is weighed. The tokenizers of two encoders may disagree: the
// longer one counts.
static status count_rows(const text_rules *r, picture_prompt *p, bool *weighted, error *err) {
    text_encoders of = encoders_of(r->model->m);
    status s = OK;
    for (int i = 0; i < p->n && !s; i++)
        for (int k = 0; k < of.n && p->texts[i].text && !s; k++) {
            prompt_rows rows;
            s = make_rows(r, of.parts[k], p->texts[i].text, &rows, err);
            if (rows.n > p->texts[i].rows) p->texts[i].rows = rows.n;
            *weighted = *weighted || rows.weighted;
            prompt_rows_free(&rows);
        }
    return s;
}

static const prompt_text *text_at(const picture_prompt *p, int step, int row) {
    return &p->texts[p->at[step][row]];
}

static int rows_at(const picture_prompt *p, int step) {
    int positive = text_at(p, step, 1)->rows, negative = p->guided ? text_at(p, step, 0)->rows : 1;
    return positive > negative ? positive : negative;
}

static bool needs_padding(const text_rules *r, const picture_prompt *p) {
    for (int step = r->first; step < r->end; step++)
        for (int row = p->guided ? 0 : 1; row < 2; row++)
            if (rows_at(p, step) % text_at(p, step, row)->rows) return true;
    return false;
}

status picture_prompt_plan(const text_rules *r, const char *prompt, const char *negative, picture_prompt *p,
                           error *err) {
    *p = (picture_prompt){.guided = r->guided, .empty = -1};
    TRY(read_sizes(r, p, err));
    if (!(p->at = mem_calloc((size_t)r->steps, sizeof *p->at))) return no_memory(err);
    model *m = r->model->m;
    bool zeros = !negative && encoders_of(m).n == 2 && model_flag(m, "force_zeros_for_empty_prompt", true);
    if (r->guided) TRY(add_prompt(r, negative || zeros ? negative : "", 0, p, err));
    TRY(add_prompt(r, prompt, 1, p, err));
    bool weighted = false;
    TRY(count_rows(r, p, &weighted, err));
    if (!needs_padding(r, p) && !(weighted && r->how == EMPHASIS_COMFY)) return OK;
    char *empty = mem_strdup("");
    return empty ? ((p->empty = add_text(p, empty, err)) < 0 ? err->code : OK) : no_memory(err);
}

// ---- 2. features

static status check_tokenizer(model *m, model_part part, int64_t T, error *err) {
    const vocabulary *v = tokenizer_vocabulary(model_tokenizer(m, part, err));
    const clip_config *c = model_clip(m, part, err);
    if ((int64_t)v->size <= c->vocab_size && (int64_t)v->max_length == T && T <= c->max_position_embeddings)
        return OK;
    return fail(err, ERR_DATA,
                "%s: a tokenizer of %zu ids in rows of %zu does not fit a %s of %d ids in rows of %d",
                model_dir(m), v->size, v->max_length, model_part_name(part), (int)c->vocab_size,
                (int)c->max_position_embeddings);
}

// Row `row` through an encoder.
static exec *run_encoder(const text_rules *r, model_part part, const prompt_rows *rows, int row, int64_t T,
                         error *err) {
    const clip_config *c = model_clip(r->model->m, part, err);
    network_shape s = {.net = part == PART_TEXT_ENCODER ? NET_TEXT_ENCODER : NET_TEXT_ENCODER_2,
                       .compute = r->compute,
                       .B = 1,
                       .T = T,
                       .skip = r->clip_skip};
    exec *e = c ? api_network(r->model, &s, FAST, err) : NULL;
    if (!e || check_tokenizer(r->model->m, part, T, err)) return NULL;
    int32_t *ids = exec_input(e, "input_ids"), *eos = exec_input(e, "eos");
    memcpy(ids, rows->ids + row * T, (size_t)T * sizeof *ids);
    *eos = (int32_t)clip_eos_position(c, ids, T);
    return exec_run(e, err) ? NULL : e;
}

// One encoder's features of text k, [rows,T,E], into the columns from `column` on. The UNet reads those of
// two encoders side by side, and the second one's pooled text.
static status encode_columns(const text_rules *r, const text_encoders *of, int which, const prompt_rows *rows,
                             picture_prompt *p, int k, int64_t column, error *err) {
    prompt_text *t = &p->texts[k];
    int64_t E = model_clip(r->model->m, of->parts[which], err)->hidden_size;
    for (int i = 0; i < t->rows; i++) {
        int row = i < rows->n ? i : 0; // this encoder's tokenizer made fewer rows than the other's
        exec *e = run_encoder(r, of->parts[which], rows, row, p->T, err);
        if (!e) return err->code;
        const float *x = exec_output(e, of->penultimate ? 1 : 0);
        float *to = t->context + i * p->T * p->E + column;
        for (int64_t j = 0; j < p->T; j++) memcpy(to + j * p->E, x + j * E, (size_t)E * sizeof *x);
        if (rows->weighted)
            prompt_weigh(r->how, to, p->empty < 0 ? NULL : p->texts[p->empty].context + column, p->E,
                         rows->weights + row * p->T, p->T, E);
        if (i == 0 && which == of->n - 1) memcpy(t->pooled, exec_output(e, 2), (size_t)p->P * sizeof *x);
    }
    return OK;
}

static status encode_text(const text_rules *r, picture_prompt *p, int k, error *err) {
    text_encoders of = encoders_of(r->model->m);
    prompt_text *t = &p->texts[k];
    t->context = mem_calloc((size_t)(t->rows * p->T * p->E), sizeof *t->context);
    t->pooled = mem_calloc((size_t)p->P, sizeof *t->pooled);
    status s = t->context && t->pooled ? OK : no_memory(err);
    for (int64_t i = 0, column = 0; i < of.n && t->text && !s; i++) {
        prompt_rows rows;
        s = make_rows(r, of.parts[i], t->text, &rows, err);
        if (!s) s = encode_columns(r, &of, (int)i, &rows, p, k, column, err);
        prompt_rows_free(&rows);
        if (!s) column += model_clip(r->model->m, of.parts[i], err)->hidden_size;
    }
    return s;
}

status picture_prompt_encode(const text_rules *r, picture_prompt *p, error *err) {
    status s = p->empty < 0 ? OK : encode_text(r, p, p->empty, err);
    for (int k = 0; k < p->n && !s; k++)
        if (k != p->empty) s = encode_text(r, p, k, err);
    return s;
}

// ---- 3. what the UNet reads

int64_t picture_prompt_tokens(const picture_prompt *p, int step) { return rows_at(p, step) * p->T; }

bool picture_prompt_same(const picture_prompt *p, int a, int b) {
    return !memcmp(p->at[a], p->at[b], sizeof *p->at);
}

void picture_prompt_context(const picture_prompt *p, int step, int row, float *dst) {
    const prompt_text *t = text_at(p, step, row);
    size_t one = (size_t)(p->T * p->E);
    int all = rows_at(p, step), whole = t->rows;
    while (all % whole) whole++; // rows until it is repeated
    for (int i = 0; i < all; i++) {
        int k = i % whole;
        const float *from = k < t->rows ? t->context + (size_t)k * one : p->texts[p->empty].context;
        memcpy(dst + (size_t)i * one, from, one * sizeof *dst);
    }
}

const float *picture_prompt_pooled(const picture_prompt *p, int step, int row) {
    return text_at(p, step, row)->pooled;
}
