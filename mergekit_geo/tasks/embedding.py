"""Texts to vectors: a model, and the modules that sentence-transformers puts after it.

Their settings are read here; their weights stand beside the running module
(`mergekit_geo.modules.beside`). Nothing that a folder brings is run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, functional

from mergekit_geo.checkpoints.module_folders import (
    MODULES,
    SETTINGS,
    ModuleFolder,
    backbone_of,
    model_folder,
    read_modules,
)
from mergekit_geo.errors import UnsupportedError
from mergekit_geo.files.sound_json import brief, read_json
from mergekit_geo.modules.beside import State, weights_beside
from mergekit_geo.tasks.pooling import POOLINGS, modes_of, pooled
from mergekit_geo.tasks.token_inputs import accepted

NO_MODULES = f"the model has no {MODULES}: a text's vector is the mean of its tokens' last states"

Apply = Callable[[Tensor, State], Tensor]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x, "Tanh": torch.tanh, "ReLU": functional.relu, "GELU": functional.gelu,
    "Sigmoid": torch.sigmoid, "SiLU": functional.silu, "LeakyReLU": functional.leaky_relu,
}  # fmt: skip
"""Activations by the class in torch, whose default arguments they have."""


@dataclass(frozen=True)
class Embedding:
    """How texts become vectors.

    Attributes:
        modes: Of the pooling.
        steps: What is done to a pooled vector, with the place of each module.
        prompt: What stands before every text.
        lower: Whether texts are lowercased first.
        most_tokens: Most tokens of a text; None where nothing says so.
        note: What the report is to say.
    """

    modes: tuple[str, ...] = ("mean",)
    steps: tuple[tuple[int, Apply], ...] = ()
    prompt: str = ""
    lower: bool = False
    most_tokens: int | None = None
    note: str = NO_MODULES

    @classmethod
    def of(cls, folder: Path) -> Embedding:
        """The modules after the model in a folder; the mean of the tokens where there are none.

        Raises:
            UnsupportedError: A kind of module, or a setting, that cannot be run here.
            FormatError: `modules.json` is unsound.
        """
        root = model_folder(folder)
        if not (root / MODULES).is_file():
            return cls()
        backbone, modules = backbone_of(root), read_modules(root)
        if not modules or modules[0].path != backbone:
            raise _unsupported(root, "a model whose first module is not its encoder")
        after = [(module, _settings(root, module)) for module in modules[1:]]
        modes: tuple[str, ...] = ()
        steps: list[tuple[int, Apply]] = []
        for module, settings in after:
            if module.kind == "Pooling":
                modes = _pooling(root, settings, empty=not steps)
            elif module.kind != "Dropout":
                steps.append((module.index, _step(root, module, settings)))
        if not modes:
            raise _unsupported(root, "a model without a Pooling, which gives no vector of a text")
        return cls(modes, tuple(steps), **_of_texts(root, backbone, [s for _, s in after]))

    def written(self, text: str) -> str:
        """A text as the tokenizer gets it."""
        whole = self.prompt + text
        return whole.lower() if self.lower else whole

    def embed(self, model: Module, batch: dict[str, Tensor]) -> Tensor:
        """Vectors (b, d) of a batch of texts, float32.

        Args:
            model: Gives the tokens' last hidden states.
            batch: Token ids and attention mask, (b, length) each.
        """
        states = model(**accepted(model, batch)).last_hidden_state
        found, weights = pooled(states, batch["attention_mask"], self.modes), weights_beside(model)
        for index, apply in self.steps:
            found = apply(found, weights.get(index, {}))
        return found.float()


def _pooling(root: Path, settings: Mapping[str, Any], *, empty: bool) -> tuple[str, ...]:
    modes = modes_of(settings)
    if not empty:
        raise _unsupported(root, "a Pooling after other modules")
    if unknown := [mode for mode in modes if mode not in POOLINGS]:
        raise _unsupported(root, f"the pooling mode {brief(unknown[0])}")
    return modes


def _step(root: Path, module: ModuleFolder, settings: Mapping[str, Any]) -> Apply:
    if module.kind not in STEPS:
        raise _unsupported(root, f"the module {module.kind}")
    return STEPS[module.kind](root, settings)


def _dense(root: Path, settings: Mapping[str, Any]) -> Apply:
    stated = str(settings.get("activation_function") or "torch.nn.modules.activation.Tanh")
    name = stated.rpartition(".")[2]
    if name not in ACTIVATIONS or not stated.startswith("torch.nn."):
        raise _unsupported(root, f"a Dense with the activation {brief(stated)}")
    for key in ("module_input_name", "module_output_name"):
        if settings.get(key) not in (None, "sentence_embedding"):
            raise _unsupported(root, f"a Dense whose {key} is {brief(settings[key])}")
    return partial(_linear, ACTIVATIONS[name])


def _linear(activation: Callable[[Tensor], Tensor], x: Tensor, weights: State) -> Tensor:
    return activation(functional.linear(x, weights["linear.weight"], weights.get("linear.bias")))


def _layer_norm(root: Path, settings: Mapping[str, Any]) -> Apply:
    return lambda x, w: functional.layer_norm(x, (x.shape[-1],), w["norm.weight"], w["norm.bias"])


def _normalize(root: Path, settings: Mapping[str, Any]) -> Apply:
    return lambda x, w: functional.normalize(x, dim=-1)


STEPS: Mapping[str, Callable[[Path, Mapping[str, Any]], Apply]] = {
    "Dense": _dense,
    "LayerNorm": _layer_norm,
    "Normalize": _normalize,
}
"""Modules after the pooling that can be run, by kind."""


def _of_texts(root: Path, backbone: str, after: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is done to texts before they are cut into tokens."""
    whole = _read(root / SETTINGS)
    places = [root / backbone, root]
    files = [file for place in places for file in sorted(place.glob("sentence_*_config.json"))]
    stated = next(filter(None, map(_read, files)), {})
    default = whole.get("default_prompt_name")
    prompts = whole.get("prompts") or {}
    prompt = str(prompts.get(default) or "") if default else ""
    if prompt and any(settings.get("include_prompt") is False for settings in after):
        raise _unsupported(root, "a Pooling that leaves out the prompt")
    named = ", ".join(name for name, text in prompts.items() if text and name != default)
    return {
        "prompt": prompt,
        "lower": bool(stated.get("do_lower_case")),
        "most_tokens": stated.get("max_seq_length"),
        "note": f"no prompt is put before texts (the model has {named})" if named else "",
    }


def _settings(root: Path, module: ModuleFolder) -> Mapping[str, Any]:
    return _read(root / module.path / "config.json") if module.is_apart else {}


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _unsupported(root: Path, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{what} cannot be run here",
        where=str(root),
        remedy="from Python, measure with a FunctionObjective of sentence-transformers",
    )
