"""What schemathesis is told about values that fit the schema and that only the service can judge.

A schema cannot say that base64 is an image, that a handler is loaded, or that a cursor is one of ours. Where all else
of a request is meant to be good, these are made good as well, so that a refusal of it is a finding.
"""

from typing import Any
from urllib.parse import urlsplit

import schemathesis
from schemathesis import Case, GenerationMode, HookContext

from service.deliveries.egress import Egress
from tests.support.sample_media import image, uri, video

GOOD_URL = "https://example.org/cat.png"
FORMS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}
CONTAINERS = {"mp4": "mp4", "quicktime": "mov", "mov": "mov"}
NOT_OURS = ("cursor",)


@schemathesis.hook
def before_call(context: HookContext, case: "Case[Any]", **_: Any) -> None:
    """Make good what the schema cannot say, in a request that is meant to be accepted."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    for name in NOT_OURS:
        if isinstance(case.query, dict):
            case.query.pop(name, None)
    if "Idempotency-Key" in (case.headers or {}):
        case.headers["Idempotency-Key"] = f"{case.headers['Idempotency-Key'][:200]}{case.id}"  # used once
    if isinstance(case.body, dict) and context.operation and context.operation.path == "/v1/tasks":
        _mend_task(case.body)


def _mend_task(body: dict[str, Any]) -> None:
    params = body.get("params")
    if isinstance(params, dict):
        for name in ("images", "videos"):
            params[name] = [_medium(item) for item in params.get(name) or []]
        params.update({name: _address(params[name]) for name in ("wm_url", "callback_url") if name in params})
        if not params["videos"]:
            del params["videos"]
        params.update({name: int(value) for name, value in params.items() if isinstance(value, float)})
    for entry in body.get("notify") or []:
        _mend_entry(entry)


def _mend_entry(entry: dict[str, Any]) -> None:
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


def _address(text: str) -> str:
    """Return `text` where it is an address that may be dialled, else one that is.

    No pattern tells an IPv6 host from a bracket, or an internal address from another.
    """
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0 and text.isprintable() and not Egress().refusal(text)
    except ValueError:
        good = False
    return text if good else GOOD_URL
