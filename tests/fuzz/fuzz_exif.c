// libFuzzer: the Exif block of a JPEG or WebP picture.
#include "core/files/image_formats.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    image_texts texts = {0};
    error err = {0};
    if (exif_texts(data, n, "fuzz", &texts, &err)) abort();
    for (size_t i = 0; i < texts.n; i++)
        if (!text_is_utf8(texts.at[i].key) || !text_is_utf8(texts.at[i].text)) abort();
    image_texts_free(&texts);
    return 0;
}
