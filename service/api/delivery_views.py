"""Deliveries and attempts as the API shows them: a client reads less of their errors than an admin."""

from dataclasses import asdict
from datetime import datetime

from service.api.authentication import Caller
from service.domain.delivery_errors import error_for_client
from service.domain.ports.deliveries import DeliveryView
from service.domain.task import Json
from service.domain.task_view import rfc3339

ERRORS = {"delivery": "last_error", "attempt": "error"}
"""The field of each kind of history entry that has the error of an attempt."""


def delivery_object(delivery: DeliveryView, caller: Caller) -> Json:
    """Return the delivery object of the API for `caller`, with times as RFC 3339."""
    plain = asdict(delivery)
    plain["last_error"] = _visible(delivery.last_error, caller, requested=delivery.requested)
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in plain.items()}


def history_object(row: Json, caller: Caller) -> Json:
    """Return an entry of a task's history for `caller`."""
    error = ERRORS.get(str(row["kind"]))
    if error is None:
        return row
    shown = row | {error: _visible(row[error], caller, requested=bool(row["requested"]))}
    if row["kind"] == "attempt":
        if not (caller.sees_all or row["requested"]):  # it answered the operator, not the client
            shown |= {"answer_status": None, "answer_body": None}
        del shown["requested"]
    return shown


def _visible(error: str | None, caller: Caller, *, requested: bool) -> str | None:
    return error if caller.sees_all else error_for_client(error, requested=requested)
