/* What the worker does to a store, by words: one row an operation.
 *
 *   import NAME copy|reference FILE...   pull NAME FROM            bundle NAME FILE
 *   text NAME FROM TEMPLATE SYSTEM       blob NAME FILE TEMPLATE   export FILE NAME...
 *   quantize NAME FROM                   adopt NAME FINDER ROOT    key
 *   verify NAME · repair NAME            rm NAME · cp FROM TO      prune SECONDS [NAME]
 *   damage NAME
 *
 * text: a model of FROM with two texts. blob: FILE is uploaded, and then a model made of it. quantize: FROM's
 * weights written anew (QUANTIZED_BYTES of a pattern). prune NAME: removes it while it is in use, ends that
 * use, and prunes. damage: a byte of its first file in blobs/ changes, as on a disk that fails. */
#ifndef HEARTH_TESTS_STORE_OPERATIONS_H
#define HEARTH_TESTS_STORE_OPERATIONS_H

#include "store/store_priv.h"

#define MAX_WORDS 16
#define QUANTIZED_BYTES 150000u

/* ERR_USAGE: no such operation, or not its number of words. What there is to say is said on stdout. */
enum err_code operation_run(struct store *s, char *const *words, size_t n, struct err *e);

void say(const char *mark, const char *const *words, size_t n); /* a line on stdout, and in the record */
enum err_code operation_inspect(void *user, const char *const *paths, size_t n, struct str template,
                                struct arena *a, struct store_facts *out, struct err *e);
#endif
