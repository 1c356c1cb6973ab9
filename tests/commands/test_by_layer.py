"""barrier --by-layer, and merges by the weights that it proposes."""

import json
from pathlib import Path

import pytest
import torch

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError, FormatError, NotFoundError
from mergekit_geo.records.report import Report

pytestmark = pytest.mark.pictures

SOME = geo.EvalData("builtin:python-docs", max_examples=150)


@pytest.fixture(scope="module")
def layers(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `barrier --by-layer` writes of a fine-tune and of a model trained apart."""
    out = tmp_path_factory.mktemp("layers") / "out"
    models = [family / "a", family / "independent"]
    geo.barrier(models, out, data=SOME, points=3, by_layer=True)
    return out


@pytest.mark.slow
def test_report_and_files_tell_which_layers_did_it(layers: Path) -> None:
    report = geo.read_report(layers)
    assert Report.model_validate_json((layers / "report.json").read_text()) == report
    found = report.result.by_layer  # type: ignore[union-attr]
    (entry,) = found.sets
    assert entry.rise.is_significant
    assert [group.group for group in entry.groups] == [
        "embeddings", "layer 0", "layer 1", "norm", "embeddings", "attention", "MLP", "norms"
    ]  # fmt: skip
    page = (layers / "report.html").read_text()
    assert found.proposal.advice in page
    assert "Which layers did it" in page
    for name in ("layers.png", "layers.svg", "modules.png", "modules.svg", "layers.csv"):
        assert (layers / "figures" / name).stat().st_size > 300


def test_a_barrier_without_it_says_nothing_of_layers(family: Path) -> None:
    found = geo.barrier([family / "a", family / "b"], points=3, data=SOME)
    assert "by_layer" not in json.loads(found.report.to_json())["result"]


@pytest.mark.slow
def test_a_soup_takes_the_weights_and_reports_on_the_other_half(
    family: Path, layers: Path, tmp_path: Path
) -> None:
    """In either order of the models: each tensor has the weights that the file gives it."""
    proposal = json.loads((layers / "layer_weights.json").read_text())
    told = geo.read_report(layers).result.by_layer.sets[0]  # type: ignore[union-attr]
    first, second = family / "a", family / "independent"
    found = geo.soup(
        [second, first], layer_weights=layers, data=SOME, sharpness="off", out=tmp_path / "out"
    )
    report = found.report
    assert report.data is not None
    assert report.data.half == "report"
    assert report.data.documents == told.documents
    differences = {Path(one.model).name: one.value for one in found.measurements.differences}
    for one in told.proposed[:2]:
        assert differences[Path(one.model).name] == pytest.approx(one.value, abs=1e-6)
    assert differences["uniform soup"] == pytest.approx(told.proposed[2].value, abs=1e-6)
    done = json.loads((tmp_path / "out" / "merge.json").read_text())["tensors"]
    own = {name: g["weights"] for g in proposal["groups"] for name in g["tensors"]}
    for name, tensor in done.items():
        assert tensor["coefficients"][::-1] == own.get(name, proposal["weights"])
    assert found.measurements.selection.method == "weights by layer"
    assert found.measurements.coefficients.recipe is None


def by_hand(folder: Path, models: list[Path], **changes: object) -> Path:
    from mergekit_geo.checkpoints.content import content_digest

    one = {"group": "norm", "weights": [1, 0], "tensors": ["model.norm.weight"]}
    known = [{"name": path.name, "digest": content_digest(path)} for path in models]
    text = {"models": known, "weights": [0.25, 0.75], "groups": [one], **changes}
    folder.mkdir()
    (folder / "layer_weights.json").write_text(json.dumps(text))
    return folder


def test_a_merge_takes_weights_that_were_written_by_hand(small: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    models = [small / "a", small / "b"]
    place = by_hand(tmp_path / "weights", models)
    state = geo.merge(models, layer_weights=place, data=None).state
    assert state is not None
    a, b = (load_file(path / "model.safetensors") for path in models)
    for name, tensor in state.items():
        if name in a:
            share = 1.0 if name == "model.norm.weight" else 0.25
            torch.testing.assert_close(tensor, share * a[name] + (1 - share) * b[name])


def test_halves_by_another_seed_are_told(family: Path, layers: Path) -> None:
    from mergekit_geo.checkpoints.reference import open_checkpoints
    from mergekit_geo.commands.by_layer_request import by_layer_request
    from mergekit_geo.specs.merges import SoupSpec

    models = [family / "a", family / "independent"]
    for seed, count in ((0, 0), (1, 1)):
        asked = SoupSpec(models, data=geo.EvalData("x", seed=seed))
        assert len(by_layer_request(asked, layers, open_checkpoints(models)).warnings) == count


def test_bad_requests_of_a_barrier_by_layer(small: Path, tmp_path: Path) -> None:
    models = [small / "a", small / "b", small / "c"]
    with pytest.raises(ArgumentError, match=r"between two models, found 3 \(name two"):
        geo.barrier(models, by_layer=True)
    with pytest.raises(ArgumentError, match=r"--along names path/x \(add --along linear\)"):
        geo.barrier(models[:2], by_layer=True, along=["path/x"])
    with pytest.raises(ArgumentError, match="no set 'chat' to keep"):
        geo.barrier(models[:2], by_layer=True, data=SOME, aiming=geo.AimConfig(keep=["chat"]))
    with pytest.raises(ArgumentError, match=r"and none are \(add --by-layer"):
        geo.barrier(models[:2], data=SOME, aiming=geo.AimConfig("worst"))
    with pytest.raises(ArgumentError, match=r"layer.blocks must be at least 1"):
        geo.barrier(models[:2], by_layer=True, layer_blocks=0)


def test_bad_requests_of_a_merge_by_layer(small: Path, tmp_path: Path) -> None:
    models = [small / "a", small / "b"]
    place = by_hand(tmp_path / "weights", models)
    with pytest.raises(ArgumentError, match="these are weights of a and b, as they were then"):
        geo.soup([small / "a", small / "c"], layer_weights=place, data=None)
    with pytest.raises(ArgumentError, match="these are weights of a and b"):
        geo.soup([*models, small / "c"], layer_weights=place, data=None)
    with pytest.raises(NotFoundError, match=r"no layer_weights.json \(geo-merge barrier A B --by-"):
        geo.soup(models, layer_weights=small / "a", data=None)
    with pytest.raises(ArgumentError, match=r"and --weights is given, too \(leave --weights out"):
        geo.soup(models, layer_weights=place, weights=[1, 2], data=None)
    greedy = geo.SelectionConfig(method="greedy")
    with pytest.raises(ArgumentError, match="and --method greedy is given, too"):
        geo.soup(models, layer_weights=place, choosing=greedy, data=SOME)
    with pytest.raises(ArgumentError, match="and --method ties is given, too"):
        geo.merge(models, method="ties", base=small / "base", layer_weights=place, data=None)
    with pytest.raises(ArgumentError, match="and --weights is given, too"):
        geo.merge(models, weights=[1, 2], layer_weights=place, data=None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 9}, "weights of version 9; this release reads 1"),
        ({"weights": [1, 0, 0]}, "expected two models, and two weights in each group"),
        ({"weights": "half"}, "not a sound layer_weights.json"),
    ],
)
def test_damaged_weights_are_refused(
    small: Path, tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    models = [small / "a", small / "b"]
    place = by_hand(tmp_path / "weights", models, **changes)
    with pytest.raises(FormatError, match=problem):
        geo.soup(models, layer_weights=place, data=None)
