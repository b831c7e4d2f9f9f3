"""The bytes of a callback: compressed, in a form, behind a byte-order mark, and never more than the limit."""

import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest

from service.domain.callback_body import MAX_BYTES, MAX_FIELDS, parse_callback
from service.domain.errors import BodyTooLarge, UnreadableBody

TASK: dict[str, Any] = {
    "id": "d758",
    "status": "completed",
    "payload": "ä~1.sig+/=",
    "output": [{"url": "https://x/y"}],
}
RAW = json.dumps(TASK, ensure_ascii=False).encode()
FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": 'multipart/form-data; charset=utf-8; boundary="a-b"'}


def raw_deflate(data: bytes) -> bytes:
    """Compress without any header, as some servers do for `deflate`."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def part(name: str, content: bytes, more: bytes = b"") -> bytes:
    """Return one field of a form in parts."""
    head = f'--a-b\r\nContent-Disposition: form-data; name="{name}"'.encode()
    return head + more + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (RAW, {}),
        (RAW, {"content-encoding": "utf-8"}),
        (RAW, {"content-encoding": "identity"}),
        (RAW, {"content-encoding": "gzip"}),  # a proxy decompressed it and left the header
        (gzip.compress(RAW), {"content-encoding": "gzip"}),
        (gzip.compress(RAW), {"content-encoding": " X-GZIP "}),
        (gzip.compress(RAW), {}),
        (gzip.compress(gzip.compress(RAW)), {"content-encoding": "gzip, gzip"}),
        (gzip.compress(RAW[:20]) + gzip.compress(RAW[20:]), {"content-encoding": "gzip"}),
        (zlib.compress(RAW), {"content-encoding": "deflate"}),
        (raw_deflate(RAW), {"content-encoding": "deflate"}),
        (b"\xef\xbb\xbf" + RAW, {}),
        (gzip.compress(b"\xef\xbb\xbf" + RAW), {"content-encoding": "gzip"}),
        (RAW.decode().encode("utf-16"), {}),
        (RAW, FORM),
        (json.dumps(RAW.decode()).encode(), {}),
    ],
)
def test_json_is_read_as_it_is_sent(body: bytes, headers: dict[str, str]) -> None:
    """The same JSON is read in each coding, also where the header is wrong or missing."""
    assert parse_callback(body, headers) == TASK


@pytest.mark.parametrize("name", ["data", "json", "body", "payload"])
@pytest.mark.parametrize("headers", [FORM, {}])
def test_json_in_a_form_field_is_the_task(name: str, headers: dict[str, str]) -> None:
    """A form with JSON in one field, whatever its name, holds the task under `data`."""
    parsed = parse_callback(urlencode({"event": "done", name: RAW.decode()}).encode(), headers)
    assert isinstance(parsed, dict)
    assert (parsed["data"], parsed["event"]) == (TASK, "done")


def test_form_fields_are_the_task() -> None:
    """A form whose fields are those of the task is the task; JSON in them is parsed, other texts are not."""
    fields = {"id": "d758", "status": "completed", "payload": TASK["payload"], "output": json.dumps(TASK["output"])}
    assert parse_callback(urlencode(fields).encode(), FORM) == TASK
    assert parse_callback(urlencode({**fields, "error": "{oops"}).encode(), FORM) == {**TASK, "error": "{oops"}


def test_form_in_parts_is_read() -> None:
    """A multipart form is read like the other kind."""
    whole = part("data", RAW, b"\r\nContent-Type: application/json") + b"--a-b--\r\n"
    parsed = parse_callback(b"preamble\r\n" + whole, MULTIPART)
    assert isinstance(parsed, dict)
    assert parsed["data"] == TASK
    fields = part("id", b"d758") + part("status", b"failed") + b"--a-b--\r\n"
    assert parse_callback(fields, MULTIPART) == {"id": "d758", "status": "failed"}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"\xff\xfe", {}),
        (b"<html>", {}),
        (RAW[:30], {}),
        (gzip.compress(RAW, mtime=0)[:40], {"content-encoding": "gzip"}),
        (b"\x1f\x8b" + b"x" * 50, {}),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, {"content-encoding": "zstd"}),
        (b"&".join(b"a%d=1" % number for number in range(MAX_FIELDS + 1)), FORM),
    ],
)
def test_other_bodies_are_unreadable(body: bytes, headers: dict[str, str]) -> None:
    """Nothing else is taken for JSON, and no other error is raised."""
    with pytest.raises(UnreadableBody):
        parse_callback(body, headers)


@pytest.mark.parametrize(
    "packed",
    [
        lambda: gzip.compress(b"[" + b" " * MAX_BYTES),
        lambda: gzip.compress(b" " * MAX_BYTES) + gzip.compress(b" "),
        lambda: gzip.compress(gzip.compress(b" " * 100 * MAX_BYTES)),
    ],
    ids=["one", "two members", "compressed twice"],
)
def test_decompressed_size_is_bounded(packed: Callable[[], bytes]) -> None:
    """A small body that decompresses to more than the limit is too large, without being decompressed in full."""
    body = packed()
    assert len(body) < MAX_BYTES / 4
    with pytest.raises(BodyTooLarge):
        parse_callback(body, {"content-encoding": "gzip, gzip" if len(body) < 1000 else "gzip"})


def test_body_at_the_limit_is_read() -> None:
    """The limit is exact."""
    body = RAW + b" " * (MAX_BYTES - len(RAW))
    assert parse_callback(gzip.compress(body), {"content-encoding": "gzip"}) == TASK


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(b"") * (MAX_BYTES // 20), {"content-encoding": "gzip," * 10_000}),
        (b"--a-b" * (MAX_BYTES // 5), MULTIPART),
        (b"a=" + b"%7B" * (MAX_BYTES // 4), FORM),
        (quote_plus("{" * (MAX_BYTES // 4)).encode(), FORM),
        (b'a={"a":' * (MAX_BYTES // 8), FORM),
        (b" " * MAX_BYTES, {"content-type": "multipart/form-data;" + "boundary=" * 7000}),
        (b"{}", {"content-type": "multipart/form-data;" * 3000}),
        (b"--a-b" + b"content-disposition:" * (MAX_BYTES // 20), MULTIPART),
    ],
)
def test_hostile_body_ends(body: bytes, headers: dict[str, str]) -> None:
    """A body that is made to be slow is read or refused; the time limit of a test is far more than it takes."""
    with suppress(UnreadableBody):
        parse_callback(body, headers)


def test_name_of_a_part_is_near_its_beginning() -> None:
    """Only so much of the head of a part is searched: a caller may send a head of megabytes."""
    long_head = b"--a-b\r\nX-Other: " + b"y" * 2000 + part("status", b"done").removeprefix(b"--a-b") + b"--a-b--\r\n"
    assert parse_callback(long_head, MULTIPART) == {}


def test_broken_body_of_many_words_is_not_read() -> None:
    """Words without commas are no JSON: reading megabytes of them would hold up all other callbacks."""
    with pytest.raises(UnreadableBody):
        parse_callback(b'{"status": "done" ' + b"y " * 50_000 + b"}", {})
