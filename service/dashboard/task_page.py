"""The page of one task: its result, inputs, cost, errors and time line, and its actions."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.delivery_views import history_object
from service.api.history import waiting_entry
from service.api.problems import NOT_REQUESTED, ProblemError
from service.api.query_params import QueryParams, path_id
from service.api.request_context import TASK
from service.dashboard.advice import advice
from service.dashboard.delivery_request import DeliveryRequest, delivery_request
from service.dashboard.formats import prompt
from service.dashboard.forms import Form
from service.dashboard.inputs import input_views
from service.dashboard.layout import Layout, Page
from service.dashboard.timeline import TimelineStep, timeline, waiting_since
from service.domain.callback_forms import FORM
from service.domain.endpoint import Endpoint
from service.domain.errors import Conflict, NotFound
from service.domain.ports.delivery_details import DeliveryDetails
from service.domain.resubmission import RESUBMITTABLE, has_ended
from service.domain.task import Status, Task
from service.domain.task_view import task_json

MAX_STEPS = 500
"""Steps of the time line that the page shows, the newest; the API has the whole history."""

MAX_REQUESTS = 20
"""Deliveries, the newest, of which the page shows at once what they send; of the others after a click."""

CANCELABLE = frozenset({Status.QUEUED, Status.IN_PROGRESS})
SENT = frozenset({Status.SUBMITTING, Status.IN_PROGRESS, Status.IN_DOUBT, Status.COMPLETED, Status.FAILED})
"""Statuses that a task has only after a submission that reached the provider, or may have."""
PICTURES = frozenset({"image/png", "image/jpeg", "image/webp", "video/mp4", "video/quicktime", "video/x-msvideo"})
"""Media types of inputs that a browser gets: never one in which it would run something."""
INPUT_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
STEPS = ("all", "important")


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """The pages under `/tasks/{id}`."""

    layout: Layout
    services: Services
    details: DeliveryDetails

    def routes(self) -> list[Route]:
        """Return their routes."""
        return [
            self.layout.route("/tasks/{id}", get=self.show),
            self.layout.route("/tasks/{id}/inputs/{place}", get=self.show_input),
            self.layout.route("/tasks/{id}/cancel", post=self.cancel),
            self.layout.route("/tasks/{id}/resubmit", post=self.resubmit),
            self.layout.route("/tasks/{id}/erase", post=self.erase),
            self.layout.route("/tasks/{id}/replay", post=self.replay),
        ]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show a task."""
        query = QueryParams(request, "steps", "delivery", "format")
        important, chosen = query.choice("steps", STEPS) == "important", query.text("delivery")
        query.reject_errors()
        [task] = await self.services.notes.noted([await self._visible(request, caller)])
        now = self.layout.now()
        entries = await self.details.task_history(task.id, limit=MAX_STEPS + 1, with_delivery=chosen)
        waiting = waiting_entry(task, now)
        steps = timeline([history_object(each, caller) for each in [*entries, *([waiting.row] if waiting else [])]])
        shown = [step for step in steps[:-MAX_STEPS] if chosen and step.delivery_id == chosen] + steps[-MAX_STEPS:]
        values = {
            "task": task,
            "advice": advice(task),
            "inputs": input_views(task.params, await self.services.blobs.stored_at(task.id)),
            "steps": [step for step in shown if not important or step.kind != "poll" or step.tone != "idle"],
            "important": important,
            "chosen": chosen,
            "requests": await self._requests(task, shown, chosen, caller),
            "left_out": len(steps) > MAX_STEPS,
            "waiting": waiting_since(task, steps, now, callbacks=self.services.public_url is not None),
            "was_sent": was_sent(task),
            "can": _actions(task, caller),
            "payload": await self.services.blobs.payload(task.id),
            "json_text": json.dumps(task_json(task), indent=2, ensure_ascii=False),
            "curl": _curl(request, self.services.public_url, task),
        }
        title = prompt(task.params) or task.model  # which task a tab and the history of a browser name
        return Page(template="task.html", title=title, values=values, json_url=f"/v1/tasks/{task.id}")

    async def _requests(
        self, task: Task, steps: Sequence[TimelineStep], chosen: str | None, caller: Caller
    ) -> dict[str, DeliveryRequest]:
        """Return what the newest deliveries and the chosen one send, by their ids."""
        ids = [step.delivery_id for step in steps if step.delivery_id]
        wanted = [each for index, each in enumerate(ids, MAX_REQUESTS) if index >= len(ids) or each == chosen]
        contents = await self.details.contents(wanted)
        endpoints = {each: await self._endpoint(each) for each in {found.endpoint_id for found in contents.values()}}
        in_forms = any(FORM in found.target for found in contents.values())
        meta_data = await self.services.blobs.meta_data(task.id) if in_forms else None
        return {
            delivery_id: delivery_request(found, caller, endpoint=endpoints[found.endpoint_id], meta_data=meta_data)
            for delivery_id, found in contents.items()
        }

    async def _endpoint(self, endpoint_id: str | None) -> Endpoint | None:
        try:
            return await self.services.endpoints.get(endpoint_id) if endpoint_id else None
        except NotFound:
            return None

    async def show_input(self, request: Request, caller: Caller) -> Response:
        """Respond with a stored input."""
        task = await self._visible(request, caller)
        blob = (await self.services.blobs.load(task.id)).get(str(request.path_params["place"]))
        if blob is None or blob.media_type not in PICTURES:
            raise NotFound("this input is not stored, or no longer")
        headers = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": INPUT_POLICY}
        return Response(blob.data, headers=headers, media_type=blob.media_type)

    async def cancel(self, request: Request, caller: Caller, _: Form) -> Response:
        """Cancel the task."""
        task = await self._visible(request, caller)
        async with self.layout.recording(caller, "task.cancel", task.id):
            canceled = await self.services.task_service.cancel(task.id)
        canceled = await self.services.work.tried(canceled)
        text = (
            "The task was canceled." if canceled.status is Status.CANCELED else "The provider was asked to cancel it."
        )
        return self.layout.done(request, _address(task), text)

    async def resubmit(self, request: Request, caller: Caller, _: Form) -> Response:
        """Submit the same again as a new task, and go there."""
        task = await self._visible(request, caller)
        async with self.layout.recording(caller, "task.resubmit", task.id) as note:
            new = await self.services.task_service.resubmit(task.id)
            note.detail = f"as {new.id}"
        new = await self.services.work.tried(new)
        return self.layout.done(request, _address(new), "This is the new task. It was submitted again.")

    async def erase(self, request: Request, caller: Caller, _: Form) -> Response:
        """Erase what the task contains."""
        task = await self._visible(request, caller)
        async with self.layout.recording(caller, "task.erase", task.id):
            await self.services.erasure.erase(task.id)
        return self.layout.done(request, _address(task), "The task was erased: its id, times and cost are left.")

    async def replay(self, request: Request, caller: Caller, form: Form) -> Response:
        """Replay one delivery of the task."""
        task = await self._visible(request, caller)
        delivery = await self.services.deliveries.delivery(form.get("delivery")[:64])
        if delivery is None or delivery.task_id != task.id:
            raise NotFound("this task has no such delivery")
        if not (delivery.requested or caller.admin):
            raise ProblemError(NOT_REQUESTED)
        async with self.layout.recording(caller, "delivery.replay", delivery.id) as note:
            outcomes = await self.services.replayer.replay([delivery.id], now=self.layout.now())
            if outcomes.get(delivery.id) != "replayed":
                running = outcomes.get(delivery.id) == "running"
                raise Conflict(
                    "an attempt runs now" if running else "its secret is deleted: it can no longer be signed"
                )
            note.detail = f"of {task.id}"
        await self.services.work.drive(task.id)
        return self.layout.done(request, f"{_address(task)}#{delivery.id}", "The delivery is tried again now.")

    async def _visible(self, request: Request, caller: Caller) -> Task:
        """Return the task of the path; raises NotFound for an unknown one and for that of another client."""
        task = await self.services.queries.task(path_id(request))
        if task is None or not caller.sees(task.client):
            raise NotFound("there is no such task")
        request.scope["state"][TASK] = task.id
        return task


def was_sent(task: Task) -> bool:
    """Return whether a submission reached the provider, or may have: not where each one was in vain."""
    return task.upstream_id is not None or task.status in SENT


def _actions(task: Task, caller: Caller) -> dict[str, bool]:
    """Return which actions the caller may take now."""
    may, kept = not caller.read_only, task.erased_at is None
    return {
        "cancel": may and task.status in CANCELABLE,
        "resubmit": may and kept and (task.status in RESUBMITTABLE or task.without_result),
        "edit": may and kept,
        "resubmit_changed": has_ended(task),
        "erase": may and kept and task.settled,
        "replay_all": caller.admin,
        "replay": may,
    }


def _address(task: Task) -> str:
    return f"/tasks/{quote(task.id, safe='')}"


def _curl(request: Request, public_url: str | None, task: Task) -> str:
    """Return a command that reads the task; its key is that of the shell, never one of this service."""
    base = public_url or str(request.base_url).rstrip("/")
    url = shlex.quote(f"{base}/v1/tasks/{task.id}")
    return f'curl -H "Authorization: Bearer $BOOMERANG_API_KEY" {url}'
