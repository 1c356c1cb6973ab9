"""The files that the documentation's examples name: tiny trained models, adapters and text."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mergekit_geo.config.data import BUILTIN
from mergekit_geo.data.text import Document, TextSplit, builtin_documents
from mergekit_geo.modules.load import quiet_transformers
from tests.commands.trainings import tiny, tiny_tokenizer

WINDOW, BATCH, RATE = 16, 16, 0.01
MEMBERS = {"a": 1, "b": 2, "c": 3, "d": 4}
ALSO = {
    "run-1": "a", "run-2": "b", "run-3": "c",
    "org/base": "base", "org/a": "a", "org/b": "b", "org/c": "c",
    "demo/base": "base", "demo/a": "a", "demo/b": "b", "demo/c": "c",
    "demo/independent": "independent", "demo/prose": "c", "demo/code": "d",
}  # fmt: skip
"""Further names of the same models; `org/...` is the Hub's, and a folder goes before it."""

ADAPTERS = ("lora-1", "lora-2", "lora-3")
DEEP = ("deep-a", "deep-b")
"""Models of four layers."""

SKILLS = ("code", "chat")
"""Further names of the text to measure on."""

COUNTS = {"train": 48, "held-out": 24}
LENGTH = 200


def few_documents(split: TextSplit, source: str = BUILTIN) -> list[Document]:
    """The beginnings of some of a built-in text."""
    found = builtin_documents(split, source)[: COUNTS[split]]
    return [Document(one.name, " ".join(one.text.split())[:LENGTH]) for one in found]


def furnish(folder: Path) -> None:
    """Write everything into a folder."""
    tokenizer = tiny_tokenizer()
    text = "\n\n".join(document.text for document in few_documents("train"))
    ids = torch.tensor(tokenizer(text, verbose=False).input_ids)
    base = trained(tiny(0), ids, 0, 100)
    _save(base, tokenizer, folder / "base")
    _save(trained(tiny(5), ids, 5, 100), tokenizer, folder / "independent")
    for name, seed in MEMBERS.items():
        member = LlamaForCausalLM.from_pretrained(folder / "base")
        _save(trained(member, ids, seed, 20), tokenizer, folder / name)
    for seed, name in enumerate(DEEP):
        _save(LlamaForCausalLM(_deeper(base.config, seed)), tokenizer, folder / name)
    for seed, name in enumerate(ADAPTERS):
        _adapter(folder, name, ids, seed)
    for name, target in ALSO.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(Path("..") / target if "/" in name else target)
    for split in ("train", "held-out"):
        _texts(folder / split, [document.text for document in few_documents(split)])
    for name in SKILLS:
        (folder / name).with_suffix(".jsonl").symlink_to("held-out.jsonl")


def _deeper(config: LlamaConfig, seed: int) -> LlamaConfig:
    torch.manual_seed(seed)
    return LlamaConfig(**{**config.to_dict(), "num_hidden_layers": 4})


def trained(model: LlamaForCausalLM, ids: Tensor, seed: int, steps: int) -> LlamaForCausalLM:
    """AdamW on random windows."""
    draw = torch.Generator().manual_seed(seed)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=RATE)
    for _ in range(steps):
        starts = torch.randint(len(ids) - WINDOW, (BATCH,), generator=draw)
        rows = torch.stack([ids[start : start + WINDOW] for start in starts])
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def _adapter(folder: Path, name: str, ids: Tensor, seed: int) -> None:
    model = LlamaForCausalLM.from_pretrained(folder / "base")
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    trained(model, ids, seed, 20)
    with quiet_transformers():
        model.save_pretrained(folder / name)
    config = folder / name / "adapter_config.json"
    said = json.loads(config.read_text()) | {"base_model_name_or_path": "base"}
    config.write_text(json.dumps(said))


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _texts(path: Path, texts: list[str]) -> None:
    """The same text as lines of JSON and as paragraphs, and prompts with their completions."""
    path.with_suffix(".txt").write_text("\n\n".join(texts))
    path.with_suffix(".jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
