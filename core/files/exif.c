// Texts in pictures: their encodings, and the one Exif field that holds what a picture was made from.
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/image_formats.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

// ---------------------------------------------------------------- encodings

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
    TAG_DESCRIPTION = 0x010e,
    TAG_MAKE = 0x010f,
    TAG_MODEL = 0x0110,
    TAG_EXIF = 0x8769,
    TAG_USER_COMMENT = 0x9286,
    TYPE_ASCII = 2,
    TYPE_LONG = 4,
    TYPE_UNDEFINED = 7,
    HEADER_BYTES = 8,
    ENTRY_BYTES = 12,
    DIRECTORY_BYTES = 2 + ENTRY_BYTES + 4, // count, one entry, offset of the next directory
};

static uint8_t *put_entry(uint8_t *p, unsigned tag, unsigned type, size_t count, size_t value) {
    p = put16(put16(p, tag), type);
    return put32(put32(p, (uint32_t)count), (uint32_t)value);
}

// "UNICODE\0" and UTF-16 in the byte order of the block, which is big-endian, because some readers expect
// nothing else. NULL when the text is not UTF-8.
static uint8_t *put_comment(uint8_t *p, const char *comment) {
    memcpy(p, "UNICODE", 8);
    p += 8;
    utf8proc_int32_t c = 0;
    for (const uint8_t *from = (const uint8_t *)comment; *from;) {
        utf8proc_ssize_t k = utf8proc_iterate(from, -1, &c);
        if (k < 1) return NULL;
        from += k;
        if (c > 0xffff) p = put16(p, 0xd800 + ((unsigned)(c - 0x10000) >> 10));
        p = put16(p, c > 0xffff ? 0xdc00 + ((unsigned)(c - 0x10000) & 0x3ff) : (unsigned)c);
    }
    return p;
}

// IFD0 with the description and a pointer to the Exif IFD, that with the comment, then both texts.
status exif_build(const image_text *texts, size_t n_texts, uint8_t **block, size_t *n, error *err) {
    const image_text *json = n_texts > 1 && texts[1].text[0] == '{' ? &texts[1] : NULL;
    size_t length = strlen(texts[0].text); // UTF-16 needs at most two bytes for each byte of UTF-8
    size_t described = json ? strlen(json->key) + 1 + strlen(json->text) + 1 : 0;
    if (length > 1 << 28 || described > 1 << 28)
        return fail(err, ERR_DATA, "the text to store takes %zu bytes", length + described);
    const size_t exif_at = HEADER_BYTES + DIRECTORY_BYTES + (json ? ENTRY_BYTES : 0);
    const size_t description_at = exif_at + DIRECTORY_BYTES, comment_at = description_at + described;
    uint8_t *b = mem_alloc(comment_at + 8 + 2 * length);
    if (!b) return fail(err, ERR_TEMP, "out of memory");
    uint8_t *end = put_comment(b + comment_at, texts[0].text);
    if (!end) {
        mem_free(b);
        return fail(err, ERR_DATA, "the text to store is not UTF-8");
    }
    if (json) sprintf((char *)b + description_at, "%s:%s", json->key, json->text);
    memcpy(b, "MM\0*", 4);
    put32(b + 4, HEADER_BYTES);
    uint8_t *p = put16(b + HEADER_BYTES, json ? 2 : 1);
    if (json) p = put_entry(p, TAG_DESCRIPTION, TYPE_ASCII, described, description_at);
    put32(put_entry(p, TAG_EXIF, TYPE_LONG, 1, exif_at), 0);
    p = put16(b + exif_at, 1);
    put32(put_entry(p, TAG_USER_COMMENT, TYPE_UNDEFINED, (size_t)(end - b) - comment_at, comment_at), 0);
    *n = (size_t)(end - b);
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

// Where the value of an entry lies, and its length; false when it does not lie in the block.
static bool find_value(const tiff *t, size_t directory, unsigned tag, size_t *at, size_t *length) {
    size_t entry = find_entry(t, directory, tag);
    if (!entry) return false;
    *length = get32(t, entry + 4);
    *at = *length > 4 ? get32(t, entry + 8) : entry + 8;
    return *at <= t->n && *length <= t->n - *at;
}

static status add_comment(tiff *t, size_t at, size_t length, const char *name, image_texts *texts,
                          error *err) {
    if (length < 8) return OK;
    bool wide = !memcmp(t->b + at, "UNICODE", 8);
    tiff order = *t;
    at += 8;
    length -= 8;
    if (wide && length >= 2 && (get16(t, at) == 0xfeff || get16(t, at) == 0xfffe)) { // a byte order mark
        if (get16(t, at) == 0xfffe) order.little = !order.little;
        at += 2;
        length -= 2;
    }
    char *comment = wide ? utf16_to_utf8(&order, at, length) : bytes_to_utf8(&order, at, length);
    status s = comment ? image_texts_add(texts, name, "UserComment", comment, err)
                       : fail(err, ERR_TEMP, "%s: out of memory", name);
    mem_free(comment);
    return s;
}

// "key:{...}" gives a text of that key; what cameras write there does not look so.
static status add_described(const tiff *t, size_t at, size_t length, const char *name, image_texts *texts,
                            error *err) {
    char *text = bytes_to_utf8(t, at, length);
    if (!text) return fail(err, ERR_TEMP, "%s: out of memory", name);
    size_t key = strspn(text, "abcdefghijklmnopqrstuvwxyz_");
    status s = OK;
    if (key && text[key] == ':' && text[key + 1] == '{') {
        text[key] = 0;
        s = image_texts_add(texts, name, text, text + key + 1, err);
    }
    mem_free(text);
    return s;
}

status exif_texts(const uint8_t *block, size_t n, const char *name, image_texts *texts, error *err) {
    static const unsigned DESCRIBED[] = {TAG_DESCRIPTION, TAG_MAKE, TAG_MODEL};
    if (n >= 6 && !memcmp(block, "Exif\0", 6)) block += 6, n -= 6;
    if (n < HEADER_BYTES || (memcmp(block, "MM\0*", 4) && memcmp(block, "II*\0", 4))) return OK;
    tiff t = {block, n, block[0] == 'I'};
    size_t first = get32(&t, 4), pointer = find_entry(&t, first, TAG_EXIF), at, length;
    status s = OK;
    if (pointer && find_value(&t, get32(&t, pointer + 8), TAG_USER_COMMENT, &at, &length))
        s = add_comment(&t, at, length, name, texts, err);
    for (size_t i = 0; i < sizeof DESCRIBED / sizeof *DESCRIBED && !s; i++)
        if (find_value(&t, first, DESCRIBED[i], &at, &length))
            s = add_described(&t, at, length, name, texts, err);
    return s;
}
