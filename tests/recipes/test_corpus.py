"""Recipes in the shape of those that people publish, each run on small models.

A recipe's first lines say what it is and where its shape is from; `Refused:` there is what the
error has to match where a recipe must not run.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoConfig

import mergekit_geo as geo
from mergekit_geo.errors import GeoError
from mergekit_geo.modules.load import quiet_transformers
from tests.conftest import ROOT
from tests.recipes.small_models import class_of, furnish

METHODS = (
    "linear", "slerp", "nuslerp", "multislerp", "karcher", "model_stock", "task_arithmetic", "ties",
    "dare_ties", "dare_linear", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties", "sce",
    "passthrough", "arcee_fusion", "nearswap", "ram", "ramplus_tl",
)  # fmt: skip

PENDING: dict[str, tuple[str, ...]] = {}
"""What is not built yet, and the recipes that wait for it."""


@dataclass(frozen=True)
class CorpusRecipe:
    """A recipe and what its first lines say."""

    path: Path
    text: str

    @property
    def source(self) -> str:
        """Where its shape is from."""
        return self._said("Source") or ""

    @property
    def refused(self) -> str | None:
        """What the error matches, where it must not run."""
        return self._said("Refused")

    @property
    def documents(self) -> list[dict[str, object]]:
        """As YAML."""
        return list(yaml.safe_load_all(self.text))

    def _said(self, what: str) -> str | None:
        found = re.search(rf"^# {what}: (.*)$", self.text, re.MULTILINE)
        return found and found[1]


CORPUS = [
    CorpusRecipe(path, path.read_text())
    for path in sorted((Path(__file__).parent / "corpus").glob("*.yml"))
]


def test_the_corpus_is_what_people_publish() -> None:
    kinds = Counter(recipe.path.stem.split("-")[0] for recipe in CORPUS)
    least = {"stack": 14, "tokens": 11, "stages": 9, "modules": 7, "adapter": 6}
    assert all(kinds[kind] >= count for kind, count in least.items()), kinds
    methods = Counter(str(d["merge_method"]) for recipe in CORPUS for d in recipe.documents)
    assert not [method for method in METHODS if methods[method] < 2]
    assert all(len(recipe.documents) > 1 for recipe in CORPUS if "stages-" in recipe.path.stem)
    sourced = [recipe for recipe in CORPUS if not recipe.source.startswith("none")]
    assert all(recipe.source for recipe in CORPUS)
    assert (len(CORPUS), len(sourced)) >= (66, 32)


def test_nearly_all_of_it_runs() -> None:
    """The documentation states the figure."""
    refused = [recipe for recipe in CORPUS if recipe.refused]
    pending = {name for names in PENDING.values() for name in names}
    assert pending <= {recipe.path.stem for recipe in CORPUS}
    assert len(refused) <= 0.05 * len(CORPUS)
    if not pending:
        said = (ROOT / "docs" / "from-mergekit.md").read_text()
        assert f"{len(CORPUS) - len(refused)} of {len(CORPUS)}" in said


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the models of the corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    furnish(folder)
    return folder


def _cases() -> list[object]:
    waits = {name: reason for reason, names in PENDING.items() for name in names}
    return [
        pytest.param(
            recipe,
            id=recipe.path.stem,
            marks=pytest.mark.xfail(strict=True, reason=waits[recipe.path.stem])
            if recipe.path.stem in waits
            else (),
        )
        for recipe in CORPUS
    ]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", _cases())
def test_a_recipe_runs_or_says_why_not(
    recipe: CorpusRecipe, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    out = tmp_path / "out"
    if recipe.refused:
        with pytest.raises(GeoError, match=recipe.refused):
            _run(recipe, out)
        assert not out.exists()
    else:
        _run(recipe, out)
        _loads(out)


def _run(recipe: CorpusRecipe, out: Path) -> None:
    geo.run(recipe.path, out, data=None, output=geo.OutputConfig(fsync=False))


def _loads(out: Path) -> None:
    """Transformers finds all that it expects, and nothing else; what it computes is finite."""
    config = AutoConfig.from_pretrained(out)
    with quiet_transformers():
        model, told = class_of(config).from_pretrained(out, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with safe_open(out / "model.safetensors", "pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118
    ids = torch.arange(2, 10)[None]
    more = {"decoder_input_ids": ids} if config.is_encoder_decoder else {}
    with torch.no_grad():
        assert model.float()(input_ids=ids, **more).logits.isfinite().all()
