#include "core/base/mem.h"
#include "core/files/image_formats.h"

#include <stdio.h> // jpeglib.h needs it
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

// A progressive file may repeat its scans without end, each costing a pass over all coefficients.
// libjpeg-turbo's own fuzzers stop at 500; encoders use about ten.
enum { MAX_SCANS = 100, DEFAULT_QUALITY = 95, FULL_COLOUR_QUALITY = 90 };

typedef struct {
    struct jpeg_error_mgr manager; // first: libjpeg hands back a pointer to it
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    const char *name;
    error *err;
    status code;
    unsigned char *out; // jpeg_mem_dest's; from malloc
    unsigned long size;
} jpeg_job;

static void on_error(j_common_ptr c) {
    jpeg_job *j = (jpeg_job *)c->err;
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    if (c->err->msg_code == JERR_OUT_OF_MEMORY)
        j->code = fail(j->err, ERR_TEMP, "%s: out of memory", j->name);
    else
        j->code = fail(j->err, c->is_decompressor ? ERR_DATA : ERR_INTERNAL, "%s: damaged JPEG (%s)", j->name,
                       text);
    longjmp(j->escape, 1);
}

// libjpeg fills what a short file lacks with grey and only warns; other warnings are of no consequence.
static void on_message(j_common_ptr c, int level) {
    if (level == -1 && (c->err->msg_code == JWRN_JPEG_EOF || c->err->msg_code == JWRN_HIT_MARKER))
        on_error(c);
}

static void on_progress(j_common_ptr c) {
    jpeg_job *j = (jpeg_job *)c->err;
    if (((j_decompress_ptr)c)->input_scan_number <= MAX_SCANS) return;
    j->code = fail(j->err, ERR_DATA, "%s: a JPEG of more than %d scans", j->name, MAX_SCANS);
    longjmp(j->escape, 1);
}

static struct jpeg_error_mgr *manage(jpeg_job *j) {
    jpeg_std_error(&j->manager);
    j->manager.error_exit = on_error;
    j->manager.emit_message = on_message;
    j->progress.progress_monitor = on_progress;
    return &j->manager;
}

// ---------------------------------------------------------------- reading

static status read_pixels(jpeg_job *j, j_decompress_ptr d, const uint8_t *file, size_t n, image *im) {
    if (setjmp(j->escape)) return j->code;
    jpeg_create_decompress(d);
    d->progress = &j->progress;
    jpeg_mem_src(d, file, n);
    jpeg_read_header(d, TRUE);
    if (d->jpeg_color_space == JCS_CMYK || d->jpeg_color_space == JCS_YCCK)
        return fail(j->err, ERR_DATA, "%s: a CMYK JPEG; convert it to RGB first", j->name);
    d->out_color_space = d->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    int c = d->num_components == 1 ? 1 : 3;
    if (image_alloc(im, (int)d->image_width, (int)d->image_height, c, j->err))
        return fail_in(j->err, "%s", j->name);
    jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        JSAMPROW row = im->px + (size_t)d->output_scanline * (size_t)im->w * (size_t)c;
        jpeg_read_scanlines(d, &row, 1);
    }
    jpeg_finish_decompress(d);
    return OK;
}

status jpeg_decode(const uint8_t *file, size_t n, const char *name, image *im, error *err) {
    jpeg_job j = {.name = name, .err = err};
    struct jpeg_decompress_struct d = {.err = manage(&j)};
    status s = read_pixels(&j, &d, file, n, im);
    jpeg_destroy_decompress(&d);
    return s;
}

static status read_header(jpeg_job *j, j_decompress_ptr d, const uint8_t *file, size_t n) {
    if (setjmp(j->escape)) return j->code;
    jpeg_create_decompress(d);
    jpeg_mem_src(d, file, n);
    jpeg_save_markers(d, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(d, TRUE);
    return OK;
}

status jpeg_read_texts(const uint8_t *file, size_t n, const char *name, image_texts *texts, error *err) {
    jpeg_job j = {.name = name, .err = err};
    struct jpeg_decompress_struct d = {.err = manage(&j)};
    status s = read_header(&j, &d, file, n);
    for (jpeg_saved_marker_ptr m = s ? NULL : d.marker_list; m && !s && !texts->n; m = m->next) {
        if (m->data_length < 6 || memcmp(m->data, "Exif\0", 6)) continue;
        s = exif_texts(m->data, m->data_length, name, texts, err);
    }
    jpeg_destroy_decompress(&d);
    return s;
}

// ---------------------------------------------------------------- writing

static status write_pixels(jpeg_job *j, j_compress_ptr c, const image *im, int quality, const uint8_t *exif,
                           size_t n_exif) {
    if (setjmp(j->escape)) return j->code;
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &j->out, &j->size);
    c->image_width = (JDIMENSION)im->w;
    c->image_height = (JDIMENSION)im->h;
    c->input_components = im->c == 1 ? 1 : 3;
    c->in_color_space = im->c == 1 ? JCS_GRAYSCALE : im->c == 3 ? JCS_RGB : JCS_EXT_RGBX;
    if (im->c == 4) c->input_components = 4;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    c->optimize_coding = TRUE;
    if (quality >= FULL_COLOUR_QUALITY) c->comp_info[0].h_samp_factor = c->comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(c, TRUE);
    if (n_exif) jpeg_write_marker(c, JPEG_APP0 + 1, exif, (unsigned)n_exif);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = im->px + (size_t)c->next_scanline * (size_t)im->w * (size_t)im->c;
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
    return OK;
}

// "Exif\0\0" and the block; a marker has room for 65,533 bytes.
static status make_marker(const image_options *o, uint8_t **marker, size_t *n, error *err) {
    uint8_t *block;
    status s = exif_build(o->texts, o->n_texts, &block, n, err);
    if (s) return s;
    *n += 6;
    if (*n > 65533)
        s = fail(err, ERR_DATA,
                 "the text to store takes %zu bytes, a JPEG has room for 65533: use PNG or WebP", *n);
    else if (!(*marker = mem_alloc(*n)))
        s = fail(err, ERR_TEMP, "out of memory");
    else
        memcpy(*marker, "Exif\0", 6), memcpy(*marker + 6, block, *n - 6);
    mem_free(block);
    return s;
}

status jpeg_encode(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err) {
    uint8_t *exif = NULL;
    size_t n_exif = 0;
    status s = o->n_texts ? make_marker(o, &exif, &n_exif, err) : OK;
    if (s) return s;
    jpeg_job j = {.name = "JPEG", .err = err};
    struct jpeg_compress_struct c = {.err = manage(&j)};
    s = write_pixels(&j, &c, im, o->quality ? o->quality : DEFAULT_QUALITY, exif, n_exif);
    jpeg_destroy_compress(&c);
    mem_free(exif);
    if (s)
        free(j.out);
    else
        *file = j.out, *n = j.size;
    return s;
}
