/* What hearthd can be told: one table of settings, each with its flag, its variable in the
 * environment, its default, and the sentence that --help prints. A flag wins over the environment.
 *
 * Ownership: strings point into argv, the environment or the struct itself; nothing is allocated.
 * Thread: filled by main before any other thread runs, constant afterwards. */
#ifndef HEARTH_DAEMON_CONFIG_H
#define HEARTH_DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/log.h"
#include "runtime/base/str.h"
#include "runtime/engine/runtime.h"

enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION, CONFIG_EXPLAIN };

struct config {
    const char *socket;  /* path, or "off" */
    const char *listen;  /* "127.0.0.1:11434", or "off" */
    const char *home;
    int64_t keep_alive_ns; /* negative: for ever */
    uint32_t parallel;     /* sequences in one batch; 0: by memory */
    uint32_t max_queue;    /* requests that may wait for a sequence */
    uint32_t context;      /* tokens of one session; 0: by memory and the model's limit */
    enum kv_type kv_type;
    const char *device;    /* "" : best */
    uint32_t cpu_threads;  /* of a software device; 0: one a core */
    bool reproducible;
    const char *preload;   /* comma-separated names */
    const char *mirror;
    bool offline;
    const char *ca_file;     /* "": the system's alone */
    const char *hf_endpoint; /* "": the hub's own */
    uint32_t connections;    /* to one host */
    const char *realms;      /* comma-separated REGISTRY=HOST */
    const char *key_hosts;   /* comma-separated registries */
    const char *api_key_file;
    const char *allow_host; /* comma-separated host names */
    const char *origins;    /* comma-separated web origins */
    enum log_level log_level;
    /* --explain */
    const char *explain;
    uint32_t subgroup, cores, max_local, max_range_mib; /* all 0: the device that is here */
    /* where derived defaults are kept */
    char socket_path[256], home_path[1024];
};

/* env: a getenv (tests pass their own). ERR_USAGE with a sentence that names the flag or the
 * variable. */
enum err_code config_read(int argc, char **argv, char *(*env)(const char *), struct config *c,
                          enum config_action *action, struct err *e);
void config_help(struct buf *out);

#endif
