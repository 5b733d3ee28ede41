#include "daemon/metrics.h"

#include <inttypes.h>

#include "daemon/engine.h"
#include "daemon/http.h"

static const int64_t bounds_us[METRICS_BUCKETS] = {
    1000,   2500,   5000,    10000,   25000,   50000,   100000,
    250000, 500000, 1000000, 2500000, 5000000, 10000000, 60000000,
};

void histogram_add(struct histogram *h, int64_t ns)
{
    size_t i = 0;
    while (i < METRICS_BUCKETS && ns > bounds_us[i] * 1000)
        i++;
    h->bucket[i]++;
    h->count++;
    h->sum_ns += ns;
}

static void put_type(struct buf *b, const char *name, const char *type, const char *help)
{
    buf_printf(b, "# HELP hearth_%s %s\n# TYPE hearth_%s %s\n", name, help, name, type);
}

struct row {
    const char *name, *type, *help;
    double value;
};

static void put_rows(struct buf *b, const struct row *row, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put_type(b, row[i].name, row[i].type, row[i].help);
        buf_printf(b, "hearth_%s %.17g\n", row[i].name, row[i].value);
    }
}

static void put_histogram(struct buf *b, const char *name, const char *help,
                          const struct histogram *h)
{
    uint64_t sum = 0;
    put_type(b, name, "histogram", help);
    for (size_t i = 0; i < METRICS_BUCKETS; i++) {
        sum += h->bucket[i];
        buf_printf(b, "hearth_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)bounds_us[i] / 1e6,
                   sum);
    }
    buf_printf(b, "hearth_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    buf_printf(b, "hearth_%s_sum %.9f\n", name, (double)h->sum_ns / 1e9);
    buf_printf(b, "hearth_%s_count %" PRIu64 "\n", name, h->count);
}

void metrics_write(struct buf *b, const struct metrics *m, const struct metrics_now *now)
{
    const struct engine_stats *e = now->engine;
    const struct http_counts *h = now->http;
#define COUNTER(name, help, v) { name, "counter", help, (double)(v) }
#define GAUGE(name, help, v) { name, "gauge", help, (double)(v) }
    const struct row rows[] = {
        GAUGE("uptime_seconds", "Since the daemon began.", (double)now->uptime_ns / 1e9),
        COUNTER("http_connections_total", "Connections taken.", h->connections),
        GAUGE("http_connections", "Connections open.", h->open),
        COUNTER("http_requests_total", "Requests handed to a handler.", h->requests),
        COUNTER("http_refused_total", "Requests refused before any handler.", h->refused),
        COUNTER("http_received_bytes_total", "Bytes read.", h->bytes_in),
        COUNTER("http_sent_bytes_total", "Bytes written.", h->bytes_out),
        GAUGE("requests_generating", "Requests that have or want a sequence.", now->generating),
        GAUGE("requests_waiting", "Requests that wait for a sequence.", now->waiting),
        COUNTER("requests_busy_total", "Requests refused because the queue was full.",
                m->refused_busy),
        GAUGE("models_loaded", "Models in memory.", now->models),
        GAUGE("device_bytes", "Device memory that they take.", now->device_bytes),
        COUNTER("model_loads_total", "Loads.", m->loads),
        COUNTER("model_load_seconds_total", "Time in loads.", (double)m->load_ns / 1e9),
        GAUGE("device_open", "1 when the device is open.", e->open),
        COUNTER("device_lost_total", "Times the device was lost.", e->lost),
        GAUGE("sequences", "Sequences that hold a conversation.", e->sessions),
        GAUGE("sequences_active", "Sequences at work.", e->active),
        COUNTER("steps_total", "Steps of the engine.", e->steps),
        COUNTER("step_rows_total", "Rows computed.", e->rows),
        COUNTER("step_prefill_rows_total", "Rows of them that were prompt.", e->prefill_rows),
        COUNTER("step_seconds_total", "Time in steps.", (double)e->step_ns / 1e9),
        COUNTER("step_device_seconds_total", "Time in steps on the device.",
                (double)e->device_ns / 1e9),
        COUNTER("runs_total", "Generations and scorings that ended.", e->runs),
        COUNTER("runs_cancelled_total", "... because the client left.", e->cancelled),
        COUNTER("runs_failed_total", "... by an error.", e->failed),
        COUNTER("prompt_tokens_total", "Tokens of prompts.", e->prompt_tokens),
        COUNTER("prompt_cached_tokens_total", "... found in a warm sequence.", e->cached_tokens),
        COUNTER("tokens_total", "Tokens sampled or scored.", e->tokens),
        GAUGE("heap_blocks", "Blocks of heap memory in use.", now->live_blocks),
    };
#undef COUNTER
#undef GAUGE
    put_rows(b, rows, sizeof rows / sizeof *rows);
    put_type(b, "http_responses_total", "counter", "Answers by class of status.");
    for (int i = 1; i < 6; i++)
        buf_printf(b, "hearth_http_responses_total{class=\"%dxx\"} %" PRIu64 "\n", i, m->requests[i]);
    put_histogram(b, "request_seconds", "Whole generations.", &m->total);
    put_histogram(b, "first_token_seconds", "From request to first token.", &m->first_token);
    put_histogram(b, "token_seconds", "Between two tokens of one sequence.", &m->per_token);
}
