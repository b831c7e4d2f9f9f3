"""Vidu's balance: the credits that remain, and the tasks that run."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.bodies import credits_of
from service.sandbox.provider_shapes import ProviderShape, Refused
from service.sandbox.state import SandboxState
from service.sandbox.tasks import State

_GRANTED = 1_000_000


@dataclass(kw_only=True, slots=True)
class Credits:
    """Serve `GET /credits` in Vidu's shape."""

    state: SandboxState
    shape: ProviderShape
    authenticate: Callable[[Request], str]

    async def __call__(self, request: Request) -> Response:
        """Return `remains`, with one entry, and `packages`, which the sandbox does not have."""
        try:
            self.authenticate(request)
        except Refused as refused:
            return self.shape.error_response(refused, self.state.trace("credits"))
        tasks = [task for task in self.state.tasks.values() if task.provider == "vidu"]
        states = Counter(task.state for task in tasks)
        entry = {
            "type": "metered",
            "credit_remain": max(0, _GRANTED - sum(credits_of(task) for task in tasks)),
            "concurrency_limit": self.state.switches.vidu_concurrency,
            "current_concurrency": states[State.PROCESSING],
            "queue_count": states[State.QUEUEING],
        }
        return JSONResponse({"remains": [entry], "packages": []})
