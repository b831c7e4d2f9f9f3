"""Make result addresses that expire, and check them when they are asked for."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlencode

from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

_EXPIRED_AGO = 60
_NONCE_LENGTH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultUrls:
    """Hold the addresses of one answer's result: the film, its cover, and the marked film when it was ordered."""

    video: str
    cover: str
    marked: str | None


class UrlSigner:
    """Sign result addresses of a sandbox; each answer about a task gets fresh ones."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._secret = state.trace("result addresses").encode()
        self._signed_count = 0

    def of(self, task: Task) -> ResultUrls:
        """Return fresh addresses for a task's result; the switches say how long they live."""
        self._signed_count += 1
        life = self._life(f"{task.number}/{self._signed_count}")
        return ResultUrls(
            video=self._address(task, f"{task.id}.mp4", life),
            cover=self._address(task, f"{task.id}.jpg", life),
            marked=self._address(task, f"{task.id}-marked.mp4", life) if task.spec.watermark else None,
        )

    def is_signed(self, name: str, expires: str, signature: str) -> bool:
        """Say whether this sandbox signed that address."""
        nonce, _, _ = signature.partition("-")
        return hmac.compare_digest(self._signature(name, expires, nonce).encode(), signature.encode())

    def is_valid(self, expires: str) -> bool:
        """Say whether a signed address is still in time."""
        return self._state.now().timestamp() < int(expires)

    def _life(self, occasion: str) -> float:
        if self._state.hits("url_expired", occasion):
            return -_EXPIRED_AGO
        return self._state.switches.url_life

    def _address(self, task: Task, name: str, life: float) -> str:
        expires = str(int(self._state.now().timestamp() + life))
        nonce = self._state.trace(f"link/{self._signed_count}")[:_NONCE_LENGTH]
        query = urlencode({"expires": expires, "sig": self._signature(name, expires, nonce)})
        return f"{task.base_url}/files/{name}?{query}"

    def _signature(self, name: str, expires: str, nonce: str) -> str:
        digest = hmac.digest(self._secret, f"{name}\n{expires}\n{nonce}".encode(), hashlib.sha256)
        return f"{nonce}-{digest.hex()[:40]}"
