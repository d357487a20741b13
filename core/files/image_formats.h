// What image.c needs from each format; one file implements each pair. Private to core/files.
#pragma once
#include "core/files/image.h"

#include <stdbool.h>

typedef status image_decoder(const uint8_t *file, size_t n, const char *name, image *im, error *err);
typedef status image_encoder(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err);
typedef status image_text_reader(const uint8_t *file, size_t n, const char *name, image_texts *texts,
                                 error *err);

image_decoder png_decode, jpeg_decode, webp_decode;
image_decoder stb_decode; // BMP, TGA
image_encoder png_encode, jpeg_encode, webp_encode;
image_text_reader png_read_texts, jpeg_read_texts, webp_read_texts;

bool bmp_or_tga(const uint8_t *file, size_t n); // TGA has no signature: asked last

// Copies both strings. On failure the caller frees what is there already.
status image_texts_add(image_texts *texts, const char *name, const char *key, const char *text, error *err);

// Latin-1 and UTF-8: new strings, mem_free; NULL when memory is short. Only a text that is Latin-1 may be
// asked for as Latin-1.
char *latin1_to_utf8(const char *text);
char *latin1_from_utf8(const char *text);
bool text_is_latin1(const char *text); // UTF-8 of characters up to U+00FF

// An Exif block (a big-endian TIFF structure without the "Exif\0\0" of JPEG): the first text as UserComment,
// and the second, if it is JSON, as ImageDescription "key:{...}", the way in which ComfyUI keeps its
// workflow.
status exif_build(const image_text *texts, size_t n_texts, uint8_t **block, size_t *n, error *err);
// Adds the UserComment of a block, with or without "Exif\0\0", under that key, and what ImageDescription,
// Make and Model hold as "key:{...}". A damaged block adds nothing.
status exif_texts(const uint8_t *block, size_t n, const char *name, image_texts *texts, error *err);
