"""The engine on Ray: a cluster of two nodes on this machine, one of which dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

import mergekit_geo as geo
from mergekit_geo.errors import ArgumentError, GeoError, IncompatibleError
from mergekit_geo.searches.ray_engine import RayEngine, Share
from mergekit_geo.searches.ray_session import ADDRESS, RaySession, check_address
from mergekit_geo.searches.trial import Trial
from tests.optional import skip
from tests.searches import measures
from tests.searches.measures import pid
from tests.searches.test_pool import all_ready, results, results_of_one

HAS_RAY = bool(find_spec("ray"))
STORE = 80 * 2**20


def needs_ray() -> None:
    if not HAS_RAY:
        skip("Ray", "pip install 'mergekit_geo[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes; the second one may be removed by the last test alone."""
    needs_ray()
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": STORE}
    with TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = {"num_cpus": 2, "include_dashboard": False, "temp_dir": folder, **small}
        found = Cluster(initialize_head=True, head_node_args=head)
        found.second = found.add_node(num_cpus=1, **small)
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def session(cluster: Any) -> Iterator[RaySession]:
    """The connection of all engines."""
    found = RaySession(cluster.address)
    yield found
    found.close()


@pytest.fixture(scope="module")
def engine(session: RaySession) -> Iterator[RayEngine]:
    """It has all cores, so that those who are replaced are so on their node."""
    with RayEngine(measures.plain, slots=3) as found:
        yield all_ready(found)


@pytest.mark.parametrize(
    ("nodes", "gpus", "slots", "share"),
    [
        ([{"CPU": 8.0}], None, None, Share(0, 8, 1)),
        ([{"CPU": 8.0}], None, 3, Share(0, 2, 3)),
        ([{"CPU": 8.0}], None, 12, Share(0, 1, 12)),
        ([{"CPU": 64.0}, {"CPU": 4.0}], None, None, Share(0, 32, 2)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 2.0}], None, None, Share(1, 4, 4)),
        ([{"CPU": 16.0, "GPU": 4.0}], 2, None, Share(2, 8, 2)),
        ([{"CPU": 16.0, "GPU": 1.0}], 0.25, None, Share(0.25, 4, 4)),
        ([{"CPU": 2.0, "GPU": 8.0}], None, None, Share(1, 0, 8)),
        ([{"CPU": 8.0, "GPU": 2.0}], 0, 2, Share(0, 4, 2)),
        ([{"memory": 1.0}], None, None, Share(0, 1, 1)),
    ],
)
def test_a_cluster_is_shared_among_workers(
    nodes: list[dict[str, float]], gpus: float | None, slots: int | None, share: Share
) -> None:
    assert Share.of(nodes, gpus, slots) == share


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:http", ":6379", "ray://head:0"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(
        ArgumentError, match=r"--ray-address: expected .*6379.*, found '.*ray start"
    ):
        check_address(address)


def test_nobody_at_an_address_is_told_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
    begun = time.monotonic()
    with pytest.raises(GeoError, match=rf"no Ray .* {place}: connection refused \(`ray start"):
        check_address(place)
    assert time.monotonic() - begun < 5
    with pytest.raises(GeoError, match=r"at ray://no\.such\.host\.invalid:10001: "):
        check_address("ray://no.such.host.invalid:10001")


@pytest.mark.slow
def test_somebody_else_at_an_address_is_told_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_ray()
    monkeypatch.setattr("mergekit_geo.searches.ray_session.PATIENCE", 1.0)
    with socket.create_server(("", 0)) as other:
        place = f"127.0.0.1:{other.getsockname()[1]}"
        monkeypatch.setenv(ADDRESS, place)
        with pytest.raises(GeoError, match=rf"at {place}: no Ray answers within 1 s"):
            RaySession()


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for call in (partial(RayEngine, measures.plain), partial(geo.search, {}, engine="ray")):
        with pytest.raises(ArgumentError, match=r"--engine ray needs ray.*'mergekit_geo\[ray\]'"):
            call()


@pytest.mark.slow
def test_models_that_cannot_be_opened_end_the_search(session: RaySession) -> None:
    with RayEngine(measures.refused, slots=3) as other:  # of which one finds room
        other.submit(Trial(0, {}))
        with pytest.raises(IncompatibleError, match="a is a Llama"):
            results_of_one(other)
    assert session.ray.is_initialized(), "a connection that was there stays"


@pytest.mark.slow
def test_a_search_finds_what_it_finds_here(
    session: RaySession, cluster: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "texts.txt").write_text("\n\n".join(f"document {i} of some" for i in range(40)))
    weight = {"weight": {"min": 0, "max": 1}}
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(small / name), "parameters": weight} for name in "ab"],
    }
    ways: list[dict[str, Any]] = [{}, {"engine": "ray", "ray_address": cluster.address}]
    found = [
        geo.search(
            recipe, None, data=str(tmp_path / "texts.txt"), trials=4, sampler="random",
            learned=False, racing=False, sharpness="off", **way,
        ).measurements.search.trials
        for way in ways
    ]  # fmt: skip
    here, there = ({one.number: (one.values, one.value) for one in trials} for trials in found)
    assert here == there
    assert len(here) == 4


@pytest.mark.slow
def test_what_the_cluster_lacks_or_cannot_be_sent_is_refused(session: RaySession) -> None:
    with pytest.raises(ArgumentError, match=r"connected to the Ray cluster at .* found 10\."):
        RayEngine(measures.plain, "10.0.0.1:6379")
    with pytest.raises(ArgumentError, match=r"--num-gpus: no node .* 1 GPUs, the most is 0"):
        RayEngine(measures.plain, num_gpus=1)
    lock = threading.Lock()
    with pytest.raises(ArgumentError, match=r"cannot be sent .*'_thread.lock'"):
        RayEngine(lambda: lock and measures.measure)


@pytest.mark.slow
def test_trials_are_measured_on_both_nodes_and_each_once(
    engine: RayEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    assert engine.slots == 3
    found = results(engine, [{"x": x, "seconds": 0.1} for x in range(6)])
    assert [outcome.losses[0][0] for outcome in found] == [x**2 for x in range(6)]
    raylets = {psutil.Process(pid(outcome)).ppid() for outcome in found}
    assert len(raylets) == 2
    assert results(engine, [{"do": "fail"}])[0].error == "layer 0: infinity (a smaller weight)"
    assert engine.finished(wait=0.0) == []
    assert results(engine, [{"do": "print"}])[0].error == ""
    assert capfd.readouterr() == ("", "")
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.slow
def test_a_process_that_is_lost_takes_its_trial_along_and_is_replaced(engine: RayEngine) -> None:
    found = results(engine, [{"do": "kill"}, *[{"seconds": 0.2}] * 3])
    assert found[0].error.startswith("its process on the Ray cluster was lost: ")
    assert [outcome.error for outcome in found[1:]] == [""] * 3


@pytest.mark.slow
def test_a_node_that_dies_loses_the_trial_that_it_runs_and_nothing_is_printed(
    engine: RayEngine, cluster: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    all_ready(engine)
    die = threading.Timer(0.5, cluster.remove_node, [cluster.second, False])
    die.start()
    found = results(engine, [*[{"seconds": 2.0}] * 3, {}, {}])
    die.join()
    assert sorted(outcome.error for outcome in found)[:4] == [""] * 4
    (lost,) = (outcome for outcome in found if outcome.error)
    assert lost.number < 3
    assert lost.error.startswith("its process on the Ray cluster was lost: ")
    assert capfd.readouterr() == ("", "")


SEARCHING = """
from mergekit_geo.cli import app
from mergekit_geo.interrupt import finishing
from mergekit_geo.searches.ray_engine import RayEngine
from mergekit_geo.searches.trial import Trial
from tests.searches import measures

def opening():
    return measures.measure

def work():
    with RayEngine(opening) as engine, finishing() as asked:
        engine.submit(Trial(0, {"x": 3}))
        while not (found := engine.finished(0.1)):
            pass
        print("measured", found[0].losses[0][0], found[0].error, flush=True)
        engine.submit(Trial(1, {"seconds": 600}))
        while not asked.set:
            engine.finished(0.05)
        print("asked", flush=True)
        engine.finished(600)
    return 0

app._run = work
app.main()
"""


@pytest.mark.slow
def test_a_cluster_that_was_started_here_ends_with_a_search_that_is_killed(tmp_path: Path) -> None:
    needs_ray()
    script = tmp_path / "searching.py"
    script.write_text(SEARCHING)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=tmp_path, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "measured 9.0 \n"
    started = psutil.Process(process.pid).children(recursive=True)
    words = [child.cmdline() for child in started]
    (folder,) = (Path(some[-1]) for some in words if "ray_guard.py" in " ".join(some))
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=30)
    assert said == ("", "interrupted: nothing was started\n")
    assert process.returncode == 130
    assert psutil.wait_procs(started, timeout=10)[1] == []
    assert not folder.exists()
