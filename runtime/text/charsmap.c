#include "runtime/text/charsmap.h"

#include <string.h>

#include "runtime/base/mem.h"

static uint32_t read_u32(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint32_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1U << 9) >> 6);
}

/* From where the children of a node hang, by one byte. False: none. */
static bool step(const struct charsmap *m, uint32_t *at, unsigned char byte, uint32_t *unit)
{
    uint32_t i = *at ^ byte;
    if (byte == 0 || i >= m->n_units || (m->unit[i] & (1U << 31 | 0xFF)) != byte)
        return false;
    *unit = m->unit[i];
    *at = i ^ offset_of(*unit);
    return true;
}

static enum err_code check_texts(struct str text, struct err *e)
{
    size_t run = 0;
    for (size_t i = 0; i < text.n; i++) {
        run = text.p[i] ? run + 1 : 0;
        if (run > CHARSMAP_MAX_TEXT)
            return err_set(e, ERR_FORMAT,
                           "tokenizer.ggml.precompiled_charsmap: a replacement of more than %d bytes",
                           CHARSMAP_MAX_TEXT);
    }
    if (run)
        return err_set(e, ERR_FORMAT,
                       "tokenizer.ggml.precompiled_charsmap: the last replacement has no end");
    return ERR_OK;
}

enum err_code charsmap_init(struct charsmap *m, struct str bytes, struct err *e)
{
    *m = (struct charsmap){ 0 };
    if (bytes.n == 0)
        return ERR_OK;
    size_t n = bytes.n >= 4 ? read_u32(bytes.p) : 0;
    if (bytes.n < 4 || n > bytes.n - 4 || n % 4)
        return err_set(e, ERR_FORMAT,
                       "tokenizer.ggml.precompiled_charsmap: %zu bytes, of which %zu are the trie",
                       bytes.n, n);
    struct str text = { bytes.p + 4 + n, bytes.n - 4 - n };
    enum err_code code = check_texts(text, e);
    if (code)
        return code;
    m->unit = mem_zero(n / 4, sizeof *m->unit);
    m->text = mem_strndup(text.p, text.n);
    if (!m->unit || !m->text) {
        charsmap_finish(m);
        return err_no_memory(e, bytes.n, "tokenizer.ggml.precompiled_charsmap");
    }
    m->n_units = n / 4;
    m->n_text = text.n;
    for (size_t i = 0; i < m->n_units; i++)
        m->unit[i] = read_u32(bytes.p + 4 + 4 * i);
    for (unsigned b = 1; b < 256 && m->n_units; b++) {
        uint32_t at = offset_of(m->unit[0]), unit;
        m->begins[b] = step(m, &at, (unsigned char)b, &unit);
    }
    return ERR_OK;
}

void charsmap_finish(struct charsmap *m)
{
    mem_free(m->unit);
    mem_free(m->text);
    *m = (struct charsmap){ 0 };
}

/* The replacement at `offset`. False: it is no text that could stand in one. */
static bool replacement(const struct charsmap *m, uint32_t offset, struct str *out)
{
    if (offset >= m->n_text)
        return false;
    *out = (struct str){ m->text + offset, strlen(m->text + offset) };
    return utf8_valid(out->p, out->n) == out->n;
}

static bool ends_character(struct str s, size_t n)
{
    return n == s.n || ((unsigned char)s.p[n] & 0xC0U) != 0x80U;
}

size_t charsmap_find(const struct charsmap *m, struct str s, struct str *out)
{
    if (s.n == 0 || !m->begins[(unsigned char)s.p[0]])
        return 0;
    size_t found = 0, max = s.n < CHARSMAP_MAX_KEY ? s.n : CHARSMAP_MAX_KEY;
    uint32_t at = offset_of(m->unit[0]), unit;
    for (size_t i = 0; i < max && step(m, &at, (unsigned char)s.p[i], &unit); i++) {
        bool leaf = (unit & 1U << 8) && at < m->n_units && ends_character(s, i + 1);
        if (leaf && replacement(m, m->unit[at] & ~(1U << 31), out))
            found = i + 1;
    }
    return found;
}
