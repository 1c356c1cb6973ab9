"""Merged sentence-transformers models, loaded by that library, against a reference in float64.

    python benchmarks/embeddings.py OUT.json

Needs sentence-transformers (5.4 or later), which the package itself does not use. For each kind of
model two are drawn at random, all modules included, and merged by `geo-merge soup`. The embeddings
(for a CrossEncoder the scores) of the output must be those of a model whose every parameter is the
mean, and those of the parent where both parents are equal. Every file of the first parent must be
in the output or be named as left out.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sentence_transformers
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers import models as m
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

import mergekit_geo as geo

TEXTS = ["a green boat drifts", "past seven old harbours", "one", "the boat is green, and old"]
SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
WEIGHTS = (0.25, 0.75)
AT_MOST = 1e-5
"""Largest difference of an element, of embeddings whose elements are around 1."""

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
               "sentence_bert_config.json")  # fmt: skip


def words() -> PreTrainedTokenizerFast:
    """A tokenizer of the texts."""
    found = Tokenizer(models.BPE(unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    marks = ["<unk>", "<pad>", "<cls>", "<sep>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(TEXTS, trainer)
    names = dict(zip(["unk_token", "pad_token", "cls_token", "sep_token"], marks, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=found, model_max_length=64, **names)


def backbone(folder: Path, kind: Any = BertModel, **more: Any) -> Path:
    """A BERT in a folder."""
    tokenizer = words()
    kind(
        BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **SIZES, **more)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain(folder: Path) -> list[Any]:
    """Backbone, pooling, Dense, LayerNorm, Normalize."""
    bert = m.Transformer(str(backbone(folder)), max_seq_length=32)
    return [bert, m.Pooling(32, "cls"), m.Dense(32, 16), m.LayerNorm(16), m.Normalize()]


def static(folder: Path) -> list[Any]:
    """An embedding for each token, and nothing else."""
    return [m.StaticEmbedding(words().backend_tokenizer, embedding_dim=8)]


def routed(folder: Path) -> list[Any]:
    """Queries and documents go through layers of their own."""
    bert = m.Transformer(str(backbone(folder)), max_seq_length=32)
    ends = m.Router.for_query_document([m.Dense(32, 8)], [m.Dense(32, 8)])
    return [bert, m.Pooling(32, "mean"), ends]


def routed_first(folder: Path) -> list[Any]:
    """Documents go through a backbone, queries through an embedding of each token."""
    bert = m.Transformer(str(backbone(folder)), max_seq_length=32)
    query = m.StaticEmbedding(words().backend_tokenizer, embedding_dim=32)
    return [m.Router.for_query_document([query], [bert, m.Pooling(32, "mean")]), m.Normalize()]


def sentence_model(make: Callable[[Path], list[Any]]) -> Callable[[Path, int], Path]:
    """Write a SentenceTransformer of modules whose every parameter is drawn at random."""

    def write(folder: Path, seed: int) -> Path:
        model = SentenceTransformer(
            modules=make(folder / "raw"), device="cpu", prompts={"query": "find: "}
        )
        redraw(model, seed)
        model.save_pretrained(str(folder / "model"), create_model_card=False)
        return folder / "model"

    return write


def cross(folder: Path, seed: int) -> Path:
    """Write a CrossEncoder."""
    raw = backbone(folder / "raw", BertForSequenceClassification, num_labels=1)
    model = CrossEncoder(str(raw), device="cpu", max_length=32)
    redraw(model, seed)
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


def numbered(folder: Path, seed: int) -> Path:
    """The layout of early releases, with the backbone in a folder of its own."""
    found = sentence_model(plain)(folder, seed)
    (found / "0_Transformer").mkdir()
    for name in MODEL_FILES:
        (found / name).rename(found / "0_Transformer" / name)
    modules = json.loads((found / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (found / "modules.json").write_text(json.dumps(modules))
    return found


def redraw(model: torch.nn.Module, seed: int) -> None:
    """Draw every parameter at random, gains and biases included."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draw)


KINDS = {
    "Dense and LayerNorm": sentence_model(plain), "numbered folder": numbered,
    "StaticEmbedding": sentence_model(static), "Router": sentence_model(routed),
    "Router of backbones": sentence_model(routed_first), "CrossEncoder": cross,
}  # fmt: skip


def opened(folder: Path, kind: str) -> Any:
    """A model as its library loads it, in float64."""
    loaded = CrossEncoder if kind == "CrossEncoder" else SentenceTransformer
    return loaded(str(folder), device="cpu").double()


def results(model: Any) -> torch.Tensor:
    """Embeddings as queries and as documents, or scores of pairs."""
    if isinstance(model, CrossEncoder):
        return torch.tensor(model.predict([(text, TEXTS[0]) for text in TEXTS])).double()
    ways = (model.encode_query, model.encode_document)
    return torch.cat([way(TEXTS, convert_to_tensor=True, precision="float32") for way in ways])


def mean(folders: list[Path], kind: str) -> Any:
    """The first model with the means of all parameters."""
    one, two = (opened(folder, kind) for folder in folders)
    for mine, theirs in zip(one.parameters(), two.parameters(), strict=True):
        mine.data = WEIGHTS[0] * mine.data + WEIGHTS[1] * theirs.data
    return one


def lost(donor: Path, result: geo.Result) -> list[str]:
    """Files of the first parent that are neither in the output nor named."""
    assert result.out is not None
    files = [path.relative_to(donor).as_posix() for path in donor.rglob("*") if path.is_file()]
    named = result.report.left_out
    return [f for f in files if not (result.out / f).is_file() and f not in named]


def measure(kind: str, place: Path) -> dict[str, Any]:
    """Merge two models of a kind, and one with itself."""
    folders = [KINDS[kind](place / name, seed) for seed, name in enumerate("ab", 1)]
    output = geo.OutputConfig(fsync=False)
    result = geo.soup(folders, place / "out", weights=WEIGHTS, data=None, output=output)
    copy = Path(shutil.copytree(folders[0], place / "copy"))
    same = geo.slerp([folders[0], copy], place / "same", t=0.3, data=None, output=output)
    assert result.out is not None
    assert same.out is not None
    reference, found = results(mean(folders, kind)), results(opened(result.out, kind))
    equal = results(opened(folders[0], kind)) - results(opened(same.out, kind))
    prompts = getattr(opened(result.out, kind), "prompts", {}).get("query", "")
    return {
        "kind": kind,
        "difference": (found - reference).abs().max().item(),
        "of equal parents": equal.abs().max().item(),
        "size": reference.abs().max().item(),
        "lost": lost(folders[0], result),
        "prompt of queries": prompts,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for kind in KINDS:
        with TemporaryDirectory() as place:
            rows.append(measure(kind, Path(place)))
            print(rows[-1])
    record = {"sentence-transformers": sentence_transformers.__version__, "rows": rows}
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps(record, indent=1) + "\n")
    wrong = [row for row in rows if row["difference"] > AT_MOST or row["lost"]]
    sys.exit(f"off: {[row['kind'] for row in wrong]}" if wrong else None)


if __name__ == "__main__":
    main()
