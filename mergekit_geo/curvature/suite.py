"""The sharpness of one model, part by part; a part that was finished before is not made again."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import psutil
from torch import Tensor
from torch.nn import Module

from mergekit_geo.config.measures import SharpnessRadii
from mergekit_geo.curvature.adaptive import average_sharpness
from mergekit_geo.curvature.ascent import along, one_step, projected_ascent
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import Krylov, extremes_converged, lanczos, random_start
from mergekit_geo.curvature.largest import krylov_of
from mergekit_geo.curvature.levels import DIFFERENCES, EVALUATION, Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.norms import LogitNorm
from mergekit_geo.curvature.quotients import quotients
from mergekit_geo.curvature.spectrum import Quadrature, probe, spectrum
from mergekit_geo.curvature.stationarity import GroupGradients, escape, verdict
from mergekit_geo.curvature.trace import hutchinson, xtrace
from mergekit_geo.evaluation.cache import NoCache, RecordCache
from mergekit_geo.evaluation.losses import run_with
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.evaluation.statistics import mean_loss
from mergekit_geo.modules.vectors import norm
from mergekit_geo.records import Record
from mergekit_geo.records.curvature import (
    AscentEntry,
    CurvatureEntry,
    EigenvalueEntry,
    Escape,
    ExtremesEntry,
    ProbeEntry,
    QuotientsEntry,
    SharpnessEntry,
    SlopeEntry,
    Spectrum,
    Stationarity,
    Trace,
)
from mergekit_geo.tasks.losses import Losses

Found = TypeVar("Found", bound=Record)

TOLERANCE = 1e-3
SHARE = 0.5
"""Most of the free memory that a basis takes."""


class Survey:
    """All measures of one model; the module is loaded when the first part is to be made.

    Args:
        load: Gives the module, in evaluation mode and at least float32.
        objective: The sample.
        held_out: Other documents; None where there are none.
        level: How much is measured.
        radii: How far.
        kept: Where finished parts are.
        seed: Of all random directions.
        spend: Told of the cost, in gradients of a batch.
    """

    def __init__(
        self,
        load: Callable[[], Module],
        objective: Objective,
        held_out: Objective | None,
        level: Level,
        radii: SharpnessRadii,
        kept: RecordCache | NoCache,
        seed: int,
        spend: Callable[[float], None],
    ) -> None:
        self.load, self.objective, self.held_out = load, objective, held_out
        self.level, self.radii, self.kept, self.seed = level, radii, kept, seed
        self.spend = spend

    @property
    def is_finished(self) -> bool:
        """Whether every part is kept."""
        return all(self.kept.get(self._key(name), kind) for name, kind in self._parts())

    def entry(
        self, name: str, role: Literal["parent", "output", "model"], gradients: Callable[[], float]
    ) -> SharpnessEntry:
        """All measures of the level.

        Args:
            name: Of the model.
            role: What it is in the report.
            gradients: What was spent so far.

        Raises:
            DataError: The loss is not a number.
        """
        slope = self._recall("slope", SlopeEntry, self._slope)
        extremes = self._curvature_found().extremes
        ascent = self._ascent_of_level()
        trace = self._trace_of_level()
        spectrum_found = self._spectrum_of_level()
        return SharpnessEntry(
            model=name,
            role=role,
            level="full" if self.level.ends == "both" else "quick",
            rho=self.radii.rho,
            adaptive_rho=self.radii.adaptive,
            noise=self.radii.noise,
            slope=slope,
            extremes=extremes,
            sam_sharpness=_largest_rise(slope, extremes, ascent),
            ascent=ascent,
            trace=trace,
            spectrum=spectrum_found,
            stationarity=_stationarity(slope, extremes),
            gradients=round(gradients(), 2),
        )

    @property
    def quotients(self) -> QuotientsEntry | None:
        """v^T H v of each example at the eigenvector of λ_max; None where that was not kept."""
        return self._curvature_found().quotients

    def _curvature_found(self) -> CurvatureEntry:
        return self._recall("curvature", CurvatureEntry, self._curvature)

    @cached_property
    def _loss(self) -> MeanLoss:
        return MeanLoss(self.load(), self.objective.batches(), self.spend)

    @cached_property
    def _groups(self) -> GroupGradients:
        return GroupGradients.of(self._loss)

    @cached_property
    def _hessian(self) -> Hessian:
        return Hessian(self._loss, self.level.method)

    def _parts(self) -> list[tuple[str, type[Record]]]:
        level = self.level
        parts: list[tuple[str, type[Record]]] = [
            ("slope", SlopeEntry),
            ("curvature", CurvatureEntry),
        ]
        parts += [("ascent", AscentEntry)] * bool(level.ascent_steps)
        parts += [("trace", Trace)] * bool(level.trace_products)
        return parts + [(f"probe {i}", ProbeEntry) for i in range(level.probes)]

    def _key(self, name: str) -> str:
        return f"{name} {self.level} {self.radii}"

    def _recall(self, name: str, kind: type[Found], make: Callable[[], Found]) -> Found:
        return self.kept.recall(self._key(name), kind, make)

    def _slope(self) -> SlopeEntry:
        logits, loss, groups = LogitNorm(), self._loss, self._groups
        with logits.of(loss.model):
            losses = self.objective.measure(loss.model)
        self.spend(EVALUATION * len(loss.batches))
        device, dtype, attention = run_with(loss.model)
        return SlopeEntry(
            examples=len(losses.loss),
            tokens=int(losses.weight.sum()),
            documents=len(np.unique(losses.document)),
            parameters=loss.weights.size,
            device=device,
            dtype=dtype,
            attention=attention,
            loss=groups.loss,
            loss_error=mean_loss(losses).error,
            gradient_norm=groups.norm,
            squared_norm=groups.squared_norm,
            squared_norm_error=groups.standard_error,
            parameter_norm=norm(loss.weights.vector()),
            logit_norm=logits.mean,
            one_step=one_step(loss, groups.gradient, groups.loss, self.radii.rho),
            groups=groups.groups,
        )

    def _curvature(self) -> CurvatureEntry:
        level, hessian = self.level, self._hessian
        found = krylov_of(
            hessian,
            self._start(),
            level.steps,
            stop=extremes_converged(TOLERANCE, level.ends),
            keep_basis=self._fits(level.steps),
        )
        kept = found.basis is not None
        top = found.vector(-1) if kept else None
        bottom = found.vector(0) if kept and level.ends == "both" else None
        above, below = (
            self._quotients(top, found.values[-1]),
            self._quotients(bottom, found.values[0]),
        )
        extremes = ExtremesEntry(
            largest=_eigenvalue(found, -1, above, self._on_half(top)),
            smallest=_eigenvalue(found, 0, below) if level.ends == "both" else None,
            steps=len(found.diagonal),
            method=hessian.method,
            reason=hessian.reason,
            step=hessian.step if hessian.method == DIFFERENCES else None,
            step_error=self._step_error(top, found.values[-1]),
            along=self._along(top) if level.ends == "both" else None,
            escape=self._escape(bottom, found.values[0]),
        )
        return CurvatureEntry(extremes=extremes, quotients=above and _quotients_entry(above))

    def _quotients(self, vector: Tensor | None, value: float) -> Losses | None:
        """v^T H v of every example; None where one is no number, or v was not kept."""
        if vector is None:
            return None
        found = quotients(self._loss, self.objective, vector, value)
        return found if np.isfinite(found.loss).all() else None

    def _start(self) -> Tensor:
        """Start of Lanczos: a random direction plus the gradient, which favours large values."""
        gradient = self._groups.gradient
        start = random_start(self._loss.weights.size, self._loss.weights.dtype, self.seed)
        length = norm(gradient)
        if length > 0:
            start = start + gradient / length
        return start / norm(start)

    def _fits(self, vectors: int) -> bool:
        """Whether memory holds so many vectors."""
        needed = vectors * self._loss.weights.size * self._loss.weights.dtype.itemsize
        return bool(needed < SHARE * psutil.virtual_memory().available)

    def _on_half(self, top: Tensor | None) -> float | None:
        """λ_max on every other batch, sought from where it was found on all."""
        if top is None or len(self._loss.batches) < 2:  # noqa: PLR2004
            return None
        hessian = Hessian(self._loss.part(0, 2), self._hessian.method, self._hessian.step)
        stop = extremes_converged(TOLERANCE, "largest")
        found = lanczos(hessian.product, top, self.level.half_steps, stop=stop, keep_basis=False)
        return float(found.values[-1])

    def _step_error(self, top: Tensor | None, value: float) -> float | None:
        """Relative change of λ_max when the step of the differences is halved."""
        if top is None or self._hessian.method != DIFFERENCES or value == 0:
            return None
        halved = Hessian(self._loss, DIFFERENCES, self._hessian.step / 2)
        return abs(float(top @ halved.product(top)) / value - 1)

    def _along(self, top: Tensor | None) -> float | None:
        if top is None:
            return None
        return along(self._loss, top, self._groups.loss, self.radii.rho)

    def _escape(self, bottom: Tensor | None, value: float) -> Escape | None:
        if bottom is None or value >= 0:
            return None
        other = None
        if self.held_out is not None:
            other = MeanLoss(self._loss.model, self.held_out.batches(), self.spend)
        return escape(self._loss, bottom, self._groups.loss, held_out=other)

    def _ascent_of_level(self) -> AscentEntry | None:
        if not self.level.ascent_steps:
            return None
        return self._recall("ascent", AscentEntry, self._ascent)

    def _ascent(self) -> AscentEntry:
        loss, groups, radii, level = self._loss, self._groups, self.radii, self.level
        scale = loss.weights.vector().abs()

        def climb(rho: float, scale: Tensor | None) -> float:
            return projected_ascent(
                loss, groups.gradient, groups.loss, rho,
                steps=level.ascent_steps, restarts=level.restarts, seed=self.seed, scale=scale,
            )  # fmt: skip

        mean = average_sharpness(
            loss, groups.loss, radii.noise, draws=level.draws, seed=self.seed, scale=scale
        )
        return AscentEntry(
            ascent=climb(radii.rho, None),
            adaptive_worst=climb(radii.adaptive, scale),
            adaptive_mean=mean.value,
            adaptive_error=mean.standard_error,
        )

    def _trace_of_level(self) -> Trace | None:
        if not self.level.trace_products:
            return None
        return self._recall("trace", Trace, self._trace)

    def _trace(self) -> Trace:
        products, weights = self.level.trace_products, self._loss.weights
        estimate = xtrace if self._fits(products) else hutchinson
        return estimate(self._hessian.product, weights.size, weights.dtype, products, self.seed)

    def _spectrum_of_level(self) -> Spectrum | None:
        if not self.level.probes:
            return None
        probes = [
            self._recall(f"probe {i}", ProbeEntry, lambda i=i: self._probe(i))  # type: ignore[misc]
            for i in range(self.level.probes)
        ]
        quadratures = [Quadrature(np.array(p.nodes), np.array(p.weights)) for p in probes]
        return spectrum(quadratures)

    def _probe(self, index: int) -> ProbeEntry:
        weights, steps = self._loss.weights, self.level.probe_steps
        seed = self.seed * self.level.probes + index
        found = probe(self._hessian.product, weights.size, weights.dtype, steps, seed)
        return ProbeEntry(nodes=found.nodes.tolist(), weights=found.weights.tolist())


def _largest_rise(
    slope: SlopeEntry, extremes: ExtremesEntry, ascent: AscentEntry | None
) -> float | None:
    """SAM sharpness: the best of what was tried; None where the loss is not finite somewhere."""
    rises = [slope.one_step, *([] if ascent is None else [ascent.ascent])]
    rises += [] if extremes.along is None else [extremes.along]
    known = [rise for rise in rises if rise is not None]
    return max(known) if len(known) == len(rises) else None


def _quotients_entry(found: Losses) -> QuotientsEntry:
    return QuotientsEntry(
        value=found.loss.tolist(), weight=found.weight.tolist(), document=found.document.tolist()
    )


def _eigenvalue(
    found: Krylov, index: int, sampled: Losses | None, half: float | None = None
) -> EigenvalueEntry:
    sure = sampled and mean_loss(sampled)
    return EigenvalueEntry(
        value=float(found.values[index]),
        residual=float(found.residuals[index]),
        converged=bool(found.converged(TOLERANCE)[index]),
        half=half,
        sampling=sure and sure.estimate,
        error=sure and sure.error,
    )


def _stationarity(slope: SlopeEntry, extremes: ExtremesEntry) -> Stationarity:
    smallest, escaped = extremes.smallest, extremes.escape
    return verdict(
        loss=slope.loss,
        loss_error=slope.loss_error,
        squared_norm=slope.squared_norm,
        squared_norm_error=slope.squared_norm_error,
        lambda_max=extremes.largest.value,
        lambda_min=None if smallest is None else smallest.value,
        residual=None if smallest is None else smallest.residual,
        error=None if smallest is None else smallest.uncertainty,
        steps=extremes.steps,
        lowered=None if escaped is None else escaped.lowered,
        groups=slope.groups,
    )
