/* SentencePiece's precompiled normalisation rules: which texts are written how.
 *
 * Source: sentencepiece, normalizer.cc and its third-party darts-clone. The bytes of
 * tokenizer.ggml.precompiled_charsmap, little-endian:
 *   u32 n            bytes of the double array
 *   u32 unit[n / 4]  a trie of what is replaced; unit 0 is the root
 *   char text[]      NUL-terminated replacements; a leaf's value is an offset into these
 * Of a unit: bits 0-7 the byte that leads here (bit 31 set: a leaf's value in bits 0-30), bit 8
 * whether a leaf hangs below, bits 10-30 the offset to the children, times 256 if bit 9 is set.
 *
 * Thread: const after charsmap_init. The bytes come from a file and are trusted in nothing. */
#ifndef HEARTH_TEXT_CHARSMAP_H
#define HEARTH_TEXT_CHARSMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define CHARSMAP_MAX_KEY 64   /* bytes of a text that is replaced */
#define CHARSMAP_MAX_TEXT 256 /* bytes of a replacement */

struct charsmap {
    uint32_t *unit;
    size_t n_units;
    char *text;
    size_t n_text;
    bool begins[256]; /* whether a text that is replaced begins with this byte */
};

/* Copies what it keeps. ERR_FORMAT: lengths that do not fit. The empty slice makes an empty map. */
enum err_code charsmap_init(struct charsmap *m, struct str bytes, struct err *e);
void charsmap_finish(struct charsmap *m);

/* The longest text at the front of `s` that is replaced: its length, and *out what takes its place
 * (valid UTF-8, and whole characters of `s` are replaced). 0: none. `s` must be valid UTF-8.
 * Cost: at most CHARSMAP_MAX_KEY steps. */
size_t charsmap_find(const struct charsmap *m, struct str s, struct str *out);

#endif
