/* Tokens -> the text that a client gets: detokenised, stop strings cut out (and held back while
 * one may be coming), thinking parted from the answer. Knows no HTTP.
 *
 * Feed tokens in order; after each feed, `text` and `thinking` hold what may go out now. Thread:
 * one at a time. */
#ifndef HEARTH_DAEMON_STREAM_H
#define HEARTH_DAEMON_STREAM_H

#include "daemon/protocol.h"
#include "runtime/engine/runtime.h"

#define STREAM_MAX_TEXT ((size_t)64 << 20)

enum stream_phase {
    STREAM_START,    /* thinking may come first */
    STREAM_OPENED,   /* between <think> and the first of it: blanks are dropped */
    STREAM_THINKING,
    STREAM_AFTER,    /* between thinking and answer: blanks are dropped */
    STREAM_ANSWER,
};
struct stream {
    struct detokenizer detok;
    const struct str *stop; /* borrowed */
    size_t n_stop;
    enum stream_phase phase;
    bool stopped;           /* a stop string came: feed no more */
    struct buf raw;         /* detokenised, not yet let out for a stop string may begin in it */
    struct buf held;        /* let out, not yet sorted for a tag may begin in it */
    struct buf text, thinking; /* what may go out: read, then stream_taken */
};
/* thinking: the model marks its thinking by <think> ... </think>; in_thought: the prompt ended
 * inside it. */
void stream_init(struct stream *s, const struct tokenizer *t, const struct str *stop, size_t n_stop,
                 bool thinking, bool in_thought);
void stream_finish(struct stream *s);
enum err_code stream_feed(struct stream *s, int32_t token, struct err *e);
/* No more tokens: what was held back comes out. */
enum err_code stream_end(struct stream *s, struct err *e);
void stream_taken(struct stream *s); /* empties text and thinking */

#endif
