/* A runtime without arithmetic: the boundary of runtime.h but its words, with faults on demand, so
 * that the daemon's engine thread can be tested for what a real device does rarely.
 *
 * The token after a timeline is f(last token, its length), so that answers can be foretold: ids
 * 36..95, which tiny_gguf.py's vocabulary has as printable bytes. */
#ifndef HEARTH_TESTS_FAKE_RUNTIME_H
#define HEARTH_TESTS_FAKE_RUNTIME_H

#include <stdatomic.h>
#include <stdint.h>

struct fake_runtime {
    atomic_int step_us;        /* a step takes this long */
    atomic_int load_us;        /* a load likewise */
    atomic_int lose_at_step;   /* counts down: at 1 the step loses the device; 0: never */
    atomic_int fail_at_step;   /* the same, with an error that leaves all usable */
    atomic_int fail_load;      /* the next loads fail with this error code */
    atomic_int irreproducible; /* models say so of themselves */
    atomic_int eog_at;         /* the token at this position ends a generation; 0: none does */
    atomic_int n_ctx;          /* of a model that is loaded without saying */
    atomic_ullong memory;      /* of the device */
    atomic_int opened, loads, unloads, steps, sessions, most_sessions, checks;
    atomic_int n_cached;       /* of the last session_begin */
    atomic_int begins, shares;
};
extern struct fake_runtime fake;

#define FAKE_VOCAB 49152
int32_t fake_next(int32_t last, uint32_t n);

#endif
