"""Whether two tokenizers cut the same texts into the same tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.data.load import load_rows
from mergekit_geo.data.rows import Rows, filled
from mergekit_geo.errors import DataError
from mergekit_geo.modules.load import load_tokenizer
from mergekit_geo.records.tokenization import TokenizationEntry
from mergekit_geo.tasks.texts import Texts, texts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mergekit_geo.tasks.task import Task


def tokenizations(
    folders: Mapping[str, Path],
    output: Path,
    task: Task,
    data: EvalData,
    documents: Collection[int],
    compute: Compute,
) -> list[TokenizationEntry]:
    """Count the documents that models' own tokenizers cut otherwise than the output's.

    Args:
        folders: Of the models' own tokenizers, by name.
        output: Folder of the output's tokenizer.
        task: Made with that.
        data: Whose documents are compared.
        documents: Indices of those.
        compute: Whether code that comes with a tokenizer may run.

    Raises:
        DataError: A tokenizer is missing.
    """
    rows = Rows([], [], data.origin) if data.benchmarks else load_rows(data)
    texts = texts_of(task, filled(rows, task.columns(rows)))
    some = [texts[i] for i in sorted(documents)]
    cut = _cut(_tokenizer(output, compute), some)
    return [
        count(name, _cut(_tokenizer(folder, compute), some), cut)
        for name, folder in folders.items()
    ]


def count(model: str, own: Sequence[Any], output: Sequence[Any]) -> TokenizationEntry:
    """Compare tokens text by text.

    >>> count("a", [[["ab"], ["c"]], [["ab", "c"]]], [[["ab"], ["c"]], [["a", "b", "c"]]])
    TokenizationEntry(model='a', texts=2, differing=1, tokens=4, output_tokens=5)
    """
    lengths = [sum(len(part) for parts in cut for part in parts) for cut in (own, output)]
    return TokenizationEntry(
        model=model,
        texts=len(own),
        differing=sum(mine != theirs for mine, theirs in zip(own, output, strict=True)),
        tokens=lengths[0],
        output_tokens=lengths[1],
    )


def _tokenizer(folder: Path, compute: Compute) -> PreTrainedTokenizerBase:
    found = load_tokenizer(folder, compute)
    if found is None:
        raise DataError("no tokenizer beside the weights", where=str(folder))
    return found


def _cut(tokenizer: PreTrainedTokenizerBase, texts: Texts) -> list[list[list[str]]]:
    """Tokens, as they are spelled: their ids may differ where the cut does not."""
    return [[tokenizer.tokenize(text) for text in parts] for parts in texts]
