"""Makes the tools of an attempt: its HTTP client, its settings, and the secrets of its client."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from service.deliveries.egress_clients import EgressClients
from service.deliveries.handler_api import Handler, Results, Tools
from service.deliveries.handler_content import ObjectArchive, no_content
from service.deliveries.task_content import ContentOpener
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.webhook_secrets import ClientSecrets


@dataclass(frozen=True, kw_only=True)
class ToolsFactory:
    """Makes tools; `settings` are those that handlers see, and `client_secrets` sign for the clients."""

    clients: EgressClients
    results: Results
    now: Callable[[], datetime]
    settings: Mapping[str, str] = field(repr=False)
    client_secrets: ClientSecrets
    content: ContentOpener | None = None
    archive: ObjectArchive | None = None

    def __call__(self, claim: DeliveryClaim, handler: Handler) -> Tools:
        """Return the tools for one attempt: a `notify` target has the guard and the secrets of its client."""
        settings = self.settings
        if claim.target:
            settings = {**settings, "WEBHOOK_SECRETS": ",".join(self.client_secrets.for_client(claim.event.client))}
        http = self.clients.client_for(handler, claim.target)
        return Tools(
            http=http,
            log=logging.getLogger(f"boomerang.handlers.{handler.name}"),
            results=self.results,
            now=self.now,
            settings=settings,
            target=claim.target,
            message_id=claim.message_id,
            attempt=claim.attempt,
            content=self.content.for_client(self.clients.client_for(handler, {})) if self.content else no_content,
            archive=self.archive,
        )
