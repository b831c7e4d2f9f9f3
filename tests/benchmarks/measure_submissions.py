"""Submissions from the POST of a task to the provider's reply, as a user runs them: `--role all`.

Not default are UPSTREAM_RATE=10000/s (the default of 10/s would be what is measured), POLL_FIRST=1h (no task is
polled), HANDLERS=log (the tasks have no event but `task.submitted`), the addresses and keys, and what
`BenchmarkEnvironment.service` names. There is no PUBLIC_URL, which is the default: nothing is called back. The provider
is the baseline server, which accepts everything.

The processor time is that of a process that has submitted a tenth of the tasks and is idle: what it imports after
its start (`service/runtime/late_imports.py`) and its first statements take as long as hundreds of submissions.
"""

import json
import os
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO

import anyio
from PIL import Image

from tests.acceptance.processes import TICKS, Child, until
from tests.benchmarks.environment import BenchmarkEnvironment, query_value, stopping
from tests.benchmarks.load import request
from tests.benchmarks.table import Row, milliseconds, rate

SIDE = 258
"""Pixels per side of an image of noise, which no format compresses: 200 KB."""

IDLE_SHARE = 0.1
"""Share of a core below which a process is idle: its periodic jobs take less."""

UPSTREAM_RATE = "10000/s"
SUBMITTED = "SELECT count(*) FROM tasks WHERE status = 'in_progress'"
LAST = "SELECT max(at) / 1e6 FROM events WHERE type = 'task.submitted'"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Result of one run: accepted and submitted tasks a second, and processor seconds of the service for a task."""

    accepted: float
    submitted: float
    processor: float


async def submissions(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the rate of submissions with URL inputs, and the processor time of one with an inline image."""
    count = environment.sizes.submissions
    async with stopping(await environment.baseline()) as baseline:
        urls = await _measure(environment, baseline, "urls", map(with_urls, range(count)))
        inline = await _measure(environment, baseline, "inline", map(with_image, range(count // 5)))
    setting = f"SQLite, UPSTREAM_RATE={UPSTREAM_RATE}"
    return [
        Row(
            measure=f"submissions with URL inputs, from the POST to the provider's reply, {setting}",
            figure=f"{rate(urls.submitted)}, {rate(urls.accepted)} accepted",
            target="1,000/s",
            reached=urls.submitted >= 1000,
        ),
        Row(measure="processor time of one of them", figure=milliseconds(urls.processor)),
        Row(
            measure=f"processor time of a submission with an inline image of 200 KB, the same, {setting}",
            figure=milliseconds(inline.processor),
            target="1.50 ms",
            reached=inline.processor <= 0.0015,
        ),
    ]


async def _measure(
    environment: BenchmarkEnvironment, baseline: Child, name: str, requests: Iterable[bytes]
) -> Measured:
    wanted, database = list(requests), environment.sqlite(f"submissions-{name}")
    early = max(1, len(wanted) // 10)
    first, file = environment.requests("first", wanted[:early]), environment.requests(name, wanted[early:])
    service = await environment.service(
        database,
        upstream=baseline.url,
        role="all",
        HANDLERS="log",
        UPSTREAM_RATE=UPSTREAM_RATE,
        PUBLIC_URL="",
        POLL_FIRST="1h",
    )
    async with stopping(service):
        await environment.load(service, first)
        await _all_submitted(database, early)
        await _at_rest(service, environment.sizes.settling)
        before = service.processor_seconds()
        report = await environment.load(service, file)
        await _all_submitted(database, len(wanted))
        used, last = service.processor_seconds() - before, float(await query_value(database, LAST))
    count = len(wanted) - early
    return Measured(
        accepted=report.rate("202"),
        submitted=count / (last - report.began_at),
        processor=max(used, 1 / TICKS) / count,
    )


async def _all_submitted(database: str, count: int) -> None:
    async def submitted() -> bool:
        return int(await query_value(database, SUBMITTED)) == count

    await until(submitted, what="every submission", pause=0.25, seconds=300)


async def _at_rest(service: Child, seconds: float) -> None:
    """Wait until the process uses less than IDLE_SHARE of a core for so many seconds."""
    with anyio.fail_after(120):
        while True:
            before = service.processor_seconds()
            await anyio.sleep(seconds)
            if service.processor_seconds() - before <= IDLE_SHARE * seconds:
                return


def with_urls(number: int) -> bytes:
    """Return the request for a task whose image is an address."""
    params = {"prompt": f"a cat, number {number}", "images": ["https://example.org/cat.png"]}
    return request("POST", "/v1/tasks", json.dumps({"model": "viduq2_pro_reference", "params": params}).encode())


def with_image(number: int) -> bytes:
    """Return the request for a task with an inline image of its own."""
    with Image.frombytes("RGB", (SIDE, SIDE), os.urandom(SIDE * SIDE * 3)) as picture, BytesIO() as file:
        picture.save(file, "PNG", compress_level=1)
        image = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    params = {"prompt": f"a cat, number {number}", "images": [image]}
    return request("POST", "/v1/tasks", json.dumps({"model": "viduq2_pro_reference", "params": params}).encode())
