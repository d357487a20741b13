#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/threads.h"
#include "core/models/tokenizer.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GOLDEN "tests/golden/tokenizer"

enum { BLOCK = 100, WORD_LONG = 100000 };

static json_t *load(const char *path) {
    json_error_t where;
    json_t *x = json_load_file(path, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &where);
    cr_assert(x, "%s: %s", path, where.text);
    return x;
}

static tokenizer_file slurp(const char *dir, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    cr_assert(f, "%s", path);
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    char *data = mem_alloc(size);
    cr_assert_eq(fread(data, 1, size, f), size);
    fclose(f);
    return (tokenizer_file){data, size};
}

static tokenizer_file text(const char *s) { return (tokenizer_file){s, strlen(s)}; }

// ids of the special tokens in a configuration that was written for the small vocabulary: CLIP's are the
// `shift` higher ones.
static json_t *shifted(const json_t *config, int shift) {
    json_t *copy = json_deep_copy(config), *decoder = json_object_get(copy, "added_tokens_decoder");
    if (!decoder || !shift) return copy;
    json_t *moved = json_object();
    const char *key;
    json_t *token;
    json_object_foreach(decoder, key, token) {
        char id[16];
        snprintf(id, sizeof id, "%d", atoi(key) ? atoi(key) + shift : 0);
        json_object_set(moved, id, token);
    }
    json_object_set_new(copy, "added_tokens_decoder", moved);
    return copy;
}

static tokenizer *open_case(const char *dir, const json_t *entry, int shift) {
    tokenizer_files f = {.vocab = slurp(dir, "vocab.json"), .merges = slurp(dir, "merges.txt")};
    json_t *object = shifted(json_object_get(entry, "config"), shift);
    char *config = json_dumps(object, 0),
         *special = json_dumps(json_object_get(entry, "special_tokens_map"), 0);
    f.config = text(config);
    if (special) f.special_tokens_map = text(special);
    error err = {0};
    tokenizer *t = tokenizer_from_memory(&f, &err);
    cr_assert(t, "%s", err.text);
    json_decref(object);
    free(config);
    free(special);
    mem_free((char *)f.vocab.data);
    mem_free((char *)f.merges.data);
    return t;
}

static void assert_ids(const json_t *want, const int32_t *ids, size_t n, const char *name, const char *s) {
    cr_assert_eq(json_array_size(want), n, "%s, '%s': %zu ids", name, s, n);
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(ids[i], (int32_t)json_number_value(json_array_get(want, i)), "%s, '%s': id %zu", name, s,
                     i);
}

Test(tokenizer, readable_cases) {
    json_t *cases = load(GOLDEN "/cases.json"), *entry, *s;
    size_t i, k;
    json_array_foreach(json_object_get(cases, "tokenizers"), i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        tokenizer *t = open_case(GOLDEN, entry, 0);
        json_array_foreach(json_object_get(cases, "texts"), k, s) {
            int32_t *ids;
            size_t n;
            cr_assert_eq(tokenizer_encode(t, json_string_value(s), json_string_length(s), &ids, &n, NULL),
                         OK);
            assert_ids(json_array_get(json_object_get(entry, "ids"), k), ids, n, name, json_string_value(s));
            mem_free(ids);
        }
        json_array_foreach(json_object_get(cases, "row_texts"), k, s) {
            int32_t row[77];
            size_t eos;
            cr_assert_eq(tokenizer_vocabulary(t)->max_length, 77);
            cr_assert_eq(
                tokenizer_encode_row(t, json_string_value(s), json_string_length(s), row, &eos, NULL), OK);
            assert_ids(json_array_get(json_object_get(entry, "rows"), k), row, 77, name,
                       json_string_value(s));
            cr_assert_eq(row[eos], tokenizer_vocabulary(t)->eos);
            if (k == 0) cr_assert_eq(eos, 1);
            if (k == 2) cr_assert_eq(eos, 76);
        }
        tokenizer_free(t);
    }
    json_decref(cases);
}

// ---- generated strings; tests/parity/tokenizer.py has the same generator

static uint64_t draw(uint64_t *state, uint64_t n) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

// One code point as UTF-8; no surrogates.
static size_t put(char *out, unsigned c) {
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6) out[i] = (char)(0x80 | (c & 63));
    return out[0] = (char)(0xf00 >> n | c), n;
}

static size_t generate(const json_t *fragments, const json_t *ranges, uint64_t i, char *out) {
    uint64_t state = i;
    size_t len = 0, count = 1 + draw(&state, 12);
    while (count--) {
        char *piece = out + len;
        size_t n = 0, kind = draw(&state, 16);
        if (kind < 10) {
            const json_t *s = json_array_get(fragments, draw(&state, json_array_size(fragments)));
            n = json_string_length(s);
            memcpy(piece, json_string_value(s), n);
        } else if (kind < 15) {
            const json_t *range = json_array_get(ranges, draw(&state, json_array_size(ranges)));
            unsigned low = (unsigned)json_number_value(json_array_get(range, 0));
            n = put(piece,
                    low + (unsigned)draw(&state,
                                         (unsigned)json_number_value(json_array_get(range, 1)) - low + 1));
        } else {
            for (size_t bytes = 1 + draw(&state, 4); n < bytes; n++) piece[n] = (char)draw(&state, 256);
        }
        len += n;
        for (size_t times = draw(&state, 32) ? 1 : 1 + draw(&state, 64); times > 1; times--, len += n)
            memcpy(out + len, piece, n);
    }
    if (i % 1000 != 999) return len;
    size_t once = len;
    while (len <= WORD_LONG / once * once) memcpy(out + len, out, once), len += once;
    return len;
}

static uint64_t fnv1a(uint64_t state, uint32_t value) {
    for (int i = 0; i < 4; i++, value >>= 8) state = (state ^ (value & 255)) * 0x100000001b3u;
    return state;
}

static uint64_t hash_block(const tokenizer *t, const json_t *source, size_t block, char *buffer) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = block * BLOCK; i < (block + 1) * BLOCK; i++) {
        size_t n, len = generate(json_object_get(source, "fragments"), json_object_get(source, "ranges"), i,
                                 buffer);
        int32_t *ids;
        error err = {0};
        cr_assert_eq(tokenizer_encode(t, buffer, len, &ids, &n, &err), OK, "%s", err.text);
        hash = fnv1a(hash, (uint32_t)n);
        for (size_t k = 0; k < n; k++) hash = fnv1a(hash, (uint32_t)ids[k]);
        mem_free(ids);
    }
    return hash;
}

static void check_column(const tokenizer *t, const char *name, const json_t *source) {
    char *buffer = mem_alloc(4 * WORD_LONG), line[1024], *rest;
    FILE *f = fopen(GOLDEN "/ids.txt", "r");
    cr_assert(f && fgets(line, sizeof line, f));
    int column = 0;
    char *word = strtok_r(line, " \n", &rest);
    for (; word && strcmp(word, name); column++) word = strtok_r(NULL, " \n", &rest);
    cr_assert(word, "ids.txt has no column %s", name);
    size_t blocks = 0;
    for (; fgets(line, sizeof line, f); blocks++) {
        word = strtok_r(line, " \n", &rest);
        for (int k = 0; k < column; k++) word = strtok_r(NULL, " \n", &rest);
        cr_assert_eq(strtoull(word, NULL, 16), hash_block(t, source, blocks, buffer),
                     "%s: strings %zu ... %zu", name, blocks * BLOCK, (blocks + 1) * BLOCK - 1);
    }
    cr_assert_geq(blocks * BLOCK, 10000);
    fclose(f);
    mem_free(buffer);
}

// Compares the column prefix + name of ids.txt for each tokenizer of cases.json.
static void check_blocks(const char *dir, const char *prefix) {
    json_t *cases = load(GOLDEN "/cases.json"), *source = load(GOLDEN "/fragments.json"), *entry;
    char path[1024], name[64];
    json_t *small = load(GOLDEN "/vocab.json"), *vocab;
    snprintf(path, sizeof path, "%s/vocab.json", dir);
    vocab = load(path);
    int shift = (int)json_object_size(vocab) - (int)json_object_size(small);
    size_t i;
    json_array_foreach(json_object_get(cases, "tokenizers"), i, entry) {
        tokenizer *t = open_case(dir, entry, shift);
        snprintf(name, sizeof name, "%s%s", prefix, json_string_value(json_object_get(entry, "name")));
        check_column(t, name, source);
        tokenizer_free(t);
    }
    json_decref(vocab);
    json_decref(small);
    json_decref(source);
    json_decref(cases);
}

Test(tokenizer, twelve_thousand_strings) { check_blocks(GOLDEN, ""); }

Test(tokenizer, twelve_thousand_strings_with_the_embedded_models_vocabulary) {
    error err = {0};
    tokenizer *t = tokenizer_open("assets/talbot/tokenizer", &err);
    cr_assert(t, "%s", err.text);
    json_t *source = load(GOLDEN "/fragments.json");
    check_column(t, "talbot", source);
    json_decref(source);
    tokenizer_free(t);
}

Test(tokenizer, twelve_thousand_strings_with_clips_vocabulary) {
    const char *dir = getenv("CALO_CLIP_VOCAB");
    if (!dir) dir = ".cache/clip-vocab";
    if (access(dir, R_OK)) cr_skip("no folder %s: tests/parity/tokenizer.py makes it", dir);
    check_blocks(dir, "clip_");
}

// ---- files

Test(tokenizer, opens_a_folder) {
    error err = {0};
    tokenizer *t = tokenizer_open(GOLDEN, &err);
    cr_assert(t, "%s", err.text);
    const vocabulary *v = tokenizer_vocabulary(t);
    cr_assert_eq(v->size, 512 + 60 + 2);
    cr_assert_eq(v->bos, 572);
    cr_assert_eq(v->eos, 573);
    cr_assert_eq(v->pad, 573);
    cr_assert_eq(v->max_length, 77);
    tokenizer_free(t);
    cr_assert_null(tokenizer_open("tests/golden/nowhere", &err));
    cr_assert_eq(err.code, ERR_NOINPUT);
    cr_assert(strstr(err.text, "tests/golden/nowhere") && strstr(err.text, "vocab.json"), "%s", err.text);
}

#define VOCAB                                                                                                \
    "{\"a\": 0, \"b\": 1, \"a</w>\": 2, \"b</w>\": 3, \"ab</w>\": 4, \"<|startoftext|>\": 5, "               \
    "\"<|endoftext|>\": 6}"

// A character without a token is the unknown one, each time.
Test(tokenizer, opens_tokenizer_json_alone) {
    const char *const merges[] = {"[\"a b</w>\"]", "[[\"a\", \"b</w>\"]]"};
    for (int i = 0; i < 2; i++) {
        char json[1000];
        snprintf(
            json, sizeof json,
            "{\"model\": {\"type\": \"BPE\", \"vocab\": " VOCAB ", \"merges\": %s},"
            "\"added_tokens\": [{\"id\": 7, \"content\": \"<x>\", \"lstrip\": true, \"normalized\": false}]}",
            merges[i]);
        error err = {0};
        tokenizer *t = tokenizer_from_memory(&(tokenizer_files){.tokenizer_json = text(json)}, &err);
        cr_assert(t, "%s", err.text);
        const int32_t want[] = {4, 7, 0, 6, 6, 3};
        int32_t *ids;
        size_t n;
        cr_assert_eq(tokenizer_encode(t, "ab  <x>AzzB", 11, &ids, &n, NULL), OK);
        cr_assert_eq(n, sizeof want / sizeof *want);
        cr_assert_eq(memcmp(ids, want, sizeof want), 0);
        mem_free(ids);
        cr_assert_eq(tokenizer_vocabulary(t)->size, 8);
        tokenizer_free(t);
    }
}

// added_tokens.json of older folders: not special, so found in any case; a special token only as written.
Test(tokenizer, reads_added_tokens_json) {
    error err = {0};
    tokenizer_files f = {
        .vocab = text(VOCAB), .merges = text("a b</w>\n"), .added_tokens = text("{\"<X>\": 7}")};
    f.special_tokens_map = text("{\"additional_special_tokens\": [\"ab</w>\"]}");
    tokenizer *t = tokenizer_from_memory(&f, &err);
    cr_assert(t, "%s", err.text);
    const int32_t want[] = {2, 7, 3, 7, 4, 4, 6, 6, 6, 6}; // "AB</w>" is ab, then <, /, w, > unknown
    int32_t *ids;
    size_t n;
    cr_assert_eq(tokenizer_encode(t, "a<X>b<x>ab</w> AB</w>", 21, &ids, &n, NULL), OK);
    cr_assert_eq(n, sizeof want / sizeof *want);
    cr_assert_eq(memcmp(ids, want, sizeof want), 0);
    mem_free(ids);
    tokenizer_free(t);
}

Test(tokenizer, refuses_bad_files) {
    const struct {
        const char *vocab, *merges, *config, *says;
    } bad[] = {
        {"", "", NULL, "vocab.json, line"},
        {"[]", "", NULL, "vocab.json is not"},
        {"{\"a\": 0, \"a\": 1}", "", NULL, "duplicate"},
        {"{\"a\": 0, \"b\": 0}", "", NULL, "another token"},
        {"{\"a\": -1}", "", NULL, "'a'"},
        {"{\"a\": 0.5}", "", NULL, "'a'"},
        {"{\"a\": 16777216}", "", NULL, "'a'"},
        {"{\"a\": \"0\"}", "", NULL, "'a'"},
        {"{\"a\": 0}", "", NULL, "<|startoftext|>"},
        {"{\"a\": 0", "", NULL, "vocab.json, line 1"},
        {"{}", "", NULL, "<|startoftext|>"},
        {VOCAB, "#version: 0.2\na b</w>\na a\n", NULL, "merges.txt, line 3: 'aa'"},
        {VOCAB, "#version: 0.2\na c\n", NULL, "merges.txt, line 2: 'c'"},
        {VOCAB, "a b</w>\na b</w>\n", NULL, "merges.txt, line 2: this pair"},
        {VOCAB, "a b</w>\n\n", NULL, "merges.txt, line 2: expected two"},
        {VOCAB, "ab</w>", NULL, "merges.txt, line 1: expected two"},
        {VOCAB, "a  b</w>", NULL, "merges.txt, line 1: expected two"},
        {VOCAB, "a b c", NULL, "merges.txt, line 1: expected two"},
        {VOCAB, "", "{\"pad_token\": \"[PAD]\"}", "[PAD]"},
        {VOCAB, "", "{\"pad_token\": \"\"}", "pad_token"},
        {VOCAB, "", "{\"pad_token\": 7}", "no text"},
        {VOCAB, "", "{\"tokenizer_class\": \"T5Tokenizer\"}", "T5Tokenizer"},
        {VOCAB, "", "{\"padding_side\": \"left\"}", "padding_side"},
        {VOCAB, "", "{\"split_special_tokens\": true}", "split_special_tokens"},
        {VOCAB, "", "{\"model_max_length\": 1}", "model_max_length"},
        {VOCAB, "", "{\"added_tokens_decoder\": {\"x\": {\"content\": \"a\"}}}", "'x'"},
        {VOCAB, "", "{\"added_tokens_decoder\": {\"0\": {\"content\": \"a\", \"single_word\": true}}}",
         "single_word"},
        {VOCAB, "", "{\"added_tokens_decoder\": {\"0\": {}}}", "no text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        tokenizer_files f = {.vocab = text(bad[i].vocab), .merges = text(bad[i].merges)};
        if (bad[i].config) f.config = text(bad[i].config);
        error err = {0};
        cr_assert_null(tokenizer_from_memory(&f, &err), "case %zu", i);
        cr_assert_eq(err.code, ERR_DATA, "case %zu", i);
        cr_assert(strstr(err.text, bad[i].says), "case %zu: %s", i, err.text);
    }
}

Test(tokenizer, accepts_windows_lines_and_no_last_newline) {
    error err = {0};
    tokenizer_files f = {.vocab = text(VOCAB), .merges = text("#version: 0.2\r\na b</w>")};
    tokenizer *t = tokenizer_from_memory(&f, &err);
    cr_assert(t, "%s", err.text);
    tokenizer_free(t);
}

// ---- hostile text

static double encode_seconds(const tokenizer *t, const char *s, size_t n) {
    int32_t *ids;
    size_t count;
    double begin = clock_seconds();
    cr_assert_eq(tokenizer_encode(t, s, n, &ids, &count, NULL), OK);
    double seconds = clock_seconds() - begin;
    mem_free(ids);
    return seconds;
}

// One word of the greatest length, of letters that merge and of marks in the wrong order: about a second
// each. Quadratic time would be hours.
Test(tokenizer, the_longest_word_takes_seconds, .timeout = 120) {
    tokenizer *t = tokenizer_open(GOLDEN, NULL);
    char *s = mem_alloc(TOKENIZER_TEXT_MAX + 1);
    for (size_t i = 0; i < TOKENIZER_TEXT_MAX; i++) s[i] = "watercolormoon"[i % 14];
    cr_expect_lt(encode_seconds(t, s, TOKENIZER_TEXT_MAX), 30);
    for (size_t i = 0; i < TOKENIZER_TEXT_MAX; i++) s[i] = "\xcc\x81\xcc\xa3"[i % 4]; // classes 230 and 220
    cr_expect_lt(encode_seconds(t, s, TOKENIZER_TEXT_MAX), 30);
    error err = {0};
    int32_t *ids;
    size_t n;
    cr_assert_eq(tokenizer_encode(t, s, TOKENIZER_TEXT_MAX + 1, &ids, &n, &err), ERR_DATA);
    cr_assert_null(ids);
    mem_free(s);
    tokenizer_free(t);
}

typedef struct {
    const tokenizer *t;
    uint64_t hash[64];
    const json_t *source;
} shared;

static void hash_blocks(void *arg, int64_t begin, int64_t end) {
    shared *s = arg;
    char *buffer = mem_alloc(4 * WORD_LONG);
    for (int64_t i = begin; i < end; i++) s->hash[i] = hash_block(s->t, s->source, (size_t)i % 8, buffer);
    mem_free(buffer);
}

Test(tokenizer, threads_share_one) {
    shared s = {.t = tokenizer_open(GOLDEN, NULL), .source = load(GOLDEN "/fragments.json")};
    team *threads = team_new(4);
    parallel_for(threads, 64, 1, hash_blocks, &s);
    for (int i = 8; i < 64; i++) cr_assert_eq(s.hash[i], s.hash[i % 8]);
    team_free(threads);
    tokenizer_free((tokenizer *)s.t);
    json_decref((json_t *)s.source);
}
