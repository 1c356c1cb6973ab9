"""Paths that are fitted because a command asks for a point of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mergekit_geo.config.training import CurveFitConfig
from mergekit_geo.specs.measures import PathSpec

if TYPE_CHECKING:
    from mergekit_geo.checkpoints.reference import Model
    from mergekit_geo.connectivity.paths import ModelPath
    from mergekit_geo.specs.spec import Measuring


def fitting_to(
    models: Sequence[Model], asked: Measuring, fitting: CurveFitConfig, *, seed: int
) -> Callable[[str], ModelPath] | None:
    """Fits a path of a kind between models; None where there is nothing to fit it to."""
    if asked.train_data is None:
        return None

    def fit(kind: str) -> ModelPath:
        from mergekit_geo.commands.path import fitted_route

        how = replace(fitting, kind=kind)
        return fitted_route(
            PathSpec(
                models, fitting=how, seed=seed, train_data=asked.train_data, data=asked.data,
                compute=asked.compute, progress=asked.told,
            )
        )  # fmt: skip

    return fit
