// What a caption states, held against what the recogniser sees.
#pragma once
#include "assets/world/caption.h"
#include "assets/world/labels.h"

enum {
    SCORE_OBJECT, // every stated object is there
    SCORE_COLOUR, // and each has its colour
    SCORE_SIZE,
    SCORE_BACKGROUND,
    SCORE_LIGHT,
    SCORE_COUNT,
    SCORE_PLACE, // of one object, or the relation of two
    SCORE_ALL,   // all that is stated
    SCORES
};

extern const char *const SCORE_WORD[SCORES];

// 1 right, 0 wrong, −1 not stated.
typedef struct {
    int of[SCORES];
} score;

// Where the relation is not stated, or not the one that is seen, objects are paired as they fit best: "a star
// above a heart" shown with the heart above has right objects and a wrong relation.
score score_labels(const facts *f, const int seen[LABELS]);

// Sums over pictures.
typedef struct {
    int stated[SCORES], right[SCORES];
} score_sum;

void score_add(score_sum *sum, const score *s);
double score_share(const score_sum *sum, int row); // 0 where nothing was stated
