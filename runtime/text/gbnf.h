/* GBNF, the grammar language that llama.cpp made known, as a tree (its grammars/README.md is the source).
 *
 *     root   ::= "yes" | "no" reason?      # rules; the sentences are those of "root"
 *     reason ::= ", because " [^.\n]{1,80} "."
 *
 * "text", [a-z], [^a-z], . (any character), ( ), |, * + ? {m} {m,} {m,n}; escapes \n \r \t \\ \" \[ \] \- \xHH \uHHHH
 * \UHHHHHHHH, which name characters; <name> a token by its text, <[12]> by its number, !<name> and !<[12]> any other token.
 * A rule goes on to the end of its line; within parentheses, after ::= and after | to the next one.
 * Left recursion and rules without a definition are refused. */
#ifndef HEARTH_TEXT_GBNF_H
#define HEARTH_TEXT_GBNF_H

#include "runtime/text/grammar_ir.h"

/* A new tree in *out (gram_destroy). ERR_INVALID and ERR_TOO_LARGE name line and column. Cost: linear. */
enum err_code gbnf_parse(struct str text, struct gram **out, struct err *e);

#endif
