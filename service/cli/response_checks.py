"""Whether an answer is what a Boomerang service answers: checked once, so that commands may rely on it."""

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


def is_task(body: Json) -> bool:
    """Whether `body` is a task: an id and a status, and everything else that it has of the right type."""
    named = "id" in body and "status" in body
    error = body.get("error") or {}
    return (
        named
        and _has_types(body, TASK)
        and (not error or {"code", "message"} <= error.keys())
        and _contains_objects(body, "output")
    )


def is_delivery(body: Json) -> bool:
    """Whether `body` is a delivery."""
    return DELIVERY.keys() <= body.keys() and _has_types(body, DELIVERY)


def is_page(body: Json, is_row: Callable[[Json], bool]) -> bool:
    """Whether `body` is a page of a list whose rows are as wanted."""
    rows = body.get("data")
    return isinstance(rows, list) and _contains_objects(body, "data") and all(map(is_row, rows))


def _has_types(body: Json, shape: Mapping[str, tuple[type, ...]]) -> bool:
    return all(isinstance(body[name], kinds) for name, kinds in shape.items() if name in body)


def _contains_objects(body: Json, name: str) -> bool:
    return all(isinstance(row, dict) for row in body.get(name) or [])
