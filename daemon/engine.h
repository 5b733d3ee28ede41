/* The engine's thread: the one that owns the runtime, its models and sessions.
 *
 * It opens the device at the first load, works off its lane of jobs between steps, and steps every
 * model that has work, so that requests which are there together share the batch. A request is a
 * `struct run`: made by the loop, lent to the engine from run_submit until it has ended.
 *
 * Sessions are kept per model for their prefixes: a run gets the idle session that costs least,
 * counting the rows it must compute and those of another conversation that it throws away. What another
 * session holds of its prompt it shares, and where one is computing it just now it waits for that: several
 * completions of one prompt are several runs with other seeds. Runs beyond the model's sessions wait, first come
 * first served.
 *
 * Events cross in a ring of the run's own. When it has no room for what one more step may
 * give (the client reads slowly) the session is paused until it has.
 *
 * Losing the device (ERR_GPU_LOST): every run ends with that error, models and runtime are
 * destroyed, `lost` is called on the loop, and the next load opens the device anew. */
#ifndef HEARTH_DAEMON_ENGINE_H
#define HEARTH_DAEMON_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/jobs.h"
#include "runtime/engine/runtime.h"

#define RUN_RING 128 /* events; more than twice SESSION_MAX_EVENTS */
#define RUN_MAX_TOP 20

struct engine;
struct engine_model; /* a loaded model, as a handle; the engine's own thread looks inside */

struct engine_options {
    struct jobs *jobs;
    struct runtime_options runtime;   /* strings are borrowed */
    void (*lost)(void *user);         /* Thread: loop */
    void *user;
};
enum err_code engine_create(const struct engine_options *o, struct engine **out, struct err *e);
/* Ends the thread after its present step; runs that have not ended are dropped without a word.
 * False: it did not end within the time (a load or a step takes longer): leave the process. */
bool engine_stop(struct engine *en, int64_t timeout_ns);
void engine_destroy(struct engine *en); /* after engine_stop gave true; NULL is fine */

/* ---- jobs: the caller fills the upper part and `job.done`; results are valid in `done` -------- */

struct engine_open {
    struct job job;
    struct engine *engine;
    struct err err;
    struct device_info device;
};
enum err_code engine_open(struct engine *en, struct engine_open *o, struct err *e);

struct engine_load {
    struct job job;
    struct engine *engine;
    struct model_options options;
    struct err err;
    struct engine_model *model;
    struct model_info info;
    struct device_info device;
};
enum err_code engine_load(struct engine *en, struct engine_load *l, struct err *e);

struct engine_unload {
    struct job job;
    struct engine *engine;
    struct engine_model *model;
};
/* No run of the model may be left. The handle is gone when `done` is called. */
enum err_code engine_unload(struct engine *en, struct engine_unload *u, struct err *e);

struct engine_check { /* proves that thread and device answer */
    struct job job;
    struct engine *engine;
    bool open;         /* the device was open; else nothing was asked of it */
    struct err err;
    struct device_info device;
};
enum err_code engine_check(struct engine *en, struct engine_check *c, struct err *e);

/* ---- runs --------------------------------------------------------------------------------------- */

struct run_event {
    int32_t token;
    uint32_t position, n_top;
    enum finish finish;
    float logprob;
    int32_t top_token[RUN_MAX_TOP];
    float top_logprob[RUN_MAX_TOP];
};

struct run_top {
    int32_t token;
    float logprob;
};

struct run {
    /* the owner's, constant from run_submit until it has ended */
    struct engine_model *model;
    enum turn_kind kind;
    const int32_t *tokens;
    size_t n_tokens;
    struct sampling sampling;
    uint32_t max_tokens, n_top;
    const struct words *words; /* whose end-of-generation tokens end it */
    bool want_logprob;
    bool ignore_eog;
    uint32_t min_tokens;
    const int32_t *stop, *ban;  /* [n_stop], [n_ban], and phrases: see struct turn */
    size_t n_stop, n_ban;
    const struct str *phrase;
    size_t n_phrase;
    struct constraint *constraint; /* the engine's alone while the run lasts; NULL: none */
    float *scores;              /* TURN_SCORE: [n_tokens]; scores[0] is left alone */
    struct run_top *tops;       /* TURN_SCORE with n_top: [n_tokens][n_top], most likely first; or NULL */
    void (*notify)(struct run *r); /* Thread: loop. There are events, or it has ended */
    void *user;
    /* results, valid once run_ended */
    struct err err;             /* ERR_CANCELLED: run_cancel was heard */
    uint32_t n_cached;
    int64_t begun_ns, first_ns, last_ns; /* clock_ns: got a session; first and last event */
    /* between the threads */
    struct engine *engine;
    struct post news, end;      /* the end comes after all news, and is the engine's last word */
    struct job job;
    struct run_event *ring;     /* [RUN_RING] */
    atomic_uint put, got;       /* events ever put in and taken out */
    atomic_bool cancel, starved;
    bool ended;                 /* the loop's */
    /* the engine's */
    struct run *next;
    struct seat *seat;
};
/* Allocates the ring; a run that was initialised must be finished. */
enum err_code run_init(struct run *r, struct err *e);
void run_finish(struct run *r);
enum err_code run_submit(struct engine *en, struct run *r, struct err *e);
void run_cancel(struct run *r);                        /* it still ends by notify */
bool run_next(struct run *r, struct run_event *out);   /* false: nothing there now */
/* True from the notify that says so: the run is the owner's again, what the ring holds is all. */
bool run_ended(const struct run *r);

/* ---- figures ------------------------------------------------------------------------------------- */

struct engine_stats {
    bool open;                   /* the device */
    int64_t loading_ns;          /* clock_ns when the load that is under way began; 0: none */
    uint32_t models, sessions, active, waiting;
    uint64_t steps, rows, prefill_rows, tokens, runs, cancelled, failed;
    uint64_t cached_tokens, prompt_tokens;
    int64_t step_ns, device_ns;
    uint64_t lost;               /* times the device was lost */
};
struct engine_stats engine_stats(struct engine *en); /* Thread: any */
/* Sequences at work in one model. Thread: any. */
uint32_t engine_model_active(struct engine *en, const struct engine_model *m);

#endif
