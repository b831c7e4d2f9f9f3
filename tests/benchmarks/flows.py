"""Count the functions of this project that three flows run: `python -m tests.benchmarks.flows [--list] [--json]`.

The processes are real: `serve --role web`, `serve --role worker` and the sandbox, over one SQLite file. Requests come
one at a time. The first requests warm the processes up; of the later samples, the one with the fewest calls counts,
since periodic jobs can only add calls.

The flows:
- `post`: a `POST /v1/tasks`, from the call of the ASGI application until the server receives the 202.
- `submission`: from the run of the job that claims the task to the end of the asyncio task that sends it to the
  provider, which is after the reply is recorded. No handler is subscribed.
- `callback`: a callback with CONFIRM as in the default, from its first byte, including the HTTP parser, until the
  server receives the 204.

What belongs to a flow: calls in the asyncio task of the request or submission, in the asyncio tasks that it creates
(the commit of a batch), and in threads without an event loop (the database) within its time. Other asyncio tasks, which
run the periodic jobs, do not belong to it.

The figures:
- `functions`: distinct pairs of a module under `service/` and a qualified name. Lambdas, comprehensions and generator
  expressions count once for each function that holds them and each kind. `named` leaves these out.
- `modules`: distinct modules of these functions.
- `calls`: first entries into functions. A resumed coroutine or generator is not a call.
- `module changes`, `package changes`: neighbours in the sequence of calls, in the order of time, that differ. The
  package is the part after `service`; modules directly under `service/` are one package.
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import anyio

from tests.acceptance import environment as acceptance
from tests.acceptance.processes import HOST, Child, until, wait_for_response
from tests.benchmarks.environment import SHORT, BenchmarkEnvironment, callbacks, fill, make_task, open_environment
from tests.benchmarks.traced import Call
from tests.support.ports import free_port

WARM_UP = 3
SAMPLES = 7
PAUSE = 0.5
"""Seconds between two requests, so that background work of the earlier one, such as logging, ends before the next."""

QUIET = {"HANDLERS": "webhook", "LEASE": "60s", "LOG_FORMAT": "json", "POLL_FIRST": "1h", "POLL_MAX": "1h"}
"""Settings under which no delivery is made, and no poll or renewed lease falls into a flow."""

Function = tuple[str, str]
"""A module and a qualified name."""

Window = tuple[int, int]
"""From before a request to after what it waits for, in nanoseconds of the monotonic clock."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures of one flow; the module's docstring says how they are counted."""

    functions: int
    named: int
    modules: int
    calls: int
    module_changes: int
    package_changes: int


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A process that records its calls, and the file that has them once the process has ended."""

    child: Child
    file: Path

    async def stop(self) -> list[Call]:
        """End the process in order; return its calls, oldest first."""
        self.child.terminate()
        if await self.child.ended():
            raise RuntimeError(f"{self.child.name} failed: {self.child.output()[-1000:]}")
        rows = json.loads(self.file.read_text())
        calls = [Call(*row)._replace(tasks=None if row[3] is None else tuple(row[3])) for row in rows]
        return sorted(calls, key=lambda call: call.at)


async def flows(*, warm_up: int = WARM_UP, samples: int = SAMPLES) -> dict[str, list[Call]]:
    """Return the calls of each flow, oldest first; every kind of request is made `warm_up` + `samples` times."""
    count = warm_up + samples
    with open_environment(SHORT) as at:
        database = at.sqlite("flows")
        await fill(database, make_task(), range(1, count + 1))
        async with acceptance.upstream(at.workspace, "--run-time", "1h") as upstream:
            web = await _traced(at, database, upstream.url, role="web")
            worker = await _traced(at, database, upstream.url, role="worker")
            posts, submissions = await _submit(web.child, count)
            worker_calls = await worker.stop()  # so that the poll after a callback does not count
            called_back = await _call_back(web.child, count)
            web_calls = await web.stop()
    return {
        "post": _fewest_functions(_request(web_calls, window, parser=False) for window in posts[warm_up:]),
        "submission": _fewest_functions(_submission(worker_calls, window) for window in submissions[warm_up:]),
        "callback": _fewest_functions(_request(web_calls, window, parser=True) for window in called_back[warm_up:]),
    }


async def _traced(at: BenchmarkEnvironment, database: str, upstream: str, *, role: str) -> Trace:
    """Start the service under the recorder, and wait until it is ready."""
    port, file = free_port(), at.workspace.home / f"{role}.calls"
    url = f"http://{HOST}:{port}"
    env = {**acceptance.settings(upstream, url, database, **QUIET), **at.path()}
    command = [sys.executable, "-m", "tests.benchmarks.traced", str(file), "serve", "--port", str(port), "--role", role]
    child = at.workspace.run(role, command, env=env, url=url)
    await wait_for_response(child)
    return Trace(child=child, file=file)


async def _submit(web: Child, count: int) -> tuple[list[Window], list[Window]]:
    """Submit tasks one after the other; return the windows of the POSTs and of the submissions."""
    posts, submissions = [], []
    async with acceptance.service(web) as service:
        for _ in range(count):
            started_at = time.monotonic_ns()
            task_id = (await service.submit())["id"]
            posts.append((started_at, time.monotonic_ns()))

            async def submitted(task_id: str = task_id) -> bool:
                return bool((await service.task(task_id))["status"] == "in_progress")

            await until(submitted, what="the submission")
            await anyio.sleep(PAUSE)
            submissions.append((started_at, time.monotonic_ns()))
    return posts, submissions


async def _call_back(web: Child, count: int) -> list[Window]:
    """Send callbacks one after the other over one connection; return their windows."""
    windows = []
    async with await anyio.connect_tcp(HOST, int(web.url.rpartition(":")[2])) as connection:
        for request in callbacks(range(1, count + 1)):
            await anyio.sleep(PAUSE)
            started_at = time.monotonic_ns()
            await connection.send(request)
            reply = await connection.receive()
            if b" 204 " not in reply.partition(b"\r\n")[0]:
                raise RuntimeError(f"wanted 204, got {reply!r}")
            windows.append((started_at, time.monotonic_ns()))
    return windows


def _request(calls: Sequence[Call], window: Window, *, parser: bool) -> list[Call]:
    """Return the calls of one request; with `parser` also those that the server makes before the ASGI application."""
    found = [call for call in calls if window[0] <= call.at <= window[1]]
    task = _task(found, "request")
    end = max(call.at for call in found if call.module == "reply")
    return [
        call
        for call in _own_calls(found)
        if call.at <= end and (_belongs(call, task) or (parser and not call.in_task and call.tasks == task[:-1]))
    ]


def _submission(calls: Sequence[Call], window: Window) -> list[Call]:
    """Return the calls of one submission: those of the job up to the creation of its asyncio task, and of that task."""
    found = [call for call in calls if window[0] <= call.at <= window[1]]
    task = _task(found, "upstream request")
    inside = [call.at for call in found if call.tasks == task and call.in_task]
    job = [call for call in found if call.tasks == task[:-1] and call.in_task and call.at < inside[0]]
    created = max(call.at for call in job if call.module == "new task")
    depths = {call.at: call.depth for call in _own_calls(job) if call.depth is not None and call.at <= created}
    begin = max(
        at for at, depth in depths.items() if depth == min(depths.values())
    )  # the event loop's call of this run
    in_job = {call.at for call in job if begin <= call.at <= created}
    return [
        call
        for call in _own_calls(found)
        if begin <= call.at <= inside[-1] and (_belongs(call, task) or call.at in in_job)
    ]


def _task(calls: Iterable[Call], mark: str) -> tuple[int, ...]:
    tasks = next((call.tasks for call in calls if call.module == mark), None)
    if not tasks:
        raise RuntimeError(f"no asyncio task has made the {mark}")
    return tasks


def _belongs(call: Call, task: tuple[int, ...]) -> bool:
    return call.tasks is None or call.tasks[: len(task)] == task


def _own_calls(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if call.module.partition(".")[0] == "service")


def _fewest_functions(samples: Iterable[list[Call]]) -> list[Call]:
    return min(samples, key=lambda calls: (len(functions(calls)), len(calls)))


def functions(calls: Iterable[Call]) -> list[Function]:
    """Return the distinct functions, in the order of their first call."""
    return list(dict.fromkeys((call.module, call.name) for call in calls))


def figures(calls: Sequence[Call]) -> Figures:
    """Return the figures of a sequence of calls."""
    distinct = functions(calls)
    return Figures(
        functions=len(distinct),
        named=sum(1 for _, name in distinct if not name.rpartition(".")[2].startswith("<")),
        modules=len({module for module, _ in distinct}),
        calls=len(calls),
        module_changes=_count_changes(call.module for call in calls),
        package_changes=_count_changes(_package(call.module) for call in calls),
    )


def _package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else parts[0]


def _count_changes(names: Iterable[str]) -> int:
    return sum(1 for before, after in pairwise(names) if before != after)


def _table(found: Mapping[str, Figures]) -> str:
    heads = ["flow", *(name.replace("_", " ") for name in Figures.__dataclass_fields__)]
    rows = [[flow, *map(str, asdict(each).values())] for flow, each in found.items()]
    lines = [heads, ["-" * len(head) for head in heads], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def main() -> None:
    """Run the command of the module's docstring."""
    parser = ArgumentParser(prog="python -m tests.benchmarks.flows")
    parser.add_argument("--list", action="store_true", help="also list the functions in the order of their first call")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    traces = anyio.run(flows)
    found = {flow: figures(calls) for flow, calls in traces.items()}
    if options.json:
        listed = {flow: {"list": functions(calls)} if options.list else {} for flow, calls in traces.items()}
        sys.stdout.write(json.dumps({flow: asdict(each) | listed[flow] for flow, each in found.items()}) + "\n")
        return
    sys.stdout.write(_table(found) + "\n")
    for flow, calls in traces.items() if options.list else ():
        sys.stdout.write(f"\n{flow}\n")
        sys.stdout.writelines(f"{n:4}  {module}  {name}\n" for n, (module, name) in enumerate(functions(calls), 1))


if __name__ == "__main__":
    main()
