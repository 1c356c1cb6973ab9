"""Ctrl-C in a script: the first one asks, the second one interrupts, and the script's own rules."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from mergekit_geo.interrupt import finishing


@pytest.fixture(autouse=True)
def _as_in_a_script() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_asks_and_the_second_interrupts() -> None:
    with finishing() as asked:
        assert not asked.set
        ctrl_c()
        assert asked.set
        assert asked.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_afterwards_it_interrupts_as_ever() -> None:
    with finishing():
        ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_work_in_work_is_asked_together() -> None:
    with finishing() as outer, finishing() as inner:
        ctrl_c()
        assert outer.set
        assert inner.set
        with finishing() as later:
            ctrl_c()
            assert later.set
            with pytest.raises(KeyboardInterrupt):
                ctrl_c()


def test_a_script_s_own_handler_stays() -> None:
    told: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: told.append(number))
    with finishing() as asked:
        ctrl_c()
    assert told == [signal.SIGINT]
    assert not asked.set


def test_in_another_thread_nothing_is_taken_over() -> None:
    found = []

    def work() -> None:
        with finishing() as asked:
            found.append((asked.set, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]


def test_a_script_that_is_asked_goes_on_after_its_work() -> None:
    code = (
        "import os, signal\n"
        "from mergekit_geo.interrupt import finishing\n"
        "with finishing() as asked:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "print(asked.set)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
