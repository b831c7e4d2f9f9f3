"""Properties of every interleaving of replies, callbacks, polls, time and crashes, over the real store."""

import asyncio
import json
import tempfile
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import NotSent, ProviderUnavailable, Refused, ReplyLost, Throttled, UnreadableBody
from service.domain.ports.deliveries import DeliverySelection
from service.domain.task import SETTLED, Fact, Json, Status, Task, TaskId, UpstreamId
from tests.support.history import history_of
from tests.support.scripted_provider import DONE, token_of, vtrix_body
from tests.support.task_loop import DEADLINE, HOUR, MINUTE, TIMEOUT, Environment, Loop, open_environment
from tests.support.wait_until_idle import ended

OWN_CONCLUSIONS = frozenset({Status.EXPIRED, Status.FAILED})
ERRORS = {
    "never_left": NotSent("refused"),
    "throttled": Throttled("too many requests", retry_after=timedelta(seconds=30)),
    "refused": Refused("CreditInsufficient", "top up"),
    "lost": ReplyLost("time-out"),
    "broken": RuntimeError("an internal error"),
    "unwell": ProviderUnavailable("HTML"),
}
REPLIES = ("fine", "done", "never_left", "throttled", "refused", "lost", "broken")
CALLBACK_STATUSES = ("processing", "completed", "failed", "truncated")

actions = st.one_of(
    st.tuples(st.just("accept")),
    st.tuples(st.just("submit"), st.sampled_from(REPLIES)),
    st.tuples(st.just("submit_slowly"), st.sampled_from(("fine", "done", "never_left", "refused", "lost"))),
    st.tuples(st.just("release")),
    st.tuples(st.just("crash_in_submit"), st.booleans()),
    st.tuples(st.just("crash_in_poll")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("stop")),
    st.tuples(st.just("finish"), st.integers(0, 3), st.booleans()),
    st.tuples(
        st.just("call_back"), st.integers(0, 3), st.sampled_from(CALLBACK_STATUSES), st.booleans(), st.booleans()
    ),
    st.tuples(st.just("poll"), st.sampled_from(("fine", "unwell", "throttled"))),
    st.tuples(st.just("sweep")),
    st.tuples(st.just("cancel"), st.integers(0, 3)),
    st.tuples(st.just("pass"), st.sampled_from((1, 20, 70, 1200, 4000, 7300))),
)
histories = st.lists(actions, min_size=3, max_size=20).map(lambda rest: [("accept",), *rest])


@dataclass
class History:
    """One interleaving, run in a test environment."""

    environment: Environment
    loop: Loop
    ids: list[TaskId] = field(default_factory=list)
    held: list[tuple[Loop, asyncio.Event]] = field(default_factory=list)

    async def act(self, name: str, *arguments: Any) -> None:
        """Do one action, and check that every open task has a next step."""
        await getattr(self, f"do_{name}")(*arguments)
        for task in await self.tasks():
            assert_open_tasks_have_a_next_step(task, self.environment)

    async def tasks(self) -> list[Task]:
        """Return every task."""
        return [await self.loop.task(task_id) for task_id in self.ids]

    async def do_accept(self) -> None:
        """Add a task."""
        self.ids.append((await self.loop.accept()).id)

    def _script(self, reply: str) -> None:
        if reply != "fine":
            self.environment.upstream.creates.append(DONE if reply == "done" else ERRORS[reply])

    async def do_submit(self, reply: str) -> None:
        """Submit due tasks; the first create has the reply `reply`."""
        self._script(reply)
        await self.loop.submit_due()
        self.environment.upstream.creates.clear()

    async def do_submit_slowly(self, reply: str) -> None:
        """Start to submit, in a process that continues later."""
        gate = self.environment.upstream.reply_gate = asyncio.Event()
        self._script(reply)
        await self._begin(self.loop.submitter.run_once())
        self.environment.upstream.reply_gate = None
        self.environment.upstream.creates.clear()
        self.held.append((self.loop, gate))
        self.loop = self.environment.process()

    async def do_release(self) -> None:
        """Let slow processes continue."""
        for loop, gate in self.held:
            gate.set()
            async with asyncio.timeout(TIMEOUT):
                await ended(loop.submitter)
        self.held.clear()

    async def _begin(self, work: Any) -> None:
        self.environment.upstream.arrived.clear()
        if await work and (
            self.environment.upstream.reply_gate
            or self.environment.upstream.send_gate
            or self.environment.upstream.poll_gate
        ):
            await asyncio.sleep(0)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self.environment.upstream.arrived.wait()

    async def do_crash_in_submit(self, sent: bool) -> None:
        """Crash during submissions, before or after they were sent."""
        upstream = self.environment.upstream
        upstream.reply_gate, upstream.send_gate = (asyncio.Event(), None) if sent else (None, asyncio.Event())
        await self._begin(self.loop.submitter.run_once())
        self.loop = self.environment.kill(self.loop)
        upstream.reply_gate = upstream.send_gate = None

    async def do_crash_in_poll(self) -> None:
        """Crash during polls."""
        self.environment.upstream.poll_gate = asyncio.Event()
        await self._begin(self.loop.poller.run_once())
        self.loop = self.environment.kill(self.loop)
        self.environment.upstream.poll_gate = None

    async def do_restart(self) -> None:
        """Restart on the same database."""
        self.loop = self.environment.kill(self.loop)

    async def do_stop(self) -> None:
        """Shut down during a submission that was not sent, and restart."""
        self.environment.upstream.send_gate = asyncio.Event()
        await self._begin(self.loop.submitter.run_once())
        await self.loop.drain()
        self.environment.upstream.send_gate = None
        self.loop = self.environment.process()

    async def do_finish(self, which: int, well: bool) -> None:
        """End a task at the provider; its status never changes again."""
        running = [
            known for known, fact in self.environment.upstream.facts.items() if fact.status is Status.IN_PROGRESS
        ]
        if running:
            self.environment.upstream.set_fact(
                running[which % len(running)], DONE if well else Fact(status=Status.FAILED)
            )

    async def do_call_back(self, which: int, word: str, correlated: bool, truthful: bool) -> None:
        """Send a true or false callback about a submission, twice."""
        requests = self.environment.upstream.requests
        if not requests:
            return
        request = requests[which % len(requests)]
        known = self.environment.upstream.payloads.get(request.payload, UpstreamId("of-vidu"))
        truth = self.environment.upstream.facts.get(known)
        if truthful and (truth is None or truth.status.value != word):
            word = "processing"
        body = _body(word, known, request.payload if correlated else None)
        for _ in range(2):
            with suppress(UnreadableBody):
                await self.loop.called_back(token_of(request), body)

    async def do_poll(self, answer: str) -> None:
        """Poll due tasks; the first result is `answer`."""
        if answer != "fine":
            self.environment.upstream.fetches.append(ERRORS[answer])
        await self.loop.poll_due()
        self.environment.upstream.fetches.clear()

    async def do_sweep(self) -> None:
        """Sweep abandoned submissions."""
        await self.loop.submitter.sweep()

    async def do_cancel(self, which: int) -> None:
        """Cancel a task that was not sent."""
        task = await self.loop.task(self.ids[which % len(self.ids)])
        if task.status is Status.QUEUED:
            await self.loop.task_service.cancel(task.id)

    async def do_pass(self, seconds: int) -> None:
        """Move the clock."""
        self.environment.clock.move(timedelta(seconds=seconds))

    async def to_the_end(self) -> None:
        """Run until every deadline has passed, and once more after the slowest process has finished."""
        await self.loop.run_until(self.environment.clock.now() + DEADLINE + HOUR, by=15 * MINUTE)
        await self.do_release()
        await self.loop.run_until(self.environment.clock.now() + HOUR, by=15 * MINUTE)


def _body(word: str, upstream_id: str, payload: str | None) -> bytes:
    if word == "truncated":
        return b'{"id": "up1", "stat'
    return json.dumps(vtrix_body(word, upstream_id, **({"payload": payload} if payload else {}))).encode()


def assert_open_tasks_have_a_next_step(task: Task, environment: Environment) -> None:
    """Check that an unsettled task has a next step by its deadline, or a lease that ends."""
    now = environment.clock.now()
    if task.settled:
        return
    if task.status is Status.SUBMITTING:
        assert task.leased_until is not None, task
    elif task.status is not Status.EXPIRED:
        assert task.due_at is not None or task.status is Status.QUEUED, task
        assert task.due_at is None or task.due_at <= max(now, task.deadline_at) or task.status is Status.QUEUED, task
    elif task.upstream_id or task.hinted_id:
        assert task.due_at is not None, task


async def assert_final_state(history: History) -> None:
    """Check the rows at the end of the history."""
    upstream = history.environment.upstream
    for task in await history.tasks():
        events = [row for row in await history_of(history.loop.store.queries, task.id) if row["kind"] == "event"]
        ends = [row["data"] for row in events if row["type"].rpartition(".")[2] in {status.value for status in SETTLED}]
        assert sum(not _guessed(end) for end in ends) <= 1, ends
        assert task.settled or task.status is Status.EXPIRED, task
        assert upstream.charges[task.id] <= 1, "a duplicate charge without an operator's approval"
        truth = upstream.facts.get(task.upstream_id) if task.upstream_id else None
        confirmed = (
            history.environment.options.confirm and not task.unconfirmed
        )  # otherwise a false callback was accepted
        if truth and truth.status in SETTLED and confirmed:
            assert task.status is truth.status
        if task.status is Status.COMPLETED and confirmed:
            assert upstream.charges[task.id] == 1
    await _assert_deliveries(history)


def _guessed(end: Json) -> bool:
    return bool(end["error"] and end["error"]["code"] == "submission_unknown")


async def _assert_deliveries(history: History) -> None:
    store = history.loop.store
    rows = (await store.queries.deliveries(DeliverySelection(limit=1000))).deliveries
    delivered = Counter((row.event_id, row.handler) for row in rows)
    happened = [
        row["id"] for each in history.ids for row in await history_of(store.queries, each) if row["kind"] == "event"
    ]
    assert delivered == Counter({(event_id, "log"): 1 for event_id in happened})


async def _run(moves: list[tuple[Any, ...]], *, lists: bool, confirm: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with open_environment(Path(directory), lists=lists, confirm=confirm) as environment:
            history = History(environment, environment.process())
            for name, *arguments in moves:
                await history.act(name, *arguments)
            await history.to_the_end()
            await assert_final_state(history)


@settings(max_examples=10, deadline=None)
@given(moves=histories, lists=st.booleans(), confirm=st.booleans())
def test_every_history_settles_its_tasks(moves: list[tuple[Any, ...]], lists: bool, confirm: bool) -> None:
    """Each task has one end and one bill, each event one delivery a handler, and no task stays open."""
    asyncio.run(_run(moves, lists=lists, confirm=confirm))
