// The recogniser: a small network that looks at a picture of the world and answers each question of labels.h.
//
// Strided convolutions and residual blocks shrink the picture to 8×8 tokens; three learned queries attend to
// them (attention pooling: Lee et al., Set Transformer, arXiv 1810.00825, §3.2): the first object, the second
// one and the scene. Two objects are answered by the same layers, so that what is learned of one place holds
// in the other.
#pragma once
#include "assets/world/labels.h"
#include "core/base/threads.h"
#include "core/graph/graph.h"

#include <stddef.h>

enum { RECOGNISER_LEVELS = 4 };

typedef struct {
    int side;                         // of pictures; a multiple of 2^RECOGNISER_LEVELS
    int64_t width[RECOGNISER_LEVELS]; // channels after each halving
    int groups;                       // of each norm
    int heads;                        // of the pooling
} recogniser_config;

// Of the weights in recogniser.safetensors.
extern const recogniser_config RECOGNISER_CONFIG;

// picture [B,side,side,3] from −1 to 1 → logits [B,recogniser_logits()] of g->exact: the classes of
// LABEL_HEAD, one head after the other.
node *recogniser_build(graph *g, const recogniser_config *c, node *picture);
int recogniser_logits(void);
int recogniser_offset(int head); // of its first class

// A recogniser with its weights, ready to look at pictures.
typedef struct recogniser recogniser;

// `path`: a .safetensors file. The team t (NULL: the calling thread) outlives it. NULL on failure.
recogniser *recogniser_open(const char *path, team *t, error *err);
void recogniser_free(recogniser *r); // NULL is fine
int recogniser_side(const recogniser *r);

// What it sees in n pictures. The second object's answers are −1 where it sees one object.
status recogniser_see(recogniser *r, const uint8_t *rgb /* [n,side,side,3] */, int n, int (*label)[LABELS],
                      error *err);
