// What torch.save writes (.ckpt, .pt, .pth, .bin): a zip archive of stored entries, of which DIR/data.pkl is
// a pickle that describes the tensors and DIR/data/KEY holds the values of storage KEY. The pickle is read as
// data (pickle.h); values are read straight from the file, at the place where libzip finds the entry.
#include "core/base/fs.h"
#include "core/base/mem.h"
#include "core/base/text.h"
#include "core/files/pickle.h"
#include "core/files/tensor_formats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

// The pickle of a model with its optimiser has a few MB. Names of tensors have some 100 bytes.
enum { MAX_PICKLE = 16 << 20, MAX_NAME = 1000, MAX_DEPTH = 16 };

static status short_of_memory(error *err, const tensor_file *f) {
    return fail(err, ERR_TEMP, "%s: out of memory", f->path);
}

// ---------------------------------------------------------------- the archive

typedef struct {
    const char *name; // without DIR/; libzip's
    uint64_t index, offset, bytes;
} part;

typedef struct {
    FILE *file; // libzip reads through a file of its own
    zip_t *zip;
    part *parts; // by name
    size_t n;
} archive;

static void archive_close(archive *a) {
    if (a->zip) zip_discard(a->zip); // closes the file too
    mem_free(a->parts);
}

static status zip_failed(const tensor_file *f, zip_error_t *e, error *err) {
    if (zip_error_code_zip(e) == ZIP_ER_MEMORY)
        return fail(err, ERR_TEMP, "%s: %s", f->path, zip_error_strerror(e));
    return fail(err, ERR_DATA, "%s: damaged or cut short, as a zip archive: %s", f->path,
                zip_error_strerror(e));
}

// Takes the file over. ZIP_CHECKCONS: no name comes twice, and the headers before the entries say what the
// directory says.
static status open_zip(archive *a, const tensor_file *f, error *err) {
    zip_error_t e;
    zip_error_init(&e);
    zip_source_t *source = zip_source_filep_create(a->file, 0, -1, &e);
    if (!source)
        fclose(a->file);
    else if (!(a->zip = zip_open_from_source(source, ZIP_RDONLY | ZIP_CHECKCONS, &e)))
        zip_source_free(source);
    status s = a->zip ? OK : zip_failed(f, &e, err);
    zip_error_fini(&e);
    return s;
}

static bool is_storage(const char *name) {
    if (strncmp(name, "data/", 5)) return false;
    size_t digits = strspn(name + 5, "0123456789");
    return digits && !name[5 + digits];
}

static bool is_known(const char *name) {
    static const char *const KNOWN[] = {"data.pkl",           "version",
                                        "byteorder",          ".format_version",
                                        ".storage_alignment", ".data/serialization_id"};
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (!strcmp(name, KNOWN[i])) return true;
    return is_storage(name);
}

// Where the entry's bytes begin: behind the first of them, the file stands at the second.
static status find_bytes(archive *a, const tensor_file *f, part *p, error *err) {
    char first;
    if (!p->bytes) return OK;
    zip_file_t *z = zip_fopen_index(a->zip, p->index, ZIP_FL_COMPRESSED);
    if (!z && zip_error_code_zip(zip_get_error(a->zip)) == ZIP_ER_MEMORY)
        return zip_failed(f, zip_get_error(a->zip), err);
    bool read = z && zip_fread(z, &first, 1) == 1;
    p->offset = (uint64_t)ftello(a->file) - 1;
    if (z) zip_fclose(z);
    if (!read || p->offset > f->file_size || p->bytes > f->file_size - p->offset)
        return fail(err, ERR_DATA, "%s: entry '%.200s' cannot be read or leaves the file", f->path, p->name);
    return OK;
}

// `dir` is what the first entry's name begins with; all must.
static status read_part(archive *a, const tensor_file *f, uint64_t i, size_t dir, error *err) {
    zip_stat_t z;
    if (zip_stat_index(a->zip, i, 0, &z)) return zip_failed(f, zip_get_error(a->zip), err);
    if (strncmp(z.name, zip_get_name(a->zip, 0, 0), dir) || !is_known(z.name + dir))
        return fail(err, ERR_DATA,
                    "%s: entry '%.200s' does not belong to weights that torch.save wrote: refused", f->path,
                    z.name);
    if (z.comp_method != ZIP_CM_STORE || z.encryption_method != ZIP_EM_NONE || z.size != z.comp_size)
        return fail(err, ERR_DATA, "%s: entry '%.200s' is compressed or encrypted, as torch.save writes none",
                    f->path, z.name);
    part *p = &a->parts[a->n++];
    *p = (part){z.name + dir, i, 0, z.size};
    return find_bytes(a, f, p, err);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const part *)a)->name, ((const part *)b)->name);
}

static status read_parts(archive *a, const tensor_file *f, error *err) {
    zip_int64_t n = zip_get_num_entries(a->zip, 0);
    const char *first = n > 0 ? zip_get_name(a->zip, 0, 0) : NULL, *slash = first ? strchr(first, '/') : NULL;
    if (!slash) return fail(err, ERR_DATA, "%s: a zip archive, but not one that torch.save wrote", f->path);
    if (!(a->parts = mem_calloc((size_t)n, sizeof *a->parts))) return short_of_memory(err, f);
    status s = OK;
    for (zip_int64_t i = 0; i < n && !s; i++)
        s = read_part(a, f, (uint64_t)i, (size_t)(slash + 1 - first), err);
    qsort(a->parts, a->n, sizeof *a->parts, by_name);
    return s;
}

static status archive_open(archive *a, const tensor_file *f, error *err) {
    int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0 || !(a->file = fdopen(fd, "rb"))) {
        status s = fs_fail(err, errno, ERR_IO, f->path, "cannot open");
        if (fd >= 0) close(fd);
        return s;
    }
    status s = open_zip(a, f, err);
    return s ? s : read_parts(a, f, err);
}

static const part *find_part(const archive *a, const char *name) {
    const part key = {.name = name};
    return bsearch(&key, a->parts, a->n, sizeof key, by_name);
}

// All bytes of an entry, whose checksum must be right.
static status read_entry(const archive *a, const tensor_file *f, const part *p, char *to, error *err) {
    zip_file_t *z = zip_fopen_index(a->zip, p->index, 0);
    if (!z) return zip_failed(f, zip_get_error(a->zip), err);
    char end;
    bool good = zip_fread(z, to, p->bytes) == (zip_int64_t)p->bytes && zip_fread(z, &end, 1) == 0;
    status s = good ? OK : zip_failed(f, zip_file_get_error(z), err);
    zip_fclose(z);
    return s ? fail_in(err, "entry '%s'", p->name) : OK;
}

// Archives from before torch 2.1 do not say; those are of little-endian machines.
static status check_byteorder(const archive *a, const tensor_file *f, error *err) {
    const part *p = find_part(a, "byteorder");
    char order[6];
    if (!p) return OK;
    if (p->bytes == sizeof order) TRY(read_entry(a, f, p, order, err));
    if (p->bytes != sizeof order || memcmp(order, "little", sizeof order))
        return fail(err, ERR_DATA, "%s: its byteorder is not little", f->path);
    return OK;
}

// ---------------------------------------------------------------- what the pickle may name

enum { REBUILD, REBUILD_TYPED, PARAMETER, STORAGE, TYPE, OTHER };
enum { UNTYPED = DT_COUNT }; // a storage of bytes

static const pickle_global GLOBALS[] = {
    {"collections", "OrderedDict", PICKLE_EMPTY_DICT, OTHER, 0},
    {"torch._utils", "_rebuild_tensor_v2", PICKLE_NOTED, REBUILD, 0},
    {"torch._utils", "_rebuild_tensor_v3", PICKLE_NOTED, REBUILD_TYPED, 0},
    {"torch._utils", "_rebuild_parameter", PICKLE_NOTED, PARAMETER, 0},
    {"torch", "FloatStorage", PICKLE_REFUSED, STORAGE, DT_F32},
    {"torch", "HalfStorage", PICKLE_REFUSED, STORAGE, DT_F16},
    {"torch", "BFloat16Storage", PICKLE_REFUSED, STORAGE, DT_BF16},
    {"torch", "DoubleStorage", PICKLE_REFUSED, STORAGE, DT_F64},
    {"torch", "LongStorage", PICKLE_REFUSED, STORAGE, DT_I64},
    {"torch", "IntStorage", PICKLE_REFUSED, STORAGE, DT_I32},
    {"torch", "ShortStorage", PICKLE_REFUSED, STORAGE, DT_I16},
    {"torch", "CharStorage", PICKLE_REFUSED, STORAGE, DT_I8},
    {"torch", "ByteStorage", PICKLE_REFUSED, STORAGE, DT_U8},
    {"torch", "BoolStorage", PICKLE_REFUSED, STORAGE, DT_BOOL},
    {"torch.storage", "UntypedStorage", PICKLE_REFUSED, STORAGE, UNTYPED},
    {"torch", "float8_e4m3fn", PICKLE_REFUSED, TYPE, DT_F8_E4M3},
    {"torch", "float8_e5m2", PICKLE_REFUSED, TYPE, DT_F8_E5M2},
    {"torch", "uint16", PICKLE_REFUSED, TYPE, DT_U16},
    {"torch", "uint32", PICKLE_REFUSED, TYPE, DT_U32},
    {"torch", "uint64", PICKLE_REFUSED, TYPE, DT_U64},
    // What the notes of trainers hold beside the weights; nothing becomes of these.
    {"__builtin__", "set", PICKLE_DROPPED, OTHER, 0},
    {"torch", "Size", PICKLE_DROPPED, OTHER, 0},
    {"torch", "device", PICKLE_DROPPED, OTHER, 0},
    {"torch", "float16", PICKLE_REFUSED, OTHER, 0},
    {"torch", "bfloat16", PICKLE_REFUSED, OTHER, 0},
    {"torch", "float32", PICKLE_REFUSED, OTHER, 0},
    {"numpy.core.multiarray", "scalar", PICKLE_DROPPED, OTHER, 0},
    {"numpy.core.multiarray", "_reconstruct", PICKLE_DROPPED, OTHER, 0},
    {"numpy._core.multiarray", "scalar", PICKLE_DROPPED, OTHER, 0}, // numpy 2
    {"numpy._core.multiarray", "_reconstruct", PICKLE_DROPPED, OTHER, 0},
    {"numpy", "dtype", PICKLE_DROPPED, OTHER, 0},
    {"numpy", "ndarray", PICKLE_REFUSED, OTHER, 0},
    {"_codecs", "encode", PICKLE_DROPPED, OTHER, 0},
    {"pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", PICKLE_REFUSED, OTHER, 0},
    {0}};

static bool is_global(const pickle_value *v, int id) {
    return v->kind == PICKLE_GLOBAL && v->global->id == id;
}

// ---------------------------------------------------------------- tensors

typedef struct {
    tensor_file *file;
    const archive *archive;
    error *err;
    size_t room;  // of file->tensors
    size_t items; // that may still be looked at: a tree has no more than its pickle has bytes
    char name[MAX_NAME + 1];
} collector;

static status refuse(const collector *c, const char *why) {
    return fail(c->err, ERR_DATA, "%s: tensor '%.200s' %s", c->file->path, c->name, why);
}

// The first n arguments of a call or tuple.
static bool arguments(const pickle_value *v, const pickle_value **args, size_t n) {
    const pickle_item *item = v->items;
    if (v->count < n) return false;
    for (size_t i = 0; i < n; i++, item = item->next) args[i] = item->value;
    return true;
}

// A tuple of sizes or strides.
static bool integers(const pickle_value *v, int64_t *to, int *n) {
    if (v->kind != PICKLE_TUPLE || v->count > TENSOR_MAX_DIMS) return false;
    *n = 0;
    for (const pickle_item *item = v->items; item; item = item->next) {
        if (item->value->kind != PICKLE_INT) return false;
        to[(*n)++] = item->value->integer;
    }
    return true;
}

// ('storage', type, key, device, elements): the entry of the archive that holds it.
static status find_storage(const collector *c, const pickle_value *v, const part **storage, int *type) {
    const pickle_value *a[5];
    char name[40] = "data/";
    if (v->kind != PICKLE_PERSISTENT || v->items->value->kind != PICKLE_TUPLE ||
        !arguments(v->items->value, a, 5) || !is_global(a[1], STORAGE) || a[2]->kind != PICKLE_TEXT ||
        a[4]->kind != PICKLE_INT)
        return refuse(c, "names no storage");
    if (a[2]->length < sizeof name - 5) memcpy(name + 5, a[2]->text, a[2]->length);
    *storage = is_storage(name) ? find_part(c->archive, name) : NULL;
    if (!*storage) return refuse(c, "lies in a storage that the archive does not have");
    *type = a[1]->global->detail;
    uint64_t bytes, size = *type == UNTYPED ? 1 : dtype_size((dtype)*type);
    if (a[4]->integer < 0 || __builtin_mul_overflow((uint64_t)a[4]->integer, size, &bytes) ||
        bytes != (*storage)->bytes)
        return refuse(c, "lies in a storage of another size than the archive's");
    return OK;
}

// Whether the elements lie one after another. A stride of a single element says nothing.
static bool is_contiguous(const tensor_entry *t) {
    int64_t expected = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != expected) return false;
        expected *= t->shape[i];
    }
    return true;
}

// The distance of the last element from the first, in elements.
static bool reach_of(const tensor_entry *t, uint64_t *reach) {
    *reach = 0;
    for (int i = 0; i < t->ndim; i++) {
        uint64_t steps, last = (uint64_t)t->shape[i] - 1;
        if (t->stride[i] < 0 || __builtin_mul_overflow((uint64_t)t->stride[i], last, &steps) ||
            __builtin_add_overflow(*reach, steps, reach))
            return false;
    }
    return true;
}

// Where the elements lie in a storage of so many bytes, the first of them at element `first`.
static status place(const collector *c, tensor_entry *t, const part *storage, int64_t first) {
    uint64_t size = dtype_size((dtype)t->type), room = storage->bytes / size, reach;
    t->offset = storage->offset;
    if (!t->count) return OK;
    if (first < 0 || (uint64_t)first >= room || !reach_of(t, &reach) || reach >= room - (uint64_t)first)
        return refuse(c, "leaves its storage");
    if (t->count > reach + 1) return refuse(c, "repeats its elements, which is not supported");
    t->strided = !is_contiguous(t);
    t->offset += (uint64_t)first * size;
    t->bytes = t->count * size;
    return OK;
}

// _rebuild_tensor_v2(storage, first, sizes, strides, ...), and v3, which has the type of the elements at [6].
static status rebuild(const collector *c, const pickle_value *v, tensor_entry *t) {
    const pickle_value *a[7];
    bool typed = v->global->id == REBUILD_TYPED;
    const part *storage = NULL;
    int n_strides;
    if (!arguments(v, a, typed ? 7 : 4) || a[1]->kind != PICKLE_INT || !integers(a[2], t->shape, &t->ndim) ||
        !integers(a[3], t->stride, &n_strides) || n_strides != t->ndim || (typed && !is_global(a[6], TYPE)))
        return refuse(c, "is not described as torch does it, or has more than 8 dimensions");
    TRY(find_storage(c, a[0], &storage, &t->type));
    if (typed != (t->type == UNTYPED)) return refuse(c, "lies in a storage of no type");
    if (typed) t->type = a[6]->global->detail;
    t->type_name = dtype_name((dtype)t->type);
    TRY(tensor_entry_count(c->file, t, c->err));
    return place(c, t, storage, a[1]->integer);
}

static status add_tensor(collector *c, const pickle_value *v) {
    tensor_file *f = c->file;
    if (f->n == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        tensor_entry *more = mem_realloc(f->tensors, room, sizeof *more);
        if (!more) return short_of_memory(c->err, f);
        f->tensors = more;
        c->room = room;
    }
    tensor_entry *t = &f->tensors[f->n++];
    *t = (tensor_entry){.name = arena_printf(&f->strings, "%s", c->name)};
    if (!t->name) return short_of_memory(c->err, f);
    if (!text_is_utf8(t->name)) return refuse(c, "has a name that is not UTF-8");
    for (int i = 0; v->global->id == PARAMETER; i++) { // _rebuild_parameter(tensor, ...)
        if (i > 0 || !v->count || v->items->value->kind != PICKLE_CALL) return refuse(c, "is no tensor");
        v = v->items->value;
    }
    return rebuild(c, v, t);
}

// ---------------------------------------------------------------- names

// Puts ".key" behind the name of n bytes. 0 if the key is no text or number.
static status append_key(collector *c, size_t n, const pickle_value *key, size_t *length) {
    int more = 0;
    const char *dot = n ? "." : "";
    *length = 0;
    if (key->kind == PICKLE_TEXT && !memchr(key->text, 0, key->length))
        more = key->length > MAX_NAME
                   ? MAX_NAME + 1
                   : snprintf(c->name + n, sizeof c->name - n, "%s%.*s", dot, (int)key->length, key->text);
    else if (key->kind == PICKLE_INT)
        more = snprintf(c->name + n, sizeof c->name - n, "%s%lld", dot, (long long)key->integer);
    if (n + (size_t)more >= sizeof c->name) return refuse(c, "and more: a name without end");
    *length = n + (size_t)more;
    return OK;
}

// All tensors of a dictionary and of those in it; what is no tensor is no business of ours. n: of c->name.
static status collect(collector *c, const pickle_value *dict, size_t n, int depth) {
    if (depth > MAX_DEPTH) return refuse(c, "lies in dictionaries without end");
    for (const pickle_item *item = dict->items; item; item = item->next) {
        size_t length;
        pickle_kind kind = item->value->kind;
        if (!c->items--) return refuse(c, "lies in dictionaries without end");
        if (kind != PICKLE_DICT && kind != PICKLE_CALL) continue;
        TRY(append_key(c, n, item->key, &length));
        if (length == n) continue;
        TRY(kind == PICKLE_DICT ? collect(c, item->value, length, depth + 1) : add_tensor(c, item->value));
        c->name[n] = 0;
    }
    return OK;
}

static bool is_text(const pickle_value *v, const char *text) {
    return v->kind == PICKLE_TEXT && v->length == strlen(text) && !memcmp(v->text, text, v->length);
}

static const pickle_value *dict_in(const pickle_value *dict, const char *key) {
    for (const pickle_item *item = dict->items; item; item = item->next)
        if (is_text(item->key, key) && item->value->kind == PICKLE_DICT) return item->value;
    return NULL;
}

// Trainers put the weights beside the state of the training, some of them twice.
static const pickle_value *weights_of(const pickle_value *root) {
    static const char *const INSIDE[] = {"state_dict", "module", "model"};
    for (int depth = 0; depth < MAX_DEPTH; depth++) {
        const pickle_value *inner = NULL;
        for (size_t i = 0; i < sizeof INSIDE / sizeof *INSIDE && !inner; i++)
            inner = dict_in(root, INSIDE[i]);
        if (!inner) break;
        root = inner;
    }
    return root;
}

static status check_names(const tensor_file *f, error *err) {
    if (!f->n) return fail(err, ERR_DATA, "%s: holds no tensor that has a name", f->path);
    for (size_t i = 1; i < f->n; i++)
        if (!strcmp(f->by_name[i - 1]->name, f->by_name[i]->name))
            return fail(err, ERR_DATA, "%s: two tensors '%.200s'", f->path, f->by_name[i]->name);
    return OK;
}

static status read_tensors(tensor_file *f, const archive *a, char *data, size_t n, error *err) {
    arena mem = {0};
    const pickle_value *root = pickle_read(f->path, data, n, GLOBALS, &mem, err);
    collector *c = root ? mem_calloc(1, sizeof *c) : NULL;
    status s = c ? OK : root ? short_of_memory(err, f) : err->code;
    if (!s) *c = (collector){.file = f, .archive = a, .err = err, .items = n};
    if (!s && root->kind == PICKLE_DICT) s = collect(c, weights_of(root), 0, 0);
    if (!s) s = tensor_file_sort(f, err);
    if (!s) s = check_names(f, err);
    mem_free(c);
    arena_free(&mem);
    return s;
}

static status read_pickle(tensor_file *f, const archive *a, error *err) {
    const part *p = find_part(a, "data.pkl");
    if (!p || p->bytes > MAX_PICKLE)
        return fail(err, ERR_DATA,
                    p ? "%s: its data.pkl is too large" : "%s: a zip archive without a data.pkl", f->path);
    char *data = mem_alloc(p->bytes);
    if (!data) return short_of_memory(err, f);
    status s = read_entry(a, f, p, data, err);
    if (!s) s = read_tensors(f, a, data, p->bytes, err);
    mem_free(data);
    return s;
}

status ckpt_read_directory(tensor_file *f, error *err) {
    archive a = {0};
    if (!(f->metadata = mem_calloc(1, sizeof *f->metadata))) return short_of_memory(err, f);
    f->metadata[f->n_metadata++] = (metadata_pair){"format", "pt"}; // as torch's own safetensors files say
    status s = archive_open(&a, f, err);
    if (!s) s = check_byteorder(&a, f, err);
    if (!s) s = read_pickle(f, &a, err);
    archive_close(&a);
    return s;
}
