/* The daemon's parts in one place, for the handlers. Thread: the loop's, but where a part's own
 * header says more. */
#ifndef HEARTH_DAEMON_DAEMON_H
#define HEARTH_DAEMON_DAEMON_H

#include "daemon/config.h"
#include "daemon/engine.h"
#include "daemon/http.h"
#include "daemon/jobs.h"
#include "daemon/metrics.h"
#include "store/store.h"

struct loader;
struct store_call;
struct blob_upload;
struct uploads;
struct words_cache;

struct daemon {
    struct config config;
    uv_loop_t loop;
    struct auth auth;
    struct http_server *http;
    struct jobs *jobs;
    struct store *store;
    struct engine *engine;
    struct words_cache *words;
    struct loader *loader;
    struct metrics metrics;
    size_t n_gens;       /* requests for words or tokens that have not ended */
    size_t n_generating; /* those of them that want a sequence of the engine */
    struct gen *gens;    /* all of them */
    struct uploads *uploads;  /* blobs that wait for a model: store/upload.h */
    struct blob_upload *blob_uploads; /* those under way: blobs_api.c */
    struct store_call *calls; /* long calls of the store under way: store_job.h */
    bool draining;
    int64_t started_ns;
};

#endif
