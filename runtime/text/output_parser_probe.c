/* How a model spells its calls and thoughts, from what its template renders.
 *
 * An assistant turn with known words is rendered; where these words come out, the text between
 * them is the format. Texts are compared by atoms (a tag, a word, a run of blanks), so that what
 * two of them share never ends inside a tag:
 *
 *   one call   <header> P f1 A S          P: section_open call_open     S: call_close section_close
 *   two calls  <header> P f1 A X f2 A S   X: call_close call_open
 *
 * call_open is what P and X end with, call_close what S and X begin with. */
#include "runtime/text/output_parser_priv.h"

#include <stdio.h>
#include <string.h>

#define ASK "probequestion"
#define SAY "probecontent"
#define THINK "probethought"
#define NAME_1 "probefirst"
#define NAME_2 "probesecond"
#define KEY_1 "keyalpha"
#define KEY_2 "keybeta"
#define TEXT_1 "valuealpha"
#define NUMBER_2 "7351"
#define ID_1 "probeida1"
#define ID_2 "probeidb2"

/* ---- atoms --------------------------------------------------------------------------------- */

static bool word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || (unsigned char)c >= 0x80;
}

/* Length of a tag <..> or [TAG] at the front of s, or 0. */
static size_t tag(struct str s)
{
    bool angle = s.p[0] == '<';
    if (!angle && s.p[0] != '[')
        return 0;
    for (size_t i = 1; i < s.n && i < 64; i++) {
        char c = s.p[i];
        if (c == (angle ? '>' : ']'))
            return i > 1 ? i + 1 : 0;
        if (c == '<' || c == '\n' || c == '"' ||
            (!angle && c != '/' && c != '_' && c != ' ' && !(c >= 'A' && c <= 'Z')))
            return 0;
    }
    return 0;
}

static size_t atom(struct str s)
{
    size_t n = tag(s);
    if (n)
        return n;
    bool (*same)(char) = is_blank(s.p[0]) ? is_blank : word_byte(s.p[0]) ? word_byte : NULL;
    for (n = 1; same && n < s.n && same(s.p[n]);)
        n++;
    return n;
}

static struct str from(struct str s, size_t n)
{
    return (struct str){ s.p + n, s.n - n };
}

static struct str upto(struct str s, size_t n)
{
    return (struct str){ s.p, n };
}

/* Bytes of the atoms with which both begin. */
static size_t common_front(struct str a, struct str b)
{
    size_t n = 0;
    while (n < a.n && n < b.n) {
        size_t x = atom(from(a, n)), y = atom(from(b, n));
        if (x != y || memcmp(a.p + n, b.p + n, x) != 0)
            break;
        n += x;
    }
    return n;
}

/* Bytes with which both end, from an atom's beginning in both. */
static size_t common_back(struct str a, struct str b)
{
    size_t same = 0;
    while (same < a.n && same < b.n && a.p[a.n - 1 - same] == b.p[b.n - 1 - same])
        same++;
    size_t i = 0, k = 0; /* both at an atom's beginning, as far from their ends */
    while (i < a.n && k < b.n && (a.n - i > same || a.n - i != b.n - k)) {
        if (a.n - i >= b.n - k)
            i += atom(from(a, i));
        else
            k += atom(from(b, k));
    }
    return i < a.n && k < b.n ? a.n - i : 0;
}

static size_t find(struct str s, struct str what)
{
    const char *p = s.n >= what.n && what.n ? memmem(s.p, s.n, what.p, what.n) : NULL;
    return p ? (size_t)(p - s.p) : SIZE_MAX;
}

/* ---- renderings ------------------------------------------------------------------------------ */

enum { TURN_SAY, TURN_THINK, TURN_CALL, TURN_CALLS, TURN_THINK_CALL, TURN_ASK, TURN_COUNT };

struct probe {
    const struct chat_template *t;
    struct str bos, eos;
    struct buf text[TURN_COUNT]; /* the conversation; n 0: refused */
    struct str turn[TURN_COUNT]; /* of it, what is behind the question */
    bool arguments_text, thinks;
    const char *content;         /* beside a call; NULL: null */
};

static json_t *offered(void)
{
    const char *const name[] = { NAME_1, NAME_2 };
    json_t *tools = json_array();
    for (int i = 0; i < 2; i++)
        json_array_append_new(
            tools, json_pack("{s:s,s:{s:s,s:s,s:{s:s,s:{s:{s:s,s:s},s:{s:s,s:s}},s:[ss]}}}", "type",
                             "function", "function", "name", name[i], "description", "A tool.",
                             "parameters", "type", "object", "properties", KEY_1, "type", "string",
                             "description", "One.", KEY_2, "type", "integer", "description",
                             "Two.", "required", KEY_1, KEY_2));
    return tools;
}

static json_t *call(const struct probe *p, const char *name, const char *id)
{
    json_t *args = p->arguments_text
                       ? json_string("{\"" KEY_1 "\": \"" TEXT_1 "\", \"" KEY_2 "\": " NUMBER_2 "}")
                       : json_pack("{s:s,s:i}", KEY_1, TEXT_1, KEY_2, 7351);
    return json_pack("{s:s,s:s,s:{s:s,s:o}}", "id", id, "type", "function", "function", "name",
                     name, "arguments", args);
}

static json_t *answer(const struct probe *p, int turn)
{
    bool calls = turn == TURN_CALL || turn == TURN_CALLS || turn == TURN_THINK_CALL;
    json_t *m = json_pack("{s:s,s:s?}", "role", "assistant", "content",
                          calls ? p->content : SAY);
    if (turn == TURN_THINK || turn == TURN_THINK_CALL) {
        json_object_set_new(m, "reasoning_content", json_string(THINK));
        json_object_set_new(m, "reasoning", json_string(THINK));
        json_object_set_new(m, "thinking", json_string(THINK));
    }
    if (calls) {
        json_t *list = json_array();
        json_array_append_new(list, call(p, NAME_1, ID_1));
        if (turn == TURN_CALLS)
            json_array_append_new(list, call(p, NAME_2, ID_2));
        json_object_set_new(m, "tool_calls", list);
    }
    return m;
}

static json_t *variables(const struct probe *p, int turn, bool tools)
{
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", ASK);
    if (turn != TURN_ASK)
        json_array_append_new(messages, answer(p, turn));
    json_t *vars = json_pack("{s:o,s:b,s:s%,s:s%}", "messages", messages, "add_generation_prompt",
                             turn == TURN_ASK, "bos_token", p->bos.p, p->bos.n, "eos_token",
                             p->eos.p, p->eos.n);
    if (tools)
        json_object_set_new(vars, "tools", offered());
    if (p->thinks) {
        json_object_set_new(vars, "enable_thinking", json_true());
        json_object_set_new(vars, "thinking", json_true());
    }
    return vars;
}

/* False: no memory; a template's refusal leaves the turn empty. */
static bool render(struct probe *p, int turn, bool tools)
{
    json_t *vars = variables(p, turn, tools);
    struct err e = { 0 };
    p->turn[turn] = STR("");
    buf_clear(&p->text[turn]);
    enum err_code c = vars ? chat_template_render(p->t, vars, 0, &p->text[turn], NULL, &e)
                           : ERR_NO_MEMORY;
    json_decref(vars);
    if (c == ERR_NO_MEMORY || (!c && p->text[turn].failed))
        return false;
    struct str all = c ? STR("") : buf_str(&p->text[turn]);
    for (size_t at; (at = find(all, STR(ASK))) != SIZE_MAX;)
        p->turn[turn] = all = from(all, at + sizeof ASK - 1);
    return true;
}

/* Calls are tried as templates want them: arguments as an object, as text; with "" and null. */
static bool render_calls(struct probe *p)
{
    static const struct {
        bool text;
        const char *content;
    } way[] = { { false, "" }, { true, "" }, { false, NULL }, { true, NULL } };
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        p->arguments_text = way[i].text;
        p->content = way[i].content;
        if (!render(p, TURN_CALL, true))
            return false;
        struct str turn = p->turn[TURN_CALL];
        bool python = str_holds(turn, STR("{'" KEY_1 "'")); /* printed, not made JSON */
        if (str_holds(turn, STR(NAME_1)) && str_holds(turn, STR(TEXT_1)) && !python)
            return render(p, TURN_CALLS, true) && render(p, TURN_THINK_CALL, true);
    }
    p->arguments_text = false;
    p->turn[TURN_CALL] = STR("");
    return true;
}

static bool render_thoughts(struct probe *p)
{
    for (int i = 0; i < 2; i++) {
        p->thinks = i == 1;
        if (!render(p, TURN_THINK, true) ||
            (p->turn[TURN_CALL].n && !render(p, TURN_THINK_CALL, true)))
            return false;
        if (str_holds(p->turn[TURN_THINK], STR(THINK)) ||
            str_holds(p->turn[TURN_THINK_CALL], STR(THINK)))
            break;
    }
    return true;
}

static bool takes_tools_of(struct probe *p, bool *takes)
{
    struct buf plain;
    buf_init(&plain, CHAT_TEMPLATE_MAX_OUTPUT);
    bool ok = render(p, TURN_ASK, false);
    buf_put(&plain, buf_str(&p->text[TURN_ASK]).p, p->text[TURN_ASK].n);
    ok = ok && !plain.failed && render(p, TURN_ASK, true);
    *takes = str_holds(buf_str(&p->text[TURN_ASK]), STR(NAME_1)) &&
             !str_eq(buf_str(&plain), buf_str(&p->text[TURN_ASK]));
    if (ok && !p->turn[TURN_ASK].n)
        ok = render(p, TURN_ASK, false);
    buf_finish(&plain);
    return ok;
}

/* ---- calls: where their parts are -------------------------------------------------------------- */

struct part { /* of a turn: [begin, end) */
    size_t begin, end;
};
struct found {
    struct str turn;
    enum style style;
    struct part name, key, text, key_2, number, whole; /* whole: from what call_open precedes */
    size_t args;                                       /* begin of JSON arguments */
};

static struct part part_of(struct str turn, const char *what, size_t behind)
{
    size_t at = behind < turn.n ? find(from(turn, behind), str_from(what)) : SIZE_MAX;
    if (at == SIZE_MAX)
        return (struct part){ SIZE_MAX, SIZE_MAX };
    return (struct part){ behind + at, behind + at + strlen(what) };
}

static struct str between(struct str turn, size_t begin, size_t end)
{
    return begin <= end && end <= turn.n ? (struct str){ turn.p + begin, end - begin } : STR("");
}

/* End of the JSON value at `at`, or SIZE_MAX. */
static size_t json_end(struct str s, size_t at)
{
    struct json_scan scan = { 0 };
    for (; at < s.n; at++) {
        enum scan_result r = json_scan_byte(&scan, s.p[at]);
        if (r != SCAN_MORE)
            return r == SCAN_LAST ? at + 1 : SIZE_MAX;
    }
    return SIZE_MAX;
}

static size_t blanks_back(struct str s, size_t at)
{
    while (at && is_blank(s.p[at - 1]))
        at--;
    return at;
}

static size_t blanks_on(struct str s, size_t at)
{
    while (at < s.n && is_blank(s.p[at]))
        at++;
    return at;
}

/* The outermost object around the name that ends behind `end`. */
static bool object_around(struct found *f, size_t end)
{
    bool got = false;
    for (size_t i = f->name.begin; i-- && f->name.begin - i < 200;)
        if (f->turn.p[i] == '{') {
            size_t to = json_end(f->turn, i);
            if (to == SIZE_MAX || to < end)
                continue;
            f->whole = (struct part){ i, to };
            got = true;
        }
    return got;
}

/* The arguments are JSON: {"keyalpha" at `brace`. */
static bool locate_json(struct found *f, size_t brace)
{
    size_t end = json_end(f->turn, brace), n = f->name.begin, m = f->name.end;
    f->args = brace;
    if (end == SIZE_MAX)
        return false;
    if (n && f->turn.p[n - 1] == '"' && f->turn.p[m] == '"' && object_around(f, end)) {
        size_t colon = blanks_on(f->turn, m + 1);
        bool keyed = f->turn.p[colon] == ':' && blanks_on(f->turn, colon + 1) == brace;
        f->style = keyed ? STYLE_KEYED : STYLE_JSON;
        return true;
    }
    f->style = STYLE_NAMED;
    f->whole = (struct part){ n, end };
    return true;
}

static bool locate_keywords(struct found *f)
{
    bool python = f->turn.p[f->name.end] == '(';
    size_t end = part_of(f->turn, python ? ")" : "}", f->number.end).end;
    f->style = python ? STYLE_PYTHON : STYLE_GEMMA;
    f->whole = (struct part){ f->name.begin, end };
    return end != SIZE_MAX;
}

/* A call with the name, somewhere behind `behind`. */
static bool locate(struct found *f, struct str turn, const char *name, size_t behind)
{
    *f = (struct found){ .turn = turn, .name = part_of(turn, name, behind) };
    f->key = part_of(turn, KEY_1, behind);
    if (f->name.end >= turn.n || f->key.end >= turn.n || f->key.begin < f->name.end)
        return false;
    f->text = part_of(turn, TEXT_1, f->key.end);
    f->key_2 = part_of(turn, KEY_2, f->text.end);
    f->number = part_of(turn, NUMBER_2, f->key_2.end);
    if (f->number.end == SIZE_MAX)
        return false;
    size_t k = f->key.begin, brace = 0;
    if (turn.p[k - 1] == '"')
        brace = blanks_back(turn, k - 1);
    if (brace && turn.p[brace - 1] == '{')
        return locate_json(f, brace - 1);
    if (k > 1 && turn.p[k - 1] == '"' && turn.p[k - 2] == '\\' && object_around(f, f->number.end)) {
        f->style = STYLE_JSON; /* JSON in a string */
        f->args = SIZE_MAX;
        return true;
    }
    if (f->name.end + 1 <= k && one_of("({", turn.p[f->name.end]))
        return locate_keywords(f);
    f->style = STYLE_TAGGED;
    f->whole = (struct part){ f->name.begin, f->number.end };
    return true;
}

/* ---- calls: their spelling ------------------------------------------------------------------- */

static bool set(struct marker *m, struct str s)
{
    marker_set(m, s);
    return m->n || !str_trim(s).n;
}

/* The key of the member whose value begins at `at`. */
static void key_before(struct str s, size_t at, char *out, size_t size)
{
    size_t end = blanks_back(s, at), begin;
    if (end && s.p[end - 1] == ':')
        end = blanks_back(s, end - 1);
    if (!end || s.p[end - 1] != '"')
        return;
    for (begin = --end; begin && s.p[begin - 1] != '"';)
        begin--;
    if (end - begin < size)
        snprintf(out, size, "%.*s", (int)(end - begin), s.p + begin);
}

static bool spell_tagged(struct spelling *sp, struct found *f)
{
    struct str t = f->turn;
    struct str m = between(t, f->name.end, f->key.begin), k = between(t, f->key.end, f->text.begin);
    struct str v = between(t, f->text.end, f->key_2.begin);
    struct str k2 = between(t, f->key_2.end, f->number.begin), value_close;
    size_t again = find(v, STR(KEY_1)), open;
    sp->close_key = again != SIZE_MAX;
    if (sp->close_key) {
        struct str rest = from(v, again + sizeof KEY_1 - 1);
        if (!rest.n || rest.p[0] != '>')
            return false;
        open = common_back(m, from(rest, 1));
        value_close = upto(v, again);
    } else {
        open = common_back(m, v);
        value_close = upto(v, v.n - open);
    }
    struct str key_open = from(m, m.n - open);
    sp->newline_before = k.n && k.p[k.n - 1] == '\n';
    sp->newline_after = value_close.n && value_close.p[0] == '\n';
    bool ok = set(&sp->key_open, key_open) && set(&sp->name_end, upto(m, m.n - open)) &&
              set(&sp->value_close, value_close) && set(&sp->key_close, k2) &&
              (str_eq(k, k2) || set(&sp->key_close_text, k));
    size_t rest = f->number.end + value_close.n;
    if (sp->close_key)
        rest += sizeof KEY_2; /* the key and > */
    f->whole.end = rest < t.n ? rest : t.n;
    return ok && sp->key_open.n && sp->key_close.n && sp->value_close.n;
}

/* Where an id stands among the markers around the name: before it or behind. */
static bool spell_named(struct spelling *sp, struct found *f, const char *id)
{
    struct str behind = between(f->turn, f->name.end, f->args);
    size_t at = find(behind, str_from(id)), n = strlen(id);
    sp->id_behind = at != SIZE_MAX;
    if (sp->id_behind)
        return set(&sp->name_end, upto(behind, at)) && set(&sp->id_end, from(behind, at + n));
    return set(&sp->name_end, behind);
}

/* An id before the name moves the call's begin before it. */
static bool id_before(struct spelling *sp, struct found *f, const char *id)
{
    size_t back = f->whole.begin > 100 ? f->whole.begin - 100 : 0;
    size_t at = find(between(f->turn, back, f->whole.begin), str_from(id));
    if (at == SIZE_MAX)
        return true;
    sp->id_first = true;
    bool ok = set(&sp->id_end, between(f->turn, back + at + strlen(id), f->name.begin));
    f->whole.begin = back + at;
    return ok;
}

static bool spell_style(struct spelling *sp, struct found *f, const char *id)
{
    sp->style = f->style;
    switch (f->style) {
    case STYLE_JSON:
        snprintf(sp->arguments_key, sizeof sp->arguments_key, "arguments");
        key_before(f->turn, f->name.begin - 1, sp->name_key, sizeof sp->name_key);
        if (f->args != SIZE_MAX)
            key_before(f->turn, f->args, sp->arguments_key, sizeof sp->arguments_key);
        struct part p = part_of(f->turn, id, f->whole.begin);
        if (p.begin < f->whole.end && p.begin)
            key_before(f->turn, p.begin - 1, sp->id_key, sizeof sp->id_key);
        return sp->name_key[0] != '\0';
    case STYLE_NAMED:
        return spell_named(sp, f, id) && id_before(sp, f, id) && (sp->name_end.n || f->args > 0);
    case STYLE_TAGGED:
        return spell_tagged(sp, f);
    default:
        return true;
    }
}

/* s up to the turn's end: the longest rest of what follows plain content that is in s too.
 * used: bytes of it that are the content's own. */
static struct str without_end(struct str s, struct str content_end, size_t *used)
{
    for (*used = 0; *used < content_end.n; *used += atom(from(content_end, *used))) {
        struct str rest = str_trim(from(content_end, *used));
        size_t at = find(s, rest);
        if (at != SIZE_MAX)
            return upto(s, at);
    }
    return s;
}

struct context {
    struct probe *p;
    struct output_format *f;
    size_t header;             /* bytes of every turn before what the model says */
    struct str before, behind; /* around plain content */
};

static struct str header_of(const struct context *c)
{
    return upto(c->before, c->header);
}

/* What the model says before a call: not the header, nor what the prompt says behind it or what
 * precedes plain content too (an empty thought). */
static struct str body(const struct context *c, struct str before_call)
{
    struct str ask = c->p->turn[TURN_ASK];
    struct str s = from(before_call, common_front(before_call, header_of(c)));
    s = from(s, common_front(s, from(ask, common_front(ask, header_of(c)))));
    return from(s, common_front(s, from(c->before, c->header)));
}

/* A bracket at the section's inner ends: an array of calls. */
static void take_brackets(struct spelling *sp, struct str *open, struct str *close)
{
    struct str o = str_trim(*open), c = str_trim(*close);
    bool can = sp->style == STYLE_JSON || sp->style == STYLE_KEYED || sp->style == STYLE_PYTHON;
    sp->array = can && o.n && o.p[o.n - 1] == '[' && c.n && c.p[0] == ']';
    if (sp->array) {
        *open = upto(o, o.n - 1);
        *close = from(c, 1);
    }
}

static bool spell_ends(struct context *c, struct spelling *sp, const struct found *one,
                       const struct found *first, const struct found *second)
{
    struct str p = upto(one->turn, one->whole.begin), mine = body(c, p), open, section = mine;
    struct str s = from(one->turn, one->whole.end), call_close = STR("");
    size_t used;
    s = without_end(s, c->behind, &used);
    if (used < c->behind.n || s.n)
        marker_set(&c->f->content_close, upto(c->behind, used));
    if (second) {
        struct str x = between(first->turn, first->whole.end, second->whole.begin);
        size_t n = common_back(p, x);
        c->f->opened = n > mine.n && !str_trim(mine).n;
        open = from(p, p.n - (c->f->opened || n < mine.n ? n : mine.n));
        section = upto(mine, mine.n - (open.n < mine.n ? open.n : mine.n));
        x = upto(x, x.n > open.n ? x.n - open.n : 0);
        n = common_front(x, s);
        call_close = upto(s, n);
        s = from(s, n);
    } else {
        open = section;
        section = STR("");
    }
    struct str *outer = second ? &section : &open;
    take_brackets(sp, outer, &s);
    if (sp->array && !second) {
        section = open;
        open = STR("");
    }
    if (!second && !sp->array) {
        call_close = s;
        s = STR("");
    }
    return set(&sp->call_open, open) && set(&sp->section_open, section) &&
           set(&sp->call_close, call_close) && set(&sp->section_close, s);
}

/* A word of the probe among the markers: what stands there depends on the call, and is no marker. */
static bool holds_probe(const struct spelling *sp)
{
    static const char *const word[] = { NAME_1, NAME_2, KEY_1, KEY_2, TEXT_1, NUMBER_2, ID_1, ID_2 };
    const struct marker *const all[] = { &sp->section_open, &sp->call_open, &sp->id_end,
                                         &sp->name_end, &sp->call_close, &sp->section_close,
                                         &sp->key_open, &sp->key_close, &sp->key_close_text,
                                         &sp->value_close };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t k = 0; k < sizeof word / sizeof *word; k++)
            if (str_holds(marker_str(all[i]), str_from(word[k])))
                return true;
    return false;
}

static void spell_calls(struct context *c)
{
    struct spelling *sp = &c->f->spelling[0];
    struct found one, first, second;
    struct str calls = c->p->turn[TURN_CALLS];
    bool ok = locate(&one, c->p->turn[TURN_CALL], NAME_1, 0) && spell_style(sp, &one, ID_1);
    struct spelling ignored = { 0 };
    bool two = ok && locate(&first, calls, NAME_1, 0) && spell_style(&ignored, &first, ID_1) &&
               locate(&second, calls, NAME_2, first.whole.end) &&
               spell_style(&ignored, &second, ID_2);
    c->f->parallel = two;
    if (!ok || !spell_ends(c, sp, &one, two ? &first : NULL, two ? &second : NULL) ||
        (sp->style == STYLE_TAGGED && !sp->call_close.n) || holds_probe(sp))
        *sp = (struct spelling){ 0 };
    else
        c->f->arguments_text = c->p->arguments_text;
}

/* ---- thoughts ---------------------------------------------------------------------------------- */

/* The last tag of s, or its last line. */
static struct str last_tag(struct str s)
{
    s = str_trim(s);
    char open = s.n && s.p[s.n - 1] == '>' ? '<' : s.n && s.p[s.n - 1] == ']' ? '[' : '\n';
    size_t i = s.n;
    while (i && s.p[i - 1] != open)
        i--;
    return from(s, i && open != '\n' ? i - 1 : i);
}

static struct str open_of(const struct context *c, struct str before, struct str close)
{
    struct str header = header_of(c);
    struct str own = str_trim(from(before, common_front(before, header)));
    if (own.n)
        return own;
    struct str ask = c->p->turn[TURN_ASK];
    struct str opened = str_trim(from(ask, common_front(ask, header)));
    return opened.n && !str_holds(opened, close) ? opened : last_tag(before);
}

/* What closes the thought: up to the content or the calls, without what opens these. */
static struct str close_of(const struct context *c, struct str turn, size_t end)
{
    const struct spelling *sp = &c->f->spelling[0];
    struct part say = part_of(turn, SAY, end), name = part_of(turn, NAME_1, end);
    struct str own = from(c->before, c->header);
    if (say.begin != SIZE_MAX) {
        struct str gap = between(turn, end, say.begin);
        struct str left = upto(gap, gap.n - common_back(gap, own));
        return str_trim(str_trim(left).n ? left : gap);
    }
    struct str gap = between(turn, end, name.begin == SIZE_MAX ? end : name.begin);
    struct str open = marker_str(sp->section_open.n ? &sp->section_open : &sp->call_open);
    size_t at = open.n ? find(gap, upto(open, atom(open))) : SIZE_MAX;
    return str_trim(at == SIZE_MAX ? gap : upto(gap, at));
}

static void spell_thoughts(struct context *c)
{
    int which = str_holds(c->p->turn[TURN_THINK], STR(THINK)) ? TURN_THINK : TURN_THINK_CALL;
    struct str turn = c->p->turn[which];
    struct part t = part_of(turn, THINK, 0);
    if (t.begin == SIZE_MAX)
        return;
    struct str close = close_of(c, turn, t.end), open = open_of(c, upto(turn, t.begin), close);
    marker_set(&c->f->think_open, open);
    marker_set(&c->f->think_close, close);
    c->f->reasoning = c->f->think_open.n && c->f->think_close.n;
    if (!c->f->reasoning)
        c->f->think_open.n = c->f->think_close.n = 0;
}

/* What opens plain content, apart from an empty thought. */
static void spell_content(struct context *c)
{
    struct output_format *f = c->f;
    struct str s = from(c->before, c->header);
    f->skip_blanks = s.n > 0;
    f->trims_end = c->behind.n && is_blank(c->behind.p[0]);
    s = str_trim(s);
    const struct marker *const thought[] = { &f->think_open, &f->think_close };
    for (int i = 0; i < 2; i++)
        if (thought[i]->n && str_starts(s, marker_str(thought[i])))
            s = str_trim(from(s, thought[i]->n));
    if (f->opened) {
        struct str header = header_of(c);
        size_t n = f->spelling[0].call_open.n;
        if (n <= header.n && str_ends(header, marker_str(&f->spelling[0].call_open)))
            s = (struct str){ s.p - n, s.n + n };
    }
    marker_set(&f->content_open, s);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static void spell_all(struct probe *p, struct output_format *f)
{
    struct context c = { .p = p, .f = f, .before = STR(""), .behind = STR("") };
    struct str say = p->turn[TURN_SAY], ask = p->turn[TURN_ASK];
    struct part content = part_of(say, SAY, 0);
    if (content.begin != SIZE_MAX) {
        c.before = upto(say, content.begin);
        c.behind = from(say, content.end);
        c.header = common_front(c.before, ask);
    }
    spell_calls(&c);
    spell_thoughts(&c);
    spell_content(&c);
}

enum err_code output_probe(const struct chat_template *t, const struct tokenizer *words,
                           struct output_format *f, bool *takes_tools, struct err *e)
{
    struct probe p = { .t = t, .bos = STR("<s>"), .eos = STR("</s>") };
    for (int i = 0; i < TURN_COUNT; i++)
        buf_init(&p.text[i], CHAT_TEMPLATE_MAX_OUTPUT);
    if (words && tokenizer_bos(words) != TOKEN_NONE)
        p.bos = tokenizer_text(words, tokenizer_bos(words));
    if (words && tokenizer_eos(words) != TOKEN_NONE)
        p.eos = tokenizer_text(words, tokenizer_eos(words));
    bool ok = takes_tools_of(&p, takes_tools) && render(&p, TURN_SAY, true) && render_calls(&p) &&
              render_thoughts(&p);
    if (ok)
        spell_all(&p, f);
    for (int i = 0; i < TURN_COUNT; i++)
        buf_finish(&p.text[i]);
    return ok ? ERR_OK : err_no_memory(e, 0, "an output format");
}
