/* Tokens -> what a client gets: detokenised, stop strings cut out (and held back while one may be
 * coming), then parted into thinking, answer and tool calls as the model's format spells them
 * (output_parser.h). Knows no HTTP.
 *
 * Feed tokens in order; after each feed, `text`, `thinking` and `calls` hold what may go out now,
 * until stream_taken. Thread: one at a time. */
#ifndef HEARTH_DAEMON_STREAM_H
#define HEARTH_DAEMON_STREAM_H

#include "daemon/protocol.h"
#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"
#include "runtime/text/output_parser.h"

#define STREAM_MAX_TEXT ((size_t)64 << 20)

struct stream_options {
    const struct tokenizer *tokenizer;
    const struct output_format *format; /* must stay until stream_finish */
    struct output_options output;       /* its trees too */
    const struct str *stop;             /* [n_stop] borrowed */
    size_t n_stop;
    uint64_t id_seed;                   /* makes the ids of calls that came without one */
};
struct stream {
    struct stream_options o;
    struct detokenizer detok;
    struct output_parser *parser;
    bool stopped;              /* a stop string came: feed no more */
    struct buf raw;            /* detokenised, not yet let out for a stop string may begin in it */
    struct buf marks;          /* of each byte of raw: whether it is of a control token */
    struct buf text, thinking; /* what may go out */
    struct gen_tool_call *calls; /* [n_calls] whole calls that may go out */
    size_t n_calls, cap_calls;
    struct arena call_texts;   /* of calls */
    uint32_t n_called;         /* calls of the whole answer */
    struct buf call_name, call_id, call_arguments; /* the one that is being said */
};
enum err_code stream_init(struct stream *s, const struct stream_options *o, struct err *e);
void stream_finish(struct stream *s); /* also of one that is zeroed */
enum err_code stream_feed(struct stream *s, int32_t token, struct err *e);
/* No more tokens: what was held back comes out. */
enum err_code stream_end(struct stream *s, struct err *e);
void stream_taken(struct stream *s); /* empties text, thinking and calls */

#endif
