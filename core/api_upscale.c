// Enlarging pictures, as a caller of the library sees it.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/api.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/image_formats.h"
#include "core/pipeline.h"
#include "core/upscaler_fit.h"

struct calo_upscaler {
    calo_context *ctx;
    upscaler *u;
};

void calo_upscale_request_init(calo_upscale_request *request, size_t size) {
    calo_upscale_request r = {.size = sizeof r};
    api_struct_fill(request, size, &r, sizeof r);
}

calo_status calo_upscaler_open(calo_context *ctx, const char *path, calo_upscaler **out) {
    error *err = api_enter(ctx);
    *out = NULL;
    calo_upscaler *u = mem_calloc(1, sizeof *u);
    if (!u) return api_leave(fail(err, ERR_TEMP, "out of memory"));
    *u = (calo_upscaler){ctx, upscaler_open(path, err)};
    if (!u->u) return mem_free(u), api_leave(err->code);
    *out = u;
    return CALO_OK;
}

void calo_upscaler_free(calo_upscaler *u) {
    if (!u) return;
    upscaler_free(u->u);
    mem_free(u);
}

int calo_upscaler_scale(const calo_upscaler *u) { return upscaler_scale(u->u); }

// ---- what is there at first

typedef struct {
    calo_upscaler *upscaler;
    calo_upscale_request r;
    image rgb, alpha; // alpha: grey; empty for none
    image_texts texts;
    image result;
} job;

static status check(const calo_upscale_request *r, bool kept, error *err) {
    if (!r->in == !r->picture)
        return fail(err, ERR_USAGE, "upscaling needs a picture: a file, or one in memory");
    if (!r->out && !kept) return fail(err, ERR_USAGE, "upscaling needs a place for its result");
    if (!(r->scale >= 0 && r->scale <= 16))
        return fail(err, ERR_USAGE, "the scale %g is not in 0 .. 16", r->scale);
    if (r->tile && (r->tile < UPSCALE_MIN_TILE || r->tile > UPSCALE_MAX_TILE))
        return fail(err, ERR_USAGE, "tiles of %d pixels are not in %d .. %d", r->tile, UPSCALE_MIN_TILE,
                    UPSCALE_MAX_TILE);
    if (r->quality < 0 || r->quality > 100)
        return fail(err, ERR_USAGE, "the quality %d is not in 0 .. 100", r->quality);
    return OK;
}

static status take_alpha(const image *im, image *alpha, error *err) {
    if (im->c != 4) return OK;
    TRY(image_alloc(alpha, im->w, im->h, 1, err));
    for (size_t i = 0, n = (size_t)im->w * (size_t)im->h; i < n; i++) alpha->px[i] = im->px[4 * i + 3];
    return OK;
}

static status read_file(job *j, error *err) {
    char *file;
    size_t n;
    image im = {0};
    TRY(fs_read_file(j->r.in, IMAGE_MAX_FILE, &file, &n, err));
    status s = image_decode(file, n, j->r.in, &im, err);
    if (!s && !j->r.no_metadata) s = image_read_texts(file, n, j->r.in, &j->texts, err);
    mem_free(file);
    if (!s) s = take_alpha(&im, &j->alpha, err);
    if (!s) s = image_channels(&im, 3, &j->rgb, err);
    image_free(&im);
    return s;
}

static status read_picture(job *j, error *err) {
    const calo_image *given = j->r.picture;
    calo_image p = {.size = sizeof p};
    if (!given) return read_file(j, err);
    TRY(api_struct_take(&p, sizeof p, given, "picture", err));
    if (!p.rgb) return fail(err, ERR_USAGE, "there is no picture to enlarge");
    TRY(image_alloc(&j->rgb, p.width, p.height, 3, err));
    memcpy(j->rgb.px, p.rgb, 3 * (size_t)p.width * (size_t)p.height);
    if (p.parameters) TRY(image_texts_add(&j->texts, "picture", "parameters", p.parameters, err));
    return p.json ? image_texts_add(&j->texts, "picture", "calotype", p.json, err) : OK;
}

// ---- enlarging

// *im in another size.
static status resize(image *im, int w, int h, error *err) {
    image other;
    if (im->w == w && im->h == h) return OK;
    TRY(image_resize(im, w, h, RESIZE_LANCZOS, &other, err));
    image_free(im);
    *im = other;
    return OK;
}

static double scale_of(const job *j) { return j->r.scale != 0 ? j->r.scale : upscaler_scale(j->upscaler->u); }

static int side_of(int side, double scale) {
    return (int)fmax(1, round(fmin(side * scale, IMAGE_MAX_SIDE + 1)));
}

static status add_alpha(job *j, error *err) {
    image both;
    if (!j->alpha.px) return OK;
    TRY(resize(&j->alpha, j->result.w, j->result.h, err));
    TRY(image_channels(&j->result, 4, &both, err));
    for (size_t i = 0, n = (size_t)both.w * (size_t)both.h; i < n; i++) both.px[4 * i + 3] = j->alpha.px[i];
    image_free(&j->result);
    j->result = both;
    return OK;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t given_bytes(const job *j) {
    return (size_t)j->rgb.w * (size_t)j->rgb.h * (j->alpha.px ? 4 : 3);
}

// At the most, when the network is gone: resizing makes a picture that is larger in one direction and of that
// the last one; alpha is another channel of a copy; a file may be as large as its picture.
static size_t finishing_bytes(const job *j, int w, int h) {
    int scale = upscaler_scale(j->upscaler->u);
    size_t W = (size_t)(j->rgb.w * scale), H = (size_t)(j->rgb.h * scale), x = (size_t)w, y = (size_t)h;
    size_t resizing = x == W && y == H ? 0 : 3 * (W * H + larger(W * y, x * H) + x * y);
    return larger(resizing, x * y * (j->alpha.px ? 8 : 6));
}

// Tiles for a result of w × h pixels that keep to the context's limit of memory.
static status fit(const job *j, int w, int h, upscaling *how, error *err) {
    calo_context *ctx = j->upscaler->ctx;
    uint64_t limit = ctx->options.max_memory, given = given_bytes(j);
    uint64_t rest = limit > given ? limit - given : limit > 0;
    size_t running;
    TRY(upscaler_fit(j->upscaler->u, ctx, rest, j->rgb.w, j->rgb.h, how, limit ? &running : NULL, err));
    if (!limit) return OK;
    double needed = 1e-6 * (double)(PROCESS_BYTES + given + larger(running, finishing_bytes(j, w, h)));
    double allowed = 1e-6 * (double)limit;
    log_put(&ctx->log, LOG_LEVEL_INFO, "memory: upscaler in tiles of %d pixels, in all %.0f MB", how->tile,
            needed);
    if (needed <= allowed) return OK;
    return fail(err, ERR_USAGE,
                "enlarging %dx%d pixels takes %.0f MB of memory at least, and %.0f MB are allowed", j->rgb.w,
                j->rgb.h, needed + 1, allowed);
}

// Within a limit of memory the network has the place of all others, as long as it runs.
static status run_network(job *j, const upscaling *how, error *err) {
    calo_context *ctx = j->upscaler->ctx;
    bool limited = ctx->options.max_memory > 0;
    if (limited) models_forget(ctx->models, how->ws);
    status s = upscaler_run(j->upscaler->u, how, &j->rgb, &j->result, err);
    if (limited) upscaler_forget(j->upscaler->u, how->ws);
    return s;
}

static status enlarge(job *j, error *err) {
    calo_context *ctx = j->upscaler->ctx;
    int w = side_of(j->rgb.w, scale_of(j)), h = side_of(j->rgb.h, scale_of(j));
    api_pieces tiles = api_pieces_begin(ctx, "upscale", 0, 1);
    upscaling how = {.compute = api_compute(ctx->options.precision),
                     .tile = j->r.tile,
                     .progress = api_piece,
                     .user = &tiles};
    TRY(fit(j, w, h, &how, err));
    TRY(run_network(j, &how, err));
    return resize(&j->result, w, h, err);
}

// ---- what the file says about it

static bool is_text(const image_text *t, const char *key) { return !strcmp(t->key, key); }

// The words that A1111 has for this.
static char *in_words(const job *j, const char *before) {
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    const char *name = upscaler_name(j->upscaler->u);
    fprintf(f, "%s%sPostprocess upscale by: %g, Postprocess upscaler: ", before, *before ? ", " : "",
            scale_of(j));
    infotext_value(f, text_is_utf8(name) ? name : "?");
    bool whole = !fclose(f);
    char *copy = whole ? mem_strdup(text) : NULL;
    free(text);
    return copy;
}

// The object that calotype wrote with a key more; as it was if it is none. NULL when memory is short.
static char *in_json(const job *j, const char *before) {
    const char *name = upscaler_name(j->upscaler->u);
    error wrong = {0};
    json_t *o = js_parse("calotype", before, strlen(before), &wrong);
    if (!o) return wrong.code == ERR_TEMP ? NULL : mem_strdup(before);
    json_t *done = json_pack("{s:s, s:i, s:i}", "upscaler", text_is_utf8(name) ? name : "?", "width",
                             j->result.w, "height", j->result.h);
    char *text = json_object_set_new(o, "upscale", done) ? NULL : json_dumps(o, JSON_COMPACT),
         *copy = text ? mem_strdup(text) : NULL;
    free(text);
    json_decref(o);
    return copy;
}

// Puts a text in place of what stands there; takes it over. NULL stands for short memory.
static status replace(const char **at, char *text, error *err) {
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    mem_free((void *)(uintptr_t)*at);
    *at = text;
    return OK;
}

// JPEG and WebP have a place for the first text, which is to be this one.
static void put_first(image_texts *texts, size_t i) {
    image_text t = texts->at[i];
    texts->at[i] = texts->at[0];
    texts->at[0] = t;
}

static status describe(job *j, error *err) {
    bool told = false;
    for (size_t i = 0; i < j->texts.n; i++) {
        image_text *t = &j->texts.at[i];
        if (is_text(t, "UserComment")) TRY(replace(&t->key, mem_strdup("parameters"), err));
        if (is_text(t, "calotype")) TRY(replace(&t->text, in_json(j, t->text), err));
        if (!is_text(t, "parameters")) continue;
        TRY(replace(&t->text, in_words(j, t->text), err));
        put_first(&j->texts, i);
        told = true;
    }
    if (told) return OK;
    char *text = in_words(j, "");
    if (!text) return fail(err, ERR_TEMP, "out of memory");
    status s = image_texts_add(&j->texts, "picture", "postprocessing", text, err);
    mem_free(text);
    return s;
}

static status save(job *j, error *err) {
    if (!j->r.out) return OK;
    if (!j->r.no_metadata) TRY(describe(j, err));
    image_options how = {
        .quality = j->r.quality, .texts = j->texts.at, .n_texts = j->r.no_metadata ? 0 : j->texts.n};
    TRY(add_alpha(j, err));
    return image_save(j->r.out, &j->result, &how, j->r.overwrite, err);
}

static status hand_out(job *j, calo_images **images, error *err) {
    if (j->result.c == 3) return api_image_list(&j->result, images, err);
    image rgb;
    TRY(image_channels(&j->result, 3, &rgb, err));
    status s = api_image_list(&rgb, images, err);
    image_free(&rgb);
    return s;
}

// ---- all of it

static status upscale(job *j, const calo_upscale_request *request, calo_images **images, error *err) {
    image_format format;
    TRY(api_struct_take(&j->r, sizeof j->r, request, "request", err));
    TRY(check(&j->r, images != NULL, err));
    if (j->r.out) TRY(image_format_of(j->r.out, &format, err));
    TRY(read_picture(j, err));
    TRY(enlarge(j, err));
    TRY(save(j, err));
    return images ? hand_out(j, images, err) : OK;
}

calo_status calo_upscale(calo_upscaler *u, const calo_upscale_request *request, calo_images **images) {
    error *err = api_enter(u->ctx);
    job j = {.upscaler = u, .r = calo_upscale_defaults()};
    if (images) *images = NULL;
    status s = upscale(&j, request, images, err);
    image_free(&j.rgb);
    image_free(&j.alpha);
    image_free(&j.result);
    image_texts_free(&j.texts);
    return api_leave(s);
}
