// The checksum by which users know a model, and its cache: reading a large model's file takes seconds.
#include "core/api.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/arena.h"
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/files/model_dir.h"

enum { PIECE = 1 << 20 }; // bytes read at a time

static void hex(const unsigned char *digest, char out[65]) {
    for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

// The distinct files of a network, in the order of their first tensor by name.
static size_t files_of(const model_files *m, const char **paths, size_t room) {
    size_t n = 0;
    for (size_t i = 0; i < model_files_count(m) && n < room; i++)
        if (model_files_begins(m, i)) paths[n++] = tensor_file_path(model_files_at(m, i).file);
    return n;
}

static status add_file(EVP_MD_CTX *md, const char *path, void *piece, error *err) {
    uint64_t size;
    int fd = fs_open_read(path, &size, err);
    if (fd < 0) return err->code;
    FILE *f = fdopen(fd, "rb");
    size_t n;
    while (f && (n = fread(piece, 1, PIECE, f)) > 0) EVP_DigestUpdate(md, piece, n);
    bool whole = f && !ferror(f);
    if (f) fclose(f);
    return whole ? OK : fail(err, ERR_IO, "%s cannot be read to its end", path);
}

static status digest_files(const char **paths, size_t n, char out[65], error *err) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    void *piece = mem_alloc(PIECE);
    status s =
        md && piece && EVP_DigestInit_ex(md, EVP_sha256(), NULL) ? OK : fail(err, ERR_TEMP, "out of memory");
    for (size_t i = 0; i < n && !s; i++) s = add_file(md, paths[i], piece, err);
    if (!s && EVP_DigestFinal_ex(md, digest, NULL)) hex(digest, out);
    mem_free(piece);
    EVP_MD_CTX_free(md);
    return s;
}

// ---- the cache: one small file, named by what the checksum depends on

static const char *cache_file(arena *a, const char **paths, size_t n) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    char name[65];
    const char *key = "calotype sha256", *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    for (size_t i = 0; i < n && key; i++) {
        struct stat st;
        char *full = realpath(paths[i], NULL);
        if (!full || stat(full, &st)) return free(full), NULL;
        key = arena_printf(a, "%s\n%s %lld %lld.%09ld", key, full, (long long)st.st_size,
                           (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        free(full);
    }
    if (!key || !EVP_Digest(key, strlen(key), digest, NULL, EVP_sha256(), NULL)) return NULL;
    hex(digest, name);
    if (xdg && *xdg == '/') return arena_printf(a, "%s/calotype/hashes/%s", xdg, name);
    return home && *home == '/' ? arena_printf(a, "%s/.cache/calotype/hashes/%s", home, name) : NULL;
}

static bool recall(const char *file, char out[65]) {
    char *data;
    size_t n;
    error ignored;
    if (!file || fs_read_file(file, 64, &data, &n, &ignored)) return false;
    bool good = n == 64 && strspn(data, "0123456789abcdef") == 64;
    if (good) memcpy(out, data, 65);
    mem_free(data);
    return good;
}

// A cache that cannot be written is no error.
static void remember(const char *file, const char *sha256) {
    char *dir = file ? fs_dirname(file) : NULL;
    if (dir && !fs_mkdirs(dir, NULL)) fs_write_atomic(file, sha256, 64, true, NULL);
    mem_free(dir);
}

static status part_sha256(const calo_model *m, model_part part, char out[65], error *err) {
    enum { MAX_FILES = 1000 };
    char *dir = model_part_path(m->m, part);
    model_files *files = dir ? model_files_open(dir, NULL, err) : NULL;
    const char **paths = files ? mem_calloc(MAX_FILES, sizeof *paths) : NULL;
    status s = paths ? OK : dir && !files ? err->code : fail(err, ERR_TEMP, "out of memory");
    if (!s) {
        arena a = {0};
        size_t n = files_of(files, paths, MAX_FILES);
        const char *cached = cache_file(&a, paths, n);
        if (!recall(cached, out) && !(s = digest_files(paths, n, out, err))) remember(cached, out);
        arena_free(&a);
    }
    mem_free(paths);
    model_files_close(files);
    mem_free(dir);
    return s;
}

status model_sha256(calo_model *m, error *err) {
    return *m->sha256 ? OK : part_sha256(m, PART_UNET, m->sha256, err);
}

status model_vae_sha256(calo_model *m, error *err) {
    const char *path;
    if (*m->vae_sha256) return OK;
    TRY(model_other_vae(m->m, &path, err));
    return path ? part_sha256(m, PART_VAE, m->vae_sha256, err) : OK;
}
