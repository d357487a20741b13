#include "core/models/tokenizer.h"
#include "core/base/fs.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct tokenizer {
    vocabulary v;
    pcre2_code *words;
};

// CLIP's words, in normalised text, where all white space is the space. A special token in capitals gets
// here; after CLIP's split comes GPT-2's, which cuts it (and nothing else) once more: the three groups.
#define WORDS "(<\\|)(startoftext|endoftext)(\\|>)|'s|'t|'re|'ve|'m|'ll|'d|\\p{L}++|\\p{N}|[^ \\p{L}\\p{N}]++"

static status no_memory(error *err) { return fail(err, ERR_TEMP, "not enough memory to tokenize"); }

// ---- UTF-8

// Bytes of the longest prefix of one well-formed sequence at s, n > 0; *whole when it is all of it. At
// least 1. The second byte's range excludes overlong forms, surrogates and values above U+10FFFF (Unicode,
// table 3-7).
static size_t utf8_prefix(const unsigned char *s, size_t n, bool *whole) {
    unsigned char lead = s[0];
    size_t want = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    size_t i = 1;
    for (; i < want && i < n && s[i] >= low && s[i] <= high; i++) low = 0x80, high = 0xbf;
    *whole = i == want;
    return i;
}

// Writes at most 3 × n bytes.
static size_t utf8_repair(const char *s, size_t n, char *out) {
    size_t m = 0;
    for (size_t i = 0, step; i < n; i += step) {
        bool whole;
        step = utf8_prefix((const unsigned char *)s + i, n - i, &whole);
        memcpy(out + m, whole ? s + i : "\xef\xbf\xbd", whole ? step : 3);
        m += whole ? step : 3;
    }
    return m;
}

static bool is_space(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return (c >= '\t' && c <= '\r') || c == 0x85 || k == UTF8PROC_CATEGORY_ZS || k == UTF8PROC_CATEGORY_ZL ||
           k == UTF8PROC_CATEGORY_ZP;
}

// Bytes of the white space character at the start, or at the end, of valid UTF-8; 0 if it is another.
static size_t space_first(const char *s, size_t n) {
    utf8proc_int32_t c;
    utf8proc_ssize_t step = n ? utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, &c) : 0;
    return step > 0 && is_space(c) ? (size_t)step : 0;
}

static size_t space_last(const char *s, size_t n) {
    size_t k = 1;
    while (k < n && (s[n - k] & 0xc0) == 0x80) k++;
    return n ? space_first(s + n - k, k) : 0;
}

// ---- normalisation

// The reference composes by the tables of Unicode 9: to it these younger marks are ordinary characters, which
// keep their place and which nothing joins across. Sorted.
static const int32_t young_marks[][2] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},     {0xc3c, 0xc3c},
    {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0},
    {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45},
    {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136},
    {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}};

static bool young(int32_t c) {
    for (size_t i = 0; i < sizeof young_marks / sizeof *young_marks && c >= young_marks[i][0]; i++)
        if (c <= young_marks[i][1]) return true;
    return false;
}

static int combining_class(int32_t c) { return young(c) ? 0 : utf8proc_get_property(c)->combining_class; }

// Canonical order of marks after one base: stable, by combining class (1 … 255). Counting, because a hostile
// run of marks is long; utf8proc's own order takes quadratic time on it.
static void sort_marks(int32_t *marks, size_t n, int32_t *scratch) {
    size_t at[257] = {0};
    for (size_t i = 0; i < n; i++) at[combining_class(marks[i]) + 1]++;
    for (int k = 0; k < 256; k++) at[k + 1] += at[k];
    for (size_t i = 0; i < n; i++) scratch[at[combining_class(marks[i])]++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

static void order_marks(int32_t *text, size_t n, int32_t *scratch) {
    for (size_t i = 0, end; i < n; i = end) {
        end = i + 1;
        if (!combining_class(text[i])) continue;
        while (end < n && combining_class(text[end])) end++;
        if (end - i > 1) sort_marks(text + i, end - i, scratch);
    }
}

// utf8proc 2.8 takes U+11A7, the code point before the first trailing consonant of Hangul, for one of them
// and drops it; so it never sees one after something.
static bool joins_nothing(int32_t c) { return c == 0x11a7 || young(c); }

// In place; returns the new number of code points, or < 0.
static utf8proc_ssize_t compose_ordered(int32_t *text, utf8proc_ssize_t n) {
    utf8proc_ssize_t m = 0;
    for (utf8proc_ssize_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !joins_nothing(text[end]);) end++;
        utf8proc_ssize_t k = utf8proc_normalize_utf32(text + i, end - i, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (k < 0) return k;
        memmove(text + m, text + i, (size_t)k * sizeof *text);
        m += k;
    }
    return m;
}

// Valid UTF-8 to code points in canonical composition; `out` has room for 2 × n (no character of b bytes
// decomposes into more than 2 × b). Returns their number, -1 on failure.
static utf8proc_ssize_t compose(const char *s, size_t n, int32_t *out, int32_t *scratch) {
    utf8proc_ssize_t m = 0, room = (utf8proc_ssize_t)(2 * n), step;
    for (size_t i = 0; i < n; i += (size_t)step) {
        utf8proc_int32_t c;
        int boundary = 0;
        step = utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &c);
        if (step <= 0) return -1;
        const int options = UTF8PROC_STABLE | (young(c) ? 0 : UTF8PROC_DECOMPOSE);
        utf8proc_ssize_t k = utf8proc_decompose_char(c, out + m, room - m, options, &boundary);
        if (k < 0 || k > room - m) return -1;
        m += k;
    }
    order_marks(out, (size_t)m, scratch);
    return compose_ordered(out, m);
}

// White space to one space, lowercase, UTF-8. `out` has room for 4 × n bytes.
static size_t fold(const int32_t *text, size_t n, char *out) {
    utf8proc_uint8_t *p = (utf8proc_uint8_t *)out;
    for (size_t i = 0; i < n; i++) {
        if (is_space(text[i])) {
            if (!i || !is_space(text[i - 1])) *p++ = ' ';
        } else if (text[i] == 0x130) { // İ, the one character whose lowercase form is two
            *p++ = 'i';
            p += utf8proc_encode_char(0x307, p);
        } else
            p += utf8proc_encode_char(utf8proc_tolower(text[i]), p);
    }
    return (size_t)((char *)p - out);
}

// Valid UTF-8 in, valid UTF-8 out; the caller frees *out.
static status normalise(const char *s, size_t n, char **out, size_t *m, error *err) {
    *out = NULL;
    int32_t *text = mem_alloc(2 * n * sizeof *text), *scratch = mem_alloc(2 * n * sizeof *scratch);
    utf8proc_ssize_t k = text && scratch ? compose(s, n, text, scratch) : 0;
    status result = !text || !scratch ? no_memory(err) : OK;
    if (k < 0) result = fail(err, ERR_INTERNAL, "the text cannot be normalised");
    if (!result && !(*out = mem_alloc(4 * (size_t)k))) result = no_memory(err);
    if (!result) *m = fold(text, (size_t)k, *out);
    mem_free(scratch);
    mem_free(text);
    return result;
}

// ---- merges

typedef struct {
    int32_t id;         // -1: merged into the one before
    int32_t prev, next; // -1 at the ends of the word
} symbol;

typedef struct {
    uint32_t rank;
    int32_t at; // the left symbol
    int32_t id; // what the two become
} candidate;

typedef struct {
    const tokenizer *t;
    int32_t *ids;
    size_t n, capacity;
    pcre2_match_data *match;
    // Room for a word of `word_capacity` bytes: that many symbols and three times as many candidates (each
    // pair of neighbours at first, two more for each merge).
    symbol *symbols;
    candidate *heap;
    size_t word_capacity, heap_size;
    error *err;
} encoding;

static bool before(candidate a, candidate b) { return a.rank != b.rank ? a.rank < b.rank : a.at < b.at; }

static void heap_push(encoding *e, candidate c) {
    size_t i = e->heap_size++;
    for (; i && before(c, e->heap[(i - 1) / 2]); i = (i - 1) / 2) e->heap[i] = e->heap[(i - 1) / 2];
    e->heap[i] = c;
}

static candidate heap_pop(encoding *e) {
    candidate top = e->heap[0], last = e->heap[--e->heap_size];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < e->heap_size; i = child) {
        if (child + 1 < e->heap_size && before(e->heap[child + 1], e->heap[child])) child++;
        if (!before(e->heap[child], last)) break;
        e->heap[i] = e->heap[child];
    }
    e->heap[i] = last;
    return top;
}

// Enters the merge of symbol i with the next one, if the two merge.
static void offer(encoding *e, int32_t i) {
    if (i < 0 || e->symbols[i].next < 0) return;
    const merge *m = vocabulary_merge(&e->t->v, e->symbols[i].id, e->symbols[e->symbols[i].next].id);
    if (m) heap_push(e, (candidate){m->rank, i, m->id});
}

// A candidate is stale when its neighbours have merged elsewhere since; it still counts if what stands there
// now gives the same token, as in the reference.
static bool stale(const encoding *e, candidate c) {
    const symbol *left = &e->symbols[c.at];
    if (left->id < 0 || left->next < 0) return true;
    const merge *m = vocabulary_merge(&e->t->v, left->id, e->symbols[left->next].id);
    return !m || m->id != c.id;
}

// Lowest rank first, leftmost first: n log n in the word's length.
static void merge_symbols(encoding *e, int32_t n) {
    e->heap_size = 0;
    for (int32_t i = 0; i + 1 < n; i++) offer(e, i);
    while (e->heap_size) {
        candidate c = heap_pop(e);
        if (stale(e, c)) continue;
        symbol *left = &e->symbols[c.at], *right = &e->symbols[left->next];
        left->id = c.id;
        left->next = right->next;
        if (right->next >= 0) e->symbols[right->next].prev = c.at;
        right->id = -1;
        offer(e, left->prev);
        offer(e, c.at);
    }
}

static status push(encoding *e, int32_t id) {
    if (e->n == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 64;
        int32_t *ids = mem_realloc(e->ids, capacity, sizeof *ids);
        if (!ids) return no_memory(e->err);
        e->ids = ids;
        e->capacity = capacity;
    }
    e->ids[e->n++] = id;
    return OK;
}

static status reserve_word(encoding *e, size_t n) {
    if (n <= e->word_capacity) return OK;
    size_t capacity = n < 128 ? 128 : n;
    symbol *symbols = mem_realloc(e->symbols, capacity, sizeof *symbols);
    if (symbols) e->symbols = symbols;
    candidate *heap = mem_realloc(e->heap, capacity, 3 * sizeof *heap);
    if (heap) e->heap = heap;
    if (!symbols || !heap) return no_memory(e->err);
    e->word_capacity = capacity;
    return OK;
}

static status encode_word(encoding *e, const char *s, size_t n) {
    TRY(reserve_word(e, n));
    for (size_t i = 0; i < n; i++) {
        int32_t id = e->t->v.byte_id[i + 1 == n][(unsigned char)s[i]];
        e->symbols[i] = (symbol){id, (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
    }
    merge_symbols(e, (int32_t)n);
    for (size_t i = 0; i < n; i++)
        if (e->symbols[i].id >= 0) TRY(push(e, e->symbols[i].id));
    return OK;
}

// ---- words and added tokens

// Normalised text without added tokens. Splits at the pattern; what it does not match is white space.
static status encode_words(encoding *e, const char *s, size_t n) {
    for (size_t at = 0; at < n;) {
        int groups = pcre2_match(e->t->words, (PCRE2_SPTR)s, n, at, PCRE2_NO_UTF_CHECK, e->match, NULL);
        if (groups == PCRE2_ERROR_NOMATCH) break;
        if (groups < 0)
            return fail(e->err, ERR_INTERNAL, "the text cannot be split (PCRE2 error %d)", groups);
        const PCRE2_SIZE *o = pcre2_get_ovector_pointer(e->match);
        for (int g = groups > 1; g < groups; g++) TRY(encode_word(e, s + o[2 * g], o[2 * g + 1] - o[2 * g]));
        at = o[1];
    }
    return OK;
}

// The longest added token that the text starts with.
static const added_token *added_at(const vocabulary *v, bool normalized, const char *s, size_t n) {
    const added_token *best = NULL;
    for (size_t i = 0; i < v->n_added; i++) {
        const added_token *a = &v->added[i];
        if (a->normalized == normalized && a->len <= n && (!best || a->len > best->len) &&
            !memcmp(a->text, s, a->len))
            best = a;
    }
    return best;
}

static status encode_between(encoding *e, bool normalized, const char *s, size_t n);

// Cuts out the added tokens of one kind and encodes what is between them: first the ones to be found in the
// text as it is, then, in each normalised rest, the others.
static status encode_added(encoding *e, bool normalized, const char *s, size_t n) {
    size_t begin = 0; // everything before is encoded
    for (size_t at = 0; at < n;) {
        const added_token *a = added_at(&e->t->v, normalized, s + at, n - at);
        if (!a) {
            at++;
            continue;
        }
        size_t from = at, to = at + a->len;
        if (a->lstrip)
            for (size_t k; from > begin && (k = space_last(s + begin, from - begin));) from -= k;
        if (a->rstrip)
            for (size_t k; (k = space_first(s + to, n - to));) to += k;
        if (from > begin) TRY(encode_between(e, normalized, s + begin, from - begin));
        TRY(push(e, a->id));
        at = begin = to;
    }
    return begin < n ? encode_between(e, normalized, s + begin, n - begin) : OK;
}

static status encode_between(encoding *e, bool normalized, const char *s, size_t n) {
    if (normalized) return encode_words(e, s, n);
    char *text;
    size_t len;
    TRY(normalise(s, n, &text, &len, e->err));
    status result = encode_added(e, true, text, len);
    mem_free(text);
    return result;
}

status tokenizer_encode(const tokenizer *t, const char *text, size_t len, int32_t **ids, size_t *n,
                        error *err) {
    *ids = NULL;
    *n = 0;
    if (len > TOKENIZER_TEXT_MAX)
        return fail(err, ERR_DATA, "the text is longer than %zu MiB", TOKENIZER_TEXT_MAX >> 20);
    encoding e = {.t = t, .err = err};
    char *valid = mem_alloc(3 * len);
    e.match = pcre2_match_data_create_from_pattern(t->words, NULL);
    status s = valid && e.match ? OK : no_memory(err);
    if (!s) s = encode_added(&e, false, valid, utf8_repair(text, len, valid));
    pcre2_match_data_free(e.match);
    mem_free(valid);
    mem_free(e.heap);
    mem_free(e.symbols);
    if (!s && !e.ids && !(e.ids = mem_realloc(NULL, 1, sizeof *e.ids))) s = no_memory(err);
    if (s) {
        mem_free(e.ids);
        return s;
    }
    *ids = e.ids;
    *n = e.n;
    return OK;
}

status tokenizer_encode_row(const tokenizer *t, const char *text, size_t len, int32_t *row, size_t *eos,
                            error *err) {
    int32_t *ids;
    size_t n, length = t->v.max_length;
    TRY(tokenizer_encode(t, text, len, &ids, &n, err));
    if (n > length - 2) n = length - 2;
    row[0] = t->v.bos;
    memcpy(row + 1, ids, n * sizeof *row);
    row[n + 1] = t->v.eos;
    for (size_t i = n + 2; i < length; i++) row[i] = t->v.pad;
    if (eos) *eos = n + 1;
    mem_free(ids);
    return OK;
}

// ---- opening

// The added tokens to be found in normalised text are normalised themselves.
static status normalise_added(vocabulary *v, error *err) {
    for (size_t i = 0; i < v->n_added; i++) {
        if (!v->added[i].normalized) continue;
        char *text;
        TRY(normalise(v->added[i].text, v->added[i].len, &text, &v->added[i].len, err));
        mem_free(v->added[i].text);
        v->added[i].text = text;
    }
    return OK;
}

static status compile(tokenizer *t, error *err) {
    int code;
    PCRE2_SIZE at;
    t->words =
        pcre2_compile((PCRE2_SPTR)WORDS, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    return t->words ? OK : fail(err, ERR_INTERNAL, "PCRE2 refuses the pattern of words (error %d)", code);
}

tokenizer *tokenizer_from_memory(const tokenizer_files *files, error *err) {
    tokenizer *t = mem_calloc(1, sizeof *t);
    if (!t) {
        no_memory(err);
        return NULL;
    }
    if (!vocabulary_read(&t->v, files, err) && !normalise_added(&t->v, err) && !compile(t, err)) return t;
    tokenizer_free(t);
    return NULL;
}

void tokenizer_free(tokenizer *t) {
    if (!t) return;
    pcre2_code_free(t->words);
    vocabulary_free(&t->v);
    mem_free(t);
}

const vocabulary *tokenizer_vocabulary(const tokenizer *t) { return &t->v; }

// ---- files

// A file that does not exist is left out.
static status read_file(const char *dir, const char *name, tokenizer_file *file, error *err) {
    char path[4096];
    uint64_t size;
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return fail(err, ERR_NOINPUT, "the path of %s is too long", name);
    fs_kind kind;
    TRY(fs_look(path, &kind, err));
    if (kind == FS_NOTHING) return OK;
    int fd = fs_open_read(path, &size, err);
    if (fd < 0) return err->code;
    char *data = NULL;
    status s = OK;
    if (size > VOCABULARY_FILE_MAX)
        s = fail(err, ERR_DATA, "%s is larger than %d MiB", path, VOCABULARY_FILE_MAX >> 20);
    else if (!(data = mem_alloc((size_t)size)))
        s = no_memory(err);
    else
        s = fs_read_at(fd, path, 0, data, (size_t)size, err);
    close(fd);
    *file = (tokenizer_file){data, (size_t)size}; // the caller frees it, on failure too
    return s;
}

typedef struct {
    const char *name;
    tokenizer_file *file;
} wanted_file;

static tokenizer *open_files(const char *dir, const wanted_file *wanted, int n, const tokenizer_files *f,
                             error *err) {
    tokenizer *t = NULL;
    error inner = {0};
    int i = 0;
    while (i < n && !read_file(dir, wanted[i].name, wanted[i].file, &inner)) i++;
    if (i == n && !(t = tokenizer_from_memory(f, &inner))) fail_in(&inner, "%s", dir);
    if (!t && err) *err = inner;
    for (i = 0; i < n; i++) mem_free((void *)wanted[i].file->data);
    return t;
}

tokenizer *tokenizer_open(const char *dir, error *err) {
    tokenizer_files f = {0};
    const wanted_file wanted[] = {
        {"tokenizer.json", &f.tokenizer_json},
        {"vocab.json", &f.vocab},
        {"merges.txt", &f.merges},
        {"tokenizer_config.json", &f.config},
        {"special_tokens_map.json", &f.special_tokens_map},
        {"added_tokens.json", &f.added_tokens},
    };
    return open_files(dir, wanted, sizeof wanted / sizeof *wanted, &f, err);
}

tokenizer *tokenizer_open_with(const char *dir, const char *config, error *err) {
    tokenizer_files f = {.config = {config, strlen(config)}};
    const wanted_file wanted[] = {{"vocab.json", &f.vocab}, {"merges.txt", &f.merges}};
    return open_files(dir, wanted, sizeof wanted / sizeof *wanted, &f, err);
}
