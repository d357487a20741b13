#include "core/models/few_steps.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_STEPS = 16 };

// "XLTurboV2": a capital behind a small letter or before one begins a word.
static bool begins_word(const char *text, const char *at) {
    unsigned char before = at > text ? (unsigned char)at[-1] : 0, first = (unsigned char)at[0],
                  second = (unsigned char)at[1];
    return !isalpha(before) || (isupper(first) && (islower(before) || islower(second)));
}

static bool ends_word(const char *end) {
    unsigned char last = (unsigned char)end[-1], after = (unsigned char)end[0];
    return !isalpha(after) || (islower(last) && isupper(after));
}

// "4step", "8-steps", but not "v3-step0120", a moment of training. 0: none.
static int steps_in(const char *text) {
    for (const char *at = text; (at = strcasestr(at, "step")); at++) {
        const char *digits = at;
        if (isdigit((unsigned char)at[strlen("step")])) continue;
        if (digits > text && strchr("-_ ", digits[-1])) digits--;
        while (digits > text && isdigit((unsigned char)digits[-1])) digits--;
        int n = atoi(digits);
        if (n >= 1 && n <= MAX_STEPS) return n;
    }
    return 0;
}

// Ordinary names hold the word as well: "HyperRealistic", "hyper-realism".
static bool is_hyper(const char *text, const char *at, const char *end) {
    const char *next = *end && strchr("-_ ", *end) ? end + 1 : end;
    bool last = at > text && (!*end || *end == '.');
    return !strncasecmp(next, "sd", 2) || (ends_word(end) && (last || steps_in(text)));
}

// "lightning_storm": where it is the first of several words it may mean the weather. The models are SDXL's.
static bool is_lightning(const char *text, const char *at, const char *end) {
    bool first = at == text && *end && *end != '.';
    return ends_word(end) && (!first || steps_in(text) || strcasestr(text, "xl"));
}

static bool is_word(const char *text, const char *at, const char *end) {
    (void)text, (void)at;
    return ends_word(end);
}

static const struct {
    few_steps kind;
    bool (*meant)(const char *text, const char *at, const char *end);
} KINDS[] = {
    {{"lightning", "Lightning", 4, 1, "EulerDiscreteScheduler", "trailing"}, is_lightning},
    {{"turbo", "Turbo", 4, 1, "EulerAncestralDiscreteScheduler", "trailing"}, is_word},
    {{"lcm", "LCM", 4, 1, "LCMScheduler", NULL}, is_word},
    {{"hyper", "Hyper", 8, 1, "DDIMScheduler", "trailing"}, is_hyper},
};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

static bool names(const char *text, int i) {
    const char *word = KINDS[i].kind.word;
    for (const char *at = text; (at = strcasestr(at, word)); at++)
        if (begins_word(text, at) && KINDS[i].meant(text, at, at + strlen(word))) return true;
    return false;
}

const few_steps *few_steps_find(const char *text, int *steps) {
    for (int i = 0; i < N_KINDS; i++) {
        if (!names(text, i)) continue;
        int named = steps_in(text);
        *steps = named ? named : KINDS[i].kind.steps;
        return &KINDS[i].kind;
    }
    return NULL;
}
