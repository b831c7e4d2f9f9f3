"""Convert the JSON body of `POST /v1/tasks` into a NewTask, with every fault of its keys."""

from collections.abc import Iterator
from itertools import islice

from anyio.to_thread import run_sync

from service.api.query_params import unknown_key_fault
from service.domain.errors import Fault, InvalidParams
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json
from service.tasks.new_task import NewTask

KNOWN = ("model", "params", "metadata", "notify")
REQUIRED = ("model", "params")
MAX_FAULTS = 100  # of each kind
NUL_ESCAPE = b"\\u0000"


async def new_task(data: object, *, client: str, idempotency: IdempotencyKey | None, nul: bool, size: int) -> NewTask:
    """Return the requested task with the faults of its keys; raises InvalidParams unless `data` is an object.

    `data` is the parsed body and `size` its size in bytes. `nul` says that it may contain the character U+0000, which
    no database stores. The task service validates the values and reports all faults together.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with model and params")])
    faults: list[Fault] = []
    for name in data:
        if len(faults) == MAX_FAULTS:
            break
        if name not in KNOWN:
            faults.append(unknown_key_fault((), name, KNOWN, "key"))
    for name in REQUIRED:
        if name not in data and len(faults) < MAX_FAULTS:
            faults.append(Fault(loc=(name,), msg="is required"))
    if nul:
        faults += await run_sync(_all_nul_faults, data)
    return NewTask(
        client=client,
        model=data.get("model"),
        params=data.get("params"),
        metadata=data.get("metadata", {}),
        notify=data.get("notify"),
        idempotency=idempotency,
        size=size,
        faults=tuple(faults),
    )


def _all_nul_faults(data: Json) -> list[Fault]:
    return list(islice(_nul_faults(data, ()), MAX_FAULTS))


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
