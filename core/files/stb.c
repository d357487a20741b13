// BMP and TGA through stb_image, which its author does not offer for hostile input: sizes are checked first,
// its memory is cleared, and it reads through a callback that notices the end of the file.
#include "core/base/mem.h"
#include "core/files/image_formats.h"

#include <string.h>

// Not restored: the compiler reports stb's unused functions at the end of the file.
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wundef"
#pragma GCC diagnostic ignored "-Wtype-limits"
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_BMP
#define STBI_ONLY_TGA
#define STBI_NO_STDIO
#define STBI_ASSERT(x) ((void)0)
#define STBI_MAX_DIMENSIONS IMAGE_MAX_SIDE
#define STBI_MALLOC(n) mem_calloc(n, 1)
#define STBI_REALLOC(p, n) mem_realloc(p, n, 1) // not called for these two formats
#define STBI_FREE(p) mem_free(p)
#include <stb/stb_image.h>

// The longest run of a TGA: behind a short file stb would go on filling pixels one by one.
enum { MAX_PIXELS_PER_BYTE = 128 };

typedef struct {
    const uint8_t *file;
    size_t n, at;
    bool short_read; // something was asked for behind the end
} source;

static int take(void *user, char *dst, int size) {
    source *s = user;
    size_t n = s->n - s->at < (size_t)size ? s->n - s->at : (size_t)size;
    // stb fills its 128-byte buffer ahead of need, so that a part of that is no sign of a short file.
    if (n == 0 || (n < (size_t)size && size != sizeof((stbi__context *)0)->buffer_start))
        s->short_read = true;
    memcpy(dst, s->file + s->at, n);
    s->at += n;
    return (int)n;
}

// stb asks to go back (n < 0) for other formats only.
static void skip(void *user, int n) {
    source *s = user;
    if (n > 0 && (size_t)n <= s->n - s->at)
        s->at += (size_t)n;
    else
        s->short_read = true;
}

static int at_end(void *user) { return ((source *)user)->at == ((source *)user)->n; }

static const stbi_io_callbacks CALLS = {take, skip, at_end};

bool bmp_or_tga(const uint8_t *file, size_t n) {
    source s = {file, n, 0, false};
    int w, h, c;
    if (n >= 2 && !memcmp(file, "BM", 2)) return true;
    return stbi_info_from_callbacks(&CALLS, &s, &w, &h, &c) && !s.short_read;
}

status stb_decode(const uint8_t *file, size_t n, const char *name, image *im, error *err) {
    source s = {file, n, 0, false};
    int w, h, c;
    if (!stbi_info_from_callbacks(&CALLS, &s, &w, &h, &c))
        return fail(err, ERR_DATA, "%s: damaged BMP or TGA (%s)", name, stbi_failure_reason());
    if ((uint64_t)w * (uint64_t)h > (uint64_t)n * MAX_PIXELS_PER_BYTE)
        return fail(err, ERR_DATA, "%s: damaged BMP or TGA (%d x %d pixels in %zu bytes)", name, w, h, n);
    if (c == 2) c = 4;
    if (image_alloc(im, w, h, c, err)) return fail_in(err, "%s", name);
    s = (source){file, n, 0, false};
    uint8_t *px = stbi_load_from_callbacks(&CALLS, &s, &w, &h, &(int){0}, c);
    bool whole = px && !s.short_read && w == im->w && h == im->h;
    if (whole) memcpy(im->px, px, (size_t)w * (size_t)h * (size_t)c);
    mem_free(px);
    if (whole) return OK;
    return fail(err, ERR_DATA, "%s: damaged BMP or TGA (%s)", name,
                px ? "it ends early" : stbi_failure_reason());
}
