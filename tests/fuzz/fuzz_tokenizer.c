// Fuzz target: text under the small vocabulary when the first byte is even, tokenizer files when it is odd.
// The folder of the vocabulary is tests/golden/tokenizer, or $CALO_FUZZ_VOCAB.
#include "core/base/mem.h"
#include "core/models/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void encode(const tokenizer *t, const char *text, size_t len) {
    int32_t *ids;
    size_t n;
    if (tokenizer_encode(t, text, len, &ids, &n, NULL)) return;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer_vocabulary(t)->size) abort();
    mem_free(ids);
}

// Up to six files, separated by 0xff (which no JSON holds): vocab, merges, config, special tokens, added
// tokens, tokenizer.json. An empty one is absent.
static void parse(const char *data, size_t size) {
    tokenizer_files f = {0};
    tokenizer_file *const order[] = {&f.vocab,        &f.merges,        &f.config, &f.special_tokens_map,
                                     &f.added_tokens, &f.tokenizer_json};
    for (size_t i = 0; i < 6 && size; i++) {
        const char *end = memchr(data, 0xff, size);
        size_t n = end ? (size_t)(end - data) : size;
        if (n) *order[i] = (tokenizer_file){data, n};
        size -= end ? n + 1 : n;
        data += end ? n + 1 : n;
    }
    error err = {0};
    tokenizer *t = tokenizer_from_memory(&f, &err);
    if (!t && (!err.code || !err.text[0])) abort();
    if (t) encode(t, "AB ab <|endoftext|>  <x>", 24);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tokenizer *small;
    const char *dir = getenv("CALO_FUZZ_VOCAB");
    if (!small && !(small = tokenizer_open(dir ? dir : "tests/golden/tokenizer", NULL))) abort();
    if (!size) return 0;
    if (data[0] & 1)
        parse((const char *)data + 1, size - 1);
    else
        encode(small, (const char *)data + 1, size - 1);
    return 0;
}
