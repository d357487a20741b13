// Fuzz target: text under the small vocabulary when the first byte is even, tokenizer files when it is odd.
// The folder of the vocabulary is tests/golden/tokenizer, or $CALO_FUZZ_VOCAB.
#include "core/base/mem.h"
#include "core/models/tokenizer.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILES = 6 };

static const char *const NAMES[FILES] = {
    "vocab.json",        "merges.txt",    "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "tokenizer.json"};
// Under any vocabulary: words that merge, added tokens, white space of two bytes.
static const char SAMPLE[] = "AB ababbaab aab <|endoftext|>a\u00a0 <x>\u00a0 b \u00a0<x> \u00c9 z\u00e9";

static tokenizer *small;
static int32_t row[1 << 16]; // the longest
static char dir[64];

// Sizes that no input of a fuzzer has are refused before anything is read.
static void refuse_sizes(void) {
    static char path[5000];
    int32_t *ids;
    size_t n;
    const tokenizer_file good = {"{}", 2}, huge = {"", (size_t)VOCABULARY_FILE_MAX + 1};
    memset(path, 'x', sizeof path - 1);
    if (tokenizer_encode(small, "", TOKENIZER_TEXT_MAX + 1, &ids, &n, NULL) != ERR_DATA ||
        tokenizer_open(path, NULL) ||
        tokenizer_from_memory(&(tokenizer_files){.tokenizer_json = huge}, NULL) ||
        tokenizer_from_memory(&(tokenizer_files){.vocab = good, .merges = huge}, NULL))
        abort();
}

void fuzz_start(void) {
    const char *from = getenv("CALO_FUZZ_VOCAB");
    if (!(small = tokenizer_open(from ? from : "tests/golden/tokenizer", NULL))) abort();
    refuse_sizes();
    fuzz_folder(dir);
}

static void encode(const tokenizer *t, const char *text, size_t len) {
    int32_t *ids;
    size_t n;
    error err = {0};
    status s = tokenizer_encode(t, text, len, &ids, &n, &err);
    if (s && (s != err.code || !fuzz_failed())) abort();
    if (s) return;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer_vocabulary(t)->size) abort();
    mem_free(ids);
    if (!tokenizer_encode_row(t, text, len, row, &n, &err) && row[n] != tokenizer_vocabulary(t)->eos) abort();
}

// As a folder, with those files that are not empty.
static void read_folder(const tokenizer_file *const files[FILES], bool good) {
    char path[FILES][100];
    for (int i = 0; i < FILES; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", dir, NAMES[i]);
        if (files[i]->data) fuzz_write(path[i], files[i]->data, files[i]->size);
    }
    error err = {0};
    tokenizer *t = tokenizer_open(dir, &err);
    if (!t && (!*err.text || (good && !fuzz_failed()))) abort();
    tokenizer_free(t);
    for (int i = 0; i < FILES; i++) unlink(path[i]);
}

// Up to six files, separated by 0xff (which no JSON holds): vocab, merges, config, special tokens, added
// tokens, tokenizer.json. An empty one is absent.
static void parse(const char *data, size_t size) {
    tokenizer_files f = {0};
    tokenizer_file *const order[FILES] = {&f.vocab,        &f.merges,        &f.config, &f.special_tokens_map,
                                          &f.added_tokens, &f.tokenizer_json};
    for (size_t i = 0; i < FILES && size; i++) {
        const char *end = memchr(data, 0xff, size);
        size_t n = end ? (size_t)(end - data) : size;
        if (n) *order[i] = (tokenizer_file){data, n};
        size -= end ? n + 1 : n;
        data += end ? n + 1 : n;
    }
    error err = {0};
    tokenizer *t = tokenizer_from_memory(&f, &err);
    if (!t && (!err.code || !err.text[0])) abort();
    if (t) encode(t, SAMPLE, sizeof SAMPLE - 1);
    read_folder((const tokenizer_file *const *)order, t != NULL);
    tokenizer_free(t);
}

void fuzz_input(const uint8_t *data, size_t size) {
    if (!size) return;
    if (data[0] & 1)
        parse((const char *)data + 1, size - 1);
    else
        encode(small, (const char *)data + 1, size - 1);
}
