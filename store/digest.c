#include "store/digest.h"

#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool digest_parse(struct str text, struct digest *out)
{
    struct digest d;
    if (text.n != 7 + 2 * sizeof d.b ||
        !(str_starts(text, STR("sha256:")) || str_starts(text, STR("sha256-"))))
        return false;
    for (size_t i = 0; i < sizeof d.b; i++) {
        int high = hex_value(text.p[7 + 2 * i]), low = hex_value(text.p[8 + 2 * i]);
        if (high < 0 || low < 0)
            return false;
        d.b[i] = (uint8_t)(high << 4 | low);
    }
    *out = d;
    return true;
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}

void digest_hex(const struct digest *d, char out[DIGEST_HEX_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof d->b; i++) {
        out[2 * i] = hex[d->b[i] >> 4];
        out[2 * i + 1] = hex[d->b[i] & 15];
    }
    out[2 * sizeof d->b] = '\0';
}

void digest_text(const struct digest *d, char out[DIGEST_TEXT_SIZE])
{
    memcpy(out, "sha256:", 7);
    digest_hex(d, out + 7);
}

void digest_file_name(const struct digest *d, char out[DIGEST_FILE_SIZE])
{
    memcpy(out, "sha256-", 7);
    digest_hex(d, out + 7);
}
