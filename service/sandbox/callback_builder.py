"""Build one callback: address, headers and body, correct or corrupted by the switches."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from service.sandbox.bodies import callback_body, native_body
from service.sandbox.callback_manners import sent_callback
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.signing import signed_headers
from service.sandbox.state import SandboxState
from service.sandbox.tasks import State, Task

_STALE = timedelta(hours=2)
_FORGED = "http://127.0.0.1:9/forged.mp4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """A built callback, which can be sent several times."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    repeats: int
    occasion: str
    tampered: bool


@dataclass(kw_only=True, slots=True)
class CallbackBuilder:
    """Build the callbacks of a sandbox."""

    state: SandboxState
    signer: UrlSigner

    def build(self, task: Task, url: str) -> Callback:
        """Return the callback about the current state of the task; later changes of the task do not affect it."""
        occasion = f"{task.number}/{task.state}"
        native = task.provider == "vidu" or self.state.hits("native_callbacks", occasion)
        body = native_body(task, self.signer) if native else callback_body(task, self.signer, self.state.now())
        corrupted = self._corrupted(body, occasion)
        target = _with_changed_path(url) if self.state.hits("tamper_token", occasion) else url
        sent = sent_callback(self.state, occasion, target, corrupted)
        cut = self.state.hits("cut_callbacks", occasion)
        return Callback(
            url=sent.url,
            body=sent.body[: len(sent.body) // 2] if cut else sent.body,
            headers=sent.headers | (self._signed(task, url, occasion) if native else {}),
            repeats=self.state.switches.callback_retries if task.state.final else 0,
            occasion=occasion,
            tampered=corrupted != body or target != url,
        )

    def _corrupted(self, body: dict[str, Any], occasion: str) -> dict[str, Any]:
        if self.state.hits("tamper_body", occasion):
            body = _opposite(body)
        if self.state.hits("tamper_payload", occasion):
            body = body | {"payload": with_changed_character(body.get("payload") or "forged")}
        return body

    def _signed(self, task: Task, url: str, occasion: str) -> dict[str, str]:
        key = task.key if task.provider == "vidu" else self.state.switches.vendor_key
        if self.state.hits("wrong_key", occasion):
            key = f"not-{key}"
        age = _STALE if self.state.hits("stale_date", occasion) else timedelta()
        nonce = self.state.trace(f"nonce/{occasion}")
        return signed_headers(key, url, nonce=nonce, at=self.state.now() - age)


def with_changed_character(text: str) -> str:
    """Return the text with another letter in its middle."""
    middle = len(text) // 2
    other = "B" if text[middle] == "A" else "A"
    return f"{text[:middle]}{other}{text[middle + 1 :]}"


def _with_changed_path(url: str) -> str:
    parts = urlsplit(url)
    folder, _, last = parts.path.rpartition("/")
    return urlunsplit(parts._replace(path=f"{folder}/{with_changed_character(last) if last else 'A'}"))


def _opposite(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body that reports failure instead of success, and a forged video instead of any other state."""
    if "state" in body:
        if body["state"] == State.SUCCESS:
            return body | {"state": "failed", "err_code": "Forged", "creations": []}
        forged = {"id": "1", "url": _FORGED, "cover_url": "", "watermarked_url": ""}
        return body | {"state": "success", "err_code": "", "creations": [forged]}
    if body["status"] == "completed":
        rest = {name: value for name, value in body.items() if name not in {"output", "usage"}}
        return rest | {"status": "failed", "error": {"code": "forged", "error_message": "forged"}}
    rest = {name: value for name, value in body.items() if name not in {"error", "progress"}}
    content = {"type": "video", "url": _FORGED, "duration": 5, "jobId": "1"}
    return rest | {"status": "completed", "output": [{"content": [content]}], "usage": {"cost": "0.00", "discount": 0}}
