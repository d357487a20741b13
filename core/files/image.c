#include "core/files/image.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/image_formats.h"

#include <string.h>
#include <strings.h>

bool image_fits(int64_t w, int64_t h) {
    return w >= 1 && h >= 1 && w <= IMAGE_MAX_SIDE && h <= IMAGE_MAX_SIDE && w * h <= IMAGE_MAX_PIXELS;
}

status image_alloc(image *im, int w, int h, int c, error *err) {
    *im = (image){0};
    if (!image_fits(w, h))
        return fail(err, ERR_DATA, "picture of %d x %d pixels: outside 1 to %d a side and %d in all", w, h,
                    IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    *im = (image){w, h, c, mem_alloc((size_t)w * (size_t)h * (size_t)c)};
    return im->px ? OK : fail(err, ERR_TEMP, "out of memory for a picture of %d x %d pixels", w, h);
}

void image_free(image *im) {
    mem_free(im->px);
    *im = (image){0};
}

// ---------------------------------------------------------------- formats

static bool is_png(const uint8_t *f, size_t n) { return n >= 8 && !memcmp(f, "\x89PNG\r\n\x1a\n", 8); }
static bool is_jpeg(const uint8_t *f, size_t n) { return n >= 3 && !memcmp(f, "\xff\xd8\xff", 3); }
static bool is_webp(const uint8_t *f, size_t n) {
    return n >= 12 && !memcmp(f, "RIFF", 4) && !memcmp(f + 8, "WEBP", 4);
}

static const struct {
    bool (*is)(const uint8_t *file, size_t n);
    image_decoder *decode;
    image_text_reader *read_texts; // NULL: the format has no texts
} READERS[] = {
    {is_png, png_decode, png_read_texts},
    {is_jpeg, jpeg_decode, jpeg_read_texts},
    {is_webp, webp_decode, webp_read_texts},
    {bmp_or_tga, stb_decode, NULL},
};

// The row of READERS, or -1.
static int sniff(const void *file, size_t n, const char *name, error *err) {
    for (int i = 0; i < (int)(sizeof READERS / sizeof *READERS); i++)
        if (READERS[i].is(file, n)) return i;
    fail(err, ERR_DATA, "%s: not a PNG, JPEG, WebP, BMP or TGA picture", name);
    return -1;
}

status image_decode(const void *file, size_t n, const char *name, image *im, error *err) {
    *im = (image){0};
    int r = sniff(file, n, name, err);
    if (r < 0) return ERR_DATA;
    status s = READERS[r].decode(file, n, name, im, err);
    if (s) image_free(im);
    return s;
}

status image_load(const char *path, image *im, error *err) {
    char *file;
    size_t n;
    *im = (image){0};
    status s = fs_read_file(path, IMAGE_MAX_FILE, &file, &n, err);
    if (s) return s;
    s = image_decode(file, n, path, im, err);
    mem_free(file);
    return s;
}

status image_read_texts(const void *file, size_t n, const char *name, image_texts *texts, error *err) {
    *texts = (image_texts){0};
    int r = sniff(file, n, name, err);
    if (r < 0) return ERR_DATA;
    status s = READERS[r].read_texts ? READERS[r].read_texts(file, n, name, texts, err) : OK;
    if (s) image_texts_free(texts);
    return s;
}

status image_texts_add(image_texts *texts, const char *name, const char *key, const char *text, error *err) {
    image_text *grown = mem_realloc(texts->at, texts->n + 1, sizeof *grown);
    if (grown) {
        texts->at = grown;
        grown[texts->n++] = (image_text){mem_strdup(key), mem_strdup(text)};
        if (grown[texts->n - 1].key && grown[texts->n - 1].text) return OK;
    }
    return fail(err, ERR_TEMP, "%s: out of memory", name);
}

void image_texts_free(image_texts *texts) {
    for (size_t i = 0; i < texts->n; i++) {
        mem_free((char *)texts->at[i].key);
        mem_free((char *)texts->at[i].text);
    }
    mem_free(texts->at);
    *texts = (image_texts){0};
}

status image_format_of(const char *path, image_format *f, error *err) {
    static const struct {
        const char *extension;
        image_format format;
    } KNOWN[] = {{"png", IMAGE_PNG}, {"jpg", IMAGE_JPEG}, {"jpeg", IMAGE_JPEG}, {"webp", IMAGE_WEBP}};
    const char *e = fs_extension(path);
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!strcasecmp(e, KNOWN[i].extension)) {
            *f = KNOWN[i].format;
            return OK;
        }
    return fail(err, ERR_USAGE, "%s: the name must end in .png, .jpg, .jpeg or .webp", path);
}

status image_encode(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err) {
    static image_encoder *const ENCODERS[] = {png_encode, jpeg_encode, webp_encode};
    *file = NULL;
    *n = 0;
    for (size_t i = 0; i < o->n_texts; i++)
        if (!text_is_utf8(o->texts[i].key) || !text_is_utf8(o->texts[i].text))
            return fail(err, ERR_DATA, "the text to store in the picture is not UTF-8");
    return ENCODERS[o->format](im, o, file, n, err);
}

status image_save(const char *path, const image *im, const image_options *o, bool overwrite, error *err) {
    image_options with = *o;
    uint8_t *file;
    size_t n;
    status s = image_format_of(path, &with.format, err);
    if (s) return s;
    if ((s = image_encode(im, &with, &file, &n, err))) return fail_in(err, "%s", path);
    s = fs_write_atomic(path, file, n, overwrite, err);
    mem_free(file);
    return s;
}

// ---------------------------------------------------------------- channels

// ITU-R 601 luma in 16-bit fixed point, as Pillow rounds it.
static uint8_t luma(const uint8_t *p) {
    return (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000u) >> 16);
}

status image_channels(const image *im, int c, image *dst, error *err) {
    status s = image_alloc(dst, im->w, im->h, c, err);
    if (s) return s;
    size_t n = (size_t)im->w * (size_t)im->h;
    const uint8_t *from = im->px;
    uint8_t *to = dst->px;
    for (size_t i = 0; i < n; i++, from += im->c, to += c) {
        bool colour = im->c >= 3;
        if (c == 1)
            to[0] = colour ? luma(from) : from[0];
        else
            for (int k = 0; k < 3; k++) to[k] = from[colour ? k : 0];
        if (c == 4) to[3] = im->c == 4 ? from[3] : 255;
    }
    return OK;
}
