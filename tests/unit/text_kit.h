/* What the tests of runtime/text share. */
#ifndef HEARTH_TESTS_TEXT_KIT_H
#define HEARTH_TESTS_TEXT_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/text/tokenizer.h"

static inline uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005U + 1442695040888963407U;
    return *s >> 33;
}

static inline void put_random_text(struct buf *b, uint64_t *seed, size_t n_chars)
{
    static const uint32_t top[] = { 0x7F, 0x7F, 0x7F, 0x24F, 0x1100, 0xFFFF, 0x10FFFF };
    static const char common[] = "  \n\r\t''stdmrvelainohe019AaZz.,(<|>";
    for (size_t i = 0; i < n_chars; i++) {
        char four[4];
        uint64_t r = next_random(seed);
        uint32_t c = r % 3 ? (uint32_t)(unsigned char)common[r / 3 % (sizeof common - 1)]
                           : (uint32_t)(next_random(seed) % (top[r / 3 % 7] + 1));
        buf_put(b, four, utf8_put(c == 0x2581 ? 'x' : c, four)); /* SPM's own sign for a space */
    }
}

static inline void encode(const struct tokenizer *t, struct str text, bool parse, struct token_list *out)
{
    struct err e = { 0 };
    out->n = 0;
    if (tokenizer_encode(t, text, false, parse, out, &e))
        fail_msg("%s", e.text);
}

/* ids: as text, "1 2 3" */
static inline void ids_are(const struct tokenizer *t, const char *text, bool special, bool parse,
                    const char *want)
{
    struct token_list ids = { 0 };
    struct err e = { 0 };
    struct buf got;
    buf_init(&got, 4096);
    assert_int_equal(tokenizer_encode(t, str_from(text), special, parse, &ids, &e), ERR_OK);
    buf_puts(&got, "");
    for (size_t i = 0; i < ids.n; i++)
        buf_printf(&got, "%s%d", i ? " " : "", ids.id[i]);
    if (strcmp(got.p, want) != 0)
        fail_msg("'%s': got %s, want %s", text, got.p, want);
    buf_finish(&got);
    token_list_finish(&ids);
}

static inline void check_round_trip(const struct tokenizer *t, struct str text)
{
    struct token_list ids = { 0 };
    struct buf back;
    struct err e = { 0 };
    encode(t, text, false, &ids);
    buf_init(&back, 1 << 20);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, false, &back, &e), ERR_OK);
    assert_true(str_eq(buf_str(&back), text));
    buf_finish(&back);
    token_list_finish(&ids);
}

#endif
