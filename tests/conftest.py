"""Small real models that several tests share.

The process that hands out the tests imports this file and runs none: torch is imported where it is
used.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parent.parent
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 8,
    "hidden_size": 4,
}

Save = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _calm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two test processes share two cores; nothing is kept in the user's cache."""
    import torch

    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="module", autouse=True)
def _little_to_collect() -> None:
    """What is there stays: a `gc.collect()` at a training's end takes 0.3 s to look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _few_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pictures, a fifth of a second each, are drawn for tests that look at them."""
    with pytest.MonkeyPatch.context() as patch:
        if not _looks_at_pictures(request):
            patch.setattr("mergekit_geo.views.files.draw", lambda *_: None)
        yield


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is marked `pictures` in a module that is not."""
    if request.node.get_closest_marker("pictures") is not None:
        from mergekit_geo.views.matplotlib_.draw import save

        monkeypatch.setattr("mergekit_geo.views.files.draw", save)


def _looks_at_pictures(request: pytest.FixtureRequest) -> bool:
    marked = request.node.get_closest_marker("pictures") is not None
    return marked or request.path.parent.name == "views"


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a checkpoint folder of the given tensors."""
    from safetensors.torch import save_file

    from tests.models import random_state

    def write(
        name: str,
        state: Mapping[str, Tensor] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tensors = dict(random_state(name) if state is None else state)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps({**LLAMA, **(config or {})}))
        return folder

    return write


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a briefly trained Llama, three fine-tunes, a stranger: base, a, b, c, ...

    The test processes share it.
    """
    from tests.models import make_family

    return made_once(tmp_path_factory, "family", make_family)


def made_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """A folder that the first test process to ask for it fills; the others wait."""
    from filelock import FileLock

    folder = tmp_path_factory.getbasetemp() / name
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent.parent / name
    done = folder.with_suffix(".done")
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def small(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, a, b, c: of the family's vocabulary and a tenth of its size."""
    from tests.models import save_untrained

    return save_untrained(family, tmp_path_factory.mktemp("small"), layers=1)


@pytest.fixture(scope="session")
def deep(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of four layers."""
    from tests.models import save_untrained

    return save_untrained(family, tmp_path_factory.mktemp("deep"), layers=4)


@pytest.fixture(scope="session")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model before its training, `start`, and run/checkpoint-4 to 20."""
    from tests.commands.trainings import make_run

    return made_once(tmp_path_factory, "training", make_run)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def geo_merge(tmp_path: Path) -> Run:
    """Run the command in a process of its own, in an empty folder."""
    from tests.forks import FORKS

    return lambda *arguments: FORKS(
        ["-m", "mergekit_geo", *map(str, arguments)], tmp_path, os.environ
    )
