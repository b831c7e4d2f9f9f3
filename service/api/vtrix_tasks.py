"""The provider's own API over this service: an existing client of the gateway changes only its base address and key."""

from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import caller_of
from service.api.endpoints import json_response, route
from service.api.ports import WaitingNotes
from service.api.query_params import path_id
from service.api.request_context import TASK
from service.api.request_work import RequestWork
from service.api.task_acceptor import TaskAcceptor
from service.domain.callback_forms import VTRIX
from service.domain.errors import Fault, InvalidParams, NotFound
from service.domain.ports.tasks import BlobStore, TaskQueries
from service.domain.task import Json, Task
from service.domain.task_view import task_json
from service.domain.vtrix_shape import vtrix_task

CREATE_PATH = "/model/v1/generation"
EXAMPLE = '[{"params": {"prompt": "..."}}]'


@dataclass(kw_only=True, slots=True)
class VtrixTaskApi:
    """`POST /model/v1/generation` and `GET /model/v1/generation/task/{id}`."""

    acceptor: TaskAcceptor
    queries: TaskQueries
    blobs: BlobStore
    notes: WaitingNotes
    work: RequestWork

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route(CREATE_PATH, post=self.create), route(f"{CREATE_PATH}/task/{{id}}", get=self.show)]

    async def create(self, request: Request) -> Response:
        """Accept a task and respond with the provider's task body once it is durable; a known key gives the first."""
        accepted = await self.acceptor.from_json(request, translate=task_request, callback_form=VTRIX)
        return json_response(_body(await self.work.tried(accepted.task)))

    async def show(self, request: Request) -> Response:
        """Show a task in the provider's form; the provider is not asked."""
        task = await self.queries.task(path_id(request))
        if task is None or not caller_of(request).sees(task.client):
            raise NotFound("the task is not found")
        request.scope["state"][TASK] = task.id
        [task] = await self.notes.noted([await self.work.tried(task, if_due=True)])
        body = partial(_body, task, payload=await self.blobs.payload(task.id))
        return json_response(body(meta_data=await self.blobs.meta_data(task.id)))


def task_request(data: object) -> Json:
    """Return the body of `POST /v1/tasks` for one of the provider's API; unknown keys at its top are ignored."""
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with model and input")])
    known = {"model": data["model"]} if "model" in data else {}
    entries = data.get("input")
    if not isinstance(entries, list) or len(entries) != 1:
        raise InvalidParams([*_model_faults(known), Fault(loc=("input",), msg=f"must hold one entry: {EXAMPLE}")])
    if not isinstance(entries[0], dict) or "params" not in entries[0]:
        raise InvalidParams([*_model_faults(known), Fault(loc=("input", 0, "params"), msg="is required: an object")])
    return known | {"params": entries[0]["params"]}


def _model_faults(known: Json) -> list[Fault]:
    return [] if known else [Fault(loc=("model",), msg="is required")]


def _body(task: Task, *, payload: str | None = None, meta_data: str | None = None) -> Json:
    return vtrix_task(task_json(task), payload=payload, meta_data=meta_data)
