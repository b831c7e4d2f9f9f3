"""Endpoints of one provider: create, poll and cancel, with all switchable faults."""

import asyncio
import hmac
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.faulty_responses import CutResponse, half, page, throttled
from service.sandbox.odd_answers import AnswerWriter
from service.sandbox.provider_shapes import ProviderShape, Refused, read_object
from service.sandbox.state import SandboxState
from service.sandbox.task_runner import TaskRunner
from service.sandbox.tasks import Task
from service.sandbox.vidu_models import media_of

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore  # needs the media extra, which may be missing

BODY_LIMIT = 20 * 1024 * 1024
_INTERNAL, _BAD_GATEWAY, _GATEWAY_TIMEOUT = 500, 502, 504
_POLL_PAGES = {
    "html_500_poll": _INTERNAL,
    "bad_gateway_poll": _BAD_GATEWAY,
    "gateway_timeout_poll": _GATEWAY_TIMEOUT,
}


class ImmediateResponse(Exception):
    """Raised to end a request with a prepared response."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


@dataclass(kw_only=True, slots=True)
class ProviderApi:
    """Serve the requests to one provider."""

    state: SandboxState
    shape: ProviderShape
    runner: TaskRunner
    media_store: "MediaStore"
    writer: AnswerWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = AnswerWriter(state=self.state)

    async def create(self, request: Request) -> Response:
        """Respond to a create: check it, bill it, and drop the reply if a switch says so."""
        occasion = self._count("create")
        return await self._respond(self._create(request, occasion), occasion)

    async def poll(self, request: Request) -> Response:
        """Respond to a poll of one task."""
        occasion = self._count("fetch")
        return await self._respond(self._poll(request), occasion)

    async def cancel(self, request: Request) -> Response:
        """Respond to a cancel: a waiting task can be canceled, a running one cannot."""
        occasion = self._count("cancel")
        return await self._respond(self._cancel(request), occasion)

    def authenticate(self, request: Request) -> str:
        """Return the API key of a request; raise `Refused` for a wrong one."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        expected = self.state.switches.key
        if scheme != self.shape.scheme or not key:
            raise Refused("Unauthorized")
        if expected and not hmac.compare_digest(key.encode(), expected.encode()):
            raise Refused("Unauthorized")
        return key

    def _task_of(self, request: Request) -> Task:
        task = self.state.find(request.path_params["task"], self.shape.provider)
        if task is None:
            raise Refused("TaskNotFound")
        return task

    def _count(self, kind: str) -> str:
        """Count a request and return its occasion, which seeds its faults."""
        self.state.billing.requests[kind] += 1
        return f"{kind}/{self.state.billing.requests[kind]}"

    async def _respond(self, work: Awaitable[Response], occasion: str) -> Response:
        try:
            return await work
        except Refused as refused:
            return self.shape.error_response(refused, self.state.trace(occasion))
        except ImmediateResponse as immediate:
            return immediate.response

    async def _create(self, request: Request, occasion: str) -> Response:
        key = self.authenticate(request)
        content = await _read_body(request)
        self._fail_before_bill(occasion)
        create = self.shape.read_create(read_object(content), request.url.path.rpartition("/")[2])
        del content  # frees the body while the reply is delayed
        if self.state.hits("failed_without_id", occasion):
            return JSONResponse(self.shape.failed_on_create())
        base_url = str(request.base_url).rstrip("/")
        task = self.state.accept(self.shape.provider, model=create.model, spec=create.spec, key=key, base_url=base_url)
        self.media_store.prepare_stills(task, media_of(create.params))
        reply = await self._start(task, create.params)
        del create
        await self._fail_after_bill(task, reply)
        return self.writer.write(reply, task, f"create/{task.number}")

    async def _start(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        """Start or end the task, and return its create reply."""
        if self.state.hits("callback_before_reply", task.number):
            reply = self.shape.create_reply(task, params)
            await self.runner.finish(task)
            return reply
        if self.state.hits("completed_at_once", task.number):
            self.runner.end_at_once(task, failed=False)
        elif self.state.hits("failed_at_once", task.number):
            self.runner.end_at_once(task, failed=True)
        else:
            self.runner.launch(task)
        return self.shape.create_reply(task, params)

    def _fail_before_bill(self, occasion: str) -> None:
        if self.state.hits("throttle_create", occasion):
            raise self._throttle(occasion)
        if self.state.hits("html_500_create", occasion):
            raise ImmediateResponse(page(_INTERNAL))
        if self.state.hits("drop_create", occasion):
            raise ImmediateResponse(CutResponse())
        if self.state.hits("out_of_credit", occasion):
            raise Refused("CreditInsufficient")
        if self.state.hits("error_in_200_create", occasion):
            raise ImmediateResponse(self.writer.error_in_200())

    async def _fail_after_bill(self, task: Task, reply: dict[str, Any]) -> None:
        occasion = task.number
        if self.state.hits("slow_create", occasion):
            await asyncio.sleep(self.state.within("create_delay", occasion))
        if self.state.hits("lose_create_reply", occasion):
            raise ImmediateResponse(CutResponse())
        if self.state.hits("bad_gateway_create", occasion):
            raise ImmediateResponse(page(_BAD_GATEWAY))
        if self.state.hits("gateway_timeout_create", occasion):
            raise ImmediateResponse(page(_GATEWAY_TIMEOUT))
        if self.state.hits("half_create_reply", occasion):
            raise ImmediateResponse(half(reply))
        if self.state.hits("error_status_create", occasion):
            raise ImmediateResponse(self.writer.with_error_status(reply))

    async def _poll(self, request: Request) -> Response:
        self.authenticate(request)
        task = self._task_of(request)
        task.polls += 1
        occasion = f"{task.number}/{task.polls}"
        if self.state.hits("slow_poll", occasion):
            await asyncio.sleep(self.state.within("poll_delay", occasion))
        if self.state.hits("throttle_poll", occasion):
            raise self._throttle(occasion)
        for fault, status in _POLL_PAGES.items():
            if self.state.hits(fault, occasion):
                return page(status)
        body = self.shape.poll_reply(task, occasion)
        if self.state.hits("half_poll_reply", occasion):
            return half(body)
        if self.state.hits("other_task_poll", occasion):
            return self.writer.other_task(body)
        if self.state.hits("error_in_200_poll", occasion):
            return self.writer.error_in_200()
        return self.writer.write(body, task, occasion)

    async def _cancel(self, request: Request) -> Response:
        self.authenticate(request)
        task = self._task_of(request)
        content = await _read_body(request)
        if content and read_object(content).get("id") not in {None, task.id}:
            raise Refused("FieldInvalid", "field id is invalid")
        if not self.runner.cancel(task):
            raise Refused("BadRequest", "task state is scheduled, can not cancel")
        return JSONResponse({})

    def _throttle(self, occasion: str) -> ImmediateResponse:
        response = self.shape.error_response(Refused("TooManyRequests"), self.state.trace(occasion))
        return ImmediateResponse(throttled(response, self.state.switches.retry_after))


async def _read_body(request: Request) -> bytearray:
    """Return the body; raise `Refused` once it exceeds the limit."""
    if int(request.headers.get("Content-Length") or 0) > BODY_LIMIT:
        raise Refused("BodyTooLarge")
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > BODY_LIMIT:
            raise Refused("BodyTooLarge")
    return content
