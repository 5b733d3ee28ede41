/* The runtime's quantiser as the store's writer: for /api/quantize, and create's `quantize`. */
#ifndef HEARTH_DAEMON_QUANTIZE_H
#define HEARTH_DAEMON_QUANTIZE_H

#include "runtime/engine/runtime.h"
#include "store/derive.h"

#define QUANTIZE_THREADS 2

struct quantize_writer {
    struct derive_writer writer; /* its user is this struct, which must stay where it is */
    const char *type;
    struct quantizer *quantizer;
};
/* type: "Q4_K_M", in any case; must outlive the writer. ERR_INVALID: no such type, the sentence lists
 * them. quantize_writer_finish in any case. */
enum err_code quantize_writer_init(struct quantize_writer *w, const char *type, struct err *e);
void quantize_writer_finish(struct quantize_writer *w);

#endif
