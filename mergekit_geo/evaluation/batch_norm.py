"""BatchNorm statistics of a merge, estimated anew on training data and written over the average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from torch.nn import Module

from mergekit_geo.checkpoints.checkpoint import Checkpoint, Config
from mergekit_geo.checkpoints.dtypes import DTYPE_NAMES, bytes_of, rounded
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.checkpoints.index import read_tensors
from mergekit_geo.config.data import EvalData
from mergekit_geo.config.measures import Compute
from mergekit_geo.evaluation.sample import Sample, prepare
from mergekit_geo.evaluation.study import NO_STATISTICS, Study
from mergekit_geo.merging.blend import STATISTICS
from mergekit_geo.modules.batch_norm import batch_norms, reestimate
from mergekit_geo.modules.blend import module_names, not_as_stored
from mergekit_geo.modules.load import load_model
from mergekit_geo.modules.open import load_result
from mergekit_geo.outputs.writer import output_errors

BATCH_NORM_EXAMPLES = 2048


def refreshing(
    model: Module, donor: Checkpoint, study: Study
) -> tuple[Callable[[Module], object], Sample | None, tuple[str, ...]]:
    """How BatchNorm statistics are estimated anew after each move of a module.

    Args:
        model: The module.
        donor: In a folder with the image processor or tokenizer.
        study: What they are estimated on.

    Returns:
        The function that does it, what on, and a warning where they should be and are not.
    """
    if not batch_norms(model):
        return (lambda module: None), None, ()
    if study.statistics_data is None or donor.folder is None:
        return (lambda module: None), None, (f"{NO_STATISTICS} at every point",)
    training = _training(study.statistics_data, donor.folder, donor.config, study.compute)
    objective, batches = training.objective, training.objective.batch_rows()
    return (lambda module: reestimate(module, batches, objective.losses_of)), training, ()


def estimate_statistics(
    module: Module, folder: Path, config: Config, train_data: EvalData, compute: Compute
) -> int:
    """Replace a module's BatchNorm statistics by those of training data; returns the batches."""
    objective = _training(train_data, folder, config, compute).objective
    return reestimate(module, objective.batch_rows(), objective.losses_of)


def _training(train_data: EvalData, folder: Path, config: Config, compute: Compute) -> Sample:
    most = train_data.max_examples or BATCH_NORM_EXAMPLES
    return prepare(replace(train_data, max_examples=most), folder, config, compute)


def rewrite_statistics(folder: Path, train_data: EvalData, compute: Compute) -> int:
    """Estimate the running statistics of a checkpoint that is not published yet, in place.

    Args:
        folder: With weights, configuration and image processor.
        train_data: What they are estimated on.
        compute: How the model is run.

    Returns:
        Number of batches.

    Raises:
        DataError: The training data is missing or unusable.
        OutputError: The file cannot be written.
    """
    checkpoint = open_folder(folder)
    module = load_model(folder, compute)
    count = estimate_statistics(module, folder, checkpoint.config, train_data, compute)
    names = _names(module, checkpoint)
    state = module.state_dict()
    with output_errors(folder, 0):
        for name, tensor in _statistics(names, state):
            _overwrite(folder, name, tensor)
    return count


def refresh_state(
    donor: Checkpoint, state: dict[str, Tensor], train_data: EvalData, compute: Compute
) -> int:
    """Estimate BatchNorm statistics anew for a merge in memory.

    Args:
        donor: In a folder with the image processor or tokenizer.
        state: The merged tensors, whose statistics are overwritten.
        train_data: What they are estimated on.
        compute: How the model is run.

    Returns:
        Number of batches.

    Raises:
        DataError: The training data is missing or unusable.
    """
    assert donor.folder is not None
    # The module may share its tensors with `state`, whose counters are the donor's and stay so.
    own = {name: t if t.is_floating_point() else t.clone() for name, t in state.items()}
    module = load_result(donor, own, compute)
    count = estimate_statistics(module, donor.folder, donor.config, train_data, compute)
    for name, tensor in _statistics(_names(module, donor), module.state_dict()):
        state[name].copy_(rounded(name, tensor, DTYPE_NAMES[state[name].dtype]))
    return count


def _names(module: Module, checkpoint: Checkpoint) -> dict[str, str]:
    names = module_names(module, checkpoint)
    if names is None:
        why = "its BatchNorm statistics are written back to them"
        raise not_as_stored(why, checkpoint.name, "leave --train-data out")
    return names


def _statistics(names: dict[str, str], state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for stored, own in names.items():
        if stored.rpartition(".")[2] in STATISTICS:
            yield stored, state[own]


def _overwrite(folder: Path, name: str, tensor: Tensor) -> None:
    info, place = read_tensors(folder)[name]
    data = bytes_of(rounded(name, tensor, info.dtype).contiguous())
    with place.path.open("r+b") as file:
        file.seek(place.offset)
        file.write(data.data)
