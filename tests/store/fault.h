/* The n-th file operation fails, or is the process's last: those of the store's table and those of
 * SQLite (through a VFS that stands in front of the usual one), counted together. */
#ifndef HEARTH_TESTS_STORE_FAULT_H
#define HEARTH_TESTS_STORE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/file.h"

extern const struct file_ops fault_ops;

void fault_install(void); /* once, after store_setup: SQLite's default VFS is ours from now on */

/* errnum EIO or ENOSPC: the n-th operation from now (1: the next) fails with it, and with `sticky`
 * all after it; ENOSPC spares what needs no space. 0: SIGKILL instead. n = 0 turns it off. */
void fault_after(uint64_t n, int errnum, bool sticky);
uint64_t fault_count(void); /* operations since the process began */
uint64_t fault_lost_syncs(void); /* those of the store's table that failed: nobody may go on as if they had not */

#endif
