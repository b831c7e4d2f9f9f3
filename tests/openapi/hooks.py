"""Hooks of schemathesis for rules that a schema cannot express.

A schema cannot express that base64 is an image, that a handler is loaded, or that the service issued a cursor. In
requests that are meant to be valid these values are replaced by valid ones, so that a refusal is a finding.
"""

import re
from typing import Any
from urllib.parse import urlsplit

import schemathesis
from jsonschema_rs import Draft202012Validator
from schemathesis import Case, GenerationMode, HookContext

from service.deliveries.egress_policy import Egress
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from tests.support.sample_media import image, uri, video

VALID_PROMPT = "a cat"
VALID_URL = "https://example.org/cat.png"
FORMS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
CONTAINERS = {"mp4": "mp4", "quicktime": "mov", "mov": "mov"}
UNKNOWN_VALUES = ("cursor",)
ENDS = ("until", "from")
"""Parameters that have to fit to another one: an end after the beginning, and a beginning before the end."""


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", **_: Any) -> None:
    """Replace values by valid ones in a request that is meant to be valid."""
    del context
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    _make_query_valid(case)
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}{case.id}"  # used once
    for path, make_valid in BODIES.items():
        if isinstance(case.body, dict) and re.fullmatch(path, case.operation.path):
            make_valid(case.body)


def _make_query_valid(case: "Case[Any]") -> None:
    """Give no cursor, half of a span of times, and stream what is stored, of all tasks."""
    query = {**(case.query or {})}
    for name in (*UNKNOWN_VALUES, *ENDS):
        query.pop(name, None)
    if "fault" in query and "status" in query:
        query["status"] = "dead"  # only those have a fault
    if case.operation.path == "/v1/events":
        query.pop("task", None)
        query["wait"] = 0
    case.query = query


def _make_resubmission_valid(body: dict[str, Any]) -> None:
    """Change what each model has: the document does not know that of the task."""
    body["params"] = {"prompt": VALID_PROMPT}


def _make_replay_valid(body: dict[str, Any]) -> None:
    """Count only: what a replay makes due would be tried by the next reconciliation, and its hosts do not answer."""
    body.pop("cursor", None)
    body.pop("until", None)  # it may be before `since`
    body |= {"handler": body.get("handler", "webhook"), "dry_run": True}


def _make_endpoint_valid(body: dict[str, Any]) -> None:
    for name in ("cursor", "until"):  # of another replay, or before `since`
        body.pop(name, None)
    if "since" in body:
        body["since"] = "2026-01-01T00:00:00Z"  # a time to come is refused
    if body.get("url") is not None:
        body["url"] = _address(body["url"])


def _make_task_valid(body: dict[str, Any]) -> None:
    params = body.get("params")
    if isinstance(params, dict):
        body["model"] = _model_of(body.get("model"), params)
        for number, subject in enumerate(params.get("subjects") or ()):
            subject["id"] = f"{subject['id'][:8]}{number}"  # each is another one
            subject["images"] = subject["images"][:1]  # all together have a maximum
        for holder in (params, *(params.get("subjects") or ())):
            for name in {"images", "videos"} & holder.keys():
                holder[name] = [_medium(item) for item in holder[name] or []]
        params.update({name: _address(params[name]) for name in ("wm_url", "callback_url") if name in params})
        if not str(params.get("prompt", VALID_PROMPT)).strip():
            params["prompt"] = VALID_PROMPT  # U+001C to U+001F are blank in Unicode, and not in the pattern's syntax
        if not params.get("videos", True):
            del params["videos"]
        params.update({name: int(value) for name, value in params.items() if isinstance(value, float)})
    for entry in body.get("notify") or []:
        _make_entry_valid(entry)


def _make_generation_valid(body: dict[str, Any]) -> None:
    """Make the one task of the list valid."""
    task = {"model": body.get("model"), **body["input"][0]}
    _make_task_valid(task)
    body["model"] = task["model"]


def _make_video_valid(body: dict[str, Any]) -> None:
    """Send no file, which needs a media type of its own, and let the model of each request take what is given."""
    reference = body.get("input_reference")
    if isinstance(reference, dict):
        body["input_reference"] = {"image_url": _address(reference.get("image_url", ""))}
    else:
        body.pop("input_reference", None)
    body.pop("model", None)  # the default one takes a reference, or none
    if not str(body.get("prompt", "")).strip():
        body["prompt"] = VALID_PROMPT


def _make_message_valid(body: dict[str, Any]) -> None:
    """Ask for the tools: the document says nothing of the protocol's messages."""
    body.clear()
    body |= {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def _model_of(model: Any, params: dict[str, Any]) -> Any:
    """Return `model` if it takes the parameters, else one that does: the schema of a task does not join the two."""
    models = [model, *known_models()] if model in known_models() else known_models()
    return next((each for each in models if Draft202012Validator(json_schema(each)).is_valid(params)), model)


def _make_entry_valid(entry: dict[str, Any]) -> None:
    if entry.get("handler") != "webhook":
        entry["handler"] = "log"
    if entry.get("url") is not None:
        entry["url"] = _address(entry["url"])


def _medium(item: str) -> str:
    kind, _, form = item.partition(";")[0].removeprefix("data:").partition("/")
    if not item.startswith("data:"):
        return _address(item)
    if kind == "image":
        return uri(f"image/{form}", image(FORMS[form]))
    return uri(f"video/{form}", video(CONTAINERS.get(form, "avi")))


BODIES = {
    "/v1/tasks": _make_task_valid,
    r"/v1/tasks/\{id\}/resubmit": _make_resubmission_valid,
    "/v1/deliveries/replay": _make_replay_valid,
    "/v1/endpoints.*": _make_endpoint_valid,
    "/model/v1/generation": _make_generation_valid,
    "/v1/videos": _make_video_valid,
    "/mcp": _make_message_valid,
}
"""What makes a body valid, by the pattern of its operation's path."""


def _address(text: str) -> str:
    """Return `text` if it is an allowed address, else one that is.

    No pattern distinguishes an IPv6 host from a bracket, or an internal address from another.
    """
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and parts.port != 0 and text.isprintable() and not Egress().refusal(text)
    except ValueError:
        valid = False
    return text if valid else VALID_URL
