"""Example bodies of the controls of handlers, by their model."""

from typing import Any

from pydantic import BaseModel

from service.api.circuit_schemas import Circuit, CircuitPage
from service.api.handler_schemas import Handler, HandlerList, HandlerTest, HandlerTestRequest

_HANDLER = {
    "name": "webhook",
    "loaded": True,
    "paused": True,
    "paused_at": "2026-05-06T12:00:42.000Z",
    "paused_by": "ops",
    "events": ["task.completed"],
    "by_request": True,
}

_CIRCUIT = {
    "key": "5f0c7d9a1b3e8f2046ad5c7b9e1d3f80",
    "handler": "webhook",
    "host": "hooks.example.org",
    "client": "shop",
    "state": "open",
    "failures": 7,
    "failing_since": "2026-05-06T12:00:42.000Z",
    "opened_at": "2026-05-06T12:01:42.000Z",
    "retry_at": "2026-05-06T12:02:22.000Z",
    "probes": 2,
    "last_error": "Retry: the receiver answered 503",
}

HANDLER_EXAMPLES: dict[type[BaseModel], Any] = {
    Circuit: _CIRCUIT,
    CircuitPage: {"data": [_CIRCUIT], "next_cursor": None},
    Handler: _HANDLER,
    HandlerList: {"data": [_HANDLER]},
    HandlerTestRequest: {"target": {"url": "https://example.org/hook"}, "event": "task.completed"},
    HandlerTest: {
        "handler": "webhook",
        "event": "task.completed",
        "outcome": "delivered",
        "error": None,
        "seconds": 0.214,
    },
}
