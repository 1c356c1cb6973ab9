"""Trials measured by processes of this machine, each with a device of its own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import wait

from mergekit_geo.errors import GeoError
from mergekit_geo.portable import cores
from mergekit_geo.searches.engine import Open, pickled
from mergekit_geo.searches.process import Process
from mergekit_geo.searches.workers import TRIES, Worker, Workers


class Pool(Workers[Process]):
    """Measures trials in several processes; one that is lost takes its trial along, no more.

    Args:
        opening: Opens models and data, once in each process.
        workers: How many processes; those of a machine with fewer accelerators share them.

    Raises:
        ArgumentError: What opens models cannot be sent to other processes.
    """

    def __init__(self, opening: Open, workers: int) -> None:
        super().__init__()
        sent = pickled(opening, pickle.dumps, "--workers", "define functions in a module")
        try:
            self.start(partial(Process, sent, some) for some in environments(workers))
        except BaseException:
            self.close()
            raise

    def speaking(self, workers: Sequence[Worker[Process]], seconds: float) -> list[Worker[Process]]:
        """Workers whose pipes can be read, or whose processes have ended."""
        signs = {sign: worker for worker in workers for sign in worker.process.signs}
        heard = wait(list(signs), seconds)
        return list(dict.fromkeys(worker for sign, worker in signs.items() if sign in heard))

    def cannot_open(self, how: str) -> GeoError:
        """The error where processes end before their models are open."""
        return GeoError(
            f"a worker cannot open the models, in {TRIES} tries: {how}", where="--workers",
            remedy="fewer --workers, as each holds the models, or none to see what goes wrong; a "
            "script calls for workers below `if __name__ == '__main__':`",
        )  # fmt: skip


def environments(workers: int) -> list[dict[str, str]]:
    """Environment variables of each worker: its share of the cores, and its accelerator.

    Args:
        workers: How many there are.
    """
    threads = os.environ.get("OMP_NUM_THREADS", str(max(cores() // workers, 1)))
    devices = accelerators()
    return [
        {"OMP_NUM_THREADS": threads}
        | ({"CUDA_VISIBLE_DEVICES": devices[i % len(devices)]} if devices else {})
        for i in range(workers)
    ]


def accelerators() -> Sequence[str]:
    """The accelerators of this machine that may be used, as CUDA is told them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [device.strip() for device in told.split(",") if device.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
