"""The shapes of the API's bodies as JSON Schema 2020-12, for its OpenAPI document."""

from collections.abc import Sequence
from typing import Any, get_args

from service.core.routing import EVENT_NAMES, MAX_ENTRIES, WEBHOOK
from service.core.task import EventType, Source, Status
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.ports import Blame, Outcome
from service.web.deliveries import STATUSES
from service.web.problems import TYPE_PREFIX

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
MOMENT: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, in UTC, to the millisecond."}
URL: Schema = {"type": "string", "pattern": r"^https?://[^\s/?#]\S*$", "maxLength": 8192}
_64 = "[A-Za-z0-9+/]"
SECRET = f"^whsec_(({_64}{{4}}){{8,21}}({_64}{{2}}==)?|({_64}{{4}}){{8,20}}{_64}{{3}}=)$"


def ref(name: str) -> Schema:
    """Return a reference to the schema called `name`."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(schema: Schema) -> Schema:
    """Return the schema of a list whose items are of `schema`."""
    return {"type": "array", "items": schema}


def page_of(name: str) -> Schema:
    """Return the schema of one page of a list of `name`."""
    cursor = _nullable(TEXT, "Ask with it as `cursor` for the next page; null on the last one.")
    return _record({"data": listed(ref(name)), "next_cursor": cursor})


def component_schemas(*, allow_off_peak: bool) -> dict[str, Schema]:
    """Return every named schema; `allow_off_peak` as for the models."""
    models = {_params_name(name): _params(name, allow_off_peak=allow_off_peak) for name in known_models()}
    return models | {
        "TaskRequest": _task_request(),
        "NotifyEntry": _notify_entry(),
        "Task": TASK,
        "TaskWithPayload": TASK_WITH_PAYLOAD,
        "TaskError": TASK_ERROR,
        "Usage": USAGE,
        "OutputItem": OUTPUT_ITEM,
        "Artifact": ARTIFACT,
        "Delivery": DELIVERY,
        "Event": EVENT,
        "HistoryEntry": HISTORY_ENTRY,
        "Model": MODEL,
        "Problem": PROBLEM,
        "Fault": FAULT,
    }


def _nullable(schema: Schema, about: str = "") -> Schema:
    described = {"description": about} if about else {}
    if "$ref" in schema or "enum" in schema:
        return {"anyOf": [schema, {"type": "null"}]} | described
    return schema | {"type": [schema["type"], "null"]} | described


def _one_of(words: Sequence[str], about: str = "") -> Schema:
    return {"type": "string", "enum": list(words)} | ({"description": about} if about else {})


def _record(properties: Schema, *, optional: Sequence[str] = (), about: str = "") -> Schema:
    """Return the schema of an answer's object: open, because later versions may add to it."""
    required = [name for name in properties if name not in optional]
    described = {"description": about} if about else {}
    return {"type": "object", **described, "properties": properties, "required": required}


def _params_name(model: str) -> str:
    return f"{model}.params"


def _params(model: str, *, allow_off_peak: bool) -> Schema:
    schema = json_schema(model, allow_off_peak=allow_off_peak)
    return {name: value for name, value in schema.items() if name != "$schema"}


def _task_request() -> Schema:
    return {
        "type": "object",
        "description": "No text in it may hold the character U+0000.",
        "properties": {
            "model": _one_of(known_models()),
            "params": {"anyOf": [ref(_params_name(name)) for name in known_models()]},
            "metadata": {
                "type": "object",
                "description": "The caller's own, at most 64 KiB of JSON; it comes back in the task and its events.",
            },
            "notify": _nullable(
                listed(ref("NotifyEntry")) | {"maxItems": MAX_ENTRIES}, "Who else is to hear of the task's events."
            ),
        },
        "required": ["model", "params"],
        "additionalProperties": False,
    }


def _notify_entry() -> Schema:
    events = listed(_one_of(EVENT_NAMES)) | {"minItems": 1, "description": "Left out: all that the handler hears."}
    common = {
        "url": _nullable(URL),
        "events": _nullable(events),
        "secret": _nullable(TEXT | {"pattern": SECRET}, "Signs instead of WEBHOOK_SECRETS."),
    }
    webhook = {"handler": {"const": WEBHOOK}, **common, "url": URL}
    other = {"handler": TEXT | {"not": {"const": WEBHOOK}, "description": "The name of a loaded handler."}, **common}
    return {
        "type": "object",
        "oneOf": [
            {"properties": webhook, "required": ["handler", "url"], "additionalProperties": False},
            {"properties": other, "required": ["handler"], "description": "May have fields of the handler's own."},
        ],
    }


ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
TASK_ERROR = _record(
    {"code": TEXT, "message": TEXT}, about="The upstream's own code and words, or ours (`submission_unknown`)."
)
USAGE = _record(
    {
        "cost": _nullable(TEXT, "US dollars, as decimal digits."),
        "discount": _nullable({"type": "number"}),
    }
)
OUTPUT_ITEM = _record(
    {
        "type": TEXT,
        "url": TEXT | {"description": "The upstream's address, which may soon expire."},
        "archived_url": TEXT | {"description": "Where the `archive` handler keeps the file."},
    },
    optional=["archived_url"],
    about="One result; what else the upstream tells of it stands beside.",
)
TASK = _record(
    {
        "id": ID,
        "model": TEXT,
        "status": _one_of([status.value for status in Status]),
        "upstream_id": _nullable(TEXT),
        "params": {
            "type": "object",
            "description": "As given; in place of each inline medium its type, size and hash.",
        },
        "metadata": {"type": "object"},
        "progress": _nullable({"type": "number", "minimum": 0, "maximum": 1}),
        "output": listed(ref("OutputItem")),
        "error": _nullable(ref("TaskError")),
        "warnings": listed(TEXT),
        "usage": _nullable(ref("Usage")),
        "settled_by": _nullable(_one_of([source.value for source in Source])),
        "unconfirmed": {"type": "boolean", "description": "Only a callback told the end: no GET could confirm it."},
        "note": _nullable(TEXT, "What the task waits for, when it waits for something."),
        "resubmission_of": _nullable(TEXT, "The task that this one repeats."),
        "created_at": MOMENT,
        "submitted_at": _nullable(MOMENT),
        "settled_at": _nullable(MOMENT),
        "deadline_at": MOMENT,
    }
)
TASK_WITH_PAYLOAD: Schema = {
    "allOf": [
        ref("Task"),
        _record({"payload": _nullable(TEXT, "The caller's own `params.payload`.")}),
    ]
}
ARTIFACT = _record(
    {
        "url": TEXT,
        "archived_url": TEXT,
        "sha256": TEXT,
        "bytes": WHOLE,
        "media_type": TEXT,
    },
    about="What a handler has kept of the output.",
)
DELIVERY = _record(
    {
        "id": ID,
        "task_id": ID,
        "client": TEXT,
        "event_id": TEXT,
        "event_type": _one_of(EVENT_NAMES),
        "handler": TEXT,
        "status": _one_of(STATUSES),
        "attempts": WHOLE | {"description": "Since the last replay."},
        "due_at": _nullable(MOMENT),
        "fault": _nullable(_one_of(get_args(Blame), "Whose fault a dead letter is.")),
        "last_error": _nullable(TEXT),
        "created_at": MOMENT,
        "finished_at": _nullable(MOMENT),
    },
    about="One event for one handler.",
)
EVENT = _record(
    {
        "type": _one_of([each.value for each in EventType]),
        "timestamp": MOMENT,
        "data": _record(
            {
                "task": ref("Task"),
                "payload": _nullable(TEXT),
                "metadata": {"type": "object"},
                "client": TEXT | {"description": "Whose task it is: one secret may sign for all clients."},
            }
        ),
    },
    about="What the `webhook` handler posts, signed as Standard Webhooks says.",
)


def _note(kind: str, properties: Schema, *, optional: Sequence[str] = ()) -> Schema:
    return _record({"at": MOMENT, "kind": {"const": kind}, **properties}, optional=optional)


HISTORY_ENTRY: Schema = {
    "oneOf": [
        _note(
            "event",
            {
                "id": TEXT,
                "type": _one_of(EVENT_NAMES),
                "data": {"allOf": [ref("Task"), _record({"artifact": ref("Artifact")}, optional=["artifact"])]},
            },
        ),
        _note("callback", {"submission": WHOLE, "verdict": TEXT}),
        _note("poll", {"outcome": TEXT}),
        _note(
            "delivery",
            {name: DELIVERY["properties"][name] for name in ("id", "event_id", "handler", "status", "attempts")}
            | {name: DELIVERY["properties"][name] for name in ("due_at", "fault", "last_error", "finished_at")},
        ),
        _note(
            "attempt",
            {
                "delivery_id": TEXT,
                "handler": TEXT,
                "attempt": WHOLE | {"minimum": 1},
                "outcome": _one_of(get_args(Outcome)),
                "error": _nullable(TEXT),
                "finished_at": MOMENT,
            },
        ),
    ]
}
MODEL = _record(
    {"id": TEXT, "parameters": {"type": "object", "description": "The `params` of a task, as JSON Schema 2020-12."}}
)
FAULT = _record({"loc": listed({"type": ["string", "integer"]}), "msg": TEXT}, about="One fault: where, and its mend.")
PROBLEM = _record(
    {
        "type": TEXT | {"description": f"`{TYPE_PREFIX}...`, or `about:blank` where the status says it all."},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": TEXT,
        "errors": listed(ref("Fault")),
        "error_id": TEXT | {"description": "Under which our log has an unforeseen fault."},
    },
    optional=["detail", "errors", "error_id"],
    about="RFC 9457; `errors` holds every fault of the request at once.",
)
