/* One step: who takes part, and how it runs. */
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/engine/engine.h"

/* Work that one step may estimate to: a session that came or left is seen that soon, and a submit ends
 * well before any driver's patience does. */
#define STEP_NS 250e6

bool model_has_work(const struct model *m)
{
    for (uint32_t i = 0; i < m->plan->n_seq; i++)
        if (session_pending(&m->sessions[i]))
            return true;
    return false;
}

struct model_counters model_counters(const struct model *m)
{
    return m->counters;
}

/* ---- who takes part ------------------------------------------------------------------------------- */

static void add_row(struct model *m, struct session *s, uint32_t index)
{
    uint32_t r = m->n_rows++;
    uint32_t *row = m->step + STEP_ROWS + r * STEP_ROW_WORDS;
    row[ROW_TOKEN] = (uint32_t)s->tokens[index];
    row[ROW_POS] = index;
    row[ROW_PAGES] = s->slot * m->kv.max_pages;
    m->row[r] = (struct step_row){ s, index, -1 };
    if (session_wants_logits(s, index)) {
        m->row[r].out = (int32_t)m->n_out;
        m->step[STEP_OUT + m->n_out++] = r;
    }
}

/* Up to `most` of the session's pending rows; stops where logits would not fit. */
static void add_rows(struct model *m, struct session *s, uint32_t most)
{
    uint32_t n = session_pending(s), from = s->n_held;
    if (n > most)
        n = most;
    if (!kv_extend(&m->kv, s->slot, &s->n_pages, from + n))
        n = s->n_pages * KV_PAGE_TOKENS - from;
    for (uint32_t i = 0; i < n; i++) {
        if (session_wants_logits(s, from + i) && m->n_out == m->plan->max_out)
            return;
        add_row(m, s, from + i);
    }
}

/* The same for prompt rows, within the step's span of tokens; a step's first row always. Returns the tokens
 * that they see. */
static uint64_t add_prompt(struct model *m, struct session *s, uint32_t most, uint64_t seen)
{
    uint32_t was = m->n_rows, from = s->n_held, fit = plan_rows_in_span(m->plan, seen, from, most);
    add_rows(m, s, fit > 0 || was > 0 ? fit : 1);
    uint64_t n = m->n_rows - was;
    return n * (from + 1ull) + n * (n - 1) / 2;
}

/* Rows of prompt that this step takes beside its decode rows, in whole tiles; four times the time where
 * nobody waits for a token. */
static uint32_t prompt_room(const struct model *m)
{
    uint32_t room = MAX_STEP_ROWS - m->n_rows;
    double time = m->n_rows > 0 ? STEP_NS : 4 * STEP_NS;
    double fit = m->ns_per_row > 0 ? time / m->ns_per_row : 32;
    uint32_t rows = fit < 8 ? 8 : fit > MAX_STEP_ROWS ? MAX_STEP_ROWS : (uint32_t)fit / 8 * 8;
    return rows < room ? rows : room;
}

static void gather(struct model *m)
{
    uint32_t n = m->plan->n_seq;
    m->n_rows = m->n_out = 0;
    for (uint32_t i = 0; i < n && m->n_rows < MAX_STEP_ROWS; i++)
        if (session_pending(&m->sessions[i]) == 1)
            add_rows(m, &m->sessions[i], 1);
    uint32_t room = prompt_room(m), end = m->n_rows + room;
    uint64_t seen = 0;
    for (uint32_t k = 0; k < n && m->n_rows < end; k++) {
        struct session *s = &m->sessions[(m->next + k) % n];
        if (session_pending(s) > 1)
            seen += add_prompt(m, s, end - m->n_rows, seen);
    }
    m->next = (m->next + 1) % n;
    m->step[STEP_N_ROWS] = m->n_rows;
    m->step[STEP_N_OUT] = m->n_out;
}

/* ---- how it runs ---------------------------------------------------------------------------------- */

static uint32_t splits_needed(const struct model *m)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < m->n_rows; i++)
        if (m->row[i].index > most)
            most = m->row[i].index;
    return most / m->plan->split_tokens + 1;
}

static void set_groups(struct model *m, const struct recording *r, uint32_t cols, uint32_t n_splits)
{
    uint32_t *args = gpu_buffer_map(r->args);
    for (size_t i = 0; i < r->n_launch; i++, args += 3) {
        plan_groups(&r->launch[i], cols, m->n_rows, m->n_out, n_splits, args);
        m->counters.weight_bytes += r->launch[i].weight_bytes * args[1]; /* once a tile */
    }
    m->counters.launches += r->n_run;
}

/* A part's segments join the step. */
static enum err_code add_part(struct model *m, uint32_t which, enum part part, uint32_t n_splits, struct err *e)
{
    const struct recording *r = &m->rec[which][part];
    enum err_code code = record_ready(m, which, part, e);
    if (code != ERR_OK)
        return code;
    set_groups(m, r, m->plan->program[which].cols, n_splits);
    for (uint32_t i = 0; i < r->n; i++)
        m->submit[m->n_submit++] = r->segment[i];
    return ERR_OK;
}

static enum err_code line_up(struct model *m, struct err *e)
{
    uint32_t n_splits = splits_needed(m);
    m->n_submit = 0;
    enum err_code code =
        add_part(m, plan_program_for(m->n_rows), n_splits > 1 ? PART_LONG : PART_SHORT, n_splits, e);
    if (code == ERR_OK && m->n_out > 0)
        code = add_part(m, plan_program_for(m->n_out), PART_HEAD, n_splits, e);
    return code;
}

/* Masks of constraints, while the device works. */
static void constrain(struct model *m)
{
    for (uint32_t i = 0; i < m->n_rows; i++)
        if (m->row[i].out >= 0)
            session_constrain(m->row[i].session);
}

/* Submits the segments in as many pieces as the estimate asks for. */
static enum err_code run(struct model *m, int64_t *device_ns, struct err *e)
{
    struct gpu *gpu = m->rt->gpu;
    size_t n = m->n_submit;
    double estimate = m->ns_per_row * m->n_rows;
    size_t pieces = 1 + (size_t)(estimate / STEP_NS);
    size_t per = (n + pieces - 1) / pieces;
    *device_ns = 0;
    for (size_t from = 0; from < n; from += per) {
        uint64_t ticket;
        int64_t ns = 0;
        enum err_code code = gpu_submit(gpu, m->submit + from, n - from < per ? n - from : per, &ticket, e);
        if (code == ERR_OK && from == 0)
            constrain(m);
        if (code == ERR_OK)
            code = gpu_wait(gpu, ticket, &ns, e);
        if (code != ERR_OK)
            return code;
        *device_ns += ns;
        m->counters.submits++;
    }
    return ERR_OK;
}

static void learn(struct model *m, int64_t device_ns)
{
    double per_row = (double)device_ns / m->n_rows;
    if (m->n_rows >= 4)
        m->ns_per_row = m->ns_per_row > 0 ? 0.7 * m->ns_per_row + 0.3 * per_row : per_row;
}

static size_t take_results(struct model *m)
{
    size_t n_events = 0;
    for (uint32_t i = 0; i < m->n_rows; i++)
        m->row[i].session->n_held++;
    for (uint32_t i = 0; i < m->n_rows; i++) {
        const struct step_row *r = &m->row[i];
        if (r->out >= 0)
            n_events += session_take(r->session, r->index, m->logits + (size_t)r->out * m->hp.n_vocab,
                                     &m->event[n_events]);
    }
    return n_events;
}

enum err_code model_step(struct model *m, struct step *out, struct err *e)
{
    int64_t began = clock_ns(), device_ns;
    *out = (struct step){ .events = m->event };
    gather(m);
    if (m->n_rows == 0)
        return ERR_OK;
    enum err_code code = line_up(m, e);
    if (code == ERR_OK)
        code = run(m, &device_ns, e);
    if (code != ERR_OK)
        return code;
    learn(m, device_ns);
    uint32_t n_prompt = 0;
    for (uint32_t i = 0; i < m->n_rows; i++)
        n_prompt += m->row[i].session->n_made == 0 || m->row[i].session->turn.kind == TURN_SCORE;
    out->n_events = take_results(m);
    out->n_rows = m->n_rows;
    out->n_prefill = n_prompt;
    out->device_ns = device_ns;
    out->step_ns = clock_ns() - began;
    m->counters.steps++;
    m->counters.rows += m->n_rows;
    m->counters.tokens += out->n_events;
    m->counters.device_ns += out->device_ns;
    m->counters.step_ns += out->step_ns;
    return ERR_OK;
}
