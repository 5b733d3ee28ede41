/* JSON Schema -> grammar: a node of grammar_ir.h whose sentences are JSON texts that the schema accepts.
 *
 * Drafts 7, 2019-09 and 2020-12 ($schema says which; 2020-12 where it says nothing). No text that the schema
 * rejects is a sentence. What cannot be honoured is refused (ERR_UNSUPPORTED, ERR_TOO_LARGE) with the path of the
 * keyword: "$.properties.a.not: ..."; unknown keywords, too, so that nothing is ignored in silence. Annotations
 * are a table in json_schema_keywords.c; formats that no specification knows are annotations, as the
 * specification says.
 *
 * Every text that the schema accepts is a sentence when it has this form:
 * - Keys in the order in which the schema names them; free keys after those. An object that two schemas describe
 *   together (allOf, $ref beside properties) has the keys of the one that is written first before the other's.
 * - Space: behind { [ , and before } ] nothing, one space, or a newline with up to 64 blanks; behind : one space
 *   or none.
 * - Numbers: integers within 64 bits, also as 1.0 up to 2^53; with a fraction up to 15 digits in all; with an
 *   exponent (of at most two digits) only where nothing limits the number. Constants also as they are written.
 * - Strings: escapes of every kind where only a length limits them; else characters stand for themselves, and
 *   what JSON must escape is written \" \\ \n \t \r \b \f or \u00XX. Keys likewise.
 * - Formats: date-time with T and Z in capitals and no leap seconds; what has an international form (idn-email,
 *   iri, ...) in its ASCII form.
 * A schema that leaves no such text is refused, too.
 *
 * Limits: schemas of GRAM_MAX_SOURCE bytes and GRAM_MAX_DEPTH levels, repetitions up to GRAM_MAX_REPEAT, counts of
 * steps and parts. Thread: any; one for a gram. Source: json-schema.org, drafts 7 to 2020-12. */
#ifndef HEARTH_TEXT_JSON_SCHEMA_H
#define HEARTH_TEXT_JSON_SCHEMA_H

#include <jansson.h>

#include "runtime/text/grammar_ir.h"

enum json_schema_draft {
    JSON_SCHEMA_BY_ITSELF, /* $schema, else 2020-12 */
    JSON_SCHEMA_7,         /* and earlier: what stands beside $ref is ignored */
    JSON_SCHEMA_2019,
    JSON_SCHEMA_2020,
};

/* The node of one value, without space around it; GRAM_NONE where gram_error has the reason.
 * where: what paths in errors begin with; NULL: "$". The schema is read only during the call. */
uint32_t json_schema_node(struct gram *g, const json_t *schema, const char *where, enum json_schema_draft draft);

#endif
