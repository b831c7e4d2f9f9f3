"""What can be done with an endpoint: change, pause, rotate, test, replay what it missed, remove."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.audit import AuditNote
from service.api.authentication import Caller
from service.api.endpoint_views import missed_object
from service.api.problems import READ_ONLY, ProblemError
from service.dashboard.endpoint_forms import read_form, read_overlap, values_of
from service.dashboard.endpoint_pages import EndpointPages
from service.dashboard.form_times import field_time, utc_time
from service.dashboard.forms import Form
from service.dashboard.layout import Page
from service.domain.delivery_errors import error_for_client
from service.domain.endpoint import Endpoint
from service.domain.errors import Conflict, Fault, InvalidParams
from service.domain.task_view import parse_time
from service.tasks.endpoints import EndpointChanges
from service.tasks.missed_replay import MissedReport, missed_cursor_text, read_missed_cursor

SWITCHES: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "pause": ({"paused": True}, "The endpoint is paused: what it would get waits."),
    "resume": ({"paused": False}, "The endpoint is resumed: what waited is delivered now."),
    "enable": ({"disabled": False}, "The endpoint is enabled."),
}
CHANGED = "the endpoint was changed since this page was opened: reload it, then try again"
DEFAULT_SINCE = timedelta(days=1)


@dataclass(kw_only=True)
class EndpointActions:
    """The actions under `/endpoints/{id}/`."""

    pages: EndpointPages

    def routes(self) -> list[Route]:
        """Return their routes."""
        route = self.pages.layout.route
        return [
            route("/endpoints/{id}/change", post=self.change),
            route("/endpoints/{id}/switch", post=self.switch),
            route("/endpoints/{id}/rotate", post=self.rotate),
            route("/endpoints/{id}/test", post=self.test),
            route("/endpoints/{id}/remove", get=self.confirm_removal, post=self.remove),
            route("/endpoints/{id}/replay", get=self.count, post=self.replay),
        ]

    async def change(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Change address, events, description and, if new ones are given, the headers."""
        endpoint = await self.pages.visible(request, caller)
        sent = read_form(form)
        try:
            fields = values_of(sent)
            if endpoint.client != caller.name:
                del fields["url"]  # of another client an admin sees only the host
            if not fields["headers"] and not form.get("no_headers"):
                del fields["headers"]
            async with self._recording(caller, "endpoint.change", endpoint):
                await self._change(endpoint, fields)
        except InvalidParams as invalid:
            again = sent.with_faults(invalid.faults)
            return self.pages.one(endpoint, caller, again, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return self._done(request, endpoint, "The endpoint is changed.")

    async def switch(self, request: Request, caller: Caller, form: Form) -> Response:
        """Pause, resume or enable an endpoint."""
        endpoint = await self.pages.visible(request, caller)
        fields, text = SWITCHES.get(form.get("to"), ({}, ""))
        if not fields:
            raise InvalidParams([Fault(loc=("to",), msg=f"must be one of {', '.join(SWITCHES)}")])
        async with self._recording(caller, "endpoint.change", endpoint) as note:
            await self._change(endpoint, fields)
            note.detail = form.get("to")
        return self._done(request, endpoint, text)

    async def rotate(self, request: Request, caller: Caller, form: Form) -> Page:
        """Replace the secret and show the new one, once. A form that is sent twice replaces it once."""
        endpoint = await self.pages.visible(request, caller)
        if form.get("stamp") != endpoint.updated_at.isoformat():
            raise Conflict(CHANGED)
        overlap = read_overlap(form)
        async with self._recording(caller, "endpoint.rotate", endpoint):
            changed, secret = await self.pages.services.endpoints.rotate(endpoint, None, overlap)
        return self.pages.one(changed, caller, secret=secret)

    async def test(self, request: Request, caller: Caller, _: Form) -> Response:
        """Send one test event now."""
        endpoint = await self.pages.visible(request, caller)
        async with self._recording(caller, "endpoint.test", endpoint):
            result = await self.pages.services.endpoint_tester.send(endpoint)
        answered = f" It answered {result.answer.status}." if result.answer else ""
        if result.error is None:
            text = f"The test event was delivered in {result.seconds:.2f} s.{answered}"
            return self.pages.layout.done(request, f"/endpoints/{endpoint.id}", text)
        error = result.error if caller.sees_all else error_for_client(result.error, requested=True)
        text = f"The test event was not delivered: {error}"
        return self.pages.layout.done(request, f"/endpoints/{endpoint.id}", text, level="problem")

    async def confirm_removal(self, request: Request, caller: Caller) -> Page:
        """Show what a removal means, and its button."""
        endpoint = await self.pages.visible(request, caller)
        shown = self.pages.one(endpoint, caller)
        return Page(template="endpoint_remove.html", title="Remove the endpoint", values=shown.values, data=shown.data)

    async def remove(self, request: Request, caller: Caller, _: Form) -> Response:
        """Remove an endpoint; what waits for it is dropped."""
        endpoint = await self.pages.visible(request, caller)
        async with self._recording(caller, "endpoint.delete", endpoint):
            await self.pages.services.endpoints.remove(endpoint.id)
        return self.pages.layout.done(request, "/endpoints", "The endpoint is removed.")

    async def count(self, request: Request, caller: Caller) -> Page:
        """Count the events that the endpoint has not got since a time."""
        if caller.read_only:
            raise ProblemError(READ_ONLY)
        endpoint, now = await self.pages.visible(request, caller), self.pages.layout.now()
        text, faults = request.query_params.get("since", ""), list[Fault]()
        since = parse_time(utc_time(text, "since", faults)) or now - DEFAULT_SINCE
        if faults or since >= now:
            raise InvalidParams(faults or [Fault(loc=("since",), msg="must be in the past")])
        report = await self.pages.services.missed_replay.run(
            endpoint, since=since, until=now, cursor=None, dry_run=True
        )
        return self._missed(endpoint, caller, report, since=since, until=now)

    async def replay(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Replay what was counted; what is left after the time limit continues with another press."""
        endpoint, now, faults = await self.pages.visible(request, caller), self.pages.layout.now(), list[Fault]()
        since = parse_time(utc_time(form.get("since"), "since", faults))
        until = parse_time(utc_time(form.get("until"), "until", faults))
        if faults or since is None or until is None or since >= until:
            raise InvalidParams(faults or [Fault(loc=("since",), msg="must be before until")])
        cursor = read_missed_cursor(form.get("cursor"), now)
        async with self._recording(caller, "endpoint.replay", endpoint) as note:
            report = await self.pages.services.missed_replay.run(
                endpoint, since=since, until=until, cursor=cursor, dry_run=False
            )
            note.detail = f"created {report.created}, replayed {report.replayed}"
        await self.pages.services.work.drive_all()
        if report.cursor is not None:
            return self._missed(endpoint, caller, report, since=since, until=until)
        count = report.created + report.replayed
        ends = f", the last one at {report.last_due_at:%H:%M:%S} UTC" if report.last_due_at else ""
        text = f"{count} events are delivered again{ends}."
        return self.pages.layout.done(request, f"/endpoints/{endpoint.id}", text)

    def _missed(
        self, endpoint: Endpoint, caller: Caller, report: MissedReport, *, since: datetime, until: datetime
    ) -> Page:
        values = {
            **self.pages.one(endpoint, caller).values,
            "report": report,
            "since": since,
            "since_field": field_time(since),
            "until": until,
            "cursor": missed_cursor_text(report.cursor) if report.cursor else "",
        }
        return Page(
            template="endpoint_replay.html", title="Replay what it missed", values=values, data=missed_object(report)
        )

    async def _change(self, endpoint: Endpoint, fields: Mapping[str, Any]) -> None:
        await self.pages.services.endpoints.change(endpoint, EndpointChanges(given=fields))

    def _recording(self, caller: Caller, action: str, endpoint: Endpoint) -> AbstractAsyncContextManager[AuditNote]:
        return self.pages.layout.recording(caller, action, endpoint.id)

    def _done(self, request: Request, endpoint: Endpoint, text: str) -> Response:
        return self.pages.layout.done(request, f"/endpoints/{endpoint.id}", text)
