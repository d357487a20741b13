// libFuzzer: a training configuration.
#include "core/train/config.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    train_config c;
    error err = {0};
    status s = train_config_parse(&c, "fuzz", (const char *)data, n, &err);
    if (s ? s != err.code || !*err.text : c.n_stages < 1 || c.n_stages > TRAIN_STAGES_MAX) abort();
    for (int i = 0; !s && i < c.n_stages; i++)
        if (c.stage[i].batch < 1 || c.stage[i].n_sizes < 1 || c.stage[i].sizes[0].W < 8) abort();
    train_config_free(&c);
    return 0;
}
