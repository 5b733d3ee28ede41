#include "daemon/messages.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static struct str text_of(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return (struct str){ json_string_value(v), json_string_length(v) };
}

static bool has_role(const json_t *message, const char *role)
{
    return str_is(text_of(message, "role"), role);
}

/* ---- names that a template knows ---------------------------------------------------------------- */

static bool in_name(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The source has m.NAME, m['NAME'] or "NAME". */
static bool knows(struct str source, const char *name)
{
    size_t n = strlen(name);
    for (struct str s = source; s.n > n;) {
        const char *at = memmem(s.p + 1, s.n - 1, name, n);
        if (!at)
            return false;
        bool ends = at + n == source.p + source.n || !in_name(at[n]);
        if (ends && strchr(".'\"", at[-1]))
            return true;
        s = (struct str){ at, (size_t)(source.p + source.n - at) };
    }
    return false;
}

static bool set_text(json_t *message, const char *key, struct str text)
{
    return json_object_set_new(message, key, json_stringn(text.p, text.n)) == 0;
}

static bool name_reasoning(json_t *m, struct str source)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    struct str given = { 0 };
    for (size_t i = 0; i < 3; i++) {
        struct str t = text_of(m, names[i]);
        if (t.n && knows(source, names[i]))
            return true;
        given = t.n && !given.n ? t : given;
    }
    for (size_t i = 0; given.n && i < 3; i++)
        if (knows(source, names[i]))
            return set_text(m, names[i], given);
    return true;
}

static bool name_result(json_t *m, struct str source)
{
    struct str tool = text_of(m, "tool_name");
    return !tool.n || json_object_get(m, "name") || knows(source, "tool_name") ||
           set_text(m, "name", tool);
}

/* ---- arguments ---------------------------------------------------------------------------------- */

/* OpenAI's clients send the text of an object. Text that is none stays, for the template to judge. */
static bool open_arguments(json_t *function)
{
    struct str text = text_of(function, "arguments");
    json_t *tree = NULL;
    struct err e;
    enum err_code c = text.p ? json_read(text, PROTOCOL_MAX_BODY, "arguments", &tree, &e) : ERR_INVALID;
    if (c == ERR_OK && json_is_object(tree))
        return json_object_set_new(function, "arguments", tree) == 0;
    json_decref(tree);
    return c != ERR_NO_MEMORY;
}

/* As Python's json writes it. */
static bool write_arguments(json_t *function)
{
    const json_t *v = json_object_get(function, "arguments");
    if (!v || json_is_string(v))
        return true;
    char *text = json_dumps(v, JSON_ENCODE_ANY);
    bool ok = text && json_object_set_new(function, "arguments", json_string(text)) == 0;
    mem_free(text);
    return ok;
}

static bool form_calls(json_t *m, enum call_form form)
{
    json_t *calls = json_object_get(m, "tool_calls");
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(calls); i++) {
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        ok = form == CALLS_AS_TEXTS ? write_arguments(function) : open_arguments(function);
    }
    return ok;
}

/* ---- ids ------------------------------------------------------------------------------------------ */

/* The last nine letters or digits of the id that is there, else a number. */
static bool set_nine(json_t *object, const char *key, unsigned *number)
{
    struct str id = text_of(object, key);
    char nine[16];
    size_t n = 9;
    snprintf(nine, sizeof nine, "call%05u", id.n ? 0 : (*number)++ % 100000);
    for (size_t i = id.n; i-- > 0 && n > 0;)
        if (id.p[i] != '_' && in_name(id.p[i]))
            nine[--n] = id.p[i];
    return json_object_set_new(object, key, json_string(nine)) == 0;
}

/* Results without an id belong to the calls without one, in their order. */
static bool number_calls(json_t *messages)
{
    unsigned calls = 0, results = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i), *list = json_object_get(m, "tool_calls");
        for (size_t k = 0; ok && k < json_array_size(list); k++)
            ok = set_nine(json_array_get(list, k), "id", &calls);
        if (ok && has_role(m, "tool"))
            ok = set_nine(m, "tool_call_id", &results);
    }
    return ok;
}

/* ---- the list ------------------------------------------------------------------------------------- */

/* A copy where something is changed; a new reference. */
static json_t *formed(json_t *message, struct str source, enum call_form form)
{
    static const char *const touched[] = { "reasoning_content", "thinking", "reasoning", "tool_name",
                                           "tool_calls" };
    bool any = form == CALLS_BY_NINE;
    for (size_t i = 0; i < sizeof touched / sizeof *touched; i++)
        any |= json_object_get(message, touched[i]) != NULL;
    if (!any)
        return json_incref(message);
    json_t *m = json_deep_copy(message);
    if (m && name_reasoning(m, source) && name_result(m, source) && form_calls(m, form))
        return m;
    json_decref(m);
    return NULL;
}

static json_t *message_of(const char *role, struct str content)
{
    return json_pack("{s:s, s:s%}", "role", role, "content", content.p ? content.p : "", content.n);
}

json_t *messages_for(const struct gen_request *r, const json_t *history, struct str source, enum call_form form)
{
    json_t *list = json_array();
    bool ok = list != NULL, leads = has_role(json_array_get(r->messages, 0), "system");
    if (ok && r->system.n && !leads)
        ok = json_array_append_new(list, message_of("system", r->system)) == 0;
    for (size_t i = 0; ok && i < json_array_size(history); i++)
        ok = json_array_append_new(list, formed(json_array_get(history, i), source, form)) == 0;
    if (ok && !r->messages)
        ok = json_array_append_new(list, message_of("user", r->prompt)) == 0;
    for (size_t i = 0; ok && i < json_array_size(r->messages); i++)
        ok = json_array_append_new(list, formed(json_array_get(r->messages, i), source, form)) == 0;
    if (ok && form == CALLS_BY_NINE)
        ok = number_calls(list);
    if (!ok)
        json_decref(list);
    return ok ? list : NULL;
}

bool messages_have_calls(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (json_array_size(json_object_get(json_array_get(messages, i), "tool_calls")))
            return true;
    return false;
}

bool messages_drop_oldest(json_t *messages)
{
    size_t n = json_array_size(messages);
    for (size_t i = 0; i + 1 < n; i++)
        if (!has_role(json_array_get(messages, i), "system"))
            return json_array_remove(messages, i) == 0;
    return false;
}

struct str messages_begun(const json_t *messages)
{
    static const char *const keys[] = { "content", "reasoning_content", "thinking", "reasoning" };
    size_t n = json_array_size(messages);
    const json_t *last = n ? json_array_get(messages, n - 1) : NULL;
    if (!has_role(last, "assistant") || json_array_size(json_object_get(last, "tool_calls")))
        return (struct str){ 0 };
    const json_t *parts = json_object_get(last, "content");
    if (json_array_size(parts)) /* of several parts the last one is gone on with */
        return text_of(json_array_get(parts, json_array_size(parts) - 1), "text");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct str text = text_of(last, keys[i]);
        if (text.n)
            return text;
    }
    return (struct str){ 0 };
}
