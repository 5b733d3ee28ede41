#include "store/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"

struct pruning {
    struct store *s;
    const struct store_prune *in;
    uint64_t freed;
};

static void tell(struct pruning *p, const char *name, enum prune_kind kind, uint64_t size)
{
    struct store_pruned_item item = { .name = name, .kind = kind, .size = size };
    if (kind != PRUNE_STRANGER)
        p->freed += size;
    if (p->in->item)
        p->in->item(p->in->user, &item);
}

static uint64_t size_of(struct pruning *p, int dir, const char *name)
{
    struct stat st;
    return p->s->ops->stat_at(dir, name, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* ---- blobs/ ---------------------------------------------------------------------------------- */

static enum err_code tell_blobs(struct pruning *p, struct err *e)
{
    struct arena a = { 0 };
    struct digest *rows;
    size_t n;
    char name[DIGEST_FILE_SIZE];
    enum err_code code = catalog_unnamed(p->s->catalog, &a, &rows, &n, e);
    for (size_t i = 0; !code && i < n; i++) {
        digest_file_name(&rows[i], name);
        tell(p, name, PRUNE_BLOB, size_of(p, p->s->blobs.blobs, name));
    }
    arena_finish(&a);
    return code;
}

static enum err_code drop_rows(struct pruning *p, struct err *e)
{
    enum err_code code = catalog_begin(p->s->catalog, e);
    if (!code)
        code = store_prune_rows(p->s, e);
    if (!code)
        code = catalog_commit(p->s->catalog, NULL, e);
    catalog_rollback(p->s->catalog);
    return code;
}

static enum err_code drop_blobs(struct pruning *p, struct err *e)
{
    enum err_code code = drop_rows(p, e);
    bool spent = store_spend_reserve(p->s, code);
    if (spent) {
        err_clear(e);
        code = drop_rows(p, e);
    }
    if (!code)
        store_collect(p->s, NULL);
    if (spent)
        store_keep_reserve(p->s);
    return code;
}

/* ---- directories ----------------------------------------------------------------------------- */

typedef enum err_code look_at_entry(struct pruning *p, const char *name, struct err *e);

static enum err_code each_entry(struct pruning *p, int dir, look_at_entry *look, struct err *e)
{
    enum err_code code = ERR_OK;
    int fd = p->s->ops->open(dir, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int error = errno;
        if (fd >= 0)
            p->s->ops->close(fd);
        return err_errno(e, ERR_IO, error, "reading a folder of the store");
    }
    for (struct dirent *entry; !code && (entry = readdir(d));)
        if (entry->d_name[0] != '.')
            code = look(p, entry->d_name, e);
    closedir(d);
    return code;
}

/* A file that the catalog does not list: somebody else put it there. */
static enum err_code look_for_strangers(struct pruning *p, const char *name, struct err *e)
{
    struct digest d;
    char usual[DIGEST_FILE_SIZE] = "";
    bool listed = false;
    enum err_code code = ERR_OK;
    if (digest_parse(str_from(name), &d)) {
        digest_file_name(&d, usual);
        code = catalog_lists_file(p->s->catalog, &d, &listed, e);
    }
    if (!code && (!listed || strcmp(name, usual) != 0))
        tell(p, name, PRUNE_STRANGER, size_of(p, p->s->blobs.blobs, name));
    return code;
}

/* dl-HEX.part and dl-HEX.journal of a download that nobody goes on with. */
static enum err_code look_for_downloads(struct pruning *p, const char *name, struct err *e)
{
    struct str text = str_from(name);
    char key[DIGEST_TEXT_SIZE] = "sha256-";
    struct digest d;
    struct stat st;
    uint64_t older = p->in->older_s ? p->in->older_s : PRUNE_OLDER_S;
    if (!str_starts(text, STR("dl-")) || text.n < 3 + 64 ||
        !(str_ends(text, STR(".part")) || str_ends(text, STR(".journal"))))
        return ERR_OK;
    memcpy(key + 7, name + 3, 64);
    if (!digest_parse((struct str){ key, 71 }, &d) || lease_is_held(p->s->leases, &d) ||
        p->s->ops->stat_at(p->s->blobs.tmp, name, &st) < 0)
        return ERR_OK;
    int64_t age = clock_wall_ns() / 1000000000 - (int64_t)st.st_mtim.tv_sec;
    if (age < 0 || (uint64_t)age < older)
        return ERR_OK;
    if (!p->in->dry_run && p->s->ops->unlink(p->s->blobs.tmp, name) < 0)
        return err_errno(e, ERR_IO, errno, "removing tmp/%s", name);
    tell(p, name, PRUNE_DOWNLOAD, (uint64_t)st.st_blocks * 512);
    return ERR_OK;
}

static enum err_code prune_locked(struct pruning *p, struct err *e)
{
    enum err_code code = each_entry(p, p->s->blobs.tmp, look_for_downloads, e); /* nothing need be written for these */
    if (!code)
        code = tell_blobs(p, e);
    if (!code && !p->in->dry_run)
        code = drop_blobs(p, e);
    return code ? code : each_entry(p, p->s->blobs.blobs, look_for_strangers, e);
}

enum err_code store_prune(struct store *s, const struct store_prune *in, uint64_t *freed, struct err *e)
{
    struct pruning p = { .s = s, .in = in };
    pthread_mutex_lock(&s->mutex);
    enum err_code code = prune_locked(&p, e);
    pthread_mutex_unlock(&s->mutex);
    if (freed)
        *freed = p.freed;
    return code;
}
