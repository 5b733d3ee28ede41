#include "cli/follow.h"

#include "cli/bars.h"
#include "runtime/base/clock.h"

#define DETACH_WAIT_NS INT64_C(2000000000) /* for the first news of what was left to the daemon */

struct follow {
    struct cli *cli;
    struct bars bars;
    json_t *last;
    int64_t begun_ns;
    bool detached;
};

/* Ends the call; what is under way goes on without us. */
static enum err_code leave(struct follow *f, struct err *e)
{
    f->detached = true;
    return err_set(e, ERR_CANCELLED, "detached");
}

static enum err_code take_line(void *user, json_t *root, struct str raw, struct err *e)
{
    struct follow *f = user;
    struct transfer_event ev;

    json_decref(f->last);
    f->last = json_incref(root);
    if (f->cli->given[ARG_JSON]) {
        printf("%.*s\n", (int)raw.n, raw.p);
        fflush(stdout);
    } else {
        enum err_code code = transfer_event_read(root, &ev, e);
        if (code != ERR_OK)
            return code;
        if (ev.status.n)
            bars_event(&f->bars, &ev, clock_ns());
    }
    return f->cli->given[ARG_DETACH] ? leave(f, e) : ERR_OK;
}

static enum err_code on_idle(void *user, struct err *e)
{
    struct follow *f = user;

    if (f->cli->given[ARG_DETACH] && clock_ns() - f->begun_ns >= DETACH_WAIT_NS)
        return leave(f, e);
    if (!f->cli->given[ARG_JSON])
        bars_idle(&f->bars, clock_ns());
    return ERR_OK;
}

enum err_code follow_call(struct cli *c, const char *path, struct str body, json_t **last,
                          struct err *e)
{
    struct follow f = { .cli = c, .begun_ns = clock_ns() };
    enum err_code code;

    bars_init(&f.bars, &c->term);
    c->client.idle = on_idle;
    c->client.idle_user = &f;
    code = client_stream(&c->client, path, body, take_line, &f, e);
    c->client.idle = NULL;
    c->arrived = bars_arrived(&f.bars);
    bars_finish(&f.bars);
    if (code == ERR_CANCELLED && f.detached) {
        err_clear(e);
        code = ERR_OK;
    }
    if (last)
        *last = code == ERR_OK && !f.detached ? json_incref(f.last) : NULL;
    json_decref(f.last);
    return code;
}
