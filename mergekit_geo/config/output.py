"""How and where an output is written, checked where it is said."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from mergekit_geo.config.docstrings import described
from mergekit_geo.config.option import check, option
from mergekit_geo.config.requirement import FORM, Requirement
from mergekit_geo.errors import ArgumentError

DTYPES = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""Output dtypes as torch names them, to the names of the safetensors format."""

PANEL = "Output"
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
NAME = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")


@described
@dataclass(frozen=True)
class OutputConfig:
    """How a merged checkpoint is written.

    Every float tensor has the first model's own dtype where none is named. What is pushed is pushed
    once it is whole on the disk, and only if it holds what is required: `not-worse` asks that
    losses tell that the output is not significantly worse than the best parent of each set;
    `not-worse:code,chat@score` that the task's metric tells so on two of them.

    Raises:
        ArgumentError: No such dtype, no size, no name of a repository, or no requirement.

    Example:
        >>> OutputConfig(dtype="bfloat16", max_shard_size="2GB").stored_dtype
        'BF16'
    """

    dtype: str | None = option(
        None, "Dtype of the output.", panel=PANEL, choices=tuple(DTYPES), unset="the first model's"
    )
    max_shard_size: str = option(
        "5GB", "Largest size of a file of weights, such as 5GB or 500MB.", panel=PANEL,
        metavar="SIZE",
    )  # fmt: skip
    overwrite: bool = option(
        False, "Replace an existing output folder once the new one is complete.", panel=PANEL
    )
    fsync: bool = option(
        True, "Do not wait until the output is on the disk: faster, and unsafe if the power fails.",
        "--no-fsync", panel=PANEL, switches_off=True,
    )  # fmt: skip
    allow_nonfinite: bool = option(
        False, "Merge tensors that hold NaN or infinity, with a warning.", panel=PANEL
    )
    device: str = option("cpu", "Device that tensors are merged on.", "--device", shared=True)
    push_to: str | None = option(
        None, "Push the complete output to this repository on the Hub.", panel=PANEL,
        metavar="REPO", unset="not pushed",
    )  # fmt: skip
    private: bool = option(False, "Make that repository private.", panel=PANEL)
    require: str | None = option(
        None, "Exit with code 3 unless this holds. not-worse: the output is not significantly "
        "worse than the best parent of each set, or of the sets that are named, by the loss or by "
        "the task's metric.", panel=PANEL, metavar=FORM, unset="nothing",
    )  # fmt: skip

    private_examples: bool = option(
        False, "Put SHA-256 hashes in place of the texts of examples, in files, report and page.",
        panel=PANEL,
    )  # fmt: skip

    def __post_init__(self) -> None:
        parse_size(self.max_shard_size)
        check(self)
        _ = self.requirement
        if self.push_to is not None:
            Destination(self.push_to, self.private)
        elif self.private:
            raise ArgumentError(
                "private applies only to a repository that is pushed to, and push_to is not given",
                remedy="--push-to REPO",
            )

    @property
    def stored_dtype(self) -> str | None:
        """The dtype as the safetensors format names it."""
        return None if self.dtype is None else DTYPES[self.dtype]

    @property
    def requirement(self) -> Requirement | None:
        """What the output must hold; None for nothing."""
        return None if self.require is None else Requirement.parse(self.require)

    @property
    def local(self) -> OutputConfig:
        """Copy without the settings of what follows once the output is written: push and gate."""
        return replace(self, push_to=None, private=False, require=None)


def parse_size(text: str) -> int:
    """Bytes of a size such as `5GB`, `500MB` or `2GiB`.

    Raises:
        ArgumentError: It is no size.

    Example:
        >>> parse_size("5GB"), parse_size("1.5 KiB")
        (5000000000, 1536)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found[2].upper() not in UNITS or float(found[1]) == 0:
        raise ArgumentError(f"{text!r} is not a size", remedy="write it like 5GB, 500MB or 2GiB")
    return int(float(found[1]) * UNITS[found[2].upper()])


@dataclass(frozen=True)
class Destination:
    """Where on the Hub an output goes.

    Attributes:
        repo: `org/name`, or `name` for a repository of one's own; made if it is not there.
        private: Make it private; a repository that is public already is refused.
        revision: Branch, made if it is not there, or `refs/pr/N`; None is the main branch.
        create_pr: Open a pull request instead of committing.

    Raises:
        ArgumentError: No repository can have this name, or a pull request on a branch.

    Example:
        >>> Destination("org/merged", private=True).command(Path("my out"))
        "geo-merge push 'my out' org/merged --private"
    """

    repo: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.repo):
            raise ArgumentError(
                f"no repository can be called {self.repo!r}",
                remedy="write org/name or name; a branch goes to --revision",
            )
        _refuse_what_the_hub_would(self.repo)
        if self.create_pr and self.revision not in (None, "main"):
            raise ArgumentError(
                f"a pull request is opened on the main branch, not on {self.revision!r}",
                remedy="give --create-pr or --revision",
            )

    def command(self, folder: Path) -> str:
        """The command that pushes a folder here."""
        flags = ["--private"] * self.private + ["--create-pr"] * self.create_pr
        flags += [] if self.revision is None else [f"--revision={self.revision}"]
        return shlex.join(["geo-merge", "push", str(folder), self.repo, *flags])


def _refuse_what_the_hub_would(repo: str) -> None:
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # takes time
        HFValidationError,
        validate_repo_id,
    )

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ArgumentError(str(error).split("\n", maxsplit=1)[0], where=repo) from error
