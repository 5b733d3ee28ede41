/* Which models are in memory: policy only. No thread, no clock, no device: facts go in, a verdict
 * comes out, and loader.c acts on it.
 *
 * Rules. A model stays for its keep-alive after its last request; a request may change it. To make
 * room, idle models go first, the longest idle first, and those kept for ever last of all; busy
 * ones never. What cannot fit even alone is refused with the numbers. */
#ifndef HEARTH_DAEMON_RESIDENCY_H
#define HEARTH_DAEMON_RESIDENCY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESIDENCY_NEVER INT64_MAX

struct resident_fact {
    uint64_t bytes;       /* on the device */
    uint32_t users;       /* requests that hold it */
    bool moving;          /* being loaded or unloaded */
    int64_t keep_ns;      /* keep-alive; negative: for ever */
    int64_t idle_since;   /* clock_ns when users became 0 */
};

enum residency_verdict {
    RESIDENCY_FITS,   /* load it now */
    RESIDENCY_EVICT,  /* unload those marked, then ask again */
    RESIDENCY_WAIT,   /* something must become idle or finish moving first */
    RESIDENCY_REFUSE, /* larger than the budget */
};
/* evict: [n], set to what must go. */
enum residency_verdict residency_decide(const struct resident_fact *m, size_t n, uint64_t need,
                                        uint64_t budget, bool *evict);

/* When an idle model's time is over (clock_ns), or RESIDENCY_NEVER. */
int64_t residency_deadline(const struct resident_fact *m);
/* The earliest of all, or RESIDENCY_NEVER. */
int64_t residency_next(const struct resident_fact *m, size_t n);

/* How many sequences of a model to make room for. kv_bytes: of one sequence; rest: weights and
 * scratch; budget: all of the device that we may use. `wanted` is the operator's number, 0 for
 * none: then `usual` where their KV takes no more than an eighth of the budget, else 4 where it
 * fits, else fewer. At least 1. */
uint32_t residency_parallel(uint32_t wanted, uint32_t usual, uint64_t kv_bytes, uint64_t rest,
                            uint64_t budget);

#endif
