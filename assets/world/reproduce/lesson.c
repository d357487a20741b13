#include "assets/world/reproduce/lesson.h"

#include <stdio.h>
#include <string.h>

#include "assets/world/caption.h"
#include "assets/world/picture.h"
#include "core/base/mem.h"

enum { TRIES = 20 }; // bits of an index left for scenes that are passed over

scene lesson_scene(uint64_t seed, uint64_t i) {
    uint64_t at = i << TRIES;
    scene s;
    do s = scene_sample(seed, at++, (scene_choice){.split = SPLIT_TRAIN, .count = 1});
    while (s.background >= BG_NIGHT);
    return s;
}

static status lesson_picture(void *self, uint64_t i, int W, int H, uint8_t *rgb, source_spots *spots,
                             error *err) {
    scene s = lesson_scene(*(uint64_t *)self, i);
    if (spots) *spots = (source_spots){1, {{s.objects[0].x, s.objects[0].y}}};
    return picture_rgb8(&s, H, W, rgb, err);
}

static status lesson_caption(void *self, uint64_t i, uint64_t telling, char text[SOURCE_CAPTION_MAX],
                             error *err) {
    (void)telling, (void)err;
    char caption[CAPTION_SIZE];
    scene s = lesson_scene(*(uint64_t *)self, i);
    caption_full(&s, caption);
    snprintf(text, SOURCE_CAPTION_MAX, "%s", caption);
    return OK;
}

status lesson_open(void *user, const char *spec, uint64_t seed, sample_source *source, error *err) {
    (void)user;
    if (strcmp(spec, "lesson:") != 0) return fail(err, ERR_USAGE, "data \"%s\": no such source", spec);
    uint64_t *own = mem_alloc(sizeof *own);
    if (!own) return fail(err, ERR_TEMP, "out of memory");
    *own = seed;
    *source = (sample_source){.self = own,
                              .name = "lesson",
                              .n_buckets = 1,
                              .picture = lesson_picture,
                              .caption = lesson_caption,
                              .free = mem_free};
    return OK;
}
