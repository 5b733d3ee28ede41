/* A place for the store's tests to work in: a directory of the test's own, a store in it, files to
 * import, and eyes on what is there. For cmocka; the state of a test is a struct place. */
#ifndef HEARTH_TESTS_STORE_PLACE_H
#define HEARTH_TESTS_STORE_PLACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/store_priv.h"
#include "tests/store/fault.h"

/* a sanitizer's cost, for the tests that look at the clock */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOWER 20
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 20
#endif
#ifndef SLOWER
#define SLOWER 1
#endif

struct place {
    char root[128], home[200];
    struct store *s;
};

int setup(void **state);
/* For sweeps, which sync thousands of times: in memory, where there is such a place. */
int setup_in_memory(void **state);
int teardown(void **state);
int prepare_process(void); /* once, first in main */

/* `call` has an `e` for its errors. */
#define ok(call)                                                                                   \
    do {                                                                                           \
        struct err e_ = { 0 };                                                                     \
        struct err *e = &e_;                                                                       \
        if ((call) != ERR_OK)                                                                      \
            fail_msg("%s: %s", #call, e_.text);                                                    \
    } while (0)

#define fails_with(expected, sentence, call)                                                       \
    do {                                                                                           \
        struct err e_ = { 0 };                                                                     \
        struct err *e = &e_;                                                                       \
        assert_int_equal((call), expected);                                                        \
        if (!strstr(e_.text, sentence))                                                            \
            fail_msg("'%s' does not say '%s'", e_.text, sentence);                                 \
    } while (0)

void reopen(struct place *p); /* closes, and opens with fault_ops */

/* A path below the place; good for the next three calls as well. */
const char *in(const struct place *p, const char *name);
const char *write_file(const char *path, const void *bytes, size_t n); /* gives its path */
char *read_file(const char *path, size_t *n);                          /* free() it */
void assert_file_is(const char *path, const void *bytes, size_t n);
size_t entries(const char *home, const char *dir); /* names in home/dir */
mode_t mode_of(const char *home, const char *name);
void hex_of(const void *bytes, size_t n, char out[65]); /* SHA-256, without the store's code */

extern const struct store_facts llama;
enum err_code import_files(struct store *s, const char *name, const char *const *paths, size_t n,
                           enum store_mode mode, struct store_model **out, struct err *e);
enum err_code import_file(struct store *s, const char *name, const char *path,
                          enum store_mode mode, struct err *e);
const char *model_file(struct place *p, const char *text); /* named and filled after `text` */
void add(struct place *p, const char *name, const char *text, enum store_mode mode);
const char *listed(struct store *s); /* the names in their order, with a space after each */
enum err_code resolve(struct store *s, const char *name, struct err *e);

/* Straight at a catalog that no store has open. */
void sql(const char *db, const char *text);
int64_t sql_int(const char *db, const char *text);

#endif
