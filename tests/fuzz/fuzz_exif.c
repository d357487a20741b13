// libFuzzer: the Exif block of a JPEG or WebP picture.
#include "core/base/mem.h"
#include "core/files/image_formats.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *comment = NULL;
    error err = {0};
    if (exif_comment(data, n, &comment, &err) || (comment && !text_is_utf8(comment))) abort();
    mem_free(comment);
    return 0;
}
