#include "store/journal.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/mem.h"

#define MAGIC "hearth download"
#define BATCH 1024 /* records read at once */
#define MAX_PIECES ((uint64_t)1 << 34)

/* ---- pieces ------------------------------------------------------------------------------------ */

enum err_code pieces_resize(struct pieces *p, uint64_t size, struct err *e)
{
    uint64_t n = size / PIECE_BYTES + (size % PIECE_BYTES != 0), cap = p->cap ? p->cap : 64;
    if (n > MAX_PIECES)
        return err_set(e, ERR_TOO_LARGE, "a file of %llu bytes is too large to download",
                       (unsigned long long)size);
    while (cap < n)
        cap *= 2;
    if (cap > p->cap) {
        uint8_t *bits = mem_resize(p->bits, (size_t)(cap / 8), 1);
        if (!bits)
            return err_no_memory(e, (size_t)(cap / 8), "the list of a download's pieces");
        memset(bits + p->cap / 8, 0, (size_t)((cap - p->cap) / 8));
        p->bits = bits;
        p->cap = cap;
    }
    p->size = size;
    p->n = n;
    return ERR_OK;
}

void pieces_finish(struct pieces *p)
{
    mem_free(p->bits);
    *p = (struct pieces){ 0 };
}

bool pieces_has(const struct pieces *p, uint64_t i)
{
    return i < p->cap && (p->bits[i / 8] >> (i % 8) & 1);
}

uint64_t piece_length(const struct pieces *p, uint64_t i)
{
    uint64_t left = p->size - i * PIECE_BYTES;
    return left < PIECE_BYTES ? left : PIECE_BYTES;
}

void pieces_add(struct pieces *p, uint64_t i)
{
    if (pieces_has(p, i))
        return;
    p->bits[i / 8] = (uint8_t)(p->bits[i / 8] | 1u << (i % 8));
    p->have += piece_length(p, i);
    while (p->frontier < p->n && pieces_has(p, p->frontier))
        p->frontier++;
}

void pieces_drop_last(struct pieces *p)
{
    uint64_t i = p->n - 1;
    if (!p->n || !pieces_has(p, i))
        return;
    p->bits[i / 8] = (uint8_t)(p->bits[i / 8] & ~(1u << (i % 8)));
    p->have -= piece_length(p, i);
    if (p->frontier > i)
        p->frontier = i;
}

uint64_t pieces_in_order(const struct pieces *p)
{
    return p->frontier < p->n ? p->frontier * PIECE_BYTES : p->size;
}

/* ---- checksum ---------------------------------------------------------------------------------- */

__extension__ typedef unsigned __int128 wide;

/* Both halves of the product, so that no bit of either factor is lost. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Four lanes, that the processor's multiplier is kept busy. */
uint64_t piece_sum(const void *bytes, size_t n)
{
    static const uint64_t k[4] = { 0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9,
                                   0xd6e8feb86659fd93 };
    uint64_t lane[4] = { k[0] ^ n, k[1], k[2], k[3] };
    const uint8_t *p = bytes;
    size_t left = n;
    for (; left >= 64; left -= 64, p += 64)
        for (size_t i = 0; i < 4; i++)
            lane[i] = fold(lane[i] ^ load(p + 16 * i), k[i] ^ load(p + 16 * i + 8)) + lane[i];
    uint8_t tail[64] = { 0 };
    memcpy(tail, p, left);
    for (size_t i = 0; i < 4; i++)
        lane[i] = fold(lane[i] ^ load(tail + 16 * i), k[i] ^ load(tail + 16 * i + 8)) + lane[i];
    uint64_t sum = fold(lane[0] ^ k[1], lane[1] ^ k[2]) ^ fold(lane[2] ^ k[3], lane[3] ^ k[0]);
    return fold(sum ^ k[0], k[3]) ^ sum;
}

/* ---- journal ----------------------------------------------------------------------------------- */

struct disk_head {
    char magic[16];
    struct journal_head head;
    uint64_t sum; /* of what is before it */
};

struct record {
    uint64_t piece, sum, check;
};

static uint64_t record_check(uint64_t piece, uint64_t sum)
{
    return fold(piece ^ 0xa0761d6478bd642f, sum ^ 0xe7037ed1a0b428db) ^ sum;
}

bool journal_read_head(struct journal *j, struct journal_head *h)
{
    struct disk_head d;
    if (file_read_all(j->ops, j->fd, &d, sizeof d, 0) != (ssize_t)sizeof d)
        return false;
    if (memcmp(d.magic, MAGIC, sizeof d.magic) != 0 ||
        d.sum != piece_sum(&d, offsetof(struct disk_head, sum)))
        return false;
    *h = d.head;
    h->etag[sizeof h->etag - 1] = h->origin[sizeof h->origin - 1] = '\0';
    j->end = sizeof d;
    return true;
}

static enum err_code journal_failed(struct err *e)
{
    return err_errno(e, ERR_IO, errno, "writing down what has been downloaded");
}

enum err_code journal_begin(struct journal *j, const struct journal_head *h, struct err *e)
{
    struct disk_head d;
    memset(&d, 0, sizeof d); /* the gaps as well: they are summed */
    memcpy(d.magic, MAGIC, sizeof d.magic);
    memcpy(&d.head, h, sizeof d.head);
    d.sum = piece_sum(&d, offsetof(struct disk_head, sum));
    if (!file_write_all(j->ops, j->fd, &d, sizeof d, 0))
        return journal_failed(e);
    j->end = sizeof d;
    return ERR_OK;
}

enum err_code journal_add(struct journal *j, uint64_t piece, uint64_t sum, struct err *e)
{
    struct record r = { piece, sum, record_check(piece, sum) };
    if (!file_write_all(j->ops, j->fd, &r, sizeof r, j->end))
        return journal_failed(e);
    j->end += sizeof r;
    return ERR_OK;
}

static void replay_piece(struct journal *j, struct pieces *p, const struct record *r, uint8_t *room)
{
    if (r->check != record_check(r->piece, r->sum) || r->piece >= p->n || pieces_has(p, r->piece))
        return;
    size_t n = (size_t)piece_length(p, r->piece);
    if (!room)
        pieces_add(p, r->piece);
    else if (file_read_all(j->ops, j->part, room, n, r->piece * PIECE_BYTES) == (ssize_t)n &&
        piece_sum(room, n) == r->sum)
        pieces_add(p, r->piece);
}

/* room: for a piece, to check it on the disk; NULL: its record will do */
static enum err_code read_records(struct journal *j, struct pieces *p, uint8_t *room,
                                  const atomic_bool *cancel, struct err *e)
{
    struct record *batch = mem_alloc(BATCH * sizeof *batch);
    enum err_code code = batch ? ERR_OK : err_no_memory(e, BATCH, "resuming a download");
    for (bool more = true; !code && more;) {
        ssize_t got = file_read_all(j->ops, j->fd, batch, BATCH * sizeof *batch, j->end);
        size_t n = got > 0 ? (size_t)got / sizeof *batch : 0; /* a torn record is written over */
        for (size_t i = 0; i < n && !code; i++) {
            if (cancel && atomic_load_explicit(cancel, memory_order_relaxed))
                code = err_set(e, ERR_CANCELLED, "cancelled");
            else
                replay_piece(j, p, &batch[i], room);
        }
        j->end += n * sizeof *batch;
        more = n == BATCH;
    }
    mem_free(batch);
    return code;
}

enum err_code journal_replay(struct journal *j, struct pieces *p, const atomic_bool *cancel,
                             struct err *e)
{
    uint8_t *room = mem_alloc(PIECE_BYTES);
    enum err_code code = room ? read_records(j, p, room, cancel, e)
                              : err_no_memory(e, PIECE_BYTES, "resuming a download");
    mem_free(room);
    return code;
}

enum err_code journal_tell(struct journal *j, struct pieces *p, struct err *e)
{
    return read_records(j, p, NULL, NULL, e);
}
