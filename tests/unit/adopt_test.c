/* Adopting (store/adopt.h) when memory runs out, and when it is told to stop. What it finds in the caches of
 * each program, tests/api/adopt_test.py shows. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/adopt.h"
#include "store/commit.h"
#include "store/manifest.h"
#include "tests/store/place.h"

static enum err_code inspect(void *user, const char *const *paths, size_t n, struct str template, struct arena *a,
                             struct store_facts *out, struct err *e)
{
    (void)template;
    (void)user;
    assert_true(n > 0);
    if (strstr(paths[0], "bad"))
        return err_set(e, ERR_FORMAT, "it is bad");
    out->family = arena_strndup(a, "llama", 5);
    if (!out->family)
        return err_no_memory(e, 5, "facts");
    *out = llama;
    return ERR_OK;
}

static void make_dirs(const char *path)
{
    char dir[512];
    for (size_t i = 1; path[i]; i++)
        if (path[i] == '/') {
            snprintf(dir, sizeof dir, "%.*s", (int)i, path);
            assert_true(mkdir(dir, 0755) == 0 || errno == EEXIST);
        }
}

static const char *put(struct place *p, const char *name, const char *text)
{
    const char *path = in(p, name);
    make_dirs(path);
    return write_file(path, text, strlen(text));
}

/* A model of Ollama's with a template, and two files in a tree. */
static void make_caches(struct place *p)
{
    static const char weights[] = "GGUF weights", template[] = "{{ .Prompt }}", config[] = "{}";
    const char *texts[] = { config, weights, template };
    char hex[3][65], name[300], manifest[2048];
    for (int i = 0; i < 3; i++) {
        hex_of(texts[i], strlen(texts[i]), hex[i]);
        snprintf(name, sizeof name, "ollama/blobs/sha256-%s", hex[i]);
        put(p, name, texts[i]);
    }
    snprintf(manifest, sizeof manifest,
             "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",\"config\":"
             "{\"mediaType\":\"application/vnd.docker.container.image.v1+json\",\"digest\":\"sha256:%s\",\"size\":%zu},"
             "\"layers\":[{\"mediaType\":\"application/vnd.ollama.image.model\",\"digest\":\"sha256:%s\",\"size\":%zu},"
             "{\"mediaType\":\"application/vnd.ollama.image.template\",\"digest\":\"sha256:%s\",\"size\":%zu}]}",
             hex[0], strlen(config), hex[1], strlen(weights), hex[2], strlen(template));
    put(p, "ollama/manifests/registry.ollama.ai/library/tiny/1b", manifest);
    put(p, "tree/a/one.gguf", "GGUF one");
    put(p, "tree/b/two.gguf", "GGUF two");
    put(p, "tree/b/mmproj.gguf", "GGUF projector");
}

static enum err_code find(struct place *p, const struct store_job *job, struct adopt_list **out, struct err *e)
{
    char ollama[300], tree[300];
    snprintf(ollama, sizeof ollama, "%s/ollama", p->root);
    snprintf(tree, sizeof tree, "%s/tree", p->root);
    struct adopt_root roots[] = { { "ollama", ollama }, { "directory", tree }, { "lm-studio", "/nosuch/place" } };
    return adopt_find(p->s, roots, 3, job, out, e);
}

static void open_place(struct place *p)
{
    reopen(p);
    store_set_inspector(p->s, inspect, NULL);
    make_caches(p);
}

static void all_of_it(void **state)
{
    struct place *p = *state;
    struct adopt_list *l = NULL;
    struct store_model *m = NULL;
    struct arena a = { 0 };
    struct str text;
    open_place(p);
    ok(find(p, NULL, &l, e));
    assert_int_equal(l->n_found, 3);
    assert_int_equal(l->n_notes, 0);
    assert_string_equal(l->found[0].name, "tiny:1b");
    assert_string_equal(l->found[2].name, "two:latest");
    assert_int_equal(l->found[2].n_files, 2);
    assert_int_equal(l->found[2].files[1].kind, MEDIA_PROJECTOR);
    for (size_t i = 0; i < 3; i++)
        ok(store_adopt(p->s, &l->found[i], NULL, i ? NULL : &m, e));
    assert_string_equal(m->origin, "adopt");
    assert_true(m->by_reference);
    ok(store_layer_text(p->s, m, MEDIA_TEMPLATE, 0, &a, &text, e));
    assert_string_equal(text.p, "{{ .Prompt }}");
    assert_int_equal(entries(p->home, "blobs"), 0);
    arena_finish(&a);
    store_model_destroy(m);
    adopt_list_destroy(l);
    ok(store_remove(p->s, "tiny:1b", NULL, e));
    assert_file_is(in(p, "tree/a/one.gguf"), "GGUF one", 8);
    fails_with(ERR_INVALID, "none of the caches", adopt_find(p->s, &(struct adopt_root){ "x", "/" }, 1, NULL, &l, e));
    fails_with(ERR_INVALID, "absolute", adopt_find(p->s, &(struct adopt_root){ "directory", "x" }, 1, NULL, &l, e));
}

static void no_allocation_that_fails_leaves_a_trace(void **state)
{
    struct place *p = *state;
    open_place(p);
    bool whole = false;
    for (uint64_t n = 1; !whole; n++) {
        struct err e = { 0 };
        struct adopt_list *l = NULL;
        uint64_t live = mem_live();
        mem_fail_after(n, false);
        enum err_code code = find(p, NULL, &l, &e);
        mem_fail_after(0, false);
        whole = !code && l->n_found == 3 && !l->n_notes && !l->found[0].problem;
        if (code)
            assert_true(e.text[0] != '\0');
        adopt_list_destroy(l);
        assert_int_equal(mem_live(), live);
        assert_true(n < 2000);
    }
    struct adopt_list *l = NULL;
    ok(find(p, NULL, &l, e));
    for (size_t i = 0; i < 3; i++) {
        enum err_code code = ERR_NO_MEMORY;
        for (uint64_t n = 1; code; n++) {
            struct err e = { 0 };
            mem_fail_after(n, false);
            code = store_adopt(p->s, &l->found[i], NULL, NULL, &e);
            mem_fail_after(0, false);
            if (code && code != ERR_NO_MEMORY)
                fail_msg("allocation %d: %s", (int)n, e.text);
            assert_true(!code == (strstr(listed(p->s), l->found[i].name) != NULL));
        }
    }
    adopt_list_destroy(l);
}

static void count(void *user, const struct store_event *ev)
{
    *(int *)user += ev->total > 0;
}

static void it_can_be_stopped(void **state)
{
    struct place *p = *state;
    struct adopt_list *l = NULL;
    atomic_bool cancel = true;
    int news = 0;
    struct store_job job = { .event = count, .user = &news, .cancel = &cancel };
    open_place(p);
    fails_with(ERR_CANCELLED, "cancelled", find(p, &job, &l, e));
    assert_null(l);
    ok(find(p, NULL, &l, e));
    fails_with(ERR_CANCELLED, "cancelled", store_adopt(p->s, &l->found[0], &job, NULL, e));
    atomic_store(&cancel, false);
    ok(store_adopt(p->s, &l->found[0], &job, NULL, e));
    assert_true(news > 0);
    adopt_list_destroy(l);
}

static void what_changed_since_it_was_found_is_seen(void **state)
{
    struct place *p = *state;
    struct adopt_list *l = NULL;
    open_place(p);
    ok(find(p, NULL, &l, e));
    write_file(l->found[0].files[0].path, "GGUF weightz", 12);
    fails_with(ERR_CONFLICT, "is damaged", store_adopt(p->s, &l->found[0], NULL, NULL, e));
    unlink(l->found[1].files[0].path);
    fails_with(ERR_NOT_FOUND, "one.gguf", store_adopt(p->s, &l->found[1], NULL, NULL, e));
    assert_int_equal(mkdir(l->found[1].files[0].path, 0755), 0);
    fails_with(ERR_INVALID, "not a regular file", store_adopt(p->s, &l->found[1], NULL, NULL, e));
    assert_string_equal(listed(p->s), "");
    adopt_list_destroy(l);
}

static void take_its_name(void *user, const struct store_event *ev)
{
    struct place *p = user;
    if (strcmp(ev->status, "writing manifest") == 0)
        ok(store_copy(p->s, "one", "TWO", e));
}

/* However late another model gets the name: it keeps it. */
static void a_name_that_is_taken_meanwhile(void **state)
{
    struct place *p = *state;
    struct adopt_list *l = NULL;
    struct store_job job = { .event = take_its_name, .user = p };
    open_place(p);
    ok(find(p, NULL, &l, e));
    ok(store_adopt(p->s, &l->found[1], NULL, NULL, e));
    fails_with(ERR_CONFLICT, "another model called 'two:latest'", store_adopt(p->s, &l->found[2], &job, NULL, e));
    assert_string_equal(listed(p->s), "TWO:latest one:latest ");
    adopt_list_destroy(l);
}

/* What a program leaves, and what is found of it: a model's name, its revision and what is wrong with it, and its files,
 * with '=' where their digest is known; and notes in brackets. */
#define NO_PART "its number is that of no part of a model"
static const struct {
    const char *finder;
    struct {
        const char *name, *text;
    } files[6];
    const char *found;
} caches[] = {
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", HEX } }, "a:latest a.gguf=" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "\"" HEX "\"\n" } }, "a:latest a.gguf=" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "\"" HEX "0\"" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "W/" HEX } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "\"\n" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.etag", "" }, { "a.gguf.json", "{\"etag\":\"" HEX "\"}" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.json", "{\"etag\":\"" HEX "\"}" } }, "a:latest a.gguf=" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.json", "{\"etag\":7}" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "a.gguf.json", "{" } }, "a:latest a.gguf" },
    { "llama.cpp", { { "a.gguf", "GGUF" }, { "in/b.gguf", "GGUF" } }, "a:latest a.gguf" },
    /* projectors: in one directory for all, of those whose names begin alike */
    { "llama.cpp", { { "o_r_a.gguf", "GGUF" }, { "o_r_mmproj.gguf", "GGUF" }, { "o_s_b.gguf", "GGUF" }, { "mmproj.gguf", "GGUF" } },
      "o_r_a:latest o_r_a.gguf o_r_mmproj.gguf o_s_b:latest o_s_b.gguf" },
    { "lm-studio", { { "o/r/a.gguf", "GGUF" }, { "o/r/mmproj.gguf", "GGUF" } }, "a:latest a.gguf mmproj.gguf" },
    { "lm-studio", { { "o/r/a.gguf", "GGUF" }, { "o/r/mmproj.gguf", "no" } }, "a:latest a.gguf" },
    { "directory", { { "a.gguf", "GGU" }, { "b.gguf", "gguf" }, { "bad.gguf", "GGUF" }, { ".gguf", "GGUF" }, { "c.ggu", "GGUF" } },
      "a:latest a.gguf is no GGUF file b:latest b.gguf is no GGUF file bad:latest it is bad bad.gguf" },
    /* shards */
    { "directory", { { "x-00001-of-00002.gguf", "GGUF" }, { "x-00002-of-00002.gguf", "GGUF" } },
      "x:latest x-00001-of-00002.gguf x-00002-of-00002.gguf" },
    { "directory", { { "x-00001-of-00002.gguf", "GGUF" } }, "x:latest part 2 of 2 is missing x-00001-of-00002.gguf" },
    { "directory", { { "x-00002-of-00003.gguf", "GGUF" }, { "x-00003-of-00003.gguf", "GGUF" } },
      "x:latest part 1 of 3 is missing x-00002-of-00003.gguf x-00003-of-00003.gguf" },
    { "directory", { { "y-00001-of-00000.gguf", "GGUF" }, { "z-00001-of-99999.gguf", "GGUF" }, { "z-00000-of-00001.gguf", "GGUF" },
                     { "z-00003-of-00002.gguf", "GGUF" }, { "z-00001-of-01024.gguf", "GGUF" } },
      "(y-00001-of-00000.gguf: " NO_PART ") (z-00000-of-00001.gguf: " NO_PART ") (z-00001-of-01024.gguf: " NO_PART ") "
      "(z-00001-of-99999.gguf: " NO_PART ") (z-00003-of-00002.gguf: " NO_PART ")" },
    { "directory", { { "x-00001-of-0002.gguf", "GGUF" }, { "y-0001-of-00002.gguf", "GGUF" } },
      "x-00001-of-0002:latest x-00001-of-0002.gguf y-0001-of-00002:latest y-0001-of-00002.gguf" },
    /* the hub; these are no links, which alone tell a digest */
    { "huggingface", { { "models--o--r/snapshots/c/a.gguf", "GGUF" }, { "models--o--r/snapshots/stray.gguf", "GGUF" } },
      "hf.co/o/r:a.gguf @c a.gguf" },
    { "huggingface", { { "models--o--r/snapshots/c/a.gguf", "GGUF" }, { "models--o--r/snapshots/d/a.gguf", "GGUF" },
                       { "models--o--r/refs/main", "d" } }, "hf.co/o/r:a.gguf @d a.gguf hf.co/o/r:a.gguf-2 @c a.gguf" },
    { "huggingface", { { "models--o--r/snapshots/c/a b.gguf", "GGUF" } }, "a-b:latest @c a b.gguf" },
    { "huggingface", { { "models----r/snapshots/c/a.gguf", "GGUF" }, { "models--o--/snapshots/c/a.gguf", "GGUF" },
                       { "models--o/snapshots/c/a.gguf", "GGUF" }, { "datasets--o--r/snapshots/c/a.gguf", "GGUF" },
                       { "models--o--s", "a file" } }, "" },
    /* Ollama: what lies elsewhere than manifests do is none */
    { "ollama", { { "manifests/stray", "{}" }, { "manifests/h/stray", "{}" }, { "manifests/h/n/m/stray/t", "{}" } }, "" },
};

static void what_programs_leave(void **state)
{
    struct place *p = *state;
    reopen(p);
    store_set_inspector(p->s, inspect, NULL);
    for (size_t i = 0; i < sizeof caches / sizeof *caches; i++) {
        char root[300], file[400], found[1000] = " ";
        struct adopt_list *l = NULL;
        snprintf(root, sizeof root, "%s/%zu", p->root, i);
        for (size_t k = 0; k < 6 && caches[i].files[k].name; k++) {
            snprintf(file, sizeof file, "%zu/%s", i, caches[i].files[k].name);
            put(p, file, caches[i].files[k].text);
        }
        ok(adopt_find(p->s, &(struct adopt_root){ caches[i].finder, root }, 1, NULL, &l, e));
        for (size_t k = 0; k < l->n_found; k++) {
            const struct adopt_found *f = &l->found[k];
            const char *problem = f->problem ? f->problem : "";
            size_t n = strlen(found), in_root = strncmp(problem, root, strlen(root)) == 0 ? strlen(root) + 1 : 0;
            n += (size_t)snprintf(found + n, sizeof found - n, "%s %s%s%s%s%s", f->name, *f->revision ? "@" : "", f->revision,
                                  *f->revision ? " " : "", problem + in_root, *problem ? " " : "");
            for (size_t m = 0; m < f->n_files; m++)
                n += (size_t)snprintf(found + n, sizeof found - n, "%s%s ", strrchr(f->files[m].path, '/') + 1,
                                      f->files[m].has_digest ? "=" : "");
        }
        for (size_t k = 0; k < l->n_notes; k++)
            snprintf(found + strlen(found), sizeof found - strlen(found), "(%s: %s) ", strrchr(l->notes[k].path, '/') + 1,
                     l->notes[k].why);
        found[strlen(found) - 1] = '\0';
        if (strcmp(found[0] ? found + 1 : found, caches[i].found) != 0)
            fail_msg("%zu: '%s'", i, found + 1);
        adopt_list_destroy(l);
    }
}

/* Thousands of models that would be called the same, shards among thousands of files, and links that lead back. */
static void large_caches(void **state)
{
    struct place *p = *state;
    char name[100];
    static const struct adopt_root all = { "directory", NULL };
    struct adopt_root root = all;
    struct adopt_list *l = NULL;
    unsigned seen[2002] = { 0 }, parts = 0;
    for (int i = 0; i < 2000; i++) {
        snprintf(name, sizeof name, "cache/%d/Model.gguf", i);
        put(p, name, "GGUF");
        snprintf(name, sizeof name, "cache/shards/s%d-%05d-of-00500.gguf", i / 500, i % 500 + 1);
        put(p, name, "GGUF");
    }
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "cache/%d/back", i);
        assert_int_equal(symlink("..", in(p, name)), 0);
    }
    root.path = in(p, "cache");
    reopen(p);
    store_set_inspector(p->s, inspect, NULL);
    alarm(60); /* it takes one of these seconds; each with each it were hundreds */
    ok(adopt_find(p->s, &root, 1, NULL, &l, e));
    alarm(0);
    assert_int_equal(l->n_found, 2004);
    for (size_t i = 0; i < l->n_found; i++) {
        const struct adopt_found *f = &l->found[i];
        parts += f->n_files == 500 && !f->problem;
        if (f->n_files != 1)
            continue;
        const char *dash = strrchr(f->name, '-');
        char *end = NULL;
        long number = dash ? strtol(dash + 1, &end, 10) : 1; /* the first has its name without one */
        assert_true(number >= 1 && number <= 2000 && (!end || !*end));
        seen[number]++;
    }
    assert_int_equal(parts, 4);
    for (int i = 1; i <= 2000; i++)
        assert_int_equal(seen[i], 1);
    adopt_list_destroy(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_of_it, setup, teardown),
        cmocka_unit_test_setup_teardown(no_allocation_that_fails_leaves_a_trace, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_programs_leave, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(large_caches, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_stopped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_that_is_taken_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(what_changed_since_it_was_found_is_seen, setup, teardown),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
