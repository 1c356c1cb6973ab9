"""Which of a task's metrics is the score: one that is a number a document, and the more the better.

`TASK@NAME` names a metric or a filter of the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_eval.api.metrics import mean

from mergekit_geo.errors import ArgumentError
from mergekit_geo.printable import nearest_of

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import ConfigurableTask

NO_FILTER = "none"


@dataclass(frozen=True)
class Metric:
    """A metric of a task, and the filter of what a model says before it.

    Attributes:
        name: As lm-eval calls it; empty where no metric of the task is a number a document.
        by: lm-eval's filters.
    """

    name: str
    by: Any

    @classmethod
    def of(cls, task: ConfigurableTask, asked: Sequence[str] = ()) -> Metric:
        """The one that is asked for, else `acc_norm` where the task has it, else its first.

        Args:
            task: Of lm-eval.
            asked: Names of a metric, of a filter, or of both.

        Raises:
            ArgumentError: The task has no such metric, and no such filter.
        """
        metrics, filters = _metrics(task), {one.name: one for one in task._filters}
        for word in asked:
            if word not in metrics and word not in filters:
                known = [*metrics, *(name for name in filters if name != NO_FILTER)]
                raise ArgumentError(
                    f"the task has no metric and no filter {word!r}; it has {', '.join(known)}",
                    where=f"lm-eval:{task.task_name}", remedy=nearest_of(word, known).strip(),
                )  # fmt: skip
        usual = "acc_norm" if "acc_norm" in metrics else next(iter(metrics), "")
        name = next((word for word in asked if word in metrics), usual)
        first = next(iter(filters))
        return cls(name, filters[next((word for word in asked if word in filters), first)])

    @property
    def title(self) -> str:
        """Name with the filter, where there is one, such as `strict-match exact_match`."""
        return (
            self.name
            if not self.name or self.by.name == NO_FILTER
            else f"{self.by.name} {self.name}"
        )

    def of_answers(self, task: ConfigurableTask, requests: Sequence[Instance]) -> float:
        """The number of a document whose requests have their responses.

        Raises:
            Exception: Whatever a function of a task's file raises.
        """
        self.by.apply(requests)
        results = [request.filtered_resps[self.by.name] for request in requests]
        found: Mapping[str, Any] = task.process_results(requests[0].doc, results)
        return float(found[self.name] if self.name in found else next(iter(found.values())))


def _metrics(task: ConfigurableTask) -> list[str]:
    better = task.higher_is_better()
    return [
        name
        for name, aggregation in task.aggregation().items()
        if aggregation is mean and better.get(name) is not False and name != "bypass"
    ]
