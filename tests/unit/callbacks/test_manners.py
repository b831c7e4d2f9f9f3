"""The manners in which providers send callbacks, over a real store: understood, or refused and polled at once."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from service.callbacks.limits import BurstDetector
from service.domain.callback import callback_address
from service.domain.errors import BadSignature, BadToken, BodyTooLarge, KeyMissing, UnreadableBody
from service.domain.task import Status, TaskId
from service.domain.tokens import Tokens
from service.providers.vidu.signature import sign
from service.runtime.callback_signatures import signature_check
from service.runtime.config.settings import load_settings
from tests.support.scripted_provider import TOKENS, token_of, vtrix_body
from tests.support.task_loop import HOUR, START, Loop, open_environment, open_loop

DATE = "Wed, 06 May 2026 12:00:00 GMT"
FORM = {"content-type": "application/x-www-form-urlencoded"}
RAW = json.dumps(vtrix_body("completed")).encode()


def encoded(token: str) -> str:
    """Return a token with every character percent-encoded."""
    return "".join(f"%{ord(character):02x}" for character in token)


async def send(loop: Loop, raw: bytes, headers: Mapping[str, str], segment: str | None = None) -> None:
    """Send a callback with these headers to the address of the last request, or to `segment` of it."""
    segment = segment or token_of(loop.upstream.requests[-1])
    await loop.receiver.receive(loop.receiver.verify_token(segment), headers, raw)


@pytest.mark.parametrize(
    ("raw", "headers"),
    [
        (gzip.compress(RAW), {"content-encoding": "gzip"}),
        (b"\xef\xbb\xbf" + RAW, {}),
        (urlencode({"data": RAW.decode()}).encode(), FORM),
        (urlencode({"id": "up1", "status": "completed"}).encode(), FORM),
        (json.dumps({"code": 0, "data": json.loads(RAW)}).encode(), {}),
        (json.dumps([json.loads(RAW)]).encode(), {}),
    ],
    ids=["gzip", "BOM", "form with JSON", "form", "wrapped", "list"],
)
@pytest.mark.parametrize("burst", [True, False])
async def test_body_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, headers: dict[str, str], burst: bool
) -> None:
    """The callback makes the task due, also when it is read from the inbox by another process."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: burst)
    async with open_environment(tmp_path) as environment:
        loop = environment.process()
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await send(loop, raw, headers)
        if burst:
            assert await environment.process().inbox_worker.run_once() == 1
        await loop.poll_due()
        assert ((await loop.task(task.id)).settled_by, await loop.callbacks()) == ("callback", {"accepted": 1})


@pytest.mark.parametrize("spell", [lambda token: f"{token}/", encoded, lambda token: token.replace("~", "%7E")])
async def test_address_is_understood(tmp_path: Path, spell: object) -> None:
    """A slash behind the address and any equal percent-encoding are the same address."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await send(loop, RAW, {}, spell(token_of(loop.upstream.requests[0])))  # type: ignore[operator] # a function
        assert (await loop.task(task.id)).status is Status.COMPLETED


@pytest.mark.parametrize("change", [encoded, lambda token: f"{token}%20", lambda token: f"x{token}", quote])
async def test_forged_token_stays_forged_in_each_spelling(tmp_path: Path, change: object) -> None:
    """A spelling makes no token valid, and characters that are no part of it are refused."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        forged = Tokens(["a foreign key"]).callback_token(task.id, 1, loop.clock.now() + HOUR)
        with pytest.raises(BadToken):
            loop.receiver.verify_token(change(forged))  # type: ignore[operator] # a function


@pytest.mark.parametrize(
    ("raw", "headers", "error"),
    [
        (gzip.compress(b" " * 3_000_000), {"content-encoding": "gzip"}, BodyTooLarge),
        (b"\x28\xb5\x2f\xfd" + RAW, {"content-encoding": "zstd"}, UnreadableBody),
        (b"a=1&b=2", FORM, UnreadableBody),
    ],
)
async def test_other_body_is_refused_and_polled_at_once(
    tmp_path: Path, raw: bytes, headers: dict[str, str], error: type[Exception]
) -> None:
    """What cannot be read from a caller with a valid token makes the task due."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        with pytest.raises(error):
            await send(loop, raw, headers)
        assert await loop.poll_due() == 1
        assert (await loop.task(task.id)).status is Status.COMPLETED


async def test_body_that_was_not_received_is_polled_at_once(tmp_path: Path) -> None:
    """A body over the limit is not received at all: its task is due, and nothing is stored."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.receiver.poll_at_once(loop.receiver.verify_token(token_of(loop.upstream.requests[0])))
        assert await loop.poll_due() == 1
        assert ((await loop.task(task.id)).status, await loop.callbacks()) == (Status.COMPLETED, {})


@pytest.mark.parametrize(
    ("sent", "signed", "good"),
    [("{}", "{}", True), ("{}/", "{}", True), ("{}/", "{}/", True), ("%7E", "%7E", True), ("{}", "{}/", False)],
)
def test_signature_covers_the_address_as_it_is_spelt(sent: str, signed: str, good: bool) -> None:
    """Vidu may sign our address, or the spelling of it that it uses; no other one."""
    token = TOKENS.callback_token(TaskId("t1"), 1, START)
    spelt = {"{}": token, "{}/": f"{token}/", "%7E": token.replace("~", "%7E")}
    address = callback_address("https://boomerang.example/base", spelt[signed])
    headers = {"date": DATE, "x-request-nonce": "n1", "x-hmac-signed-headers": "Date;x-request-nonce"}
    headers |= {"x-hmac-algorithm": "hmac-sha256", "x-hmac-access-key": "vidu"}
    headers["x-hmac-signature"] = sign("key", url=address, headers=headers)
    settings = load_settings(
        {"VIDU_API_KEY": "key", "BOOMERANG_PROVIDER": "vidu", "BOOMERANG_PUBLIC_URL": "https://boomerang.example/base"}
    )
    verifier = signature_check(settings, spelt[sent])
    if good:
        assert verifier.verify(headers, START) == "n1"
        return
    with pytest.raises(BadSignature):
        verifier.verify(headers, START)


async def test_token_of_a_key_that_another_process_knows_is_no_forgery(tmp_path: Path) -> None:
    """While another process may know a key, its tokens are refused for the moment; a valid token is accepted."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        expires = loop.clock.now() + HOUR
        loop.receiver.may_lack_keys = lambda: True
        with pytest.raises(KeyMissing):
            loop.receiver.verify_token(Tokens(["newer"]).callback_token(task.id, 1, expires))
        with pytest.raises(BadToken):  # it expired, whoever signed it
            loop.receiver.verify_token(TOKENS.callback_token(task.id, 1, loop.clock.now() - HOUR))
        assert loop.receiver.verify_token(TOKENS.callback_token(task.id, 1, expires)).task_id == task.id
