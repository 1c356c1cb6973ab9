"""The journal of a study survives whatever a kill leaves, and is Optuna's own."""

import errno
import os
import signal
from multiprocessing import get_context
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mergekit_geo.searches import journal_file
from mergekit_geo.searches.journal_file import JournalFile, locked
from mergekit_geo.searches.owner import host, is_gone
from mergekit_geo.searches.study import SearchStudy
from tests.searches.toy import Toy, search


def opened(path: Path) -> SearchStudy:
    return SearchStudy.open(path, "merge", {})


def test_a_torn_last_line_is_cut_off_by_the_next_write(tmp_path: Path) -> None:
    """Wherever a kill cut the write: the study opens, loses that write alone, and goes on."""
    path = tmp_path / "s.journal"
    search(opened(path), Toy(), 2)
    whole = path.read_bytes()
    for left in [*range(1, 12), *range(12, len(whole), 97)]:
        path.write_bytes(whole[:left])
        lines = whole[:left].count(b"\n")
        assert len(list(JournalFile(path).read_logs(0))) == lines
        JournalFile(path).append_logs([{"op_code": 0}])
        kept = b"".join(whole.splitlines(keepends=True)[:lines])
        assert path.read_bytes() == kept + b'{"op_code":0}\n'


def test_a_search_goes_on_behind_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    search(opened(path), Toy(), 3)
    path.write_bytes(path.read_bytes()[:-7])
    search(opened(path), Toy(), 2)
    assert len(opened(path).finished()) == 4  # the last of the three is still running: it lives


def test_optuna_reads_it_as_its_own(tmp_path: Path) -> None:
    """So does what is built on Optuna, such as its dashboard."""
    path = tmp_path / "s.journal"
    search(opened(path), Toy(), 3)
    storage = JournalStorage(JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="merge", storage=storage)
    assert len(study.trials) == 3
    assert study.best_value == min(trial.value for trial in opened(path).finished())


def test_it_is_read_from_where_it_was_left_and_from_the_beginning(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "deep" / "s.journal")
    file.append_logs([{"op_code": number} for number in range(3)])
    assert [log["op_code"] for log in file.read_logs(1)] == [1, 2]
    file.append_logs([{"op_code": 3}])
    assert [log["op_code"] for log in file.read_logs(3)] == [3]
    assert [log["op_code"] for log in file.read_logs(0)] == [0, 1, 2, 3]


def test_a_lock_of_a_process_that_was_killed_is_taken_away_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.journal"
    child = os.fork()
    if child == 0:
        with locked(path):
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "s.journal.lock").is_symlink()
    with locked(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_stands_for_the_lock_where_there_are_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "symlink_to", _no_links)
    lock = tmp_path / "s.journal.lock"
    lock.write_text(f"{host()} 1 0.00#0")  # of a process that has ended: another one is number 1
    with locked(tmp_path / "s.journal"):
        assert is_gone(lock.read_text().partition("#")[0]) is False
    assert not list(tmp_path.iterdir())


def _no_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_lock_of_another_machine_is_taken_away_when_it_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_file, "PATIENCE", 0.1)
    lock = tmp_path / "s.journal.lock"
    lock.symlink_to(f"not-{host()} 1 0.00#0")
    with locked(tmp_path / "s.journal"):
        assert host() in str(lock.readlink())
    assert not lock.is_symlink()


def append(path: Path, name: str) -> None:
    file = JournalFile(path)
    for number in range(40):
        file.append_logs([{"op_code": 2, "by": name, "number": number}] * 3)


def test_processes_that_write_at_the_same_time_write_whole_lines_in_their_order(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.journal"
    fork = get_context("fork")
    writers = [fork.Process(target=append, args=(path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    logs = list(JournalFile(path).read_logs(0))
    for name in "abc":
        expected = [number for number in range(40) for _ in range(3)]
        assert [log["number"] for log in logs if log["by"] == name] == expected
