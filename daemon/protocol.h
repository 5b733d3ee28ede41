/* The API as structs: requests and replies <-> JSON, for the daemon and for the command.
 *
 * Pure: no sockets, no clock. The shapes are those of contract.md ("The API"): Ollama's /api
 * routes field by field, and our own beside them. A `*_read` turns a parsed JSON tree into a
 * struct and checks types and ranges; a `*_write` appends JSON text to a buffer.
 *
 * Ownership: a struct that was read borrows its strings and trees from the tree it was read from
 * (`root`, which the struct owns where it has that member: `gen_request_finish`, ... let it go).
 * A caller that fills a struct to write it keeps the pieces alive until the write returns.
 * Optional strings are the slice {NULL, 0} when absent. Errors: ERR_INVALID with a sentence that
 * names the field. Thread: any; a struct belongs to one thread at a time.
 *
 * Units: *_duration are nanoseconds, sizes are bytes, time stamps are nanoseconds since 1970 in
 * the structs and RFC 3339 in JSON. */
#ifndef HEARTH_DAEMON_PROTOCOL_H
#define HEARTH_DAEMON_PROTOCOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define PROTOCOL_MAX_BODY ((size_t)16 << 20) /* a JSON request body */
#define PROTOCOL_MAX_LINE ((size_t)8 << 20)  /* one line of a streamed reply */
#define PROTOCOL_MAX_STOPS 64
#define PROTOCOL_MAX_STRINGS 64       /* of a list among the options; */
#define PROTOCOL_MAX_STRING_BYTES 256 /* each of them */
#define PROTOCOL_MAX_IDS 1024
#define PROTOCOL_MAX_TOP_LOGPROBS 20
#define PROTOCOL_MAX_CHOICES 8

/* ---- small forms ----------------------------------------------------------------------------- */

/* "90s", "5m", "1h30m", "1.5h", "300ms", "-1m", "0", as Go's time.ParseDuration; with
 * bare_seconds also "90" and "-1". */
bool duration_read(struct str text, bool bare_seconds, int64_t *ns);
void duration_write(struct buf *out, int64_t ns); /* "1h30m0s", "5m0s", "1.5s" */

#define RFC3339_SIZE 40
/* 2026-01-02T03:04:05.123456789Z (UTC); returns out. */
const char *rfc3339_write(int64_t wall_ns, char out[RFC3339_SIZE]);
bool rfc3339_read(struct str text, int64_t *wall_ns); /* any offset, any number of digits */

/* ---- options ---------------------------------------------------------------------------------- */

/* "options" of a request and PARAMETERs of a model. `given` has one bit a row of the table in
 * protocol.c: a value is meaningful only when its bit is set. */
struct gen_options {
    uint64_t given;
    int64_t num_ctx, num_predict, num_keep, seed, top_k, repeat_last_n;
    double temperature, top_p, min_p, typical_p;
    double repeat_penalty, presence_penalty, frequency_penalty;
    bool reproducible; /* ours: refuse rather than answer with bits that depend on the batch */
    bool ignore_eos;   /* llama.cpp's: no end-of-generation token is drawn */
    struct str stop[PROTOCOL_MAX_STOPS];
    size_t n_stop;
    /* llama.cpp's names and meaning; runtime/engine/sampler.h has the details */
    double dynatemp_range, dynatemp_exponent, top_n_sigma, xtc_probability, xtc_threshold;
    double dry_multiplier, dry_base, mirostat_tau, mirostat_eta;
    int64_t dry_allowed_length, dry_penalty_last_n, mirostat;
    int64_t min_tokens;
    const json_t *samplers;              /* names, in the order in which they run */
    const json_t *dry_sequence_breakers; /* strings */
    const json_t *banned_strings;        /* strings that the answer does not contain */
    const json_t *banned_tokens, *stop_token_ids; /* ids */
    const json_t *logit_bias;            /* {"id": bias, ...} or [[id, bias], ...]; false: never */
};
enum gen_option {
    OPTION_NUM_CTX,
    OPTION_NUM_PREDICT,
    OPTION_NUM_KEEP,
    OPTION_SEED,
    OPTION_TOP_K,
    OPTION_REPEAT_LAST_N,
    OPTION_TEMPERATURE,
    OPTION_TOP_P,
    OPTION_MIN_P,
    OPTION_TYPICAL_P,
    OPTION_REPEAT_PENALTY,
    OPTION_PRESENCE_PENALTY,
    OPTION_FREQUENCY_PENALTY,
    OPTION_REPRODUCIBLE,
    OPTION_IGNORE_EOS,
    OPTION_STOP,
    OPTION_DYNATEMP_RANGE,
    OPTION_DYNATEMP_EXPONENT,
    OPTION_TOP_N_SIGMA,
    OPTION_XTC_PROBABILITY,
    OPTION_XTC_THRESHOLD,
    OPTION_DRY_MULTIPLIER,
    OPTION_DRY_BASE,
    OPTION_DRY_ALLOWED_LENGTH,
    OPTION_DRY_PENALTY_LAST_N,
    OPTION_DRY_SEQUENCE_BREAKERS,
    OPTION_MIROSTAT,
    OPTION_MIROSTAT_TAU,
    OPTION_MIROSTAT_ETA,
    OPTION_MIN_TOKENS,
    OPTION_STOP_TOKEN_IDS,
    OPTION_BANNED_TOKENS,
    OPTION_BANNED_STRINGS,
    OPTION_LOGIT_BIAS,
    OPTION_SAMPLERS,
    OPTION_COUNT
};
static inline bool option_given(const struct gen_options *o, enum gen_option k)
{
    return (o->given >> k & 1) != 0;
}
/* `object` may be NULL or null. Unknown keys are passed over, null values too; an integer may be
 * written 40.0. The slices of `stop` and the lists borrow from `object`. */
enum err_code gen_options_read(const json_t *object, struct gen_options *o, struct err *e);
void gen_options_write(struct buf *out, const struct gen_options *o); /* a JSON object */
/* One value as text ("temperature", "0.6"), as a Modelfile or /set writes it; `stop` adds one, other lists
 * cannot be given so. ERR_NOT_FOUND: no option of that name. */
enum err_code gen_options_set(struct gen_options *o, struct str name, struct str value,
                              struct err *e);
const char *gen_option_name(enum gen_option k);
/* The i-th of a logit_bias that was read. */
void gen_option_bias(const json_t *logit_bias, size_t i, int64_t *token, double *bias);
/* What is given in `over` replaces what is in `o`. */
void gen_options_merge(struct gen_options *o, const struct gen_options *over);

/* ---- requests that make words: generate, chat, tokenize, detokenize, render, score ------------ */

enum gen_kind { GEN_GENERATE, GEN_CHAT, GEN_TOKENIZE, GEN_DETOKENIZE, GEN_RENDER, GEN_SCORE };
enum think { THINK_UNSET, THINK_OFF, THINK_ON, THINK_LOW, THINK_MEDIUM, THINK_HIGH, THINK_MAX };

enum tool_choice { TOOLS_AUTO, TOOLS_NONE, TOOLS_REQUIRED, TOOLS_NAMED };
/* What "format" asks for: "json", a JSON schema, or ours: {"type": "grammar", "grammar": GBNF},
 * {"type": "regex", "regex": TEXT}, {"type": "choice", "choice": [TEXT, ...]}. */
enum format_kind {
    FORMAT_NONE,
    FORMAT_JSON,
    FORMAT_SCHEMA,
    FORMAT_GRAMMAR,
    FORMAT_REGEX,
    FORMAT_CHOICE,
};

#define KEEP_ALIVE_FOREVER INT64_C(-1)

struct gen_request {
    enum gen_kind kind;
    json_t *root;       /* owns all slices and trees below when the struct was read; else NULL */
    struct str model;
    /* generate; render takes either prompt or messages */
    struct str prompt, suffix, system, template;
    bool has_prompt;    /* the field was there (render chooses by it) */
    bool raw;
    const json_t *context;  /* array of token ids, or NULL */
    size_t n_images;
    /* chat, render */
    const json_t *messages; /* array of objects with a string role, or NULL */
    const json_t *tools;    /* array of objects with a function that has a name, or NULL */
    enum tool_choice tool_choice;
    struct str tool_name;   /* TOOLS_NAMED: one of tools */
    const json_t *template_kwargs; /* "chat_template_kwargs": object, or NULL */
    bool add_generation_prompt; /* render; true unless said otherwise */
    bool has_generation_prompt; /* render: the field was there: a last message of the assistant is then not
                                   gone on with, but closed */
    /* generate and chat */
    bool stream;            /* default true */
    enum format_kind format_kind;
    const json_t *format;   /* as it came; NULL for none: absent, null or "" */
    const json_t *format_of; /* the schema, the text or the list of texts; NULL for "json" */
    bool has_keep_alive;
    int64_t keep_alive_ns;  /* negative: for ever */
    enum think think;
    struct gen_options options;
    bool logprobs;
    uint32_t top_logprobs;
    bool echo;              /* generate, ours: the prompt comes first, with its log-probabilities if asked for */
    uint32_t n;             /* ours: answers to one prompt, 1 to PROTOCOL_MAX_CHOICES; the i-th is drawn by seed + i */
    bool truncate, shift;   /* default true */
    /* tokenize, detokenize, score */
    struct str content;
    bool has_content;
    const json_t *tokens;   /* array of token ids, or NULL */
    bool add_special;       /* tokenize: default false */
    bool parse_special;     /* tokenize: default true */
    bool pieces;            /* tokenize: "with_pieces" or "pieces" */
    uint32_t window;        /* score; 0: one window over all */
};
void gen_request_init(struct gen_request *r, enum gen_kind kind); /* the defaults */
/* Takes over `root` (also on failure). */
enum err_code gen_request_read(enum gen_kind kind, json_t *root, struct gen_request *r,
                               struct err *e);
void gen_request_write(struct buf *out, const struct gen_request *r); /* what differs from default */
void gen_request_finish(struct gen_request *r);
const char *gen_request_path(enum gen_kind kind); /* "/api/generate", ... */

/* ---- replies of generate and chat -------------------------------------------------------------- */

struct gen_logprob {
    struct str token; /* may be part of a UTF-8 sequence: `bytes` in JSON are exact */
    double logprob;   /* NAN, null in JSON: the first token of an echoed prompt has none */
};
struct gen_logprobs {
    struct gen_logprob chosen;
    struct gen_logprob top[PROTOCOL_MAX_TOP_LOGPROBS];
    size_t n_top;
};

/* What a generation has cost. eval_duration runs from the first token to the last, so it covers
 * eval_count - 1 steps; prompt_eval_duration ends with the first token. */
struct gen_metrics {
    int64_t total_duration, load_duration, prompt_eval_duration, eval_duration;
    int64_t queue_duration;         /* ours: waited for a free session; in no other figure but total */
    uint64_t prompt_eval_count;     /* all tokens of the prompt, those found in the cache too */
    uint64_t prompt_cached_count;   /* ours: how many of them were in the cache */
    uint64_t eval_count;
};

struct gen_tool_call {
    struct str id, name;
    struct str arguments; /* a JSON object, as text */
    uint32_t index;       /* of the calls of one message */
};

/* One line of a stream, or the whole reply when it is not streamed. Of a request for several answers: with `has_index`
 * it belongs to that one alone; without, it is the last or only one, has its fields from answer 0, figures over all of
 * them, and each of them in `choices`. */
struct gen_chunk {
    enum gen_kind kind; /* GEN_GENERATE: "response"; GEN_CHAT: "message" */
    bool has_index;
    uint32_t index;
    struct str model;
    int64_t created_wall_ns;
    struct str text, thinking;
    const struct gen_tool_call *tool_calls; /* [n_tool_calls] whole calls */
    size_t n_tool_calls;
    const struct gen_logprobs *logprobs; /* [n_logprobs] */
    size_t n_logprobs;
    bool done;
    struct str done_reason;       /* "stop", "length", "load", "unload"; empty: absent */
    bool has_metrics;
    struct gen_metrics metrics;
    const int32_t *context;       /* [n_context] prompt and answer; NULL: absent */
    size_t n_context;
    uint64_t dropped_messages;    /* ours: "truncated_messages", absent when 0 */
    /* [n_choices], each of the same kind; of them index, what was said, done_reason, logprobs and metrics.eval_count
     * are written */
    const struct gen_chunk *choices;
    size_t n_choices;
};
void gen_chunk_write(struct buf *out, const struct gen_chunk *c); /* no newline */
/* tool calls, logprobs, context and choices are not read back. An {"error": ...} line gives its code by HTTP status
 * (or ERR_INTERNAL) and its text. The slices borrow from `line`. */
enum err_code gen_chunk_read(const json_t *line, struct gen_chunk *c, struct err *e);

/* ---- models -------------------------------------------------------------------------------------- */

struct model_details {
    struct str parent_model, format, family, parameter_size, quantization_level;
    uint64_t context_length, embedding_length; /* 0: absent */
};
struct model_entry { /* of /api/tags and /api/ps */
    struct str name;   /* with its tag, default host and library elided */
    struct str digest; /* 64 hex digits */
    uint64_t size;
    int64_t modified_wall_ns; /* tags */
    struct model_details details;
    uint64_t context_length; /* ps: that it runs with; tags, as well as in `details`. 0: absent */
    bool referenced;          /* tags: the file lies outside the store (import by reference) */
    struct str path;          /* tags, ours: of a referenced file; absent for others */
    struct str capabilities;  /* tags: "completion,tools"; an array in JSON, absent when empty */
    struct str origin, source, revision, license; /* tags, ours: how and whence it came; absent when empty */
    /* ps */
    int64_t expires_wall_ns;
    uint64_t size_vram;
    uint64_t sessions, active; /* ours: sequences in the batch, and how many are at work */
    bool reproducible;         /* ours: the same bits alone and in a batch (options.reproducible) */
};
enum model_list_kind { LIST_TAGS, LIST_PS };
/* transfers: the JSON array of protocol_transfer.h; empty: absent. */
void model_list_write(struct buf *out, enum model_list_kind kind, const struct model_entry *v,
                      size_t n, struct str transfers);
/* *v is one mem_alloc'ed block (mem_free); its slices borrow from root. */
enum err_code model_list_read(const json_t *root, enum model_list_kind kind, struct model_entry **v,
                              size_t *n, struct err *e);

/* show, copy, delete, import, stop: requests with few fields */
struct model_request {
    json_t *root;
    struct str model;                /* "model" or "name" */
    struct str source, destination;  /* copy */
    bool verbose;                    /* show */
    struct str system, template;     /* show: as if the model had these; empty: its own */
    struct str path;                 /* import; `model` may then be empty: a bundle has names of its own */
    bool reference;                  /* import: leave the file where it is */
    bool stream;                     /* import: news as it comes (protocol_transfer.h); default false */
};
enum model_request_kind { REQUEST_SHOW, REQUEST_COPY, REQUEST_DELETE, REQUEST_IMPORT };
enum err_code model_request_read(enum model_request_kind kind, json_t *root,
                                 struct model_request *r, struct err *e); /* takes over root */
void model_request_write(struct buf *out, enum model_request_kind kind,
                         const struct model_request *r);
void model_request_finish(struct model_request *r);

struct show_reply {
    struct str license, modelfile, parameters, system, template;
    struct str renderer, parser, requires; /* which other programs heed */
    struct model_details details;
    struct str model_info;            /* JSON object, written as it is; when read: model_info_tree */
    struct str tensors;               /* JSON array; empty: absent */
    const json_t *model_info_tree, *tensors_tree;
    const json_t *messages;           /* array of {role, content}, or NULL */
    struct str capabilities[8];
    size_t n_capabilities;
    int64_t modified_wall_ns;
    struct str digest, path; /* ours */
    struct str origin, source, revision; /* ours: how it came ("registry", "import"), from where, which */
    struct str template_family; /* ours: whose template it is, chosen from the vocabulary; empty: the file's own */
    uint64_t size;           /* ours */
};
void show_reply_write(struct buf *out, const struct show_reply *r);
enum err_code show_reply_read(const json_t *root, struct show_reply *r, struct err *e);

/* ---- the rest ----------------------------------------------------------------------------------- */

/* {"error": text} */
void error_write(struct buf *out, const char *text);
/* The sentence of an error reply, or a made-up one naming the status; code by HTTP status. */
enum err_code error_read(const json_t *root, int http_status, struct err *e);
/* The code whose row in ERR_TABLE has this HTTP status: 404 -> ERR_NOT_FOUND, ... */
enum err_code error_of_status(int http_status);

/* {"version", "hearth"}: the version of Ollama whose API is spoken, by which clients judge what there is; our own. */
void version_write(struct buf *out, const char *spoken, const char *hearth);

/* tokenize */
struct tokens_reply {
    const int32_t *tokens;
    size_t n;
    const struct str *pieces; /* [n] or NULL; one that is not UTF-8 becomes an array of bytes */
};
void tokens_write(struct buf *out, const struct tokens_reply *r);
/* The array `key` of root; *v is mem_alloc'ed. */
enum err_code tokens_read(const json_t *root, const char *key, int32_t **v, size_t *n,
                          struct err *e);

/* render */
void render_write(struct buf *out, struct str prompt, const int32_t *tokens, size_t n);

/* score: logprobs[i] of tokens[i]; null (NAN here) for the first token of a window */
struct score_reply {
    int32_t *tokens;
    double *logprobs;
    size_t n;
};
void score_write(struct buf *out, const int32_t *tokens, const float *logprobs, size_t n);
enum err_code score_read(const json_t *root, struct score_reply *r, struct err *e);
void score_reply_finish(struct score_reply *r);

#endif
