#include "tests/fixture.h"

#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void open_model(fixture *f, const char *path, const calo_context_options *o) {
    cr_assert_eq(calo_context_new(o, &f->ctx), CALO_OK);
    cr_assert_eq(calo_model_open(f->ctx, path, &f->model), CALO_OK, "%s", calo_message(f->ctx));
}

void begin_with(fixture *f, const char *name, const char *scheduler, const calo_context_options *o) {
    tiny_model_write(name, scheduler, f->dir, sizeof f->dir);
    setenv("XDG_CACHE_HOME", f->dir, 1);
    open_model(f, f->dir, o);
}

void begin_talbot(fixture *f, const calo_context_options *o) {
    *f->dir = 0;
    open_model(f, "assets/talbot", o);
}

calo_context_options options_of(calo_precision p, int threads) {
    calo_context_options o = calo_context_defaults();
    o.precision = p;
    o.threads = threads;
    return o;
}

void begin(fixture *f, const char *name, const char *scheduler) {
    calo_context_options o = options_of(CALO_PRECISION_F32, 1); // quickest for networks this small
    begin_with(f, name, scheduler, &o);
}

void end(fixture *f) {
    calo_model_free(f->model);
    calo_context_free(f->ctx);
    if (*f->dir) tiny_model_remove(f->dir);
}

calo_images *draw(fixture *f, const calo_txt2img_request *r) {
    calo_images *images;
    cr_assert_eq(calo_txt2img(f->model, r, &images), CALO_OK, "%s", calo_message(f->ctx));
    return images;
}

calo_tensor tensor_named(const calo_tensors *t, int run, const char *what) {
    char name[32];
    snprintf(name, sizeof name, "%d.%s", run, what);
    for (size_t i = 0; i < calo_tensors_count(t); i++)
        if (!strcmp(calo_tensors_at(t, i).name, name)) return calo_tensors_at(t, i);
    cr_assert(false, "no golden '%s'", name);
    return (calo_tensor){0};
}

void expect_same(const calo_image *a, const calo_image *b, const char *what) {
    size_t latents = (size_t)a->latent_shape[0] * (size_t)a->latent_shape[1] * (size_t)a->latent_shape[2];
    cr_expect_eq(memcmp(a->rgb, b->rgb, 3 * (size_t)a->width * (size_t)a->height), 0, "pixels, %s", what);
    cr_expect_eq(memcmp(a->latents, b->latents, latents * sizeof(float)), 0, "latents, %s", what);
    cr_expect_str_eq(a->json, b->json, "%s", what);
}

void expect_refused(fixture *f, const calo_txt2img_request *r, calo_status code, const char *says) {
    cr_expect_eq(calo_txt2img(f->model, r, NULL), code);
    cr_expect(strstr(calo_message(f->ctx), says), "'%s' does not say '%s'", calo_message(f->ctx), says);
}
