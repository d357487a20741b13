#include "assets/world/reproduce/reproduce.h"

#include <string.h>

#include "assets/world/reproduce/zsnr.h"

static const struct {
    const char *name;
    status (*run)(const reproduce_request *, const log_sink *, reproduce_result *, error *);
} SYSTEMS[] = {{"zsnr", reproduce_zsnr}};
enum { N_SYSTEMS = sizeof SYSTEMS / sizeof *SYSTEMS };

const char REPRODUCE_RECOGNISER[] = "assets/world/recogniser.safetensors";

const char *reproduce_name(int i) { return i >= 0 && i < N_SYSTEMS ? SYSTEMS[i].name : NULL; }

static void put(void *user, log_level level, const char *text) {
    const reproduce_request *r = user;
    (void)level;
    if (r->log) r->log(r->user, text);
}

calo_status reproduce(const char *name, const reproduce_request *request, reproduce_result *result) {
    error err = {0};
    log_sink log = {put, (void *)(uintptr_t)request, LOG_LEVEL_INFO};
    status s = ERR_USAGE;
    *result = (reproduce_result){0};
    int i = 0;
    while (i < N_SYSTEMS && strcmp(SYSTEMS[i].name, name) != 0) i++;
    if (i < N_SYSTEMS)
        s = SYSTEMS[i].run(request, &log, result, &err);
    else
        fail(&err, ERR_USAGE, "nothing is called '%s' that could be reproduced", name);
    memcpy(result->message, err.text, sizeof result->message);
    return (calo_status)s;
}
