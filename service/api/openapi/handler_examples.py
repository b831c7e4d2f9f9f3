"""Example bodies of the controls of handlers, by their model."""

from typing import Any

from pydantic import BaseModel

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

HANDLER_EXAMPLES: dict[type[BaseModel], Any] = {
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
