"""Check an installed package: its kernels load where it has any; it merges two small models.

Run it outside of the source tree, with the interpreter that the package is installed for.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from importlib.metadata import distribution
from pathlib import Path

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def main() -> None:
    """Print what was found; an exit code other than 0 tells that something was not."""
    files = distribution("mergekit_geo").files or []
    kernels = [file.locate() for file in files if file.name.startswith("_kernel")]
    check_kernels(bool(kernels))
    geo_merge = str(Path(sysconfig.get_path("scripts")) / "geo-merge")
    with tempfile.TemporaryDirectory() as folder:
        models = [make_model(Path(folder, name), seed) for seed, name in enumerate("ab")]
        text = Path(folder, "text.jsonl")
        text.write_text("\n".join(f'{{"text": "{" ".join(WORDS)} {word}"}}' for word in WORDS))
        out = Path(folder, "soup")
        for words in (["--version"], ["--help"], ["soup", *models, "-o", out, "--data", text]):
            subprocess.run([geo_merge, *map(str, words)], cwd=folder, check=True)
        missing = {"model.safetensors", "report.html"} - {file.name for file in out.iterdir()}
        assert not missing, f"not in the output: {missing}"


def check_kernels(expected: bool) -> None:
    """Refuse kernels that are in the wheel and cannot be loaded, or the other way around."""
    import mergekit_geo
    from mergekit_geo.merging.native import NativeKernel, kernel_for

    place = Path(mergekit_geo.__file__)
    assert "site-packages" in place.parts, f"not the installed package: {place}"
    said = f"kernels in the wheel: {expected}, that can be loaded: {NativeKernel.is_built()}"
    assert NativeKernel.is_built() == expected, said
    used = type(kernel_for("cpu")).__name__
    print(f"Python {sys.version.split()[0]}, kernels: {used}", flush=True)


def make_model(folder: Path, seed: int) -> Path:
    """Save a small Llama with random weights and a tokenizer of a few words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(vocabulary), **sizes, **heads)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
