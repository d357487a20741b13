// Doors to what other libraries allocate for themselves: the linker sends our calls here (meson.build), and
// the one that is to fail answers as its library does when memory is short.
#include <jansson.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <webp/decode.h>
#include <webp/encode.h>
#include <webp/mux.h>

#include "tests/tools/faults.h"

// The linker wraps what the shared libraries call of each other too; it wants to see these names.
#pragma GCC visibility push(default)

// A wrapped call with these parameters and arguments.
#define DOOR(type, name, parameters, arguments, failed)                                                      \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters { return faults_memory(#name) ? failed : __real_##name arguments; }

// ---- libwebp

DOOR(VP8StatusCode, WebPGetFeaturesInternal, (const uint8_t *f, size_t n, WebPBitstreamFeatures *to, int abi),
     (f, n, to, abi), VP8_STATUS_OUT_OF_MEMORY)
DOOR(VP8StatusCode, WebPDecode, (const uint8_t *f, size_t n, WebPDecoderConfig *c), (f, n, c),
     VP8_STATUS_OUT_OF_MEMORY)
DOOR(int, WebPPictureImportRGB, (WebPPicture * p, const uint8_t *px, int row), (p, px, row),
     (p->error_code = VP8_ENC_ERROR_OUT_OF_MEMORY, 0))
DOOR(int, WebPEncode, (const WebPConfig *c, WebPPicture *p), (c, p),
     (p->error_code = VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY, 0))
DOOR(WebPMux *, WebPMuxCreateInternal, (const WebPData *data, int copy, int abi), (data, copy, abi), NULL)
DOOR(WebPMux *, WebPNewInternal, (int abi), (abi), NULL)
DOOR(WebPMuxError, WebPMuxSetImage, (WebPMux * mux, const WebPData *picture, int copy), (mux, picture, copy),
     WEBP_MUX_MEMORY_ERROR)
DOOR(WebPMuxError, WebPMuxSetChunk, (WebPMux * mux, const char id[4], const WebPData *data, int copy),
     (mux, id, data, copy), WEBP_MUX_MEMORY_ERROR)
DOOR(WebPMuxError, WebPMuxAssemble, (WebPMux * mux, WebPData *file), (mux, file), WEBP_MUX_MEMORY_ERROR)

// ---- PCRE2

DOOR(pcre2_match_data_8 *, pcre2_match_data_create_from_pattern_8,
     (const pcre2_code_8 *code, pcre2_general_context_8 *context), (code, context), NULL)
DOOR(int, pcre2_match_8,
     (const pcre2_code_8 *code, PCRE2_SPTR8 s, PCRE2_SIZE n, PCRE2_SIZE at, uint32_t how,
      pcre2_match_data_8 *match, pcre2_match_context_8 *context),
     (code, s, n, at, how, match, context), PCRE2_ERROR_NOMEMORY)
DOOR(pcre2_code_8 *, pcre2_compile_8,
     (PCRE2_SPTR8 pattern, PCRE2_SIZE n, uint32_t how, int *error, PCRE2_SIZE *at,
      pcre2_compile_context_8 *context),
     (pattern, n, how, error, at, context), (*error = PCRE2_ERROR_NOMEMORY, *at = 0, NULL))

// ---- jansson: the calls that give up cleanly

static json_t *unread(json_error_t *e) {
    memset(e, 0, sizeof *e);
    e->text[JSON_ERROR_TEXT_LENGTH - 1] = (char)json_error_out_of_memory;
    return NULL;
}

DOOR(json_t *, json_loadb, (const char *text, size_t n, size_t how, json_error_t *e), (text, n, how, e),
     unread(e))
DOOR(json_t *, json_object, (void), (), NULL)
DOOR(json_t *, json_array, (void), (), NULL)
DOOR(json_t *, json_deep_copy, (const json_t *j), (j), NULL)
DOOR(int, json_object_set_new, (json_t * object, const char *key, json_t *value), (object, key, value),
     (json_decref(value), -1))

#pragma GCC visibility pop
