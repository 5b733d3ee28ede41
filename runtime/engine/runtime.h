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
const int32_t *words_eog(const struct words *w, size_t *n); /* its end-of-generation tokens */
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
/* The text of one metadata key, valid as long as w; empty: there is none. */
struct str words_text(const struct words *w, const char *key);
/* The text of one metadata key, valid as long as w; empty: there is none. */
struct str words_text(const struct words *w, const char *key);
/* The metadata as one JSON object ("general.architecture": ...), as Ollama's show has it: arrays longer than
 * max_array become null, the chat template is left out, general.parameter_count is there. Integers are exact, also
 * those beyond 2^63 that some readers refuse. */
enum err_code words_metadata(const struct words *w, size_t max_array, struct buf *json, struct err *e);
/* [{"name":..., "type":..., "shape":[...]}, ...] */
enum err_code words_tensors(const struct words *w, struct buf *json, struct err *e);

/* ---- quantising ----------------------------------------------------------------------------- */

/* A file of F32, F16 or BF16 (or the first of its shards) made into one of a smaller type, as a stream
 * (model/quantize.h). Thread: any, one at a time; needs no runtime. */
struct quantizer;
enum err_code quantizer_check(const char *type, struct err *e); /* ERR_INVALID lists the types */
/* ERR_UNSUPPORTED: the file is quantised already. Reads the header alone. */
enum err_code quantizer_open(const char *path, const char *type, struct quantizer **out, struct err *e);
void quantizer_close(struct quantizer *q);               /* NULL is fine */
uint64_t quantizer_bytes(const struct quantizer *q);     /* of the file that comes out */
const char *quantizer_text(const struct quantizer *q);   /* "quantizing F16 model to Q4_K_M" */
typedef enum err_code quantizer_write(void *user, const void *bytes, size_t n, struct err *e);
/* Hands the file to `write`, on the caller's thread; not ERR_OK of it ends the run with it. */
enum err_code quantizer_run(struct quantizer *q, unsigned threads, quantizer_write *write, void *user,
                            struct err *e);

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

/* Sampling: see sampler.h for the exact meaning. What is written off below does nothing. */
enum sampler_kind {
    SAMPLER_PENALTIES,
    SAMPLER_DRY,
    SAMPLER_TOP_N_SIGMA,
    SAMPLER_TOP_K,
    SAMPLER_TYPICAL_P,
    SAMPLER_TOP_P,
    SAMPLER_MIN_P,
    SAMPLER_XTC,
    SAMPLER_TEMPERATURE,
    SAMPLERS
};
struct token_bias {
    int32_t token;
    float bias; /* added to the logit; -INFINITY: never */
};
#define SAMPLING_MAX_BIAS 1024
#define SAMPLING_MAX_STRINGS 64      /* banned phrases, sequence breakers: each */
#define SAMPLING_MAX_STRING 256      /* bytes of one */
struct sampling {
    float temperature;        /* 0.8; <= 0: the best token, ties to the lower id */
    float dynatemp_range;     /* 0: off */
    float dynatemp_exponent;  /* 1 */
    int32_t top_k;            /* 40; <= 0: off */
    float top_p;              /* 0.9; >= 1: off */
    float min_p;              /* 0: off */
    float typical_p;          /* 1: off */
    float top_n_sigma;        /* 0: off */
    float xtc_probability;    /* 0: off */
    float xtc_threshold;      /* 0.1; > 0.5: off */
    float repeat_penalty;     /* 1: off */
    int32_t repeat_last_n;    /* 64; -1: whole context; 0: off */
    float presence_penalty, frequency_penalty;
    float dry_multiplier;     /* 0: off */
    float dry_base;           /* 1.75; < 1: off */
    int32_t dry_allowed_length; /* 2 */
    int32_t dry_penalty_last_n; /* -1: whole context; 0: off */
    const struct str *dry_breaker; /* [n_dry_breaker], borrowed while the turn lasts; needs turn.words */
    uint32_t n_dry_breaker;
    uint32_t mirostat;        /* 0: off, 1, 2 */
    float mirostat_tau, mirostat_eta; /* 5, 0.1 */
    uint64_t seed;            /* random numbers are f(seed, position, purpose) */
    const struct token_bias *bias; /* [n_bias], at most SAMPLING_MAX_BIAS; borrowed while the turn lasts */
    uint32_t n_bias;
    uint32_t n_chain;         /* samplers that run, in this order; one that is not in it does nothing */
    uint8_t chain[SAMPLERS];  /* enum sampler_kind; all of them in the enum's order */
};
struct sampling sampling_default(void);
/* The order by name: penalties, dry, top_n_sigma, top_k, typ_p (typical_p), top_p, min_p, xtc, temperature.
 * ERR_INVALID: no such sampler, or twice. */
enum err_code sampling_order(struct sampling *s, const struct str *name, size_t n, struct err *e);

struct constraint; /* runtime/text/constraint.h */

enum turn_kind {
    TURN_GENERATE, /* an EVENT_TOKEN a step until a finish */
    TURN_SCORE,    /* an EVENT_SCORE for each of tokens[1..n-1], in order; computes every row */
};
/* What is pointed at is borrowed as long as the turn lasts, but for tokens. */
struct turn {
    enum turn_kind kind;
    const int32_t *tokens;  /* the whole timeline, BOS included; copied */
    size_t n_tokens;        /* 1 .. n_ctx */
    struct sampling sampling;
    uint32_t max_tokens;    /* 0: until end of generation or the context is full */
    uint32_t min_tokens;    /* no end-of-generation or stop token before that many others were made */
    const struct words *words; /* of the model's file: its end-of-generation tokens end the turn. NULL: no
                                  token ends it */
    bool ignore_eog;        /* no end-of-generation token is drawn, unless the constraint leaves no other */
    const int32_t *stop;    /* [n_stop] tokens that end the turn too */
    size_t n_stop;
    const int32_t *ban;     /* [n_ban] tokens that are not drawn */
    size_t n_ban;
    const struct str *phrase; /* [n_phrase] strings that the text does not contain; needs words. Where one
                                 comes up, the timeline goes back to the token that began it, which is banned
                                 there; events come later by what a phrase may be begun in. Where no way
                                 around is found: FINISH_FAILED, before the phrase */
    size_t n_phrase;
    struct constraint *constraint; /* which tokens may come, and hears which came; or NULL */
    uint32_t n_top;         /* most likely tokens wanted with each event, 0..20 */
    bool want_logprob;      /* events of TURN_GENERATE carry logprob (else NaN; costs a pass over the
                               vocabulary); n_top > 0 implies it */
    bool want_logits;       /* events carry the whole row of logits; not with phrases */
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
/* A paused turn takes no part in steps; unpaused it goes on as if nothing had been. */
void session_pause(struct session *s, bool paused);
/* s, which has no turn, gets the first n tokens of another session's timeline (at most what that one holds),
 * which it shares with it: whole pages by reference, the rest of the last one copied. */
enum err_code session_share(struct session *s, const struct session *from, uint32_t n, struct err *e);
/* A new session with all that s holds. */
enum err_code session_fork(const struct session *s, struct session **out, struct err *e);
uint32_t session_n_tokens(const struct session *s); /* tokens of the timeline held in KV pages */

#define SESSION_MAX_EVENTS 49 /* of one step: a token, and those that were held back for a banned phrase */

enum finish { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_FAILED };
enum event_kind { EVENT_TOKEN, EVENT_SCORE };
struct event {
    enum event_kind kind;
    enum finish finish;       /* EVENT_TOKEN: not FINISH_NONE on the last; EVENT_SCORE: STOP on the last */
    struct session *session;
    void *user;
    int32_t token;            /* sampled; or the token that was scored. With FINISH_STOP: the end token, or
                                 TOKEN_NONE where a constraint has come to its end; FINISH_FAILED: none */
    const struct err *err;    /* FINISH_FAILED: why; else NULL */
    uint32_t position;        /* of that token in the timeline */
    float logprob;            /* natural log, of the softmax of the raw logits: before bias, mask and samplers */
    uint32_t n_top;
    int32_t top_token[20];    /* most likely first */
    float top_logprob[20];
    const float *logits;      /* [n_vocab] that chose or scored the token, with want_logits; else NULL */
};
struct step {
    const struct event *events; /* valid until the next call on the model */
    size_t n_events;            /* EVENT_TOKENs: at most SESSION_MAX_EVENTS of one session */
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
