#include "assets/world/vocab.h"
#include "assets/world/caption.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char *const END = "</w>";
static const char *const START_OF_TEXT = "<|startoftext|>", *const END_OF_TEXT = "<|endoftext|>";

static bool printable(int byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// GPT-2's table of visible stand-ins: printable Latin-1 first, as itself, then the other bytes from U+0100
// on.
static int byte_characters(int character[256]) {
    int n = 0;
    for (int byte = 0; byte < 256; byte++)
        if (printable(byte)) character[n++] = byte;
    for (int first = n; n < 256; n++) character[n] = 256 + n - first;
    return n;
}

// Below U+0800, which is all that the stand-ins need.
static const char *utf8(arena *a, int c, const char *suffix) {
    if (c < 0x80) return arena_printf(a, "%c%s", c, suffix);
    return arena_printf(a, "%c%c%s", 0xc0 | c >> 6, 0x80 | (c & 63), suffix);
}

// ---- cutting a word

enum { PIECES_MAX = 32, PIECE_SIZE = 40 };

typedef struct {
    int n;
    char piece[PIECES_MAX][PIECE_SIZE];
} cut;

static bool cut_letters(cut *c, const char *word) {
    size_t n = strlen(word);
    if (!n || n > PIECES_MAX) return false;
    for (size_t i = 0; i < n; i++) {
        if (!islower((unsigned char)word[i])) return false;
        snprintf(c->piece[i], PIECE_SIZE, "%c%s", word[i], i + 1 == n ? END : "");
    }
    c->n = (int)n;
    return true;
}

// Joins every neighbouring pair (left, right), from the left.
static bool join(cut *c, const char *left, const char *right) {
    int before = c->n;
    for (int i = 0; i + 1 < c->n; i++) {
        if (strcmp(c->piece[i], left) || strcmp(c->piece[i + 1], right)) continue;
        strcat(c->piece[i], c->piece[i + 1]);
        memmove(c->piece + i + 1, c->piece + i + 2, sizeof *c->piece * (size_t)(c->n - i - 2));
        c->n--;
    }
    return c->n < before;
}

// Byte-pair encoding: the earliest merge that applies goes first, again and again.
static void join_all(cut *c, const vocab *v) {
    for (int i = 0; i < v->merges;) i = join(c, v->left[i], v->right[i]) ? 0 : i + 1;
}

int vocab_word_tokens(const vocab *v, const char *word) {
    cut c;
    if (!cut_letters(&c, word)) return -1;
    join_all(&c, v);
    return c.n;
}

// ---- building

static status add_token(vocab *v, const char *token, error *err) {
    if (!token) return fail(err, ERR_TEMP, "out of memory");
    for (int i = 0; i < v->tokens; i++)
        if (!strcmp(v->token[i], token)) return OK; // two merges may give one token
    v->token[v->tokens++] = token;
    return OK;
}

static status add_bytes(vocab *v, arena *a, error *err) {
    int character[256], n = byte_characters(character);
    for (int end = 0; end < 2; end++)
        for (int i = 0; i < n; i++) {
            status st = add_token(v, utf8(a, character[i], end ? END : ""), err);
            if (st) return st;
        }
    return OK;
}

// New merges come last, so that words learned before stay as they are; each joins the first two pieces that
// the merges so far leave.
static status add_word(vocab *v, arena *a, const char *word, error *err) {
    cut c;
    if (!cut_letters(&c, word)) return fail(err, ERR_INTERNAL, "'%s' is no word of lower-case letters", word);
    for (join_all(&c, v); c.n > 1; join_all(&c, v)) {
        if (v->merges == VOCAB_MERGES_MAX)
            return fail(err, ERR_INTERNAL, "more than %d merges", VOCAB_MERGES_MAX);
        const char *left = arena_printf(a, "%s", c.piece[0]), *right = arena_printf(a, "%s", c.piece[1]);
        if (!left || !right) return fail(err, ERR_TEMP, "out of memory");
        v->left[v->merges] = left, v->right[v->merges++] = right;
        status st = add_token(v, arena_printf(a, "%s%s", left, right), err);
        if (st) return st;
    }
    return OK;
}

status vocab_build(vocab *v, arena *a, error *err) {
    const char *words[GRAMMAR_WORDS_MAX];
    int n = grammar_words(words);
    *v = (vocab){0};
    status st = add_bytes(v, a, err);
    for (int i = 0; i < n && !st; i++) st = add_word(v, a, words[i], err);
    if (!st) st = add_token(v, START_OF_TEXT, err);
    return st ? st : add_token(v, END_OF_TEXT, err);
}

// ---- files

static FILE *open_in(const char *folder, const char *name, error *err) {
    char path[4200];
    snprintf(path, sizeof path, "%.4000s/%s", folder, name);
    FILE *f = fopen(path, "w");
    if (!f) fail(err, ERR_CANTCREAT, "%s: %s", path, strerror(errno));
    return f;
}

static status save_json(const char *folder, const char *name, json_t *json, error *err) {
    if (!json) return fail(err, ERR_TEMP, "out of memory");
    FILE *f = open_in(folder, name, err);
    bool bad = f && (json_dumpf(json, f, JSON_INDENT(2)) || fputc('\n', f) == EOF);
    json_decref(json);
    if (!f) return ERR_CANTCREAT;
    bad |= fclose(f) != 0;
    return bad ? fail(err, ERR_IO, "%s/%s: %s", folder, name, strerror(errno)) : OK;
}

static status save_merges(const vocab *v, const char *folder, error *err) {
    FILE *f = open_in(folder, "merges.txt", err);
    if (!f) return ERR_CANTCREAT;
    bool bad = fputs("#version: 0.2\n", f) == EOF;
    for (int i = 0; i < v->merges; i++) bad |= fprintf(f, "%s %s\n", v->left[i], v->right[i]) < 0;
    bad |= fclose(f) != 0;
    return bad ? fail(err, ERR_IO, "%s/merges.txt: %s", folder, strerror(errno)) : OK;
}

static json_t *token_ids(const vocab *v) {
    json_t *ids = json_object();
    for (int i = 0; i < v->tokens; i++) json_object_set_new(ids, v->token[i], json_integer(i));
    return ids;
}

static json_t *special_tokens(void) {
    return json_pack("{s:s, s:s, s:s, s:s}", "bos_token", START_OF_TEXT, "eos_token", END_OF_TEXT,
                     "unk_token", END_OF_TEXT, "pad_token", END_OF_TEXT);
}

static json_t *tokenizer_config(void) {
    json_t *config =
        json_pack("{s:s, s:i, s:b, s:b, s:s}", "tokenizer_class", "CLIPTokenizer", "model_max_length",
                  VOCAB_CONTEXT, "do_lower_case", 1, "add_prefix_space", 0, "errors", "replace");
    json_t *special = special_tokens();
    if (config) json_object_update(config, special);
    json_decref(special);
    return config;
}

status vocab_save(const vocab *v, const char *folder, error *err) {
    status st = save_json(folder, "vocab.json", token_ids(v), err);
    if (!st) st = save_merges(v, folder, err);
    if (!st) st = save_json(folder, "special_tokens_map.json", special_tokens(), err);
    return st ? st : save_json(folder, "tokenizer_config.json", tokenizer_config(), err);
}
