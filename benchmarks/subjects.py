"""The small sound inputs that are damaged, and the commands that are given the damage."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.mutations import VALUES, mutate_bytes, mutate_tree, replace_path, to_json, to_yaml

Command = list[str]

QUICK = ["--no-eval", "--no-fsync"]
LOSS = [
    "--no-fsync",
    "--sharpness",
    "off",
    "--max-examples",
    "4",
    "--seq-len",
    "16",
    "--budget",
    "0",
]
FORMATS = ("txt", "jsonl", "json", "csv", "parquet", "folder")
TEXT = "\n\n".join(f"the quick brown fox {n} jumps over the lazy dog {n * n}" for n in range(12))
CHAT = [
    {
        "messages": [
            {"role": "user", "content": "the fox"},
            {"role": "assistant", "content": "jumps"},
        ]
    }
] * 6
RECIPE = {
    "merge_method": "ties",
    "base_model": "m",
    "models": [
        {"model": "b", "parameters": {"weight": 0.5, "density": 0.5}},
        {"model": "c", "parameters": {"weight": [0, 1]}},
    ],
    "parameters": {"normalize": True, "density": [{"filter": "mlp", "value": 0.4}, {"value": 0.6}]},
    "dtype": "float32",
    "tokenizer_source": "base",
    "seed": 1,
}
OTHER_RECIPE = {
    "merge_method": "slerp",
    "slices": [
        {"sources": [{"model": "m", "layer_range": [0, 1]}, {"model": "b", "layer_range": [0, 1]}]}
    ],
    "base_model": "m",
    "parameters": {"t": [{"filter": "self_attn", "value": [0, 0.5]}, {"value": 0.5}]},
    "objective": {"data": "text.txt", "max_examples": 4, "seq_len": 16, "batch_size": 2},
    "finetune": [{"name": "z", "model": "m", "train_data": "text.txt", "members": 2, "steps": 1}],
    "chat_template": "auto",
    "sharpness": False,
}
CONFIG_KEYS = (
    "architectures", "auto_map", "quantization_config", "transformers_weights",
    "tie_word_embeddings", "torch_dtype", "dtype", "vocab_size", "hidden_size", "num_hidden_layers",
    "num_labels",
    "id2label", "model_type", "text_config", "rope_parameters", "max_position_embeddings",
    "pad_token_id", "problem_type", "attn_implementation", "_name_or_path", "layer_types",
)  # fmt: skip
TOKENIZER_KEYS = (
    "auto_map", "tokenizer_class", "chat_template", "model_max_length", "bos_token", "eos_token",
    "pad_token", "added_tokens_decoder", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "vocab", "merges", "added_tokens", "truncation", "padding", "type", "backend",
    "extra_special_tokens",
)  # fmt: skip
ADAPTER_KEYS = (
    "rank_pattern", "alpha_pattern", "r", "lora_alpha", "target_modules", "use_dora", "use_rslora",
    "base_model_name_or_path", "revision", "peft_type", "modules_to_save", "init_lora_weights",
    "fan_in_fan_out", "auto_mapping", "layers_pattern", "alora_invocation_tokens", "bias",
)  # fmt: skip
RECIPE_KEYS = (
    "merge_method", "models", "slices", "base_model", "parameters", "dtype", "out_dtype",
    "finetune", "tokenizer_source", "tokenizer", "chat_template", "objective", "along", "sharpness",
    "push_to",
    "seed", "weight", "density", "t", "filter", "value", "members", "layer_range", "model", "name",
)  # fmt: skip
DATA_KEYS = (
    "text",
    "messages",
    "role",
    "content",
    "label",
    "conversations",
    "from",
    "value",
    "data",
)


def make(folder: Path) -> None:
    """Every sound input: m, b, c (tiny Llamas), sharded, adapter, text and rows."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir(parents=True)
    for name in ("m", "b", "c"):
        _llama(folder / name, sum(map(ord, name)))
    shutil.copytree(folder / "m", folder / "sharded")
    state = load_file(folder / "m" / "model.safetensors")
    names = sorted(state)
    shards = [names[::2], names[1::2]]
    (folder / "sharded" / "model.safetensors").unlink()
    placed = {}
    for number, part in enumerate(shards, start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({n: state[n] for n in part}, folder / "sharded" / file, metadata={"format": "pt"})
        placed |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index))
    _adapter(folder / "adapter", torch)
    (folder / "text.txt").write_text(TEXT)
    (folder / "secret").write_text("secret")
    for suffix in FORMATS:
        _write_data(folder / f"data.{suffix}", suffix)


def _llama(folder: Path, seed: int) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    words = ["<unk>", "<s>", "</s>", *sorted(set(TEXT.split())), "user", "assistant"]
    found = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    )
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=found,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<s> {{ m['role'] }} {{ m['content'] }} </s>{% endfor %}"
    )
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=8, intermediate_size=12, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=32, bos_token_id=1, eos_token_id=2,
            pad_token_id=2, tie_word_embeddings=True,
        )
    ).save_pretrained(folder)  # fmt: skip
    tokenizer.save_pretrained(folder)


def _adapter(folder: Path, torch: Any) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    parts = {f"{name}.lora_A.weight": torch.randn(2, 8), f"{name}.lora_B.weight": torch.randn(8, 2)}
    save_file(parts, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA", "base_model_name_or_path": "m", "r": 2, "lora_alpha": 4,
        "target_modules": ["q_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {},
        "task_type": "CAUSAL_LM", "bias": "none", "init_lora_weights": True, "use_dora": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))


def headers(draw: random.Random, here: Path) -> Command:
    """The header of a safetensors file."""
    path = here / "m" / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    if _otherwise(draw, path):
        return _weights(draw, "m")
    if draw.random() < 0.8:
        text = to_json(
            mutate_tree(
                draw,
                json.loads(data[8 : 8 + length]),
                ("dtype", "shape", "data_offsets", "__metadata__"),
            )
        )
        stated = len(text) if draw.random() < 0.9 else draw.choice((0, 1, 2**31, 2**63, 2**64 - 1))
        path.write_bytes(struct.pack("<Q", stated) + text + data[8 + length :])
    return _weights(draw, "m")


def indexes(draw: random.Random, here: Path) -> Command:
    """The index of a sharded checkpoint."""
    _damage(draw, here / "sharded" / "model.safetensors.index.json", ("weight_map", "metadata"))
    return _weights(draw, "sharded")


def configs(draw: random.Random, here: Path) -> Command:
    """config.json, and its siblings."""
    _damage(
        draw,
        here / "m" / draw.choice(("config.json",) * 5 + ("generation_config.json",)),
        CONFIG_KEYS,
    )
    return _measured(draw, ["m", "b"])


def tokenizers(draw: random.Random, here: Path) -> Command:
    """Everything that a tokenizer is made of."""
    file = draw.choice(
        ("tokenizer.json",) * 4 + ("tokenizer_config.json",) * 3 + ("chat_template.jinja",)
    )
    path = here / "m" / file
    if draw.random() < 0.15:
        path = (
            here
            / "m"
            / draw.choice(
                (
                    "special_tokens_map.json",
                    "vocab.json",
                    "added_tokens.json",
                    "vocab.txt",
                    "tokenizer.model",
                )
            )
        )
        path.write_bytes(
            to_json(json.loads((here / "m" / "tokenizer.json").read_text())["model"]["vocab"])
        )
        if draw.random() < 0.5:
            (here / "m" / "tokenizer.json").unlink()
    (here / "m" / "evil.py").write_text("class Evil:\n    raise SystemExit(77)\n")
    if path.suffix == ".json":
        _damage(draw, path, TOKENIZER_KEYS)
    elif not _otherwise(draw, path) and draw.random() < 0.5:
        texts = [value for value in VALUES if isinstance(value, str) and "{" in value]
        path.write_text(draw.choice(texts))
    (here / "chat.jsonl").write_text("\n".join(map(json.dumps, CHAT)))
    return _measured(draw, ["m", "b"], draw.choice(("text.txt", "chat.jsonl")))


def adapters(draw: random.Random, here: Path) -> Command:
    """adapter_config.json."""
    _damage(draw, here / "adapter" / "adapter_config.json", ADAPTER_KEYS)
    return _measured(draw, [draw.choice(("m+adapter", "adapter")), "b"])


def recipes(draw: random.Random, here: Path) -> Command:
    """A recipe."""
    path, tree = here / "recipe.yaml", json.loads(json.dumps(draw.choice((RECIPE, OTHER_RECIPE))))
    path.write_bytes(to_yaml(tree))
    if not _otherwise(draw, path, 0.1):
        path.write_bytes(to_yaml(mutate_tree(draw, tree, RECIPE_KEYS)))
        if draw.random() < 0.12:
            path.write_text(draw.choice(KNOTS))
    command = ["run", "recipe.yaml"]
    return [*command, "--dry-run"] if draw.random() < 0.6 else [*command, "-o", "out", *QUICK]


def data_files(draw: random.Random, here: Path) -> Command:
    """Data of every format."""
    suffix = draw.choice(("jsonl", *FORMATS))
    name = f"data.{suffix}"
    files = (
        sorted(p for p in (here / name).rglob("*") if p.is_file())
        if suffix == "folder"
        else [here / name]
    )
    path = draw.choice(files)
    if suffix in ("jsonl", "json") and draw.random() < 0.6:
        rows = json.loads(
            json.dumps(draw.choice((CHAT, [{"text": part} for part in TEXT.split("\n\n")])))
        )
        found = mutate_tree(draw, rows, DATA_KEYS)
        lines = suffix == "jsonl" and isinstance(found, list)
        path.write_bytes(b"\n".join(map(to_json, found)) if lines else to_json(found))
    else:
        _damage(draw, path, DATA_KEYS)
    return ["soup", "m", "b", "-o", "out", *LOSS, "--data", name]


def _write_data(path: Path, suffix: str) -> None:
    """The text as a sound file of a format."""
    rows = [{"text": part} for part in TEXT.split("\n\n")]
    if suffix == "txt":
        path.write_text(TEXT)
    elif suffix == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif suffix == "json":
        path.write_text(json.dumps(rows))
    elif suffix == "csv":
        path.write_text("text\n" + "\n".join(f'"{row["text"]}"' for row in rows))
    elif suffix == "parquet":
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    else:
        from datasets import Dataset, disable_progress_bars

        disable_progress_bars()
        Dataset.from_list(rows).save_to_disk(str(path))


KNOTS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(9)
    ) + "\nmerge_method: linear\nmodels: *j\n",
    "merge_method: linear\nmodels: &m [*m]\n",
    "merge_method: &m {a: *m}\n",
    "&a {*a : 1, merge_method: linear}\n",
    "merge_method: !!python/object/apply:os.system ['touch evil']\n",
    "merge_method: !!python/name:os.system\nmodels: []\n",
    "merge_method: linear\n<<: &x {<<: *x}\nmodels: []\n",
    "merge_method: linear\nmodels: " + "[" * 20_000 + "\n",
    "merge_method: linear\nmodels:\n" + "".join(" " * n + "- \n" for n in range(1, 1500)),
    "merge_method: linear\nseed: " + "9" * 5_000 + "\n",
    "merge_method: linear\nseed: " + "1:" * 5_000 + "1\n",
    "merge_method: linear\nseed: 0b" + "1" * 200_000 + "\n",
    "merge_method: linear\nseed: 2001-99-99\n",
    "merge_method: linear\nseed: 9999-12-31T23:59:59-23:59\n",
    "merge_method: linear\nseed: !!binary '%%%'\nmodels: !!set {a, b}\n",
    "merge_method: linear\n? [a, b]\n: 1\n",
    "merge_method: linear\n? {a: b}\n: 1\n",
    "merge_method: linear\n1: 2\nnull: 3\n2001-01-01: 4\n",
    "- merge_method: linear\n",
    "merge_method: linear\n---\nmerge_method: linear\n",
    "merge_method: linear\nmodels: [{model: m}, {model: b}]\nfinetune: "
    "[{name: z, model: m, train_data: text.txt, members: 100000000, steps: 1}]\n",
    "merge_method: linear\nmodels: [{model: m, parameters: {weight: .inf}}, "
    "{model: b, parameters: {weight: .nan}}]\n",
    "merge_method: linear\nmodels: [{model: m, parameters: {weight: 1e999}}, "
    "{model: b, parameters: {weight: " + "9" * 400 + "}}]\n",
)  # fmt: skip
"""What only YAML can say: aliases of aliases, circles, tags, odd keys, huge numbers."""


def _damage(draw: random.Random, path: Path, keys: Sequence[str]) -> None:
    if not _otherwise(draw, path):
        try:
            tree = json.loads(path.read_bytes())
        except ValueError:
            path.write_bytes(mutate_bytes(draw, path.read_bytes()))
            return
        path.write_bytes(to_json(mutate_tree(draw, tree, keys)))


def _otherwise(draw: random.Random, path: Path, share: float = 0.25) -> bool:
    """Now and then the bytes are damaged, or something else is put in the file's place."""
    chance = draw.random()
    if chance < share / 5:
        replace_path(draw, path)
    elif chance < share:
        path.write_bytes(mutate_bytes(draw, path.read_bytes()))
    return chance < share


def _weights(draw: random.Random, name: str) -> Command:
    return draw.choice((["check", name, "b"], ["soup", name, "b", "-o", "out", *QUICK]))


def _measured(draw: random.Random, models: list[str], data: str = "text.txt") -> Command:
    soup = ["soup", *models, "-o", "out"]
    return draw.choice((["check", *models], [*soup, *QUICK], [*soup, *LOSS, "--data", data]))


KINDS: dict[str, tuple[Callable[[random.Random, Path], Command], tuple[str, ...]]] = {
    "headers": (headers, ("m",)),
    "indexes": (indexes, ("sharded",)),
    "configs": (configs, ("m",)),
    "tokenizers": (tokenizers, ("m",)),
    "adapters": (adapters, ("m", "adapter")),
    "recipes": (recipes, ("m",)),
    "data": (data_files, tuple(f"data.{suffix}" for suffix in FORMATS)),
}
"""By name: what damages a copy of the inputs and says the command, and what has to be copied."""


def lay_out(kind: str, sound: Path, here: Path) -> None:
    """The inputs of one mutation: copies of what may be damaged, links to the rest."""
    here.mkdir()
    for source in sound.iterdir():
        if source.name == "secret":
            continue
        if source.name not in KINDS[kind][1]:
            (here / source.name).symlink_to(source)
        elif source.is_dir():
            shutil.copytree(source, here / source.name)
        else:
            shutil.copyfile(source, here / source.name)


def example(tree: dict[str, Any]) -> str:
    """A recipe as text."""
    text: str = yaml.safe_dump(tree, sort_keys=False)
    return text
