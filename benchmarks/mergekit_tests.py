"""Run mergekit's own merge tests with `geo-merge run` in the place of its merges.

Usage:
    python benchmarks/mergekit_tests.py OTHER/bin/python CHECKOUT

OTHER is an interpreter with mergekit and pytest, CHECKOUT a clone of mergekit's repository, of
which tests/ is read. First mergekit merges, then mergekit_geo. Where mergekit guesses the names of
a model's tensors from transformers (of LLaVA), the output has to have the names of its input.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = ("test_basic_merges.py", "test_tokenizer.py", "test_chat_template.py")

PLUGIN = """
import subprocess, sys
from pathlib import Path
from types import SimpleNamespace

from mergekit.io.lazy_tensor_loader import ShardedTensorIndex
from tests import common

def merged(config, out_path, options=None):
    Path(out_path).rmdir()
    recipe = Path(out_path + ".yml")
    recipe.write_text(config.to_yaml())
    command = [{python!r}, "-m", "mergekit_geo", "run", str(recipe), "-o", out_path, "--no-eval"]
    done = subprocess.run(command, capture_output=True, text=True)
    Path(out_path).mkdir(exist_ok=True)
    recipe.unlink()
    if done.returncode:
        raise ValueError(done.stderr)

def names(config, options):
    index = ShardedTensorIndex.from_disk(config.models[0].model.model.path)
    found = [SimpleNamespace(name=n, optional=False, aliases=()) for n in index.tensor_paths]
    return SimpleNamespace(all_weights=lambda _: found)

common.run_merge = merged
common.get_architecture_info = names
"""
"""What is put in the place of mergekit's merges, in its own tests."""


def run(python: str, folder: Path, *further: str) -> None:
    """Run the tests, and print how many pass and which do not."""
    command = [python, "-m", "pytest", "-q", *further, *(f"tests/{name}" for name in TESTS)]
    told = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=told, capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if re.match(r"FAILED|ERROR|\d+ (passed|failed)", line):
            print(line)


def main() -> None:
    """Run them by both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", help="An interpreter with mergekit and pytest.")
    parser.add_argument("checkout", type=Path, help="A clone of mergekit's repository.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(given.checkout / "tests", folder / "tests")
        (folder / "by_geo_merge.py").write_text(PLUGIN.format(python=sys.executable))
        print("mergekit:")
        run(given.python, folder)
        print("mergekit_geo:")
        run(given.python, folder, "-p", "by_geo_merge")


if __name__ == "__main__":
    main()
