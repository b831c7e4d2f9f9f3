"""The public API for handlers: `from service import Artifact, Content, Event, Handlers, Reject, Retry, Tools`."""

from service.deliveries.handler_api import Event, Handlers, Tools
from service.deliveries.handler_content import Content, ObjectArchive
from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry

__all__ = ["Artifact", "Content", "Event", "Handlers", "ObjectArchive", "Reject", "Retry", "Tools"]
