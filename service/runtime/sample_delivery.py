"""Sends one clearly marked test event through a handler with the real settings; nothing else runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.deliveries.handler_api import Handler
from service.deliveries.handler_loader import not_loaded
from service.deliveries.sample_event import claim_of, sample_event
from service.deliveries.single_attempt import SampleResults, run_single_attempt
from service.domain.errors import BadSetting
from service.domain.notify import validate_notify
from service.domain.task import EventType, Json
from service.runtime.application import Application
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import egress_settings, secret_mask
from service.runtime.handler_setup import notify_rules
from service.runtime.log_config import configure_logging
from service.runtime.process import prepare_storage

NO_KEY = "not-set"
"""Stands for the provider's key where none is set."""


@dataclass(frozen=True, kw_only=True)
class SampleOutcome:
    """How the attempt ended (`delivered`, `retry` or `dead`), its error, and how long it took."""

    handler: str
    event: str
    outcome: str
    error: str | None
    seconds: float


async def try_handler(
    settings: Settings, name: str, *, target: Mapping[str, object] | None, event_type: str | None
) -> SampleOutcome:
    """Run the handler `name` once; `target` is what its `notify` entry has beside `handler`, None without one.

    Raises BadSetting for a handler that is not loaded, InvalidParams for a target with faults.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = await prepare_storage(settings)
    if settings.upstream_key is None:  # the provider is not asked for anything
        settings = settings.model_copy(update={"upstream_key": NO_KEY})
    async with build_application(settings) as application:
        handler = _loaded(application, name)
        entry: Json = {} if target is None else {"handler": handler.name, **target}
        if entry:
            refusal = egress_settings(settings).for_notify().refusal
            validate_notify([entry], handler.names, refusal, notify_rules(settings, [handler]))
        elif handler.by_request:
            raise BadSetting(f"handler {name!r} delivers what a notify entry asks for; give the entry with --target")
        event = sample_event(event_type or _event_type(handler), at=application.clock.now())
        began = time.perf_counter()
        outcome = await run_single_attempt(
            handler,
            claim_of(event, handler.name, entry),
            replace(application.tools, results=SampleResults(output=event.task.output)),
            schedule=settings.retry_schedule,
            clock=application.clock,
            mask=secret_mask(settings),
        )
        seconds = round(time.perf_counter() - began, 3)
        return SampleOutcome(
            handler=handler.name, event=event.type, outcome=outcome.outcome, error=outcome.error, seconds=seconds
        )


def _loaded(application: Application, name: str) -> Handler:
    for handler in application.handlers.values():
        if name in handler.names:
            return handler
    settings = application.settings
    reason = not_loaded(settings.handlers, settings.present).get(name)
    known = ", ".join(sorted(application.handlers)) or "none"
    raise BadSetting(f"handler {name!r} {reason}" if reason else f"there is no handler {name!r}; loaded are {known}")


def _event_type(handler: Handler) -> str:
    wanted = (EventType.COMPLETED, EventType.ARTIFACT_STORED, *sorted(handler.events))
    return next(each for each in wanted if each in handler.events)
