#include "core/base/arena.h"
#include "core/base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct arena_block {
    arena_block *next;
    size_t used, size;
    _Alignas(16) unsigned char data[];
};

void *arena_alloc(arena *a, size_t size) {
    if (size > SIZE_MAX / 4) return NULL;
    size = (size + 15) & ~(size_t)15;
    arena_block *b = a->last;
    if (!b || b->size - b->used < size) {
        size_t room = size > 60000 ? size : 60000;
        b = mem_alloc(sizeof *b + room);
        if (!b) return NULL;
        *b = (arena_block){.next = a->last, .size = room};
        a->last = b;
    }
    void *p = b->data + b->used;
    b->used += size;
    return memset(p, 0, size);
}

char *arena_printf(arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : arena_alloc(a, (size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

void arena_free(arena *a) {
    for (arena_block *b = a->last, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    a->last = NULL;
}
