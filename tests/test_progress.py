"""Long work is never silent for long, in logs too."""

import time

from mergekit_geo.progress import Heartbeat, Silent, Steps, TimeLeft, expect


def test_a_long_phase_is_told_of_until_it_is_over() -> None:
    told: list[str] = []
    beat = Heartbeat(told.append, every=0.05)
    beat.say("begun")
    time.sleep(0.15)
    assert told == ["begun"], "nothing goes on yet"
    beat.phase("loss of b", 10)
    beat.advance(4)
    time.sleep(0.2)
    beat.close()
    count = len(told)
    assert told[1] == "loss of b: 40%, 0 s so far"
    assert 2 <= count <= 6
    time.sleep(0.15)
    assert len(told) == count


def test_what_is_said_puts_off_the_next_line() -> None:
    told: list[str] = []
    beat = Heartbeat(told.append, every=0.2)
    beat.phase("merging", 0)
    for _ in range(10):
        time.sleep(0.04)
        beat.say("more")
    beat.close()
    assert told == ["more"] * 10


def test_the_time_left_is_of_all_parts_and_corrected_as_it_goes() -> None:
    moment = [0.0]
    left = TimeLeft(lambda: moment[0])
    assert not left.is_known
    left.expect("sharpness", 60.0)
    left.expect("losses", 30.0)
    moment[0] = 10.0  # ten seconds of the part that spoke last
    assert left.seconds == 80.0
    left.expect("losses", 50.0)  # slower than was thought
    assert left.seconds == 110.0
    moment[0] = 100.0  # overdue, and the other part is still to come
    assert left.seconds == 60.0


def test_a_progress_of_the_user_s_need_not_know_of_time() -> None:
    class Own:
        """What people have written before there was `expect`."""

    expect(Own(), "losses", 3.0)  # type: ignore[arg-type]
    heard: list[tuple[str, float]] = []

    class Asking(Silent):
        def expect(self, part: str, seconds: float) -> None:
            heard.append((part, seconds))

    steps = Steps("path")
    steps.expect(Asking(), 9)  # the first step is not typical
    steps.expect(Asking(), 8)
    assert [part for part, _ in heard] == ["path"]
