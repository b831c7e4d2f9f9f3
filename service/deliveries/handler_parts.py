"""What a handler may have beside its event function: HTTP routes, and jobs that run later."""

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.domain.errors import BadHandler

if TYPE_CHECKING:  # a route of a command that serves nothing needs no HTTP library
    from starlette.requests import Request
    from starlette.responses import Response

    from service.deliveries.handler_api import Tools

MB = 1024 * 1024
ROUTE_TIMEOUT = 10.0
"""Seconds that a route may take."""

MAX_BODY = MB
"""Bytes of the body of a request to a route."""

BODY_CEILING = 24 * MB

JOB_TIMEOUT = 60.0
JOB_ATTEMPTS = 8
"""Seconds that one attempt of a job may take, and how many attempts it has."""

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
PATH = re.compile(r"(/[A-Za-z0-9._~-]+|/\{[a-z_]+\})+")
JOB_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Respond = Callable[["Request", "Tools[Any, Any]"], Awaitable["Response"]]
RunJob = Callable[["Job", "Tools[Any, Any]"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt of a job that `tools.schedule` requested, from 1. `data` is that of the last request for its key."""

    id: str
    name: str
    key: str
    data: Any = field(default=None, repr=False)
    attempt: int = 1
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class HandlerRoute:
    """A route of a handler: requests to `/handlers/{handler}{path}` with its method, without an API key.

    With SERVERLESS=on its answer waits for what is due by then, unless it is to `answer_first`.
    """

    handler: str
    method: str
    path: str
    respond: Respond = field(repr=False)
    max_body: int = MAX_BODY
    timeout: float = ROUTE_TIMEOUT
    answer_first: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS or not PATH.fullmatch(self.path):
            raise BadHandler(
                f"route {self.method} {self.path!r} of handler {self.handler!r} must have one of the methods "
                f"{', '.join(sorted(METHODS))} and a path like /webhook or /user/{{id}}"
            )
        if not (0 <= self.max_body <= BODY_CEILING and 0 < self.timeout < math.inf):
            raise BadHandler(
                f"route {self.path!r} of handler {self.handler!r} needs 0 <= max_body <= {BODY_CEILING}, timeout > 0"
            )

    @property
    def full_path(self) -> str:
        """Return the path at which the service serves it."""
        return f"/handlers/{self.handler}{self.path}"


@dataclass(frozen=True, kw_only=True)
class HandlerJob:
    """A job of a handler: its function, the number of its attempts, and the seconds that one may take."""

    handler: str
    name: str
    run: RunJob = field(repr=False)
    attempts: int = JOB_ATTEMPTS
    timeout: float = JOB_TIMEOUT

    def __post_init__(self) -> None:
        if not JOB_NAME.fullmatch(self.name):
            raise BadHandler(f"job name {self.name!r} must be 1 to 64 ASCII letters, digits, '-' and '_'")
        if self.attempts < 1 or not 0 < self.timeout < math.inf:
            raise BadHandler(f"job {self.name!r} of handler {self.handler!r} needs attempts >= 1 and timeout > 0")

    @property
    def full_name(self) -> str:
        """Return the name under which it is stored."""
        return f"{self.handler}/{self.name}"
