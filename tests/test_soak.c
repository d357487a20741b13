// Many pictures in one process: memory, descriptors and threads stay what they are. CALO_SOAK=2000 pictures
// for
// ./dev soak; fewer here.
#include "core/calotype.h"
#include "tests/tiny_model.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FEW = 120 };

static char model[512], folder[512]; // the folder is a fresh one around the model

static void begin(void) { tiny_model_settle(model, folder, sizeof folder); }

static void end(void) { tiny_model_remove(model); }

TestSuite(soak, .init = begin, .fini = end, .timeout = 7200);

typedef struct {
    long kilobytes; // resident
    int descriptors, threads;
} usage;

static int entries(const char *dir) {
    DIR *d = opendir(dir);
    int n = 0;
    cr_assert_not_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static usage measure(void) {
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    cr_assert(f && fscanf(f, "%ld %ld", &all, &resident) == 2);
    fclose(f);
    return (usage){resident * (sysconf(_SC_PAGESIZE) / 1024), entries("/proc/self/fd"),
                   entries("/proc/self/task")};
}

// Sizes, samplers, guidance, prompts and formats change from picture to picture, so that plans come and go.
static void draw(calo_context *ctx, calo_model *m, int i) {
    static const char *const FORMATS[] = {"png", "jpg", "webp"};
    static const int SIDES[] = {32, 48, 64};
    char path[600], prompt[40];
    calo_images *images = NULL;
    calo_txt2img_request r = calo_txt2img_defaults();
    int samplers = 0;
    while (calo_sampler_name(samplers)) samplers++;
    snprintf(prompt, sizeof prompt, "boat number %d", i);
    snprintf(path, sizeof path, "%s/picture.%s", folder, FORMATS[i % 3]);
    r.prompt = prompt;
    r.steps = 2;
    r.seed = (uint64_t)i;
    r.sampler = calo_sampler_name(i % samplers);
    r.width = SIDES[i % 3];
    r.height = SIDES[i / 3 % 3];
    r.cfg_scale = i % 4 ? 5 : 1;
    calo_save_options o = calo_save_defaults();
    o.overwrite = 1;
    cr_assert_eq(calo_txt2img(m, &r, &images), CALO_OK, "%s", calo_message(ctx));
    cr_assert_eq(calo_image_save(ctx, calo_images_at(images, 0), path, &o), CALO_OK, "%s", calo_message(ctx));
    calo_images_free(images);
}

Test(soak, memory_descriptors_and_threads_stay) {
    const char *asked = getenv("CALO_SOAK");
    int n = asked ? atoi(asked) : FEW, warm = n / 2 < 500 ? n / 2 : 500;
    calo_context *ctx = NULL;
    calo_model *m = NULL;
    usage before = {0};
    cr_assert_eq(calo_context_new(NULL, &ctx), CALO_OK);
    cr_assert_eq(calo_model_open(ctx, model, &m), CALO_OK, "%s", calo_message(ctx));
    for (int i = 0; i < n; i++) {
        if (i == warm) before = measure();
        draw(ctx, m, i);
    }
    usage after = measure();
    fprintf(stderr,
            "%d pictures; from picture %d on: memory %ld to %ld kB (%+.2f %%), descriptors %d to %d, threads "
            "%d to "
            "%d\n",
            n, warm, before.kilobytes, after.kilobytes,
            100.0 * (double)(after.kilobytes - before.kilobytes) / (double)before.kilobytes,
            before.descriptors, after.descriptors, before.threads, after.threads);
    cr_expect_eq(after.descriptors, before.descriptors);
    cr_expect_eq(after.threads, before.threads);
    // A sanitizer keeps freed memory back, so that only the plain build can tell.
    if (asked) cr_expect_lt(after.kilobytes, before.kilobytes * 1.01);
    calo_model_free(m);
    calo_context_free(ctx);
}
