#include "assets/world/labels.h"

static const char *const COUNT_WORD[] = {"one", "two"};
static const char *const CANONICAL_WORD[] = {"left", "center", "right", "under", "left of"};

const label_head LABEL_HEAD[LABELS] = {
    [LABEL_COUNT] = {"count", 2, COUNT_WORD},
    [LABEL_LAYOUT] = {"layout", 5, CANONICAL_WORD},
    [LABEL_BACKGROUND] = {"background", BACKGROUNDS, BACKGROUND_WORD},
    [LABEL_LIGHT] = {"light", LIGHTS, LIGHT_WORD},
    [LABEL_KIND] = {"kind", KINDS, KIND_WORD},
    [LABEL_COLOUR] = {"color", COLOURS, COLOUR_WORD},
    [LABEL_SIZE] = {"size", SIZES, SIZE_WORD},
    [LABEL_OTHER_KIND] = {"other kind", KINDS, KIND_WORD},
    [LABEL_OTHER_COLOUR] = {"other color", COLOURS, COLOUR_WORD},
    [LABEL_OTHER_SIZE] = {"other size", SIZES, SIZE_WORD},
};

void labels_of_facts(const facts *f, int label[LABELS]) {
    static const int class_of[LAYOUTS] = {0, 1, 2, 3, 3, 4, 4};
    bool reversed = f->layout == LAYOUT_ABOVE || f->layout == LAYOUT_RIGHT_OF;
    label[LABEL_COUNT] = f->count - 1;
    label[LABEL_LAYOUT] = f->layout < 0 ? -1 : class_of[f->layout];
    label[LABEL_BACKGROUND] = f->background;
    label[LABEL_LIGHT] = f->light;
    for (int i = 0; i < 2; i++) {
        static const stated_object none = {-1, -1, -1, -1};
        const stated_object *o = i < f->count ? &f->objects[reversed ? 1 - i : i] : &none;
        int *at = label + (i ? LABEL_OTHER_KIND : LABEL_KIND);
        at[0] = o->kind, at[1] = o->colour, at[2] = o->size;
    }
}

void labels_of_scene(const scene *s, int label[LABELS]) {
    facts f = {.count = s->count, .layout = s->layout, .background = s->background, .light = s->light};
    for (int i = 0; i < s->count; i++) {
        const scene_object *o = &s->objects[i];
        f.objects[i] = (stated_object){o->kind, o->colour, o->size, o->motion};
    }
    labels_of_facts(&f, label);
}
