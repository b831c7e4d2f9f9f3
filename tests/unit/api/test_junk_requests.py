"""Random requests: never a 5xx, and never accepted."""

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
    fake: FakeApplication, path: str, raw: bytes, headers: list[tuple[bytes, bytes]], body: bytes, **scope: Any
) -> int:
    """Return the status of a POST; an exception that leaves the application fails the test."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    whole = {"type": "http", "method": "POST", "path": path, "raw_path": raw, "query_string": b"", "headers": headers}
    anyio.run(app_of(fake, api_keys=KEYS), whole | scope, receive, send)
    (status,) = statuses
    return status


@settings(max_examples=150, deadline=None)
@given(token=st.text(max_size=30), headers=HEADERS, body=BODIES, query=QUERIES)
def test_random_callback_is_refused(token: str, headers: list[tuple[bytes, bytes]], body: bytes, query: bytes) -> None:
    """A callback with a forged token is 4xx, whatever its headers and body."""
    fake = FakeApplication(error=BadToken("forged"))
    raw = ("/callbacks/" + token).encode("utf-8", "surrogatepass")
    assert 400 <= status_of(fake, "/callbacks/" + token, raw, headers, body, query_string=query) < 500


@settings(max_examples=150, deadline=None)
@given(headers=HEADERS, body=BODIES, query=QUERIES)
def test_random_task_is_refused(headers: list[tuple[bytes, bytes]], body: bytes, query: bytes) -> None:
    """A random body is 4xx with and without a key, and creates no task."""
    signed = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json"), *headers]
    for each in (headers, signed):
        fake = FakeApplication()
        assert 400 <= status_of(fake, "/v1/tasks", b"/v1/tasks", each, body, query_string=query) < 500
        assert not fake.accepted


@settings(max_examples=100, deadline=None)
@given(body=st.fixed_dictionaries({"model": VALUES, "params": VALUES, "oddity": VALUES}))
def test_body_with_an_unknown_key_is_422(body: dict[str, object]) -> None:
    """An unknown key is a fault, whatever the values; invalid JSON is 400."""
    headers = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json")]
    assert status_of(FakeApplication(), "/v1/tasks", b"/v1/tasks", headers, json.dumps(body).encode()) in (400, 422)


@settings(max_examples=100, deadline=None)
@given(headers=HEADERS, query=QUERIES)
def test_valid_task_with_random_headers_is_no_5xx(headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    """Random headers and queries are refused or ignored."""
    base = [(b"authorization", b"Bearer key-of-ann"), (b"content-type", b"application/json")]
    fake = FakeApplication(during_wait=FakeApplication.settle)
    body = json.dumps(GOOD).encode()
    assert status_of(fake, "/v1/tasks", b"/v1/tasks", base + headers, body, query_string=query) < 500


def get_status(path: str, **query: str) -> int:
    """Return the status of a GET of ann without any rows."""
    base, encoded = [(b"authorization", b"Bearer key-of-ann")], urlencode(query).encode()
    return status_of(FakeApplication(), path, b"", base, b"", method="GET", query_string=encoded)


@settings(max_examples=100, deadline=None)
@given(limit=st.text(max_size=6) | st.integers(-2, 2 * MAX_ROWS).map(str))
def test_limit_is_a_whole_number_within_its_bounds(limit: str) -> None:
    """Every other text is a fault of the query."""
    good = re.fullmatch("[0-9]+", limit) is not None and 1 <= int(limit) <= MAX_ROWS
    assert get_status("/v1/tasks", limit=limit) == (200 if good else 422)


@settings(max_examples=100, deadline=None)
@given(cursor=st.text(max_size=30))
def test_random_text_is_no_cursor(cursor: str) -> None:
    """A list accepts its own cursors only."""
    assert get_status("/v1/tasks", cursor=cursor) == 422


@settings(max_examples=100, deadline=None)
@given(task=st.text(st.characters(exclude_characters="/"), max_size=20))
def test_random_text_is_no_task_id(task: str) -> None:
    """An unknown id is 404, whatever its text."""
    assert get_status(f"/v1/tasks/{task}") == 404
