// Files: reading with a limit, and writing so that a file of the final name is always whole.
//
// Codes: a missing or forbidden input is ERR_NOINPUT, an output that cannot be created ERR_CANTCREAT, a full
// disk or quota ERR_TEMP, a failing device ERR_IO. Every text names the path.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

// The error of a system call that left `e` in errno, in the codes above: "path: doing: why". `otherwise` is
// for what says nothing by itself: the input is unreadable, the output cannot be created.
status fs_fail(error *err, int e, status otherwise, const char *path, const char *doing);

// Opens a regular file for reading (symbolic links are followed, as hub caches need); -1 on failure.
int fs_open_read(const char *path, uint64_t *size, error *err);
// When the file was last written to, in nanoseconds.
status fs_written(int fd, const char *path, int64_t *when, error *err);
// Reads exactly n bytes at `offset`; a file that ends early is ERR_DATA.
status fs_read_at(int fd, const char *path, uint64_t offset, void *dst, size_t n, error *err);
// Reads all of a file or pipe of at most `limit` bytes. *data gets a NUL after its *size bytes; the caller
// frees it with mem_free. A longer file is ERR_DATA.
status fs_read_file(const char *path, size_t limit, char **data, size_t *size, error *err);

// New strings, mem_free; NULL when memory is short. An absolute `name` is not special: it lands under `dir`.
char *fs_join(const char *dir, const char *name);
char *fs_dirname(const char *path);         // "." if there is no slash, "/" for "/x"
const char *fs_basename(const char *path);  // points into `path`
const char *fs_extension(const char *path); // after the last dot of the base name; "" if none
bool fs_is_plain_name(const char *name);    // not empty, ".", "..", and without a slash
bool fs_is_dir(const char *path);
bool fs_exists(const char *path);
// The same where the answer decides what is made: a name that cannot be looked at is an error, for something
// may be there.
typedef enum { FS_NOTHING, FS_FOLDER, FS_OTHER } fs_kind;
status fs_look(const char *path, fs_kind *kind, error *err);
status fs_mkdirs(const char *path, error *err); // mkdir -p

// The names in a folder without "." and "..", in bytewise order; free with fs_list_free.
status fs_list(const char *dir, char ***names, size_t *n, error *err);
void fs_list_free(char **names, size_t n);

// An output under a temporary name in the folder of `path`. Commit makes it durable (fsync of file and
// folder) and gives it its name in one step; until then, and after abort, `path` is as it was. The temporary
// name is .calotype-X.tmp with 16 hexadecimal digits X; a lock (F_OFD_SETLK) on all of the file is held as
// long.
typedef struct fs_writer fs_writer;
fs_writer *fs_writer_open(const char *path, bool overwrite, error *err);
status fs_writer_put(fs_writer *w, const void *data, size_t n, error *err);
status fs_writer_commit(fs_writer *w, error *err); // frees `w` on failure too
void fs_writer_abort(fs_writer *w);                // NULL is fine

// The whole file at once. Without `overwrite` an existing `path` is ERR_CANTCREAT, decided when the file gets
// its name.
status fs_write_atomic(const char *path, const void *data, size_t n, bool overwrite, error *err);

// The bytes of a file under another name, as a writer puts them.
status fs_copy(const char *from, const char *to, bool overwrite, error *err);

// An output that is a folder: made under a temporary name beside `path` (.calotype-X.tmp, as above), and
// renamed when it is whole; a lock (flock) on it is held as long. An existing `path` must be an empty folder:
// ERR_CANTCREAT when it is made, or when it gets its name. Commit and abort free it; where commit fails there
// is no folder, so that it can be made again.
typedef struct fs_folder fs_folder;
fs_folder *fs_folder_new(const char *path, error *err);
const char *fs_folder_temp(const fs_folder *f); // where it is meanwhile
status fs_folder_commit(fs_folder *f, error *err);
void fs_folder_abort(fs_folder *f); // with all that is in it; NULL is fine
