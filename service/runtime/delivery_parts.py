"""Builds the use cases of endpoints."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from secrets import token_bytes

from service.deliveries.endpoint_tester import EndpointTester
from service.deliveries.handler_api import Handler
from service.deliveries.handler_tools import ToolsFactory
from service.domain.event_routing import WEBHOOK
from service.domain.ports.signals import Clock
from service.domain.webhook_secrets import PREFIX
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import egress_settings, secret_mask
from service.runtime.handler_setup import client_handlers
from service.runtime.handler_tester import HandlerTests
from service.storage import Store
from service.tasks.callback_bodies import CallbackBodies
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.endpoints import EndpointService
from service.tasks.missed_replay import MissedReplay
from service.tasks.secret_resealing import SecretResealing
from service.tasks.secret_sealer import SecretSealer

SECRET_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class DeliveryParts:
    """The tools of handlers and their tests, and the use cases of endpoints, which `targets` reads for attempts."""

    tools: ToolsFactory
    targets: EndpointTargets
    endpoints: EndpointService
    resealing: SecretResealing
    missed_replay: MissedReplay
    tester: EndpointTester
    handler_tester: HandlerTests


def admins_of(settings: Settings) -> Callable[[str], bool]:
    """Return the check whether a client is an admin: without API_KEYS every client is one."""
    admins = {key.name for key in settings.api_keys if key.admin}
    return lambda client: not settings.api_keys or client in admins


def build_delivery_parts(
    *,
    settings: Settings,
    store: Store,
    handlers: Mapping[str, Handler],
    sealer: SecretSealer,
    tools: ToolsFactory,
    clock: Clock,
    new_id: Callable[[], str],
) -> DeliveryParts:
    """Return the use cases; the parameters are parts of the application."""
    targets = EndpointTargets(
        endpoints=store.endpoints,
        sealer=sealer,
        clock=clock,
        callback_bodies=CallbackBodies(blobs=store.blobs),
    )
    endpoints = EndpointService(
        endpoints=store.endpoints,
        sealer=sealer,
        clock=clock,
        new_id=new_id,
        new_secret=new_webhook_secret,
        refusal=egress_settings(settings).for_notify().refusal,
        enabled=WEBHOOK in handlers,
        for_clients=WEBHOOK in client_handlers(settings, handlers.values()),
        is_admin=admins_of(settings),
    )
    webhook, mask = handlers.get(WEBHOOK), secret_mask(settings)
    tester = EndpointTester(handler=webhook, tools=tools, targets=targets, clock=clock, new_id=new_id, mask=mask)
    return DeliveryParts(
        tools=tools,
        targets=targets,
        endpoints=endpoints,
        resealing=SecretResealing(endpoints=endpoints, rows=store.sealed_secrets, secrets=sealer, clock=clock),
        missed_replay=MissedReplay(endpoints=store.endpoints, replays=store.replays, clock=clock, new_id=new_id),
        tester=tester,
        handler_tester=HandlerTests(settings=settings, handlers=handlers, tools=tools, clock=clock),
    )


def new_webhook_secret() -> str:
    """Return a fresh webhook secret."""
    return PREFIX + b64encode(token_bytes(SECRET_BYTES)).decode()
