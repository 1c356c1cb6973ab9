"""Every file of the donor is copied, merged, or named as left out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.derived import overlay
from mergekit_geo.checkpoints.folder import open_folder
from mergekit_geo.cli.app import app
from mergekit_geo.commands._write import write_side_files
from mergekit_geo.errors import GeoError, IncompatibleError, PushError
from mergekit_geo.geometry.linear import Linear
from mergekit_geo.merging.blend import Blend
from mergekit_geo.outputs.verify import require_finished
from mergekit_geo.recipes.dry_run import dry_run
from tests.checkpoints.hub_models import make_model
from tests.checkpoints.hub_process import command_line, succeeded
from tests.checkpoints.hub_server import serve_hub
from tests.conftest import Save

FAST = geo.OutputConfig(fsync=False)


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def soup(*models: Path, **more: object) -> geo.Result:
    out = models[0].parent / "out"
    return geo.soup(models, out, data=None, output=geo.OutputConfig(fsync=False, **more))  # type: ignore[arg-type]


# --- what is copied, and what is named


KEPT = [
    "LICENSE", "NOTICE.txt", "USE_POLICY.md", "config.json", "custom_model.py", "tekken.json",
    "additional_chat_templates/rag.jinja",
]  # fmt: skip
LEFT = [
    ".git/HEAD", ".gitattributes", "README.md", "checkpoint-5/model.safetensors",
    "consolidated.safetensors", "flax_model.msgpack", "model-q4.gguf", "onnx/model.onnx",
    "optimizer.pt", "pytorch_model.bin", "scheduler.pt", "tf_model.h5", "thesis.json",
    "training_args.bin",
]  # fmt: skip
NAMED = sorted({file if "/" not in file else f"{file.partition('/')[0]}/" for file in LEFT})


def test_what_is_left_out_is_named(save: Save) -> None:
    a, b = save("a"), save("b")
    for file in (*KEPT, *LEFT):
        path = a / file
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text("{}")
    (a / "empty").mkdir()
    result = soup(a, b)
    assert result.out is not None
    assert files(result.out) == {
        *KEPT, "README.md", "merge.json", "model.safetensors", "report.html", "report.json",
    }  # fmt: skip
    assert (result.out / "README.md").read_text() != "{}"
    assert result.report.left_out == NAMED
    assert json.loads((result.out / "report.json").read_text())["left_out"] == NAMED
    (said,) = [text for text in result.report.warnings if "does not have" in text]
    assert said.startswith(f"files of {a} that the output does not have: .git/, .gitattributes, R")
    assert said.endswith("tf_model.h5 and 2 more (report.json)")


def test_nothing_is_said_where_nothing_is_left_out(save: Save) -> None:
    result = soup(save("a"), save("b"))
    assert result.report.warnings == []
    assert result.out is not None
    assert "left_out" not in json.loads((result.out / "report.json").read_text())


def test_an_output_tells_of_its_own_making(save: Save) -> None:
    """A donor that is an output itself has a report, a card and a recipe; these are of that one."""
    first = soup(save("a"), save("b")).out
    assert first is not None
    donor = first.rename(first.with_name("first"))
    (donor / "notes.txt").write_text("mine")
    (donor / "optimizer.pt").write_text("")
    report = soup(donor, donor.parent / "a").report
    (said,) = [text for text in report.warnings if "does not have" in text]
    assert said.endswith("first that the output does not have: notes.txt, optimizer.pt")
    assert {"merge.json", "notes.txt"} <= {*report.left_out}


def test_what_a_repository_holds_beside_what_was_downloaded_is_named(tmp_path: Path) -> None:
    for name in "ab":
        folder = make_model(tmp_path / name)
        with_modules(folder, 1, dense=True, module="Late")
        for file in ("README.md", "onnx/model.onnx", "pytorch_model.bin", "Late/old.bin"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_bytes(b"x" * 100)
    with serve_hub() as hub:
        cli = command_line(hub, tmp_path)
        for name in "ab":
            hub.publish(f"org/{name}", tmp_path / name)
        succeeded(cli("soup", "org/a", "org/b", "-o", "out", "--no-eval", "--sharpness", "off"))
        sent = hub.sent("org/a").keys()
    report = geo.read_report(tmp_path / "out")
    assert report.left_out == ["Late/old.bin", "README.md", "onnx/", "pytorch_model.bin"]
    assert "Late/model.safetensors" in sent
    assert not {"README.md", "onnx/model.onnx", "pytorch_model.bin", "Late/old.bin"} & sent
    found = load_file(tmp_path / "out" / "Late" / "model.safetensors")
    assert found["linear.weight"].shape == (3, 4)


# --- modules of sentence-transformers


def with_modules(
    folder: Path, seed: int, *, dense: bool = False, module: str = "2_Dense", cls: bool = True
) -> Path:
    """Files as sentence-transformers writes them."""
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling")] + [("Dense", module)] * dense
    kinds.append(("Normalize", "3_Normalize"))  # has no folder
    entries = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    write(folder / "modules.json", entries)
    write(folder / "sentence_bert_config.json", {"max_seq_length": 64 * seed})
    write(folder / "config_sentence_transformers.json", {"__version__": {"x": str(seed)}})
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": cls})
    if dense:
        draw = torch.Generator().manual_seed(seed)
        write(folder / module / "config.json", {"in_features": 4, "out_features": 3})
        state = {
            "linear.weight": torch.randn(3, 4, generator=draw),
            "linear.bias": torch.randn(3, generator=draw),
        }
        save_file(state, folder / module / "model.safetensors", {"format": "pt"})
    return folder


def write(path: Path, value: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def dense_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "2_Dense" / "model.safetensors")


def test_a_dense_layer_is_merged_by_the_rule_of_the_model(save: Save) -> None:
    a, b = (with_modules(save(n), i, dense=True) for i, n in enumerate("ab", 1))
    result = geo.soup([a, b], a.parent / "out", weights=[3, 1], data=None, output=FAST)
    assert result.out is not None
    one, two, found = dense_of(a), dense_of(b), dense_of(result.out)
    for name, tensor in found.items():
        assert torch.allclose(tensor, 0.75 * one[name] + 0.25 * two[name], rtol=0, atol=1e-7)
    for file in ("modules.json", "sentence_bert_config.json", "1_Pooling/config.json",
                 "config_sentence_transformers.json", "2_Dense/config.json"):  # fmt: skip
        assert (result.out / file).read_bytes() == (a / file).read_bytes()
    recipe = json.loads((result.out / "merge.json").read_text())
    assert recipe["modules"]["2_Dense/model.safetensors"]["linear.bias"]["coefficients"] == [
        0.75, 0.25,
    ]  # fmt: skip
    assert result.report.warnings == [
        f"sentence_bert_config.json: max_seq_length is 64 in {a} and 128 in {b}; the output has "
        "the first model's"
    ]
    kept = geo.soup([a, b], weights=[3, 1], data=None).modules
    assert all(kept["2_Dense/model.safetensors"][n].equal(t) for n, t in found.items())
    assert Path("2_Dense/model.safetensors") in require_finished(result.out)
    (result.out / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(PushError, match=r"incomplete: it has no 2_Dense/model\.safetensors"):
        require_finished(result.out)


def test_a_dense_layer_of_equal_models_is_theirs_to_the_bit(save: Save) -> None:
    a = with_modules(save("a"), 1, dense=True)
    b = Path(shutil.copytree(a, a.parent / "b"))
    out = geo.slerp([a, b], a.parent / "out", t=0.3, data=None, output=FAST).out
    assert out is not None
    assert all(tensor.equal(dense_of(a)[name]) for name, tensor in dense_of(out).items())
    again = soup(a, b, dtype="bfloat16", overwrite=True).out
    assert again is not None
    assert {tensor.dtype for tensor in dense_of(again).values()} == {torch.bfloat16}


def test_a_model_that_is_trained_further_keeps_its_modules(save: Save, tmp_path: Path) -> None:
    """What finetune writes beside its weights."""
    a = with_modules(save("a"), 1, dense=True)
    trained = overlay(open_folder(a), {}, "trained")
    (tmp_path / "out").mkdir()
    write_side_files(Blend((trained,), Linear((1.0,))), tmp_path / "out", allow_nonfinite=False)
    assert files(tmp_path / "out") == files(a) - {"model.safetensors"}
    assert all(t.equal(dense_of(a)[name]) for name, t in dense_of(tmp_path / "out").items())


def other_pooling(a: Path, b: Path) -> None:
    write(b / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})


def no_pooling(a: Path, b: Path) -> None:
    shutil.rmtree(a / "1_Pooling")


def pickled(a: Path, b: Path) -> None:
    (b / "2_Dense" / "model.safetensors").rename(b / "2_Dense" / "pytorch_model.bin")


def no_weights(a: Path, b: Path) -> None:
    (b / "2_Dense" / "model.safetensors").unlink()


def wider(a: Path, b: Path) -> None:
    state = {"linear.weight": torch.ones(5, 4), "linear.bias": torch.ones(3)}
    save_file(state, b / "2_Dense" / "model.safetensors")


def fewer(a: Path, b: Path) -> None:
    entries = json.loads((b / "modules.json").read_text())
    write(b / "modules.json", [entry for entry in entries if "Dense" not in entry["type"]])


def plain(a: Path, b: Path) -> None:
    (b / "modules.json").unlink()


def outside(a: Path, b: Path) -> None:
    write(b / "modules.json", [{"type": "x.Dense", "path": "../a/2_Dense"}])


def unsound(a: Path, b: Path) -> None:
    (a / "modules.json").write_text("[" * 200_000)


def no_list(a: Path, b: Path) -> None:
    write(a / "modules.json", {"path": 1})


def test_pooling_as_it_is_told_now_and_before(save: Save) -> None:
    a, b = (with_modules(save(n), 1, dense=True) for n in "ab")
    old = json.loads((a / "1_Pooling/config.json").read_text())
    write(a / "1_Pooling/config.json", {**old, "word_embedding_dimension": 4})
    now = {"embedding_dimension": 4, "pooling_mode": "cls", "include_prompt": True}
    write(b / "1_Pooling/config.json", now)
    dense = json.loads((a / "2_Dense/config.json").read_text())
    ways = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
    write(b / "2_Dense/config.json", {**dense, **ways})
    write(b / "3_Normalize/config.json", ways)  # earlier releases wrote none
    for models in ([a, b], [b, a]):
        assert geo.check(models).measurements.compatible
    write(b / "3_Normalize/config.json", {**ways, "module_input_name": "token_embeddings"})
    for models in ([a, b], [b, a]):
        (told,) = [one for one in geo.check(models).measurements.problems if "input_name" in one]
        assert told.startswith("3_Normalize/config.json: module_input_name is ")


def test_words_of_word_embeddings_are_compared(save: Save) -> None:
    a, b = (save(name) for name in "ab")
    for folder, words in ((a, ["one", "two"]), (b, ["two", "one"])):
        list_of = {"vocab": words, "stop_words": [], "do_lower_case": False}
        write(folder / "whitespacetokenizer_config.json", list_of)
    with pytest.raises(IncompatibleError, match=r"other ids: 'one' is 0 and 1"):
        geo.soup([a, b], data=None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_pooling, r"1_Pooling/config\.json: pooling_mode is 'cls' in \S+a and 'mean' in"),
        (no_pooling, r"a: modules\.json names 1_Pooling \(Pooling\), which is missing"),
        (pickled, r"b: modules\.json names 2_Dense, whose weights are pickled \(2_Dense/pytorch"),
        (no_weights, r"b: modules\.json names 2_Dense \(Dense\), whose weights are missing"),
        (wider, r"2_Dense: linear\.weight is \[3, 4\] in \S+a and \[5, 4\] in"),
        (fewer, r"modules\.json: Transformer, Pooling, Dense, Normalize in \S+a and Transformer, "),
        (plain, r"modules\.json: Transformer, Pooling, Dense, Normalize in \S+a and none in \S+b"),
        (outside, r"b/modules\.json: it names '\.\./a/2_Dense', a path outside the model's folder"),
        (unsound, r"a/modules\.json: not a sound modules\.json"),
        (no_list, r"a/modules\.json: not a sound modules\.json"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_modules_that_cannot_be_merged_are_refused_by_name(
    save: Save, spoil: Callable[[Path, Path], None], message: str
) -> None:
    a, b = (with_modules(save(n), 1, dense=True) for n in "ab")
    spoil(a, b)
    models = [{"model": str(model), "parameters": {"weight": 1}} for model in (a, b)]
    for merge in (
        lambda: soup(a, b),
        lambda: geo.soup([a, b], data=None),
        lambda: geo.slerp([a, b], a.parent / "out", data=None),
        lambda: dry_run({"merge_method": "linear", "models": models}),
    ):
        with pytest.raises(GeoError, match=message):
            merge()
    done = CliRunner().invoke(app, ["check", str(a), str(b)])
    assert done.exit_code == 1
    assert "this should not happen" not in done.output
    assert not (a.parent / "out").exists()


def test_a_plain_model_beside_one_with_pooling_is_told(save: Save) -> None:
    a, b = with_modules(save("a"), 1), save("b")
    (said,) = soup(a, b).report.warnings
    assert said.startswith(f"{a} has modules.json (Transformer, Pooling, Normalize) and {b} has no")
    (said,) = soup(b, a, overwrite=True).report.warnings
    assert said.endswith(f"{b} has none: it is left out; name {a} first to keep it")


def test_a_model_in_memory_has_no_dense_layer(save: Save) -> None:
    a = with_modules(save("a"), 1, dense=True)
    state = load_file(a / "model.safetensors")
    with pytest.raises(IncompatibleError, match=r"Dense, Normalize in \S+a and none in model 2"):
        geo.soup([a, state], a.parent / "out", data=None)


# --- diffusers


def component(folder: Path, *, shards: bool = False) -> Path:
    """Weights under the names that diffusers gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(sum(folder.parent.name.encode()))
    state = {name: torch.randn(8, 4, generator=draw) for name in ("conv.weight", "mid.weight")}
    write(folder / "config.json", {"_class_name": "AutoencoderKL", "_diffusers_version": "0.3"})
    stem = "diffusion_pytorch_model"
    if not shards:
        save_file(state, folder / f"{stem}.safetensors")
        (folder / f"{stem}.fp16.safetensors").write_bytes(b"another variant")
        return folder
    names = {name: f"{stem}-0000{i}-of-00002.safetensors" for i, name in enumerate(state, 1)}
    for name, file in names.items():
        save_file({name: state[name]}, folder / file)
    write(folder / f"{stem}.safetensors.index.json", {"weight_map": names})
    return folder


@pytest.mark.parametrize("shards", [False, True], ids=["one file", "shards"])
def test_a_diffusers_component_keeps_its_file_names(tmp_path: Path, *, shards: bool) -> None:
    a, b = (component(tmp_path / n / "vae", shards=shards) for n in "ab")
    size = "100" if shards else "5GB"
    output = geo.OutputConfig(fsync=False, dtype="float16", max_shard_size=size)
    out = geo.soup([a, b], tmp_path / "out", data=None, output=output).out
    assert out is not None
    ours = {"README.md", "merge.json", "report.json", "report.html"}
    assert files(out) - ours == files(a) - {"diffusion_pytorch_model.fp16.safetensors"}
    assert json.loads((out / "config.json").read_text()).keys() == {
        "_class_name", "_diffusers_version",
    }  # fmt: skip
    found, one, two = (open_folder(folder) for folder in (out, a, b))
    assert found.tensors.keys() == one.tensors.keys() == two.tensors.keys()
    require_finished(out)
    again = geo.soup([out, a], data=None).state
    assert again is not None
    assert again["conv.weight"].shape == (8, 4)


def test_components_of_other_classes_are_refused(tmp_path: Path) -> None:
    a, b = (component(tmp_path / n / "vae") for n in "ab")
    write(b / "config.json", {"_class_name": "UNet2DModel"})
    with pytest.raises(IncompatibleError, match=r"\S+ is AutoencoderKL, \S+ is UNet2DModel"):
        geo.soup([a, b], data=None)


@pytest.mark.parametrize("lacking", ["a", "b", ""])
def test_settings_of_processors_are_compared(save: Save, lacking: str) -> None:
    """Two models of pictures that see them otherwise, or of which one does not say how."""
    folders = {name: save(name) for name in "ab"}
    for number, (name, folder) in enumerate(folders.items()):
        if name != lacking:
            means = {"image_mean": [number], "image_processor_type": f"Type{number}"}
            write(folder / "preprocessor_config.json", means)
    said = geo.check(list(folders.values())).report.warnings
    file = "preprocessor_config.json"
    told = {
        "": rf"{file}: image_mean is \[0\] in \S+a and \[1\] in \S+b; the output has the first",
        "a": rf"{file} is in \S+b and not in \S+a; the output has none; name \S+b first to keep it",
        "b": rf"{file} is in \S+a and not in \S+b; the output has it",
    }
    assert len(said) == 1
    assert re.fullmatch(rf"{told[lacking]}.*", said[0])
