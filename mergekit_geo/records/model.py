"""Models that went into a command, where they lie to each other, and whether they can be merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mergekit_geo.files.hub_id import HubId
from mergekit_geo.records import Record


class License(Record):
    """What a model's card states as its license.

    Attributes:
        id: Such as `apache-2.0`; `other` where the Hub has none.
        name: What it is called then.
        link: Where its text is, as stated.
    """

    id: str
    name: str | None = None
    link: str | None = None

    def linked_from(self, page: str) -> License:
        """Copy the license with a link that is relative to its repository made absolute.

        Args:
            page: Under which the repository's files are shown.
        """
        if self.link is None or "://" in self.link:
            return self
        return self.model_copy(update={"link": f"{page}/{self.link}"})


class Source(Record):
    """A folder or repository that a model, or a part of it, comes from.

    Attributes:
        name: What the user calls it.
        revision: Commit of the Hub, where it comes from there.
    """

    name: str
    revision: str | None

    @property
    def pinned(self) -> str:
        """A reference to this commit, wherever branches move.

        Example:
            >>> Source(name="org/a@main", revision="5d0f2e8").pinned
            'org/a@5d0f2e8'
            >>> Source(name="org/a:unet", revision="5d0f2e8").pinned
            'org/a@5d0f2e8:unet'
            >>> Source(name="a", revision=None).pinned
            'a'
        """
        return str(self.hub_id or self.name)

    @property
    def hub_id(self) -> HubId | None:
        """Where it is on the Hub; None where it comes from elsewhere."""
        found = HubId.parse(self.name) if self.revision else None
        return found and found.at(self.revision)


SENTENCE_LOADERS = ("SentenceTransformer", "CrossEncoder", "SparseEncoder", "MultiVectorEncoder")
"""Classes of sentence-transformers: values of `model_type` in its settings."""


class ModelEntry(Record):
    """One input.

    Attributes:
        name: What the user called it.
        revision: Commit of the Hub, where it comes from there; the adapter's, where it is one.
        parameters: Number of elements of its float tensors.
        license: Of its card; null where none states one.
        architecture: transformers' class, from its configuration; null where it has none.
        loader: Class of sentence-transformers or diffusers that loads it whole; null for others.
        role: Whether it is a model, or a bend of the path between models.
        base: What an adapter was added to; null for a whole model.
        adapter: The adapter; null for a whole model.
        made_of: Models that it was made of by the same recipe; empty for one that was there.
    """

    name: str
    revision: str | None
    parameters: int
    license: License | None = None
    architecture: str | None = None
    loader: str | None = None
    role: Literal["parent", "bend"] = "parent"
    base: Source | None = None
    adapter: Source | None = None
    made_of: list[Source] = []

    @property
    def library(self) -> str | None:
        """The library that loads it; None where nothing says so."""
        if self.loader is None:
            return "transformers" if self.architecture else None
        return "sentence-transformers" if self.loader in SENTENCE_LOADERS else "diffusers"

    @property
    def origins(self) -> list[Source]:
        """Folders and repositories that it comes from, on whatever way."""
        return self.made_of or self.sources

    @property
    def sources(self) -> list[Source]:
        """Base and adapter, or the model itself."""
        parts = [part for part in (self.base, self.adapter) if part is not None]
        return parts or [Source(name=self.name, revision=self.revision)]


class PairGeometry(Record):
    """How two anchors lie to each other.

    Attributes:
        first: Index of one model.
        second: Index of the other.
        cosine: Cosine similarity; null where a norm is zero.
        angle: In radians; null where a norm is zero.
        distance: Euclidean.
    """

    first: int
    second: int
    cosine: float | None
    angle: float | None
    distance: float


class LayerGeometry(Record):
    """Norms and pairs over the parameters of one layer.

    Attributes:
        layer: Common beginning of the tensors' names.
        parameters: Number of elements.
        norms: Euclidean norm, per model.
        pairs: Every pair of models.
    """

    layer: str
    parameters: int
    norms: list[float]
    pairs: list[PairGeometry]


class Geometry(Record):
    """Where the anchors lie in weight space, as a whole and layer by layer."""

    total: LayerGeometry
    layers: list[LayerGeometry]


class PartEntry(Record):
    """A part of one model, and how many of its tensors a merge would do what to.

    Attributes:
        model: Its name.
        module: `text`, `vision`, `audio`, `speech` or `projector`; of encoder-decoders `encoder`,
            `decoder` or `shared`.
        kind: What it is there, such as `layers`, `experts`, `router` or `head`; empty for a module
            as a whole.
        tensors: Their number.
        parameters: Number of their elements.
        merged: Tensors that are merged with those of the other models.
        copied: Tensors that are copied to the output as they are.
        left_out: Tensors that the output lacks, or has from another model.
        refused: Tensors for which the models cannot be merged.
        why: What the first of these is refused for; empty if none is.
    """

    model: str
    module: str
    kind: str
    tensors: int
    parameters: int
    merged: int = 0
    copied: int = 0
    left_out: int = 0
    refused: int = 0
    why: str = ""

    @property
    def name(self) -> str:
        """Module and kind, such as `text/experts`."""
        return f"{self.module}/{self.kind}" if self.kind else self.module


class FilesEntry(Record):
    """What a merge does with each file of the first model.

    Attributes:
        model: Its name.
        merged: Weights that are read, and their indices.
        copied: Files that go to the output, at most with keys changed.
        left_out: Files that the output does not have; folders of them end in `/`.
    """

    model: str
    merged: list[str]
    copied: list[str]
    left_out: list[str]


class CheckMeasurements(Record):
    """Result of a check.

    Attributes:
        compatible: Whether the models can be merged.
        tensors: Number of tensors of the first model.
        notes: Ordinary differences, and what a merge does about them.
        problems: Why they cannot be merged.
        parts: The parts of each model, model after model.
        files: What becomes of the first model's files; null for a model in memory.
    """

    compatible: bool
    tensors: int
    notes: list[str]
    problems: list[str]
    parts: list[PartEntry] = []
    files: FilesEntry | None = None


def common_license(models: Sequence[ModelEntry]) -> License | None:
    """The license that every parent states; None where one states another, or none.

    Example:
        >>> a = ModelEntry(name="a", revision=None, parameters=1, license=License(id="mit"))
        >>> common_license([a, a]).id
        'mit'
    """
    stated = [model.license for model in _parents(models)]
    kinds = {_kind(entry) for entry in stated if entry is not None}
    return stated[0] if len(kinds) == 1 and None not in stated else None


def differing_licenses(models: Sequence[ModelEntry]) -> list[str]:
    """A warning where parents state different licenses."""
    kinds = {_kind(model.license) for model in models if model.license is not None}
    if len(kinds) < 2:  # noqa: PLR2004
        return []
    told = "; ".join(f"{model.name}: {license_name(model)}" for model in _parents(models))
    return [f"the parents' licenses differ, so the model card states none ({told})"]


def license_name(model: ModelEntry) -> str:
    """Name of a model's license, or `none stated`."""
    if model.license is None:
        return "none stated"
    return model.license.name or model.license.id


def _parents(models: Sequence[ModelEntry]) -> list[ModelEntry]:
    return [model for model in models if model.role == "parent"]


def _kind(entry: License) -> tuple[str, str]:
    return entry.id.lower(), (entry.name or "").lower()
