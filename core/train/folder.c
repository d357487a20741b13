#include "core/train/folder.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/json.h"
#include "core/base/mem.h"
#include "core/files/image.h"
#include "core/graph/store.h"

enum { LIST_MAX = 1 << 30 }; // bytes of metadata.jsonl

typedef struct {
    const char *path;    // of the image
    const char *caption; // NULL where none is needed
    int bucket;
} item;

typedef struct {
    arena mem;
    item *at;
    size_t n, capacity;
    store_key files;               // path, size and time of each image, in order
    const folder_options *options; // while it is read
    size_t skipped;
    error first; // why the first one was skipped
} folder;

// ---- one image

static int nearest_size(const folder_options *o, int w, int h) {
    int best = 0;
    double distance = INFINITY;
    for (int i = 0; i < o->n_sizes; i++) {
        double d = fabs(log((double)w / h) - log((double)o->sizes[i].W / o->sizes[i].H));
        if (d < distance - 1e-9) {
            best = i;
            distance = d;
        }
    }
    return best;
}

static void lay_on_white(image *im) {
    for (size_t i = 0, n = (size_t)im->w * (size_t)im->h; i < n; i++) {
        uint8_t *p = im->px + 4 * i;
        for (int c = 0; c < 3; c++) p[c] = (uint8_t)((p[c] * p[3] + 255 * (255 - p[3]) + 127) / 255);
    }
}

static status load_rgb(const char *path, image *rgb, error *err) {
    image im = {0};
    status s = image_load(path, &im, err);
    if (!s && im.c == 4) lay_on_white(&im);
    if (!s) s = image_channels(&im, 3, rgb, err);
    image_free(&im);
    return s;
}

// Resizes until W × H is just covered and cuts the middle out.
static status cover(const image *im, int W, int H, uint8_t *rgb, error *err) {
    double scale = fmax((double)W / im->w, (double)H / im->h);
    int w = (int)fmax(W, round(im->w * scale)), h = (int)fmax(H, round(im->h * scale));
    image big = {0};
    status s = image_resize(im, w, h, RESIZE_LANCZOS, &big, err);
    for (int y = 0; y < H && !s; y++)
        memcpy(rgb + (size_t)y * (size_t)W * 3,
               big.px + ((size_t)(y + (h - H) / 2) * (size_t)w + (size_t)((w - W) / 2)) * 3, (size_t)W * 3);
    image_free(&big);
    return s;
}

static status folder_picture(void *self, uint64_t i, int W, int H, uint8_t *rgb, source_spots *spots,
                             error *err) {
    const folder *f = self;
    image im = {0};
    if (spots) spots->n = 0;
    status s = load_rgb(f->at[i].path, &im, err);
    if (!s) s = cover(&im, W, H, rgb, err);
    image_free(&im);
    return s;
}

static status folder_caption(void *self, uint64_t i, uint64_t telling, char text[SOURCE_CAPTION_MAX],
                             error *err) {
    const folder *f = self;
    (void)telling, (void)err;
    snprintf(text, SOURCE_CAPTION_MAX, "%s", f->at[i].caption ? f->at[i].caption : "");
    return OK;
}

static int folder_bucket(void *self, uint64_t i) { return ((const folder *)self)->at[i].bucket; }

static void folder_free(void *self) {
    folder *f = self;
    if (!f) return;
    arena_free(&f->mem);
    mem_free(f->at);
    mem_free(f);
}

// ---- reading the folder

// Folds in what tells an image from another of its name, without reading it.
static status identify(store_key *k, const char *path, error *err) {
    uint64_t size = 0;
    int64_t when = 0;
    int fd = fs_open_read(path, &size, err);
    if (fd < 0) return err->code;
    status s = fs_written(fd, path, &when, err);
    close(fd);
    *k = key_add(*k, path, strlen(path) + 1);
    *k = key_add(*k, &size, sizeof size);
    *k = key_add(*k, &when, sizeof when);
    return s;
}

static status add(folder *f, const char *path, const char *caption, error *err) {
    image im = {0};
    store_key files = f->files;
    status s = identify(&files, path, err);
    if (!s) s = image_load(path, &im, err);
    if (s) return s;
    int bucket = nearest_size(f->options, im.w, im.h);
    image_free(&im);
    if (f->n == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 256;
        item *at = mem_realloc(f->at, capacity, sizeof *at);
        if (!at) return fail(err, ERR_TEMP, "out of memory");
        f->at = at;
        f->capacity = capacity;
    }
    item it = {arena_printf(&f->mem, "%s", path), caption ? arena_printf(&f->mem, "%s", caption) : NULL,
               bucket};
    if (!it.path || (caption && !it.caption)) return fail(err, ERR_TEMP, "out of memory");
    f->at[f->n++] = it;
    f->files = files;
    return OK;
}

// What to do about a sample that cannot be used: an error, or count it and go on.
static status refuse(folder *f, const error *why, error *err) {
    bool bad_sample = why->code == ERR_DATA || why->code == ERR_NOINPUT;
    if (!f->options->skip_bad || !bad_sample) {
        if (err) *err = *why;
        return why->code;
    }
    if (!f->skipped++) f->first = *why;
    return OK;
}

static status check_caption(const char *where, const char *text, size_t n, error *err) {
    if (n >= SOURCE_CAPTION_MAX)
        return fail(err, ERR_DATA, "%s: a caption of %zu bytes is longer than %d", where, n,
                    SOURCE_CAPTION_MAX - 1);
    if (strlen(text) != n) return fail(err, ERR_DATA, "%s: the caption holds a NUL", where);
    return OK;
}

static void trim(char *text, size_t *n) {
    size_t start = 0;
    while (*n > 0 && isspace((unsigned char)text[*n - 1])) --*n;
    while (start < *n && isspace((unsigned char)text[start])) start++;
    memmove(text, text + start, *n - start);
    *n -= start;
    text[*n] = 0;
}

static status add_with_text_file(folder *f, const char *path, error *err) {
    if (!f->options->captions) return add(f, path, NULL, err);
    const char *dot = strrchr(path, '.');
    char *beside = arena_printf(&f->mem, "%.*s.txt", (int)(dot - path), path), *text = NULL;
    if (!beside) return fail(err, ERR_TEMP, "out of memory");
    if (!fs_exists(beside)) return fail(err, ERR_DATA, "%s: no caption (%s is missing)", path, beside);
    size_t n = 0;
    status s = fs_read_file(beside, 1 << 20, &text, &n, err);
    if (!s) trim(text, &n);
    if (!s) s = check_caption(beside, text, n, err);
    if (!s) s = add(f, path, text, err);
    mem_free(text);
    return s;
}

static bool is_image(const char *name) {
    static const char *const known[] = {"png", "jpg", "jpeg", "webp", "bmp", "tga"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcasecmp(fs_extension(name), known[i])) return true;
    return false;
}

static status read_names(folder *f, const char *dir, error *err) {
    char **names = NULL;
    size_t n = 0;
    status s = fs_list(dir, &names, &n, err);
    for (size_t i = 0; i < n && !s; i++) {
        if (!is_image(names[i])) continue;
        error why = {0};
        char *path = fs_join(dir, names[i]);
        s = path ? add_with_text_file(f, path, &why) : fail(&why, ERR_TEMP, "out of memory");
        if (s) s = refuse(f, &why, err);
        mem_free(path);
    }
    fs_list_free(names, n);
    return s;
}

// A path below the folder: not absolute, no "..".
static bool stays_below(const char *path) {
    if (!*path || *path == '/') return false;
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2])) return false;
    return true;
}

static status add_line(folder *f, const char *dir, const char *where, const char *line, size_t n,
                       error *err) {
    json_t *object = js_parse(where, line, n, err);
    if (!object) return err->code;
    js_reader r = {.object = object, .where = where, .err = err};
    const char *name = js_string(&r, "file_name", NULL), *text = js_string(&r, "text", NULL);
    if (!text) text = js_string(&r, "caption", NULL);
    status s = r.code;
    char *path = NULL;
    if (!s && !name) s = fail(err, ERR_DATA, "%s: no \"file_name\"", where);
    if (!s && !stays_below(name)) s = fail(err, ERR_DATA, "%s: \"%s\" is not below the folder", where, name);
    if (!s && f->options->captions && !text)
        s = fail(err, ERR_DATA, "%s: no caption (\"text\") for %s", where, name);
    if (!s && text) s = check_caption(where, text, strlen(text), err);
    if (!s && !(path = fs_join(dir, name))) s = fail(err, ERR_TEMP, "out of memory");
    if (!s) s = add(f, path, f->options->captions ? text : NULL, err);
    mem_free(path);
    json_decref(object);
    return s;
}

static status read_list(folder *f, const char *dir, const char *list, error *err) {
    char *text = NULL;
    size_t size = 0;
    status s = fs_read_file(list, LIST_MAX, &text, &size, err);
    int number = 1;
    for (char *line = text, *end = text; !s && line < text + size; line = end + 1, number++) {
        end = memchr(line, '\n', (size_t)(text + size - line));
        if (!end) end = text + size;
        size_t n = (size_t)(end - line), blank = 0;
        while (blank < n && isspace((unsigned char)line[blank])) blank++;
        if (blank == n) continue;
        char where[4200];
        error why = {0};
        snprintf(where, sizeof where, "%s:%d", list, number);
        s = add_line(f, dir, where, line, n, &why);
        if (s) s = refuse(f, &why, err);
    }
    mem_free(text);
    return s;
}

static status read_folder(folder *f, const char *path, error *err) {
    if (!fs_is_dir(path)) return fail(err, ERR_NOINPUT, "%s: no such folder", path);
    char *list = fs_join(path, "metadata.jsonl");
    if (!list) return fail(err, ERR_TEMP, "out of memory");
    status s = fs_exists(list) ? read_list(f, path, list, err) : read_names(f, path, err);
    mem_free(list);
    if (s) return s;
    if (f->skipped)
        log_put(f->options->log, LOG_LEVEL_WARN, "%s: %zu samples skipped; the first: %s", path, f->skipped,
                f->first.text);
    if (!f->n)
        return fail(err, ERR_DATA, "%s: no usable image%s", path,
                    f->options->captions ? " with a caption" : "");
    return OK;
}

status folder_open(const char *path, const folder_options *o, sample_source *source, error *err) {
    folder *f = mem_calloc(1, sizeof *f);
    if (!f) return fail(err, ERR_TEMP, "out of memory");
    f->options = o;
    f->files = key_start();
    status s = read_folder(f, path, err);
    f->options = NULL;
    *source = (sample_source){.self = f,
                              .n_buckets = o->n_sizes,
                              .count = f->n,
                              .files = f->files.a,
                              .bucket = folder_bucket,
                              .picture = folder_picture,
                              .caption = folder_caption,
                              .free = folder_free};
    if (!s && !(source->name = arena_printf(&f->mem, "%s", path))) s = fail(err, ERR_TEMP, "out of memory");
    if (s) source_free(source);
    return s;
}
