/* What the protocol's files share: typed look-ups in a JSON object. */
#ifndef HEARTH_DAEMON_PROTOCOL_PRIV_H
#define HEARTH_DAEMON_PROTOCOL_PRIV_H

#include "daemon/protocol.h"
#include "runtime/base/json.h"

/* The member, or NULL when it is absent or null. */
const json_t *member(const json_t *object, const char *key);
struct str json_slice(const json_t *string);

/* Each leaves *out alone when the member is absent or null; ERR_INVALID names the key. An empty string takes the
 * place of no other: Ollama's client sends "model" and "name", one of them empty. */
enum err_code read_string(const json_t *o, const char *key, struct str *out, struct err *e);
enum err_code read_plain(const json_t *o, const char *key, struct str *out, struct err *e); /* refuses a NUL inside */
bool is_plain(const json_t *v); /* a string without a NUL inside */
enum err_code read_bool(const json_t *o, const char *key, bool *out, struct err *e);
enum err_code read_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *out,
                       struct err *e);
enum err_code read_uint(const json_t *o, const char *key, uint64_t *out, struct err *e);
enum err_code read_object(const json_t *o, const char *key, const json_t **out, struct err *e);
enum err_code read_array(const json_t *o, const char *key, const json_t **out, struct err *e);
/* The objects of the array `key`, each read into an element of `size` bytes that is all 0. *out is one mem_alloc'ed
 * block (mem_free); after an error NULL. */
typedef enum err_code read_element(const json_t *object, void *element, struct err *e);
enum err_code read_elements(const json_t *root, const char *key, size_t size, read_element *read, void **out, size_t *n,
                        struct err *e);
enum err_code read_time(const json_t *o, const char *key, int64_t *wall_ns, struct err *e);
/* An integer, or a real with an integer's value, inside int64. */
bool integer_of(const json_t *v, int64_t *out);

/* protocol_chat.c: messages, tools and tool_choice; format */
/* Roles count without regard to case: the tree is ours, so they are lowered in place. */
enum err_code message_lower_role(json_t *message, struct err *e);
enum err_code read_conversation(const json_t *root, struct gen_request *r, struct err *e);
enum err_code read_format(const json_t *root, struct gen_request *r, struct err *e);
void put_tool_choice(struct json_out *j, const struct gen_request *r);

void put_str(struct json_out *j, const char *key, struct str s);
void put_str_if(struct json_out *j, const char *key, struct str s); /* absent when empty */
void put_time(struct json_out *j, const char *key, int64_t wall_ns);
void put_tokens(struct json_out *j, const char *key, const int32_t *id, size_t n);

#endif
