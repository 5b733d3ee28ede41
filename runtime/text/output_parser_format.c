/* A template -> a format. Known formats are rows; most formats are read off what the template
 * renders, and then a row only gives the name. */
#include "runtime/text/output_parser_priv.h"

#include <stdio.h>
#include <string.h>

#include "runtime/text/output_parser_rows.h"

/* ---- markers ------------------------------------------------------------------------------- */

void marker_set(struct marker *m, struct str text)
{
    text = str_trim(text);
    *m = (struct marker){ .n = text.n <= MARKER_MAX ? text.n : 0 };
    if (m->n)
        memcpy(m->p, text.p, m->n);
}

struct str marker_str(const struct marker *m)
{
    return (struct str){ m->p, m->n };
}

/* Marks the bytes that are control tokens of the vocabulary, the longest first. */
static void mark_control(struct marker *m, const struct tokenizer *words)
{
    for (size_t i = 0; i < m->n;) {
        size_t n = one_of("<[]{|", m->p[i]) ? m->n - i : 0;
        for (; n > 1; n--) {
            int32_t id = tokenizer_find(words, (struct str){ m->p + i, n });
            if (id != TOKEN_NONE && tokenizer_type(words, id) == TOKEN_CONTROL)
                break;
        }
        if (n < 2)
            n = 1;
        else
            memset(m->control + i, true, n);
        i += n;
    }
}

static void mark_controls(struct output_format *f, const struct tokenizer *words)
{
    struct marker *const text[] = { &f->think_open, &f->think_close, &f->content_open,
                                    &f->content_close };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++)
        mark_control(text[i], words);
    for (size_t k = 0; k < f->n_spellings; k++) {
        struct spelling *sp = &f->spelling[k];
        struct marker *const call[] = { &sp->section_open, &sp->call_open, &sp->id_end,
                                        &sp->name_end, &sp->call_close, &sp->section_close,
                                        &sp->key_open, &sp->key_close, &sp->value_close,
                                        &sp->key_close_text };
        for (size_t i = 0; i < sizeof call / sizeof *call; i++)
            mark_control(call[i], words);
    }
}

/* ---- rows ---------------------------------------------------------------------------------- */

static void spell(struct spelling *sp, const struct format_row *row)
{
    *sp = (struct spelling){ .style = row->style, .array = row->array, .counted = row->counted };
    marker_set(&sp->section_open, str_from(row->section_open));
    marker_set(&sp->call_open, str_from(row->call_open));
    marker_set(&sp->name_end, str_from(row->name_end));
    marker_set(&sp->call_close, str_from(row->call_close));
    marker_set(&sp->section_close, str_from(row->section_close));
    marker_set(&sp->key_open, str_from(row->key_open));
    marker_set(&sp->key_close, str_from(row->key_close));
    marker_set(&sp->value_close, str_from(row->value_close));
    sp->newline_before = sp->newline_after = row->lines;
    snprintf(sp->name_key, sizeof sp->name_key, "%s", row->name_key ? row->name_key : "name");
    snprintf(sp->arguments_key, sizeof sp->arguments_key, "%s",
             row->arguments_key ? row->arguments_key : "arguments");
}

static bool holds_all(struct str source, const struct format_row *row)
{
    for (size_t i = 0; i < 3 && row->in_source[i]; i++)
        if (!str_holds(source, str_from(row->in_source[i])))
            return false;
    return row->in_source[0] != NULL;
}

/* The row's opening marker is a token of the vocabulary. */
static bool is_word(const struct format_row *row, const struct tokenizer *words)
{
    const char *open = row->section_open ? row->section_open : row->call_open;
    return words && open && open[0] == '<' && tokenizer_find(words, str_from(open)) != TOKEN_NONE;
}

static const struct format_row *row_in(struct str source, const struct tokenizer *words)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (holds_all(source, &rows[i]))
            return &rows[i];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!rows[i].fixed && is_word(&rows[i], words))
            return &rows[i];
    return NULL;
}

static void without_blanks(struct marker *m, struct str text)
{
    for (size_t i = m->n = 0; i < text.n && m->n < MARKER_MAX; i++)
        if (!is_blank(text.p[i]))
            m->p[m->n++] = text.p[i];
}

static bool holds_unspaced(struct str text, struct str what)
{
    struct marker a, b;
    without_blanks(&a, text);
    without_blanks(&b, what);
    return str_holds(marker_str(&a), marker_str(&b));
}

/* The row that a derived spelling is like: same style, the row's opening in its own. */
static const struct format_row *row_like(const struct output_format *f)
{
    const struct spelling *sp = &f->spelling[0];
    struct str open = str_from(f->call_open);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct format_row *r = &rows[i];
        if (r->style != sp->style || (r->arguments_key && strcmp(r->arguments_key,
                                                                 sp->arguments_key) != 0))
            continue;
        struct str mark = str_from(r->section_open && r->section_open[0] ? r->section_open
                                                                         : r->call_open);
        if (mark.n ? holds_unspaced(open, mark) : !open.n)
            return r;
    }
    return NULL;
}

/* What stands before a call and behind it, for people. */
static void describe(struct output_format *f)
{
    const struct spelling *sp = &f->spelling[0];
    snprintf(f->call_open, sizeof f->call_open, "%.*s%s%.*s", (int)sp->section_open.n,
             sp->section_open.p, sp->array ? "[" : "", (int)sp->call_open.n, sp->call_open.p);
    snprintf(f->call_close, sizeof f->call_close, "%.*s%s%.*s", (int)sp->call_close.n,
             sp->call_close.p, sp->array ? "]" : "", (int)sp->section_close.n,
             sp->section_close.p);
}

/* ---- reasoning that the template does not render ------------------------------------------- */

static void thoughts_in(struct output_format *f, struct str source)
{
    for (size_t i = 0; i < sizeof thoughts / sizeof *thoughts && !f->reasoning; i++) {
        const struct thought_row *r = &thoughts[i];
        bool closes = i == 0 || str_holds(source, str_from(r->close)); /* <think> can mean nothing else */
        if (!str_holds(source, str_from(r->open)) || !closes)
            continue;
        f->reasoning = true;
        marker_set(&f->think_open, str_from(r->open));
        marker_set(&f->think_close, str_from(r->close));
        if (!f->content_open.n && r->content_open &&
            str_holds(source, str_from(r->content_open))) {
            marker_set(&f->content_open, str_from(r->content_open));
            marker_set(&f->content_close, str_from(r->content_close));
        }
    }
}

/* ---- a format ------------------------------------------------------------------------------ */

static void also(struct output_format *f, const struct format_row *row)
{
    if (row && f->n_spellings < SPELLINGS_MAX)
        spell(&f->spelling[f->n_spellings++], row);
}

/* Row by its name: one that another row names as its second spelling. */
static const struct format_row *row_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

static void choose(struct output_format *f, struct str source, const struct tokenizer *words,
                   bool takes_tools)
{
    const struct format_row *row = row_in(source, takes_tools ? words : NULL);
    bool derived = f->spelling[0].style != STYLE_NONE;
    if (row && row->fixed)
        derived = false;
    if (derived)
        row = (describe(f), row_like(f));
    else if (!row && takes_tools)
        row = row_named("generic");
    f->tools = derived || row;
    f->n_spellings = derived;
    if (!derived)
        also(f, row);
    if (row && row->fixed && row->style == STYLE_CHANNEL)
        f->reasoning = true;
    f->name = row ? row->name : derived ? "derived" : "";
    also(f, row_named(row ? row->second : NULL));
    describe(f);
}

enum err_code output_format_create(const struct chat_template *t, const struct tokenizer *words,
                                   struct output_format **out, struct err *e)
{
    struct output_format *f = mem_zero(1, sizeof *f);
    *out = f;
    if (!f)
        return err_no_memory(e, sizeof *f, "an output format");
    f->name = "";
    if (!t)
        return ERR_OK;
    bool takes_tools = false;
    enum err_code c = output_probe(t, words, f, &takes_tools, e);
    if (c) {
        output_format_destroy(f);
        *out = NULL;
        return c;
    }
    struct str source = chat_template_source(t);
    choose(f, source, words, takes_tools);
    if (f->spelling[0].style != STYLE_CHANNEL)
        thoughts_in(f, source);
    if (words)
        mark_controls(f, words);
    return ERR_OK;
}

void output_format_destroy(struct output_format *f)
{
    mem_free(f);
}

struct output_format_info output_format_info(const struct output_format *f)
{
    static const char *const style[STYLE_COUNT] = {
        [STYLE_NONE] = "",           [STYLE_JSON] = "json",         [STYLE_KEYED] = "keyed json",
        [STYLE_NAMED] = "name and json", [STYLE_TAGGED] = "tagged", [STYLE_PYTHON] = "pythonic",
        [STYLE_GEMMA] = "gemma",     [STYLE_CHANNEL] = "channels",
    };
    return (struct output_format_info){
        .tools = f->tools,
        .reasoning = f->reasoning,
        .name = str_from(f->name),
        .style = str_from(style[f->spelling[0].style]),
        .think_open = marker_str(&f->think_open),
        .think_close = marker_str(&f->think_close),
        .call_open = str_from(f->call_open),
        .call_close = str_from(f->call_close),
        .parallel = f->parallel,
        .arguments_text = f->arguments_text,
    };
}

bool output_format_in_thought(const struct output_format *f, struct str prompt)
{
    if (!f->think_open.n)
        return false;
    while (prompt.n && is_blank(prompt.p[prompt.n - 1]))
        prompt.n--;
    return str_ends(prompt, marker_str(&f->think_open));
}
