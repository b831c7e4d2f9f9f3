"""A fact as plain JSON and back, so that a hint can be stored until it is confirmed."""

from service.domain.task import Fact, Json, Status, TaskError, UpstreamId, Usage


def fact_to_json(fact: Fact) -> Json:
    """Return `fact` as JSON values, without its correlation token."""
    data = vars(fact) | {
        "status": fact.status.value,
        "output": list(fact.output),
        "error": dict(vars(fact.error)) if fact.error else None,
        "usage": dict(vars(fact.usage)) if fact.usage else None,
    }
    del data["correlation"]
    return data


def fact_from_json(data: Json) -> Fact:
    """Return the fact that `fact_to_json` wrote."""
    return Fact(
        status=Status(data["status"]),
        upstream_id=UpstreamId(data["upstream_id"]) if data["upstream_id"] else None,
        progress=data["progress"],
        output=tuple(data["output"]),
        error=TaskError(**data["error"]) if data["error"] else None,
        usage=Usage(**data["usage"]) if data["usage"] else None,
        guessed=data["guessed"],
        unconfirmed=data["unconfirmed"],
    )
