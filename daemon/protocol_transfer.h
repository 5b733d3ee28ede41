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

/* ---- pull, push ---------------------------------------------------------------------------------- */

struct pull_request { /* of /api/pull, /api/push and /api/outdated */
    json_t *root;             /* owns what was read; else NULL */
    struct str model;         /* "model" or "name", as the user wrote it */
    struct str as;            /* pull, ours: what to call it here */
    struct str filter;        /* outdated, ours: only models of which these words are true (store/filter.h) */
    struct str destination;   /* push, ours: what to call it there; empty: as it is called here */
    struct str username, password, hf_token; /* for this one job */
    bool insecure;
    bool stream;              /* default true */
    bool detach;              /* ours: goes on when the client leaves */
    bool dry_run;             /* pull, ours: only says what it would do */
    uint64_t limit_rate;      /* ours: bytes a second; 0: none */
};
void pull_request_init(struct pull_request *r);
/* Takes over `root`. "limit_rate" is a number or a text like "10M" (rate_read). */
enum err_code pull_request_read(json_t *root, bool wants_model, struct pull_request *r, struct err *e);
void pull_request_write(struct buf *out, const struct pull_request *r); /* what differs from default */
void pull_request_finish(struct pull_request *r);

/* "10M", "1.5G", "500k", "1MiB", "1000": bytes; K, M, G, T are powers of 1000, Ki, Mi, ... of 1024,
 * each with an optional B. False: not one, or 0. */
bool rate_read(struct str text, uint64_t *bytes);

/* What a pull would do: the last line of one with "dry_run". */
struct plan_file {
    struct str name, kind;
    uint64_t size, missing;   /* bytes; size 0: not known */
};
struct plan_reply {
    struct str model, source, revision, license;
    const struct plan_file *files;
    size_t n_files;
    uint64_t size, missing, disk_free;
    bool present;             /* it is here already */
    /* where it would run; device empty: there is none, or it cannot be asked */
    struct str device;
    uint64_t device_budget;   /* bytes that models may take of it */
    uint64_t device_needs;    /* what this one would take; 0: not known */
};
bool plan_fits_disk(const struct plan_reply *p);
bool plan_fits_device(const struct plan_reply *p); /* true as well where it is not known */
void plan_write(struct buf *out, const struct plan_reply *p);
/* *files is a mem_alloc'ed block (mem_free) that p points to. ERR_INVALID. */
enum err_code plan_read(const json_t *root, struct plan_reply *p, struct plan_file **files,
                        struct err *e);

/* ---- export -------------------------------------------------------------------------------------- */

#define EXPORT_MAX_MODELS 256

struct export_request { /* of /api/export */
    json_t *root;         /* owns what was read; else NULL */
    const json_t *models; /* array of names; 1 to EXPORT_MAX_MODELS of them */
    struct str path;      /* absolute, with a NUL behind it */
    bool stream;          /* default true */
};
enum err_code export_request_read(json_t *root, struct export_request *r, struct err *e); /* takes over root */
void export_request_write(struct buf *out, const struct export_request *r);
void export_request_finish(struct export_request *r);

/* ---- outdated -------------------------------------------------------------------------------------- */

/* One model of /api/outdated. */
struct outdated_entry {
    struct str name;
    struct str source;    /* what to pull for it: its place, as it was asked for when the model came */
    struct str revision;  /* what its place has now; empty: not known */
    bool outdated;
    struct str error;     /* why it could not be asked; empty: it was */
};
void outdated_write(struct buf *out, const struct outdated_entry *v, size_t n);
enum err_code outdated_read(const json_t *root, struct outdated_entry **v, size_t *n, struct err *e);

#endif
