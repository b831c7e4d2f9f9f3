"""The headers that are stored with a callback: what explains it, and nothing that is secret or a signature."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.callbacks.limits import BurstDetector
from service.domain.errors import UnreadableBody
from tests.support.scripted_provider import token_of
from tests.support.task_loop import open_loop

SECRETS = {
    "x-hmac-signature": "signature-hidden",
    "x-hmac-access-key": "access-hidden",
    "x-request-nonce": "nonce-hidden",
    "authorization": "Bearer hidden",
    "cookie": "session=hidden",
    "webhook-signature": "v1,hidden",
    "x-api-key": "key-hidden",
    "x-forwarded-for": "203.0.113.7, hidden",
}
STORED = {
    "content-type": "application/json",
    "date": "Tue, 06 May 2025 12:09:42 GMT",
    "user-agent": "vidu/2",
    "x-hmac-signed-headers": "Date;x-request-nonce",
    "x-hmac-algorithm": "hmac-sha256",
}


@pytest.mark.parametrize("burst", [False, True], ids=["recorded", "in a burst"])
@pytest.mark.parametrize("body", [b'{"id": "up1", "status": "processing"}', b"{"], ids=["readable", "unreadable"])
async def test_no_secret_header_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst: bool, body: bytes
) -> None:
    """Whatever a caller sends, only known harmless headers reach the database, each cut to 200 characters."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: burst)
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        claims = loop.receiver.verify_token(token_of(loop.upstream.requests[0]))
        long = {"user-agent": "x" * 10_000} if burst else {}
        try:
            await loop.receiver.receive(claims, SECRETS | STORED | long, body)
        except UnreadableBody:
            assert body == b"{"
    with closing(sqlite3.connect(tmp_path / "loop.db")) as database:
        [(headers,)] = database.execute("SELECT headers FROM inbox").fetchall()
    assert "hidden" not in headers
    assert all(f'"{name}"' in headers for name in STORED)
    assert len(headers) < 1_000
