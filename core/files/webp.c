#include "core/base/mem.h"
#include "core/files/image_formats.h"

#include <string.h>
#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

enum { LOSSLESS_LEVEL = 6 };

static status read_features(const uint8_t *file, size_t n, const char *name, WebPBitstreamFeatures *f,
                            error *err) {
    VP8StatusCode code = WebPGetFeatures(file, n, f);
    if (code == VP8_STATUS_OUT_OF_MEMORY) return fail(err, ERR_TEMP, "%s: out of memory", name);
    if (code) return fail(err, ERR_DATA, "%s: damaged WebP (code %d)", name, code);
    if (f->has_animation)
        return fail(err, ERR_DATA, "%s: an animated WebP; a single picture is needed", name);
    return OK;
}

status webp_decode(const uint8_t *file, size_t n, const char *name, image *im, error *err) {
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config)) return fail(err, ERR_INTERNAL, "libwebp has another version");
    status s = read_features(file, n, name, &config.input, err);
    if (s) return s;
    int c = config.input.has_alpha ? 4 : 3;
    if (image_alloc(im, config.input.width, config.input.height, c, err)) return fail_in(err, "%s", name);
    size_t row = (size_t)im->w * (size_t)c;
    config.output.colorspace = c == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = (WebPRGBABuffer){im->px, (int)row, row * (size_t)im->h};
    VP8StatusCode code = WebPDecode(file, n, &config);
    WebPFreeDecBuffer(&config.output);
    if (code == VP8_STATUS_OUT_OF_MEMORY) return fail(err, ERR_TEMP, "%s: out of memory", name);
    if (code) return fail(err, ERR_DATA, "%s: damaged WebP (code %d)", name, code);
    return OK;
}

status webp_read_texts(const uint8_t *file, size_t n, const char *name, image_texts *texts, error *err) {
    const WebPData data = {file, n};
    WebPMux *mux = WebPMuxCreate(&data, 0);
    if (!mux) return fail(err, ERR_DATA, "%s: damaged WebP", name);
    WebPData exif;
    status s = OK;
    if (WebPMuxGetChunk(mux, "EXIF", &exif) == WEBP_MUX_OK)
        s = exif_texts(exif.bytes, exif.size, name, texts, err);
    WebPMuxDelete(mux);
    return s;
}

// ---------------------------------------------------------------- writing

static status code_picture(const image *im, int quality, WebPMemoryWriter *w, error *err) {
    WebPConfig config;
    WebPPicture p;
    bool ready = WebPConfigInit(&config) && WebPPictureInit(&p) &&
                 (quality || WebPConfigLosslessPreset(&config, LOSSLESS_LEVEL));
    if (!ready) return fail(err, ERR_INTERNAL, "libwebp has another version");
    if (quality) config.quality = (float)quality;
    config.exact = 1; // keep the colour under transparent pixels
    p.use_argb = !quality;
    p.width = im->w;
    p.height = im->h;
    p.writer = WebPMemoryWrite;
    p.custom_ptr = w;
    int row = im->w * im->c;
    int ok = im->c == 4 ? WebPPictureImportRGBA(&p, im->px, row) : WebPPictureImportRGB(&p, im->px, row);
    ok = ok && WebPEncode(&config, &p);
    status s = OK;
    if (!ok)
        s = p.error_code == VP8_ENC_ERROR_OUT_OF_MEMORY ||
                    p.error_code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY
                ? fail(err, ERR_TEMP, "WebP: out of memory")
                : fail(err, ERR_DATA, "a picture of %d x %d pixels does not go into a WebP (code %d)", im->w,
                       im->h, p.error_code);
    WebPPictureFree(&p);
    return s;
}

// The coded picture, and the texts around it, in one RIFF file.
static status assemble(const WebPData *picture, const image_options *o, WebPData *file, error *err) {
    uint8_t *block = NULL;
    size_t n = 0;
    status s = o->n_texts ? exif_build(o->texts, o->n_texts, &block, &n, err) : OK;
    if (s) return s;
    WebPMux *mux = WebPMuxNew();
    const WebPData exif = {block, n};
    bool ok = mux && WebPMuxSetImage(mux, picture, 0) == WEBP_MUX_OK;
    if (o->n_texts) ok = ok && WebPMuxSetChunk(mux, "EXIF", &exif, 0) == WEBP_MUX_OK;
    ok = ok && WebPMuxAssemble(mux, file) == WEBP_MUX_OK;
    WebPMuxDelete(mux);
    mem_free(block);
    return ok ? OK : fail(err, ERR_TEMP, "WebP: out of memory");
}

status webp_encode(const image *im, const image_options *o, uint8_t **file, size_t *n, error *err) {
    image rgb = {0};
    if (im->c == 1) {
        status s = image_channels(im, 3, &rgb, err);
        if (s) return s;
        im = &rgb;
    }
    WebPMemoryWriter w;
    WebPMemoryWriterInit(&w);
    WebPData whole = {0};
    status s = code_picture(im, o->quality, &w, err);
    const WebPData picture = {w.mem, w.size};
    if (!s) s = assemble(&picture, o, &whole, err);
    if (!s && !(*file = mem_alloc(whole.size))) s = fail(err, ERR_TEMP, "WebP: out of memory");
    if (!s) memcpy(*file, whole.bytes, *n = whole.size);
    WebPDataClear(&whole);
    WebPMemoryWriterClear(&w);
    image_free(&rgb);
    return s;
}
