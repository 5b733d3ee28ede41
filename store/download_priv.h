/* What the files of a download share.
 *
 *   download.c        the two files: resume, room on the disk, the loop, the end
 *   download_net.c    requests and their replies: ranges, retries, redirects, tokens
 *   download_hash.c   the thread that hashes behind the frontier
 *   download_share.c  two downloads of one blob are one
 *   journal.c         what is there, on the disk and in memory */
#ifndef HEARTH_STORE_DOWNLOAD_PRIV_H
#define HEARTH_STORE_DOWNLOAD_PRIV_H

#include <pthread.h>

#include "store/download.h"
#include "store/hasher.h"
#include "store/journal.h"

#define MAX_CONNECTIONS 16
#define SECOND ((int64_t)1000000000)

/* ---- hashing ----------------------------------------------------------------------------------- */

struct hash_job {
    const struct file_ops *ops;
    int fd;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool running;
    uint64_t ready;  /* bytes from the start that are on the disk and will not change */
    bool end;        /* no more will come */
    atomic_bool stop;
    struct buf chunks;
    struct digest digest;
    struct err err;
};

enum err_code hash_begin(struct hash_job *h, const struct file_ops *ops, int fd, struct err *e);
void hash_ready(struct hash_job *h, uint64_t bytes);
/* All `size` bytes are there: waits for the digest. `cancel` may be NULL. */
enum err_code hash_end(struct hash_job *h, uint64_t size, const atomic_bool *cancel, struct err *e);
void hash_finish(struct hash_job *h); /* stops what runs; a zeroed one is fine */

/* ---- one download ------------------------------------------------------------------------------ */

struct fetching;

/* One connection's stretch of the file. After a failure it keeps what it has and goes on from there. */
struct segment {
    struct fetching *f;
    struct transfer *x;    /* NULL: none under way */
    bool open;             /* at < end is still to be fetched by it */
    bool take;             /* the reply's bytes are what we asked for */
    bool indirect;         /* asked at an address that an earlier redirect gave */
    bool whole;            /* it was a 200 where a part was asked for */
    bool redirected;       /* the reply came from elsewhere than was asked */
    uint64_t at, end;      /* next byte, first byte that is not wanted; end UINT64_MAX: not known */
    uint64_t from, asked;  /* `at` and `end` when it was asked for: an end before `asked` was given to another */
    int64_t asked_at;
    bool cut;              /* it has come to an end that is before `asked` */
    int64_t not_before;
    unsigned login;        /* which login it was asked with */
    size_t source;         /* which mirror it was asked at; their number: the URL */
    uint8_t *piece;        /* the bytes from the last piece's start to `at` */
    struct err bad;        /* what was wrong with the reply's head */
};

enum fetch_mode { FETCH_PROBE, FETCH_RANGES, FETCH_STREAM };

/* Shared by download.c and download_net.c; belongs to the job's thread. */
struct fetching {
    struct transport *t;
    const struct download *d;
    const struct store_job *job;
    enum fetch_mode mode;
    struct pieces pieces;
    bool size_known;
    uint64_t size, cursor, segment_bytes; /* cursor: the first piece that no segment was made for */
    struct segment segments[MAX_CONNECTIONS];
    uint64_t room;         /* what a body may have whose length nobody tells */
    size_t n, allowed;     /* segments; how many may be under way */
    size_t source;         /* mirrors in their order, then the URL */
    char *led_to;          /* where a redirect of the URL led, to be asked at once */
    bool led_from_public;
    char etag[256], origin[264], repo_commit[65];
    uint64_t fetched;
    uint64_t furthest;     /* how far a stream has come that had to begin again */
    unsigned futile;       /* streams since that came no further */
    int64_t byte_at;       /* when the last new byte came */
    int64_t hold_until;    /* as a Retry-After says */
    unsigned failures;     /* since the last new byte */
    unsigned strikes;      /* refusals since the last new byte */
    unsigned login;
    uint64_t login_at;     /* `fetched` when the last login was asked for */
    uint64_t random;
    struct err fatal, last; /* what ends it; the last thing that went wrong */
    bool changed;          /* the body is another one: begin anew */
    bool unordered;        /* the server has no ranges: begin a stream */

    /* A piece is whole: at its place on the disk it must be before this returns. */
    enum err_code (*on_piece)(struct fetching *f, uint64_t piece, const uint8_t *p, size_t n, struct err *e);
    /* The size is known now (f->size), or is as it was. */
    enum err_code (*on_size)(struct fetching *f, struct err *e);
};

enum err_code fetching_begin(struct fetching *f, struct err *e); /* all but the zeroed rest is set */
void fetching_finish(struct fetching *f);
/* Starts what can be started, waits at most timeout_ms for something to happen, and sees to it. */
enum err_code fetching_step(struct fetching *f, int timeout_ms, struct err *e);
void fetching_stop(struct fetching *f); /* ends what is under way; all segments are closed */
bool fetching_done(const struct fetching *f);
uint64_t fetching_completed(const struct fetching *f);

/* "example.org:8443" of a URL. */
struct str url_host(const char *url);

/* ---- two of one -------------------------------------------------------------------------------- */

enum share_role { SHARE_LEADS, SHARE_HAS, SHARE_CANCELLED, SHARE_FAILED, SHARE_NO_MEMORY };
/* LEADS: nobody else is at this key, nor will be until share_leave, which must follow. HAS: *out is another's, done.
 * FAILED: another has the bytes, and they could not be given a second name. */
enum share_role share_enter(struct store *s, const char *key, const struct digest *id, const char *label,
                            const struct store_job *job, struct downloaded *out);
void share_progress(struct store *s, const char *key, uint64_t completed, uint64_t total);
/* The leader has it: who waits, and who comes before it leaves, gets a name of its own for the part. *result stays until
 * then, and so do its digest and hashes. */
void share_done(struct store *s, const char *key, const struct downloaded *result);
/* The leader needs the part no longer, or has failed: the next one leads. */
void share_leave(struct store *s, const char *key);

#endif
