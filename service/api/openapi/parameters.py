"""The parameters of requests in the OpenAPI document."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.api.deliveries import FAULTS, STATUSES
from service.api.openapi import examples
from service.api.query_params import MAX_INTEGER, MAX_KEY, MAX_ROWS, MAX_TEXT
from service.api.schema_types import ID_PATTERN
from service.domain.search import MAX_TEXT as MAX_SEARCH
from service.domain.task import Status

ID = {"type": "string", "pattern": ID_PATTERN}
TEXT = {"type": "string"}
NAME = {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": MAX_TEXT}
SEARCH = {**NAME, "pattern": "^[ -~]*[!-~][ -~]*$", "maxLength": MAX_SEARCH}
KEY = {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": MAX_KEY}
CURSOR_TEXT = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
SECONDS = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
TIME = {"type": "string", "format": "date-time"}
DAY = {"type": "string", "format": "date"}
ROWS = {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": 50}
TASK_STATUS = {"type": "string", "enum": [status.value for status in Status]}
DELIVERY_STATUS = {"type": "string", "enum": list(STATUSES)}
FAULT = {"type": "string", "enum": list(FAULTS)}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a request; `schema` is JSON Schema. Only path parameters are required, and have an `example`."""

    name: str
    location: Literal["path", "query", "header"]
    description: str
    schema: Mapping[str, Any]
    example: str | None = None


def in_path(name: str, description: str, schema: Mapping[str, Any], *, example: str) -> Parameter:
    """Return a required path parameter."""
    return Parameter(name=name, location="path", description=description, schema=schema, example=example)


def in_query(name: str, description: str, schema: Mapping[str, Any]) -> Parameter:
    """Return an optional query parameter."""
    return Parameter(name=name, location="query", description=description, schema=schema)


TASK_ID = in_path("id", "Id of the task.", ID, example=examples.TASK_ID)
DELIVERY_ID = in_path("id", "Id of the delivery.", ID, example=examples.DELIVERY_ID)
ENDPOINT_ID = in_path("id", "Id of the endpoint.", ID, example=examples.ENDPOINT_ID)
WAIT = in_query(
    "wait",
    "Maximum seconds to wait until the task is settled; more than WAIT_MAX (25 by default) is shortened to it.",
    SECONDS,
)
PAGE = (
    in_query("limit", "Maximum number of rows.", ROWS),
    in_query("cursor", "The `next_cursor` of the previous page.", CURSOR_TEXT),
)
INCLUDE = in_query(
    "include",
    "`metadata` adds the metadata of the tasks. A page with more than 1 MiB ends early, with a `next_cursor`.",
    {"type": "string", "enum": ["metadata"]},
)
POSITION = in_query("cursor", "The `next_cursor` of the previous page.", CURSOR_TEXT)
IDEMPOTENCY_KEY = Parameter(
    name="Idempotency-Key",
    location="header",
    description="A repeated key with the same JSON value returns the same task; with another one it is refused (422).",
    schema=KEY,
)
TASK_FILTERS = (
    in_query("status", "Only rows with this status; several with commas.", TASK_STATUS),
    in_query("model", "Only tasks of this model.", NAME),
    in_query("handler", "Only tasks of which an event went to this handler.", NAME),
    in_query("client", "Only tasks of this client; only an admin may name another one.", NAME),
    in_query("since", "Only tasks that were created at this time or later.", TIME),
    in_query("until", "Only tasks that were created before this time.", TIME),
    in_query(
        "q",
        "An id of the task or of the provider; else words of the prompt, all of which it has; or `metadata.key`, or "
        "`metadata.key=value`. A task is found by words from its acceptance on, the newest submission first; white "
        "space around the text does not count.",
        SEARCH,
    ),
)
IF_NONE_MATCH = Parameter(
    name="If-None-Match",
    location="header",
    description="An `ETag` that the client has: 304 while the task is the same.",
    schema=TEXT,
)
PREFER = Parameter(
    name="Prefer",
    location="header",
    description="`wait=SECONDS` is shortened like `wait` and takes precedence over it; other preferences are ignored.",
    schema=TEXT,
)
