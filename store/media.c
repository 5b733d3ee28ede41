#include "store/media.h"

#include <string.h>

#include "runtime/base/str.h"

static const struct {
    const char *name;  /* for people and in the catalog */
    const char *type;  /* as we write it; NULL: not written */
    bool file;
} kinds[MEDIA_KINDS] = {
    [MEDIA_UNKNOWN] = { "unknown", NULL, false },
    [MEDIA_MODEL] = { "model", "application/vnd.ollama.image.model", true },
    [MEDIA_PROJECTOR] = { "projector", "application/vnd.ollama.image.projector", true },
    [MEDIA_ADAPTER] = { "adapter", "application/vnd.ollama.image.adapter", true },
    [MEDIA_TEMPLATE] = { "template", "application/vnd.ollama.image.template", false },
    [MEDIA_SYSTEM] = { "system", "application/vnd.ollama.image.system", false },
    [MEDIA_PARAMS] = { "params", "application/vnd.ollama.image.params", false },
    [MEDIA_MESSAGES] = { "messages", "application/vnd.ollama.image.messages", false },
    [MEDIA_LICENSE] = { "license", "application/vnd.ollama.image.license", false },
    [MEDIA_CONFIG] = { "config", "application/vnd.docker.container.image.v1+json", false },
};

/* What others call them. A type that ends in '*' stands for all that begin so. */
static const struct {
    const char *type;
    enum media_kind kind;
} aliases[] = {
    { "application/vnd.ollama.image.prompt", MEDIA_TEMPLATE }, /* before templates had their name */
    { "application/vnd.docker.ai.gguf.v3.lora", MEDIA_ADAPTER },
    { "application/vnd.docker.ai.gguf.v*", MEDIA_MODEL },
    { "application/vnd.docker.ai.mmproj", MEDIA_PROJECTOR },
    { "application/vnd.docker.ai.chat.template.jinja", MEDIA_TEMPLATE },
    { "application/vnd.docker.ai.license", MEDIA_LICENSE },
    { "application/vnd.docker.ai.model.config.v*", MEDIA_CONFIG },
    { "application/vnd.oci.image.config.v1+json", MEDIA_CONFIG },
    { "application/vnd.oci.empty.v1+json", MEDIA_CONFIG },
    { "application/vnd.unknown.config.v1+json", MEDIA_CONFIG }, /* oras, where none was given */
};

/* Types that say nothing of what is in them: the file's name does. */
static const char *const plain_types[] = {
    "application/octet-stream", "application/vnd.oci.image.layer.v1.tar", "text/plain", "application/x-gguf",
    "application/gguf",
};

static bool matches(const char *type, const char *row)
{
    struct str t = str_from(type), r = str_from(row);
    if (r.n && r.p[r.n - 1] == '*')
        return t.n >= r.n - 1 && str_ieq((struct str){ t.p, r.n - 1 }, (struct str){ r.p, r.n - 1 });
    return str_ieq(t, r);
}

static bool ends_with(struct str s, struct str tail)
{
    return s.n >= tail.n && str_ieq((struct str){ s.p + s.n - tail.n, tail.n }, tail);
}

static bool starts_with(struct str s, struct str head)
{
    return s.n >= head.n && str_ieq((struct str){ s.p, head.n }, head);
}

/* By the name of a file, as it stands at the end of a title that may be a path. */
static enum media_kind kind_of_title(const char *title)
{
    struct str t = str_from(title);
    for (size_t i = t.n; i-- > 0;)
        if (t.p[i] == '/') {
            t = (struct str){ t.p + i + 1, t.n - i - 1 };
            break;
        }
    if (ends_with(t, STR(".gguf")))
        return starts_with(t, STR("mmproj")) ? MEDIA_PROJECTOR : MEDIA_MODEL;
    if (ends_with(t, STR(".jinja")))
        return MEDIA_TEMPLATE;
    return starts_with(t, STR("LICENSE")) || starts_with(t, STR("LICENCE")) ? MEDIA_LICENSE : MEDIA_UNKNOWN;
}

enum media_kind media_kind_of(const char *media_type, const char *title)
{
    for (int k = MEDIA_UNKNOWN + 1; k < MEDIA_KINDS; k++)
        if (matches(media_type, kinds[k].type))
            return (enum media_kind)k;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (matches(media_type, aliases[i].type))
            return aliases[i].kind;
    enum media_kind by_title = title ? kind_of_title(title) : MEDIA_UNKNOWN;
    if (by_title == MEDIA_MODEL || by_title == MEDIA_PROJECTOR)
        return by_title; /* whatever its pusher called the type */
    for (size_t i = 0; i < sizeof plain_types / sizeof *plain_types; i++)
        if (matches(media_type, plain_types[i]))
            return by_title;
    return MEDIA_UNKNOWN;
}

bool media_is_file(enum media_kind k)
{
    return k < MEDIA_KINDS && kinds[k].file;
}

const char *media_type_of(enum media_kind k)
{
    return k < MEDIA_KINDS && kinds[k].type ? kinds[k].type : "application/octet-stream";
}

const char *media_type_alone(const char *media_type, enum media_kind k)
{
    return media_kind_of(media_type, NULL) == k ? media_type : media_type_of(k);
}

const char *media_kind_name(enum media_kind k)
{
    return kinds[k < MEDIA_KINDS ? k : MEDIA_UNKNOWN].name;
}

enum media_kind media_kind_named(const char *name)
{
    for (int k = MEDIA_UNKNOWN + 1; k < MEDIA_KINDS; k++)
        if (strcmp(kinds[k].name, name) == 0)
            return (enum media_kind)k;
    return MEDIA_UNKNOWN;
}
