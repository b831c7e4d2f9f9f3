"""What a client asks for, and everything that is wrong with it at once. Computes only."""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from service.domain.errors import Fault, InvalidParams
from service.domain.media.limits import Inspector
from service.domain.models.media_checks import MAX_ITEMS_CHECKED
from service.domain.models.validation import ValidatedParams, validate_params
from service.domain.notify import WEBHOOK, WhyNotDialled, validate_notify
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json

T = TypeVar("T")

NO_WEBHOOK = "needs the webhook handler, which is not loaded here; leave it out, or add webhook to BOOMERANG_HANDLERS"

MOST_METADATA = 64 * 1024
"""Bytes: it is copied into every event, list and webhook of the task."""

QUICK = 256 * 1024
"""Bytes of a request that is checked where it came in when it holds no file to open: a thread would take longer."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """What a client asks for, as it came: everything but `client` and `idempotency` is still to be checked.

    `size` is that of the whole request in bytes; None when it is not known. `faults` were found on the way here.
    """

    client: str
    model: object
    params: object = field(repr=False)
    metadata: object = field(default_factory=dict)
    notify: object = field(default=None, repr=False)
    idempotency: IdempotencyKey | None = None
    size: int | None = None
    faults: tuple[Fault, ...] = ()

    @property
    def payload(self) -> str | None:
        """Return the caller's own payload; None when there is none."""
        found = self.params.get("payload") if isinstance(self.params, dict) else None
        return found if isinstance(found, str) else None

    @property
    def validates_fast(self) -> bool:
        """Whether checking takes no time to speak of: little text, and no file to open."""
        return self.size is not None and self.size <= QUICK and not any(map(_inline, _listed(self.params)))


@dataclass(frozen=True, kw_only=True)
class ValidatedTask:
    """A new task that holds every limit; `notify` has the caller's own `callback_url` as its last entry."""

    params: ValidatedParams
    metadata: Json
    notify: tuple[Json, ...] = field(repr=False)


def validate_new_task(
    new: NewTask,
    *,
    handlers: Collection[str],
    refusal: WhyNotDialled,
    allow_off_peak: bool = False,
    inspect: Inspector | None = None,
) -> ValidatedTask:
    """Return `new` checked, or raise InvalidParams with every fault, those that `new` came with first.

    `handlers` are the names that `notify` may ask for, `refusal` says which addresses are never dialled; `inspect` and
    `allow_off_peak` are those of `validate_params`.
    """
    faults = [*new.faults]
    checking = partial(validate_params, new.model, new.params, inspect=inspect, allow_off_peak=allow_off_peak)
    params = None if _at_fault(faults, "model", "params") else _gathered(faults, checking)
    notify = _gathered(faults, lambda: validate_notify(new.notify, handlers, refusal))
    if params and params.callback_url:
        faults += _callback_faults(params.callback_url, handlers, refusal)
    metadata = _gathered(faults, lambda: _object(new.metadata))
    if params is None or notify is None or metadata is None or faults:
        raise InvalidParams(faults)
    forward = ({"handler": WEBHOOK, "url": params.callback_url},) if params.callback_url else ()
    return ValidatedTask(params=params, metadata=metadata, notify=(*notify, *forward))


def _callback_faults(address: str, handlers: Collection[str], refusal: WhyNotDialled) -> list[Fault]:
    told = refusal(address) if WEBHOOK in handlers else NO_WEBHOOK
    return [Fault(loc=("params", "callback_url"), msg=told)] if told else []


def _at_fault(faults: list[Fault], *names: str) -> bool:
    """Whether one of these keys is known to be wrong as a whole, so that looking into it would only say so twice."""
    return any(fault.loc == (name,) for fault in faults for name in names)


def _gathered(faults: list[Fault], checking: Callable[[], T]) -> T | None:
    """Return what `checking` returns; None when it found faults, which are added to `faults`."""
    try:
        return checking()
    except InvalidParams as invalid:
        faults.extend(invalid.faults)
        return None


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise InvalidParams([Fault(loc=("metadata",), msg="must be a JSON object; leave it out for none")])
    size = len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > MOST_METADATA:
        told = f"must be at most {MOST_METADATA:,} bytes of JSON, is {size:,}: large texts go into params.payload"
        raise InvalidParams([Fault(loc=("metadata",), msg=told)])
    return value


def _listed(params: object) -> Iterator[object]:
    """Yield what stands in the lists among `params`, as far as it is looked at."""
    for value in params.values() if isinstance(params, dict) else ():
        yield from value[:MAX_ITEMS_CHECKED] if isinstance(value, list) else ()


def _inline(item: object) -> bool:
    return isinstance(item, str) and item[:5].lower() == "data:"
