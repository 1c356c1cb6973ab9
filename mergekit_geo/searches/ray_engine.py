"""Trials measured as tasks on a Ray cluster, on one machine or many.

Each slot is an actor: a process of Ray's that holds the models and a share of a node for as long as
the search runs. Plain tasks would share their processes, and a process that has used one GPU can
use no other. Ray repeats nothing: a trial that is lost is lost, and the search goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mergekit_geo.errors import ArgumentError, GeoError
from mergekit_geo.printable import shortened
from mergekit_geo.searches.engine import Open, measured, opened, pickled
from mergekit_geo.searches.ray_session import RaySession
from mergekit_geo.searches.trial import Measure, Outcome, Trial
from mergekit_geo.searches.workers import READY, TRIES, Message, Worker, Workers


@dataclass(frozen=True)
class Share:
    """What a worker has of a node.

    Attributes:
        gpus: GPUs, or a part of one.
        cpus: Cores.
        slots: How many workers there are.
    """

    gpus: float
    cpus: int
    slots: int

    @classmethod
    def of(
        cls, nodes: Sequence[Mapping[str, float]], num_gpus: float | None, slots: int | None
    ) -> Share:
        """Share a cluster among workers.

        Args:
            nodes: Resources of each node.
            num_gpus: GPUs of each worker; None is one, or none where there are none.
            slots: How many workers; None is as many as there are GPUs for, or nodes.

        Raises:
            ArgumentError: No node has so many GPUs.

        Example:
            >>> Share.of([{"CPU": 8, "GPU": 2}, {"CPU": 8, "GPU": 1}], None, None)
            Share(gpus=1, cpus=4, slots=3)
        """
        most = max((node.get("GPU", 0) for node in nodes), default=0)
        gpus = min(most, 1) if num_gpus is None else num_gpus
        if gpus > most:
            raise ArgumentError(
                f"no node of the Ray cluster has {gpus:g} GPUs, the most is {most:g}",
                where="--num-gpus", remedy=f"--num-gpus {most:g}, or start other nodes first",
            )  # fmt: skip
        found = slots or max(_capacity(nodes, gpus, 0 if gpus else None), 1)
        cores = range(int(max((node.get("CPU", 0) for node in nodes), default=0)), 0, -1)
        cpus = next((c for c in cores if _capacity(nodes, gpus, c) >= found), int(not gpus))
        return cls(gpus, cpus, found)


def _capacity(nodes: Sequence[Mapping[str, float]], gpus: float, cpus: int | None) -> int:
    """How many workers nodes have room for; with None one on each that has cores."""
    total = 0
    for node in nodes:
        cores = node.get("CPU", 0)
        rooms = [node.get("GPU", 0) / gpus] if gpus else []
        rooms += [float(cores >= 1)] if cpus is None else [cores / cpus] if cpus else []
        total += int(min(rooms))
    return total


class Host:
    """What runs in a process of Ray's.

    Args:
        opening: Opens models and data, pickled.
        has_gpu: Whether it may use the GPUs that it sees.
    """

    def __init__(self, opening: bytes, has_gpu: bool) -> None:
        if not has_gpu:  # Ray hides none from those who asked for none
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._opening = opening
        self._measure: Measure | None = None

    def open(self) -> Message:
        """Open models: `READY`, or why they cannot be."""
        found = opened(self._opening)
        if isinstance(found, GeoError):
            return found
        self._measure = found
        return READY

    def measure(self, trial: Trial) -> Outcome:
        """Measure a trial."""
        assert self._measure is not None
        return measured(self._measure, trial)


class Actor:
    """A host somewhere in the cluster; it waits for room there.

    Args:
        ray: The module.
        kind: Class of the actors.
        given: What its host is made of.

    Attributes:
        sign: Is done when there is something to hear; None while it waits for a trial.
        trial: What it measures; None while it waits for a trial.
        is_ready: Whether its models are open.
    """

    def __init__(self, ray: Any, kind: Any, *given: Any) -> None:
        self._ray = ray
        self._handle = kind.remote(*given)
        self._why: Exception | None = None
        self.sign: Any = self._handle.open.remote()
        self.trial: Trial | None = None
        self.is_ready = False

    def measure(self, trial: Trial) -> bool:
        """Give it a trial; where it was lost, Ray tells of the trial what has become of it."""
        self.trial, self.sign = trial, self._handle.measure.remote(trial)
        return True

    def heard(self) -> Message | None:
        """What it has said; None where it is lost."""
        sign, self.sign = self.sign, None
        try:
            said: Message = self._ray.get(sign)
        except self._ray.exceptions.RayError as error:
            self._why = error
            return None
        self.trial, self.is_ready = None, True
        return said

    def how_it_was_lost(self) -> str:
        """How it was lost, in words."""
        return f"its process on the Ray cluster was lost: {_why(self._why)}"

    def end(self) -> None:
        """End it at once."""
        self._ray.kill(self._handle)

    def join(self) -> None:
        """Wait for nothing: Ray ends it."""


class RayEngine(Workers[Actor]):
    """Measures trials on a Ray cluster; a node that dies takes along the trials that it runs.

    Args:
        opening: Opens models and data, once in each process.
        address: Of the cluster; None starts one on this machine, as `RaySession` says.
        num_gpus: GPUs of each trial, or a part of one; None is one, or none where there are none.
        slots: How many trials are measured at once; None is as many as there are GPUs for, or
            nodes.

    Raises:
        ArgumentError: Ray is not installed, the address is none, no node has so many GPUs, or what
            opens models cannot be sent.
        GeoError: The cluster cannot be reached or used, or none can be started.
    """

    def __init__(
        self,
        opening: Open,
        address: str | None = None,
        num_gpus: float | None = None,
        slots: int | None = None,
    ) -> None:
        super().__init__()
        self._session = RaySession(address)
        try:
            self._begin(opening, num_gpus, slots)
        except BaseException:
            self.close()
            raise

    def speaking(self, workers: Sequence[Worker[Actor]], seconds: float) -> list[Worker[Actor]]:
        """Workers whose actors have said something, or were lost."""
        signs = {w.process.sign: w for w in workers if w.process.sign is not None}
        if not signs:
            time.sleep(seconds)
            return []
        ray = self._session.ray
        done, rest = ray.wait(list(signs), num_returns=1, timeout=seconds)
        if done and rest:
            done += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [signs[sign] for sign in done]

    def cannot_open(self, how: str) -> GeoError:
        """The error where actors are lost before their models are open."""
        return GeoError(
            f"models cannot be opened, in {TRIES} tries: {how}", where="--engine ray",
            remedy="install the same packages on every node, or fewer --workers, as each holds the "
            "models",
        )  # fmt: skip

    def close(self) -> None:
        """End all actors, and the cluster that was started for them."""
        super().close()
        self._session.close()

    def _begin(self, opening: Open, num_gpus: float | None, slots: int | None) -> None:
        ray = self._session.ray
        share = Share.of(self._session.nodes, num_gpus, slots)
        kind = ray.remote(
            num_gpus=share.gpus, num_cpus=share.cpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(Host)  # fmt: skip
        sent = ray.put(pickled(opening, ray.cloudpickle.dumps, "--engine ray"))
        self.start([partial(Actor, ray, kind, sent, share.gpus > 0)] * share.slots)


def _why(error: Exception | None) -> str:
    """The first sentences of what Ray says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return shortened(lines[0] if lines else type(error).__name__)
