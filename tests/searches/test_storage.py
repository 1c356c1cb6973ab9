"""Where a study is kept, and what cannot keep one."""

import os
import resource
import signal
from pathlib import Path

import psycopg
import pytest

from mergekit_geo.errors import ArgumentError, OutputError
from mergekit_geo.searches.study import SearchStudy
from tests.searches.toy import Toy, measured, search


def opened(at: str | Path | None) -> SearchStudy:
    return SearchStudy.open(at, "merge", {})


def test_a_database_that_cannot_be_reached_is_told_in_one_line_without_its_password() -> None:
    url = "postgresql://me:secret@127.0.0.1:1/studies"
    with pytest.raises(OutputError, match=r"storage .* cannot be used: .*[Cc]onnection") as raised:
        opened(url)
    assert raised.value.where == "postgresql://me:***@127.0.0.1:1/studies"
    assert "--storage" in raised.value.remedy
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["oracle://me:secret@host/x", "nosuch://host/x", "mysql+no://h/x"])
def test_a_database_without_a_driver_is_told_with_what_to_write(url: str) -> None:
    with pytest.raises(ArgumentError, match="no database can be opened by this URL") as raised:
        opened(url)
    assert "postgresql://USER@HOST/NAME" in raised.value.remedy
    assert "secret" not in str(raised.value)


@pytest.mark.slow
def test_sqlite_keeps_a_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(opened(url), Toy(), 2)
    study = opened(url)
    assert len(study.finished()) == 2
    study.close()


def test_a_study_without_a_storage_is_kept_in_memory() -> None:
    study = opened(None)
    search(study, Toy(), 2)
    assert len(study.finished()) == 2
    assert opened(None).finished() == []


@pytest.mark.parametrize("content", ["models: [a, b]\n", "no line end", '{"op":1}\n', "\0" * 9])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=r"recipe.yml: expected a journal .*something else"):
        opened(path)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_journal_that_is_damaged_inside_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    search(opened(path), Toy(), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], lines[4][:20] + b"\n", *lines[5:]]))
    with pytest.raises(OutputError, match=r"s.journal: .*line 5 is no operation"):
        opened(path)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/s.journal: the storage .*File exists"):
        opened(tmp_path / "file" / "s.journal")
    with pytest.raises(OutputError, match=r"the storage .* Is a directory"):
        opened(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match=r"the storage .* Permission denied"):
        opened(tmp_path / "closed" / "s.journal")


def test_a_storage_that_goes_away_in_the_middle_is_told(tmp_path: Path) -> None:
    study = opened(tmp_path / "s.journal")
    number, values, _ = study.ask(Toy())
    (tmp_path / "s.journal").unlink()
    with pytest.raises(OutputError, match=r"storage .* cannot be used: .*No such file.*goes on"):
        study.tell(number, 1.0, measured(number, values))


def test_a_disk_that_is_full_is_told_and_what_it_holds_is_kept(tmp_path: Path) -> None:
    """A process of its own may write but a few more bytes, which ends in the middle of a line."""
    path = tmp_path / "s.journal"
    search(opened(path), Toy(), 2)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 30,) * 2)
        try:
            opened(path).ask(Toy())
        except OutputError as error:
            os._exit(7 if "File too large" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not path.read_bytes().endswith(b"\n")
    search(opened(path), Toy(), 1)
    assert len(opened(path).finished()) == 3


@pytest.mark.slow
def test_a_database_that_drops_its_connections_is_reached_again(postgres: str) -> None:
    study = SearchStudy.open(postgres, "dropped", {})
    search(study, Toy(), 1)
    with psycopg.connect(postgres, autocommit=True) as other:
        other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid != pg_backend_pid()"
        )
    search(study, Toy(), 1)
    assert len(study.finished()) == 2
    study.close()
