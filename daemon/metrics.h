/* What the daemon counts, and its Prometheus text (exposition format 0.0.4). No prompt, answer,
 * model name or client appears in it. Thread: loop. */
#ifndef HEARTH_DAEMON_METRICS_H
#define HEARTH_DAEMON_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"

struct engine_stats;
struct http_counts;

#define METRICS_BUCKETS 14
struct histogram { /* of seconds; bounds in metrics.c */
    uint64_t bucket[METRICS_BUCKETS + 1]; /* the last: everything above */
    uint64_t count;
    int64_t sum_ns;
};
void histogram_add(struct histogram *h, int64_t ns);

struct metrics {
    uint64_t loads;
    int64_t load_ns;
    uint64_t requests[6]; /* by hundred of the HTTP status; [0] unused */
    uint64_t refused_busy;
    uint64_t prompt_tokens, eval_tokens;
    struct histogram total, first_token, per_token;
};

struct metrics_now { /* gauges, read when asked */
    const struct engine_stats *engine;
    const struct http_counts *http;
    size_t generating, waiting, models;
    uint64_t device_bytes, live_blocks;
    int64_t uptime_ns;
};
void metrics_write(struct buf *out, const struct metrics *m, const struct metrics_now *now);

#endif
