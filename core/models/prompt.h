// Prompts as A1111's users write them, turned into rows of tokens with weights.
//
//     (a) ×1.1   (a:1.3) ×1.3   [a] ÷1.1   nested: the product        \( \) \[ \] \\ the character itself
//     a BREAK b  b begins a new row
//     [a:b:0.4]  a, then b after 0.4 of the steps; [a:b:12] after step 12; [a:12] adds a then, [a::12] ends
//     it [a|b|c]    another one at each step
//
// Brackets that do not fit together, and what is no number where a number should be, are text.
#pragma once
#include "core/models/tokenizer.h"

#include <stdbool.h>

enum {
    PROMPT_MAX = 1 << 16,     // bytes
    PROMPT_MAX_DEPTH = 100,   // open brackets
    PROMPT_MAX_WEIGHT = 1000, // of either sign
    PROMPT_MAX_ROWS = 64,
    PROMPT_BACKTRACK = 20 // tokens
};

// How weights change what the text encoder says. ORIGINAL: features times the weight, then all of a row
// scaled so that its mean is the old one. NO_NORM: without the scaling. COMFY: away from the empty prompt's
// features. NONE: prompts are plain text, of which the first row counts, as in diffusers.
typedef enum { EMPHASIS_ORIGINAL, EMPHASIS_NO_NORM, EMPHASIS_COMFY, EMPHASIS_NONE } emphasis;

// ---- 1. editing

// The text for step 0 .. steps - 1, without the editing brackets. As in A1111 "after step n" is before step
// n + 1 of those counted from 0, and an alternation shows its first text in steps 0 and 1. In the second pass
// of a picture whose first had `before` steps (else 0), numbers of steps count from the first one's on, and
// its shares go from 1 to 2. *edited: another step may have another text. mem_free(*out). ERR_USAGE beyond
// the limits.
status prompt_at_step(const char *text, int step, int steps, int before, char **out, bool *edited,
                      error *err);

// ---- 2. weights

typedef struct {
    const char *text; // not terminated
    size_t len;       // bytes, > 0 but in a break
    double weight;
    bool is_break;
} prompt_part;

typedef struct {
    char *text; // what the parts point into
    prompt_part *at;
    size_t n;
} prompt_parts;

// Neighbours have different weights. ERR_USAGE beyond the limits. Free with prompt_parts_free in any case.
status prompt_parse(const char *text, prompt_parts *p, error *err);
void prompt_parts_free(prompt_parts *p);

// ---- 3. tokens

typedef struct {
    int n;          // rows, at least 1
    int32_t *ids;   // [n,T]: start, tokens, end, padding, T = the vocabulary's max_length
    float *weights; // [n,T]
    bool weighted;  // one of them is not 1
} prompt_rows;

// Rows are filled to the end; but where the last comma is at most PROMPT_BACKTRACK tokens back, what follows
// it moves to the next row, as in A1111. Free with prompt_rows_free in any case.
status prompt_rows_make(const tokenizer *t, const char *text, emphasis how, prompt_rows *r, error *err);
void prompt_rows_free(prompt_rows *r);

// ---- 4. emphasis

// x: features of a row, [T,E] at `stride` floats from token to token; so is `empty`, the empty prompt's,
// which only EMPHASIS_COMFY reads.
void prompt_weigh(emphasis how, float *x, const float *empty, int64_t stride, const float *weights, int64_t T,
                  int64_t E);
