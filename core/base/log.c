#include "core/base/log.h"

#include <stdarg.h>
#include <stdio.h>

void log_put(const log_sink *sink, log_level level, const char *fmt, ...) {
    if (!sink || !sink->put || level > sink->level) return;
    char text[2001];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') *p = '?';
    sink->put(sink->user, level, text);
}
