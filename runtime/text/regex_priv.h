/* What the files of the regular expressions share. For runtime/text/regex*.c only. */
#ifndef HEARTH_TEXT_REGEX_PRIV_H
#define HEARTH_TEXT_REGEX_PRIV_H

#include "runtime/text/dfa_priv.h"
#include "runtime/text/regex.h"

/* ---- sets of code points: first, last, first, last, ... ---- */

struct ranges {
    uint32_t *v;
    size_t n, cap; /* n: of numbers, not of pairs */
};
#define RANGES_MAX ((size_t)1 << 16)
bool ranges_add(struct ranges *r, uint32_t lo, uint32_t hi); /* false: memory, or too many */
bool ranges_add_all(struct ranges *r, const uint32_t *v, size_t n);
void ranges_sort(struct ranges *r); /* ascending, apart */
bool ranges_negate(struct ranges *r);
void ranges_finish(struct ranges *r);
/* The set of \d, \w, \s (and capitals). False: memory. */
bool ranges_class(struct ranges *r, char letter);
/* A general category by its short or long name. *known false: no such name. False: memory. */
bool ranges_category(struct ranges *r, struct str name, bool *known);

/* ---- the tree ---- */

enum regex_kind { RX_SET, RX_SEQ, RX_ALT, RX_REPEAT, RX_BEGIN, RX_END };

struct regex_node {
    enum regex_kind kind;
    uint32_t first, next; /* child; sibling. Numbers + 1, 0: none */
    uint32_t min, max;    /* RX_REPEAT; max UINT32_MAX: no end */
    uint32_t set;         /* RX_SET */
};
struct regex_set {
    struct ranges r;
    struct dfa *d; /* of those beyond ASCII */
};

struct regex {
    struct str p;
    size_t at;
    struct regex_node *v;
    size_t n, cap;
    struct regex_set *sets;
    size_t n_sets, sets_cap;
    unsigned depth;
    struct err *e;
    bool failed;
};
/* The whole pattern; 0: failed. */
uint32_t regex_parse(struct regex *x);
bool regex_fail(struct regex *x, enum err_code code, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
