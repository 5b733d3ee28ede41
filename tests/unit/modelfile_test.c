/* modelfile: the language as a table, what is refused and where, and back to text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/modelfile.h"

#define LITERAL(s) { "" s, sizeof(s) - 1 }

/* A file, and its commands as "NAME|name|value;" each; both were compared with Ollama's own parser. */
static const struct {
    struct str text;
    const char *commands;
} good[] = {
    { LITERAL("FROM a"), "FROM||a;" },
    { LITERAL("from a\n"), "FROM||a;" },
    { LITERAL("FrOm a\r\nsystem b\r\n"), "FROM||a;SYSTEM||b;" },
    { LITERAL("FROM a\rSYSTEM b\r"), "FROM||a;SYSTEM||b;" },
    { LITERAL("\n\n  \t# note\n#FROM x\nFROM a\n#"), "FROM||a;" },
    { LITERAL("  FROM   \t a  \t\n"), "FROM||a;" },
    { LITERAL("FROM a # not a comment\n"), "FROM||a # not a comment;" },
    { LITERAL("FROM /a b/c d.gguf\n"), "FROM||/a b/c d.gguf;" },
    { LITERAL("FROM \"/a b.gguf\"\n"), "FROM||/a b.gguf;" },
    { LITERAL("FROM a\nFROM b\nPARAMETER x 1\nFROM c"), "FROM||a;FROM||b;PARAMETER|x|1;FROM||c;" },
    { LITERAL("FROM a\nPARAMETER stop <|end|>\nparameter stop \"x y\"\nPARAMETER temperature 0.5"),
      "FROM||a;PARAMETER|stop|<|end|>;PARAMETER|stop|x y;PARAMETER|temperature|0.5;" },
    { LITERAL("FROM a\nPARAMETER stop \" \"\nPARAMETER stop \"\""), "FROM||a;PARAMETER|stop| ;PARAMETER|stop|;" },
    { LITERAL("FROM a\nMESSAGE user hi: there\nMESSAGE assistant \"\"\"a\nb\"\"\"\nMESSAGE system x"),
      "FROM||a;MESSAGE|user|hi: there;MESSAGE|assistant|a\nb;MESSAGE|system|x;" },
    { LITERAL("FROM a\nSYSTEM \n"), "FROM||a;SYSTEM||;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"\"\"\"\n"), "FROM||a;SYSTEM||;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"\n  x\n\n\ty \n\"\"\"\n"), "FROM||a;SYSTEM||\n  x\n\n\ty \n;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"x\"\"\"  \t\nLICENSE y"), "FROM||a;SYSTEM||x;LICENSE||y;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"x\"\"\" y\n\"\"\"\nLICENSE z"), "FROM||a;SYSTEM||x\"\"\" y\n;LICENSE||z;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"a \"quoted\" word\"\"\""), "FROM||a;SYSTEM||a \"quoted\" word;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"\"begins and ends\"\"\"\""), "FROM||a;SYSTEM||\"begins and ends\";" },
    { LITERAL("FROM a\nSYSTEM \"one\ntwo\"\nLICENSE x"), "FROM||a;SYSTEM||one\ntwo;LICENSE||x;" },
    { LITERAL("FROM a\nSYSTEM \"one\" two\nthree\"\n"), "FROM||a;SYSTEM||one\" two\nthree;" },
    { LITERAL("FROM a\nSYSTEM say \"hi\"\n"), "FROM||a;SYSTEM||say \"hi\";" },
    { LITERAL("FROM a\nSYSTEM 'one'\n"), "FROM||a;SYSTEM||'one';" },
    { LITERAL("FROM a\nSYSTEM \"\"\"a\r\nb\"\"\"\r\n"), "FROM||a;SYSTEM||a\r\nb;" },
    { LITERAL("FROM a\nTEMPLATE \"\"\"{{ if .System }}# {{ .System }}\n{{ end }}{{ .Prompt }}\"\"\"\n"),
      "FROM||a;TEMPLATE||{{ if .System }}# {{ .System }}\n{{ end }}{{ .Prompt }};" },
    { LITERAL("FROM a\nADAPTER ./x.gguf\nDRAFT d.gguf\nRENDERER r\nPARSER p\nREQUIRES 0.14.0"),
      "FROM||a;ADAPTER||./x.gguf;DRAFT||d.gguf;RENDERER||r;PARSER||p;REQUIRES||0.14.0;" },
    { LITERAL("FROM a\nREQUIRES v1.2.3-rc.1+b.01\n"), "FROM||a;REQUIRES||1.2.3-rc.1+b.01;" },
    { LITERAL("FROM a\nLICENSE one\nLICENSE two\nTEMPLATE x\nTEMPLATE y\n"),
      "FROM||a;LICENSE||one;LICENSE||two;TEMPLATE||x;TEMPLATE||y;" },
    { LITERAL("\xEF\xBB\xBF" "FROM \xC3\xA4\xF0\x9F\x98\x80"), "FROM||\xC3\xA4\xF0\x9F\x98\x80;" },
    { LITERAL("\xFF\xFE" "F\0R\0O\0M\0 \0\xE4\0\x3D\xD8\x00\xDE\n\0"), "FROM||\xC3\xA4\xF0\x9F\x98\x80;" },
    { LITERAL("\xFE\xFF" "\0F\0R\0O\0M\0 \0\xE4\xD8\x3D\xDE\x00\0\n"), "FROM||\xC3\xA4\xF0\x9F\x98\x80;" },
    { LITERAL("FROM a\xFF" "b\xE2\x82"), "FROM||a\xEF\xBF\xBD" "b\xEF\xBF\xBD\xEF\xBF\xBD;" },
    { LITERAL("\xFE\xFF" "\0F\0R\0O\0M\0 \xD8\x3D\0a\0"), "FROM||\xEF\xBF\xBD" "a\xEF\xBF\xBD;" },
    { LITERAL("FROM a\x01\x1B[1mb\x7F\xC2\x85 c\n"), "FROM||a[1mb c;" },
    { LITERAL("FROM a\nSYSTEM \"\"\"x\"\"\"\xC2\xA0\nLICENSE \xE2\x80\x8B" "y\xE3\x80\x80\n"),
      "FROM||a;SYSTEM||x;LICENSE||y;" },
    /* ours alone: more blanks before a name, UTF-16 without a BOM, and what does not print stays */
    { LITERAL("FROM a\nPARAMETER \t top_k  40\nMESSAGE   user  hi"), "FROM||a;PARAMETER|top_k|40;MESSAGE|user|hi;" },
    { LITERAL("F\0R\0O\0M\0 \0`O}Y"), "FROM||\xE4\xBD\xA0\xE5\xA5\xBD;" },
    { LITERAL("\0F\0R\0O\0M\0 O`Y}"), "FROM||\xE4\xBD\xA0\xE5\xA5\xBD;" },
    { LITERAL("FROM a\nSYSTEM \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB 1\xC2\xA0kg"),
      "FROM||a;SYSTEM||\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB 1\xC2\xA0kg;" },
};

static void list(struct buf *out, const struct modelfile *m)
{
    buf_init(out, 1 << 22);
    for (size_t i = 0; i < m->n; i++) {
        const struct modelfile_command *c = &m->commands[i];
        assert_int_equal(c->value.p[c->value.n], 0);
        buf_printf(out, "%s|%.*s|", modelfile_name(c->kind), (int)c->name.n, c->name.p ? c->name.p : "");
        buf_put(out, c->value.p, c->value.n);
        buf_putc(out, ';');
    }
    assert_false(out->failed);
}

static void language(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct modelfile m;
        struct err e = { 0 };
        struct buf found;
        if (modelfile_parse(good[i].text, &m, &e))
            fail_msg("%zu: %s", i, e.text);
        list(&found, &m);
        assert_string_equal(found.p, good[i].commands);
        buf_finish(&found);
        modelfile_finish(&m);
    }
}

static const struct {
    struct str text;
    const char *sentence;
} bad[] = {
    { LITERAL(""), "no FROM" },
    { LITERAL("# FROM a\n"), "no FROM" },
    { LITERAL("SYSTEM x"), "no FROM" },
    { LITERAL("FORM a"), "line 1: 'FORM' is not a command: expected FROM, PARAMETER" },
    { LITERAL("FROM a\n\n FROM: b"), "line 3: 'FROM:' is not a command" },
    { LITERAL("FROM a\r\nx y"), "line 2: 'x' is not a command" },
    { LITERAL("\"FROM\" a"), "is not a command" },
    { LITERAL("FROM"), "line 1: FROM needs a model's name or a path" },
    { LITERAL("FROM \t\nSYSTEM x"), "line 1: FROM needs" },
    { LITERAL("FROM \"\"\n"), "line 1: FROM needs" },
    { LITERAL("FROM a\nSYSTEM \"\"\"x\ny\n"), "line 2: the value of SYSTEM begins with \"\"\" and never ends" },
    { LITERAL("FROM a\nSYSTEM \"\"\"x\"\""), "line 2: the value of SYSTEM begins with \"\"\"" },
    { LITERAL("FROM a\nSYSTEM \"\"\""), "never ends" },
    { LITERAL("FROM a\nSYSTEM \"\"\"\"\""), "never ends" },
    { LITERAL("FROM a\nLICENSE \""), "line 2: the value of LICENSE begins with \" and never ends" },
    { LITERAL("FROM a\nPARAMETER"), "line 2: PARAMETER needs a name and a value" },
    { LITERAL("FROM a\nPARAMETER temperature\n"), "line 2: PARAMETER needs" },
    { LITERAL("FROM a\nPARAMETER top-k 1"), "line 2: PARAMETER needs" },
    { LITERAL("FROM a\nMESSAGE tool x"), "line 2: the role of a MESSAGE is system, user or assistant, not 'tool'" },
    { LITERAL("FROM a\nMESSAGE User x"), "not 'User'" },
    { LITERAL("FROM a\nMESSAGE user\n"), "MESSAGE needs a role and a text" },
    { LITERAL("FROM a\nSYSTEM \"\"\"1\n2\n3\"\"\"\nREQUIRES x"), "line 5: REQUIRES needs a version such as" },
    { LITERAL("FROM a\nREQUIRES 1.02.3"), "REQUIRES needs" },
    { LITERAL("\xFF\xFE" "F\0R\0O\0M\0\n\0"), "line 1: FROM needs" },
};

static void refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct modelfile m;
        struct err e = { 0 };
        assert_int_equal(modelfile_parse(bad[i].text, &m, &e), ERR_FORMAT);
        if (!strstr(e.text, bad[i].sentence))
            fail_msg("%zu: '%s' does not hold '%s'", i, e.text, bad[i].sentence);
        assert_null(m.commands);
        assert_null(m.text.p);
    }
}

static void caps(void **state)
{
    (void)state;
    struct buf b;
    struct modelfile m;
    struct err e = { 0 };
    buf_init(&b, 2 * MODELFILE_MAX_BYTES);
    buf_puts(&b, "FROM a\nSYSTEM \"\"\"");
    while (b.n < MODELFILE_MAX_BYTES - 3)
        buf_putc(&b, '\n'); /* each a line at whose end the value might end */
    buf_puts(&b, "\"\"\"");
    assert_int_equal(modelfile_parse(buf_str(&b), &m, &e), ERR_OK);
    assert_int_equal(m.commands[1].value.n, b.n - 17 - 3);
    modelfile_finish(&m);
    buf_putc(&b, '\n');
    assert_int_equal(modelfile_parse(buf_str(&b), &m, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "1048577 bytes"));
    buf_clear(&b);
    for (int i = 0; i < MODELFILE_MAX_COMMANDS; i++)
        buf_puts(&b, "FROM a\n");
    assert_int_equal(modelfile_parse(buf_str(&b), &m, &e), ERR_OK);
    assert_int_equal(m.n, MODELFILE_MAX_COMMANDS);
    assert_int_equal(m.commands[m.n - 1].line, MODELFILE_MAX_COMMANDS);
    modelfile_finish(&m);
    buf_puts(&b, "FROM a\n");
    assert_int_equal(modelfile_parse(buf_str(&b), &m, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "line 4097"));
    buf_clear(&b);
    for (size_t i = 0; i < MODELFILE_MAX_BYTES; i++)
        buf_putc(&b, '\xFF'); /* grows the most */
    assert_int_equal(modelfile_parse(buf_str(&b), &m, &e), ERR_FORMAT);
    buf_finish(&b);
}

static void last_one(void **state)
{
    (void)state;
    struct modelfile m;
    assert_int_equal(modelfile_parse(STR("FROM a\nSYSTEM x\nFROM b\nSYSTEM y"), &m, NULL), ERR_OK);
    assert_int_equal(modelfile_last(&m, MODELFILE_FROM)->line, 3);
    assert_string_equal(modelfile_last(&m, MODELFILE_SYSTEM)->value.p, "y");
    assert_null(modelfile_last(&m, MODELFILE_LICENSE));
    modelfile_finish(&m);
}

/* Writes one SYSTEM and reads it back. */
static bool same_again(struct str value)
{
    struct modelfile_command c = { .kind = MODELFILE_SYSTEM, .value = value };
    struct modelfile m;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_puts(&b, "FROM a\n");
    bool exact = modelfile_put(&b, &c);
    buf_puts(&b, "LICENSE z\n");
    bool same = modelfile_parse(buf_str(&b), &m, NULL) == ERR_OK && m.n == 3 &&
                str_eq(m.commands[1].value, value) && str_is(m.commands[2].value, "z");
    if (exact != same)
        fail_msg("exact %d, same %d: %s", exact, same, b.p);
    modelfile_finish(&m);
    buf_finish(&b);
    return same;
}

/* Every text of up to seven letters of these: it comes back the same, or the writer says that it does not. */
static void round_trips(void **state)
{
    (void)state;
    static const char letters[] = "\" \na";
    char text[8];
    size_t n_same = 0, n_all = 0;
    for (size_t n = 0; n <= 7; n++)
        for (size_t code = 0; code < (size_t)1 << 2 * n; code++) {
            for (size_t i = 0; i < n; i++)
                text[i] = letters[code >> 2 * i & 3];
            n_same += same_again((struct str){ text, n });
            n_all++;
        }
    assert_int_equal(n_all, 21845);
    assert_true(n_same < n_all && n_all - n_same < n_all / 50);
    static const struct str more[] = { LITERAL("\xC2\xA0x"), LITERAL("x\xE2\x80\x83"), LITERAL("a\rb"), LITERAL("# a"),
                                       LITERAL("\ta"), LITERAL("a\xE2\x80\x8B\nb"), LITERAL("'") };
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        assert_true(same_again(more[i]));
    assert_false(same_again(STR("a\"\"\"\nb")));
    assert_false(same_again(STR("a\"\"\"\nb\rc")));
    assert_false(same_again(STR("a\"\"\"\rb\nc")));
    assert_false(same_again(STR("a\x01")));
    assert_false(same_again(STR("a\xFF")));
}

static void versions(void **state)
{
    (void)state;
    static const char *const yes[] = { "1", "v1", "1.2", "0.14.0", "v10.20.30", "1.2.3-a", "1.2.3-0a.b", "1.2.3-0a1", "1.2.3+01", "1.2.3-10", "1.2.3-a-b" };
    static const char *const no[] = { "", "v", "01", "1.", "1.2.3.4", "1.2-a", "1.2.3-01", "1.2.3-", "1.2.3+", "V1", "1x2",
                                      "1.2.3-a..b", "1 ", "1.2.3+a_b", "1.2.3-a{" };
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!modelfile_version(str_from(yes[i])))
            fail_msg("%s", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (modelfile_version(str_from(no[i])))
            fail_msg("%s", no[i]);
    /* each after the one before: semver.org's own row, and around it */
    static const char *const rising[] = { "0.0.9", "v0.1", "0.1.1", "0.9.0", "0.10.0", "1.0.0-1", "1.0.0--", "1.0.0-alpha", "1.0.0-alpha.1",
                                          "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",
                                          "v1", "1.0.1", "2", "10.0.0", "99999999999999999999999.0.0" };
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++)
        for (size_t k = 0; k < sizeof rising / sizeof *rising; k++)
            if (modelfile_version_newer(str_from(rising[i]), str_from(rising[k])) != (i > k))
                fail_msg("%s and %s", rising[i], rising[k]);
    static const char *const same[] = { "1", "v1.0", "1.0.0", "1.0.0+5", "v1.0.0+a-b.c" };
    for (size_t i = 0; i < 5; i++)
        for (size_t k = 0; k < 5; k++)
            assert_false(modelfile_version_newer(str_from(same[i]), str_from(same[k])));
}

static void no_memory(void **state)
{
    (void)state;
    struct str text = STR("FROM a\nSYSTEM \"\"\"b\nc\"\"\"\nPARAMETER stop x\nMESSAGE user y\nNONE z");
    uint64_t before = mem_live();
    for (int whole = 0; whole < 2; whole++) /* the second time the last command is not one */
        for (uint64_t n = 1;; n++) {
            struct modelfile m;
            struct err e = { 0 };
            mem_fail_after(n, whole != 0);
            enum err_code c = modelfile_parse((struct str){ text.p, text.n - (whole ? 0 : 7) }, &m, &e);
            mem_fail_after(0, false);
            assert_true(c == ERR_NO_MEMORY || c == (whole ? ERR_FORMAT : ERR_OK));
            modelfile_finish(&m);
            assert_int_equal(mem_live(), before);
            if (c != ERR_NO_MEMORY && n > 8)
                break;
        }
}

/* --dump: files in hex, one a line, to their commands, for comparing with another parser. */
static int dump(void)
{
    static char line[1 << 16], bytes[1 << 15];
    while (fgets(line, sizeof line, stdin)) {
        size_t n = 0;
        unsigned byte;
        while (sscanf(line + 2 * n, "%2x", &byte) == 1)
            bytes[n++] = (char)byte;
        struct modelfile m;
        struct err e = { 0 };
        if (modelfile_parse((struct str){ bytes, n }, &m, &e)) {
            printf("ERR %s\n", e.text);
            continue;
        }
        for (size_t i = 0; i < m.n; i++) {
            const struct modelfile_command *c = &m.commands[i];
            printf("%s:", modelfile_name(c->kind));
            for (size_t k = 0; k < c->name.n; k++)
                printf("%02x", (unsigned char)c->name.p[k]);
            printf(":");
            for (size_t k = 0; k < c->value.n; k++)
                printf("%02x", (unsigned char)c->value.p[k]);
            printf(" ");
        }
        printf("\n");
        modelfile_finish(&m);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--dump") == 0)
        return dump();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(language), cmocka_unit_test(refusals), cmocka_unit_test(caps),
        cmocka_unit_test(last_one), cmocka_unit_test(round_trips), cmocka_unit_test(versions),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
