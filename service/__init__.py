"""Boomerang: what you throw always comes back.

This is the handler author's menu, and nothing else: `from service import Event, Handlers, Reject, Retry, Tools`.
"""

from service.deliveries.handler_api import Event, Handlers, Tools
from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry

__all__ = ["Artifact", "Event", "Handlers", "Reject", "Retry", "Tools"]
