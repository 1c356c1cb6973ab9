"""The package's face: exported names, lazy imports, versions, help."""

import subprocess
import sys
from importlib.metadata import version

import pytest
import torch

import mergekit_geo

EXPORTED = [
    "AimConfig", "Compute", "CurveFitConfig", "EscapeConfig", "EvalData", "FunctionObjective",
    "GeoError", "LandscapeConfig", "OutputConfig", "Progress", "ReshapeConfig", "Result", "Sam",
    "SamArguments", "SamMixin", "SamSummary", "SamTrainer", "SearchAim", "SelectionConfig",
    "SharpnessRadii", "SoupCallback", "TokenSource", "TrainingConfig", "barrier", "check", "errors",
    "escape", "evaluate", "finetune", "fit_path", "landscape", "merge", "point", "push",
    "read_report", "run", "search", "sharpness", "slerp", "soup",
]  # fmt: skip


def test_exported_names() -> None:
    assert sorted(mergekit_geo.__all__) == EXPORTED
    assert all(getattr(mergekit_geo, name) is not None for name in EXPORTED)
    assert set(EXPORTED) <= set(dir(mergekit_geo))


ERRORS = [
    "AntipodalError", "ArgumentError", "ChangedError", "CheckpointError", "DataError",
    "DiskFullError", "FormatError", "GeoError", "HubError", "IncompatibleError", "InternalError",
    "NonFiniteError", "NotFoundError", "OutputError", "OutputExistsError", "PushError",
    "RecipeError", "UnsupportedError",
]  # fmt: skip


def test_errors_are_a_public_name_before_anything_else_is_imported() -> None:
    ours = f"all(issubclass(getattr(geo.errors, name), geo.GeoError) for name in {ERRORS})"
    code = f"import mergekit_geo as geo; print({ours})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
    found = [n for n, kind in vars(mergekit_geo.errors).items() if isinstance(kind, type)]
    assert sorted(n for n in found if n.endswith("Error")) == ERRORS


def test_progress_is_what_a_caller_implements() -> None:
    said: list[str] = []

    class Mine:
        def phase(self, title: str, total: int) -> None:
            said.append(title)

        def advance(self, count: int) -> None:
            pass

        def say(self, text: str) -> None:
            said.append(text)

    mine: mergekit_geo.Progress = Mine()
    state = {"w": torch.ones(2)}
    mergekit_geo.soup([state, state], data=None, progress=mine)
    assert said[-1] == "merging"


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'soups'"):
        _ = mergekit_geo.soups  # type: ignore[attr-defined]


@pytest.mark.parametrize(("old", "new"), mergekit_geo._RENAMED.items())
def test_a_renamed_thing_is_found_by_its_old_name_with_a_warning(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{old} is called mergekit_geo.{new}") as told:
        assert getattr(mergekit_geo, old) is getattr(mergekit_geo, new)
    assert told[0].filename == __file__
    assert old not in dir(mergekit_geo)


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
