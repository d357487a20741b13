// Fuzz target: what other programs write into their pictures, read into options.
#include "cli/infotext.h"
#include "cli/metadata.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void fuzz_start(void) {}

// Text that is no UTF-8 has no prompt: those who read it refuse that.
static void check(const json_t *j) {
    json_t *prompt = json_object_get(j, "prompt");
    if (prompt && !json_is_string(prompt)) abort();
    if (!json_object_get(j, "format") && !fuzz_failed()) abort();
}

// The same text under each keyword that is read.
static void read_json(const char *text) {
    static const char *const KEYS[] = {"invokeai_metadata", "parameters", "prompt"};
    for (size_t i = 0; i < sizeof KEYS / sizeof *KEYS; i++) {
        char why[METADATA_WHY];
        json_t *texts = json_pack("{s:s?}", KEYS[i], text), *j = texts ? metadata_read(texts, why) : NULL;
        if (j) check(j);
        json_decref(j);
        json_decref(texts);
    }
}

void fuzz_input(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return;
    memcpy(text, data, size);
    text[size] = 0;
    json_t *j = infotext_read(text);
    if (j) check(j);
    json_decref(j);
    if (*text == '{' || strstr(text, "SDCPP")) read_json(text);
    free(text);
}
