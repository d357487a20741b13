// libFuzzer: the Exif block of a JPEG or WebP picture; and any bytes as a text that goes into one.
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/image_formats.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

void fuzz_start(void) {}

static void read_block(const uint8_t *data, size_t n, image_texts *texts) {
    error err = {0};
    *texts = (image_texts){0};
    if (exif_texts(data, n, "fuzz", texts, &err) && !fuzz_failed()) abort();
    for (size_t i = 0; i < texts->n; i++)
        if (texts->at[i].key && texts->at[i].text &&
            (!text_is_utf8(texts->at[i].key) || !text_is_utf8(texts->at[i].text)))
            abort();
}

// UTF-16 keeps a text, unless it begins like a byte order mark.
static bool keeps(const char *text) {
    return memcmp(text, "\xef\xbb\xbf", 3) && memcmp(text, "\xef\xbf\xbe", 3);
}

static void build_and_read(const image_text *texts, size_t n_texts) {
    uint8_t *block;
    size_t n;
    error err = {0};
    image_texts again;
    status s = exif_build(texts, n_texts, &block, &n, &err);
    if (s && s != err.code) abort();
    if (s && text_is_utf8(texts[0].text) && !fuzz_failed()) abort();
    if (s) return;
    read_block(block, n, &again);
    if (!fuzz_failed() && (!again.n || (keeps(texts[0].text) && strcmp(again.at[0].text, texts[0].text))))
        abort();
    image_texts_free(&again);
    mem_free(block);
}

void fuzz_input(const uint8_t *data, size_t n) {
    image_texts texts;
    char *text = malloc(n + 3), *json = malloc(n + 3);
    if (!text || !json) { // on request
        free(text);
        free(json);
        return;
    }
    memcpy(text, data, n);
    memset(text + n, 0, 3);
    json[0] = '{';
    memcpy(json + 1, text, n + 2);
    read_block(data, n, &texts);
    image_texts_free(&texts);
    build_and_read(&(image_text){"parameters", text}, 1);
    build_and_read((image_text[]){{"parameters", text}, {"workflow", json}}, 2);
    if (text_is_latin1(text)) mem_free(latin1_from_utf8(text));
    free(text);
    free(json);
}
