// genweights CASE.json DIRECTORY: writes the model folder of a golden case: config.json and the generated
// weights, F32.
#include "tests/tools/genweights.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    const char *name;
    int rank;
    int64_t shape[8], count;
} tensor;

static int complain(const char *what, const char *why) {
    fprintf(stderr, "genweights: %s: %s\n", what, why);
    return 1;
}

static tensor tensor_of(const json_t *row) {
    const json_t *shape = json_array_get(row, 1);
    tensor t = {json_string_value(json_array_get(row, 0)), (int)json_array_size(shape), {0}, 1};
    for (int i = 0; i < t.rank && i < 8; i++) {
        t.shape[i] = json_integer_value(json_array_get(shape, (size_t)i));
        t.count *= t.shape[i];
    }
    return t;
}

// The header: each tensor's type, shape and place, in the order of the list, padded to 8 bytes.
static char *header(const json_t *tensors) {
    json_t *h = json_object();
    int64_t at = 0;
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        const json_t *row = json_array_get(tensors, i);
        tensor t = tensor_of(row);
        json_object_set_new(h, t.name,
                            json_pack("{s:s, s:O, s:[I, I]}", "dtype", "F32", "shape", json_array_get(row, 1),
                                      "data_offsets", (json_int_t)at, (json_int_t)(at + 4 * t.count)));
        at += 4 * t.count;
    }
    char *text = json_dumps(h, JSON_COMPACT);
    json_decref(h);
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    text = realloc(text, padded + 1);
    memset(text + length, ' ', padded - length);
    text[padded] = 0;
    return text;
}

static int write_weights(const char *path, const json_t *tensors) {
    FILE *f = fopen(path, "wb");
    if (!f) return complain(path, strerror(errno));
    char *text = header(tensors);
    uint64_t length = strlen(text); // little-endian, as is every machine this runs on
    fwrite(&length, 8, 1, f);
    fwrite(text, 1, length, f);
    free(text);
    for (size_t i = 0; i < json_array_size(tensors); i++) {
        tensor t = tensor_of(json_array_get(tensors, i));
        float *values = malloc((size_t)t.count * 4);
        if (!values) return complain(t.name, "out of memory");
        gen_weight(t.name, t.rank, t.shape, values);
        fwrite(values, 4, (size_t)t.count, f);
        free(values);
    }
    return fclose(f) == 0 ? 0 : complain(path, strerror(errno));
}

int main(int argc, char **argv) {
    if (argc != 3) return complain("usage", "genweights CASE.json DIRECTORY");
    json_error_t err;
    json_t *golden = json_load_file(argv[1], 0, &err);
    if (!golden) return complain(argv[1], err.text);
    const char *file = json_string_value(json_object_get(golden, "file"));
    if (!file) return complain(argv[1], "not a golden case");
    if (mkdir(argv[2], 0777) != 0 && errno != EEXIST) return complain(argv[2], strerror(errno));

    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", argv[2]);
    if (json_dump_file(json_object_get(golden, "config"), path, JSON_INDENT(2)) != 0)
        return complain(path, "cannot be written");
    snprintf(path, sizeof path, "%s/%s", argv[2], file);
    int rc = write_weights(path, json_object_get(golden, "tensors"));
    json_decref(golden);
    return rc;
}
