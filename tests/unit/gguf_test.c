/* gguf: what a right file gives, and which sentence each wrong one gets. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/gguf.h"
#include "tests/model/gguf_writer.h"

/* Opens a copy that ends where the allocation ends, so that a sanitizer sees a read beyond it. */
static enum err_code open_copy(const unsigned char *p, size_t n, uint64_t file_bytes,
                               unsigned char **copy, struct gguf **g, struct err *e)
{
    *copy = mem_alloc(n);
    memcpy(*copy, p, n);
    return gguf_open_memory(*copy, n, file_bytes, g, e);
}

static void close_copy(unsigned char *copy, struct gguf *g)
{
    gguf_close(g);
    mem_free(copy);
}

/* Finishes the writer, opens its file, and demands this code and these words. */
static void expect(struct gguf_writer *w, enum err_code code, const char *words)
{
    size_t n;
    struct err e = { 0 };
    struct gguf *g = NULL;
    unsigned char *copy, *p = gw_file(w, true, &n, NULL);
    enum err_code c = open_copy(p, n, n, &copy, &g, &e);
    if (c != code || (words && !strstr(e.text, words)))
        fail_msg("got %s \"%s\", expected %s \"%s\"", err_name(c), e.text, err_name(code),
                 words ? words : "");
    close_copy(copy, g);
    mem_free(p);
    gguf_writer_finish(w);
}

static struct gguf_writer begun(const char *arch)
{
    struct gguf_writer w;
    gguf_writer_init(&w, arch);
    return w;
}

/* ---- right files -------------------------------------------------------------------------------- */

static void add_every_type(struct gguf_writer *w)
{
    const uint64_t minus_two = (uint64_t)-2;
    const struct {
        const char *key;
        uint32_t type;
        int bytes;
    } rows[] = { { "u8", GGUF_U8, 1 },   { "i8", GGUF_I8, 1 },   { "u16", GGUF_U16, 2 },
                 { "i16", GGUF_I16, 2 }, { "u32", GGUF_U32, 4 }, { "i32", GGUF_I32, 4 },
                 { "u64", GGUF_U64, 8 }, { "i64", GGUF_I64, 8 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        gw_key(w, rows[i].key, rows[i].type);
        gw_int(&w->keys, minus_two, rows[i].bytes);
    }
    gw_f32(w, "f32", 1.5f);
    gw_key(w, "f64", GGUF_F64);
    gw_int(&w->keys, 0x4004000000000000, 8); /* 2.5 */
    gw_bool(w, "yes", true);
    gw_str(w, "text", "caf\xC3\xA9");
    gw_str(w, "empty", "");
}

static void reads_every_type(void **state)
{
    (void)state;
    struct gguf_writer w = begun("llama");
    add_every_type(&w);
    size_t n;
    unsigned char *p = gw_file(&w, false, &n, NULL), *copy;
    struct gguf *g;
    struct err e;
    assert_int_equal(open_copy(p, n, n, &copy, &g, &e), ERR_OK);
    const struct {
        const char *key;
        int64_t value;
    } ints[] = { { "u8", 254 },   { "i8", -2 },          { "u16", 65534 }, { "i16", -2 },
                 { "i32", -2 },   { "u32", 4294967294 }, { "i64", -2 } };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        int64_t v = 0;
        double d = 0;
        assert_int_equal(gguf_i64(g, ints[i].key, &v, &e), ERR_OK);
        assert_int_equal(v, ints[i].value);
        assert_true(gguf_at_f64(gguf_find(g, ints[i].key), 0, &d));
        assert_true(d == (double)ints[i].value);
    }
    int64_t wide = 7;
    uint32_t u = 7;
    float f = 0;
    bool b = false;
    struct str s = { 0 };
    assert_int_equal(gguf_i64(g, "u64", &wide, &e), ERR_FORMAT); /* over INT64_MAX */
    assert_int_equal(gguf_u32(g, "i8", &u, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "'i8' is -2"));
    assert_int_equal(gguf_u32(g, "u32", &u, &e), ERR_OK);
    assert_int_equal(u, 4294967294);
    assert_int_equal(gguf_f32(g, "f32", &f, &e), ERR_OK);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_f32(g, "f64", &f, &e), ERR_OK);
    assert_true(f == 2.5f);
    assert_int_equal(gguf_bool(g, "yes", &b, &e), ERR_OK);
    assert_true(b);
    assert_int_equal(gguf_str(g, "text", &s, &e), ERR_OK);
    assert_true(str_is(s, "caf\xC3\xA9"));
    assert_int_equal(gguf_str(g, "empty", &s, &e), ERR_OK);
    assert_int_equal(s.n, 0);
    assert_int_equal(gguf_n_keys(g), 14);
    assert_true(str_is(gguf_key_at(g, 1)->key, "u8"));
    assert_null(gguf_key_at(g, 14));
    close_copy(copy, g);
    mem_free(p);
    gguf_writer_finish(&w);
}

static void absent_keys_leave_defaults_and_wrong_ones_say_so(void **state)
{
    (void)state;
    struct gguf_writer w = begun("llama");
    add_every_type(&w);
    gw_u32(&w, "{arch}.block_count", 30);
    size_t n;
    unsigned char *p = gw_file(&w, false, &n, NULL);
    struct gguf *g;
    struct err e;
    assert_int_equal(gguf_open_memory(p, n, n, &g, &e), ERR_OK);
    uint32_t u = 11;
    float f = 3.0f;
    bool b = true;
    struct str s = STR("kept");
    const struct gguf_value *array = NULL;
    assert_int_equal(gguf_u32(g, "no.such", &u, &e), ERR_OK);
    assert_int_equal(gguf_f32(g, "no.such", &f, &e), ERR_OK);
    assert_int_equal(gguf_bool(g, "no.such", &b, &e), ERR_OK);
    assert_int_equal(gguf_str(g, "no.such", &s, &e), ERR_OK);
    assert_int_equal(gguf_array(g, "no.such", &array, &e), ERR_OK);
    assert_true(u == 11 && f == 3.0f && b && str_is(s, "kept") && !array);
    assert_int_equal(gguf_u32(g, "{arch}.block_count", &u, &e), ERR_OK);
    assert_int_equal(u, 30);
    assert_non_null(gguf_find(g, "llama.block_count"));
    assert_int_equal(gguf_need(g, "{arch}.context_length", &e), ERR_FORMAT);
    assert_string_equal(e.text, "key 'llama.context_length' is missing");
    assert_int_equal(gguf_u32(g, "text", &u, &e), ERR_FORMAT);
    assert_string_equal(e.text, "key 'text' must be an integer, but is string");
    assert_int_equal(gguf_u32(g, "f32", &u, &e), ERR_FORMAT);
    assert_int_equal(gguf_u32(g, "yes", &u, &e), ERR_FORMAT);
    assert_int_equal(gguf_f32(g, "yes", &f, &e), ERR_FORMAT);
    assert_int_equal(gguf_bool(g, "u8", &b, &e), ERR_FORMAT);
    assert_int_equal(gguf_str(g, "u8", &s, &e), ERR_FORMAT);
    assert_int_equal(gguf_array(g, "u8", &array, &e), ERR_FORMAT);
    gguf_close(g);
    mem_free(p);
    gguf_writer_finish(&w);
}

static void walks_arrays(void **state)
{
    (void)state;
    struct gguf_writer w = begun("llama");
    gw_tokens(&w, 1000);
    gw_array(&w, "i16s", GGUF_I16, 3);
    for (int i = -1; i < 2; i++)
        gw_int(&w.keys, (uint64_t)i, 2);
    gw_array(&w, "bools", GGUF_BOOL, 2);
    gw_int(&w.keys, 0x0100, 2);
    gw_array(&w, "none", GGUF_F32, 0);
    size_t n;
    unsigned char *p = gw_file(&w, false, &n, NULL), *copy;
    struct gguf *g;
    struct err e;
    assert_int_equal(open_copy(p, n, n, &copy, &g, &e), ERR_OK);
    struct gguf_strings it = gguf_strings(gguf_find(g, "tokenizer.ggml.tokens"));
    struct str s;
    char want[16];
    for (int i = 0; i < 1000; i++) {
        snprintf(want, sizeof want, "t%d", i);
        assert_true(gguf_next_str(&it, &s));
        assert_true(str_is(s, want));
    }
    assert_false(gguf_next_str(&it, &s));
    it = gguf_strings(gguf_find(g, "i16s"));
    assert_false(gguf_next_str(&it, &s));
    it = gguf_strings(NULL);
    assert_false(gguf_next_str(&it, &s));
    int64_t v;
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(gguf_at_i64(gguf_find(g, "i16s"), i, &v));
        assert_int_equal(v, (int64_t)i - 1);
    }
    assert_false(gguf_at_i64(gguf_find(g, "i16s"), 3, &v));
    assert_true(gguf_at_i64(gguf_find(g, "bools"), 1, &v));
    assert_int_equal(v, 1);
    assert_false(gguf_at_i64(gguf_find(g, "none"), 0, &v));
    close_copy(copy, g);
    mem_free(p);
    gguf_writer_finish(&w);
}

static void check_data(const struct gguf *g, const unsigned char *file, struct err *e)
{
    unsigned char got[400];
    const struct gguf_tensor *t = gguf_find_tensor(g, STR("second"));
    assert_non_null(t);
    assert_ptr_equal(gguf_tensor_at(g, 1), t);
    assert_int_equal(t->type_id, TENSOR_F16);
    assert_int_equal(t->n_dims, 2);
    assert_true(t->shape[0] == 5 && t->shape[1] == 7 && t->shape[2] == 1 && t->shape[3] == 1);
    assert_int_equal(t->bytes, 70);
    assert_int_equal(t->offset % 32, 0);
    assert_int_equal(gguf_read_tensor(g, t, 3, 60, got, e), ERR_OK);
    assert_memory_equal(got, file + t->offset + 3, 60);
    assert_int_equal(gguf_read_tensor(g, t, 70, 0, got, e), ERR_OK);
    assert_int_equal(gguf_read_tensor(g, t, 11, 60, got, e), ERR_INVALID);
    assert_non_null(strstr(e->text, "'second'"));
    assert_int_equal(gguf_read_tensor(g, t, UINT64_MAX, 2, got, e), ERR_INVALID);
    assert_null(gguf_find_tensor(g, STR("secon")));
    assert_int_equal(gguf_tensor_bytes(g), 70 + 36 + 8);
}

static void finds_and_reads_tensors(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf_writer w = begun("llama");
        w.version = version;
        gw_tensor(&w, "first", TENSOR_Q4_0, (const uint64_t[4]){ 64 });
        gw_tensor(&w, "second", TENSOR_F16, (const uint64_t[4]){ 5, 7 });
        gw_tensor(&w, "of a later day", 77, (const uint64_t[4]){ 3 });
        gw_tensor(&w, "scalar", 28, (const uint64_t[4]){ 0 });
        size_t n, header;
        unsigned char *p = gw_file(&w, true, &n, &header);
        struct gguf *g;
        struct err e;
        assert_int_equal(gguf_open_memory(p, n, n, &g, &e), ERR_OK);
        assert_int_equal(gguf_version(g), version);
        assert_int_equal(gguf_n_tensors(g), 4);
        check_data(g, p, &e);
        const struct gguf_tensor *odd = gguf_find_tensor(g, STR("of a later day"));
        assert_true(odd && !odd->type && odd->type_id == 77 && odd->bytes == 0);
        gguf_close(g);
        /* the header alone opens when the file is said to be longer; its weights are not there */
        assert_int_equal(gguf_open_memory(p, header, n, &g, &e), ERR_OK);
        unsigned char byte;
        assert_int_equal(gguf_read_tensor(g, gguf_tensor_at(g, 0), 0, 1, &byte, &e), ERR_IO);
        gguf_close(g);
        mem_free(p);
        gguf_writer_finish(&w);
    }
}

/* ---- wrong files ---------------------------------------------------------------------------------- */

static void refuses_what_is_no_gguf(void **state)
{
    (void)state;
    struct gguf *g;
    struct err e;
    assert_int_equal(gguf_open_memory("GGUX\3\0\0\0", 8, 8, &g, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "not a GGUF file"));
    assert_null(g);
    assert_int_equal(gguf_open_memory(NULL, 0, 0, &g, &e), ERR_FORMAT);
    const struct {
        uint32_t version;
        const char *words;
    } rows[] = { { 0, "version 0" }, { 1, "version 1" }, { 4, "version 4" },
                 { 0x03000000, "big-endian" }, { UINT32_MAX, "version 4294967295" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = begun("llama");
        w.version = rows[i].version;
        expect(&w, ERR_UNSUPPORTED, rows[i].words);
    }
}

static void refuses_wrong_counts(void **state)
{
    (void)state;
    const struct {
        uint64_t keys, tensors;
        enum err_code code;
        const char *words;
    } rows[] = {
        { GGUF_MAX_KEYS + 1, 0, ERR_TOO_LARGE, "65537 keys" },
        { UINT64_MAX, 0, ERR_TOO_LARGE, "keys" },
        { 1, GGUF_MAX_TENSORS + 1, ERR_TOO_LARGE, "262145 tensors" },
        { 1, UINT64_MAX, ERR_TOO_LARGE, "tensors" },
        { 60000, 0, ERR_FORMAT, "60000 keys, more than" },
        { 1, 200000, ERR_FORMAT, "200000 tensors, more than" },
        { 2, 0, ERR_FORMAT, "key 1: the key at byte" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = begun("llama");
        w.n_keys = rows[i].keys;
        w.n_tensors = rows[i].tensors;
        expect(&w, rows[i].code, rows[i].words);
    }
}

static void refuses_wrong_keys(void **state)
{
    (void)state;
    struct gguf_writer w = begun("llama");
    gw_u32(&w, "a", 1);
    gw_u32(&w, "b", 1);
    gw_u32(&w, "a", 2);
    expect(&w, ERR_FORMAT, "key 'a' is there twice");
    w = begun("llama");
    gw_u32(&w, "", 1);
    expect(&w, ERR_FORMAT, "key 1 at byte 69");
    w = begun("llama");
    gw_u32(&w, "\xC3\x28", 1);
    expect(&w, ERR_FORMAT, "UTF-8");
    w = begun("llama");
    gw_u32(&w, "line\nbreak", 1);
    expect(&w, ERR_FORMAT, "UTF-8 text");
    w = begun("llama");
    gw_int(&w.keys, 65536, 8);
    w.n_keys++;
    expect(&w, ERR_TOO_LARGE, "65536 bytes long; at most 65535");
    w = begun("llama");
    gw_key(&w, "what", 13);
    gw_int(&w.keys, 0, 8);
    expect(&w, ERR_FORMAT, "key 'what': the value type at byte 81 is 13");
    w = begun("llama");
    gw_key(&w, "maybe", GGUF_BOOL);
    gw_int(&w.keys, 2, 1);
    expect(&w, ERR_FORMAT, "key 'maybe': the bool at byte");
    w = begun("llama");
    gw_array(&w, "deep", GGUF_ARRAY, 1);
    gw_int(&w.keys, 0, 8);
    expect(&w, ERR_FORMAT, "key 'deep': the element type at byte 85: arrays of arrays");
    w = begun("llama");
    gw_array(&w, "long", GGUF_U8, GGUF_MAX_ELEMENTS + 1);
    expect(&w, ERR_TOO_LARGE, "key 'long': the array at byte 89 has 67108865 elements");
    w = begun("llama");
    gw_array(&w, "more", GGUF_F64, GGUF_MAX_ELEMENTS);
    expect(&w, ERR_FORMAT, "key 'more': its value at byte 97 needs 536870912 bytes");
    w = begun("llama");
    gw_array(&w, "strings", GGUF_STRING, 3);
    gw_text(&w.keys, STR("one"));
    gw_int(&w.keys, UINT64_MAX, 8);
    expect(&w, ERR_TOO_LARGE, "key 'strings': a string at byte");
    w = begun("llama");
    gw_key(&w, "text", GGUF_STRING);
    gw_int(&w.keys, GGUF_MAX_STRING + 1, 8);
    expect(&w, ERR_TOO_LARGE, "16777217 bytes long; at most 16777216");
    w = begun("llama");
    gw_key(&w, "text", GGUF_STRING);
    gw_int(&w.keys, 5, 8);
    expect(&w, ERR_FORMAT, "key 'text': the string at byte 93 needs 5 bytes, but the file has 93");
}

static void refuses_wrong_alignment(void **state)
{
    (void)state;
    const uint32_t wrong[] = { 0, 3, 31, 33, UINT32_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct gguf_writer w = begun("llama");
        gw_u32(&w, "general.alignment", wrong[i]);
        expect(&w, ERR_FORMAT, "not a power of two");
    }
    struct gguf_writer w = begun("llama");
    gw_f32(&w, "general.alignment", 32);
    expect(&w, ERR_FORMAT, "must be an integer, but is f32");
    w = begun("llama");
    w.alignment = 64;
    gw_u32(&w, "general.alignment", 64);
    gw_tensor(&w, "a", TENSOR_F32, (const uint64_t[4]){ 3 });
    gw_tensor(&w, "b", TENSOR_F32, (const uint64_t[4]){ 3 });
    expect(&w, ERR_OK, NULL);
    w = begun("llama");
    gw_u32(&w, "general.alignment", 64);
    gw_tensor(&w, "a", TENSOR_F32, (const uint64_t[4]){ 3 });
    gw_tensor(&w, "b", TENSOR_F32, (const uint64_t[4]){ 3 });
    expect(&w, ERR_FORMAT, "tensor 'b': offset 32 is not a multiple of the alignment, 64");
}

static void refuses_wrong_tensors(void **state)
{
    (void)state;
    const uint64_t big = (uint64_t)1 << 40;
    const struct {
        const char *name;
        uint32_t type, n_dims;
        uint64_t dims[5], offset;
        enum err_code code;
        const char *words;
    } rows[] = {
        { "t", TENSOR_F32, 5, { 1, 1, 1, 1, 1 }, 0, ERR_FORMAT, "tensor 't': 5 dimensions" },
        { "t", TENSOR_F32, UINT32_MAX, { 1 }, 0, ERR_FORMAT, "dimensions" },
        { "t", TENSOR_F32, 2, { 4, 0 }, 0, ERR_FORMAT, "tensor 't': dimension 1 at byte" },
        { "t", TENSOR_F32, 2, { big, big }, 0, ERR_FORMAT, "more than 2^63" },
        { "t", TENSOR_F32, 1, { UINT64_MAX }, 0, ERR_FORMAT, "more than 2^63" },
        { "t", TENSOR_F32, 2, { (uint64_t)1 << 61, 2 }, 0, ERR_FORMAT, "does not fit 64 bits" },
        { "t", TENSOR_Q4_0, 2, { 33, 32 }, 0, ERR_FORMAT, "rows of 33 elements" },
        { "t", TENSOR_Q4_K, 1, { 32 }, 0, ERR_FORMAT, "Q4_K's blocks of 256" },
        { "t", TENSOR_F32, 1, { 4 }, 1, ERR_FORMAT, "tensor 't': offset 1 is not a multiple" },
        { "t", TENSOR_F32, 1, { 4 }, 32, ERR_FORMAT, "reach beyond the file" },
        { "t", TENSOR_F32, 1, { 4 }, (uint64_t)-32, ERR_FORMAT, "reach beyond the file" },
        { "t", TENSOR_F32, 1, { 5 }, 0, ERR_FORMAT, "tensor 't': 20 bytes at offset 0" },
        { "", TENSOR_F32, 1, { 4 }, 0, ERR_FORMAT, "tensor 0 at byte" },
        { "\xFF", TENSOR_F32, 1, { 4 }, 0, ERR_FORMAT, "UTF-8" },
        { "0123456789012345678901234567890123456789012345678901234567890123x", TENSOR_F32, 1, { 4 },
          0, ERR_TOO_LARGE, "65 bytes long; at most 64" },
        { "0123456789012345678901234567890123456789012345678901234567890123", TENSOR_F32, 1, { 4 },
          0, ERR_OK, NULL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = begun("llama");
        uint32_t dims = rows[i].n_dims < 5 ? rows[i].n_dims : 5;
        gw_text(&w.tensors, str_from(rows[i].name));
        gw_int(&w.tensors, rows[i].n_dims, 4);
        for (uint32_t d = 0; d < dims; d++)
            gw_int(&w.tensors, rows[i].dims[d], 8);
        gw_int(&w.tensors, rows[i].type, 4);
        gw_int(&w.tensors, rows[i].offset, 8);
        w.n_tensors = 1;
        w.data = 16;
        expect(&w, rows[i].code, rows[i].words);
    }
}

static void refuses_overlap_and_equal_names(void **state)
{
    (void)state;
    const uint64_t twenty[] = { 20 };
    struct gguf_writer w = begun("llama");
    gw_tensor_at(&w, "late", TENSOR_F32, 1, twenty, 96);
    gw_tensor_at(&w, "b", TENSOR_F32, 1, twenty, 64);
    w.data = 256;
    expect(&w, ERR_FORMAT, "tensors 'b' and 'late' overlap at byte");
    w = begun("llama");
    gw_tensor_at(&w, "b", 200, 1, twenty, 64);
    gw_tensor_at(&w, "c", 201, 1, twenty, 64);
    w.data = 256;
    expect(&w, ERR_FORMAT, "overlap");
    w = begun("llama");
    gw_tensor(&w, "x", TENSOR_F32, (const uint64_t[4]){ 4 });
    gw_tensor(&w, "y", TENSOR_F32, (const uint64_t[4]){ 4 });
    gw_tensor(&w, "x", TENSOR_F32, (const uint64_t[4]){ 4 });
    expect(&w, ERR_FORMAT, "tensor 'x' is there twice");
}

static void quotes_hostile_names(void **state)
{
    (void)state;
    char long_name[200];
    memset(long_name, 'x', sizeof long_name);
    struct gguf_quoted q = gguf_quote((struct str){ long_name, sizeof long_name });
    assert_int_equal(strlen(q.text), 99);
    assert_string_equal(q.text + 96, "...");
    assert_string_equal(gguf_quote((struct str){ "a\0b\x1B[2J\xE2", 8 }).text, "a?b?[2J?");
}

/* ---- all the ways in which a file can be cut or bent ------------------------------------------------ */

static unsigned char *sample(size_t *n, size_t *header)
{
    struct gguf_writer w;
    gw_tiny(&w, &(struct tiny){ .arch = "qwen3", .n_layer = 1, .untied = true });
    add_every_type(&w);
    unsigned char *p = gw_file(&w, true, n, header);
    gguf_writer_finish(&w);
    return p;
}

static void a_file_cut_anywhere_is_an_error(void **state)
{
    (void)state;
    size_t n, header;
    unsigned char *p = sample(&n, &header), *copy;
    for (size_t cut = 0; cut < n; cut = cut < header ? cut + 1 : cut + 997) {
        struct gguf *g;
        struct err e;
        assert_int_equal(open_copy(p, cut, cut, &copy, &g, &e), ERR_FORMAT);
        assert_null(g);
        close_copy(copy, g);
        /* with its length kept but its end unread it is no better: nothing is read beyond the cut */
        enum err_code c = open_copy(p, cut, n, &copy, &g, &e);
        assert_true(cut >= header - 32 || c == ERR_FORMAT);
        close_copy(copy, g);
    }
    mem_free(p);
}

static void look_everywhere(const struct gguf *g)
{
    int64_t v;
    unsigned char byte;
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *k = gguf_key_at(g, i);
        if (k->n)
            gguf_at_i64(k, k->n - 1, &v);
        struct gguf_strings it = gguf_strings(k);
        for (struct str s; gguf_next_str(&it, &s);)
            assert_true(s.n <= GGUF_MAX_STRING);
    }
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (t->bytes)
            assert_int_equal(gguf_read_tensor(g, t, t->bytes - 1, 1, &byte, NULL), ERR_OK);
    }
}

static void a_file_with_any_byte_changed_is_safe(void **state)
{
    (void)state;
    size_t n, header;
    unsigned char *p = sample(&n, &header);
    const unsigned char masks[] = { 0x01, 0x04, 0x10, 0x80, 0xFF };
    int errors = 0, fine = 0;
    for (size_t i = 0; i < header * sizeof masks; i++) {
        struct gguf *g;
        struct err e = { 0 };
        unsigned char *at = p + i / sizeof masks, was = *at;
        *at ^= masks[i % sizeof masks];
        enum err_code c = gguf_open_memory(p, n, n, &g, &e);
        if (c == ERR_OK)
            look_everywhere(g);
        else
            assert_true(e.text[0] != '\0');
        *(c == ERR_OK ? &fine : &errors) += 1;
        gguf_close(g);
        *at = was;
    }
    assert_true(errors > 1000 && fine > 1000);
    mem_free(p);
}

/* ---- files ------------------------------------------------------------------------------------------ */

struct folder {
    char path[64];
};

static struct folder folder_make(void)
{
    struct folder f;
    snprintf(f.path, sizeof f.path, "/tmp/hearth-gguf-XXXXXX");
    assert_non_null(mkdtemp(f.path));
    return f;
}

static void save(const struct folder *f, const char *name, const struct gguf_writer *w, char *path,
                 size_t room)
{
    size_t n;
    unsigned char *p = gw_file(w, true, &n, NULL);
    snprintf(path, room, "%s/%s", f->path, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(p, 1, n, out), n);
    fclose(out);
    mem_free(p);
}

static void a_big_header_is_read_in_pieces(void **state)
{
    (void)state;
    struct folder f = folder_make();
    struct gguf_writer w = begun("llama");
    char path[128];
    gw_u32(&w, "before", 1);
    gw_tokens(&w, 200000);
    gw_u32(&w, "after", 2);
    for (int i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof name, "tensor %d", i);
        gw_tensor(&w, name, TENSOR_F32, (const uint64_t[4]){ 8 });
    }
    save(&f, "big.gguf", &w, path, sizeof path);
    struct gguf *g;
    struct err e;
    assert_int_equal(gguf_open(path, &g, &e), ERR_OK);
    uint32_t before = 0, after = 0, n = 0;
    assert_int_equal(gguf_u32(g, "before", &before, &e), ERR_OK);
    assert_int_equal(gguf_u32(g, "after", &after, &e), ERR_OK);
    assert_true(before == 1 && after == 2);
    struct gguf_strings it = gguf_strings(gguf_find(g, "tokenizer.ggml.tokens"));
    struct str s;
    while (gguf_next_str(&it, &s))
        n++;
    assert_int_equal(n, 200000);
    assert_true(str_is(s, "t199999"));
    assert_non_null(gguf_find_tensor(g, STR("tensor 0")));
    assert_non_null(gguf_find_tensor(g, STR("tensor 2999")));
    assert_string_equal(gguf_path(g, 0), path);
    assert_string_equal(gguf_name(g, 0), "big.gguf");
    /* the file shrinks while it is open: an error, and no signal */
    float x[8];
    const struct gguf_tensor *last = gguf_find_tensor(g, STR("tensor 2999"));
    assert_int_equal(gguf_read_tensor(g, last, 0, sizeof x, x, &e), ERR_OK);
    assert_true(x[0] >= 1.0f && x[0] < 2.0f);
    assert_int_equal(truncate(path, (off_t)last->offset + 16), 0);
    assert_int_equal(gguf_read_tensor(g, last, 0, sizeof x, x, &e), ERR_IO);
    assert_non_null(strstr(e.text, "tensor 2999"));
    gguf_close(g);
    unlink(path);
    rmdir(f.path);
    gguf_writer_finish(&w);
}

static void what_is_no_file_is_an_error(void **state)
{
    (void)state;
    struct gguf *g;
    struct err e;
    assert_int_equal(gguf_open("/no/such/file.gguf", &g, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "opening file.gguf: No such file or directory");
    assert_int_equal(gguf_open("/tmp", &g, &e), ERR_INVALID);
    assert_int_equal(gguf_open("/dev/zero", &g, &e), ERR_INVALID);
    assert_int_equal(gguf_open("/dev/null", &g, &e), ERR_INVALID);
    assert_null(g);
    gguf_close(NULL);
}

struct split {
    int no, count, total; /* -1: no such key */
    const char *arch, *tensor;
};

static void save_shard(const struct folder *f, const char *name, const struct split *s, char *path,
                       size_t room)
{
    struct gguf_writer w = begun(s->arch);
    const struct {
        const char *key;
        int value;
    } keys[] = { { "split.no", s->no }, { "split.count", s->count },
                 { "split.tensors.count", s->total } };
    for (size_t i = 0; i < 3; i++)
        if (keys[i].value >= 0) {
            gw_key(&w, keys[i].key, i < 2 ? GGUF_U16 : GGUF_I32);
            gw_int(&w.keys, (uint64_t)keys[i].value, i < 2 ? 2 : 4);
        }
    if (s->tensor)
        gw_tensor(&w, s->tensor, TENSOR_F32, (const uint64_t[4]){ 4, 4 });
    save(f, name, &w, path, room);
    gguf_writer_finish(&w);
}

static void remove_shards(const struct folder *f)
{
    char path[128];
    for (int i = 1; i <= 3; i++) {
        snprintf(path, sizeof path, "%s/m-%05d-of-00003.gguf", f->path, i);
        unlink(path);
    }
}

static void shards_are_one_model(void **state)
{
    (void)state;
    struct folder f = folder_make();
    char first[128], path[128];
    save_shard(&f, "m-00001-of-00003.gguf", &(struct split){ 0, 3, 3, "llama", "a" }, first,
               sizeof first);
    save_shard(&f, "m-00002-of-00003.gguf", &(struct split){ 1, 3, 3, NULL, "b" }, path, sizeof path);
    save_shard(&f, "m-00003-of-00003.gguf", &(struct split){ 2, 3, 3, "llama", "c" }, path,
               sizeof path);
    struct gguf *g;
    struct err e;
    assert_int_equal(gguf_open(first, &g, &e), ERR_OK);
    assert_int_equal(gguf_n_files(g), 3);
    assert_int_equal(gguf_n_tensors(g), 3);
    assert_string_equal(gguf_name(g, 2), "m-00003-of-00003.gguf");
    float x[16];
    for (uint32_t i = 0; i < 3; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        assert_int_equal(t->file, i);
        assert_int_equal(t->name.p[0], 'a' + (int)i);
        assert_int_equal(gguf_read_tensor(g, t, 0, sizeof x, x, &e), ERR_OK);
        assert_true(x[1] == 1.0f + 1.0f / 64);
    }
    gguf_close(g);
    assert_int_equal(gguf_open(path, &g, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "-00001-of-00003.gguf"));
    remove_shards(&f);
    rmdir(f.path);
}

static void shards_that_do_not_fit_are_errors(void **state)
{
    (void)state;
    const struct {
        struct split second;
        enum err_code code;
        const char *words;
    } rows[] = {
        { { 1, 3, 3, NULL, "a" }, ERR_FORMAT, "tensor 'a' is there twice" },
        { { 2, 3, 3, NULL, "b" }, ERR_FORMAT, "keys say shard 2 of 3" },
        { { 1, 4, 3, NULL, "b" }, ERR_FORMAT, "keys say shard 1 of 4" },
        { { -1, 3, 3, NULL, "b" }, ERR_FORMAT, "keys say shard -1" },
        { { 1, 3, 3, "qwen2", "b" }, ERR_FORMAT, "general.architecture" },
        { { 1, 3, 3, NULL, NULL }, ERR_FORMAT, "'split.tensors.count' is 3, but the shards hold 2" },
    };
    struct folder f = folder_make();
    char first[128], path[128];
    struct gguf *g;
    struct err e;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        save_shard(&f, "m-00001-of-00003.gguf", &(struct split){ 0, 3, 3, "llama", "a" }, first,
                   sizeof first);
        save_shard(&f, "m-00002-of-00003.gguf", &rows[i].second, path, sizeof path);
        save_shard(&f, "m-00003-of-00003.gguf", &(struct split){ 2, 3, 3, NULL, "c" }, path,
                   sizeof path);
        enum err_code c = gguf_open(first, &g, &e);
        if (c != rows[i].code || !strstr(e.text, rows[i].words))
            fail_msg("row %zu: %s \"%s\"", i, err_name(c), e.text);
        gguf_close(g);
    }
    unlink(path);
    save_shard(&f, "m-00002-of-00003.gguf", &(struct split){ 1, 3, 3, NULL, "b" }, path, sizeof path);
    assert_int_equal(gguf_open(first, &g, &e), ERR_NOT_FOUND);
    assert_string_equal(e.text, "shard 3 of 3: opening m-00003-of-00003.gguf: No such file or directory");
    save_shard(&f, "alone.gguf", &(struct split){ 0, 3, 3, "llama", "a" }, path, sizeof path);
    assert_int_equal(gguf_open(path, &g, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "its name must end in -00001-of-00003.gguf"));
    unlink(path);
    save_shard(&f, "alone.gguf", &(struct split){ 0, 60000, 3, "llama", "a" }, path, sizeof path);
    assert_int_equal(gguf_open(path, &g, &e), ERR_TOO_LARGE);
    unlink(path);
    remove_shards(&f);
    rmdir(f.path);
}

/* ---- memory and time -------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct folder f = folder_make();
    char first[128], path[128];
    save_shard(&f, "m-00001-of-00003.gguf", &(struct split){ 0, 3, 3, "llama", "a" }, first,
               sizeof first);
    save_shard(&f, "m-00002-of-00003.gguf", &(struct split){ 1, 3, 3, NULL, "b" }, path, sizeof path);
    save_shard(&f, "m-00003-of-00003.gguf", &(struct split){ 2, 3, 3, NULL, "c" }, path, sizeof path);
    uint64_t live = mem_live();
    for (int sticky = 0; sticky < 2; sticky++) {
        enum err_code c = ERR_NO_MEMORY;
        int n = 0;
        for (; c != ERR_OK; n++) {
            struct gguf *g;
            struct err e;
            mem_fail_after((uint64_t)n + 1, sticky);
            c = gguf_open(first, &g, &e);
            mem_fail_after(0, false);
            assert_true(c == ERR_OK || c == ERR_NO_MEMORY);
            gguf_close(g);
            assert_int_equal(mem_live(), live);
        }
        assert_true(n > 15);
    }
    remove_shards(&f);
    rmdir(f.path);
}

static void the_most_keys_and_tensors_take_no_time(void **state)
{
    (void)state;
    struct gguf_writer w = begun(NULL);
    char name[32];
    for (uint32_t i = 0; i < GGUF_MAX_KEYS; i++) {
        snprintf(name, sizeof name, "k%08u", (i * 2654435761u) % 4000000000u);
        gw_bool(&w, name, true);
    }
    for (uint32_t i = 0; i < GGUF_MAX_TENSORS; i++) {
        snprintf(name, sizeof name, "t%08u", GGUF_MAX_TENSORS - i);
        gw_tensor_at(&w, name, TENSOR_F32, 1, (const uint64_t[]){ 1 },
                     32 * (uint64_t)(i % 2 ? i : GGUF_MAX_TENSORS - 2 - i));
    }
    size_t n;
    unsigned char *p = gw_file(&w, false, &n, NULL);
    struct gguf *g;
    struct err e;
    uint64_t before = mem_count();
    assert_int_equal(gguf_open_memory(p, n, n + 32 * (uint64_t)GGUF_MAX_TENSORS, &g, &e), ERR_OK);
    assert_true(mem_count() - before < 64);
    assert_non_null(gguf_find_tensor(g, STR("t00000001")));
    assert_null(gguf_find_tensor(g, STR("t00000000")));
    gguf_close(g);
    mem_free(p);
    gguf_writer_finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(absent_keys_leave_defaults_and_wrong_ones_say_so),
        cmocka_unit_test(walks_arrays),
        cmocka_unit_test(finds_and_reads_tensors),
        cmocka_unit_test(refuses_what_is_no_gguf),
        cmocka_unit_test(refuses_wrong_counts),
        cmocka_unit_test(refuses_wrong_keys),
        cmocka_unit_test(refuses_wrong_alignment),
        cmocka_unit_test(refuses_wrong_tensors),
        cmocka_unit_test(refuses_overlap_and_equal_names),
        cmocka_unit_test(quotes_hostile_names),
        cmocka_unit_test(a_file_cut_anywhere_is_an_error),
        cmocka_unit_test(a_file_with_any_byte_changed_is_safe),
        cmocka_unit_test(a_big_header_is_read_in_pieces),
        cmocka_unit_test(what_is_no_file_is_an_error),
        cmocka_unit_test(shards_are_one_model),
        cmocka_unit_test(shards_that_do_not_fit_are_errors),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_most_keys_and_tensors_take_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
