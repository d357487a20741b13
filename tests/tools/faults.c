#include "tests/tools/faults.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zip.h>

enum { MAX_STACKS = 1 << 14, DEPTH = 24 };

typedef struct {
    uint64_t hash; // 0: free
    long first, last;
} stack;

// Shared with the parent of the process that runs a job.
static struct {
    bool armed, recording, hit;
    fault_kind kind;
    long at, count;
    const char *door;
    stack stacks[MAX_STACKS];
} * faults;

static void *json_door(size_t n);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

void faults_share(void) {
    if (!faults)
        faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static bool json_spared;

void faults_spare_json(void) { json_spared = true; }

static void start(fault_kind kind, long at, bool recording) {
    if (!json_spared) json_set_alloc_funcs(json_door, free);
    faults->kind = kind;
    faults->at = at;
    faults->count = 0;
    faults->hit = false;
    faults->recording = recording;
    if (recording) memset(faults->stacks, 0, sizeof faults->stacks);
    faults->armed = true;
}

void faults_arm(fault_kind kind, long at) { start(kind, at, false); }
void faults_record(fault_kind kind) { start(kind, -1, true); }

long faults_disarm(bool *hit) {
    faults->armed = false;
    if (hit) *hit = faults->hit;
    return faults->count;
}

bool faults_hit(void) { return faults->hit; }

const char *faults_door(void) { return faults->door ? faults->door : "none"; }

static void remember_stack(void) {
    void *frames[DEPTH];
    int n = backtrace(frames, DEPTH);
    uint64_t hash = 1469598103934665603u;
    for (int i = 0; i < n; i++) hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 1099511628211u;
    hash |= 1;
    for (size_t i = hash >> 20, tries = 0; tries < MAX_STACKS; i++, tries++) {
        stack *s = &faults->stacks[i % MAX_STACKS];
        if (s->hash && s->hash != hash) continue;
        if (!s->hash) *s = (stack){hash, faults->count, 0};
        s->last = faults->count;
        return;
    }
}

static int ascending(const void *a, const void *b) {
    long x = *(const long *)a, y = *(const long *)b;
    return (x > y) - (x < y);
}

size_t faults_stacks(long *at, size_t room) {
    size_t n = 0;
    for (size_t i = 0; i < MAX_STACKS; i++) {
        const stack *s = &faults->stacks[i];
        if (!s->hash) continue;
        if (n < room) at[n++] = s->first;
        if (n < room && s->last != s->first) at[n++] = s->last;
    }
    qsort(at, n, sizeof *at, ascending);
    return n;
}

// One call through a door of this kind: whether it is the one to fail.
static bool fails(fault_kind kind, const char *door) {
    if (!faults || !faults->armed || faults->kind != kind) return false;
    if (faults->recording) {
        faults->armed = false; // backtrace may come back here
        remember_stack();
        faults->armed = true;
    }
    if (faults->count++ != faults->at) return false;
    faults->hit = true;
    faults->door = door;
    if (kind == FAULT_MEMORY) errno = ENOMEM;
    return true;
}

// ---- memory

bool faults_memory(const char *door) { return fails(FAULT_MEMORY, door); }

void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_aligned_alloc(size_t alignment, size_t n) {
    return fails(FAULT_MEMORY, "allocation") ? NULL : __real_aligned_alloc(alignment, n);
}

void *__wrap_malloc(size_t n) { return fails(FAULT_MEMORY, "allocation") ? NULL : __real_malloc(n); }

void *__wrap_calloc(size_t n, size_t size) {
    return fails(FAULT_MEMORY, "allocation") ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n) {
    return fails(FAULT_MEMORY, "reallocation") ? NULL : __real_realloc(p, n);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
FILE *__real_open_memstream(char **text, size_t *n);
FILE *__wrap_open_memstream(char **text, size_t *n);
int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

char *__wrap_strdup(const char *s) { return fails(FAULT_MEMORY, "copy of a text") ? NULL : __real_strdup(s); }

FILE *__wrap_open_memstream(char **text, size_t *n) {
    return fails(FAULT_MEMORY, "text in memory") ? NULL : __real_open_memstream(text, n);
}

int __wrap_asprintf(char **out, const char *format, ...) {
    if (fails(FAULT_MEMORY, "formatted text")) return -1;
    va_list args;
    va_start(args, format);
    int n = vasprintf(out, format, args);
    va_end(args);
    return n;
}

// As in cli/main.c, and for its reason.
static void *json_door(size_t n) {
    if (fails(FAULT_MEMORY, "jansson's allocation")) _exit(75);
    return __real_malloc(n);
}

// ---- libzip: answers as it does when its own memory is short

#define ZIP_DOOR(type, name, parameters, arguments, error)                                                   \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters {                                                                          \
        if (!fails(FAULT_MEMORY, #name)) return __real_##name arguments;                                     \
        zip_error_set(error, ZIP_ER_MEMORY, 0);                                                              \
        return NULL;                                                                                         \
    }

ZIP_DOOR(zip_source_t *, zip_source_filep_create,
         (FILE * f, zip_uint64_t start, zip_int64_t length, zip_error_t *e), (f, start, length, e), e)
ZIP_DOOR(zip_t *, zip_open_from_source, (zip_source_t * source, int how, zip_error_t *e), (source, how, e), e)
ZIP_DOOR(zip_file_t *, zip_fopen_index, (zip_t * zip, zip_uint64_t i, zip_flags_t how), (zip, i, how),
         zip_get_error(zip))

// ---- files

enum { NEEDS_ROOM = 1, INTERRUPTIBLE = 2 };

// Sets errno where the call is to fail.
static bool fails_file(const char *door, int nature) {
    if (fails(FAULT_EIO, door)) return errno = EIO, true;
    if (nature & NEEDS_ROOM && fails(FAULT_ENOSPC, door)) return errno = ENOSPC, true;
    return nature & INTERRUPTIBLE && fails(FAULT_EINTR, door) ? errno = EINTR, true : false;
}

static size_t shortened(const char *door, size_t n) { return n > 1 && fails(FAULT_SHORT, door) ? n / 2 : n; }

// A wrapped call with these parameters and arguments.
#define DOOR(type, name, parameters, arguments, nature, failed)                                              \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters { return fails_file(#name, nature) ? failed : __real_##name arguments; }

DOOR(int, ftruncate64, (int fd, off_t n), (fd, n), NEEDS_ROOM, -1)
DOOR(int, mkdir, (const char *path, mode_t mode), (path, mode), NEEDS_ROOM, -1)
DOOR(int, rename, (const char *from, const char *to), (from, to), NEEDS_ROOM, -1)
DOOR(int, renameat2, (int d, const char *from, int e, const char *to, unsigned how), (d, from, e, to, how),
     NEEDS_ROOM, -1)
DOOR(int, stat64, (const char *path, void *st), (path, st), 0, -1)
DOOR(int, lstat64, (const char *path, void *st), (path, st), 0, -1)
DOOR(int, fstat64, (int fd, void *st), (fd, st), 0, -1)
DOOR(DIR *, opendir, (const char *path), (path), 0, NULL)
DOOR(struct dirent *, readdir64, (DIR * dir), (dir), 0, NULL)

ssize_t __real_read(int fd, void *to, size_t n);
ssize_t __wrap_read(int fd, void *to, size_t n);
ssize_t __real_pread64(int fd, void *to, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t at);
ssize_t __real_write(int fd, const void *from, size_t n);
ssize_t __wrap_write(int fd, const void *from, size_t n);
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_openat64(int dir, const char *path, int flags, ...);
int __wrap_openat64(int dir, const char *path, int flags, ...);
int __wrap_fsync(int fd);
int __real_close(int fd);
int __wrap_close(int fd);

ssize_t __wrap_read(int fd, void *to, size_t n) {
    return fails_file("read", INTERRUPTIBLE) ? -1 : __real_read(fd, to, shortened("read", n));
}

ssize_t __wrap_pread64(int fd, void *to, size_t n, off_t at) {
    return fails_file("pread", INTERRUPTIBLE) ? -1 : __real_pread64(fd, to, shortened("pread", n), at);
}

ssize_t __wrap_write(int fd, const void *from, size_t n) {
    return fails_file("write", NEEDS_ROOM | INTERRUPTIBLE) ? -1
                                                           : __real_write(fd, from, shortened("write", n));
}

static bool fails_open(int flags) {
    return fails_file("open", flags & O_CREAT ? NEEDS_ROOM | INTERRUPTIBLE : INTERRUPTIBLE);
}

int __wrap_open64(const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails_open(flags) ? -1 : __real_open64(path, flags, mode);
}

int __wrap_openat64(int dir, const char *path, int flags, ...) {
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    return fails_open(flags) ? -1 : __real_openat64(dir, path, flags, mode);
}

// Nothing waits for the disk: a sweep writes thousands of files that nobody will miss.
int __wrap_fsync(int fd) {
    (void)fd;
    return fails_file("fsync", NEEDS_ROOM | INTERRUPTIBLE) ? -1 : 0;
}

// The descriptor is closed all the same, as on Linux.
int __wrap_close(int fd) {
    bool failed = fails_file("close", 0);
    int e = errno, r = __real_close(fd);
    errno = e;
    return failed ? -1 : r;
}
