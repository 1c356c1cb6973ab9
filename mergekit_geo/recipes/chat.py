"""Chat templates by mergekit's names, written from what the formats' makers say of them.

- `chatml`: OpenAI, "Chat Markup Language".
- `llama3`: Meta, "Model cards and prompt formats: Llama 3".
- `mistral`: Mistral AI, "Tokenization: templates", tokenizer V1 (Mistral 7B v0.1 and v0.2, Mixtral
  8x7B), as in mergekit; later ones space otherwise. What the system says begins the first message
  of the user.
- `alpaca`: Taori 2023 (Stanford Alpaca) for one instruction. Further turns, which it knows nothing
  of, follow in the same form, each reply closed by the end-of-sequence token; a system message
  stands in the place of the first sentence.
- `exaone`: LG AI Research, EXAONE 3.0 and 3.5; without a system message an empty one.

mergekit 0.1.5 renders chatml and mistral alike. Its llama3 puts a line break after every message,
its exaone line breaks and spaces around each part, and its alpaca leaves out the first sentence and
the ends of replies: none of these is in the formats, and none is here.
"""

from __future__ import annotations

from mergekit_geo.errors import RecipeError
from mergekit_geo.files.sound_json import brief

CHATML = """\
{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """\
{% macro header(role) %}\
{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}\
{% endmacro %}\
{{ bos_token }}\
{% for message in messages %}\
{{ header(message['role']) }}{{ message['content'] | trim }}{{ '<|eot_id|>' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ header('assistant') }}{% endif %}"""

MISTRAL = """\
{% set has_system = messages[0]['role'] == 'system' %}\
{% set turns = messages[1:] if has_system else messages %}\
{{ bos_token }}\
{% for turn in turns %}\
{% if turn['role'] != ('assistant' if loop.index0 % 2 else 'user') %}\
{{ raise_exception('user and assistant speak in turn, the user first') }}\
{% endif %}\
{% if turn['role'] == 'user' %}\
{{ ' [INST] ' }}\
{% if has_system and loop.first %}{{ messages[0]['content'] + '\\n\\n' }}{% endif %}\
{{ turn['content'] + ' [/INST]' }}\
{% else %}\
{{ ' ' + turn['content'] }}{{ eos_token }}\
{% endif %}\
{% endfor %}"""

ALPACA = """\
{{ bos_token }}\
{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}\
{% else %}{{ 'Below is an instruction that describes a task. \
Write a response that appropriately completes the request.' }}{% endif %}\
{% for message in messages %}\
{% if message['role'] == 'user' %}{{ '\\n\\n### Instruction:\\n' + message['content'] }}\
{% elif message['role'] == 'assistant' %}\
{{ '\\n\\n### Response:\\n' + message['content'] }}{{ eos_token }}\
{% endif %}\
{% endfor %}\
{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"""

EXAONE = """\
{% if messages[0]['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' }}{% endif %}\
{% for message in messages %}\
{% set end = '' if message['role'] == 'user' else '[|endofturn|]' %}\
{{ '[|' + message['role'] + '|]' + message['content'] + end + '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"""

TEMPLATES = {
    "alpaca": ALPACA, "chatml": CHATML, "exaone": EXAONE, "llama3": LLAMA3, "mistral": MISTRAL,
}  # fmt: skip
"""Templates by name."""


def chat_template(said: str | None) -> str | None:
    """The template's text; None where there is nothing to say, or where the models say it.

    Raises:
        RecipeError: Neither a name that is known nor a template.

    Example:
        >>> chat_template("auto") is None, chat_template("{{ messages }}")
        (True, '{{ messages }}')
    """
    if said is None or said == "auto":
        return None
    if "{" in said:
        return said
    if said not in TEMPLATES:
        known = ", ".join(["auto", *TEMPLATES])
        raise RecipeError(
            f"no chat template {brief(said)}",
            where="chat_template",
            remedy=f"expected {known}, or the Jinja text itself",
        )
    return TEMPLATES[said]
