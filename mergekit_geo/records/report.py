"""The form of `report.json` and of every command's `--json`, version 1.

The top level is the same for every command; `result` is the command's own. A number that could not
be measured is null, and `not_measured` says why and how to get it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from mergekit_geo.records.curvature import SharpnessEntry, SharpnessMeasurements
from mergekit_geo.records.landscape import LandscapeMeasurements
from mergekit_geo.records.losses import BarrierEntry, DifferenceEntry, LossEntry
from mergekit_geo.records.path import PathMeasurements
from mergekit_geo.records.plan import PlanMeasurements
from mergekit_geo.records.push import PushMeasurements
from mergekit_geo.records.record import Part
from mergekit_geo.records.training import FinetuneMeasurements, MembersMeasurements

SCHEMA_VERSION = 1


class LicenseEntry(Part):
    """What a model's card states as its licence.

    Attributes:
        id: Such as `apache-2.0`; `other` where the Hub has none.
        name: What it is called then.
        link: Where its text is.
    """

    id: str
    name: str | None = None
    link: str | None = None


class SourceEntry(Part):
    """Where a part of an input comes from.

    Attributes:
        name: A folder or a repository.
        revision: Commit of the Hub, where it comes from there.
    """

    name: str
    revision: str | None


class ModelEntry(Part):
    """One input.

    Attributes:
        name: What the user called it.
        revision: Commit of the Hub, where it comes from there; the adapter's, where it is one.
        parameters: Number of elements of its float tensors.
        license: Of its card; null where none states one.
        architecture: transformers' class, from its configuration; null where it has none.
        role: Whether it is a model, or a bend of the path between models.
        base: What an adapter was added to; null for a whole model.
        adapter: The adapter; null for a whole model.
    """

    name: str
    revision: str | None
    parameters: int
    license: LicenseEntry | None = None
    architecture: str | None = None
    role: Literal["parent", "bend"] = "parent"
    base: SourceEntry | None = None
    adapter: SourceEntry | None = None

    @property
    def sources(self) -> list[SourceEntry]:
        """Base and adapter, or the model itself."""
        parts = [part for part in (self.base, self.adapter) if part is not None]
        return parts or [SourceEntry(name=self.name, revision=self.revision)]


class PairGeometry(Part):
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


class LayerGeometry(Part):
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


class Geometry(Part):
    """Where the anchors lie in weight space, as a whole and layer by layer."""

    total: LayerGeometry
    layers: list[LayerGeometry]


class MergeCoefficients(Part):
    """How the anchors were combined; `merge.json` has it tensor by tensor.

    Attributes:
        method: Such as `linear` or `slerp`.
        weights: One per model, as applied (for SLERP, 1 - t and t).
        branches: How many tensors took which branch.
        kept: The share of each model's task vector that was kept, None for the base; empty where
            no elements are masked.
    """

    method: str
    weights: list[float]
    branches: dict[str, int]
    kept: list[float | None] = []


class BarrierMeasurements(Part):
    """Result of a barrier measurement.

    Attributes:
        pairs: Every pair of models, along every path asked for.
        matrix: Barrier between models i and j along the first path; 0 where it is not significant.
        basins: Models that are connected, largest basin first.
        threshold: Barriers below this connect, in nats.
        losses: Of the models themselves, on the report half.
    """

    pairs: list[BarrierEntry]
    matrix: list[list[float | None]]
    basins: list[list[str]]
    threshold: float
    losses: list[LossEntry]


class SelectionEntry(Part):
    """What was chosen by loss, on the selection half.

    Attributes:
        method: Such as `greedy`, `learned` or `best along linear`.
        chosen: The choice in words.
        documents: How many documents it was chosen on.
        steps: What was tried, and its loss there.
        left_out: Models outside the largest basin, and why.
        sharpness: λ_max on the selection half, of the points that were compared by it.
        started_from: Where a learned soup started: the best parent, the uniform or the greedy soup.
    """

    method: str
    chosen: str
    documents: int
    steps: list[tuple[str, float]]
    left_out: list[str] = []
    sharpness: list[tuple[str, float]] = []
    started_from: str | None = None


class MergeMeasurements(Part):
    """Result of a merge.

    Attributes:
        coefficients: How the models were combined.
        losses: Of parents and output, the output last.
        differences: Output minus each of the others.
        barriers: Between the parents.
        sharpness: Of parents and output.
        geometry: Where the parents lie.
        selection: What was chosen by loss; null where nothing was.
        unmerged: The model that the output is, where no other has a part in it; else null.
    """

    coefficients: MergeCoefficients
    losses: list[LossEntry]
    differences: list[DifferenceEntry]
    barriers: list[BarrierEntry]
    sharpness: list[SharpnessEntry]
    geometry: Geometry | None
    selection: SelectionEntry | None = None
    unmerged: str | None = None


class CheckMeasurements(Part):
    """Result of a check.

    Attributes:
        compatible: Whether the models can be merged.
        tensors: Number of tensors of the first model.
        notes: Ordinary differences, and what a merge does about them.
        problems: Why they cannot be merged.
    """

    compatible: bool
    tensors: int
    notes: list[str]
    problems: list[str]


class DataEntry(Part):
    """What loss was measured on.

    Attributes:
        source: File or built-in text.
        digest: SHA-256 of the documents.
        documents: How many documents the examples are from.
        examples: How many examples were measured.
        available: How many there were.
        tokens: How many tokens (or labels, or examples) were predicted, per model.
        seq_len: Tokens in a full window.
        seed: Of the sample, the halves and the intervals.
        task: Such as `causal-lm`.
        unit: What is counted: `token`, `label` or `example`.
        metric: What the task's metric is called.
        half: `report` where something was chosen on the other half.
        notes: What was guessed about the data.
        repository: The dataset's id on the Hub; null for what is not there.
    """

    source: str
    digest: str
    documents: int
    examples: int
    available: int
    tokens: int
    seq_len: int
    seed: int
    task: str = ""
    unit: str = "token"
    metric: str = ""
    half: Literal["", "report"] = ""
    notes: list[str] = []
    repository: str | None = None


class NotMeasured(Part):
    """Something a report could hold and does not.

    Attributes:
        what: Key of the result, such as `losses`.
        why: The reason.
        command: The command that measures it, empty where there is none yet.
        failed: Whether it was asked for and failed: the output is whole, and the command exits 1.
    """

    what: str
    why: str
    command: str = ""
    failed: bool = False


class Provenance(Part):
    """Where the numbers come from.

    Attributes:
        versions: Of the libraries.
        started: UTC, ISO 8601.
        seconds: Wall time.
        device: Of the arithmetic of the evaluation.
        dtype: Likewise.
        attention: transformers' name of the attention backend.
        command: The command line that does it again; empty where none can, as with models in
            memory.
    """

    versions: dict[str, str]
    started: str
    seconds: float
    device: str | None = None
    dtype: str | None = None
    attention: str | None = None
    command: str = ""


class ErrorEntry(Part):
    """Why a command failed.

    Attributes:
        type: Name of the exception.
        message: What was expected and what was found.
        where: The model, file or tensor concerned.
        remedy: What mends it.
        problems: Every incompatibility, where that is why.
    """

    type: str
    message: str
    where: str
    remedy: str
    problems: list[str] = []


class Report(Part):
    """The top level, the same for every command.

    Attributes:
        left_out: Files of the donor that the output does not have; where there are any.
    """

    schema_version: int = SCHEMA_VERSION
    command: str
    status: Literal["done", "error"] = "done"
    output: str | None = None
    models: list[ModelEntry] = []
    settings: dict[str, Any] = {}
    data: DataEntry | None = None
    result: (
        MergeMeasurements
        | BarrierMeasurements
        | PathMeasurements
        | SharpnessMeasurements
        | LandscapeMeasurements
        | FinetuneMeasurements
        | MembersMeasurements
        | CheckMeasurements
        | PushMeasurements
        | PlanMeasurements
        | None
    ) = None
    warnings: list[str] = []
    not_measured: list[NotMeasured] = []
    left_out: list[str] = []
    provenance: Provenance | None = None
    error: ErrorEntry | None = None
    pushed: PushMeasurements | None = None

    @field_validator("warnings")
    @classmethod
    def _once(cls, warnings: list[str]) -> list[str]:
        """What several parts of a command have to say is said once."""
        return list(dict.fromkeys(warnings))

    def to_json(self) -> str:
        """The text of `report.json`, which is part of what may be pushed afterwards."""
        leave_out = {key for key in ("error", "pushed") if getattr(self, key) is None}
        leave_out |= set() if self.left_out else {"left_out"}
        return self.model_dump_json(indent=2, exclude=leave_out) + "\n"
