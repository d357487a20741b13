// How good the recogniser itself is, on scenes that it never saw: a weak meter measures nothing.
#pragma once
#include "assets/world/autoencoder.h"
#include "assets/world/recogniser.h"

enum {
    METER_COUNT,
    METER_LAYOUT,
    METER_BACKGROUND,
    METER_LIGHT,
    METER_KIND, // of all objects, colour and size too
    METER_COLOUR,
    METER_SIZE,
    METER_SCENE, // every question about a scene
    METER_ROWS
};

extern const char *const METER_WORD[METER_ROWS];

typedef struct {
    int asked[METER_ROWS], right[METER_ROWS];
} meter;

// How the scenes reach it.
typedef struct {
    int drawn;            // pixels; brought to the recogniser's size afterwards
    autoencoder *through; // of side `drawn`, or NULL
    team *t;              // draws; may be NULL
} meter_view;

// Scenes 0 … n − 1 of a seed that training does not use, from all splits in turn.
status meter_read(recogniser *r, const meter_view *view, int n, meter *out, error *err);
double meter_share(const meter *m, int row);
// At least 98 % of each question and 95 % of whole scenes.
bool meter_is_good(const meter *m);
