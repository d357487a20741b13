// Texts in pictures: their encodings, and the one Exif field that holds what a picture was made from.
#include "core/base/mem.h"
#include "core/files/image_formats.h"

#include <string.h>
#include <utf8proc.h>

// ---------------------------------------------------------------- encodings

bool text_is_utf8(const char *text) {
    const uint8_t *p = (const uint8_t *)text;
    utf8proc_int32_t c;
    for (utf8proc_ssize_t n; *p; p += n)
        if ((n = utf8proc_iterate(p, -1, &c)) < 1) return false;
    return true;
}

char *latin1_to_utf8(const char *text) {
    char *out = mem_realloc(NULL, strlen(text) * 2 + 1, 1), *to = out;
    if (!out) return NULL;
    for (const uint8_t *p = (const uint8_t *)text; *p; p++) to += utf8proc_encode_char(*p, (uint8_t *)to);
    *to = 0;
    return out;
}

bool text_is_latin1(const char *text) {
    utf8proc_int32_t c = 0;
    for (const uint8_t *p = (const uint8_t *)text; *p;) {
        utf8proc_ssize_t n = utf8proc_iterate(p, -1, &c);
        if (n < 1 || c > 255) return false;
        p += n;
    }
    return true;
}

char *latin1_from_utf8(const char *text) {
    char *out = mem_realloc(NULL, strlen(text) + 1, 1), *to = out;
    utf8proc_int32_t c = 0;
    for (const uint8_t *p = (const uint8_t *)text; out && *p; *to++ = (char)c)
        p += utf8proc_iterate(p, -1, &c);
    if (out) *to = 0;
    return out;
}

// ---------------------------------------------------------------- writing

static uint8_t *put16(uint8_t *p, unsigned v) {
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *put32(uint8_t *p, uint32_t v) { return put16(put16(p, v >> 16), v & 0xffff); }

enum {
    TAG_EXIF = 0x8769,
    TAG_USER_COMMENT = 0x9286,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7,
    HEADER_BYTES = 8,
    DIRECTORY_BYTES = 2 + 12 + 4, // count, one entry, offset of the next directory
};

static uint8_t *put_directory(uint8_t *p, unsigned tag, unsigned type, uint32_t count, uint32_t value) {
    p = put16(p, 1);
    p = put16(put16(p, tag), type);
    p = put32(put32(p, count), value);
    return put32(p, 0);
}

// Header, IFD0 with a pointer to the Exif IFD, that with the comment, and the comment: "UNICODE\0" and UTF-16
// in the byte order of the block. That is big-endian, because some readers expect nothing else.
status exif_build(const char *comment, uint8_t **block, size_t *n, error *err) {
    const size_t at = HEADER_BYTES + 2 * DIRECTORY_BYTES;
    size_t length = strlen(comment); // UTF-16 needs at most two bytes for each byte of UTF-8
    if (length > 1 << 28) return fail(err, ERR_DATA, "the text to store takes %zu bytes", length);
    uint8_t *b = mem_alloc(at + 8 + 2 * length), *p = b + at + 8;
    if (!b) return fail(err, ERR_TEMP, "out of memory");
    memcpy(b + at, "UNICODE", 8);
    utf8proc_int32_t c = 0;
    for (const uint8_t *from = (const uint8_t *)comment; *from;) {
        utf8proc_ssize_t k = utf8proc_iterate(from, -1, &c);
        if (k < 1) {
            mem_free(b);
            return fail(err, ERR_DATA, "the text to store is not UTF-8");
        }
        from += k;
        if (c > 0xffff) p = put16(p, 0xd800 + ((unsigned)(c - 0x10000) >> 10));
        p = put16(p, c > 0xffff ? 0xdc00 + ((unsigned)(c - 0x10000) & 0x3ff) : (unsigned)c);
    }
    *n = (size_t)(p - b);
    memcpy(b, "MM\0*", 4);
    put32(b + 4, HEADER_BYTES);
    put_directory(b + HEADER_BYTES, TAG_EXIF, TYPE_LONG, 1, HEADER_BYTES + DIRECTORY_BYTES);
    put_directory(b + HEADER_BYTES + DIRECTORY_BYTES, TAG_USER_COMMENT, TYPE_UNDEFINED, (uint32_t)(*n - at),
                  (uint32_t)at);
    *block = b;
    return OK;
}

// ---------------------------------------------------------------- reading

typedef struct {
    const uint8_t *b;
    size_t n;
    bool little;
} tiff;

// Bytes beyond the end read as 0.
static unsigned get16(const tiff *t, size_t at) {
    if (at > t->n || t->n - at < 2) return 0;
    const uint8_t *p = t->b + at;
    return t->little ? p[0] | (unsigned)p[1] << 8 : p[1] | (unsigned)p[0] << 8;
}

static uint32_t get32(const tiff *t, size_t at) {
    uint32_t first = get16(t, at), second = get16(t, at + 2);
    return t->little ? first | second << 16 : second | first << 16;
}

// Where the entry of this tag begins in the directory at `at`; 0 if there is none.
static size_t find_entry(const tiff *t, size_t at, unsigned tag) {
    unsigned count = get16(t, at);
    for (size_t i = 0; i < count && at + 2 + 12 * i + 12 <= t->n; i++)
        if (get16(t, at + 2 + 12 * i) == tag) return at + 2 + 12 * i;
    return 0;
}

// A lone half of a pair becomes U+FFFD.
static char *utf16_to_utf8(const tiff *t, size_t at, size_t n) {
    char *out = mem_realloc(NULL, n / 2 * 3 + 1, 1), *to = out;
    if (!out) return NULL;
    for (size_t i = 0; i + 1 < n; i += 2) {
        utf8proc_int32_t c = (utf8proc_int32_t)get16(t, at + i);
        if (c == 0) break;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < n && (get16(t, at + i + 2) & 0xfc00) == 0xdc00) {
            i += 2;
            c = 0x10000 + ((c & 0x3ff) << 10) + (utf8proc_int32_t)(get16(t, at + i) & 0x3ff);
        }
        to += utf8proc_encode_char((c & ~0x7ff) == 0xd800 ? 0xfffd : c, (uint8_t *)to);
    }
    *to = 0;
    return out;
}

static char *bytes_to_utf8(const tiff *t, size_t at, size_t n) {
    char *text = mem_realloc(NULL, n + 1, 1);
    if (!text) return NULL;
    memcpy(text, t->b + at, n);
    text[n] = 0;
    if (text_is_utf8(text)) return text;
    char *utf8 = latin1_to_utf8(text);
    mem_free(text);
    return utf8;
}

status exif_comment(const uint8_t *block, size_t n, char **comment, error *err) {
    *comment = NULL;
    if (n >= 6 && !memcmp(block, "Exif\0", 6)) block += 6, n -= 6;
    if (n < HEADER_BYTES || (memcmp(block, "MM\0*", 4) && memcmp(block, "II*\0", 4))) return OK;
    tiff t = {block, n, block[0] == 'I'};
    size_t pointer = find_entry(&t, get32(&t, 4), TAG_EXIF);
    size_t entry = pointer ? find_entry(&t, get32(&t, pointer + 8), TAG_USER_COMMENT) : 0;
    if (!entry) return OK;
    size_t length = get32(&t, entry + 4), at = get32(&t, entry + 8);
    if (length < 8 || at > n || length > n - at) return OK;
    bool wide = !memcmp(block + at, "UNICODE", 8);
    at += 8;
    length -= 8;
    if (wide && length >= 2 && (get16(&t, at) == 0xfeff || get16(&t, at) == 0xfffe)) { // a byte order mark
        if (get16(&t, at) == 0xfffe) t.little = !t.little;
        at += 2;
        length -= 2;
    }
    *comment = wide ? utf16_to_utf8(&t, at, length) : bytes_to_utf8(&t, at, length);
    return *comment ? OK : fail(err, ERR_TEMP, "out of memory");
}
