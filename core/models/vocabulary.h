// The tables of a CLIP tokenizer: byte tokens, merges by rank, added tokens; read from the files that
// transformers writes. Every file is untrusted.
#pragma once
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#define VOCABULARY_FILE_MAX (64 << 20) // bytes of one file

// A file's contents; data is NULL when there is no such file.
typedef struct {
    const char *data;
    size_t size; // bytes
} tokenizer_file;

// tokenizer.json (its vocabulary, merges and added tokens) wins over vocab.json and merges.txt, as in
// transformers; everything but a vocabulary with merges may be absent.
typedef struct {
    tokenizer_file vocab, merges, tokenizer_json;
    tokenizer_file config, special_tokens_map, added_tokens;
} tokenizer_files;

// A token that is cut out of the text as a whole. `normalized` ones are compared with the normalised text
// (so "<|ENDOFTEXT|>" is one too), the others with the text as given. lstrip and rstrip swallow the white
// space before and after.
typedef struct {
    char *text; // UTF-8, not terminated
    size_t len; // bytes, > 0
    int32_t id;
    bool normalized, lstrip, rstrip;
} added_token;

typedef struct {
    uint64_t pair; // left id << 32 | right id; UINT64_MAX in a free slot
    uint32_t rank; // 0 merges first
    int32_t id;
} merge;

typedef struct {
    int32_t byte_id[2]
                   [256]; // [1]: the last byte of a word ("</w>"); unk where the vocabulary has no such token
    merge *merges;        // hash table of merge_mask + 1 slots, a power of two
    size_t merge_mask;
    added_token *added;
    size_t n_added;
    int32_t bos, eos, unk, pad;
    size_t max_length; // tokens in a padded row, start and end included
    size_t size;       // highest id + 1
} vocabulary;

// Leaves `v` empty on failure. ERR_DATA names the file and what is wrong with it.
status vocabulary_read(vocabulary *v, const tokenizer_files *files, error *err);
void vocabulary_free(vocabulary *v);
// NULL when the two never merge.
const merge *vocabulary_merge(const vocabulary *v, int32_t left, int32_t right);
