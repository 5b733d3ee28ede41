/* What chat adds to a request: messages, tools, tool_choice, format. */
#include <string.h>

#include "daemon/protocol_priv.h"

/* ---- messages --------------------------------------------------------------------------------- */

enum err_code message_lower_role(json_t *message, struct err *e)
{
    const json_t *role = json_object_get(message, "role");
    if (!json_is_string(role) || json_string_length(role) == 0)
        return err_set(e, ERR_INVALID, "there is no \"role\"");
    char name[32];
    size_t n = json_string_length(role);
    if (n >= sizeof name)
        return err_set(e, ERR_INVALID, "\"role\" is too long");
    bool changed = false;
    for (size_t k = 0; k < n; k++) {
        char c = json_string_value(role)[k];
        name[k] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        changed |= name[k] != c;
    }
    if (changed && json_object_set_new(message, "role", json_stringn(name, n)))
        return err_no_memory(e, n, "a message");
    return ERR_OK;
}

/* [{"type": "text", "text": ...}, ...]; parts of other types are counted as images. */
static enum err_code read_parts(const json_t *parts, struct gen_request *r, struct err *e)
{
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i), *type = member(part, "type");
        if (!json_is_string(type))
            return err_set(e, ERR_INVALID, "\"content\"[%zu] has no \"type\"", i);
        if (!str_is(json_slice(type), "text"))
            r->n_images++;
        else if (!json_is_string(member(part, "text")))
            return err_set(e, ERR_INVALID, "\"content\"[%zu] has no \"text\"", i);
    }
    return ERR_OK;
}

static enum err_code read_message_content(json_t *message, struct gen_request *r, struct err *e)
{
    const json_t *content = member(message, "content");
    if (!content)
        return json_object_set_new(message, "content", json_string(""))
                   ? err_no_memory(e, 1, "a message")
                   : ERR_OK;
    if (json_is_array(content))
        return read_parts(content, r, e);
    return json_is_string(content)
               ? ERR_OK
               : err_set(e, ERR_INVALID, "\"content\" must be a string or an array of parts");
}

static enum err_code read_calls(const json_t *calls, struct err *e)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        struct str name = { 0 };
        enum err_code c = read_string(function, "name", &name, e);
        if (!c && !name.n)
            c = err_set(e, ERR_INVALID, "there is no \"function\" with a \"name\"");
        if (c)
            return err_prefix(e, "\"tool_calls\"[%zu]", i);
    }
    return ERR_OK;
}

static enum err_code read_message(json_t *message, struct gen_request *r, struct err *e)
{
    static const char *const texts[] = { "tool_name",         "tool_call_id", "name", "thinking",
                                         "reasoning_content", "reasoning" };
    const json_t *images, *calls;
    if (!json_is_object(message))
        return err_set(e, ERR_INVALID, "a message must be an object");
    enum err_code c = message_lower_role(message, e);
    if (c || (c = read_message_content(message, r, e)) ||
        (c = read_array(message, "images", &images, e)) ||
        (c = read_array(message, "tool_calls", &calls, e)) || (c = read_calls(calls, e)))
        return c;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct str ignored;
        if ((c = read_string(message, texts[i], &ignored, e)))
            return c;
    }
    r->n_images += json_array_size(images);
    return ERR_OK;
}

/* ---- tools ------------------------------------------------------------------------------------ */

static enum err_code read_tool(const json_t *tool, struct err *e)
{
    const json_t *function, *parameters;
    struct str name = { 0 };
    if (!json_is_object(tool))
        return err_set(e, ERR_INVALID, "a tool must be an object");
    enum err_code c = read_object(tool, "function", &function, e);
    if (c || (c = read_string(function, "name", &name, e)) ||
        (c = read_object(function, "parameters", &parameters, e)))
        return c;
    return name.n ? ERR_OK : err_set(e, ERR_INVALID, "there is no \"function\" with a \"name\"");
}

static bool has_tool(const json_t *tools, struct str name)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *f = json_object_get(json_array_get(tools, i), "function");
        if (str_eq(json_slice(json_object_get(f, "name")), name))
            return true;
    }
    return false;
}

static const char *const choice_names[] = {
    [TOOLS_AUTO] = "auto",
    [TOOLS_NONE] = "none",
    [TOOLS_REQUIRED] = "required",
};

static enum err_code read_choice(const json_t *v, struct gen_request *r, struct err *e)
{
    const json_t *name = json_object_get(json_object_get(v, "function"), "name");
    for (enum tool_choice k = TOOLS_AUTO; k <= TOOLS_REQUIRED; k++)
        if (json_is_string(v) && str_is(json_slice(v), choice_names[k])) {
            r->tool_choice = k;
            return ERR_OK;
        }
    if (!json_is_string(name))
        return err_set(e, ERR_INVALID,
                       "\"tool_choice\" must be \"auto\", \"none\", \"required\" or "
                       "{\"type\": \"function\", \"function\": {\"name\": ...}}");
    r->tool_choice = TOOLS_NAMED;
    r->tool_name = json_slice(name);
    return ERR_OK;
}

static enum err_code read_tools(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c = read_array(root, "tools", &r->tools, e);
    const json_t *choice = member(root, "tool_choice");
    for (size_t i = 0; !c && i < json_array_size(r->tools); i++)
        if ((c = read_tool(json_array_get(r->tools, i), e)))
            err_prefix(e, "tools[%zu]", i);
    if (c || !choice || (c = read_choice(choice, r, e)))
        return c;
    if (r->tool_choice == TOOLS_REQUIRED && !json_array_size(r->tools))
        return err_set(e, ERR_INVALID, "\"tool_choice\" is \"required\" and there are no tools");
    if (r->tool_choice == TOOLS_NAMED && !has_tool(r->tools, r->tool_name))
        return err_set(e, ERR_INVALID, "\"tool_choice\": there is no tool \"%.*s\"",
                       (int)(r->tool_name.n < 200 ? r->tool_name.n : 200), r->tool_name.p);
    return ERR_OK;
}

enum err_code read_conversation(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c = read_array(root, "messages", &r->messages, e);
    for (size_t i = 0; !c && i < json_array_size(r->messages); i++)
        if ((c = read_message(json_array_get(r->messages, i), r, e)))
            err_prefix(e, "messages[%zu]", i);
    return c ? c : read_tools(root, r, e);
}

void put_tool_choice(struct json_out *j, const struct gen_request *r)
{
    if (r->tool_choice == TOOLS_AUTO)
        return;
    json_key(j, "tool_choice");
    if (r->tool_choice != TOOLS_NAMED) {
        json_str_value(j, str_from(choice_names[r->tool_choice]));
        return;
    }
    json_obj(j);
    json_kstr(j, "type", "function");
    json_key(j, "function");
    json_obj(j);
    put_str(j, "name", r->tool_name);
    json_obj_end(j);
    json_obj_end(j);
}

/* ---- format ----------------------------------------------------------------------------------- */

/* Ours, beside "json" and a schema: no schema has one of these types. The text or list of a form
 * is the member of the same name. */
static const struct {
    const char *name;
    enum format_kind kind;
    json_type type;
} forms[] = {
    { "grammar", FORMAT_GRAMMAR, JSON_STRING },
    { "regex", FORMAT_REGEX, JSON_STRING },
    { "choice", FORMAT_CHOICE, JSON_ARRAY },
};

static enum err_code read_form(const json_t *v, size_t i, struct gen_request *r, struct err *e)
{
    const json_t *of = member(v, forms[i].name);
    if (!of || json_typeof(of) != forms[i].type)
        return err_set(e, ERR_INVALID, "\"format\": \"%s\" must be %s", forms[i].name,
                       forms[i].type == JSON_STRING ? "a string" : "an array of strings");
    for (size_t k = 0; k < json_array_size(of); k++)
        if (!json_is_string(json_array_get(of, k)))
            return err_set(e, ERR_INVALID, "\"format\": \"%s\"[%zu] must be a string",
                           forms[i].name, k);
    if (json_is_array(of) && !json_array_size(of))
        return err_set(e, ERR_INVALID, "\"format\": \"%s\" is empty", forms[i].name);
    r->format_kind = forms[i].kind;
    r->format_of = of;
    return ERR_OK;
}

enum err_code read_format(const json_t *root, struct gen_request *r, struct err *e)
{
    const json_t *v = member(root, "format"), *type = member(v, "type");
    if (!v || (json_is_string(v) && json_string_length(v) == 0))
        return ERR_OK;
    r->format = v;
    if (json_is_string(v) && str_is(json_slice(v), "json")) {
        r->format_kind = FORMAT_JSON;
        return ERR_OK;
    }
    if (!json_is_object(v))
        return err_set(e, ERR_INVALID, "\"format\" must be \"json\" or a JSON schema");
    for (size_t i = 0; json_is_string(type) && i < sizeof forms / sizeof *forms; i++)
        if (str_is(json_slice(type), forms[i].name))
            return read_form(v, i, r, e);
    r->format_kind = FORMAT_SCHEMA;
    r->format_of = v;
    return ERR_OK;
}
