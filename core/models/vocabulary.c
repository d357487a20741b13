#include "core/models/vocabulary.h"
#include "core/base/mem.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    ID_MAX = 1 << 24,
    ADDED_MAX = 4096,
    LENGTH_MAX = 65536, // tokens; transformers writes about 1e30 for "no limit"
    LENGTH_CLIP = 77,
};

// The vocabulary while it is read.
typedef struct {
    vocabulary *v;
    json_t *vocab;      // token -> id
    json_t *config;     // tokenizer_config.json and special_tokens_map.json, or NULL
    json_t *whole;      // tokenizer.json, or NULL
    const char *source; // the file that holds the merges, for messages
    error *err;
} reader;

static status no_memory(error *err) { return fail(err, ERR_TEMP, "not enough memory for the tokenizer"); }

// ---- JSON

// An integer too large for 64 bits is legal in tokenizer_config.json, so integers are read as doubles: exact
// for every id.
static status parse_object(const tokenizer_file *file, const char *name, json_t **out, error *err) {
    if (file->size > VOCABULARY_FILE_MAX)
        return fail(err, ERR_DATA, "%s is larger than %d MiB", name, VOCABULARY_FILE_MAX >> 20);
    json_error_t where;
    *out = json_loadb(file->data, file->size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &where);
    if (!*out) return fail(err, ERR_DATA, "%s, line %d: %s", name, where.line, where.text);
    if (json_is_object(*out)) return OK;
    json_decref(*out);
    *out = NULL;
    return fail(err, ERR_DATA, "%s is not a JSON object", name);
}

// -1 unless x is a whole number in 0 … ID_MAX - 1.
static int32_t to_id(const json_t *x) {
    double d = json_is_number(x) ? json_number_value(x) : -1;
    return d >= 0 && d < ID_MAX && d == (int32_t)d ? (int32_t)d : -1;
}

static int32_t find_id(const reader *r, const char *token, size_t len) {
    return to_id(json_object_getn(r->vocab, token, len));
}

// ---- tokens

// Each id is a whole number and belongs to one token.
static status check_ids(reader *r) {
    const char *token;
    json_t *value;
    int32_t last = -1;
    json_object_foreach(r->vocab, token, value) {
        int32_t id = to_id(value);
        if (id < 0)
            return fail(r->err, ERR_DATA, "vocabulary: the id of '%.64s' is not in 0 … %d", token,
                        ID_MAX - 1);
        if (id > last) last = id;
    }
    r->v->size = (size_t)last + 1;
    bool *taken = mem_calloc(r->v->size, 1);
    if (!taken) return no_memory(r->err);
    status s = OK;
    json_object_foreach(r->vocab, token, value) {
        int32_t id = to_id(value);
        if (taken[id])
            s = fail(r->err, ERR_DATA, "vocabulary: '%.64s' has the id %d of another token", token, id);
        taken[id] = true;
    }
    mem_free(taken);
    return s;
}

// GPT-2's alphabet: a printable Latin-1 character stands for its own byte, the other bytes in their order for
// the characters from U+0100 on.
static bool printable(int byte) { return (byte > 32 && byte < 127) || (byte > 160 && byte != 173); }

static void find_bytes(reader *r) {
    int next = 256;
    for (int b = 0; b < 256; b++) {
        char token[8];
        size_t n = (size_t)utf8proc_encode_char(printable(b) ? b : next++, (utf8proc_uint8_t *)token);
        memcpy(token + n, "</w>", 4);
        for (int last = 0; last < 2; last++) {
            int32_t id = find_id(r, token, n + (last ? 4 : 0));
            r->v->byte_id[last][b] = id < 0 ? r->v->unk : id;
        }
    }
}

// ---- merges

static merge *merge_slot(const vocabulary *v, uint64_t pair) {
    size_t i = (size_t)(pair * 0x9e3779b97f4a7c15u >> 32);
    while (v->merges[i & v->merge_mask].pair != pair && v->merges[i & v->merge_mask].pair != UINT64_MAX) i++;
    return &v->merges[i & v->merge_mask];
}

const merge *vocabulary_merge(const vocabulary *v, int32_t left, int32_t right) {
    const merge *m = merge_slot(v, (uint64_t)left << 32 | (uint32_t)right);
    return m->pair == UINT64_MAX ? NULL : m;
}

// At most half of the slots are taken.
static status make_slots(reader *r, size_t n) {
    size_t slots = 16;
    while (slots < 2 * n) slots *= 2;
    r->v->merges = mem_calloc(slots, sizeof(merge));
    if (!r->v->merges) return no_memory(r->err);
    for (size_t i = 0; i < slots; i++) r->v->merges[i].pair = UINT64_MAX;
    r->v->merge_mask = slots - 1;
    return OK;
}

// `joined` has room for both parts.
static status add_merge(reader *r, size_t rank, size_t line, const char *a, size_t na, const char *b,
                        size_t nb, char *joined) {
    memcpy(joined, a, na);
    memcpy(joined + na, b, nb);
    int32_t left = find_id(r, a, na), right = find_id(r, b, nb), id = find_id(r, joined, na + nb);
    const char *missing = left < 0 ? a : right < 0 ? b : joined;
    size_t len = left < 0 ? na : right < 0 ? nb : na + nb;
    if (left < 0 || right < 0 || id < 0)
        return fail(r->err, ERR_DATA, "%s %zu: '%.*s' is not in the vocabulary", r->source, line,
                    (int)(len < 64 ? len : 64), missing);
    merge *m = merge_slot(r->v, (uint64_t)left << 32 | (uint32_t)right);
    if (m->pair != UINT64_MAX)
        return fail(r->err, ERR_DATA, "%s %zu: this pair was merged before", r->source, line);
    *m = (merge){(uint64_t)left << 32 | (uint32_t)right, (uint32_t)rank, id};
    return OK;
}

// "left right", one space.
static status add_merge_text(reader *r, size_t rank, size_t line, const char *s, size_t n, char *joined) {
    const char *space = memchr(s, ' ', n);
    if (!space || memchr(space + 1, ' ', (size_t)(s + n - space - 1)))
        return fail(r->err, ERR_DATA, "%s %zu: expected two tokens with one space between", r->source, line);
    return add_merge(r, rank, line, s, (size_t)(space - s), space + 1, (size_t)(s + n - space - 1), joined);
}

static status read_lines(reader *r, const tokenizer_file *file, char *joined) {
    const char *s = file->data, *end = s + file->size;
    size_t rank = 0;
    for (size_t line = 1; s < end; line++) {
        const char *newline = memchr(s, '\n', (size_t)(end - s));
        size_t n = (size_t)((newline ? newline : end) - s);
        size_t cut = newline && n && s[n - 1] == '\r';
        if (n < 8 || memcmp(s, "#version", 8)) TRY(add_merge_text(r, rank++, line, s, n - cut, joined));
        s = newline ? newline + 1 : end;
    }
    return OK;
}

static status read_merges_txt(reader *r, const tokenizer_file *file) {
    r->source = "merges.txt, line";
    if (file->size > VOCABULARY_FILE_MAX)
        return fail(r->err, ERR_DATA, "merges.txt is larger than %d MiB", VOCABULARY_FILE_MAX >> 20);
    size_t lines = 1;
    for (size_t i = 0; i < file->size; i++) lines += file->data[i] == '\n';
    TRY(make_slots(r, lines));
    char *joined = mem_alloc(file->size);
    status s = joined ? read_lines(r, file, joined) : no_memory(r->err);
    mem_free(joined);
    return s;
}

// An entry of tokenizer.json: "left right" or ["left", "right"].
static status add_merge_json(reader *r, size_t i, const json_t *entry) {
    const json_t *a = json_array_get(entry, 0), *b = json_array_get(entry, 1);
    bool pair = json_array_size(entry) == 2 && json_is_string(a) && json_is_string(b);
    if (!pair && !json_is_string(entry)) return fail(r->err, ERR_DATA, "%s %zu is not a pair", r->source, i);
    char *joined =
        mem_alloc(pair ? json_string_length(a) + json_string_length(b) : json_string_length(entry));
    if (!joined) return no_memory(r->err);
    status s = pair ? add_merge(r, i, i, json_string_value(a), json_string_length(a), json_string_value(b),
                                json_string_length(b), joined)
                    : add_merge_text(r, i, i, json_string_value(entry), json_string_length(entry), joined);
    mem_free(joined);
    return s;
}

static status read_merges_json(reader *r, const json_t *merges) {
    r->source = "tokenizer.json, merge";
    if (!json_is_array(merges)) return fail(r->err, ERR_DATA, "tokenizer.json has no list of merges");
    TRY(make_slots(r, json_array_size(merges)));
    for (size_t i = 0; i < json_array_size(merges); i++) TRY(add_merge_json(r, i, json_array_get(merges, i)));
    return OK;
}

// ---- added tokens

static added_token *find_added(const vocabulary *v, const char *text, size_t len) {
    for (size_t i = 0; i < v->n_added; i++)
        if (v->added[i].len == len && !memcmp(v->added[i].text, text, len)) return &v->added[i];
    return NULL;
}

static bool flag(const json_t *token, const char *name, bool otherwise) {
    const json_t *x = json_object_get(token, name);
    return x ? json_is_true(x) : otherwise;
}

// A token is written as its text or as an object with content and flags; NULL if it is neither.
static const json_t *token_text(const json_t *token) {
    const json_t *text = json_is_object(token) ? json_object_get(token, "content") : token;
    return json_is_string(text) ? text : NULL;
}

static added_token *find_token(const vocabulary *v, const json_t *token) {
    const json_t *text = token_text(token);
    return text ? find_added(v, json_string_value(text), json_string_length(text)) : NULL;
}

// `declared` is the id for a token that the vocabulary lacks; -1: it must have it. A token that was added
// before takes the new flags.
static status add_token(reader *r, const json_t *token, bool special, int32_t declared) {
    vocabulary *v = r->v;
    const json_t *text = token_text(token);
    if (!text) return fail(r->err, ERR_DATA, "tokenizer: an added token has no text");
    const char *s = json_string_value(text);
    size_t len = json_string_length(text);
    if (!len) return OK;
    if (flag(token, "single_word", false))
        return fail(r->err, ERR_DATA, "tokenizer: single_word of '%.64s' is not supported", s);
    int32_t id = find_id(r, s, len);
    if (id < 0) id = declared;
    if (id < 0) return fail(r->err, ERR_DATA, "tokenizer: the token '%.64s' is not in the vocabulary", s);
    added_token *a = find_added(v, s, len);
    if (!a) {
        if (v->n_added == ADDED_MAX)
            return fail(r->err, ERR_DATA, "tokenizer: more than %d added tokens", ADDED_MAX);
        if (!(v->added[v->n_added].text = mem_strdup(s))) return no_memory(r->err);
        a = &v->added[v->n_added++];
    }
    a->len = len;
    a->id = id;
    a->normalized = flag(token, "normalized", !special);
    a->lstrip = flag(token, "lstrip", false);
    a->rstrip = flag(token, "rstrip", false);
    if ((size_t)id >= v->size) v->size = (size_t)id + 1;
    return OK;
}

// added_tokens_decoder, or in older folders added_tokens.json and the list in tokenizer.json.
static status read_added(reader *r, const tokenizer_file *added_tokens) {
    const char *key;
    json_t *token;
    size_t i;
    json_object_foreach(json_object_get(r->config, "added_tokens_decoder"), key, token) {
        char *end;
        long id = strtol(key, &end, 10);
        if (*end || end == key || id < 0 || id >= ID_MAX)
            return fail(r->err, ERR_DATA, "tokenizer_config.json: added_tokens_decoder: '%.64s' is not an id",
                        key);
        TRY(add_token(r, token, flag(token, "special", false), (int32_t)id));
    }
    if (json_object_get(r->config, "added_tokens_decoder")) return OK;
    if (added_tokens->data) {
        json_t *ids;
        TRY(parse_object(added_tokens, "added_tokens.json", &ids, r->err));
        status s = OK;
        json_object_foreach(ids, key, token) {
            json_t *text = json_string(key);
            if (!s) s = text ? add_token(r, text, false, to_id(token)) : no_memory(r->err);
            json_decref(text);
        }
        json_decref(ids);
        if (s) return s;
    }
    json_array_foreach(json_object_get(r->whole, "added_tokens"), i, token)
        TRY(add_token(r, token, flag(token, "special", false), to_id(json_object_get(token, "id"))));
    return OK;
}

// An absent name gets CLIP's token.
static status set_default(reader *r, const char *name, const char *token) {
    const json_t *x = json_object_get(r->config, name);
    if (x && !json_is_null(x)) return OK;
    return json_object_set_new(r->config, name, json_string(token)) ? no_memory(r->err) : OK;
}

// The named special tokens in transformers' order. One that repeats an earlier one says nothing new; one that
// has the same text but other flags counts, unless the text was declared before.
static status read_special(reader *r) {
    const char *const names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                 "pad_token", "cls_token", "mask_token"};
    const size_t declared = r->v->n_added;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *token = json_object_get(r->config, names[i]);
        if (!token || json_is_null(token)) continue;
        const added_token *a = find_token(r->v, token);
        bool known = a && a < r->v->added + declared;
        for (size_t k = 0; k < i; k++) known |= json_equal(token, json_object_get(r->config, names[k]));
        if (!known) TRY(add_token(r, token, true, -1));
    }
    return OK;
}

static status special_id(reader *r, const char *name, int32_t *id) {
    const added_token *a = find_token(r->v, json_object_get(r->config, name));
    if (!a) return fail(r->err, ERR_DATA, "tokenizer_config.json: %s is empty", name);
    *id = a->id;
    return OK;
}

static status read_extra(reader *r, const char *name) {
    json_t *token;
    size_t i;
    json_array_foreach(json_object_get(r->config, name), i, token) if (!find_token(r->v, token))
        TRY(add_token(r, token, true, -1));
    return OK;
}

// ---- tokenizer_config.json

// A field that transformers would obey and we would not is an error, not a surprise.
static status check_string(reader *r, const char *name, const char *const *allowed) {
    const json_t *x = json_object_get(r->config, name);
    if (!x || json_is_null(x)) return OK;
    for (; *allowed; allowed++)
        if (json_is_string(x) && !strcmp(json_string_value(x), *allowed)) return OK;
    return fail(r->err, ERR_DATA, "tokenizer_config.json: %s '%.64s' is not supported", name,
                json_is_string(x) ? json_string_value(x) : "");
}

static status read_config(reader *r) {
    TRY(check_string(r, "tokenizer_class", (const char *[]){"CLIPTokenizer", "CLIPTokenizerFast", NULL}));
    TRY(check_string(r, "padding_side", (const char *[]){"right", NULL}));
    TRY(check_string(r, "truncation_side", (const char *[]){"right", NULL}));
    if (json_is_true(json_object_get(r->config, "split_special_tokens")))
        return fail(r->err, ERR_DATA, "tokenizer_config.json: split_special_tokens is not supported");
    const json_t *x = json_object_get(r->config, "model_max_length");
    double length = json_is_number(x) ? json_number_value(x) : LENGTH_CLIP;
    if (!(length >= 2))
        return fail(r->err, ERR_DATA, "tokenizer_config.json: model_max_length is less than 2");
    r->v->max_length = length <= LENGTH_MAX ? (size_t)length : LENGTH_CLIP;
    return OK;
}

// ---- all of it

// special_tokens_map.json overrides the configuration unless that declares its added tokens.
static status parse_configs(reader *r, const tokenizer_files *f) {
    if (f->config.data)
        TRY(parse_object(&f->config, "tokenizer_config.json", &r->config, r->err));
    else if (!(r->config = json_object()))
        return no_memory(r->err);
    if (!f->special_tokens_map.data || json_object_get(r->config, "added_tokens_decoder")) return OK;
    json_t *map;
    TRY(parse_object(&f->special_tokens_map, "special_tokens_map.json", &map, r->err));
    int failed = json_object_update(r->config, map);
    json_decref(map);
    return failed ? no_memory(r->err) : OK;
}

static status parse_vocab(reader *r, const tokenizer_files *f) {
    if (!f->tokenizer_json.data) {
        if (!f->vocab.data) return fail(r->err, ERR_NOINPUT, "the tokenizer has no vocab.json");
        if (!f->merges.data) return fail(r->err, ERR_NOINPUT, "the tokenizer has no merges.txt");
        return parse_object(&f->vocab, "vocab.json", &r->vocab, r->err);
    }
    TRY(parse_object(&f->tokenizer_json, "tokenizer.json", &r->whole, r->err));
    const json_t *model = json_object_get(r->whole, "model"), *type = json_object_get(model, "type");
    if (json_is_string(type) && strcmp(json_string_value(type), "BPE"))
        return fail(r->err, ERR_DATA, "tokenizer.json: the model '%.64s' is not BPE",
                    json_string_value(type));
    r->vocab = json_incref(json_object_get(model, "vocab"));
    return json_is_object(r->vocab) ? OK : fail(r->err, ERR_DATA, "tokenizer.json has no vocabulary");
}

static status read_all(reader *r, const tokenizer_files *f) {
    TRY(parse_vocab(r, f));
    TRY(check_ids(r));
    TRY(parse_configs(r, f));
    TRY(read_config(r));
    if (!(r->v->added = mem_calloc(ADDED_MAX, sizeof(added_token)))) return no_memory(r->err);
    TRY(read_added(r, &f->added_tokens));
    TRY(set_default(r, "bos_token", "<|startoftext|>"));
    TRY(set_default(r, "eos_token", "<|endoftext|>"));
    TRY(set_default(r, "unk_token", "<|endoftext|>"));
    TRY(set_default(r, "pad_token", "<|endoftext|>"));
    TRY(read_special(r));
    TRY(special_id(r, "bos_token", &r->v->bos));
    TRY(special_id(r, "eos_token", &r->v->eos));
    TRY(special_id(r, "unk_token", &r->v->unk));
    TRY(special_id(r, "pad_token", &r->v->pad));
    TRY(read_extra(r, "additional_special_tokens"));
    TRY(read_extra(r, "extra_special_tokens"));
    find_bytes(r);
    return r->whole ? read_merges_json(r, json_object_get(json_object_get(r->whole, "model"), "merges"))
                    : read_merges_txt(r, &f->merges);
}

status vocabulary_read(vocabulary *v, const tokenizer_files *files, error *err) {
    *v = (vocabulary){0};
    reader r = {.v = v, .err = err};
    status s = read_all(&r, files);
    json_decref(r.vocab);
    json_decref(r.config);
    json_decref(r.whole);
    if (s) vocabulary_free(v);
    return s;
}

void vocabulary_free(vocabulary *v) {
    for (size_t i = 0; i < v->n_added; i++) mem_free(v->added[i].text);
    mem_free(v->added);
    mem_free(v->merges);
    *v = (vocabulary){0};
}
