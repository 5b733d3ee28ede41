/* The engine's boundary: all that a daemon includes of the runtime.
 *
 * A map, in the order of a call:
 *   words_load        the file's vocabulary and template, no weights; any thread afterwards
 *   model_estimate    bytes that a load would take, from the header alone
 *   runtime_create    opens the device
 *   model_load        file -> weights on the device, KV pages
 *   session_create    one timeline of tokens
 *   session_begin     "make the timeline these tokens, then go on": what it already holds of
 *                     them as a prefix is not computed again
 *   model_step        one step for every session that has work, prefill chunks and decode rows
 *                     together; gives events
 *   session_stop      seen between steps
 *
 * Two nouns cross the boundary: a model (loaded, immutable) and a session (one timeline). Callers
 * pass whole token prefixes and see no tensor.
 *
 * Threads: `words_*` on any thread. All else on the one engine thread that made the runtime,
 * except where said. Errors: on ERR_GPU_LOST no session has moved, and the runtime must be
 * destroyed (after its models) and made again; every other error leaves model and sessions
 * usable. */
#ifndef HEARTH_ENGINE_RUNTIME_H
#define HEARTH_ENGINE_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

/* ---- words: what a file says without its weights ------------------------------------------- */

struct words;
enum err_code words_load(const char *path, struct words **out, struct err *e);
void words_destroy(struct words *w);
const struct tokenizer *words_tokenizer(const struct words *w);      /* NULL: none in the file */
const struct chat_template *words_template(const struct words *w);   /* NULL: none to be had */
/* NULL where the template is the file's own (or there is none); else the name of the family whose
 * template it is, chosen from the vocabulary (text/family_template.h): "chatml", ... */
const char *words_template_family(const struct words *w);
/* The file has one, but not one for us: why (code ERR_OK otherwise). Such a file loads as words,
 * so that it can be shown. */
const struct err *words_no_tokenizer(const struct words *w);
const struct err *words_no_template(const struct words *w);

struct model_header {
    char arch[64];            /* general.architecture */
    char name[128];           /* general.name, "" when absent */
    char file_type[16];       /* "Q4_K_M", "F16", ...; from general.file_type, else the most used type */
    uint64_t n_params;        /* weights in the file */
    uint64_t tensor_bytes;
    uint32_t n_tensors;
    uint32_t n_vocab, n_ctx_train, n_embd, n_layer;
    bool has_weights;
    bool runnable;            /* this build can run it; else `why` says what it lacks */
    char why[256];
};
const struct model_header *words_header(const struct words *w);
/* Every metadata key as one JSON object ("general.architecture": ...); arrays longer than
 * max_array become null, as Ollama's show does. */
enum err_code words_metadata(const struct words *w, size_t max_array, struct buf *json, struct err *e);
/* [{"name":..., "type":..., "shape":[...]}, ...] */
enum err_code words_tensors(const struct words *w, struct buf *json, struct err *e);

/* ---- device -------------------------------------------------------------------------------- */

struct runtime;
struct runtime_options {
    const char *device;    /* "" or NULL: best real GPU, else the software one; an index; part of a
                              name; "ref": the C twins, no Vulkan */
    const char *cache_dir; /* pipeline cache and tuner; NULL: none */
    uint32_t cpu_threads;  /* of a software device; 0: see gpu.h */
    bool reproducible;     /* load no model whose sessions' bits depend on their company (ERR_UNSUPPORTED).
                              No plan of today does that, on any device: see plan.h */
    bool as_gpu;           /* test: plan, load and bind as for a real GPU, whatever the device is */
};
struct device_info {
    char name[256];
    char driver[256];
    bool software;         /* a CPU: lavapipe or ref */
    uint64_t memory_bytes; /* of the heap that weights go to */
};
enum err_code runtime_create(const struct runtime_options *o, struct runtime **out, struct err *e);
void runtime_destroy(struct runtime *r); /* after all its models */
const struct device_info *runtime_device(const struct runtime *r);
/* Runs a small kernel and checks its result: proves that the device still answers. */
enum err_code runtime_check(struct runtime *r, struct err *e);

/* ---- model --------------------------------------------------------------------------------- */

enum kv_type { KV_F16, KV_F32, KV_Q8_0 };

struct model_options {
    const char *path;
    uint32_t n_ctx;        /* most tokens of one session; 0: the model's own limit, at most 4096 */
    uint32_t n_seq;        /* sessions that can hold n_ctx tokens at once; 0: 4 */
    enum kv_type kv_type;
    bool unfused;          /* a launch for each operation: the reference for the fused plan */
};
struct model_estimate {
    uint64_t weight_bytes; /* on the device, repacked */
    uint64_t kv_bytes;     /* for n_seq sessions of n_ctx tokens */
    uint64_t scratch_bytes;
    uint32_t n_ctx, n_seq; /* as they would be */
};
enum err_code model_estimate(const struct model_options *o, struct model_estimate *out, struct err *e);

struct model;
enum err_code model_load(struct runtime *r, const struct model_options *o, struct model **out,
                         struct err *e);
void model_unload(struct model *m); /* after all its sessions */
/* Kernels are compiled and recorded when a step first needs them. For when there is nothing to do: readies one
 * more part of the programs; false: nothing is left, or it failed (a step that needs it says why). */
bool model_prepare(struct model *m);

struct model_info {
    char arch[64];
    uint32_t n_vocab, n_ctx, n_seq, n_ctx_train, n_embd, n_layer;
    uint64_t weight_bytes, kv_bytes, device_bytes; /* device_bytes: all of it on the device */
    int64_t load_ns;
    bool reproducible; /* a session's bits are the same alone and in a batch, however its prompt is cut */
};
const struct model_info *model_info(const struct model *m);

/* What the steps of a model have cost, since its load. Any thread may read a stale copy. */
struct model_counters {
    uint64_t steps, submits, launches, rows, tokens, weight_bytes;
    int64_t device_ns, step_ns; /* on the device; whole steps as the host saw them */
};
struct model_counters model_counters(const struct model *m);

/* ---- sessions ------------------------------------------------------------------------------ */

/* Sampling: see sampler.h for the order and exact meaning. temperature <= 0: argmax, ties to the
 * lower id. Random numbers are f(seed, position). */
struct sampling {
    float temperature;        /* 0.8 */
    int32_t top_k;            /* 40; <= 0: off */
    float top_p;              /* 0.9; >= 1: off */
    float min_p;              /* 0 */
    float repeat_penalty;     /* 1: off */
    int32_t repeat_last_n;    /* 64; -1: whole context; 0: off */
    float presence_penalty, frequency_penalty;
    uint64_t seed;
};
struct sampling sampling_default(void);

enum turn_kind {
    TURN_GENERATE, /* an EVENT_TOKEN a step until a finish */
    TURN_SCORE,    /* an EVENT_SCORE for each of tokens[1..n-1], in order; computes every row */
};
struct turn {
    enum turn_kind kind;
    const int32_t *tokens;  /* the whole timeline, BOS included; copied */
    size_t n_tokens;        /* 1 .. n_ctx */
    struct sampling sampling;
    uint32_t max_tokens;    /* 0: until end of generation or the context is full */
    const struct words *words; /* of the model's file: its end-of-generation tokens end the turn; must
                               live as long as the turn. NULL: no token ends it */
    bool ignore_eog;        /* bench: go on after an end-of-generation token */
    uint32_t n_top;         /* most likely tokens wanted with each event, 0..20 */
    bool want_logprob;      /* events of TURN_GENERATE carry logprob (else NaN; costs a pass over the
                               vocabulary); n_top > 0 implies it */
    bool want_logits;       /* events carry the whole row of logits */
    void *user;             /* comes back in every event */
};

struct session;
enum err_code session_create(struct model *m, struct session **out, struct err *e); /* ERR_BUSY: n_seq in use */
void session_destroy(struct session *s); /* NULL is fine; its pages are free at once */
/* ERR_TOO_LARGE: n_tokens over n_ctx; ERR_INVALID: an id out of range or no token at all.
 * *n_cached (may be NULL): tokens of the prefix that need no computing (at least one row is
 * always computed when logits are wanted). */
enum err_code session_begin(struct session *s, const struct turn *t, uint32_t *n_cached, struct err *e);
/* No further events; the timeline and its pages stay for a later session_begin. */
void session_stop(struct session *s);
bool session_active(const struct session *s);
uint32_t session_n_tokens(const struct session *s); /* tokens of the timeline held in KV pages */

enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH }; /* STOP: end-of-generation token */
enum event_kind { EVENT_TOKEN, EVENT_SCORE };
struct event {
    enum event_kind kind;
    enum finish finish;       /* EVENT_TOKEN: not FINISH_NONE on the last; EVENT_SCORE: STOP on the last */
    struct session *session;
    void *user;
    int32_t token;            /* sampled; or the token that was scored. With FINISH_STOP: the end token */
    uint32_t position;        /* of that token in the timeline */
    float logprob;            /* natural log, of the raw logits' softmax */
    uint32_t n_top;
    int32_t top_token[20];    /* most likely first */
    float top_logprob[20];
    const float *logits;      /* [n_vocab] that chose or scored the token, with want_logits; else NULL */
};
struct step {
    const struct event *events; /* valid until the next call on the model */
    size_t n_events;
    uint32_t n_rows, n_prefill; /* rows computed; how many of them were prompt */
    int64_t device_ns, step_ns;
};
bool model_has_work(const struct model *m);
/* One step. At most one recording's worth of rows (a prefill chunk and the decode rows).
 * Cost: for decode one submit, one wait, no allocation. */
enum err_code model_step(struct model *m, struct step *out, struct err *e);

/* The programs as text, one launch a line, each under its totals: what `hearthd --explain` prints.
 * Needs no weights, and without a runtime no device either: then the rest says what to plan for. */
struct explain_options {
    struct model_options model;
    const struct runtime *runtime; /* plan for its device; NULL: for the one below */
    uint32_t subgroup;  /* 8 on lavapipe, 32 on NVIDIA; below 32: a software device. 0: 32 */
    uint32_t cores;     /* compute units to fill; 0: 32 */
    uint32_t max_local; /* invocations of a workgroup; 0: 1024 */
    uint64_t max_range; /* bytes of one binding; 0: 2 GiB */
};
enum err_code model_explain(const struct explain_options *o, struct buf *out, struct err *e);

#endif
