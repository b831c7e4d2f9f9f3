"""Whatever a stranger sends: never a 500, and never a yes."""

import json
import re
from typing import Any
from urllib.parse import urlencode

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Message

from service.api.query_params import MAX_ROWS
from service.domain.errors import BadToken
from tests.unit.api.fakes import GOOD, KEYS, FakeApplication, app_of

HEADER_BYTES = st.binary(max_size=40).map(lambda value: value.translate(None, b"\r\n\0"))
NAMES = st.sampled_from(
    [
        b"content-type", b"content-length", b"content-encoding", b"authorization", b"host", b"origin", b"prefer",
        b"idempotency-key", b"x-request-id", b"date", b"x-forwarded-for", b"accept",
    ]
)  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES, HEADER_BYTES), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())
QUERIES = st.binary(max_size=60)


def status_of(
    world: FakeApplication, path: str, raw: bytes, headers: list[tuple[bytes, bytes]], body: bytes, **scope: Any
) -> int:
    """Return the status that a POST is answered with; an exception that leaves the application fails the test."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    whole = {"type": "http", "method": "POST", "path": path, "raw_path": raw, "query_string": b"", "headers": headers}
    anyio.run(app_of(world, api_keys=KEYS), whole | scope, receive, send)
    (status,) = statuses
    return status


@settings(max_examples=150, deadline=None)
@given(token=st.text(max_size=30), headers=HEADERS, body=BODIES, query=QUERIES)
def test_a_callback_of_junk_is_refused(
    token: str, headers: list[tuple[bytes, bytes]], body: bytes, query: bytes
) -> None:
    """With a token that is not ours, whatever else is sent is a 4xx."""
    world = FakeApplication(fails=BadToken("not ours"))
    raw = ("/callbacks/" + token).encode("utf-8", "surrogatepass")
    assert 400 <= status_of(world, "/callbacks/" + token, raw, headers, body, query_string=query) < 500


@settings(max_examples=150, deadline=None)
@given(headers=HEADERS, body=BODIES, query=QUERIES)
def test_a_task_of_junk_is_refused(headers: list[tuple[bytes, bytes]], body: bytes, query: bytes) -> None:
    """With or without a key, no junk becomes a task, and none is our fault."""
    signed = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json"), *headers]
    for each in (headers, signed):
        world = FakeApplication()
        assert 400 <= status_of(world, "/v1/tasks", b"/v1/tasks", each, body, query_string=query) < 500
        assert not world.accepted


@settings(max_examples=100, deadline=None)
@given(body=st.fixed_dictionaries({"model": VALUES, "params": VALUES, "oddity": VALUES}))
def test_a_body_with_an_unknown_key_is_422(body: dict[str, object]) -> None:
    """Whatever the values, an unknown key is told as a fault; what is no JSON is 400."""
    headers = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json")]
    assert status_of(FakeApplication(), "/v1/tasks", b"/v1/tasks", headers, json.dumps(body).encode()) in (400, 422)


@settings(max_examples=100, deadline=None)
@given(headers=HEADERS, query=QUERIES)
def test_a_good_task_with_odd_headers_is_never_our_fault(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    """Odd headers and queries are refused or passed over; they break nothing."""
    base = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json")]
    world = FakeApplication(on_wait=FakeApplication.settle)
    body = json.dumps(GOOD).encode()
    assert status_of(world, "/v1/tasks", b"/v1/tasks", base + headers, body, query_string=query) < 500


def shown(path: str, **query: str) -> int:
    """Return the status that ann gets for a GET in an empty world."""
    base, asked = [(b"authorization", b"Bearer key-of-ann")], urlencode(query).encode()
    return status_of(FakeApplication(), path, b"", base, b"", method="GET", query_string=asked)


@settings(max_examples=100, deadline=None)
@given(limit=st.text(max_size=6) | st.integers(-2, 2 * MAX_ROWS).map(str))
def test_a_limit_is_a_whole_number_within_its_bounds(limit: str) -> None:
    """Every other text is a fault of the query."""
    good = re.fullmatch("[0-9]+", limit) is not None and 1 <= int(limit) <= MAX_ROWS
    assert shown("/v1/tasks", limit=limit) == (200 if good else 422)


@settings(max_examples=100, deadline=None)
@given(cursor=st.text(max_size=30))
def test_no_text_of_a_strangers_is_a_cursor(cursor: str) -> None:
    """A list begins where one of its own cursors says, and nowhere else."""
    assert shown("/v1/tasks", cursor=cursor) == 422


@settings(max_examples=100, deadline=None)
@given(task=st.text(st.characters(exclude_characters="/"), max_size=20))
def test_no_text_of_a_strangers_is_a_tasks_id(task: str) -> None:
    """What is not there is not found; no text is taken for more than it is."""
    assert shown(f"/v1/tasks/{task}") == 404
