#include "store/challenge.h"

#include <stdbool.h>
#include <string.h>

/* What is left of the header. */
struct cursor {
    const char *p, *end;
};

static bool is_token(char c)
{
    return c > ' ' && c <= '~' && !strchr("\"(),/:;<=>?@[\\]{}", c);
}

static void skip_blank(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* Commas and blanks between the elements of a list. */
static void skip_commas(struct cursor *c)
{
    for (skip_blank(c); c->p < c->end && *c->p == ','; skip_blank(c))
        c->p++;
}

static struct str take_token(struct cursor *c)
{
    const char *from = c->p;
    while (c->p < c->end && is_token(*c->p))
        c->p++;
    return (struct str){ from, (size_t)(c->p - from) };
}

/* A quoted string, its backslashes resolved, or a token. */
static bool take_value(struct cursor *c, char out[CHALLENGE_VALUE_MAX + 1])
{
    size_t n = 0;
    if (c->p == c->end || *c->p != '"') {
        struct str token = take_token(c);
        if (token.n == 0 || token.n > CHALLENGE_VALUE_MAX)
            return false;
        memcpy(out, token.p, token.n);
        out[token.n] = '\0';
        return true;
    }
    for (c->p++; c->p < c->end && *c->p != '"'; c->p++) {
        if (*c->p == '\\' && ++c->p == c->end)
            return false;
        if (n == CHALLENGE_VALUE_MAX || *c->p < ' ' || *c->p > '~')
            return false;
        out[n++] = *c->p;
    }
    out[n] = '\0';
    return c->p++ < c->end;
}

/* A credential of another scheme in one piece ("Negotiate abc=="). */
static bool skip_token68(struct cursor *c)
{
    struct cursor at = *c;
    while (at.p < c->end && (is_token(*at.p) || *at.p == '/'))
        at.p++;
    const char *pad = at.p;
    while (at.p < c->end && *at.p == '=')
        at.p++;
    if (pad == c->p || (at.p < c->end && *at.p != ',' && *at.p != ' '))
        return false;
    *c = at;
    return true;
}

/* name=value; false and no move when the next element is none (a new challenge begins). */
static bool take_param(struct cursor *c, struct str *name, char value[CHALLENGE_VALUE_MAX + 1],
                       bool *broken)
{
    struct cursor at = *c;
    *name = take_token(&at);
    skip_blank(&at);
    if (name->n == 0 || at.p == at.end || *at.p != '=')
        return false;
    at.p++;
    skip_blank(&at);
    *broken = !take_value(&at, value);
    if (!*broken)
        *c = at;
    return !*broken;
}

static void keep(struct challenge *c, struct str name, const char *value)
{
    struct {
        const char *name;
        char *at;
    } rows[] = { { "realm", c->realm }, { "service", c->service }, { "scope", c->scope } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_ieq(name, str_from(rows[i].name)) && !rows[i].at[0])
            memcpy(rows[i].at, value, strlen(value) + 1);
}

static enum challenge_kind kind_of(struct str scheme)
{
    return str_ieq(scheme, STR("bearer"))  ? CHALLENGE_BEARER
           : str_ieq(scheme, STR("basic")) ? CHALLENGE_BASIC
                                           : CHALLENGE_NONE;
}

/* One challenge; false when the header breaks the grammar here. */
static bool take_challenge(struct cursor *c, struct challenge *out)
{
    char value[CHALLENGE_VALUE_MAX + 1];
    struct str scheme = take_token(c), name;
    bool broken = false;
    if (c->p < c->end && *c->p != ' ' && *c->p != ',') /* nothing that is no token either */
        return false;
    *out = (struct challenge){ .kind = kind_of(scheme) };
    skip_blank(c);
    if (out->kind == CHALLENGE_NONE && skip_token68(c))
        return true;
    while (take_param(c, &name, value, &broken)) {
        keep(out, name, value);
        skip_blank(c);
        if (c->p < c->end && *c->p != ',')
            return false;
        skip_commas(c);
    }
    return !broken;
}

enum err_code challenge_parse(struct str header, struct challenge *out, struct err *e)
{
    struct cursor c = { header.p, header.p + header.n };
    struct challenge best = { 0 }, one;
    if (header.n > CHALLENGE_MAX)
        return err_set(e, ERR_FORMAT,
                       "its WWW-Authenticate header has %zu bytes; at most %d are read", header.n,
                       CHALLENGE_MAX);
    for (skip_commas(&c); c.p < c.end; skip_commas(&c)) {
        if (!take_challenge(&c, &one))
            return err_set(e, ERR_FORMAT, "its WWW-Authenticate header cannot be read");
        if (one.kind > best.kind)
            best = one;
    }
    if (best.kind == CHALLENGE_BEARER && !best.realm[0])
        return err_set(e, ERR_FORMAT, "its WWW-Authenticate header names no realm to get a token from");
    *out = best;
    return ERR_OK;
}
