"""Settings that have no effect, because BOOMERANG_HANDLERS does not name the handler that uses them."""

from collections.abc import Iterable, Mapping, Sequence

from service.deliveries.handler_api import Handler
from service.domain.retry_schedule import schedule_name


def unused_settings(
    handlers: Iterable[Handler], names: Sequence[str] | None, settings: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the given settings, with the prefix, of each of `handlers` that HANDLERS (`names`) does not name.

    Only a handler's own settings count, which begin with its name, and only those that no named handler uses. Without
    HANDLERS there are none: a handler is loaded once its settings are there.
    """
    if names is None:
        return {}
    found = list(handlers)
    used = {name for handler in found if handler.name in names for name in handler.uses}
    unused: dict[str, list[str]] = {}
    for handler in found:
        own = f"{schedule_name(handler.name)}_"
        given = [each for each in handler.uses if each.startswith(own) and settings.get(each) and each not in used]
        if given and handler.name not in names:
            unused[handler.name] = [f"BOOMERANG_{name}" for name in given]
    return unused


def unused_text(handler: str, given: Sequence[str]) -> str:
    """Return what the settings of one handler do not do, in a sentence."""
    verb = "has" if len(given) == 1 else "have"
    return f"BOOMERANG_HANDLERS does not name {handler}, so {' and '.join(given)} {verb} no effect"
