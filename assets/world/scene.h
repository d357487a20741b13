// What is in a picture of talbot's world: one description from which the picture at any size, its label mask,
// its line drawing, its captions and the picture a moment later are all made.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum {
    KIND_CIRCLE,
    KIND_SQUARE,
    KIND_TRIANGLE,
    KIND_STAR,
    KIND_HEART,
    KIND_MOON,
    KIND_HOUSE,
    KIND_TREE,
    KIND_BOAT,
    KIND_BALLOON,
    KINDS
};
enum {
    COLOUR_RED,
    COLOUR_ORANGE,
    COLOUR_YELLOW,
    COLOUR_GREEN,
    COLOUR_BLUE,
    COLOUR_PURPLE,
    COLOUR_PINK,
    COLOUR_BROWN,
    COLOUR_WHITE,
    COLOUR_BLACK,
    COLOURS
};
enum { SIZE_SMALL, SIZE_MEDIUM, SIZE_BIG, SIZES };
enum { MOTION_DRIFT, MOTION_RISE, MOTION_GROW, MOTION_TURN, MOTIONS };
// The first seven backgrounds are plain; black and white are exactly 0 and 1 and have no light of their own.
enum {
    BG_BLACK,
    BG_WHITE,
    BG_GRAY,
    BG_BLUE,
    BG_YELLOW,
    BG_PINK,
    BG_GREEN,
    BG_NIGHT,
    BG_SUNSET,
    BG_SEA,
    BG_HILLS,
    BACKGROUNDS
};
enum { LIGHT_PLAIN, LIGHT_DARK, LIGHT_BRIGHT, LIGHTS };
// Where one object stands, or how the first of two stands to the second.
enum {
    LAYOUT_LEFT,
    LAYOUT_CENTER,
    LAYOUT_RIGHT,
    LAYOUT_UNDER,
    LAYOUT_ABOVE,
    LAYOUT_LEFT_OF,
    LAYOUT_RIGHT_OF,
    LAYOUTS
};

// Positions are shares of the width and height from the top left corner, the radius is a share of the shorter
// side: a figure fits in the circle's bounding square, give or take its outline.
typedef struct {
    int kind, colour, size, motion;
    float x, y, radius;
    float angle;   // radians, clockwise
    float heading; // −1 or 1: which way it drifts and turns
} scene_object;

typedef struct {
    int background, light, layout;
    int count;               // 1 or 2; always 1 for LAYOUT_LEFT … LAYOUT_RIGHT
    scene_object objects[2]; // the first is the subject of the caption and stands in front
    uint64_t seed;           // of what no caption tells: stars, clouds, the run of a hill
    double time;             // 0 as sampled
} scene;

// Training pictures never show the ten held-out (kind, colour) pairs, nor the held-out combinations: one in
// eight of (objects, their relation, background), by a hash, plus the demo's prompt. Each scene belongs to
// exactly one split.
typedef enum {
    SPLIT_TRAIN,
    SPLIT_HELD,  // a held-out combination of pairs that training shows
    SPLIT_PAIRS, // at least one held-out pair
    SPLITS
} split;

typedef struct {
    split split;
    int count; // 1 or 2 objects; 0 for both in the world's own proportion
} scene_choice;

// The `index`-th scene of `seed`: a pure function of its arguments.
scene scene_sample(uint64_t seed, uint64_t index, scene_choice choice);
split scene_split(const scene *s);
// The scene told from its other object ("a under b" becomes "b above a"); one object stays as it is.
scene scene_reversed(const scene *s);
// Told from the lower or left object ("under", "left of"), so that both tellings of one scene compare equal.
scene scene_canonical(const scene *s);
// The scene at time t in [0, 1]: each object has drifted, risen, grown or turned, and still fits the picture.
scene scene_at(const scene *s, double t);
bool scene_is_pair(int layout);
bool kind_colour_held(int kind, int colour);

extern const char *const KIND_WORD[KINDS],
    *const COLOUR_WORD[COLOURS], *const SIZE_WORD[SIZES], *const MOTION_WORD[MOTIONS],
                                                              *const BACKGROUND_WORD[BACKGROUNDS],
                                                                  *const LIGHT_WORD[LIGHTS],
                                                                      *const LAYOUT_WORD[LAYOUTS],
                                                                          *const SPLIT_WORD[SPLITS];
