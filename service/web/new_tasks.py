"""From the JSON body of `POST /v1/tasks` to what the desk is asked; every fault of its shape at once."""

from collections.abc import Iterator
from itertools import islice

from anyio.to_thread import run_sync

from service.core.params import check
from service.core.task import Json
from service.desk import NewTask
from service.errors import Fault, InvalidParams
from service.ports import IdempotencyKey
from service.web.query import unknown_key_fault

KNOWN = ("model", "params", "metadata", "notify")
REQUIRED = ("model", "params")
MOST_FAULTS = 100  # of one kind
NUL_ESCAPE = b"\\u0000"


async def new_task(data: object, *, client: str, idempotency: IdempotencyKey | None, nul: bool, size: int) -> NewTask:
    """Return what is asked for in `data`, the parsed body; raises InvalidParams.

    `size` is the body's, in bytes; `nul` says that it may hold the character U+0000, which no database keeps. The desk
    checks the values; where the keys are at fault already, they are checked here as well, so that all faults are told
    together.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with model and params")])
    faults = [*islice(_shape_faults(data), MOST_FAULTS)]
    model = data.get("model")
    if nul:
        faults += await run_sync(_all_nul_faults, data)
    if faults or not isinstance(model, str):
        raise InvalidParams([*faults, *_kind_faults(data), *await run_sync(_param_faults, data)])
    return NewTask(
        client=client,
        model=model,
        params=data["params"],
        metadata=data.get("metadata", {}),
        notify=data.get("notify"),
        idempotency=idempotency,
        size=size,
    )


def _shape_faults(data: Json) -> Iterator[Fault]:
    for name in data:
        if name not in KNOWN:
            yield unknown_key_fault((), name, KNOWN, "key")
    for name in REQUIRED:
        if name not in data:
            yield Fault(loc=(name,), msg="is required")


def _kind_faults(data: Json) -> Iterator[Fault]:
    if not isinstance(data.get("metadata", {}), dict):
        yield Fault(loc=("metadata",), msg="must be an object: write {...}")
    if not isinstance(data.get("notify") or [], list):
        yield Fault(loc=("notify",), msg="must be a list of objects: write [...]")


def _param_faults(data: Json) -> tuple[Fault, ...]:
    if not all(name in data for name in REQUIRED):
        return ()
    try:
        check(data["model"], data["params"], allow_off_peak=True)
    except InvalidParams as invalid:
        return invalid.faults
    return ()


def _all_nul_faults(data: Json) -> list[Fault]:
    return list(islice(_nul_faults(data, ()), MOST_FAULTS))


def _nul_faults(value: object, loc: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(value, str) and "\0" in value:
        yield Fault(loc=loc, msg="must not contain the character U+0000")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nul_faults(inner, (*loc, index))
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _nul_faults(name, loc)
            yield from _nul_faults(inner, (*loc, name.replace("\0", "?")))
