"""Merge neural-network checkpoints with evidence.

>>> import mergekit_geo as geo
>>> geo.soup.__name__
'soup'

The public names are imported when they are first used: `import mergekit_geo` loads no torch.
"""

from __future__ import annotations

from importlib import import_module as _import_module
from warnings import warn as _warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mergekit_geo import errors as errors
    from mergekit_geo.commands.barrier import barrier as barrier
    from mergekit_geo.commands.callback import SoupCallback as SoupCallback
    from mergekit_geo.commands.check import check as check
    from mergekit_geo.commands.escape import escape as escape
    from mergekit_geo.commands.evaluate import evaluate as evaluate
    from mergekit_geo.commands.finetune import finetune as finetune
    from mergekit_geo.commands.landscape import landscape as landscape
    from mergekit_geo.commands.merge import merge as merge
    from mergekit_geo.commands.path import fit_path as fit_path
    from mergekit_geo.commands.point import point as point
    from mergekit_geo.commands.push import push as push
    from mergekit_geo.commands.result import Result as Result
    from mergekit_geo.commands.sharpness import sharpness as sharpness
    from mergekit_geo.commands.slerp import slerp as slerp
    from mergekit_geo.commands.soup import soup as soup
    from mergekit_geo.config.aim import AimConfig as AimConfig
    from mergekit_geo.config.aim import SearchAim as SearchAim
    from mergekit_geo.config.data import EvalData as EvalData
    from mergekit_geo.config.escape import EscapeConfig as EscapeConfig
    from mergekit_geo.config.measures import Compute as Compute
    from mergekit_geo.config.measures import LandscapeConfig as LandscapeConfig
    from mergekit_geo.config.measures import SharpnessRadii as SharpnessRadii
    from mergekit_geo.config.output import OutputConfig as OutputConfig
    from mergekit_geo.config.reshape import ReshapeConfig as ReshapeConfig
    from mergekit_geo.config.reshape import TokenSource as TokenSource
    from mergekit_geo.config.selection import SelectionConfig as SelectionConfig
    from mergekit_geo.config.training import CurveFitConfig as CurveFitConfig
    from mergekit_geo.config.training import SamArguments as SamArguments
    from mergekit_geo.config.training import TrainingConfig as TrainingConfig
    from mergekit_geo.errors import GeoError as GeoError
    from mergekit_geo.evaluation.objective import FunctionObjective as FunctionObjective
    from mergekit_geo.progress import Progress as Progress
    from mergekit_geo.recipes.run import run as run
    from mergekit_geo.records.report import read_report as read_report
    from mergekit_geo.searches.run import search as search
    from mergekit_geo.training.sam import Sam as Sam
    from mergekit_geo.training.summary import SamSummary as SamSummary
    from mergekit_geo.training.trainer import SamMixin as SamMixin
    from mergekit_geo.training.trainer import SamTrainer as SamTrainer

_HOMES = {
    "Compute": "config.measures",
    "CurveFitConfig": "config.training",
    "AimConfig": "config.aim",
    "EscapeConfig": "config.escape",
    "EvalData": "config.data",
    "FunctionObjective": "evaluation.objective",
    "GeoError": "errors",
    "LandscapeConfig": "config.measures",
    "OutputConfig": "config.output",
    "Progress": "progress",
    "ReshapeConfig": "config.reshape",
    "Result": "commands.result",
    "Sam": "training.sam",
    "SamArguments": "config.training",
    "SamMixin": "training.trainer",
    "SamSummary": "training.summary",
    "SamTrainer": "training.trainer",
    "SearchAim": "config.aim",
    "SelectionConfig": "config.selection",
    "SharpnessRadii": "config.measures",
    "SoupCallback": "commands.callback",
    "TokenSource": "config.reshape",
    "TrainingConfig": "config.training",
    "barrier": "commands.barrier",
    "check": "commands.check",
    "escape": "commands.escape",
    "evaluate": "commands.evaluate",
    "finetune": "commands.finetune",
    "fit_path": "commands.path",
    "landscape": "commands.landscape",
    "merge": "commands.merge",
    "point": "commands.point",
    "push": "commands.push",
    "read_report": "records.report",
    "run": "recipes.run",
    "search": "searches.run",
    "sharpness": "commands.sharpness",
    "slerp": "commands.slerp",
    "soup": "commands.soup",
}

_RENAMED = {
    "BarrierResult": "Result",
    "CheckResult": "Result",
    "Choosing": "SelectionConfig",
    "FinetuneResult": "Result",
    "Fitting": "CurveFitConfig",
    "LandscapeResult": "Result",
    "MergeResult": "Result",
    "Output": "OutputConfig",
    "PathResult": "Result",
    "PushResult": "Result",
    "Radii": "SharpnessRadii",
    "SharpnessResult": "Result",
    "Training": "TrainingConfig",
    "View": "LandscapeConfig",
}
"""Names of earlier versions, importable for one version more, to the names of today."""

__all__ = sorted([*_HOMES, "errors"])  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        return _renamed(name, _RENAMED[name])
    if name == "errors":
        return _import_module(f"{__name__}.errors")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def _renamed(old: str, new: str) -> object:
    """What a name of an earlier version means today; the user is told at every use."""
    text = (
        f"mergekit_geo.{old} is called mergekit_geo.{new}; the old name goes with the next version"
    )
    _warn(text, DeprecationWarning, stacklevel=3)
    return __getattr__(new)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
