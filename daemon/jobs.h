/* The one thread crossing: work goes from the loop to other threads, and news comes back.
 *
 * Lanes are bounded queues, each a row of jobs.c's table: STORE (one thread: look-ups, blocks on
 * the disk), TRANSFER (several: pulls, imports and their like, which take seconds to hours:
 * store_job.h), WORDS (a few: templates, tokens, large JSON), ENGINE (worked off by the engine's
 * own thread between steps: engine.h). A job is a node inside its owner's struct, so that nothing
 * is allocated to cross and a crossing cannot fail halfway.
 *
 *   loop: jobs_submit(job) ⇒ lane: job->work(job) ⇒ loop: job->done(job)
 *   any thread: jobs_post(post) ⇒ loop: post->on_loop(post)
 *
 * Ownership: from jobs_submit until `done` a job belongs to the lane; from jobs_post until
 * `on_loop` has begun, a post must stay where it is. A post that is posted again before the loop
 * came to it is told once. Order: jobs of a one-thread lane and posts keep theirs. */
#ifndef HEARTH_DAEMON_JOBS_H
#define HEARTH_DAEMON_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "runtime/base/err.h"

enum lane { LANE_STORE, LANE_TRANSFER, LANE_WORDS, LANE_ENGINE, LANE_COUNT };

struct post {
    struct post *next;
    void (*on_loop)(struct post *p); /* Thread: loop */
    bool queued;                     /* under the lock of jobs */
};

struct job {
    struct post post;
    struct job *next;
    void (*work)(struct job *j); /* Thread: the lane's */
    void (*done)(struct job *j); /* Thread: loop; NULL: nobody waits */
};

struct jobs;
struct jobs_options {
    uv_loop_t *loop;
    size_t max_queue[LANE_COUNT]; /* jobs that may wait in a lane; 0: as its row says */
};
enum err_code jobs_create(const struct jobs_options *o, struct jobs **out, struct err *e);
/* Waits for the jobs that are at work and tells the loop of all that is done, drops those that
 * wait (their `done` is not called), and closes the loop's handle. Thread: loop; the ENGINE lane's
 * thread has ended before. */
void jobs_destroy(struct jobs *j);

/* ERR_BUSY: the lane is full. `why` names the work in the sentence. Thread: loop. */
enum err_code jobs_submit(struct jobs *j, enum lane lane, struct job *job, struct err *e);
/* Takes back one that still waits: its work will not run, and it is the caller's again. Thread: loop. */
bool jobs_withdraw(struct jobs *j, enum lane lane, struct job *job);
void jobs_post(struct jobs *j, struct post *p); /* Thread: any */

/* For the thread that works a lane off itself: the jobs that wait, in order, or NULL. It sleeps until there is
 * one, jobs_wake was called or wait_ns have passed; -1: for ever. */
struct job *jobs_take(struct jobs *j, enum lane lane, int64_t wait_ns);
void jobs_finish(struct jobs *j, struct job *job); /* tells the loop that it is done */
void jobs_wake(struct jobs *j, enum lane lane);

#endif
