/* decode TYPE <blocks >floats: runs a tensor type's decoder; the tool of quants_oracle.py.
 * decode --list: the types that have one, with their block length and bytes. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/tensor_type.h"

static int list(void)
{
    for (size_t i = 0; i < tensor_type_count(); i++) {
        const struct tensor_type *t = tensor_type_at(i);
        if (t->decode)
            printf("%s %u %u\n", t->name, t->block_len, t->block_bytes);
    }
    return 0;
}

static int decode(const struct tensor_type *t)
{
    enum { BLOCKS = 64 };
    unsigned char *in = mem_alloc((size_t)BLOCKS * t->block_bytes);
    float *out = mem_zero((size_t)BLOCKS * t->block_len, sizeof *out);
    bool good = in && out;
    for (size_t n; good && (n = fread(in, t->block_bytes, BLOCKS, stdin)) > 0;) {
        t->decode(in, n, out);
        good = fwrite(out, sizeof *out * t->block_len, n, stdout) == n;
    }
    good = good && !ferror(stdin) && fflush(stdout) == 0;
    mem_free(in);
    mem_free(out);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return list();
    const struct tensor_type *t = argc == 2 ? tensor_type_named(str_from(argv[1])) : NULL;
    if (!t || !t->decode) {
        fprintf(stderr, "usage: decode TYPE <blocks >floats\n");
        return 2;
    }
    return decode(t);
}
