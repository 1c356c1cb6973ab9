"""`geo.escape`: out of a saddle, where the model stands at one."""

from __future__ import annotations

from mergekit_geo.commands._push import prepare_push
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.errors import DataError
from mergekit_geo.outputs.kind import ESCAPED
from mergekit_geo.outputs.output import Output
from mergekit_geo.processes import main_process_first
from mergekit_geo.specs.training import EscapeSpec


@command(EscapeSpec)
def escape(asked: EscapeSpec) -> Work:
    """Leave a saddle of the training loss (Dauphin 2014, Jin 2017), and tell whether it was one.

    First the gradient: away from a critical point there is nothing to leave. Then λ_min and its
    eigenvector by Lanczos, a line search along it in both directions, checked on the report half of
    the held-out data, and perturbed gradient descent or SGD from there. All of it is in float32, or
    in float64 for a module that is, in evaluation mode: dropout is off, and statistics stay. Where
    nothing was to leave, the output has the model's own weights. A run that was interrupted goes on
    to the same bytes.

    Raises:
        DataError: No training data, none that fits the model, or a loss that is not a number.
        UnsupportedError: The model is in half precision, or memory does not hold the basis.
        GeoError: With the reason and the remedy; nothing is half-written.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.escape(
            "a",
            "out",
            train_data="train.jsonl",
            data=geo.EvalData("held-out.jsonl"),
            escaping=geo.EscapeConfig(examples=16, steps=4),
        )
        print(found.measurements.escape.verdict.sentence)
        ```
    """
    if asked.train_data is None:
        raise DataError("no training data whose loss could fall", remedy="--train-data FILE")
    return Work(asked, lambda output: _escaped(asked, output), ESCAPED)


def _escaped(asked: EscapeSpec, output: Output) -> Findings:
    """Escape, after all has been refused that needs neither torch nor the model's data."""
    main_process_first(lambda: prepare_push(asked.output, output.out))
    from mergekit_geo.commands._escape import escape_model

    return escape_model(asked, output)
