#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static uint64_t all_options(const struct command *c)
{
    return c->raw ? 0 : c->options | ARG_BIT(ARG_HELP) | (c->daemon ? ARG_BIT(ARG_HOST) : 0);
}

/* Each begins with the command of that name, and ends before the next one's. */
static const struct {
    const char *first, *title;
} groups[] = {
    { "run", "Use a model" },
    { "list", "Models in the store" },
    { "pull", "Models that come and go" },
    { "create", "Models of your own" },
    { "ps", "The daemon" },
    { "help", "Help" },
};

static const char *group_of(const struct command *c)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strcmp(groups[i].first, c->name) == 0)
            return groups[i].title;
    return NULL;
}

void help_overview(FILE *to)
{
    fprintf(to, "hearth runs language models on this machine.\n\nusage: hearth COMMAND [...]\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const struct command *c = &cli_commands[i];
        if (group_of(c))
            fprintf(to, "\n%s\n", group_of(c));
        fprintf(to, "  %-10s %s%s%s%s\n", c->name, c->text, c->alias ? " (also: " : "",
                c->alias ? c->alias : "", c->alias ? ")" : "");
    }
    fprintf(to, "\n`hearth help COMMAND` says more. A daemon, hearthd, does the work: it is started\n"
                "when none answers. --host URL or HEARTH_HOST names another one.\n");
}

void help_command(FILE *to, const struct command *c)
{
    uint64_t options = all_options(c);

    fprintf(to, "hearth %s: %s\n\nusage: hearth %s %s%s\n", c->name, c->text, c->name,
            options ? "[OPTIONS] " : "", c->args);
    if (c->more)
        fprintf(to, "\n%s\n", c->more);
    if (options)
        fprintf(to, "\n");
    for (int id = 0; id < ARG_COUNT; id++) {
        const struct option_row *o = &cli_options[id];
        char left[40];
        if (!(options & ARG_BIT(id)))
            continue;
        snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter ? '-' : ' ',
                 o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
                 o->value && !option_value_optional(o) ? " " : "",
                 o->value ? o->value : "");
        fprintf(to, "  %-24s %s\n", left, o->text);
    }
}

enum err_code help_run(struct cli *c, struct err *e)
{
    const struct command *command;

    if (c->argc == 0) {
        help_overview(stdout);
        return ERR_OK;
    }
    command = cli_command(c->argv[0]);
    if (!command)
        return err_set(e, ERR_USAGE, "there is no command \"%s\"; `hearth help` lists them", c->argv[0]);
    help_command(stdout, command);
    return ERR_OK;
}

static void print_options(const struct command *c)
{
    for (int id = 0; id < ARG_COUNT; id++)
        if (all_options(c) & ARG_BIT(id))
            printf(" --%s", cli_options[id].name);
}

/* Names of models come from the daemon, but only one that is running already. */
static void completion_bash(void)
{
    printf("# bash completion for hearth, made by `hearth completion bash`\n"
           "_hearth()\n{\n    local word=${COMP_WORDS[COMP_CWORD]} options= models=\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (size_t i = 0; i < cli_n_commands; i++)
        printf("%s%s", i ? " " : "", cli_commands[i].name);
    printf("\" -- \"$word\"))\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < cli_n_commands; i++) {
        const struct command *c = &cli_commands[i];
        printf("    %s%s%s) options=\"", c->name, c->alias ? "|" : "", c->alias ? c->alias : "");
        print_options(c);
        printf("\"%s ;;\n", strncmp(c->args, "MODEL", 5) == 0 || strncmp(c->args, "SOURCE", 6) == 0 ?
                                " models=1" : "");
    }
    printf("    esac\n    case $word in\n    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
           "    *) if [ -n \"$models\" ]; then\n"
           "            case $(hearth version --json 2>/dev/null) in\n"
           "            *'\"daemon\":\"'*) models=$(hearth list 2>/dev/null | tail -n +2 | cut -d' ' -f1) ;;\n"
           "            esac\n"
           "            COMPREPLY=($(compgen -W \"$models\" -- \"$word\"))\n"
           "        else\n            COMPREPLY=($(compgen -f -- \"$word\"))\n        fi ;;\n"
           "    esac\n}\ncomplete -F _hearth hearth\n");
}

static void manual_page(void)
{
    printf(".TH HEARTH 1 \"\" \"hearth %s\"\n.SH NAME\nhearth \\- run language models on this machine\n"
           ".SH SYNOPSIS\n.B hearth\nCOMMAND [OPTIONS] [ARGUMENTS]\n.SH COMMANDS\n", HEARTH_VERSION);
    for (size_t i = 0; i < cli_n_commands; i++) {
        const struct command *c = &cli_commands[i];
        printf(".SS \"%s %s\"\n%s.\n", c->name, c->args, c->text);
        if (c->more)
            printf(".PP\n%s\n", c->more);
        for (int id = 0; id < ARG_COUNT; id++)
            if (c->options & ARG_BIT(id))
                printf(".TP\n.B \\-\\-%s %s\n%s\n", cli_options[id].name,
                       cli_options[id].value ? cli_options[id].value : "", cli_options[id].text);
    }
    printf(".SH ENVIRONMENT\n.TP\n.B HEARTH_HOST\n%s\n.TP\n.B HEARTH_API_KEY\nkey to send to the daemon\n"
           ".SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 no daemon, 4 no such model, 5 busy, "
           "130 interrupted.\n.SH SEE ALSO\n.BR hearthd (8)\n", cli_options[ARG_HOST].text);
}

enum err_code completion_run(struct cli *c, struct err *e)
{
    if (strcmp(c->argv[0], "bash") == 0)
        completion_bash();
    else if (strcmp(c->argv[0], "man") == 0)
        manual_page();
    else
        return err_set(e, ERR_USAGE, "\"%s\" is neither bash nor man", c->argv[0]);
    return ERR_OK;
}
