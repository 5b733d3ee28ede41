/* Has the place where a model came from another one now? */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/pull.h"
#include "store/remote.h"

struct asking {
    struct store *s;
    const struct store_model *m;
    struct remote_request request;
    struct transport *transport;
    struct arena arena;
};

static bool is_from(const struct store_model *m, const struct remote_kind *kind)
{
    return strcmp(m->origin, kind->name) == 0;
}

/* One model may have come from several places, and the catalog names the last. A name that says itself
 * which repository of that registry it is of is asked for there. */
static void text_to_ask(const struct store_model *m, char out[SOURCE_TEXT_MAX + 1])
{
    struct name own, source;
    snprintf(out, SOURCE_TEXT_MAX + 1, "%s", m->source);
    if (is_from(m, &remote_registry) && !name_parse(str_from(m->canonical), &own, NULL) &&
        !name_parse(str_from(m->source), &source, NULL) && str_ieq(str_from(own.host), str_from(source.host)))
        snprintf(out, SOURCE_TEXT_MAX + 1, "%s://%s", source.http ? "http" : "https", m->canonical);
}

/* ---- the hub's files, one by one --------------------------------------------------------------- */

/* Git's name is all that is told of a file that is not large: ours is given one too. */
static enum err_code has_git_name(const struct asking *a, const struct manifest_layer *here, const uint8_t *git,
                                  bool *same, struct err *e)
{
    uint8_t own[BLOB_GIT_SIZE];
    *same = false;
    for (size_t i = 0; i < a->m->n_files; i++) {
        const struct store_file *f = &a->m->files[i];
        if (!digest_eq(&f->digest, &here->digest))
            continue;
        int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
            return err_errno(e, ERR_IO, errno, "opening '%s'", f->path);
        enum err_code code = blob_git_name(a->s->ops, fd, f->size, own, e);
        close(fd);
        *same = !code && memcmp(own, git, sizeof own) == 0;
        return code;
    }
    return ERR_OK;
}

static enum err_code is_same(const struct asking *a, const struct manifest_layer *here, const struct remote_layer *there,
                             bool *same, struct err *e)
{
    *same = here->kind == there->kind && (!there->has_size || there->size == here->size);
    if (*same && there->has_digest)
        *same = digest_eq(&here->digest, &there->digest);
    else if (*same && there->git)
        return has_git_name(a, here, there->git, same, e);
    return ERR_OK;
}

/* A commit is of the whole repository, and a model is a few files of it. */
static enum err_code compare_files(struct asking *a, bool *other, char revision[80], struct err *e)
{
    struct manifest here;
    struct remote *remote = NULL;
    const struct remote_model *there = NULL;
    enum err_code code = manifest_read(str_from(a->m->manifest), &a->arena, &here, e);
    if (!code)
        code = remote_open(a->s, a->transport, &a->request, &remote, &there, e);
    if (code)
        return code;
    bool same = here.n_layers == there->n_layers;
    for (size_t i = 0; same && !code && i < here.n_layers; i++)
        code = is_same(a, &here.layers[i], &there->layers[i], &same, e);
    *other = !same;
    snprintf(revision, 80, "%s", there->revision);
    remote_close(remote);
    return code;
}

/* ---- the call ---------------------------------------------------------------------------------- */

static enum err_code ask(struct asking *a, bool *outdated, char revision[80], struct err *e)
{
    enum err_code code = remote_online(a->s, a->m->name, 0, &a->transport, e);
    if (!code)
        code = remote_revision(a->s, a->transport, &a->request, revision, e);
    if (code)
        return code;
    /* a registry's revision is the manifest's digest, which the model is known by */
    *outdated = is_from(a->m, &remote_registry) ? !str_ends(str_from(revision), str_from(a->m->digest_hex))
                                                : strcmp(revision, a->m->revision) != 0;
    return *outdated && is_from(a->m, &remote_hub) ? compare_files(a, outdated, revision, e) : ERR_OK;
}

enum err_code store_outdated(struct store *s, const struct store_pull *in, bool *outdated, char revision[80],
                             char source[SOURCE_TEXT_MAX + 1], struct err *e)
{
    char text[SOURCE_TEXT_MAX + 1];
    struct store_model *m = NULL;
    enum err_code code = store_resolve(s, in->name, &m, e);
    if (code)
        return code;
    text_to_ask(m, text);
    struct asking a = { .s = s, .m = m,
                        .request = { .text = text, .secrets = &in->secrets, .job = &in->job,
                                     /* http: as it was allowed when it was pulled */
                                     .insecure = in->insecure || str_starts(str_from(text), STR("http://")) } };
    if (!is_from(m, &remote_registry) && !is_from(m, &remote_hub) && !is_from(m, &remote_url))
        code = err_set(e, ERR_UNSUPPORTED, "'%s' was not pulled: there is no place to ask", m->name);
    else
        code = ask(&a, outdated, revision, e);
    if (source)
        snprintf(source, SOURCE_TEXT_MAX + 1, "%s", text);
    transport_destroy(a.transport);
    arena_finish(&a.arena);
    store_model_destroy(m);
    return code;
}
