/* A request's conversation as a template wants it: one list of messages, in the names that the
 * template knows. Thread: any. */
#ifndef HEARTH_DAEMON_MESSAGES_H
#define HEARTH_DAEMON_MESSAGES_H

#include "daemon/protocol.h"

/* The list that the template sees, its own to change: the system text in front unless the messages
 * bring one, a prompt as one user message. Reasoning that came under a name the template does not
 * know (thinking, reasoning, reasoning_content) gets the one that it does; a tool's result
 * (tool_name) its name. Arguments of calls are objects, or with `texts` JSON text, as few
 * templates want them. `source`: the template's. NULL: out of memory. */
json_t *messages_for(const struct gen_request *r, struct str source, bool texts);
/* Some message has calls: a template may want their arguments the other way. */
bool messages_have_calls(const json_t *messages);
/* Leaves out the oldest message that may go: not the system's, not the last. False: none may. */
bool messages_drop_oldest(json_t *messages);
/* What an assistant said in the last message, which the model is to go on with: its content, else its
 * reasoning; {NULL, 0} where there is none. */
struct str messages_begun(const json_t *messages);

#endif
