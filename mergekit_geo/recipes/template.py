"""Which chat template the output has, and whether its tokenizer has the tokens that it writes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.checkpoints.reshape.tokenizer_file import read_tokenizer
from mergekit_geo.checkpoints.vocabulary import tokenizer_folder
from mergekit_geo.errors import ArgumentError, CheckpointError, DataError, RecipeError
from mergekit_geo.files.sound_json import read_json
from mergekit_geo.recipes.chat import chat_template

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.checkpoint import Checkpoint

AUTO, KEY, WHERE = "auto", "chat_template", "chat_template"
MARK = re.compile(r"<\|[^<>|\s]+\|>")
"""What most tokens of chat formats look like; some formats write such marks as plain text."""

OPENING = ("<", "[")
"""How marks begin that are not told to be special; other added tokens may be words, or spaces."""

TALK = [("user", "one"), ("assistant", "two"), ("user", "three")]


@dataclass(frozen=True)
class Template:
    """The output's chat template.

    Attributes:
        text: As Jinja; None leaves the one that the output's tokenizer comes with.
        notes: How it was chosen.
        warnings: Marks that its tokenizer has no token for.
    """

    text: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def template_for(said: str | None, models: Sequence[Checkpoint], output: Checkpoint) -> Template:
    """The chat template that a recipe asks for, tried on the output's tokenizer.

    Args:
        said: As the recipe has it: `auto`, a name, Jinja, or nothing.
        models: As they were opened, the donor first.
        output: The donor as it is merged, with the output's tokenizer.

    Raises:
        RecipeError: No such template, one that fails, or one of whose tokens the output's tokenizer
            has none, and a model's has one.
    """
    if said is None:
        return Template()
    text, notes = _commonest(models) if said == AUTO else (chat_template(said), ())
    if text is None or (said == AUTO and text == own_template(output.folder)):
        return Template(None, notes)
    return Template(text, notes, tuple(_tried(text, models, output)))


def own_template(folder: Path | None) -> str | None:
    """The chat template in a folder, without space around it; None where there is none.

    Of several, the default one.
    """
    if folder is None:
        return None
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text("utf-8").strip()
    for file in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(folder / file).get(KEY) if (folder / file).is_file() else None
        if isinstance(found, list):
            named = {one.get("name"): one.get("template") for one in found}
            found = named.get("default")
        if isinstance(found, str):
            return found.strip()
    return None


def _commonest(models: Sequence[Checkpoint]) -> tuple[str | None, tuple[str, ...]]:
    """The template that most models have, and why it is this one."""
    own = {model.name: own_template(model.folder) for model in models}
    counts = Counter(text for text in own.values() if text)
    if not counts:
        return None, ("no model has a chat template",)
    most = max(counts.values())
    text = next(text for text in own.values() if text and counts[text] == most)
    having = [name for name, found in own.items() if found == text]
    tied = sum(count == most for count in counts.values()) > 1
    why = "as many have others; the first of these is taken" if tied else "the commonest"
    return text, (f"the chat template is that of {', '.join(having)} ({why})",)


def _tried(text: str, models: Sequence[Checkpoint], output: Checkpoint) -> list[str]:
    """What is to be known of a template on the output's tokenizer.

    Raises:
        RecipeError: It fails, or a token is missing that a model has.
    """
    folder = tokenizer_folder(output)
    if folder is None:
        return ["the output has no tokenizer that its chat template could be tried on"]
    from mergekit_geo.checkpoints.loading import load_tokenizer  # loads transformers

    try:
        tokenizer: Any = load_tokenizer(folder)
    except (ArgumentError, CheckpointError) as error:
        return [f"the chat template was not tried on the output's tokenizer: {error}"]
    tokenizer.chat_template = text
    written = _rendered(tokenizer)
    _refuse_missing(written, set(tokenizer.get_vocab()), models)
    gone = sorted({m for m in MARK.findall(written) if m not in tokenizer.get_vocab()})
    if not gone:
        return []
    return [
        f"the chat template writes {', '.join(gone)}, for which the output's tokenizer has no "
        "token: they are cut into several, as plain text is; `tokenizer: {source: union, tokens: "
        f"{{{gone[0]!r}: {{}}}}}}` adds one"
    ]


def _rendered(tokenizer: Any) -> str:
    from mergekit_geo.data.chat_template import Conversation, render

    turns = [{"role": role, "content": content} for role, content in TALK]
    try:
        return render(tokenizer, [Conversation(turns)])[0]
    except DataError as error:
        raise RecipeError(
            error.message, where=WHERE, remedy="name another, or leave it out to keep the donor's"
        ) from error


def _refuse_missing(written: str, known: set[str], models: Sequence[Checkpoint]) -> None:
    """Refuse a template that writes added tokens of a model which the output has not."""
    for model in models:
        try:
            file = read_tokenizer(model.folder)
        except (ArgumentError, CheckpointError):
            continue
        added = file.added.items() if file else ()
        marks = [token for token, one in added if one.get("special") or token[:1] in OPENING]
        if gone := [token for token in marks if token in written and token not in known]:
            raise RecipeError(
                f"it writes {', '.join(gone)}: tokens of {model.name}, which the output's "
                "tokenizer lacks",
                where=WHERE,
                remedy=f"`tokenizer_source: union` or `tokenizer_source: {model.name}` adds them",
            )
