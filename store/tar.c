#include "store/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/str.h"

struct head {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
    char type, link[100], magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct head) == TAR_BLOCK, "a head is one block");

#define OCTAL_MAX UINT64_C(077777777777) /* of eleven digits: 8 GiB less one */

/* What else an entry can be, and why it has no place here. */
static const struct {
    char type;
    const char *what;
} refused[] = {
    { '1', "a hard link" }, { '2', "a symbolic link" }, { '3', "a device" }, { '4', "a device" },
    { '6', "a named pipe" }, { '7', "a contiguous file" }, { 'S', "a sparse file" }, { 'D', "a GNU directory dump" },
    { 'M', "a piece of another volume" }, { 'L', "an over-long name" }, { 'K', "an over-long link" },
    { 'N', "an over-long name" }, { 'V', "a volume's label" },
};

bool tar_is(const void *first, size_t n)
{
    const struct head *h = first;
    return n >= TAR_BLOCK && memcmp(h->magic, "ustar", 5) == 0;
}

void tar_reader_init(struct tar_reader *t, const struct tar_source *from)
{
    *t = (struct tar_reader){ .from = *from };
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static enum err_code cut_off(struct err *e)
{
    return err_set(e, ERR_FORMAT, "the archive ends in the middle: it was cut off");
}

static enum err_code take(struct tar_reader *t, void *p, size_t n, struct err *e)
{
    size_t got = 0;
    enum err_code code = t->from.read(t->from.user, p, n, &got, e);
    return code ? code : got < n ? cut_off(e) : ERR_OK;
}

enum err_code tar_read(struct tar_reader *t, void *p, size_t n, size_t *got, struct err *e)
{
    *got = t->left < n ? (size_t)t->left : n;
    enum err_code code = *got ? take(t, p, *got, e) : ERR_OK;
    t->left -= *got;
    return code;
}

static enum err_code pass_over(struct tar_reader *t, struct err *e)
{
    char block[TAR_BLOCK];
    size_t got;
    enum err_code code = ERR_OK;
    while (!code && t->left)
        code = tar_read(t, block, sizeof block, &got, e);
    if (!code && t->pad)
        code = take(t, block, t->pad, e);
    t->pad = 0;
    return code;
}

static void begin_body(struct tar_reader *t, uint64_t size)
{
    t->left = size;
    t->pad = (unsigned)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

/* ---- heads ----------------------------------------------------------------------------------- */

/* Octal digits with blanks around them, or GNU's base 256. False: neither, or over INT64_MAX. */
static bool number_of(const char *p, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;
    if ((unsigned char)p[0] == 0x80) { /* 0xFF would be negative */
        for (i = 1; i < n; i++) {
            if (v >> 55)
                return false;
            v = v << 8 | (unsigned char)p[i];
        }
        *out = v;
        return true;
    }
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(p[i] - '0');
    for (; i < n; i++)
        if (p[i] != ' ' && p[i] != '\0')
            return false;
    *out = v;
    return v <= INT64_MAX;
}

static bool sum_is_right(const struct head *h)
{
    const unsigned char *p = (const unsigned char *)h;
    uint64_t want, sum = 0;
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += i >= offsetof(struct head, sum) && i < offsetof(struct head, type) ? ' ' : p[i];
    return number_of(h->sum, sizeof h->sum, &want) && want == sum;
}

static enum err_code set_name(struct tar_entry *out, const char *p, size_t n, struct err *e)
{
    if (n == 0 || n > TAR_NAME_MAX)
        return err_set(e, ERR_FORMAT, "an entry's name has %zu bytes; 1 to %d are taken", n, TAR_NAME_MAX);
    for (size_t i = 0; i < n; i++)
        if (p[i] < 0x20 || p[i] > 0x7E)
            return err_set(e, ERR_FORMAT, "an entry's name holds a byte that is not printable ASCII");
    memcpy(out->name, p, n);
    out->name[n] = '\0';
    return ERR_OK;
}

/* The name of a head: POSIX's prefix, a '/', and the rest. */
static enum err_code name_of(const struct head *h, struct tar_entry *out, struct err *e)
{
    char name[TAR_NAME_MAX + 2];
    size_t prefix = h->magic[5] == '\0' ? strnlen(h->prefix, sizeof h->prefix) : 0;
    size_t n = strnlen(h->name, sizeof h->name);
    memcpy(name, h->prefix, prefix);
    if (prefix)
        name[prefix++] = '/';
    memcpy(name + prefix, h->name, n);
    return set_name(out, name, prefix + n, e);
}

/* ---- PAX records ------------------------------------------------------------------------------ */

/* What records said of the entry behind them. */
struct records {
    bool has_name, has_size;
    uint64_t size;
};

static enum err_code take_record(struct str key, struct str value, bool global, struct records *r,
                                 struct tar_entry *out, struct err *e)
{
    if (str_starts(key, STR("GNU.sparse")) || str_is(key, "linkpath"))
        return err_set(e, ERR_FORMAT, "the archive holds a sparse file or a link, which a bundle has none of");
    if (global || (!str_is(key, "path") && !str_is(key, "size")))
        return ERR_OK; /* times, owners, comments */
    if (str_is(key, "path")) {
        r->has_name = true;
        return set_name(out, value.p, value.n, e);
    }
    r->size = 0;
    r->has_size = value.n > 0 && value.n < 19;
    for (size_t i = 0; r->has_size && i < value.n; i++) {
        r->has_size = value.p[i] >= '0' && value.p[i] <= '9';
        r->size = r->size * 10 + (uint64_t)(value.p[i] - '0');
    }
    return r->has_size ? ERR_OK : err_set(e, ERR_FORMAT, "an entry's size is not a number");
}

/* "LENGTH KEY=VALUE\n", LENGTH of the whole; one after the other. */
static enum err_code take_records(const char *p, size_t n, bool global, struct records *r, struct tar_entry *out,
                                  struct err *e)
{
    enum err_code code = ERR_OK;
    while (!code && n) {
        size_t length = 0, i = 0;
        for (; i < n && i < 6 && p[i] >= '0' && p[i] <= '9'; i++)
            length = length * 10 + (size_t)(p[i] - '0');
        const char *equals = i < n && p[i] == ' ' && length > i + 1 && length <= n
                                 ? memchr(p + i + 1, '=', length - i - 1)
                                 : NULL;
        if (!equals || p[length - 1] != '\n')
            return err_set(e, ERR_FORMAT, "the archive's extended records are broken");
        struct str key = { p + i + 1, (size_t)(equals - p) - i - 1 };
        code = take_record(key, (struct str){ equals + 1, (size_t)(p + length - 1 - equals) - 1 }, global, r, out, e);
        p += length;
        n -= length;
    }
    return code;
}

static enum err_code read_records(struct tar_reader *t, bool global, struct records *r, struct tar_entry *out,
                                  struct err *e)
{
    char text[TAR_RECORDS_MAX];
    size_t got;
    if (t->left > sizeof text)
        return err_set(e, ERR_FORMAT, "an entry has %" PRIu64 " bytes of extended records; at most %d are taken", t->left,
                       TAR_RECORDS_MAX);
    enum err_code code = tar_read(t, text, sizeof text, &got, e);
    return code ? code : take_records(text, got, global, r, out, e);
}

/* ---- entries ----------------------------------------------------------------------------------- */

static enum err_code take_entry(const struct head *h, const struct records *r, struct tar_entry *out, struct err *e)
{
    uint64_t mode = 0;
    enum err_code code = r->has_name ? ERR_OK : name_of(h, out, e);
    if (code)
        return code;
    size_t n = strlen(out->name);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (refused[i].type == h->type)
            return err_set(e, ERR_FORMAT, "'%s' is %s, which a bundle has none of", out->name, refused[i].what);
    out->is_dir = h->type == '5';
    if (!out->is_dir && h->type != '0' && h->type != '\0')
        return err_set(e, ERR_FORMAT, "'%s' is of a kind that is not known (0x%02x)", out->name, (unsigned char)h->type);
    if (!out->is_dir && out->name[n - 1] == '/')
        return err_set(e, ERR_FORMAT, "'%s' is a file with the name of a directory", out->name);
    if (!out->is_dir && (!number_of(h->mode, sizeof h->mode, &mode) || mode & 07111))
        return err_set(e, ERR_FORMAT, "'%s' is marked as a program, which a bundle has none of", out->name);
    if (out->is_dir && out->size)
        return err_set(e, ERR_FORMAT, "'%s' is a directory with %" PRIu64 " bytes", out->name, out->size);
    if (out->is_dir && n > 1 && out->name[n - 1] == '/')
        out->name[n - 1] = '\0';
    return ERR_OK;
}

/* One head whose sum is right, or the archive's end: two blocks of zeros. */
static enum err_code read_head(struct tar_reader *t, struct head *h, bool *end, struct err *e)
{
    static const char zeros[TAR_BLOCK];
    enum err_code code = take(t, h, sizeof *h, e);
    *end = !code && memcmp(h, zeros, TAR_BLOCK) == 0;
    if (*end) {
        code = take(t, h, sizeof *h, e);
        if (!code && memcmp(h, zeros, TAR_BLOCK) != 0)
            code = err_set(e, ERR_FORMAT, "the archive goes on behind half of its end");
    } else if (!code && (!tar_is(h, sizeof *h) || !sum_is_right(h))) {
        code = err_set(e, ERR_FORMAT, "the head of an entry is damaged, or this is no POSIX archive");
    }
    return code;
}

enum err_code tar_next(struct tar_reader *t, struct tar_entry *out, bool *end, struct err *e)
{
    struct head h;
    struct records r = { 0 };
    *out = (struct tar_entry){ 0 };
    for (unsigned extra = 0;; extra++) {
        enum err_code code = pass_over(t, e);
        code = code ? code : read_head(t, &h, end, e);
        if (code || *end)
            return code || !extra ? code : err_set(e, ERR_FORMAT, "extended records without an entry");
        if (!number_of(h.size, sizeof h.size, &out->size))
            return err_set(e, ERR_FORMAT, "an entry's size is not a number");
        if (r.has_size && h.type != 'x' && h.type != 'g')
            out->size = r.size;
        begin_body(t, out->size);
        if (h.type != 'x' && h.type != 'g')
            return take_entry(&h, &r, out, e);
        if (extra > 2)
            return err_set(e, ERR_FORMAT, "extended records of extended records");
        code = read_records(t, h.type == 'g', &r, out, e);
        if (code)
            return code;
    }
}

/* ---- writing ----------------------------------------------------------------------------------- */

static void put_octal(char *to, size_t n, uint64_t v)
{
    for (size_t i = n - 1; i-- > 0; v >>= 3)
        to[i] = (char)('0' + (v & 7));
    to[n - 1] = '\0';
}

static enum err_code put_block(const struct tar_sink *to, const char *name, char type, uint64_t size, struct err *e)
{
    struct head h = { .type = type, .magic = "ustar", .version = { '0', '0' } };
    unsigned sum = 0;
    memcpy(h.name, name, strnlen(name, sizeof h.name));
    put_octal(h.mode, sizeof h.mode, type == '5' ? 0755 : 0644);
    put_octal(h.uid, sizeof h.uid, 0);
    put_octal(h.gid, sizeof h.gid, 0);
    put_octal(h.size, sizeof h.size, size > OCTAL_MAX ? 0 : size);
    put_octal(h.mtime, sizeof h.mtime, 0);
    memset(h.sum, ' ', sizeof h.sum);
    for (size_t i = 0; i < TAR_BLOCK; i++)
        sum += ((const unsigned char *)&h)[i];
    put_octal(h.sum, 7, sum);
    return to->write(to->user, &h, sizeof h, e);
}

enum err_code tar_pad(const struct tar_sink *to, uint64_t size, struct err *e)
{
    static const char zeros[TAR_BLOCK];
    size_t n = (size_t)(TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
    return n ? to->write(to->user, zeros, n, e) : ERR_OK;
}

enum err_code tar_put_head(const struct tar_sink *to, const char *name, bool is_dir, uint64_t size, struct err *e)
{
    char record[48];
    enum err_code code = ERR_OK;
    if (strlen(name) > sizeof ((struct head *)0)->name)
        return err_set(e, ERR_INTERNAL, "'%s' is too long a name for an archive", name);
    if (size > OCTAL_MAX) {
        int digits = snprintf(record, sizeof record, "%" PRIu64, size);
        int n = snprintf(record, sizeof record, "%d size=%" PRIu64 "\n", digits + 9, size); /* "19 size=" and "\n" */
        code = put_block(to, "size", 'x', (uint64_t)n, e);
        code = code ? code : to->write(to->user, record, (size_t)n, e);
        code = code ? code : tar_pad(to, (uint64_t)n, e);
    }
    return code ? code : put_block(to, name, is_dir ? '5' : '0', size, e);
}

enum err_code tar_put_end(const struct tar_sink *to, struct err *e)
{
    static const char zeros[2 * TAR_BLOCK];
    return to->write(to->user, zeros, sizeof zeros, e);
}
