"""Every fuzz target without the fuzzer: its corpus, similar inputs, and inputs of Hypothesis."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, read_corpus


@st.composite
def similar(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    """Return an input of the corpus with a part of it changed, or any input."""
    seed = draw(st.sampled_from([b"", *corpus]))
    begin = draw(st.integers(0, len(seed)))
    end = draw(st.integers(begin, len(seed)))
    return seed[:begin] + draw(st.binary(max_size=40)) + seed[end:]


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_inputs_are_handled_as_documented(name: str) -> None:
    """Every input of the corpus is read or refused as documented."""
    corpus = read_corpus(name)
    assert corpus
    for one in corpus:
        TARGETS[name](one)


@pytest.mark.parametrize("name", TARGETS)
def test_similar_inputs_are_handled_as_documented(name: str) -> None:
    """Inputs close to the corpus, and any others, are read or refused as documented."""

    @settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(similar(read_corpus(name)))
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


def test_every_corpus_belongs_to_a_target() -> None:
    """Renaming a target requires renaming its corpus."""
    assert {file.stem for file in CORPUS.iterdir()} == set(TARGETS)
