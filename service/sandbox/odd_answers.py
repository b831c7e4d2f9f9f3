"""Answers in the manners that providers and gateways have: other words, shapes, encodings and envelopes."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.responses import JSONResponse, Response

from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

Body = dict[str, Any]
T = TypeVar("T")

SYNONYMS: Mapping[str, Sequence[str]] = {
    "queued": ("QUEUED", "Scheduled", "pending", "submitted", "in-queue"),
    "created": ("CREATED", "Submitted", "pending", "accepted"),
    "queueing": ("Queuing", "waiting", "PENDING"),
    "in_progress": ("In Progress", "RUNNING", "in-progress", "TASK_STATUS_PROCESSING"),
    "processing": ("Running", "PROCESSING", "generating"),
    "completed": ("Succeeded", "SUCCESS", "done", "finished", "TASK_STATUS_SUCCEED"),
    "success": ("Succeeded", "COMPLETED", "done", "Finished"),
    "failed": ("FAILED", "Error", "rejected", "timeout", "expired"),
}
"""Other words for each status of both providers."""

INPUTS = "A" * 300_000
_ERROR_STATUS = 500


@dataclass(kw_only=True, slots=True)
class AnswerWriter:
    """Writes the answers about tasks, in the manners that the switches request."""

    state: SandboxState

    def write(self, body: Body, task: Task, occasion: str) -> Response:
        """Return the response to a poll, or to a create with the occasion `create/N`."""
        hits = self.state.hits
        for switch, change in self._changes().items():
            if hits(switch, occasion):
                body = change(body, occasion)
        if hits("odd_ids", task.number):
            body = {name: _number(value) if name in {"id", "task_id"} else value for name, value in body.items()}
        if occasion.startswith("create/") and hits("bare_create_reply", occasion):
            body = {name: value for name, value in body.items() if name in {"id", "task_id"}}
        if hits("wrapped_answers", occasion):
            body = {"code": 0, "message": "success", "data": body}
        content = json.dumps(body).encode()
        if hits("odd_json", occasion):
            content = self._odd_json(content, occasion)
        return self._encoded(content, occasion)

    def other_task(self, body: Body) -> Response:
        """Return an answer that names another task."""
        return JSONResponse(body | {name: "another-task" for name in ("id", "task_id") if name in body})

    def error_in_200(self) -> Response:
        """Return a refusal with the status 200."""
        error = {"code": 402, "message": "Insufficient credits"}
        return JSONResponse({"status": error, "data": None})

    def with_error_status(self, body: Body) -> Response:
        """Return an answer with the status of a failed gateway."""
        return JSONResponse(body, _ERROR_STATUS)

    def _changes(self) -> Mapping[str, Callable[[Body, str], Body]]:
        return {
            "odd_words": self._other_word,
            "odd_progress": self._other_progress,
            "odd_reasons": self._other_reason,
            "odd_results": self._other_results,
        }

    def _draw(self, values: Sequence[T], name: str, occasion: str) -> T:
        return values[int(self.state.faults.draw(name, occasion) * len(values))]

    def _other_word(self, body: Body, occasion: str) -> Body:
        name = "state" if "state" in body else "status"
        return body | {name: self._draw(SYNONYMS.get(body[name], (body[name],)), "word", occasion)}

    def _other_progress(self, body: Body, occasion: str) -> Body:
        if not isinstance(body.get("progress"), float):
            return body
        percent = round(body["progress"] * 100)
        shapes = (f"{percent}%", f"{percent} %", str(body["progress"]), percent if percent > 1 else body["progress"])
        return body | {"progress": self._draw(shapes, "progress shape", occasion)}

    def _other_reason(self, body: Body, occasion: str) -> Body:
        """Return a failed task with its reason in another shape; Vidu's error code stays."""
        error = body.get("error")
        message = error.get("error_message") if isinstance(error, dict) else body.get("err_code")
        if not message:
            return body
        shapes: tuple[Body, ...] = (
            {"error": None, "message": message},
            {"error": None, "fail_reason": message},
            {"error": {"msg": message}},
            {"error": [{"code": 1, "message": message}, message]},
            {"error": {"en": message, "zh": message}},
        )
        return body | self._draw(shapes, "reason shape", occasion)

    def _other_results(self, body: Body, occasion: str) -> Body:
        """Return a completed task with its results in another shape; one of them has no address."""
        if body.get("creations"):
            return body | {"creations": [{"id": "1", "url": ""}, *body["creations"]]}
        if not body.get("output"):
            return body
        item = body["output"][0]["content"][0]
        parts = urlsplit(item["url"])
        relative = f"{parts.path}?{parts.query}" if parts.query else parts.path
        shapes: tuple[Any, ...] = (
            [{"content": [{"type": "video", "url": None, "error": "filtered"}, item]}],
            [{"content": [item | {"url": f" {item['url']}\n"}]}],
            [{"content": [item | {"url": relative}]}],
            {"content": [item]},
            [item],
            item["url"],
        )
        return body | {"output": self._draw(shapes, "result shape", occasion)}

    def _odd_json(self, content: bytes, occasion: str) -> bytes:
        first = content[1:]
        shapes = (
            b"\xef\xbb\xbf" + content,
            b'{"seed": NaN, ' + first,
            b'{"id": null, ' + first,
            b'{"prompt": "half a pair \\ud83c", ' + first,
            b'{"path": "C:\\video", ' + first,
            content + b"\n<!-- 12 ms -->",
            b'{"inputs": "' + INPUTS.encode() + b'", ' + first,
        )
        return self._draw(shapes, "json shape", occasion)

    def _encoded(self, content: bytes, occasion: str) -> Response:
        """Return the response, perhaps with a wrong coding, or compressed, with or without the header."""
        if not self.state.hits("odd_encoding", occasion):
            return Response(content, media_type="application/json")
        coding = self._draw(("utf-8", "aws-chunked", "gzip", ""), "coding", occasion)
        packed = gzip.compress(content) if coding in {"gzip", ""} else content
        return Response(packed, media_type="application/json", headers={"Content-Encoding": coding} if coding else {})


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdigit() else value
