"""Chat templates by name, rendered by transformers, against what the formats' makers write."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import mergekit_geo as geo
from mergekit_geo.recipes.chat import TEMPLATES, chat_template

TALK = [("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")]
BRIEF = ("system", "Be brief.")
ALPACA = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request."
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")


def rendered(
    tokenizer: PreTrainedTokenizerFast, name: str, *turns: tuple[str, str], ask: bool = True
) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    text = tokenizer.apply_chat_template(
        messages, chat_template=chat_template(name), tokenize=False, add_generation_prompt=ask
    )
    assert isinstance(text, str)
    return text


EXPECTED = {
    "chatml": (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
    ),
    "llama3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>",
    ),
    "mistral": (
        "<s> [INST] Hi [/INST] Hello</s> [INST] Why? [/INST]",
        "<s> [INST] Be brief.\n\nHi [/INST]",
    ),
    "alpaca": (
        f"<s>{ALPACA}\n\n### Instruction:\nHi\n\n### Response:\nHello</s>"
        "\n\n### Instruction:\nWhy?\n\n### Response:\n",
        "<s>Be brief.\n\n### Instruction:\nHi",
    ),
    "exaone": (
        "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n[|user|]Why?\n"
        "[|assistant|]",
        "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n",
    ),
}
"""A conversation that asks for a reply; and one with a system message that does not."""


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_the_format(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    asking, told = EXPECTED[name]
    assert rendered(tokenizer, name, *TALK) == asking
    assert rendered(tokenizer, name, BRIEF, TALK[0], ask=False) == told


def test_mistral_puts_the_system_before_the_first_question(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    long = rendered(tokenizer, "mistral", BRIEF, *TALK)
    assert long == "<s> [INST] Be brief.\n\nHi [/INST] Hello</s> [INST] Why? [/INST]"
    with pytest.raises(Exception, match="speak in turn, the user first"):
        rendered(tokenizer, "mistral", TALK[1])


def test_an_output_speaks_the_format_that_its_recipe_names(family: Path, tmp_path: Path) -> None:
    recipe = {
        "merge_method": "passthrough", "models": [{"model": str(family / "a")}],
        "chat_template": "llama3",
    }  # fmt: skip
    geo.run(recipe, tmp_path / "out", data=None, output=geo.OutputConfig(fsync=False))
    found = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = found.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text.endswith("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>")
