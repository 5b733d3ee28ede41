#include "runtime/text/family_template.h"

/* What a message says: a text, or the texts of its parts. */
#define TEXT \
    "(m.content if m.content is string else " \
    "(m.content or []) | map(attribute='text', default='') | join)"
/* A loop over the messages whose body is `turn`, then what the answer begins with. */
#define EACH(turn, answer) \
    "{% for m in messages %}" turn "{% endfor %}" \
    "{% if add_generation_prompt %}{{ '" answer "' }}{% endif %}"
/* Turns that name their role: before ROLE between TEXT after. */
#define ROLES(before, between, after) \
    EACH("{{ '" before "' + m.role + '" between "' + " TEXT " + '" after "' }}", \
         before "assistant" between)
#define TRIMMED_ROLES(before, between, after) \
    EACH("{{ '" before "' + m.role + '" between "' + " TEXT " | trim + '" after "' }}", \
         before "assistant" between)
/* Turns that begin with a text of their own; what is neither the system's nor the assistant's is
 * the user's. */
#define KINDS(system, user, assistant, end) \
    "{{ ('" system "' if m.role in ['system', 'developer'] else " \
    "'" assistant "' if m.role == 'assistant' else '" user "') + " TEXT " + '" end "' }}"
/* The system's text has no turn of its own: it stands in front of a user's. */
#define LEAD \
    "{% set ns = namespace(lead='') %}{% for m in messages if m.role == 'system' %}" \
    "{% set ns.lead = ns.lead + " TEXT " + '\\n\\n' %}{% endfor %}"
/* Mistral: it stands in front of the last user's. */
#define MISTRAL(space) \
    LEAD \
    "{% set says = messages | rejectattr('role', 'equalto', 'system') | list %}" \
    "{% set asks = says | rejectattr('role', 'equalto', 'assistant') | list | length %}" \
    "{% set ns.asked = 0 %}{{ bos_token }}{% for m in says %}" \
    "{% if m.role == 'assistant' %}{{ '" space "' + " TEXT " + eos_token }}" \
    "{% else %}{% set ns.asked = ns.asked + 1 %}" \
    "{{ '[INST]" space "' + (ns.lead if ns.asked == asks else '') + " TEXT " + '[/INST]' }}" \
    "{% endif %}{% endfor %}"

static const struct family_template rows[] = {
    /* https://cookbook.openai.com/articles/openai-harmony */
    { .name = "harmony",
      .tokens = { "<|end|>", "<|start|>", "<|message|>", "<|channel|>" },
      .source =
      "{{ '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\\n"
      "Knowledge cutoff: 2024-06\\nCurrent date: ' + strftime_now('%Y-%m-%d') + '\\n\\nReasoning: ' + "
      "(reasoning_effort or 'medium') + '\\n\\n# Valid channels: analysis, commentary, final. "
      "Channel must be included for every message.<|end|>' }}"
      EACH(KINDS("<|start|>developer<|message|># Instructions\\n\\n", "<|start|>user<|message|>",
                 "<|start|>assistant<|channel|>final<|message|>", "<|end|>"),
           "<|start|>assistant") },
    { .name = "llama4",
      .tokens = { "<|eot|>", "<|header_start|>", "<|header_end|>" },
      .source =
      "{{ bos_token }}" TRIMMED_ROLES("<|header_start|>", "<|header_end|>\\n\\n", "<|eot|>") },
    /* https://www.llama.com/docs/model-cards-and-prompt-formats/meta-llama-3/ */
    { .name = "llama3",
      .tokens = { "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>" },
      .source =
      "{{ bos_token }}"
      TRIMMED_ROLES("<|start_header_id|>", "<|end_header_id|>\\n\\n", "<|eot_id|>") },
    { .name = "kimi",
      .tokens = { "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>" },
      .source =
      EACH(KINDS("<|im_system|>system<|im_middle|>", "<|im_user|>user<|im_middle|>",
                 "<|im_assistant|>assistant<|im_middle|>", "<|im_end|>"),
           "<|im_assistant|>assistant<|im_middle|>") },
    { .name = "phi4",
      .tokens = { "<|im_end|>", "<|im_start|>", "<|im_sep|>" },
      .source =
      ROLES("<|im_start|>", "<|im_sep|>", "<|im_end|>"), .over_others = true },
    /* ChatML: Qwen, Yi, SmolLM, Hermes, InternLM and many others */
    { .name = "chatml",
      .tokens = { "<|im_end|>", "<|im_start|>" },
      .source =
      ROLES("<|im_start|>", "\\n", "<|im_end|>\\n"), .over_others = true },
    /* https://ai.google.dev/gemma/docs/core/prompt-structure; the system's text leads the first */
    { .name = "gemma",
      .tokens = { "<end_of_turn>", "<start_of_turn>" },
      .source =
      LEAD "{{ bos_token }}{% for m in messages if m.role != 'system' %}"
      "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\\n' + "
      "(ns.lead if loop.first else '') + " TEXT " | trim + '<end_of_turn>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}" },
    { .name = "granite",
      .tokens = { "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>" },
      .source =
      ROLES("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>\\n") },
    { .name = "command-r",
      .tokens = { "<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>" },
      .source =
      "{{ bos_token }}"
      EACH(KINDS("<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
                 "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
           "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>") },
    { .name = "deepseek",
      .tokens = { "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>" },
      .source =
      "{{ bos_token }}"
      EACH("{{ (('<｜Assistant｜>' if m.role == 'assistant' else '<｜User｜>') "
           "if m.role != 'system' else '') + " TEXT
           " + ('<｜end▁of▁sentence｜>' if m.role == 'assistant' else '') }}", "<｜Assistant｜>") },
    /* https://docs.mistral.ai/cookbooks/concept-deep-dive-tokenization-chat_templates */
    { .name = "mistral-v7",
      .tokens = { "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]" },
      .source =
      "{{ bos_token }}{% for m in messages %}{{ "
      "'[SYSTEM_PROMPT]' + " TEXT " + '[/SYSTEM_PROMPT]' if m.role == 'system' else "
      TEXT " + eos_token if m.role == 'assistant' else "
      "'[INST]' + " TEXT " + '[/INST]' }}{% endfor %}" },
    { .name = "mistral",
      .tokens = { "</s>", "[INST]", "[/INST]" },
      .word = "▁the",
      .source =
      MISTRAL(" ") },
    { .name = "mistral-tekken",
      .tokens = { "</s>", "[INST]", "[/INST]" },
      .source =
      MISTRAL("") },
    { .name = "glm4",
      .tokens = { "<|endoftext|>", "<|user|>", "[gMASK]", "<sop>" },
      .source =
      "[gMASK]<sop>"
      EACH("{{ '<|' + m.role + '|>\\n' + " TEXT " }}", "<|assistant|>") },
    { .name = "phi3",
      .tokens = { "<|end|>", "<|user|>", "<|assistant|>" },
      .source =
      ROLES("<|", "|>\\n", "<|end|>\\n") },
    { .name = "zephyr",
      .tokens = { "</s>", "<|user|>", "<|assistant|>" },
      .source =
      EACH("{{ '<|' + m.role + '|>\\n' + " TEXT " + '</s>\\n' }}", "<|assistant|>\\n") },
    { .name = "stablelm",
      .tokens = { "<|endoftext|>", "<|user|>", "<|assistant|>" },
      .source =
      EACH("{{ '<|' + m.role + '|>\\n' + " TEXT " + '<|endoftext|>\\n' }}", "<|assistant|>\\n") },
    { .name = "exaone",
      .tokens = { "[|endofturn|]", "[|user|]", "[|assistant|]" },
      .source =
      EACH("{{ '[|' + m.role + '|]' + " TEXT
           " + ('' if m.role == 'user' else '[|endofturn|]') + '\\n' }}", "[|assistant|]") },
    { .name = "seed",
      .tokens = { "<seed:eos>", "<seed:bos>" },
      .source =
      ROLES("<seed:bos>", "\\n", "<seed:eos>") },
    { .name = "minimax",
      .tokens = { "[e~[", "]~b]" },
      .source =
      "{{ ']~!b[' }}" EACH(KINDS("]~b]system\\n", "]~b]user\\n", "]~b]ai\\n", "[e~[\\n"),
                           "]~b]ai\\n<think>\\n") },
    { .name = "openchat",
      .tokens = { "<|end_of_turn|>" },
      .source =
      "{{ bos_token }}"
      EACH(KINDS("", "GPT4 Correct User: ", "GPT4 Correct Assistant: ", "<|end_of_turn|>"),
           "GPT4 Correct Assistant:") },
};

#define N_ROWS (sizeof rows / sizeof *rows)

static bool has_special(const struct tokenizer *t, const char *text)
{
    int32_t id = tokenizer_find(t, str_from(text));
    if (id == TOKEN_NONE)
        return false;
    enum token_type type = tokenizer_type(t, id);
    return type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED;
}

static bool fits(const struct family_template *f, const struct tokenizer *t)
{
    for (int i = 0; i < FAMILY_MAX_TOKENS && f->tokens[i]; i++)
        if (!has_special(t, f->tokens[i]))
            return false;
    return !f->word || tokenizer_find(t, str_from(f->word)) != TOKEN_NONE;
}

const struct family_template *family_template_of(const struct tokenizer *t)
{
    const struct family_template *first = NULL;
    struct str eos = tokenizer_text(t, tokenizer_eos(t));
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!fits(&rows[i], t))
            continue;
        if (rows[i].over_others && str_is(eos, rows[i].tokens[0]))
            return &rows[i];
        first = first ? first : &rows[i];
    }
    return first;
}

const struct family_template *family_template_at(size_t i)
{
    return i < N_ROWS ? &rows[i] : NULL;
}
