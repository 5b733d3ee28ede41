/* A software device for each core, as one device: the same memory, the same commands, and of every
 * launch a share of the workgroups each.
 *
 * Mesa's own threads sleep between launches, and to wake them costs more than most launches of a small
 * model take (on a virtual machine 50 to 100 us). A member here has no threads (LP_NUM_THREADS=0: its
 * queue does the work itself), goes from launch to launch without a pause, and waits for the others by
 * looking (meet.comp). Which workgroup runs where does not change what it computes.
 *
 * A launch whose x is known when it is recorded is shared out by x, or by y where it asks for that: the members
 * take turns at its rows. One whose x changes is the first member's. Group counts that are read when a command runs (indirect) are copied for each member at the
 * submit. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu_priv.h"

#define MOST_MEMBERS 8
#define MAX_ARGS ((size_t)1 << 20)
#define TICKETS 64 /* submits whose members' tickets are remembered */

struct team {
    struct gpu base;
    uint32_t n;
    struct gpu *member[MOST_MEMBERS];
    struct gpu_buffer *words; /* of meet.comp; a team buffer */
    uint64_t submitted, done, ticket[TICKETS][MOST_MEMBERS];
};
struct team_buffer {
    struct gpu_buffer base;
    struct gpu_buffer *of[MOST_MEMBERS]; /* the first one's memory is everybody's */
};
#define ARGS_OF_A_BUFFER 64
#define ARGS_BUFFERS 64
struct team_args { /* an indirect launch: where its counts come from; x of each member */
    const uint32_t *from;
    uint32_t x[MOST_MEMBERS];
    bool x_changes; /* then the first member's is read too, and the others have none */
    bool by_rows;
};
struct team_command {
    struct gpu_command base;
    struct gpu_command *of[MOST_MEMBERS];
    struct gpu_buffer *args[ARGS_BUFFERS]; /* team buffers: [launch][member][x, y, z], as `arg` */
    struct team_args *arg;
    size_t n_args, cap_args;
};

static struct team *team_of(struct gpu *g)
{
    return (struct team *)g;
}

static uint32_t *words(const struct team *t)
{
    return t->words->map;
}

/* Whoever waits for a member that does not come goes on. */
static void release(struct team *t)
{
    __atomic_store_n(&words(t)[MEET_RELEASED], 1, __ATOMIC_SEQ_CST);
}

/* A lost member loses all; then nobody waits for another ever again. */
static void note_loss(struct team *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        t->base.lost |= t->member[i]->lost;
    if (t->base.lost && t->words)
        release(t);
}

/* A member's error is the team's. */
static enum err_code told(struct team *t, enum err_code rc)
{
    if (rc)
        note_loss(t);
    return rc;
}

/* ---- buffers ------------------------------------------------------------------------------------- */

static void team_buffer_destroy(struct gpu *g, struct gpu_buffer *base)
{
    struct team *t = team_of(g);
    struct team_buffer *b = (struct team_buffer *)base;
    if (!b)
        return;
    for (uint32_t i = t->n; i-- > 0;)
        if (b->of[i])
            t->member[i]->ops->buffer_destroy(t->member[i], b->of[i]);
    note_loss(t);
    mem_free(b);
}

static enum err_code team_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                                        struct gpu_buffer **out, struct err *e)
{
    struct team *t = team_of(g);
    struct team_buffer *b = mem_zero(1, sizeof *b);
    if (!b)
        return err_no_memory(e, sizeof *b, "a buffer");
    b->base = (struct gpu_buffer){ .bytes = bytes, .where = where };
    enum err_code rc = t->member[0]->ops->buffer_create(t->member[0], bytes, where, &b->of[0], e);
    for (uint32_t i = 1; i < t->n && !rc; i++)
        rc = gpu_vk_buffer_twin(t->member[i], b->of[0], &b->of[i], e);
    if (rc) {
        team_buffer_destroy(g, &b->base);
        return told(t, rc);
    }
    b->base.map = b->of[0]->map;
    *out = &b->base;
    return ERR_OK;
}

static enum err_code team_buffer_write(struct gpu *g, struct gpu_buffer *b, uint64_t offset, const void *src,
                                       uint64_t bytes, struct err *e)
{
    struct gpu *first = team_of(g)->member[0];
    struct gpu_buffer *of = ((struct team_buffer *)b)->of[0];
    return told(team_of(g), first->ops->buffer_write(first, of, offset, src, bytes, e));
}

static enum err_code team_buffer_read(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                                      uint64_t bytes, struct err *e)
{
    struct gpu *first = team_of(g)->member[0];
    struct gpu_buffer *of = ((struct team_buffer *)b)->of[0];
    return told(team_of(g), first->ops->buffer_read(first, of, offset, dst, bytes, e));
}

/* What a member has made, beside meet.comp, which all have from the beginning. One that has no share of a launch does not make it. */
static void count_pipelines(struct team *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        if (t->member[i]->counters.pipelines > t->base.counters.pipelines + 1)
            t->base.counters.pipelines = t->member[i]->counters.pipelines - 1;
}

static enum err_code team_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e)
{
    struct team *t = team_of(g);
    enum err_code rc = gpu_vk_prepare(t->member, t->n, p, n, t->n, e);
    count_pipelines(t);
    return told(t, rc);
}

/* ---- commands ------------------------------------------------------------------------------------ */

static void team_command_destroy(struct gpu_command *base)
{
    struct team_command *c = (struct team_command *)base;
    struct team *t = team_of(base->gpu);
    for (uint32_t i = 0; i < t->n; i++)
        if (c->of[i])
            t->member[i]->ops->command_destroy(c->of[i]);
    note_loss(t);
    for (uint32_t i = 0; i < ARGS_BUFFERS; i++)
        team_buffer_destroy(&t->base, c->args[i]);
    mem_free(c->arg);
    mem_free(c);
}

static enum err_code team_command_create(struct gpu *g, struct gpu_command **out, struct err *e)
{
    struct team *t = team_of(g);
    struct team_command *c = mem_zero(1, sizeof *c);
    if (!c)
        return err_no_memory(e, sizeof *c, "a command");
    c->base.gpu = g;
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < t->n && !rc; i++)
        rc = t->member[i]->ops->command_create(t->member[i], &c->of[i], e);
    if (rc) {
        team_command_destroy(&c->base);
        return told(t, rc);
    }
    *out = &c->base;
    return ERR_OK;
}

/* All that was launched before is done when anything after it begins. */
static enum err_code meet(struct team *t, struct team_command *c, struct err *e)
{
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < t->n && !rc; i++) {
        struct push_meet push = { t->n, i, 0 };
        struct gpu_launch l = { .kernel = KERNEL_meet, .push = &push, .groups = { 1, 1, 1 } };
        l.spec[SPEC_LOCAL] = t->base.info.subgroup;
        l.bind[0].buffer = ((struct team_buffer *)t->words)->of[i];
        for (; push.again < 3 && !rc; push.again++) {
            l.indirect = push.again ? l.bind[0].buffer : NULL;
            l.indirect_offset = (MEET_MEMBERS + i * MEET_MEMBER_WORDS + (push.again == 2 ? 4u : 0u)) * 4;
            rc = t->member[i]->ops->command_launch(c->of[i], &l, e);
        }
    }
    return rc;
}

/* Workgroups begin..end of `x` are member i's. */
static uint32_t share(const struct team *t, uint32_t x, uint32_t i)
{
    return (uint32_t)((uint64_t)x * i / t->n);
}

/* How many rows are member i's: i, i + n, ... */
static uint32_t row_share(const struct team *t, uint32_t rows, uint32_t i)
{
    return (rows + t->n - 1 - i) / t->n;
}

static enum err_code args_ready(struct team *t, struct team_command *c, struct err *e)
{
    if (c->n_args == ARGS_BUFFERS * ARGS_OF_A_BUFFER)
        return err_set(e, ERR_TOO_LARGE, "a command of more than %zu launches", c->n_args);
    struct gpu_buffer **args = &c->args[c->n_args / ARGS_OF_A_BUFFER];
    if (!*args) {
        enum err_code rc =
            team_buffer_create(&t->base, (uint64_t)ARGS_OF_A_BUFFER * t->n * 12, GPU_HOST, args, e);
        if (rc)
            return rc;
    }
    if (!mem_grow(&c->arg, &c->cap_args, c->n_args + 1, sizeof *c->arg, MAX_ARGS))
        return err_no_memory(e, sizeof *c->arg, "a command's counts");
    return ERR_OK;
}

static enum err_code note_args(struct team *t, struct team_command *c, const struct gpu_launch *l, struct err *e)
{
    enum err_code rc = args_ready(t, c, e);
    if (rc)
        return rc;
    const char *map = l->indirect->map;
    struct team_args *a = &c->arg[c->n_args];
    *a = (struct team_args){ .from = (const uint32_t *)(const void *)(map + l->indirect_offset),
                             .x_changes = l->groups[0] == 0,
                             .by_rows = l->by_rows };
    for (uint32_t i = 0; i < t->n; i++)
        a->x[i] = l->by_rows ? l->groups[0] : share(t, l->groups[0], i + 1) - share(t, l->groups[0], i);
    c->n_args++;
    return ERR_OK;
}

static enum err_code launch_share(struct team *t, struct team_command *c, const struct gpu_launch *l, uint32_t i,
                                  struct err *e)
{
    struct gpu_launch mine = *l;
    const char *letters = kernel_info(l->kernel)->bindings;
    for (uint32_t k = 0; letters[k]; k++)
        mine.bind[k].buffer = ((struct team_buffer *)l->bind[k].buffer)->of[i];
    if (l->by_rows) {
        mine.first_row = (uint8_t)i;
        mine.row_gap = (uint8_t)(t->n - 1);
        mine.groups[1] = row_share(t, l->groups[1], i);
    } else {
        mine.first_group = (uint16_t)share(t, l->groups[0], i);
        mine.groups[0] = share(t, l->groups[0], i + 1) - mine.first_group;
    }
    if (l->indirect) {
        size_t k = c->n_args - 1;
        mine.indirect = ((struct team_buffer *)c->args[k / ARGS_OF_A_BUFFER])->of[i];
        mine.indirect_offset = (k % ARGS_OF_A_BUFFER * t->n + i) * 12;
    } else if (mine.groups[0] == 0 || mine.groups[1] == 0) {
        return ERR_OK;
    }
    return t->member[i]->ops->command_launch(c->of[i], &mine, e);
}

static enum err_code team_command_launch(struct gpu_command *base, const struct gpu_launch *l, struct err *e)
{
    struct team_command *c = (struct team_command *)base;
    struct team *t = team_of(base->gpu);
    enum err_code rc = l->indirect ? note_args(t, c, l, e) : ERR_OK;
    for (uint32_t i = 0; i < t->n && !rc; i++)
        rc = launch_share(t, c, l, i, e);
    if (!rc)
        rc = meet(t, c, e);
    count_pipelines(t);
    return told(t, rc);
}

static enum err_code team_command_end(struct gpu_command *base, struct err *e)
{
    struct team_command *c = (struct team_command *)base;
    struct team *t = team_of(base->gpu);
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < t->n && !rc; i++)
        rc = t->member[i]->ops->command_end(c->of[i], e);
    return told(t, rc);
}

/* ---- submits ------------------------------------------------------------------------------------- */

/* What all members were given ends in order. Then what only some were given does: the others do not come,
 * and what it computes is nobody's. */
static void team_rest(struct gpu *g)
{
    struct team *t = team_of(g);
    const uint64_t *all = t->ticket[t->submitted % TICKETS];
    for (uint32_t i = 0; i < t->n && !t->base.lost; i++)
        if (t->member[i]->ops->wait(t->member[i], all[i], NULL, NULL))
            t->base.lost = true;
    release(t);
    for (uint32_t i = 0; i < t->n; i++)
        t->member[i]->ops->rest(t->member[i]);
    note_loss(t);
    if (t->base.lost)
        return;
    __atomic_store_n(&words(t)[MEET_ARRIVED], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&words(t)[MEET_RELEASED], 0, __ATOMIC_SEQ_CST);
}

static void copy_args(const struct team *t, const struct team_command *c)
{
    for (size_t k = 0; k < c->n_args; k++) {
        const struct team_args *a = &c->arg[k];
        uint32_t *groups = c->args[k / ARGS_OF_A_BUFFER]->map;
        groups += k % ARGS_OF_A_BUFFER * t->n * 3;
        for (uint32_t i = 0; i < t->n; i++, groups += 3) {
            groups[0] = a->x_changes && i == 0 ? a->from[0] : a->x[i];
            groups[1] = a->by_rows ? row_share(t, a->from[1], i) : a->from[1];
            groups[2] = a->from[2];
        }
    }
}

#define SEND_AT_ONCE 256 /* commands of a submit */

static enum err_code team_submit(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                                 struct err *e)
{
    struct team *t = team_of(g);
    struct gpu_command *list[SEND_AT_ONCE];
    uint64_t mine[MOST_MEMBERS] = { 0 };
    enum err_code rc = ERR_OK;
    if (n > SEND_AT_ONCE)
        return err_set(e, ERR_TOO_LARGE, "%zu commands in a submit: %d can be sent", n, SEND_AT_ONCE);
    if (t->done == t->submitted)
        __atomic_store_n(&words(t)[MEET_ARRIVED], 0, __ATOMIC_SEQ_CST);
    for (size_t k = 0; k < n; k++)
        copy_args(t, (const struct team_command *)c[k]);
    for (uint32_t i = 0; i < t->n && !rc; i++) {
        for (size_t k = 0; k < n; k++)
            list[k] = ((const struct team_command *)c[k])->of[i];
        rc = t->member[i]->ops->submit(t->member[i], list, n, &mine[i], e);
    }
    if (rc)
        return told(t, rc);
    *ticket = ++t->submitted;
    memcpy(t->ticket[*ticket % TICKETS], mine, sizeof mine);
    return ERR_OK;
}

static enum err_code team_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e)
{
    struct team *t = team_of(g);
    if (ticket > t->submitted)
        return err_set(e, ERR_INVALID, "no submit has ticket %llu", (unsigned long long)ticket);
    /* One that is forgotten is done when the oldest that is not is. */
    bool known = t->submitted - ticket < TICKETS;
    const uint64_t *mine = t->ticket[(known ? ticket : t->submitted + 1) % TICKETS];
    enum err_code rc = ERR_OK;
    for (uint32_t i = 0; i < t->n && !rc; i++)
        rc = t->member[i]->ops->wait(t->member[i], mine[i], i == 0 && known ? device_ns : NULL, e);
    if (rc)
        return told(t, rc);
    if (ticket > t->done)
        t->done = ticket;
    return ERR_OK;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static void team_close(struct gpu *g)
{
    struct team *t = team_of(g);
    struct gpu_buffer *own = t->words;
    t->words = NULL;
    team_buffer_destroy(g, own);
    for (uint32_t i = t->n; i-- > 0;)
        if (t->member[i])
            t->member[i]->ops->close(t->member[i]);
    mem_free(t);
}

static void team_save_cache(struct gpu *g)
{
    struct gpu *first = team_of(g)->member[0];
    first->ops->save_cache(first);
}

static const struct gpu_ops team_ops = {
    team_close,          team_save_cache,  team_buffer_create,  team_buffer_destroy,
    team_buffer_write,   team_buffer_read, team_prepare,        team_command_create, team_command_destroy,
    team_command_launch, team_command_end, team_submit,         team_wait,
    team_rest,
};

/* Takes over `first`, also when it fails. */
static enum err_code gather(struct gpu *first, uint32_t n, const struct gpu_options *o, struct gpu **out,
                            struct err *e)
{
    struct team *t = mem_zero(1, sizeof *t);
    if (!t) {
        first->ops->close(first);
        return err_no_memory(e, sizeof *t, "a device");
    }
    t->base.ops = &team_ops;
    t->base.info = first->info;
    t->member[t->n++] = first;
    enum err_code rc = ERR_OK;
    while (t->n < n && !rc) { /* each on a core of its own: two on one would wait a time slice for each other */
        rc = gpu_vk_open(o, t->n, &t->member[t->n], e);
        t->n += !rc;
    }
    if (!rc)
        rc = team_buffer_create(&t->base, (MEET_MEMBERS + n * MEET_MEMBER_WORDS) * 4, GPU_HOST, &t->words, e);
    struct gpu_pipeline p = { .kernel = KERNEL_meet, .spec = { [SPEC_LOCAL] = first->info.subgroup } };
    if (!rc)
        rc = gpu_vk_prepare(t->member, t->n, &p, 1, t->n, e);
    if (rc) {
        team_close(&t->base);
        return rc;
    }
    *out = &t->base;
    return ERR_OK;
}

/* Writes it only where it changes: other threads may read the environment by then. */
static bool set_number(const char *name, long n)
{
    const char text[] = { (char)('0' + n), 0 }, *now = getenv(name);
    return (now && strcmp(now, text) == 0) || setenv(name, text, 1) == 0;
}

/* Threads that a software device may use: what was asked for, else what LP_NUM_THREADS said when the process
 * began, else the cores that it may run on. Mesa is told to leave threads to us; the number is kept for the
 * next device. */
static uint32_t take_threads(const struct gpu_options *o)
{
    const char *mesa = getenv("LP_NUM_THREADS"), *kept = getenv("HEARTH_CPU_THREADS");
    cpu_set_t set;
    long n = o->cpu_threads < MOST_MEMBERS ? (long)o->cpu_threads : MOST_MEMBERS;
    if (n == 0)
        n = kept ? strtol(kept, NULL, 10) : mesa ? strtol(mesa, NULL, 10) : 0;
    if (n <= 0 && !mesa && sched_getaffinity(0, sizeof set, &set) == 0)
        n = CPU_COUNT(&set);
    n = n < 1 ? 1 : n > MOST_MEMBERS ? MOST_MEMBERS : n;
    if (!set_number("HEARTH_CPU_THREADS", n))
        return 1;
    set_number("LP_NUM_THREADS", 0);
    return (uint32_t)n;
}

/* One device, whose threads are Mesa's. */
static enum err_code open_threaded(const struct gpu_options *o, uint32_t n, struct gpu **out, struct err *e)
{
    set_number("LP_NUM_THREADS", n);
    return gpu_vk_open(o, GPU_ANY_CORE, out, e);
}

enum err_code gpu_team_open(const struct gpu_options *o, struct gpu **out, struct err *e)
{
    struct gpu *first;
    uint32_t n = take_threads(o);
    enum err_code rc = gpu_vk_open(o, n > 1 ? 0 : GPU_ANY_CORE, &first, e);
    if (rc)
        return rc;
    bool software = first->info.software;
    if (software)
        log_line(LOG_INFO, "msg=\"%s: software Vulkan on the CPU\" device=\"%s\" threads=%u",
                 o->device && *o->device ? "as asked" : "no GPU found", first->info.name, n);
    if (software && n > 1 && gpu_vk_shares_memory(first))
        return gather(first, n, o, out, e);
    if (software && n > 1) {
        first->ops->close(first);
        return open_threaded(o, n, out, e);
    }
    *out = first;
    return ERR_OK;
}
