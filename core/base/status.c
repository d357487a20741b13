#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

status fail(error *err, status code, const char *fmt, ...) {
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return err->code = code;
}

status fail_in(error *err, const char *fmt, ...) {
    if (!err) return ERR_INTERNAL;
    char place[sizeof err->text], text[sizeof err->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(place, sizeof place, fmt, ap);
    va_end(ap);
    memcpy(text, err->text, sizeof text);
    // A place longer than the buffer would push the text out; both halves keep their beginning.
    snprintf(err->text, sizeof err->text, "%.400s: %.590s", place, text);
    return err->code;
}
