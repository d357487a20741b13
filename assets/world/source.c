#include "assets/world/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "assets/world/caption.h"
#include "assets/world/picture.h"
#include "core/base/mem.h"

// How often captions leave a part out, and say it in another word.
static const double LEAVE_OUT = 0.35, SYNONYM = 0.3;

typedef struct {
    uint64_t seed;
    double pairs; // share; negative: the world's own
    char name[80];
} world;

static scene scene_of(const world *w, uint64_t i) {
    scene_choice choice = {.split = SPLIT_TRAIN};
    if (w->pairs >= 0) {
        dice d = dice_new(w->seed + 1, i);
        choice.count = dice_chance(&d, w->pairs) ? 2 : 1;
    }
    return scene_sample(w->seed, i, choice);
}

static status world_picture(void *self, uint64_t i, int W, int H, uint8_t *rgb, source_spots *spots,
                            error *err) {
    scene s = scene_of(self, i);
    if (spots) {
        spots->n = s.count;
        for (int k = 0; k < s.count; k++) spots->at[k] = (source_spot){s.objects[k].x, s.objects[k].y};
    }
    return picture_rgb8(&s, H, W, rgb, err);
}

static status world_caption(void *self, uint64_t i, uint64_t telling, char text[SOURCE_CAPTION_MAX],
                            error *err) {
    const world *w = self;
    (void)err;
    char caption[CAPTION_SIZE];
    scene s = scene_of(w, i);
    dice d = dice_new(w->seed + 2, i ^ telling << 32);
    if (dice_chance(&d, 0.5)) s = scene_reversed(&s);
    caption_write(&s, (caption_style){.leave_out = LEAVE_OUT, .synonym = SYNONYM}, &d, caption);
    snprintf(text, SOURCE_CAPTION_MAX, "%s", caption);
    return OK;
}

static status parse(world *w, const char *spec, error *err) {
    const char *rest = strchr(spec, ':');
    char *end = NULL;
    w->pairs = -1;
    if (!rest || strncmp(spec, "world:", 6)) return fail(err, ERR_USAGE, "data \"%s\": no such source", spec);
    if (!*++rest) return OK;
    if (!strncmp(rest, "pairs=", 6)) w->pairs = strtod(rest + 6, &end);
    if (!end || *end || end == rest + 6 || !(w->pairs >= 0 && w->pairs <= 1))
        return fail(err, ERR_USAGE, "data \"%s\": the world takes \"pairs=SHARE\", from 0 to 1", spec);
    return OK;
}

status world_source_open(void *user, const char *spec, uint64_t seed, sample_source *source, error *err) {
    (void)user;
    world *w = mem_calloc(1, sizeof *w);
    if (!w) return fail(err, ERR_TEMP, "out of memory");
    w->seed = seed;
    status s = parse(w, spec, err);
    snprintf(w->name, sizeof w->name, "world, %.6g pairs", w->pairs);
    *source = (sample_source){.self = w,
                              .name = w->name,
                              .n_buckets = 1,
                              .picture = world_picture,
                              .caption = world_caption,
                              .free = mem_free};
    if (s) source_free(source);
    return s;
}
