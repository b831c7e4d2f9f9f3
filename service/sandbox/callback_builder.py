"""Write one callback, true or spoilt as the switches say: its address, headers and body."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from service.sandbox.bodies import callback_body, native_body
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.signing import signed_headers
from service.sandbox.state import SandboxState
from service.sandbox.tasks import State, Task

_STALE = timedelta(hours=2)
_FORGED = "http://127.0.0.1:9/forged.mp4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """Hold one callback, ready to be sent as often as it takes."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    repeats: int
    occasion: str
    tampered: bool


class CallbackBuilder:
    """Write the callbacks of a sandbox."""

    def __init__(self, state: SandboxState, signer: UrlSigner) -> None:
        self._state = state
        self._signer = signer

    def write(self, task: Task, url: str) -> Callback:
        """Return the callback about the task as it stands; a later change of the task does not change it."""
        occasion = f"{task.number}/{task.state}"
        native = task.provider == "vidu" or self._state.hits("native_callbacks", occasion)
        true = self._body(task, native=native)
        corrupted = self._corrupted(true, occasion)
        dialled = _flipped_path(url) if self._state.hits("tamper_token", occasion) else url
        content = json.dumps(corrupted).encode()
        return Callback(
            url=dialled,
            body=content[: len(content) // 2] if self._state.hits("cut_callbacks", occasion) else content,
            headers={"Content-Type": "application/json"} | (self._signed(task, url, occasion) if native else {}),
            repeats=self._state.switches.callback_retries if task.state.final else 0,
            occasion=occasion,
            tampered=corrupted != true or dialled != url,
        )

    def _body(self, task: Task, *, native: bool) -> dict[str, Any]:
        if native:
            return native_body(task, self._signer)
        return callback_body(task, self._signer, self._state.now())

    def _corrupted(self, body: dict[str, Any], occasion: str) -> dict[str, Any]:
        if self._state.hits("tamper_body", occasion):
            body = _opposite(body)
        if self._state.hits("tamper_payload", occasion):
            body = body | {"payload": flipped(body.get("payload") or "forged")}
        return body

    def _signed(self, task: Task, url: str, occasion: str) -> dict[str, str]:
        key = task.key if task.provider == "vidu" else self._state.switches.vendor_key
        if self._state.hits("wrong_key", occasion):
            key = f"not-{key}"
        stale = _STALE if self._state.hits("stale_date", occasion) else timedelta()
        nonce = self._state.trace(f"nonce/{occasion}")
        return signed_headers(key, url, nonce=nonce, at=self._state.now() - stale)


def flipped(text: str) -> str:
    """Return the text with the character in its middle changed to another letter."""
    middle = len(text) // 2
    other = "B" if text[middle] == "A" else "A"
    return f"{text[:middle]}{other}{text[middle + 1 :]}"


def _flipped_path(url: str) -> str:
    parts = urlsplit(url)
    folder, _, last = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=f"{folder}/{flipped(last) if last else 'A'}"))


def _opposite(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that tells of failure where there was success, and of a forged film elsewhere."""
    if "state" in body:
        return _opposite_native(body)
    if body["status"] == "completed":
        kept = {name: value for name, value in body.items() if name not in {"output", "usage"}}
        return kept | {"status": "failed", "error": {"code": "forged", "error_message": "forged"}}
    kept = {name: value for name, value in body.items() if name not in {"error", "progress"}}
    content = {"type": "video", "url": _FORGED, "duration": 5, "jobId": "1"}
    return kept | {"status": "completed", "output": [{"content": [content]}], "usage": {"cost": "0.00", "discount": 0}}


def _opposite_native(body: dict[str, Any]) -> dict[str, Any]:
    if body["state"] == State.SUCCESS:
        return body | {"state": "failed", "err_code": "Forged", "creations": []}
    forged = {"id": "1", "url": _FORGED, "cover_url": "", "watermarked_url": ""}
    return body | {"state": "success", "err_code": "", "creations": [forged]}
