/* One blob from a network into tmp/: ranges in parallel, journalled, hashed while they arrive.
 *
 * tmp/dl-KEY.part     the bytes, each at its offset, in a file of full size
 * tmp/dl-KEY.journal  what of it is there: a head {size, digest, etag}, then a record for each
 *                     piece of DOWNLOAD_PIECE bytes: offset, length, checksum of the bytes
 * KEY is the blob's digest in hex, or SHA-256 of the URL where no digest is known beforehand.
 *
 * Resume: a piece counts when its bytes on the disk still have the checksum of its record, so a power
 * cut that lost either is found out without a sync. At most one piece a connection is fetched twice:
 * 8 x 64 KiB. A body that changed (other size, other etag, other digest) begins anew.
 * Both files outlive a restart for DOWNLOAD_KEEP_S seconds after their last change, and are then collected.
 *
 * Two downloads of one blob in one process are one: the second waits and hears the first one's progress;
 * when the first is cancelled, the second goes on from there. What is there stays its own until downloaded_finish or
 * downloaded_keep: nobody prunes it or writes to it, and who wants it gets a second name for the same bytes.
 *
 * When all is asked for, or a slow connection holds up the hashing, an idle one takes over the second half
 * of what the slowest would still need more than half a second for.
 *
 * The sink checks, before a byte is written: 206 with exactly the range that was asked for and the
 * size that was told (a 200 means a server without ranges: one stream from the start). Retries are
 * bounded by time: `give_up_s` seconds without one new byte; 429 and 503 wait as Retry-After says.
 * Memory: at most 16 MiB, whatever the size. Thread: the caller's, and one for hashing. */
#ifndef HEARTH_STORE_DOWNLOAD_H
#define HEARTH_STORE_DOWNLOAD_H

#include "store/blob.h"
#include "store/job.h"
#include "store/store_priv.h"
#include "store/transport.h"

#define DOWNLOAD_PIECE ((uint64_t)64 * 1024)
#define DOWNLOAD_KEEP_S (7 * 86400)
#define DOWNLOAD_GIVE_UP_S 600

struct download {
    const char *label;         /* for events and sentences: "pulling 0123456789ab" */
    bool has_digest;
    struct digest digest;      /* else it is found out and told in *out */
    bool has_size;
    uint64_t size;             /* as the manifest says: another one is an error */
    const char *url;
    bool plain;
    bool unproven;             /* any server may send it (--insecure): without a digest apart from what a proven one sent */
    /* The value of Authorization for the next request, or NULL; asked again with `refused` after a 401
     * (one new try each `DOWNLOAD_PIECE` of progress). May be NULL. */
    enum err_code (*authorize)(void *user, bool refused, const char **value, struct err *e);
    const char *const *mirrors; /* other URLs of the same bytes, tried first; no credential goes there */
    size_t n_mirrors;
    void *user;
    unsigned connections, give_up_s; /* 0: 8, DOWNLOAD_GIVE_UP_S */
};

/* What came out of it beside the part. chunks: SHA-256 of each CHUNK_BYTES. */
struct downloaded {
    struct blob_part part;
    struct buf chunks;
    char etag[256], repo_commit[65];
    uint64_t fetched, resumed; /* bytes from the network, bytes that were there */
    /* download.c's own: names in tmp/ to be seen to at the end; whether, and by which key, others are kept from them */
    char journal[88], alias[32];
    bool leads;
    struct digest id;
};

/* Free space is checked first (ERR_IO with both numbers). On success the part is hashed, of the right
 * length, 0440 and synced, ready for store_commit; on failure the two files stay for the next time,
 * but for a wrong hash (the sentence says so), and where nothing tells how far it was: then they are removed. */
enum err_code download_blob(struct store *s, struct transport *t, const struct download *d,
                            const struct store_job *job, struct downloaded *out, struct err *e);
void downloaded_finish(struct store *s, struct downloaded *d); /* discards a part that was not moved */
/* The same, but the bytes stay for a later download of this blob, which fetches none of them: for a model
 * whose other layers did not come, or that could not be committed. */
void downloaded_keep(struct store *s, struct downloaded *d);
/* How many bytes of it are there from before, as far as its journal tells; 0: none. */
uint64_t download_begun(struct store *s, const struct download *d);

/* Fetches only [first, last] of a blob into `fd` at its place: for verify --repair. */
enum err_code download_range(struct transport *t, const struct download *d, uint64_t first,
                             uint64_t last, const struct file_ops *ops, int fd,
                             const struct store_job *job, struct err *e);

#endif
