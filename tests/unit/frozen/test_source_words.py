"""Words that the scenarios do not produce: each is still a literal in the source."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import service

PROBLEMS = (
    "internal-error",
    "not-ready",
    "store-unavailable",
    "schema-behind",
    "body-incomplete",
    "body-too-slow",
    "too-busy",
)
VERDICTS = ("unread", "store_unavailable", "internal_error")
NOTED = ("inputs_gone", "submission_unknown", "cancelled", "broken off", "not found")
TOPICS = ("submit", "reconcile", "dispatch", "inbox", "events")
PIECES = ("task:", "resubmit/", "msg_", "boomerang ")
"""Beginnings of topics, idempotency keys, message ids and names of advisory locks."""

LOCKS = ("events", "submissions", "migration")
KEEPS_HEADERS = ("content-type", "date", "user-agent", "x-hmac-signed-headers", "x-hmac-algorithm")
SALTS = (b"boomerang.callback-address", b"boomerang.payload")


@cache
def trees() -> list[ast.Module]:
    """Return every module of the service, parsed."""
    files = sorted(Path(service.__file__).parent.rglob("*.py"))
    return [ast.parse(file.read_text("utf-8")) for file in files]


@cache
def literals() -> frozenset[str | bytes]:
    """Return every string and bytes literal, also the pieces of f-strings."""
    nodes = (node for tree in trees() for node in ast.walk(tree))
    return frozenset(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    )


@pytest.mark.parametrize("word", [*PROBLEMS, *VERDICTS, *NOTED, *LOCKS, *KEEPS_HEADERS, *SALTS])
def test_a_word_stands_in_the_source(word: str | bytes) -> None:
    """The word is still a literal."""
    assert word in literals(), f"no literal {word!r} is left in the source"


@pytest.mark.parametrize("piece", PIECES)
def test_a_beginning_stands_in_the_source(piece: str) -> None:
    """The beginning of a composed word is still part of an f-string."""
    joined = (node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    assert any(piece in text for node in joined for text in _texts(node)), f"no f-string has {piece!r} any more"


def test_unread_verdict() -> None:
    """Writer and reader use the same word; a slow machine may not produce a burst."""
    found = [node for tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert sum(node.value == "unread" for node in found) >= 2, "a writer or a reader of 'unread' has another word"


def _texts(node: ast.JoinedStr) -> Iterator[str]:
    for part in node.values:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_topics() -> None:
    """After a reconnect to PostgreSQL, a process wakes every topic."""
    found = [
        {item.value for item in node.elts if isinstance(item, ast.Constant)}
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple)
    ]
    assert set(TOPICS) in found, f"no tuple of the topics {', '.join(TOPICS)} is left in the source"
