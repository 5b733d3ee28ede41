/* One call, as each style spells it. */
#include <stdio.h>
#include <string.h>

#include "runtime/text/json_schema.h"
#include "runtime/text/output_grammar_priv.h"

/* ---- pieces ------------------------------------------------------------------------------------ */

static uint32_t literal(struct output_maker *m, const char *text)
{
    return gram_literal(m->g, str_from(text));
}

uint32_t json_text_node(struct output_maker *m, struct str text)
{
    struct buf b;
    buf_init(&b, GRAM_MAX_SOURCE);
    value_string(&b, text);
    uint32_t node = b.failed ? gram_fail(m->g, ERR_TOO_LARGE, "a name of %zu bytes", text.n)
                             : gram_literal(m->g, buf_str(&b));
    buf_finish(&b);
    return node;
}

/* The longest control token at the front of a run of such bytes. */
static size_t token_at(const struct tokenizer *words, struct str run)
{
    for (size_t n = run.n; n > 1; n--) {
        int32_t id = tokenizer_find(words, (struct str){ run.p, n });
        if (id != TOKEN_NONE && tokenizer_type(words, id) == TOKEN_CONTROL)
            return n;
    }
    return run.n;
}

uint32_t marker_node(struct output_maker *m, const struct marker *k, size_t skip)
{
    uint32_t part[MARKER_MAX];
    size_t n = 0;
    for (size_t at = skip, to; at < k->n; at = to) {
        for (to = at + 1; to < k->n && k->control[to] == k->control[at];)
            to++;
        struct str run = { k->p + at, to - at };
        if (k->control[at]) {
            run.n = token_at(m->words, run);
            to = at + run.n;
        }
        part[n++] = k->control[at] ? gram_token(m->g, run) : gram_literal(m->g, run);
    }
    return gram_seq(m->g, part, n);
}

/* ---- arguments ---------------------------------------------------------------------------------- */

/* The schema as one of an object, whatever it says of types; a new reference. */
static json_t *object_schema(const json_t *parameters)
{
    json_t *s = json_is_object(parameters) ? json_copy((json_t *)(uintptr_t)parameters) : json_object();
    bool same = json_object_get(s, "type") || json_object_get(s, "$ref") || json_object_get(s, "anyOf") ||
                json_object_get(s, "oneOf") || json_object_get(s, "allOf");
    if (s && !same && json_object_set_new(s, "type", json_string("object"))) {
        json_decref(s);
        return NULL;
    }
    return s;
}

uint32_t tool_arguments(struct output_maker *m, size_t i)
{
    char where[64];
    if (m->arguments[i] || gram_failed(m->g))
        return m->arguments[i];
    const json_t *parameters = tool_parameters(json_array_get(m->b->tools, i));
    if (!json_object_size(parameters))
        return m->arguments[i] = literal(m, "{}");
    json_t *schema = object_schema(parameters);
    snprintf(where, sizeof where, "tools[%zu].function.parameters", i);
    m->arguments[i] = schema ? json_schema_node(m->g, schema, where, JSON_SCHEMA_BY_ITSELF)
                             : gram_fail(m->g, ERR_NO_MEMORY, "out of memory: a schema");
    json_decref(schema);
    return m->arguments[i];
}

/* ---- styles ------------------------------------------------------------------------------------- */

static struct str name_of(const struct output_maker *m, size_t tool)
{
    return str_from(tool_name(json_array_get(m->b->tools, tool)));
}

/* Nine letters or digits: the ids that Mistral's templates take. */
static uint32_t id_node(struct output_maker *m)
{
    static const struct gram_range alnum[] = { { '0', '9' }, { 'A', 'Z' }, { 'a', 'z' } };
    return gram_repeat(m->g, gram_set(m->g, alnum, 3, false), 9, 9);
}

/* A key with its colon. */
static uint32_t key_node(struct output_maker *m, const char *key)
{
    return gram_seq_of(m->g, json_text_node(m, str_from(key)), literal(m, ":"), m->blank);
}

static uint32_t json_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    const char *name = sp->name_key[0] ? sp->name_key : "name";
    const char *arguments = sp->arguments_key[0] ? sp->arguments_key : "arguments";
    uint32_t id = gram_seq_of(m->g, literal(m, ""));
    if (sp->id_key[0])
        id = gram_seq_of(m->g, literal(m, ","), m->blank, key_node(m, sp->id_key), literal(m, "\""),
                         id_node(m), literal(m, "\""));
    return gram_seq_of(m->g, literal(m, "{"), m->blank, key_node(m, name),
                       json_text_node(m, name_of(m, tool)), literal(m, ","), m->blank,
                       key_node(m, arguments), tool_arguments(m, tool), id, m->blank, literal(m, "}"));
}

static uint32_t keyed_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    (void)sp;
    return gram_seq_of(m->g, literal(m, "{"), m->blank, json_text_node(m, name_of(m, tool)),
                       literal(m, ":"), m->blank, tool_arguments(m, tool), m->blank, literal(m, "}"));
}

static uint32_t named_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    static const struct gram_range digits[] = { { '0', '9' } };
    uint32_t none = literal(m, ""), first = none, behind = none, count = none;
    uint32_t id = gram_seq_of(m->g, id_node(m), marker_node(m, &sp->id_end, 0));
    uint32_t name = gram_literal(m->g, name_of(m, tool));
    if (sp->id_first)
        first = id;
    if (sp->id_behind)
        behind = id;
    if (sp->counted) {
        count = gram_seq_of(m->g, literal(m, ":"), gram_repeat(m->g, gram_set(m->g, digits, 1, false), 1, 3));
        name = gram_seq_of(m->g, literal(m, "functions."), name);
    }
    return gram_seq_of(m->g, first, name, count, marker_node(m, &sp->name_end, 0), behind, m->blank,
                       tool_arguments(m, tool));
}

static uint32_t tagged_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    return gram_seq_of(m->g, gram_literal(m->g, name_of(m, tool)), marker_node(m, &sp->name_end, 0),
                       tagged_parameters(m, sp, tool));
}

static uint32_t keyword_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    bool gemma = sp->style == STYLE_GEMMA;
    return gram_seq_of(m->g, gram_literal(m->g, name_of(m, tool)), literal(m, gemma ? "{" : "("),
                       keyword_parameters(m, sp, tool), literal(m, gemma ? "}" : ")"));
}

/* Behind "to=": NAME <|constrain|>json<|message|>{..}; the order of the header's parts is the model's. */
static uint32_t channel_call(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    uint32_t space = gram_repeat(m->g, literal(m, " "), 0, 1);
    uint32_t channel = gram_seq_of(m->g, gram_token(m->g, marker_str(&sp->section_open)), literal(m, "commentary"));
    uint32_t json = gram_seq_of(m->g, gram_repeat(m->g, gram_token(m->g, STR("<|constrain|>")), 0, 1),
                                literal(m, "json"));
    return gram_seq_of(m->g, gram_literal(m->g, name_of(m, tool)), gram_repeat(m->g, channel, 0, 1), space,
                       gram_repeat(m->g, json, 0, 1), gram_token(m->g, marker_str(&sp->name_end)),
                       tool_arguments(m, tool));
}

static uint32_t (*const style_node[STYLE_COUNT])(struct output_maker *, const struct spelling *, size_t) = {
    [STYLE_JSON] = json_call,     [STYLE_KEYED] = keyed_call,     [STYLE_NAMED] = named_call,
    [STYLE_TAGGED] = tagged_call, [STYLE_PYTHON] = keyword_call,  [STYLE_GEMMA] = keyword_call,
    [STYLE_CHANNEL] = channel_call,
};

/* ---- calls ---------------------------------------------------------------------------------------- */

/* Any one of the tools that may be called, in the style alone. */
static uint32_t any_tool(struct output_maker *m, const struct spelling *sp)
{
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(m->b->tools) && !gram_failed(m->g); i++)
        if (!m->b->named.n || str_eq(m->b->named, name_of(m, i)))
            m->list[n++] = style_node[sp->style](m, sp, i);
    return n ? gram_alt(m->g, m->list, n) : gram_fail(m->g, ERR_INVALID, "there is no tool to call");
}

uint32_t calls_node(struct output_maker *m, const struct spelling *sp, size_t skip, bool many)
{
    uint32_t tool = any_tool(m, sp), close = marker_node(m, &sp->call_close, 0), more, all;
    bool bare = !sp->call_open.n && !sp->call_close.n, one = !many || sp->style == STYLE_CHANNEL;
    uint32_t call = gram_seq_of(m->g, marker_node(m, &sp->call_open, 0), m->blank, tool, m->blank, close);
    if (sp->style == STYLE_CHANNEL)
        return tool;
    if (sp->array || !bare)
        more = gram_seq_of(m->g, sp->array ? literal(m, ",") : literal(m, ""), m->blank, call);
    else
        more = call, one = true; /* nothing tells one from the next */
    uint32_t first = gram_seq_of(m->g, marker_node(m, &sp->call_open, skip), m->blank, tool, m->blank, close);
    all = gram_seq_of(m->g, first, gram_repeat(m->g, more, 0, one ? 0 : GRAM_MANY));
    if (sp->array)
        all = gram_seq_of(m->g, literal(m, "["), m->blank, all, m->blank, literal(m, "]"));
    return gram_seq_of(m->g, m->blank, all, m->blank, marker_node(m, &sp->section_close, 0));
}
