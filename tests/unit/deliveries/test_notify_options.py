"""What a handler declares about its `notify` entries, at the submission and at the delivery."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from service import Handlers, NotifyOptions, Tools
from service.deliveries.handler_tools import read_options
from service.deliveries.notify_options import options_check
from service.domain.errors import BadHandler, InvalidParams, Reject
from service.domain.notify import NotifyRules, validate_notify
from tests.support.delivery_builders import handler

SECRET = "hidden-value"


class Place(BaseModel):
    """A place in a chat."""

    thread: int = Field(ge=0)


class Target(NotifyOptions):
    """One option of each kind."""

    chat: int
    mode: Literal["loud", "silent"] = "loud"
    place: Place | None = None
    tags: list[str] = Field(default_factory=list, max_length=2)


RULES = NotifyRules(options={"chat": options_check(Target)}, not_loaded={"mail": "is not configured here: it needs X"})


def faults(*entries: object) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the faults of a request's entries."""
    try:
        validate_notify(list(entries), ["chat", "free"], lambda _: None, RULES)
    except InvalidParams as invalid:
        return [(fault.loc, fault.msg) for fault in invalid.faults]
    return []


def test_valid_entry_is_accepted() -> None:
    """The fields of every entry are allowed beside the declared ones; handlers without a model take any field."""
    entry = {"handler": "chat", "events": ["task.completed"], "chat": 7, "place": {"thread": 1}, "tags": ["a", "b"]}
    assert faults({"handler": "chat", "chat": "7"}, entry, {"handler": "free", "anything": 1}) == []


def test_every_fault_has_its_place() -> None:
    """Unknown fields, missing ones, wrong values, also inside objects, and faults of every entry; no value is shown."""
    found = faults(
        {"handler": "chat", "chats": 7, "mode": SECRET, "place": {"thread": -1}, "tags": ["a", "b", "c"]},
        {"handler": "chat", "chat": SECRET, "events": ["task.done"]},
    )
    assert [loc for loc, _ in found] == [
        *(("notify", 0, name) for name in ("chat", "mode")),
        ("notify", 0, "place", "thread"),
        *(("notify", 0, name) for name in ("tags", "chats")),
        ("notify", 1, "events", 0),
        ("notify", 1, "chat"),
    ]
    messages = dict(found)
    assert messages["notify", 0, "chat"] == "is required"
    assert messages["notify", 0, "chats"] == "is unknown here; did you mean chat?"
    assert messages["notify", 0, "mode"] == "must be 'loud' or 'silent'"
    assert SECRET not in str(found)


def test_handler_that_is_not_configured_is_a_clear_fault() -> None:
    """It names what is missing, and the entry's own fields are not checked."""
    assert faults({"handler": "mail", "to": "x"}) == [(("notify", 0, "handler"), "is not configured here: it needs X")]


def test_stored_entry_that_does_not_fit_any_more_is_rejected() -> None:
    """A later release may have changed the model; another attempt would not help."""

    async def nothing(event: object, tools: object) -> None:
        """Do nothing."""

    declared = handler("chat", nothing, options=Target)
    options = read_options(declared, {"handler": "chat", "chat": 7})
    assert options == Target(handler="chat", chat=7)
    with pytest.raises(Reject, match="does not fit the handler: chat is required; old is unknown here"):
        read_options(declared, {"handler": "chat", "old": SECRET})


@pytest.mark.parametrize("options", [Place, "text", Target(handler="x", chat=1)])
def test_model_of_another_kind_is_refused_at_import(options: Any) -> None:
    """The message contains the fix."""
    with pytest.raises(BadHandler, match=r"subclass of service\.NotifyOptions"):

        @Handlers().on(name="sample", options=options)
        async def sample(event: object, tools: Tools) -> None:
            """Do nothing."""
