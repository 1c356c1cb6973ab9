"""Checkpoints that bring code of their own, which leaves a mark where it runs."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

TRACE = "from pathlib import Path\nPath({mark!r}).open('a').write(__name__ + '\\n')\n"
CONFIGURATION = """
from transformers import PretrainedConfig

class TinyConfig(PretrainedConfig):
    model_type = "tiny_own"

    def __init__(self, vocab_size=9, **more):
        self.vocab_size = vocab_size
        super().__init__(**more)
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from .configuration_tiny import TinyConfig

class TinyLM(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.rows = torch.nn.Embedding(config.vocab_size, 16)
        self.out = torch.nn.Linear(16, config.vocab_size)
        self.post_init()

    def forward(self, input_ids=None, **more):
        return CausalLMOutput(logits=self.out(self.rows(input_ids)))
"""
ROWS = 1000
"""More than the tokenizer of the tests has."""

OWN_MODEL = {
    "architectures": ["TinyLM"],
    "model_type": "tiny_own",
    "vocab_size": ROWS,
    "dtype": "float32",
    "auto_map": {
        "AutoConfig": "configuration_tiny.TinyConfig",
        "AutoModelForCausalLM": "modeling_tiny.TinyLM",
    },
}


def code_model(folder: Path, mark: Path, seed: int) -> Path:
    """A language model whose configuration and module are code in its folder."""
    folder.mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "rows.weight": torch.randn(ROWS, 16, generator=draw),
        "out.weight": torch.randn(ROWS, 16, generator=draw),
        "out.bias": torch.zeros(ROWS),
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(OWN_MODEL))
    write_code(folder / "configuration_tiny.py", mark, CONFIGURATION)
    write_code(folder / "modeling_tiny.py", mark, MODELING)
    return folder


def code_tokenizer(folder: Path, mark: Path) -> Path:
    """Put a tokenizer that is code into a folder."""
    for old in folder.glob("*token*"):
        old.unlink()
    (folder / "tokenizer.model").write_bytes(b"no such model of " + folder.name.encode())
    place = "tokenization_own.OwnTokenizer"
    config = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": [place, place]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    code = (
        "from transformers import BertTokenizer\n\nclass OwnTokenizer(BertTokenizer):\n    pass\n"
    )
    write_code(folder / "tokenization_own.py", mark, code)
    return folder


def code_processor(folder: Path, mark: Path) -> Path:
    """Put an image processor that is code into a folder."""
    config = {"auto_map": {"AutoImageProcessor": "processing_own.OwnProcessor"}}
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    write_code(folder / "processing_own.py", mark, PROCESSOR)
    return folder


PROCESSOR = """
import torch

class OwnProcessor:
    @classmethod
    def from_pretrained(cls, *places, **options):
        return cls()

    @classmethod
    def register_for_auto_class(cls):
        pass

    def __call__(self, images, **options):
        pixels = torch.stack([torch.as_tensor(i).permute(2, 0, 1) / 9 for i in images])
        return {"pixel_values": pixels}
"""


def write_code(path: Path, mark: Path, code: str) -> None:
    """A module that says in `mark` that it was imported."""
    path.write_text(TRACE.format(mark=str(mark)) + code)
