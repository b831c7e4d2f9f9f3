"""Every fuzz target, without the fuzzer: its kept inputs, inputs near them, and whatever Hypothesis thinks of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, corpus


@st.composite
def near(draw: st.DrawFn, kept: list[bytes]) -> bytes:
    """Return a kept input with a part of it changed, or anything."""
    seed = draw(st.sampled_from([b"", *kept]))
    begin = draw(st.integers(0, len(seed)))
    end = draw(st.integers(begin, len(seed)))
    return seed[:begin] + draw(st.binary(max_size=40)) + seed[end:]


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs_hold(name: str) -> None:
    """What was ever found worth keeping is read or refused as documented."""
    kept = corpus(name)
    assert kept
    for one in kept:
        TARGETS[name](one)


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_like_them_hold(name: str) -> None:
    """What is near a kept input, or far from all of them, is read or refused as documented."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(near(corpus(name)))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


def test_every_kept_input_belongs_to_a_target() -> None:
    """A target that is renamed takes its inputs along."""
    assert {file.stem for file in CORPUS.iterdir()} == set(TARGETS)
