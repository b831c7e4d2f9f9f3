"""Operations, parameters and answers as an OpenAPI document writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.api.openapi.schemas import TEXT, Schema, ref
from service.api.problems import MEDIA_TYPE
from service.api.query_params import LONGEST_WAIT, MOST_KEY, MOST_ROWS

Operation = dict[str, Any]
Headers = Mapping[str, Any]

RETRY_AFTER: Headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
LOCATION: Headers = {"Location": {"description": "Where the task is.", "required": True, "schema": TEXT}}
PREFERENCE_APPLIED: Headers = {"Preference-Applied": {"description": "The wait that was granted.", "schema": TEXT}}
CHALLENGE: Headers = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}

MEANINGS = {
    "400": "The body or a header cannot be read.",
    "401": "No key of this service.",
    "403": "Not for this caller.",
    "404": "There is none, or it is another client's.",
    "408": "The body did not arrive in time.",
    "409": "It is where this cannot be done; `detail` says why.",
    "413": "The body is too large.",
    "415": "Not plain `application/json`.",
    "422": "Faults, each with its place and its mend.",
    "500": "A fault of ours.",
    "502": "The upstream gave no clear answer.",
    "503": "Not now; try again.",
}
GUARDED = ("401", "403", "500", "503")
OPEN = ("500", "503")
HEADERS: Mapping[str, Headers] = {"401": CHALLENGE, "503": RETRY_AFTER}


def operation(
    name: str,
    tag: str,
    about: str,
    answers: Mapping[str, Any],
    *,
    parameters: Sequence[Schema] = (),
    body: Schema | None = None,
    refusals: Sequence[str] = (),
    guarded: bool = True,
) -> Operation:
    """Return an operation; `refusals` are statuses of problem answers, beside those that any operation may give."""
    statuses = {*refusals, *(GUARDED if guarded else OPEN)}
    return {
        "operationId": name,
        "tags": [tag],
        "summary": about,
        **({"parameters": list(parameters)} if parameters else {}),
        **({"requestBody": body} if body else {}),
        "responses": {**answers, **{status: _refusal(status) for status in sorted(statuses)}},
        **({} if guarded else {"security": []}),
    }


def answer(about: str, schema: Schema, *, headers: Headers | None = None) -> Schema:
    """Return an answer with a JSON body."""
    described = {"headers": dict(headers)} if headers else {}
    return {"description": about, **described, "content": {"application/json": {"schema": schema}}}


def json_body(schema: Schema) -> Schema:
    """Return a JSON body that must be sent."""
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def in_path(name: str, about: str, schema: Schema) -> Schema:
    """Return a parameter of the path."""
    return {"name": name, "in": "path", "required": True, "description": about, "schema": schema}


def in_query(name: str, about: str, schema: Schema) -> Schema:
    """Return a query parameter that may be left out."""
    return {"name": name, "in": "query", "description": about, "schema": schema}


def page_parameters() -> list[Schema]:
    """Return what asks for one page of a list."""
    rows = {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": 50}
    return [
        in_query("limit", "Rows at most.", rows),
        in_query("cursor", "A `next_cursor` of this list.", {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}),
    ]


def _refusal(status: str) -> Schema:
    headers = HEADERS.get(status)
    return {
        "description": MEANINGS[status],
        **({"headers": dict(headers)} if headers else {}),
        "content": {MEDIA_TYPE: {"schema": ref("Problem")}},
    }


ASKED_WAIT = in_query(
    "wait", "Seconds to wait for the task's end.", {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT}
)
IDEMPOTENCY_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Equal keys with equal bodies are one task; an equal key with another body is refused with 422.",
    "schema": {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": MOST_KEY},
}
PREFERRED_WAIT: Schema = {
    "name": "Prefer",
    "in": "header",
    "description": f"`wait=SECONDS`, at most {LONGEST_WAIT}, overrules `wait`; any other preference is passed over.",
    "schema": TEXT,
}
