"""Compares the parameters as pydantic classes with the hand-written validation that they replace."""

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core import models as old_models
from service.core import params as old
from service.domain.models import json_schema as new_schema
from service.domain.models import validation as new
from service.domain.models.media_descriptors import restore
from service.errors import InvalidParams
from service.media import MediaInspector
from tests.properties.test_params_properties import (
    CLIPS,
    FILES,
    NAMES,
    VALID,
    WRONG,
    addresses,
    any_json,
    any_params,
    any_string,
    any_text,
    scalars,
    short_text,
)
from tests.sample_media import MODEL, image, sound, uri, video

BODIES = int(os.environ.get("AGREEMENT_BODIES", "300"))
SEEN: Counter[str] = Counter()

BROKEN = [
    uri("image/png", image("JPEG")),
    uri("image/png", image("GIF")),
    uri("image/png", image()[:12] + b"nonsense" * 4),
    uri("image/png", image()[:-20]),
    uri("image/jpeg", image("JPEG", (20, 100))),
    uri("image/gif", image("GIF")),
    uri("image/png", b""),
    uri("video/mp4", video("avi")),
    uri("video/mp4", sound()),
    uri("video/mp4", video(size=(126, 128), frames=2)),
    uri("video/mp4", video(frames=81)),
    uri("video/mp4", video(frames=51)),
    uri("video/quicktime", video("mov")[:200]),
    "data:image/png;base64,!!!!",
    "data:image/png;base64,A===",
    "data:image/png,AAAA",
    "DATA:IMAGE/PNG;charset=utf-8;base64,AAAA",
    "data:",
    "ftp://example.org/a",
    "https://",
    "https://[::1",
    "https://a b",
    "https://exa\ud800mple.org",
    "https://example.org/" + "x" * 8192,
    "cat.png",
    "",
    "\ud800",
]
odd_numbers = st.sampled_from(
    (0, 1, 5, 11, -1, 2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**127, 2**128, 10**400, 10**5000)
) | st.sampled_from((5.0, 1e300, float("nan"), float("inf"), -0.0, True, False))
odd_texts = st.sampled_from(
    ("", " \n\u3000", " " * 5001, "x" * 5001, "\x00" * 5001, "\ud800", "a\udfffb", "x" * 100_000, "720P", "16:9", "5")
) | st.sampled_from(("true", "{message}", "{", "%s", "\U0001f600" * 5000, "語" * 5001, "\ud83d\ude00", "p" * 1_048_577))
odd_values = (
    scalars | odd_numbers | odd_texts | st.sampled_from([[], {}, [[]], [{}], {"media_type": 1}]) | any_json | any_string
)
media_items = addresses | st.sampled_from(FILES + CLIPS + BROKEN) | odd_values
media_lists = st.lists(addresses | st.sampled_from(FILES + CLIPS), max_size=8) | st.lists(media_items, max_size=18)
near_names = st.sampled_from(
    ["Prompt", "durration", "aspectRatio", "image", "BGM", "x" * 41, "\ud800\x00", "pro\x00mpt"]
)
floods = st.integers(99, 130).map(lambda count: {f"x{index}": index for index in range(count)})

VALID_ALL: dict[str, st.SearchStrategy[Any]] = VALID | {
    "images": st.lists(addresses | st.sampled_from(FILES), min_size=1, max_size=7),
    "prompt": short_text.map("a".__add__),
    "off_peak": st.booleans(),
}


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Return parameters in any order: each name left out, valid, wrong in a known way, or anything."""
    required = ["images", "prompt"] if draw(st.integers(0, 9)) else []
    spoilt = draw(st.sampled_from([0, 0, 1, 3, 15]))
    names = list(dict.fromkeys([*required, *draw(st.lists(st.sampled_from(NAMES), max_size=8))]))
    wrong = set(draw(st.permutations(names))[:spoilt])
    body = {name: draw(_wrong(name) if name in wrong else VALID_ALL[name]) for name in names}
    if draw(st.integers(0, 3)) == 0:
        body |= draw(st.dictionaries(near_names | any_text, odd_values, max_size=3))
    if draw(st.integers(0, 30)) == 0:
        body |= draw(floods)
    return {name: body[name] for name in draw(st.permutations(list(body)))}


def _wrong(name: str) -> st.SearchStrategy[Any]:
    lists = media_lists if name in {"images", "videos"} else odd_values
    return st.just(WRONG[name]) | lists | odd_values


inspectors = st.sampled_from([None, MediaInspector(), MediaInspector(images=False, videos=False)])


def outcome(check: Callable[[], Any], blobs: str) -> list[str]:
    """Return everything that a validation returns or raises, in its order, with exact types."""
    try:
        result = check()
    except InvalidParams as error:
        return ["refused", *(repr((fault.loc, fault.msg)) for fault in error.faults)]
    parts = [result.model, list(result.params.items()), getattr(result, blobs), result.payload, result.meta_data]
    held = [(one.place, one.media_type, one.sha256, one.data) for one in getattr(result, blobs)]
    return ["valid", *map(repr, (*parts, held, result.callback_url, result.warnings))]


def exact(value: object) -> object:
    """Return `value` in a form that tells NaN from 0, 1 from true, and the order of keys."""
    if isinstance(value, dict):
        return [(key, exact(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [exact(each) for each in value]
    return (type(value), hex(value) if isinstance(value, int) else repr(value))


def agree(model: object, body: object, inspect: MediaInspector | None, *, allowed: bool) -> None:
    """Assert that both find the same and leave what the caller gave as it was."""
    before = copy.deepcopy(body)
    expected = outcome(lambda: old.check(model, body, inspect=inspect, allow_off_peak=allowed), "inputs")
    found = outcome(lambda: new.validate_params(model, body, inspect=inspect, allow_off_peak=allowed), "blobs")
    assert found == expected
    assert exact(body) == exact(before)
    SEEN[expected[0]] += 1
    SEEN["with blobs"] += expected[0] == "valid" and expected[3] != "()"
    SEEN["with warnings"] += expected[0] == "valid" and expected[-1] != "()"
    SEEN["with several faults"] += expected[0] == "refused" and len(expected) > 2
    if isinstance(body, dict):
        try:
            bucket = old.duration_bucket(MODEL, body)
        except ValueError:  # an integer of thousands of digits is no text, before and after
            with pytest.raises(ValueError, match="digits"):
                new.duration_bucket(MODEL, body)
        else:
            assert new.duration_bucket(MODEL, body) == bucket


many = settings(max_examples=BODIES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=BODIES == 300)


@pytest.fixture(autouse=True, scope="module")
def counted() -> Iterator[None]:
    """Say how many bodies of each sort were compared."""
    yield
    print(dict(SEEN))  # noqa: T201 - the count is what the long run is asked for


@given(body=bodies(), inspect=inspectors, allowed=st.booleans())
@many
def test_both_agree_on_parameters(body: dict[str, Any], inspect: MediaInspector | None, allowed: bool) -> None:
    """Faults, parameters, blobs and warnings are the same, in the same order."""
    agree(MODEL, body, inspect, allowed=allowed)


@given(model=st.just(MODEL) | any_json, body=any_json | any_params, allowed=st.booleans())
@many
def test_both_agree_on_anything(model: object, body: object, allowed: bool) -> None:
    """Any JSON ends the same way."""
    agree(model, body, MediaInspector(), allowed=allowed)


@given(body=bodies())
@many
def test_both_restore_the_same(body: dict[str, Any]) -> None:
    """What goes up is the same, or the same blob is missing."""
    try:
        result = old.check(MODEL, body, inspect=None, allow_off_peak=True)
    except InvalidParams:
        return
    blobs = {one.place: one for one in result.inputs}
    assert restore(result.params, blobs) == old.restore(result.params, blobs)
    if blobs:
        with pytest.raises(KeyError, match=next(iter(blobs))):
            restore(result.params, {})


@pytest.mark.parametrize("allowed", [False, True])
def test_schemas_are_equal(allowed: bool) -> None:
    """The JSON Schema that clients see is the same."""
    found = new_schema.json_schema(MODEL, allow_off_peak=allowed)
    assert found == old_models.json_schema(MODEL, allow_off_peak=allowed)
    assert "title" not in json.dumps(found["properties"])
