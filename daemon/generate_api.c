#include <string.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/text/constraint.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define PARSE_ON_LOOP 131072 /* larger bodies are parsed on a worker: 9 ms/MB */
#define MAX_VALUES 1048576   /* of a body: the longest context has fewer tokens */
#define DEFAULT_CTX 4096

static const char busy_text[] = "server busy, please try again.  maximum pending requests exceeded";

/* ---- the end ------------------------------------------------------------------------------------ */

static void count_status(struct daemon *d, int status)
{
    d->metrics.requests[status / 100 % 6]++;
}

static void unlink_gen(struct gen *g)
{
    if (g->prev)
        g->prev->next = g->next;
    else
        g->d->gens = g->next;
    if (g->next)
        g->next->prev = g->prev;
    g->d->n_gens--;
    g->d->n_generating -= g->counted;
}

static void choices_finish(struct gen *g)
{
    for (uint32_t i = 0; g->choice && i < g->req.n; i++) {
        struct gen_choice *c = &g->choice[i];
        if (c->running)
            run_finish(&c->run);
        if (c->streaming)
            stream_finish(&c->stream);
        token_list_finish(&c->answer);
        mem_free(c->logprobs);
        arena_finish(&c->pieces);
        constraint_destroy(c->constraint);
    }
    mem_free(g->choice);
}

void gen_end(struct gen *g)
{
    struct daemon *d = g->d;
    struct resident *resident = g->resident;
    bool has_keep = g->req.has_keep_alive;
    int64_t keep = g->req.keep_alive_ns;
    unlink_gen(g);
    choices_finish(g);
    buf_finish(&g->line);
    arena_finish(&g->pieces);
    arena_finish(&g->lists);
    mem_free(g->scores);
    mem_free(g->score_tops);
    grammar_unref(g->grammar);
    prompt_finish(&g->prompt);
    lookup_finish(&g->lookup);
    gen_request_finish(&g->req);
    mem_free(g->body);
    mem_free(g->name);
    mem_free(g);
    if (resident)
        loader_leave(d->loader, resident, has_keep, keep);
}

/* Errors as Ollama words them, where its clients look at the words. */
static void reword(struct gen *g)
{
    if (g->err.code == ERR_NOT_FOUND && g->name && g->lookup.d && !g->lookup.model &&
        str_ends(str_from(g->err.text), STR("not found")))
        err_set(&g->err, ERR_NOT_FOUND,
                g->kind <= GEN_CHAT ? "model \"%.200s\" not found, try pulling it first"
                                    : "model '%.200s' not found",
                g->name);
}

void gen_fail(struct gen *g)
{
    reword(g);
    int status = err_http_status(g->err.code);
    g->wait = WAIT_NOTHING;
    if (!g->http) {
        log_line(LOG_WARN, "msg=\"preload failed\" error=\"%s\"", g->err.text);
    } else if (g->begun) {
        buf_clear(&g->line);
        error_write(&g->line, g->err.text);
        buf_putc(&g->line, '\n');
        if (g->line.failed) {
            http_abort(g->http);
        } else {
            http_stream_write(g->http, buf_str(&g->line));
            http_stream_end(g->http);
        }
    } else {
        count_status(g->d, status);
        if (status == 503)
            http_set_header(g->http, "Retry-After", "1");
        http_reply_error(g->http, status, g->err.text);
    }
    if (g->err.code != ERR_CANCELLED)
        log_line(status >= 500 ? LOG_WARN : LOG_DEBUG, "msg=\"request failed\" path=%s error=\"%s\"",
                 gen_request_path(g->kind), g->err.text);
    gen_end(g);
}

void gen_reply_line(struct gen *g, int status)
{
    g->wait = WAIT_NOTHING;
    if (!g->http) {
        gen_end(g);
        return;
    }
    count_status(g->d, status);
    if (g->line.failed)
        http_abort(g->http);
    else
        http_reply(g->http, status, "application/json; charset=utf-8", buf_str(&g->line));
    gen_end(g);
}

/* True: the client has left or the daemon ends, and the gen with it. */
static bool left(struct gen *g)
{
    if (!g->gone)
        return false;
    g->err = g->stop;
    gen_fail(g);
    return true;
}

static void call_off(struct gen *g, const struct err *why)
{
    g->gone = true;
    g->stop = *why;
    if (g->wait == WAIT_PLACE) {
        loader_withdraw(g->d->loader, &g->place);
        left(g);
    } else if (g->wait == WAIT_RUN && gen_runs_ended(g) && !g->in_output) {
        g->choice[0].run.notify(&g->choice[0].run); /* only its slow client was waited for */
    } else if (g->wait == WAIT_RUN) {
        gen_cancel_runs(g);
    }
}

static void on_gone(struct http_request *r)
{
    static const struct err gone = { ERR_CANCELLED, "request canceled" };
    call_off(r->user, &gone);
}

void gen_stop_all(struct daemon *d, bool running, const struct err *why)
{
    for (struct gen *g = d->gens, *next; g; g = next) {
        next = g->next;
        if (!g->gone && (running || g->wait != WAIT_RUN))
            call_off(g, why);
    }
}

/* ---- running --------------------------------------------------------------------------------------- */

enum err_code gen_run_init(struct gen_choice *c, struct err *e)
{
    if (c->running)
        run_finish(&c->run);
    enum err_code code = run_init(&c->run, e);
    c->lent = false;
    c->running = !code;
    c->run.user = c;
    return code;
}

enum err_code gen_submit_run(struct gen_choice *c, struct err *e)
{
    enum err_code code = run_submit(c->g->d->engine, &c->run, e);
    c->lent = !code;
    if (!code)
        c->g->wait = WAIT_RUN;
    return code;
}

bool gen_runs_ended(const struct gen *g)
{
    for (uint32_t i = 0; i < g->req.n; i++)
        if (g->choice[i].lent && !run_ended(&g->choice[i].run))
            return false;
    return true;
}

void gen_cancel_runs(struct gen *g)
{
    for (uint32_t i = 0; i < g->req.n; i++)
        if (g->choice[i].lent && !run_ended(&g->choice[i].run))
            run_cancel(&g->choice[i].run);
}

static uint32_t room_of(const struct gen *g)
{
    return g->n_ctx < g->resident->n_ctx ? g->n_ctx : g->resident->n_ctx;
}

static enum err_code check_room(const struct gen *g, struct err *e)
{
    if (g->prompt.tokens.n <= room_of(g))
        return ERR_OK;
    return err_set(e, ERR_INVALID, "the prompt has %zu tokens and the context %u",
                   g->prompt.tokens.n, room_of(g));
}

/* The prompt's last tokens that are the answer's beginning, where an assistant's message is gone on with. */
static enum err_code begun_tokens(const struct gen *g, size_t *from, struct err *e)
{
    const struct tokenizer *t = words_tokenizer(lookup_words(&g->lookup));
    const struct token_list *l = &g->prompt.tokens;
    size_t want = g->prompt.text.n - g->prompt.answer_at;
    struct buf text;
    buf_init(&text, STREAM_MAX_TEXT);
    enum err_code c = ERR_OK;
    for (*from = l->n; !c && text.n < want && *from; )
        c = tokenizer_decode(t, &l->id[--*from], 1, true, &text, e);
    if (!c && text.failed)
        c = err_no_memory(e, want, "an answer's beginning");
    if (!c && text.n != want) /* a token holds more than the answer */
        c = err_set(e, ERR_INVALID, "the assistant's last message cannot be continued in a format");
    buf_finish(&text);
    return c;
}

/* A limit that the shortest answer does not fit in is said before anything is generated. */
static enum err_code constrain(struct gen *g, struct err *e)
{
    const struct token_list *l = &g->prompt.tokens;
    struct gen_choice *first = &g->choice[0];
    size_t from;
    if (!g->grammar || g->silent)
        return ERR_OK;
    enum err_code c = begun_tokens(g, &from, e);
    if (c || (c = constraint_create(g->grammar, first->run.max_tokens + (uint32_t)(l->n - from), &first->constraint, e)))
        return c;
    for (size_t i = from; i < l->n; i++)
        if (constraint_accept(first->constraint, l->id[i], e))
            return err_set(e, ERR_INVALID, "what the assistant's last message begins does not fit the format");
    for (uint32_t i = 0; i < g->req.n && !c; i++) {
        if (i)
            c = constraint_clone(first->constraint, &g->choice[i].constraint, e);
        g->choice[i].run.constraint = g->choice[i].constraint;
    }
    return c;
}

/* All of a run but how its tokens are drawn. */
static enum err_code prepare_run(struct gen *g, struct gen_choice *c, struct err *e)
{
    const struct gen_options *o = &g->req.options;
    size_t n = g->prompt.tokens.n;
    uint32_t n_ctx = room_of(g), room = n < n_ctx ? n_ctx - (uint32_t)n : 1;
    struct run *r = &c->run;
    enum err_code code = gen_run_init(c, e);
    if (code)
        return code;
    r->model = g->resident->model;
    r->kind = TURN_GENERATE;
    r->tokens = g->prompt.tokens.id;
    r->n_tokens = n;
    r->n_top = g->req.logprobs ? g->req.top_logprobs : 0;
    r->want_logprob = g->req.logprobs;
    r->words = lookup_words(&g->lookup);
    r->max_tokens = room;
    if (option_given(o, OPTION_NUM_PREDICT) && o->num_predict >= 0 && o->num_predict < room)
        r->max_tokens = o->num_predict ? (uint32_t)o->num_predict : 1;
    r->notify = output_run_notify;
    return ERR_OK;
}

/* The first one fails the request; once one runs, the end of all is awaited. */
static void submit_runs(struct gen *g)
{
    g->submitted_ns = clock_ns();
    for (uint32_t i = 0; i < g->req.n && !g->err.code; i++)
        gen_failed(g, gen_submit_run(&g->choice[i], &g->err));
    if (g->err.code && g->wait == WAIT_RUN)
        gen_cancel_runs(g);
    else if (g->err.code)
        gen_fail(g);
}

static void begin_generation(struct gen *g)
{
    const struct gen_options *o = &g->req.options;
    g->silent = option_given(o, OPTION_NUM_PREDICT) && o->num_predict == 0;
    for (uint32_t i = 0; i < g->req.n && !g->err.code; i++)
        gen_failed(g, prepare_run(g, &g->choice[i], &g->err));
    if (!g->err.code && !gen_failed(g, constrain(g, &g->err)))
        gen_failed(g, gen_sampling(g, &g->err));
    for (uint32_t i = 0; i < g->req.n && !g->err.code; i++)
        gen_failed(g, output_begin(&g->choice[i], &g->err));
    if (g->err.code)
        gen_fail(g);
    else
        submit_runs(g);
}

/* ---- placing ------------------------------------------------------------------------------------- */

static bool load_only(const struct gen *g)
{
    return (g->kind == GEN_GENERATE && !g->req.prompt.n && !g->req.suffix.n &&
            !json_array_size(g->req.context)) ||
           (g->kind == GEN_CHAT && !json_array_size(g->req.messages));
}

/* What the request demands of the model as it is loaded. */
static enum err_code check_demands(const struct gen *g, struct err *e)
{
    const struct gen_options *o = &g->req.options;
    if (option_given(o, OPTION_REPRODUCIBLE) && o->reproducible && !g->resident->info.reproducible)
        return err_set(e, ERR_UNSUPPORTED,
                       "\"%.200s\" is not reproducible on this device: its bits depend on the batch", g->name);
    return ERR_OK;
}

static void on_placed(struct place *p)
{
    struct gen *g = OWNER(struct gen, place, p);
    g->wait = WAIT_NOTHING;
    g->resident = p->resident;
    g->placed_ns = clock_ns();
    if (!g->resident)
        g->err = p->err;
    if (left(g))
        return;
    if (!g->resident || check_demands(g, &g->err))
        gen_fail(g);
    else if (g->kind == GEN_SCORE)
        score_begin(g);
    else if (load_only(g))
        output_reply_load(g, "load");
    else if (check_room(g, &g->err))
        gen_fail(g);
    else if (!g->req.echo || !g->req.logprobs)
        begin_generation(g);
    else if (gen_failed(g, echo_score(g, begin_generation, &g->err)))
        gen_fail(g);
}

static uint32_t wanted_ctx(const struct gen *g)
{
    const struct gen_options *o = &g->req.options;
    if (option_given(o, OPTION_NUM_CTX) && o->num_ctx > 0)
        return o->num_ctx > INT32_MAX ? INT32_MAX : (uint32_t)o->num_ctx;
    size_t need = g->kind != GEN_SCORE ? 0 : g->req.window ? g->req.window : g->prompt.tokens.n;
    return need > DEFAULT_CTX && need < INT32_MAX ? (uint32_t)need : 0;
}

static void place_gen(struct gen *g)
{
    const struct store_model *m = g->lookup.model;
    const struct model_header *h = words_header(lookup_words(&g->lookup));
    if (!h->has_weights)
        err_set(&g->err, ERR_INVALID,
                "\"%.200s\" does not support generate: its file has a vocabulary and no weights",
                g->name);
    else if (!h->runnable)
        err_set(&g->err, ERR_UNSUPPORTED, "\"%.200s\" cannot be run: %s", g->name, h->why);
    if (g->err.code) {
        gen_fail(g);
        return;
    }
    g->place = (struct place){
        .path = m->path,
        .name = m->name,
        .digest = m->digest_hex,
        .quantization = m->facts.quantization,
        .parameter_size = m->parameter_size,
        .identity = g->lookup.identity,
        .n_ctx = wanted_ctx(g),
        .n_ctx_train = h->n_ctx_train,
        .ready = on_placed,
    };
    g->wait = WAIT_PLACE;
    loader_place(g->d->loader, &g->place);
}

/* ---- prompts --------------------------------------------------------------------------------------- */

/* How the answer will be read, and what binds it. */
static enum err_code bind_answer(struct gen *g, struct err *e)
{
    const struct gen_request *r = &g->req;
    bool own = g->prompt.own_format != NULL;
    g->format = own ? g->prompt.own_format : words_entry_format(g->lookup.entry);
    struct output_format_info info = output_format_info(g->format);
    g->calls = info.tools && json_array_size(r->tools) && r->tool_choice != TOOLS_NONE;
    g->thinking = (own ? info.reasoning : g->can.thinking) && r->think != THINK_OFF;
    struct grammar_want want = {
        .req = r,
        .format = g->format,
        .own_format = own,
        .tools = g->calls,
        .thinking = g->thinking,
        .prompt = { g->prompt.text.p ? g->prompt.text.p : "", g->prompt.answer_at },
    };
    return grammars_get(words_entry_grammars(g->lookup.entry), &want, &g->grammar, e);
}

static void work_prompt(struct job *j)
{
    struct gen *g = OWNER(struct gen, job, j);
    struct prompt_want want = {
        .words = lookup_words(&g->lookup),
        .template = lookup_template(&g->lookup),
        .history = model_texts_history(&g->lookup.texts, &g->req),
        .req = &g->req,
        .n_ctx = g->n_ctx,
        .now_s = clock_wall_ns() / 1000000000,
    };
    if (!gen_failed(g, prompt_make(&want, &g->prompt, &g->err)))
        gen_failed(g, bind_answer(g, &g->err));
}

static void done_words(struct job *j)
{
    struct gen *g = OWNER(struct gen, job, j);
    g->wait = WAIT_NOTHING;
    if (left(g))
        return;
    if (g->err.code)
        gen_fail(g);
    else if (g->kind <= GEN_CHAT || g->kind == GEN_SCORE)
        place_gen(g);
    else
        words_reply(g);
}

static void start_words(struct gen *g)
{
    g->job = (struct job){
        .work = g->kind <= GEN_CHAT ? work_prompt : words_work,
        .done = done_words,
    };
    g->wait = WAIT_JOB;
    if (jobs_submit(g->d->jobs, LANE_WORDS, &g->job, &g->err))
        gen_fail(g);
}

/* The context of this request, as far as it is known before the model is in memory. */
static uint32_t context_of(const struct gen *g)
{
    const struct model_header *h = words_header(lookup_words(&g->lookup));
    const struct gen_options *o = &g->req.options;
    uint32_t train = h->n_ctx_train ? h->n_ctx_train : INT32_MAX;
    uint32_t n = g->d->config.context ? g->d->config.context : DEFAULT_CTX;
    for (const struct resident *r = loader_first(g->d->loader); r; r = r->next)
        if (!r->leaving && r->n_ctx && strcmp(r->path, g->lookup.model->path) == 0)
            n = r->n_ctx;
    if (option_given(o, OPTION_NUM_CTX) && o->num_ctx > 0)
        n = o->num_ctx > INT32_MAX ? INT32_MAX : (uint32_t)o->num_ctx;
    return n < train ? n : train;
}

/* What this build or this model does not do is said before anything is loaded. */
static enum err_code check_able(struct gen *g, struct err *e)
{
    const struct gen_request *r = &g->req;
    const char *name = g->name;
    if (g->lookup.texts.has_adapter && (g->kind <= GEN_CHAT || g->kind == GEN_SCORE))
        return err_set(e, ERR_UNSUPPORTED, "\"%.200s\" has an adapter (LoRA), and adapters are not applied yet: "
                       "run the model that it was made of", name);
    if ((g->kind <= GEN_CHAT || g->kind == GEN_SCORE) &&
        model_texts_check_version(g->lookup.texts.requires, name, e))
        return ERR_UNSUPPORTED;
    if (g->kind > GEN_CHAT)
        return ERR_OK;
    if (r->n_images)
        return err_set(e, ERR_INVALID, "\"%.200s\" does not support images", name);
    if (r->suffix.n && !g->can.insert && !r->template.n)
        return err_set(e, ERR_INVALID, "\"%.200s\" does not support insert", name);
    if (r->think >= THINK_ON && !g->can.thinking && !r->template.n)
        return err_set(e, ERR_INVALID, "\"%.200s\" does not support thinking", name);
    if (json_array_size(r->tools) && !g->can.tools && !r->template.n)
        return err_set(e, ERR_INVALID, "\"%.200s\" does not support tools", name);
    return ERR_OK;
}

static void unload(struct gen *g)
{
    loader_drop(g->d->loader, g->lookup.model->path);
    output_reply_load(g, "unload");
}

static void on_found(struct lookup *l)
{
    struct gen *g = OWNER(struct gen, lookup, l);
    g->wait = WAIT_NOTHING;
    if (!l->entry)
        g->err = l->err;
    if (left(g))
        return;
    if (!l->entry) {
        gen_fail(g);
        return;
    }
    model_texts_apply(&l->texts, &g->req);
    g->can = model_can(lookup_words(l), lookup_template(l), words_entry_format(l->entry));
    g->n_ctx = context_of(g);
    if (gen_failed(g, check_able(g, &g->err)))
        gen_fail(g);
    else if (load_only(g) && g->req.has_keep_alive && g->req.keep_alive_ns == 0)
        unload(g);
    else if (load_only(g))
        place_gen(g);
    else
        start_words(g);
}

/* ---- beginning -------------------------------------------------------------------------------------- */

/* Room among those that run and wait? A request for several answers is let in whole where one would be. */
static bool admit(struct gen *g)
{
    struct daemon *d = g->d;
    if (d->n_generating >= (size_t)d->config.max_queue + loader_capacity(d->loader)) {
        d->metrics.refused_busy++;
        err_set(&g->err, ERR_BUSY, "%s", busy_text);
        return false;
    }
    g->counted = g->req.n;
    d->n_generating += g->counted;
    return true;
}

static bool choices_init(struct gen *g)
{
    g->choice = mem_zero(g->req.n, sizeof *g->choice);
    for (uint32_t i = 0; g->choice && i < g->req.n; i++)
        g->choice[i] = (struct gen_choice){ .g = g, .index = i };
    return g->choice != NULL;
}

static void start_lookup(struct gen *g)
{
    bool runs = (g->kind <= GEN_CHAT && !load_only(g)) || g->kind == GEN_SCORE;
    g->name = mem_strndup(g->req.model.p, g->req.model.n);
    if (!choices_init(g))
        err_no_memory(&g->err, g->req.n * sizeof *g->choice, "a request's answers");
    else if (!g->name)
        err_no_memory(&g->err, g->req.model.n, "a model's name");
    else if (runs)
        admit(g);
    if (g->err.code) {
        gen_fail(g);
        return;
    }
    g->wait = WAIT_LOOKUP;
    if (lookup_start(&g->lookup, g->d, g->req.model, false, on_found, &g->err))
        gen_fail(g);
}

static void parse(struct gen *g)
{
    json_t *root;
    if (!g->body_n)
        err_set(&g->err, ERR_INVALID, "missing request body");
    else if (!gen_failed(g, json_read_bounded((struct str){ g->body, g->body_n }, PROTOCOL_MAX_BODY, MAX_VALUES,
                                              "request body", &root, &g->err)))
        gen_failed(g, gen_request_read(g->kind, root, &g->req, &g->err));
}

static void work_parse(struct job *j)
{
    parse(OWNER(struct gen, job, j));
}

static void parsed(struct gen *g)
{
    g->wait = WAIT_NOTHING;
    mem_free(g->body);
    g->body = NULL;
    if (left(g))
        return;
    if (g->err.code)
        gen_fail(g);
    else
        start_lookup(g);
}

static void done_parse(struct job *j)
{
    parsed(OWNER(struct gen, job, j));
}

static struct gen *gen_create(struct daemon *d, enum gen_kind kind)
{
    struct gen *g = mem_zero(1, sizeof *g);
    if (!g)
        return NULL;
    g->d = d;
    g->kind = kind;
    g->begun_ns = clock_ns();
    buf_init(&g->line, STREAM_MAX_TEXT * 4);
    prompt_init(&g->prompt);
    g->next = d->gens;
    if (d->gens)
        d->gens->prev = g;
    d->gens = g;
    d->n_gens++;
    return g;
}

void gen_start(struct daemon *d, struct http_request *r, enum gen_kind kind)
{
    struct gen *g = gen_create(d, kind);
    if (!g) {
        http_reply_error(r, 500, "out of memory");
        return;
    }
    g->http = r;
    g->begun_ns = r->begun_ns;
    r->user = g;
    r->on_gone = on_gone;
    if (d->draining)
        err_set(&g->err, ERR_BUSY, "the daemon is shutting down");
    else
        g->body = http_take_body(r, &g->body_n);
    if (!g->body && !g->err.code)
        err_no_memory(&g->err, g->body_n, "a request");
    if (g->err.code) {
        gen_fail(g);
        return;
    }
    if (g->body_n <= PARSE_ON_LOOP) {
        parse(g);
        parsed(g);
        return;
    }
    g->job = (struct job){ .work = work_parse, .done = done_parse };
    g->wait = WAIT_JOB;
    if (jobs_submit(d->jobs, LANE_WORDS, &g->job, &g->err))
        gen_fail(g);
}

void gen_preload(struct daemon *d, struct str name)
{
    struct gen *g = gen_create(d, GEN_GENERATE);
    if (!g)
        return;
    gen_request_init(&g->req, GEN_GENERATE);
    g->req.model = name;
    start_lookup(g);
}
