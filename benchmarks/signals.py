"""Send signals at random moments to a merge, from its first line of code to its last.

    python benchmarks/signals.py [--count 100] [--seed 0] [--megabytes 100]

After each one the exit code is that of the signal, stderr has one line more and no traceback, the
output is whole or not there, and the same command makes the same bytes.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks import harness

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
LINES = {signal.SIGINT: "interrupted: ", signal.SIGTERM: "terminated: ", signal.SIGKILL: ""}
WEIGHTS = "model.safetensors"
LATE = 0.03
"""Some are sent within so many seconds after the output has appeared."""
DONE, EARLY = "done before", "before the first line of the program"


def main() -> None:
    """Send them, and print what came of each kind."""
    parser = harness.parser(__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--megabytes", type=int, default=100)
    said = parser.parse_args()
    draw = random.Random(said.seed)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = merge_of(folder, said.megabytes)
        seconds = whole(command)
        reference = (folder / "out" / WEIGHTS).read_bytes()
        print(f"{seconds:.2f} s without a signal")
        outcomes: Counter[str] = Counter()
        for _ in range(said.count):
            number, after = draw.choice(list(CODES)), moment(draw, seconds)
            outcome = f"{number.name}: {one(command, folder, reference, number, after)}"
            outcomes[outcome] += 1
            if "wrong" in outcome:
                print(f"{outcome} (after {after:.4f} s)")
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4d} {outcome.splitlines()[0]}")
    sys.exit(any("wrong" in outcome for outcome in outcomes))


def moment(draw: random.Random, seconds: float) -> float:
    """When: while the interpreter starts, at any time, or just after the output has appeared."""
    return draw.uniform(*draw.choice([(0, 0.1), (0, seconds), (0, seconds), (-LATE, 0)]))


def merge_of(folder: Path, megabytes: int) -> list[str]:
    """Make two models, and the command that merges them."""
    for seed, name in enumerate("ab"):
        draw = torch.Generator().manual_seed(seed)
        (folder / name).mkdir()
        state = {f"w{i}": torch.randn(1 << 18, generator=draw) for i in range(megabytes)}
        save_file(state, folder / name / WEIGHTS, metadata={"format": "pt"})
    models = [str(folder / name) for name in "ab"]
    program = [sys.executable, "-P", "-m", "mergekit_geo"]
    return [*program, "slerp", *models, "-o", str(folder / "out"), "--no-eval", "--no-fsync"]


def whole(command: list[str]) -> float:
    """Seconds of the command when nothing stops it."""
    return harness.measure(command).wall


def one(
    command: list[str], folder: Path, reference: bytes, number: signal.Signals, after: float
) -> str:
    """What came of one signal."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(folder / "out.partial", ignore_errors=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if after < 0:  # so long after the output appeared
        while not out.exists():
            time.sleep(1e-4)
    time.sleep(abs(after))
    process.send_signal(number)
    sent = time.perf_counter()
    _, stderr = process.communicate(timeout=60)
    waited = time.perf_counter() - sent
    if wrong := judged(process.returncode, stderr, number, waited):
        return f"wrong: {wrong}"
    if not out.exists():
        subprocess.run(command, check=True, capture_output=True)
        again = "stopped, and gone on with"
    else:
        again = DONE if process.returncode == 0 else "stopped when the output was whole"
    if (out / WEIGHTS).read_bytes() != reference:
        return "wrong: other bytes"
    return EARLY if is_early(process.returncode, stderr, number) else again


def is_early(code: int, stderr: str, number: signal.Signals) -> bool:
    """Whether the interpreter itself was still starting."""
    own = code == -number or "Fatal Python error: init" in stderr
    return own and "mergekit_geo" not in stderr and number != signal.SIGKILL


def judged(code: int, stderr: str, number: signal.Signals, waited: float) -> str:
    """What is wrong with an end; empty where nothing is."""
    if code == 0 or is_early(code, stderr, number):
        return ""
    if code != CODES[number]:
        return f"exit code {code}\n{stderr}"
    lines = sum(line.startswith(LINES[number]) for line in stderr.splitlines())
    if number != signal.SIGKILL and (lines != 1 or "Traceback" in stderr):
        return f"stderr\n{stderr}"
    return f"{waited:.1f} s until it ended" if waited > 5 else ""


if __name__ == "__main__":
    main()
