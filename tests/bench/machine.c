#include "tests/bench/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double machine_seconds(const team *t) {
    struct timespec at;
    clock_gettime(team_size(t) == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

void machine_die(const char *why) {
    fprintf(stderr, "bench: %s\n", why);
    exit(1);
}

// The value of the first line "key : value" of a file of /proc, or "".
static void proc_value(const char *path, const char *key, char *value, size_t size) {
    FILE *f = fopen(path, "r");
    char line[8192];
    *value = 0;
    while (f && !*value && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) || !colon) continue;
        snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " \t"));
        value[strcspn(value, "\n")] = 0;
    }
    if (f) fclose(f);
}

double machine_peak_gb(void) {
    char text[64];
    proc_value("/proc/self/status", "VmHWM", text, sizeof text);
    return atof(text) * 1024e-9;
}

void machine_head(const char *title, const team *t) {
    static const char *const SETS[] = {"avx2",        "fma",         "avx512f", "avx512_vnni",
                                       "avx512_bf16", "avx512_fp16", "amx_bf16"};
    char model[128], flags[8192];
    proc_value("/proc/cpuinfo", "model name", model, sizeof model);
    proc_value("/proc/cpuinfo", "flags", flags, sizeof flags);
    printf("\n### %s\n\n%s, %d threads:", title, model, team_size(t));
    for (size_t i = 0; i < sizeof SETS / sizeof *SETS; i++) {
        const char *at = strstr(flags, SETS[i]);
        if (at && strchr(" ", at[strlen(SETS[i])])) printf(" %s", SETS[i]);
    }
    printf("\n\n");
}
