/* Which files of a repository on the hub a name asks for, by table; and what its API may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "store/hub.h"

#define SHA "0123456789abcdef0123456789abcdef01234567"
#define SHA256 SHA "0123456789abcdef01234567"

static struct arena arena;

static int begin(void **state)
{
    (void)state;
    json_setup();
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_finish(&arena);
    return 0;
}

/* ---- labels ---------------------------------------------------------------------------------- */

static void labels_are_read_from_paths(void **state)
{
    static const char *const rows[][2] = {
        { "SmolLM2-135M-Instruct-Q4_K_M.gguf", "Q4_K_M" },
        { "SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1" },
        { "smollm2-135m-instruct-q8_0.gguf", "Q8_0" },
        { "smollm2_q8_0.GGUF", "Q8_0" },
        { "model-IQ4_XS.gguf", "IQ4_XS" },
        { "model-IQ3_XXS.gguf", "IQ3_XXS" },
        { "Qwen3-0.6B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL" },
        { "Qwen3-0.6B-BF16.gguf", "BF16" },
        { "gemma-fp16.gguf", "F16" },
        { "gemma.f32.gguf", "F32" },
        { "m-Q4_0_4_8.gguf", "Q4_0_4_8" },
        { "m-Q6_K_L.gguf", "Q6_K_L" },
        { "m.i1-Q2_K_S.gguf", "Q2_K_S" },
        { "m-TQ1_0.gguf", "TQ1_0" },
        { "gpt-oss-20b-MXFP4.gguf", "MXFP4" },
        { "gpt-oss-MXFP4_MOE.gguf", "MXFP4_MOE" },
        { "m-f16.Q6_K.gguf", "Q6_K" },
        { "m-Q4_K_M-imatrix.gguf", "Q4_K_M" },
        { "m-Q4_K_Mega.gguf", "Q4_K" },
        { "Q5_K_M/model-00001-of-00002.gguf", "Q5_K_M" },
        { "UD-Q2_K_XL/DeepSeek-R1-UD-Q2_K_XL-00001-of-00005.gguf", "UD-Q2_K_XL" },
        { "BF16/tiny/model.gguf", "BF16" },
        { "Q8_0/model-Q4_0.gguf", "Q4_0" },
        { "Qwen3-4B.gguf", "" },
        { "model.gguf", "" },
        { "aQ4_0.gguf", "" },
        { "Q9_0.gguf", "" },
        { "Q44.gguf", "" },
        { "Q0_0.gguf", "" },
        { "m-IQ.gguf", "" },
        { "m-Q4_{.gguf", "Q4" },
        { "UD-Q4_0.gguf", "UD-Q4_0" },
        { "mUD-Q4_0.gguf", "Q4_0" },
        { "", "" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char label[HUB_LABEL_MAX];
        hub_label(str_from(rows[i][0]), label);
        if (strcmp(label, rows[i][1]) != 0)
            fail_msg("%s: '%s', not '%s'", rows[i][0], label, rows[i][1]);
    }
}

/* ---- choices --------------------------------------------------------------------------------- */

/* files: one a line. expect: the chosen ones, joined by ' ' (models, then +projector, +texts), or what
 * the refusal's sentence holds. */
struct row {
    const char *files, *want;
    enum err_code code;
    const char *expect;
};

static struct hub_repo repo_of(const char *lines)
{
    struct hub_repo r = { .license = "" };
    r.files = arena_zero(&arena, strlen(lines) + 1, sizeof *r.files);
    while (*lines) {
        size_t n = strcspn(lines, "\n");
        r.files[r.n++] = (struct hub_file){ .path = arena_strndup(&arena, lines, n), .size = 1 };
        lines += n + (lines[n] == '\n');
    }
    return r;
}

static void add_one(struct buf *b, const struct hub_repo *r, size_t file, const char *before)
{
    if (file != HUB_NONE)
        buf_printf(b, "%s%s%s", b->n ? " " : "", before, r->files[file].path);
}

static void check_row(const struct row *row, bool exact)
{
    struct hub_repo r = repo_of(row->files);
    struct hub_ask ask = { .want = str_from(row->want), .exact = exact };
    struct hub_choice c;
    struct err e = { 0 };
    struct buf b;
    assert_int_equal(name_parse(STR("hf.co/org/repo"), &ask.name, &e), ERR_OK);
    enum err_code code = hub_choose(&r, &ask, &arena, &c, &e);
    if (code != row->code)
        fail_msg("'%s' of\n%s\n%s: %s", row->want, row->files, err_name(code), e.text);
    if (code) {
        if (!strstr(e.text, row->expect))
            fail_msg("'%s' of\n%s\n'%s' does not say '%s'", row->want, row->files, e.text, row->expect);
        return;
    }
    buf_init(&b, 4096);
    for (size_t i = 0; i < c.n_models; i++)
        add_one(&b, &r, c.models[i], "");
    add_one(&b, &r, c.projector, "+");
    add_one(&b, &r, c.template, "+");
    add_one(&b, &r, c.system, "+");
    add_one(&b, &r, c.params, "+");
    add_one(&b, &r, c.license, "+");
    if (!str_is(buf_str(&b), row->expect))
        fail_msg("'%s' of\n%s\nis %s, not %s", row->want, row->files, b.p, row->expect);
    buf_finish(&b);
}

#define QUANTS "m-IQ4_K_M.gguf\nm-Q4_K_M.gguf\nm-Q8_0.gguf\nm-UD-Q4_K_XL.gguf\nm-BF16.gguf\nm-F16.gguf\nREADME.md"

static void a_quantisation_is_chosen(void **state)
{
    static const struct row rows[] = {
        { QUANTS, "Q4_K_M", ERR_OK, "m-Q4_K_M.gguf" },
        { QUANTS, "q4_k_m", ERR_OK, "m-Q4_K_M.gguf" },
        { QUANTS, "IQ4_K_M", ERR_OK, "m-IQ4_K_M.gguf" },
        { QUANTS, "UD-Q4_K_XL", ERR_OK, "m-UD-Q4_K_XL.gguf" },
        { QUANTS, "ud-q4_k_xl", ERR_OK, "m-UD-Q4_K_XL.gguf" },
        { QUANTS, "Q4_K_XL", ERR_OK, "m-UD-Q4_K_XL.gguf" },
        { QUANTS, "F16", ERR_OK, "m-F16.gguf" },
        { QUANTS, "fp16", ERR_OK, "m-F16.gguf" },
        { QUANTS, "bf16", ERR_OK, "m-BF16.gguf" },
        { QUANTS, "", ERR_OK, "m-Q4_K_M.gguf" },
        { QUANTS, "Q4_K", ERR_NOT_FOUND, "has no 'Q4_K'; there is: BF16, F16, IQ4_K_M, Q4_K_M, Q8_0, UD-Q4_K_XL" },
        { QUANTS, "K_M", ERR_NOT_FOUND, "has no 'K_M'" },
        { QUANTS, "Q5_0", ERR_NOT_FOUND, "there is: BF16" },
        { QUANTS, "\x01\xff", ERR_NOT_FOUND, "has no '?" "?'" },
        /* plain before UD-, whatever the order */
        { "m-UD-Q4_K_M.gguf\nm-Q4_K_M.gguf", "Q4_K_M", ERR_OK, "m-Q4_K_M.gguf" },
        { "m-UD-Q4_K_M.gguf\nm-Q8_0.gguf", "", ERR_OK, "m-UD-Q4_K_M.gguf" },
        /* files by name */
        { QUANTS, "m-Q8_0.gguf", ERR_OK, "m-Q8_0.gguf" },
        { QUANTS, "M-q8_0.GGUF", ERR_OK, "m-Q8_0.gguf" },
        { QUANTS, "m-Q8_0", ERR_OK, "m-Q8_0.gguf" },
        { QUANTS, "README.md", ERR_NOT_FOUND, "has no 'README.md'" },
        /* words that are no quantisation */
        { "big-chat.gguf\nbig-code.gguf", "code", ERR_OK, "big-code.gguf" },
        { "big-chat.gguf\nbig-code.gguf", "cod", ERR_NOT_FOUND, "there is: big-chat.gguf, big-code.gguf" },
        { "big-chat.gguf\nbig_code.gguf", "code", ERR_NOT_FOUND, "has no 'code'" },
        { "xcode.gguf\nyours.gguf", "code", ERR_NOT_FOUND, "has no 'code'" },
        { "4B-Q4_0.gguf\n8B-Q4_0.gguf", "4B-Q4_0", ERR_OK, "4B-Q4_0.gguf" },
        { "4B-Q4_0.gguf\n8B-Q4_0.gguf", "4b", ERR_OK, "4B-Q4_0.gguf" },
        /* more than one */
        { "4B-Q4_0.gguf\n8B-Q4_0.gguf", "Q4_0", ERR_NOT_FOUND, "2 models answer to that; name one by its file: 4B-Q4_0.gguf, 8B-Q4_0.gguf" },
        { "4B-Q4_0.gguf\n8B-Q4_0.gguf", "", ERR_NOT_FOUND, "2 models" },
        { "4B-Q4_0.gguf\n8B-Q4_0.gguf\n8B-Q8_0.gguf", "Q6_K", ERR_NOT_FOUND, "there is: Q4_0, Q8_0" },
        { "a.gguf\nb.gguf", "", ERR_NOT_FOUND, "no default among its models; there is: a.gguf, b.gguf" },
        /* one file in two places */
        { "x/m-Q4_0.gguf\nm-Q4_0.gguf", "Q4_0", ERR_OK, "m-Q4_0.gguf" },
        { "Q4_0/m-Q4_0-00001-of-00002.gguf\nQ4_0/m-Q4_0-00002-of-00002.gguf\nm-Q4_0.gguf", "Q4_0", ERR_OK, "m-Q4_0.gguf" },
        { "m-Q4_0-00001-of-00001.gguf\nm-Q4_0.gguf", "Q4_0", ERR_OK, "m-Q4_0.gguf" },
        { "m-Q4_0-00001-of-00001.gguf\nx/m-Q4_0.gguf", "Q4_0", ERR_OK, "x/m-Q4_0.gguf" },
        { "x/m-Q4_0.gguf\ny/m-Q4_0.gguf", "Q4_0", ERR_NOT_FOUND, "2 models" },
        { "Q4_0/k.gguf\nQ4_0/m.gguf\nx/Q8_0/m.gguf", "Q4_0", ERR_NOT_FOUND, "2 models" },
        /* nothing to choose from */
        { "README.md\nmodel.safetensors", "", ERR_NOT_FOUND, "holds no GGUF model" },
        { "", "Q4_0", ERR_NOT_FOUND, "holds no GGUF model" },
        { "only.gguf", "", ERR_OK, "only.gguf" },
        { "only-IQ1_S.gguf", "", ERR_OK, "only-IQ1_S.gguf" },
        { ".gguf", "", ERR_NOT_FOUND, "holds no GGUF model" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i], false);
}

static void defaults_have_an_order(void **state)
{
    static const char *const order[] = { "Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "IQ4_XS",
                                         "Q3_K_M", "Q2_K", "BF16", "F16", "F32" };
    const size_t n = sizeof order / sizeof *order;
    (void)state;
    for (size_t i = 0; i + 1 < n; i++) { /* each with all that come after it */
        char files[512] = "", expect[64];
        for (size_t k = n; k-- > i;)
            snprintf(files + strlen(files), sizeof files - strlen(files), "m-%s.gguf\n", order[k]);
        snprintf(expect, sizeof expect, "m-%s.gguf", order[i]);
        check_row(&(struct row){ files, "", ERR_OK, expect }, false);
    }
}

#define SHARDS "Q4_K_M/m-00002-of-00003.gguf\nQ4_K_M/m-00001-of-00003.gguf\nQ4_K_M/m-00003-of-00003.gguf\nm-Q8_0.gguf"
#define IN_ORDER "Q4_K_M/m-00001-of-00003.gguf Q4_K_M/m-00002-of-00003.gguf Q4_K_M/m-00003-of-00003.gguf"

static void shards_come_whole_and_in_order(void **state)
{
    static const struct row rows[] = {
        { SHARDS, "Q4_K_M", ERR_OK, IN_ORDER },
        { SHARDS, "", ERR_OK, IN_ORDER },
        { SHARDS, "m-00002-of-00003.gguf", ERR_OK, IN_ORDER },
        { SHARDS, "m.gguf", ERR_OK, IN_ORDER },
        { "m-Q4_0-00001-of-00003.gguf\nm-Q4_0-00003-of-00003.gguf", "Q4_0", ERR_FORMAT, "of its 3 shards number 2 is missing" },
        { "m-Q4_0-00002-of-00002.gguf", "", ERR_FORMAT, "number 1 is missing" },
        { "m-Q4_0-00001-of-00002.gguf", "", ERR_FORMAT, "number 2 is missing" },
        { "m-Q4_0-00001-of-00001.gguf", "", ERR_OK, "m-Q4_0-00001-of-00001.gguf" },
        { "m-Q4_0-00001-of-00000.gguf", "", ERR_FORMAT, "split into 0 files" },
        { "m-Q4_0-00001-of-99999.gguf", "", ERR_FORMAT, "split into 99999 files" },
        { "m-Q4_0-00000-of-00001.gguf\nm-Q4_0-00001-of-00001.gguf", "", ERR_FORMAT, "number 1 is missing" },
        /* two sets of one name, split differently */
        { "m-00001-of-00001.gguf\nm-00001-of-00002.gguf\nm-00002-of-00002.gguf", "m", ERR_NOT_FOUND, "2 models" },
        { "m-0001-of-0002.gguf", "", ERR_OK, "m-0001-of-0002.gguf" },
        { "m-0000a-of-00002.gguf", "", ERR_OK, "m-0000a-of-00002.gguf" },
        { "m-00001-of-0000-.gguf", "", ERR_OK, "m-00001-of-0000-.gguf" },
        /* two models split alike */
        { "a-Q4_0-00001-of-00002.gguf\na-Q4_0-00002-of-00002.gguf\nb-Q8_0-00002-of-00002.gguf\nb-Q8_0-00001-of-00002.gguf", "Q8_0", ERR_OK,
          "b-Q8_0-00001-of-00002.gguf b-Q8_0-00002-of-00002.gguf" },
        { "m-Q4_0.gguf\nmmproj-F16-00001-of-00002.gguf\nmmproj-F16-00002-of-00002.gguf", "", ERR_OK, "m-Q4_0.gguf" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i], false);
}

static void what_lies_beside_is_taken_or_left(void **state)
{
    static const struct row rows[] = {
        { "m-Q4_0.gguf\nmmproj-F32.gguf\nmmproj-BF16.gguf\nmmproj-F16.gguf\nmmproj-Q8_0.gguf", "", ERR_OK, "m-Q4_0.gguf +mmproj-F16.gguf" },
        { "m-Q4_0.gguf\nmmproj-F32.gguf\nmmproj-BF16.gguf\nmmproj-Q8_0.gguf", "", ERR_OK, "m-Q4_0.gguf +mmproj-BF16.gguf" },
        { "m-Q4_0.gguf\nmmproj-F32.gguf\nmmproj-Q8_0.gguf", "", ERR_OK, "m-Q4_0.gguf +mmproj-Q8_0.gguf" },
        { "m-Q4_0.gguf\nmmproj-Q4_0.gguf", "Q4_0", ERR_OK, "m-Q4_0.gguf +mmproj-Q4_0.gguf" },
        { "m-Q8_0.gguf\nm.mmproj-Q8_0.gguf\nm.mmproj-f16.gguf", "Q8_0", ERR_OK, "m-Q8_0.gguf +m.mmproj-f16.gguf" },
        { "g-4b-Q4_0.gguf\ng-12b-Q8_0.gguf\nmmproj-g-4b-f16.gguf\nmmproj-g-12b-f16.gguf", "Q8_0", ERR_OK, "g-12b-Q8_0.gguf +mmproj-g-12b-f16.gguf" },
        { "a-Q8_0.gguf\nmmproj-x-f16.gguf\nmmproj-y-f16.gguf", "", ERR_OK, "a-Q8_0.gguf" }, /* a tie */
        { "b-Q8_0.gguf\nmmproj-b-f16.gguf\nmmproj-c-f16.gguf", "", ERR_OK, "b-Q8_0.gguf +mmproj-b-f16.gguf" },
        { "a/a-Q8_0.gguf\nmmproj-x-f16.gguf\nmmproj-y-f16.gguf\na/mmproj-f32.gguf", "", ERR_OK, "a/a-Q8_0.gguf +a/mmproj-f32.gguf" },
        { "c-Q8_0.gguf\nmmproj-a-f16.gguf\nmmproj-b-f16.gguf\nmmproj-d-f32.gguf", "", ERR_OK, "c-Q8_0.gguf" },
        { "d-Q8_0.gguf\nmmproj-a-f16.gguf\nmmproj-b-f16.gguf\nmmproj-d-f16.gguf", "", ERR_OK, "d-Q8_0.gguf +mmproj-d-f16.gguf" },
        { "z/m-Q8_0.gguf\nmmproj-F16.gguf\nz/mmproj-F32.gguf", "", ERR_OK, "z/m-Q8_0.gguf +z/mmproj-F32.gguf" },
        { "Q8_0/m-Q8_0.gguf\nmmproj-F16.gguf\nother/mmproj-F16.gguf", "", ERR_OK, "Q8_0/m-Q8_0.gguf +mmproj-F16.gguf" },
        { "Q8_0/m-Q8_0.gguf\nmmproj-F16.gguf\nQ8_0/mmproj-F32.gguf", "", ERR_OK, "Q8_0/m-Q8_0.gguf +Q8_0/mmproj-F32.gguf" },
        { "m-Q8_0.gguf\nsub/mmproj-F16.gguf", "", ERR_OK, "m-Q8_0.gguf" },
        { "mmproj-F16.gguf", "", ERR_NOT_FOUND, "holds no GGUF model" },
        { "m-Q8_0.gguf\nmmproj-F16.gguf", "mmproj-F16.gguf", ERR_NOT_FOUND, "there is: Q8_0" },
        { "m-Q8_0.gguf\nmmprojector-Q4_0.gguf", "Q4_0", ERR_OK, "mmprojector-Q4_0.gguf" },
        /* GGUF that is no model */
        { "m-Q8_0.gguf\nimatrix.gguf\nm.imatrix.gguf\nm-imatrix.dat\nggml-vocab-m.gguf", "", ERR_OK, "m-Q8_0.gguf" },
        { "m-lora-F16.gguf\nm-Q8_0.gguf", "F16", ERR_NOT_FOUND, "there is: Q8_0" },
        { "m-lora-F16.gguf\nm-Q8_0.gguf", "m-lora-F16.gguf", ERR_OK, "m-lora-F16.gguf" },
        { "m-imatrix-Q4_0.gguf\nm-Q8_0.gguf", "", ERR_OK, "m-imatrix-Q4_0.gguf" },
        /* texts, at the root alone */
        { "m.gguf\ntemplate\nsystem\nparams\nLICENSE", "", ERR_OK, "m.gguf +template +system +params +LICENSE" },
        { "m.gguf\nLICENSE.md\nLICENSE.txt\nx/template\nTemplate", "", ERR_OK, "m.gguf +LICENSE.txt" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i], false);
}

static void a_link_is_one_file(void **state)
{
    static const struct row rows[] = {
        { QUANTS, "m-Q8_0.gguf", ERR_OK, "m-Q8_0.gguf" },
        { QUANTS, "M-Q8_0.gguf", ERR_NOT_FOUND, "has no 'M-Q8_0.gguf'" },
        { QUANTS, "Q8_0", ERR_NOT_FOUND, "has no 'Q8_0'" },
        { SHARDS, "Q4_K_M/m-00002-of-00003.gguf", ERR_OK, IN_ORDER },
        { "x/m.gguf\ny/m.gguf", "y/m.gguf", ERR_OK, "y/m.gguf" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i], true);
}

static void ten_thousand_files_are_chosen_from(void **state)
{
    static char files[HUB_MAX_FILES * 24];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < HUB_MAX_FILES; i++)
        n += (size_t)snprintf(files + n, sizeof files - n, "m%zu-Q4_0.gguf\n", i);
    check_row(&(struct row){ files, "", ERR_NOT_FOUND, "10000 models" }, false);
    check_row(&(struct row){ files, "none", ERR_NOT_FOUND, "there is: Q4_0" }, false);
    check_row(&(struct row){ files, "q4_0", ERR_NOT_FOUND, "m0-Q4_0.gguf, m1-Q4_0.gguf, m10-Q4_0.gguf, m100-Q4_0.gguf, " }, false);
    check_row(&(struct row){ files, "q4_0", ERR_NOT_FOUND, ".gguf and 9984 more" }, false);
    check_row(&(struct row){ files, "m77-q4_0", ERR_OK, "m77-Q4_0.gguf" }, false);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void names_and_links_are_read(void **state)
{
    static const struct {
        const char *text;
        enum err_code code;
        const char *name, *want, *revision;
        bool exact;
    } rows[] = {
        { "hf.co/Org/Repo-GGUF", ERR_OK, "hf.co/Org/Repo-GGUF:latest", "", "", false },
        { "HF.CO/Org/Repo", ERR_OK, "hf.co/Org/Repo:latest", "", "", false },
        { "huggingface.co/Org/Repo:Q4_K_M", ERR_OK, "hf.co/Org/Repo:Q4_K_M", "Q4_K_M", "", false },
        { "https://huggingface.co/Org/Repo:m-Q8_0.gguf", ERR_OK, "hf.co/Org/Repo:m-Q8_0.gguf", "m-Q8_0.gguf", "", false },
        { "hf.co/Org/Repo:latest", ERR_OK, "hf.co/Org/Repo:latest", "", "", false },
        { "hf.co/Org/Repo:Q8_0@refs/pr/3", ERR_OK, "hf.co/Org/Repo:Q8_0", "Q8_0", "refs/pr/3", false },
        { "hf.co/Org/Repo:Q8_0@sha256:" SHA256, ERR_OK, "hf.co/Org/Repo:Q8_0", "Q8_0", "", false },
        { "hf.co/Org/Repo@v1.0", ERR_OK, "hf.co/Org/Repo:latest", "", "v1.0", false },
        { "https://huggingface.co/Org/Repo/blob/main/sub/m%20Q-Q8_0.gguf", ERR_INVALID, "its quantisation or file may hold", "", "", false },
        { "https://huggingface.co/Org/Repo/blob/main/sub/m-Q8_0.gguf?x=1#y", ERR_OK, "hf.co/Org/Repo:m-Q8_0.gguf", "sub/m-Q8_0.gguf", "main", true },
        { "hf.co/Org/Repo/resolve/refs%2Fpr%2F1/m.gguf", ERR_OK, "hf.co/Org/Repo:m.gguf", "m.gguf", "refs/pr/1", true },
        { "hf.co/Org/Repo/resolve/main/%zz.gguf", ERR_INVALID, "cannot be read", "", "", false },
        { "hf.co/Org/Repo/resolve/main/%z4.gguf", ERR_INVALID, "cannot be read", "", "", false },
        { "hf.co/Org/Repo/resolve/main/%4z.gguf", ERR_INVALID, "cannot be read", "", "", false },
        { "hf.co/Org/Repo/resolve/main/%00.gguf", ERR_INVALID, "cannot be read", "", "", false },
        { "hf.co/Org/Repo@", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@a..b", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@-x", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@a b", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@a?b", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@a~b", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@a[b", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@/x", ERR_INVALID, "a revision on the hub", "", "", false },
        { "hf.co/Org/Repo@V1.0-RC", ERR_OK, "hf.co/Org/Repo:latest", "", "V1.0-RC", false },
        { "hf.co/Repo", ERR_INVALID, "hf.co/ORGANISATION/REPOSITORY", "", "", false },
        { "hf.co/..", ERR_INVALID, "", "", "", false },
        { "hf.co/../x", ERR_INVALID, "", "", "", false },
        { "hf.co/", ERR_INVALID, "", "", "", false },
        { "hf.co/a/b/c", ERR_INVALID, "", "", "", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hub_ask ask;
        struct err e = { 0 };
        char name[NAME_TEXT_MAX + 1];
        assert_true(hub_takes(str_from(rows[i].text)));
        enum err_code code = hub_ask_parse(str_from(rows[i].text), &arena, &ask, &e);
        if (code != rows[i].code)
            fail_msg("%s: %s: %s", rows[i].text, err_name(code), e.text);
        if (code && !strstr(e.text, rows[i].name))
            fail_msg("%s: '%s' does not say '%s'", rows[i].text, e.text, rows[i].name);
        if (code)
            continue;
        name_canonical(&ask.name, name);
        assert_string_equal(name, rows[i].name);
        assert_true(str_is(ask.want, rows[i].want));
        assert_true(str_is(ask.revision, rows[i].revision));
        assert_int_equal(ask.exact, rows[i].exact);
    }
    assert_false(hub_takes(STR("hf.com/a/b")));
    assert_false(hub_takes(STR("smollm2:135m")));
    assert_false(hub_takes(STR("https://example.org/hf.co/x.gguf")));
    assert_false(hub_takes(STR("ftp://hf.co/a/b")));
    assert_false(hub_takes(STR("")));
}

/* At most so many bytes, and one more. */
static void names_have_caps(void **state)
{
    (void)state;
    static const struct {
        const char *before, *says;
        size_t most;
    } rows[] = { { "hf.co/Org/Repo@", "1 to 200 letters", HUB_REVISION_MAX },
                 { "hf.co/Org/Repo/blob/main/", "longer than 1024 bytes", HUB_PATH_MAX },
                 { "hf.co/Org/Repo:", "at most 4000 characters", 4000 - (sizeof "Org/Repo:" - 1) } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t over = 0; over < 2; over++) {
            struct hub_ask ask;
            struct err e = { 0 };
            struct buf b;
            buf_init(&b, 8192);
            buf_puts(&b, rows[i].before);
            for (size_t n = rows[i].most + over; n; n--)
                buf_putc(&b, 'x');
            hub_ask_parse(buf_str(&b), &arena, &ask, &e);
            if (!strstr(e.text, rows[i].says) != !over)
                fail_msg("%s, %zu: %s", rows[i].before, over, e.text);
            buf_finish(&b);
        }
}

/* ---- the API's answers ------------------------------------------------------------------------ */

#define LFS(oid, size) "\"lfs\":{\"oid\":\"" oid "\",\"size\":" size ",\"pointerSize\":134}"
#define ENTRY(path, size, more) "{\"type\":\"file\",\"oid\":\"" SHA "\",\"size\":" size ",\"path\":\"" path "\"" more "}"

static void infos_are_read(void **state)
{
    static const struct {
        const char *json;
        enum err_code code;
        const char *license;
        bool gated;
    } rows[] = {
        { "{\"sha\":\"" SHA "\",\"gated\":false,\"cardData\":{\"license\":\"apache-2.0\"}}", ERR_OK, "apache-2.0", false },
        { "{\"sha\":\"" SHA "\",\"gated\":\"auto\",\"cardData\":{\"license\":\"other\",\"license_name\":\"lfm1.0\"}}", ERR_OK, "lfm1.0", true },
        { "{\"sha\":\"" SHA "\",\"gated\":\"manual\",\"cardData\":{\"license\":[\"mit\"]}}", ERR_OK, "mit", true },
        { "{\"sha\":\"" SHA256 "\"}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":null,\"gated\":3}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"a\\u0000b\"}}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"a\\nmsg=x\"}}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":{\"x\":1}}}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":[1,2]}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"mit\",\"license_name\":\"x\"}}", ERR_OK, "mit", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"a\\u007fb\"}}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"a\\\"b\"}}", ERR_OK, "", false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"" SHA256 "\"}}", ERR_OK, SHA256, false },
        { "{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"" SHA256 "x\"}}", ERR_OK, "", false },
        { "{}", ERR_FORMAT, "", false },
        { "[]", ERR_FORMAT, "", false },
        { "null", ERR_FORMAT, "", false },
        { "{\"sha\":12}", ERR_FORMAT, "", false },
        { "{\"sha\":\"main\"}", ERR_FORMAT, "", false },
        { "{\"sha\":\"../../../../../../../../../../../../..xxx\"}", ERR_FORMAT, "", false },
        { "{\"sha\":\"012345678\\u0000abcdef0123456789abcdef01234567\"}", ERR_FORMAT, "", false },
        { "<html>", ERR_FORMAT, "", false },
        { "", ERR_FORMAT, "", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hub_repo r = { 0 };
        struct err e = { 0 };
        enum err_code code = hub_read_info(str_from(rows[i].json), &arena, &r, &e);
        if (code != rows[i].code)
            fail_msg("%s: %s: %s", rows[i].json, err_name(code), e.text);
        if (code)
            continue;
        assert_string_equal(r.license, rows[i].license);
        assert_int_equal(r.gated, rows[i].gated);
    }
}

static void trees_are_read(void **state)
{
    static const struct {
        const char *json;
        enum err_code code;
        const char *says;
    } rows[] = {
        { "[" ENTRY("m.gguf", "5", "," LFS(SHA256, "5")) "]", ERR_OK, "" },
        { "[{\"type\":\"directory\",\"oid\":\"\",\"size\":0,\"path\":\"../x\"}," ENTRY("a/b.gguf", "0", "") "]", ERR_OK, "" },
        { "[]", ERR_OK, "" },
        { "{}", ERR_FORMAT, "are a list" },
        { "[1]", ERR_FORMAT, "has a type" },
        { "[{\"type\":7}]", ERR_FORMAT, "has a type" },
        { "[{\"type\":\"file\"}]", ERR_FORMAT, "path" },
        { "[" ENTRY("../m.gguf", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a/../m.gguf", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a/./m.gguf", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a/..", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("/etc/passwd", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a//b", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a/", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a\\u0000b", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a\\nb", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a\\u007fb", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a\\\\b", "5", "") "]", ERR_FORMAT, "path" },
        { "[" ENTRY("a\xff", "5", "") "]", ERR_FORMAT, "not valid JSON" },
        { "[" ENTRY("m", "-1", "") "]", ERR_FORMAT, "size" },
        { "[" ENTRY("m", "1.5", "") "]", ERR_FORMAT, "size" },
        { "[" ENTRY("m", "1e30", "") "]", ERR_FORMAT, "size" },
        { "[" ENTRY("m", "\"5\"", "") "]", ERR_FORMAT, "size" },
        { "[" ENTRY("m", "9223372036854775807", "") "]", ERR_FORMAT, "size" },
        { "[" ENTRY("m", "99999999999999999999", "") "]", ERR_FORMAT, "not valid JSON" },
        { "[" ENTRY("m", "5", "," LFS(SHA256, "6")) "]", ERR_FORMAT, "two sizes" },
        { "[" ENTRY("m", "5", "," LFS(SHA, "5")) "]", ERR_FORMAT, "64 hex" },
        { "[" ENTRY("m", "5", "," LFS("../../" SHA "0123456789abcdef..", "5")) "]", ERR_FORMAT, "64 hex" },
        { "[" ENTRY("m", "5", ",\"lfs\":[1]") "]", ERR_FORMAT, "64 hex" },
        { "[" ENTRY("m", "5", ",\"lfs\":null") "]", ERR_OK, "" },
        { "[" ENTRY("m", "5", ",\"oid\":\"zz\"") "]", ERR_FORMAT, "oid" },
        { "[" ENTRY("m", "5", ",\"oid\":null") "]", ERR_FORMAT, "oid" },
        { "[" ENTRY("m", "5", ",\"oid\":\"" SHA256 "\"") "]", ERR_OK, "" },
        { "[" ENTRY("m", "5", "," LFS(SHA256, "\"5\"")) "]", ERR_FORMAT, "two sizes" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct hub_repo r = { 0 };
        struct err e = { 0 };
        enum err_code code = hub_read_tree(str_from(rows[i].json), &arena, &r, &e);
        if (code != rows[i].code || !strstr(e.text, rows[i].says))
            fail_msg("%s: %s: %s", rows[i].json, err_name(code), e.text);
    }
}

static void trees_have_caps(void **state)
{
    struct hub_repo r = { 0 };
    struct err e = { 0 };
    struct buf b;
    (void)state;
    buf_init(&b, (size_t)8 << 20);
    buf_puts(&b, "[");
    for (size_t i = 0; i < 5000; i++)
        buf_printf(&b, "%s{\"type\":\"file\",\"oid\":\"" SHA "\",\"size\":1,\"path\":\"f%zu\"}", i ? "," : "", i);
    buf_puts(&b, "]");
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_OK);
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_OK);
    assert_int_equal(r.n, 10000);
    assert_string_equal(r.files[4999].path, "f4999");
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_TOO_LARGE);
    assert_string_equal(e.text, "the repository has more than 10000 files");
    buf_clear(&b);
    for (size_t i = 0; i < 300000; i++)
        buf_puts(&b, i ? ",{}" : "[{}");
    uint64_t before = mem_count();
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_TOO_LARGE);
    assert_true(mem_count() - before < 10); /* no tree was made of it */
    buf_clear(&b);
    for (size_t i = 0; i < 100; i++)
        buf_puts(&b, "[");
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_FORMAT);
    while (b.n <= HUB_REPLY_MAX)
        buf_puts(&b, "                                                                ");
    assert_int_equal(hub_read_tree(buf_str(&b), &arena, &r, &e), ERR_TOO_LARGE);
    buf_finish(&b);
}

static void gits_hash_is_known(void **state)
{
    /* git hash-object of "hello\n": ce013625030ba8dba906f756967f9e9ca394464a */
    struct hub_file f = { .has_blob = true, .blob = { 0xce, 0x01, 0x36, 0x25, 0x03, 0x0b, 0xa8, 0xdb, 0xa9, 0x06,
                                                      0xf7, 0x56, 0x96, 0x7f, 0x9e, 0x9c, 0xa3, 0x94, 0x46, 0x4a } };
    (void)state;
    assert_true(hub_blob_is(&f, STR("hello\n")));
    assert_false(hub_blob_is(&f, STR("hello")));
    assert_false(hub_blob_is(&f, (struct str){ 0 }));
}

/* All of it, with what the API says; the n-th allocation fails. */
static enum err_code whole(const char *text, struct arena *a, struct err *e)
{
    struct hub_ask ask;
    struct hub_choice c;
    struct hub_repo r = { .license = "" };
    enum err_code code = hub_ask_parse(str_from(text), a, &ask, e);
    if (!code)
        code = hub_read_info(STR("{\"sha\":\"" SHA "\",\"cardData\":{\"license\":\"mit\"}}"), a, &r, e);
    if (!code)
        code = hub_read_tree(STR("[" ENTRY("d/m-Q8_0.gguf", "5", "," LFS(SHA256, "5")) "," ENTRY("mmproj-F16.gguf", "5", "") "]"),
                             a, &r, e);
    return code ? code : hub_choose(&r, &ask, a, &c, e);
}

static void memory_runs_out(void **state)
{
    static const char *const names[] = { "hf.co/o/r:Q8_0@main", "https://hf.co/o/r/blob/main/d/m-Q8_0.gguf" };
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        enum err_code code = ERR_NO_MEMORY;
        unsigned n = 0;
        while (code) {
            struct arena a = { 0 };
            struct err e = { 0 };
            const uint64_t live = mem_live();
            mem_fail_after(++n, false);
            code = whole(names[k], &a, &e);
            mem_fail_after(0, false);
            arena_finish(&a);
            assert_int_equal(mem_live(), live);
            /* ERR_FORMAT: the JSON library, out of memory, may cut a text short */
            if (code && ((code != ERR_NO_MEMORY && code != ERR_FORMAT) || !e.text[0]))
                fail_msg("%s: allocation %u: %s: %s", names[k], n, err_name(code), e.text);
        }
        assert_true(n > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_read_from_paths),     cmocka_unit_test(a_quantisation_is_chosen),
        cmocka_unit_test(defaults_have_an_order),         cmocka_unit_test(shards_come_whole_and_in_order),
        cmocka_unit_test(what_lies_beside_is_taken_or_left), cmocka_unit_test(a_link_is_one_file),
        cmocka_unit_test(ten_thousand_files_are_chosen_from), cmocka_unit_test(names_and_links_are_read),
        cmocka_unit_test(names_have_caps),
        cmocka_unit_test(infos_are_read),                 cmocka_unit_test(trees_are_read),
        cmocka_unit_test(trees_have_caps),                cmocka_unit_test(gits_hash_is_known),
        cmocka_unit_test(memory_runs_out),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
