"""What became of a model that stood at a saddle, in words."""

from __future__ import annotations

from mergekit_geo.config.escape import NONE, SGD, EscapeConfig
from mergekit_geo.curvature.critical import fall_of, lambda_min
from mergekit_geo.records.escape import CriticalEntry, DescentEntry, EscapeStep, EscapeVerdict
from mergekit_geo.records.losses import Estimate


def ended(
    before: CriticalEntry,
    after: CriticalEntry,
    held_out: Estimate | None,
    settings: EscapeConfig,
    *,
    step: EscapeStep | None,
    descent: DescentEntry | None,
) -> EscapeVerdict:
    """The verdict when all is done.

    Args:
        before: The point that was given.
        after: The one that was reached.
        held_out: Change of the held-out loss.
        settings: What counts as a fall.
        step: Along v_min; None where the Hessian vanishes.
        descent: What followed.
    """
    fell = before.loss - after.loss > fall_of(settings, before.loss)
    moved = _moved(before, after, held_out)
    if step is None:
        return _degenerate(settings, descent, moved, fell=fell)
    if not fell or (held_out is not None and held_out.number >= 0):
        text = f"not escaped: λ_min was {lambda_min(before)}, but {moved}"
        return EscapeVerdict(kind="not escaped", sentence=text)
    ends = f"λ_min {before.lambda_min:.3g} before, {lambda_min(after)} after"
    text = f"escaped a saddle: {moved}; {ends}"
    still = "its curvature is negative still: escape again from there, or train it further"
    advice = still if after.is_negative else ""
    return EscapeVerdict(kind="escaped", sentence=text, advice=advice)


def not_taken(before: CriticalEntry, step: EscapeStep) -> EscapeVerdict | None:
    """Why the step along v_min is not taken; None where it is.

    Args:
        before: The point.
        step: The best one along its v_min.
    """
    text = f"no negative curvature found in {before.steps} steps"
    if step.length == 0:
        sentence = f"{text} along which the training loss falls: λ_min is {lambda_min(before)}"
        return EscapeVerdict(kind="no negative curvature", sentence=sentence)
    if step.checked == "not lower":
        sentence = f"{text} that held-out examples share: {lambda_min(before)} on the training data"
        return EscapeVerdict(kind="no negative curvature", sentence=sentence)
    if step.checked == "cannot tell":
        sentence = (
            f"cannot tell: λ_min is {lambda_min(before)} on the training data, and a step along it "
            f"does not lower the held-out loss significantly: {_signed(step.held_out)}"
        )
        return EscapeVerdict(
            kind="cannot tell", sentence=sentence, advice="more held-out documents would tell"
        )
    return None


def _degenerate(
    settings: EscapeConfig, descent: DescentEntry | None, moved: str, *, fell: bool
) -> EscapeVerdict:
    text = "degenerate: second order cannot tell: the Hessian is zero up to rounding"
    if descent is None:
        advice = "--then perturbed goes on" if settings.then == NONE else ""
        return EscapeVerdict(kind="degenerate", sentence=text, advice=advice)
    name = "SGD" if descent.method == SGD else "perturbed descent"
    if fell:
        return EscapeVerdict(kind="degenerate", sentence=f"{text}; {name} left it: {moved}")
    advice = (
        "--then perturbed adds noise where there is none"
        if name == "SGD"
        else ("a larger --radius, or more --steps, look further")
    )
    return EscapeVerdict(
        kind="degenerate", sentence=f"{text}; {name} did not leave it: {moved}", advice=advice
    )


def _moved(before: CriticalEntry, after: CriticalEntry, held_out: Estimate | None) -> str:
    """How training and held-out loss changed."""
    text = f"training loss {_by(after.loss - before.loss)} ({before.loss:.4g} to {after.loss:.4g})"
    if held_out is None or held_out.value is None:
        return f"{text}, held-out loss not measured"
    return f"{text}, held-out loss {_by(held_out.value)}{_ends(held_out)}"


def _signed(found: Estimate | None) -> str:
    return "" if found is None else f"{found.number:+.4g}{_ends(found)}"


def _ends(found: Estimate | None) -> str:
    if found is None or found.low is None:
        return ""
    return f" [{found.low:+.4g}, {found.high:+.4g}]"


def _by(change: float) -> str:
    """Say a change.

    Example:
        >>> _by(-0.25), _by(0.5), _by(0.0)
        ('fell by 0.25', 'rose by 0.5', 'is the same')
    """
    if change == 0:
        return "is the same"
    return f"{'fell' if change < 0 else 'rose'} by {abs(change):.4g}"
