"""Example bodies of requests and responses, by their model. A test validates each against its schema."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from service.api.content_schemas import ContentBytes, Link, LinkRequest
from service.api.count_schemas import StatusCounts
from service.api.document_schemas import DocsPage, OpenApiDocument
from service.api.endpoint_request_schemas import EndpointPatch, EndpointRequest, MissedRequest, RotateRequest
from service.api.endpoint_schemas import Endpoint, EndpointPage, EndpointTest, EndpointWithSecret, MissedReport
from service.api.event_schemas import StreamedEvent
from service.api.openapi.handler_examples import HANDLER_EXAMPLES
from service.api.openapi.video_examples import VIDEO_EXAMPLES
from service.api.openapi.vtrix_examples import VTRIX_EXAMPLES
from service.api.problems import TYPE_PREFIX
from service.api.replay_schemas import ReplayReport, ReplayRequest
from service.api.request_schemas import ProviderCallback, ResubmitRequest, TaskRequest
from service.api.schemas import (
    Counts,
    Delivery,
    DeliveryPage,
    Event,
    HistoryPage,
    LoginLink,
    MetricsText,
    Model,
    ModelList,
    ProcessState,
    TaskPage,
    TaskWithPayload,
)
from service.api.usage_schemas import UsageReport
from service.domain.models.catalog import known_models

TASK_ID = "0198c2a1d4e57b3c9f0e6a8b12c4d7f3"
EVENT_ID = "0198c2a3f1b27d409a5c3e7f80d1b6a4"
DELIVERY_ID = "0198c2a3f1b37e518c6d2f9a04b7c8e5"
ENDPOINT_ID = "ep_0198c2a0c7d17f2e8b3a5d9e1f60c4b2"
CALLBACK_TOKEN = "WyIwMTk4YzJhMSIsMV0.aDq3Zg.signature"  # noqa: S105 - of no key
CURSOR = "MDE5OGMyYTE"

_MODEL = known_models()[0]
_INPUTS = {"prompt": "The cat from the photo surfs at dawn", "images": ["https://example.org/cat.png"], "duration": 8}
_CREATED, _SUBMITTED, _SETTLED = (f"2026-05-06T12:0{minute}:42.000Z" for minute in (0, 1, 4))

_STORED = {
    "media_type": "video/mp4",
    "bytes": 2_097_152,
    "sha256": "949e2b56fa7f5061f8475448cf53007271fc22b55c484a5f6e10c14125f062d1",
}
TASK = {
    "id": TASK_ID,
    "client": "shop",
    "model": _MODEL,
    "status": "completed",
    "upstream_id": "d758n65e878c73cmdg20",
    "params": _INPUTS,
    "progress": 1.0,
    "output": [
        {"type": "video", "url": "https://cdn.example.org/v.mp4", "archived_url": "file:///srv/videos/v.mp4", **_STORED}
    ],
    "error": None,
    "warnings": [],
    "usage": {"cost": "0.56", "discount": 0.9},
    "settled_by": "callback",
    "unconfirmed": False,
    "note": None,
    "resubmission_of": None,
    "created_at": _CREATED,
    "submitted_at": _SUBMITTED,
    "settled_at": _SETTLED,
    "deadline_at": "2026-05-06T14:00:42.000Z",
}
_METADATA = {"chat": 42}

_TRIED = {
    "id": DELIVERY_ID,
    "event_id": EVENT_ID,
    "handler": "webhook",
    "status": "dead",
    "attempts": 9,
    "due_at": None,
    "fault": "destination",
    "last_error": "the address answered 500",
    "finished_at": "2026-05-07T13:04:42.000Z",
    "requested": True,
    "endpoint_id": None,
}
_DELIVERY = _TRIED | {
    "task_id": TASK_ID,
    "client": "shop",
    "event_type": "task.completed",
    "created_at": _SETTLED,
}
_HISTORY = [
    {"at": _CREATED, "kind": "created", "client": "shop"},
    {"at": _CREATED, "kind": "wait", "reason": "throttled", "count": 1, "last_at": _CREATED, "detail": None},
    {"at": _SETTLED, "kind": "callback", "submission": 1, "verdict": "accepted"},
    {"at": _SETTLED, "kind": "poll", "outcome": "completed"},
    {"at": _SETTLED, "kind": "event", "id": EVENT_ID, "type": "task.completed", "data": TASK},
    {"at": _SETTLED, "kind": "delivery", **_TRIED},
    {
        "at": _SETTLED,
        "kind": "attempt",
        "delivery_id": DELIVERY_ID,
        "handler": "webhook",
        "attempt": 1,
        "outcome": "retry",
        "error": "the address answered 500",
        "finished_at": _SETTLED,
        "answer_status": 500,
        "answer_body": "no space left on device",
    },
]
_DESCRIBED = {
    "id": _MODEL,
    "object": "model",
    "owned_by": "vidu",
    "parameters": {"type": "object", "properties": {"prompt": {"type": "string"}}, "required": ["images", "prompt"]},
}

_ENDPOINT = {
    "id": ENDPOINT_ID,
    "client": "shop",
    "url": "https://example.org/hook",
    "events": ["task.completed", "task.failed"],
    "description": "Orders",
    "headers": ["Authorization"],
    "rate": "30/s",
    "paused": False,
    "disabled": False,
    "disabled_at": None,
    "disabled_reason": None,
    "old_secrets_until": None,
    "created_at": _CREATED,
    "updated_at": _CREATED,
    "health": {
        "last_success_at": _SETTLED,
        "last_failure_at": None,
        "last_failure_status": None,
        "last_failure_error": None,
        "consecutive_failures": 0,
        "failing_since": None,
        "recent": {"succeeded": 12, "failed": 0},
    },
}
_SECRET = {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_SUMS = {"tasks": 12, "cost": "6.72", "unpriced": 0, "without_result": 1, "without_result_cost": "0.56"}
_EVENT = {
    "id": EVENT_ID,
    "type": "task.completed",
    "timestamp": _SETTLED,
    "data": {"task": TASK, "payload": None, "metadata": _METADATA, "client": "shop"},
}

EXAMPLES: Mapping[type[BaseModel], Any] = {
    EndpointRequest: {
        "url": "https://example.org/hook",
        "events": ["task.completed", "task.failed"],
        "description": "Orders",
        "headers": {"Authorization": "Bearer of-the-shop"},
    },
    EndpointPatch: {"paused": True},
    RotateRequest: {"overlap_seconds": 86_400},
    MissedRequest: {"since": _CREATED, "dry_run": True},
    **HANDLER_EXAMPLES,
    Endpoint: _ENDPOINT,
    EndpointWithSecret: _ENDPOINT | _SECRET,
    EndpointPage: {"data": [_ENDPOINT], "next_cursor": None},
    EndpointTest: {
        "delivered": True,
        "status": 204,
        "answer": "",
        "error": None,
        "seconds": 0.214,
        "message_id": "msg_test_0198c2a3f1b37e518c6d2f9a04b7c8e5",
    },
    MissedReport: {
        "dry_run": True,
        "matched": 1,
        "without_delivery": 1,
        "dead": 0,
        "created": 0,
        "replayed": 0,
        "sample": [EVENT_ID],
        "last_due_at": None,
        "next_cursor": None,
    },
    TaskRequest: {
        "model": _MODEL,
        "params": _INPUTS,
        "metadata": _METADATA,
        "notify": [{"handler": "webhook", "url": "https://example.org/hook", "events": ["task.completed"]}],
    },
    ProviderCallback: {"id": "d758n65e878c73cmdg20", "status": "completed"},
    TaskWithPayload: TASK | {"metadata": _METADATA, "payload": None},
    TaskPage: {"data": [TASK], "next_cursor": CURSOR},
    HistoryPage: {"data": _HISTORY, "next_cursor": None},
    Delivery: _DELIVERY,
    ReplayRequest: {"handler": "webhook", "receiver": "example.org", "since": _CREATED, "dry_run": True},
    ReplayReport: {
        "dry_run": True,
        "matched": 1,
        "replayed": 0,
        "running": 0,
        "changed": 0,
        "secret_deleted": 0,
        "erased": 0,
        "by_status": {"dead": 1},
        "by_handler": {"webhook": 1},
        "sample": [DELIVERY_ID],
        "last_due_at": None,
        "next_cursor": None,
    },
    ContentBytes: "",
    LinkRequest: {"expires_in": 3600},
    LoginLink: {
        "url": "https://boomerang.example.org/sign-in/local~h2Vx9~1778069982.Zm9v",
        "expires_at": "2026-05-06T12:19:42.000Z",
    },
    Link: {"url": f"https://boomerang.example.org/links/{CALLBACK_TOKEN}", "expires_at": "2026-05-06T13:05:00.000Z"},
    DeliveryPage: {"data": [_DELIVERY], "next_cursor": None},
    Event: _EVENT,
    StreamedEvent: {"id": "42", "event": "task.completed", "data": json.dumps(_EVENT)},
    StatusCounts: {"data": [{"status": "completed", "count": 1000, "more": True}]},
    ResubmitRequest: {"params": {"duration": 10}},
    UsageReport: {
        "from": "2026-05-01",
        "to": "2026-05-31",
        "data": [{"day": "2026-05-06", "model": _MODEL, "client": "shop", **_SUMS}],
        "total": _SUMS,
        "next_cursor": None,
    },
    Model: _DESCRIBED,
    ModelList: {"data": [_DESCRIBED], "object": "list"},
    Counts: {"swept": 0, "submitted": 1, "polled": 2, "dispatched": 3},
    ProcessState: {"status": "ready"},
    MetricsText: 'boomerang_tasks{status="queued"} 1.0\n',
    **VTRIX_EXAMPLES,
    **VIDEO_EXAMPLES,
    DocsPage: "<!doctype html><title>Boomerang API</title>",
    OpenApiDocument: {"openapi": "3.1.0", "info": {"title": "Boomerang", "version": "1"}, "paths": {}},
}


def problem_example(status: int, detail: str) -> dict[str, Any]:
    """Return an example of a problem of RFC 9457 with `status` and `detail`; a 422 has one fault."""
    faults = [{"loc": ["params", "duration"], "msg": "must be from 0 to 10, is 11: choose one in that range"}]
    known = status == HTTPStatus.UNPROCESSABLE_ENTITY
    return {
        "type": f"{TYPE_PREFIX}invalid-params" if known else "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": "1 fault; see errors" if known else detail,
        **({"errors": faults} if known else {}),
    }
