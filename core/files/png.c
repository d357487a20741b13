#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/image_formats.h"

#include <png.h>
#include <string.h>

// The longest texts known (workflows) have a few MB. libpng only warns of a chunk over its limit and takes
// its length for true, so that all it may allocate is counted: rows need less than 1 MB, our pixels are not
// its own.
enum { MAX_CHUNK = 16 << 20, MAX_CHUNKS = 1000, MAX_MEMORY = 64 << 20 };

// All state lives here, out of reach of longjmp.
typedef struct {
    png_structp png;
    png_infop info;
    const char *name;
    error *err;
    status code;
    bool short_of_memory;
    size_t budget;     // bytes that libpng may still ask for
    const uint8_t *in; // reading
    size_t left;
    uint8_t *out; // writing
    size_t used, room;
} png_job;

static void on_error(png_structp png, png_const_charp text) {
    png_job *j = png_get_error_ptr(png);
    if (j->short_of_memory)
        j->code = fail(j->err, ERR_TEMP, "%s: out of memory", j->name);
    else
        j->code = fail(j->err, j->in ? ERR_DATA : ERR_INTERNAL, "%s: damaged PNG (%s)", j->name, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
    (void)png;
    (void)text;
}

static png_voidp get_memory(png_structp png, png_alloc_size_t n) {
    png_job *j = png_get_mem_ptr(png);
    if (n > j->budget) return NULL; // a text is left out; anything else is an error
    j->budget -= n;
    void *p = mem_alloc(n);
    if (!p) j->short_of_memory = true;
    return p;
}

static void put_memory(png_structp png, png_voidp p) {
    (void)png;
    mem_free(p);
}

// ---------------------------------------------------------------- reading

static void take(png_structp png, png_bytep dst, size_t n) {
    png_job *j = png_get_io_ptr(png);
    if (n > j->left) png_error(png, "the file ends early");
    memcpy(dst, j->in, n);
    j->in += n;
    j->left -= n;
}

static status open_reader(png_job *j) {
    j->png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, j, on_error, on_warning, j, get_memory, put_memory);
    if (j->png) j->info = png_create_info_struct(j->png);
    if (!j->info) {
        png_destroy_read_struct(&j->png, NULL, NULL);
        return fail(j->err, ERR_TEMP, "%s: out of memory", j->name);
    }
    png_set_read_fn(j->png, j, take);
    png_set_user_limits(j->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(j->png, MAX_CHUNK);
    png_set_chunk_cache_max(j->png, MAX_CHUNKS);
    return OK;
}

// Every kind of pixel becomes 8-bit grey, RGB or RGBA.
static void set_transforms(png_job *j) {
    bool grey = !(png_get_color_type(j->png, j->info) & PNG_COLOR_MASK_COLOR);
    bool alpha = png_get_color_type(j->png, j->info) & PNG_COLOR_MASK_ALPHA ||
                 png_get_valid(j->png, j->info, PNG_INFO_tRNS);
    png_set_expand(j->png);
    png_set_scale_16(j->png);
    if (grey && alpha) png_set_gray_to_rgb(j->png);
}

static status read_pixels(png_job *j, image *im) {
    if (setjmp(png_jmpbuf(j->png))) return j->code;
    png_read_info(j->png, j->info);
    set_transforms(j);
    int passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    int w = (int)png_get_image_width(j->png, j->info), h = (int)png_get_image_height(j->png, j->info);
    int c = png_get_channels(j->png, j->info);
    if (image_alloc(im, w, h, c, j->err)) return fail_in(j->err, "%s", j->name);
    size_t row = (size_t)w * (size_t)c;
    if (png_get_rowbytes(j->png, j->info) != row) png_error(j->png, "unexpected row size");
    for (int p = 0; p < passes; p++)
        for (int y = 0; y < h; y++) png_read_row(j->png, im->px + (size_t)y * row, NULL);
    png_read_end(j->png, j->info);
    if (j->short_of_memory) png_error(j->png, "a text was left out");
    return OK;
}

status png_decode(const uint8_t *file, size_t n, const char *name, image *im, error *err) {
    png_job j = {.in = file, .left = n, .name = name, .err = err, .budget = MAX_MEMORY};
    status s = open_reader(&j);
    if (s) return s;
    s = read_pixels(&j, im);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    return s;
}

static status add_text(png_job *j, const png_text *t, image_texts *texts) {
    // iTXt is UTF-8 by definition; where a writer did not care, its bytes are taken as Latin-1.
    bool utf8 = t->compression >= PNG_ITXT_COMPRESSION_NONE && text_is_utf8(t->text);
    char *key = latin1_to_utf8(t->key), *text = utf8 ? mem_strdup(t->text) : latin1_to_utf8(t->text);
    status s = key && text ? image_texts_add(texts, j->name, key, text, j->err)
                           : fail(j->err, ERR_TEMP, "%s: out of memory", j->name);
    mem_free(key);
    mem_free(text);
    return s;
}

status png_read_texts(const uint8_t *file, size_t n, const char *name, image_texts *texts, error *err) {
    png_job j = {.in = file, .left = n, .name = name, .err = err, .budget = MAX_MEMORY};
    status s = open_reader(&j);
    if (s) return s;
    image passed = {0}; // libpng comes to the texts behind the pixels only through the pixels
    s = read_pixels(&j, &passed);
    image_free(&passed);
    png_textp found = NULL;
    int count = s ? 0 : png_get_text(j.png, j.info, &found, NULL);
    for (int i = 0; i < count && !s; i++) s = add_text(&j, &found[i], texts);
    png_destroy_read_struct(&j.png, &j.info, NULL);
    return s;
}

// ---------------------------------------------------------------- writing

static void give(png_structp png, png_bytep src, size_t n) {
    png_job *j = png_get_io_ptr(png);
    if (n > j->room - j->used) {
        size_t room = (j->used + n) * 2;
        uint8_t *grown = mem_realloc(j->out, room, 1);
        if (!grown) {
            j->short_of_memory = true;
            png_error(png, "out of memory");
        }
        j->out = grown;
        j->room = room;
    }
    memcpy(j->out + j->used, src, n);
    j->used += n;
}

static void flush(png_structp png) { (void)png; }

// PNG 11.3.4.2: 1 to 79 printable Latin-1 characters, no space at an end and no two in a row.
static bool is_keyword(const char *latin1) {
    size_t n = strlen(latin1);
    if (n < 1 || n > 79 || latin1[0] == ' ' || latin1[n - 1] == ' ' || strstr(latin1, "  ")) return false;
    for (const char *p = latin1; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 32 || (c > 126 && c < 161)) return false;
    }
    return true;
}

static void free_text(png_text *t) {
    mem_free(t->key);
    mem_free(t->text);
}

// Both strings of `t` are new.
static status make_text(const image_text *from, png_text *t, error *err) {
    bool plain = text_is_latin1(from->text);
    *t = (png_text){.compression = plain ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE};
    if (!plain) t->lang = t->lang_key = (png_charp) "";
    if (text_is_latin1(from->key) && !(t->key = latin1_from_utf8(from->key)))
        return fail(err, ERR_TEMP, "out of memory");
    if (!t->key || !is_keyword(t->key))
        return fail(err, ERR_USAGE, "'%.100s' cannot be the keyword of a PNG text", from->key);
    t->text = plain ? latin1_from_utf8(from->text) : mem_strdup(from->text);
    return t->text ? OK : fail(err, ERR_TEMP, "out of memory");
}

static status put_texts(png_job *j, const image_options *o) {
    png_text *t = mem_calloc(o->n_texts, sizeof *t);
    status s = t ? OK : fail(j->err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < o->n_texts && !s; i++) s = make_text(&o->texts[i], &t[i], j->err);
    if (!s && png_jmpbuf(j->png)) {
        if (setjmp(png_jmpbuf(j->png)))
            s = j->code;
        else
            png_set_text(j->png, j->info, t, (int)o->n_texts);
    }
    for (size_t i = 0; t && i < o->n_texts; i++) free_text(&t[i]);
    mem_free(t);
    return s;
}

static status write_pixels(png_job *j, const image *im) {
    static const int TYPE[] = {
        [1] = PNG_COLOR_TYPE_GRAY, [3] = PNG_COLOR_TYPE_RGB, [4] = PNG_COLOR_TYPE_RGBA};
    if (setjmp(png_jmpbuf(j->png))) return j->code;
    png_set_IHDR(j->png, j->info, (png_uint_32)im->w, (png_uint_32)im->h, 8, TYPE[im->c], PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(j->png, j->info);
    for (int y = 0; y < im->h; y++) png_write_row(j->png, im->px + (size_t)y * (size_t)im->w * (size_t)im->c);
    png_write_end(j->png, j->info);
    return OK;
}

status png_encode(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err) {
    png_job j = {.name = "PNG", .err = err, .budget = SIZE_MAX};
    j.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning, &j, get_memory,
                                      put_memory);
    if (j.png) j.info = png_create_info_struct(j.png);
    status s = j.info ? OK : fail(err, ERR_TEMP, "out of memory");
    if (!s) {
        png_set_write_fn(j.png, &j, give, flush);
        png_set_user_limits(j.png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
        png_set_chunk_malloc_max(j.png, 0);
        s = put_texts(&j, o);
    }
    if (!s) s = write_pixels(&j, im);
    png_destroy_write_struct(&j.png, &j.info);
    if (s)
        mem_free(j.out);
    else
        *file = j.out, *n = j.used;
    return s;
}
