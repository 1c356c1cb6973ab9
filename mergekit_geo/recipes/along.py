"""The key `along`: a path between models, how it is fitted, and which of its points is taken."""

from __future__ import annotations

from typing import Any, Self

from pydantic import model_validator

from mergekit_geo.config.keys import keyed
from mergekit_geo.config.selection import SelectionConfig
from mergekit_geo.config.training import FITTED, CurveFitConfig
from mergekit_geo.errors import ArgumentError
from mergekit_geo.specs.measures import PathSpec

CHOICE = ("pick", "sweep", "average_points", "tolerance", "control")
OWN = ("kind", "train_data", *CHOICE)

_Choice: Any = keyed(SelectionConfig, only=CHOICE)
_Fit: Any = keyed(CurveFitConfig, leave=("kind",))
_Command: Any = keyed(PathSpec, only=("train_data", "seed"), stated=False)


class AlongKeys(_Choice, _Fit, _Command):  # type: ignore[misc]
    """A path between models, and which of its points is taken; named as the flags are.

    Training data is read as the objective is, but from the split that is for training; the seed is
    the recipe's if None.

    Attributes:
        kind: `linear`, `slerp`, `bezier`, `polygon`, `neb`, or the folder of a fitted path.
    """

    kind: str

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        self.choosing()
        self.fitting()
        idle = sorted(self.model_fields_set.difference(OWN))
        if idle and self.kind not in FITTED:
            fitted = ", ".join(FITTED)
            raise ArgumentError(
                f"{idle[0]} is of a fit, and {self.kind} is not fitted",
                remedy=f"leave it out, or fit one: kind {fitted}",
            )
        return self

    def choosing(self) -> SelectionConfig:
        """How the point is chosen."""
        keys = {name: getattr(self, name) for name in CHOICE}
        return SelectionConfig(along=self.kind, **keys)

    def fitting(self) -> CurveFitConfig:
        """How the path is fitted, where it is."""
        kind = self.kind if self.kind in FITTED else FITTED[0]
        found: CurveFitConfig = self.settings(CurveFitConfig, kind=kind)
        return found
