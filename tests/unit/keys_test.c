/* The store's key pair: what is written is OpenSSH's form, what is read is that form and nothing less. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include "runtime/base/log.h"
#include "store/keys.h"
#include "tests/store/place.h"

/* RFC 8032, 7.1, test 1 */
static const uint8_t seed[32] = { 0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
                                  0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
                                  0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60 };
static const uint8_t public[32] = { 0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe,
                                    0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6,
                                    0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a };
static const char signature_of_nothing[] =
    "5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==";
static const char public_text[] =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

/* ---- a private file, field by field ------------------------------------------------------------- */

enum field {
    MAGIC, CIPHER, KDF, OPTIONS, COUNT, OUTER_PUBLIC,
    CHECK, CHECK_AGAIN, TYPE, PUBLIC, BOTH, COMMENT, N_FIELDS
};
#define FIRST_INNER CHECK

struct value {
    const void *p;
    size_t n;
};

static bool is_bare(enum field f) /* without its length before it */
{
    return f == MAGIC || f == COUNT || f == CHECK || f == CHECK_AGAIN;
}

static void put_field(struct buf *b, enum field f, struct value v)
{
    if (!is_bare(f)) {
        uint8_t n[4] = { 0, 0, (uint8_t)(v.n >> 8), (uint8_t)v.n };
        buf_put(b, n, sizeof n);
    }
    buf_put(b, v.p, v.n);
}

/* The bytes between the file's first and last line; `other` in the place of field `f`. */
static struct buf blob_with(enum field f, struct value other)
{
    struct buf both, outer, b, part;
    buf_init(&both, 64);
    buf_init(&outer, 256);
    buf_init(&b, 4096);
    buf_init(&part, 2048);
    buf_put(&both, seed, 32);
    buf_put(&both, public, 32);
    put_field(&outer, TYPE, (struct value){ "ssh-ed25519", 11 });
    put_field(&outer, PUBLIC, (struct value){ public, 32 });
    const struct value fields[N_FIELDS] = {
        [MAGIC] = { "openssh-key-v1", 15 }, [CIPHER] = { "none", 4 }, [KDF] = { "none", 4 }, [OPTIONS] = { "", 0 },
        [COUNT] = { "\0\0\0\1", 4 },        [OUTER_PUBLIC] = { outer.p, outer.n },
        [CHECK] = { "\1\2\3\4", 4 },        [CHECK_AGAIN] = { "\1\2\3\4", 4 },
        [TYPE] = { "ssh-ed25519", 11 },     [PUBLIC] = { public, 32 }, [BOTH] = { both.p, both.n },
        [COMMENT] = { "somebody", 8 },
    };
    for (enum field i = 0; i < N_FIELDS; i++)
        put_field(i < FIRST_INNER ? &b : &part, i, i == f ? other : fields[i]);
    for (char pad = 1; part.n % 8; pad++)
        buf_putc(&part, pad);
    put_field(&b, BOTH, (struct value){ part.p, part.n });
    buf_finish(&both);
    buf_finish(&outer);
    buf_finish(&part);
    return b;
}

static struct buf whole(void)
{
    return blob_with(N_FIELDS, (struct value){ 0 });
}

static void write_key(struct place *p, const void *bytes, size_t n)
{
    mkdir(in(p, "home/keys"), 0700);
    write_file(in(p, "home/keys/id_ed25519"), bytes, n);
    assert_int_equal(chmod(in(p, "home/keys/id_ed25519"), 0600), 0);
}

#define HEAD "-----BEGIN OPENSSH PRIVATE KEY-----"
#define TAIL "-----END OPENSSH PRIVATE KEY-----"

/* `end` behind each line of 70 digits, and `extra` behind the last digit. */
static void write_blob(struct place *p, const struct buf *blob, size_t n, const char *end, const char *extra)
{
    char digits[8192];
    struct buf text;
    int all = EVP_EncodeBlock((unsigned char *)digits, (const unsigned char *)blob->p, (int)n);
    buf_init(&text, 16384);
    buf_printf(&text, "%s%s", HEAD, end);
    for (int i = 0; i < all; i += 70)
        buf_printf(&text, "%.70s%s", digits + i, i + 70 < all ? end : "");
    buf_printf(&text, "%s%s%s%s", extra, end, TAIL, end);
    write_key(p, text.p, text.n);
    buf_finish(&text);
}

static enum err_code ask(struct place *p, char *out, size_t n, struct err *e)
{
    struct buf b;
    buf_init(&b, 1024);
    enum err_code code = keys_public(p->s, &b, e);
    snprintf(out, n, "%s", code ? "" : b.p);
    buf_finish(&b);
    return code;
}

static void assert_is_read(struct place *p, const char *how)
{
    char text[256];
    struct err e = { 0 };
    if (ask(p, text, sizeof text, &e))
        fail_msg("%s: %s", how, e.text);
    assert_string_equal(text, public_text);
}

static void assert_is_refused(struct place *p, const char *how, enum err_code code, const char *sentence)
{
    char text[256];
    struct err e = { 0 };
    if (ask(p, text, sizeof text, &e) != code || !strstr(e.text, sentence))
        fail_msg("%s: '%s' '%s'", how, text, e.text);
}

static const char no_key[] = "is no ed25519 key in OpenSSH's format";

/* ---- reading --------------------------------------------------------------------------------------- */

static void a_key_of_others_is_used(void **state)
{
    struct place *p = *state;
    struct buf blob = whole(), b;
    reopen(p);
    static const char *const ends[] = { "\n", "\r\n" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        write_blob(p, &blob, blob.n, ends[i], "");
        assert_is_read(p, "by lines");
    }
    buf_init(&b, 1024);
    ok(keys_sign(p->s, STR(""), &b, e));
    assert_string_equal(strchr(b.p, ':') + 1, signature_of_nothing);
    assert_memory_equal(b.p, public_text + strlen("ssh-ed25519 "), strlen(public_text) - strlen("ssh-ed25519 "));
    buf_finish(&b);
    buf_finish(&blob);
}

static void each_field_is_looked_at(void **state)
{
    struct place *p = *state;
    uint8_t other[65], longer[33] = { 0 }, pair[65] = { 0 };
    memset(other, 0x11, sizeof other);
    memcpy(longer, public, 32);
    memcpy(pair, seed, 32);
    memcpy(pair + 32, public, 32);
    const struct {
        const char *what;
        enum field field;
        struct value value;
        enum err_code code;
        const char *sentence;
    } rows[] = {
        { "another magic", MAGIC, { "openssh-key-v2", 15 }, ERR_FORMAT, no_key },
        { "a passphrase", CIPHER, { "aes256-ctr", 10 }, ERR_CONFLICT, "has a passphrase" },
        { "two keys", COUNT, { "\0\0\0\2", 4 }, ERR_FORMAT, no_key },
        { "check words that differ", CHECK_AGAIN, { "\1\2\3\5", 4 }, ERR_FORMAT, no_key },
        { "another type", TYPE, { "ssh-ed25510", 11 }, ERR_FORMAT, no_key },
        { "a short public part", PUBLIC, { public, 31 }, ERR_FORMAT, no_key },
        { "a public part too long", PUBLIC, { longer, 33 }, ERR_FORMAT, no_key },
        { "another public part", PUBLIC, { other, 32 }, ERR_FORMAT, no_key },
        { "a short private part", BOTH, { other, 63 }, ERR_FORMAT, no_key },
        { "a private part too long", BOTH, { pair, 65 }, ERR_FORMAT, no_key },
        { "another private part", BOTH, { other, 64 }, ERR_FORMAT, no_key },
    };
    reopen(p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf blob = blob_with(rows[i].field, rows[i].value);
        write_blob(p, &blob, blob.n, "\n", "");
        assert_is_refused(p, rows[i].what, rows[i].code, rows[i].sentence);
        buf_finish(&blob);
    }
}

/* Wherever it ends before its last field, and where a length says more than there is. */
static void what_is_cut_off_is_refused(void **state)
{
    struct place *p = *state;
    struct buf blob = whole();
    char how[32];
    reopen(p);
    for (size_t n = 0; n < blob.n - 1; n++) {
        snprintf(how, sizeof how, "%zu bytes", n);
        write_blob(p, &blob, n, "\n", "");
        assert_is_refused(p, how, ERR_FORMAT, no_key);
    }
    blob.p[15 + 3] = (char)0xff; /* the cipher's length */
    blob.p[15 + 2] = (char)0xff;
    write_blob(p, &blob, blob.n, "\n", "");
    assert_is_refused(p, "a long cipher", ERR_FORMAT, no_key);
    buf_finish(&blob);
}

static void each_line_is_looked_at(void **state)
{
    struct place *p = *state;
    struct buf blob = whole();
    static const char *const extras[] = { "!", "=\nAAAA", "A" };
    static const char *const texts[] = { "", HEAD "\n", HEAD, TAIL "\n",
                                         "-----BEGIN OPENSSH PRIVATE KEY-----END OPENSSH PRIVATE KEY-----",
                                         "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n" };
    char text[32];
    size_t n;
    reopen(p);
    for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
        write_blob(p, &blob, blob.n, "\n", extras[i]);
        assert_is_refused(p, extras[i], ERR_FORMAT, no_key);
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_key(p, texts[i], strlen(texts[i]));
        assert_is_refused(p, texts[i], ERR_FORMAT, no_key);
    }
    write_blob(p, &blob, blob.n, "\n", "");
    char *whole_text = read_file(in(p, "home/keys/id_ed25519"), &n);
    write_key(p, whole_text, n - 2);
    assert_is_refused(p, "a last line that is cut off", ERR_FORMAT, no_key);
    write_key(p, whole_text + 1, n - 1);
    assert_is_refused(p, "a first line that is cut off", ERR_FORMAT, no_key);
    whole_text[n - strlen(TAIL "\n") - 8] = '!'; /* within the comment */
    write_key(p, whole_text, n);
    assert_is_refused(p, "a byte that is no digit", ERR_FORMAT, no_key);
    memcpy(whole_text + n - strlen(TAIL "\n") - 8, "=\n\n\n\n\n\n\n", 8);
    write_key(p, whole_text, n);
    assert_is_refused(p, "half a byte", ERR_FORMAT, no_key);
    free(whole_text);
    for (size_t size = 16383; size <= 16384; size++) { /* of line ends, as many as are read at once */
        char *padded = malloc(size);
        write_blob(p, &blob, blob.n, "\n", "");
        whole_text = read_file(in(p, "home/keys/id_ed25519"), &n);
        memset(padded, '\n', size);
        memcpy(padded, whole_text, n);
        write_key(p, padded, size);
        snprintf(text, sizeof text, "%zu bytes", size);
        if (size < 16384)
            assert_is_read(p, text);
        else
            assert_is_refused(p, text, ERR_FORMAT, no_key);
        free(whole_text);
        free(padded);
    }
    buf_finish(&blob);
}

/* Where a key stands that cannot be opened, none takes its place. */
static void what_cannot_be_read_stays(void **state)
{
    struct place *p = *state;
    reopen(p);
    assert_int_equal(mkdir(in(p, "home/keys"), 0700), 0);
    assert_int_equal(symlink("elsewhere", in(p, "home/keys/id_ed25519")), 0);
    assert_is_refused(p, "a link", ERR_IO, "opening keys/id_ed25519");
    assert_int_equal(unlink(in(p, "home/keys/id_ed25519")), 0);
    assert_int_equal(mkdir(in(p, "home/keys/id_ed25519"), 0700), 0);
    assert_is_refused(p, "a directory", ERR_IO, "reading keys/id_ed25519");
    assert_int_equal(rmdir(in(p, "home/keys/id_ed25519")), 0);
    assert_int_equal(mkdir(in(p, "home/keys/new"), 0700), 0);
    assert_is_refused(p, "a directory in the way", ERR_IO, "File exists");
    assert_int_equal(rmdir(in(p, "home/keys/new")), 0);
    assert_int_equal(rmdir(in(p, "home/keys")), 0);
    write_file(in(p, "home/keys"), "", 0);
    assert_is_refused(p, "a file", ERR_IO, "opening keys/ in the store");
}

/* ---- the warning ----------------------------------------------------------------------------------- */

static bool warns(struct place *p)
{
    size_t n;
    int log = open(in(p, "log"), O_RDWR | O_CREAT | O_TRUNC, 0600), was = dup(2);
    dup2(log, 2);
    log_set_level(LOG_WARN);
    assert_is_read(p, "open to others");
    log_set_level(LOG_ERROR);
    dup2(was, 2);
    close(was);
    close(log);
    char *text = read_file(in(p, "log"), &n);
    text[n] = '\0';
    bool warned = strstr(text, "others may read the store's private key") != NULL;
    free(text);
    return warned;
}

static void a_key_that_others_may_read_is_told_of(void **state)
{
    struct place *p = *state;
    struct buf blob = whole();
    static const mode_t open_to[] = { 0640, 0604, 0620 };
    reopen(p);
    write_blob(p, &blob, blob.n, "\n", "");
    assert_false(warns(p));
    for (size_t i = 0; i < sizeof open_to / sizeof *open_to; i++) {
        assert_int_equal(chmod(in(p, "home/keys/id_ed25519"), open_to[i]), 0);
        assert_true(warns(p));
    }
    buf_finish(&blob);
}

/* ---- making one ------------------------------------------------------------------------------------- */

static void remove_keys(struct place *p)
{
    static const char *const names[] = { "home/keys/id_ed25519", "home/keys/id_ed25519.pub", "home/keys/new" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in(p, names[i]));
    rmdir(in(p, "home/keys"));
}

static void assert_modes(struct place *p)
{
    assert_int_equal(mode_of(p->home, "keys"), 0700);
    assert_int_equal(mode_of(p->home, "keys/id_ed25519"), 0600);
    assert_int_equal(mode_of(p->home, "keys/id_ed25519.pub"), 0600);
}

static void assert_public_is(struct place *p, const char *text)
{
    char line[300];
    int n = snprintf(line, sizeof line, "%s hearth\n", text);
    assert_file_is(in(p, "home/keys/id_ed25519.pub"), line, (size_t)n);
}

/* The bytes between the lines of the private file; free() them. */
static uint8_t *private_bytes(struct place *p, size_t *n)
{
    char *text = read_file(in(p, "home/keys/id_ed25519"), n), digits[1024];
    size_t have = 0, head = strlen(HEAD "\n"), tail = strlen(TAIL "\n");
    assert_memory_equal(text, HEAD "\n", head);
    assert_memory_equal(text + *n - tail, TAIL "\n", tail);
    for (size_t i = head, at = 0; i < *n - tail; i++) {
        at = text[i] == '\n' ? 0 : at + 1;
        assert_true(at <= 70);
        if (text[i] != '\n')
            digits[have++] = text[i];
    }
    uint8_t *out = malloc(have);
    int all = EVP_DecodeBlock(out, (const unsigned char *)digits, (int)have);
    assert_true(all > 0);
    *n = (size_t)all;
    for (size_t i = have; digits[i - 1] == '='; i--)
        --*n;
    free(text);
    return out;
}

static void a_new_pair_is_as_openssh_has_it(void **state)
{
    struct place *p = *state;
    static const mode_t masks[] = { 0, 077 };
    char first[256] = "", text[256], line[300];
    size_t n;
    reopen(p);
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        remove_keys(p);
        mode_t before = umask(masks[i]);
        enum err_code code = ask(p, text, sizeof text, NULL);
        umask(before);
        assert_int_equal(code, ERR_OK);
        assert_modes(p);
        assert_string_not_equal(text, first); /* another each time */
        memcpy(first, text, sizeof first);
        assert_public_is(p, text);
    }
    uint8_t *b = private_bytes(p, &n);
    static const char expected[] = "openssh-key-v1\0\0\0\0\4none\0\0\0\4none\0\0\0\0\0\0\0\1"
                                   "\0\0\0\63\0\0\0\13ssh-ed25519\0\0\0\40";
    size_t at = sizeof expected - 1;
    assert_memory_equal(b, expected, at);
    const uint8_t *shown = b + at, *part = shown + 32 + 4;
    EVP_EncodeBlock((unsigned char *)line, b + at - 19, 51);
    assert_string_equal(line, text + strlen("ssh-ed25519 "));
    assert_int_equal((size_t)(part - b) + part[-1], n);
    assert_int_equal((n - (size_t)(part - b)) % 8, 0);
    assert_memory_equal(part, part + 4, 4);
    assert_memory_equal(part + 8 + 4, "ssh-ed25519", 11);
    assert_memory_equal(part + 8 + 19, shown, 32);
    assert_memory_equal(part + 8 + 19 + 32 + 4 + 32, shown, 32);
    assert_memory_equal(part + 8 + 19 + 32 + 4 + 64 + 4, "hearth\1\2\3", 9);
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, part + 8 + 19 + 32 + 4, 32);
    uint8_t derived[32];
    size_t n_derived = sizeof derived;
    assert_int_equal(EVP_PKEY_get_raw_public_key(key, derived, &n_derived), 1);
    assert_memory_equal(derived, shown, 32);
    EVP_PKEY_free(key);
    free(b);
}

/* Each file operation fails in turn, and a process that was killed has left half of a pair: there is a whole
 * pair in the end, or none and the rest is as it was. */
static void half_of_a_pair_is_none(void **state)
{
    struct place *p = *state;
    char long_ago[20000], text[256], again[256];
    bool done = false;
    memset(long_ago, 'x', sizeof long_ago);
    reopen(p);
    for (unsigned n = 1; !done; n++) {
        struct stat st;
        struct err why = { 0 };
        remove_keys(p);
        assert_int_equal(mkdir(in(p, "home/keys"), 0700), 0);
        write_file(in(p, "home/keys/new"), long_ago, sizeof long_ago);
        uint64_t before = fault_count();
        fault_after(n, EIO, false);
        enum err_code code = ask(p, text, sizeof text, &why);
        fault_after(0, 0, false);
        done = fault_count() - before < n;
        if (code) {
            assert_true(why.text[0]);
        } else {
            assert_modes(p);
            assert_public_is(p, text);
        }
        assert_true(stat(in(p, "home/keys/new"), &st) < 0 || (code && st.st_size == sizeof long_ago));
        ok(ask(p, again, sizeof again, e));
        if (!code)
            assert_string_equal(text, again);
        assert_true(n < 100);
    }
}

static unsigned syncs, failing_sync;

static int count_sync(int fd)
{
    if (++syncs != failing_sync)
        return file_system.sync(fd);
    errno = EIO;
    return -1;
}

static int no_mode(int fd, mode_t mode)
{
    (void)fd, (void)mode;
    errno = EPERM;
    return -1;
}

static void a_mode_that_cannot_be_set_is_an_error(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    reopen(p);
    store_close(p->s);
    ops.mode = no_mode;
    ok(store_open_with(&ops, p->home, &p->s, e));
    assert_is_refused(p, "a mode that cannot be set", ERR_IO, "Operation not permitted");
    store_close(p->s);
    p->s = NULL;
}

/* Of the home, of both files, and of their names. */
static void each_sync_counts(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    char text[256];
    ops.sync = count_sync;
    ok(store_open_with(&ops, p->home, &p->s, e));
    for (unsigned n = 1; n <= 4; n++) {
        remove_keys(p);
        syncs = 0;
        failing_sync = n;
        assert_is_refused(p, "a sync that failed", ERR_IO, "Input/output error");
    }
    remove_keys(p);
    syncs = failing_sync = 0;
    ok(ask(p, text, sizeof text, e));
    assert_int_equal(syncs, 4);
    store_close(p->s);
    p->s = NULL;
}

/* It is not the key that is at fault. */
/* A pair that is made while memory runs out, once or for ever: none, or one that can be read afterwards. */
static void a_pair_is_made_whole_or_not_at_all(void **state)
{
    struct place *p = *state;
    char made[256], read[256];
    reopen(p);
    for (int on = 0; on < 2; on++)
        for (uint64_t n = 1, good = 0; good < 3; n++) {
            unlink(in(p, "home/keys/id_ed25519"));
            unlink(in(p, "home/keys/id_ed25519.pub"));
            alarm(30); /* it must end */
            mem_fail_after(n, on);
            enum err_code code = ask(p, made, sizeof made, NULL);
            mem_fail_after(0, false);
            alarm(0);
            good += !code;
            ok(ask(p, read, sizeof read, e));
            if (!code)
                assert_string_equal(made, read);
        }
}

static void without_memory_no_key_is_called_bad(void **state)
{
    struct place *p = *state;
    char text[256];
    enum err_code code = ERR_NO_MEMORY;
    reopen(p);
    ok(ask(p, text, sizeof text, e));
    for (unsigned n = 1; code; n++) {
        mem_fail_after(n, false);
        code = ask(p, text, sizeof text, NULL);
        mem_fail_after(0, false);
        assert_true(n > 1 || code);
        assert_true(code == ERR_OK || code == ERR_NO_MEMORY);
    }
}

/* ---- OpenSSL fails ----------------------------------------------------------------------------------- */

static const char *failing; /* the call that does */

#define FAILS(name, bad, type, params, args)                                                       \
    type __real_##name params;                                                                     \
    type __wrap_##name params;                                                                     \
    type __wrap_##name params                                                                      \
    {                                                                                              \
        return failing && strcmp(failing, #name) == 0 ? bad : __real_##name args;                  \
    }
FAILS(RAND_bytes, 0, int, (unsigned char *p, int n), (p, n))
FAILS(RAND_priv_bytes, 0, int, (unsigned char *p, int n), (p, n))
FAILS(EVP_PKEY_new_raw_private_key, NULL, EVP_PKEY *, (int type, ENGINE *x, const unsigned char *k, size_t n),
      (type, x, k, n))
FAILS(EVP_PKEY_get_raw_public_key, 0, int, (const EVP_PKEY *k, unsigned char *p, size_t *n), (k, p, n))
FAILS(EVP_MD_CTX_new, NULL, EVP_MD_CTX *, (void), ())
FAILS(EVP_DigestSignInit, 0, int, (EVP_MD_CTX *c, EVP_PKEY_CTX **x, const EVP_MD *m, ENGINE *y, EVP_PKEY *k),
      (c, x, m, y, k))
FAILS(EVP_DigestSign, 0, int, (EVP_MD_CTX *c, unsigned char *s, size_t *n, const unsigned char *p, size_t m),
      (c, s, n, p, m))

static void without_openssl_there_is_no_key(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *call;
        bool made; /* the pair; it is the signature that fails */
    } rows[] = { { "RAND_bytes", false }, { "RAND_priv_bytes", false }, { "EVP_PKEY_new_raw_private_key", false },
                 { "EVP_PKEY_get_raw_public_key", false }, { "EVP_PKEY_new_raw_private_key", true },
                 { "EVP_MD_CTX_new", true }, { "EVP_DigestSignInit", true }, { "EVP_DigestSign", true } };
    struct buf b;
    char text[256];
    reopen(p);
    buf_init(&b, 1024);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        remove_keys(p);
        if (rows[i].made)
            ok(ask(p, text, sizeof text, e));
        failing = rows[i].call;
        enum err_code code = keys_sign(p->s, STR("text"), &b, NULL);
        failing = NULL;
        if (!code || b.n)
            fail_msg("without %s there is a signature", rows[i].call);
        assert_int_equal(access(in(p, "home/keys/id_ed25519"), F_OK) == 0, rows[i].made);
    }
    buf_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_in_memory, teardown)
        T(a_key_of_others_is_used),
        T(each_field_is_looked_at),
        T(what_is_cut_off_is_refused),
        T(each_line_is_looked_at),
        T(what_cannot_be_read_stays),
        T(a_key_that_others_may_read_is_told_of),
        T(a_new_pair_is_as_openssh_has_it),
        T(half_of_a_pair_is_none),
        T(a_mode_that_cannot_be_set_is_an_error),
        T(each_sync_counts),
        T(a_pair_is_made_whole_or_not_at_all),
        T(without_memory_no_key_is_called_bad),
        T(without_openssl_there_is_no_key),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
