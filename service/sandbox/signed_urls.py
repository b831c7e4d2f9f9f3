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
class ResultLinks:
    """Hold the addresses of one answer's result: the film, its cover, and the marked film when it was ordered."""

    video: str
    cover: str
    marked: str | None


class Links:
    """Sign result addresses of a sandbox; each answer about a task gets fresh ones."""

    def __init__(self, world: SandboxState) -> None:
        self._world = world
        self._secret = world.trace("result addresses").encode()
        self._given = 0

    def of(self, task: Task) -> ResultLinks:
        """Return fresh addresses for a task's result; the switches say how long they live."""
        self._given += 1
        life = self._life(f"{task.number}/{self._given}")
        return ResultLinks(
            video=self._address(task, f"{task.id}.mp4", life),
            cover=self._address(task, f"{task.id}.jpg", life),
            marked=self._address(task, f"{task.id}-marked.mp4", life) if task.order.watermark else None,
        )

    def fits(self, name: str, expires: str, signature: str) -> bool:
        """Say whether this sandbox signed that address."""
        nonce, _, _ = signature.partition("-")
        return hmac.compare_digest(self._signature(name, expires, nonce).encode(), signature.encode())

    def lives(self, expires: str) -> bool:
        """Say whether a signed address is still in time."""
        return self._world.now().timestamp() < int(expires)

    def _life(self, occasion: str) -> float:
        if self._world.hits("url_expired", occasion):
            return -_EXPIRED_AGO
        return self._world.switches.url_life

    def _address(self, task: Task, name: str, life: float) -> str:
        expires = str(int(self._world.now().timestamp() + life))
        nonce = self._world.trace(f"link/{self._given}")[:_NONCE_LENGTH]
        query = urlencode({"expires": expires, "sig": self._signature(name, expires, nonce)})
        return f"{task.base_url}/files/{name}?{query}"

    def _signature(self, name: str, expires: str, nonce: str) -> str:
        digest = hmac.digest(self._secret, f"{name}\n{expires}\n{nonce}".encode(), hashlib.sha256)
        return f"{nonce}-{digest.hex()[:40]}"
