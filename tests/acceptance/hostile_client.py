"""A usual client beside a hostile one: `python -m tests.acceptance.hostile_client [--seconds N]`.

Printed are the response times of the usual client without and with the hostile one of `hostile_attacks`.
"""

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import anyio

from tests.acceptance.environment import IMAGE, MODEL, Service, serve, service, settings, sqlite, upstream
from tests.acceptance.hostile_attacks import HOSTILE_KEY, MB
from tests.acceptance.processes import HOST, Child, Json, Workspace, until
from tests.support.ports import free_port

GOOD_KEY = "key-of-the-usual-client"
KEYS = f"usual={GOOD_KEY},hostile={HOSTILE_KEY}"
ATTACKS = 4

Times = dict[str, list[float]]


def _body(prompt: str) -> Json:
    return {"model": MODEL, "params": {"prompt": prompt, "images": [IMAGE]}}


async def journey(at: Service, times: Times, number: int) -> Json:
    """Submit a task, wait for its end, and read it, its history and the list; return the settled task."""

    async def timed(name: str, method: str, path: str, **options: object) -> Json:
        began = perf_counter()
        response = await at.http.request(method, path, **options)  # type: ignore[arg-type] # options of httpx
        times[name].append(perf_counter() - began)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text[:200]}"
        found: Json = response.json()
        return found

    task = await timed("submit", "POST", "/v1/tasks", content=json.dumps(_body(f"usual {number}")), headers=JSON)
    began = perf_counter()
    settled = await at.wait_until_settled(task["id"])
    times["submit to end"].append(perf_counter() - began)
    await timed("read", "GET", f"/v1/tasks/{task['id']}")
    await timed("history", "GET", f"/v1/tasks/{task['id']}/events")
    page = await timed("list", "GET", "/v1/tasks", params={"limit": "20"})
    assert all(row["params"]["prompt"].startswith("usual") for row in page["data"]), "another client's task is listed"
    return settled


JSON: Mapping[str, str] = {"Content-Type": "application/json"}


async def journeys(at: Service, *, seconds: float, at_least: int = 3) -> Times:
    """Run journeys one after the other for `seconds`; each task must be completed. Return the times by request."""
    times: Times = defaultdict(list)
    end, number = perf_counter() + seconds, 0
    while perf_counter() < end or number < at_least:
        settled = await journey(at, times, number)
        assert settled["status"] == "completed", settled
        number += 1
    return times


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[tuple[Workspace, Service]]:
    """Run the sandbox and the service inside the block; yield the workspace and the usual client."""
    with Workspace(home=home, quiet=True) as workspace:
        switches = ("--tiny-videos", "--run-time", "200ms", "--no-echo-inline")
        async with upstream(workspace, *switches) as sandbox:
            env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), API_KEYS=KEYS)
            child = await serve(workspace, env)
            async with service(child, key=GOOD_KEY) as at:
                yield workspace, at


async def compare(home: Path, *, seconds: float) -> tuple[Times, Times, Json]:
    """Return the times of the usual client alone and beside the hostile one, and what that one was answered.

    The hostile client is a process of its own, and attacks before the usual one is measured.
    """
    async with running(home) as (workspace, at):
        alone = await journeys(at, seconds=seconds)
        command = [sys.executable, "-m", "tests.acceptance.hostile_attacks", at.child.url]
        hostile = workspace.run("hostile", command, env={"PYTHONPATH": str(Path(__file__).parents[2])})
        await until(lambda: len(_answers(hostile)) == ATTACKS, what="every attack")
        beside = await journeys(at, seconds=seconds)
        print(f"memory of the service: peak {at.child.memory('VmHWM') / MB:.0f} MB")  # noqa: T201 - a figure
        return alone, beside, _answers(hostile)


def _answers(hostile: Child) -> Json:
    """Return what the hostile client was answered by now, by attack and status."""
    assert hostile.alive, hostile.output()
    lines = hostile.output().splitlines()
    found: Json = json.loads(lines[-1]) if lines and lines[-1].endswith("}") else {}
    return found


def table(alone: Times, beside: Times) -> list[str]:
    """Return the p50 and p99 of each request as Markdown."""
    lines = ["| request | alone, p50 / p99 | beside the hostile client, p50 / p99 |", "|---|---|---|"]
    return lines + [f"| {name} | {_figures(alone[name])} | {_figures(beside[name])} |" for name in alone]


def _figures(seconds: list[float]) -> str:
    found = quantiles(seconds, n=100, method="inclusive")
    return f"{found[49] * 1000:.1f} / {found[98] * 1000:.1f} ms ({len(seconds)})"


def main() -> None:
    """Run the command of the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.hostile_client")
    parser.add_argument("--seconds", type=float, default=30.0, help="time of each of the two runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:

        async def run() -> tuple[Times, Times, Json]:
            return await compare(Path(home), seconds=options.seconds)

        alone, beside, counts = anyio.run(run)
    sys.stdout.write("\n".join([*table(alone, beside), "", f"The hostile client was answered: {counts}", ""]))


if __name__ == "__main__":
    main()
