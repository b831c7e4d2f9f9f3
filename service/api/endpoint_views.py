"""Endpoints as the API shows them: of another client's, an admin reads no more of the address than its host.

Nor does a key that only reads: a query or a path may hold the token of the receiver.
"""

from datetime import datetime

from service.api.authentication import Caller
from service.api.query_params import cursor_of
from service.domain.delivery_errors import error_for_client
from service.domain.endpoint import Endpoint
from service.domain.event_routing import target_host
from service.domain.ports.endpoints import EndpointTestResult
from service.domain.task import Json
from service.domain.task_view import rfc3339
from service.tasks.missed_replay import MissedReport, missed_cursor_text

KIND = "endpoint-replay"


def endpoint_object(endpoint: Endpoint, caller: Caller, now: datetime) -> Json:
    """Return the endpoint object of the API for `caller`, with times as RFC 3339."""
    until = endpoint.old_secrets_until
    return {
        "id": endpoint.id,
        "client": endpoint.client,
        "url": endpoint.url if shows_address(endpoint, caller) else _scheme_and_host(endpoint.url),
        "events": list(endpoint.events) or None,
        "description": endpoint.description,
        "headers": list(endpoint.header_names),
        "rate": endpoint.rate,
        "paused": endpoint.paused,
        "disabled": endpoint.disabled_at is not None,
        "disabled_at": rfc3339(endpoint.disabled_at),
        "disabled_reason": endpoint.disabled_reason,
        "old_secrets_until": rfc3339(until) if until and until > now else None,
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
        "health": _health_object(endpoint, caller),
    }


def shows_address(endpoint: Endpoint, caller: Caller) -> bool:
    """Return whether `caller` reads the whole address of an endpoint."""
    return endpoint.client == caller.name and not caller.read_only


def _health_object(endpoint: Endpoint, caller: Caller) -> Json:
    health = endpoint.health
    error = health.last_failure_error
    return {
        "last_success_at": rfc3339(health.last_success_at),
        "last_failure_at": rfc3339(health.last_failure_at),
        "last_failure_status": health.last_failure_status,
        "last_failure_error": error if caller.sees_all else error_for_client(error, requested=True),
        "consecutive_failures": health.consecutive_failures,
        "failing_since": rfc3339(health.failing_since),
        "recent": {"succeeded": health.recent.count("+"), "failed": health.recent.count("-")},
    }


def _scheme_and_host(url: str) -> str:
    rest = f"{url.partition('://')[0]}://{target_host({'url': url}) or '…'}"
    return f"{rest}/…"


def test_object(result: EndpointTestResult, caller: Caller) -> Json:
    """Return what became of a test event as the API shows it."""
    return {
        "delivered": result.error is None,
        "status": result.answer.status if result.answer else None,
        "answer": result.answer.body if result.answer else None,
        "error": result.error if caller.sees_all else error_for_client(result.error, requested=True),
        "seconds": round(result.seconds, 3),
        "message_id": result.message_id,
    }


def missed_object(report: MissedReport) -> Json:
    """Return the report of a replay as the API shows it."""
    return {
        "dry_run": report.dry_run,
        "matched": report.matched,
        "without_delivery": report.by_kind["without_delivery"],
        "dead": report.by_kind["dead"],
        "created": report.created,
        "replayed": report.replayed,
        "sample": report.sample,
        "last_due_at": rfc3339(report.last_due_at),
        "next_cursor": report.cursor and cursor_of(KIND, missed_cursor_text(report.cursor)),
    }
