#include "cli/text.h"

#include <string.h>

int text_control(const char *p) {
    const unsigned char *u = (const unsigned char *)p;
    if (*u < 0x20 || *u == 0x7f) return *u != 0;
    return *u == 0xc2 && u[1] >= 0x80 && u[1] < 0xa0 ? 2 : 0;
}

void text_tame(char *text) {
    for (int n; *text; text += n ? n : 1) {
        n = text_control(text);
        memset(text, '?', (size_t)n);
    }
}

void text_print(FILE *to, const char *text) {
    for (int n; *text; text += n ? n : 1) {
        n = text_control(text);
        fputc(n && *text != '\n' && *text != '\t' ? '?' : *text, to);
    }
}
