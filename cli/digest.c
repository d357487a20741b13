#include "cli/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static digest digest_of(const unsigned char h[SHA256_DIGEST_LENGTH]) {
    digest d = {0};
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(d.hex + 2 * i, 3, "%02x", h[i]);
    for (int i = 0; i < 8; i++) d.number = d.number << 8 | h[i];
    return d;
}

digest digest_text(const char *text) {
    unsigned char h[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)text, strlen(text), h);
    return digest_of(h);
}

int digest_file(int fd, digest *d) {
    unsigned char h[EVP_MAX_MD_SIZE], piece[1 << 14];
    ssize_t got = -1;
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL);
    if (!good) errno = ENOMEM;
    while (good && ((got = read(fd, piece, sizeof piece)) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0) EVP_DigestUpdate(c, piece, (size_t)got);
    int wrong = got == 0 && EVP_DigestFinal_ex(c, h, NULL) ? 0 : errno;
    if (!wrong) *d = digest_of(h);
    EVP_MD_CTX_free(c);
    return wrong;
}
