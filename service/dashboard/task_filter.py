"""The filters of the list of tasks: in its address, in its links and in the forms of actions on all that match."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.requests import Request

from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.api.task_filters import FILTERS, task_filter
from service.dashboard.form_times import field_time, utc_time
from service.domain.ports.search import StatusCount
from service.domain.ports.tasks import TaskFilter, TaskQueries
from service.domain.search import search_text, without_cut_word
from service.domain.task import Status, Task

NAMES = (*FILTERS, "result")
STATUSES = [each.value for each in Status]
TIMES = ("since", "until")
READ = 50


@dataclass(frozen=True, kw_only=True)
class ListFilter:
    """What the list shows: the texts of its conditions, and the filter that they are for the caller."""

    texts: tuple[tuple[str, str], ...]
    wanted: TaskFilter

    def get(self, name: str) -> str:
        """Return the text of a condition, empty without it."""
        return dict(self.texts).get(name, "")

    def field_time(self, name: str) -> str:
        """Return the value of the field for a time, empty without one."""
        moment = self.wanted.since if name == "since" else self.wanted.until
        return field_time(moment) if moment else ""

    def pairs(self, **changes: str) -> list[tuple[str, str]]:
        """Return the conditions as parameters, with `changes`."""
        values = dict(self.texts) | changes
        return [(name, value) for name, value in values.items() if value]

    def address(self, **changes: str) -> str:
        """Return the address of the list with these conditions."""
        pairs = self.pairs(**changes)
        return f"/tasks?{urlencode(pairs)}" if pairs else "/tasks"

    @property
    def words(self) -> str:
        """Return the conditions for a person."""
        return ", ".join(f"{name} {value}" for name, value in self.texts) or "all tasks"


def read_filter(
    request: Request, caller: Caller, pairs: Sequence[tuple[str, str]], *more: str
) -> tuple[ListFilter, QueryParams]:
    """Return the filter in `pairs`, and their parameters with the faults, of which `more` are known too.

    Empty values count as left out: a form sends its empty fields too.
    """
    given = [(name, cleaned) for name, value in pairs if value and (cleaned := _cleaned(name, value))]
    query = QueryParams(Request({**request.scope, "query_string": urlencode(given).encode()}), *NAMES, *more)
    paid = query.choice("result", ["none"]) == "none"
    wanted = replace(task_filter(query, caller), without_result=paid)
    texts = tuple((name, value) for name, value in given if name in NAMES)
    return ListFilter(texts=texts, wanted=wanted), query


def _cleaned(name: str, value: str) -> str:
    """Return the text of a condition as it is meant: a search is not for part of a word that the field has cut off."""
    if name == "q":
        return search_text(without_cut_word(value))
    return _with_offset(value) if name in TIMES else value


def _with_offset(text: str) -> str:
    """Return a time as the API knows it: a field sends none, and is in UTC. A wrong one is reported later."""
    return utc_time(text, "time", []) or text


@dataclass(frozen=True, kw_only=True)
class Tab:
    """A status in the list: its word is empty for all; with `more` there may be more than `count`."""

    status: str
    address: str
    count: int
    more: bool
    chosen: bool


def tabs(current: ListFilter, counts: Sequence[StatusCount]) -> Iterator[Tab]:
    """Yield a tab for all tasks, and one for each status that some have."""
    total, more = sum(each.count for each in counts), any(each.more for each in counts)
    chosen = current.get("status")
    yield Tab(status="", address=current.address(status=""), count=total, more=more, chosen=not chosen)
    by_status = {each.status: each for each in counts}
    for status in STATUSES:
        found = by_status.get(status)
        if status == chosen or (found and (found.count or found.more)):
            count, beyond = (found.count, found.more) if found else (0, False)
            address = current.address(status=status)
            yield Tab(status=status, address=address, count=count, more=beyond, chosen=status == chosen)


async def next_tasks(queries: TaskQueries, wanted: TaskFilter) -> tuple[list[Task], str | None]:
    """Return the next tasks of a filter after its cursor, and where to continue; None at the end."""
    window = await queries.window(replace(wanted, limit=READ))
    tasks = list(window.tasks)
    return tasks, window.after or (tasks[-1].id if len(tasks) == READ else None)
