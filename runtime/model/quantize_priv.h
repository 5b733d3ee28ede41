/* What quantize.c and quantize_mix.c share. */
#ifndef HEARTH_MODEL_QUANTIZE_PRIV_H
#define HEARTH_MODEL_QUANTIZE_PRIV_H

#include "runtime/model/quantize.h"

/* Fills items[i].to for every tensor of the file, in its order. items[i].from is set. */
enum err_code quantize_mix(const struct gguf *g, const struct quantize_target *target,
                           struct quantize_item *items, size_t n, struct err *e);

#endif
