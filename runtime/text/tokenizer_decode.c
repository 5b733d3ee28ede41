/* Token ids -> text, at once or as they come. */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

void put_escaped(struct buf *b, struct str text)
{
    size_t from = 0;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] == ' ') {
            buf_put(b, text.p + from, i - from);
            buf_put(b, "\xE2\x96\x81", 3);
            from = i + 1;
        }
    if (from < text.n)
        buf_put(b, text.p + from, text.n - from);
}

void put_unescaped(struct buf *b, struct str text)
{
    size_t from = 0;
    for (size_t i = 0; i + 3 <= text.n; i++)
        if (memcmp(text.p + i, "\xE2\x96\x81", 3) == 0) {
            buf_put(b, text.p + from, i - from);
            buf_putc(b, ' ');
            from = i + 3;
            i += 2;
        }
    if (from < text.n)
        buf_put(b, text.p + from, text.n - from);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xXX>", or -1. */
static int byte_of(struct str s)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    int high = hex_digit(s.p[3]), low = hex_digit(s.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* One token's bytes. *begun: whether anything of the text was there before; kept up to date. */
static void put_piece(const struct tokenizer *t, int32_t id, bool show_special, bool *begun,
                      struct buf *out)
{
    struct str text = token_text(t, (uint32_t)id);
    unsigned type = t->type[id];
    bool special = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
    if (special && !show_special && !(t->flag[id] & TOKEN_SHOWN))
        return;
    int byte = type == TOKEN_BYTE ? byte_of(text) : -1;
    size_t before = out->n;
    if (byte >= 0)
        buf_putc(out, (char)byte);
    else if (special || type == TOKEN_USER_DEFINED)
        buf_put(out, text.p, text.n);
    else
        t->kind->piece(t, text, out);
    bool drop = !*begun && type == TOKEN_NORMAL && !out->failed && out->n > before &&
                out->p[before] == ' ' && t->kind->drops_space(t);
    if (drop) {
        memmove(out->p + before, out->p + before + 1, out->n - before); /* and the NUL */
        out->n--;
    }
    *begun = *begun || text.n > 0;
}

static enum err_code check_room(const struct buf *out, struct err *e)
{
    return out->failed ? err_no_memory(e, out->n, "decoded text") : ERR_OK;
}

static enum err_code check_id(const struct tokenizer *t, int32_t id, struct err *e)
{
    if (id >= 0 && (size_t)id < t->n_tokens)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "token %d is not in the vocabulary of %zu", id, t->n_tokens);
}

enum err_code tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                               bool show_special, struct buf *out, struct err *e)
{
    bool begun = false;
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = check_id(t, ids[i], e);
    for (size_t i = 0; !code && i < n; i++)
        put_piece(t, ids[i], show_special, &begun, out);
    return code ? code : check_room(out, e);
}

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool show_special,
                      bool continues)
{
    *d = (struct detokenizer){ .t = t, .show_special = show_special, .begun = continues };
}

/* Length of the sequence at p, 0 when it is begun well but not complete; *valid false: that many
 * bytes are no part of any (the "maximal subpart" of Unicode 15, section 3.9). */
static size_t sequence(const char *p, size_t n, bool *valid)
{
    size_t len = utf8_step(p, n, NULL);
    *valid = len > 0;
    if (len)
        return len;
    /* Some completion is valid if the bytes so far, filled up, are: try the bounds of the second
     * byte where it is missing, and any third and fourth. */
    static const char fill[][4] = { { 0, (char)0x80, (char)0x80, (char)0x80 },
                                    { 0, (char)0xA0, (char)0x80, (char)0x80 } };
    for (size_t keep = n < 3 ? n : 3; keep > 0; keep--)
        for (size_t f = 0; f < 2; f++) {
            char whole[4];
            memcpy(whole, fill[f], 4);
            memcpy(whole, p, keep);
            if (utf8_step(whole, 4, NULL) > keep) {
                *valid = keep == n;
                return keep == n ? 0 : keep;
            }
        }
    return 1;
}

/* Makes out->p[from..] valid UTF-8; what is begun at its end goes back to d->held. */
static void settle(struct detokenizer *d, struct buf *out, size_t from)
{
    size_t ok = from + utf8_valid(out->p + from, out->n - from);
    if (ok == out->n)
        return;
    struct buf tail;
    buf_init(&tail, SIZE_MAX / 2);
    buf_put(&tail, out->p + ok, out->n - ok);
    out->n = ok;
    for (size_t i = 0; i < tail.n && !tail.failed;) {
        bool valid;
        size_t len = sequence(tail.p + i, tail.n - i, &valid);
        if (len == 0) {
            d->n_held = tail.n - i;
            memcpy(d->held, tail.p + i, d->n_held);
            break;
        }
        buf_put(out, valid ? tail.p + i : "\xEF\xBF\xBD", valid ? len : 3);
        i += len;
    }
    out->failed = out->failed || tail.failed;
    buf_put(out, "", 0);
    buf_finish(&tail);
}

enum err_code detokenizer_feed(struct detokenizer *d, int32_t id, struct buf *out, struct err *e)
{
    enum err_code code = check_id(d->t, id, e);
    if (code)
        return code;
    size_t from = out->n;
    buf_put(out, d->held, d->n_held);
    d->n_held = 0;
    put_piece(d->t, id, d->show_special, &d->begun, out);
    if (!out->failed)
        settle(d, out, from);
    return check_room(out, e);
}

void detokenizer_flush(struct detokenizer *d, struct buf *out)
{
    if (d->n_held)
        buf_puts(out, "\xEF\xBF\xBD");
    d->n_held = 0;
}
