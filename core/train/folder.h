// A folder of images with captions as a source of samples.
//
// Captions: `metadata.jsonl`, if there is one, lists the images, one JSON object a line with "file_name" (a
// path below the folder) and "text" (or "caption"). Otherwise each .png, .jpg, .jpeg, .webp, .bmp or .tga
// file of the folder itself is a sample, and name.txt beside name.png its caption (white space at both ends
// dropped).
//
// Buckets: an image goes to the size whose aspect ratio is nearest to its own, measured as |log ratio|; a tie
// goes to the earlier size. It is resized (Lanczos) until it just covers that size, and what stands over is
// cut off evenly at both sides. Transparent parts lie on white.
//
// A bad image or a missing caption is an error that names the file, or skipped where `skip_bad` says so: then
// `skipped` counts them and `first_skipped` tells the first. All images are opened once to know their sizes;
// one that breaks later (or shrinks) is an error.
#pragma once
#include "core/base/log.h"
#include "core/train/source.h"

#include <stdbool.h>

typedef struct {
    const source_size *sizes; // buckets
    int n_sizes;
    bool captions; // whether they are needed
    bool skip_bad;
    const log_sink *log; // told about skipped files; may be NULL
} folder_options;

// ERR_NOINPUT without the folder, ERR_DATA for what is in it. Free with source_free.
status folder_open(const char *path, const folder_options *o, sample_source *source, error *err);
