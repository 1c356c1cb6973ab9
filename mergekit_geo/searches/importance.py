"""Which parameters of a search its value depends on."""

from __future__ import annotations

from contextlib import suppress

import optuna
from optuna.study import Study
from optuna.trial import TrialState

ENOUGH = 8
"""Fewer trials tell nothing of the importance of a parameter."""


def importances(study: Study) -> dict[str, float]:
    """The share of each parameter in the variance of the value (fANOVA, Hutter et al., 2014).

    With several aims, of the sum of the values. Empty where there are too few trials, where all
    have one value, or without scikit-learn; parameters that not every trial has are left out.

    Args:
        study: Of Optuna.
    """
    count = len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]))
    if count < ENOUGH:
        return {}
    with suppress(ImportError, RuntimeError):  # RuntimeError: all have one value
        tools = optuna.importance  # imports scikit-learn, a second
        found = tools.get_param_importances(
            study, evaluator=tools.FanovaImportanceEvaluator(n_trees=_trees(count), seed=0),
            target=lambda one: sum(one.values),
        )  # fmt: skip
        return {name: float(share) for name, share in found.items()}
    return {}


def _trees(count: int) -> int:
    """Trees of a forest over so many trials: Optuna's 64 take half a minute for a thousand."""
    return min(64, max(16, 6400 // count))
