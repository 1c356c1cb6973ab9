"""config.json: numbers that JSON has not, and names of other files."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, Mamba2Config, Mamba2ForCausalLM

import mergekit_geo as geo
from mergekit_geo.checkpoints.folder import read_config
from mergekit_geo.errors import FormatError
from mergekit_geo.outputs.side_files import copy_side_files, write_config

TAGS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def mamba(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = Mamba2Config(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_heads=4, head_dim=8,
        state_size=8, n_groups=1, bos_token_id=0, eos_token_id=1, pad_token_id=3,
    )  # fmt: skip
    Mamba2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_read_and_written_as_transformers_does(tmp_path: Path, tag: str) -> None:
    text = '{"model_type": "llama", "odd": [{"__float__": "%s"}], "d": {"e": {"__float__": "%s"}}}'
    (tmp_path / "config.json").write_text(text % (tag, tag))
    found = read_config(tmp_path)
    theirs = AutoConfig.from_pretrained(tmp_path)
    assert repr(found["odd"]) == repr(theirs.odd) == repr([TAGS[tag]])
    assert repr(found["d"]) == repr(theirs.d)
    write_config(tmp_path, found)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads(text % (tag, tag))


@pytest.mark.parametrize(
    "value", [{"__float__": "inf"}, {"__float__": 1.5}, {"__float__": "NaN", "more": 1}]
)
def test_what_only_looks_like_a_tag_stays(tmp_path: Path, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"odd": value}))
    assert read_config(tmp_path) == {"odd": value}


def test_a_number_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"__float__": "NaN"}')
    with pytest.raises(FormatError, match=r"not a sound config\.json: expected an object"):
        read_config(tmp_path)


def test_an_infinity_is_kept_as_it_is_spelled(tmp_path: Path) -> None:
    donor, out = tmp_path / "donor", tmp_path / "out"
    donor.mkdir()
    out.mkdir()
    for spelling in ('{"__float__": "Infinity"}', "Infinity"):
        (donor / "config.json").write_text(f'{{"limit": {spelling},   "dtype": "float32"}}')
        copy_side_files(donor, out)
        assert (out / "config.json").read_bytes() == (donor / "config.json").read_bytes()
        copy_side_files(donor, out, "bfloat16")
        assert spelling in " ".join((out / "config.json").read_text().split()).replace(
            "{ ", "{"
        ).replace(" }", "}")


def test_names_of_files_that_the_output_lacks_are_left_out(tmp_path: Path) -> None:
    donor, out = tmp_path / "donor", tmp_path / "out"
    donor.mkdir()
    out.mkdir()
    config = {
        "transformers_weights": "other.safetensors",
        "configuration_files": ["config.4.0.0.json"],
        "text_config": {"transformers_weights": "other.safetensors", "vocab_size": 8},
    }
    (donor / "config.json").write_text(json.dumps(config))
    copy_side_files(donor, out)
    assert json.loads((out / "config.json").read_text()) == {"text_config": {"vocab_size": 8}}
    write_config(out, config)
    assert json.loads((out / "config.json").read_text()) == {"text_config": {"vocab_size": 8}}


def test_a_state_space_model_is_measured_from_disk_and_from_memory(tmp_path: Path) -> None:
    a, b = mamba(tmp_path / "a", 1), mamba(tmp_path / "b", 2)
    assert '"__float__": "Infinity"' in (a / "config.json").read_text()
    ids = torch.arange(4, 20).view(1, -1)

    def loss(module: torch.nn.Module, row: torch.Tensor) -> torch.Tensor:
        return module(input_ids=row, labels=row).loss.view(1)

    rows = [ids, ids + 30, ids + 60]
    data = geo.FunctionObjective(loss, rows)
    settings = {"data": data, "sharpness": "off", "compute": geo.Compute(device="cpu")}
    on_disk = geo.soup([a, b], out=tmp_path / "out", **settings).report
    in_memory = geo.soup([a, b], **settings).report
    merged = Mamba2ForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        wanted = sum(float(loss(merged, row)) for row in rows) / 3
    for report in (on_disk, in_memory):
        assert report.result.losses[-1].loss == pytest.approx(wanted, abs=1e-5)
    assert (tmp_path / "out/config.json").read_bytes() == (a / "config.json").read_bytes()


def test_modules_with_an_infinity_are_merged_to_disk(tmp_path: Path) -> None:
    modules = [
        Mamba2ForCausalLM.from_pretrained(mamba(tmp_path / n, s)) for s, n in enumerate("ab")
    ]
    geo.soup(modules, out=tmp_path / "out", data=None)
    stored = (tmp_path / "out/config.json").read_text()
    assert json.loads(stored)["time_step_limit"] == [0.0, {"__float__": "Infinity"}]
    assert AutoConfig.from_pretrained(tmp_path / "out").time_step_limit[1] == math.inf
