"""Compare values with snapshot files and name every difference."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).parent


def snapshot(name: str) -> object:
    """Return the JSON value in the file `name` beside the tests."""
    value: object = json.loads((HERE / name).read_text("utf-8"))
    return value


def flat(value: object, at: str = "") -> Iterator[tuple[str, object]]:
    """Yield the path and value of every leaf of a JSON value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{at}/{key}")
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from flat(inner, f"{at}/{number}")
    else:
        yield at, value


def assert_frozen(name: str, now: object) -> None:
    """Fail with every leaf in which the JSON value `now` differs from the snapshot `name`."""
    now = json.loads(json.dumps(now))
    then_leaves, now_leaves = dict(flat(snapshot(name))), dict(flat(now))
    lost = [f"- {at} = {then_leaves[at]!r}" for at in then_leaves if then_leaves[at] != now_leaves.get(at, lost_word)]
    new = [f"+ {at} = {now_leaves[at]!r}" for at in now_leaves if now_leaves[at] != then_leaves.get(at, lost_word)]
    assert not lost + new, "\n".join([f"frozen words of {name} changed:", *lost, *new])


def assert_words(what: str, now: Iterable[object], then: Iterable[object]) -> None:
    """Fail with the words that are missing from or new in the set `what`."""
    found, frozen = set(now), set(then)
    lost, new = sorted(map(repr, frozen - found)), sorted(map(repr, found - frozen))
    assert found == frozen, f"frozen {what} changed: lost {', '.join(lost) or 'none'}; new {', '.join(new) or 'none'}"


lost_word = object()
