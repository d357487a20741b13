#include "cli/journal.h"

#include "cli/digest.h"
#include "cli/files.h"
#include "core/calotype.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct journal {
    int fd;
    off_t read;                   // bytes of whole lines seen so far
    long lines, torn, first_torn; // seen so far; torn: those that say nothing
    bool opened;                  // what comes now was written since
    json_t *states; // id → the line of a job that is done, or false for one that has failed since
};

// Behind every claim, so that it meets none: held while a line is appended.
static const off_t APPEND_LOCK = (off_t)1 << 62;

static bool lock(const journal *j, short kind, off_t at, bool wait) {
    struct flock f = {.l_type = kind, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    int r;
    do r = fcntl(j->fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &f);
    while (r && wait && errno == EINTR);
    return !r;
}

uint64_t journal_number(const char *id) { return digest_text(id).number & (uint64_t)(APPEND_LOCK - 1); }

bool journal_claim(journal *j, const char *id) { return lock(j, F_WRLCK, (off_t)journal_number(id), false); }
void journal_release(journal *j, const char *id) { lock(j, F_UNLCK, (off_t)journal_number(id), false); }

// ---- reading

static int take_line(journal *j, const char *text, size_t n) {
    json_error_t e;
    json_t *line = json_loadb(text, n, 0, &e);
    if (!line && json_error_code(&e) == json_error_out_of_memory) return CALO_ERR_TEMP;
    const char *id = json_string_value(json_object_get(line, "id")),
               *status = json_string_value(json_object_get(line, "status"));
    bool says = id && status;
    int bad = 0;
    if (says && !strcmp(status, "done"))
        bad = json_object_set(j->states, id, line);
    else if (says && j->opened)
        bad = json_object_set_new(j->states, id, json_false());
    else if (says)
        json_object_del(j->states, id);
    json_decref(line);
    if (bad) return CALO_ERR_TEMP;
    j->lines++;
    if (!says && !j->torn++) j->first_torn = j->lines;
    return 0;
}

// Whole lines only: another process may be writing the last one. A line for which memory was short is taken
// again the next time.
static int take_lines(journal *j, const char *text, size_t n) {
    const char *end;
    while ((end = memchr(text, '\n', n))) {
        size_t length = (size_t)(end - text) + 1;
        int code = take_line(j, text, length);
        if (code) return code;
        j->read += (off_t)length;
        text += length;
        n -= length;
    }
    return 0;
}

int journal_refresh(journal *j) {
    struct stat st;
    if (fstat(j->fd, &st)) return CALO_ERR_IO;
    if (st.st_size <= j->read) return 0;
    size_t n = (size_t)(st.st_size - j->read), have = 0;
    char *text = malloc(n);
    if (!text) return CALO_ERR_TEMP;
    int code = 0;
    while (have < n && !code) {
        ssize_t got = pread(j->fd, text + have, n - have, j->read + (off_t)have);
        if (got == 0) break;
        if (got > 0)
            have += (size_t)got;
        else if (errno != EINTR)
            code = CALO_ERR_IO;
    }
    if (!code) code = take_lines(j, text, have);
    free(text);
    return code;
}

journal_state journal_of(const journal *j, const char *id) {
    const json_t *line = json_object_get(j->states, id);
    return !line ? JOURNAL_OPEN : json_is_object(line) ? JOURNAL_DONE : JOURNAL_FAILED;
}

const json_t *journal_line(const journal *j, const char *id) {
    const json_t *line = json_object_get(j->states, id);
    return json_is_object(line) ? line : NULL;
}

// ---- writing

static int write_all(int fd, const char *text, size_t n) {
    while (n) {
        ssize_t put = write(fd, text, n);
        if (put < 0 && errno != EINTR) return file_code(errno, CALO_ERR_IO);
        if (put > 0) {
            text += put;
            n -= (size_t)put;
        }
    }
    return 0;
}

// A line that a killed process left torn is ended first, so that it spoils no other.
static int end_torn_line(const journal *j) {
    struct stat st;
    char last = '\n';
    ssize_t got = 1;
    if (fstat(j->fd, &st)) return CALO_ERR_IO;
    do
        if (st.st_size) got = pread(j->fd, &last, 1, st.st_size - 1);
    while (got < 0 && errno == EINTR);
    if (got != 1) return CALO_ERR_IO;
    return last == '\n' ? 0 : write_all(j->fd, "\n", 1);
}

static int append(const journal *j, const char *text, size_t n) {
    int code = end_torn_line(j);
    if (!code) code = write_all(j->fd, text, n);
    while (!code && fsync(j->fd))
        if (errno != EINTR) code = file_code(errno, CALO_ERR_IO);
    return code;
}

int journal_put(journal *j, json_t *line) {
    char *dump = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
    size_t n = dump ? strlen(dump) : 0;
    char *text = dump ? realloc(dump, n + 2) : NULL;
    if (!text) return free(dump), CALO_ERR_TEMP;
    memcpy(text + n, "\n", 2);
    int code = lock(j, F_WRLCK, APPEND_LOCK, true) ? append(j, text, n + 1) : CALO_ERR_IO;
    lock(j, F_UNLCK, APPEND_LOCK, false);
    free(text);
    return code ? code : journal_refresh(j);
}

// ---- opening

static int make_folder(const char *dir) {
    char path[4096];
    size_t n = strlen(dir);
    if (n >= sizeof path) return errno = ENAMETOOLONG, -1;
    for (size_t i = 1; i <= n; i++) {
        if (dir[i] && dir[i] != '/') continue;
        memcpy(path, dir, i);
        path[i] = 0;
        if (mkdir(path, 0777) && errno != EEXIST) return -1;
    }
    return 0;
}

static int open_file(journal *j, const char *dir) {
    int folder = file_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) return -1;
    j->fd = file_open(folder, "manifest.jsonl", O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
    if (j->fd >= 0) fsync(folder); // its name lasts; some network file systems cannot, which does no harm
    close(folder);
    struct stat st;
    if (j->fd < 0 || fstat(j->fd, &st)) return -1;
    return S_ISREG(st.st_mode) ? 0
                               : (errno = EINVAL, -1); // a pipe of that name would take lines and keep none
}

static int read_first(journal *j) {
    int code = lock(j, F_WRLCK, APPEND_LOCK, true) ? end_torn_line(j) : CALO_ERR_IO;
    lock(j, F_UNLCK, APPEND_LOCK, false);
    return code ? code : journal_refresh(j);
}

int journal_open(const char *dir, journal **out, char *message, size_t size) {
    int code = 0;
    *message = 0;
    journal *j = *out = calloc(1, sizeof *j);
    if (j) *j = (journal){.fd = -1, .states = json_object()};
    if (!j || !j->states)
        code = CALO_ERR_TEMP;
    else if (make_folder(dir) || open_file(j, dir))
        code = file_code(errno, CALO_ERR_CANTCREAT);
    else
        code = read_first(j);
    if (!code) {
        j->opened = true;
        if (j->torn)
            snprintf(message, size, "%s/manifest.jsonl: line %ld is torn or says nothing of a job%s", dir,
                     j->first_torn, j->torn > 1 ? ", and others" : "");
        return 0;
    }
    snprintf(message, size, "%s/manifest.jsonl: %s", dir, strerror(errno));
    journal_close(j);
    *out = NULL;
    return code;
}

void journal_close(journal *j) {
    if (!j) return;
    if (j->fd >= 0) close(j->fd);
    json_decref(j->states);
    free(j);
}
