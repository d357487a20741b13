// Fuzz target: a prompt at a few steps, read into rows of tokens by the small vocabulary, or the one in
// $CALO_FUZZ_VOCAB.
#include "core/base/mem.h"
#include "core/models/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(const tokenizer *t, const char *text) {
    const vocabulary *v = tokenizer_vocabulary(t);
    prompt_rows r;
    error err = {0};
    status s = prompt_rows_make(t, text, EMPHASIS_ORIGINAL, &r, &err);
    if (s && (s != err.code || !*err.text)) abort();
    for (size_t i = 0; !s && i < (size_t)r.n * v->max_length; i++)
        if (r.ids[i] < 0 || (size_t)r.ids[i] >= v->size || !(fabsf(r.weights[i]) <= PROMPT_MAX_WEIGHT))
            abort();
    for (int k = 0; !s && k < r.n; k++)
        if (r.ids[(size_t)k * v->max_length] != v->bos) abort();
    prompt_rows_free(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tokenizer *small;
    const char *dir = getenv("CALO_FUZZ_VOCAB");
    if (!small && !(small = tokenizer_open(dir ? dir : "tests/golden/tokenizer", NULL))) abort();
    char *text = malloc(size + 1);
    if (!text) abort();
    memcpy(text, data, size);
    text[size] = 0;
    for (int step = 0; step < 9; step += 4) {
        char *at;
        bool edited;
        error err = {0};
        if (prompt_at_step(text, step, 9, &at, &edited, &err)) {
            if (!*err.text) abort();
            continue;
        }
        if (strlen(at) > strlen(text)) abort(); // editing only takes away
        read_rows(small, at);
        mem_free(at);
    }
    free(text);
    return 0;
}
