"""Sends one clearly marked test event through a handler with the real settings, for the command; nothing else runs."""

from collections.abc import Mapping

from service.domain.errors import BadSetting, Conflict, NotFound
from service.domain.ports.handler_tests import HandlerTestResult
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import Settings
from service.runtime.log_config import configure_logging
from service.runtime.process import prepare_storage

NO_KEY = "not-set"
"""Stands for the provider's key where none is set."""


async def try_handler(
    settings: Settings, name: str, *, target: Mapping[str, object] | None, event_type: str | None
) -> HandlerTestResult:
    """Run the handler `name` once; `target` is what its `notify` entry has beside `handler`, None without one.

    Raises BadSetting for a handler that is not loaded, InvalidParams for a target with faults.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = await prepare_storage(settings)
    if settings.upstream_key is None:  # the provider is not asked for anything
        settings = settings.model_copy(update={"upstream_key": NO_KEY})
    async with build_application(settings) as application:
        try:
            return await application.delivery_parts.handler_tester.send(name, target=target, event_type=event_type)
        except (NotFound, Conflict) as error:
            raise BadSetting(str(error).replace("as target", "with --target")) from None
