"""The package's face: exported names, lazy imports, versions, help."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import mergekit_geo

EXPORTED = [
    "BarrierResult", "CheckResult", "Choosing", "Compute", "EvalData", "FinetuneResult",
    "Fitting", "FunctionObjective", "GeoError", "LandscapeResult", "MergeResult", "Output",
    "PathResult", "PushResult", "Radii", "Sam", "SamArguments", "SamMixin", "SamSummary",
    "SamTrainer", "SharpnessResult", "SoupCallback", "Training", "View", "barrier", "check",
    "finetune", "fit_path", "landscape", "point", "push", "read_report", "run", "sharpness",
    "slerp", "soup",
]  # fmt: skip


def test_exported_names() -> None:
    assert sorted(mergekit_geo.__all__) == EXPORTED
    assert all(getattr(mergekit_geo, name) is not None for name in EXPORTED)
    assert set(EXPORTED) <= set(dir(mergekit_geo))


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'soups'"):
        _ = mergekit_geo.soups  # type: ignore[attr-defined]


def test_version_is_the_distribution_s() -> None:
    assert mergekit_geo.__version__ == version("mergekit_geo")


@pytest.mark.parametrize(
    "code",
    [
        "import mergekit_geo",
        "import mergekit_geo.cli.app",
        "import mergekit_geo as g; g.EvalData(); g.SamArguments()",
    ],
)
def test_import_loads_no_torch(code: str) -> None:
    heavy = ["torch", "transformers", "numpy", "scipy", "huggingface_hub", "pydantic"]
    tail = f"; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
