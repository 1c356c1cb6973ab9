"""The script that compares with mergekit: its recipes are recipes, and its measure measures."""

import json
from pathlib import Path

import numpy as np
import torch

import mergekit_geo as geo
from benchmarks import parity
from mergekit_geo.merging.methods import METHODS
from mergekit_geo.recipes.inputs import inputs_of
from mergekit_geo.recipes.reading import read_recipe


def test_every_method_that_mergekit_has_is_compared() -> None:
    ours = {"greedy", "learned", "along", "geometric_median"}
    ours |= {
        "wise-ft",
        "tsv",
        "iso_c",
        "iso_cts",
        "knots",
        "wudi",
        "adamerging",
        "fisher",
        "uncertainty",
        "regmean",
        "regmean_plus",
    }
    assert parity.METHODS.keys() == METHODS.keys() - ours


def test_its_recipes_are_recipes() -> None:
    for seed in range(5):
        settings = parity.Settings(seed, Path("models"))
        for method in parity.METHODS:
            said = settings.recipe(method, "float64")
            found = inputs_of(read_recipe(json.loads(json.dumps(said))))
            assert (found.name, found.warnings) == (method, ())


def test_units_in_the_last_place(tmp_path: Path) -> None:
    """Neighbours are one apart, on both sides of zero too."""
    values = torch.tensor([1.0, -1.0, 0.0, 256.0, 2.0**-130]).bfloat16()
    steps = torch.tensor([1, -1, 0, 3, -1], dtype=torch.int16)
    others = (values.view(torch.int16) + steps).view(torch.bfloat16)
    tiny = torch.finfo(torch.bfloat16).smallest_normal * 2**-7
    others[2] = -tiny
    for name, tensor in (("ours", values), ("theirs", others)):
        output = geo.OutputConfig(fsync=False)
        geo.soup([{"w": tensor}], tmp_path / name, data=None, output=output, sharpness="off")
    found = np.concatenate([*parity.units_apart(tmp_path / "ours", tmp_path / "theirs")])
    assert found.tolist() == [1, 1, 1, 3, 1]
