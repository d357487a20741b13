// The one door to the heap: aligned for vectors, sizes checked, NULL when memory is short.
#pragma once
#include <stddef.h>

// 64-byte aligned, not cleared. size 0 gives a valid pointer. NULL when memory is short.
void *mem_alloc(size_t size);
// count × size bytes, cleared; NULL on overflow too.
void *mem_calloc(size_t count, size_t size);
// Grows or shrinks a block of mem_realloc (never one of mem_alloc: alignment is malloc's). NULL leaves `p` as
// it is.
void *mem_realloc(void *p, size_t count, size_t size);
char *mem_strdup(const char *s);
// Frees what any of the above returned; NULL is fine.
void mem_free(void *p);
// Gives to the operating system what was freed, where the heap can: after much was.
void mem_return(void);
