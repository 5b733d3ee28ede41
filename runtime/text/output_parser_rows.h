/* The known formats: one row each. Included by output_parser_format.c alone.
 *
 * What a template renders decides how its calls are spelled. A row gives the name to show; it
 * gives the spelling where the template renders no calls but its text holds the markers, and,
 * where `fixed`, always (what the model writes is more than what the template renders).
 * Order matters: the first row that fits is taken. */
#ifndef HEARTH_TEXT_OUTPUT_PARSER_ROWS_H
#define HEARTH_TEXT_OUTPUT_PARSER_ROWS_H

#include "runtime/text/output_parser_priv.h"

struct format_row {
    const char *name;
    enum style style;
    const char *in_source[3]; /* all of these stand in the template's text */
    bool fixed, array, counted, lines;
    const char *section_open, *call_open, *name_end, *call_close, *section_close;
    const char *key_open, *key_close, *value_close;
    const char *name_key, *arguments_key; /* NULL: name, arguments */
    const char *second; /* the row of another spelling that such models use too */
};

static const struct format_row rows[] = {
    { .name = "harmony", .style = STYLE_CHANNEL, .fixed = true,
      .in_source = { "<|channel|>", "<|message|>", "<|start|>" },
      .section_open = "<|channel|>", .call_open = "<|start|>", .name_end = "<|message|>",
      .call_close = "<|call|>", .section_close = "<|end|>", .value_close = "<|return|>" },
    { .name = "kimi-k2", .style = STYLE_NAMED, .fixed = true, .counted = true,
      .in_source = { "<|tool_call_argument_begin|>" },
      .section_open = "<|tool_calls_section_begin|>", .call_open = "<|tool_call_begin|>",
      .name_end = "<|tool_call_argument_begin|>", .call_close = "<|tool_call_end|>",
      .section_close = "<|tool_calls_section_end|>" },
    { .name = "deepseek-dsml", .style = STYLE_TAGGED, .section_open = "<｜DSML｜" },
    { .name = "deepseek", .style = STYLE_NAMED, .in_source = { "<｜tool▁calls▁begin｜>" },
      .section_open = "<｜tool▁calls▁begin｜>",
      .call_open = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", .name_end = "```json",
      .call_close = "```<｜tool▁call▁end｜>", .section_close = "<｜tool▁calls▁end｜>" },
    { .name = "gemma-4", .style = STYLE_GEMMA, .in_source = { "<|tool_call>call:" },
      .call_open = "<|tool_call>call:", .call_close = "<tool_call|>" },
    { .name = "mistral-named", .style = STYLE_NAMED, .in_source = { "[TOOL_CALLS]", "[ARGS]" },
      .call_open = "[TOOL_CALLS]", .name_end = "[ARGS]" },
    { .name = "mistral", .style = STYLE_JSON, .in_source = { "[TOOL_CALLS]" }, .array = true,
      .section_open = "[TOOL_CALLS]", .second = "mistral-named" },
    { .name = "command-r7b", .style = STYLE_JSON, .in_source = { "<|START_ACTION|>" },
      .array = true, .section_open = "<|START_ACTION|>", .section_close = "<|END_ACTION|>",
      .name_key = "tool_name", .arguments_key = "parameters" },
    { .name = "command-r", .style = STYLE_JSON, .in_source = { "Action:", "```json", "tool_name" },
      .array = true, .section_open = "Action: ```json", .section_close = "```",
      .name_key = "tool_name", .arguments_key = "parameters" },
    { .name = "phi-4", .style = STYLE_JSON, .in_source = { "<|tool_call|>", "<|/tool_call|>" },
      .array = true, .section_open = "<|tool_call|>", .section_close = "<|/tool_call|>" },
    { .name = "granite-3", .style = STYLE_JSON, .in_source = { "<|tool_call|>" }, .array = true,
      .section_open = "<|tool_call|>", .second = "hermes" },
    { .name = "lfm2", .style = STYLE_PYTHON, .in_source = { "<|tool_call_start|>" },
      .array = true, .section_open = "<|tool_call_start|>", .section_close = "<|tool_call_end|>" },
    { .name = "lfm2", .style = STYLE_PYTHON, .in_source = { "List of tools: " }, .array = true,
      .section_open = "<|tool_call_start|>", .section_close = "<|tool_call_end|>" },
    { .name = "apertus", .style = STYLE_KEYED, .in_source = { "<|tools_prefix|>" },
      .array = true, .section_open = "<|tools_prefix|>", .section_close = "<|tools_suffix|>" },
    { .name = "nemotron", .style = STYLE_JSON, .in_source = { "<TOOLCALL>" }, .array = true,
      .section_open = "<TOOLCALL>", .section_close = "</TOOLCALL>" },
    { .name = "solar", .style = STYLE_NAMED, .section_open = "<|tool_calls|>" },
    { .name = "gigachat", .style = STYLE_JSON, .call_open = "<|function_call|>" },
    { .name = "gigachat", .style = STYLE_JSON, .call_open = "function call<|role_sep|>" },
    { .name = "minimax-m3", .style = STYLE_TAGGED, .section_open = "<]minimax[>" },
    { .name = "minimax-m2", .style = STYLE_TAGGED, .section_open = "<minimax:tool_call>" },
    { .name = "seed-oss", .style = STYLE_TAGGED, .call_open = "<seed:tool_call>" },
    { .name = "qwen3-coder", .style = STYLE_TAGGED, .lines = true,
      .in_source = { "<tool_call>", "<function=", "<parameter=" },
      .call_open = "<tool_call><function=", .name_end = ">", .key_open = "<parameter=",
      .key_close = ">", .value_close = "</parameter>", .call_close = "</function></tool_call>" },
    { .name = "hunyuan", .style = STYLE_TAGGED, .section_open = "<tool_calls:" },
    { .name = "minicpm", .style = STYLE_TAGGED, .call_open = "<function name=" },
    { .name = "glm-4", .style = STYLE_TAGGED,
      .in_source = { "<tool_call>", "<arg_key>", "<arg_value>" },
      .call_open = "<tool_call>", .key_open = "<arg_key>", .key_close = "</arg_key><arg_value>",
      .value_close = "</arg_value>", .call_close = "</tool_call>" },
    { .name = "tool_calls", .style = STYLE_JSON, .in_source = { "<tool_calls>" }, .array = true,
      .section_open = "<tool_calls>", .section_close = "</tool_calls>" },
    { .name = "hermes", .style = STYLE_JSON, .in_source = { "<tool_call>" },
      .call_open = "<tool_call>", .call_close = "</tool_call>" },
    { .name = "functionary-3.1", .style = STYLE_NAMED, .in_source = { "<function=" },
      .call_open = "<function=", .name_end = ">", .call_close = "</function>" },
    { .name = "functionary-3.2", .style = STYLE_NAMED, .in_source = { ">>>" },
      .call_open = ">>>" },
    { .name = "firefunction", .style = STYLE_JSON, .in_source = { "functools[" }, .array = true,
      .section_open = "functools" },
    { .name = "llama-3", .style = STYLE_JSON, .in_source = { "<|python_tag|>" },
      .arguments_key = "parameters", .second = "llama-tag" },
    { .name = "llama-tag", .style = STYLE_JSON, .call_open = "<|python_tag|>",
      .arguments_key = "parameters" },
    { .name = "llama-pythonic", .style = STYLE_PYTHON, .in_source = { "func_name1(params" },
      .array = true, .second = "llama-3" },
    { .name = "generic", .style = STYLE_JSON, .second = "hermes" },
};

/* Reasoning that the template does not render but speaks of. */
struct thought_row {
    const char *open, *close, *content_open, *content_close;
};
static const struct thought_row thoughts[] = {
    { "<think>", "</think>", "<response>", "</response>" },
    { "[THINK]", "[/THINK]", NULL, NULL },
    { "<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>" },
    { "<|inner_prefix|>", "<|inner_suffix|>", NULL, NULL },
    { "<|channel>thought", "<channel|>", NULL, NULL },
    { "<seed:think>", "</seed:think>", NULL, NULL },
    { "<mm:think>", "</mm:think>", NULL, NULL },
    { "<thinking>", "</thinking>", NULL, NULL },
    { "<thought>", "</thought>", NULL, NULL },
    { "<reasoning>", "</reasoning>", NULL, NULL },
    { "<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>",
      "<|end_of_solution|>" },
};

#endif
