/* What the files of `words` share. For runtime/engine only. */
#ifndef HEARTH_ENGINE_WORDS_PRIV_H
#define HEARTH_ENGINE_WORDS_PRIV_H

#include "runtime/model/gguf.h"
#include "runtime/text/tokenizer.h"

/* The tokenizer that the keys tokenizer.ggml.* describe. *out is NULL and the result ERR_OK when
 * the file has none. ERR_UNSUPPORTED: one of a kind that we do not have. */
enum err_code words_read_tokenizer(const struct gguf *g, struct tokenizer **out, struct err *e);

#endif
