// Standard input, output and error of a program that was started without them.
#pragma once
#include <fcntl.h>
#include <unistd.h>

// The next file to be opened would get the number of one that is closed, and messages would land in it. They
// are held the wrong way round, so that reading or writing them stays an error.
static inline void standard_hold(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}
