// libFuzzer: what network enlarges, told from the names and shapes of its tensors (listing.h). What opens has
// a scale and a name; what does not says why.
#include "core/files/model_dir.h"
#include "core/models/rrdb.h"
#include "core/upscaler.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/listing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

void fuzz_start(void) { fuzz_folder(folder); }

static void refused(const error *err) {
    if (!err->code || !*err->text) abort();
}

// The configuration alone, also where tensors are missing.
static void recognise_network(const char *path) {
    error err = {0};
    rrdb_config c;
    file_names names;
    model_files *files = model_files_open(path, NULL, &err);
    if (!files || rrdb_recognise(files, &c, &names, &err))
        refused(&err);
    else if (c.scale < 1 || c.scale > 8 || c.features < 1 || c.blocks < 1 || rrdb_in_channels(&c) < 3 ||
             rrdb_tensors(&c) < 5)
        abort();
    model_files_close(files);
}

static void open_network(const char *path) {
    error err = {0};
    workspace none = {0};
    upscaler *u = upscaler_open(path, &err);
    if (!u) return refused(&err);
    if (upscaler_scale(u) < 1 || upscaler_scale(u) > 8 || strlen(upscaler_name(u)) > 100) abort();
    upscaler_forget(u, &none);
    upscaler_free(u);
}

void fuzz_input(const uint8_t *data, size_t n) {
    const char *path = listing_write(folder, data, n);
    if (!path) return;
    recognise_network(path);
    open_network(path);
    unlink(path);
}
