"""Weigh a push: peak resident memory of `geo-merge push` with an output of many gigabytes.

Usage:
    python benchmarks/push.py                 # 8 GB in two shards
    python benchmarks/push.py --size 1        # GB
    python benchmarks/push.py --work DIR      # where the sparse files lie

Makes an output whose shards are sparse files: they are read as zeros and take no disk. A
Hub on the loopback, that of the tests, hashes what arrives, counts it and throws it away. Each push
is a process of its own, the command itself, without hf_xet; it tells the peak of its resident
memory (VmHWM of /proc, so Linux only) when it is done. Three pushes: each shard as one request,
each in parts of 500 MB as the Hub has it with large files, and once more when all has arrived,
which reads and compares alone.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import mergekit_geo as geo
from benchmarks import harness
from benchmarks.harness import ROOT
from tests.checkpoints.hub_server import serve_hub
from tests.checkpoints.hub_store import Hub, Token

GB, MB = 10**9, 10**6
SHARDS = 2
PART = 500 * MB
MOST = 600
"""MB that a push may take."""

TOKEN = "hf_bench"
CHILD = """
import re
from pathlib import Path
from mergekit_geo.cli.app import main
try:
    main()
finally:
    print("PEAK", re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def make_output(folder: Path, size: int) -> None:
    """An output of `size` bytes in sparse shards."""
    output = geo.OutputConfig(fsync=False)
    geo.soup([{"w": torch.ones(1)}], folder, data=None, output=output, sharpness="off")
    (folder / "model.safetensors").unlink()
    names = [f"model-{i + 1:05}-of-{SHARDS:05}.safetensors" for i in range(SHARDS)]
    tensors = [f"model.layers.{i}.weight" for i in range(SHARDS)]
    for name, tensor in zip(names, tensors, strict=True):
        make_shard(folder / name, tensor, size // SHARDS)
    weight_map = dict(zip(tensors, names, strict=True))
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "merge.json").write_text(json.dumps({"tensors": {tensor: {} for tensor in tensors}}))


def make_shard(path: Path, tensor: str, size: int) -> None:
    """One tensor of bfloat16 zeros that are not on the disk."""
    info = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size // 2 * 2]}
    header = json.dumps({tensor: info}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size // 2 * 2)


def push(hub: Hub, folder: Path, repo: str) -> tuple[float, float, float]:
    """Seconds, peak resident MB, and GB that were sent."""
    before, began = hub.received().total(), time.perf_counter()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder.parent / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "push", str(folder), repo, "--quiet"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    peak = int(done.stdout.rpartition("PEAK ")[2]) * 1024 / MB
    return seconds, peak, (hub.received().total() - before) / GB


def main() -> None:
    """Make the output, push it three times, and print the table."""
    parser = harness.parser(__doc__)
    parser.add_argument("--size", type=float, default=8.0, help="GB")
    parser.add_argument("--work", type=Path, help="folder to make a folder in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work) as work, serve_hub() as hub:
        out = Path(work) / "out"
        make_output(out, int(arguments.size * GB))
        hub.tokens[TOKEN] = Token()
        rows = [("one request a shard", push(hub, out, "org/whole"))]
        hub.part_size, arrived = PART, dict(hub.objects)
        hub.objects.clear()
        rows.append(("parts of 500 MB", push(hub, out, "org/parts")))
        hub.objects.update(arrived)
        rows.append(("once more, nothing new", push(hub, out, "org/parts")))
    harness.table(
        [f"push of {arguments.size:g} GB", "s", "peak RSS MB", "sent GB"],
        [
            [name, f"{seconds:.1f}", f"{peak:.0f}", f"{sent:.2f}"]
            for name, (seconds, peak, sent) in rows
        ],
    )
    worst = max(peak for _, (_, peak, _) in rows)
    print(f"peak {worst:.0f} MB, {'within' if worst < MOST else 'ABOVE'} {MOST} MB")


if __name__ == "__main__":
    main()
