/* Every field of what the protocol reads, one after another of each wrong type: refused, and nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/protocol_care.h"
#include "daemon/protocol_create.h"
#include "daemon/protocol_local.h"
#include "daemon/protocol_transfer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

/* Requests take over the tree; replies borrow from it. */
#define REQUEST(kind)                                                          \
    static enum err_code kind##_there(json_t *root, struct err *e)             \
    {                                                                          \
        struct kind##_request r;                                               \
        enum err_code c = kind##_request_read(root, &r, e);                    \
        kind##_request_finish(&r);                                             \
        return c;                                                              \
    }
REQUEST(care)
REQUEST(quantize)
REQUEST(adopt)
REQUEST(export)
REQUEST(create)

static enum err_code pull_there(json_t *root, struct err *e)
{
    struct pull_request r;
    enum err_code c = pull_request_read(root, true, &r, e);
    pull_request_finish(&r);
    return c;
}

#define LIST(kind, ...)                                                        \
    static enum err_code kind##_there(json_t *root, struct err *e)             \
    {                                                                          \
        struct kind##_entry *v = NULL;                                         \
        size_t n;                                                              \
        enum err_code c = __VA_ARGS__;                                         \
        assert_true(c == ERR_OK || v == NULL);                                 \
        mem_free(v);                                                           \
        json_decref(root);                                                     \
        return c;                                                              \
    }
LIST(transfer, transfer_list_read(root, &v, &n, e))
LIST(outdated, outdated_read(root, &v, &n, e))
LIST(pruned, pruned_read(root, "removed", &v, &n, e))
LIST(damaged, verify_reply_read(root, &(struct verify_reply){ 0 }, &v, &n, e))

static enum err_code found_there(json_t *root, struct err *e)
{
    struct adopt_reply r;
    enum err_code c = adopt_reply_read(root, &r, e);
    adopt_reply_finish(&r);
    json_decref(root);
    return c;
}

static enum err_code plan_there(json_t *root, struct err *e)
{
    struct plan_reply p;
    struct plan_file *files;
    enum err_code c = plan_read(root, &p, &files, e);
    mem_free(files);
    json_decref(root);
    return c;
}

static enum err_code event_there(json_t *root, struct err *e)
{
    struct transfer_event ev;
    enum err_code c = transfer_event_read(root, &ev, e);
    json_decref(root);
    return c;
}

static const struct {
    const char *name;
    enum err_code (*read)(json_t *root, struct err *e); /* ends with root */
    bool request;
    const char *sound;
} rows[] = {
    { "care", care_there, true,
      "{'name':'','model':'m','repair':true,'insecure':true,'hf_token':'t','username':'u','password':'p',"
      "'dry_run':true,'older_s':3,'stream':false}" },
    { "quantize", quantize_there, true, "{'model':'m','destination':'d','quantize':'Q8_0','stream':false}" },
    { "quantize a file", quantize_there, true, "{'path':'/m','destination':'d','quantize':'Q8_0'}" },
    { "adopt", adopt_there, true,
      "{'roots':[{'kind':'ollama','path':'/a'}],'names':['a','b'],'all':true,'stream':false}" },
    { "export", export_there, true, "{'models':['a','b'],'path':'/p','stream':false}" },
    { "pull", pull_there, true,
      "{'name':'','model':'m','as':'a','filter':'f','destination':'d','username':'u','password':'p','hf_token':'t',"
      "'insecure':true,'stream':false,'detach':true,'dry_run':true,'limit_rate':1000}" },
    { "create", create_there, true,
      "{'name':'','model':'m','from':'f','template':'t','system':'s','quantization':'','quantize':'Q8_0',"
      "'renderer':'r','parser':'p','requires':'1','files':{'f':'d'},'adapters':{'a':'d'},'paths':['/p'],"
      "'adapter_paths':['/a'],'messages':[{'role':'user','content':'c'}],'license':['l'],"
      "'parameters':{'temperature':0.5,'stop':['s']},'reference':true,'stream':false}" },
    { "transfers", transfer_there, false,
      "{'transfers':[{'name':'n','kind':'k','status':'s','completed':1,'total':2,"
      "'started_at':'2026-01-02T03:04:05Z','detached':true}]}" },
    { "outdated", outdated_there, false,
      "{'models':[{'name':'n','source':'s','outdated':true,'revision':'r','error':'e'}]}" },
    { "pruned", pruned_there, false, "{'removed':[{'name':'n','kind':'k','size':1}]}" },
    { "damaged", damaged_there, false,
      "{'files':1,'bytes':2,'bad':3,'repaired':4,'damaged':[{'model':'m','digest':'d','text':'t','repaired':true}]}" },
    { "found", found_there, false,
      "{'models':[{'name':'n','kind':'k','path':'p','family':'f','quantization_level':'q','size':1,'here':true,"
      "'adopted':true,'problem':'p'}],'notes':[{'path':'p','why':'w'}]}" },
    { "plan", plan_there, false,
      "{'model':'m','source':'s','revision':'r','license':'l','present':true,'size':1,'missing':1,'disk_free':1,"
      "'device':'d','device_budget':1,'device_needs':1,'files':[{'name':'n','kind':'k','size':1,'missing':1}]}" },
    { "event", event_there, false, "{'status':'s','digest':'d','total':2,'completed':1}" },
};
#define N_ROWS (sizeof rows / sizeof *rows)

static json_t *sound(size_t i)
{
    char text[1024];
    struct err e;
    json_t *root;
    assert_true(snprintf(text, sizeof text, "%s", rows[i].sound) < (int)sizeof text);
    for (char *p = text; (p = strchr(p, '\'')) != NULL;)
        *p = '"';
    if (json_read(str_from(text), sizeof text, rows[i].name, &root, &e))
        fail_msg("%s: %s", rows[i].name, e.text);
    return root;
}

/* The n-th value below v (as deep as it goes) becomes `with`. What it was, and its name (an element has its array's);
 * NULL: there are fewer. */
static json_t *replace(json_t *v, size_t *n, json_t *with, const char **name)
{
    const char *of = *name;
    void *at = json_object_iter(v);
    size_t count = json_is_object(v) ? json_object_size(v) : json_array_size(v);
    for (size_t i = 0; i < count; i++, at = json_object_iter_next(v, at)) {
        json_t *below = json_is_object(v) ? json_object_iter_value(at) : json_array_get(v, i), *was;
        *name = json_is_object(v) ? json_object_iter_key(at) : of;
        if ((*n)-- == 0) {
            was = json_incref(below);
            if (json_is_object(v))
                json_object_iter_set(v, at, with);
            else
                json_array_set(v, i, with);
            return was;
        }
        if ((was = replace(below, n, with, name)) != NULL)
            return was;
    }
    return NULL;
}

/* What is counted is not negative; a real number may be written as an integer. */
static bool may_be(const json_t *was, const json_t *with)
{
    if (json_is_number(with))
        return json_is_real(was);
    return json_typeof(was) == json_typeof(with) || (json_is_boolean(was) && json_is_boolean(with));
}

/* Of a list of texts (a licence) one text may come instead; and a parameter's stops are as Ollama takes them. */
static bool is_lenient(const char *name, const json_t *with)
{
    return json_is_string(with) && (strcmp(name, "license") == 0 || strcmp(name, "stop") == 0);
}

static void each_type(size_t row, json_t *with)
{
    for (size_t k = 0;; k++) {
        json_t *root = sound(row);
        const char *name = "";
        size_t n = k;
        struct err e = { 0 };
        json_t *was = replace(root, &n, with, &name);
        char key[64]; /* the name goes with the tree */
        snprintf(key, sizeof key, "%s", name);
        bool wrong = was && !may_be(was, with) && !is_lenient(key, with);
        enum err_code c = rows[row].read(root, &e);
        if (wrong && (c != ERR_INVALID || !e.text[0]))
            fail_msg("%s: %s as type %d is %d '%s'", rows[row].name, key, json_typeof(with), c, e.text);
        if (!was && c)
            fail_msg("%s: %s", rows[row].name, e.text);
        json_decref(was);
        if (!was)
            return;
    }
}

static void wrong_types(void **state)
{
    (void)state;
    json_t *types[] = { json_object(), json_array(), json_string("-x"), json_true(), json_integer(-1), json_real(1.5) };
    uint64_t live = mem_live();
    for (size_t i = 0; i < N_ROWS; i++)
        for (size_t k = 0; k < sizeof types / sizeof *types; k++)
            each_type(i, types[k]);
    assert_int_equal(mem_live(), live);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        json_decref(types[k]);
}

static bool may_hold_nul(const char *name)
{
    static const char *const names[] = { "template", "system", "content", "stop", "license" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* A request that is no object; and names and the like, which become C strings, with a NUL. */
static void no_object_and_nul(void **state)
{
    (void)state;
    struct err e;
    json_t *with = json_stringn("a\0b", 3);
    for (size_t i = 0; i < N_ROWS && rows[i].request; i++)
        assert_int_equal(rows[i].read(json_array(), &e), ERR_INVALID);
    for (size_t i = 0; i < N_ROWS; i++)
        for (size_t k = 0, more = rows[i].request; more; k++) {
            json_t *root = sound(i);
            const char *name = "";
            size_t n = k;
            json_t *was = replace(root, &n, with, &name);
            char key[64]; /* the name goes with the tree */
            snprintf(key, sizeof key, "%s", name);
            if (rows[i].read(root, &e) == ERR_OK && json_is_string(was) && !may_hold_nul(key))
                fail_msg("%s: %s with a NUL", rows[i].name, key);
            more = was != NULL;
            json_decref(was);
        }
    json_decref(with);
}

int main(void)
{
    json_setup();
    const struct CMUnitTest tests[] = { cmocka_unit_test(wrong_types), cmocka_unit_test(no_object_and_nul) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
