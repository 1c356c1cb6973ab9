"""Rows of conversations, prompts and preferences: what is fed, and which of it counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers.processors import ByteLevel, TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mergekit_geo.config.data import EvalData
from mergekit_geo.data import bounded
from mergekit_geo.data.rows import Row, Rows, filled
from mergekit_geo.errors import DataError
from mergekit_geo.tasks.causal_lm import CausalLM
from mergekit_geo.tasks.task import Example

TURNS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
ASKED = {"role": "user", "content": "two and two"}
SAID = {"role": "assistant", "content": "four"}
MORE = [{"role": "user", "content": "and one"}, {"role": "assistant", "content": "five"}]


@pytest.fixture
def tokenizer(family: Path) -> PreTrainedTokenizerFast:
    found = AutoTokenizer.from_pretrained(family / "a")
    found.chat_template = TURNS
    return found  # type: ignore[no-any-return]


def rows_of(*cells: dict[str, Any]) -> Rows:
    names = [f"x.jsonl:{number}" for number in range(1, len(cells) + 1)]
    return Rows(
        [Row(row, name, "x.jsonl") for row, name in zip(cells, names, strict=True)],
        names,
        "x.jsonl",
    )


def examples(tokenizer: PreTrainedTokenizerFast, *cells: dict[str, Any], **data: Any) -> Any:
    task = CausalLM(tokenizer, data.pop("seq_len", 512), 1024, EvalData(**data))
    return task.examples(rows_of(*cells))


def fed(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[str, str]:
    """All that a model is given, and what counts."""
    counted = [token for token in example.fields["labels"] if token != -100]
    return tokenizer.decode(example.fields["input_ids"]), tokenizer.decode(counted)


WHOLE = "<user>two and two\n<assistant>four\n<user>and one\n<assistant>five\n"
FIRST = "<user>two and two\n<assistant>four\n"
SHAREGPT = [
    {"from": "human", "value": "two and two"},
    {"from": "gpt", "value": "four"},
    {"from": "human", "value": "and one"},
    {"from": "gpt", "value": "five"},
]


@pytest.mark.parametrize(
    ("cells", "whole", "counted"),
    [
        ({"messages": [ASKED, SAID, *MORE]}, WHOLE, "four\nfive\n"),
        ({"id": 1, "conversations": SHAREGPT}, WHOLE, "four\nfive\n"),
        ({"conversations": '[{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]'},
         "<user>a\n<assistant>b\n", "b\n"),
        ({"system": "sum", "conversations": SHAREGPT}, f"<system>sum\n{WHOLE}", "four\nfive\n"),
        ({"prompt": "two and", "completion": " two"}, "two and two", " two"),
        ({"prompt": "two and", "response": " two"}, "two and two", " two"),
        ({"prompt": [ASKED], "completion": [SAID]}, FIRST, "four\n"),
        ({"prompt": [ASKED, SAID, MORE[0]], "completion": [MORE[1]]}, WHOLE, "five\n"),
        ({"prompt": [ASKED], "completion": SAID}, FIRST, "four\n"),
        ({"prompt": "two", "chosen": " and two", "rejected": "no"}, "two and two", " and two"),
        ({"chosen": "two and two", "rejected": "two and one"}, "two and two", "two"),
        ({"chosen": [ASKED, SAID], "rejected": [ASKED, MORE[1]]}, FIRST, "four\n"),
        ({"chosen": [ASKED, SAID, *MORE], "rejected": [ASKED, SAID, MORE[0], SAID]},
         WHOLE, "five\n"),
        ({"prompt": "two and two", "chosen": [ASKED, SAID], "rejected": [ASKED, MORE[1]]},
         FIRST, "four\n"),
        ({"instruction": "two and two", "input": "", "output": "four"}, FIRST, "four\n"),
        ({"instruction": "two", "input": "and one", "output": "three"},
         "<user>two\n\nand one\n<assistant>three\n", "three\n"),
        ({"instruction": "two", "context": "and one", "response": "three", "text": "all of it"},
         "<user>two\n\nand one\n<assistant>three\n", "three\n"),
        ({"system": "sum", "instruction": "two and two", "output": "four"},
         f"<system>sum\n{FIRST}", "four\n"),
        ({"instruction": None, "input": "two and two", "output": "four"}, FIRST, "four\n"),
        ({"instruction": "two", "input": "and two", "chosen": "four", "rejected": "five"},
         "<user>two\n\nand two\n<assistant>four\n", "four\n"),
        ({"messages": [ASKED, SAID], "chosen": [ASKED, SAID], "rejected": [ASKED, MORE[1]]},
         FIRST, "four\n"),
        ({"conversations": SHAREGPT[:3], "chosen": SHAREGPT[3], "rejected": SHAREGPT[1]},
         WHOLE, "five\n"),
        ({"instruction": " ", "input": None, "output": "four"}, "four", "four"),
        ({"prompt": "two and two"}, "two and two", "two and two"),
        ({"prompt": None, "completion": "two and"}, "two and", "two and"),
        ({"prompt": None, "completion": [ASKED, SAID]}, FIRST, "four\n"),
        ({"prompt": "two", "chosen": " and two", "rejected": None}, "two and two", " and two"),
        ({"prompt": [ASKED], "chosen": [ASKED, SAID], "rejected": [ASKED]}, FIRST, "four\n"),
        ({"messages": [SAID, *MORE]}, "<assistant>four\n<user>and one\n<assistant>five\n",
         "four\nfive\n"),
        ({"messages": [{"role": "human", "content": "a"}, {"role": "model", "content": "b"}]},
         "<user>a\n<assistant>b\n", "b\n"),
        ({"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}},
         "<user>a\n<assistant>b\n", "b\n"),
        ({"messages": '{"messages": [{"role": "user", "content": "a"}, '
          '{"role": "assistant", "content": "b"}]}'}, "<user>a\n<assistant>b\n", "b\n"),
        ({"text": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'},
         "<user>a\n<assistant>b\n", "b\n"),
        ({"text": "[1, 2]"}, "[1, 2]", "[1, 2]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}]},
          SAID]}, "<user>ab\n<assistant>four\n", "four\n"),
    ],
)  # fmt: skip
def test_the_shape_of_a_row_tells_what_counts(
    tokenizer: PreTrainedTokenizerFast, cells: dict[str, Any], whole: str, counted: str
) -> None:
    (example,) = examples(tokenizer, cells)
    assert fed(tokenizer, example) == (whole, counted)
    (everything,) = examples(tokenizer, cells, loss_on="all")
    assert everything.fields["input_ids"] == example.fields["input_ids"]
    assert everything.weight == everything.size - 1


def test_instructions_without_a_chat_template_stand_under_headings(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.chat_template = None
    both, alone = examples(
        tokenizer,
        {"instruction": "add", "input": "2, 2", "output": "four"},
        {"instruction": "say two", "input": "", "output": "two"},
    )
    asked = "### Instruction:\nadd\n\n### Input:\n2, 2\n\n### Response:\n"
    assert fed(tokenizer, both) == (f"{asked}four", "four")
    asked = "### Instruction:\nsay two\n\n### Response:\n"
    assert fed(tokenizer, alone) == (f"{asked}two", "two")


def test_named_columns_may_be_those_of_instructions(tokenizer: PreTrainedTokenizerFast) -> None:
    cells = {"instruction": "two", "input": "and two", "best": "four", "output": "five"}
    rows = rows_of(cells)
    (example,) = CausalLM(tokenizer, 99, 1024, EvalData(label_column="best")).examples(rows)
    assert fed(tokenizer, example)[0] == "<user>two\n\nand two\n<assistant>four\n"
    assert rows.notes[-1] == "column 'best' counts, given 'instruction' and 'input'"


def test_roles_that_do_not_alternate_are_kept_and_told(tokenizer: PreTrainedTokenizerFast) -> None:
    twice = [ASKED, MORE[0], SAID, MORE[1]]
    tools = [
        ASKED,
        {"role": "assistant", "content": "2 + 2"},
        {"role": "tool", "content": "4"},
        SAID,
    ]
    rows = rows_of({"messages": twice}, {"messages": [ASKED, SAID]}, {"messages": tools})
    first, *_ = CausalLM(tokenizer, 512, 1024, EvalData()).examples(rows)
    assert fed(tokenizer, first)[0] == (
        "<user>two and two\n<user>and one\n<assistant>four\n<assistant>five\n"
    )
    assert rows.notes == ["in 1 of 3 conversations roles do not alternate: kept as is"]


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_conversations_of_a_system_message_are_left_out_and_counted(
    tokenizer: PreTrainedTokenizerFast, loss_on: str
) -> None:
    tokenizer.chat_template = (
        "{% if messages[-1].role == 'system' %}{{ raise_exception('x') }}{% endif %}" + TURNS
    )
    alone = {"messages": [{"role": "system", "content": "sum"}]}
    rows = rows_of(alone, {"messages": [ASKED, SAID]})
    (example,) = CausalLM(tokenizer, 512, 1024, EvalData(loss_on=loss_on)).examples(rows)
    assert example.document == 1
    assert rows.notes == ["1 of 2 conversations holds a system message alone"]
    with pytest.raises(DataError, match=r"too short|the roles are system"):
        examples(tokenizer, alone, loss_on=loss_on)


PARTS = (
    "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_template_of_parts_is_given_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = PARTS
    (example,) = examples(tokenizer, {"messages": [ASKED, SAID]})
    assert fed(tokenizer, example) == (FIRST, "four\n")


@pytest.mark.parametrize("content", ["five", "\nfive", " five", "5"])
@pytest.mark.parametrize("ending", ["\n\n", " ", ": ", ""])
@pytest.mark.parametrize("trim", [True, False])
def test_tokens_across_the_beginning_of_an_answer(
    tokenizer: PreTrainedTokenizerFast, ending: str, content: str, trim: bool
) -> None:
    tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=trim)
    header = "<{{ m.role }}>" + ending
    tokenizer.chat_template = (
        f"{{% for m in messages %}}{header}{{{{ m.content }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}<assistant>{ending}{{% endif %}}"
    )
    said = {"role": "assistant", "content": content}
    (example,) = examples(tokenizer, {"messages": [ASKED, said]})
    whole, counted = fed(tokenizer, example)
    assert whole == f"<user>{ending}two and two<assistant>{ending}{content}"
    assert counted.endswith(content)  # and at most the token in which it begins
    assert len(counted.removesuffix(content)) <= len(ending)


def test_columns_that_the_user_names_come_first(tokenizer: PreTrainedTokenizerFast) -> None:
    cells = {"prompt": "two and", "completion": " two", "q": "one and"}
    (text,) = examples(tokenizer, cells, text_column="prompt")
    assert fed(tokenizer, text)[0] == "two and"
    (pair,) = examples(tokenizer, cells, text_column="q", label_column="completion")
    assert fed(tokenizer, pair) == ("one and two", " two")


def test_one_begin_of_sequence_token_where_the_template_writes_it(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    (plain,) = examples(tokenizer, {"messages": [ASKED, SAID]})
    assert 0 not in plain.fields["input_ids"]
    tokenizer.chat_template = "{{ bos_token }}" + TURNS
    (written,) = examples(tokenizer, {"messages": [ASKED, SAID]})
    assert written.fields["input_ids"] == [0, *plain.fields["input_ids"]]
    assert written.weight == plain.weight
    for text in ("two and two", "<|endoftext|>two and two"):
        (example,) = examples(tokenizer, {"text": text})
        assert example.fields["input_ids"].count(0) == 1
    windows = examples(tokenizer, {"messages": [ASKED, SAID] * 9}, seq_len=16)
    assert {window.fields["input_ids"][0] for window in windows} == {0}


def test_the_template_is_given_the_row_s_tools(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = "{% for t in tools or [] %}[{{ t.name }}]{% endfor %}" + TURNS
    tool = {"name": "add", "parameters": {}}
    for cell in ([tool], '[{"name": "add", "parameters": {}}]'):
        (example,) = examples(tokenizer, {"messages": [ASKED, SAID], "tools": cell})
        assert fed(tokenizer, example)[0] == "[add]" + FIRST
    (none,) = examples(tokenizer, {"messages": [ASKED, SAID], "tools": None})
    assert fed(tokenizer, none)[0] == FIRST


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"conversations": [{"from": "martian", "value": "a"}]}, "1 has a turn 'from' 'martian'"),
        ({"messages": [{"text": "a"}]}, "a turn with neither 'role' and 'content' nor 'from'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "holds image beside"),
        ({"prompt": [ASKED], "completion": "four"}, "expected both to be text or both to be mess"),
        ({"prompt": 3, "completion": "four"}, "neither text nor messages in column 'prompt'"),
        ({"messages": [ASKED, SAID], "tools": '{"a": 1}'}, "'tools' that holds no list"),
        ({"messages": [ASKED]}, "no conversation has a turn of 'assistant' .*the roles are user"),
        ({"messages": "[{'role': 'user'}]"}, "1 has text .*'messages' that begins .* is not JSON"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, "'assistant' without cont"),
        ({"messages": [ASKED, {"role": "assistant", "content": 4}]}, "nor a list .* found int"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read(
    tokenizer: PreTrainedTokenizerFast, cells: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        examples(tokenizer, cells)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         "takes more than 1 s for one conversation"),
        ("{% for i in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
         "takes more than 1 s|too much memory"),
        ("{{ 'x' * 99999999999 }}", "needs too much memory"),
        ("{{ 10 ** (10 ** 9) }}", "takes more than 1 s|too much memory"),
        ("{{ 'x' * 200000 }}", "writes more than 1..,... characters"),
        ("{{ raise_exception('no system') }}", "refuses a conversation: .*no system"),
        ("{% for %}", "refuses a conversation: TemplateSyntaxError"),
        ("{{ " + "(" * 9000 + "1" + ")" * 9000 + " }}", "nested too deep|refuses a conversation"),
        ("{{ messages[7].role }}", "refuses a conversation: UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "refuses a conversation: SecurityError"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_template_is_bounded(
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    message: str,
) -> None:
    monkeypatch.setattr(bounded, "SECONDS", 1)
    tokenizer.chat_template = template
    began, before = time.monotonic(), psutil.Process().children()
    with pytest.raises(DataError, match=rf"x.jsonl:1: the chat template .*({message})"):
        examples(tokenizer, {"messages": [ASKED, SAID]})
    assert time.monotonic() - began < 30
    assert psutil.Process().children() == before, "no process is left"


@pytest.mark.slow
def test_a_template_that_is_slow_for_each_is_stopped(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "SECONDS_OF_ALL", 1)
    monkeypatch.setattr(bounded, "SECONDS_EACH", 0)
    tokenizer.chat_template = "{% for i in range(99999) %}{{ i if i == 5 }}{% endfor %}" + TURNS
    with pytest.raises(DataError, match="takes too much time for all conversations together"):
        examples(tokenizer, *[{"messages": [ASKED, SAID]}] * 90)


def test_empty_rows_are_left_out_and_counted() -> None:
    rows = rows_of({"text": "a"}, {"text": None}, {"text": " "}, {}, {"text": "b"}, {"text": []})
    found = filled(rows, ["text"])
    assert [cells["text"] for cells in found.cells] == ["a", "b"]
    assert found.names == ["x.jsonl:1", "x.jsonl:5"]
    assert found.notes == ["4 rows are empty in column 'text' and left out"]
    with pytest.raises(DataError, match="every row is empty in column 'text'"):
        filled(rows_of({"text": None}), ["text"])
    with pytest.raises(DataError, match=r"x.jsonl:2 has no column 'text'"):
        filled(rows_of({"text": "a"}, {"id": 1}), ["text"])


def test_nested_columns_can_be_named(tokenizer: PreTrainedTokenizerFast) -> None:
    cells = {"translation": {"en": "two and two", "fr": "deux"}}
    (example,) = examples(tokenizer, cells, text_column="translation.en")
    assert fed(tokenizer, example)[0] == "two and two"
    with pytest.raises(
        DataError, match=r"no column 'translation.de'; its columns are transl.*en, t"
    ):
        examples(tokenizer, cells, text_column="translation.de")
    (chat,) = examples(tokenizer, {"row": {"talk": SHAREGPT}}, text_column="row.talk")
    assert fed(tokenizer, chat) == (WHOLE, "four\nfive\n")
    rows = rows_of({"translation": None}, cells)
    task = CausalLM(tokenizer, 64, 1024, EvalData(text_column="translation.en"))
    assert len(task.examples(filled(rows, task.columns(rows)))) == 1
