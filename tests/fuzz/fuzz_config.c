// libFuzzer: the configurations of networks and schedulers. Each text is read as all of them.
#include "core/base/json.h"
#include "core/models/clip.h"
#include "core/models/unet.h"
#include "core/models/vae.h"
#include "samplers/scheduler_config.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

// Failure has a code and a text; success leaves the code alone.
static void check(status s, const error *err) {
    if (s ? s != err->code || !*err->text : err->code) abort();
}

void fuzz_start(void) {}

void fuzz_input(const uint8_t *data, size_t n) {
    error err[6] = {0};
    json_t *j = js_parse("fuzz", (const char *)data, n, &err[0]);
    json_t *loaded = js_load(fuzz_file(data, n), 1 << 16, &err[5]);
    unet_config unet;
    vae_config vae;
    clip_config clip;
    schedule_config scheduler;
    schedule schedule = {0};
    if (!json_equal(j, loaded) && j && !fuzz_failed()) abort();
    json_decref(loaded);
    if (!j) return check(err[0].code ? err[0].code : ERR_INTERNAL, &err[0]);
    check(unet_config_parse(&unet, j, "unet", &err[1]), &err[1]);
    check(vae_config_parse(&vae, j, "vae", &err[2]), &err[2]);
    check(clip_config_parse(&clip, j, "clip", &err[3]), &err[3]);
    status s = scheduler_config_read(&scheduler, j, &err[4]);
    check(s, &err[4]);
    if (!s) check(schedule_init(&schedule, &scheduler, &err[4]), &err[4]);
    schedule_free(&schedule);
    json_decref(j);
}
