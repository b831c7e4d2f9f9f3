"""JSON of a task in both shapes: the Vtrix task body and Vidu's query body."""

import hashlib
from datetime import UTC, datetime
from typing import Any

from service.sandbox.signed_urls import ResultUrls, UrlSigner
from service.sandbox.tasks import DISCOUNT, FPS, State, Task

VTRIX_STATUS = {
    State.CREATED: "queued",
    State.QUEUEING: "queued",
    State.PROCESSING: "in_progress",
    State.SUCCESS: "completed",
    State.FAILED: "failed",
}
_CREDITS_PER_CENT = 2


def vtrix_body(task: Task, signer: UrlSigner, now: datetime) -> dict[str, Any]:
    """Return the Vtrix task body of a create reply or a poll."""
    duration: int | str = task.spec.seconds if signer.numeric_duration else str(task.spec.seconds)
    body: dict[str, Any] = {
        "id": task.id,
        "created_at": int(task.created_at.timestamp()),
        "status": VTRIX_STATUS[task.state],
        "model": task.model,
        "metadata": _metadata(task),
    }
    if task.state is State.PROCESSING:
        body["progress"] = task.progress(now)
    if task.state is State.SUCCESS:
        results = signer.sign_results(task) if signer.has_result(task) else []
        body["output"] = [{"content": [_content(task, urls, duration) for urls in results]}] if results else []
        body["usage"] = {"cost": task.cost, "discount": DISCOUNT}
    if task.error is not None:
        body["error"] = vtrix_error(task.error)
    return body


def vtrix_error(error: tuple[str, str]) -> dict[str, Any]:
    """Return a task's error in the gateway's shape."""
    code, message = error
    return {"code": code, "error_message": message}


def callback_body(task: Task, signer: UrlSigner, now: datetime) -> dict[str, Any]:
    """Return the Vtrix task body of a callback, with the caller's payload and meta_data."""
    passed = {"payload": task.spec.payload, "meta_data": task.spec.meta_data}
    return vtrix_body(task, signer, now) | {name: value for name, value in passed.items() if value is not None}


def native_body(task: Task, signer: UrlSigner) -> dict[str, Any]:
    """Return Vidu's query body, which is also its callback body. Its id is the task's id at Vidu."""
    return {
        "id": task.native_id,
        "state": str(task.state),
        "err_code": task.error[0] if task.error else "",
        "credits": credits_of(task),
        "payload": task.spec.payload or "",
        "bgm": task.spec.bgm,
        "off_peak": task.spec.off_peak,
        "creations": _creations(task, signer) if task.state is State.SUCCESS and signer.has_result(task) else [],
    }


def listed_body(task: Task, signer: UrlSigner) -> dict[str, Any]:
    """Return an entry of Vidu's task list: the query body and the parameters, without inline media."""
    body = native_body(task, signer)
    width, height = task.spec.frame
    video = {"duration": float(task.spec.seconds), "fps": FPS, "resolution": {"width": width, "height": height}}
    creations = [creation | {"moderation_url": [], "video": video} for creation in body["creations"]]
    named = {"type": task.spec.kind, "template": task.spec.template, "key_id": key_id(task.key)}
    return body | described(task) | named | {"creations": creations}


def key_id(key: str) -> str:
    """Return a number that names an API key and does not reveal it."""
    return str(int.from_bytes(hashlib.sha256(key.encode()).digest()[:7]))


def described(task: Task) -> dict[str, Any]:
    """Return the parameters of a Vidu task with all defaults, as the create reply and the task list show them."""
    spec = task.spec
    return {
        "model": task.model,
        "prompt": spec.prompt,
        "images": list(spec.images),
        "duration": spec.seconds,
        "seed": spec.seed,
        "aspect_ratio": spec.aspect_ratio,
        "resolution": spec.resolution,
        "bgm": spec.bgm,
        "audio": spec.audio,
        "movement_amplitude": spec.movement_amplitude,
        "payload": spec.payload or "",
        "off_peak": spec.off_peak,
        "watermark": spec.watermark,
        "credits": credits_of(task),
        "created_at": vidu_time(task.created_at),
        **({"style": spec.style} if spec.style else {}),
    }


def vidu_time(at: datetime) -> str:
    """Return an aware time as Vidu writes it: in UTC with microseconds and a Z."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def credits_of(task: Task) -> int:
    """Return the price in Vidu credits."""
    return task.spec.cents * _CREDITS_PER_CENT


def with_loose_types(body: dict[str, Any]) -> dict[str, Any]:
    """Return a Vtrix body with the loose types that occur: numbers as strings, the error as a bare string."""
    loose = {name: str(value) if isinstance(value, int | float) else value for name, value in body.items()}
    if "error" in body:
        loose["error"] = body["error"]["error_message"]
    if body.get("output"):
        content = [
            item | ({"duration": str(item["duration"])} if "duration" in item else {})
            for item in body["output"][0]["content"]
        ]
        loose["output"] = [{"content": content}]
        extra = {"quantity": "1", "unit_price": body["usage"]["cost"], "extra_info": {}}
        loose["usage"] = body["usage"] | {"discount": str(DISCOUNT)} | extra
    return loose


def _metadata(task: Task) -> dict[str, int]:
    times = {"in_queue_at": task.created_at, "upload_at": task.ended_at, "completed_at": task.ended_at}
    return {name: int(at.timestamp()) for name, at in times.items() if at is not None}


def _content(task: Task, urls: ResultUrls, duration: int | str) -> dict[str, Any]:
    if task.spec.picture:
        return {"type": "image", "url": urls.cover, "jobId": task.native_id}
    content = {"type": "video", "url": urls.video, "duration": duration, "jobId": task.native_id}
    return content | ({"watermarked_url": urls.watermarked} if urls.watermarked else {})


def _creations(task: Task, signer: UrlSigner) -> list[dict[str, str]]:
    return [
        {
            "id": _creation_id(task, number),
            "url": urls.video,
            "cover_url": urls.cover,
            "watermarked_url": urls.watermarked or "",
        }
        for number, urls in enumerate(signer.sign_results(task), 1)
    ]


def _creation_id(task: Task, number: int) -> str:
    """Return the id of a result: the numbers after that of its task, which has another form with odd ids."""
    return str(int(task.native_id) + number) if task.native_id.isdecimal() else f"{task.native_id}-{number}"
