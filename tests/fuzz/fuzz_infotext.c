// Fuzz target: what A1111 writes into its pictures, read into options.
#include "cli/infotext.h"
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

void fuzz_input(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return;
    memcpy(text, data, size);
    text[size] = 0;
    json_t *j = infotext_read(text);
    if (j) check(j);
    json_decref(j);
    free(text);
}
