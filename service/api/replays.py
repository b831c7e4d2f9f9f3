"""The body of a bulk replay, and its answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from service.api.audit import counts_text
from service.api.authentication import Caller
from service.api.query_params import MAX_TEXT, cursor_of, row_id_of, unknown_key_fault
from service.domain.errors import Fault, InvalidParams
from service.domain.ports.replays import ReplayFilter, ReplayStatus
from service.domain.task import Json
from service.domain.task_view import parse_time, rfc3339
from service.tasks.bulk_replay import ReplayCursor, ReplayReport, cursor_text, read_cursor

KNOWN = ("handler", "client", "status", "receiver", "since", "until", "dry_run", "cursor")
NARROWING = ("handler", "client", "receiver", "since", "until")
STATUSES: Mapping[str, ReplayStatus] = {"dead": "dead", "pending": "pending"}
KIND = "replay"


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """A bulk replay that was asked for."""

    wanted: ReplayFilter
    dry_run: bool
    cursor: ReplayCursor | None


def replay_request(data: object, caller: Caller, now: datetime) -> ReplayRequest:
    """Return the bulk replay in the parsed body `data`; raises InvalidParams with every fault.

    A client other than an admin replays only its own deliveries that its `notify` entries asked for.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object")])
    body = _Body(data)
    if not any(data.get(name) is not None for name in NARROWING):
        body.fault((), f"needs at least one of {', '.join(NARROWING)}")
    client = body.text("client")
    if client is not None and not caller.sees(client):
        body.fault(("client",), "only an admin may name another client")
    since, until = body.time("since"), body.time("until")
    if since is not None and until is not None and since >= until:
        body.fault(("until",), "must be later than since")
    receiver = body.text("receiver")
    wanted = ReplayFilter(
        statuses=body.statuses(),
        handler=body.text("handler"),
        client=client if caller.admin else caller.name,
        receiver=receiver and receiver.lower().rstrip("."),
        since=since,
        until=until,
        requested=not caller.admin,
    )
    request = ReplayRequest(wanted=wanted, dry_run=body.flag("dry_run"), cursor=body.cursor(now))
    if body.faults:
        raise InvalidParams(body.faults)
    return request


def replay_text(wanted: ReplayFilter, report: ReplayReport) -> str:
    """Return what was replayed for the audit log: the filter, and how many deliveries had each outcome."""
    given = {**vars(wanted), "statuses": " and ".join(sorted(wanted.statuses)), "requested": None}
    texts = {name: str(rfc3339(each) if isinstance(each, datetime) else each) for name, each in given.items() if each}
    return ", ".join(filter(None, [*map(" ".join, texts.items()), counts_text(report.outcomes.items())]))


def report_object(report: ReplayReport) -> Json:
    """Return the report of a call as the API shows it."""
    return {
        "dry_run": report.dry_run,
        "matched": report.matched,
        "replayed": report.outcomes["replayed"],
        "running": report.outcomes["running"],
        "changed": report.outcomes["changed"],
        "secret_deleted": report.outcomes["secret_deleted"],
        "erased": report.outcomes["erased"],
        "by_status": dict(sorted(report.by_status.items())),
        "by_handler": dict(sorted(report.by_handler.items())),
        "sample": report.sample,
        "last_due_at": report.last_due_at and rfc3339(report.last_due_at),
        "next_cursor": report.cursor and cursor_of(KIND, cursor_text(report.cursor)),
    }


@dataclass(kw_only=False)
class _Body:
    """Reads the fields of a body and collects their faults."""

    data: Json
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults += [unknown_key_fault((), name, KNOWN, "key") for name in self.data if name not in KNOWN][:100]

    def fault(self, loc: tuple[str | int, ...], msg: str) -> None:
        self.faults.append(Fault(loc=loc, msg=msg))

    def text(self, name: str) -> str | None:
        """Return a short printable text, None without the field."""
        value = self.data.get(name)
        if value is None or (isinstance(value, str) and value.isprintable() and 0 < len(value) <= MAX_TEXT):
            return value
        self.fault((name,), f"must be printable text of 1 to {MAX_TEXT} characters")
        return None

    def time(self, name: str) -> datetime | None:
        value = self.data.get(name)
        try:
            if value is None or isinstance(value, str):
                return parse_time(value)
        except (ValueError, OverflowError):
            pass
        self.fault((name,), "must be a time with its offset, like 2026-05-06T12:09:42Z (RFC 3339)")
        return None

    def flag(self, name: str) -> bool:
        value = self.data.get(name, False)
        if not isinstance(value, bool):
            self.fault((name,), "must be true or false")
        return value is True

    def statuses(self) -> frozenset[ReplayStatus]:
        """Return the statuses to replay, by default the dead ones."""
        value = self.data.get("status", ["dead"])
        values: Collection[object] = value if isinstance(value, list) else ()
        found = frozenset(STATUSES[one] for one in values if isinstance(one, str) and one in STATUSES)
        if not found or len(found) != len(values):
            self.fault(("status",), 'must be a list of "dead" and "pending", each at most once')
        return found

    def cursor(self, now: datetime) -> ReplayCursor | None:
        value = self.data.get("cursor")
        if value is None:
            return None
        row_id = row_id_of(KIND, value) if isinstance(value, str) else None
        found = read_cursor(row_id, now) if row_id else None
        if found is None:
            self.fault(("cursor",), "is not a next_cursor of a replay: start without it")
        return found
