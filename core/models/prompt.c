#include "core/models/prompt.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "core/base/mem.h"

static status no_memory(error *err) { return fail(err, ERR_TEMP, "out of memory"); }

static bool is_space(char c) { return isspace((unsigned char)c); }

// What Python's \w matches: letters, numbers and '_'.
static bool is_word(utf8proc_int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return c == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

// Malformed UTF-8 counts as a word; no text does not.
static bool begins_with_word(const char *s, size_t n) {
    utf8proc_int32_t c;
    return n && (utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c) < 0 || is_word(c));
}

static bool ends_with_word(const char *s, size_t n) {
    utf8proc_int32_t c;
    utf8proc_ssize_t k = 1;
    if (!n) return false;
    while (k < 4 && (size_t)k < n && (s[n - (size_t)k] & 0xc0) == 0x80) k++;
    return utf8proc_iterate((const utf8proc_uint8_t *)s + n - k, k, &c) != k || is_word(c);
}

static size_t skip_space(const char *s, size_t i, size_t n) {
    while (i < n && is_space(s[i])) i++;
    return i;
}

// "-1.25" at s[*i], whatever the locale. Moves *i behind it; false, and *i untouched, where there is none.
static bool read_decimal(const char *s, size_t n, size_t *i, double *v, bool *fraction) {
    size_t at = *i + (*i < n && (s[*i] == '-' || s[*i] == '+'));
    double value = 0, unit = 1;
    bool point = false, digits = false;
    for (; at < n && (isdigit((unsigned char)s[at]) || (s[at] == '.' && !point)); at++) {
        if (s[at] == '.') {
            point = true;
            continue;
        }
        value = value * 10 + (s[at] - '0');
        if (point) unit *= 10;
        digits = true;
    }
    if (!digits || !isfinite(value) || !isfinite(unit)) return false;
    *v = (s[*i] == '-' ? -value : value) / unit;
    if (fraction) *fraction = point;
    *i = at;
    return true;
}

// ---- 1. editing

typedef struct {
    const char *s;
    size_t n;
    uint32_t *mate; // of an opening bracket: where it is closed; 0 where nothing can be edited inside
    int step, steps, before;
    bool edited;
    char *out;
    size_t used;
} editing;

typedef struct {
    size_t at;
    bool whole; // no loose bracket inside
} open_bracket;

static status too_deep(error *err) {
    return fail(err, ERR_USAGE, "the prompt has more than %d open brackets", PROMPT_MAX_DEPTH);
}

static status match_brackets(editing *e, error *err) {
    open_bracket open[PROMPT_MAX_DEPTH];
    int depth = 0;
    for (size_t i = 0; i < e->n; i++) {
        char c = e->s[i];
        if (c == '\\') {
            i++;
        } else if (c == '(' || c == '[') {
            if (depth == PROMPT_MAX_DEPTH) return too_deep(err);
            open[depth++] = (open_bracket){i, true};
        } else if (c == ')' || c == ']') {
            if (depth && e->s[open[depth - 1].at] == (c == ')' ? '(' : '[')) {
                open_bracket o = open[--depth];
                if (o.whole) e->mate[o.at] = (uint32_t)i;
                if (!o.whole && depth) open[depth - 1].whole = false;
            } else {
                for (int k = 0; k < depth; k++) open[k].whole = false;
            }
        }
    }
    return OK;
}

// The first `c` of s[from .. to) outside of inner brackets, or `to`.
static size_t find_separator(const editing *e, size_t from, size_t to, char c) {
    for (size_t i = from; i < to; i++) {
        if (e->s[i] == '\\')
            i++;
        else if (e->mate[i])
            i = e->mate[i];
        else if (e->s[i] == c)
            return i;
    }
    return to;
}

static void write_range(editing *e, size_t from, size_t to);

static void write_alternative(editing *e, size_t from, size_t to) {
    size_t bars = 0;
    for (size_t i = from; (i = find_separator(e, i, to, '|')) < to; i++) bars++;
    for (size_t skip = (size_t)(e->step - 1) % (bars + 1); skip; skip--)
        from = find_separator(e, from, to, '|') + 1;
    write_range(e, from, find_separator(e, from, to, '|'));
}

// When "NUMBER" says: after a share of the steps if it has a point, else after that step.
static bool read_when(const editing *e, size_t from, size_t to, double *when) {
    bool fraction = false;
    size_t i = skip_space(e->s, from, to);
    if (!read_decimal(e->s, to, &i, when, &fraction) || skip_space(e->s, i, to) != to) return false;
    *when -= e->before && fraction ? 1 : e->before;
    if (fraction) *when *= e->steps;
    *when = fmin(trunc(*when), e->steps);
    return true;
}

// [a:b:when], [b:when], or [a|b]; false where it is none of them.
static bool write_edited(editing *e, size_t open) {
    size_t from = open + 1, to = e->mate[open];
    size_t bar = find_separator(e, from, to, '|'), first = find_separator(e, from, to, ':');
    double when;
    if (first == to) {
        if (bar == to) return false;
        write_alternative(e, from, to);
        return true;
    }
    size_t second = find_separator(e, first + 1, to, ':');
    if (bar < to || (second < to && find_separator(e, second + 1, to, ':') < to)) return false;
    if (!read_when(e, (second < to ? second : first) + 1, to, &when)) return false;
    if (e->step > when)
        write_range(e, second < to ? first + 1 : from, second < to ? second : first);
    else if (second < to)
        write_range(e, from, first);
    return true;
}

// Calls itself for what is inside brackets, which are at most PROMPT_MAX_DEPTH deep.
static void write_range(editing *e, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (e->s[i] == '[' && e->mate[i] && write_edited(e, i)) {
            e->edited = true;
            i = e->mate[i];
            continue;
        }
        e->out[e->used++] = e->s[i];
        if (e->s[i] == '\\' && i + 1 < to) e->out[e->used++] = e->s[++i];
    }
}

status prompt_at_step(const char *text, int step, int steps, int before, char **out, bool *edited,
                      error *err) {
    *out = NULL;
    size_t n = strlen(text);
    if (n > PROMPT_MAX) return fail(err, ERR_USAGE, "the prompt is longer than %d bytes", PROMPT_MAX);
    editing e = {.s = text,
                 .n = n,
                 .step = step > 1 ? step : 1, // A1111 asks for step 0 and finds what is said of step 1
                 .steps = steps,
                 .before = before,
                 .mate = mem_calloc(n + 1, sizeof *e.mate),
                 .out = mem_alloc(n + 1)};
    status s = e.mate && e.out ? match_brackets(&e, err) : no_memory(err);
    if (!s) write_range(&e, 0, n);
    mem_free(e.mate);
    if (s) return mem_free(e.out), s;
    e.out[e.used] = 0;
    *edited = e.edited;
    *out = e.out;
    return OK;
}

// ---- 2. weights

typedef struct {
    prompt_parts *p;
    size_t used;                      // bytes of the parts' text
    size_t open[2][PROMPT_MAX_DEPTH]; // the first part inside each open bracket, by kind: round, square
    int depth[2];
} parsing;

enum { ROUND, SQUARE };

static void add_text(parsing *a, const char *s, size_t n) {
    if (!n) return;
    char *text = a->p->text + a->used;
    memcpy(text, s, n);
    a->used += n;
    a->p->at[a->p->n++] = (prompt_part){.text = text, .len = n, .weight = 1};
}

// Whether the word BREAK stands at s[i].
static bool is_break(const char *s, size_t i, size_t n) {
    return n - i >= 5 && !memcmp(s + i, "BREAK", 5) && !ends_with_word(s, i) &&
           !begins_with_word(s + i + 5, n - i - 5);
}

// Text without brackets. White space around BREAK belongs to it.
static void add_run(parsing *a, const char *s, size_t n) {
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_break(s, i, n)) continue;
        size_t end = i;
        while (end > from && is_space(s[end - 1])) end--;
        add_text(a, s + from, end - from);
        a->p->at[a->p->n++] = (prompt_part){.weight = 1, .is_break = true};
        from = skip_space(s, i + 5, n);
        i = from - 1;
    }
    add_text(a, s + from, n - from);
}

static void weigh_since(parsing *a, size_t first, double factor) {
    for (size_t i = first; i < a->p->n; i++)
        if (!a->p->at[i].is_break) a->p->at[i].weight *= factor;
}

static const double FACTOR[] = {1.1, 1 / 1.1};

static status open_one(parsing *a, int kind, error *err) {
    if (a->depth[kind] == PROMPT_MAX_DEPTH) return too_deep(err);
    a->open[kind][a->depth[kind]++] = a->p->n;
    return OK;
}

static void close_one(parsing *a, int kind, double factor) {
    weigh_since(a, a->open[kind][--a->depth[kind]], factor);
}

// ":1.3)" at s[i]: its length, 0 for none.
static size_t weight_at(const char *s, size_t i, size_t n, double *weight) {
    size_t at = s[i] == ':' ? skip_space(s, i + 1, n) : n;
    if (at >= n || !read_decimal(s, n, &at, weight, NULL)) return 0;
    at = skip_space(s, at, n);
    return at < n && s[at] == ')' ? at + 1 - i : 0;
}

// One bracket, escape, weight or run of text at s[i]. Returns its length, 0 on failure.
static size_t parse_one(parsing *a, const char *s, size_t i, size_t n, error *err) {
    double weight;
    size_t length;
    switch (s[i]) {
    case '\\': // before any other character it is dropped
        length = i + 1 < n && strchr("()[]\\", s[i + 1]) ? 2 : 1;
        add_text(a, s + i + 1, length - 1);
        return length;
    case '(':
        return open_one(a, ROUND, err) ? 0 : 1;
    case '[':
        return open_one(a, SQUARE, err) ? 0 : 1;
    case ')':
    case ']':
        if (a->depth[s[i] == ']'])
            close_one(a, s[i] == ']', FACTOR[s[i] == ']']);
        else
            add_text(a, s + i, 1);
        return 1;
    case ':':
        length = a->depth[ROUND] ? weight_at(s, i, n, &weight) : 0;
        if (length)
            close_one(a, ROUND, weight);
        else
            add_text(a, s + i, 1);
        return length ? length : 1;
    default:
        length = strcspn(s + i, "\\()[]:");
        add_run(a, s + i, length);
        return length;
    }
}

static bool joins(const prompt_part *a, const prompt_part *b) {
    return !a->is_break && !b->is_break && a->weight == b->weight;
}

// Parts lie one behind the other, so neighbours of one weight become one by their lengths.
static status join_parts(prompt_parts *p, error *err) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (!(fabs(p->at[i].weight) <= PROMPT_MAX_WEIGHT))
            return fail(err, ERR_USAGE, "the weight %g in the prompt is not within +-%d", p->at[i].weight,
                        PROMPT_MAX_WEIGHT);
        if (n && joins(&p->at[n - 1], &p->at[i]))
            p->at[n - 1].len += p->at[i].len;
        else
            p->at[n++] = p->at[i];
    }
    p->n = n;
    return OK;
}

status prompt_parse(const char *text, prompt_parts *p, error *err) {
    *p = (prompt_parts){0};
    size_t n = strlen(text);
    if (n > PROMPT_MAX) return fail(err, ERR_USAGE, "the prompt is longer than %d bytes", PROMPT_MAX);
    parsing a = {.p = p};
    p->text = mem_alloc(n + 1);
    p->at = mem_calloc(n + 1, sizeof *p->at); // a part has a character of its own
    if (!p->text || !p->at) return no_memory(err);
    for (size_t i = 0, length; i < n; i += length)
        if (!(length = parse_one(&a, text, i, n, err))) return err ? err->code : ERR_USAGE;
    for (int kind = ROUND; kind <= SQUARE; kind++)
        for (int k = 0; k < a.depth[kind]; k++) weigh_since(&a, a.open[kind][k], FACTOR[kind]);
    return join_parts(p, err);
}

void prompt_parts_free(prompt_parts *p) {
    mem_free(p->text);
    mem_free(p->at);
    *p = (prompt_parts){0};
}

// ---- 3. tokens

typedef struct {
    prompt_rows *r;
    const vocabulary *v;
    size_t used;        // tokens in the row that is being filled
    size_t after_comma; // those up to and with the last comma; 0: none
    int32_t comma;      // -1: no single token stands for it
} filling;

static int32_t *ids_of(const filling *f) { return f->r->ids + (size_t)f->r->n * f->v->max_length; }
static float *weights_of(const filling *f) { return f->r->weights + (size_t)f->r->n * f->v->max_length; }

static status close_row(filling *f, error *err) {
    if (f->r->n == PROMPT_MAX_ROWS)
        return fail(err, ERR_USAGE, "the prompt is longer than %d rows of %zu tokens", PROMPT_MAX_ROWS,
                    f->v->max_length - 2);
    int32_t *ids = ids_of(f);
    float *weights = weights_of(f);
    ids[0] = f->v->bos;
    ids[f->used + 1] = f->v->eos;
    for (size_t i = f->used + 2; i < f->v->max_length; i++) ids[i] = f->v->pad;
    weights[0] = 1;
    for (size_t i = f->used + 1; i < f->v->max_length; i++) weights[i] = 1;
    f->r->n++;
    f->used = f->after_comma = 0;
    return OK;
}

static void put_token(filling *f, int32_t id, float weight) {
    ids_of(f)[++f->used] = id;
    weights_of(f)[f->used] = weight;
    if (weight != 1) f->r->weighted = true;
    if (id == f->comma) f->after_comma = f->used;
}

// Closes a full row. What follows its last comma begins the next one, when that is not far.
static status next_row(filling *f, int32_t coming, error *err) {
    size_t full = f->used, keep = f->after_comma;
    if (coming == f->comma || !keep || full - keep >= PROMPT_BACKTRACK) keep = full;
    int32_t ids[PROMPT_BACKTRACK];
    float weights[PROMPT_BACKTRACK];
    memcpy(ids, ids_of(f) + keep + 1, (full - keep) * sizeof *ids);
    memcpy(weights, weights_of(f) + keep + 1, (full - keep) * sizeof *weights);
    f->used = keep;
    TRY(close_row(f, err));
    for (size_t i = 0; i < full - keep; i++) put_token(f, ids[i], weights[i]);
    return OK;
}

static status fill_part(filling *f, const tokenizer *t, const prompt_part *part, error *err) {
    if (part->is_break) return close_row(f, err);
    int32_t *ids;
    size_t n;
    TRY(tokenizer_encode(t, part->text, part->len, &ids, &n, err));
    status s = OK;
    for (size_t i = 0; i < n && !s; i++) {
        if (f->used == f->v->max_length - 2) s = next_row(f, ids[i], err);
        if (!s) put_token(f, ids[i], (float)part->weight);
    }
    mem_free(ids);
    return s;
}

static status find_comma(filling *f, const tokenizer *t, error *err) {
    int32_t *ids;
    size_t n;
    TRY(tokenizer_encode(t, ",", 1, &ids, &n, err));
    f->comma = n == 1 ? ids[0] : -1;
    mem_free(ids);
    return OK;
}

static status fill_rows(prompt_rows *r, const tokenizer *t, const char *text, error *err) {
    filling f = {.r = r, .v = tokenizer_vocabulary(t)};
    prompt_parts p;
    status s = prompt_parse(text, &p, err);
    if (!s) s = find_comma(&f, t, err);
    for (size_t i = 0; i < p.n && !s; i++) s = fill_part(&f, t, &p.at[i], err);
    if (!s && (f.used || !r->n)) s = close_row(&f, err);
    prompt_parts_free(&p);
    return s;
}

// The whole text as one part of weight 1, cut where the row ends.
static status fill_plain(prompt_rows *r, const tokenizer *t, const char *text, error *err) {
    for (size_t i = 0; i < tokenizer_vocabulary(t)->max_length; i++) r->weights[i] = 1;
    r->n = 1;
    return tokenizer_encode_row(t, text, strlen(text), r->ids, NULL, err);
}

status prompt_rows_make(const tokenizer *t, const char *text, emphasis how, prompt_rows *r, error *err) {
    *r = (prompt_rows){0};
    size_t T = tokenizer_vocabulary(t)->max_length;
    if (T < 3) return fail(err, ERR_DATA, "the tokenizer's rows of %zu have no room for a token", T);
    size_t n = (PROMPT_MAX_ROWS + 1) * T; // the last one is being filled when the prompt turns out too long
    *r = (prompt_rows){.ids = mem_calloc(n, sizeof *r->ids), .weights = mem_calloc(n, sizeof *r->weights)};
    if (!r->ids || !r->weights) return no_memory(err);
    return (how == EMPHASIS_NONE ? fill_plain : fill_rows)(r, t, text, err);
}

void prompt_rows_free(prompt_rows *r) {
    mem_free(r->ids);
    mem_free(r->weights);
    *r = (prompt_rows){0};
}

// ---- 4. emphasis

static double mean_of(const float *x, int64_t stride, int64_t T, int64_t E) {
    double sum = 0;
    for (int64_t t = 0; t < T; t++)
        for (int64_t e = 0; e < E; e++) sum += x[t * stride + e];
    return sum / (double)(T * E);
}

void prompt_weigh(emphasis how, float *x, const float *empty, int64_t stride, const float *weights, int64_t T,
                  int64_t E) {
    double old = mean_of(x, stride, T, E);
    for (int64_t t = 0; t < T; t++)
        for (int64_t e = 0; e < E && weights[t] != 1; e++) {
            int64_t at = t * stride + e;
            float from = how == EMPHASIS_COMFY ? empty[at] : 0;
            x[at] = from + (x[at] - from) * weights[t];
        }
    double now = mean_of(x, stride, T, E), scale = how == EMPHASIS_ORIGINAL && now != 0 ? old / now : 1;
    for (int64_t i = 0; i < T * E && scale != 1; i++) x[i / E * stride + i % E] *= (float)scale;
}
