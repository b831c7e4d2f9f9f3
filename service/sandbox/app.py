"""ASGI application with all addresses of the sandbox."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.sandbox.callback_sender import CallbackSender
from service.sandbox.faulty_responses import CUT, ConnectionCut
from service.sandbox.model_specs import CREATE_PATH, ModelSpecs
from service.sandbox.origin_guard import foreign_origin_error
from service.sandbox.provider_api import ProviderApi
from service.sandbox.provider_shapes import Refused, Vidu, Vtrix, read_object
from service.sandbox.result_files import ResultFiles
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.switch_types import SwitchError
from service.sandbox.task_list import TaskList
from service.sandbox.task_runner import TaskRunner
from service.sandbox.unknown_routes import VIDU_PATH, unknown_route
from service.sandbox.vidu_credits import Credits
from service.sandbox.vidu_models import ENDPOINTS

_BAD_REQUEST = 400
_ROUTER_ERRORS = (404, 405)


class SandboxApp(Starlette):
    """Serve the sandbox. A `CutResponse` closes the connection, or raises `ConnectionCut` without a connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        cuts: list[bool] = []
        scope[CUT] = cuts
        await super().__call__(scope, receive, send)
        if cuts:
            await _close_connection(receive, send)


async def _close_connection(receive: Receive, send: Send) -> None:
    """Close the connection of uvicorn: its `send` is a method of the object that holds the transport."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionCut("the sandbox dropped this connection")
    transport.close()
    message: Message = {"type": "http.request"}
    while message["type"] != "http.disconnect":
        message = await receive()


@dataclass(frozen=True, kw_only=True, slots=True)
class Components:
    """Hold the objects that serve requests while a sandbox runs."""

    runner: TaskRunner
    callbacks: CallbackSender
    vtrix: ProviderApi
    vidu: ProviderApi
    listing: TaskList
    credits: Credits
    files: ResultFiles


def build_app(
    state: SandboxState,
    signer: UrlSigner,
    components: Callable[[], Components],
    running: Callable[[], AbstractAsyncContextManager[None]],
) -> SandboxApp:
    """Return the application; `components` raises `RuntimeError` while the sandbox does not run."""

    def route(path: str, method: str, choose: Callable[[Components], Callable[[Request], Any]]) -> Route:
        async def endpoint(request: Request) -> Response:
            response: Response = await choose(components())(request)
            return response

        return Route(path, endpoint, methods=[method])

    routes = [
        route(CREATE_PATH, "POST", lambda at: at.vtrix.create),
        route(f"{CREATE_PATH}/task/{{task:path}}", "GET", lambda at: at.vtrix.poll),
        *ModelSpecs(public_url=lambda: state.switches.public_url).routes(),
        *(route(f"{VIDU_PATH}/{endpoint}", "POST", lambda at: at.vidu.create) for endpoint in ENDPOINTS),
        route(f"{VIDU_PATH}/tasks", "GET", lambda at: at.listing),
        route(f"{VIDU_PATH}/credits", "GET", lambda at: at.credits),
        route(f"{VIDU_PATH}/tasks/{{task:path}}/creations", "GET", lambda at: at.vidu.poll),
        route(f"{VIDU_PATH}/tasks/{{task:path}}/cancel", "POST", lambda at: at.vidu.cancel),
        route("/files/{name}", "GET", lambda at: at.files),
        *_admin_routes(state),
    ]
    refusal = unknown_route(state, Vidu(state=state, signer=signer), Vtrix(state=state, signer=signer))
    handlers = dict.fromkeys(_ROUTER_ERRORS, refusal)
    return SandboxApp(routes=routes, exception_handlers=handlers, lifespan=lambda _: running())


def _admin_routes(state: SandboxState) -> list[Route]:
    """Return the routes of counters and switches; requests from web pages of other sites are refused."""

    def route(path: str, method: str, respond: Callable[[Request], Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            return foreign_origin_error(request, public_url=state.switches.public_url) or await respond(request)

        return Route(path, endpoint, methods=[method])

    async def ledger(_: Request) -> Response:
        return JSONResponse(state.billing.to_json(str(task.state) for task in state.tasks.values()))

    async def switches(_: Request) -> Response:
        return JSONResponse(state.switches.to_json())

    async def change_switches(request: Request) -> Response:
        try:
            state.change_switches(read_object(await request.body()))
        except (SwitchError, Refused) as error:
            return JSONResponse({"error": str(error)}, _BAD_REQUEST)
        return await switches(request)

    return [
        route("/sandbox/ledger", "GET", ledger),
        route("/sandbox/switches", "GET", switches),
        route("/sandbox/switches", "POST", change_switches),
    ]
