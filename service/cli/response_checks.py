"""Check the shape of API responses once, so that the commands can rely on it."""

from collections.abc import Callable, Mapping

from service.domain.task import Json

TEXT = (str, type(None))
OBJECT = (dict, type(None))
NUMBER = (int, float, type(None))
TASK: Mapping[str, tuple[type, ...]] = {
    "id": (str,),
    "status": (str,),
    "params": (dict,),
    "progress": NUMBER,
    "output": (list,),
    "warnings": (list,),
    "error": OBJECT,
    "usage": OBJECT,
    "created_at": TEXT,
}
DELIVERY: Mapping[str, tuple[type, ...]] = {"id": (str,), "handler": (str,), "event_type": (str,)}


HANDLER: Mapping[str, tuple[type, ...]] = {"name": (str,), "paused": (bool,), "paused_at": TEXT, "paused_by": TEXT}
CIRCUIT: Mapping[str, tuple[type, ...]] = {"key": (str,), "state": (str,), "handler": (str,), "host": TEXT}
ENDPOINT: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "url"), (str,)),
    "events": (list, type(None)),
    "health": (dict,),
}
MISSED_REPORT: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("matched", "without_delivery", "dead", "created", "replayed"), (int,)),
    "sample": (list,),
    "last_due_at": TEXT,
    "next_cursor": TEXT,
}
USAGE: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("tasks", "unpriced", "without_result"), (int,)),
    **dict.fromkeys(("cost", "without_result_cost"), (str,)),
}
REPLAY_REPORT: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("matched", "replayed", "running", "changed", "secret_deleted"), (int,)),
    **dict.fromkeys(("by_status", "by_handler"), (dict,)),
    "sample": (list,),
    "last_due_at": TEXT,
    "next_cursor": TEXT,
}


def is_task(body: Json) -> bool:
    """Return whether `body` is a task: it has an id and a status, and each known field has its type."""
    if not ({"id", "status"} <= body.keys() and _has_types(body, TASK) and _contains_objects(body, "output")):
        return False
    error = body.get("error")
    return not error or {"code", "message"} <= error.keys()


def is_delivery(body: Json) -> bool:
    """Return whether `body` is a delivery."""
    return DELIVERY.keys() <= body.keys() and _has_types(body, DELIVERY)


def is_handler(body: Json) -> bool:
    """Return whether `body` is a handler of the service."""
    return HANDLER.keys() <= body.keys() and _has_types(body, HANDLER)


def is_circuit(body: Json) -> bool:
    """Return whether `body` is the circuit of a destination."""
    return CIRCUIT.keys() <= body.keys() and _has_types(body, CIRCUIT)


def is_endpoint(body: Json) -> bool:
    """Return whether `body` is an endpoint."""
    return ENDPOINT.keys() <= body.keys() and _has_types(body, ENDPOINT)


def is_endpoint_result(body: Json) -> bool:
    """Return whether `body` is the answer of an action of an endpoint: itself, a test or the report of a replay."""
    return is_endpoint(body) or isinstance(body.get("delivered"), bool) or _is_missed_report(body)


def _is_missed_report(body: Json) -> bool:
    return MISSED_REPORT.keys() <= body.keys() and _has_types(body, MISSED_REPORT)


def is_replay_report(body: Json) -> bool:
    """Return whether `body` is the report of a bulk replay."""
    return REPLAY_REPORT.keys() <= body.keys() and _has_types(body, REPLAY_REPORT)


def is_usage_report(body: Json) -> bool:
    """Return whether `body` is a page of the report of costs."""
    sums = (*body["data"], body.get("total")) if is_page(body, lambda _: True) else ()
    days = _has_types(body, dict.fromkeys(("from", "to"), (str,))) and {"from", "to", "next_cursor"} <= body.keys()
    return bool(sums) and days and all(isinstance(each, dict) and _is_usage(each) for each in sums)


def _is_usage(sums: Json) -> bool:
    return USAGE.keys() <= sums.keys() and _has_types(sums, USAGE)


def is_page(body: Json, is_row: Callable[[Json], bool]) -> bool:
    """Return whether `body` is a page of a list and `is_row` accepts each row."""
    rows = body.get("data")
    return isinstance(rows, list) and _contains_objects(body, "data") and all(map(is_row, rows))


def _has_types(body: Json, fields: Mapping[str, tuple[type, ...]]) -> bool:
    return all(isinstance(body[name], types) for name, types in fields.items() if name in body)


def _contains_objects(body: Json, name: str) -> bool:
    return all(isinstance(row, dict) for row in body.get(name) or [])
