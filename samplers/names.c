#include "samplers/names.h"

#include <ctype.h>
#include <string.h>

int name_plain(const char *s, char out[MAX_NAME]) {
    int n = 0;
    for (; *s && *s != ','; s++) {
        if (strchr(" _-", *s)) continue;
        if (n == MAX_NAME - 1) return -1;
        out[n++] = *s == '+' ? 'p' : (char)tolower((unsigned char)*s);
    }
    out[n] = 0;
    return n;
}

bool name_listed(const char *names, const char *plain) {
    for (; names; names = strchr(names, ',')) {
        char entry[MAX_NAME];
        if (*names == ',') names++;
        if (name_plain(names, entry) > 0 && !strcmp(entry, plain)) return true;
    }
    return false;
}
