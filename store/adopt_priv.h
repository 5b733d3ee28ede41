/* What the files of adopt share: a scan under way.
 *
 *   adopt_scan.c  directories and files of strangers    adopt_find.c  the finders
 *   adopt.c       taking */
#ifndef HEARTH_STORE_ADOPT_PRIV_H
#define HEARTH_STORE_ADOPT_PRIV_H

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "store/adopt.h"
#include "store/store_priv.h"

struct scan {
    struct adopt_list list;  /* first: adopt_list_destroy gets back from it */
    struct arena arena;      /* owns all strings and files of the list */
    struct store *s;
    const struct store_job *job;
    const char *finder;
    size_t cap_found, cap_notes;
    size_t entries;          /* seen so far */
    struct map visited;      /* directories, and first files of models, by device and inode */
    struct map names;        /* of models, in small letters: how many wished to be called so */
};

/* Reading without leaving a trace; -1 and errno. */
int adopt_open(const char *path, int flags);
/* A whole file of at most `max` bytes, into the arena. */
enum err_code adopt_read(struct scan *c, const char *path, size_t max, struct str *out, struct err *e);

/* A sentence in the arena; "" when there is no memory. */
const char *scan_text(struct scan *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void scan_note(struct scan *c, const char *path, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The names in a directory, sorted, without those that begin with '.'. Files and directories, also behind
 * links; anything else is left out. One that cannot be read, or was read before, has none (a note). */
struct entry {
    const char *name, *path;
    bool directory;
    uint64_t size, device, inode;
};
struct entries {
    struct entry *v;
    size_t n;
};
enum err_code scan_dir(struct scan *c, const char *path, struct entries *out, struct err *e);
int entry_by_name(const void *a, const void *b); /* the order of them */

/* True from the second time on. */
bool scan_seen(struct scan *c, uint64_t device, uint64_t inode);

/* Adds a copy with finder, size and family filled in, and another name where that one is taken. */
enum err_code scan_add(struct scan *c, const struct adopt_found *f, struct err *e);

struct finder {
    const char *name;
    enum err_code (*find)(struct scan *c, const char *root, struct err *e);
};
extern const struct finder adopt_finders[];
extern const size_t adopt_finder_count;

#endif
