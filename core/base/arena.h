// A bump allocator for many small objects that die together (the nodes of a graph, the strings of a file).
#pragma once
#include <stddef.h>

typedef struct arena_block arena_block;
typedef struct {
    arena_block *last;
} arena;

// Cleared and 16-byte aligned; NULL when memory is short.
void *arena_alloc(arena *a, size_t size);
// Formats into the arena; NULL when memory is short.
char *arena_printf(arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void arena_free(arena *a);
