#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/text/go_template_priv.h"

/* ---- types ---- */

const struct go_type go_any = { "interface {}", GO_NIL, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_bool = { "bool", GO_BOOL, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_int = { "int", GO_INT, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_uint8 = { "uint8", GO_UINT8, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_float = { "float64", GO_FLOAT, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_string = { "string", GO_STRING, NULL, NULL, 0, GO_NO_METHOD };
const struct go_type go_anys = { "[]interface {}", GO_LIST, &go_any, NULL, 0, GO_NO_METHOD };
const struct go_type go_any_map = { "map[string]interface {}", GO_MAP, &go_any, NULL, 0,
                                    GO_NO_METHOD };
static const struct go_type strings = { "[]string", GO_LIST, &go_string, NULL, 0, GO_NO_METHOD };
static const struct go_type property_type = { "api.PropertyType", GO_LIST, &go_string, NULL, 0,
                                              GO_STRING_TYPE };
static const struct go_type property_list = { "[]api.ToolProperty", GO_LIST, &go_property, NULL, 0,
                                              GO_NO_METHOD };
const struct go_type go_plain_properties = { "map[string]api.ToolProperty", GO_MAP, &go_property,
                                             NULL, 0, GO_NO_METHOD };
const struct go_type go_properties = { "template.templateProperties", GO_MAP, &go_property, NULL, 0,
                                       GO_STRING_JSON };
const struct go_type go_ordered_properties = { "*api.ToolPropertiesMap", GO_POINTER,
                                               &go_plain_properties, NULL, 0, GO_NO_METHOD };

#define STRUCT(var, name, rows, string)                                                            \
    const struct go_type var = { name, GO_STRUCT, NULL, rows, sizeof rows / sizeof *rows, string }

static const struct go_field property_fields[] = {
    { "AnyOf", "anyOf", "anyOf", true, &property_list }, /* put_typescript knows the first two */
    { "Type", "type", "type", true, &property_type },
    { "Items", "items", "items", true, &go_any },
    { "Description", "description", "description", true, &go_string },
    { "Enum", "enum", "enum", true, &go_anys },
    { "Properties", "properties", "properties", true, &go_ordered_properties },
    { "Required", "required", "required", true, &strings },
};
STRUCT(go_property, "api.ToolProperty", property_fields, GO_NO_METHOD);

static const struct go_field parameter_fields[] = {
    { "Type", "type", "type", false, &go_string },
    { "Defs", "$defs", "$defs", true, &go_any },
    { "Items", "items", "items", true, &go_any },
    { "Required", "required", "required", true, &strings },
    { "Properties", "properties", "properties", false, &go_properties },
};
static STRUCT(parameters, "template.templateToolFunctionParameters", parameter_fields,
              GO_NO_METHOD);

static const struct go_field function_fields[] = {
    { "Name", "name", "name", false, &go_string },
    { "Description", "description", "description", false, &go_string },
    { "Parameters", "parameters", "parameters", false, &parameters },
};
static STRUCT(tool_function, "template.templateToolFunction", function_fields, GO_NO_METHOD);

static const struct go_field tool_fields[] = {
    { "Type", "type", "type", false, &go_string },
    { "Items", "items", "items", true, &go_any },
    { "Function", "function", "function", false, &tool_function },
};
static STRUCT(tool, "template.templateTool", tool_fields, GO_STRING_JSON);
const struct go_type go_tools = { "template.templateTools", GO_LIST, &tool, NULL, 0,
                                  GO_STRING_JSON };

static const struct go_type arguments = { "template.templateArgs", GO_MAP, &go_any, NULL, 0,
                                          GO_STRING_JSON };
static const struct go_field call_function_fields[] = {
    { "Index", "index", "Index", false, &go_int },
    { "Name", "name", "Name", false, &go_string },
    { "Arguments", "arguments", "Arguments", false, &arguments },
};
static STRUCT(call_function, "template.templateToolCallFunction", call_function_fields,
              GO_NO_METHOD);
static const struct go_field call_fields[] = {
    { "ID", "id", "ID", false, &go_string },
    { "Function", "function", "Function", false, &call_function },
};
static STRUCT(tool_call, "template.templateToolCall", call_fields, GO_NO_METHOD);
static const struct go_type tool_calls = { "[]template.templateToolCall", GO_LIST, &tool_call, NULL,
                                           0, GO_NO_METHOD };

static const struct go_type image = { "api.ImageData", GO_BYTES, NULL, NULL, 0, GO_NO_METHOD };
static const struct go_type images = { "[]api.ImageData", GO_LIST, &image, NULL, 0, GO_NO_METHOD };
enum { M_ROLE, M_CONTENT, M_THINKING, M_IMAGES, M_TOOL_CALLS, M_TOOL_NAME, M_TOOL_CALL_ID, M_N };
static const struct go_field message_fields[] = {
    [M_ROLE] = { "Role", "role", "Role", false, &go_string },
    [M_CONTENT] = { "Content", "content", "Content", false, &go_string },
    [M_THINKING] = { "Thinking", "thinking", "Thinking", false, &go_string },
    [M_IMAGES] = { "Images", "images", "Images", false, &images },
    [M_TOOL_CALLS] = { "ToolCalls", "tool_calls", "ToolCalls", false, &tool_calls },
    [M_TOOL_NAME] = { "ToolName", "tool_name", "ToolName", false, &go_string },
    [M_TOOL_CALL_ID] = { "ToolCallID", "tool_call_id", "ToolCallID", false, &go_string },
};
static STRUCT(message_struct, "template.templateMessage", message_fields, GO_NO_METHOD);
const struct go_type go_message = { "*template.templateMessage", GO_POINTER, &message_struct, NULL,
                                    0, GO_NO_METHOD };
const struct go_type go_messages = { "[]*template.templateMessage", GO_LIST, &go_message, NULL, 0,
                                     GO_NO_METHOD };

const struct go_type *go_type_of(const struct go_value *v)
{
    return v->kind == GO_INVALID ? NULL : v->kind == GO_STRING ? &go_string : v->type;
}

const char *go_type_name(const struct go_value *v)
{
    const struct go_type *t = go_type_of(v);
    return t ? t->name : "nil";
}

static const struct go_value empty_property[] = {
    { .kind = GO_LIST, .nil = true, .type = &property_list },
    { .kind = GO_LIST, .nil = true, .type = &property_type },
    { .kind = GO_NIL, .type = &go_any },
    { .kind = GO_STRING, .u.s = { "", 0 } },
    { .kind = GO_LIST, .nil = true, .type = &go_anys },
    { .kind = GO_POINTER, .nil = true, .type = &go_ordered_properties },
    { .kind = GO_LIST, .nil = true, .type = &strings },
};

struct go_value go_zero(const struct go_type *t)
{
    struct go_value v = { .kind = (uint8_t)t->kind, .type = t };
    v.nil = t->kind == GO_LIST || t->kind == GO_MAP || t->kind == GO_POINTER;
    if (t->kind == GO_STRING)
        v = go_of_str(STR(""), NULL);
    if (t == &go_property)
        v.u.fields = empty_property;
    return v;
}

/* ---- maps ---- */

static int compare(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int compare_entries(const void *a, const void *b)
{
    const struct go_entry *x = a, *y = b;
    return compare(x->key, y->key);
}

bool go_map_get(const struct go_map *m, struct str key, const struct go_value **out)
{
    size_t low = 0, high = m->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = compare(m->e[mid].key, key);
        if (c == 0) {
            *out = &m->e[mid].v;
            return true;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}

bool go_sort_map(struct go_render *r, struct go_map *m)
{
    struct go_entry *e = go_alloc(r, m->n + 1, sizeof *e);
    if (!e || !go_spend(r, m->n * 64))
        return false;
    if (m->n) {
        memcpy(e, m->e, m->n * sizeof *e);
        qsort(e, m->n, sizeof *e, compare_entries);
    }
    m->e = e;
    return true;
}

/* ---- JSON -> values ---- */

static bool read(struct go_render *r, const json_t *j, const struct go_type *t, const char *where,
                 int depth, struct go_value *out);

static struct str text_of(const json_t *j)
{
    const char *p = json_string_value(j);
    return (struct str){ p ? p : "", json_string_length(j) };
}

static bool wrong(struct go_render *r, const char *where, const char *wanted)
{
    return go_fail(r, ERR_INVALID, "%s must be %s", where, wanted);
}

static bool read_list(struct go_render *r, const json_t *j, const struct go_type *t,
                      const char *where, int depth, struct go_value *out)
{
    bool one = t == &property_type && json_is_string(j); /* "string" for ["string"] */
    size_t n = one ? 1 : json_array_size(j);
    if (!one && !json_is_array(j))
        return wrong(r, where, "a list");
    struct go_value *v = go_alloc(r, n + 1, sizeof *v);
    if (!v)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!read(r, one ? j : json_array_get(j, i), t->of, where, depth + 1, &v[i]))
            return false;
    *out = (struct go_value){ .kind = GO_LIST, .type = t, .u.list = { v, n } };
    return true;
}

/* The entries in the request's order. */
static bool read_entries(struct go_render *r, const json_t *j, const struct go_type *of,
                         const char *where, int depth, struct go_map *out)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    struct go_entry *e = go_alloc(r, json_object_size(j) + 1, sizeof *e);
    if (!json_is_object(j))
        return wrong(r, where, "an object");
    if (!e)
        return false;
    json_object_foreach((json_t *)(uintptr_t)j, key, value) {
        e[n].key = str_from(key);
        if (!read(r, value, of, where, depth + 1, &e[n].v))
            return false;
        n++;
    }
    *out = (struct go_map){ e, n };
    return true;
}

static bool read_map(struct go_render *r, const json_t *j, const struct go_type *t,
                     const char *where, int depth, struct go_value *out)
{
    bool ordered = t->kind == GO_POINTER;
    *out = (struct go_value){ .kind = (uint8_t)t->kind, .type = t };
    return read_entries(r, j, ordered ? t->of->of : t->of, where, depth, &out->u.map) &&
           (ordered || go_sort_map(r, &out->u.map));
}

static bool read_struct(struct go_render *r, const json_t *j, const struct go_type *t,
                        const char *where, int depth, struct go_value *out)
{
    struct go_value *v = go_alloc(r, t->n, sizeof *v);
    if (j && !json_is_null(j) && !json_is_object(j))
        return wrong(r, where, "an object");
    if (!v)
        return false;
    for (size_t i = 0; i < t->n; i++)
        if (!read(r, json_object_get(j, t->fields[i].in), t->fields[i].type, t->fields[i].in,
                  depth + 1, &v[i]))
            return false;
    *out = (struct go_value){ .kind = GO_STRUCT, .type = t, .u.fields = v };
    return true;
}

/* A value of whatever type the JSON has. */
static bool read_any(struct go_render *r, const json_t *j, int depth, struct go_value *out)
{
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        return read_map(r, j, &go_any_map, "an object", depth, out);
    case JSON_ARRAY:
        return read_list(r, j, &go_anys, "a list", depth, out);
    case JSON_STRING:
        *out = go_of_str(text_of(j), GO_ALL);
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        *out = (struct go_value){ .kind = GO_FLOAT, .type = &go_float,
                                  .u.f = json_number_value(j) };
        return true;
    default:
        *out = json_is_null(j) ? go_zero(&go_any) : go_of_bool(json_is_true(j));
        return true;
    }
}

/* Arguments may come as the text of an object, as OpenAI's clients send them. */
static bool read_arguments(struct go_render *r, const json_t *j, const char *where, int depth,
                           struct go_value *out)
{
    struct str text = text_of(j);
    struct go_kept *kept;
    if (!json_is_string(j))
        return read_map(r, j, &arguments, where, depth, out);
    if (!(kept = go_alloc(r, 1, sizeof *kept)))
        return false;
    if (json_read(text.n ? text : STR("{}"), SIZE_MAX, where, &kept->json, NULL))
        return wrong(r, where, "an object, or the JSON of one");
    kept->next = r->kept;
    r->kept = kept;
    return read_map(r, kept->json, &arguments, where, depth, out);
}

static bool read_int(struct go_render *r, const json_t *j, const char *where, struct go_value *out)
{
    *out = go_of_int(json_integer_value(j));
    return json_is_integer(j) || wrong(r, where, "a whole number");
}

static bool read(struct go_render *r, const json_t *j, const struct go_type *t, const char *where,
                 int depth, struct go_value *out)
{
    if (depth > GO_MAX_WALK)
        return go_fail(r, ERR_TOO_LARGE, "%s is nested too deeply", where);
    if (!go_spend(r, 0))
        return false;
    if (t->kind == GO_STRUCT)
        return read_struct(r, j, t, where, depth, out);
    if (!j || json_is_null(j)) {
        *out = go_zero(t);
        return true;
    }
    switch (t->kind) {
    case GO_NIL:
        return read_any(r, j, depth, out);
    case GO_INT:
        return read_int(r, j, where, out);
    case GO_STRING:
        *out = go_of_str(text_of(j), GO_ALL);
        return json_is_string(j) || wrong(r, where, "a string");
    case GO_BYTES:
        *out = (struct go_value){ .kind = GO_BYTES, .type = t, .u.s = text_of(j) };
        return json_is_string(j) || wrong(r, where, "a string");
    case GO_LIST:
        return read_list(r, j, t, where, depth, out);
    default:
        return t == &arguments ? read_arguments(r, j, where, depth, out)
                               : read_map(r, j, t, where, depth, out);
    }
}

bool go_read(struct go_render *r, const json_t *j, const struct go_type *t, const char *where,
             struct go_value *out)
{
    return read(r, j, t, where, 0, out);
}

/* ---- messages ---- */

bool go_is_plain_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        bool letter = c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z');
        if (!letter && (i == 0 || (c != '-' && (c < '0' || c > '9'))))
            return false;
    }
    return s.n > 0 && s.n <= 32;
}

/* In lower case; a plain one counts as the template's own. */
static bool read_role(struct go_render *r, const json_t *j, struct go_value *out)
{
    struct str s = text_of(j);
    char *p = go_alloc(r, s.n + 1, 1);
    if (j && !json_is_null(j) && !json_is_string(j))
        return wrong(r, "role", "a string");
    if (!p)
        return false;
    for (size_t i = 0; i < s.n; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] + 32) : s.p[i];
    s.p = p;
    *out = go_of_str(s, go_is_plain_name(s) ? NULL : GO_ALL);
    return true;
}

/* A text, or a list of parts that are all texts. */
static bool read_content(struct go_render *r, const json_t *j, struct go_value *out)
{
    struct go_text t = go_text_new(r);
    if (!json_is_array(j))
        return read(r, j, &go_string, "content", 0, out);
    for (size_t i = 0; i < json_array_size(j); i++) {
        const json_t *text = json_object_get(json_array_get(j, i), "text");
        struct str s = text_of(text);
        if (!json_is_string(text))
            return wrong(r, "a part of content", "a text");
        if (!go_put_outside(&t, s.p, s.n))
            return false;
    }
    return go_text_take(&t, out);
}

/* The field under its own name, or one that others give it. */
static const json_t *field_of(const json_t *m, size_t i, bool is_tool)
{
    const json_t *j = json_object_get(m, message_fields[i].in);
    if (j && !json_is_null(j))
        return j;
    if (i == M_THINKING && !(j = json_object_get(m, "reasoning_content")))
        j = json_object_get(m, "reasoning");
    return i == M_TOOL_NAME && is_tool ? json_object_get(m, "name") : j;
}

static bool read_message(struct go_render *r, const json_t *m, struct go_value *v)
{
    if (!json_is_object(m))
        return wrong(r, "a message", "an object");
    for (size_t i = 0; i < M_N; i++) {
        const struct go_field *f = &message_fields[i];
        const json_t *j = field_of(m, i, i > M_ROLE && str_is(v[M_ROLE].u.s, "tool"));
        if (i == M_ROLE ? !read_role(r, j, &v[i])
            : i == M_CONTENT ? !read_content(r, j, &v[i]) : !read(r, j, f->type, f->in, 0, &v[i]))
            return false;
    }
    return true;
}

/* Texts with an empty line between them. */
static bool join(struct go_text *t, bool first, const struct go_value *v)
{
    return (first || go_puts(t, "\n\n")) && go_put_str(t, v);
}

/* Messages [i, end) of one role become the first, with the contents of all. */
static bool merge(struct go_render *r, struct go_value *const *fields, size_t n)
{
    struct go_text t = go_text_new(r);
    if (n == 1)
        return true;
    for (size_t i = 0; i < n; i++)
        if (!join(&t, i == 0, &fields[i][M_CONTENT]))
            return false;
    return go_text_take(&t, &fields[0][M_CONTENT]);
}

static bool collate(struct go_render *r, struct go_value *const *fields, size_t n,
                    struct go_value *out)
{
    struct go_value *list = go_alloc(r, n + 1, sizeof *list);
    size_t kept = 0;
    if (!list)
        return false;
    for (size_t i = 0, end; i < n; i = end) {
        struct str role = fields[i][M_ROLE].u.s;
        for (end = i + 1; end < n && !str_is(role, "tool") &&
                          str_eq(fields[end][M_ROLE].u.s, role);)
            end++;
        if (!merge(r, fields + i, end - i))
            return false;
        list[kept++] = (struct go_value){ .kind = GO_POINTER, .type = &go_message,
                                          .u.fields = fields[i] };
    }
    *out = (struct go_value){ .kind = GO_LIST, .type = &go_messages, .u.list = { list, kept } };
    return true;
}

/* The prompt alone, as a user's message. */
static json_t *prompt_message(struct go_render *r, const struct go_value *prompt)
{
    struct go_kept *kept = go_alloc(r, 1, sizeof *kept);
    if (!kept)
        return NULL;
    kept->json = json_pack("[{s:s,s:s%}]", "role", "user", "content", prompt->u.s.p,
                           prompt->u.s.n);
    if (!kept->json) {
        go_fail(r, ERR_NO_MEMORY, "no memory for the prompt");
        return NULL;
    }
    kept->next = r->kept;
    r->kept = kept;
    return kept->json;
}

bool go_read_messages(struct go_render *r, const json_t *messages, const struct go_value *prompt,
                      struct go_value *out, struct go_value *system)
{
    struct go_text t = go_text_new(r);
    bool first = true;
    if ((!messages || json_is_null(messages)) && prompt->u.s.n &&
        !(messages = prompt_message(r, prompt)))
        return false;
    if (messages && !json_is_null(messages) && !json_is_array(messages))
        return wrong(r, "messages", "a list");
    size_t n = json_array_size(messages);
    struct go_value **fields = go_alloc(r, n + 1, sizeof *fields);
    if (!fields)
        return false;
    for (size_t i = 0; i < n; i++) {
        fields[i] = go_alloc(r, M_N, sizeof **fields);
        if (!fields[i] || !read_message(r, json_array_get(messages, i), fields[i]))
            return false;
        if (!str_is(fields[i][M_ROLE].u.s, "system"))
            continue;
        if (!join(&t, first, &fields[i][M_CONTENT]))
            return false;
        first = false;
    }
    return go_text_take(&t, system) && collate(r, fields, n, out);
}

void go_message_of(const struct go_value *message, struct str *role, struct go_value *content)
{
    *role = message->u.fields[M_ROLE].u.s;
    *content = message->u.fields[M_CONTENT];
}
