"""Tasks submitted through the API, each with an inline image."""

import json
import os
from base64 import b64encode
from io import BytesIO

from PIL import Image

from tests.benchmarks.environment import Stage, lasting
from tests.benchmarks.load import request
from tests.benchmarks.table import Pairs, Row, rate

SIDE = 258
"""Pixels a side of an image of noise, which no format makes smaller: 200 KB."""


async def submits(stage: Stage) -> list[Row]:
    """Return submissions a second, each checked in full and durable, beside a bare endpoint that reads the body."""
    figures, floors = [], []
    wanted = stage.requests("submits", [_submission(number) for number in range(stage.sizes.submits)])
    async with lasting(await stage.bare()) as bare, lasting(await stage.service(stage.sqlite("submits"))) as service:
        for _ in range(stage.sizes.pairs):
            floors.append((await stage.load(bare, wanted)).rate("204"))
            figures.append((await stage.load(service, wanted)).rate("202"))
    pairs = Pairs(figures=figures, floors=floors)
    return [
        Row(
            measure="submissions with an inline image of 200 KB",
            figure=rate(pairs.figure),
            floor=rate(pairs.floor),
            ratio=pairs.spread,
            target="0.30",
            reached=pairs.ratio >= 0.3,
        )
    ]


def _submission(number: int) -> bytes:
    with Image.frombytes("RGB", (SIDE, SIDE), os.urandom(SIDE * SIDE * 3)) as picture, BytesIO() as file:
        picture.save(file, "PNG", compress_level=1)
        image = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    params = {"prompt": f"a cat, number {number}", "images": [image]}
    return request("POST", "/v1/tasks", json.dumps({"model": "viduq2_pro_reference", "params": params}).encode())
