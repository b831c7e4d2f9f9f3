"""Signed result addresses that expire."""

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlencode

from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

_EXPIRED_AGO = 60
_MAX_OUTPUTS = 100
_NONCE_LENGTH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultUrls:
    """Addresses of one result: the video, its cover, and the watermarked video if the task has a watermark."""

    video: str
    cover: str
    watermarked: str | None


class UrlSigner:
    """Sign and verify the result addresses of a sandbox. Each response about a task contains new ones."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._secret = state.trace("result addresses").encode()
        self._signed_count = 0

    @property
    def numeric_duration(self) -> bool:
        """Return whether answers have the duration of a result as a number."""
        return self._state.switches.numeric_duration

    def sign_results(self, task: Task) -> list[ResultUrls]:
        """Return new addresses of each result of a task."""
        return [self._sign_urls(task, number + 1) for number in range(min(self._state.switches.outputs, _MAX_OUTPUTS))]

    def _sign_urls(self, task: Task, number: int) -> ResultUrls:
        """Return new addresses of the result `number`, from 1; the switches set their lifetime."""
        self._signed_count += 1
        expired = self._state.hits("url_expired", f"{task.number}/{self._signed_count}")
        life = -_EXPIRED_AGO if expired else self._state.switches.url_life
        stem = task.file_stem if number == 1 else f"{task.file_stem}.{number}"
        return ResultUrls(
            video=self._sign(task, f"{stem}.mp4", life),
            cover=self._sign(task, f"{stem}.jpg", life),
            watermarked=self._sign(task, f"{stem}-marked.mp4", life) if task.spec.watermark else None,
        )

    def has_result(self, task: Task) -> bool:
        """Return whether answers about a successful task show its result now."""
        if task.ended_at is None or self._state.hits("no_result", task.number):
            return False
        return (self._state.now() - task.ended_at).total_seconds() >= self._state.switches.result_delay

    def is_signed(self, name: str, expires: str, signature: str) -> bool:
        """Return whether this sandbox signed the address."""
        nonce, _, _ = signature.partition("-")
        return hmac.compare_digest(self._signature(name, expires, nonce).encode(), signature.encode())

    def is_valid(self, expires: str) -> bool:
        """Return whether a signed address has not expired."""
        return self._state.now().timestamp() < int(expires)

    def _sign(self, task: Task, name: str, life: float) -> str:
        expires = str(int(self._state.now().timestamp() + life))
        nonce = self._state.trace(f"link/{self._signed_count}")[:_NONCE_LENGTH]
        query = urlencode({"expires": expires, "sig": self._signature(name, expires, nonce)})
        return f"{task.base_url}/files/{name}?{query}"

    def _signature(self, name: str, expires: str, nonce: str) -> str:
        digest = hmac.digest(self._secret, f"{name}\n{expires}\n{nonce}".encode(), hashlib.sha256)
        return f"{nonce}-{digest.hex()[:40]}"
