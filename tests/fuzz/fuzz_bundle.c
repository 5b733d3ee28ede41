/* Any bytes as a tar: it is refused with a reason or read to its end; what was read, written again, reads the same.
 * The first byte says how short the pieces are that it comes in, and whether the heads' sums are set right before. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "store/tar.h"

#define MAX_ENTRIES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err_code from_bytes(void *user, void *p, size_t n, size_t *got, struct err *e)
{
    struct str *s = user;
    (void)e;
    *got = n < s->n ? n : s->n;
    memcpy(p, s->p, *got);
    s->p += *got;
    s->n -= *got;
    return ERR_OK;
}

static enum err_code to_buf(void *user, const void *p, size_t n, struct err *e)
{
    buf_put(user, p, n);
    return ((struct buf *)user)->failed ? err_no_memory(e, n, "an archive") : ERR_OK;
}

static void check_entry(const struct tar_entry *x)
{
    size_t n = strlen(x->name);
    if (n == 0 || n > TAR_NAME_MAX || x->size > INT64_MAX || (x->is_dir && x->size))
        abort();
    for (size_t i = 0; i < n; i++)
        if (x->name[i] < 0x20 || x->name[i] > 0x7E)
            abort();
}

/* Reads all; writes it to `out` where that is not NULL. True: it was whole. */
static bool read_all(struct str bytes, size_t piece, struct buf *out, struct tar_entry *entries, size_t *n)
{
    struct tar_reader t;
    struct err e = { 0 };
    struct tar_sink sink = { to_buf, out };
    char body[4096];
    bool end = false, good = true;
    enum err_code code = ERR_OK;
    tar_reader_init(&t, &(struct tar_source){ from_bytes, &bytes });
    for (*n = 0; !code && !end && *n < MAX_ENTRIES;) {
        struct tar_entry *x = &entries[*n];
        size_t got = 1;
        code = tar_next(&t, x, &end, &e);
        if (code || end)
            break;
        check_entry(x);
        ++*n;
        good = good && strlen(x->name) < 100;
        if (out && good)
            code = tar_put_head(&sink, x->name, x->is_dir, x->size, &e);
        while (!code && got && t.left) {
            code = tar_read(&t, body, piece, &got, &e);
            if (!code && out && good)
                code = to_buf(out, body, got, &e);
        }
        if (!code && out && good)
            code = tar_pad(&sink, x->size, &e);
    }
    if (code && !e.text[0])
        abort();
    if (!code && end && out && good)
        code = tar_put_end(&sink, &e);
    return !code && end && good;
}

/* Every block that could be a head gets the sum of its bytes: a fuzzer does not find that by itself. */
static void set_sums(uint8_t *p, size_t n)
{
    for (; n >= TAR_BLOCK; p += TAR_BLOCK, n -= TAR_BLOCK) {
        unsigned sum = 0;
        if (memcmp(p + 257, "ustar", 5) != 0)
            continue;
        memset(p + 148, ' ', 8);
        for (size_t i = 0; i < TAR_BLOCK; i++)
            sum += p[i];
        for (size_t i = 6; i-- > 0; sum >>= 3)
            p[148 + i] = (uint8_t)('0' + (sum & 7));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tar_entry first[MAX_ENTRIES], second[MAX_ENTRIES];
    const uint64_t live = mem_live();
    struct buf out;
    size_t n, m;
    if (!size)
        return 0;
    uint8_t *own = mem_alloc(size);
    if (!own)
        abort();
    memcpy(own, data, size);
    if (data[0] & 1)
        set_sums(own + 1, size - 1);
    buf_init(&out, (size_t)4 << 20);
    if (read_all((struct str){ (const char *)own + 1, size - 1 }, (size_t)data[0] * 16 + 1, &out, first, &n)) {
        if (!read_all(buf_str(&out), 4096, NULL, second, &m) || m != n)
            abort();
        for (size_t i = 0; i < n; i++)
            if (strcmp(first[i].name, second[i].name) != 0 || first[i].size != second[i].size || first[i].is_dir != second[i].is_dir)
                abort();
    }
    buf_finish(&out);
    mem_free(own);
    if (mem_live() != live)
        abort();
    return 0;
}
