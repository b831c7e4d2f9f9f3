"""The page that creates a task: a form made from the schema of its model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
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
from service.dashboard.filled_form import filled_in
from service.dashboard.formats import sentence
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.dashboard.price_table import price_rows
from service.dashboard.source_task import Source, changes_of, source_of
from service.dashboard.task_fields import FormField, form_fields
from service.dashboard.task_request import FormView, TaskRequest, keeps_stored, read_request, shown_again
from service.dashboard.unchecked_form import unchecked_fields
from service.domain.errors import Conflict, Fault, InvalidParams, KeyReused, NotFound
from service.domain.json_digest import json_digest
from service.domain.models.catalog import MODELS
from service.domain.models.json_schema import json_schema
from service.domain.models.unchecked import MAX_REQUEST_BYTES, may_be_model
from service.domain.ports.prices import PriceList
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json, Task, TaskId
from service.tasks.new_task import NewTask, OtherChanges

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY_PREFIX = "dashboard-"
RESUBMIT = "resubmit"
"""The field that is set where the task `from` is to be submitted again."""

NOT_KNOWN = "This service does not know the model: its parameters are not checked, and sent as they are."
INSTEAD = "To create an unrelated task instead, take away the check mark."
AGAIN = "This is the new task. It was submitted again with your edits."
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
        named, wanted = query.text("model"), query.text("from")
        if named is None or not self._knows(named):
            query.choice("model", self.services.models)
        query.reject_errors()
        task = await self._task(caller, wanted) if wanted else None
        model = named or (self._model_of(task) if task else self.services.models[0])
        fields = self._fields(model)
        view = await filled_in(task, fields, self.services.blobs) if task else FormView(fields=fields)
        source = source_of(task, model, wanted=True) if task else None
        return await self._page(model, view, source, send_id=token_urlsafe(18))

    async def create(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Create the task of the form and go to its page; show the form again with what is wrong."""
        model, send_id = form.get("model"), form.get("send_id")
        if not self._knows(model):
            raise NotFound(f"there is no such model; known are {', '.join(self.services.models)}")
        old = await self._task(caller, form.get("from")) if form.get("from") else None
        source = source_of(old, model, wanted=bool(form.get(RESUBMIT))) if old else None
        fields = self._fields(model)
        blobs = await self.services.blobs.load(old.id) if old and keeps_stored(fields, form) else {}
        wanted = await run_sync(partial(read_request, fields, form, blobs))
        try:
            if source and form.get(RESUBMIT):
                task, text = await self._resubmitted(source, wanted, caller, send_id), AGAIN
            else:
                task, text = await self._created(model, wanted, caller, send_id), "The task was created."
        except (InvalidParams, Conflict) as error:
            faults, status = _what_is_wrong(error, source)
            known_id = send_id if isinstance(error, InvalidParams) else token_urlsafe(18)
            return await self._page(model, shown_again(wanted, faults), source, send_id=known_id, status=status)
        await self.services.work.tried(task)
        return self.layout.done(request, f"/tasks/{task.id}", text)

    async def _created(self, model: str, wanted: TaskRequest, caller: Caller, send_id: str) -> Task:
        """Return the new task of a form, or the one that the same form created."""
        async with self.layout.recording(caller, "task.create") as note:
            new = await _new_task(model, wanted, caller, send_id)
            task, created = await self.services.task_service.accept(new)
            note.target, note.detail = task.id, model if created else None
        return task

    async def _resubmitted(self, source: Source, wanted: TaskRequest, caller: Caller, send_id: str) -> Task:
        """Return the task that submits that of the form again with its changes, or the one that the same form did.

        Raises Conflict where that is not possible, also since the form was shown.
        """
        old, blobs = source.task, self.services.blobs
        if source.obstacle:
            raise Conflict(f"{old.id} cannot be submitted again: {source.obstacle}")
        filled = await filled_in(old, self._fields(old.model), blobs)
        changes = changes_of(wanted, filled, old)
        others = OtherChanges(metadata=wanted.metadata, notify=wanted.notify, faults=wanted.faults)
        key = await _idempotency(send_id, [old.id, changes, wanted.metadata, wanted.notify])
        async with self.layout.recording(caller, "task.resubmit", old.id) as note:
            service = self.services.task_service
            task, created = await service.resubmit_changed(
                old.id, changes, admin=caller.admin, idempotency=key, others=others
            )
            note.detail = f"as {task.id}, with edits" if created else None
        return task

    async def _task(self, caller: Caller, task_id: str) -> Task:
        task = await self.services.queries.task(TaskId(task_id)) if _ID.fullmatch(task_id) else None
        if task is None or not caller.sees(task.client):
            raise NotFound("there is no such task")
        return task

    def _knows(self, model: str) -> bool:
        """Return whether there is a form for a model."""
        unchecked = self.services.allow_unchecked and model not in MODELS and may_be_model(model)
        return model in self.services.models or unchecked

    def _model_of(self, task: Task) -> str:
        """Return the model of a task; raises Conflict if there is no form for it."""
        if self._knows(task.model):
            return task.model
        models = ", ".join(self.services.models)
        raise Conflict(
            f"the model {task.model} of this task is not one that this service offers now ({models}), so that no form "
            "can show its parameters; with Vtrix, BOOMERANG_ALLOW_UNCHECKED_MODELS accepts models that are not known"
        )

    def _fields(self, model: str) -> list[FormField]:
        return form_fields(model, self._schema(model)) if model in MODELS else unchecked_fields()

    def _schema(self, model: str) -> Json:
        return json_schema(model, allow_off_peak=self.services.allow_off_peak) if model in MODELS else {}

    async def _page(
        self, model: str, view: FormView, source: Source | None, *, send_id: str, status: int = 200
    ) -> Page:
        each = self.services.budget_each
        rows = price_rows(await self.prices.known(model, each=each))
        schema, known = self._schema(model), MODELS.get(model)
        max_bytes = known.max_request_bytes if known else MAX_REQUEST_BYTES
        names = [*self.services.models, *([] if model in self.services.models else [model])]
        values = {
            "model": model,
            "models": [(name, _address(name, source)) for name in names],
            "known": known is not None,
            "allow_unchecked": self.services.allow_unchecked,
            "description": schema.get("description", NOT_KNOWN),
            "view": view,
            "source": source,
            "send_id": send_id,
            "prices": rows,
            "price_by": known.run_time_by if known else (),
            "each": each,
            "max_bytes": min(self.services.limits.tasks.max_bytes, max_bytes),
        }
        data: Json = {
            "model": model,
            "models": list(self.services.models),
            "parameters": schema,
            "prices": [{"bucket": row.bucket, "parameters": row.label, "dollars": row.dollars} for row in rows],
        }
        return Page(template="new_task.html", title="New task", values=values, data=data, status=status)


def _address(model: str, source: Source | None) -> str:
    return f"/new?{urlencode([('model', model), *([('from', source.task.id)] if source else [])])}"


def _what_is_wrong(error: InvalidParams | Conflict, source: Source | None) -> tuple[Sequence[Fault], int]:
    """Return the faults that the form shows again, and the status of that page."""
    if isinstance(error, InvalidParams):
        return error.faults, int(HTTPStatus.UNPROCESSABLE_ENTITY)
    msg = USED if isinstance(error, KeyReused) else sentence(str(error))
    if source and source.resubmits and not isinstance(error, KeyReused):
        msg = f"{msg} {INSTEAD}"
    return [Fault(loc=(), msg=msg)], int(HTTPStatus.CONFLICT)


async def _idempotency(send_id: str, value: object) -> IdempotencyKey | None:
    """Return the key of a form with this value: sent twice, it creates one task."""
    if not _ID.fullmatch(send_id):
        return None
    digest = await run_sync(json_digest, value)
    return IdempotencyKey(key=KEY_PREFIX + send_id, digest=digest, value_digest=digest)


async def _new_task(model: str, wanted: TaskRequest, caller: Caller, send_id: str) -> NewTask:
    """Return the task to accept."""
    return NewTask(
        client=caller.name,
        admin=caller.admin,
        model=model,
        params=wanted.params,
        metadata=wanted.metadata,
        notify=wanted.notify,
        idempotency=await _idempotency(send_id, [model, wanted.params, wanted.metadata, wanted.notify]),
        faults=wanted.faults,
    )
