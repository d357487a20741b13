#include "core/base/mem.h"

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void *mem_alloc(size_t size) {
    if (size > SIZE_MAX - 64) return NULL;
    return aligned_alloc(64, (size + 64) & ~(size_t)63);
}

void *mem_calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *p = mem_alloc(bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *mem_realloc(void *p, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    return realloc(p, bytes ? bytes : 1);
}

char *mem_strdup(const char *s) {
    size_t n = strlen(s) + 1;
    char *p = mem_realloc(NULL, n, 1);
    if (p) memcpy(p, s, n);
    return p;
}

void mem_free(void *p) { free(p); }

void mem_return(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}
