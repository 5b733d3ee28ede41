/* A request's conversation as a template wants it: one list of messages, in the names that the
 * template knows. Thread: any. */
#ifndef HEARTH_DAEMON_MESSAGES_H
#define HEARTH_DAEMON_MESSAGES_H

#include "daemon/protocol.h"

/* The list that the template sees, its own to change: the system text in front unless the messages
 * bring one, then the history (NULL: none), then the messages, or a prompt as one user message. Reasoning that came under a name the template does not
 * know (thinking, reasoning, reasoning_content) gets the one that it does; a tool's result
 * (tool_name) its name. `source`: the template's. NULL: out of memory. */
enum call_form {
    CALLS_AS_OBJECTS, /* arguments are objects */
    CALLS_AS_TEXTS,   /* JSON text, as few templates want them */
    CALLS_BY_NINE,    /* objects, and each call and result has an id of nine letters or digits, as Mistral's want */
    CALL_FORMS
};
json_t *messages_for(const struct gen_request *r, const json_t *history, struct str source, enum call_form form);
/* Some message has calls: a template may want their arguments the other way. */
bool messages_have_calls(const json_t *messages);
/* Leaves out the oldest message that may go: not the system's, not the last. False: none may. */
bool messages_drop_oldest(json_t *messages);
/* What an assistant said in the last message, which the model is to go on with: its content, else its
 * reasoning; {NULL, 0} where there is none. */
struct str messages_begun(const json_t *messages);

#endif
