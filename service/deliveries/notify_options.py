"""What a `notify` entry for a handler may contain, as the handler declares it with a pydantic model."""

from difflib import get_close_matches
from functools import partial

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from service.deliveries.declared_settings import is_secret, message_of
from service.domain.errors import BadHandler
from service.domain.notify import LocatedMessage, OptionsCheck
from service.domain.task import EventType, Json

CHECKED_BEFORE = frozenset({("handler",), ("events",)})
"""Fields of every entry, which the service checks itself."""


class NotifyOptions(BaseModel):
    """The base class of what a handler's `notify` entry may contain beside `handler` and `events`.

    Fields of the type SecretStr are sealed in the database, and deleted with the last delivery of the task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    handler: str
    events: tuple[EventType, ...] | None = None


def check_options_model(handler: str, model: object) -> None:
    """Raise BadHandler unless `model` is a subclass of NotifyOptions."""
    if not (isinstance(model, type) and issubclass(model, NotifyOptions)):
        raise BadHandler(f"handler {handler!r}: options must be a subclass of service.NotifyOptions")


def options_check(model: type[NotifyOptions]) -> OptionsCheck:
    """Return the function that checks an entry at its submission."""
    return partial(entry_faults, model)


def secret_options(model: type[NotifyOptions]) -> frozenset[str]:
    """Return the fields of an entry that are secret."""
    return frozenset(name for name, each in model.model_fields.items() if is_secret(each.annotation))


def entry_faults(model: type[NotifyOptions], entry: Json) -> list[LocatedMessage]:
    """Return every fault of an entry with its location in it."""
    try:
        model.model_validate(entry)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        return [(each["loc"], _message(model, each)) for each in found if each["loc"][:1] not in CHECKED_BEFORE]
    return []


def _message(model: type[NotifyOptions], error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "is required"
    if error["type"] != "extra_forbidden":
        return message_of(error)
    near = get_close_matches(str(error["loc"][-1])[:100], model.model_fields, n=1)
    return "is unknown here; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(model.model_fields)}")
