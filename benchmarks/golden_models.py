"""The models that the golden commands merge: small, trained on real text and on real digits.

Llamas `base`, `a`, `b`, `c` and `independent`, and a LoRA `adapter` of the base where peft is
installed; image classifiers `vit-*` and `resnet-*`, each a base and two fine-tunes; `nan`, which
is `a` with a number that is none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

TRAINED, HELD_OUT = 1200, 160
"""Images of digits that the classifiers are trained on, and that loss is measured on."""
CLASSES = 10
PIECES, WORDS = 3, 12
"""Of a topic of the text that loss is measured on; of a piece."""
READY = "ready"


def make(folder: Path) -> None:
    """Train what is not there; paths inside are relative to the folder's parent."""
    if (folder / READY).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder.parent)
    here = Path(folder.name)
    _text(here)
    _llamas(here)
    _digits(here)
    _not_a_number(here)
    (here / READY).touch()


def _text(here: Path) -> None:
    """`held.txt`: pieces of topics that no model is trained on, each a document."""
    from mergekit_geo.data.text import builtin_documents

    words = [document.text.split() for document in builtin_documents("held-out")]
    pieces = [topic[n * WORDS : (n + 1) * WORDS] for topic in words for n in range(PIECES)]
    (here / "held.txt").write_text("\n\n".join(map(" ".join, pieces)), "utf-8")


def _llamas(here: Path) -> None:
    from mergekit_geo.data.text import builtin_documents
    from tests.demo import train

    plan = replace(train.BRIEF, width=64, mlp=152)
    train.make(here, plan=plan)
    try:
        import peft
    except ImportError:
        return
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = [document.text for document in builtin_documents("train")]
    tokenizer: Any = AutoTokenizer.from_pretrained(here / "base")
    stream = train.token_stream(tokenizer, texts)
    torch.manual_seed(4)
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])
    base = AutoModelForCausalLM.from_pretrained(here / "base")
    model: Any = peft.get_peft_model(base, settings)
    train.train(model, stream, plan.tune_steps, plan.batch, plan.tune_rate, 4)
    model.save_pretrained(here / "adapter")


def _digits(here: Path) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))[: TRAINED + HELD_OUT]
    images, labels = (found.images[order] / 16).astype(np.float32), found.target[order]
    rows = [{"image": x.tolist(), "label": int(y)} for x, y in zip(images, labels, strict=True)]
    pq.write_table(pa.Table.from_pylist(rows[:TRAINED]), here / "train.parquet")
    (here / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[TRAINED:]))
    _classifiers(here, "vit", _vit, images, labels, epochs=6, rate=4e-3)
    _classifiers(here, "resnet", _resnet, images, labels, epochs=2, rate=3e-3)


def _vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    shape: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    image: dict[str, Any] = {
        "image_size": 8,
        "patch_size": 4,
        "num_channels": 1,
        "num_labels": CLASSES,
    }
    return ViTForImageClassification(ViTConfig(intermediate_size=64, **shape, **image))


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    shape: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]}
    rest: dict[str, Any] = {"num_channels": 1, "num_labels": CLASSES, "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**shape, **rest))


def _classifiers(
    here: Path,
    kind: str,
    new: Callable[[], Any],
    images: Any,
    labels: Any,
    *,
    epochs: int,
    rate: float,
) -> None:
    """A base and two fine-tunes of it."""
    import torch

    torch.manual_seed(0)
    base = new()
    for seed, name in enumerate(("base", "a", "b")):
        model = type(base).from_pretrained(here / f"{kind}-base") if seed else base
        passes, pace = (1, rate / 2) if seed else (epochs, rate)
        draw = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=pace)
        model.train()
        for _ in range(passes):
            for rows in torch.randperm(TRAINED, generator=draw).split(32):
                logits = model(torch.from_numpy(images[rows, None])).logits
                torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows])).backward()
                optimizer.step()
                optimizer.zero_grad()
        model.eval().save_pretrained(here / f"{kind}-{name}")


def _not_a_number(here: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(here / "a", here / "nan", dirs_exist_ok=True)
    state = load_file(here / "a" / "model.safetensors")
    state["model.norm.weight"][3] = float("nan")
    save_file(state, here / "nan" / "model.safetensors", metadata={"format": "pt"})
