"""The manners in which the sandbox sends callbacks, and its probes of their addresses."""

import asyncio
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from service.domain.callback_body import MAX_BYTES, parse_callback
from service.sandbox import First
from tests.unit.sandbox.test_bench import CALLBACK, MOVED, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def parsed(request: httpx.Request) -> Any:
    """Return the body of a callback as the service reads it."""
    return parse_callback(request.content, {name.lower(): value for name, value in request.headers.items()})


@pytest.mark.parametrize("name", ["gzip_callbacks", "bom_callbacks", "slash_callbacks", "encoded_callbacks"])
async def test_manner_changes_the_form_and_not_the_content(name: str) -> None:
    """The callback differs in its bytes or its address, and says the same."""
    switches: dict[str, Any] = {name: First(1)}
    async with bench(run_time=3, **switches) as at:
        await at.created(callback_url=f"{CALLBACK}~1.x", payload="corr")
        await asyncio.sleep(5)
        odd, plain = at.receiver.requests
    assert parsed(odd)["payload"] == parsed(plain)["payload"] == "corr"
    assert unquote(str(odd.url)).rstrip("/") == str(plain.url) == f"{CALLBACK}~1.x"
    assert (odd.url.raw_path, odd.content[:3], odd.headers.get("content-encoding")) != (
        plain.url.raw_path,
        plain.content[:3],
        None,
    )


async def test_forms_are_of_both_kinds() -> None:
    """A form has the fields of the task, or the task as JSON in one field."""
    async with bench(run_time=3, form_callbacks=1) as at:
        for _ in range(8):
            await at.created(callback_url=CALLBACK, payload="corr")
        await asyncio.sleep(5)
        bodies = [parsed(request) for request in at.receiver.requests]
    assert {"data" in body for body in bodies} == {True, False}
    assert {body.get("data", body)["payload"] for body in bodies} == {"corr"}


async def test_wrapped_and_oversized_bodies() -> None:
    """An envelope holds the task; an oversized body is over the limit."""
    async with bench(run_time=3, wrapped_callbacks=1, oversized_callbacks=First(1)) as at:
        await at.created(callback_url=CALLBACK, payload="corr")
        await asyncio.sleep(5)
        large, plain = at.receiver.requests
    assert (parsed(plain)["data"]["payload"], parsed(large)["data"]["payload"]) == ("corr", "corr")
    assert len(large.content) > MAX_BYTES > len(plain.content)


async def test_probes_precede_the_callback() -> None:
    """HEAD, OPTIONS and GET come without a body before the callback, and are counted apart."""
    async with bench(run_time=3, probe_callbacks=First(1)) as at:
        await at.created(callback_url=CALLBACK)
        await asyncio.sleep(5)
        requests = at.receiver.requests
        assert [request.method for request in requests] == ["HEAD", "OPTIONS", "GET", "POST", "POST"]
        assert [bool(request.content) for request in requests] == [False, False, False, True, True]
        assert (at.counted("callbacks", "probed"), at.counted("callbacks", "delivered")) == (3, 2)
