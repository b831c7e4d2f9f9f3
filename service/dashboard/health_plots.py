"""The plots of the page about health, each with its text and the numbers beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from markupsafe import Markup

from service.dashboard.formats import NONE, dollars, seconds
from service.dashboard.plots import Bar, bar_plot

if TYPE_CHECKING:
    from service.dashboard.health import HealthFigures

CLASSES = (("callback", "first"), ("poll", "late"), ("bad", "lost"), ("submit", "waiting"))
NAMES = {
    "first": "callback first",
    "late": "poll first, callback later",
    "lost": "no callback",
    "waiting": "too new to know",
}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot: its id and title, a sentence that says what it shows, the drawing, and its rows of numbers.

    `first` and `last` stand at the ends of its axis, `top` at its upper edge.
    """

    id: str
    title: str
    text: str
    drawing: Markup
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[tuple[str, str]] = ()
    first: str
    last: str
    top: str = ""


def health_plots(figures: "HealthFigures", now: datetime) -> list[Plot]:
    """Return all plots of the page."""
    return [
        _ends(figures),
        _delay(figures),
        _polls(figures),
        _settle(figures),
        _handover(figures),
        _spend(figures, now),
    ]


def _ends(figures: "HealthFigures") -> Plot:
    found, labels = figures.tasks.callbacks, _labels(figures)
    bars, rows = [], []
    for label, point in zip(labels, figures.task_points, strict=True):
        counts = {name: getattr(point.callbacks, name) for _, name in CLASSES}
        total = sum(counts.values())
        parts = [(kind, counts[name] / total) for kind, name in CLASSES] if total else []
        words = ", ".join(f"{count} {NAMES[name]}" for name, count in counts.items() if count)
        bars.append(Bar(label=label, parts=parts, text=words))
        rows.append([label, *map(str, counts.values())])
    text = f"Of {found.settled} sampled tasks a callback settled {found.first}, a poll was first for {found.late}, "
    text += f"and {found.lost} callbacks did not come"
    text += f": an estimated loss of {found.loss * 100:.1f} %." if found.loss is not None else "."
    return Plot(
        id="ends",
        title="Callbacks against polls",
        text=text,
        drawing=bar_plot(bars, text=text, top=1.0),
        columns=("Since", "Callback first", "Poll first", "No callback", "Too new"),
        rows=rows,
        legend=[(kind, NAMES[name]) for kind, name in CLASSES],
        first=labels[0],
        last="now",
        top="100 %",
    )


def _delay(figures: "HealthFigures") -> Plot:
    found = figures.tasks
    text = "Known of callbacks that came after a poll had settled the task: "
    text += (
        f"half within {seconds(found.delay)}, 95 % within {seconds(found.delay_95)}." if found.delay else "none did."
    )
    head = Head(id="delay", title="Callback delay", column="Median", text=text)
    return _single(head, figures, [point.delay for point in figures.task_points], seconds)


def _polls(figures: "HealthFigures") -> Plot:
    polls = figures.tasks.polls
    text = "No task has ended." if polls is None else f"A task was polled {polls:.1f} times on average."
    head = Head(id="polls", title="Polls per task", column="Polls", text=text)
    return _single(head, figures, [point.polls for point in figures.task_points], "{:.1f}".format)


def _settle(figures: "HealthFigures") -> Plot:
    found = figures.tasks
    text = "No task has ended."
    if found.settle is not None:
        text = f"Half of the tasks ended within {seconds(found.settle)} of their creation, "
        text += f"95 % within {seconds(found.settle_95)}."
    head = Head(id="settle", title="Time to settle", column="95 % within", text=text)
    return _single(head, figures, [point.settle_95 for point in figures.task_points], seconds)


def _handover(figures: "HealthFigures") -> Plot:
    found = figures.deliveries
    text = "No event was delivered."
    if found.handover is not None:
        text = f"Half of the events were delivered within {seconds(found.handover)}, 95 % within "
        text += f"{seconds(found.handover_95)}. {found.dead} of {found.count} sampled deliveries are dead letters."
    head = Head(id="handover", title="Time to hand over", column="95 % within", text=text)
    return _single(head, figures, [point.handover_95 for point in figures.delivery_points], seconds)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What stands around a plot of one value."""

    id: str
    title: str
    column: str
    text: str


def _single(head: Head, figures: "HealthFigures", values: Sequence[float | None], show: Callable[[float], str]) -> Plot:
    """Return a plot of one value for each point; where it is not known there is a gap."""
    bars, rows, labels = [], [], _labels(figures)
    for label, found in zip(labels, values, strict=True):
        shown = NONE if found is None else show(found)
        bars.append(Bar(label=label, parts=() if found is None else [("value", found)], text=shown))
        rows.append([label, shown])
    return Plot(
        id=head.id,
        title=head.title,
        text=head.text,
        drawing=bar_plot(bars, text=head.text),
        columns=("Since", head.column),
        rows=rows,
        first=labels[0],
        last="now",
        top=show(max(known)) if (known := [found for found in values if found is not None]) else "",
    )


def _spend(figures: "HealthFigures", now: datetime) -> Plot:
    known = {day: cost for day, cost in figures.spend.items() if cost is not None}
    text = f"{dollars(known.get(now.date()))} today, {dollars(sum(known.values()))} in {len(known)} days (UTC), as the "
    text += "provider reported it."
    if figures.budget is not None:
        text += f" The budget is {dollars(figures.budget)} a day, the dashed line."
    if len(known) < len(figures.spend):
        text += " Earlier days are read when the page is loaded again: there are very many tasks."
    bars = [
        Bar(label=f"{day:%b %d}", parts=() if cost is None else [("value", cost)], text=dollars(cost))
        for day, cost in figures.spend.items()
    ]
    return Plot(
        id="spend",
        title="Spend per day",
        text=text,
        drawing=bar_plot(bars, text=text, limit=figures.budget),
        columns=("Day", "Dollars"),
        rows=[[day.isoformat(), dollars(cost)] for day, cost in figures.spend.items()],
        first=f"{min(figures.spend):%b %d}",
        last="today",
        top=dollars(max([*known.values(), figures.budget or 0.0])),
    )


def _labels(figures: "HealthFigures") -> list[str]:
    """Return the beginning of each point for a person, in UTC."""
    long = figures.times[-1] - figures.times[0] > timedelta(days=1)
    return [f"{at:%b %d %H:%M}" if long else f"{at:%H:%M}" for at in figures.times[:-1]]
