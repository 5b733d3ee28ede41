/* What the files of this room share. The map, in the order of a model's life:
 *
 *   runtime.c  the device; estimate and explain
 *   load.c     gguf -> hparams -> weights -> plan -> buffers
 *   plan.c     the transformer as launches: plan_weights.c what lies on the device, plan_launch.c one launch,
 *              plan_layer.c a layer of them; plan_step.c: for one step; plan_print.c: as text, and in sum
 *   record.c   programs -> commands, part by part, when they are first needed
 *   kv.c       pages
 *   session.c  one timeline: begin, stop, share, what it wants of the next step; session_turn.c what it makes
 *              of the step's logits
 *   batch.c    who takes part in a step; fills the step buffer, submits, reads, samples
 *   sampler.c  logits -> token: the row and the draw; sampler_chain.c the samplers, sampler_list.c what they
 *              work on, sampling.c their names and defaults
 *   phrases.c  strings that straddle tokens: what is held back for them
 *   words.c    vocabulary and template, without any of the above */
#ifndef HEARTH_ENGINE_ENGINE_H
#define HEARTH_ENGINE_ENGINE_H

#include "runtime/engine/kv.h"
#include "runtime/engine/phrases.h"
#include "runtime/engine/plan.h"
#include "runtime/engine/runtime.h"
#include "runtime/engine/sampler.h"
#include "runtime/gpu/gpu.h"

struct runtime {
    struct gpu *gpu;
    struct device_info info;
    struct plan_device plan_device;
    bool reproducible; /* as asked for */
};

struct session {
    struct model *m;
    uint32_t slot;          /* row of the page table */
    bool used, active;
    int32_t *tokens;        /* [n_ctx] the timeline */
    uint32_t n_tokens;      /* known tokens */
    uint32_t n_held;        /* of which the KV pages hold this many */
    uint32_t n_pages;
    struct turn turn;       /* its token pointer is not ours and not used */
    uint32_t n_made;        /* tokens sampled in this turn */
    bool paused;
    double mu;              /* mirostat's */
    struct phrases breakers; /* dry's; n 0: none */
    size_t unbroken;        /* newest tokens after the last breaker */
    struct hold *hold;      /* NULL: no phrases are banned */
    const uint32_t *mask;   /* of the constraint, for the row under way; NULL: see err */
    struct err err;         /* why there is no mask */
};

/* Of a program: all layers where every row's tokens lie in one split; where they do not, with the joins; final
 * norm and logits. */
enum part { PART_SHORT, PART_LONG, PART_HEAD, PARTS };
struct recording {
    const struct plan_launch *launch;
    size_t n_launch, n_run;       /* launches; of which run */
    struct gpu_buffer *args;      /* group counts of every launch, u32[3] each */
    struct gpu_command **segment; /* [n], each a place where a submit may end */
    uint32_t n;                   /* 0: not recorded yet */
};

struct step_row { /* who a row of the step belongs to */
    struct session *session;
    uint32_t index; /* in its timeline */
    int32_t out;    /* row of the logits, or -1 */
};

struct model {
    struct runtime *rt;
    struct hparams hp;
    struct plan *plan;
    struct gpu_buffer **buf; /* [plan->n_buffers] */
    struct recording rec[PLAN_PROGRAMS][PARTS];
    struct kv kv;
    struct sampler sampler;
    struct session *sessions;  /* [n_seq] */
    uint32_t next;             /* session whose prefill goes first in the next step */
    struct model_info info;
    struct model_counters counters;
    double ns_per_row;         /* of recent steps with tiles of rows */
    uint32_t *step;            /* the step buffer, mapped */
    float *logits;             /* mapped */
    uint32_t n_rows, n_out;
    struct step_row row[MAX_STEP_ROWS];
    struct event *event;       /* [MAX_STEP_ROWS + n_seq * HOLD_MAX] */
    struct gpu_command *submit[2 * HPARAMS_MAX_LAYERS]; /* of the step: [n_submit] */
    size_t n_submit;
};

/* record.c: m->rec[which][part] is there, or why it is not. */
enum err_code record_ready(struct model *m, uint32_t which, enum part part, struct err *e);
void record_finish(struct model *m);
/* Adds a launch to a command; its group counts stand in args[3 * index ..]. */
enum err_code record_launch(struct model *m, struct gpu_command *c, struct gpu_buffer *args, size_t index,
                            const struct plan_launch *l, struct err *e);

/* session.c: the rows that a session wants computed, and what a computed row means to it */
uint32_t session_pending(const struct session *s);
bool session_wants_logits(const struct session *s, uint32_t index);
/* Of the timeline's rows the first n stay held, or fewer where they lie in a page that others read. */
void session_keep(struct session *s, uint32_t n);

/* session_turn.c: a turn on it */
enum err_code session_begin_turn(struct session *s, const struct turn *t, struct err *e);
/* Gives back what the turn has allocated. */
void session_end_turn(struct session *s);
/* The mask for the token that the last row gives; while the device works. */
void session_constrain(struct session *s);
/* One row of logits has come: appends events to ev, at most SESSION_MAX_EVENTS, and says how many; samples the
 * next token, perhaps ends the turn. The logits are as before afterwards. */
size_t session_take(struct session *s, uint32_t index, float *logits, struct event *ev);

#endif
