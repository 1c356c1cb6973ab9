"""The golden guard: commands on small real models give what they gave before.

    python benchmarks/golden.py keep DIR       # train the models once, run, keep DIR/golden.json
    python benchmarks/golden.py compare DIR    # run again with the code on the path; exit 1 if
                                               # anything differs, and say what
    ... [--only CASE] [--ignore words] [--ignore pictures] [--jobs 2] [--all]

The first `keep` trains the models, which takes half a minute; a run takes about 100 s of one core.

What is kept of a command: its exit code, stdout and stderr; of every file it leaves behind: the
JSON or text in it, or its SHA-256. Times, versions, speeds and folders are left out (`TIMES` and
`ALIKE` in `golden_steps`). With `--ignore words` texts and the names of settings may differ, while
weights, exit codes, files, keys and numbers may not. The code is the `mergekit_geo` that Python
finds, so PYTHONPATH decides: a baseline of an older commit is made by this script with PYTHONPATH
at a work tree of that commit (and its kernel built, or copied). Numbers are those of one kind of
CPU: keep and compare on the same machine.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import pkgutil
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last: PYTHONPATH says whose code is run
os.environ |= {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1", "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", "TZ": "UTC",
    "PYTHONWARNINGS": "ignore", "MPLBACKEND": "agg", "HF_TOKEN": "hf_golden_owner",
}  # fmt: skip

import golden_models  # noqa: E402
import golden_steps  # noqa: E402
from golden_cases import CASES, RECIPES  # noqa: E402
from golden_difference import Leniency, differences  # noqa: E402

SHOWN = 12
"""Differences of a case that are printed without `--all`."""

Found = dict[str, Any]


def main() -> int:
    """Keep, or compare."""
    given = parse()
    folder = given.dir.resolve()
    golden = folder / "golden.json"
    if given.action == "compare" and not golden.exists():
        sys.exit(f"golden: {golden} is not there; make it first: golden.py keep {given.dir}")
    folder.mkdir(parents=True, exist_ok=True)
    in_child(lambda: golden_models.make(folder / "models"))
    names = [name for name in CASES if not given.only or name in given.only]
    kept = json.loads(golden.read_text()) if golden.exists() else {}
    lenient = Leniency("words" in given.ignore, "pictures" in given.ignore)
    began, bad = time.monotonic(), 0
    print(f"code: {code_folder()}", flush=True)
    for name, seconds, found in run(folder, names, given.jobs):
        if given.action == "keep":
            kept[name] = found
            print(f"{name:20} {seconds:6.1f} s", flush=True)
        else:
            bad += tell(name, seconds, kept.get(name), found, lenient, whole=given.all)
    print(f"{len(names)} cases in {time.monotonic() - began:.0f} s", flush=True)
    if given.action == "keep":
        kept["machine"] = machine()
        golden.write_text(json.dumps(kept, indent=1, sort_keys=True))
    elif kept.get("machine") != machine():
        print(f"note: kept with {kept.get('machine')}, compared with {machine()}")
    return int(bad > 0)


def tell(
    name: str, seconds: float, old: Found | None, new: Found, lenient: Leniency, *, whole: bool
) -> bool:
    """Print what differs in a case, and say whether anything does."""
    if old is None:
        print(f"{name:20} {seconds:6.1f} s  NEW: nothing kept to compare with", flush=True)
        return True
    found = list(differences(old, new, lenient))
    grave = list(differences(old, new, Leniency(words=True, pictures=True)))
    told = f"{len(found)} DIFFER, {len(grave)} in more than words and pictures" if found else "OK"
    print(f"{name:20} {seconds:6.1f} s  {told}", flush=True)
    ordered = [*grave, *(line for line in found if line not in grave)]
    for line in ordered if whole else ordered[:SHOWN]:
        print(f"    {line}")
    if len(found) > SHOWN and not whole:
        print(f"    ... and {len(found) - SHOWN} more (--all)")
    return bool(found)


def run(folder: Path, names: list[str], jobs: int) -> Iterator[tuple[str, float, Found]]:
    """The cases, so many at a time, each a child of this process that has imported the libraries.

    They run in a folder of this run's own: several runs may share DIR.
    """
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        work = Path(place).resolve()
        os.environ["HF_HOME"] = str(work / "home")
        with hub(folder / "models", work / "store") as endpoint:
            os.environ |= {"HF_ENDPOINT": endpoint, "MPLCONFIGDIR": str(pictures(work))}
            warm()
            waiting = list(names)
            running: dict[int, tuple[str, float]] = {}
            while waiting or running:
                while waiting and len(running) < jobs:
                    name = waiting.pop(0)
                    running[start(name, folder, work)] = name, time.monotonic()
                child, status = os.wait()
                if child not in running:
                    continue
                name, began = running.pop(child)
                if status:
                    sys.exit(f"golden: the process of {name} failed; this is a fault of the script")
                yield (
                    name,
                    time.monotonic() - began,
                    json.loads((work / f"{name}.json").read_text()),
                )
                shutil.rmtree(work / name)


def start(name: str, folder: Path, work: Path) -> int:
    """Begin a case in a child, and return its process id."""
    sys.stdout.flush()
    if child := os.fork():
        return child
    try:
        here = work / name
        shutil.copytree(folder / "models", here / "models")
        os.chdir(here)
        os.environ |= {"XDG_CACHE_HOME": str(here / ".cache"), "HOME": str(here / ".cache")}
        for recipe, text in RECIPES.items():
            Path(f"{recipe}.yml").write_text(text)
        steps = {step: golden_steps.run(step, here) for step in CASES[name]}
        for recipe in RECIPES:
            Path(f"{recipe}.yml").unlink()
        found = {"steps": steps, "files": golden_steps.left_behind(here)}
        (work / f"{name}.json").write_text(json.dumps(found))
        os._exit(0)
    finally:  # never back into the parent's loop
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def warm() -> None:
    """Import what most commands import; nothing is run, so that children may be forked."""
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import plotly.graph_objects  # noqa: F401
    import torch
    import transformers

    import mergekit_geo

    for name in ("Llama", "ViT", "ResNet"):
        getattr(transformers, f"{name}PreTrainedModel")
    for module in pkgutil.walk_packages(mergekit_geo.__path__, "mergekit_geo."):
        if not module.name.endswith(("__main__", "._kernel")):
            importlib.import_module(module.name)
    torch.set_num_threads(1)
    gc.freeze()  # what is never collected is never copied to a child


def pictures(work: Path) -> Path:
    """Settings of matplotlib by which the same figure is the same SVG."""
    folder = work / "matplotlib"
    folder.mkdir()
    (folder / "matplotlibrc").write_text("svg.hashsalt: golden\n")
    return folder


@contextmanager
def hub(models: Path, store: Path) -> Iterator[str]:
    """A Hub on the loopback that holds `org/a` and `org/b`, in a process of its own."""
    reading, writing = os.pipe()
    stop, stopping = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.close(stopping)
        _serve(models, store, writing, stop)
    os.close(writing)
    os.close(stop)
    try:
        yield os.read(reading, 100).decode()
    finally:
        os.close(stopping)
        os.close(reading)
        os.waitpid(child, 0)


def _serve(models: Path, store: Path, writing: int, stop: int) -> None:
    try:
        from tests.checkpoints.hub_server import serve_hub
        from tests.checkpoints.hub_store import Token

        store.mkdir(parents=True)
        with serve_hub(store) as served:
            served.tokens = {os.environ["HF_TOKEN"]: Token()}
            for name in "ab":
                served.publish(f"org/{name}", models / name)
            os.write(writing, served.endpoint.encode())
            os.read(stop, 1)  # until the other end is closed
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def in_child(work: Any) -> None:
    """Do something in a child: what it starts, threads above all, is not in this process then."""
    child = os.fork()
    if child:
        if os.waitpid(child, 0)[1]:
            sys.exit("golden: the models could not be made")
        return
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def code_folder() -> Path:
    """Where the code that is run lies."""
    import mergekit_geo

    return Path(mergekit_geo.__file__).parent


def machine() -> Mapping[str, str]:
    """What numbers depend on, besides the code."""
    from importlib.metadata import version

    kernel = list((code_folder() / "merging").glob("_kernel*"))
    told = Path("/proc/cpuinfo")
    models = (
        [line for line in told.read_text().splitlines() if "model name" in line]
        if told.exists()
        else []
    )
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "kernel": "built" if kernel else "not built",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "numpy", "scipy")},
    }


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="Commands give what they gave before.")
    parser.add_argument("action", choices=("keep", "compare"))
    parser.add_argument("dir", type=Path, help="holds models and golden.json")
    parser.add_argument("--only", action="append", choices=list(CASES), help="may be given again")
    parser.add_argument("--ignore", action="append", default=[], choices=("words", "pictures"))
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument("--all", action="store_true", help="print every difference")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
