"""The page of the audit log, for admins."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.routing import Route

from service.api.authentication import Caller
from service.api.query_params import QueryParams, cursor_of
from service.dashboard.layout import Layout, Page
from service.domain.ports.audit import AuditLog, AuditRow
from service.domain.task import Json
from service.domain.task_view import rfc3339

ROWS = 100


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """The page at `/audit`."""

    layout: Layout
    audit_log: AuditLog

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [self.layout.route("/audit", get=self.show, admins_only=True)]

    async def show(self, request: Request, _: Caller) -> Page:
        """Show one page of the log, newest first."""
        query = QueryParams(request, "actor", "action", "target", "cursor", "format")
        filters = {name: query.text(name) if request.query_params.get(name) else None for name in FILTERS}
        cursor = query.cursor("audit")
        query.reject_errors()
        found = await self.audit_log.entries(**filters, before=_number(cursor), limit=ROWS + 1)
        rows = found[:ROWS]
        more = cursor_of("audit", str(rows[-1].seq)) if len(found) > ROWS else None
        values = {"rows": rows, "filters": filters, "more": more}
        data = {"data": [_entry(row) for row in rows], "next_cursor": more}
        return Page(template="audit.html", title="Audit log", values=values, data=data)


FILTERS = ("actor", "action", "target")


def _number(cursor: str | None) -> int | None:
    return int(cursor) if cursor and cursor.isdecimal() else None


def _entry(row: AuditRow) -> Json:
    return {"seq": row.seq, **vars(row.entry), "at": rfc3339(row.entry.at)}
