"""Submissions through the API, each with an inline image."""

import json
import os
from base64 import b64encode
from io import BytesIO

from PIL import Image

from tests.benchmarks.environment import BenchmarkEnvironment, stopping
from tests.benchmarks.load import request
from tests.benchmarks.table import Pairs, Row, rate

SIDE = 258
"""Pixels per side of an image of noise, which no format compresses: 200 KB."""


async def submits(environment: BenchmarkEnvironment) -> list[Row]:
    """Return submissions per second, each validated and durable, beside a baseline endpoint that reads the body."""
    figures, floors = [], []
    wanted = environment.requests("submits", [_submission(number) for number in range(environment.sizes.submits)])
    async with (
        stopping(await environment.baseline()) as baseline,
        stopping(await environment.service(environment.sqlite("submits"))) as service,
    ):
        for _ in range(environment.sizes.pairs):
            floors.append((await environment.load(baseline, wanted)).rate("204"))
            figures.append((await environment.load(service, wanted)).rate("202"))
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
