"""One client who floods the service with pictures, beside another one who sends a single picture."""

import base64
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import anyio
from PIL import Image

from service.storage import queue_limit
from tests.security.catalogue import attempt, require
from tests.security.environment import ALICE, BOB, ServiceUnderTest, bearer, service_under_test
from tests.security.on_media import PNG, _chunk
from tests.support.sample_media import image

MB = 1024 * 1024
FLOOD = 6
SCANS = 20
LIMIT = 40 * MB
"""In place of the 512 MB of the service, which take a slow machine more than the time of an attempt."""

TIMEOUT = 60.0
"""Seconds within which a request of the flood is answered."""


def _uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def slow_picture() -> bytes:
    """Return a JPEG of less than 150 KB that takes a decoder a second or more."""
    buffer = BytesIO()
    Image.new("RGB", (4096, 4096), (10, 20, 30)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * SCANS + data[-2:]


async def _post(g: ServiceUnderTest, key: str, picture: str) -> int:
    body = g.task_body(images=[picture])
    return (await g.http.post("/v1/tasks", json=body, headers=bearer(key), timeout=TIMEOUT)).status_code


@attempt("flooding", "slow pictures of one client before one picture of another")
async def slow_pictures(home: Path) -> str:
    """Send many pictures that take long to decode: the picture of another client does not wait for all of them."""
    answered: list[str] = []

    async def send(g: ServiceUnderTest, key: str, picture: str) -> None:
        require(await _post(g, key, picture) == 202, "a picture is refused")
        answered.append(key)

    async with service_under_test(home) as g, anyio.create_task_group() as group:
        slow = _uri("image/jpeg", slow_picture())
        for _ in range(FLOOD):
            group.start_soon(send, g, ALICE, slow)
        await anyio.sleep(0.5)
        await send(g, BOB, _uri("image/png", image("PNG", (640, 480))))
        before = answered.count(ALICE)
    require(before <= FLOOD // 2, f"{before} of {FLOOD} pictures of the flood came before it")
    return f"{before} of {FLOOD} pictures of the flood were answered before the other client's"


@attempt("flooding", "the same picture of 1 MB, 60 times")
async def equal_pictures(home: Path) -> str:
    """Send large requests until they are refused: the disk holds one picture, and the queue its limit at most."""
    picture = _uri("image/png", PNG[:33] + _chunk(b"tEXt", b"notes\0" + b"\0" * MB) + PNG[33:])
    with patch.object(queue_limit, "MAX_QUEUED_BYTES", LIMIT):
        async with service_under_test(home, MAX_IN_FLIGHT="1") as g:
            statuses = [await _post(g, ALICE, picture) for _ in range(60)]
            other = await _post(g, BOB, _uri("image/png", PNG))
            size = _database_size(home)
    accepted = statuses.count(202)
    require(statuses == [202] * accepted + [429] * (60 - accepted), f"answered {set(statuses)}")
    require(other == 202, f"the other client got {other}")
    require(accepted * MB <= LIMIT, f"{accepted} of 1 MB were accepted")
    require(size < 8 * MB, f"the database has {size // MB} MB")
    return f"{accepted} accepted, then 429; the database has {size / MB:.1f} MB"


def _database_size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.iterdir() if path.name.startswith("boomerang.db"))
