#include "daemon/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol.h"

struct setting {
    const char *flag, *arg, *env; /* arg NULL: a switch; env NULL: flag only */
    const char *usual;            /* NULL: derived in config_read */
    const char *shown;            /* the default in words, for --help; NULL: `usual` */
    bool (*set)(struct config *c, size_t offset, const char *text);
    size_t offset;
    const char *form; /* what a wrong value should have been */
    const char *help;
};

static void *at(struct config *c, size_t offset)
{
    return (char *)c + offset;
}

static bool set_text(struct config *c, size_t offset, const char *text)
{
    *(const char **)at(c, offset) = text;
    return true;
}

static bool set_count(struct config *c, size_t offset, const char *text)
{
    char *end;
    unsigned long long v = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || v > INT32_MAX)
        return false;
    *(uint32_t *)at(c, offset) = (uint32_t)v;
    return true;
}

static bool set_connections(struct config *c, size_t offset, const char *text)
{
    return set_count(c, offset, text) && c->connections >= 1 && c->connections <= 64;
}

static bool set_duration(struct config *c, size_t offset, const char *text)
{
    int64_t ns;
    if (!duration_read(str_from(text), true, &ns))
        return false;
    *(int64_t *)at(c, offset) = ns < 0 ? KEEP_ALIVE_FOREVER : ns;
    return true;
}

static bool set_switch(struct config *c, size_t offset, const char *text)
{
    static const char *const no[] = { "", "0", "false", "off", "no" };
    bool on = true;
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        on &= strcmp(text, no[i]) != 0;
    *(bool *)at(c, offset) = on;
    return true;
}

static bool set_kv_type(struct config *c, size_t offset, const char *text)
{
    static const char *const names[] = { [KV_F16] = "f16", [KV_F32] = "f32", [KV_Q8_0] = "q8_0" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *(enum kv_type *)at(c, offset) = (enum kv_type)i;
            return true;
        }
    return false;
}

static bool set_log_level(struct config *c, size_t offset, const char *text)
{
    return log_level_parse(text, at(c, offset));
}

#define AT(field) offsetof(struct config, field)
static const struct setting settings[] = {
    { "socket", "PATH", "HEARTH_SOCKET", NULL, "$XDG_RUNTIME_DIR/hearth.sock, else in the home",
      set_text, AT(socket), "a path or off", "Unix socket to listen on, or off" },
    { "listen", "ADDR:PORT", "HEARTH_LISTEN", "127.0.0.1:11434", NULL, set_text, AT(listen),
      "ADDR:PORT or off", "TCP address to listen on, or off" },
    { "home", "DIR", "HEARTH_HOME", NULL, "$XDG_DATA_HOME/hearth, else ~/.local/share/hearth",
      set_text, AT(home), "a directory", "where models are kept" },
    { "keep-alive", "DUR", "HEARTH_KEEP_ALIVE", "5m", NULL, set_duration, AT(keep_alive_ns),
      "a duration like 5m, or -1",
      "how long an idle model stays in memory; -1 for ever, 0 not at all" },
    { "parallel", "N", "HEARTH_PARALLEL", "0", "by memory", set_count, AT(parallel), "a number",
      "sequences in one batch" },
    { "max-queue", "N", "HEARTH_MAX_QUEUE", "512", NULL, set_count, AT(max_queue), "a number",
      "requests that may wait before new ones are refused" },
    { "context", "N", "HEARTH_CONTEXT", "0", "by memory and the model's limit", set_count,
      AT(context), "a number", "tokens of one session" },
    { "kv-type", "T", "HEARTH_KV_TYPE", "f16", NULL, set_kv_type, AT(kv_type),
      "f16, q8_0 or f32", "type of the KV cache: f16, q8_0, f32" },
    { "device", "X", "HEARTH_DEVICE", "", "best real GPU, else the software one", set_text,
      AT(device), "a device", "an index, part of a name, or ref (on the CPU, no Vulkan)" },
    { "cpu-threads", "N", "HEARTH_CPU_THREADS", "0", "one a core, at most 8", set_count,
      AT(cpu_threads), "a number", "threads that compute where there is no GPU" },
    { "reproducible", NULL, "HEARTH_REPRODUCIBLE", "0", "off", set_switch, AT(reproducible), "",
      "run no model whose bits depend on the batch; as options.reproducible of every request" },
    { "preload", "M,...", "HEARTH_PRELOAD", "", "none", set_text, AT(preload), "names",
      "models to load at start" },
    { "mirror", "URL", "HEARTH_MIRROR", "", "none", set_text, AT(mirror), "a URL",
      "mirror for pulls" },
    { "offline", NULL, "HEARTH_OFFLINE", "0", "off", set_switch, AT(offline), "",
      "no outbound network" },
    { "ca-file", "F", "HEARTH_CA_FILE", "", "the system's alone", set_text, AT(ca_file), "a file",
      "more certificate authorities that pulls trust (PEM)" },
    { "hf-endpoint", "URL", "HF_ENDPOINT", "", "https://huggingface.co", set_text, AT(hf_endpoint),
      "a URL", "where the Hugging Face hub is" },
    { "connections", "N", "HEARTH_CONNECTIONS", "8", NULL, set_connections, AT(connections),
      "a number from 1 to 64", "of one pull to one host" },
    { "realms", "R=H,...", "HEARTH_REALMS", "", "none", set_text, AT(realms), "registry=host",
      "hosts that make a registry's tokens, beside its own" },
    { "key-hosts", "R,...", "HEARTH_KEY_HOSTS", "", "none", set_text, AT(key_hosts), "registries",
      "who is shown the store's key, beside Ollama's registry" },
    { "api-key-file", "F", "HEARTH_API_KEY_FILE", "", "none", set_text, AT(api_key_file),
      "a file", "keys that TCP clients must send, one a line" },
    { "allow-host", "N,...", "HEARTH_ALLOW_HOST", "", "none", set_text, AT(allow_host), "names",
      "more host names by which TCP clients may call" },
    { "origins", "O,...", "HEARTH_ORIGINS", "", "none", set_text, AT(origins), "origins",
      "web pages that may call, as https://host:port" },
    { "log-level", "L", "HEARTH_LOG", "info", NULL, set_log_level, AT(log_level),
      "error, warn, info or debug", "error, warn, info, debug" },
    { "explain", "MODEL", NULL, "", "", set_text, AT(explain), "a model or a file",
      "print what a model compiles to, on --device or one described by the next four, and leave" },
    { "subgroup", "N", NULL, "0", "32", set_count, AT(subgroup), "a number",
      "with --explain: subgroup size, a power of two; below 32: a software device" },
    { "cores", "N", NULL, "0", "32", set_count, AT(cores), "a number",
      "with --explain: compute units to fill" },
    { "max-local", "N", NULL, "0", "1024", set_count, AT(max_local), "a number",
      "with --explain: invocations of a workgroup" },
    { "max-range", "MIB", NULL, "0", "2048", set_count, AT(max_range_mib), "a number",
      "with --explain: MiB that one binding spans" },
};
#define N_SETTINGS (sizeof settings / sizeof *settings)

static enum err_code set(struct config *c, const struct setting *s, const char *text,
                         const char *whence, const char *name, struct err *e)
{
    if (s->set(c, s->offset, text))
        return ERR_OK;
    return err_set(e, ERR_USAGE, "%s%s: '%s' is not %s", whence, name, text, s->form);
}

static enum err_code read_defaults(struct config *c, char *(*env)(const char *), struct err *e)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (s->usual && set(c, s, s->usual, "", s->flag, e))
            return ERR_USAGE;
        const char *v = s->env ? env(s->env) : NULL;
        if (v && *v && set(c, s, v, "", s->env, e))
            return ERR_USAGE;
    }
    return ERR_OK;
}

static const struct setting *find(const char *name, size_t n)
{
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (strlen(settings[i].flag) == n && memcmp(settings[i].flag, name, n) == 0)
            return &settings[i];
    return NULL;
}

/* One flag at argv[*i]; moves *i onto its value when that is the next word. */
static enum err_code read_flag(struct config *c, int argc, char **argv, int *i, struct err *e)
{
    const char *word = argv[*i];
    if (strncmp(word, "--", 2) != 0)
        return err_set(e, ERR_USAGE, "'%s' is not a flag; see hearthd --help", word);
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct setting *s = find(name, n);
    if (!s)
        return err_set(e, ERR_USAGE, "no flag '--%.*s'; see hearthd --help", (int)n, name);
    const char *value = equals ? equals + 1 : "1";
    if (s->arg && !equals) {
        if (*i + 1 >= argc)
            return err_set(e, ERR_USAGE, "--%s needs %s", s->flag, s->form);
        value = argv[++*i];
    }
    return set(c, s, value, "--", s->flag, e);
}

static enum err_code derive(struct config *c, char *(*env)(const char *), struct err *e)
{
    const char *data = env("XDG_DATA_HOME"), *user = env("HOME"), *run = env("XDG_RUNTIME_DIR");
    int n = 0;
    if (!c->home) {
        if (data && *data == '/')
            n = snprintf(c->home_path, sizeof c->home_path, "%s/hearth", data);
        else if (user && *user == '/')
            n = snprintf(c->home_path, sizeof c->home_path, "%s/.local/share/hearth", user);
        else
            return err_set(e, ERR_USAGE, "--home is needed where HOME is not set");
        c->home = c->home_path;
    }
    if (n >= (int)sizeof c->home_path)
        return err_set(e, ERR_USAGE, "the path of the home is too long");
    if (!c->socket) {
        const char *dir = run && *run == '/' ? run : c->home;
        n = snprintf(c->socket_path, sizeof c->socket_path, "%s/hearth.sock", dir);
        c->socket = c->socket_path;
        if (n >= (int)sizeof c->socket_path)
            return err_set(e, ERR_USAGE, "the path of the socket is too long; give --socket");
    }
    return ERR_OK;
}

enum err_code config_read(int argc, char **argv, char *(*env)(const char *), struct config *c,
                          enum config_action *action, struct err *e)
{
    *c = (struct config){ 0 };
    *action = CONFIG_RUN;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            *action = CONFIG_HELP;
        else if (strcmp(argv[i], "--version") == 0)
            *action = CONFIG_VERSION;
    }
    if (*action != CONFIG_RUN)
        return ERR_OK;
    enum err_code code = read_defaults(c, env, e);
    for (int i = 1; i < argc && !code; i++)
        code = read_flag(c, argc, argv, &i, e);
    if (code)
        return code;
    if (*c->explain)
        *action = CONFIG_EXPLAIN;
    return derive(c, env, e);
}

void config_help(struct buf *out)
{
    buf_puts(out, "hearthd: runs language models and answers for them on a socket.\n\n"
                  "usage: hearthd [FLAG...]\n\n");
    for (size_t i = 0; i < N_SETTINGS; i++) {
        const struct setting *s = &settings[i];
        const char *shown = s->shown ? s->shown : s->usual;
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", s->flag, s->arg ? s->arg : "");
        buf_printf(out, "  %-24s %s", flag, s->help);
        if (*shown)
            buf_printf(out, " (default: %s)", shown);
        if (s->env)
            buf_printf(out, " [%s]", s->env);
        buf_putc(out, '\n');
    }
    buf_puts(out, "  --help, --version\n\n"
                  "Durations are 90s, 5m, 1h30m or plain seconds; -1 means for ever.\n"
                  "SIGTERM ends it: running answers get up to 4 s to finish.\n"
                  "Exit status: 0 done, 1 failed, 2 usage, 3 another daemon has the store or socket.\n");
}
