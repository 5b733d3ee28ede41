/* The part of the API about what is in the store: verify and prune. The rules are those of protocol.h. */
#ifndef HEARTH_DAEMON_PROTOCOL_CARE_H
#define HEARTH_DAEMON_PROTOCOL_CARE_H

#include "daemon/protocol.h"

struct care_request {  /* of /api/verify and /api/prune; an empty body is all defaults */
    json_t *root;      /* owns what was read; else NULL */
    struct str model;  /* verify: "model" or "name"; empty: every model */
    bool repair;       /* verify */
    bool insecure;     /* verify with repair: as for a pull */
    struct str hf_token, username, password; /* verify with repair: for this one job */
    bool dry_run;      /* prune */
    bool has_older;
    uint64_t older_s;  /* prune: downloads that did not change for that long */
    bool stream;       /* default true */
};
enum err_code care_request_read(json_t *root, struct care_request *r, struct err *e); /* takes over root */
void care_request_write(struct buf *out, const struct care_request *r);
void care_request_finish(struct care_request *r);

/* Of a file that is not sound: an element of "damaged" of verify's last line. */
struct damaged_entry {
    struct str model, digest, text; /* text: a sentence */
    bool repaired;
};
struct verify_reply {
    uint64_t files, bytes, bad, repaired; /* bad: still */
};
enum err_code verify_reply_read(const json_t *root, struct verify_reply *r, struct damaged_entry **v,
                                size_t *n, struct err *e);

struct pruned_entry {  /* an element of "removed" or "strangers" of prune's last line */
    struct str name, kind; /* kind: "blob", "download", "stranger" */
    uint64_t size;
};
/* which: "removed" or "strangers". *v is one mem_alloc'ed block (mem_free) that borrows from root. */
enum err_code pruned_read(const json_t *root, const char *which, struct pruned_entry **v, size_t *n,
                          struct err *e);

#endif
