/* protocol_transfer: requests and replies there and back, rates, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/protocol_transfer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static json_t *tree(struct str text)
{
    struct err e;
    json_t *root;
    if (json_read(text, 1 << 20, "test", &root, &e))
        fail_msg("%.*s: %s", (int)text.n, text.p, e.text);
    return root;
}

static void rates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes; /* 0: refused */
    } rows[] = {
        { "1", 1 },           { "1000", 1000 },      { "10M", 10000000 },   { "1.5G", 1500000000 },
        { "500k", 500000 },   { "1MiB", 1 << 20 },   { "2Ki", 2048 },       { "3MB", 3000000 },
        { "2T", 2000000000000 }, { "7b", 7 },        { ".5K", 500 },        { "0", 0 },
        { "", 0 },            { "M", 0 },            { "-1", 0 },           { "1.2.3", 0 },
        { "10 M", 0 },        { "10Mi B", 0 },       { "1e9", 0 },          { "99999999999T", 0 },
        { "10X", 0 },         { ".", 0 },            { "0.1", 0 },          { "10Mib/s", 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t bytes = 0;
        if (rate_read(str_from(rows[i].text), &bytes) != (rows[i].bytes > 0) || bytes != rows[i].bytes)
            fail_msg("'%s' is %llu", rows[i].text, (unsigned long long)bytes);
    }
}

static void pull_requests(void **state)
{
    (void)state;
    struct buf b;
    struct err e;
    struct pull_request in, out;
    pull_request_init(&in);
    in.model = STR("hf.co/o/r");
    in.as = STR("x");
    in.destination = STR("y");
    in.username = STR("u");
    in.password = STR("p");
    in.hf_token = STR("t");
    in.insecure = in.detach = in.dry_run = true;
    in.stream = false;
    in.limit_rate = 5000;
    buf_init(&b, 10000);
    pull_request_write(&b, &in);
    assert_int_equal(pull_request_read(tree(buf_str(&b)), true, &out, &e), ERR_OK);
    assert_true(str_eq(in.model, out.model) && str_eq(in.as, out.as) && str_eq(in.destination, out.destination));
    assert_true(str_eq(in.username, out.username) && str_eq(in.password, out.password) &&
                str_eq(in.hf_token, out.hf_token));
    assert_true(out.insecure && out.detach && out.dry_run && !out.stream && out.limit_rate == 5000);
    pull_request_finish(&out);
    buf_finish(&b);
    assert_int_equal(pull_request_read(tree(STR("{\"name\":\"a\",\"limit_rate\":\"1k\",\"more\":1}")), true, &out, &e),
                     ERR_OK);
    assert_true(str_is(out.model, "a") && out.stream && out.limit_rate == 1000);
    pull_request_finish(&out);
    assert_int_equal(pull_request_read(tree(STR("{\"name\":\"a\",\"model\":\"b\"}")), true, &out, &e), ERR_OK);
    assert_true(str_is(out.model, "b"));
    pull_request_finish(&out);
}

static void wrong_pull_requests(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        { "{}", "model is required" },
        { "[]", "object" },
        { "{\"model\":1}", "\"model\"" },
        { "{\"model\":\"\"}", "model is required" },
        { "{\"model\":\"a\\u0000b\"}", "" }, /* whoever refuses it */
        { "{\"model\":\"a\",\"insecure\":\"yes\"}", "\"insecure\"" },
        { "{\"model\":\"a\",\"limit_rate\":-1}", "\"limit_rate\"" },
        { "{\"model\":\"a\",\"limit_rate\":\"fast\"}", "\"limit_rate\"" },
        { "{\"model\":\"a\",\"hf_token\":[]}", "\"hf_token\"" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pull_request r;
        struct err e;
        json_t *root;
        if (json_read(str_from(rows[i].text), 1 << 20, "JSON", &root, &e) == ERR_OK) {
            assert_int_equal(pull_request_read(root, true, &r, &e), ERR_INVALID);
            pull_request_finish(&r);
        }
        if (!strstr(e.text, rows[i].says))
            fail_msg("%s: %s", rows[i].text, e.text);
    }
}

static void plans(void **state)
{
    (void)state;
    const struct plan_file files[] = { { STR("a.gguf"), STR("model"), 100, 40 },
                                              { STR("b"), STR("license"), 0, 0 } };
    struct plan_reply in = { .model = STR("m"), .source = STR("s"), .revision = STR("r"), .license = STR("MIT"),
                             .files = files, .n_files = 2, .size = 100, .missing = 40, .disk_free = 50,
                             .present = true, .device = STR("d"), .device_budget = 10, .device_needs = 11 };
    struct plan_reply out;
    struct plan_file *v;
    struct buf b;
    buf_init(&b, 10000);
    plan_write(&b, &in);
    assert_non_null(strstr(b.p, "\"fits_disk\":true"));
    assert_non_null(strstr(b.p, "\"fits_device\":false"));
    json_t *root = tree(buf_str(&b));
    assert_int_equal(plan_read(root, &out, &v, NULL), ERR_OK);
    assert_int_equal(out.n_files, 2);
    assert_true(str_is(v[0].name, "a.gguf") && str_is(v[1].kind, "license") && v[0].size == 100 && v[0].missing == 40);
    assert_true(out.present && plan_fits_disk(&out) && !plan_fits_device(&out));
    out.device_needs = 0;
    assert_true(plan_fits_device(&out));
    out.missing = 51;
    assert_false(plan_fits_disk(&out));
    mem_free(v);
    json_decref(root);
    buf_finish(&b);
}

static void lists(void **state)
{
    (void)state;
    const struct outdated_entry in[] = { { STR("a"), STR("hf.co/o/a"), STR("r2"), true, { 0 } },
                                                { STR("b"), STR("hf.co/o/b"), { 0 }, false, STR("does not answer") } };
    const struct transfer_entry way = { .name = STR("m"), .kind = STR("pull"), .status = STR("pulling x"),
                                               .total = 9, .completed = 4, .started_wall_ns = 1000000000,
                                               .detached = true };
    struct outdated_entry *v;
    struct transfer_entry *t;
    size_t n;
    struct buf b, array;
    buf_init(&b, 10000);
    buf_init(&array, 10000);
    outdated_write(&b, in, 2);
    json_t *root = tree(buf_str(&b));
    assert_int_equal(outdated_read(root, &v, &n, NULL), ERR_OK);
    assert_int_equal(n, 2);
    assert_true(v[0].outdated && str_is(v[0].source, "hf.co/o/a") && str_is(v[0].revision, "r2"));
    assert_true(!v[1].outdated && str_is(v[1].error, "does not answer"));
    mem_free(v);
    json_decref(root);
    buf_clear(&b);
    transfer_entry_put(&array, &way, 1);
    model_list_write(&b, LIST_PS, NULL, 0, buf_str(&array));
    root = tree(buf_str(&b));
    assert_int_equal(transfer_list_read(root, &t, &n, NULL), ERR_OK);
    assert_int_equal(n, 1);
    assert_true(str_is(t->name, "m") && str_is(t->kind, "pull") && str_is(t->status, "pulling x") && t->total == 9 &&
                t->completed == 4 && t->started_wall_ns == 1000000000 && t->detached);
    mem_free(t);
    json_decref(root);
    root = tree(STR("{\"transfers\":[1]}"));
    assert_int_equal(transfer_list_read(root, &t, &n, NULL), ERR_INVALID);
    json_decref(root);
    buf_finish(&b);
    buf_finish(&array);
}

static void events(void **state)
{
    (void)state;
    struct transfer_event ev = { .status = STR("pulling x"), .digest = STR("sha256:ab"), .has_total = true,
                                 .total = 10, .completed = 0 };
    struct buf b;
    buf_init(&b, 1000);
    transfer_event_write(&b, &ev);
    assert_string_equal(b.p, "{\"status\":\"pulling x\",\"digest\":\"sha256:ab\",\"total\":10,\"completed\":0}");
    json_t *root = tree(buf_str(&b));
    assert_int_equal(transfer_event_read(root, &ev, NULL), ERR_OK);
    assert_true(ev.has_total && ev.total == 10 && str_is(ev.status, "pulling x"));
    json_decref(root);
    buf_clear(&b);
    ev = (struct transfer_event){ .status = STR("success") };
    transfer_event_write(&b, &ev);
    assert_string_equal(b.p, "{\"status\":\"success\"}");
    root = tree(STR("{\"error\":\"gone\",\"code\":\"not_found\"}"));
    struct err e;
    assert_int_equal(error_read(root, 500, &e), ERR_NOT_FOUND); /* a line of a stream has no status */
    json_decref(root);
    buf_finish(&b);
}

static void out_of_memory(void **state)
{
    (void)state;
    json_setup();
    uint64_t live = mem_live();
    for (uint64_t n = 1; n < 40; n++) {
        struct plan_reply p;
        struct plan_file *files = NULL;
        struct err e;
        json_t *root;
        mem_fail_after(n, false);
        if (json_read(STR("{\"model\":\"m\",\"files\":[{\"name\":\"a\"},{\"name\":\"b\"}]}"), 1000, "test", &root, &e) ==
            ERR_OK) {
            plan_read(root, &p, &files, &e);
            json_decref(root);
        }
        mem_fail_after(0, false);
        mem_free(files);
        assert_int_equal(mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),   cmocka_unit_test(pull_requests), cmocka_unit_test(wrong_pull_requests),
        cmocka_unit_test(plans),   cmocka_unit_test(lists),         cmocka_unit_test(events),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
