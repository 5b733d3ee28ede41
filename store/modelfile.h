/* Modelfiles: text -> commands in their order, and back.
 *
 *   FROM name or path             PARAMETER name value      MESSAGE system|user|assistant text
 *   TEMPLATE text                 SYSTEM text               LICENSE text
 *   ADAPTER path                  DRAFT path                RENDERER name
 *   PARSER name                   REQUIRES version
 *
 * A command is a word of either case, blanks, and a value; `#` at the begin of a line is a comment.
 * A value that begins with `"` or `"""` goes on, over lines, until a line ends with the same (blanks
 * behind it do not count); any other ends with its line. Nothing is escaped: what stands between is taken
 * as it is. Bytes: UTF-8 (a BOM is passed over), or UTF-16 of either order, behind a BOM or where one of
 * the first two bytes is NUL. As with Ollama,
 * bytes that are not text become U+FFFD, and control characters but tab and line ends are left out; unlike
 * there, other characters that do not print (no-break spaces, joiners of emoji) stay in values.
 *
 * Who uses the commands says which of several counts: of LICENSE, MESSAGE and PARAMETER stop all, of the
 * others the last (modelfile_last). PARAMETER's names and values are checked by whoever knows the options.
 *
 * It includes nothing but base, so that the command can link it too. Thread: any. */
#ifndef HEARTH_STORE_MODELFILE_H
#define HEARTH_STORE_MODELFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

#define MODELFILE_MAX_BYTES ((size_t)1 << 20)
#define MODELFILE_MAX_COMMANDS 4096

enum modelfile_kind {
    MODELFILE_FROM,
    MODELFILE_PARAMETER,
    MODELFILE_TEMPLATE,
    MODELFILE_SYSTEM,
    MODELFILE_ADAPTER,
    MODELFILE_DRAFT,
    MODELFILE_LICENSE,
    MODELFILE_MESSAGE,
    MODELFILE_RENDERER,
    MODELFILE_PARSER,
    MODELFILE_REQUIRES,
    MODELFILE_KINDS
};

struct modelfile_command {
    enum modelfile_kind kind;
    struct str name;  /* PARAMETER: which; MESSAGE: the role; else empty */
    struct str value; /* NUL-terminated; REQUIRES: without a leading v */
    size_t line;      /* where it begins, from 1; 0: not from a file */
};

struct modelfile {
    struct modelfile_command *commands;
    size_t n, cap;
    struct buf text; /* what the commands' slices point into */
};

/* ERR_FORMAT with the line and what was expected there; ERR_TOO_LARGE over a cap. On failure *out is
 * empty. */
enum err_code modelfile_parse(struct str bytes, struct modelfile *out, struct err *e);
void modelfile_finish(struct modelfile *m); /* a zeroed one is fine */

/* The last of a kind, or NULL. */
const struct modelfile_command *modelfile_last(const struct modelfile *m, enum modelfile_kind kind);
const char *modelfile_name(enum modelfile_kind kind); /* "FROM" */

/* Appends one command and a line end, quoted where it must be, so that it reads back as it is. False: a
 * line of the value ends with `"""`, or it holds what is left out or replaced in reading: no way of
 * writing it reads back the same. It is then written as near as can be. */
bool modelfile_put(struct buf *out, const struct modelfile_command *c);

/* MAJOR[.MINOR[.PATCH[-PRERELEASE][+BUILD]]], with or without a leading v (semver.org, and Go's short
 * forms). */
bool modelfile_version(struct str text);
/* Whether version `a` comes after `b` (semver.org's precedence: a prerelease before its release, builds
 * alike). Both must be such. */
bool modelfile_version_newer(struct str a, struct str b);

#endif
