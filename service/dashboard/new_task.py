"""The page that creates a task: a form made from the schema of its model."""

import re
from dataclasses import dataclass, field
from functools import partial
from secrets import token_urlsafe
from urllib.parse import urlencode

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.api.request_bodies import BodyReader
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.dashboard.price_table import price_rows
from service.dashboard.task_fields import form_fields
from service.dashboard.task_request import FormView, TaskRequest, filled_in, keeps_stored, read_request, shown_again
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.json_digest import json_digest
from service.domain.models.catalog import MODELS
from service.domain.models.json_schema import json_schema
from service.domain.ports.prices import PriceList
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json, Task, TaskId
from service.tasks.new_task import NewTask

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY_PREFIX = "dashboard-"
USED = (
    "This form was sent before, with other values. Look at the task that it created; to create another one with these "
    "values, send it again."
)


@dataclass(frozen=True, kw_only=True)
class NewTaskPage:
    """The page at `/new`."""

    layout: Layout
    services: Services
    prices: PriceList
    _bodies: BodyReader = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_bodies", BodyReader(self.services.limits.tasks))

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/new", get=self.show, post=self.create, uploads=self._bodies)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show the empty form, or the values of the task `from`."""
        query = QueryParams(request, "model", "from", "format")
        model, wanted = query.choice("model", self.services.models), query.text("from")
        query.reject_errors()
        source = await self._source(caller, wanted) if wanted else None
        if model is None:
            model = source.model if source and source.model in self.services.models else self.services.models[0]
        fields = form_fields(model, self._schema(model))
        view = await filled_in(source, fields, self.services.blobs) if source else FormView(fields=fields)
        return await self._page(model, view, source, send_id=token_urlsafe(18))

    async def create(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Create the task of the form and go to its page; show the form again with what is wrong."""
        model, send_id = form.get("model"), form.get("send_id")
        if model not in self.services.models:
            raise NotFound(f"there is no such model; known are {', '.join(self.services.models)}")
        source = await self._source(caller, form.get("from")) if form.get("from") else None
        fields = form_fields(model, self._schema(model))
        blobs = await self.services.blobs.load(source.id) if source and keeps_stored(fields, form) else {}
        wanted = await run_sync(partial(read_request, fields, form, blobs))
        try:
            async with self.layout.recording(caller, "task.create") as note:
                new = await _new_task(model, wanted, caller, send_id)
                task, created = await self.services.task_service.accept(new)
                note.target, note.detail = task.id, model if created else None
        except InvalidParams as invalid:
            return await self._page(model, shown_again(wanted, invalid.faults), source, send_id=send_id, status=422)
        except Conflict:
            view = shown_again(wanted, [Fault(loc=(), msg=USED)])
            return await self._page(model, view, source, send_id=token_urlsafe(18), status=409)
        await self.services.work.tried(task)
        return self.layout.done(request, f"/tasks/{task.id}", "The task was created.")

    async def _source(self, caller: Caller, task_id: str) -> Task:
        task = await self.services.queries.task(TaskId(task_id)) if _ID.fullmatch(task_id) else None
        if task is None or not caller.sees(task.client):
            raise NotFound("there is no such task")
        return task

    def _schema(self, model: str) -> Json:
        return json_schema(model, allow_off_peak=self.services.allow_off_peak)

    async def _page(self, model: str, view: FormView, source: Task | None, *, send_id: str, status: int = 200) -> Page:
        each = self.services.budget_each
        rows = price_rows(await self.prices.known(model, each=each))
        schema = self._schema(model)
        values = {
            "model": model,
            "models": [(name, _address(name, source)) for name in self.services.models],
            "description": schema.get("description", ""),
            "view": view,
            "source": source,
            "send_id": send_id,
            "prices": rows,
            "price_by": MODELS[model].run_time_by,
            "each": each,
            "max_bytes": min(self.services.limits.tasks.max_bytes, MODELS[model].max_request_bytes),
        }
        data: Json = {
            "model": model,
            "models": list(self.services.models),
            "parameters": schema,
            "prices": [{"bucket": row.bucket, "parameters": row.label, "dollars": row.dollars} for row in rows],
        }
        return Page(template="new_task.html", title="New task", values=values, data=data, status=status)


def _address(model: str, source: Task | None) -> str:
    return f"/new?{urlencode([('model', model), *([('from', source.id)] if source else [])])}"


async def _new_task(model: str, wanted: TaskRequest, caller: Caller, send_id: str) -> NewTask:
    """Return the task to accept. `send_id` is that of the form: sent twice, it creates one task."""
    idempotency = None
    if _ID.fullmatch(send_id):
        digest = await run_sync(json_digest, [model, wanted.params, wanted.metadata, wanted.notify])
        idempotency = IdempotencyKey(key=KEY_PREFIX + send_id, digest=digest, value_digest=digest)
    return NewTask(
        client=caller.name,
        admin=caller.admin,
        model=model,
        params=wanted.params,
        metadata=wanted.metadata,
        notify=wanted.notify,
        idempotency=idempotency,
        faults=wanted.faults,
    )
