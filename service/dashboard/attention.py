"""The front page: what needs attention, and the latest tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.circuits import destination_text
from service.api.query_params import QueryParams
from service.dashboard.circuits import PATH as CIRCUITS
from service.dashboard.figures import LatestFigures
from service.dashboard.formats import NONE, dollars, duration
from service.dashboard.layout import Layout, Page
from service.domain.circuit import Circuit
from service.domain.ports.health import Gauges
from service.domain.ports.overview import MAX_COUNTED, Attention, Overview
from service.domain.ports.tasks import TaskFilter
from service.domain.task_view import rfc3339, task_json

LATEST = 12
UNSHOWN = frozenset({"notify", "hinted_fact", "metadata"})
WITHOUT_RESULT_FOR = timedelta(days=7)
"""For how long a task that was paid without a result needs attention."""
OLD = timedelta(hours=1)
"""Age from which an unsettled task needs attention."""
MAX_CIRCUITS = 5


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that needs attention: `tone` is bad, warn or idle; `figure` is its number or age."""

    title: str
    figure: str
    text: str
    tone: str = "warn"
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class AttentionPage:
    """The page at `/`. `budget` is the dollars a day of all clients."""

    layout: Layout
    services: Services
    overview: Overview
    figures: LatestFigures
    budget: float | None = None

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/", get=self.show)]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show what needs attention, then the latest tasks."""
        QueryParams(request, "format").reject_errors()
        now = self.layout.now()
        found = await self.overview.attention(caller.scope, since=now - WITHOUT_RESULT_FOR)
        gauges = await self.figures.latest() if caller.sees_all else None
        items = list(attention_items(found, now))
        if caller.sees_all:
            items += operator_items(gauges, list(self.services.warnings()), self.budget)
            circuits = await self.services.circuits.listed(limit=MAX_CIRCUITS + 1, after=None, only_open=True)
            items += circuit_items(circuits, now)
        wanted = TaskFilter(client=caller.scope, limit=LATEST, without=UNSHOWN)
        tasks = await self.services.notes.noted(await self.services.queries.tasks(wanted))
        figures = figures_of(found, gauges, self.budget, now)
        return Page(
            template="attention.html",
            title="What needs attention",
            values={"items": items, "figures": figures, "tasks": tasks},
            data={
                "attention": [vars(item) for item in items],
                "unsettled_since": rfc3339(found.unsettled_since),
                "figures": {name: figure for name, figure, _ in figures},
                "latest": [task_json(task) for task in tasks],
            },
        )


def number(count: int) -> str:
    """Return a bounded count for a person."""
    return f"more than {MAX_COUNTED}" if count > MAX_COUNTED else f"{count}"


def attention_items(found: Attention, now: datetime) -> Iterator[Item]:
    """Yield what needs attention among the tasks and deliveries of a caller, and a rejected key first."""
    if found.key_rejected_since:
        text = "It answers 401 or 403: new tasks fail, and no result is fetched. Set a valid BOOMERANG_UPSTREAM_KEY."
        age = duration(now - found.key_rejected_since)
        yield Item(title="The provider rejects the key", figure=age, text=text, tone="bad")
    if found.in_doubt:
        text = "The reply to the submission was lost: the provider may have the task, and charge for it."
        yield Item(title="In doubt", figure=number(found.in_doubt), text=text, address="/tasks?status=in_doubt")
    if found.without_result:
        text = "Completed and paid in the last seven days, and the provider sent nothing: ask for the result."
        yield Item(
            title="Paid without a result",
            figure=number(found.without_result),
            text=text,
            tone="bad",
            address="/tasks?result=none",
        )
    if found.dead:
        text = "Deliveries that failed to the end of their schedule. Correct the receiver, then replay them."
        yield Item(
            title="Dead letters", figure=number(found.dead), text=text, tone="bad", address="/deliveries?status=dead"
        )
    if found.unsettled_since and now - found.unsettled_since > OLD:
        text = "The oldest task that has not ended. Its page says what it waits for."
        age = duration(now - found.unsettled_since)
        yield Item(title="Oldest unsettled task", figure=age, text=text, address=f"/tasks/{found.unsettled_id}")


def operator_items(gauges: Gauges | None, warnings: list[str], budget: float | None) -> list[Item]:
    """Return what needs the attention of an operator beside tasks and deliveries."""
    items = [Item(title="The service says", figure="!", text=text) for text in warnings]
    if gauges is None:
        return items
    spent = sum(gauges.spent.values())
    if budget is not None and spent >= 0.8 * budget:
        over = spent >= budget
        text = f"{'Submissions' if over else 'When it is reached, submissions'} wait until tomorrow (UTC)."
        figure = f"{dollars(spent)} of {dollars(budget)}"
        items.append(Item(title="Budget of today", figure=figure, text=text, tone="bad" if over else "warn"))
    if disabled := gauges.endpoints.get("disabled"):
        text = "Every attempt failed for days, or the receiver answered 410. Enable them again when they work."
        items.append(Item(title="Disabled endpoints", figure=str(disabled), text=text, address="/endpoints"))
    for status, length in gauges.status_words.items():
        text = f"The provider reports the status {status!r}, which is not known: such tasks count as unfinished."
        items.append(Item(title="Unknown status word", figure=duration(length), text=text))
    return items


def circuit_items(circuits: Sequence[Circuit], now: datetime) -> Iterator[Item]:
    """Yield the destinations that fail, for which deliveries wait: MAX_CIRCUITS of them, and whether there are more."""
    for circuit in circuits[:MAX_CIRCUITS]:
        since = duration(now - circuit.opened_at) if circuit.opened_at else NONE
        text = f"{circuit.failures} attempts in a row failed: deliveries to it wait, and a probe looks for its return."
        yield Item(
            title=f"Open circuit: {destination_text(circuit)}", figure=since, text=text, tone="bad", address=CIRCUITS
        )
    if len(circuits) > MAX_CIRCUITS:
        text = f"Only {MAX_CIRCUITS} of the destinations that fail are shown here. The page of circuits has the others."
        yield Item(title="More open circuits", figure="!", text=text, tone="bad", address=CIRCUITS)


Figure = tuple[str, str, str]
"""A name, a value for a person, and the address of the page with more."""


def figures_of(found: Attention, gauges: Gauges | None, budget: float | None, now: datetime) -> list[Figure]:
    """Return the figures at the top of the page."""
    oldest = duration(now - found.unsettled_since) if found.unsettled_since else NONE
    figures = [
        ("Queued", number(found.queued), "/tasks?status=queued"),
        ("At the provider", number(found.in_flight), "/tasks?status=in_progress"),
        ("Oldest unsettled", oldest, f"/tasks/{found.unsettled_id}" if found.unsettled_id else ""),
    ]
    if gauges is not None:
        spent = dollars(sum(gauges.spent.values()))
        text = f"{spent} of {dollars(budget)}" if budget is not None else spent
        figures.append(("Spent today (UTC)", text, ""))
    return figures
