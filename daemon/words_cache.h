/* Vocabularies and templates, kept per file and template with how the model spells what it says and the grammars that bind it: tokenising and rendering never load weights, and a
 * second request does not read the file's head again.
 *
 * A reference is counted. What nobody holds stays for a while (the WORDS_KEEP last used), so that
 * a model can be tokenised again at once. A file that has changed on the disk is another entry.
 * Thread: loop; what an entry holds may be used on any thread while the reference is held. */
#ifndef HEARTH_DAEMON_WORDS_CACHE_H
#define HEARTH_DAEMON_WORDS_CACHE_H

#include <stdint.h>

#include "daemon/grammars.h"
#include "daemon/jobs.h"
#include "runtime/engine/runtime.h"

#define WORDS_KEEP 2

struct file_identity { /* of the file at a path when it was looked at */
    uint64_t dev, ino, size;
    int64_t mtime_ns;
};
bool file_identity_read(const char *path, struct file_identity *out);

struct words_cache;
struct words_entry; /* holds one `struct words` */

enum err_code words_cache_create(struct jobs *jobs, struct words_cache **out, struct err *e);
void words_cache_destroy(struct words_cache *c); /* no reference may be left */

struct words_want {
    /* the caller's */
    const char *path;               /* must stay until `ready` */
    struct file_identity identity;
    struct str template;            /* the model's own, in the place of the file's; empty: none */
    void (*ready)(struct words_want *w);
    /* results, in `ready`: the entry, to be put back, or NULL and the error */
    struct words_entry *entry;
    struct err err;
    struct words_want *next;
};
/* May call `ready` before it returns. A want cannot be withdrawn: put the entry back in `ready`. */
void words_cache_get(struct words_cache *c, struct words_want *w);
void words_cache_put(struct words_cache *c, struct words_entry *entry); /* NULL is fine */
const struct words *words_entry_words(const struct words_entry *entry);
/* The model's own template, else the file's, or NULL. One that cannot be read gives way to the file's. */
const struct chat_template *words_entry_template(const struct words_entry *entry);
bool words_entry_own_template(const struct words_entry *entry);
const struct output_format *words_entry_format(const struct words_entry *entry);
struct grammars *words_entry_grammars(const struct words_entry *entry); /* NULL: no tokenizer */

#endif
