#include "store/job.h"

#include "runtime/base/clock.h"

#define PACE_NS 100000000

void store_job_tell(const struct store_job *j, const char *status)
{
    struct store_event ev = { .status = status };
    if (j && j->event)
        j->event(j->user, &ev);
}

void store_job_progress(const struct store_job *j, const char *status, const struct digest *d,
                        uint64_t completed, uint64_t total)
{
    struct store_event ev = {
        .status = status, .has_digest = true, .digest = *d, .total = total, .completed = completed
    };
    if (j && j->event)
        j->event(j->user, &ev);
}

bool store_pace_due(struct store_pace *p, bool at_its_end)
{
    int64_t now = clock_ns();
    if (!at_its_end && p->last_ns && now - p->last_ns < PACE_NS)
        return false;
    p->last_ns = now;
    return true;
}
