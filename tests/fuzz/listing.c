#include "tests/fuzz/listing.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TENSORS = 4096, MAX_SIZES = 5, ONE = 0x38 }; // 1.0 in F8_E4M3

enum { MAX_TEXT = 1 << 20 }; // more than a list of 100,000 bytes and MAX_TENSORS needs

// The header as text: neither jansson nor streams in memory, since those fail on request.
typedef struct {
    char text[MAX_TEXT];
    size_t n;
} pieces;

typedef struct {
    pieces tensors, metadata;
    int64_t end, ones[MAX_TENSORS]; // bytes of values; where those are that are 1
    int n, n_ones;
} listing;

__attribute__((format(printf, 2, 3))) static void put(pieces *p, const char *format, ...) {
    va_list args;
    va_start(args, format);
    p->n += (size_t)vsnprintf(p->text + p->n, MAX_TEXT - p->n, format, args);
    va_end(args);
    if (p->n >= MAX_TEXT) abort();
}

static void put_text(pieces *p, const char *text) {
    put(p, "\"");
    for (; *text; text++)
        p->text[p->n++] = *text == '"' || *text == '\\' || (unsigned char)*text < ' ' ? '_' : *text;
    put(p, "\"");
}

// Sizes of more bytes than a file has end the list.
static bool add_tensor(listing *l, char *line) {
    char *rest = line, *name = strsep(&rest, " "), shape[200] = "";
    bool one = *name == '!';
    int64_t count = 1;
    for (int i = 0; rest && i < MAX_SIZES; i++) {
        int64_t size = atoll(strsep(&rest, " "));
        if (size < 0 || __builtin_mul_overflow(count, size, &count) || count > INT32_MAX) return false;
        size_t at = strlen(shape);
        snprintf(shape + at, sizeof shape - at, "%s%lld", i ? "," : "", (long long)size);
    }
    put_text(&l->tensors, name + one);
    put(&l->tensors, ":{\"dtype\":\"F8_E4M3\",\"shape\":[%s],\"data_offsets\":[%lld,%lld]},\n", shape,
        (long long)l->end, (long long)(l->end + count));
    l->end += count;
    if (one && count) l->ones[l->n_ones++] = l->end - 1;
    return ++l->n < MAX_TENSORS;
}

static bool add_line(listing *l, char *line) {
    if (*line != '@') return !*line || add_tensor(l, line);
    char *value = line + 1, *key = strsep(&value, " ");
    if (l->metadata.n) put(&l->metadata, ",");
    put_text(&l->metadata, key);
    put(&l->metadata, ":");
    put_text(&l->metadata, value ? value : "");
    return ++l->n < MAX_TENSORS;
}

// The header, and behind it values that take no memory.
static void write_file(const listing *l, const char *path) {
    FILE *f = fopen(path, "wb");
    uint64_t n = l->tensors.n + l->metadata.n + strlen("{\"__metadata__\":{}}");
    if (!f || fwrite(&n, 8, 1, f) != 1) abort();
    fprintf(f, "{%s\"__metadata__\":{%s}}", l->tensors.text, l->metadata.text);
    for (int i = 0; i < l->n_ones; i++)
        if (fseek(f, (long)(n + 8) + l->ones[i], SEEK_SET) || fputc(ONE, f) != ONE) abort();
    if (fclose(f) || truncate(path, (off_t)(n + 8) + l->end)) abort();
}

const char *listing_write(const char *folder, const uint8_t *data, size_t n) {
    static char text[100001], path[200];
    static listing l;
    char *rest = text;
    if (n >= sizeof text) return NULL;
    memcpy(text, data, n);
    text[n] = 0;
    char *name = strsep(&rest, "\n");
    snprintf(path, sizeof path, "%s/%.100s.safetensors", folder,
             *name && !strchr(name, '/') ? name : "model");
    l.tensors.n = l.metadata.n = 0;
    l.tensors.text[0] = l.metadata.text[0] = 0;
    l.end = l.n = l.n_ones = 0;
    while (rest && add_line(&l, strsep(&rest, "\n"))) continue;
    write_file(&l, path);
    return path;
}
