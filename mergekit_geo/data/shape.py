"""Which columns of a language model's data hold what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from mergekit_geo.config.data import EvalData
from mergekit_geo.data.messages import CHAT, TEXT_FLAG
from mergekit_geo.data.rows import LOOKED_AT, Rows, find_column

TEXT = ("text", "content", "document", "article", "sentence", "body", "prompt")
PROMPT, CHOSEN, REJECTED = "prompt", "chosen", "rejected"
COMPLETION = ("completion", "response")
INSTRUCTION, INPUT, OUTPUT = "instruction", ("input", "context"), ("output", *COMPLETION)
LABEL_FLAG = "--label-column"


@dataclass(frozen=True)
class Shape:
    """The columns that hold text, prompt, completion or messages.

    Attributes:
        answer: The column of what counts.
        prompt: The column of what comes before it; None if there is none.
        rejected: The column of the answer that was not chosen, whose common beginning with the
            chosen one is the prompt where there is none; None if there is none.
        input: The column of what an instruction is about; None if there is none.
    """

    answer: str
    prompt: str | None = None
    rejected: str | None = None
    input: str | None = None

    @classmethod
    def of(cls, rows: Rows, data: EvalData) -> Shape:
        """Choose the columns that the user names, else those of the usual names.

        Raises:
            DataError: No such columns.
        """
        present = set(rows.columns)
        if data.label_column is not None:
            answer = find_column(rows, data.label_column, (), "completion", LABEL_FLAG)
            usual = (PROMPT, INSTRUCTION, *TEXT)
            return cls._answered(
                answer, find_column(rows, data.text_column, usual, "prompt", TEXT_FLAG), present
            )
        if data.text_column is None and (known := cls._known(rows, present)):
            return known
        return cls(find_column(rows, data.text_column, (*CHAT, *TEXT), "text", TEXT_FLAG))

    @classmethod
    def _known(cls, rows: Rows, present: set[str]) -> Shape | None:
        """The shape of usual names with an answer apart from what comes before it."""
        pairs = {CHOSEN, REJECTED} <= present
        if present.intersection(CHAT) and not pairs:
            return None
        asked = [(PROMPT, COMPLETION), (INSTRUCTION, OUTPUT)] if not pairs else []
        for prompt, answers in asked:
            if prompt in present and (found := [name for name in answers if name in present]):
                return cls._answered(found[0], prompt, present)
        return cls._chosen(rows, present) if CHOSEN in present else None

    @classmethod
    def _chosen(cls, rows: Rows, present: set[str]) -> Shape:
        """Chosen answers; what comes before a single turn may be a column of conversations."""
        cell = next((c[CHOSEN] for c in islice(rows.cells, LOOKED_AT) if c.get(CHOSEN)), None)
        before = [PROMPT, INSTRUCTION, *(CHAT if isinstance(cell, Mapping) else ())]
        prompt = next((name for name in before if name in present), None)
        found = cls(CHOSEN) if prompt is None else cls._answered(CHOSEN, prompt, present)
        return replace(found, rejected=REJECTED if REJECTED in present else None)

    @classmethod
    def _answered(cls, answer: str, prompt: str, present: set[str]) -> Shape:
        about = [name for name in INPUT if name in present] if prompt == INSTRUCTION else []
        return cls(answer, prompt, input=about[0] if about else None)

    @property
    def is_instruction(self) -> bool:
        """Whether the prompt is an instruction, as in Alpaca's data."""
        return self.prompt == INSTRUCTION

    @property
    def described(self) -> str:
        """What the columns hold, in words.

        Example:
            >>> Shape("output", "instruction", input="input").described
            "instructions in 'instruction' and 'input', answers in 'output'"
        """
        if self.prompt is None and self.rejected is None:
            what = "conversations" if self.answer in CHAT else "text"
            return f"{what} in {self.answer!r}"
        asked = " and ".join(repr(column) for column in (self.prompt, self.input) if column)
        prompts = "instructions" if self.is_instruction else "prompts"
        answers = "chosen answers" if self.answer == CHOSEN else "answers"
        parts = [f"{prompts} in {asked}"] if asked else []
        parts += [f"{answers} in {self.answer!r}"]
        parts += [f"rejected ones in {self.rejected!r}"] if self.rejected else []
        return ", ".join(parts)

    @property
    def needed(self) -> list[str]:
        """Columns that must not be empty; a prompt may be."""
        tells = self.rejected if self.prompt is None else None
        return [self.answer, *([tells] if tells else [])]
