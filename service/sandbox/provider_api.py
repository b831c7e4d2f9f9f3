"""Take creates and polls in, with every fault that can befall them on the way."""

import asyncio
import hmac
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.faulty_responses import CutResponse, half, page, throttled
from service.sandbox.provider_shapes import ProviderShape, Refused, read_object, spec_of
from service.sandbox.state import SandboxState
from service.sandbox.task_runner import TaskRunner
from service.sandbox.tasks import Task

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore  # needs the media extra, which may be missing

BODY_LIMIT = 20 * 1024 * 1024
_INTERNAL, _BAD_GATEWAY, _GATEWAY_TIMEOUT = 500, 502, 504


class ImmediateResponse(Exception):
    """Stop a request with a ready answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


class ProviderApi:
    """Serve one provider's creates and polls."""

    def __init__(
        self, state: SandboxState, shape: ProviderShape, runner: TaskRunner, media_store: "MediaStore"
    ) -> None:
        self._state = state
        self._shape = shape
        self._runner = runner
        self._media_store = media_store

    async def create(self, request: Request) -> Response:
        """Answer a create: check it, bill it, and lose the reply when a switch says so."""
        occasion = self._count("create")
        return await self._answered(self._create(request, occasion), occasion)

    async def poll(self, request: Request) -> Response:
        """Answer a poll of one task."""
        occasion = self._count("fetch")
        return await self._answered(self._poll(request), occasion)

    async def cancel(self, request: Request) -> Response:
        """Answer a cancel: a task that waits can be canceled, a running one cannot."""
        occasion = self._count("cancel")
        return await self._answered(self._cancel(request), occasion)

    def admit(self, request: Request) -> str:
        """Return the key of a request, or raise `Refused`."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        wanted = self._state.switches.key
        if scheme != self._shape.scheme or not key:
            raise Refused("Unauthorized")
        if wanted and not hmac.compare_digest(key.encode(), wanted.encode()):
            raise Refused("Unauthorized")
        return key

    def task_of(self, request: Request) -> Task:
        """Return the task that a request names, or raise `Refused`."""
        task = self._state.find(request.path_params["task"], self._shape.provider)
        if task is None:
            raise Refused("TaskNotFound")
        return task

    def _count(self, kind: str) -> str:
        self._state.billing.requests[kind] += 1
        return f"{kind}/{self._state.billing.requests[kind]}"

    async def _answered(self, work: Awaitable[Response], occasion: str) -> Response:
        try:
            return await work
        except Refused as refused:
            return self._shape.error_response(refused, self._state.trace(occasion))
        except ImmediateResponse as stopped:
            return stopped.answer

    async def _create(self, request: Request, occasion: str) -> Response:
        key = self.admit(request)
        content = await _bounded(request)
        self._fail_before_bill(occasion)
        model, params = self._shape.read_create(read_object(content))
        del content
        if self._state.hits("failed_without_id", occasion):
            return JSONResponse(self._shape.failed_on_create())
        spec, media = spec_of(params)
        base_url = str(request.base_url).rstrip("/")
        task = self._state.accept(self._shape.provider, model=model, spec=spec, key=key, base_url=base_url)
        self._media_store.prepare_stills(task, media)
        reply = await self._set_going(task, params)
        del params, media
        await self._fail_after_bill(task, reply)
        return JSONResponse(reply)

    async def _set_going(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        if self._state.hits("callback_before_reply", task.number):
            reply = self._shape.created(task, params)
            await self._runner.finish(task)
            return reply
        if self._state.hits("completed_at_once", task.number):
            self._runner.end_at_once(task, failed=False)
        elif self._state.hits("failed_at_once", task.number):
            self._runner.end_at_once(task, failed=True)
        else:
            self._runner.launch(task)
        return self._shape.created(task, params)

    def _fail_before_bill(self, occasion: str) -> None:
        hits = self._state.hits
        if hits("throttle_create", occasion):
            self._throttle(occasion)
        if hits("html_500_create", occasion):
            raise ImmediateResponse(page(_INTERNAL))
        if hits("drop_create", occasion):
            raise ImmediateResponse(CutResponse())
        if hits("out_of_credit", occasion):
            raise Refused("CreditInsufficient")

    async def _fail_after_bill(self, task: Task, reply: dict[str, Any]) -> None:
        hits, occasion = self._state.hits, task.number
        if hits("slow_create", occasion):
            await asyncio.sleep(self._state.within("create_delay", occasion))
        if hits("lose_create_reply", occasion):
            raise ImmediateResponse(CutResponse())
        if hits("bad_gateway_create", occasion):
            raise ImmediateResponse(page(_BAD_GATEWAY))
        if hits("gateway_timeout_create", occasion):
            raise ImmediateResponse(page(_GATEWAY_TIMEOUT))
        if hits("half_create_reply", occasion):
            raise ImmediateResponse(half(reply))

    async def _poll(self, request: Request) -> Response:
        self.admit(request)
        task = self.task_of(request)
        task.polls += 1
        occasion = f"{task.number}/{task.polls}"
        await self._fail_poll(occasion)
        body = self._shape.poll_reply(task, occasion)
        if self._state.hits("half_poll_reply", occasion):
            return half(body)
        return JSONResponse(body)

    async def _fail_poll(self, occasion: str) -> None:
        hits = self._state.hits
        if hits("slow_poll", occasion):
            await asyncio.sleep(self._state.within("poll_delay", occasion))
        if hits("throttle_poll", occasion):
            self._throttle(occasion)
        for fault, status in _POLL_PAGES.items():
            if hits(fault, occasion):
                raise ImmediateResponse(page(status))

    async def _cancel(self, request: Request) -> Response:
        self.admit(request)
        task = self.task_of(request)
        if read_object(await _bounded(request)).get("id") not in {None, task.id}:
            raise Refused("FieldInvalid", "field id is invalid")
        if not self._runner.cancel(task):
            raise Refused("BadRequest", "task state is scheduled, can not cancel")
        return JSONResponse({})

    def _throttle(self, occasion: str) -> NoReturn:
        answer = self._shape.error_response(Refused("TooManyRequests"), self._state.trace(occasion))
        raise ImmediateResponse(throttled(answer, self._state.switches.retry_after))


_POLL_PAGES = {
    "html_500_poll": _INTERNAL,
    "bad_gateway_poll": _BAD_GATEWAY,
    "gateway_timeout_poll": _GATEWAY_TIMEOUT,
}


async def _bounded(request: Request) -> bytearray:
    """Return the body, or raise `Refused` as soon as it is larger than the limit."""
    if int(request.headers.get("Content-Length") or 0) > BODY_LIMIT:
        raise Refused("BodyTooLarge")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise Refused("BodyTooLarge")
    return content
