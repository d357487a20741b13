#include "core/base/fs.h"
#include "core/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

// One read or write never asks for more: Linux stops at 2 GiB - 4 KiB by itself.
enum { PIECE = 1 << 30 };

status fs_fail(error *err, int e, status otherwise, const char *path, const char *doing) {
    status code = otherwise;
    switch (e) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: // the process's own limit
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
        code = ERR_TEMP;
        break;
    case EIO:
        code = ERR_IO;
        break;
    }
    char buf[128];
    return fail(err, code, "%s: %s: %s", path, doing, strerror_r(e, buf, sizeof buf));
}

static status short_of_memory(error *err, const char *path) {
    return fail(err, ERR_TEMP, "%s: out of memory", path);
}

// ---------------------------------------------------------------- reading

status fs_written(int fd, const char *path, int64_t *when, error *err) {
    struct stat s;
    if (fstat(fd, &s)) return fs_fail(err, errno, ERR_IO, path, "cannot look at it");
    *when = (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
    return OK;
}

static int open_input(const char *path) {
    int fd;
    // Without O_NONBLOCK a pipe that a model folder holds under a file's name would hang us.
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    while (fd < 0 && errno == EINTR);
    return fd;
}

int fs_open_read(const char *path, uint64_t *size, error *err) {
    int fd = open_input(path);
    struct stat s;
    if (fd < 0 || fstat(fd, &s)) {
        fs_fail(err, errno, ERR_NOINPUT, path, "cannot open");
    } else if (!S_ISREG(s.st_mode)) {
        fail(err, ERR_NOINPUT, "%s: not a regular file", path);
    } else {
        *size = (uint64_t)s.st_size;
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

status fs_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t n, error *err) {
    for (char *p = dst; n > 0;) {
        ssize_t got = pread(fd, p, n < PIECE ? n : PIECE, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fs_fail(err, errno, ERR_IO, path, "cannot read");
        if (got == 0)
            return fail(err, ERR_DATA, "%s: the file ends before byte %llu", path,
                        (unsigned long long)(offset + n));
        p += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return OK;
}

// Grows *data as needed: a pipe has no size to ask for, a file of /proc says 0.
static status read_all(int fd, const char *path, size_t limit, char **data, size_t *size, error *err) {
    size_t room = 0;
    for (*data = NULL, *size = 0;;) {
        if (*size + 1 >= room) {
            room = room ? room * 2 : 1 << 14;
            if (room > limit + 2) room = limit + 2; // one byte over the limit shows, and the NUL
            char *grown = mem_realloc(*data, room, 1);
            if (!grown) return short_of_memory(err, path);
            *data = grown;
        }
        ssize_t got = read(fd, *data + *size, room - 1 - *size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fs_fail(err, errno, errno == EISDIR ? ERR_NOINPUT : ERR_IO, path, "cannot read");
        if (got == 0) break;
        *size += (size_t)got;
        if (*size > limit) return fail(err, ERR_DATA, "%s: longer than the limit of %zu bytes", path, limit);
    }
    (*data)[*size] = 0;
    return OK;
}

status fs_read_file(const char *path, size_t limit, char **data, size_t *size, error *err) {
    if (limit > SIZE_MAX / 4) limit = SIZE_MAX / 4;
    *data = NULL;
    int fd = open_input(path);
    if (fd < 0) return fs_fail(err, errno, ERR_NOINPUT, path, "cannot open");
    fcntl(fd, F_SETFL, 0); // wait for a pipe's data
    status s = read_all(fd, path, limit, data, size, err);
    close(fd);
    if (s) {
        mem_free(*data);
        *data = NULL;
    }
    return s;
}

// ---------------------------------------------------------------- names and folders

char *fs_join(const char *dir, const char *name) {
    size_t n = strlen(dir), m = strlen(name);
    while (n > 1 && dir[n - 1] == '/') n--;
    while (*name == '/') name++, m--;
    bool slash = n > 0 && dir[n - 1] != '/';
    char *p = mem_realloc(NULL, n + slash + m + 1, 1);
    if (!p) return NULL;
    memcpy(p, dir, n);
    if (slash) p[n] = '/';
    memcpy(p + n + slash, name, m + 1);
    return p;
}

const char *fs_basename(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

char *fs_dirname(const char *path) {
    size_t n = (size_t)(fs_basename(path) - path);
    if (n == 0) return mem_strdup(".");
    while (n > 1 && path[n - 1] == '/') n--;
    char *p = mem_strdup(path);
    if (p) p[n] = 0;
    return p;
}

const char *fs_extension(const char *path) {
    const char *base = fs_basename(path), *dot = strrchr(base, '.');
    return dot && dot != base ? dot + 1 : "";
}

bool fs_is_plain_name(const char *name) {
    return *name && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

bool fs_is_dir(const char *path) {
    struct stat s;
    return !stat(path, &s) && S_ISDIR(s.st_mode);
}

bool fs_exists(const char *path) {
    struct stat s;
    return !stat(path, &s);
}

status fs_look(const char *path, fs_kind *kind, error *err) {
    struct stat s;
    *kind = FS_NOTHING;
    if (!stat(path, &s))
        *kind = S_ISDIR(s.st_mode) ? FS_FOLDER : FS_OTHER;
    else if (errno != ENOENT && errno != ENOTDIR)
        return fs_fail(err, errno, ERR_NOINPUT, path, "cannot look at it");
    return OK;
}

status fs_mkdirs(const char *path, error *err) {
    char *p = mem_strdup(path);
    if (!p) return short_of_memory(err, path);
    status s = OK;
    for (char *end = p; *end && !s;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = 0;
        if (mkdir(p, 0777) && (errno != EEXIST || !fs_is_dir(p)))
            s = fs_fail(err, errno, ERR_CANTCREAT, p, "cannot create the folder");
        *end = kept;
    }
    mem_free(p);
    return s;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static status list_entries(DIR *d, const char *dir, char ***names, size_t *n, error *err) {
    size_t room = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e) return errno ? fs_fail(err, errno, ERR_IO, dir, "cannot read the folder") : OK;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        if (*n == room) {
            room = room ? room * 2 : 64;
            char **grown = mem_realloc(*names, room, sizeof **names);
            if (!grown) return short_of_memory(err, dir);
            *names = grown;
        }
        if (!((*names)[*n] = mem_strdup(e->d_name))) return short_of_memory(err, dir);
        ++*n;
    }
}

status fs_list(const char *dir, char ***names, size_t *n, error *err) {
    *names = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d) return fs_fail(err, errno, ERR_NOINPUT, dir, "cannot open the folder");
    status s = list_entries(d, dir, names, n, err);
    closedir(d);
    if (s) {
        fs_list_free(*names, *n);
        *names = NULL;
        *n = 0;
    } else if (*n) {
        qsort(*names, *n, sizeof **names, by_bytes);
    }
    return s;
}

void fs_list_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(names[i]);
    mem_free(names);
}

// ---------------------------------------------------------------- writing

// What takes the place of `path` when it is whole: a file or folder of another name beside it.
typedef struct {
    char *path, *dir, *temp;
    int fd;
} pending;

static status pending_init(pending *p, const char *path, error *err) {
    *p = (pending){mem_strdup(path), fs_dirname(path), NULL, -1};
    return p->path && p->dir ? OK : short_of_memory(err, path);
}

static void pending_free(pending *p) {
    if (p->fd >= 0) close(p->fd);
    mem_free(p->path);
    mem_free(p->dir);
    mem_free(p->temp);
}

struct fs_writer {
    pending at;
    bool overwrite;
};

static void writer_free(fs_writer *w) {
    pending_free(&w->at);
    mem_free(w);
}

// The lock tells others that the file's writer lives: a temporary file without one was left by a process that
// was killed. false: someone took this one for such, between open and lock, and has removed it. Where there
// are no locks, nobody gets one to remove it with.
static bool lock_temp(int fd) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat s;
    int r;
    do r = fcntl(fd, F_OFD_SETLKW, &whole);
    while (r && errno == EINTR);
    return fstat(fd, &s) || s.st_nlink;
}

// It does not contain the final name, which may already be as long as names can be. NULL when memory is
// short.
static char *temp_name(const char *dir) {
    uint64_t r;
    char name[40];
    if (getrandom(&r, sizeof r, 0) != sizeof r) r = 0; // a name in use is noticed
    snprintf(name, sizeof name, ".calotype-%016llx.tmp", (unsigned long long)r);
    return fs_join(dir, name);
}

static status open_temp(fs_writer *w, error *err) {
    for (int attempt = 0; attempt < 100; attempt++) {
        mem_free(w->at.temp);
        if (!(w->at.temp = temp_name(w->at.dir))) return short_of_memory(err, w->at.path);
        w->at.fd = open(w->at.temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (w->at.fd < 0 && errno != EEXIST && errno != EINTR) break;
        if (w->at.fd < 0) continue;
        if (lock_temp(w->at.fd)) return OK;
        close(w->at.fd);
        w->at.fd = -1;
    }
    return fs_fail(err, errno, ERR_CANTCREAT, w->at.path, "cannot create");
}

// What may not be replaced: a device or folder never, a file only when asked.
static status check_target(const fs_writer *w, error *err) {
    struct stat s;
    if (lstat(w->at.path, &s))
        return errno == ENOENT ? OK : fs_fail(err, errno, ERR_CANTCREAT, w->at.path, "cannot create");
    if (!S_ISREG(s.st_mode) && !S_ISLNK(s.st_mode))
        return fail(err, ERR_CANTCREAT, "%s: exists and is not a regular file", w->at.path);
    if (!w->overwrite) return fail(err, ERR_CANTCREAT, "%s: exists already", w->at.path);
    return OK;
}

fs_writer *fs_writer_open(const char *path, bool overwrite, error *err) {
    fs_writer *w = mem_calloc(1, sizeof *w);
    if (!w) {
        short_of_memory(err, path);
        return NULL;
    }
    w->overwrite = overwrite;
    status s = pending_init(&w->at, path, err);
    if (!s && !fs_is_plain_name(fs_basename(path)))
        s = fail(err, ERR_CANTCREAT, "'%s': not the name of a file", path);
    if (!s) s = check_target(w, err);
    if (!s) s = open_temp(w, err);
    if (!s) return w;
    writer_free(w);
    return NULL;
}

status fs_writer_put(fs_writer *w, const void *data, size_t n, error *err) {
    for (const char *p = data; n > 0;) {
        ssize_t put = write(w->at.fd, p, n < PIECE ? n : PIECE);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fs_fail(err, errno, ERR_IO, w->at.path, "cannot write");
        p += put;
        n -= (size_t)put;
    }
    return OK;
}

// A file system that cannot tell "rename, but do not replace" can still link to a free name.
static int rename_to_free_name(const char *from, const char *to) {
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE)) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    return link(from, to) ? -1 : unlink(from);
}

static int open_folder(const char *dir) {
    int fd;
    do fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static status sync_dir(const char *dir, error *err) {
    int fd = open_folder(dir), r;
    if (fd < 0) return fs_fail(err, errno, ERR_IO, dir, "cannot open the folder");
    do r = fsync(fd);
    while (r && errno == EINTR);
    // Some network file systems have no fsync of a folder (EINVAL): there is nothing left to do then.
    status s = r && errno != EINVAL ? fs_fail(err, errno, ERR_IO, dir, "cannot sync the folder") : OK;
    close(fd);
    return s;
}

// The file is closed, and its lock gone, when it has its name; after fsync, closing can lose nothing.
status fs_writer_commit(fs_writer *w, error *err) {
    status s = OK;
    int r;
    do r = fsync(w->at.fd);
    while (r && errno == EINTR);
    if (r) s = fs_fail(err, errno, ERR_IO, w->at.path, "cannot sync");
    if (!s && (w->overwrite ? rename(w->at.temp, w->at.path) : rename_to_free_name(w->at.temp, w->at.path)))
        s = errno == EEXIST ? fail(err, ERR_CANTCREAT, "%s: exists already", w->at.path)
                            : fs_fail(err, errno, ERR_CANTCREAT, w->at.path, "cannot rename into place");
    if (s) {
        fs_writer_abort(w);
        return s;
    }
    s = sync_dir(w->at.dir, err);
    writer_free(w);
    return s;
}

void fs_writer_abort(fs_writer *w) {
    if (!w) return;
    unlink(w->at.temp);
    writer_free(w);
}

status fs_write_atomic(const char *path, const void *data, size_t n, bool overwrite, error *err) {
    error unseen;
    if (!err) err = &unseen;
    fs_writer *w = fs_writer_open(path, overwrite, err);
    if (!w) return err->code;
    status s = fs_writer_put(w, data, n, err);
    if (s)
        fs_writer_abort(w);
    else
        s = fs_writer_commit(w, err);
    return s;
}

status fs_copy(const char *from, const char *to, bool overwrite, error *err) {
    enum { BUFFER = 1 << 20 };
    uint64_t size = 0;
    int fd = fs_open_read(from, &size, err);
    if (fd < 0) return err ? err->code : ERR_NOINPUT;
    fs_writer *w = fs_writer_open(to, overwrite, err);
    char *piece = mem_alloc(BUFFER);
    status s = !w ? (err ? err->code : ERR_CANTCREAT) : piece ? OK : short_of_memory(err, from);
    for (uint64_t at = 0; at < size && !s; at += BUFFER) {
        size_t n = size - at < BUFFER ? (size_t)(size - at) : BUFFER;
        s = fs_read_at(fd, from, at, piece, n, err);
        if (!s) s = fs_writer_put(w, piece, n, err);
    }
    close(fd);
    mem_free(piece);
    if (!s) return fs_writer_commit(w, err);
    fs_writer_abort(w);
    return s;
}

// ---------------------------------------------------------------- folders

struct fs_folder {
    pending at;
};

static void folder_free(fs_folder *f) {
    pending_free(&f->at);
    mem_free(f);
}

static void remove_tree(const char *path) {
    char **names;
    size_t n;
    if (fs_list(path, &names, &n, NULL)) return;
    for (size_t i = 0; i < n; i++) {
        char *inner = fs_join(path, names[i]);
        if (inner && unlink(inner)) remove_tree(inner);
        mem_free(inner);
    }
    fs_list_free(names, n);
    rmdir(path);
}

static status check_empty(const char *path, error *err) {
    char **names = NULL;
    size_t n = 0;
    if (fs_is_dir(path)) TRY(fs_list(path, &names, &n, err));
    fs_list_free(names, n);
    return n || (fs_exists(path) && !fs_is_dir(path)) ? fail(err, ERR_CANTCREAT, "%s: exists already", path)
                                                      : OK;
}

// As lock_temp, of a folder; ENOENT: it was taken for a dead one and is gone.
static bool open_locked(fs_folder *f) {
    struct stat opened, named;
    int r;
    if ((f->at.fd = open_folder(f->at.temp)) < 0) return false;
    do r = flock(f->at.fd, LOCK_EX);
    while (r && errno == EINTR);
    if (!fstat(f->at.fd, &opened) && !stat(f->at.temp, &named) && opened.st_ino == named.st_ino) return true;
    close(f->at.fd);
    f->at.fd = -1;
    errno = ENOENT;
    return false;
}

static status make_temp(fs_folder *f, error *err) {
    int e = EEXIST;
    for (int attempt = 0; attempt < 100 && (e == EEXIST || e == ENOENT); attempt++) {
        mem_free(f->at.temp);
        if (!(f->at.temp = temp_name(f->at.dir))) return short_of_memory(err, f->at.path);
        bool made = !mkdir(f->at.temp, 0777);
        if (made && open_locked(f)) return OK;
        e = errno;
        if (made) rmdir(f->at.temp);
    }
    return fs_fail(err, e, ERR_CANTCREAT, f->at.path, "cannot create the folder");
}

fs_folder *fs_folder_new(const char *path, error *err) {
    fs_folder *f = mem_calloc(1, sizeof *f);
    if (!f) {
        short_of_memory(err, path);
        return NULL;
    }
    status s = pending_init(&f->at, path, err);
    if (!s) s = check_empty(path, err);
    if (!s) s = make_temp(f, err);
    if (!s) return f;
    folder_free(f);
    return NULL;
}

const char *fs_folder_temp(const fs_folder *f) { return f->at.temp; }

void fs_folder_abort(fs_folder *f) {
    if (!f) return;
    remove_tree(f->at.temp);
    folder_free(f);
}

// rename replaces an empty folder and no other.
status fs_folder_commit(fs_folder *f, error *err) {
    status s = sync_dir(f->at.temp, err);
    if (!s && rename(f->at.temp, f->at.path))
        s = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR
                ? fail(err, ERR_CANTCREAT, "%s: exists already", f->at.path)
                : fs_fail(err, errno, ERR_CANTCREAT, f->at.path, "cannot rename into place");
    if (s) {
        fs_folder_abort(f);
        return s;
    }
    s = sync_dir(f->at.dir, err);
    if (s && !rename(f->at.path, f->at.temp)) remove_tree(f->at.temp);
    folder_free(f);
    return s;
}
