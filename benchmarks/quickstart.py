"""How long the quickstart takes to its first table, to its end, and when it is run again.

    bash scripts/setup.sh              # once: installation is not part of it
    python benchmarks/quickstart.py    # --repeats 3

Every repetition trains its family in a folder of its own, with an empty cache. CPU seconds are
those of the script and of all processes it has waited for; it has nothing in the background. A row
is the fastest repetition, by wall time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from harness import ROOT, Cost, empty_cache, met, parser, table, versions, work_offline

FIRST_TABLE = "== the same as a page"
"""Line of the script that follows the first table and its page."""
ASKED = {"first table": (60, 120), "whole run": (180, 360), "second run": (20, 40)}
"""Wall and CPU seconds, of two quiet cores."""
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the table."""
    given = parser(__doc__, repeats=3).parse_args()
    work_offline()
    runs = [_repetition() for _ in range(given.repeats)]
    print(f"\n{versions()}, fastest of {given.repeats}\n")
    table(("", "wall s", "CPU s", "asked", ""), (_row(name, runs) for name in ASKED))


def _row(name: str, runs: list[dict[str, Cost]]) -> tuple[str, ...]:
    best = min((run[name] for run in runs), key=lambda cost: cost.wall)
    wall, cpu = ASKED[name]
    held = met(best.wall <= wall and best.cpu <= cpu)
    return name, f"{best.wall:.1f}", f"{best.cpu:.1f}", f"{wall} / {cpu}", held


def _repetition() -> dict[str, Cost]:
    with empty_cache() as folder:
        os.environ["DEMO"] = str(folder / "demo")
        first, whole = _run()
        _, again = _run()
    return {"first table": first, "whole run": whole, "second run": again}


def _run() -> tuple[Cost, Cost]:
    """Cost up to the first table, and of all."""
    began, first = time.perf_counter(), Cost()
    process = subprocess.Popen(
        ["bash", ROOT / "scripts/quickstart.sh"], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout or ():
        sys.stderr.write(line)
        if line.startswith(FIRST_TABLE):
            first = Cost(time.perf_counter() - began, _children_seconds(process.pid))
    _, status, usage = os.wait4(process.pid, 0)
    if status or not first.wall:
        sys.exit("the quickstart failed, or printed no table")
    return first, Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def _children_seconds(process: int) -> float:
    """CPU seconds of a running process and of the children that it has waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK  # utime, stime, cutime, cstime: proc(5)


if __name__ == "__main__":
    main()
