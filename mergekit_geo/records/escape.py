"""How a report tells of the way out of a saddle."""

from __future__ import annotations

from typing import Literal

from mergekit_geo.records import Record
from mergekit_geo.records.losses import Estimate, Finite
from mergekit_geo.records.training import BeforeAndAfter

EscapeKind = Literal[
    "not at a critical point", "no negative curvature", "degenerate", "escaped", "not escaped",
    "cannot tell",
]  # fmt: skip


class EscapeVerdict(Record):
    """What became of a model that stood at a saddle, or did not.

    Attributes:
        kind: For programs.
        sentence: For people, with the numbers it rests on.
        advice: What to do next; empty where nothing suggests itself.
    """

    kind: EscapeKind
    sentence: str
    advice: str = ""


class CriticalEntry(Record):
    """Gradient and both ends of the Hessian's spectrum at a point, on training data.

    Attributes:
        loss: Mean on the sample.
        loss_error: Its standard error over documents; null with too few of them.
        gradient_norm: Euclidean norm of the sample's gradient.
        squared_norm: Unbiased estimate of the squared norm of the gradient on all training data;
            null where the sample is all of them, or has a single batch.
        squared_norm_error: Its standard error.
        threshold: Norm up to which the gradient counts as none, where it was given or is one of
            rounding; null where the verdict on stationarity decides.
        lambda_max: Largest eigenvalue found.
        lambda_max_residual: Some eigenvalue lies within this of it.
        lambda_min: Smallest eigenvalue found.
        lambda_min_residual: Likewise.
        converged: Whether both residuals are at most 1e-3 of the largest eigenvalue in size.
        tau: Curvature closer to zero is none.
        vanishes: Whether the Hessian is zero up to rounding.
        steps: Products that Lanczos took.
        method: `exact` products, or `finite differences` of gradients.
        reason: Why they are not exact.
    """

    loss: float
    loss_error: float | None = None
    gradient_norm: float
    squared_norm: float | None = None
    squared_norm_error: float | None = None
    threshold: float | None = None
    lambda_max: float
    lambda_max_residual: float
    lambda_min: float
    lambda_min_residual: float
    converged: bool
    tau: float
    vanishes: bool
    steps: int
    method: str
    reason: str = ""

    @property
    def curvature(self) -> float:
        """ℓ, the largest eigenvalue in size."""
        return max(abs(self.lambda_max), abs(self.lambda_min))

    @property
    def is_negative(self) -> bool:
        """Whether an eigenvalue is negative beyond doubt."""
        return self.lambda_min + self.lambda_min_residual < -self.tau


class EscapePoint(Record):
    """The loss at one place along the eigenvector.

    Attributes:
        length: Signed, in weight space.
        loss: On the training data; null where it is no number.
        held_out: On the held-out data; null without them.
    """

    length: float
    loss: Finite
    held_out: Finite = None


class EscapeStep(Record):
    """The line search along the eigenvector of λ_min, in both directions.

    Attributes:
        length: Of the step, signed, in weight space; chosen by the training loss.
        change: Of the training loss.
        held_out: Of the held-out loss, paired; null without held-out data.
        curve: All places that were looked at, in order.
    """

    length: float
    change: float
    held_out: Estimate | None
    curve: list[EscapePoint]

    @property
    def checked(self) -> Literal["lower", "not lower", "cannot tell", "not measured"]:
        """What the held-out loss says of the step; with an interval, it has to leave zero out."""
        found = self.held_out
        if found is None or found.value is None:
            return "not measured"
        if found.value >= 0:
            return "not lower"
        return "cannot tell" if found.is_significant is False else "lower"


class DescentEntry(Record):
    """Perturbed gradient descent, or SGD.

    Attributes:
        method: `perturbed` or `sgd`.
        steps: That were made.
        learning_rate: Of the first step.
        last_learning_rate: Of the last one: halved wherever a step would have raised the loss.
        radius: Of the ball that perturbations are drawn from; null for SGD.
        timeout: Steps after a perturbation in which the loss has to fall.
        fall: By so much.
        perturbed: Steps before which one was added.
        history: Step, training loss and norm of its gradient.
        stopped: `steps` were used up, or `time-out`: the loss did not fall after a perturbation,
            which was taken back.
    """

    method: Literal["perturbed", "sgd"]
    steps: int
    learning_rate: float
    last_learning_rate: float
    radius: float | None
    timeout: int
    fall: float
    perturbed: list[int]
    history: list[tuple[int, float, float]]
    stopped: Literal["steps", "time-out"]


class EscapeEntry(Record):
    """The way out of a saddle, or why there was none to leave.

    Attributes:
        verdict: In words.
        examples: Training examples that all this is of.
        whole: Whether these are all training data.
        parameters: How many weights were moved.
        lanczos_steps: Most products of a search for λ_min.
        before: The point that was given.
        step: Out of it along the eigenvector of λ_min; null where there was none to take.
        descent: What followed; null where nothing did.
        after: The point that was reached; null where the weights are as they were.
        change: Of the training loss in all.
        held_out: Of the held-out loss in all, paired; null without held-out data.
        held_out_examples: Examples of the report half that it is of.
    """

    verdict: EscapeVerdict
    examples: int
    whole: bool
    parameters: int
    lanczos_steps: int
    before: CriticalEntry
    step: EscapeStep | None = None
    descent: DescentEntry | None = None
    after: CriticalEntry | None = None
    change: float = 0.0
    held_out: Estimate | None = None
    held_out_examples: int = 0


class EscapeMeasurements(BeforeAndAfter):
    """Result of an escape.

    Attributes:
        escape: The way out.
    """

    escape: EscapeEntry
