// Fuzz target: a prompt at a few steps, read into rows of tokens by the small vocabulary, or the one in
// $CALO_FUZZ_VOCAB; its first byte says how weights count.
#include "core/base/mem.h"
#include "core/models/prompt.h"
#include "tests/fuzz/fuzz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { E = 2, MAX_T = 77 };

static void weigh(const prompt_rows *r, emphasis how, size_t T) {
    static float x[MAX_T * E], empty[MAX_T * E];
    for (size_t i = 0; i < T * E; i++) x[i] = 1 + (float)(i % 7), empty[i] = (float)(i % 5);
    prompt_weigh(how, x, empty, E, r->weights, (int64_t)T, E);
}

static void read_rows(const tokenizer *t, const char *text, emphasis how) {
    const vocabulary *v = tokenizer_vocabulary(t);
    prompt_rows r;
    error err = {0};
    status s = prompt_rows_make(t, text, how, &r, &err);
    if (s && (s != err.code || !*err.text)) abort();
    for (size_t i = 0; !s && i < (size_t)r.n * v->max_length; i++)
        if (r.ids[i] < 0 || (size_t)r.ids[i] >= v->size || !(fabsf(r.weights[i]) <= PROMPT_MAX_WEIGHT))
            abort();
    for (int k = 0; !s && k < r.n; k++)
        if (r.ids[(size_t)k * v->max_length] != v->bos) abort();
    if (!s && v->max_length <= MAX_T) weigh(&r, how, v->max_length);
    prompt_rows_free(&r);
}

static tokenizer *small;

void fuzz_start(void) {
    const char *dir = getenv("CALO_FUZZ_VOCAB");
    if (!(small = tokenizer_open(dir ? dir : "tests/golden/tokenizer", NULL))) abort();
}

void fuzz_input(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return;
    memcpy(text, data, size);
    text[size] = 0;
    for (int step = 0; step < 9; step += 4) {
        char *at;
        bool edited;
        error err = {0};
        if (prompt_at_step(text, step, 9, step % 3, &at, &edited, &err)) {
            if (!*err.text) abort();
            continue;
        }
        if (strlen(at) > strlen(text)) abort(); // editing only takes away
        read_rows(small, at, (emphasis)(text[0] & 3));
        mem_free(at);
    }
    free(text);
}
