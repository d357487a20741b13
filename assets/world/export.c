#include "assets/world/export.h"

#include <png.h>

static json_t *object_json(const scene_object *o) {
    return json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f}", "kind", KIND_WORD[o->kind], "color",
                     COLOUR_WORD[o->colour], "size", SIZE_WORD[o->size], "motion", MOTION_WORD[o->motion],
                     "x", (double)o->x, "y", (double)o->y, "radius", (double)o->radius, "angle",
                     (double)o->angle);
}

json_t *scene_json(const scene *s) {
    json_t *objects = json_array();
    for (int i = 0; i < s->count; i++) json_array_append_new(objects, object_json(&s->objects[i]));
    return json_pack("{s:i, s:o, s:s, s:s, s:s, s:s, s:f}", "count", s->count, "objects", objects, "layout",
                     LAYOUT_WORD[s->layout], "background", BACKGROUND_WORD[s->background], "light",
                     LIGHT_WORD[s->light], "split", SPLIT_WORD[scene_split(s)], "time", s->time);
}

status png_save(const char *path, int H, int W, int channels, const uint8_t *pixels, error *err) {
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)W, .height = (png_uint_32)H};
    image.format = channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
    if (png_image_write_to_file(&image, path, 0, pixels, 0, NULL)) return OK;
    return fail(err, ERR_CANTCREAT, "%s: %s", path, image.message);
}
