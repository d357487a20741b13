// Pictures of 8 bits per channel: reading PNG, JPEG, WebP, BMP and TGA, writing PNG, JPEG and WebP with the
// texts that describe how they were made, and resizing exactly as Pillow does.
//
// Colours are taken as they are: profiles and gamma are ignored, and so is the orientation that a camera
// writes into Exif. 16-bit PNG is reduced to 8. Animations and CMYK are refused.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { IMAGE_MAX_SIDE = 16384, IMAGE_MAX_PIXELS = 256 << 20, IMAGE_MAX_FILE = 512 << 20 };

// h rows of w pixels of c bytes, no padding. c: 1 grey, 3 RGB, 4 RGB and straight alpha.
typedef struct {
    int w, h, c;
    uint8_t *px; // mem_free
} image;

typedef enum { IMAGE_PNG, IMAGE_JPEG, IMAGE_WEBP } image_format;

// A keyword and its UTF-8 text: "parameters", ...
typedef struct {
    const char *key, *text;
} image_text;

// Whether a picture may be that large.
bool image_fits(int64_t w, int64_t h);
// Not cleared. ERR_DATA beyond the limits above.
status image_alloc(image *im, int w, int h, int c, error *err);
void image_free(image *im);

// The format is told from the content. Limits are checked before anything is decoded. `name` is for messages.
status image_decode(const void *file, size_t n, const char *name, image *im, error *err);
status image_load(const char *path, image *im, error *err);

// 1, 3 or 4 channels from any other number: alpha is dropped (or made opaque), grey is repeated, colour
// becomes luma as Pillow's "L" (ITU-R 601).
status image_channels(const image *im, int c, image *dst, error *err);

// How to write. PNG takes all texts (tEXt if Latin-1, else iTXt); JPEG and WebP have two places in Exif: the
// UserComment gets the first text, the ImageDescription the second if it is JSON. The same input gives the
// same bytes.
typedef struct {
    image_format format;
    int quality; // 1 to 100 for JPEG and WebP; 0: 95 for JPEG, lossless for WebP
    const image_text *texts;
    size_t n_texts;
} image_options;

// *file is freed with mem_free. JPEG drops alpha.
status image_encode(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err);
// The format that a file name's extension stands for: png, jpg, jpeg, webp, in any case.
status image_format_of(const char *path, image_format *f, error *err);
// o->format is replaced by image_format_of(path); the file appears whole or not at all (fs.h).
status image_save(const char *path, const image *im, const image_options *o, bool overwrite, error *err);

// The texts of a PNG (tEXt, zTXt, iTXt) in file order, or those of a JPEG's or WebP's Exif block, the
// UserComment under that key. Zero texts are no error. Free with image_texts_free.
typedef struct {
    image_text *at;
    size_t n;
} image_texts;
status image_read_texts(const void *file, size_t n, const char *name, image_texts *texts, error *err);
void image_texts_free(image_texts *texts);

// Resampling with antialiasing: the same bytes as Pillow's Image.resize gives for modes L, RGB and RGBA.
typedef enum { RESIZE_BOX, RESIZE_BILINEAR, RESIZE_BICUBIC, RESIZE_LANCZOS } resize_filter;
status image_resize(const image *im, int w, int h, resize_filter filter, image *dst, error *err);
