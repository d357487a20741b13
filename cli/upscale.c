// calotype upscale: larger pictures.
#include "cli/commands.h"
#include "cli/drawing.h"
#include "cli/outputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    common common;
    const char *output;
    double scale;
    int tile, quality;
    bool force, no_metadata;
} options;

enum { MAX_PICTURES = 100000 };

static const option OPTIONS[] = {
    {'m', "model", OPTION_TEXT, offsetof(options, common.model), "FILE",
     "the network: RRDB (ESRGAN, Real-ESRGAN) or SRVGGNetCompact, .safetensors or .pth"},
    {'o', "output", OPTION_TEXT, offsetof(options, output), "FILE",
     "png, jpg or webp; {name}, {i} and {scale} are filled in ({name}-{scale}x.png)"},
    {0, "scale", OPTION_REAL, offsetof(options, scale), "X",
     "of the sides in the end, by Lanczos' filter where it is not the network's (the network's)", 0.01, 16},
    {0, "tile-size", OPTION_INT, offsetof(options, tile), "N",
     "pixels of the picture at once on a side: less memory, more work at the tiles' edges (384)", 128, 4096},
    {0, "force", OPTION_FLAG, offsetof(options, force), NULL, "replace existing files"},
    {0, "quality", OPTION_INT, offsetof(options, quality), "N", "of jpg and webp (95; webp: lossless)", 1,
     100},
    {0, "no-metadata", OPTION_FLAG, offsetof(options, no_metadata), NULL,
     "leave out how the picture was made, and what was done to it"},
    {0, "disable-image-metadata", OPTION_FLAG, offsetof(options, no_metadata), NULL, NULL},
    {0}};

const command_line UPSCALE_LINE = {
    "upscale",
    "-m FILE PICTURE... [-o FILE] [OPTION...]",
    "Enlarges pictures with a network.",
    "Pictures are PNG, JPEG, WebP, BMP or TGA. Alpha and the texts of a file are kept. Large pictures are "
    "done in\n"
    "tiles that fade into each other, so that the memory stays bounded. A picture that fails does not stop "
    "the\n"
    "others; the exit code is 1 then. The names of the files are printed on standard output.",
    {OPTIONS, ARITHMETIC_OPTIONS, COMMON_OPTIONS},
    MAX_PICTURES};

typedef struct {
    session s;
    const options *o;
    calo_upscaler *upscaler;
    char **in, **out; // of each picture
    int count, done;
} job;

// ---- names of files

static bool name_of(const job *j, int index, char path[PATH_MAX]) {
    char name[PATH_MAX], number[16], scale[32];
    const char *slash = strrchr(j->in[index], '/'), *base = slash ? slash + 1 : j->in[index],
               *dot = strrchr(base, '.');
    size_t length = dot && dot != base ? (size_t)(dot - base) : strlen(base);
    if (length >= sizeof name) return false;
    snprintf(name, sizeof name, "%.*s", (int)length, base);
    snprintf(number, sizeof number, "%d", index + 1);
    snprintf(scale, sizeof scale, "%g", j->o->scale ? j->o->scale : calo_upscaler_scale(j->upscaler));
    const output_word words[] = {{"{name}", name}, {"{i}", number}, {"{scale}", scale}, {0}};
    return output_name(j->o->output, words, j->count > 1 ? index + 1 : 0, path);
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

// Two pictures of one name in different folders would become one file.
static int check_unique(job *j) {
    char **sorted = malloc((size_t)j->count * sizeof *sorted);
    if (!sorted) return session_fail(&j->s, CALO_ERR_TEMP, "out of memory");
    memcpy(sorted, j->out, (size_t)j->count * sizeof *sorted);
    qsort(sorted, (size_t)j->count, sizeof *sorted, by_text);
    int code = 0;
    for (int i = 1; i < j->count && !code; i++)
        if (!strcmp(sorted[i - 1], sorted[i]))
            code = session_fail(&j->s, CALO_ERR_USAGE, "%s: would be the name of two pictures (use {i})",
                                sorted[i]);
    free(sorted);
    return code;
}

static int make_names(job *j) {
    char path[PATH_MAX];
    if (!(j->out = calloc((size_t)j->count, sizeof *j->out)))
        return session_fail(&j->s, CALO_ERR_TEMP, "out of memory");
    for (int i = 0; i < j->count; i++) {
        if (!name_of(j, i, path)) return session_fail(&j->s, CALO_ERR_USAGE, "the output's name is too long");
        if (!drawing_has_format(path))
            return session_fail(&j->s, CALO_ERR_USAGE, "%s: name a .png, .jpg or .webp file", path);
        int code = output_check(&j->s, path, j->o->force);
        if (code) return code;
        if (!(j->out[i] = strdup(path))) return session_fail(&j->s, CALO_ERR_TEMP, "out of memory");
    }
    return check_unique(j);
}

// ---- the job

static void announce(const job *j, int i) {
    if (!j->s.options->json) {
        puts(j->out[i]);
    } else {
        printf("{\"event\":\"image\",\"file\":");
        print_json_string(j->out[i]);
        printf(",\"index\":%d}\n", i);
    }
    fflush(stdout);
}

static int enlarge(job *j, int i) {
    calo_upscale_request r = calo_upscale_defaults();
    r.in = j->in[i];
    r.out = j->out[i];
    r.scale = j->o->scale;
    r.tile = j->o->tile;
    r.overwrite = j->o->force;
    r.no_metadata = j->o->no_metadata;
    r.quality = j->o->quality;
    j->s.first = i;
    int code = session_end(&j->s, calo_upscale(j->upscaler, &r, NULL));
    if (code) return code;
    session_clear(&j->s);
    announce(j, i);
    j->done++;
    return 0;
}

// All but what nobody stopped; a single picture's code is the command's.
static int enlarge_all(job *j) {
    int failed = 0;
    for (int i = 0; i < j->count; i++) {
        int code = enlarge(j, i);
        if (code && (session_stopped() || j->count == 1)) return code;
        failed += code != 0;
    }
    if (j->s.options->json)
        printf("{\"event\":\"done\",\"images\":%d,\"seconds\":%.6f}\n", j->done, session_seconds(&j->s));
    session_say(&j->s, "%d picture%s in %.2f s, %s", j->done, j->done == 1 ? "" : "s", session_seconds(&j->s),
                calo_precision_name(j->s.ctx));
    return failed != 0;
}

static int work(job *j) {
    if (!j->o->common.model)
        return session_fail(&j->s, CALO_ERR_USAGE, "which network? Name its file with -m");
    if (!j->count) return session_fail(&j->s, CALO_ERR_USAGE, "which pictures? Name at least one");
    j->s.images = j->count;
    int code = session_end(&j->s, calo_upscaler_open(j->s.ctx, j->o->common.model, &j->upscaler));
    if (!code) code = make_names(j);
    if (!code) code = enlarge_all(j);
    for (int i = 0; j->out && i < j->count; i++) free(j->out[i]);
    free(j->out);
    calo_upscaler_free(j->upscaler);
    return code;
}

int cmd_upscale(int argc, char **argv) {
    options o = {.common = common_defaults(), .output = "{name}-{scale}x.png"};
    int n = session_options(&UPSCALE_LINE, &o.common, argc, argv);
    if (n < 0) return options_code(n);
    job j = {.o = &o, .in = argv, .count = n};
    int code = session_open(&j.s, &o.common, CALO_PRECISION_AUTO, CALO_LOG_WARN);
    if (!code) code = work(&j);
    session_close(&j.s);
    return code;
}
