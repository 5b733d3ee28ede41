#include "cli/lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/name.h"

#define HEAD "# hearth.lock 1"
#define FIELDS 6

void lock_file_finish(struct lock_file *l)
{
    mem_free(l->row);
    arena_finish(&l->arena);
    *l = (struct lock_file){ 0 };
}

static bool copy(struct arena *a, struct str *s)
{
    s->p = arena_strndup(a, s->n ? s->p : "", s->n);
    return s->p != NULL;
}

enum err_code lock_file_put(struct lock_file *l, const struct lock_row *row, struct err *e)
{
    struct lock_row r = *row;
    size_t i = 0;

    if (!copy(&l->arena, &r.name) || !copy(&l->arena, &r.digest) || !copy(&l->arena, &r.origin) ||
        !copy(&l->arena, &r.source) || !copy(&l->arena, &r.revision) ||
        !mem_grow(&l->row, &l->cap, l->n + 1, sizeof *l->row, SIZE_MAX / sizeof *l->row))
        return err_no_memory(e, sizeof r, "a lock file");
    while (i < l->n && (l->row[i].name.n != r.name.n || strncasecmp(l->row[i].name.p, r.name.p, r.name.n) != 0))
        i++;
    l->row[i] = r;
    l->n += i == l->n;
    return l->n <= LOCK_FILE_ROWS ? ERR_OK : err_set(e, ERR_TOO_LARGE, "a lock file has at most %d models", LOCK_FILE_ROWS);
}

/* ---- reading --------------------------------------------------------------------------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "-" is empty. False: a '%' that is none of ours. */
static bool unescape(struct arena *a, struct str *field)
{
    char *to = arena_alloc(a, field->n + 1);
    size_t n = 0;

    if (!to)
        return false;
    if (field->n == 1 && *field->p == '-')
        field->n = 0;
    for (size_t i = 0; i < field->n; i++) {
        char c = field->p[i];
        if (c == '%') {
            if (i + 2 >= field->n || hex(field->p[i + 1]) < 0 || hex(field->p[i + 2]) < 0)
                return false;
            c = (char)(hex(field->p[i + 1]) << 4 | hex(field->p[i + 2]));
            i += 2;
        }
        if (!c)
            return false;
        to[n++] = c;
    }
    to[n] = '\0';
    *field = (struct str){ to, n };
    return true;
}

/* In its short form, so that two spellings are one. */
static bool read_name(struct arena *a, struct str *name)
{
    char text[NAME_TEXT_MAX + 1];
    struct name n;

    if (name_parse(*name, &n, NULL) != ERR_OK || n.pinned)
        return false;
    name_short(&n, text);
    *name = str_from(text);
    return copy(a, name);
}

/* What sync knows, and a newer program's: letters alone, for it is shown. */
static bool is_word(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 'a' || s.p[i] > 'z')
            return false;
    return true;
}

static bool read_digest(struct str text, struct str *out)
{
    if (text.n != 71 || memcmp(text.p, "sha256:", 7) != 0)
        return false;
    for (size_t i = 7; i < text.n; i++)
        if (hex(text.p[i]) < 0 || (text.p[i] >= 'A' && text.p[i] <= 'F'))
            return false;
    *out = (struct str){ text.p + 7, 64 };
    return true;
}

static bool read_size(struct str text, uint64_t *out)
{
    *out = 0;
    if (!text.n || text.n > 18)
        return false;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(text.p[i] - '0');
    }
    return true;
}

static enum err_code read_line(struct lock_file *l, struct str line, struct err *e)
{
    struct str field[FIELDS];
    struct lock_row row;
    size_t n = 0;

    for (size_t at = 0; at <= line.n && n < FIELDS; n++) {
        const char *blank = memchr(line.p + at, ' ', line.n - at);
        size_t end = blank && n + 1 < FIELDS ? (size_t)(blank - line.p) : line.n;
        field[n] = (struct str){ line.p + at, end - at };
        at = end + 1;
    }
    if (n != FIELDS || memchr(field[FIELDS - 1].p, ' ', field[FIELDS - 1].n))
        return err_set(e, ERR_FORMAT, "NAME sha256:HEX SIZE ORIGIN SOURCE REVISION is wanted");
    for (size_t i = 0; i < FIELDS; i++)
        if (!field[i].n || !unescape(&l->arena, &field[i]))
            return err_set(e, ERR_FORMAT, "field %zu cannot be read", i + 1);
    row = (struct lock_row){ .name = field[0], .origin = field[3], .source = field[4], .revision = field[5] };
    if (!read_name(&l->arena, &row.name) || !read_digest(field[1], &row.digest) || !read_size(field[2], &row.size) ||
        !is_word(row.origin))
        return err_set(e, ERR_FORMAT, "the name, the digest (sha256: and 64 digits), the size or the origin is none");
    for (size_t i = 0; i < l->n; i++)
        if (l->row[i].name.n == row.name.n && strncasecmp(l->row[i].name.p, row.name.p, row.name.n) == 0)
            return err_set(e, ERR_FORMAT, "'%.*s' is there twice", (int)row.name.n, row.name.p);
    return lock_file_put(l, &row, e);
}

enum err_code lock_file_parse(struct str text, const char *path, struct lock_file *out, struct err *e)
{
    enum err_code code = ERR_OK;
    size_t number = 0;

    do {
        const char *end = text.n ? memchr(text.p, '\n', text.n) : NULL;
        struct str line = { text.p, end ? (size_t)(end - text.p) : text.n };
        text.n -= line.n + (end != NULL);
        text.p += line.n + (end != NULL);
        number++;
        if (line.n && line.p[line.n - 1] == '\r')
            line.n--;
        if (number == 1 && !str_is(line, HEAD))
            code = err_set(e, ERR_FORMAT, "it does not begin with '%s'", HEAD);
        else if (line.n && line.p[0] != '#')
            code = read_line(out, line, e);
    } while (!code && text.n);
    return code ? err_prefix(e, "'%s', line %zu", path, number) : ERR_OK;
}

enum err_code lock_file_read(const char *path, struct lock_file *out, struct err *e)
{
    struct buf text;
    char piece[4096];
    ssize_t n = 1;
    enum err_code code = ERR_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return errno != ENOENT ? err_errno(e, ERR_IO, errno, "opening '%s'", path) :
               err_set(e, ERR_NOT_FOUND, "there is no '%s' here: `hearth lock MODEL...` writes one", path);
    buf_init(&text, LOCK_FILE_MAX);
    while (!text.failed && n > 0) {
        n = read(fd, piece, sizeof piece);
        if (n > 0)
            buf_put(&text, piece, (size_t)n);
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    if (n < 0)
        code = err_errno(e, ERR_IO, errno, "reading '%s'", path);
    else if (text.failed)
        code = err_set(e, ERR_TOO_LARGE, "'%s' has over %zu bytes", path, LOCK_FILE_MAX);
    close(fd);
    if (!code)
        code = lock_file_parse(buf_str(&text), path, out, e);
    buf_finish(&text);
    return code;
}

/* ---- writing --------------------------------------------------------------------------------------- */

static void put_field(struct buf *out, struct str s)
{
    buf_putc(out, ' ');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == '%' || c == 0x7F || (c == '-' && s.n == 1))
            buf_printf(out, "%%%02X", c);
        else
            buf_putc(out, (char)c);
    }
    if (!s.n)
        buf_putc(out, '-');
}

static int by_name(const void *a, const void *b)
{
    const struct lock_row *x = a, *y = b;
    int order = memcmp(x->name.p, y->name.p, x->name.n < y->name.n ? x->name.n : y->name.n);

    return order ? order : x->name.n < y->name.n ? -1 : x->name.n > y->name.n;
}

void lock_file_text(struct lock_file *l, struct buf *out)
{
    if (l->n)
        qsort(l->row, l->n, sizeof *l->row, by_name);
    buf_puts(out, HEAD "\n# NAME DIGEST SIZE ORIGIN SOURCE REVISION: `hearth sync` brings these models, `hearth lock` renews the lines\n");
    for (size_t i = 0; i < l->n; i++) {
        const struct lock_row *r = &l->row[i];
        buf_printf(out, "%.*s sha256:%.*s %" PRIu64, (int)r->name.n, r->name.p, (int)r->digest.n, r->digest.p, r->size);
        put_field(out, r->origin);
        put_field(out, r->source);
        put_field(out, r->revision);
        buf_putc(out, '\n');
    }
}

static enum err_code write_all(int fd, struct str s, const char *path, struct err *e)
{
    while (s.n) {
        ssize_t n = write(fd, s.p, s.n);
        if (n < 0 && errno != EINTR)
            return err_errno(e, ERR_IO, errno, "writing '%s'", path);
        s.p += n > 0 ? n : 0;
        s.n -= n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) < 0 || fchmod(fd, 0644) < 0 ? err_errno(e, ERR_IO, errno, "writing '%s'", path) : ERR_OK;
}

enum err_code lock_file_write(const char *path, struct lock_file *l, struct err *e)
{
    char part[PATH_MAX];
    struct buf text;
    enum err_code code = ERR_OK;
    int fd;

    if (snprintf(part, sizeof part, "%s.XXXXXX", path) >= (int)sizeof part)
        return err_set(e, ERR_USAGE, "'%s' is too long a path", path);
    buf_init(&text, LOCK_FILE_MAX);
    lock_file_text(l, &text);
    if (text.failed) {
        buf_finish(&text);
        return err_no_memory(e, text.n, "a lock file");
    }
    fd = mkstemp(part);
    if (fd < 0) {
        code = err_errno(e, ERR_IO, errno, "making a file beside '%s'", path);
    } else {
        code = write_all(fd, buf_str(&text), path, e);
        if (close(fd) < 0 && !code)
            code = err_errno(e, ERR_IO, errno, "writing '%s'", path);
        if (!code && rename(part, path) < 0)
            code = err_errno(e, ERR_IO, errno, "replacing '%s'", path);
        if (code)
            unlink(part);
    }
    buf_finish(&text);
    return code;
}
