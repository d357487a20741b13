#include "cli/files.h"

#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int file_code(int number, int otherwise) {
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: // the process's own limit
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return CALO_ERR_TEMP;
    case EIO:
        return CALO_ERR_IO;
    default:
        return otherwise;
    }
}

int file_open(int dir, const char *path, int flags) {
    int fd;
    do fd = openat(dir, path, flags, 0666);
    while (fd < 0 && errno == EINTR && !session_stopped());
    return fd;
}

int file_read(int fd, size_t limit, char **text, size_t *n) {
    size_t room = 0;
    for (*text = NULL, *n = 0; *n <= limit;) {
        if (*n + 1 >= room) {
            char *more = realloc(*text, room = room ? 2 * room : 1 << 12);
            if (!more) return ENOMEM;
            *text = more;
        }
        ssize_t got = read(fd, *text + *n, room - 1 - *n);
        if (got == 0) break;
        if (got > 0)
            *n += (size_t)got;
        else if (errno != EINTR || session_stopped())
            return errno;
    }
    (*text)[*n] = 0;
    return 0;
}
