// What every target is: it defines fuzz_input, which reads one input, and fuzz_start, which makes what all
// inputs need. fuzz.c calls them.
//
// An input that ends with 0xfb, '!', a letter and a byte is read without these four while something fails:
// call number `byte` (from 0) through the doors of tests/tools/faults.h for memory ('m') or files (EIO 'e',
// ENOSPC 'n', EINTR 'i', short counts 's'). So seeds, and what the fuzzer makes of them, take the branches
// behind a failure too. jansson's memory never fails: SECURITY.md tells why.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void fuzz_start(void);
void fuzz_input(const uint8_t *data, size_t n);

// Whether something has failed on request while this input was read: then what is good may be refused.
bool fuzz_failed(void);

// The data under the name of a file in memory, valid until the next call.
const char *fuzz_file(const uint8_t *data, size_t n);
// A new folder, in memory where that is possible; it goes when the target ends; `dir` has room for 64 bytes.
void fuzz_folder(char *dir);
void fuzz_write(const char *path, const void *data, size_t n);
