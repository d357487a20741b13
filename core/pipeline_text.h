// The texts of a picture: what its prompts say at each step, and what the text encoders make of it.
#pragma once
#include "core/models/model.h"
#include "core/models/prompt.h"

struct calo_model;

// How prompts are read, for all pictures of a request.
typedef struct {
    struct calo_model *model;
    dtype compute;
    emphasis how;
    int clip_skip;     // 0: as the model was trained
    int steps, before; // of this pass, of the one before it
    int first, end;    // at steps first .. end - 1 they are read
    bool guided;       // the negative prompt is read too
} text_rules;

// One text of a picture, encoded.
typedef struct {
    char *text;     // NULL: features of zeros, what SDXL models take for no negative prompt
    int rows;       // of tokens
    float *context; // [rows,T,E], features of all encoders side by side
    float *pooled;  // [P], of the last encoder's first row
} prompt_text;

// The different texts of one picture, and which of them count when. The empty text is among them where others
// are made longer or weighed with it.
typedef struct {
    int64_t T, E, P; // tokens of a row, features, pooled features
    prompt_text *texts;
    int n, room, empty; // empty: -1 if not needed
    int (*at)[2];       // [steps]: negative and positive prompt of each step that reads them
    bool guided;
} picture_prompt;

// ERR_USAGE says what of the prompts or the clip skip is out of range, ERR_DATA where text and UNet do not
// fit. `negative` NULL: none, which is not the same as "" to some models. Free with picture_prompt_free in
// any case. Nothing is computed yet.
status picture_prompt_plan(const text_rules *rules, const char *prompt, const char *negative,
                           picture_prompt *p, error *err);
status picture_prompt_encode(const text_rules *rules, picture_prompt *p, error *err);
void picture_prompt_free(picture_prompt *p);

// Tokens that the UNet reads at a step: of both prompts as many as the longer one has.
int64_t picture_prompt_tokens(const picture_prompt *p, int step);
bool picture_prompt_same(const picture_prompt *p, int a, int b); // whether two steps read the same texts
// The features of the negative (row 0) or positive (1) prompt at a step, [tokens,E]. The shorter one is
// repeated, which attention does not see; where it would not end together with the longer one, rows of the
// empty prompt are added to it before.
void picture_prompt_context(const picture_prompt *p, int step, int row, float *dst);
const float *picture_prompt_pooled(const picture_prompt *p, int step, int row);
