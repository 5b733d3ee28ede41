/* File operations, as a table: all that the store does to files of its own goes through here, so
 * that a test can make the n-th one fail, or die before it.
 *
 * Every name is one path component, opened below a directory descriptor without following a
 * symbolic link. Return values and errno are those of the system calls. Thread: any. */
#ifndef HEARTH_STORE_FILE_H
#define HEARTH_STORE_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct file_ops {
    int (*open)(int dir, const char *name, int flags, mode_t mode); /* adds O_CLOEXEC */
    int (*close)(int fd);
    ssize_t (*read)(int fd, void *p, size_t n, uint64_t offset);
    ssize_t (*write)(int fd, const void *p, size_t n, uint64_t offset);
    int (*flush)(int fd, uint64_t at, uint64_t n); /* the disk may begin with these; no sync */
    /* Free to us on the file's disk; whether that is memory (tmpfs), where blocks put aside cost time. */
    int (*space)(int fd, uint64_t *bytes, bool *in_memory);
    int (*reserve)(int fd, uint64_t bytes);  /* blocks for a file of this size */
    int (*reflink)(int to, int from);        /* shares all extents */
    int (*mode)(int fd, mode_t mode);
    int (*sync)(int fd);                     /* a file's bytes and size; a directory's names */
    int (*rename)(int from_dir, const char *from, int to_dir, const char *to);
    int (*alias)(int dir, const char *from, const char *to); /* a hard link: one file, two names */
    int (*link)(const char *target, int dir, const char *name); /* symbolic */
    int (*unlink)(int dir, const char *name);
    int (*make_dir)(int dir, const char *name, mode_t mode); /* of AT_FDCWD: a path, the home's */
    int (*stat)(int fd, struct stat *st);
    int (*stat_at)(int dir, const char *name, struct stat *st); /* of a link: the link */
    int (*stat_path)(const char *path, struct stat *st);        /* follows links: a user's path */
};
extern const struct file_ops file_system;

/* All n bytes at `at`, through interruptions and short writes; false and errno. */
bool file_write_all(const struct file_ops *ops, int fd, const void *p, size_t n, uint64_t at);
/* As many of n bytes as there are; -1 and errno. */
ssize_t file_read_all(const struct file_ops *ops, int fd, void *p, size_t n, uint64_t at);

/* What tells a file that has changed from one that has not, short of reading it. */
struct file_id {
    uint64_t inode, size;
    int64_t mtime_ns;
};
struct file_id file_id_of(const struct stat *st);
bool file_id_eq(const struct file_id *a, const struct file_id *b);

#endif
