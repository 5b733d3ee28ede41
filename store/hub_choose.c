#include "store/hub.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "store/store.h"

/* ---- words ----------------------------------------------------------------------------------- */

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (upper(c) >= 'A' && upper(c) <= 'Z');
}

static struct str from(struct str s, size_t at)
{
    return (struct str){ s.p + at, s.n - at };
}

static struct str head(struct str s, size_t n)
{
    return (struct str){ s.p, n };
}

static bool starts_ci(struct str s, struct str with)
{
    return s.n >= with.n && str_ieq(head(s, with.n), with);
}

/* Letters and digits from `at` on. */
static struct str word_at(struct str s, size_t at)
{
    size_t n = at;
    while (n < s.n && is_alnum(s.p[n]))
        n++;
    return (struct str){ s.p + at, n - at };
}

static bool in_list(const char *const *list, size_t n, struct str word)
{
    for (size_t i = 0; i < n; i++)
        if (str_ieq(str_from(list[i]), word))
            return true;
    return false;
}
#define IN_LIST(list, word) in_list(list, sizeof(list) / sizeof *(list), word)

/* Is `word` in `s` with no letter or digit beside it, nor '_' where `tight`? */
static bool has_word(struct str s, struct str word, bool tight)
{
    for (size_t i = 0; word.n && i + word.n <= s.n; i++) {
        char before = i ? s.p[i - 1] : ' ', after = i + word.n < s.n ? s.p[i + word.n] : ' ';
        if (starts_ci(from(s, i), word) && !is_alnum(before) && !is_alnum(after) &&
            !(tight && (before == '_' || after == '_')))
            return true;
    }
    return false;
}

/* ---- labels ---------------------------------------------------------------------------------- */

/* The first word of a label: these, or [I|T]Q and a digit. */
static const char *const label_heads[] = { "BF16", "F16", "FP16", "F32", "FP32", "MXFP4", "NVFP4" };
/* What may follow it, each behind a '_': Q4_K_M, IQ3_XXS, Q4_0_4_8, MXFP4_MOE. */
static const char *const label_tails[] = { "0", "1", "2", "3", "4", "8", "K", "S", "M", "L", "P", "XS", "XXS",
                                           "XL", "XXL", "NL", "KS", "KL", "KT", "KSS", "R4", "R8", "MOE" };

static bool is_label_head(struct str word)
{
    size_t q = word.n && (upper(word.p[0]) == 'I' || upper(word.p[0]) == 'T');
    return IN_LIST(label_heads, word) || (word.n == q + 2 && upper(word.p[q]) == 'Q' &&
                                          word.p[q + 1] >= '1' && word.p[q + 1] <= '8');
}

/* Bytes of the label that begins at `at`; 0: none does. */
static size_t label_at(struct str s, size_t at)
{
    struct str word = word_at(s, at);
    if (!is_label_head(word))
        return 0;
    size_t end = at + word.n;
    while (end + 1 < s.n && s.p[end] == '_') {
        word = word_at(s, end + 1);
        if (!IN_LIST(label_tails, word))
            break;
        end += 1 + word.n;
    }
    return end - at;
}

/* The last label of a piece of a path. */
static struct str label_of_piece(struct str s)
{
    struct str found = { s.p, 0 };
    for (size_t i = 0; i < s.n; i++) {
        if (i && is_alnum(s.p[i - 1]))
            continue;
        size_t n = label_at(s, i), ud = 0;
        if (!n)
            continue;
        if (i >= 3 && starts_ci(from(s, i - 3), STR("UD-")) && (i == 3 || !is_alnum(s.p[i - 4])))
            ud = 3;
        found = (struct str){ s.p + i - ud, n + ud };
        i += n - 1;
    }
    return found;
}

static struct str base_name(struct str path)
{
    const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
    return slash ? from(path, (size_t)(slash - path.p) + 1) : path;
}

static struct str folder(struct str path)
{
    struct str base = base_name(path);
    return head(path, path.n > base.n ? path.n - base.n - 1 : 0);
}

static bool is_gguf(struct str path)
{
    return path.n > 5 && str_ieq(from(path, path.n - 5), STR(".gguf"));
}

static struct str without_gguf(struct str path)
{
    return is_gguf(path) ? head(path, path.n - 5) : path;
}

/* In upper case, with FP16 written F16; "" when it is too long for a label. */
static void normalise(struct str label, char out[HUB_LABEL_MAX])
{
    size_t n = 0, skip = starts_ci(label, STR("FP")) ? 1 : HUB_LABEL_MAX;
    for (size_t i = 0; i < label.n && label.n < HUB_LABEL_MAX; i++)
        if (i != skip)
            out[n++] = upper(label.p[i]);
    out[n] = '\0';
}

void hub_label(struct str path, char out[HUB_LABEL_MAX])
{
    struct str label = { 0 };
    for (path = without_gguf(path); !label.n && path.n; path = folder(path))
        label = label_of_piece(base_name(path));
    normalise(label, out);
}

/* ---- sets: a model's file, or all its shards -------------------------------------------------- */

struct item {
    size_t file;
    struct str base;      /* path without .gguf and a shard's number */
    unsigned part, total; /* 1 of 1 where it is not split */
    bool split;
};
struct set {
    const struct item *items; /* by part */
    size_t n;
    struct str base;
    bool projector, odd;      /* odd: no model of its own; taken only by its file's name */
    char label[HUB_LABEL_MAX];
};

bool hub_cut_shard(struct str *stem, unsigned *part, unsigned *total)
{
    static const char form[] = "-#####-of-#####";
    const size_t n = sizeof form - 1;
    unsigned value[2] = { 0, 0 };
    if (stem->n <= n)
        return false;
    struct str tail = from(*stem, stem->n - n);
    for (size_t i = 0; i < n; i++) {
        if (form[i] != '#' && tail.p[i] != form[i])
            return false;
        if (form[i] == '#' && (tail.p[i] < '0' || tail.p[i] > '9'))
            return false;
        if (form[i] == '#')
            value[i > 6] = value[i > 6] * 10 + (unsigned)(tail.p[i] - '0');
    }
    *part = value[0];
    *total = value[1];
    *stem = head(*stem, stem->n - n);
    return true;
}

static int compare_str(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int compare_items(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    int c = compare_str(a->base, b->base);
    if (!c)
        c = (a->total > b->total) - (a->total < b->total);
    if (!c)
        c = a->split - b->split;
    if (!c)
        c = (a->part > b->part) - (a->part < b->part);
    return c ? c : (a->file > b->file) - (a->file < b->file);
}

/* GGUF files that are no model, by a word of their name; with `labelled`, also when a quantisation
 * stands beside it ("imatrix-Q4_K_M" is a model that was made with one). */
static const struct {
    const char *word;
    bool labelled;
} odd_words[] = { { "imatrix", false }, { "vocab", false }, { "lora", true }, { "cvector", true } };

static void tell_kind(struct set *s)
{
    struct str base = base_name(s->base);
    hub_label(s->base, s->label);
    s->projector = has_word(base, STR("mmproj"), false);
    for (size_t i = 0; i < sizeof odd_words / sizeof *odd_words; i++)
        if (has_word(base, str_from(odd_words[i].word), false) && (odd_words[i].labelled || !s->label[0]))
            s->odd = true;
}

struct sets {
    struct set *v;
    size_t n;
    const struct hub_repo *repo;
    const struct hub_ask *ask;
    struct arena *arena;
};

static bool same_set(const struct item *a, const struct item *b)
{
    return a->split && b->split && a->total == b->total && str_eq(a->base, b->base);
}

static enum err_code collect(struct sets *sets, struct err *e)
{
    const struct hub_repo *r = sets->repo;
    struct item *items = arena_zero(sets->arena, r->n + 1, sizeof *items);
    sets->v = arena_zero(sets->arena, r->n + 1, sizeof *sets->v);
    size_t n = 0;
    if (!items || !sets->v)
        return err_no_memory(e, r->n * sizeof *items, "choosing a model's files");
    for (size_t i = 0; i < r->n; i++) {
        struct str path = str_from(r->files[i].path);
        if (!is_gguf(path))
            continue;
        struct item *it = &items[n++];
        *it = (struct item){ .file = i, .base = without_gguf(path), .part = 1, .total = 1 };
        it->split = hub_cut_shard(&it->base, &it->part, &it->total);
    }
    qsort(items, n, sizeof *items, compare_items);
    for (size_t i = 0; i < n; i++) {
        struct set *last = sets->n ? &sets->v[sets->n - 1] : NULL;
        if (last && same_set(last->items, &items[i])) {
            last->n++;
            continue;
        }
        last = &sets->v[sets->n++];
        *last = (struct set){ .items = &items[i], .n = 1, .base = items[i].base };
        tell_kind(last);
    }
    return ERR_OK;
}

/* ---- sentences ------------------------------------------------------------------------------- */

#define LIST_MAX 280

/* Appends ", TEXT" while there is room; what is not printable ASCII becomes '?'. */
static bool list_add(char list[LIST_MAX + 1], struct str text)
{
    size_t at = strlen(list), need = text.n + (at ? 2 : 0);
    if (at + need > LIST_MAX - 20)
        return false;
    at += (size_t)snprintf(list + at, LIST_MAX + 1 - at, "%s", at ? ", " : "");
    for (size_t i = 0; i < text.n; i++)
        list[at + i] = text.p[i] >= ' ' && text.p[i] <= '~' ? text.p[i] : '?';
    list[at + text.n] = '\0';
    return true;
}

static bool seen_before(const struct sets *sets, const bool *of, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (of[k] && strcmp(sets->v[k].label, sets->v[i].label) == 0)
            return true;
    return false;
}

/* The labels (or, where there is none or `files`, the files' names) of the sets in `of`. */
static void list_sets(const struct sets *sets, const bool *of, bool files, char list[LIST_MAX + 1])
{
    size_t left = 0;
    list[0] = '\0';
    for (size_t i = 0; i < sets->n; i++) {
        bool name = files || !sets->v[i].label[0];
        if (!of[i] || (!name && seen_before(sets, of, i)))
            continue;
        struct str file = str_from(sets->repo->files[sets->v[i].items[0].file].path);
        if (left || !list_add(list, name ? base_name(file) : str_from(sets->v[i].label)))
            left++;
    }
    if (left)
        snprintf(list + strlen(list), LIST_MAX + 1 - strlen(list), " and %zu more", left);
}

/* ---- the choice ------------------------------------------------------------------------------ */

/* Without a wish, in this order. What is not here is taken only when it is all there is. */
static const char *const defaults[] = {
    "Q4_K_M", "Q4_K_XL", "Q4_K_L", "Q4_K_S", "Q4_K", "Q4_0", "Q4_1", "Q5_K_M", "Q5_K_XL", "Q5_K_L", "Q5_K_S",
    "Q5_K", "Q5_0", "Q5_1", "Q6_K", "Q6_K_L", "Q6_K_XL", "Q8_0", "Q8_K_XL", "MXFP4_MOE", "MXFP4", "IQ4_NL",
    "IQ4_XS", "Q3_K_M", "Q3_K_L", "Q3_K_XL", "Q3_K_S", "Q3_K", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "Q2_K_L",
    "Q2_K_XL", "Q2_K", "Q2_K_S", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "BF16", "F16", "F32",
};

static bool label_is(const struct set *s, const char *wish, bool behind_ud)
{
    const char *label = s->label;
    if (behind_ud)
        label += strncmp(label, "UD-", 3) == 0 ? 3 : strlen(label);
    return label[0] && strcmp(label, wish) == 0;
}

static bool is_file(const struct sets *sets, const struct set *s, struct str want)
{
    if (!sets->ask->exact && str_ieq(without_gguf(want), base_name(s->base)))
        return true;
    for (size_t i = 0; i < s->n; i++) {
        struct str path = str_from(sets->repo->files[s->items[i].file].path);
        if (sets->ask->exact ? str_eq(path, want)
                             : str_ieq(without_gguf(base_name(path)), without_gguf(want)))
            return true;
    }
    return false;
}

enum rule { BY_FILE, BY_LABEL, BY_UD, BY_WORD, RULES };

static bool matches(const struct sets *sets, const struct set *s, struct str want, enum rule rule)
{
    char wish[HUB_LABEL_MAX];
    normalise(want, wish);
    if (s->projector || (s->odd && rule != BY_FILE))
        return false;
    switch (rule) {
    case BY_FILE: return is_file(sets, s, want);
    case BY_LABEL: return label_is(s, wish, false);
    case BY_UD: return label_is(s, wish, true);
    default: return has_word(s->base, want, true);
    }
}

/* How many sets match by the rule; *of tells which. */
static size_t match(const struct sets *sets, struct str want, enum rule rule, bool *of)
{
    size_t n = 0;
    for (size_t i = 0; i < sets->n; i++)
        n += of[i] = matches(sets, &sets->v[i], want, rule);
    return n;
}

static size_t match_wanted(const struct sets *sets, bool *of)
{
    size_t n = 0;
    for (int rule = BY_FILE; !n && rule < (sets->ask->exact ? BY_LABEL : RULES); rule++)
        n = match(sets, sets->ask->want, (enum rule)rule, of);
    return n;
}

static size_t match_default(const struct sets *sets, bool *of)
{
    size_t n = 0;
    for (size_t i = 0; i < sets->n; i++)
        n += of[i] = !sets->v[i].projector && !sets->v[i].odd;
    if (n <= 1)
        return n;
    n = 0;
    for (size_t i = 0; !n && i < sizeof defaults / sizeof *defaults; i++)
        for (int rule = BY_LABEL; !n && rule <= BY_UD; rule++)
            n = match(sets, str_from(defaults[i]), (enum rule)rule, of);
    return n;
}

static size_t depth(struct str path)
{
    size_t n = 0;
    for (size_t i = 0; i < path.n; i++)
        n += path.p[i] == '/';
    return n;
}

/* Of two sets with one file name: is `a` the one to take? */
static bool rather(const struct set *a, const struct set *b)
{
    if (a->items->split != b->items->split)
        return !a->items->split;
    return depth(a->base) < depth(b->base);
}

#define MANY 64 /* beyond it nobody looks for doubles */

static size_t drop_doubles(const struct sets *sets, bool *of, size_t n)
{
    for (size_t i = 0; n <= MANY && i < sets->n; i++)
        for (size_t k = 0; n > 1 && of[i] && k < sets->n; k++)
            if (k != i && of[k] && str_ieq(base_name(sets->v[i].base), base_name(sets->v[k].base)) &&
                rather(&sets->v[i], &sets->v[k])) {
                of[k] = false;
                n--;
            }
    return n;
}

static enum err_code refuse(const struct sets *sets, bool *of, size_t n, struct err *e)
{
    const struct name *name = &sets->ask->name;
    const char *org = name->namespace, *repo = name->model;
    char list[LIST_MAX + 1], want[LIST_MAX + 1] = "";
    if (n > 1) {
        list_sets(sets, of, true, list);
        return err_set(e, ERR_NOT_FOUND, "hf.co/%s/%s: %zu models answer to that; name one by its file: %s",
                       org, repo, n, list);
    }
    bool any = false;
    for (size_t i = 0; i < sets->n; i++)
        any |= of[i] = !sets->v[i].projector && !sets->v[i].odd;
    if (!any)
        return err_set(e, ERR_NOT_FOUND,
                       "hf.co/%s/%s holds no GGUF model; look for a repository with -GGUF in its name",
                       org, repo);
    list_sets(sets, of, false, list);
    list_add(want, sets->ask->want);
    if (!want[0])
        return err_set(e, ERR_NOT_FOUND, "hf.co/%s/%s has no default among its models; there is: %s", org,
                       repo, list);
    return err_set(e, ERR_NOT_FOUND, "hf.co/%s/%s has no '%s'; there is: %s", org, repo, want, list);
}

static enum err_code take_model(const struct sets *sets, const struct set *s, struct hub_choice *out,
                                struct err *e)
{
    const struct item *first = s->items;
    size_t *models = arena_zero(sets->arena, s->n, sizeof *models);
    char name[LIST_MAX + 1] = "";
    list_add(name, base_name(s->base));
    if (!models)
        return err_no_memory(e, s->n * sizeof *models, "choosing a model's files");
    if (first->split && (first->total == 0 || first->total > STORE_MAX_FILES))
        return err_set(e, ERR_FORMAT, "'%s' is split into %u files; 1 to %d are taken", name, first->total,
                       STORE_MAX_FILES);
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].part != i + 1)
            return err_set(e, ERR_FORMAT, "'%s' is not whole on the hub: of its %u shards number %zu is missing",
                           name, first->total, i + 1);
        models[i] = s->items[i].file;
    }
    if (s->n != first->total)
        return err_set(e, ERR_FORMAT, "'%s' is not whole on the hub: of its %u shards number %zu is missing",
                       name, first->total, s->n + 1);
    out->models = models;
    out->n_models = s->n;
    return ERR_OK;
}

/* ---- what lies beside the model -------------------------------------------------------------- */

static const char *const projector_labels[] = { "F16", "BF16", "Q8_0", "F32" };

static size_t projector_rank(const struct set *s)
{
    size_t n = sizeof projector_labels / sizeof *projector_labels;
    for (size_t i = 0; i < n; i++)
        if (strcmp(s->label, projector_labels[i]) == 0)
            return i;
    return n;
}

/* What a file is named after: "mmproj-gemma-3-4b-it-f16" and "gemma-3-4b-it-Q4_K_M" are both
 * "gemma-3-4b-it-". */
static struct str subject(struct str base)
{
    struct str label = label_of_piece(base);
    if (label.n)
        base = head(base, (size_t)(label.p - base.p));
    return starts_ci(base, STR("mmproj")) && base.n > 7 ? from(base, 7) : base;
}

static size_t common(struct str a, struct str b)
{
    size_t n = 0;
    while (n < a.n && n < b.n && upper(a.p[n]) == upper(b.p[n]))
        n++;
    return n;
}

/* How well a projector suits a model; less is better in the first that differs. */
struct suits {
    size_t apart, other, rank;
};

/* In the model's folder or one above it. apart: folders between; other: bytes of the model's name
 * that it does not share. */
static bool projector_suits(const struct set *p, const struct set *model, struct suits *out)
{
    struct str at = folder(p->base), place = folder(model->base);
    struct str stem = subject(base_name(p->base)), name = subject(base_name(model->base));
    if (at.n && !(str_starts(place, at) && (place.n == at.n || place.p[at.n] == '/')))
        return false;
    out->apart = (place.n ? depth(place) + 1 : 0) - (at.n ? depth(at) + 1 : 0);
    out->other = name.n - common(stem, name);
    out->rank = projector_rank(p);
    return true;
}

static int compare_suits(const struct suits *a, const struct suits *b)
{
    if (a->apart != b->apart)
        return a->apart < b->apart ? -1 : 1;
    if (a->other != b->other)
        return a->other < b->other ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static void take_projector(const struct sets *sets, const struct set *model, struct hub_choice *out)
{
    struct suits best = { 0 }, now;
    bool tie = false;
    for (size_t i = 0; i < sets->n; i++) {
        const struct set *p = &sets->v[i];
        if (!p->projector || p->items->split || !projector_suits(p, model, &now))
            continue;
        int c = out->projector == HUB_NONE ? -1 : compare_suits(&now, &best);
        tie = c == 0 || (tie && c > 0);
        if (c < 0) {
            best = now;
            out->projector = p->items->file;
        }
    }
    if (!tie)
        return;
    log_line(LOG_WARN, "msg=\"more than one projector suits the model: none is taken\" repo=%s/%s",
             sets->ask->name.namespace, sets->ask->name.model);
    out->projector = HUB_NONE;
}

static void take_texts(const struct hub_repo *r, struct hub_choice *out)
{
    const struct {
        const char *path;
        size_t *to;
    } rows[] = { { "template", &out->template }, { "system", &out->system },
                 { "params", &out->params },     { "LICENSE", &out->license },
                 { "LICENSE.txt", &out->license }, { "LICENSE.md", &out->license },
                 { "LICENCE", &out->license } };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
        for (size_t i = 0; i < r->n && *rows[k].to == HUB_NONE; i++)
            if (strcmp(r->files[i].path, rows[k].path) == 0)
                *rows[k].to = i;
}

enum err_code hub_choose(const struct hub_repo *r, const struct hub_ask *ask, struct arena *a,
                         struct hub_choice *out, struct err *e)
{
    struct sets sets = { .repo = r, .ask = ask, .arena = a };
    *out = (struct hub_choice){ .projector = HUB_NONE, .template = HUB_NONE, .system = HUB_NONE,
                                .params = HUB_NONE, .license = HUB_NONE };
    enum err_code code = collect(&sets, e);
    bool *of = code ? NULL : arena_zero(a, sets.n + 1, sizeof *of);
    if (code || !of)
        return code ? code : err_no_memory(e, sets.n, "choosing a model's files");
    size_t n = drop_doubles(&sets, of, ask->want.n ? match_wanted(&sets, of) : match_default(&sets, of));
    if (n != 1)
        return refuse(&sets, of, n, e);
    size_t at = 0;
    while (!of[at])
        at++;
    code = take_model(&sets, &sets.v[at], out, e);
    if (!code) {
        take_projector(&sets, &sets.v[at], out);
        take_texts(r, out);
    }
    return code;
}
