"""How a report tells the curvature of the loss where a model stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, SerializeAsAny

from mergekit_geo.records import Record, Sparse
from mergekit_geo.records.losses import DataEntry, DifferenceEntry, Estimate, Finite

CAVEATS = (
    "λ_max changes under rescalings of the weights that leave the function alone (Dinh 2017).",
    "Averaging shrinks the weights and the confidence, so the sharpness of a merge moves for "
    "trivial reasons: compare with its parents, and with the adaptive measures of the full level, "
    "which do not see such rescalings.",
    "Sharpness does not in general predict how a model generalises (Andriushchenko 2023).",
    "λ_max is biased up on small samples, which its ± does not hold: its value on half of the "
    "sample shows how much. SAM sharpness is a lower bound of the largest rise within rho.",
)


@dataclass(frozen=True)
class Titled:
    """A mark on a number of a record: tables and pictures show it, under a title.

    Attributes:
        title: What it is called there. Of a record in a record: what its numbers' titles begin
            with.
        error: Attribute that holds its standard error; empty where it has none.
    """

    title: str
    error: str = ""


class SlopeEntry(Record):
    """Loss and gradient where a model stands, and norms without which the rest misleads.

    Attributes:
        examples: Size of the sample.
        tokens: How many tokens (or labels, or examples) its losses are of.
        documents: How many documents they are from.
        parameters: How many are trainable.
        device: Of the arithmetic.
        dtype: Likewise.
        attention: transformers' name of the attention backend.
        loss: Mean on the sample.
        loss_error: Its standard error over documents; null with too few of them.
        gradient_norm: Euclidean norm of the sample's gradient; biased up by noise.
        squared_norm: Unbiased estimate of the squared norm of the true gradient, from products of
            different batches; it may be negative. Null with a single batch.
        squared_norm_error: Its standard error.
        parameter_norm: Euclidean norm of the trainable parameters.
        logit_norm: Mean Euclidean norm of the centred logits; null where the model has none.
        one_step: SAM sharpness of one gradient step.
        groups: How many groups of batches the products are of.
    """

    examples: int
    tokens: int
    documents: int
    parameters: int
    device: str
    dtype: str
    attention: str
    loss: float
    loss_error: float | None
    gradient_norm: Annotated[float, Titled("|gradient|")]
    squared_norm: float | None
    squared_norm_error: float | None
    parameter_norm: Annotated[float, Titled("|weights|")]
    logit_norm: Annotated[float | None, Titled("|logits|")]
    one_step: Finite
    groups: int | None = None


class EigenvalueEntry(Record):
    """An extreme eigenvalue of the Hessian of the mean loss, by Lanczos.

    Attributes:
        value: The Ritz value.
        residual: Some eigenvalue lies within this of it.
        converged: Whether the residual is at most 1e-3 of the value (of λ_max, for λ_min).
        half: The same on every other batch; null where that was not measured.
        sampling: v^T H v of its eigenvector v on the sample, by a step of its own, with the 95 %
            interval of its jackknife over documents; null with too few of them, or where memory
            did not hold v.
        error: Its standard error.
    """

    value: Annotated[float, Titled("", error="uncertainty")]
    residual: float
    converged: bool
    half: Annotated[float | None, Titled(", half")] = None
    sampling: Estimate | None = None
    error: float | None = None

    @property
    def uncertainty(self) -> float | None:
        """The larger of standard error and residual; None where the first is not known.

        Or what two steps of differences disagree by, where the loss is no parabola.
        """
        if self.error is None or self.sampling is None or self.sampling.value is None:
            return None
        return max(self.error, self.residual, abs(self.sampling.value - self.value))


class Escape(Record):
    """The best step along the eigenvector of the smallest eigenvalue.

    Attributes:
        step: Signed length in weight space, chosen on the sample; 0 where none lowers the loss.
        change: Of the loss on the sample; 0 or below.
        held_out: Of the loss on other documents; null without them.
    """

    step: float
    change: float
    held_out: float | None

    @property
    def lowered(self) -> bool | None:
        """Whether the step lowers the held-out loss; None without one."""
        return None if self.held_out is None else self.held_out < 0


class ExtremesEntry(Record):
    """Both ends of the spectrum, as far as they were sought.

    Attributes:
        largest: λ_max.
        smallest: λ_min; null at the quick level.
        steps: Products that Lanczos took.
        method: `exact` products, or `finite differences` of gradients.
        reason: Why they are not exact though they should have been.
        step: Length of a difference's step; null with exact products.
        step_error: Relative change of λ_max when the step is halved.
        along: SAM sharpness along the eigenvector of λ_max; null at the quick level.
        escape: The best step along that of λ_min; null where it is not negative.
    """

    largest: Annotated[EigenvalueEntry, Titled("λ_max")]
    smallest: Annotated[EigenvalueEntry | None, Titled("λ_min")]
    steps: int
    method: str
    reason: str
    step: float | None
    step_error: float | None
    along: Finite
    escape: Escape | None


class AscentEntry(Record):
    """How far the loss rises near a model; worst cases are lower bounds.

    Attributes:
        ascent: SAM sharpness by projected ascent.
        adaptive_worst: Adaptive sharpness (Kwon 2021), the worst case found.
        adaptive_mean: Mean rise under noise in proportion to the weights (Andriushchenko 2023).
        adaptive_error: Its standard error.
    """

    ascent: Finite
    adaptive_worst: Annotated[Finite, Titled("adaptive, worst")]
    adaptive_mean: Annotated[Finite, Titled("adaptive, mean", error="adaptive_error")]
    adaptive_error: float | None


class Trace(Record):
    """Sum of the Hessian's eigenvalues, estimated.

    Attributes:
        value: The estimate.
        standard_error: Over the random vectors; 0 where the value is exact.
        products: Hessian-vector products taken; fewer than allowed where fewer tell all.
        method: `XTrace` (Epperly 2024), `Hutchinson`, or `exact` for a few parameters.
    """

    value: Annotated[float, Titled("trace", error="standard_error")]
    standard_error: float
    products: int
    method: str


class QuotientsEntry(Record):
    """v^T H v of each example at the eigenvector of λ_max; kept, and not in a report.

    Attributes:
        value: Of each example.
        weight: What each counts.
        document: That each is from.
    """

    value: list[float]
    weight: list[float]
    document: list[int]


class CurvatureEntry(Record):
    """Both ends of the spectrum, and what paired differences are made of; kept.

    Attributes:
        extremes: As the report has them.
        quotients: At the eigenvector of λ_max; null where memory did not hold that.
    """

    extremes: ExtremesEntry
    quotients: QuotientsEntry | None


class ProbeEntry(Record):
    """What one probe of the spectrum found; kept, and not in a report.

    Attributes:
        nodes: Eigenvalues of its tridiagonal matrix.
        weights: Of each; they sum to one.
    """

    nodes: list[float]
    weights: list[float]


class NegativeShare(Record):
    """Share of the eigenvalues that are negative beyond doubt; at a critical point, its index.

    Attributes:
        tau: τ of the verdict on stationarity: curvature closer to zero is none.
        share: Of the eigenvalues up to -τ, mean over the probes.
        standard_error: Of it, over the probes; null with a single one.
        low: Lower end of its 95 % band (Student's t over the probes), within [0, 1]; null likewise.
        high: Upper end.
    """

    tau: float
    share: Annotated[float, Titled("share below -τ", error="standard_error")]
    standard_error: float | None
    low: float | None
    high: float | None


class Spectrum(Record):
    """Distribution of the Hessian's eigenvalues, by stochastic Lanczos quadrature.

    Attributes:
        eigenvalues: Positions, ascending, from the smallest node to the largest.
        cumulative: Share of the eigenvalues up to each, mean over the probes. It is a step
            function, right at the nodes to about half a step.
        low: Lower end of its pointwise 95 % band (Student's t over the probes), within [0, 1];
            null with a single probe.
        high: Upper end.
        probes: Number of random starts.
        steps: Of Lanczos, each: the most nodes of a probe.
        negative: Share of the eigenvalues below -τ.
    """

    eigenvalues: list[float]
    cumulative: list[float]
    low: list[float] | None
    high: list[float] | None
    probes: int
    steps: int
    negative: NegativeShare | None = None


class Stationarity(Record):
    """Whether training would go on from here; never that it is a minimum, which nothing shows.

    Attributes:
        kind: The verdict.
        sentence: The same in words, with the numbers it rests on.
        detectable: The gain of a step down the gradient that would have been detected; null where
            the gradient was not measured.
    """

    kind: Literal[
        "not stationary", "saddle", "no negative curvature", "not measured", "cannot tell"
    ]
    sentence: str
    detectable: float | None = None


class OpenRecord(Record):
    """A record of a measure that this release does not have."""

    model_config = ConfigDict(extra="allow")


class SharpnessEntry(Record):
    """Sharpness of one model; further measures stand beside these, under their own keys.

    Attributes:
        model: Its name.
        role: Whether it went in, came out, or stands by itself.
        level: `quick` or `full`.
        rho: Radius of SAM's ball, Euclidean.
        adaptive_rho: Radius of the adaptive ball, in units of the weights.
        noise: Of the adaptive average, relative to each weight.
        slope: Sample, loss, gradient, norms.
        extremes: λ_max and λ_min.
        sam_sharpness: The largest rise found within rho.
        ascent: Adaptive measures; null at the quick level.
        trace: Null at the quick level.
        spectrum: Null at the quick level.
        stationarity: The verdict.
        gradients: What all this cost, in gradients of the sample; less where parts were kept.
        against: λ_max of the output minus that of each parent, paired over documents, at the
            eigenvectors found; empty for other models.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SerializeAsAny[Record | OpenRecord]]

    model: str
    role: Literal["parent", "output", "model"]
    level: Literal["quick", "full"]
    rho: float
    adaptive_rho: float
    noise: float
    slope: SlopeEntry
    extremes: ExtremesEntry
    sam_sharpness: Annotated[float | None, Titled("SAM sharpness")]
    ascent: AscentEntry | None = None
    trace: Trace | None = None
    spectrum: Spectrum | None = None
    stationarity: Stationarity
    gradients: float
    against: list[DifferenceEntry] = []


class SharpnessSetEntry(Record):
    """Sharpness on one evaluation set.

    Attributes:
        data: What it is.
        weight: What it counts beside others.
        sharpness: Every model.
    """

    data: DataEntry
    weight: float
    sharpness: list[SharpnessEntry]


class SharpnessMeasurements(Sparse):
    """Result of a sharpness measurement; of several sets, on the first of them.

    Attributes:
        sharpness: Every model, on the same examples.
        caveats: What the numbers do not say.
        sets: The same on every set, by its name; only where there are several.
        weighted: The same of the weighted mean of the sets' losses.
    """

    only_if_held: ClassVar[tuple[str, ...]] = ("sets", "weighted")

    sharpness: list[SharpnessEntry]
    caveats: list[str] = list(CAVEATS)
    sets: dict[str, SharpnessSetEntry] = {}
    weighted: list[SharpnessEntry] = []
