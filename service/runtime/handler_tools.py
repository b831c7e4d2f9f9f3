"""Connects the tools of handlers with the parts of the application."""

from service.artifacts.bucket_archive import BucketArchive
from service.artifacts.contents import Contents
from service.deliveries.egress_clients import EgressClients
from service.deliveries.handler_tools import HandlerPorts, ToolsFactory
from service.deliveries.task_content import ContentOpener
from service.deliveries.task_results import TaskResults
from service.domain.link_tokens import LinkTokens
from service.domain.ports.signals import Clock
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import client_secrets


def tools_factory(
    settings: Settings,
    clock: Clock,
    *,
    clients: EgressClients,
    contents: Contents,
    links: LinkTokens,
    results: TaskResults,
    ports: HandlerPorts,
) -> ToolsFactory:
    """Return what makes the tools of handlers."""
    return ToolsFactory(
        clients=clients,
        results=results,
        now=clock.now,
        settings=settings.present,
        client_secrets=client_secrets(settings),
        ports=ports,
        content=ContentOpener(
            contents=contents,
            results=results,
            links=links,
            now=clock.now,
            public_url=settings.public_url,
        ),
        archive=contents.archive if isinstance(contents.archive, BucketArchive) else None,
    )
