"""The public API of handlers: `Handlers` to register with, `Event` and `Tools` to work with."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from service.deliveries.declared_settings import HandlerSettings, check_settings_model, required_names, setting_names
from service.deliveries.handler_checks import check_call, check_declaration
from service.deliveries.handler_parts import (
    JOB_ATTEMPTS,
    JOB_TIMEOUT,
    MAX_BODY,
    ROUTE_TIMEOUT,
    HandlerJob,
    HandlerRoute,
    Respond,
    RunJob,
)
from service.deliveries.notify_options import NotifyOptions, check_options_model
from service.deliveries.operator_handlers import F, nothing_to_handle, operator_job, operator_types
from service.deliveries.tools import Event, Results, Tools
from service.domain.delivery_rate import rate_of
from service.domain.errors import BadHandler
from service.domain.task import EventType, Json

__all__ = ["DEFAULT_TIMEOUT", "Check", "Event", "Handle", "Handler", "Handlers", "Results", "Tools"]

DEFAULT_TIMEOUT = 60.0
"""Seconds that one attempt of a handler may take."""

RESULT_EVENTS = frozenset({EventType.COMPLETED, EventType.ARTIFACT_STORED})
"""The events of a handler of results; the loader leaves one of them."""

Handle = Callable[[Event, Tools[Any, Any]], Awaitable[None]]

Check = Callable[[Mapping[str, str]], str | None]
"""Checks the operator's settings at startup: returns the error and its fix, or None."""


H = TypeVar("H", bound=Handle)
R = TypeVar("R", bound=Respond)
J = TypeVar("J", bound=RunJob)


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered handler: its events, its maximum attempts, its timeout in seconds, its deliveries at once.

    `needs` names the settings without which it is not loaded by default. A `by_request` handler receives only what a
    task's `notify` requests, and every event if the setting named by `always_with` is set. `check` rejects settings
    that cannot work. `aliases` are former names, the oldest last, that stored deliveries and tasks may contain.
    `origin` is the file or package that defines it. `on_result`: it receives the event after which the results of a
    task can be used, once for each task.

    `settings` are those that it declares: the required ones count like `needs`. `needs_any` are settings of which one
    must be given. `options` is what its `notify` entry may contain. With `for_clients`, clients may name it in `notify`
    unless NOTIFY_HANDLERS is set. `circuit_failures` are the consecutive failures
    after which its deliveries wait for their destination, 0 for never, None for CIRCUIT_FAILURES. `rate` (`30/s`)
    limits how many start, over all processes. `routes` and `jobs` are what it has beside.
    """

    name: str
    events: frozenset[str]
    handle: Handle = field(repr=False)
    attempts: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    concurrency: int = 16
    needs: tuple[str, ...] = ()
    by_request: bool = False
    always_with: str | None = None
    check: Check | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()
    origin: str = ""
    settings: type[HandlerSettings] | None = None
    options: type[NotifyOptions] | None = None
    needs_any: tuple[str, ...] = ()
    for_clients: bool = False
    on_result: bool = False
    circuit_failures: int | None = None
    operator_events: frozenset[str] = frozenset()
    rate: str | None = None
    routes: tuple[HandlerRoute, ...] = ()
    jobs: tuple[HandlerJob, ...] = ()

    @property
    def per_second(self) -> float | None:
        """Return how many of its deliveries may start in a second, None for no limit."""
        return None if self.rate is None else rate_of(self.rate)

    @property
    def stored_name(self) -> str:
        """Return its oldest name, under which its values, jobs and tasks are stored: a new name keeps them."""
        return self.names[-1]

    @property
    def required(self) -> tuple[str, ...]:
        """Return the settings without which it is not loaded by default."""
        return tuple(dict.fromkeys((*self.needs, *required_names(self.settings))))

    @property
    def uses(self) -> tuple[str, ...]:
        """Return all settings that it names, without the prefix."""
        named = (*self.needs, *self.needs_any, *setting_names(self.settings), self.always_with)
        return tuple(dict.fromkeys(name for name in named if name))

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name that a stored delivery for this handler may have."""
        return (self.name, *self.aliases)

    def wants(self, event_type: str, output: Sequence[Json]) -> bool:
        """Return whether the handler runs for an event of a task with this `output`.

        Of the `artifact.stored` events of a task, one that asks for results gets the last: after it all are stored.
        """
        if event_type not in self.events:
            return False
        waits = self.on_result and event_type == EventType.ARTIFACT_STORED
        return not waits or all(item.get("archived_url") for item in output if item.get("url"))


class Handlers:
    """The handlers of one module. An invalid registration raises BadHandler at import, with the fix."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._routes: list[HandlerRoute] = []
        self._jobs: list[HandlerJob] = []

    def __iter__(self) -> Iterator[Handler]:
        """Yield each handler with its routes and jobs; raises BadHandler for those of an unknown one."""
        for owner in [each.handler for each in self._routes] + [each.handler for each in self._jobs]:
            if owner not in self._handlers:
                known = ", ".join(self._handlers) or "none"
                raise BadHandler(f"a route or job names the handler {owner!r}; this module has: {known}")
        for name, handler in self._handlers.items():
            routes = tuple(each for each in self._routes if each.handler == name)
            yield replace(handler, routes=routes, jobs=tuple(each for each in self._jobs if each.handler == name))

    def on(
        self,
        *events: str,
        name: str,
        attempts: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        concurrency: int = 16,
        needs: tuple[str, ...] = (),
        by_request: bool = False,
        always_with: str | None = None,
        check: Check | None = None,
        aliases: tuple[str, ...] = (),
        settings: type[HandlerSettings] | None = None,
        options: type[NotifyOptions] | None = None,
        needs_any: tuple[str, ...] = (),
        for_clients: bool = False,
        circuit_failures: int | None = None,
        rate: str | None = None,
    ) -> Callable[[H], H]:
        """Register the decorated coroutine function for `events`, by default for all.

        `timeout` is in seconds; `attempts` limits the schedule, by default to its whole length. `Handler` describes the
        other parameters. Raises BadHandler.
        """

        def register(handle: H) -> H:
            origin = getattr(handle, "__module__", "")
            found = Handler(name=name, events=frozenset(events) or frozenset(EventType), handle=handle, origin=origin)
            found = replace(found, attempts=attempts, timeout=timeout, concurrency=concurrency, aliases=aliases)
            found = replace(found, settings=settings, needs=needs, needs_any=needs_any, check=check)
            found = replace(found, options=options, by_request=by_request, for_clients=for_clients)
            self._add(replace(found, always_with=always_with, circuit_failures=circuit_failures, rate=rate))
            return handle

        return register

    def on_result(
        self,
        *,
        name: str,
        attempts: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        concurrency: int = 16,
        by_request: bool = False,
        settings: type[HandlerSettings] | None = None,
        options: type[NotifyOptions] | None = None,
        for_clients: bool = False,
    ) -> Callable[[H], H]:
        """Register the decorated coroutine function for the results of tasks: it runs once for each completed task.

        That is after the last `artifact.stored` of a task where the handler `archive` is loaded, since an address of
        the provider may expire before it is used, otherwise after `task.completed`. Raises BadHandler.
        """

        def register(handle: H) -> H:
            self.on(
                *RESULT_EVENTS,
                name=name,
                attempts=attempts,
                timeout=timeout,
                concurrency=concurrency,
                by_request=by_request,
                settings=settings,
                options=options,
                for_clients=for_clients,
            )(handle)
            self._handlers[name] = replace(self._handlers[name], on_result=True)
            return handle

        return register

    def route(
        self,
        method: str,
        path: str,
        *,
        name: str,
        max_body: int = MAX_BODY,
        timeout: float = ROUTE_TIMEOUT,
        answer_first: bool = False,
    ) -> Callable[[R], R]:
        """Register the decorated `async def (request, tools) -> Response` as a route of the handler `name`.

        Web processes serve it at `/handlers/{name}{path}` without an API key: it must verify each request itself.
        `max_body` is in bytes, `timeout` in seconds. With SERVERLESS=on a successful answer waits until what is due
        was tried, 22 s at most; with `answer_first` it does not, for platforms that want it within 3 s, and what is due
        waits for the next request. Raises BadHandler.
        """

        def register(respond: R) -> R:
            route = HandlerRoute(
                handler=name,
                method=method,
                path=path,
                respond=respond,
                max_body=max_body,
                timeout=timeout,
                answer_first=answer_first,
            )
            check_call(respond, f"route {path!r} of handler {name!r}", "(request, tools)")
            if any((each.method, each.full_path) == (method, route.full_path) for each in self._routes):
                raise BadHandler(f"route {method} {path!r} of handler {name!r} is registered twice")
            self._routes.append(route)
            return respond

        return register

    def on_operator_event(
        self, *events: str, name: str, attempts: int = JOB_ATTEMPTS, timeout: float = JOB_TIMEOUT
    ) -> Callable[[F], F]:
        """Register the decorated `async def (event, tools)` for operator events (`service.*`), by default for all.

        `name` is that of a handler, which is made where the module has none. It runs at least once for each event, and
        again after an error, up to `attempts` times. Raises BadHandler.
        """

        def register(handle: F) -> F:
            types = operator_types(name, events)
            if name not in self._handlers:
                origin = getattr(handle, "__module__", "")
                self._add(Handler(name=name, events=frozenset(), handle=nothing_to_handle, origin=origin))
            check_call(handle, f"handler {name!r}", "(event, tools)")
            self._handlers[name] = replace(self._handlers[name], operator_events=types)
            self._jobs.append(operator_job(name, handle, attempts=attempts, timeout=timeout))
            return handle

        return register

    def job(
        self, job: str, *, name: str, attempts: int = JOB_ATTEMPTS, timeout: float = JOB_TIMEOUT
    ) -> Callable[[J], J]:
        """Register the decorated `async def (job, tools)`, which `tools.schedule(job, ...)` of the handler `name` runs.

        It runs at least once for each request, and again after an error, up to `attempts` times. Raises BadHandler.
        """

        def register(run: J) -> J:
            found = HandlerJob(handler=name, name=job, run=run, attempts=attempts, timeout=timeout)
            check_call(run, f"job {job!r} of handler {name!r}", "(job, tools)")
            if any(each.full_name == found.full_name for each in self._jobs):
                raise BadHandler(f"job {job!r} of handler {name!r} is registered twice")
            self._jobs.append(found)
            return run

        return register

    def _add(self, handler: Handler) -> None:
        check_declaration(handler)
        check_call(handler.handle, f"handler {handler.name!r}", "(event, tools)")
        if handler.settings is not None:
            check_settings_model(handler.name, handler.settings)
        if handler.options is not None:
            check_options_model(handler.name, handler.options)
        taken = {name for other in self for name in other.names}
        for name in handler.names:
            if name in taken:
                raise BadHandler(f"handler name {name!r} is taken twice in one module; give one of them another name")
        self._handlers[handler.name] = handler
