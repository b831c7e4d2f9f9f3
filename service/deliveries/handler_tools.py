"""Makes the tools of a handler: its HTTP clients, settings, state, tasks and jobs, and the secrets of a client."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from service.deliveries.declared_settings import HandlerSettings, read_config
from service.deliveries.egress_clients import EgressClients
from service.deliveries.handler_api import Handler, Results
from service.deliveries.handler_content import ObjectArchive, no_content
from service.deliveries.handler_jobs import JobRequests
from service.deliveries.handler_state import HandlerState
from service.deliveries.handler_tasks import HandlerTasks, TaskReader, TaskService, WaitingNotes
from service.deliveries.notify_options import NotifyOptions, entry_faults
from service.deliveries.shared_resources import HandlerResources, SharedResources
from service.deliveries.task_content import ContentOpener
from service.deliveries.tools import Tools
from service.domain.errors import Reject
from service.domain.fast_copy import replace_fields
from service.domain.ports.handler_store import HandlerJobStore, HandlerStateStore
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Json
from service.domain.webhook_secrets import ClientSecrets


@dataclass(frozen=True, kw_only=True)
class HandlerPorts:
    """What the tools of all handlers are made of."""

    state: HandlerStateStore
    jobs: HandlerJobStore
    tasks: TaskService
    reader: TaskReader
    notes: WaitingNotes
    new_id: Callable[[], str]


@dataclass(frozen=True, kw_only=True)
class ToolsFactory:
    """Makes tools; `settings` are those that handlers see, and `client_secrets` sign for the clients."""

    clients: EgressClients
    results: Results
    now: Callable[[], datetime]
    settings: Mapping[str, str] = field(repr=False)
    client_secrets: ClientSecrets
    ports: HandlerPorts | None = None
    content: ContentOpener | None = None
    archive: ObjectArchive | None = None
    resources: SharedResources = field(default_factory=SharedResources, repr=False)
    _configs: dict[str, HandlerSettings] = field(default_factory=dict, init=False, repr=False)
    _tools: dict[str, tuple[Handler, Tools[Any, Any]]] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, claim: DeliveryClaim, handler: Handler) -> Tools[Any, Any]:
        """Return the tools for one attempt: a `notify` target has the guard and the secrets of its client.

        Raises Reject for a stored target that does not fit the handler's declaration any more.
        """
        tools = self._shared_tools(handler)
        if not claim.target:
            return replace_fields(tools, message_id=claim.message_id, attempt=claim.attempt)
        secrets = ",".join(self.client_secrets.for_client(claim.event.client))
        return replace(
            tools,
            http=self.clients.client_for(handler, claim.target),
            settings={**self.settings, "WEBHOOK_SECRETS": secrets},
            target=claim.target,
            options=read_options(handler, claim.target),
            message_id=claim.message_id,
            attempt=claim.attempt,
        )

    def _shared_tools(self, handler: Handler) -> Tools[Any, Any]:
        """Return the tools of a handler, which differ between its attempts only by the delivery."""
        known = self._tools.get(handler.name)
        if known is None or known[0] is not handler:
            known = self._tools[handler.name] = handler, self.for_handler(handler)
        return known[1]

    def for_handler(self, handler: Handler) -> Tools[Any, Any]:
        """Return the tools of a handler's routes and jobs."""
        http = self.clients.client_for(handler, {})
        tools: Tools[Any, Any] = Tools(
            http=http,
            operator_http=http,
            log=logging.getLogger(f"boomerang.handlers.{handler.name}"),
            results=self.results,
            now=self.now,
            settings=self.settings,
            config=self._config(handler),
            content=self.content.for_client(http) if self.content else no_content,
            archive=self.archive,
            resources=HandlerResources(handler=handler.name, shared=self.resources),
        )
        if self.ports is None:
            return tools
        ports, name = self.ports, handler.stored_name
        jobs = frozenset(job.name for job in handler.jobs)
        return replace(
            tools,
            state=HandlerState(store=ports.state, handler=name, now=self.now),
            tasks=HandlerTasks(
                name=handler.name, stored=name, service=ports.tasks, reader=ports.reader, notes=ports.notes
            ),
            jobs=JobRequests(handler=name, names=jobs, store=ports.jobs, now=self.now, new_id=ports.new_id),
        )

    def _config(self, handler: Handler) -> HandlerSettings | None:
        if handler.settings is None:
            return None
        if handler.name not in self._configs:
            self._configs[handler.name] = read_config(handler.settings, self.settings)
        return self._configs[handler.name]


def read_options(handler: Handler, target: Json) -> NotifyOptions | None:
    """Return a `notify` entry as the handler's model, None if it declares none; raises Reject with every fault."""
    if handler.options is None:
        return None
    try:
        return handler.options.model_validate(target)
    except ValidationError:
        faults = "; ".join(f"{'.'.join(map(str, loc))} {msg}" for loc, msg in entry_faults(handler.options, target))
        raise Reject(f"the notify entry does not fit the handler: {faults}") from None
