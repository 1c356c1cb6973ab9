"""`geo.sharpness`: how curved the loss is where models stand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mergekit_geo.checkpoints.origin import model_entries
from mergekit_geo.checkpoints.reference import several
from mergekit_geo.checkpoints.unchanged import require_unchanged
from mergekit_geo.commands._run import Findings, Work, command
from mergekit_geo.config.data import source_of
from mergekit_geo.curvature.levels import level_of
from mergekit_geo.evaluation.losses import source_entry
from mergekit_geo.evaluation.study import Study
from mergekit_geo.outputs.kind import SHARPNESS
from mergekit_geo.outputs.output import Output
from mergekit_geo.records.curvature import SharpnessMeasurements, SharpnessSetEntry
from mergekit_geo.specs.measures import SharpnessSpec
from mergekit_geo.specs.spec import repeated

if TYPE_CHECKING:
    from mergekit_geo.evaluation.plan import SharpnessReport


@command(SharpnessSpec)
def sharpness(asked: SharpnessSpec) -> Work:
    """Measure the curvature of the loss at models, all on the same examples, in float32.

    Finished parts are kept in the user's cache: an interrupted measurement goes on.

    Raises:
        ArgumentError: No models, no such level, or a radius that is not positive.
        DataError: Nothing to measure on, too few examples, or a loss that is not a number.
        GeoError: With the reason and the remedy.

    Example:
        ```python
        import mergekit_geo as geo

        found = geo.sharpness(["a", "b"], data=geo.EvalData("held-out.jsonl"))
        for model in found.measurements.sharpness:
            print(model.model, model.extremes.largest.value)
        ```
    """
    level_of(asked.level)
    return Work(asked, lambda output: _sharpness(asked, output), SHARPNESS)


def _sharpness(asked: SharpnessSpec, output: Output) -> Findings:
    data = asked.data
    models = several(asked.models, "measure")
    settings = source_of(data).as_settings
    everything = data and source_of(data).replaced(max_examples=None)
    study = Study.open(models, replace(asked, data=everything), output)
    anchors = study.anchors
    # torch
    from mergekit_geo.curvature.suite import measure_sharpness, subject
    from mergekit_geo.evaluation.weighted_sets import on_weighted_mean

    subjects = [subject(anchor, "model", study.compute) for anchor in anchors]
    mean = on_weighted_mean(study) if study.further else None
    studies = [*study.sets, *([mean] if mean else [])]
    found = []
    for number, one in enumerate(studies):
        with study.clock.running(), study.clock.share(len(studies) - number):
            most = None if settings is None else settings.max_examples
            level = level_of(asked.level)
            found.append(measure_sharpness(one, subjects, level, asked.radii, most=most))
    require_unchanged(anchors)
    sets = {one.name: _on_set(one, own) for one, own in zip(study.sets, found, strict=False)}
    first, slope = sets[study.name], found[0].entries[0].slope
    return Findings(
        SharpnessMeasurements(
            sharpness=first.sharpness,
            sets=sets if study.further else {},
            weighted=found[-1].entries if mean else [],
        ),
        model_entries(anchors),
        (slope.device, slope.dtype, slope.attention),
        settings={"alignment": study.checked.notes},
        data=first.data,
        warnings=[*study.checked.warnings, *(text for own in found for text in own.warnings)],
        again=repeated(asked),
    )


def _on_set(study: Study, found: SharpnessReport) -> SharpnessSetEntry:
    """Sharpness of every model on one set."""
    slope = found.entries[0].slope
    data = source_entry(
        study, documents=slope.documents, examples=slope.examples, tokens=slope.tokens
    )
    return SharpnessSetEntry(data=data, weight=study.weight, sharpness=found.entries)
