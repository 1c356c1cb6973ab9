"""`geo.finetune`: a checkpoint trained further, by SAM or by an ordinary optimizer."""

from __future__ import annotations

from mergekit_geo.commands._push import prepare_push
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.errors import ArgumentError, DataError
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import main_process_first
from mergekit_geo.specs.training import FinetuneSpec
from mergekit_geo.training.store import TUNED, kind_of_members


@command(FinetuneSpec)
def finetune(asked: FinetuneSpec) -> Work:
    """Train a checkpoint further (SAM; Foret 2021), and measure it before and after.

    Training is in float32, under bfloat16 autocast if asked for; the weights are rounded to the
    checkpoint's own dtype at the end, and measured as they are then. Under torchrun or accelerate
    launch the processes share the work. An interrupted run can be resumed to the same bits.

    Raises:
        ArgumentError: An invalid setting, or another run's state to resume from.
        DataError: No training data, or none that fits the model.
        NonFiniteError: The loss is not a number in too many steps in a row.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.finetune(
            "a",
            "tuned",
            train_data="train.jsonl",
            data=geo.EvalData("held-out.jsonl"),
            sam=geo.SamArguments(rho=0.05),
            training=geo.TrainingConfig(steps=4),
        )
        print(found.measurements.differences[0])
        ```
    """
    if asked.train_data is None:
        raise DataError("no training data to fine-tune on", remedy="--train-data FILE")
    if asked.members is None:
        return Work(asked, lambda output: _trained(asked, output), TUNED)
    if asked.output.push_to is not None:
        raise ArgumentError(
            "several members go to several repositories", remedy="geo-merge push OUT/member-0 REPO"
        )
    return Work(asked, lambda output: _trained(asked, output), kind_of_members(asked.members))


def _trained(asked: FinetuneSpec, output: Output) -> Findings:
    """Train, after all has been refused that needs neither torch nor the model's data."""
    main_process_first(lambda: prepare_push(asked.output, output.out))
    from mergekit_geo.commands.members import tune_models

    return tune_models(asked, output)
