"""Baseline: a Starlette application that reads and responds, on the same server as the service.

`python -m tests.benchmarks.baseline_server PORT`. It also serves as provider: it accepts every submission and
responds to every poll.
"""

import asyncio
import json
import sys
from itertools import count

import httpx
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.api.server import listen, serving

RUN_TIME = 1.0
"""Seconds that a task takes."""

numbers = count(100_000_000_000)
callbacks: set[asyncio.Task[None]] = set()
http = httpx.AsyncClient(trust_env=False, timeout=60)


async def read(request: Request) -> Response:
    """Read the body and respond 204."""
    await request.body()
    return Response(status_code=204)


async def task(request: Request) -> Response:
    """Respond to a poll: the task is completed."""
    return JSONResponse(completed(request.path_params["id"]))


async def create(request: Request) -> Response:
    """Respond to a submission: the task is accepted under a new id, and its callback follows."""
    params, upstream_id = json.loads(await request.body())["input"][0]["params"], f"d758n65{next(numbers)}"
    if address := params.get("callback_url"):
        calling = asyncio.create_task(call_back(address, completed(upstream_id) | {"payload": params["payload"]}))
        callbacks.add(calling)
        calling.add_done_callback(callbacks.discard)
    return JSONResponse({"id": upstream_id, "created_at": 1778069382, "status": "pending"})


async def call_back(address: str, body: dict[str, object]) -> None:
    """Report the end of a task to its callback address, RUN_TIME seconds after its submission."""
    await asyncio.sleep(RUN_TIME)
    (await http.post(address, json=body)).raise_for_status()


def completed(upstream_id: str) -> dict[str, object]:
    """Return a provider's body of a completed task."""
    video = {"type": "video", "url": f"https://media.example.org/{upstream_id}.mp4", "duration": 5, "jobId": "j1"}
    return {
        "id": upstream_id,
        "created_at": 1778069382,
        "status": "completed",
        "model": "viduq2_pro_reference",
        "output": [{"content": [video]}],
        "usage": {"cost": "0.20", "discount": 1},
        "metadata": {"in_queue_at": 1778069382, "upload_at": 1778069400, "completed_at": 1778069442},
    }


app = Starlette(
    routes=[
        Route("/healthz", read),
        Route("/callbacks/{token}", read, methods=["POST"]),
        Route("/v1/tasks", read, methods=["POST"]),
        Route("/model/v1/generation", create, methods=["POST"]),
        Route("/model/v1/generation/task/{id}", task),
    ]
)


async def serve(port: int) -> None:
    """Serve until killed."""
    async with serving(app, listen("127.0.0.1", port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
