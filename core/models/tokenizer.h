// CLIP's tokenizer, equal to CLIPTokenizer of transformers 5: canonical composition (NFC), runs of white
// space to one space, lowercase character by character (İ becomes i and a combining dot; a final sigma is σ),
// words by CLIP's pattern, bytes to tokens, merges by rank. HTML entities and mojibake stay as they are.
//
// Text is bytes and may hold NUL. Invalid UTF-8 reads as Python's errors="replace" does: one U+FFFD for each
// longest prefix of a well-formed sequence, or for a byte that starts none. Characters newer than the Unicode
// version of utf8proc or PCRE2 have no lowercase form and are symbols, not letters.
//
// A tokenizer does not change after it is opened: any number of threads may use one.
#pragma once
#include "core/models/vocabulary.h"

#define TOKENIZER_TEXT_MAX ((size_t)4 << 20) // bytes

typedef struct tokenizer tokenizer;

// Reads a folder: vocab.json and merges.txt, or tokenizer.json; and tokenizer_config.json,
// special_tokens_map.json, added_tokens.json where they exist. NULL on failure.
tokenizer *tokenizer_open(const char *dir, error *err);
// vocab.json and merges.txt of a folder, with this text in the place of tokenizer_config.json.
tokenizer *tokenizer_open_with(const char *dir, const char *config, error *err);
// The same from memory; nothing of `files` is kept.
tokenizer *tokenizer_from_memory(const tokenizer_files *files, error *err);
void tokenizer_free(tokenizer *t); // NULL is fine

const vocabulary *tokenizer_vocabulary(const tokenizer *t);

// All ids of the text, without start and end. The caller frees *ids with mem_free; on failure it is NULL.
status tokenizer_encode(const tokenizer *t, const char *text, size_t len, int32_t **ids, size_t *n,
                        error *err);
// What the text encoder reads: start, ids cut to max_length - 2, end, padding; row holds max_length ids.
// *eos is the end token's index; it may be NULL.
status tokenizer_encode_row(const tokenizer *t, const char *text, size_t len, int32_t *row, size_t *eos,
                            error *err);
