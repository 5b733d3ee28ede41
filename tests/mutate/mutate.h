/* Included before each source of a tree that mutate.py has made: one condition of all has no effect.
 *
 * In the folder MUTATE_STATE lie `id`, the number of that condition, and `reached`, a byte a condition, which becomes 1
 * where taking the effect away would have changed what is decided. Weak: each source has its own, and the program one. */
#ifndef HEARTH_MUTATE_H
#define HEARTH_MUTATE_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MUTATE_MOST 16384

extern long mutate_id;
extern unsigned char *mutate_reached, mutate_unseen[MUTATE_MOST];
void mutate_begin(void);

__attribute__((weak)) long mutate_id = -1;
__attribute__((weak)) unsigned char mutate_unseen[MUTATE_MOST];
__attribute__((weak)) unsigned char *mutate_reached = mutate_unseen;

__attribute__((weak, constructor)) void mutate_begin(void)
{
    char text[16] = { 0 };
    if (mutate_reached != mutate_unseen)
        return;
    int id = open(MUTATE_STATE "/id", O_RDONLY | O_CLOEXEC), reached = open(MUTATE_STATE "/reached", O_RDWR | O_CLOEXEC);
    if (id >= 0 && read(id, text, sizeof text - 1) > 0)
        mutate_id = strtol(text, NULL, 10);
    void *p = reached >= 0 ? mmap(NULL, MUTATE_MOST, PROT_READ | PROT_WRITE, MAP_SHARED, reached, 0) : MAP_FAILED;
    if (p != MAP_FAILED)
        mutate_reached = p;
    if (id >= 0)
        close(id);
    if (reached >= 0)
        close(reached);
}

static inline int mutate_is(long id)
{
    mutate_reached[id] = 1;
    return mutate_id == id;
}

#endif
