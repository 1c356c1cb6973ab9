"""Shards, journal and output: an output appears whole or not at all."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergekit_geo.checkpoints.dtypes import DTYPE_NAMES, bytes_of
from mergekit_geo.checkpoints.header import TensorInfo
from mergekit_geo.checkpoints.side_files import side_files_of
from mergekit_geo.config.output import parse_size
from mergekit_geo.errors import ArgumentError, DiskFullError, OutputError, OutputExistsError
from mergekit_geo.outputs.journal import Journal
from mergekit_geo.outputs.kind import MARK, MERGED, Kind
from mergekit_geo.outputs.layout import index_file, plan_shards
from mergekit_geo.outputs.output import Output
from mergekit_geo.outputs.place import check_output, claim_of
from mergekit_geo.outputs.side_files import copy_side_files
from mergekit_geo.outputs.writer import ShardWriter
from tests.checkpoints.test_folder import EVERY_DTYPE

INFOS = {
    name: TensorInfo(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape))
    for name, tensor in EVERY_DTYPE.items()
}


@pytest.mark.parametrize("most", [30, 10**9])
def test_shards_are_read_back_by_the_official_library(tmp_path: Path, most: int) -> None:
    shards = plan_shards(INFOS, most)
    writer = ShardWriter(tmp_path, shards)
    for name, tensor in EVERY_DTYPE.items():
        data = bytes_of(tensor)
        half = len(data) // 2
        writer.write(name, half, data[half:])
        writer.write(name, 0, data[:half])
    writer.close()
    found = {k: v for shard in shards for k, v in load_file(tmp_path / shard.file).items()}
    assert found.keys() == EVERY_DTYPE.keys()
    assert all(found[name].equal(tensor) for name, tensor in EVERY_DTYPE.items())


def test_index_names_every_tensor() -> None:
    shards = plan_shards(INFOS, 30)
    named = index_file(shards, INFOS)
    assert named is not None
    assert json.loads(named[1])["weight_map"].keys() == INFOS.keys()
    assert index_file(plan_shards(INFOS, 10**9), INFOS) is None


@pytest.mark.parametrize("text", ["", "5", "five", "-1GB", "0GB", "3XB"])
def test_sizes(text: str) -> None:
    if text == "5":
        assert parse_size(text) == 5
        return
    with pytest.raises(ArgumentError, match="is not a size"):
        parse_size(text)


def test_full_disk_names_the_space(tmp_path: Path) -> None:
    huge = plan_shards({"w": TensorInfo("F32", (10**15,))}, 10**16)
    with pytest.raises(DiskFullError, match=r"the output needs 4000000.00 GB, and .* are free"):
        ShardWriter(tmp_path, huge)


def test_journal_goes_on_after_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["work"])
    journal.add("a", 1)
    journal.close()
    with journal.path.open("a") as file:
        file.write('{"tensor": "b", "rec')
    again = Journal(tmp_path, ["work"])
    assert again.finished == {"a": 1}
    again.add("b", 2)
    again.close()
    assert Journal(tmp_path, ["work"]).finished == {"a": 1, "b": 2}


def test_journal_of_other_work_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ["work"])
    journal.add("a", 1)
    journal.close()
    other = Journal(tmp_path, ["other"])
    assert other.is_other
    assert other.finished == {}


def make_output(out: Path, text: str, *, overwrite: bool = False) -> None:
    with begun(out, text, overwrite=overwrite) as output:
        (output.folder / MARK).write_text(text)
        output.publish()


def begun(out: Path, work: str = "work", *, overwrite: bool = False) -> Output:
    output = Output(out, MERGED, overwrite=overwrite)
    output.begin([work])
    return output


def test_output_appears_by_rename_and_leaves_nothing_else(tmp_path: Path) -> None:
    output = begun(tmp_path / "deep" / "out")
    (output.folder / MARK).write_text("new")
    assert not output.place.exists()
    output.publish()
    assert [path.name for path in output.place.iterdir()] == [MARK]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_old_output_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    make_output(tmp_path / "out", "old")
    output = begun(tmp_path / "out", overwrite=True)
    (output.folder / MARK).write_text("new")
    assert (tmp_path / "out" / MARK).read_text() == "old"
    output.publish()
    assert (tmp_path / "out" / MARK).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_becomes_the_output_and_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o750)
    make_output(tmp_path / "out", "new")
    assert (tmp_path / "out" / MARK).read_text() == "new"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_existing_output_is_an_error(tmp_path: Path) -> None:
    make_output(tmp_path / "out", "old")
    with pytest.raises(OutputExistsError, match=r"the output exists \(--overwrite"):
        begun(tmp_path / "out")


def test_only_own_outputs_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").touch()
    with pytest.raises(OutputExistsError, match="no output of geo-merge"):
        check_output(tmp_path / "precious", overwrite=True)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.tex").touch()
    with pytest.raises(OutputExistsError, match="in the way, and not made by geo-merge"):
        begun(tmp_path / "out")


@pytest.mark.parametrize("place", ["model", "model/out", "."])
def test_output_and_inputs_stay_apart(tmp_path: Path, place: str) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputError, match="would touch the input"):
        check_output(tmp_path / place, [tmp_path / "model"], overwrite=True)


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    first = begun(tmp_path / "out")
    with pytest.raises(OutputError, match="another run is writing"):
        begun(tmp_path / "out")
    first.leave()
    begun(tmp_path / "out").leave()


def test_companions_are_copied_to_the_byte(tmp_path: Path) -> None:
    donor, out = tmp_path / "donor", tmp_path / "out"
    (donor / "additional_chat_templates").mkdir(parents=True)
    out.mkdir()
    files = ["config.json", "tokenizer.json", "vocab.txt", "additional_chat_templates/rag.jinja"]
    for file in files:
        (donor / file).write_bytes(b'{ "dtype":"float32",  "odd" : 1}')
    (donor / "README.md").write_text("not a companion")
    assert [path.as_posix() for path in side_files_of(donor)] == sorted(files)
    copy_side_files(donor, out)
    assert all((out / f).read_bytes() == (donor / f).read_bytes() for f in files)
    copy_side_files(donor, out, "bfloat16")
    assert json.loads((out / "config.json").read_text()) == {"dtype": "bfloat16", "odd": 1}


def test_unwritten_tensor_is_still_a_sound_file(tmp_path: Path) -> None:
    """Preallocated and headed: a resumed run can trust the sizes."""
    shards = plan_shards({"w": TensorInfo("F32", (3,))}, 100)
    ShardWriter(tmp_path, shards).close()
    assert load_file(tmp_path / shards[0].file)["w"].equal(torch.zeros(3))


def test_input_named_like_an_unfinished_output_is_safe(tmp_path: Path) -> None:
    make_output(tmp_path / "m.partial", "precious")
    with pytest.raises(OutputError, match="would touch the input"):
        check_output(tmp_path / "m", [tmp_path / "m.partial"])


def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    output = begun(tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").touch()
    with pytest.raises(OutputExistsError, match="the output exists"):
        output.publish()
    output.leave()
    assert (tmp_path / "out" / "precious.txt").exists()


def test_a_kill_before_the_journal_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "journal.new").touch()
    make_output(tmp_path / "out", "new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARK]


def test_an_output_half_removed_after_the_exchange_does_not_block(tmp_path: Path) -> None:
    make_output(tmp_path / "out", "new")
    make_output(tmp_path / "out.partial", "old")
    with pytest.raises(OutputExistsError, match="in the way, and not made by geo-merge"):
        make_output(tmp_path / "out", "newer", overwrite=True)
    claim_of(tmp_path / "out").write_text('{"work": [["old"], null, "merge.json"]}\n')
    make_output(tmp_path / "out", "newer", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_an_exchange_left_is_not_taken_for_finished_work(tmp_path: Path) -> None:
    """A kill after it leaves the old output in OUT.partial, finished parts of it and all."""
    kind = Kind(MARK, work=("member-0",))
    (tmp_path / "out.partial" / "member-0").mkdir(parents=True)
    claim_of(tmp_path / "out").write_text(f'{{"work": [["work"], null, "{MARK}"]}}\n')
    with Output(tmp_path / "out", kind) as output:
        output.begin(["work"])
        assert not (output.folder / "member-0").exists()
        (output.folder / "member-0").mkdir()
    with Output(tmp_path / "out", kind) as output:
        output.begin(["work"])
        assert (output.folder / "member-0").exists()


def test_an_output_that_has_not_begun_leaves_all_as_it_was(tmp_path: Path) -> None:
    with Output(tmp_path / "out", MERGED):
        assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert not list(tmp_path.iterdir())
    with begun(tmp_path / "out") as output:
        (output.folder / "half").touch()
    with Output(tmp_path / "out", MERGED):
        pass
    assert (tmp_path / "out.partial" / "half").exists()


def test_an_output_that_does_not_fit_is_refused_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(DiskFullError, match="not enough space: the output needs"),
        Output(tmp_path / "out", MERGED) as output,
    ):
        output.need(1 << 60)
    assert not list(tmp_path.iterdir())


def test_a_result_in_memory_is_an_output_that_writes_nothing() -> None:
    with Output(None, MERGED) as output:
        output.refuse_inputs([])
        output.need(1 << 60)
        output.begin(["work"])
        output.publish(fill=lambda folder: pytest.fail("nothing is to be written"))
        output.discard()
    assert output.out is output.partial is None


def test_a_mount_point_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path)
    with pytest.raises(OutputExistsError, match=r"a disk is mounted .*such as -o \S+/out\)"):
        check_output(tmp_path)


def test_companions_do_not_cross_folders(tmp_path: Path) -> None:
    for file in ("src/z.py", "checkpoint-1/big.model", "tokenizer.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert [path.as_posix() for path in side_files_of(tmp_path)] == ["tokenizer.json"]
