/* JSON: jansson reads, we write.
 *
 * Reading: json_read gives a jansson tree after the checks that the library leaves to us (no NUL
 * bytes, nesting cap, size cap). RFC 8259; duplicate keys: the last one wins. A lone surrogate
 * escape is an error. Errors name line and column.
 * Writing: a comma-keeping writer over a `struct buf`; numbers are the shortest text that reads
 * back (0.1, not 0.10000000000000001), strings are escaped as RFC 8259 asks, bytes that are not
 * UTF-8 become U+FFFD. Thread: any; json_setup once, before the first thread. */
#ifndef HEARTH_BASE_JSON_H
#define HEARTH_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define JSON_MAX_DEPTH 64

void json_setup(void); /* allocator hooks to base/mem, hash seed */

/* `what` names the document in the error sentence ("request body"). Caller json_decref()s. */
enum err_code json_read(struct str text, size_t max_bytes, const char *what, json_t **out,
                        struct err *e);
/* The same with a cap on values (ERR_TOO_LARGE), for documents of strangers: a tree takes up to some
 * 300 bytes for each, whatever few the text has. */
enum err_code json_read_bounded(struct str text, size_t max_bytes, size_t max_values, const char *what,
                                json_t **out, struct err *e);

/* jansson's own reading, of text that is already bounded; NULL: no JSON, or no memory. flags and why (may be NULL) are
 * json_loadb's. Caller json_decref()s. */
json_t *json_parse(struct str text, size_t flags, json_error_t *why);

struct json_out {
    struct buf *b;
    bool comma;     /* the next value needs one before it */
};
void json_begin(struct json_out *j, struct buf *b);
void json_obj(struct json_out *j);
void json_obj_end(struct json_out *j);
void json_arr(struct json_out *j);
void json_arr_end(struct json_out *j);
void json_key(struct json_out *j, const char *key);
void json_str_value(struct json_out *j, struct str s);
void json_int_value(struct json_out *j, int64_t v);
void json_uint_value(struct json_out *j, uint64_t v);
void json_num_value(struct json_out *j, double v);  /* NaN and infinities become null */
void json_bool_value(struct json_out *j, bool v);
void json_null_value(struct json_out *j);
void json_raw_value(struct json_out *j, struct str json); /* already JSON */
void json_tree_value(struct json_out *j, const json_t *v);
/* key and value in one */
void json_kstr(struct json_out *j, const char *key, const char *v); /* NULL: "" */
void json_kint(struct json_out *j, const char *key, int64_t v);
void json_knum(struct json_out *j, const char *key, double v);
void json_kbool(struct json_out *j, const char *key, bool v);

#endif
