/* The part of the API about transfers: news of a long call, and the list of those under way.
 * The rules are those of protocol.h. */
#ifndef HEARTH_DAEMON_PROTOCOL_TRANSFER_H
#define HEARTH_DAEMON_PROTOCOL_TRANSFER_H

#include "daemon/protocol.h"

/* One line of /api/pull, /api/push, /api/create, /api/import, ... */
struct transfer_event {
    struct str status;         /* "pulling manifest", "pulling 0123456789ab", "success" */
    struct str digest;         /* "sha256:HEX"; empty: absent */
    bool has_total;
    uint64_t total, completed; /* bytes */
};
void transfer_event_write(struct buf *out, const struct transfer_event *ev); /* no newline */
/* An {"error": ...} line is none of these: client.h sees to it. */
enum err_code transfer_event_read(const json_t *line, struct transfer_event *ev, struct err *e);

/* One long call under way: an element of "transfers" of /api/ps. */
struct transfer_entry {
    struct str name, kind;     /* "pull", "push", "import", "create", ... */
    struct str status;         /* of its last news; "waiting": others come first */
    uint64_t total, completed; /* bytes of all that it has told of; 0: none yet */
    int64_t started_wall_ns;
    bool detached;             /* its client has left, and it goes on */
    char status_text[192];     /* where a writer may keep `status` */
};
void transfer_entry_put(struct buf *out, const struct transfer_entry *v, size_t n); /* the array */
/* The array "transfers" of root; *v is one mem_alloc'ed block (mem_free) that borrows from root. */
enum err_code transfer_list_read(const json_t *root, struct transfer_entry **v, size_t *n, struct err *e);

#endif
