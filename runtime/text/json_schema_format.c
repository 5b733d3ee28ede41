/* The values of `format`: RFC 3339 (date, time), 5321 (email), 1123 (hostname), 2673 and 4291 (addresses),
 * 3986 (uri), 4122 (uuid), 6570 (uri-template), 6901 (json-pointer). A row is a pattern for the whole text. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"

#define DATE_30 "(0[1-9]|[12]\\d|30)"
#define DATE_28 "(0[1-9]|1\\d|2[0-8])"
/* Months by length, and the 29th of February in years that a 4 divides, of hundreds those that 400 does. */
#define DATE                                                                                                           \
    "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-" DATE_30 "|02-" DATE_28 ")"                         \
    "|(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
#define TIME "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)"

#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define LABEL_OF(most) "[A-Za-z0-9]([A-Za-z0-9-]{0," most "}[A-Za-z0-9])?" /* most + 2 characters */
#define LABEL LABEL_OF("61")
#define HOST LABEL "(\\." LABEL ")*"
/* At most 253 characters, without an automaton that counts both: few long labels, or many short ones. */
#define SHORT_HOST                                                                                                     \
    LABEL "(\\." LABEL "){0,2}|" LABEL_OF("60") "(\\." LABEL_OF("60") "){3}|" LABEL_OF("9") "(\\." LABEL_OF("9") "){0,20}"

#define OCTET "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4 OCTET "(\\." OCTET "){3}"
#define H16 "[0-9A-Fa-f]{1,4}"
#define LS32 "(" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                           \
    "((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32                                    \
    "|((" H16 ":){0,1}" H16 ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32                  \
    "|((" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32                                    \
    "|((" H16 ":){0,5}" H16 ")?::" H16 "|((" H16 ":){0,6}" H16 ")?::)"

#define UNRESERVED "A-Za-z0-9._~\\-"
#define SUB_DELIMS "!$&'()*+,;="
#define PERCENT "%[0-9A-Fa-f]{2}"
#define PCHAR "([" UNRESERVED SUB_DELIMS ":@]|" PERCENT ")"
#define AUTHORITY                                                                                                      \
    "(([" UNRESERVED SUB_DELIMS ":]|" PERCENT ")*@)?(\\[" IPV6 "\\]|([" UNRESERVED SUB_DELIMS "]|" PERCENT ")*)"       \
    "(:\\d{0,5})?"
/* Without addresses of IPv6, whose automaton is ten times all else's: for formats whose length is limited too. */
#define NAMED_AUTHORITY "(([" UNRESERVED SUB_DELIMS ":]|" PERCENT ")*@)?([" UNRESERVED SUB_DELIMS "]|" PERCENT ")*(:\\d{0,5})?"
#define SEGMENTS "(/" PCHAR "*)*"
#define TAIL "(\\?([/?]|" PCHAR ")*)?(#([/?]|" PCHAR ")*)?"
#define URI_WITH(authority) "[A-Za-z][A-Za-z0-9+.-]*:(//" authority SEGMENTS "|/?(" PCHAR "+" SEGMENTS ")?)" TAIL
#define URI URI_WITH(AUTHORITY)
#define NAMED_URI URI_WITH(NAMED_AUTHORITY)
#define RELATIVE_WITH(authority)                                                                                       \
    "(//" authority SEGMENTS "|/(" PCHAR "+" SEGMENTS ")?|(([" UNRESERVED SUB_DELIMS "@]|" PERCENT ")+" SEGMENTS       \
    ")?)" TAIL

#define REFERENCE "(" URI "|" RELATIVE_WITH(AUTHORITY) ")"
#define NAMED_REFERENCE "(" NAMED_URI "|" RELATIVE_WITH(NAMED_AUTHORITY) ")"

#define POINTER "(/([^~/]|~[01])*)*"
#define VARIABLE "([A-Za-z0-9_]|" PERCENT ")(\\.?([A-Za-z0-9_]|" PERCENT "))*(:[1-9]\\d{0,3}|\\*)?"
#define TEMPLATE                                                                                                       \
    "([!#$&(-;=?-\\[\\]_a-z~]|[^\\0-\\x7f]|" PERCENT "|\\{[+#./;?&]?" VARIABLE "(," VARIABLE ")*\\})*"
#define DURATION_TIME "T(\\d+H(\\d+M(\\d+S)?)?|\\d+M(\\d+S)?|\\d+S)"
#define DURATION                                                                                                       \
    "P(\\d+W|(\\d+Y(\\d+M(\\d+D)?)?|\\d+M(\\d+D)?|\\d+D)(" DURATION_TIME ")?|" DURATION_TIME ")"

struct format {
    const char *name, *is;
    const char *not;   /* NULL, or what is left out */
    const char *short_; /* NULL, or a smaller language, for where lengths are limited too (see `limited`) */
};
/* Year 0000 is in no calendar of the validators, and a 0 inside the number of a relative pointer is more than some
 * read. Hyphens in third and fourth place mark encoded names. */
#define NO_YEAR_0 "0000-[^]*"
#define NO_ENCODED "([^]*\\.)?[^.]{2}--[^]*"
#define NO_LONG_PARTS "[^]*@([^]*\\.)?[^.@]{2}--[^]*|[^@]{65,}@[^]*"
static const struct format formats[] = {
    { "date", DATE, NO_YEAR_0, NULL },
    { "time", TIME, NULL, NULL },
    { "date-time", DATE "T" TIME, NO_YEAR_0, NULL },
    { "duration", DURATION, NULL, NULL },
    { "email", ATOM "(\\." ATOM ")*@" HOST, NO_LONG_PARTS, NULL },
    { "idn-email", ATOM "(\\." ATOM ")*@" HOST, NO_LONG_PARTS, NULL },
    { "hostname", SHORT_HOST, NO_ENCODED, NULL },
    { "idn-hostname", SHORT_HOST, NO_ENCODED, NULL },
    { "ipv4", IPV4, NULL, NULL },
    { "ipv6", IPV6, NULL, NULL },
    { "uri", URI, NULL, NAMED_URI },
    { "uri-reference", REFERENCE, NULL, NAMED_REFERENCE },
    { "iri", URI, NULL, NAMED_URI },
    { "iri-reference", REFERENCE, NULL, NAMED_REFERENCE },
    { "uri-template", TEMPLATE, NULL, NULL },
    { "uuid", "[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}", NULL, NULL },
    { "json-pointer", POINTER, NULL, NULL },
    { "relative-json-pointer", "(0|[1-9]+0?)(#|" POINTER ")", NULL, NULL },
    { "byte", "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", NULL, NULL },
    { "regex", NULL, NULL, NULL }, /* not a regular language: refused */
};

/* An automaton that counts has as many states for each character: no more than LONGEST are written where it matters. */
#define LONGEST 256
static const struct dfa *limited(struct schema *c, const json_t *s, const struct format *f)
{
    const struct dfa *d = lang_regex(c, f->short_);
    bool longer = json_number_value(json_object_get(s, "maxLength")) > LONGEST &&
                  json_number_value(json_object_get(s, "minLength")) <= LONGEST / 2;
    return d && longer ? lang_meet(c, d, lang_length(c, 0, LONGEST)) : d;
}

const struct dfa *format_language(struct schema *c, const json_t *s, struct str name, bool *known)
{
    const struct format *f = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof formats[0] && !f; i++)
        if (str_is(name, formats[i].name))
            f = &formats[i];
    *known = f != NULL;
    if (!f)
        return NULL;
    if (!f->is) {
        schema_refuse(c, ERR_UNSUPPORTED, s, "format", "\"%s\" cannot be kept", f->name);
        return NULL;
    }
    if (f->short_ && (json_object_get(s, "maxLength") || json_object_get(s, "minLength")))
        return limited(c, s, f);
    const struct dfa *d = lang_regex(c, f->is), *out = d && f->not ? lang_regex(c, f->not) : NULL;
    return out ? lang_minus(c, d, out) : d;
}
