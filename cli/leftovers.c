#include "cli/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER = O_RDONLY | O_DIRECTORY | O_CLOEXEC };

static bool is_temporary(const char *name) {
    static const char BEGIN[] = ".calotype-", END[] = ".tmp";
    enum { DIGITS = 16 };
    const char *digits = name + strlen(BEGIN);
    return !strncmp(name, BEGIN, strlen(BEGIN)) && strspn(digits, "0123456789abcdef") == DIGITS &&
           !strcmp(digits + DIGITS, END);
}

// Having the lock means that nobody writes there, nor will: a writer who comes late sees that the file is
// gone.
static void remove_file(int dir, const char *name) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (!fcntl(fd, F_OFD_SETLK, &whole)) unlinkat(dir, name, 0);
    close(fd);
}

// Always by name: a folder that is whole has another.
static void remove_tree(int dir, const char *name) {
    int fd = openat(dir, name, FOLDER | O_NOFOLLOW);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    if (!d && fd >= 0) close(fd);
    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && unlinkat(fd, e->d_name, 0))
            remove_tree(fd, e->d_name);
    if (d) closedir(d);
    unlinkat(dir, name, AT_REMOVEDIR);
}

static void remove_folder(int dir, const char *name) {
    int fd = openat(dir, name, FOLDER | O_NOFOLLOW);
    if (fd < 0) return;
    if (!flock(fd, LOCK_EX | LOCK_NB)) remove_tree(dir, name);
    close(fd);
}

static void remove_dead(int dir, const char *name) {
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) return;
    if (S_ISREG(st.st_mode)) remove_file(dir, name);
    if (S_ISDIR(st.st_mode)) remove_folder(dir, name);
}

static void clean(int dir, int levels) {
    DIR *d = fdopendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (is_temporary(e->d_name)) remove_dead(dir, e->d_name);
        int inner = levels && *e->d_name != '.' ? openat(dir, e->d_name, FOLDER | O_NOFOLLOW) : -1;
        if (inner >= 0) clean(inner, levels - 1);
    }
    if (d)
        closedir(d);
    else
        close(dir);
}

void leftovers_remove(const char *dir, int levels) {
    int d = open(dir, FOLDER);
    if (d >= 0) clean(d, levels);
}

void leftovers_remove_beside(const char *path, int levels) {
    char name[PATH_MAX];
    snprintf(name, sizeof name, "%s", path);
    leftovers_remove(dirname(name), levels);
}
