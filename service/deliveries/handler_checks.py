"""Checks of what a handler module registers: BadHandler has the fix."""

import inspect
import math
from typing import TYPE_CHECKING

from service.domain.errors import BadHandler
from service.domain.task import EventType

if TYPE_CHECKING:
    from service.deliveries.handler_api import Handler


def check_declaration(handler: "Handler") -> None:
    """Raise BadHandler for wrong names, unknown events and numbers out of range."""
    for name in handler.names:
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise BadHandler(f"handler name {name!r} must be ASCII letters, digits, '-' and '_'")
    if len(set(handler.names)) < len(handler.names):
        raise BadHandler(f"handler {handler.name!r} names an alias twice or itself; aliases are its former names")
    unknown = sorted(map(str, handler.events - frozenset(EventType)))
    if unknown:
        raise BadHandler(
            f"handler {handler.name!r} asks for unknown events {', '.join(unknown)}; known are {', '.join(EventType)}; "
            "for service.* use on_operator_event"
        )
    valid = (handler.attempts is None or handler.attempts >= 1) and handler.concurrency >= 1
    try:
        _ = handler.per_second
    except ValueError as error:
        raise BadHandler(f"rate of handler {handler.name!r} {error}") from None
    if handler.circuit_failures is not None and handler.circuit_failures < 0:
        raise BadHandler(f"handler {handler.name!r} needs circuit_failures >= 0; 0 is for no circuit breaker")
    if not (valid and 0 < handler.timeout < math.inf):
        raise BadHandler(f"handler {handler.name!r} needs attempts >= 1, timeout > 0 and concurrency >= 1")


def check_call(function: object, subject: str, parameters: str) -> None:
    """Raise BadHandler unless `await function(*parameters)` works with the two parameters."""
    if not inspect.iscoroutinefunction(function):
        kind = "an async generator" if inspect.isasyncgenfunction(function) else "a sync function"
        name = getattr(function, "__name__", "handle")
        raise BadHandler(f"{subject} is {kind}; write `async def {name}{parameters}` without yield")
    try:
        inspect.signature(function).bind(object(), object())
    except TypeError as error:
        raise BadHandler(f"{subject} must take exactly {parameters}: {error}") from error
