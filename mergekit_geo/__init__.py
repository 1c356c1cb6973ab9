"""Merge neural-network checkpoints with evidence.

>>> import mergekit_geo as geo
>>> geo.soup.__name__
'soup'

The public names are imported when they are first used: `import mergekit_geo` loads no torch.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mergekit_geo.connectivity.settings import Fitting as Fitting
    from mergekit_geo.curvature.levels import Radii as Radii
    from mergekit_geo.errors import GeoError as GeoError
    from mergekit_geo.landscapes.settings import View as View
    from mergekit_geo.live.settings import Compute as Compute
    from mergekit_geo.merging.settings import Output as Output
    from mergekit_geo.objectives.objective import FunctionObjective as FunctionObjective
    from mergekit_geo.objectives.settings import EvalData as EvalData
    from mergekit_geo.recipes.run import run as run
    from mergekit_geo.reports.reading import read_report as read_report
    from mergekit_geo.training.hyperparameters import Training as Training
    from mergekit_geo.training.sam import Sam as Sam
    from mergekit_geo.training.settings import SamArguments as SamArguments
    from mergekit_geo.training.summary import SamSummary as SamSummary
    from mergekit_geo.training.trainer import SamMixin as SamMixin
    from mergekit_geo.training.trainer import SamTrainer as SamTrainer
    from mergekit_geo.workflows.barrier import BarrierResult as BarrierResult
    from mergekit_geo.workflows.barrier import barrier as barrier
    from mergekit_geo.workflows.check import CheckResult as CheckResult
    from mergekit_geo.workflows.check import check as check
    from mergekit_geo.workflows.choosing import Choosing as Choosing
    from mergekit_geo.workflows.finetune import FinetuneResult as FinetuneResult
    from mergekit_geo.workflows.finetune import finetune as finetune
    from mergekit_geo.workflows.landscape import LandscapeResult as LandscapeResult
    from mergekit_geo.workflows.landscape import landscape as landscape
    from mergekit_geo.workflows.path import PathResult as PathResult
    from mergekit_geo.workflows.path import fit_path as fit_path
    from mergekit_geo.workflows.point import point as point
    from mergekit_geo.workflows.push import PushResult as PushResult
    from mergekit_geo.workflows.push import push as push
    from mergekit_geo.workflows.result import MergeResult as MergeResult
    from mergekit_geo.workflows.sharpness import SharpnessResult as SharpnessResult
    from mergekit_geo.workflows.sharpness import sharpness as sharpness
    from mergekit_geo.workflows.slerp import slerp as slerp
    from mergekit_geo.workflows.soup import soup as soup
    from mergekit_geo.workflows.soup_callback import SoupCallback as SoupCallback

_HOMES = {
    "BarrierResult": "workflows.barrier",
    "CheckResult": "workflows.check",
    "Choosing": "workflows.choosing",
    "Compute": "live.settings",
    "EvalData": "objectives.settings",
    "FinetuneResult": "workflows.finetune",
    "Fitting": "connectivity.settings",
    "FunctionObjective": "objectives.objective",
    "GeoError": "errors",
    "LandscapeResult": "workflows.landscape",
    "MergeResult": "workflows.result",
    "Output": "merging.settings",
    "PathResult": "workflows.path",
    "PushResult": "workflows.push",
    "Radii": "curvature.levels",
    "Sam": "training.sam",
    "SamArguments": "training.settings",
    "SamMixin": "training.trainer",
    "SamSummary": "training.summary",
    "SamTrainer": "training.trainer",
    "SharpnessResult": "workflows.sharpness",
    "SoupCallback": "workflows.soup_callback",
    "View": "landscapes.settings",
    "Training": "training.hyperparameters",
    "barrier": "workflows.barrier",
    "check": "workflows.check",
    "finetune": "workflows.finetune",
    "fit_path": "workflows.path",
    "landscape": "workflows.landscape",
    "point": "workflows.point",
    "push": "workflows.push",
    "read_report": "reports.reading",
    "run": "recipes.run",
    "sharpness": "workflows.sharpness",
    "slerp": "workflows.slerp",
    "soup": "workflows.soup",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
