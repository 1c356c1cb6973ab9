"""One step in a process of its own, and what it left behind, without what differs every time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import yaml

SECONDS = 300
"""After so long a step counts as hung."""
PLAIN = (".json", ".md", ".csv", ".html", ".txt", ".yml", ".yaml", ".jinja", ".jsonl")
NOT_OURS = {"models", ".cache", "stdout", "stderr"}

TIMES = {
    "started": "the time of day",
    "seconds": "how long it took",
    "versions": "of the libraries",
    "free": "bytes free on the disk",
    "commit": "of an upload, whose report tells the time",
    "result.size": "bytes of an upload, whose report tells the time",
    "pushed.size": "bytes of an upload, whose report tells the time",
    "identity.model": "of a fine-tuned base: its files' times and place",
}
"""Keys, or keys in a key, whose values are left out, and what they say."""

ALIKE = (
    (r"http://127\.0\.0\.1:\d+", "HUB"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?", "DATE"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\b\d+(\.\d+)? (ms|s|min|minutes?|seconds?|h|hours?)\b", "TIME"),
    (r"\b\d+(\.\d+)? ?[kMGT]?B/s", "SPEED"),
    (r"\b\d+(\.\d+)? [kMGT]?B free", "SIZE free"),
    (r"\bcommit [0-9a-f]{40}\b", "commit SHA"),
    (r"(\.cache/mergekit_geo/)[0-9a-f]{32}\b", r"\1KEY"),  # of the inputs' times and place
    (r"(?m)^.*: \d+%, .* so far$", ""),  # said after so many seconds
)
"""Texts that say when, how fast or where, and what stands for them."""


def run(step: str, here: Path) -> dict[str, Any]:
    """Exit code and output of a step, run in a child of this process."""
    child = os.fork()
    if child == 0:
        _child(step)
    status = os.waitpid(child, 0)[1]
    out, err = (Path(name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "stdout": parsed(out, here) if out.lstrip().startswith("{") else lines(out, here),
        "stderr": lines(err, here),
    }


def _child(step: str) -> None:
    code: object = 1
    try:
        signal.alarm(SECONDS)
        _redirect()
        if step.startswith("python:"):
            _call(step.removeprefix("python:").strip())
            code = 0
        else:
            from mergekit_geo.cli.app import main

            sys.argv = ["geo-merge", *shlex.split(step)]
            main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def _redirect() -> None:
    """Standard streams become files of this folder, for all that writes to them."""
    for number, name in enumerate(("/dev/null", "stdout", "stderr")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115


def _call(code: str) -> None:
    import mergekit_geo as geo

    data = {
        "text": geo.EvalData("models/held.txt", seq_len=32, batch_size=16),
        "digits": geo.EvalData("models/held.jsonl", batch_size=40, max_examples=40),
    }
    try:
        exec(code, {"geo": geo, "show": _show, **data})
    except geo.GeoError as error:
        print(f"{type(error).__name__}: {error}")


def _show(result: Any) -> None:
    """Print a report, and the digest of what is kept in memory.

    The tensors of a merge in memory are recorded as threads finish them: the order of the layers,
    and with it the last digit of sums over them, differs from run to run.
    """
    report = json.loads(result.report.to_json())
    state = getattr(result, "state", None)
    if state:
        report["result"]["geometry"] = "IN THE ORDER OF THREADS"
    digest = hashlib.sha256()
    for name, tensor in sorted((state or {}).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).numpy().tobytes())
    print(json.dumps({"report": report, "state": digest.hexdigest() if state else None}))


def left_behind(here: Path) -> dict[str, Any]:
    """Every file that the steps wrote: what it says, or its SHA-256."""
    found = {}
    for path in sorted(here.rglob("*")):
        name = path.relative_to(here)
        if path.is_file() and name.parts[0] not in NOT_OURS:
            found[name.as_posix()] = _content(path, here)
    return found


def _content(path: Path, here: Path) -> Any:
    if path.suffix not in PLAIN or path.name == "tokenizer.json":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return parsed(text, here)
    if path.suffix in (".yml", ".yaml"):
        return timeless(yaml.safe_load(text), here)
    if path.suffix == ".html":
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", "\n", text, flags=re.DOTALL)
    return lines(text, here)


def parsed(text: str, here: Path) -> Any:
    """JSON without what differs every time; as lines where it is none."""
    try:
        return timeless(json.loads(text), here)
    except ValueError:
        return lines(text, here)


def timeless(value: Any, here: Path, within: str = "") -> Any:
    """A tree of JSON without what differs every time."""
    if isinstance(value, dict):
        return {
            alike(key, here): _left_out(within, key) or timeless(entry, here, key)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [timeless(entry, here, within) for entry in value]
    return alike(value, here) if isinstance(value, str) else value


def _left_out(within: str, key: str) -> str:
    return TIMES.get(key, TIMES.get(f"{within}.{key}", "")).upper()


def lines(text: str, here: Path) -> list[str]:
    """The lines of a text, without blanks at their ends."""
    return [line.rstrip() for line in alike(text, here).splitlines() if line.strip()]


def alike(text: str, here: Path) -> str:
    """A text without what differs every time."""
    text = text.replace(str(here), "HERE")
    for pattern, name in ALIKE:
        text = re.sub(pattern, name, text)
    return text
