/* quantize FILE OUT TYPE [THREADS]: writes the quantised file; says how fast on stderr.
 * quantize --types FILE TYPE: what becomes of each tensor, one line each: name, type.
 * quantize --encode TYPE <floats >blocks: a tensor type's encoder alone.
 * The tool of encode_oracle.py and quantize_oracle.py. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/model/encode.h"
#include "runtime/model/quantize.h"

static int encode(const char *name)
{
    enum { BLOCKS = 64 };
    const struct tensor_type *t = tensor_type_named(str_from(name));
    const struct tensor_encoder *en = t ? tensor_encoder_find(t->id) : NULL;
    if (!en) {
        fprintf(stderr, "no encoder for %s\n", name);
        return 2;
    }
    float *in = mem_zero((size_t)BLOCKS * t->block_len, sizeof *in);
    unsigned char *out = mem_alloc((size_t)BLOCKS * t->block_bytes);
    bool good = in && out;
    for (size_t n; good && (n = fread(in, sizeof *in * t->block_len, BLOCKS, stdin)) > 0;) {
        en->encode(in, n, out);
        good = fwrite(out, t->block_bytes, n, stdout) == n;
    }
    good = good && !ferror(stdin) && fflush(stdout) == 0;
    mem_free(in);
    mem_free(out);
    return good ? 0 : 1;
}

static enum err_code to_file(void *user, const void *bytes, size_t n, struct err *e)
{
    const char *p = bytes;
    while (n) {
        ssize_t w = write(*(int *)user, p, n);
        if (w < 0)
            return err_set(e, ERR_IO, "write failed");
        p += w;
        n -= (size_t)w;
    }
    return ERR_OK;
}

static enum err_code to_disk(const struct quantize_plan *p, const char *path, unsigned threads,
                             struct err *e)
{
    struct timespec a, b;
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0)
        return err_set(e, ERR_IO, "cannot make %s", path);
    struct quantize_sink sink = { to_file, NULL, &fd };
    clock_gettime(CLOCK_MONOTONIC, &a);
    enum err_code c = quantize_run(p, &sink, threads, e);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    off_t size = lseek(fd, 0, SEEK_CUR);
    if (c == ERR_OK && (uint64_t)size != p->file_bytes)
        c = err_set(e, ERR_INTERNAL, "%jd bytes came, not %" PRIu64, (intmax_t)size, p->file_bytes);
    fprintf(stderr, "%s to %s: %.1f MB of weights in %.2f s, %.0f MB/s\n", p->from_name,
            p->target->name, (double)gguf_tensor_bytes(p->from) * 1e-6, s,
            (double)gguf_tensor_bytes(p->from) * 1e-6 / s);
    close(fd);
    return c;
}

int main(int argc, char **argv)
{
    bool types = argc == 4 && strcmp(argv[1], "--types") == 0;
    if (argc == 3 && strcmp(argv[1], "--encode") == 0)
        return encode(argv[2]);
    if (argc < 4) {
        fprintf(stderr, "usage: quantize FILE OUT TYPE [THREADS] | --types FILE TYPE | --encode TYPE\n");
        return 2;
    }
    struct err e = { 0 };
    struct gguf *g = NULL;
    struct quantize_plan *p = NULL;
    const struct quantize_target *t = quantize_target_find(str_from(argv[3]), &e);
    enum err_code c = t ? gguf_open(argv[types ? 2 : 1], &g, &e) : ERR_INVALID;
    if (c == ERR_OK)
        c = quantize_plan_make(g, t, &p, &e);
    for (size_t i = 0; c == ERR_OK && types && i < p->n; i++)
        printf("%.*s %s\n", (int)p->items[i].from->name.n, p->items[i].from->name.p,
               p->items[i].to->name);
    if (c == ERR_OK && !types)
        c = to_disk(p, argv[2], argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 2, &e);
    if (c != ERR_OK)
        fprintf(stderr, "%s: %s\n", err_name(c), e.text);
    quantize_plan_destroy(p);
    gguf_close(g);
    return c == ERR_OK ? 0 : 1;
}
