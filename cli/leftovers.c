#include "cli/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
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
static void remove_dead(int dir, const char *name) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) return;
    int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (!fcntl(fd, F_OFD_SETLK, &whole)) unlinkat(dir, name, 0);
    close(fd);
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
