/* A model's name -> what the store knows of it, its texts, and its words. The first steps of every request
 * that names a model: the store's thread resolves and checks, then the words come from the cache
 * or are read on a worker. */
#ifndef HEARTH_DAEMON_LOOKUP_H
#define HEARTH_DAEMON_LOOKUP_H

#include "daemon/daemon.h"
#include "daemon/model_texts.h"
#include "daemon/words_cache.h"

struct lookup {
    struct daemon *d;
    char *name;
    struct store_model *model;    /* results; NULL on failure */
    struct words_entry *entry;
    struct model_texts texts;     /* of the model */
    struct err err;
    void (*done)(struct lookup *l); /* Thread: loop; also on failure, then err is set */
    /* inside */
    struct job job;
    struct words_want want;
    struct file_identity identity;
    bool without_words;
};
/* Zeroed by the caller but for nothing. On an error that is returned, `done` is not called.
 * without_words: only the store is asked. */
enum err_code lookup_start(struct lookup *l, struct daemon *d, struct str name, bool without_words,
                           void (*done)(struct lookup *l), struct err *e);
void lookup_finish(struct lookup *l); /* after `done`, or when it was never started */
const struct words *lookup_words(const struct lookup *l);
const struct chat_template *lookup_template(const struct lookup *l); /* the model's, its file's, or NULL */

#endif
