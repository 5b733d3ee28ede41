/* One request for words or tokens on its way: generate, chat, tokenize, detokenize, render, score.
 * All take one path, and leave it where they are done:
 *
 *   body ⇒(worker, when large) request -> lookup ⇒(store, words) -> prompt ⇒(worker) text, tokens
 *     -> [tokenize, detokenize, render: reply]
 *     -> place ⇒(engine) model in memory -> [empty prompt: reply "load"]
 *     -> run ⇒(engine) ... events ⇒ stream -> lines or one reply
 *
 * At each ⇒ the request waits for exactly one thing (`wait`). When its client leaves, what it
 * waits for is called off, or, where that cannot be, its end is awaited; nothing of a gen is freed
 * before. generate_api.c: the path. gen_output.c: events to replies. words_api.c: the routes
 * without a model in memory, and score. Thread: loop, but where a job says otherwise. */
#ifndef HEARTH_DAEMON_GEN_H
#define HEARTH_DAEMON_GEN_H

#include "daemon/daemon.h"
#include "daemon/loader.h"
#include "daemon/lookup.h"
#include "daemon/prompt.h"
#include "daemon/stream.h"
#include "runtime/base/mem.h"

enum gen_wait { WAIT_NOTHING, WAIT_JOB, WAIT_LOOKUP, WAIT_PLACE, WAIT_RUN };

/* One answer to the request, and the run that makes it. A request has req.n of them: they share the prompt (the
 * engine computes it once), the grammar and the format, and nothing that changes while they run. */
struct gen_choice {
    struct gen *g;
    uint32_t index;
    struct run run;
    bool running;               /* run_init was called */
    bool lent;                  /* the engine has the run, until run_ended */
    bool over;                  /* nothing of it is still to come */
    struct constraint *constraint;
    struct stream stream;
    bool streaming;             /* stream_init was called */
    struct token_list answer;
    struct gen_logprobs *logprobs;
    size_t n_logprobs, cap_logprobs;
    struct arena pieces;        /* texts of logprobs */
    enum finish finish;
    uint64_t n_eval;
};

struct gen {
    struct gen *prev, *next;
    struct daemon *d;
    struct http_request *http;  /* NULL: preload */
    enum gen_wait wait;
    bool gone;                  /* called off: the client has left, or the daemon ends */
    struct err stop;            /* ... and why */
    bool in_output;             /* output_run_notify is on the stack */
    size_t counted;             /* in d->n_generating: answers that are not over */
    struct err err;
    /* the request */
    enum gen_kind kind;
    char *body;
    size_t body_n;
    struct gen_request req;
    int64_t begun_ns;
    /* what it needs */
    struct job job;
    struct lookup lookup;
    struct prompt prompt;
    const struct output_format *format; /* of the answer */
    bool thinking, calls;       /* what is looked for in it */
    struct grammar *grammar;    /* what binds it, or NULL */
    struct model_can can;
    uint32_t n_ctx;             /* of this request */
    struct place place;
    struct resident *resident;
    int64_t placed_ns;
    char *name;                 /* req.model, NUL-terminated */
    /* the runs and their answers; scoring has a run in the first */
    struct gen_choice *choice;  /* [req.n] */
    struct arena lists;         /* of the options, as the runs have them */
    int64_t submitted_ns;
    bool silent;                /* num_predict 0: the one token is not shown */
    /* the reply */
    void (*scored)(struct gen *g); /* echo: what comes after the prompt was scored */
    bool begun;                 /* the reply's head is out */
    bool choked;                /* the client takes nothing now */
    struct buf line;
    struct arena pieces;        /* tokenize: its pieces */
    struct gen_metrics metrics;
    /* score, echo */
    float *scores;
    struct run_top *score_tops; /* [tokens][top_logprobs], or NULL */
    int64_t echo_ns;            /* what scoring the prompt took */
    size_t window_at, window_n;
    int32_t window_first;       /* the token that BOS stands for in this window */
};

/* Takes the request over: it is answered, whatever happens. */
void gen_start(struct daemon *d, struct http_request *r, enum gen_kind kind);
/* Loads a model at start; logs what goes wrong. */
void gen_preload(struct daemon *d, struct str name);
/* Ends those that wait, and with `running` those that run too, with this error. */
void gen_stop_all(struct daemon *d, bool running, const struct err *why);

/* ---- between its files -------------------------------------------------------------------------- */

void gen_fail(struct gen *g);     /* replies g->err and ends */
void gen_end(struct gen *g);      /* the reply is complete (or nobody hears it): frees all */
void gen_reply_line(struct gen *g, int status); /* g->line as the whole reply, and ends */
/* Once more where it was before; its user is the choice. */
enum err_code gen_run_init(struct gen_choice *c, struct err *e);
/* g->wait is then WAIT_RUN until all that were submitted have ended. */
enum err_code gen_submit_run(struct gen_choice *c, struct err *e);
bool gen_runs_ended(const struct gen *g);
void gen_cancel_runs(struct gen *g);
/* Keeps the code of a call that was given &g->err: on success that may hold words all the same. */
static inline bool gen_failed(struct gen *g, enum err_code c)
{
    g->err.code = c;
    return c != ERR_OK;
}

/* gen_sampling.c: fills what of the choices' runs says how tokens are drawn. */
enum err_code gen_sampling(struct gen *g, struct err *e);

/* gen_output.c */
enum err_code output_begin(struct gen_choice *c, struct err *e);
void output_run_notify(struct run *r);
void output_reply_load(struct gen *g, const char *reason);
/* One token's piece and log-probabilities, behind those that wait to go out. */
struct logprob_of {
    int32_t token;
    float logprob;
    const struct run_top *top; /* [n_top] */
    uint32_t n_top;
};
enum err_code output_add_logprobs(struct gen_choice *c, const struct logprob_of *of, struct err *e);
/* Sends what the stream holds and the log-probabilities that wait, unless all is sent at once. */
void output_pass_on(struct gen_choice *c);

/* words_api.c */
void words_work(struct job *j);   /* tokenize, detokenize, render, score: on a worker */
void words_reply(struct gen *g);
void score_begin(struct gen *g);
/* g->scores for the prompt's tokens; then a run that fills n of them from `at`. */
enum err_code score_room(struct gen *g, struct err *e);
enum err_code score_submit(struct gen *g, size_t at, size_t n, void (*notify)(struct run *),
                           struct err *e);

/* gen_echo.c: the prompt as part of the answer */
enum err_code echo_score(struct gen *g, void (*scored)(struct gen *g), struct err *e);
enum err_code echo_put(struct gen_choice *c, struct err *e); /* its text and log-probabilities */

#endif
