"""Valid settings, on a command line too."""

import math

import pytest
from transformers import HfArgumentParser

from mergekit_geo.config.option import own_options
from mergekit_geo.config.training import SamArguments
from mergekit_geo.errors import ArgumentError


def test_stand_on_a_command_line() -> None:
    words = ["--rho", "0.1", "--adaptive", "--every", "5", "--ascent", "synchronised"]
    words += ["--most_skipped", "3", "--variant", "look", "--alpha", "0.5"]
    (found,) = HfArgumentParser(SamArguments).parse_args_into_dataclasses(words)
    assert found == SamArguments(
        rho=0.1, adaptive=True, every=5, ascent="synchronised", most_skipped=3, variant="look",
        alpha=0.5,
    )  # fmt: skip
    kinds = {one.name: one.kind for one in own_options(SamArguments)}
    assert (kinds["every"], kinds["rho"]) == ("whole", "number"), "the parser replaces types"


@pytest.mark.parametrize("rho", [-0.05, math.nan, math.inf])
def test_rho(rho: float) -> None:
    with pytest.raises(ArgumentError, match=f"rho: expected a number of at least 0, found {rho:g}"):
        SamArguments(rho=rho)


@pytest.mark.parametrize("eta", [-0.1, math.nan])
def test_eta(eta: float) -> None:
    with pytest.raises(ArgumentError, match="eta: expected a number of at least 0"):
        SamArguments(eta=eta)


def test_counts() -> None:
    with pytest.raises(ArgumentError, match="every must be at least 1, found 0"):
        SamArguments(every=0)
    with pytest.raises(ArgumentError, match="most-skipped must be at least 1, found 0"):
        SamArguments(most_skipped=0)


def test_ascent() -> None:
    with pytest.raises(
        ArgumentError, match="'each': expected one of auto, per-replica, synchronised"
    ):
        SamArguments(ascent="each")
