#include "store/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "runtime/base/log.h"
#include "store/store_priv.h"

#define SEED 32
#define PUBLIC 32
#define SIGNATURE 64
#define FILE_MAX 16384
#define LINE 51 /* bytes in a line of the file */

static const char file_private[] = "id_ed25519", file_public[] = "id_ed25519.pub";
static const char type[] = "ssh-ed25519", magic[] = "openssh-key-v1", comment[] = "hearth";
static const char head[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n",
                  tail[] = "-----END OPENSSH PRIVATE KEY-----\n";

struct key {
    uint8_t seed[SEED], public[PUBLIC];
};

/* ---- base64 ---------------------------------------------------------------------------------- */

void keys_base64(struct buf *out, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16;
        v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
        v |= i + 2 < n ? p[i + 2] : 0;
        buf_putc(out, digits[v >> 18]);
        buf_putc(out, digits[v >> 12 & 63]);
        buf_putc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
        buf_putc(out, i + 2 < n ? digits[v & 63] : '=');
    }
}

static int base64_value(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Line ends are passed over; padding ends it. */
static bool unbase64(struct str s, struct buf *out)
{
    uint32_t v = 0;
    size_t digits = 0, i = 0;
    for (; i < s.n && s.p[i] != '='; i++) {
        if (s.p[i] == '\n' || s.p[i] == '\r')
            continue;
        int d = base64_value(s.p[i]);
        if (d < 0)
            return false;
        v = v << 6 | (uint32_t)d;
        if (++digits % 4 != 1)
            buf_putc(out, (char)(v >> (6 - 2 * ((digits + 3) % 4)) & 0xff));
    }
    for (; i < s.n; i++)
        if (!strchr("=\r\n", s.p[i]))
            return false;
    return digits % 4 != 1;
}

/* ---- OpenSSH's format ------------------------------------------------------------------------ */

static void put_u32(struct buf *b, size_t v)
{
    const uint8_t bytes[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
    buf_put(b, bytes, sizeof bytes);
}

static void put_string(struct buf *b, const void *p, size_t n)
{
    put_u32(b, n);
    buf_put(b, p, n);
}

static void put_public(struct buf *b, const struct key *k)
{
    put_string(b, type, strlen(type));
    put_string(b, k->public, PUBLIC);
}

static void put_base64_public(struct buf *b, const struct key *k)
{
    struct buf blob;
    buf_init(&blob, 256);
    put_public(&blob, k);
    keys_base64(b, blob.p, blob.failed ? 0 : blob.n);
    b->failed |= blob.failed;
    buf_finish(&blob);
}

static void put_private_part(struct buf *b, const struct key *k, uint32_t check)
{
    uint8_t both[SEED + PUBLIC];
    memcpy(both, k->seed, SEED);
    memcpy(both + SEED, k->public, PUBLIC);
    put_u32(b, check);
    put_u32(b, check);
    put_public(b, k);
    put_string(b, both, sizeof both);
    put_string(b, comment, strlen(comment));
    for (uint8_t pad = 1; b->n % 8 && !b->failed; pad++)
        buf_put(b, &pad, 1);
    OPENSSL_cleanse(both, sizeof both);
}

/* The lines of the private file. */
static void put_file(struct buf *out, const struct key *k, uint32_t check)
{
    struct buf blob, part;
    buf_init(&blob, 1024);
    buf_init(&part, 512);
    buf_put(&blob, magic, sizeof magic); /* with its NUL */
    put_string(&blob, "none", 4);
    put_string(&blob, "none", 4);
    put_u32(&blob, 0);
    put_u32(&blob, 1);
    put_public(&part, k);
    put_string(&blob, part.p, part.n);
    blob.failed |= part.failed; /* which is forgotten now */
    buf_clear(&part);
    put_private_part(&part, k, check);
    put_string(&blob, part.p, part.n);
    buf_puts(out, head);
    for (size_t i = 0, step = LINE; i < blob.n && !blob.failed && !part.failed; i += step) {
        keys_base64(out, blob.p + i, blob.n - i < step ? blob.n - i : step);
        buf_putc(out, '\n');
    }
    buf_puts(out, tail);
    out->failed |= blob.failed || part.failed;
    if (blob.p)
        OPENSSL_cleanse(blob.p, blob.n);
    if (part.p)
        OPENSSL_cleanse(part.p, part.n);
    buf_finish(&blob);
    buf_finish(&part);
}

/* The next string. Where there is none it and all that follow are empty. */
static struct str get_string(struct str *from)
{
    struct str all = *from;
    const uint8_t *p = (const uint8_t *)all.p;
    *from = (struct str){ 0 };
    if (all.n < 4)
        return *from;
    size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    if (n > all.n - 4)
        return *from;
    *from = (struct str){ all.p + 4 + n, all.n - 4 - n };
    return (struct str){ all.p + 4, n };
}

static enum err_code bad_key(struct err *e)
{
    return err_set(e, ERR_FORMAT,
                   "keys/%s in the store is no ed25519 key in OpenSSH's format: remove it, and a new one "
                   "is made",
                   file_private);
}

static enum err_code read_private_part(struct str s, struct key *k, struct err *e)
{
    if (s.n < 8 || memcmp(s.p, s.p + 4, 4) != 0)
        return bad_key(e);
    s = (struct str){ s.p + 8, s.n - 8 };
    struct str kind = get_string(&s), public = get_string(&s), both = get_string(&s);
    if (!str_is(kind, type) || public.n != PUBLIC || both.n != SEED + PUBLIC ||
        memcmp(both.p + SEED, public.p, PUBLIC) != 0)
        return bad_key(e);
    memcpy(k->seed, both.p, SEED);
    memcpy(k->public, public.p, PUBLIC);
    return ERR_OK;
}

static enum err_code read_blob(struct str s, struct key *k, struct err *e)
{
    if (!str_starts(s, (struct str){ magic, sizeof magic }))
        return bad_key(e);
    s = (struct str){ s.p + sizeof magic, s.n - sizeof magic };
    struct str cipher = get_string(&s);
    get_string(&s); /* how a key is made of a passphrase, and with which options */
    get_string(&s);
    if (s.n && !str_is(cipher, "none"))
        return err_set(e, ERR_CONFLICT,
                       "keys/%s in the store has a passphrase, which nobody is here to type: take it off "
                       "(ssh-keygen -p -N '' -f), or remove the file",
                       file_private);
    if (s.n < 4 || memcmp(s.p, "\0\0\0\1", 4) != 0)
        return bad_key(e);
    s = (struct str){ s.p + 4, s.n - 4 };
    get_string(&s); /* the public part, which the private one has as well */
    return read_private_part(get_string(&s), k, e);
}

static enum err_code read_file(struct str text, struct key *k, struct err *e)
{
    struct buf blob;
    const struct str first = { head, strlen(head) - 1 }, last = { tail, strlen(tail) - 1 }; /* without line ends */
    while (text.n && strchr("\r\n", text.p[text.n - 1]))
        text.n--;
    if (!str_starts(text, first))
        return bad_key(e);
    text = (struct str){ text.p + first.n, text.n - first.n };
    if (!str_ends(text, last))
        return bad_key(e);
    text.n -= last.n;
    buf_init(&blob, FILE_MAX);
    enum err_code code = unbase64(text, &blob) ? ERR_OK : bad_key(e);
    if (blob.failed)
        code = err_no_memory(e, text.n, "reading the store's key");
    if (!code)
        code = read_blob(buf_str(&blob), k, e);
    if (blob.p)
        OPENSSL_cleanse(blob.p, blob.n);
    buf_finish(&blob);
    return code;
}

/* ---- the pair on the disk -------------------------------------------------------------------- */

static enum err_code make_key(struct key *k, struct err *e)
{
    size_t n = PUBLIC;
    EVP_PKEY *p = RAND_priv_bytes(k->seed, SEED) == 1
                      ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, k->seed, SEED)
                      : NULL;
    bool good = p && EVP_PKEY_get_raw_public_key(p, k->public, &n) == 1;
    EVP_PKEY_free(p);
    return good ? ERR_OK : err_set(e, ERR_INTERNAL, "making a key pair");
}

/* Whole or not: written beside its name, synced, then renamed. */
static enum err_code write_whole(struct store *s, int dir, const char *name, mode_t mode,
                                 struct str text, struct err *e)
{
    static const char aside[] = "new";
    const struct file_ops *ops = s->ops;
    ops->unlink(dir, aside);
    int fd = ops->open(dir, aside, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "making keys/%s in the store", name);
    bool good = ops->mode(fd, mode) == 0 && file_write_all(ops, fd, text.p, text.n, 0) && ops->sync(fd) == 0;
    int errnum = errno;
    ops->close(fd);
    if (good && ops->rename(dir, aside, dir, name) < 0) {
        errnum = errno;
        good = false;
    }
    if (good)
        return ERR_OK;
    ops->unlink(dir, aside);
    return err_errno(e, ERR_IO, errnum, "writing keys/%s in the store", name);
}

static enum err_code write_pair(struct store *s, int dir, const struct key *k, struct err *e)
{
    struct buf private, public;
    uint32_t check = 0;
    if (RAND_bytes((unsigned char *)&check, sizeof check) != 1)
        return err_set(e, ERR_INTERNAL, "making a key pair");
    buf_init(&private, FILE_MAX);
    buf_init(&public, 1024);
    put_file(&private, k, check);
    buf_printf(&public, "%s ", type);
    put_base64_public(&public, k);
    buf_printf(&public, " %s\n", comment);
    enum err_code code = private.failed || public.failed ? err_no_memory(e, FILE_MAX, "a key pair")
                                                         : ERR_OK;
    if (!code) /* the public one first: the pair is there once the private one is */
        code = write_whole(s, dir, file_public, 0600, buf_str(&public), e);
    if (!code)
        code = write_whole(s, dir, file_private, 0600, buf_str(&private), e);
    if (!code && s->ops->sync(dir) < 0)
        code = err_errno(e, ERR_IO, errno, "writing the store's key pair");
    if (private.p)
        OPENSSL_cleanse(private.p, private.n);
    buf_finish(&private);
    buf_finish(&public);
    return code;
}

static enum err_code read_key(struct store *s, int fd, struct key *k, struct err *e)
{
    char text[FILE_MAX];
    struct stat st;
    ssize_t n = s->ops->read(fd, text, sizeof text, 0);
    if (n < 0)
        return err_errno(e, ERR_IO, errno, "reading keys/%s in the store", file_private);
    if (s->ops->stat(fd, &st) == 0 && (st.st_mode & 077))
        log_line(LOG_WARN, "msg=\"others may read the store's private key\" file=keys/%s mode=%03o",
                 file_private, (unsigned)st.st_mode & 0777);
    enum err_code code = (size_t)n == sizeof text ? bad_key(e)
                                                  : read_file((struct str){ text, (size_t)n }, k, e);
    OPENSSL_cleanse(text, sizeof text);
    return code;
}

/* With the public key: its owner has to make it known to the registry. */
static void log_made(const struct key *k)
{
    struct buf b;
    buf_init(&b, 256);
    put_base64_public(&b, k);
    if (!b.failed)
        log_line(LOG_INFO, "msg=\"a key pair was made\" file=keys/%s key=\"%s %s\"", file_public, type, b.p);
    buf_finish(&b);
}

static enum err_code load_from(struct store *s, int dir, struct key *k, struct err *e)
{
    int fd = s->ops->open(dir, file_private, O_RDONLY, 0);
    if (fd >= 0) {
        enum err_code code = read_key(s, fd, k, e);
        s->ops->close(fd);
        return code;
    }
    if (errno != ENOENT)
        return err_errno(e, ERR_IO, errno, "opening keys/%s in the store", file_private);
    enum err_code code = make_key(k, e);
    if (!code)
        code = write_pair(s, dir, k, e);
    if (!code)
        log_made(k);
    return code;
}

static enum err_code load_key(struct store *s, struct key *k, struct err *e)
{
    static const char name[] = "keys";
    enum err_code code;
    pthread_mutex_lock(&s->mutex);
    int dir = -1;
    bool made = s->ops->make_dir(s->home_fd, name, 0700) == 0;
    if (made ? s->ops->sync(s->home_fd) == 0 : errno == EEXIST)
        dir = s->ops->open(s->home_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        code = err_errno(e, ERR_IO, errno, "opening keys/ in the store");
    } else {
        code = load_from(s, dir, k, e);
        s->ops->close(dir);
    }
    pthread_mutex_unlock(&s->mutex);
    return code;
}

/* ---- what it is for -------------------------------------------------------------------------- */

enum err_code keys_public(struct store *s, struct buf *out, struct err *e)
{
    struct key k;
    enum err_code code = load_key(s, &k, e);
    if (!code) {
        buf_printf(out, "%s ", type);
        put_base64_public(out, &k);
        code = out->failed ? err_no_memory(e, 256, "the public key") : ERR_OK;
    }
    OPENSSL_cleanse(&k, sizeof k);
    return code;
}

static bool sign(const struct key *k, struct str text, uint8_t out[SIGNATURE])
{
    size_t n = SIGNATURE;
    EVP_PKEY *p = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, k->seed, SEED);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    bool good = p && c && EVP_DigestSignInit(c, NULL, NULL, NULL, p) == 1 &&
                EVP_DigestSign(c, out, &n, (const unsigned char *)text.p, text.n) == 1;
    EVP_MD_CTX_free(c);
    EVP_PKEY_free(p);
    return good;
}

enum err_code keys_sign(struct store *s, struct str text, struct buf *out, struct err *e)
{
    struct key k;
    uint8_t signature[SIGNATURE];
    enum err_code code = load_key(s, &k, e);
    if (!code && !sign(&k, text, signature))
        code = err_no_memory(e, SIGNATURE, "signing with the store's key");
    if (!code) {
        put_base64_public(out, &k);
        buf_putc(out, ':');
        keys_base64(out, signature, sizeof signature);
        code = out->failed ? err_no_memory(e, 256, "signing with the store's key") : ERR_OK;
    }
    OPENSSL_cleanse(&k, sizeof k);
    return code;
}
