#include "daemon/progress.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

#define MAX_BLOBS 4096 /* more are sent, but not summed up */

enum err_code progress_init(struct progress *p, struct err *e)
{
    *p = (struct progress){ .line = mem_zero(PROGRESS_LINES, sizeof *p->line) };
    if (!p->line)
        return err_no_memory(e, PROGRESS_LINES * sizeof *p->line, "the news of a transfer");
    return ERR_OK;
}

void progress_finish(struct progress *p)
{
    mem_free(p->line);
    mem_free(p->blobs);
    *p = (struct progress){ 0 };
}

static struct progress_line *line_at(const struct progress *p, size_t i)
{
    return &p->line[(p->first + i) % PROGRESS_LINES];
}

/* The line that waits and which news of the same blob may take the place of. */
static struct progress_line *same_blob(const struct progress *p, const struct progress_line *l)
{
    for (size_t i = p->n; i-- > 0;) {
        struct progress_line *x = line_at(p, i);
        if (!x->has_total)
            return NULL;
        if (x->has_digest == l->has_digest && digest_eq(&x->digest, &l->digest) &&
            strcmp(x->status, l->status) == 0)
            return x;
    }
    return NULL;
}

static void make_room(struct progress *p)
{
    size_t drop = 0;
    if (p->n < PROGRESS_LINES)
        return;
    while (drop < p->n && !line_at(p, drop)->has_total)
        drop++;
    if (drop == p->n)
        drop = 0;
    for (size_t i = drop; i > 0; i--)
        *line_at(p, i) = *line_at(p, i - 1);
    p->first = (p->first + 1) % PROGRESS_LINES;
    p->n--;
}

static void note_blob(struct progress *p, const struct progress_line *l)
{
    size_t i = 0;
    while (i < p->n_blobs && !digest_eq(&p->blobs[i].digest, &l->digest))
        i++;
    if (i == p->n_blobs) {
        if (!mem_grow(&p->blobs, &p->cap_blobs, i + 1, sizeof *p->blobs, MAX_BLOBS))
            return; /* the sum is short of one blob: better than no transfer */
        p->n_blobs++;
    }
    p->blobs[i] = (struct progress_blob){ l->digest, l->total, l->completed };
}

void progress_put(struct progress *p, const struct store_event *ev)
{
    struct progress_line l = {
        .has_digest = ev->has_digest,
        .has_total = ev->has_digest || ev->total,
        .total = ev->total,
        .completed = ev->completed,
    };
    snprintf(l.status, sizeof l.status, "%s", ev->status);
    if (l.has_digest)
        l.digest = ev->digest;
    if (l.has_total)
        note_blob(p, &l);
    else if (!p->now.has_total && strcmp(p->now.status, l.status) == 0)
        return;
    struct progress_line *old = l.has_total ? same_blob(p, &l) : NULL;
    p->now = l;
    if (old) {
        *old = l;
        return;
    }
    make_room(p);
    p->n++;
    *line_at(p, p->n - 1) = l;
}

bool progress_take(struct progress *p, struct progress_line *out)
{
    if (!p->n)
        return false;
    *out = p->line[p->first];
    p->first = (p->first + 1) % PROGRESS_LINES;
    p->n--;
    return true;
}

void progress_sum(const struct progress *p, uint64_t *completed, uint64_t *total)
{
    *completed = *total = 0;
    for (size_t i = 0; i < p->n_blobs; i++) {
        *completed += p->blobs[i].completed;
        *total += p->blobs[i].total;
    }
}
