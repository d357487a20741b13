#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tools/faults.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { TAIL = 4, MAX_FOLDERS = 4, FOLDER = 64 };

static char folders[MAX_FOLDERS][FOLDER];
static int n_folders;

bool fuzz_failed(void) { return faults_hit(); }

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    faults_share();
    faults_spare_json();
    fuzz_start();
    return 0;
}

// The kind of fault that the input asks for; FAULT_KINDS: none.
static fault_kind asked_for(const uint8_t *data, size_t n) {
    static const char LETTERS[FAULT_KINDS] = {[FAULT_MEMORY] = 'm',
                                              [FAULT_EIO] = 'e',
                                              [FAULT_ENOSPC] = 'n',
                                              [FAULT_EINTR] = 'i',
                                              [FAULT_SHORT] = 's'};
    if (n < TAIL || data[n - 4] != 0xfb || data[n - 3] != '!') return FAULT_KINDS;
    const char *letter = memchr(LETTERS, data[n - 2], FAULT_KINDS);
    return letter ? (fault_kind)(letter - LETTERS) : FAULT_KINDS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fault_kind kind = asked_for(data, n);
    bool asked = kind != FAULT_KINDS;
    size_t m = asked ? n - TAIL : n;
    uint8_t *input = malloc(m); // a copy, so that the sanitizer sees who reads behind its end
    memcpy(input, data, m);
    faults_arm(asked ? kind : FAULT_MEMORY, asked ? data[n - 1] : -1);
    fuzz_input(input, m);
    faults_disarm(NULL);
    free(input);
    return 0;
}

const char *fuzz_file(const uint8_t *data, size_t n) {
    static int fd = -1;
    static char path[40];
    if (fd < 0) fd = memfd_create("fuzz", 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fuzz_write(path, data, n);
    return path;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk) {
    (void)st, (void)type, (void)walk;
    return remove(path);
}

static void remove_folders(void) {
    while (n_folders) nftw(folders[--n_folders], remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void fuzz_folder(char *dir) {
    if (n_folders == MAX_FOLDERS) abort();
    snprintf(dir, FOLDER, "%s/calotype-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) abort();
    if (!n_folders) atexit(remove_folders);
    memcpy(folders[n_folders++], dir, FOLDER);
}

void fuzz_write(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}
