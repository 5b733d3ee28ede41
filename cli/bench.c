/* hearth bench: speeds and perplexity, by the daemon's API alone. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "daemon/protocol.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_STREAMS 512
#define MAX_REPEATS 1000

/* ---- numbers --------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n == 0 ? 0 : n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* xorshift64*: Marsaglia (2003), Vigna (2016) */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

/* ---- small questions to the daemon ------------------------------------------------------------------ */

static enum err_code ask(struct client *c, const struct gen_request *r, json_t **root, struct err *e)
{
    struct buf body;
    enum err_code code;

    *root = NULL;
    buf_init(&body, PROTOCOL_MAX_BODY);
    gen_request_write(&body, r);
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the text is larger than %zu bytes",
                                 PROTOCOL_MAX_BODY) :
                         client_json(c, "POST", gen_request_path(r->kind), buf_str(&body), root, e);
    if (code == ERR_OK && !*root)
        code = err_set(e, ERR_FORMAT, "the daemon's reply to %s is empty", gen_request_path(r->kind));
    buf_finish(&body);
    return code;
}

struct place {
    char device[256], driver[256];
};

static void copy_member(char *out, size_t size, const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));

    snprintf(out, size, "%s", text ? text : "");
}

static enum err_code find_place(struct client *c, struct place *p, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = client_json(c, "GET", "/healthz", (struct str){ 0 }, &root, e);

    copy_member(p->device, sizeof p->device, root, "device");
    copy_member(p->driver, sizeof p->driver, root, "driver");
    json_decref(root);
    return code;
}

static enum err_code load(struct client *c, const char *model, int64_t keep_alive_ns,
                          int64_t *took_ns, struct err *e)
{
    struct gen_request r;
    json_t *root = NULL;
    enum err_code code;
    int64_t began = clock_ns();

    gen_request_init(&r, GEN_GENERATE);
    r.model = str_from(model);
    r.prompt = STR("");
    r.has_prompt = true;
    r.stream = false;
    r.has_keep_alive = keep_alive_ns >= 0;
    r.keep_alive_ns = keep_alive_ns;
    code = ask(c, &r, &root, e);
    *took_ns = clock_ns() - began;
    json_decref(root);
    return code;
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void peak_reset(int pid)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/proc/%d/clear_refs", pid);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "5", 1) != 1) /* 5: the peak begins anew (proc(5)) */
        errno = 0;
    close(fd);
}

static uint64_t peak_resident(int pid)
{
    char path[64], line[256];
    uint64_t kib = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib << 10;
}

/* The daemon's peak resident memory where it can be seen (a local one), and what lies on the device
 * beside it; of a remote one the size that it tells. */
static enum err_code peak_memory(struct client *c, const char *model, uint64_t *bytes, struct err *e)
{
    struct model_entry *models = NULL;
    json_t *root = NULL;
    size_t n = 0;
    enum err_code code = client_json(c, "GET", "/api/ps", (struct str){ 0 }, &root, e);
    uint64_t resident = c->peer_pid > 0 ? peak_resident(c->peer_pid) : 0;

    if (code == ERR_OK)
        code = model_list_read(root, LIST_PS, &models, &n, e);
    *bytes = resident;
    for (size_t i = 0; code == ERR_OK && i < n; i++)
        if (str_starts(models[i].name, str_from(model)))
            *bytes += resident ? models[i].size_vram : models[i].size;
    mem_free(models);
    json_decref(root);
    return code;
}

/* ---- prompts ----------------------------------------------------------------------------------------- */

static enum err_code tokenize(struct client *c, const char *model, struct str text, int32_t **tokens,
                              size_t *n, struct err *e)
{
    struct gen_request r;
    json_t *root = NULL;
    enum err_code code;

    gen_request_init(&r, GEN_TOKENIZE);
    r.model = str_from(model);
    r.content = text;
    r.has_content = r.add_special = true; /* as generate will */
    r.parse_special = false;
    code = ask(c, &r, &root, e);
    if (code == ERR_OK)
        code = tokens_read(root, "tokens", tokens, n, e);
    json_decref(root);
    return code;
}

/* Words that no two prompts share, so that nothing of one is in the cache for another. */
static void add_words(struct buf *text, uint64_t *random, size_t words)
{
    for (size_t w = 0; w < words; w++) {
        size_t letters = 2 + next_random(random) % 6;
        if (text->n > 0)
            buf_putc(text, ' ');
        while (letters-- > 0)
            buf_putc(text, (char)('a' + next_random(random) % 26));
    }
}

static enum err_code count_tokens(struct client *c, const char *model, struct str text, size_t *n,
                                  struct err *e)
{
    int32_t *tokens = NULL;
    enum err_code code = tokenize(c, model, text, &tokens, n, e);

    mem_free(tokens);
    return code;
}

/* Random text of `want` tokens, or of the most below that a cut can give: more than enough words, cut
 * where the number of tokens is right. A byte more is a token more at most, so bisection finds it. */
static enum err_code make_prompt(struct client *c, const char *model, size_t want, uint64_t *random,
                                 struct buf *text, struct err *e)
{
    size_t have = 0, few = 1, many;
    enum err_code code = ERR_OK;

    buf_clear(text);
    for (size_t words = want / 2 + 2; code == ERR_OK && have < want && !text->failed; words *= 2) {
        add_words(text, random, words);
        code = count_tokens(c, model, buf_str(text), &have, e);
    }
    if (text->failed)
        return err_no_memory(e, text->n, "a prompt");
    many = text->n;
    while (code == ERR_OK && have != want && many - few > 1) {
        size_t middle = few + (many - few) / 2;
        code = count_tokens(c, model, (struct str){ text->p, middle }, &have, e);
        if (have > want)
            many = middle;
        else
            few = middle;
        if (have == want)
            many = middle;
    }
    text->n = have == want ? many : few;
    text->p[text->n] = '\0';
    return code;
}

/* ---- streams ------------------------------------------------------------------------------------------ */

struct stream {
    struct client client;
    struct gen_request request;
    struct buf prompt;
    struct answer answer;
    int64_t *piece_ns; /* [answer.n_pieces] when each came */
    size_t n_pieces, cap;
    struct err e;
    enum err_code code;
};

static void note_piece(void *user, struct str text, bool thinking)
{
    struct stream *s = user;

    (void)text;
    (void)thinking;
    if (mem_grow(&s->piece_ns, &s->cap, s->n_pieces + 1, sizeof *s->piece_ns, 1u << 24))
        s->piece_ns[s->n_pieces++] = clock_ns();
}

static void *stream_thread(void *arg)
{
    struct stream *s = arg;

    s->code = answer_get(&s->client, &s->request, false, note_piece, s, &s->answer, &s->e);
    return NULL;
}

struct speed {
    long prompt, gen, parallel, repeat, window;
};

static enum err_code stream_prepare(struct stream *s, const struct client *c, const char *model,
                                    const struct speed *want, uint64_t *random, struct err *e)
{
    *s = (struct stream){ .client = *c };
    buf_init(&s->prompt, PROTOCOL_MAX_BODY / 2);
    gen_request_init(&s->request, GEN_GENERATE);
    s->request.model = str_from(model);
    s->request.raw = s->request.has_prompt = true;
    gen_options_set(&s->request.options, STR("temperature"), STR("0"), NULL);
    gen_options_set(&s->request.options, STR("ignore_eos"), STR("true"), NULL);
    s->request.options.num_predict = want->gen;
    s->request.options.given |= 1u << OPTION_NUM_PREDICT;
    if (make_prompt(&s->client, model, (size_t)want->prompt, random, &s->prompt, e) != ERR_OK)
        return e->code;
    s->request.prompt = buf_str(&s->prompt);
    return ERR_OK;
}

static void stream_finish(struct stream *s)
{
    answer_finish(&s->answer);
    buf_finish(&s->prompt);
    mem_free(s->piece_ns);
}

struct figures {
    double prefill, decode, ttft_ms; /* tokens per second, over all sequences */
    double prompt_tokens, gen_tokens;
};

/* The share of a stream's pieces that came in (from, to], in tokens. */
static double tokens_between(const struct stream *s, int64_t from, int64_t to)
{
    size_t inside = 0;

    for (size_t i = 0; i < s->n_pieces; i++)
        inside += s->piece_ns[i] > from && s->piece_ns[i] <= to;
    return s->n_pieces ? (double)s->answer.metrics.eval_count * (double)inside / (double)s->n_pieces :
                         0;
}

/* Of one sequence the daemon's own clock is the better one. */
static void figures_of_one(const struct stream *s, struct figures *f)
{
    const struct gen_metrics *m = &s->answer.metrics;
    uint64_t computed = m->prompt_eval_count - m->prompt_cached_count;

    if (m->prompt_eval_duration > 0)
        f->prefill = (double)computed * 1e9 / (double)m->prompt_eval_duration;
    if (m->eval_duration > 0 && m->eval_count > 1)
        f->decode = (double)(m->eval_count - 1) * 1e9 / (double)m->eval_duration;
}

/* Of several, prefill: from the first request until the last has its first token. */
static double prefill_of_many(const struct stream *s, size_t n)
{
    int64_t sent = INT64_MAX, last_first = 0;
    double computed = 0;

    for (size_t i = 0; i < n; i++) {
        const struct answer *a = &s[i].answer;
        sent = a->sent_ns < sent ? a->sent_ns : sent;
        last_first = a->first_ns > last_first ? a->first_ns : last_first;
        computed += (double)(a->metrics.prompt_eval_count - a->metrics.prompt_cached_count);
    }
    return last_first > sent ? computed * 1e9 / (double)(last_first - sent) : 0;
}

/* Of several, decode: while all are at it, from the last first token to the first end. Where they
 * never were (more sequences than the daemon takes at once), over all of the time. */
static double decode_of_many(const struct stream *s, size_t n)
{
    int64_t from = 0, to = INT64_MAX, first = INT64_MAX, last = 0;
    double tokens = 0;

    for (size_t i = 0; i < n; i++) {
        const struct answer *a = &s[i].answer;
        from = a->first_ns > from ? a->first_ns : from;
        to = a->end_ns < to ? a->end_ns : to;
        first = a->first_ns < first ? a->first_ns : first;
        last = a->end_ns > last ? a->end_ns : last;
    }
    if (from >= to) {
        from = first;
        to = last;
    }
    for (size_t i = 0; i < n; i++)
        tokens += tokens_between(&s[i], from, to);
    return to > from ? tokens * 1e9 / (double)(to - from) : 0;
}

static void note_tokens(const struct stream *s, size_t n, struct figures *f)
{
    double first[MAX_STREAMS];

    f->prompt_tokens = f->gen_tokens = 0;
    for (size_t i = 0; i < n; i++) {
        first[i] = (double)(s[i].answer.first_ns - s[i].answer.sent_ns) / 1e6;
        f->prompt_tokens += (double)s[i].answer.metrics.prompt_eval_count / (double)n;
        f->gen_tokens += (double)s[i].answer.metrics.eval_count / (double)n;
    }
    if (f->ttft_ms == 0)
        f->ttft_ms = median(first, n);
}

/* Sends all at once and waits for all. */
static enum err_code run_streams(struct stream *s, size_t n, long gen, struct err *e)
{
    pthread_t *threads = mem_zero(n, sizeof *threads);
    enum err_code code = threads ? ERR_OK : err_no_memory(e, n * sizeof *threads, "threads");
    size_t running = 0;

    for (; code == ERR_OK && running < n; running++) {
        int rc;
        answer_finish(&s[running].answer);
        s[running].n_pieces = 0;
        s[running].request.options.num_predict = gen;
        rc = pthread_create(&threads[running], NULL, stream_thread, &s[running]);
        if (rc != 0) {
            code = err_errno(e, ERR_NO_MEMORY, rc, "cannot start a thread");
            break;
        }
    }
    for (size_t i = 0; i < running; i++) {
        pthread_join(threads[i], NULL);
        if (code == ERR_OK && (code = s[i].code) != ERR_OK)
            *e = s[i].e;
    }
    mem_free(threads);
    return code;
}

/* Several are measured twice: one token each, which is prefill; then again, when their prompts are in
 * the cache and all begin to decode together. */
static enum err_code measure_streams(struct stream *s, size_t n, const struct speed *want,
                                     struct figures *f, struct err *e)
{
    enum err_code code = run_streams(s, n, n > 1 ? 1 : want->gen, e);

    if (code != ERR_OK)
        return code;
    note_tokens(s, n, f);
    if (n == 1) {
        figures_of_one(s, f);
        return ERR_OK;
    }
    f->prefill = prefill_of_many(s, n);
    code = run_streams(s, n, want->gen, e);
    if (code == ERR_OK) {
        note_tokens(s, n, f);
        f->decode = decode_of_many(s, n);
    }
    return code;
}

static enum err_code measure_once(struct cli *c, const struct speed *want, uint64_t *random,
                                  struct figures *f, struct err *e)
{
    size_t n = (size_t)want->parallel, ready = 0;
    struct stream *s = mem_zero(n, sizeof *s);
    enum err_code code = s ? ERR_OK : err_no_memory(e, n * sizeof *s, "streams");

    *f = (struct figures){ 0 };
    for (; code == ERR_OK && ready < n; ready++)
        code = stream_prepare(&s[ready], &c->client, c->argv[0], want, random, e);
    if (code == ERR_OK)
        code = measure_streams(s, n, want, f, e);
    for (size_t i = 0; i < ready; i++)
        stream_finish(&s[i]);
    mem_free(s);
    return code;
}

/* ---- speed --------------------------------------------------------------------------------------------- */

struct report {
    struct place place;
    struct figures median;
    double load_ms;
    uint64_t peak_bytes;
};

static void take_medians(const struct figures *f, size_t n, struct figures *out)
{
    double column[MAX_REPEATS];
    static const size_t fields[] = {
        offsetof(struct figures, prefill),       offsetof(struct figures, decode),
        offsetof(struct figures, ttft_ms),       offsetof(struct figures, prompt_tokens),
        offsetof(struct figures, gen_tokens),
    };

    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        double value;
        for (size_t i = 0; i < n; i++)
            memcpy(&column[i], (const char *)&f[i] + fields[k], sizeof column[i]);
        value = median(column, n);
        memcpy((char *)out + fields[k], &value, sizeof value);
    }
}

static enum err_code measure_load(struct cli *c, struct report *r, struct err *e)
{
    int64_t took;

    if (load(&c->client, c->argv[0], 0, &took, e) != ERR_OK)
        return e->code;
    if (c->client.peer_pid > 0)
        peak_reset(c->client.peer_pid);
    if (load(&c->client, c->argv[0], -1, &took, e) != ERR_OK)
        return e->code;
    r->load_ms = (double)took / 1e6;
    return find_place(&c->client, &r->place, e);
}

static void print_speed_json(const struct cli *c, const struct speed *want, const struct report *r)
{
    struct buf text;
    struct json_out j;

    buf_init(&text, 65536);
    json_begin(&j, &text);
    json_obj(&j);
    json_kstr(&j, "model", c->argv[0]);
    json_kstr(&j, "device", r->place.device);
    json_kstr(&j, "driver", r->place.driver);
    json_kint(&j, "prompt_tokens", llround(r->median.prompt_tokens));
    json_knum(&j, "prefill_tokens_per_s", r->median.prefill);
    json_kint(&j, "gen_tokens", llround(r->median.gen_tokens));
    json_knum(&j, "decode_tokens_per_s", r->median.decode);
    json_kint(&j, "parallel", want->parallel);
    json_knum(&j, "ttft_ms", r->median.ttft_ms);
    json_knum(&j, "load_ms", r->load_ms);
    json_kint(&j, "peak_bytes", (int64_t)r->peak_bytes);
    json_obj_end(&j);
    cli_print_json(buf_str(&text));
    buf_finish(&text);
}

static void print_speed(const struct cli *c, const struct speed *want, const struct report *r)
{
    char bytes[WORDS_SIZE];

    printf("%s on %s (%s)\n", c->argv[0], r->place.device, r->place.driver);
    printf("%-22s%.2f tokens/s (%.0f tokens)\n", "prefill:", r->median.prefill,
           r->median.prompt_tokens);
    printf("%-22s%.2f tokens/s (%.0f tokens)\n", "decode:", r->median.decode, r->median.gen_tokens);
    printf("%-22s%ld\n", "sequences at once:", want->parallel);
    printf("%-22s%.1f ms\n", "time to first token:", r->median.ttft_ms);
    printf("%-22s%.1f ms\n", "load:", r->load_ms);
    printf("%-22s%s\n", "peak memory:", words_bytes(r->peak_bytes, bytes));
}

static enum err_code measure_speed(struct cli *c, const struct speed *want, struct err *e)
{
    struct report r = { 0 };
    struct figures *f = mem_zero((size_t)want->repeat, sizeof *f), warm;
    uint64_t random = (uint64_t)clock_wall_ns() | 1;
    struct speed warm_up = { .prompt = want->prompt, .gen = 2,
                             .parallel = want->parallel };
    enum err_code code = f ? measure_load(c, &r, e) : err_no_memory(e, 0, "figures");

    /* The first run of a shape pays for what is compiled at first use. */
    if (code == ERR_OK)
        code = measure_once(c, &warm_up, &random, &warm, e);
    for (long i = 0; code == ERR_OK && i < want->repeat; i++) {
        term_progress(&c->term, "run %ld of %ld ...", i + 1, want->repeat);
        code = measure_once(c, want, &random, &f[i], e);
    }
    term_progress_end(&c->term);
    if (code == ERR_OK)
        code = peak_memory(&c->client, c->argv[0], &r.peak_bytes, e);
    if (code == ERR_OK) {
        take_medians(f, (size_t)want->repeat, &r.median);
        if (c->given[ARG_JSON])
            print_speed_json(c, want, &r);
        else
            print_speed(c, want, &r);
    }
    mem_free(f);
    return code;
}

/* ---- perplexity ---------------------------------------------------------------------------------------- */

static enum err_code read_file(const char *path, struct buf *out, struct err *e)
{
    char bytes[65536];
    FILE *f = fopen(path, "re");
    size_t n;
    enum err_code code = ERR_OK;

    if (!f)
        return err_errno(e, ERR_IO, errno, "cannot read %s", path);
    while (!out->failed && (n = fread(bytes, 1, sizeof bytes, f)) > 0)
        buf_put(out, bytes, n);
    if (ferror(f))
        code = err_errno(e, ERR_IO, errno, "cannot read %s", path);
    else if (out->failed)
        code = err_set(e, ERR_TOO_LARGE, "%s is larger than %zu bytes", path, out->max);
    fclose(f);
    return code;
}

struct perplexity {
    double nll;
    size_t scored, tokens;
};

/* Whole windows only; of each the tokens behind its middle one, which has been context for long
 * enough: n/2 - 1 of n (as llama.cpp's tool counts them). */
static void sum_windows(const struct score_reply *r, size_t window, struct perplexity *p)
{
    for (size_t begin = 0; begin + window <= r->n; begin += window) {
        for (size_t i = window / 2 + 1; i < window; i++)
            p->nll -= r->logprobs[begin + i];
        p->scored += window - window / 2 - 1;
        p->tokens += window;
    }
}

static enum err_code score(struct cli *c, struct str text, size_t window, struct perplexity *p,
                           struct err *e)
{
    struct gen_request r;
    struct score_reply reply = { 0 };
    json_t *root = NULL;
    enum err_code code;

    gen_request_init(&r, GEN_SCORE);
    r.model = str_from(c->argv[0]);
    r.content = text;
    r.has_content = true;
    r.window = (uint32_t)window;
    code = ask(&c->client, &r, &root, e);
    if (code == ERR_OK)
        code = score_read(root, &reply, e);
    if (code == ERR_OK && reply.n < window)
        code = err_set(e, ERR_INVALID, "%s has %zu tokens, less than one window of %zu",
                       c->value[ARG_PERPLEXITY], reply.n, window);
    else if (code == ERR_OK)
        sum_windows(&reply, window, p);
    score_reply_finish(&reply);
    json_decref(root);
    return code;
}

static void print_perplexity(const struct cli *c, const struct place *place,
                             const struct perplexity *p)
{
    double value = exp(p->nll / (double)p->scored);
    struct buf text;
    struct json_out j;

    if (!c->given[ARG_JSON]) {
        printf("%s on %s (%s)\n%-22s%.4f\n%-22s%zu (%zu scored)\n", c->argv[0], place->device,
               place->driver, "perplexity:", value, "tokens:", p->tokens, p->scored);
        return;
    }
    buf_init(&text, 65536);
    json_begin(&j, &text);
    json_obj(&j);
    json_kstr(&j, "model", c->argv[0]);
    json_kstr(&j, "device", place->device);
    json_knum(&j, "perplexity", value);
    json_kint(&j, "tokens", (int64_t)p->tokens);
    json_obj_end(&j);
    cli_print_json(buf_str(&text));
    buf_finish(&text);
}

static enum err_code measure_perplexity(struct cli *c, size_t window, struct err *e)
{
    struct perplexity p = { 0 };
    struct place place = { 0 };
    struct buf text;
    enum err_code code;

    buf_init(&text, PROTOCOL_MAX_BODY);
    code = read_file(c->value[ARG_PERPLEXITY], &text, e);
    term_progress(&c->term, "scoring %s ...", c->value[ARG_PERPLEXITY]);
    if (code == ERR_OK)
        code = score(c, buf_str(&text), window, &p, e);
    term_progress_end(&c->term);
    if (code == ERR_OK)
        code = find_place(&c->client, &place, e);
    if (code == ERR_OK)
        print_perplexity(c, &place, &p);
    buf_finish(&text);
    return code;
}

enum err_code bench_run(struct cli *c, struct err *e)
{
    struct speed want = { 0 };

    if (cli_number(c, ARG_PROMPT, 1, 1 << 20, 128, &want.prompt, e) != ERR_OK ||
        cli_number(c, ARG_GEN, 1, 1 << 20, 64, &want.gen, e) != ERR_OK ||
        cli_number(c, ARG_PARALLEL, 1, MAX_STREAMS, 1, &want.parallel, e) != ERR_OK ||
        cli_number(c, ARG_REPEAT, 1, MAX_REPEATS, 3, &want.repeat, e) != ERR_OK ||
        cli_number(c, ARG_WINDOW, 4, 1 << 20, 512, &want.window, e) != ERR_OK)
        return e->code;
    if (c->given[ARG_PERPLEXITY])
        return answer_explain(measure_perplexity(c, (size_t)want.window, e), e);
    return answer_explain(measure_speed(c, &want, e), e);
}
