"""The filters of lists of tasks."""

from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.domain.ports.tasks import TaskFilter
from service.domain.search import search_terms
from service.domain.task import Status

FILTERS = ("status", "model", "handler", "client", "since", "until", "q")


def task_filter(query: QueryParams, caller: Caller) -> TaskFilter:
    """Return the filter in a query, limited to what the caller may see; its faults are left in `query`."""
    client, text, since, until = query.text("client"), query.search("q"), query.time("since"), query.time("until")
    if client is not None and not caller.sees(client):
        query.fault("client", "only an admin may name another client")
    if since is not None and until is not None and since >= until:
        query.fault("until", "must be later than since")
    return TaskFilter(
        client=client if caller.scope is None else caller.scope,
        statuses=query.words("status", [each.value for each in Status]),
        model=query.text("model"),
        since=since,
        until=until,
        exact=text,
        terms=search_terms(text, query.text("handler")),
    )
