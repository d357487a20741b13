// Pictures: made from text, kept, saved.
#include "core/pipeline_hires.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/files/image.h"
#include "samplers/spacing.h"

struct calo_images {
    calo_image *at;
    size_t n, room;
};

void calo_txt2img_request_init(calo_txt2img_request *request, size_t size) {
    calo_txt2img_request r = {.size = sizeof r,
                              .steps = 20,
                              .cfg_scale = 7,
                              .cfg_rescale = -1,
                              .eta = -1,
                              .s_noise = 1,
                              .cfg_end = 1,
                              .strength = 0.75,
                              .mask_blur = 4,
                              .mask_padding = 32,
                              .image_cfg_scale = 1.5,
                              .hires_denoise = 0.7,
                              .refiner_switch_at = 0.8};
    api_struct_fill(request, size, &r, sizeof r);
}

const char *calo_sampler_name(int i) {
    const sampler *s = sampler_at(i);
    return s ? s->name : NULL;
}

const char *calo_spacing_name(int i) {
    const spacing_row *row = spacing_at(i);
    return row ? row->name : NULL;
}

const char *calo_hires_upscaler_name(int i) { return hires_upscaler_name(i); }

// ---- kept images own copies of everything they point to

static void *copy(const void *p, size_t n) {
    void *c = mem_alloc(n);
    return c ? memcpy(c, p, n) : NULL;
}

static void free_image(calo_image *im) {
    mem_free((void *)(uintptr_t)im->rgb);
    mem_free((void *)(uintptr_t)im->latents);
    mem_free((void *)(uintptr_t)im->parameters);
    mem_free((void *)(uintptr_t)im->json);
}

static status keep(calo_images *list, const calo_image *im, error *err) {
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 4;
        calo_image *more = mem_realloc(list->at, room, sizeof *more);
        if (!more) return fail(err, ERR_TEMP, "out of memory");
        list->at = more;
        list->room = room;
    }
    size_t latents = (size_t)im->latent_shape[0] * (size_t)im->latent_shape[1] * (size_t)im->latent_shape[2];
    calo_image c = *im;
    c.rgb = copy(im->rgb, 3 * (size_t)im->width * (size_t)im->height);
    c.latents = copy(im->latents, latents * sizeof *im->latents);
    c.parameters = mem_strdup(im->parameters);
    c.json = mem_strdup(im->json);
    if (c.rgb && c.latents && c.parameters && c.json) return list->at[list->n++] = c, OK;
    free_image(&c);
    return fail(err, ERR_TEMP, "out of memory");
}

size_t calo_images_count(const calo_images *images) { return images ? images->n : 0; }

const calo_image *calo_images_at(const calo_images *images, size_t i) {
    return images && i < images->n ? &images->at[i] : NULL;
}

void calo_images_free(calo_images *images) {
    if (!images) return;
    for (size_t i = 0; i < images->n; i++) free_image(&images->at[i]);
    mem_free(images->at);
    mem_free(images);
}

// ---- txt2img

typedef struct {
    const calo_txt2img_request *request;
    calo_images *images; // or NULL
} receiver;

static status receive(void *user, const calo_image *im, error *err) {
    receiver *r = user;
    status s = r->images ? keep(r->images, im, err) : OK;
    if (s || !r->request->on_image) return s;
    calo_status own = r->request->on_image(r->request->user, im);
    if (own && !err->code) fail(err, (status)own, "stopped by the receiver of pictures");
    return (status)own;
}

calo_status calo_txt2img(calo_model *m, const calo_txt2img_request *request, calo_images **images) {
    error *err = api_enter(m->ctx);
    txt2img t;
    calo_txt2img_request r = calo_txt2img_defaults();
    receiver to = {&r, NULL};
    if (images && !(*images = to.images = mem_calloc(1, sizeof *to.images)))
        return api_leave(fail(err, ERR_TEMP, "out of memory"));
    status s = api_struct_take(&r, sizeof r, request, "request", err);
    if (s) return api_leave(s);
    s = txt2img_init(&t, m, &r, err);
    if (!s && !r.no_hash) s = model_sha256(m, err);
    if (!s && !r.no_hash) s = model_vae_sha256(m, err);
    if (!s && !r.no_hash && r.refiner) s = model_sha256(r.refiner, err);
    if (!s) s = txt2img_run(&t, receive, &to, err);
    txt2img_free(&t);
    return api_leave(s);
}

// ---- files

status api_image_list(image *rgb, calo_images **picture, error *err) {
    calo_images *list = mem_calloc(1, sizeof *list);
    calo_image *one = mem_realloc(NULL, 1, sizeof *one);
    if (!list || !one) return mem_free(list), mem_free(one), fail(err, ERR_TEMP, "out of memory");
    *one = (calo_image){.size = sizeof *one, .width = rgb->w, .height = rgb->h, .rgb = rgb->px};
    *list = (calo_images){one, 1, 1};
    *picture = list;
    *rgb = (image){0};
    return OK;
}

calo_status calo_image_load(calo_context *ctx, const char *path, calo_images **picture) {
    error *err = api_enter(ctx);
    image file = {0}, rgb = {0};
    *picture = NULL;
    status s = image_load(path, &file, err);
    if (!s) s = image_channels(&file, 3, &rgb, err);
    image_free(&file);
    if (!s) s = api_image_list(&rgb, picture, err);
    image_free(&rgb);
    return api_leave(s);
}

void calo_save_options_init(calo_save_options *options, size_t size) {
    calo_save_options o = {.size = sizeof o};
    api_struct_fill(options, size, &o, sizeof o);
}

calo_status calo_image_save(calo_context *ctx, const calo_image *picture, const char *path,
                            const calo_save_options *options) {
    error *err = api_enter(ctx);
    calo_save_options o = calo_save_defaults();
    calo_image p = {.size = sizeof p};
    status s = options ? api_struct_take(&o, sizeof o, options, "options", err) : OK;
    if (!s && picture) s = api_struct_take(&p, sizeof p, picture, "picture", err);
    if (!s && !p.rgb) s = fail(err, ERR_USAGE, "%s: there is no picture to save", path);
    if (!s && (o.quality < 0 || o.quality > 100))
        s = fail(err, ERR_USAGE, "%s: the quality %d is not in 0 .. 100", path, o.quality);
    if (s) return api_leave(s);
    image_text texts[] = {{"parameters", p.parameters}, {"calotype", p.json}};
    image_options how = {
        .quality = o.quality, .texts = texts, .n_texts = o.no_metadata || !p.parameters || !p.json ? 0 : 2};
    image im = {.w = p.width, .h = p.height, .c = 3, .px = (uint8_t *)(uintptr_t)p.rgb};
    return api_leave(image_save(path, &im, &how, o.overwrite, err));
}
