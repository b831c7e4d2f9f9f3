"""Tools for agents by the Model Context Protocol, stateless: each request is complete and carries its API key.

The library is in the extra `mcp` and is imported with the first request.
"""

from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from service.api.audit import Auditor
from service.api.authentication import MCP_PATH, caller_of
from service.api.endpoints import route
from service.api.metrics import installed_version
from service.api.ports import TaskService, WaitingNotes
from service.api.problems import READ_ONLY, Problem, ProblemError, internal_error, problem_of
from service.api.query_params import KEY_FORM, is_idempotency_key
from service.api.request_bodies import TASK_BODIES, require_json
from service.api.request_work import RequestWork
from service.api.task_acceptor import TaskAcceptor, new_task
from service.api.video_requests import task_request
from service.domain.errors import BoomerangError, Fault, InvalidParams, NotFound
from service.domain.json_digest import json_digest
from service.domain.ports.tasks import IdempotencyKey, TaskQueries
from service.domain.strict_json import require_few_values
from service.domain.task import Json, Task, TaskId
from service.domain.task_view import task_json

if TYPE_CHECKING:
    from mcp.server import MCPServer

NOT_INSTALLED = Problem(
    status=404, kind="not-installed", detail="tools for agents need the extra mcp: pip install 'boomerang-service[mcp]'"
)
SHOWN = ("id", "model", "status", "progress", "output", "error", "warnings", "usage", "note", "created_at")
GENERATE = "generate_video"
ARGUMENTS = frozenset({"prompt", "model", "images", "seconds", "size", "params", "idempotency_key"})
"""Arguments of `generate_video`. The library ignores others, and an agent would pay for another video than it meant."""
_REQUEST: ContextVar[Request] = ContextVar("request of the tools")


@dataclass(kw_only=True, slots=True)
class McpApi:
    """`POST /mcp`: the tools `generate_video`, `get_video` and `cancel_video`."""

    auditor: Auditor
    task_service: TaskService
    acceptor: TaskAcceptor
    queries: TaskQueries
    notes: WaitingNotes
    work: RequestWork
    _server: "MCPServer[Any] | None" = field(default=None, init=False)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route(path, post=self.serve) for path in (MCP_PATH, MCP_PATH + "/")]

    async def serve(self, request: Request) -> Response:
        """Respond to one message of a client."""
        if self._server is None:
            await run_sync(import_sdk)
            self._server = self._build()
        require_json(request)
        return _McpResponse(self._server, request, self.acceptor)

    def _build(self) -> "MCPServer[Any]":
        try:
            from mcp.server import MCPServer  # noqa: PLC0415 - heavy, and an extra
            from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError  # noqa: PLC0415 - see above
            from mcp.types import ToolAnnotations  # noqa: PLC0415 - see above
        except ImportError:
            raise ProblemError(NOT_INSTALLED) from None

        class Tools(MCPServer[Any]):  # here, since the library is imported here
            async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
                if name == GENERATE:
                    arguments = _with_others_as_params(arguments)
                try:
                    return await super().call_tool(name, arguments, context)
                except UnexpectedToolError as error:
                    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
                    raise ToolError(internal_error(cause, status=500).detail) from None

        server = Tools("boomerang", version=installed_version(), instructions="Generate videos; a task takes minutes.")
        for tool, hints in (
            (self.generate_video, {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False}),
            (self.get_video, {"readOnlyHint": True}),
            (self.cancel_video, {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": True}),
        ):  # clients repeat a call by themselves only where the hints allow it
            server.add_tool(tool, annotations=ToolAnnotations.model_validate(hints), structured_output=True)
        return server

    async def generate_video(
        self,
        *,
        prompt: str,
        model: str | None = None,
        images: list[str] | None = None,
        seconds: int | None = None,
        size: str | None = None,
        params: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Submit a video and return its task at once: ask get_video with the id until its status is settled.

        `images` are addresses or data URIs. `params` are further parameters of the model; they may also stand beside
        the others. Every call is charged for, unless it repeats one: choose a new `idempotency_key` for each video, 1
        to 255 printable ASCII characters, and send the same key with the same arguments if the answer was lost. That
        returns the task of the first call.
        """
        given = {"prompt": prompt, "model": model, "images": images, "seconds": seconds, "size": size}
        body = (params or {}) | {name: value for name, value in given.items() if value is not None}
        translated, request = task_request(body), _REQUEST.get()
        try:
            digest = await run_sync(json_digest, translated.body) if idempotency_key else ""
            key = IdempotencyKey(key=idempotency_key, digest=digest) if idempotency_key else None
            new = await new_task(
                translated.body,
                caller=caller_of(request),
                idempotency=key,
                nul=True,
                size=TASK_BODIES.max_bytes,
                known_faults=[*translated.faults, *_key_faults(idempotency_key)],
            )
            _require_change_allowed()
            accepted = await self.acceptor.accept(request, new)
        except InvalidParams as invalid:
            raise _tool_error(InvalidParams(translated.request_faults(invalid.faults))) from invalid
        except BoomerangError as error:
            raise _tool_error(error) from error
        return _shown(await self.work.tried(accepted.task))

    async def get_video(self, task_id: str) -> dict[str, Any]:
        """Return a video's status, progress, results and error; it is settled when completed, failed or canceled."""
        try:
            task = await self.work.tried(await self._visible(task_id), if_due=True)
            [task] = await self.notes.noted([task])
        except BoomerangError as error:
            raise _tool_error(error) from error
        return _shown(task)

    async def cancel_video(self, task_id: str) -> dict[str, Any]:
        """Cancel a video that has not been sent to the provider yet, or that the provider can cancel."""
        try:
            _require_change_allowed()
            task = await self._visible(task_id)
            async with self.auditor.recording(caller_of(_REQUEST.get()), "task.cancel", task.id, road="api"):
                task = await self.task_service.cancel(task.id)
            return _shown(await self.work.tried(task))
        except BoomerangError as error:
            raise _tool_error(error) from error

    async def _visible(self, task_id: str) -> Task:
        task = await self.queries.task(TaskId(task_id)) if "\0" not in task_id else None
        if task is None or not caller_of(_REQUEST.get()).sees(task.client):
            raise NotFound("there is no such task")
        return task


def _key_faults(key: str | None) -> list[Fault]:
    if key is None or is_idempotency_key(key):
        return []
    return [Fault(loc=("idempotency_key",), msg=f"must be {KEY_FORM}")]


class _McpResponse(Response):
    """Lets the library respond; the body is read within the limits of tasks first."""

    def __init__(self, server: "MCPServer[Any]", request: Request, acceptor: TaskAcceptor) -> None:
        super().__init__()
        self._tools, self._request, self._acceptor = server, request, acceptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one message with a server of its own: nothing is kept between two requests."""
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager  # noqa: PLC0415 - see above
        from mcp.server.transport_security import TransportSecuritySettings  # noqa: PLC0415 - see above

        manager = StreamableHTTPSessionManager(
            self._tools._lowlevel_server,  # noqa: SLF001 - the library's own application takes it, too
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # a key is required
            max_request_body_size=TASK_BODIES.max_bytes,
        )
        async with self._acceptor.bodies.read(self._request) as body:
            await run_sync(require_few_values, body)
            token = _REQUEST.set(self._request)
            try:
                async with manager.run():
                    await manager.handle_request(scope, _replayed(body, receive), send)
            finally:
                _REQUEST.reset(token)


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def import_sdk() -> None:
    """Import the library, if it is installed.

    It takes half a second of processor time: on the event loop, everything else would wait for it.
    """
    with suppress(ImportError):
        for name in ("mcpserver.exceptions", "streamable_http_manager", "transport_security"):
            import_module(f"mcp.server.{name}")


def _with_others_as_params(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `generate_video` with those that it does not declare among its `params`."""
    others = {name: value for name, value in arguments.items() if name not in ARGUMENTS}
    params = arguments.get("params")
    if not others or not isinstance(params, dict | None):
        return arguments
    known = {name: value for name, value in arguments.items() if name in ARGUMENTS}
    return known | {"params": others | (params or {})}


def _require_change_allowed() -> None:
    if caller_of(_REQUEST.get()).read_only:
        raise ProblemError(READ_ONLY)


def _shown(task: Task) -> Json:
    found = task_json(task)
    return {name: found[name] for name in SHOWN}


def _tool_error(error: BoomerangError) -> Exception:
    from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415 - see above

    return ToolError(str(error) if isinstance(error, InvalidParams) else problem_of(error).detail)
