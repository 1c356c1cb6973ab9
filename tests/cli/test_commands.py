"""The command itself, in processes of its own: output, exit codes, bad input."""

import ast
import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperOption
from typer.testing import CliRunner

from mergekit_geo.cli.app import app
from mergekit_geo.cli.commands import command_named
from mergekit_geo.specs.table import COMMANDS
from tests.conftest import Run, Save
from tests.models import random_state

NO_LOSS = ("--no-eval", "--no-fsync")


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


def test_help_names_every_command() -> None:
    code, out, _ = invoke("--help")
    assert code == 0
    assert all(command in out for command in ("soup", "slerp", "check"))


FEW = ("--max-examples", 60, "--seq-len", 16)


@pytest.mark.slow
def test_soup_from_the_shell(small: Path, tmp_path: Path, geo_merge: Run) -> None:
    done = geo_merge("soup", *(small / n for n in "abc"), "-o", "out", *FEW)
    assert done.returncode == 0, done.stderr
    assert "Δ" in done.stdout
    assert "11 linear" in done.stdout
    assert "13 measurements on 60 examples" in done.stderr
    assert (tmp_path / "out" / "report.json").is_file()


def test_json_is_one_document_and_the_report(save: Save, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stdout, _ = invoke(
        "slerp", save("a"), save("b"), "-o", out, "--t", 0.3, "--json", *NO_LOSS
    )
    assert code == 0
    assert json.loads(stdout) == json.loads((out / "report.json").read_text())
    assert json.loads(stdout)["result"]["coefficients"]["weights"] == [0.7, 0.3]


def test_json_error_has_type_place_and_remedy(save: Save, tmp_path: Path) -> None:
    code, stdout, stderr = invoke("soup", tmp_path / "x", "-o", tmp_path / "out", "--json")
    error = json.loads(stdout)["error"]
    assert code == 1
    assert json.loads(stdout)["status"] == "error"
    assert error["type"] == "NotFoundError"
    assert error["remedy"].startswith("a model is a folder")
    assert error["message"] in stderr


def test_check_says_yes_and_no(save: Save) -> None:
    a, b = save("a"), save("b")
    code, out, _ = invoke("check", a, b)
    assert code == 0
    assert "can be merged (3 tensors)" in " ".join(out.split())
    other = save("c", {"w": torch.ones(2)}, {"architectures": ["GPT2LMHeadModel"]})
    code, out, _ = invoke("check", a, other)
    assert code == 1
    assert "problem: different architectures" in out
    code, out, _ = invoke("check", a, other, "--json")
    assert (code, json.loads(out)["status"]) == (1, "error")
    error, result = (json.loads(out)[name] for name in ("error", "result"))
    assert error["type"] == "IncompatibleError"
    assert error["problems"] == result["problems"] != []
    assert not result["compatible"]


def test_quiet_says_nothing(save: Save, tmp_path: Path) -> None:
    _, _, stderr = invoke("soup", save("a"), save("b"), "-o", tmp_path / "o", "--quiet", *NO_LOSS)
    assert stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["soup", "a", "b", "--weights", "1,x"], "weights must be numbers, found '1,x'"),
        (["soup", "a", "b", "--weights", "1,nan"], "weights must be numbers, found nan"),
        (["soup", "a", "b", "--weights", "1,2,3"], "3 weights for 2 models"),
        (["soup", "a", "b", "--weights", "1,-1"], "sum to zero"),
        (["slerp", "a", "b", "--t", "1.5"], "t must lie in [0, 1], found 1.5"),
        (["slerp", "a", "b", "--weights", "1,2"], "two models take --t"),
        (["slerp", "a"], "slerp needs two models or more"),
        (["soup", "a", "b", "--max-shard-size", "big"], "'big' is not a size"),
        (["soup", "a", "b", "--device", "gpu9"], "device 'gpu9' cannot be used"),
        (["soup", "a", "b", "--data", "no.txt"], "no.txt: no such file"),
        (["soup", "a", "b", "--data", "builtin:x"], "builtin:x: no such built-in text"),
        (["soup", "a", "missing"], "missing: no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save("a"), save("b")
    code, stdout, stderr = invoke(*arguments, "-o", "out")
    assert code == 1
    assert stdout == ""
    assert message in stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_wrong_usage_is_exit_2(save: Save) -> None:
    code, _, stderr = invoke("soup", save("a"))
    assert code == 2
    assert "--out" in stderr


def test_existing_output_and_output_inside_an_input(save: Save, tmp_path: Path) -> None:
    a, b, out = save("a"), save("b"), tmp_path / "out"
    assert invoke("soup", a, b, "-o", out, *NO_LOSS)[0] == 0
    before = (out / "merge.json").stat().st_mtime_ns
    code, _, stderr = invoke("soup", a, b, "-o", out, *NO_LOSS)
    assert code == 1
    assert "the output exists (--overwrite" in stderr
    assert (out / "merge.json").stat().st_mtime_ns == before
    assert invoke("soup", b, a, "-o", out, "--overwrite", *NO_LOSS)[0] == 0
    code, _, stderr = invoke("soup", a, b, "-o", a / "out", *NO_LOSS)
    assert code == 1
    assert "would touch the input" in stderr


def test_nan_is_named_and_can_be_allowed(save: Save, tmp_path: Path) -> None:
    state = random_state("b")
    state["model.norm.weight"][2] = torch.nan
    arguments = ("soup", save("a"), save("b", state), "-o", tmp_path / "out", *NO_LOSS)
    code, _, stderr = invoke(*arguments)
    assert code == 1
    assert "tensor model.norm.weight: NaN or infinite elements in" in stderr
    assert "b (1)" in stderr
    code, _, stderr = invoke(*arguments, "--allow-nonfinite")
    assert code == 0
    assert "warning: model.norm.weight: 1 elements of" in stderr.replace("\n", " ")


def test_infinities_of_the_merge_are_named_and_can_be_allowed(save: Save, tmp_path: Path) -> None:
    state = {f"w{i}": torch.tensor([3e38, 1.5, -3e38]) for i in range(7)}
    arguments = ("soup", save("a", state), save("b", state), "--weights", "1,1",
                 "--no-normalize", "-o", tmp_path / "out", *NO_LOSS)  # fmt: skip
    code, _, stderr = invoke(*arguments)
    assert code == 1
    assert "2 elements are finite in every model and not in the output: values up to 6e+38" in (
        " ".join(stderr.split())
    )
    assert not (tmp_path / "out").exists()
    code, _, stderr = invoke(*arguments, "--allow-nonfinite")
    assert code == 0
    told = "14 elements are finite in every model, and NaN or infinite in the output, in 7 tensors"
    assert told in " ".join(stderr.split())
    assert "and 2 more" in " ".join(stderr.split())


def test_antipodal_tensor_is_named_and_can_be_straightened(save: Save, tmp_path: Path) -> None:
    state = random_state("a")
    arguments = ("slerp", save("a", state), save("b", {k: -v for k, v in state.items()}),
                 "-o", tmp_path / "out", *NO_LOSS)  # fmt: skip
    code, _, stderr = invoke(*arguments)
    assert code == 1
    assert "opposite tensors have no unique arc" in stderr
    code, stdout, _ = invoke(*arguments, "--antipodal", "linear")
    assert code == 0
    assert "3 linear: antipodal" in stdout


def test_debug_shows_where(save: Save, tmp_path: Path, geo_merge: Run) -> None:
    done = geo_merge("check", "./nowhere", "./nowhere", "--debug")
    assert "Traceback" in done.stderr
    assert "NotFoundError" in done.stderr
    plain = geo_merge("check", "./nowhere", "./nowhere")
    assert "Traceback" not in plain.stderr
    assert len(plain.stderr.strip().splitlines()) == 1


def _read_to_the_end(terminal: int) -> bytes:
    """All that is written to a terminal until nobody has it open any more."""
    found = b""
    with suppress(OSError):  # what Linux raises at the end
        while part := os.read(terminal, 1 << 16):
            found += part
    os.close(terminal)
    return found


@pytest.mark.slow
def test_terminal_gets_bars_and_no_warnings(small: Path, tmp_path: Path) -> None:
    main, side = pty.openpty()
    command = [sys.executable, "-m", "mergekit_geo", "soup", str(small / "a"), str(small / "b"),
               "-o", str(tmp_path / "out"), *map(str, FEW), "--sharpness=off"]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    with subprocess.Popen(
        command,
        stderr=side,
        stdout=subprocess.DEVNULL,
        env={**environment, "TERM": "xterm"},
    ) as process:
        os.close(side)
        said = _read_to_the_end(main)  # a terminal that nobody reads from stops who writes to it
    assert process.returncode == 0, said
    assert b"merging" in said
    assert b"Warning" not in said


@pytest.mark.parametrize("words", [["--help"], ["soup", "--help"], ["run", "-h"]])
def test_help_loads_what_it_tells_of(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['geo-merge', *{words}]\n"
        "from mergekit_geo.cli.commands import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith('mergekit_geo.specs.')])\n"
        "heavy = ('numpy', 'pydantic', 'rich', 'torch', 'huggingface_hub')\n"
        "print([m for m in heavy if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    specs, heavy = map(ast.literal_eval, done.stdout.splitlines()[-2:])
    own = {"mergekit_geo.specs.merges"} if words != ["--help"] else set()
    shared = {f"mergekit_geo.specs.{name}" for name in ("panels", "spec", "table")}
    assert set(specs) == shared | own
    assert heavy == []


@pytest.mark.parametrize("name", COMMANDS)
def test_option_of_one_value_is_refused_when_it_is_given_twice(name: str) -> None:
    command = command_named(name)
    options = [p for p in command.params if isinstance(p, TyperOption) and not p.is_flag]
    assert options or name in {"check"}
    for option in options:
        if option.name == "checkpoints":  # in place of the argument that is missed for others
            continue
        given = [option.opts[-1], *["1"] * option.nargs]
        refused = pytest.raises(typer.BadParameter, match="given 2 times, and takes one value")
        accepted = pytest.raises(typer.BadParameter, match="Missing")
        with accepted if option.multiple else refused as caught:
            command.main([*given, *given], standalone_mode=False)
        assert option.multiple or caught.value.param is option


def test_flags_may_be_repeated_but_not_with_their_opposites() -> None:
    code, _, stderr = invoke("soup", "./a", "-o", "out", "--quiet", "--quiet")
    assert code == 1
    assert "./a: no folder" in stderr
    code, _, stderr = invoke("soup", "a", "-o", "out", "--control", "--no-control")
    assert code == 2
    assert "--control: given 2 times" in stderr
