#include "core/graph/store.h"

#include <string.h>

#include "core/base/mem.h"

typedef struct {
    store_key key;
    void *data;
} entry;

struct store {
    entry *slot; // open addressing; data NULL is empty; at most half full
    size_t n, cap, bytes, limit;
};

store *store_new(void) {
    store *s = mem_calloc(1, sizeof *s);
    if (s) s->limit = SIZE_MAX;
    return s;
}

void store_clear(store *s) {
    for (size_t i = 0; i < s->cap; i++) mem_free(s->slot[i].data);
    mem_free(s->slot);
    *s = (store){.limit = s->limit};
}

void store_free(store *s) {
    if (!s) return;
    store_clear(s);
    mem_free(s);
}

void store_set_limit(store *s, size_t bytes) { s->limit = bytes; }
size_t store_limit(const store *s) { return s->limit; }

static size_t slot_of(const entry *slot, size_t cap, store_key k) {
    size_t i = k.a & (cap - 1);
    while (slot[i].data && (slot[i].key.a != k.a || slot[i].key.b != k.b)) i = (i + 1) & (cap - 1);
    return i;
}

void *store_find(const store *s, store_key k) {
    return s->cap ? s->slot[slot_of(s->slot, s->cap, k)].data : NULL;
}

static bool grow(store *s) {
    size_t cap = s->cap ? 2 * s->cap : 256;
    entry *slot = mem_calloc(cap, sizeof *slot);
    if (!slot) return false;
    for (size_t i = 0; i < s->cap; i++)
        if (s->slot[i].data) slot[slot_of(slot, cap, s->slot[i].key)] = s->slot[i];
    mem_free(s->slot);
    s->slot = slot;
    s->cap = cap;
    return true;
}

bool store_add(store *s, store_key k, void *data, size_t bytes) {
    if (2 * (s->n + 1) > s->cap && !grow(s)) return false;
    s->slot[slot_of(s->slot, s->cap, k)] = (entry){k, data};
    s->n++;
    s->bytes += bytes;
    return true;
}

size_t store_bytes(const store *s) { return s->bytes; }

store_key key_start(void) { return (store_key){0xcbf29ce484222325u, 0x9ae16a3b2f90404fu}; }

store_key key_add(store_key k, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) {
        k.a = (k.a ^ p[i]) * 0x100000001b3u;
        k.b = (k.b ^ p[i]) * 0x100000001b3u;
        k.b ^= k.b >> 29; // the two must not be the same function of the data
    }
    return k;
}

uint64_t key_text(const char *s) { return key_add(key_start(), s, strlen(s)).a; }
