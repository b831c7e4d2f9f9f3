"""The optional body of a resubmission: changed parameters."""

from hashlib import sha256

from starlette.requests import Request

from service.api.authentication import caller_of
from service.api.nul_characters import MAX_FAULTS, may_have_nul, nul_faults
from service.api.ports import TaskService
from service.api.problems import Problem, ProblemError
from service.api.query_params import idempotency_key, unknown_key_fault
from service.api.request_bodies import require_json
from service.domain.errors import Fault, InvalidParams, KeyReused
from service.domain.ports.tasks import IdempotencyKey
from service.domain.strict_json import parse_json
from service.domain.task import Json, Task

KNOWN = ("params",)


def requested_changes(request: Request, body: bytes) -> Json | None:
    """Return the changed parameters in a body, None for no body and for an empty object.

    Raises InvalidParams for other content. The parameters themselves are validated with the model.
    """
    if not body:
        return None
    require_json(request)
    data = parse_json(body)
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be a JSON object with params, or be left out")])
    unknown = [name for name in data if name not in KNOWN][:MAX_FAULTS]
    faults = [unknown_key_fault((), name, KNOWN, "key") for name in unknown]
    params = data.get("params", {})
    if not isinstance(params, dict):
        faults.append(Fault(loc=("params",), msg="must be an object with the parameters to change; null removes one"))
    if may_have_nul(body):
        faults += nul_faults(data)
    if faults:
        raise InvalidParams(faults)
    return params if "params" in data else None


async def resubmitted(
    service: TaskService, old: Task, changes: Json, request: Request, body: bytes
) -> tuple[Task, bool]:
    """Return the new task with `changes`, and whether it is new; raises a 422 for a key of another request."""
    key, digest = idempotency_key(request), sha256(old.id.encode() + body).hexdigest()
    idempotency = None if key is None else IdempotencyKey(key=key, digest=digest)
    try:
        return await service.resubmit_changed(old.id, changes, admin=caller_of(request).admin, idempotency=idempotency)
    except KeyReused as conflict:
        problem = Problem(status=422, kind="idempotency-key-reused", detail=str(conflict))
        raise ProblemError(problem) from conflict
