"""Validation of a new task: parameters, metadata and notify entries, every fault at once."""

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter

from service.domain.callback_forms import callback_entry
from service.domain.errors import Fault, InvalidParams
from service.domain.event_routing import WEBHOOK
from service.domain.media.limits import Inspector
from service.domain.models.media_checks import MAX_ITEMS_CHECKED
from service.domain.models.validation import ValidatedParams, validate_params
from service.domain.models.value_checks import shorten
from service.domain.notify import NO_RULES, AddressCheck, NotifyRules, validate_notify
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json, Task

NO_WEBHOOK = (
    "needs the webhook handler, which is not loaded here; leave it out, or add webhook to BOOMERANG_HANDLERS "
    "and BOOMERANG_NOTIFY_HANDLERS"
)


MAX_METADATA = 64 * 1024
"""Bytes of JSON: the metadata is copied into every event, list and webhook of the task."""

COMPACT = (",", ":")
"""Separators of JSON without blanks: a caller whose encoder writes none may use the whole size."""


MAX_FAST_VALIDATION = 256 * 1024
"""Bytes of a request without inline media up to which it is validated in the event loop: a thread takes longer."""


@dataclass(frozen=True, kw_only=True)
class NewTask:
    """A request for a task as received: everything except `client` and `idempotency` has to be validated.

    `size` is that of the whole request in bytes, None if unknown. `faults` were found before. `admin`: the key of the
    request is an admin's. `own_handler` may be named in `notify` in any case: its own code requests the task.
    `callback_form` is the form of what the caller's `callback_url` gets, None for our own events.
    """

    client: str
    model: object
    params: object = field(repr=False)
    metadata: object = field(default_factory=dict)
    notify: object = field(default=None, repr=False)
    idempotency: IdempotencyKey | None = None
    size: int | None = None
    faults: tuple[Fault, ...] = ()
    admin: bool = False
    own_handler: str | None = None
    callback_form: str | None = None

    @property
    def payload(self) -> str | None:
        """The caller's own payload, None if there is none."""
        payload = self.params.get("payload") if isinstance(self.params, dict) else None
        return payload if isinstance(payload, str) else None

    @property
    def validates_fast(self) -> bool:
        """Whether validation takes a negligible time: a small request without inline media."""
        if self.size is None or self.size > MAX_FAST_VALIDATION:
            return False
        for value in self.params.values() if isinstance(self.params, dict) else ():
            for item in value[:MAX_ITEMS_CHECKED] if isinstance(value, list) else ():
                if isinstance(item, dict) or (isinstance(item, str) and item[:5].lower() == "data:"):
                    return False
        return True


@dataclass(frozen=True, kw_only=True)
class OtherChanges:
    """What a resubmission changes beside the parameters.

    `metadata` replaces that of the old task unless it is None; the entries of `notify` are added to those of the old
    task. `faults` were found before.
    """

    metadata: object = None
    notify: object = field(default=None, repr=False)
    faults: tuple[Fault, ...] = ()

    def request(self, old: Task, params: Json, *, admin: bool) -> NewTask:
        """Return the request that is validated; its notify entries are the added ones."""
        return NewTask(
            client=old.client,
            admin=admin,
            model=old.model,
            params=params,
            metadata=old.metadata if self.metadata is None else self.metadata,
            notify=self.notify,
            faults=self.faults,
        )


NO_OTHER_CHANGES = OtherChanges()


@dataclass(frozen=True, kw_only=True)
class ValidatedTask:
    """A request within every limit; the last entry of `notify` is the caller's own `callback_url`."""

    params: ValidatedParams
    metadata: Json
    notify: tuple[Json, ...] = field(repr=False)


def validate_new_task(
    new: NewTask,
    *,
    handlers: Collection[str],
    refusal: AddressCheck,
    rules: NotifyRules = NO_RULES,
    allow_off_peak: bool = False,
    allow_unchecked: bool = False,
    models: Collection[str] | None = None,
    inspect: Inspector | None = None,
) -> ValidatedTask:
    """Return `new` validated, or raise InvalidParams with every fault, those of `new.faults` first.

    `handlers` are the names that `notify` may use. `refusal` returns why an address is never dialled, or None.
    `rules` are those of `validate_notify`. `models` are those that the provider has, None for any.
    `inspect`, `allow_off_peak` and `allow_unchecked` are those of `validate_params`.
    """
    faults = [*new.faults]
    params: ValidatedParams | None = None
    if {("model",), ("params",)}.isdisjoint(map(attrgetter("loc"), faults)):  # else their faults are known
        with _collecting(faults):
            _require_served(new.model, models)
            params = validate_params(
                new.model,
                new.params,
                inspect=inspect,
                allow_off_peak=allow_off_peak,
                allow_unchecked=allow_unchecked,
            )
    notify: tuple[Json, ...] = ()
    if new.notify is not None:
        with _collecting(faults):
            notify = validate_notify(new.notify, handlers, refusal, rules)
    callback_url = params.callback_url if params else None
    faults += _callback_url_faults(callback_url, handlers, refusal)
    faults += _metadata_faults(new.metadata)
    if params is None or not isinstance(new.metadata, dict) or faults:
        raise InvalidParams(faults)
    forward = (callback_entry(callback_url, new.callback_form),) if callback_url else ()
    return ValidatedTask(params=params, metadata=new.metadata, notify=(*notify, *forward))


@contextmanager
def _collecting(faults: list[Fault]) -> Iterator[None]:
    """Append the faults of an InvalidParams that is raised in the block."""
    try:
        yield
    except InvalidParams as invalid:
        faults += invalid.faults


def _require_served(model: object, models: Collection[str] | None) -> None:
    """Raise InvalidParams for a model that the provider has not: the task would only fail later."""
    if models is not None and isinstance(model, str) and model not in models:
        message = f"cannot be {shorten(model)}: the provider of this service lacks it; use {' or '.join(models)}"
        raise InvalidParams([Fault(loc=("model",), msg=message)])


def _callback_url_faults(url: str | None, handlers: Collection[str], refusal: AddressCheck) -> list[Fault]:
    reason = refusal(url) if url and WEBHOOK in handlers else NO_WEBHOOK if url else None
    return [Fault(loc=("params", "callback_url"), msg=reason)] if reason else []


def _metadata_faults(value: object) -> list[Fault]:
    if not isinstance(value, dict):
        return [Fault(loc=("metadata",), msg="must be a JSON object; leave it out for none")]
    size = len(json.dumps(value, ensure_ascii=False, separators=COMPACT).encode("utf-8", "surrogatepass"))
    if size <= MAX_METADATA:
        return []
    message = f"must be at most {MAX_METADATA:,} bytes of JSON, is {size:,}: large texts go into params.payload"
    return [Fault(loc=("metadata",), msg=message)]
