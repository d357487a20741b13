// The picture and the mask that a request begins with: made as large as what is drawn, and put back together
// with what was drawn.
#pragma once
#include "core/calotype.h"
#include "core/files/image.h"

typedef struct {
    int x, y, w, h;
} rectangle;

typedef struct {
    image whole;        // RGB, what the finished picture shows where nothing was drawn; empty: no picture
    image mask;         // grey, as large, blurred: 255 is drawn, 0 is kept; empty: no mask
    rectangle part;     // of `whole` that is drawn
    int width, height;  // of what is drawn
    image drawn;        // RGB, that part at this size, filled as asked for: what the encoder sees
    float *latent_mask; // [height/f,width/f], 1: drawn; NULL without a mask
    image hidden;       // grey, the part of the mask at this size
} beginning;

// ERR_USAGE names what of the request is out of range.
status beginning_check(const calo_txt2img_request *r, error *err);
// The size of the picture and its outpainted borders, of which those at the right and at the bottom grow
// until both sides are multiples of f: a picture with borders keeps its pixels.
void beginning_size(const calo_txt2img_request *r, int f, int *w, int *h);
// For a request that was checked. width, height: multiples of f. Free with
// beginning_free in any case.
status beginning_make(beginning *b, const calo_txt2img_request *r, int width, int height, int f, error *err);
void beginning_free(beginning *b);

// rgb: what was drawn, [height,width,3]. out: the finished picture, as large as `whole`, whose bytes are
// those of `whole` where the mask is 0.
status beginning_finish(const beginning *b, const uint8_t *rgb, uint8_t *out, error *err);
