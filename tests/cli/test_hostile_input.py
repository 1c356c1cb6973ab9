"""Small inputs that would hang, fill memory, or end in a fault of ours: each is one clear line."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import mergekit_geo as geo
from mergekit_geo.checkpoints.module_patterns import ModulePatterns
from mergekit_geo.cli.app import app
from mergekit_geo.errors import FormatError
from tests.conftest import Save

DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000
DIGITS = "9" * 5_000


def refused(*arguments: object) -> str:
    """The line that a command ends with."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    said = done.stdout + done.stderr
    assert done.exit_code in (1, 2), said
    assert "this should not happen" not in said
    assert "Traceback" not in said
    assert all(c.isprintable() or c == "\n" for c in said)
    return said


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _end(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        end.bind(path.name)
        os.chdir(here)


PLACED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "expected a file, found a pipe"),
    "a device": (_endless, "expected a file, found a device"),
    "a socket": (_end, "expected a file, found a socket"),
    "a folder": (Path.mkdir, "expected a file, found a folder"),
    "a circle": (_circle, "Too many levels of symbolic links"),
    "nothing": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
}
FILES = ("model.safetensors", "config.json", "tokenizer.json")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("placed", PLACED)
def test_what_is_no_file_is_refused_where_one_is_read(placed: str, file: str, save: Save) -> None:
    a, b = save("a"), save("b")
    (b / file).unlink(missing_ok=True)
    place, message = PLACED[placed]
    place(b / file)
    assert f"{b}: {file}: {message}" in refused("check", a, b)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP, "nested deeper than 100 levels"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ('{"a": ' + DIGITS + "}", "Exceeds the limit"),
        (r'{"a": "\ud800"}', "an unpaired surrogate"),
        ("<html>log in</html>", "Expecting value"),
        ("[1]", "expected an object, found a list"),
        ("", "Expecting value"),
    ],
    ids=["deep", "unclosed", "digits", "surrogate", "html", "list", "empty"],
)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors.index.json"])
def test_json_is_read_within_bounds(file: str, text: str, message: str, save: Save) -> None:
    a, b = save("a"), save("b")
    if file != "config.json":
        (b / "model.safetensors").rename(b / "model-00001-of-00001.safetensors")
    (b / file).write_text(text)
    assert f"not a sound {file}: {message}" in refused("check", a, b)


@pytest.mark.parametrize("value", [5, {"a": 1}, [5], [None]])
def test_architectures_are_names(value: object, save: Save) -> None:
    said = refused("check", save("a"), save("b", config={"architectures": value}))
    assert "expected a list of class names" in said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": {"a": 1}}, "model_type is {'a': 1}; expected text"),
        ({"tie_word_embeddings": {}}, "tie_word_embeddings is {}; expected true or false"),
        ({"text_config": [1]}, "text_config is [1]; expected an object"),
        ({"id2label": "x"}, "id2label is 'x'; expected an object"),
        ({"vocab_size": [8]}, "vocab_size is [8]; expected a number"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; expected at most 1,000"),
        ({"text_config": {"n_layer": float("inf")}}, "n_layer is inf"),
        ({"depths": [2, 10**9]}, "depths is 1000000000"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; expected at most 1,000,000"),
        ({"num_local_experts": 10**400}, "num_local_experts is 1000"),
    ],
)
def test_parts_without_number_are_refused(
    config: dict[str, object], message: str, save: Save
) -> None:
    assert message in refused("check", save("a"), save("b", config=config))


@pytest.fixture
def adapter(save: Save, tmp_path: Path) -> Callable[..., str]:
    """BASE+ADAPTER with some settings of its own."""

    def write(**settings: object) -> str:
        base, folder = save("base"), tmp_path / "adapter"
        folder.mkdir()
        name = "base_model.model.model.layers.0.mlp.up_proj"
        parts = {
            f"{name}.lora_A.weight": torch.ones(2, 4),
            f"{name}.lora_B.weight": torch.ones(6, 2),
        }
        save_file(parts, folder / "adapter_model.safetensors")
        text = json.dumps({"peft_type": "LORA", "r": 2, **settings})
        for digits in ("@digits", "@deep"):
            text = text.replace(f'"{digits}"', {"@digits": DIGITS[:400], "@deep": DEEP}[digits])
        (folder / "adapter_config.json").write_text(text)
        return f"{base}+{folder}"

    return write


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": float("inf")}, "r is inf; expected a whole number from 1 on"),
        ({"r": "@digits"}, "r is 999"),
        ({"r": None}, "r is None; expected a whole number"),
        ({"r": True}, "r is True"),
        ({"lora_alpha": "@digits"}, "int too large"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan; expected a finite number"),
        ({"lora_alpha": [1]}, r"lora_alpha is [1]; expected a number"),
        ({"rank_pattern": [1]}, "rank_pattern is [1]; expected patterns and numbers"),
        ({"rank_pattern": {"up_proj": "m"}}, "rank_pattern of 'up_proj' is 'm'"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern: '(' is no regular expression"),
        ({"alpha_pattern": {"(" * 5_000 + ")" * 5_000: 1}}, "is no regular expression"),
        ({"rank_pattern": {"a" * 20_000: 1}}, "an expression of 20,000 characters"),
        ({"revision": [1]}, "revision is [1]; expected a name"),
        ({"task_type": "@deep"}, "nested deeper than 100 levels"),
    ],
)
def test_settings_of_an_adapter_are_of_their_kind(
    settings: dict[str, object], message: str, adapter: Callable[..., str]
) -> None:
    assert message in refused("check", adapter(**settings), "x")


@pytest.mark.parametrize("base", ["n" * 5_000, "~nobodyxyz", "a\0b", "/dev/null"])
def test_a_base_that_no_path_can_name(base: str, adapter: Callable[..., str]) -> None:
    reference = adapter(base_model_name_or_path=base).partition("+")[2]
    refused("check", reference, "x")


def test_expressions_that_backtrack_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergekit_geo.checkpoints.module_patterns.SECONDS", 0.2)
    patterns = ModulePatterns("rank_pattern", {"(a|aa)+[bc][bc]": 2})
    with pytest.raises(FormatError, match=r"rank_pattern: matching '.*' takes more than 0.2 s"):
        patterns.get("layers." + "a" * 60, 8)


def test_expressions_mean_what_they_mean_in_peft() -> None:
    patterns = ModulePatterns(
        "", {"^model.q_proj": 1, r"layers\.(0|2)\..*_proj": 2, "(k|v)_proj$": 3, "up": 4}
    )
    found = [
        patterns.get(name, 8)
        for name in (
            "model.q_proj",
            "m.layers.2.x.o_proj",
            "a.v_proj",
            "a.up",
            "a.upper",
            "warm.up",
        )
    ]
    assert found == [1, 2, 3, 4, 8, 4]


ALIASES = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi"))
    + "models: *i\n"
)  # fmt: skip
MEMBERS = "finetune: [{name: z, model: m, train_data: t.txt, members: 100000000, steps: 1}]\n"
MODELS = "models: [{model: m}, {model: b}]\n"
RECIPES = {
    "aliases of aliases": (ALIASES, "more than 200,000 values"),
    "a circle": ("models: &m [*m]\n", "line 2: an alias stands inside what it stands for"),
    "brackets": ("models: " + "[" * 20_000 + "\n", "nested deeper than 50 levels"),
    "deep": ("models: " + "[" * 60 + "]" * 60 + "\n", "nested deeper than 50 levels"),
    "digits": (f"seed: {DIGITS}\n", "a number of 5,000 characters"),
    "a huge seed": (f"{MODELS}seed: {10**30}\n", "less than or equal to 2147483647"),
    "base 60": ("seed: " + "1:" * 5_000 + "1\n", "a number of 10,001 characters"),
    "weight": (
        f"models: [{{model: m, parameters: {{weight: {DIGITS[:400]}}}}}]\n", "a number of 400",
    ),
    "a weight of 400 digits": (
        "models: [{model: m, parameters: {weight: '" + DIGITS[:400] + "'}}]\n", "expected a number",
    ),
    "infinity": ("models: [{model: m, parameters: {weight: .inf}}]\n", "found inf"),
    "members": (MODELS + MEMBERS, "less than or equal to 1000"),
    "no day": ("seed: 2001-99-99\n", "not sound YAML: month must be in 1..12"),
    "a list as key": ("? [a, b]\n: 1\n", "a key is text"),
    "a tag": ("seed: !!python/object/apply:os.system [x]\n", "not sound YAML"),
    "no home": ("models: [{model: ~nobodyxyz}]\n", "the ~ cannot be spelt out"),
    "a long name": (f"models: [{{model: {'n' * 300}}}]\n", "File name too long"),
    "a long method": (f"merge_methods: {'x' * 100_000}\n", "unknown key"),
}  # fmt: skip


@pytest.mark.parametrize("case", RECIPES)
@pytest.mark.slow
def test_recipes_are_read_within_bounds(case: str, tmp_path: Path) -> None:
    text, message = RECIPES[case]
    path = tmp_path / "recipe.yaml"
    path.write_text(f"merge_method: linear\n{text}")
    said = refused("run", path, "--dry-run")
    assert message in said
    assert len(said) < 2_500


def test_aliases_that_stay_small_are_read(save: Save, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"merge_method: linear\nmodels: [{{model: {save('a')}, parameters: &p {{weight: 0.5}}}}, "
        f"{{model: {save('b')}, parameters: *p}}]\n"
    )
    assert CliRunner().invoke(app, ["run", str(path), "--dry-run"]).exit_code == 0


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/", "no folder that could be made"),
        ("n" * 300, "File name too long"),
        ("n" * 250, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("loop/x", "Too many levels of symbolic links"),
        ("\udcff", "not UTF-8"),
        ("/proc/x", ""),
        ("/dev/null/x", ""),
    ],
)
@pytest.mark.parametrize("command", ["soup", "barrier"])
def test_places_where_nothing_can_be_written(
    out: str, message: str, command: str, save: Save, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    extra = ["--no-eval"] if command == "soup" else ["--data", save("d") / "config.json"]
    assert message in refused(command, save("a"), save("b"), "-o", out, *extra)


@pytest.mark.parametrize("name", ["n" * 300, "~nobodyxyz", "\udcff", "a\0b", "", "x" * 5_000])
def test_names_that_no_model_has(name: str, save: Save) -> None:
    refused("check", save("a"), name)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x'"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is ''"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": DIGITS}, "WORLD_SIZE is '999"),
        ({"WORLD_SIZE": "2"}, "RANK is missing"),
        ({"WORLD_SIZE": "2", "RANK": "x"}, "RANK is 'x'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "MASTER_PORT is missing"),
    ],
)
def test_what_launchers_set_is_checked(
    variables: dict[str, str], message: str, save: Save, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert message in refused("soup", save("a"), save("b"), "-o", tmp_path / "out", "--no-eval")


@pytest.mark.parametrize(
    "options",
    [
        ("--budget", "nan"), ("--budget", "inf"), ("--weights", "nan,1"), ("--weights", "1,inf"),
        ("--tolerance", "nan"), ("--seed", "-1"), ("--seed", 10**30), ("--seq-len", 10**30),
        ("--batch-size", 10**12), ("--average-points", 10**9), ("--steps", 0),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_meant(
    options: tuple[str, object], save: Save, tmp_path: Path
) -> None:
    said = refused("soup", save("a"), save("b"), "-o", tmp_path / "out", "--no-eval", *options)
    assert "must be" in said or "finite" in said


def test_so_many_members_are_refused_before_any_work(save: Save, tmp_path: Path) -> None:
    said = refused("finetune", save("a"), "-o", tmp_path / "x", "--members", 100_000_000,
                   "--train-data", save("b") / "config.json")  # fmt: skip
    assert "members must be at least 2 and at most 1,000, found 100000000" in said


def test_a_report_is_read_within_bounds(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(DEEP)
    with pytest.raises(FormatError, match=r"not a sound report\.json"):
        geo.read_report(tmp_path)
