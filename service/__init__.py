"""The public API for handlers: `from service import Event, Handlers, Reject, Retry, Tools`, and the names below.

A name is imported when it is first used: `boomerang --help` needs none of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.deliveries.declared_settings import HandlerSettings
    from service.deliveries.handler_api import Event, Handlers, Tools
    from service.deliveries.handler_content import Content, ObjectArchive
    from service.deliveries.handler_parts import Job
    from service.deliveries.handler_state import HandlerState
    from service.deliveries.handler_tasks import InvalidTask, QueueIsFull, data_uri
    from service.deliveries.notify_options import NotifyOptions
    from service.domain.artifact import Artifact
    from service.domain.errors import Conflict, Fault, NotFound, Reject, Retry, StoreUnavailable, UpstreamError
    from service.domain.operator_event import OperatorEvent
    from service.domain.task_view import TaskView

__all__ = [
    "Artifact",
    "Conflict",
    "Content",
    "Event",
    "Fault",
    "HandlerSettings",
    "HandlerState",
    "Handlers",
    "InvalidTask",
    "Job",
    "NotFound",
    "NotifyOptions",
    "ObjectArchive",
    "OperatorEvent",
    "QueueIsFull",
    "Reject",
    "Retry",
    "StoreUnavailable",
    "TaskView",
    "Tools",
    "UpstreamError",
    "data_uri",
]

_MODULES = {
    "deliveries.declared_settings": ("HandlerSettings",),
    "deliveries.handler_api": ("Event", "Handlers", "Tools"),
    "deliveries.handler_content": ("Content", "ObjectArchive"),
    "deliveries.handler_parts": ("Job",),
    "deliveries.handler_state": ("HandlerState",),
    "deliveries.handler_tasks": ("InvalidTask", "QueueIsFull", "data_uri"),
    "deliveries.notify_options": ("NotifyOptions",),
    "domain.artifact": ("Artifact",),
    "domain.errors": ("Conflict", "Fault", "NotFound", "Reject", "Retry", "StoreUnavailable", "UpstreamError"),
    "domain.operator_event": ("OperatorEvent",),
    "domain.task_view": ("TaskView",),
}
_ORIGINS = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker reports unknown names

    def __getattr__(name: str) -> object:
        """Import a public name."""
        if name not in _ORIGINS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_ORIGINS[name]}"), name)
