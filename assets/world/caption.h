// The sentences of the world: written from a scene, whole or with parts left out, and read back as the facts
// they state. The grammar (words in brackets may be missing; equal words stand in any place of each other):
//
//   caption  = figures [ground]
//   figures  = figure [place] | figure relation figure
//   figure   = ("a" | "an") [size] [colour] kind [motion]
//   size     = "small" "little" | "big" "large"                     (medium is read, never written)
//   motion   = "drifting" | "rising" | "growing" | "turning"
//   place    = "on the left" | "in the center" "in the middle" | "on the right"
//   relation = "under" "below" | "above" "over" | "[to the] left of" | "[to the] right of" | "and"
//   ground   = "on a" [light] plain "background" | "at night" | "on a" light "night" | "at sunset"
//            | "at a" light "sunset" | "on the sea" | "on a" light "sea" | "in the hills" | "in" light
//            "hills"
//   light    = "dark" | "bright"
//   plain    = "black" | "white" | "gray" "grey" | "blue" | "yellow" | "pink" | "green"
#pragma once
#include "assets/world/dice.h"
#include "assets/world/scene.h"
#include "core/base/status.h"

#include <stddef.h>

enum { CAPTION_SIZE = 160 }; // bytes that hold any caption, the final zero included

typedef struct {
    double leave_out; // chance that a size or a place is left out; other parts are left out more rarely
    double synonym;   // chance of the other of two equal words
    bool motion;      // tells how things move
} caption_style;

// `d` may be NULL when both chances are 0.
void caption_write(const scene *s, caption_style style, dice *d, char text[CAPTION_SIZE]);
// Everything that the picture shows, in the first of equal words.
void caption_full(const scene *s, char text[CAPTION_SIZE]);

// What a caption states; −1 stands for what it leaves open. A figure without a size word is of any size.
typedef struct {
    int kind, colour, size, motion;
} stated_object;

typedef struct {
    int count;
    stated_object objects[2];
    int layout;            // of any pair: −1 after "and"
    int background, light; // a ground without a light word states LIGHT_PLAIN
} facts;

// ERR_DATA, naming the word, for what is no caption of the grammar. Upper case, commas and full stops are
// fine.
status caption_parse(const char *text, facts *out, error *err);
// Whether the scene is as stated, from whichever object it is told.
bool facts_hold(const facts *f, const scene *s);

enum { GRAMMAR_WORDS_MAX = 64 };
// All words of the grammar, each once; returns how many. Their order decides the ids of the tokenizer: new
// words go last.
int grammar_words(const char *words[GRAMMAR_WORDS_MAX]);
