// What this library was made of, and what it makes of the machine.
#include "core/api.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>
#include <webp/decode.h>
#include <zip.h>

#include "core/base/mem.h"
#include "core/cpu/dense.h"
#include "core/cpu/level.h"

#define WORDS_(x) #x
#define WORDS(x) WORDS_(x)

static json_t *numbers(int major, int minor, int patch) {
    return json_sprintf("%d.%d.%d", major, minor, patch);
}

// Those that are loaded now, where a library tells; libjpeg-turbo only tells what it was at compile time.
static json_t *libraries(void) {
    char pcre2[64];
    int webp = WebPGetDecoderVersion();
    pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "jansson", jansson_version_str(),
                          "libcrypto", OpenSSL_version(OPENSSL_VERSION_STRING), "libjpeg-turbo",
                          WORDS(LIBJPEG_TURBO_VERSION), "libpng", png_get_libpng_ver(NULL), "libzip",
                          zip_libzip_version(), "pcre2", pcre2, "utf8proc", utf8proc_version(), "libwebp",
                          numbers(webp >> 16, webp >> 8 & 255, webp & 255));
#if CALO_ONEDNN
    int v[3];
    dense_version(v);
    if (j) json_object_set_new(j, "onednn", numbers(v[0], v[1], v[2]));
#endif
    return j;
}

char *calo_build(void) {
    json_t *j = json_pack("{s:s, s:i, s:s, s:b, s:b, s:b, s:b, s:o}", "version", calo_version(), "api",
                          CALO_API_VERSION, "instructions", cpu_level_name(cpu_level_within(CPU_BEST)),
                          "vnni", cpu_has_vnni(), "onednn", CALO_ONEDNN, "openmp", CALO_OPENMP, "lapack",
                          CALO_LAPACK, "libraries", libraries());
    char *dump = j ? json_dumps(j, JSON_COMPACT) : NULL, *text = dump ? mem_strdup(dump) : NULL;
    free(dump);
    json_decref(j);
    return text;
}
