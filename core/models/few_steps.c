#include "core/models/few_steps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_STEPS = 16 };

static const few_steps KINDS[] = {
    {"lightning", "Lightning", 4, 1, "EulerDiscreteScheduler", "trailing"},
    {"turbo", "Turbo", 4, 1, "EulerAncestralDiscreteScheduler", "trailing"},
    {"lcm", "LCM", 4, 1, "LCMScheduler", NULL},
    {"hyper", "Hyper", 8, 1, "DDIMScheduler", "trailing"},
};

// "XLTurboV2": a capital behind a small letter or before one begins a word.
static bool is_word(const char *text, const char *at, size_t n) {
    unsigned char before = at > text ? (unsigned char)at[-1] : 0, first = (unsigned char)at[0],
                  second = (unsigned char)at[1], last = (unsigned char)at[n - 1],
                  after = (unsigned char)at[n];
    bool begins = !isalpha(before) || (isupper(first) && (islower(before) || islower(second)));
    return begins && (!isalpha(after) || (islower(last) && isupper(after)));
}

static bool names(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *at = text; (at = strcasestr(at, word)); at++)
        if (is_word(text, at, n)) return true;
    return false;
}

static int steps_in(const char *text, int otherwise) {
    for (const char *at = text; (at = strcasestr(at, "step")); at++) {
        const char *digits = at;
        if (digits > text && strchr("-_ ", digits[-1])) digits--;
        while (digits > text && isdigit((unsigned char)digits[-1])) digits--;
        int n = atoi(digits);
        if (n >= 1 && n <= MAX_STEPS) return n;
    }
    return otherwise;
}

const few_steps *few_steps_find(const char *text, int *steps) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (!names(text, KINDS[i].word)) continue;
        *steps = steps_in(text, KINDS[i].steps);
        return &KINDS[i];
    }
    return NULL;
}
