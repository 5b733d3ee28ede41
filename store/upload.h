/* Blobs that a client has sent and no model names yet: /api/blobs of Ollama's protocol.
 *
 * Each is a part in tmp/, written and hashed as its bytes arrive and sealed when its digest is right; a
 * create moves it to blobs/ with the model that names it (COMMIT_PART). Until then it is listed in
 * memory alone: it goes UPLOAD_KEEP_S seconds after its last use, and with the process, whatever the
 * power or a kill does: store_open empties tmp/.
 *
 * Errors: ERR_INVALID (the bytes are not what the digest says, or of another length), ERR_TOO_LARGE,
 * ERR_IO (the disk: full, or failing), ERR_BUSY (too many wait), ERR_NO_MEMORY. On every failure
 * nothing of it is left. Thread: any; one upload belongs to one thread at a time; all block on the
 * disk but uploads_has. */
#ifndef HEARTH_STORE_UPLOAD_H
#define HEARTH_STORE_UPLOAD_H

#include "store/store_priv.h"

#define UPLOAD_KEEP_S 3600
#define UPLOAD_MAX_BYTES ((uint64_t)1 << 40)
#define UPLOADS_MAX 1024 /* that wait */

struct uploads;
enum err_code uploads_create(struct store *s, struct uploads **out, struct err *e);
/* Before store_close, when no upload is under way and none is held. NULL is fine. */
void uploads_destroy(struct uploads *u);

/* Waits here, or is in the store. *size may be NULL. */
bool uploads_has(struct uploads *u, const struct digest *d, uint64_t *size);
/* Drops what has waited too long. now_ns: clock_ns. */
void uploads_prune(struct uploads *u, int64_t now_ns);

struct upload;
/* *out NULL: it is there already. size: what is to come, for which there must be room on the disk. */
enum err_code upload_begin(struct uploads *u, const struct digest *d, bool has_size, uint64_t size,
                           struct upload **out, struct err *e);
enum err_code upload_write(struct upload *x, const void *p, size_t n, struct err *e);
enum err_code upload_end(struct upload *x, struct err *e); /* frees x, also on failure */
void upload_abort(struct upload *x);                       /* NULL is fine */

/* One that waits, for the model that is to name it. */
struct upload_hold {
    struct blob_part *part; /* the commit empties it */
    struct str chunks;
    char *path;             /* absolute, for reading */
    struct upload_entry *entry;
};
/* Waits while another create holds it: who wants several asks for them by rising digest. False: there is none (look in
 * the store), no memory, or the job (NULL: none) was cancelled meanwhile. */
bool uploads_hold(struct uploads *u, const struct digest *d, const struct store_job *job, struct upload_hold *out);
void uploads_let_go(struct uploads *u, struct upload_hold *h); /* a zeroed one is fine */

#endif
