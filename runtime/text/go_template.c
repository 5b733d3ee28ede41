#include "runtime/text/go_template.h"

#include <string.h>

#include "runtime/text/chat_template.h"
#include "runtime/text/go_template_priv.h"

struct go_template {
    struct go_tree tree;
    char *source, *name;
    size_t source_n;
    bool uses_messages;
};

/* ---- what a tree says -------------------------------------------------------------------- */

static bool names(const struct go_node *n, struct str what);

static bool list_names(const struct go_nodes *list, struct str what)
{
    for (const struct go_node *n = list->first; n; n = n->next)
        if (names(n, what))
            return true;
    return false;
}

/* The fields behind a parenthesis are not looked at, for Ollama does not. */
static bool names(const struct go_node *n, struct str what)
{
    switch (n->kind) {
    case GO_N_ACTION:
    case GO_N_TEMPLATE:
    case GO_N_IF:
    case GO_N_WITH:
    case GO_N_RANGE:
        return (n->u.block.pipe && names(n->u.block.pipe, what)) ||
               list_names(&n->u.block.yes, what) || list_names(&n->u.block.no, what);
    case GO_N_PIPE:
        for (const struct go_node *c = n->u.pipe.cmds.first; c; c = c->next)
            if (list_names(&c->u.args, what))
                return true;
        return false;
    case GO_N_FIELD:
    case GO_N_VARIABLE:
        for (size_t i = 0; i < n->u.path.n; i++)
            if (str_ieq(n->u.path.names[i], what))
                return true;
        return false;
    default:
        return false;
    }
}

bool go_template_uses(const struct go_template *t, const char *name)
{
    struct str what = str_from(*name == '.' ? name + 1 : name);
    for (const struct go_define *d = t->tree.defines; d; d = d->next)
        if (list_names(&d->body, what))
            return true;
    return false;
}

struct tags {
    struct str open, close;
};

static struct str trimmed(struct str s)
{
    while (s.n && strchr(" \t\r\n\v\f", s.p[0]))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && strchr(" \t\r\n\v\f", s.p[s.n - 1]))
        s.n--;
    return s;
}

static bool pipe_fields(const struct go_node *pipe, const char *name);

static bool arg_is(const struct go_node *arg, const char *name)
{
    if (arg->kind == GO_N_PIPE)
        return pipe_fields(arg, name);
    return arg->kind == GO_N_FIELD && str_is(arg->u.path.names[0], name);
}

/* Whether a field of the dot's of this name stands in a pipeline. */
static bool pipe_fields(const struct go_node *pipe, const char *name)
{
    for (const struct go_node *c = pipe->u.pipe.cmds.first; c; c = c->next)
        for (const struct go_node *arg = c->u.args.first; arg; arg = arg->next)
            if (arg_is(arg, name))
                return true;
    return false;
}

/* The texts that begin and end the list in which .Thinking stands; the last one counts. in: the
 * innermost {{range}} is over .Messages. */
static void find_tags(const struct go_nodes *list, bool in, struct tags *out)
{
    for (const struct go_node *n = list->first; n; n = n->next) {
        if (n->kind > GO_N_TEMPLATE || n->kind == GO_N_TEXT)
            continue;
        bool inside = n->kind == GO_N_RANGE ? pipe_fields(n->u.block.pipe, "Messages") : in;
        if (inside && n->u.block.pipe && pipe_fields(n->u.block.pipe, "Thinking")) {
            if (list->first->kind == GO_N_TEXT)
                out->open = trimmed(list->first->u.text);
            if (list->last->kind == GO_N_TEXT)
                out->close = trimmed(list->last->u.text);
        }
        find_tags(&n->u.block.yes, inside, out);
        find_tags(&n->u.block.no, inside, out);
    }
}

bool go_template_thinking_tags(const struct go_template *t, struct str *open, struct str *close)
{
    struct tags tags = { { 0 }, { 0 } };
    find_tags(&t->tree.root, false, &tags);
    *open = tags.open;
    *close = tags.close;
    return tags.open.n && tags.close.n;
}

/* ---- creation ---- */

/* {{ .Response }} at the end. */
static bool append_response(struct go_tree *t)
{
    static const struct str response = { "Response", 8 };
    struct go_node *n = arena_zero(&t->arena, 4, sizeof *n);
    if (!n)
        return false;
    n[0].kind = GO_N_ACTION;
    n[0].u.block.pipe = &n[1];
    n[1].kind = GO_N_PIPE;
    n[1].u.pipe.cmds = (struct go_nodes){ &n[2], &n[2], 1 };
    n[2].kind = GO_N_COMMAND;
    n[2].u.args = (struct go_nodes){ &n[3], &n[3], 1 };
    n[3].kind = GO_N_FIELD;
    n[3].u.path.names = &response;
    n[3].u.path.n = 1;
    *(t->root.last ? &t->root.last->next : &t->root.first) = n;
    t->root.last = n;
    t->root.n++;
    return true;
}

static enum err_code prepare(struct go_template *t, struct err *e)
{
    struct str source = { t->source, t->source_n };
    size_t valid = utf8_valid(source.p, source.n);
    if (valid < source.n)
        return err_set(e, ERR_FORMAT, "%s: byte %zu is not UTF-8", t->name, valid);
    enum err_code code = go_parse(source, t->name, &t->tree, e);
    if (code)
        return code;
    t->uses_messages = go_template_uses(t, "messages");
    if (t->uses_messages)
        return ERR_OK;
    if ((!go_template_uses(t, "response") && !append_response(&t->tree)) ||
        !go_cut_at_response(&t->tree))
        return err_no_memory(e, t->source_n, "a template");
    return ERR_OK;
}

enum err_code go_template_create(struct str source, const char *name, struct go_template **out,
                                 struct err *e)
{
    *out = NULL;
    if (source.n > CHAT_TEMPLATE_MAX_SOURCE)
        return err_set(e, ERR_TOO_LARGE, "%s: %zu bytes; at most %zu are taken", name, source.n,
                       CHAT_TEMPLATE_MAX_SOURCE);
    struct go_template *t = mem_zero(1, sizeof *t);
    enum err_code code = ERR_NO_MEMORY;
    if (!t)
        return err_no_memory(e, sizeof *t, "a template");
    t->source = mem_strndup(source.p ? source.p : "", source.n);
    t->source_n = source.n;
    t->name = mem_strdup(name);
    if (!t->source || !t->name)
        err_no_memory(e, source.n, "a template");
    else
        code = prepare(t, e);
    if (code)
        go_template_destroy(t);
    else
        *out = t;
    return code;
}

void go_template_destroy(struct go_template *t)
{
    if (!t)
        return;
    arena_finish(&t->tree.arena);
    mem_free(t->source);
    mem_free(t->name);
    mem_free(t);
}

struct str go_template_source(const struct go_template *t)
{
    return (struct str){ t->source, t->source_n };
}

/* ---- rendering ---- */

struct vars {
    const json_t *json;
    struct go_value system, messages, tools; /* collated */
    struct go_value prompt, suffix;
    struct go_value think, level, is_set;
};

static struct go_value empty_text(void)
{
    return go_of_str(STR(""), NULL);
}

static void read_think(const json_t *vars, struct vars *v)
{
    const json_t *think = json_object_get(vars, "think");
    const json_t *level = json_object_get(vars, "reasoning_effort");
    if (!think || json_is_null(think))
        think = json_object_get(vars, "enable_thinking");
    if (json_is_string(think))
        level = think;
    bool on = json_is_true(think) || (json_is_string(think) && json_string_length(think));
    struct str text = STR("medium"); /* what Ollama makes of true */
    if (json_is_string(level))
        text = (struct str){ json_string_value(level), json_string_length(level) };
    v->is_set = go_of_bool(think && !json_is_null(think));
    v->think = go_of_bool(on);
    v->level = on ? go_of_str(text, go_is_plain_name(text) ? NULL : GO_ALL) : empty_text();
}

static bool read_vars(struct go_render *r, const json_t *json, struct vars *v)
{
    v->json = json;
    if (!go_read(r, json_object_get(json, "prompt"), &go_string, "prompt", &v->prompt) ||
        !go_read(r, json_object_get(json, "suffix"), &go_string, "suffix", &v->suffix) ||
        !go_read(r, json_object_get(json, "tools"), &go_tools, "tools", &v->tools) ||
        !go_read_messages(r, json_object_get(json, "messages"), &v->prompt, &v->messages,
                          &v->system))
        return false;
    read_think(json, v);
    return true;
}

/* The names and values that . has; a NULL value is left out. */
static bool run(struct go_render *r, const struct go_nodes *body, const struct vars *v,
                const struct go_value *system, const struct go_value *prompt,
                const struct go_value *response, const struct go_value *suffix, bool messages)
{
    struct go_value none = empty_text(), data = { .kind = GO_MAP, .type = &go_any_map };
    const struct {
        struct str name;
        const struct go_value *value;
    } rows[] = {
        { STR("IsThinkSet"), &v->is_set },
        { STR("Messages"), messages ? &v->messages : NULL },
        { STR("Prompt"), prompt },
        { STR("Response"), response ? response : &none },
        { STR("Suffix"), suffix },
        { STR("System"), system },
        { STR("Think"), &v->think },
        { STR("ThinkLevel"), &v->level },
        { STR("Tools"), messages ? &v->tools : NULL },
    };
    enum { N = sizeof rows / sizeof *rows };
    struct go_entry *e = go_alloc(r, N, sizeof *e);
    if (!e)
        return false;
    for (size_t i = 0; i < N; i++)
        if (rows[i].value)
            e[data.u.map.n++] = (struct go_entry){ rows[i].name, *rows[i].value };
    data.u.map.e = e;
    r->n_vars = 0;
    return go_exec(r, body, &data);
}

/* The turns of a template that knows no messages. */
static bool run_turns(struct go_render *r, const struct vars *v)
{
    struct go_value system = empty_text(), prompt = system, response = system, none = system;
    const struct go_nodes *body = &r->tree->root;
    for (size_t i = 0; i < v->messages.u.list.n; i++) {
        struct str role;
        struct go_value content;
        go_message_of(&v->messages.u.list.v[i], &role, &content);
        bool is_system = str_is(role, "system"), is_user = str_is(role, "user");
        if ((is_system && (prompt.u.s.n || response.u.s.n)) || (is_user && response.u.s.n)) {
            if (!run(r, body, v, &system, &prompt, &response, NULL, false))
                return false;
            system = prompt = response = none;
        }
        if (is_system)
            system = content;
        else if (is_user)
            prompt = content;
        else if (str_is(role, "assistant"))
            response = content;
    }
    return run(r, &r->tree->cut, v, &system, &prompt, &response, NULL, false);
}

static bool render(struct go_render *r, const struct go_template *t, const json_t *json)
{
    struct vars v = { .json = json };
    if (!read_vars(r, json, &v))
        return false;
    if (v.prompt.u.s.n && v.suffix.u.s.n)
        return run(r, &t->tree.root, &v, NULL, &v.prompt, NULL, &v.suffix, false);
    if (t->uses_messages)
        return run(r, &t->tree.root, &v, &v.system, NULL, NULL, NULL, true);
    return run_turns(r, &v);
}

/* The text and its ranges, to the caller. */
static bool hand_over(struct go_render *r, struct buf *out, struct spans *content)
{
    size_t base = out->n;
    buf_put(out, r->out.p ? r->out.p : "", r->out.n);
    for (size_t i = 0; content && i < r->out.content.n; i++) {
        struct span s = r->out.content.v[i];
        if (!spans_add(content, base + s.begin, base + s.end))
            return go_fail(r, ERR_NO_MEMORY, "no memory for the origins of a prompt");
    }
    return true;
}

enum err_code go_template_render(const struct go_template *t, const json_t *vars, int64_t now,
                                 struct buf *out, struct spans *content, struct err *e)
{
    struct go_render r = { .tree = &t->tree, .now = now, .fuel = CHAT_TEMPLATE_MAX_STEPS };
    size_t base = out->n, spans = content ? content->n : 0;
    r.arena.limit = CHAT_TEMPLATE_MAX_ARENA;
    r.out = go_text_new(&r);
    r.out.max = CHAT_TEMPLATE_MAX_OUTPUT;
    (void)(render(&r, t, vars) && hand_over(&r, out, content));
    while (r.kept) {
        json_decref(r.kept->json);
        r.kept = r.kept->next;
    }
    arena_finish(&r.arena);
    if (!r.code)
        return ERR_OK;
    out->n = base;
    if (out->p)
        out->p[base] = '\0';
    if (content)
        content->n = spans;
    return err_set(e, r.code, "%s:%u: %s", t->name, r.line, r.err.text);
}

/* ---- which language ---- */

/* What begins an action in Go and no expression in Jinja. */
static bool go_action(struct str s)
{
    static const char *const words[] = { "if", "range", "with", "end", "else", "define",
                                         "template", "block", "break", "continue", "json" };
    while (s.n && strchr("- \t\r\n", s.p[0]))
        s = (struct str){ s.p + 1, s.n - 1 };
    if (s.n && (s.p[0] == '.' || s.p[0] == '$' || str_starts(s, STR("/*"))))
        return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (str_starts(s, str_from(words[i])) && s.n > n && strchr(" \t\r\n}", s.p[n]))
            return true;
    }
    return false;
}

static bool speaks_go(const struct go_nodes *list);

static bool pipe_speaks_go(const struct go_node *pipe)
{
    for (const struct go_node *c = pipe->u.pipe.cmds.first; c; c = c->next)
        for (const struct go_node *a = c->u.args.first; a; a = a->next)
            if (a->kind == GO_N_FIELD || a->kind == GO_N_VARIABLE || a->kind == GO_N_DOT ||
                (a->kind == GO_N_PIPE && pipe_speaks_go(a)))
                return true;
    return pipe->u.pipe.n_decl > 0;
}

static bool speaks_go(const struct go_nodes *list)
{
    for (const struct go_node *n = list->first; n; n = n->next)
        if (n->kind > GO_N_ACTION || (n->kind == GO_N_ACTION && pipe_speaks_go(n->u.block.pipe)))
            return true;
    return false;
}

static bool parses_and_speaks(struct str source)
{
    struct go_tree t = { 0 };
    bool yes = false;
    if (utf8_valid(source.p, source.n) == source.n && !go_parse(source, "", &t, NULL))
        for (const struct go_define *d = t.defines; d; d = d->next)
            yes = yes || speaks_go(&d->body);
    arena_finish(&t.arena);
    return yes;
}

bool go_template_looks_like(struct str s)
{
    if (!s.n || s.n > CHAT_TEMPLATE_MAX_SOURCE || memmem(s.p, s.n, "{%", 2))
        return false;
    if (parses_and_speaks(s))
        return true;
    const char *at = s.p, *end = s.p + s.n;
    while ((at = memmem(at, (size_t)(end - at), "{{", 2))) {
        at += 2;
        if (go_action((struct str){ at, (size_t)(end - at) }))
            return true;
    }
    return false;
}
