"""The page of handlers, for admins: pause and resume their deliveries, send a test event."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.domain.errors import Conflict, Fault, InvalidParams

PATH = "/deliveries/handlers"
ACTIONS = ("pause", "resume", "test")


@dataclass(frozen=True, kw_only=True)
class HandlersPage:
    """The page at `/deliveries/handlers`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            self.layout.route(PATH, get=self.show, admins_only=True),
            self.layout.route(PATH + "/{name}", post=self.act, admins_only=True),
        ]

    async def show(self, request: Request, _: Caller) -> Page:
        """Show every handler that is loaded, paused, or has pending deliveries."""
        QueryParams(request, "format").reject_errors()
        found = await self.services.handler_controls.objects()
        rows = [found[name] for name in sorted(found)]
        return Page(template="handlers.html", title="Handlers", values={"rows": rows}, data={"data": rows})

    async def act(self, request: Request, caller: Caller, form: Form) -> Response:
        """Pause or resume a handler in every process, or send a test event through it."""
        controls, action = self.services.handler_controls, form.get("action")
        names = await controls.names_of(str(request.path_params["name"]))
        if action not in ACTIONS:
            raise InvalidParams([Fault(loc=("action",), msg=f"must be one of {', '.join(ACTIONS)}")])
        if action == "test":
            return await self._test(request, caller, names[0])
        async with self.layout.recording(caller, f"handler.{action}", names[0]):
            if action == "pause":
                await controls.pauses.pause(names[-1], names=names, by=caller.name, now=self.layout.now())
                text = f"{names[0]} is paused: its deliveries wait and lose no attempt."
            else:
                await controls.pauses.resume(names[-1])
                text = f"{names[0]} is resumed: what waits is due now."
        return self.layout.done(request, PATH, text)

    async def _test(self, request: Request, caller: Caller, name: str) -> Response:
        try:
            async with self.layout.recording(caller, "handler.test", name) as note:
                result = await self.services.handler_controls.tester.send(name)
                note.detail = result.outcome
        except (Conflict, InvalidParams) as error:
            return self.layout.done(request, PATH, f"{name} was not tested: {error}", level="problem")
        if result.outcome == "delivered":
            return self.layout.done(
                request, PATH, f"{name} took a test event ({result.event}) in {result.seconds:.2f} s."
            )
        text = f"{name} did not take a test event ({result.event}, {result.outcome}): {result.error}"
        return self.layout.done(request, PATH, text, level="problem")
