#include "core/base/text.h"

#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

bool text_is_utf8(const char *text) {
    const uint8_t *p = (const uint8_t *)text;
    utf8proc_int32_t c;
    for (utf8proc_ssize_t n; *p; p += n)
        if ((n = utf8proc_iterate(p, -1, &c)) < 1) return false;
    return true;
}

bool text_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}
