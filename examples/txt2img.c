// Draws a prompt: txt2img PROMPT OUT.png [MODEL]
#include <calotype.h>

#include <stdio.h>

static void show(void *user, const calo_progress *p) {
    (void)user;
    fprintf(stderr, "%s: %d of %d, %.3f s\n", p->stage, p->step, p->steps, p->seconds);
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: txt2img PROMPT OUT.png [MODEL]\n"), CALO_ERR_USAGE;
    calo_context *ctx = NULL;
    calo_model *model = NULL;
    calo_images *images = NULL;

    calo_context_options options = calo_context_defaults();
    options.progress = show;
    calo_txt2img_request request = calo_txt2img_defaults();
    request.prompt = argv[1];
    request.steps = 10;
    request.seed = 42;

    calo_status s = calo_context_new(&options, &ctx);
    if (!s) s = calo_model_open(ctx, argc > 3 ? argv[3] : NULL, &model);
    if (!s) s = calo_txt2img(model, &request, &images);
    if (!s) s = calo_image_save(ctx, calo_images_at(images, 0), argv[2], NULL);
    if (s) fprintf(stderr, "%s\n", calo_message(ctx));

    calo_images_free(images);
    calo_model_free(model);
    calo_context_free(ctx);
    return (int)s;
}
