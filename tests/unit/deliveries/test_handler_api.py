"""Registration of handlers and its errors."""

import functools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service import Event, Handlers, Tools
from service.domain.errors import BadHandler, Retry
from service.domain.task import EventType


async def _valid(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


def _sync(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


async def _too_few(event: Event) -> None:
    assert event.id


async def _too_many(event: Event, tools: Tools, more: str) -> None:
    assert event.id
    assert tools.message_id
    assert more


async def _by_name(*, event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


async def _generator(event: Event, tools: Tools) -> AsyncIterator[None]:
    assert event.id
    assert tools.message_id
    yield


class _Callable:
    async def __call__(self, event: Event, tools: Tools) -> None:
        """Do nothing."""
        await _valid(event, tools)


def _register(handle: Any = _valid, *events: str, **options: Any) -> Handlers:
    handlers = Handlers()
    handlers.on(*events, **({"name": "sample"} | options))(handle)
    return handlers


def test_handler_is_registered_as_declared() -> None:
    """The service finds what the decorator received, and the function itself stays usable."""
    handlers = Handlers()
    handle = handlers.on("task.completed", name="sample", attempts=5, timeout=6, aliases=("former",))(_valid)
    (handler,) = handlers
    assert handle is _valid
    assert (handler.name, handler.attempts, handler.timeout, handler.handle) == ("sample", 5, 6, _valid)
    assert handler.events == {"task.completed"}
    assert handler.names == ("sample", "former")


def test_no_event_means_every_event() -> None:
    """A handler that names no event subscribes to all of them."""
    (handler,) = _register()
    assert handler.events == frozenset(EventType)


@pytest.mark.parametrize("handle", [functools.partial(_too_many, more="x"), _valid])
def test_every_awaitable_handler_is_accepted(handle: Any) -> None:
    """Everything that works as `await handle(event, tools)` may be registered."""
    assert len(list(_register(handle))) == 1


@pytest.mark.parametrize(
    ("handle", "fix"),
    [
        (_sync, r"is a sync function; write `async def _sync\(event, tools\)`"),
        (_generator, "is an async generator"),
        (_Callable(), "is a sync function; write `async def handle"),
        (_too_few, r"must take exactly \(event, tools\)"),
        (_too_many, r"must take exactly \(event, tools\)"),
        (_by_name, r"must take exactly \(event, tools\)"),
    ],
)
def test_wrong_function_is_refused_with_the_fix(handle: Any, fix: str) -> None:
    """A function that could not run is refused at registration, and the message shows how to write it."""
    with pytest.raises(BadHandler, match=fix):
        _register(handle)


@pytest.mark.parametrize(
    "options",
    [{"attempts": 0}, {"timeout": 0}, {"timeout": -1}, {"timeout": float("inf")}, {"concurrency": 0}],
)
def test_wrong_number_is_refused(options: dict[str, Any]) -> None:
    """Numbers that would never run the handler, or never end it, are refused."""
    with pytest.raises(BadHandler, match="needs attempts >= 1, timeout > 0 and concurrency >= 1"):
        _register(**options)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "naïve", "-"])
def test_wrong_name_is_refused(name: str) -> None:
    """A name, and an alias too, consists of ASCII letters, digits, '-' and '_'."""
    with pytest.raises(BadHandler, match="must be ASCII letters"):
        _register(name=name)
    with pytest.raises(BadHandler, match="must be ASCII letters"):
        _register(aliases=(name,))


def test_unknown_event_is_refused() -> None:
    """A misspelt event is refused, and the message lists the known ones."""
    with pytest.raises(BadHandler, match=r"unknown events task\.complete; known are .*task\.completed"):
        _register(_valid, "task.complete")


@pytest.mark.parametrize("second", [{"name": "sample"}, {"name": "other", "aliases": ("sample",)}])
def test_name_taken_twice_is_refused(second: dict[str, Any]) -> None:
    """Two handlers of one module share neither names nor former names."""
    handlers = _register()
    with pytest.raises(BadHandler, match="'sample' is taken twice"):
        handlers.on(**second)(_valid)


def test_alias_of_itself_is_refused() -> None:
    """A handler's own name is not one of its former names."""
    with pytest.raises(BadHandler, match="names an alias twice or itself"):
        _register(aliases=("sample",))


def test_decorator_needs_its_parentheses() -> None:
    """`@handlers.on` without a name registers nothing silently."""
    with pytest.raises(TypeError, match="name"):
        Handlers().on(_valid)  # type: ignore[call-arg, arg-type] # the mistake that is tested


def test_retry_takes_seconds() -> None:
    """`Retry(after=90)` means ninety seconds."""
    after = Retry(after=90).after
    assert after is not None
    assert after.total_seconds() == 90
