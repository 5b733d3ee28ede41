/* A long call of the store - pull, push, create, import, quantize, verify, prune, export - as a job:
 * it runs on a thread of LANE_TRANSFER, and its news goes to the client as it comes.
 *
 *   loop: store_call_start ⇒ transfer thread: o->work(user, job, last) ⇒ loop: reply ends, o->done(user)
 *
 * What the client gets. With `stream`: NDJSON, one line a piece of news (status, and digest, total,
 * completed where they are known), the last of them `last`, or {"status": "success"} where the work
 * wrote none. An error before the first line has its HTTP status; after it, it is a line {"error",
 * "code"}. Without `stream`: one object, `last`, or the error. A "success" that the store tells is
 * held back for that last line, so it is there once, and only when all went well.
 * A client that reads slowly never holds up the work: progress.h.
 *
 * The end. A client that leaves cancels the work, unless it asked to `detach`; the store then leaves
 * what can be gone on with. store_call_stop_all cancels all, and d->calls is empty once they have ended.
 * Thread: loop, but where another is named. */
#ifndef HEARTH_DAEMON_STORE_JOB_H
#define HEARTH_DAEMON_STORE_JOB_H

#include "daemon/daemon.h"
#include "daemon/protocol_transfer.h"
#include "store/job.h"

struct store_call_options {
    const char *kind;  /* constant: "pull" */
    struct str name;   /* the model, for lists and the log; copied */
    bool stream, detach;
    void *user;
    /* Thread: a lane's. `job` goes to the store; an event with a total and no digest is fine too.
     * last: one JSON object without a newline, or left empty. */
    enum err_code (*work)(void *user, const struct store_job *job, struct buf *last, struct err *e);
    /* Exactly once, also when the work was never begun: frees `user`. result: ERR_OK when the work
     * was done. */
    void (*done)(void *user, enum err_code result);
};

/* Takes the request over: it is answered, whatever happens. */
void store_call_start(struct daemon *d, struct http_request *r, const struct store_call_options *o);
void store_call_stop_all(struct daemon *d);
/* Cancels those about this name, as their requests wrote it or lists show it, but for case; how many. */
size_t store_call_stop(struct daemon *d, struct str name);

/* What is under way, oldest first; gives how many of `max` were filled. Strings are valid until the loop
 * goes on; `status` is copied into the entry. */
size_t store_call_list(struct daemon *d, struct transfer_entry *v, size_t max);

#endif
