// libFuzzer: a training configuration; what a checkpoint keeps of it, read again; and how it differs from one
// of defaults.
#include "core/base/mem.h"
#include "core/train/config.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

static train_config plain;
static json_t *plain_json;

static void look_at_keys(void) {
    train_key_room room;
    int n = 0;
    while (train_key_at(n, &room)) n++;
    if (!n || train_key_at(-1, &room)) abort();
}

void fuzz_start(void) {
    if (train_config_parse(&plain, "plain", "{}", 2, NULL) || !(plain_json = train_config_json(&plain)))
        abort();
    look_at_keys();
}

// The kind of training is a word of the command line.
static void find_kind(const uint8_t *data, size_t n) {
    char word[16] = "";
    train_kind kind;
    memcpy(word, data, n < 15 ? n : 15);
    for (int i = 0; i < 2; i++) train_kind_find(i ? word : NULL, &kind, NULL);
}

// The kept form says what the file said.
static void read_again(const train_config *c, const json_t *kept, const char *text) {
    char changes[60];
    train_config again;
    json_t *kept_again = NULL;
    if (!train_config_parse(&again, "kept", text, strlen(text), NULL)) kept_again = train_config_json(&again);
    if (!fuzz_failed() &&
        (!kept_again || train_config_changes(kept, kept_again, c->n_stages, changes, sizeof changes)))
        abort();
    train_config_free(&again);
    json_decref(kept_again);
}

static void keep(const train_config *c) {
    char changes[60];
    json_t *kept = train_config_json(c);
    if (!kept && !fuzz_failed()) abort();
    if (!kept) return;
    char *text = json_dumps(kept, JSON_REAL_PRECISION(17));
    read_again(c, kept, text);
    train_config_changes(plain_json, kept, c->n_stages, changes, sizeof changes);
    json_decref(kept);
    free(text);
}

void fuzz_input(const uint8_t *data, size_t n) {
    train_config c;
    error err = {0};
    status s = train_config_parse(&c, "fuzz", (const char *)data, n, &err);
    if (s ? s != err.code || !*err.text : c.n_stages < 1 || c.n_stages > TRAIN_STAGES_MAX) abort();
    for (int i = 0; !s && i < c.n_stages; i++)
        if (c.stage[i].batch < 1 || c.stage[i].n_sizes < 1 || c.stage[i].sizes[0].W < 8) abort();
    if (!s) keep(&c);
    train_config_free(&c);
    status from_file = train_config_load(&c, fuzz_file(data, n), NULL);
    // in a file Infinity is null (js_load)
    if (from_file != s && !memmem(data, n, "Infinity", 8) && !fuzz_failed()) abort();
    train_config_free(&c);
    find_kind(data, n);
}
