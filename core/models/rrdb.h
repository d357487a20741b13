// Networks that enlarge pictures: residual-in-residual dense blocks, which ESRGAN (Wang et al., arXiv
// 1809.00219) and Real-ESRGAN (Wang et al., arXiv 2107.10833) are made of, and the latter's small
// SRVGGNetCompact, a chain of convolutions. Files have no configuration: shapes tell it.
#pragma once
#include "core/files/weights_file.h"
#include "core/graph/graph.h"

typedef struct {
    bool compact;             // SRVGGNetCompact
    int64_t features, growth; // channels between the blocks; that a convolution of a dense block adds
    int blocks;               // of three dense blocks each; of a compact network: activated convolutions
    int doublings;            // nearest neighbours and a convolution at the end
    int unshuffle;            // side of the squares of pixels that are the channels of one input pixel
    int scale;                // of the picture's sides, by all of it: 1 to 8
} rrdb_config;

// ERR_DATA when the files hold no such network, or one that is too strange to be built. `names` finds its
// tensors (weights_file_of); what is missing or has another shape is for weights_check to say.
status rrdb_recognise(const model_files *files, rrdb_config *c, file_names *names, error *err);
// How many tensors it has.
size_t rrdb_tensors(const rrdb_config *c);

int64_t rrdb_in_channels(const rrdb_config *c);
// sample [B,H,W,in channels] of values 0 to 1, of u·H × u·W pixels: channel (c·u + y)·u + x of an input pixel
// is pixel (y, x) of a square's colour c, u = unshuffle → [B,H·2^doublings,W·2^doublings,3] of g->exact. Of a
// compact network [B,H,W,3·scale²], squares of pixels in the same order, to be added to the enlarged picture.
node *rrdb_build(graph *g, const rrdb_config *c, node *sample);
