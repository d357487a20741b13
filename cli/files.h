// What the commands need of files beside the library.
#pragma once
#include <stddef.h>

// The exit code for a call that left this errno: short memory and a full disk may pass, a device failed, or
// `otherwise`.
int file_code(int number, int otherwise);
// openat, once more after a signal unless that is to stop the program. `dir` may be AT_FDCWD.
int file_open(int dir, const char *path, int flags);
// What is left of a file or pipe, with a NUL behind it; of one longer than `limit` enough to show that. The
// caller frees *text, after a failure too. Returns 0 or an errno, EINTR when a signal is to stop the program.
int file_read(int fd, size_t limit, char **text, size_t *n);
