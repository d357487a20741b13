// A scene as class numbers, one for each question that a recogniser answers, and back. Pairs are told from
// the lower or the left object, so that a picture has one right answer.
#pragma once
#include "assets/world/caption.h"
#include "assets/world/scene.h"

enum {
    LABEL_COUNT, // 0 one object, 1 two
    LABEL_LAYOUT,
    LABEL_BACKGROUND,
    LABEL_LIGHT,
    LABEL_KIND, // of the first object, colour and size next to it
    LABEL_COLOUR,
    LABEL_SIZE,
    LABEL_OTHER_KIND, // of the second; −1 where there is none
    LABEL_OTHER_COLOUR,
    LABEL_OTHER_SIZE,
    LABELS
};

typedef struct {
    const char *name;
    int classes;
    const char *const *word; // [classes]
} label_head;

// LABEL_LAYOUT has LAYOUT_LEFT … LAYOUT_UNDER as they are and LAYOUT_LEFT_OF as the last of its five classes.
extern const label_head LABEL_HEAD[LABELS];

void labels_of_scene(const scene *s, int label[LABELS]);
// What a caption leaves open is −1: to be compared with what a recogniser sees, question by question. Any
// pair without a stated relation keeps the caption's order.
void labels_of_facts(const facts *f, int label[LABELS]);
