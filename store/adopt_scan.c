#include "store/adopt_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- reading without a trace -------------------------------------------------------------------- */

int adopt_open(const char *path, int flags)
{
    int fd = open(path, flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOATIME);
    if (fd < 0 && errno == EPERM) /* another user's file */
        fd = open(path, flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return fd;
}

enum err_code adopt_read(struct scan *c, const char *path, size_t max, struct str *out, struct err *e)
{
    struct stat st;
    size_t n = 0;
    int fd = adopt_open(path, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "opening '%s'", path);
    enum err_code code = ERR_OK;
    char *p = NULL;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        code = err_set(e, ERR_INVALID, "'%s' is not a regular file", path);
    else if ((uint64_t)st.st_size > max)
        code = err_set(e, ERR_TOO_LARGE, "'%s' has %jd bytes; at most %zu are read", path,
                       (intmax_t)st.st_size, max);
    else if (!(p = arena_alloc(&c->arena, (size_t)st.st_size + 1)))
        code = err_no_memory(e, (size_t)st.st_size, path);
    while (!code && n < (size_t)st.st_size) {
        ssize_t got = read(fd, p + n, (size_t)st.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            code = err_errno(e, ERR_IO, got < 0 ? errno : EIO, "reading '%s'", path);
        else
            n += (size_t)got;
    }
    close(fd);
    if (!code)
        p[n] = '\0';
    *out = (struct str){ p, n };
    return code;
}

/* ---- sentences ------------------------------------------------------------------------------------ */

static const char *format_text(struct scan *c, const char *fmt, va_list ap)
{
    char text[PATH_MAX + 512];
    int n = vsnprintf(text, sizeof text, fmt, ap);
    const char *copy = n < 0 ? NULL : arena_strndup(&c->arena, text, strlen(text));
    return copy ? copy : "";
}

const char *scan_text(struct scan *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const char *text = format_text(c, fmt, ap);
    va_end(ap);
    return text;
}

void scan_note(struct scan *c, const char *path, const char *fmt, ...)
{
    va_list ap;
    if (!mem_grow(&c->list.notes, &c->cap_notes, c->list.n_notes + 1, sizeof *c->list.notes, ADOPT_MAX_NOTES))
        return;
    va_start(ap, fmt);
    c->list.notes[c->list.n_notes++] = (struct adopt_note){ scan_text(c, "%s", path), format_text(c, fmt, ap) };
    va_end(ap);
}

/* ---- directories ------------------------------------------------------------------------------------ */

bool scan_seen(struct scan *c, uint64_t device, uint64_t inode)
{
    uint64_t id[2] = { device, inode };
    uint32_t times;
    if (map_get(&c->visited, (struct str){ (const char *)id, sizeof id }, &times))
        return true;
    char *key = arena_strndup(&c->arena, (const char *)id, sizeof id);
    if (key)
        map_put(&c->visited, (struct str){ key, sizeof id }, 1); /* else it is looked into once more */
    return false;
}

static enum err_code add_entry(struct scan *c, const char *dir, const char *name, struct entries *out,
                               size_t *cap, struct err *e)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || n >= (int)sizeof path)
        return ERR_OK; /* nobody could open it by this name */
    if (stat(path, &st) < 0) {
        scan_note(c, path, "%s", strerror(errno));
        return ERR_OK;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return ERR_OK;
    if (!mem_grow(&out->v, cap, out->n + 1, sizeof *out->v, ADOPT_MAX_ENTRIES))
        return err_no_memory(e, out->n * sizeof *out->v, "the entries of a directory");
    struct entry *x = &out->v[out->n++];
    *x = (struct entry){ .path = scan_text(c, "%s", path), .directory = S_ISDIR(st.st_mode),
                         .size = (uint64_t)st.st_size, .device = st.st_dev, .inode = st.st_ino };
    x->name = *x->path ? x->path + strlen(dir) + 1 : "";
    return *x->path ? ERR_OK : err_no_memory(e, strlen(path), "a path");
}

int entry_by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static enum err_code read_entries(struct scan *c, DIR *dir, const char *path, struct entries *out,
                                  struct err *e)
{
    size_t cap = 0;
    enum err_code code = ERR_OK;
    for (struct dirent *d; !code && (d = readdir(dir));) {
        if (d->d_name[0] == '.')
            continue;
        if (store_job_cancelled(c->job))
            return err_set(e, ERR_CANCELLED, "looking for models was cancelled");
        if (c->entries == ADOPT_MAX_ENTRIES) {
            scan_note(c, path, "not looked into further: more than %d files were seen", ADOPT_MAX_ENTRIES);
            break;
        }
        c->entries++;
        code = add_entry(c, path, d->d_name, out, &cap, e);
    }
    return code;
}

/* The array is the arena's, so that nobody has to free it. */
static enum err_code settle_entries(struct scan *c, struct entries *out, struct err *e)
{
    struct entry *own = arena_alloc(&c->arena, (out->n ? out->n : 1) * sizeof *own);
    if (!own)
        return err_no_memory(e, out->n * sizeof *own, "the entries of a directory");
    if (out->n) {
        memcpy(own, out->v, out->n * sizeof *own);
        qsort(own, out->n, sizeof *own, entry_by_name);
    }
    mem_free(out->v);
    out->v = own;
    return ERR_OK;
}

enum err_code scan_dir(struct scan *c, const char *path, struct entries *out, struct err *e)
{
    struct stat st;
    *out = (struct entries){ 0 };
    int fd = adopt_open(path, O_DIRECTORY);
    if (fd < 0 || fstat(fd, &st) < 0) {
        if (errno != ENOENT)
            scan_note(c, path, "%s", strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_OK;
    }
    DIR *dir = scan_seen(c, st.st_dev, st.st_ino) ? NULL : fdopendir(fd);
    if (!dir) {
        close(fd);
        return ERR_OK;
    }
    enum err_code code = read_entries(c, dir, path, out, e);
    closedir(dir);
    if (!code)
        code = settle_entries(c, out, e);
    if (code) {
        mem_free(out->v);
        *out = (struct entries){ 0 };
    }
    return code;
}

/* ---- what was found ------------------------------------------------------------------------------- */

/* As names compare; empty when there is no memory. */
static struct str folded(struct scan *c, const char *name)
{
    size_t n = strlen(name);
    char *p = arena_strndup(&c->arena, name, n);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] + 32 : p[i]);
    return (struct str){ p, p ? n : 0 };
}

/* The name that was wished for, or where it is taken NAME-2, NAME-3 ... */
static enum err_code choose_name(struct scan *c, struct adopt_found *f, struct err *e)
{
    const char *wish = f->name;
    struct str key = folded(c, wish), own = key;
    uint32_t wishes = 0, taken;
    if (map_get(&c->names, key, &wishes))
        do {
            f->name = scan_text(c, "%s-%u", wish, ++wishes);
            own = folded(c, f->name);
        } while (own.n && map_get(&c->names, own, &taken));
    bool good = own.n && *f->name && (!wishes || map_put(&c->names, key, wishes)) && map_put(&c->names, own, 1);
    return good ? ERR_OK : err_no_memory(e, strlen(wish), "a model that was found");
}

/* The file's own words; of one that cannot be looked into they say why. */
static void look_into(struct scan *c, struct adopt_found *f)
{
    struct store_facts facts = { 0 };
    struct err e = { 0 };
    const char *path = NULL;
    f->family = f->quantization = "";
    for (size_t i = 0; i < f->n_files; i++) {
        f->size += i + 1 < f->n_files || !f->manifest.n ? f->files[i].size : 0;
        if (f->files[i].kind == MEDIA_MODEL && !path)
            path = f->files[i].path;
    }
    if (f->problem || !path)
        return;
    if (store_look_into(c->s, &path, 1, (struct str){ 0 }, &c->arena, &facts, &e)) {
        f->problem = scan_text(c, "%s", e.text);
        return;
    }
    f->family = facts.family ? facts.family : "";
    f->quantization = facts.quantization ? facts.quantization : "";
}

enum err_code scan_add(struct scan *c, const struct adopt_found *from, struct err *e)
{
    struct adopt_found f = *from;
    if (store_job_cancelled(c->job))
        return err_set(e, ERR_CANCELLED, "looking for models was cancelled");
    if (!mem_grow(&c->list.found, &c->cap_found, c->list.n_found + 1, sizeof f, ADOPT_MAX_FOUND)) {
        if (c->list.n_found < ADOPT_MAX_FOUND)
            return err_no_memory(e, sizeof f, "a model that was found");
        scan_note(c, f.path, "not listed: more than %d models were found", ADOPT_MAX_FOUND);
        return ERR_OK;
    }
    f.finder = c->finder;
    f.revision = f.revision ? f.revision : "";
    enum err_code code = choose_name(c, &f, e);
    if (code)
        return code;
    look_into(c, &f);
    c->list.found[c->list.n_found++] = f;
    return ERR_OK;
}
