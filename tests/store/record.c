#include "tests/store/record.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static FILE *to_file;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

struct head {
    uint8_t kind, zero[7];
    uint64_t inode, other, number;
    uint32_t n_name, n_to;
    uint64_t n_data;
};

void record_to(const char *path)
{
    to_file = fopen(path, "wbe");
    if (!to_file)
        abort();
}

void record_begin(void)
{
    if (to_file)
        pthread_mutex_lock(&order);
}

void record_end(void)
{
    if (to_file)
        pthread_mutex_unlock(&order);
}

static void put(struct head h, const char *name, const char *to, const void *data, size_t n)
{
    h.n_name = (uint32_t)(name ? strlen(name) : 0);
    h.n_to = (uint32_t)(to ? strlen(to) : 0);
    h.n_data = n;
    bool good = fwrite(&h, sizeof h, 1, to_file) == 1 &&
                (!h.n_name || fwrite(name, h.n_name, 1, to_file) == 1) &&
                (!h.n_to || fwrite(to, h.n_to, 1, to_file) == 1) &&
                (!n || fwrite(data, n, 1, to_file) == 1) && fflush(to_file) == 0;
    if (!good)
        abort();
}

static struct stat look(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        abort();
    return st;
}

void record_create(int dir, const char *name, int fd)
{
    if (!to_file)
        return;
    struct stat st = look(fd);
    put((struct head){ .kind = 'C', .inode = look(dir).st_ino, .other = st.st_ino, .number = st.st_mode & 07777 },
        name, NULL, NULL, 0);
}

void record_write(int fd, const void *p, size_t n, uint64_t offset)
{
    if (to_file)
        put((struct head){ .kind = 'W', .inode = look(fd).st_ino, .number = offset }, NULL, NULL, p, n);
}

void record_fd(char kind, int fd, uint64_t number)
{
    if (to_file)
        put((struct head){ .kind = (uint8_t)kind, .inode = look(fd).st_ino, .number = number }, NULL, NULL, NULL, 0);
}

void record_clone(int to, int from)
{
    if (!to_file)
        return;
    size_t n = (size_t)look(from).st_size;
    char *p = malloc(n + 1);
    if (!p || pread(from, p, n, 0) != (ssize_t)n)
        abort();
    record_write(to, p, n, 0);
    free(p);
}

void record_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    if (to_file)
        put((struct head){ .kind = 'R', .inode = look(from_dir).st_ino, .other = look(to_dir).st_ino }, from, to,
            NULL, 0);
}

void record_name(char kind, int dir, const char *name, const char *to)
{
    if (to_file)
        put((struct head){ .kind = (uint8_t)kind, .inode = look(dir).st_ino }, name, to, NULL, 0);
}

void record_said(const char *line, size_t n)
{
    record_begin();
    if (to_file)
        put((struct head){ .kind = 'A' }, NULL, NULL, line, n);
    record_end();
}

/* ---- by path --------------------------------------------------------------------------------- */

int record_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static uint64_t inode_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        abort();
    return st.st_ino;
}

static const char *base_of(const char *path)
{
    return strrchr(path, '/') + 1;
}

static uint64_t parent_of(const char *path)
{
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%.*s", (int)(base_of(path) - path), path);
    return inode_of(dir);
}

void record_make_dir(int dir, const char *name)
{
    struct stat st;
    bool by_path = dir == AT_FDCWD;
    if (!to_file)
        return;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        abort();
    put((struct head){ .kind = 'F', .inode = by_path ? parent_of(name) : look(dir).st_ino, .other = st.st_ino,
                       .number = st.st_mode & 07777 },
        by_path ? base_of(name) : name, NULL, NULL, 0);
}

void record_path_create(const char *path)
{
    struct stat st;
    if (!to_file)
        return;
    if (stat(path, &st) < 0)
        abort();
    put((struct head){ .kind = 'C', .inode = parent_of(path), .other = st.st_ino, .number = st.st_mode & 07777 },
        base_of(path), NULL, NULL, 0);
}

void record_path_write(const char *path, const void *p, size_t n, uint64_t offset)
{
    if (to_file)
        put((struct head){ .kind = 'W', .inode = inode_of(path), .number = offset }, NULL, NULL, p, n);
}

void record_path(char kind, const char *path, uint64_t number)
{
    if (!to_file)
        return;
    if (kind == 'U')
        put((struct head){ .kind = 'U', .inode = parent_of(path) }, base_of(path), NULL, NULL, 0);
    else if (kind == 'D')
        put((struct head){ .kind = 'S', .inode = parent_of(path) }, NULL, NULL, NULL, 0);
    else
        put((struct head){ .kind = (uint8_t)kind, .inode = inode_of(path), .number = number }, NULL, NULL, NULL, 0);
}
