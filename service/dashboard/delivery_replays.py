"""Replays of many deliveries: a selection, or all that match. Counted first, then confirmed, then done."""

import re
from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.audit import counts_text
from service.api.authentication import Caller
from service.api.problems import READ_ONLY, ProblemError
from service.api.query_params import cursor_of
from service.api.replays import KIND, ReplayRequest, replay_request, report_object
from service.dashboard.deliveries import ALL, ROWS
from service.dashboard.form_times import utc_time
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.dashboard.request_checks import own_path
from service.domain.errors import Fault, InvalidParams
from service.domain.ports.deliveries import DeliveryView
from service.domain.ports.replays import ReplayOutcome
from service.domain.task import Json
from service.domain.task_view import rfc3339
from service.tasks.bulk_replay import BulkReplay, ReplayReport, cursor_text

FILTERS = ("status", "handler", "client", "receiver", "since", "until")
PATH = "/deliveries/replay"
MAX_NAMED = 5
"""Deliveries of a selection that the audit log names."""

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
NUMBER = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, kw_only=True)
class DeliveryReplays:
    """The pages that replay many deliveries."""

    layout: Layout
    services: Services
    _bulk: BulkReplay = field(init=False)

    def __post_init__(self) -> None:
        bulk = BulkReplay(replays=self.services.replayer, clock=self.services.clock)
        object.__setattr__(self, "_bulk", bulk)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route(PATH, get=self.count, post=self.replay)]

    async def count(self, request: Request, caller: Caller) -> Page:
        """Count what a replay would try again: the deliveries `delivery`, or all that the filters select."""
        if caller.read_only:
            raise ProblemError(READ_ONLY)
        query = request.query_params
        selected, back = query.getlist("delivery")[:ROWS], own_path(query.get("back", ""), "/deliveries")
        given = {name: query.get(name, "").strip() for name in FILTERS}
        values: Json = {"given": given, "back": back, "selected": selected, "until": given["until"]}
        if selected:
            found = await self._selected(selected, caller)
            values["counts"] = {
                "matched": len(found),
                "by_handler": dict(Counter(each.handler for each in found)),
                "by_status": dict(Counter(each.status for each in found)),
                "left_out": len(selected) - len(found),
            }
        else:
            wanted = _wanted(given, caller, self.layout, cursor=None)
            report = await self._bulk.run(wanted.wanted, cursor=None, dry_run=True, caller=caller.name)
            values["counts"] = report_object(report)
            values["until"] = rfc3339(wanted.wanted.until)  # what comes after the count is not replayed
        return Page(template="delivery_replay.html", title="Replay", values=values, data=values["counts"])

    async def replay(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Replay what was counted; what is left after the time limit continues with another press."""
        back = own_path(form.get("back"), "/deliveries")
        selected = form.all("delivery")[:ROWS]
        if selected:
            return await self._replay_selected(request, caller, selected, back)
        given = {name: form.get(name).strip() for name in FILTERS}
        wanted = _wanted(given, caller, self.layout, cursor=form.get("cursor") or None)
        async with self.layout.recording(caller, "delivery.replay_many") as note:
            report = await self._bulk.run(wanted.wanted, cursor=wanted.cursor, dry_run=False, caller=caller.name)
            parts = [*given.items(), *report.outcomes.items()]
            note.detail = ", ".join(f"{name} {value}" for name, value in parts if value)
        await self.services.work.drive_all()
        before = int(form.get("replayed")) if NUMBER.fullmatch(form.get("replayed")) else 0
        replayed = before + report.outcomes["replayed"]
        if report.cursor is None:
            return self.layout.done(request, back, _result(replayed, report))
        values = {
            "given": given,
            "back": back,
            "replayed": replayed,
            "cursor": cursor_of(KIND, cursor_text(report.cursor)),
        }
        return Page(template="delivery_replay_more.html", title="Replay", values=values, data=report_object(report))

    async def _replay_selected(self, request: Request, caller: Caller, selected: list[str], back: str) -> Response:
        found = await self._selected(selected, caller)
        async with self.layout.recording(caller, "delivery.replay_many") as note:
            outcomes = await self.services.replayer.replay([each.id for each in found], now=self.layout.now())
            counts = Counter(outcomes.values())
            first = ", ".join(each.id for each in found[:MAX_NAMED])
            note.detail = f"selected: {counts_text(counts.items())}; {first}{', …' if found[MAX_NAMED:] else ''}"
        await self.services.work.drive_all()
        text = f"{counts['replayed']} of {len(selected)} deliveries are tried again now."
        if counts["secret_deleted"]:
            text += f" {counts['secret_deleted']} can no longer be signed: their secret was deleted."
        return self.layout.done(request, back, text, level="done" if counts["replayed"] else "problem")

    async def _selected(self, selected: list[str], caller: Caller) -> list[DeliveryView]:
        """Return those of the deliveries that the caller may replay."""
        ids = [each for each in dict.fromkeys(selected) if ID.fullmatch(each)]
        found = [await self.services.deliveries.delivery(each) for each in ids]
        return [each for each in found if each and caller.sees(each.client) and (each.requested or caller.admin)]


def _wanted(given: dict[str, str], caller: Caller, layout: Layout, *, cursor: str | None) -> ReplayRequest:
    """Return the replay that the fields ask for; raises InvalidParams with the faults of the fields."""
    faults: list[Fault] = []
    body: Json = {name: given[name] for name in ("handler", "client", "receiver") if given[name]}
    for name in ("since", "until"):
        if given[name]:
            body[name] = utc_time(given[name], name, faults)
    if given["status"] not in {"", "dead", "pending", ALL}:
        faults.append(Fault(loc=("status",), msg="must be dead, pending or all: select delivered ones one by one"))
    if faults:
        raise InvalidParams(faults)
    body["status"] = ["dead", "pending"] if given["status"] == ALL else [given["status"] or "dead"]
    body["until"] = body.get("until") or rfc3339(layout.now())
    return replay_request(body | ({"cursor": cursor} if cursor else {}), caller, layout.now())


def _result(replayed: int, report: ReplayReport) -> str:
    text = f"{replayed} deliveries are tried again"
    text += f", the last one at {report.last_due_at:%H:%M:%S} UTC." if report.last_due_at else "."
    names: dict[ReplayOutcome, str] = {
        "running": "were being tried",
        "changed": "had changed meanwhile",
        "secret_deleted": "cannot be signed",
    }
    left = [f"{report.outcomes[name]} {words}" for name, words in names.items() if report.outcomes[name]]
    return f"{text} {'; '.join(left)}." if left else text
