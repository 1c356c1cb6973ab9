"""Long work is never silent for long, in logs too."""

import time

from mergekit_geo.progress import Heartbeat


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
