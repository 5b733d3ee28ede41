/* Writes down what is done to files, in order, so that power_test.py can play back what a power cut
 * would leave of it: the store's own operations, SQLite's, and what was acknowledged between them.
 *
 * One record is a struct of little-endian integers, then its two strings and its data:
 *   u8 kind, u8[7] 0, u64 inode, u64 other, u64 number, u32 n_name, u32 n_to, u64 n_data
 *   'C' create      inode of the directory, other: of the new file, number: its mode, name
 *   'W' write       inode, number: offset, data          'T' truncate or grow  inode, number: size
 *   'G' at least    inode, number: size                  'M' mode              inode, number: mode
 *   'S' sync        inode of a file or a directory       'U' unlink            inode of the directory, name
 *   'R' rename      inode and name, other and to         'L' symbolic link     inode, name, to: where it leads
 *   'F' folder      as 'C'                               'H' hard link         inode, name, to: the other name
 *   'A' said        data: a line
 * Every call is a no-op until record_to. The calls stand between record_begin and record_end, and so does
 * the operation itself: the order in the log is the order in which they happened. */
#ifndef HEARTH_TESTS_STORE_RECORD_H
#define HEARTH_TESTS_STORE_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

void record_to(const char *path); /* from now on; aborts when it cannot be written */
void record_begin(void);
void record_end(void);

void record_create(int dir, const char *name, int fd);
void record_write(int fd, const void *p, size_t n, uint64_t offset);
void record_fd(char kind, int fd, uint64_t number); /* T, G, M, S */
void record_clone(int to, int from);                /* all of from's bytes, as one write */
void record_make_dir(int dir, const char *name); /* or AT_FDCWD and a path */
void record_rename(int from_dir, const char *from, int to_dir, const char *to);
void record_name(char kind, int dir, const char *name, const char *to); /* U, L, H */
void record_said(const char *line, size_t n);

/* SQLite names files by path. */
int record_exists(const char *path);
void record_path_create(const char *path);
void record_path_write(const char *path, const void *p, size_t n, uint64_t offset);
void record_path(char kind, const char *path, uint64_t number); /* T, S, U; the directory of it: 'D' syncs */

#endif
