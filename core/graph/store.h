// Values that depend on the model alone (packed weights, merged adapters), computed once and shared by all
// plans of a model. The key is the expression that makes the value, so equal expressions of two plans find
// each other. Where the limit of a store leaves no room for all, an exec keeps some of its values here and
// makes the others anew whenever a step reads them (residency.h).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct store store;
typedef struct {
    uint64_t a, b;
} store_key;

store *store_new(void);
void store_free(store *s);
// NULL when there is no such value.
void *store_find(const store *s, store_key k);
// Adds a finished value of mem_alloc, which the store owns until store_free. false when memory is short.
bool store_add(store *s, store_key k, void *data, size_t bytes);
size_t store_bytes(const store *s);
// Frees all values; no exec may be using them.
void store_clear(store *s);
// Bytes of values that execs made from now on may keep here, and of what making the others takes. SIZE_MAX at
// first.
void store_set_limit(store *s, size_t bytes);
size_t store_limit(const store *s);

// Folds bytes into a key (two FNV-1a hashes with different starts).
store_key key_start(void);
store_key key_add(store_key k, const void *data, size_t n);
uint64_t key_text(const char *s); // the first of the two for a text
