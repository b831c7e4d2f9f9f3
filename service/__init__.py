"""Boomerang: what you throw always comes back.

This is the handler author's menu, and nothing else: `from service import Event, Handlers, Reject, Retry, Tools`.
"""

from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry
from service.handling import Event, Handlers, Tools

__all__ = ["Artifact", "Event", "Handlers", "Reject", "Retry", "Tools"]
