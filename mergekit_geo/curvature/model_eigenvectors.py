"""The top eigenvectors of the Hessian at a model, as directions: anchors like any other."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint
from mergekit_geo.checkpoints.folder import bend_prefix, open_bend
from mergekit_geo.checkpoints.memory import of_state
from mergekit_geo.curvature.eigenvectors import Eigenpair, top_eigenpairs
from mergekit_geo.curvature.hessian import Hessian
from mergekit_geo.curvature.lanczos import random_start
from mergekit_geo.curvature.levels import DIFFERENCES, Level
from mergekit_geo.curvature.mean_loss import MeanLoss
from mergekit_geo.curvature.sample import Spent, make_sample, seconds_each
from mergekit_geo.curvature.table import gradients_of
from mergekit_geo.errors import DataError, UnsupportedError
from mergekit_geo.evaluation.cache import MeasurementCache
from mergekit_geo.evaluation.cache_key import cache_key
from mergekit_geo.evaluation.objective import Objective
from mergekit_geo.evaluation.study import Study
from mergekit_geo.files.regular import file_digest
from mergekit_geo.modules.blend import InPlace, module_names, not_as_stored
from mergekit_geo.modules.open import at_least_single, open_module
from mergekit_geo.printable import in_gigabytes
from mergekit_geo.processes import broadcast, is_main_process

COUNT = 2
REFITS = 3
"""How often the step of differences is shortened at most."""
VECTORS, VALUES = "eigenvectors.safetensors", "eigenvectors.json"
COST = Level("eigenvectors", 64, DIFFERENCES, "largest", steps=40, half_steps=0)
SHARE = 0.5
"""Most of the free memory that a basis takes."""


@dataclass(frozen=True)
class Eigenvectors:
    """Directions in which the loss is curved most.

    Attributes:
        anchors: Unit vectors, the one of the largest eigenvalue first.
        values: Their eigenvalues.
        warnings: Where they have not converged, or cannot be kept.
        key: Tells them from others.
    """

    anchors: tuple[Checkpoint, ...]
    values: tuple[float, ...]
    warnings: tuple[str, ...]
    key: str


def eigenvectors(study: Study, model: Checkpoint) -> Eigenvectors:
    """The top two eigenvectors at a model, in float32, on examples of the report half.

    They are kept in the user's cache: another computation of them would differ in rounding, and a
    grid along other directions cannot go on.

    Args:
        study: All examples that there are, and how models are run.
        model: Its data is here.

    Raises:
        UnsupportedError: The module holds its tensors under other names than are stored, or memory
            does not hold the basis.
        DataError: Nothing to measure on, or the budget does not hold it.
    """
    study.require_measurable()
    assert study.plan.objective is not None
    objective = make_sample(study.plan.objective, COST.examples, study.seed).measured
    search = _EigenvectorSearch(study, model, objective)
    if study.sample is None or model.folder is None:
        return _in_memory(model, *search.run())
    warnings: list[str] = []
    wide = replace(study.compute, dtype="float32")
    kept = _EigenvectorCache(cache_key([model], study.sample, study.data, wide), warnings.append)
    found = broadcast(kept.get() if is_main_process() else None)
    if found is None:
        states, pairs = search.run()
        found = broadcast(kept.put(states, pairs) if is_main_process() else None)
        if found is None:
            return _in_memory(model, states, pairs, warnings)
    vectors, digest, pairs = found
    anchors = [open_bend(vectors, i, _title(i)) for i in range(COUNT)]
    return _found(model, anchors, pairs, digest, warnings)


Note = tuple[float, bool]
"""An eigenvalue, and whether it has converged."""


class _EigenvectorCache(MeasurementCache):
    """Two files: the vectors, and their eigenvalues with the digest of the first."""

    def get(self) -> tuple[Path, str, list[Note]] | None:
        """Vectors, their digest and notes; None where they are not whole."""
        path, noted = self.cache.trusted(VECTORS), self.cache.read(VALUES)
        if path is None or noted is None:
            return None
        digest, notes = json.loads(noted)
        if file_digest(path) != digest:
            self.cache.unsound()
            return None
        return path, digest, [(value, converged) for value, converged in notes]

    def put(
        self, states: Sequence[Mapping[str, Tensor]], notes: Sequence[Note]
    ) -> tuple[Path, str, list[Note]] | None:
        """Write eigenvectors to the cache: file, digest and notes; None if it cannot be written."""
        packed = _packed(states)
        digest = hashlib.sha256(packed).hexdigest()
        noted = json.dumps([digest, notes]).encode()
        if not self.cache.write_plain(VECTORS, lambda file: file.write(packed)):
            return None
        if not self.cache.write(VALUES, lambda file: file.write(noted)):
            return None
        return self.folder / VECTORS, digest, list(notes)


def _in_memory(
    model: Checkpoint,
    states: Sequence[Mapping[str, Tensor]],
    notes: Sequence[Note],
    warnings: Sequence[str] = (),
) -> Eigenvectors:
    anchors = [of_state(state, _title(i)) for i, state in enumerate(states)]
    return _found(model, anchors, notes, uuid.uuid4().hex, warnings)


def _title(number: int) -> str:
    return f"eigenvector {number + 1}"


def _found(
    model: Checkpoint,
    anchors: Sequence[Checkpoint],
    notes: Sequence[Note],
    key: str,
    warnings: Sequence[str],
) -> Eigenvectors:
    slow = [
        f"{model.name}: {anchor.name} has not converged in {COST.steps} steps"
        for anchor, (_, converged) in zip(anchors, notes, strict=True)
        if not converged
    ]
    values = tuple(value for value, _ in notes)
    return Eigenvectors(tuple(anchors), values, (*warnings, *slow), key)


def _packed(states: Sequence[Mapping[str, Tensor]]) -> bytes:
    tensors = {
        bend_prefix(i) + name: t for i, state in enumerate(states) for name, t in state.items()
    }
    return save(tensors, {"format": "pt"})


class _EigenvectorSearch:
    """Loads a model in float32 and finds the eigenvectors of its Hessian."""

    def __init__(self, study: Study, model: Checkpoint, objective: Objective) -> None:
        self.study, self.model, self.objective = study, model, objective
        self.compute, self.progress, self.seed = study.compute, study.progress, study.seed

    def run(self) -> tuple[list[dict[str, Tensor]], list[Note]]:
        """Stored name to tensor of each, and eigenvalues."""
        module = at_least_single(open_module(self.model, replace(self.compute, dtype="float32")))
        self._require_budget(module)
        batches = self.objective.batches()
        title = f"eigenvectors at {self.model.name}"
        loss = MeanLoss(
            module, batches, Spent(self.progress, title, gradients_of(COST) * len(batches))
        )
        self._require_memory(loss)
        start = random_start(loss.weights.size, loss.weights.dtype, self.seed)
        hessian = Hessian(loss, COST.method)
        hessian.fit_step(start)
        pairs = top_eigenpairs(hessian.product, start, COUNT, steps=COST.steps)
        for _ in range(REFITS):
            if not hessian.shorten_step(max(abs(pair.value) for pair in pairs)):
                break
            pairs = top_eigenpairs(hessian.product, start, COUNT, steps=COST.steps)
        return self._by_name(loss, pairs), [(pair.value, pair.converged) for pair in pairs]

    def _by_name(self, loss: MeanLoss, pairs: Sequence[Eigenpair]) -> list[dict[str, Tensor]]:
        """The vectors as stored tensors; zeros where the model does not train."""
        names = module_names(loss.model, self.model)
        if names is None:
            remedy = "leave --hessian-directions out: random directions need no gradient"
            raise not_as_stored("eigenvectors are found in it", self.model.name, remedy)
        places = loss.weights.places(InPlace(loss.model, names).parameters())
        floats = {key: info for key, info in self.model.tensors.items() if info.is_float}
        found = []
        for pair in pairs:
            views = loss.weights.views(pair.vector)
            state = {key: torch.zeros(info.shape) for key, info in floats.items()}
            for key, number in places.items():
                state[key].copy_(views[number].view(state[key].shape))
            found.append(state)
        return found

    def _require_budget(self, module: Module) -> None:
        """Tell the cost; refuse where the budget does not hold it."""
        seconds = broadcast(seconds_each(self.objective, module)) * gradients_of(COST)
        left = broadcast(self.study.clock.left)
        if seconds > left:
            raise DataError(
                f"eigenvectors would take up to {seconds / 60:.0f} minutes, and {left / 60:.1f} "
                f"of {self.compute.budget:g} are left",
                remedy="--budget 0 sets no limit; random directions cost nothing",
            )
        self.progress.say(f"eigenvectors at {self.model.name}: at most {seconds:.0f} s")

    def _require_memory(self, loss: MeanLoss) -> None:
        needed = COST.steps * loss.weights.size * loss.weights.dtype.itemsize
        free = psutil.virtual_memory().available
        if needed > SHARE * free:
            raise UnsupportedError(
                f"eigenvectors need {in_gigabytes(needed)} of memory for the basis, and "
                f"{in_gigabytes(free)} are free",
                where=self.model.name,
                remedy="leave --hessian-directions out",
            )
