// Shows in the terminal how a picture forms: preview PROMPT OUT.png [MODEL]
#include <calotype.h>
#include <stdio.h>

enum { COLUMNS = 48 }; // characters of a row; each shows two points, one above the other

// The colour of the picture's point at column x of COLUMNS, row y of as many as keep its proportions.
static const uint8_t *point(const calo_image *im, int rows, int x, int y) {
    return im->rgb +
           3 * ((size_t)(y * im->height / rows) * (size_t)im->width + (size_t)(x * im->width / COLUMNS));
}

static calo_status show(void *user, const calo_image *im, int step) {
    int rows = COLUMNS * im->height / im->width / 2 * 2;
    int *shown = user;
    if (*shown) printf("\033[%dA", *shown + 1); // over the last one
    for (int y = 0; y < rows; y += 2) {
        for (int x = 0; x < COLUMNS; x++) {
            const uint8_t *a = point(im, rows, x, y), *b = point(im, rows, x, y + 1);
            printf("\033[38;2;%d;%d;%dm\033[48;2;%d;%d;%dm▀", a[0], a[1], a[2], b[0], b[1], b[2]);
        }
        puts("\033[m");
    }
    printf("step %d\n", step);
    *shown = rows / 2;
    return fflush(stdout) ? CALO_ERR_IO : CALO_OK;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: preview PROMPT OUT.png [MODEL]\n"), CALO_ERR_USAGE;
    calo_context *ctx = NULL;
    calo_model *model = NULL;
    calo_images *images = NULL;
    int shown = 0; // rows of characters that stand above the cursor

    calo_txt2img_request request = calo_txt2img_defaults();
    request.prompt = argv[1];
    request.steps = 12;
    request.on_preview = show;
    request.preview_every = 1;
    request.user = &shown;

    calo_status s = calo_context_new(NULL, &ctx);
    if (!s) s = calo_model_open(ctx, argc > 3 ? argv[3] : NULL, &model);
    if (!s) s = calo_txt2img(model, &request, &images);
    if (!s) s = show(&shown, calo_images_at(images, 0), request.steps);
    if (!s) s = calo_image_save(ctx, calo_images_at(images, 0), argv[2], NULL);
    if (s) fprintf(stderr, "%s\n", calo_message(ctx));

    calo_images_free(images);
    calo_model_free(model);
    calo_context_free(ctx);
    return (int)s;
}
