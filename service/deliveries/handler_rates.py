"""The rates that the operator sets for single handlers, which overrule the rates of their modules."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from service.deliveries.handler_api import Handler
from service.domain.delivery_rate import OWN_RATE
from service.domain.retry_schedule import schedule_name


def own_rates(found: Iterable[Handler], settings: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the settings RATE_<HANDLER>, by what follows RATE_.

    `settings` are those present, without the prefix. A setting that one of the `found` handlers declares is no rate.
    """
    declared = {name for handler in found for name in handler.uses}
    rates = {name: text for name, text in settings.items() if name.startswith(OWN_RATE) and name not in declared}
    return {name.removeprefix(OWN_RATE): text for name, text in rates.items()}


def unknown_rates(rates: Collection[str], chosen: Collection[Handler]) -> Iterator[str]:
    """Yield a line for each of the `rates` that is of no loaded handler: it would have no effect."""
    known = {schedule_name(name) for handler in chosen for name in handler.names}
    loaded = ", ".join(sorted(handler.name for handler in chosen)) or "none"
    for name in sorted(set(rates) - known):
        yield (
            f"BOOMERANG_{OWN_RATE}{name} must end with the name of a loaded handler, in capitals and with _ for -; "
            f"loaded are {loaded}"
        )


def with_own_rate(handler: Handler, rates: Mapping[str, str]) -> Handler:
    """Return the handler with the rate that the settings give it, by its name or else a former one."""
    given = [rates[name] for name in map(schedule_name, handler.names) if name in rates]
    return replace(handler, rate=given[0]) if given else handler
