"""Rules over a real store: operations on tasks in any order; the store is compared with the model after each."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.domain.errors import Conflict
from service.domain.ports.tasks import IdempotencyKey
from service.domain.submission_limits import Limits
from service.domain.task import Status, Task, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from tests.stateful.invariants import check
from tests.stateful.model import Model, TaskModel
from tests.stateful.system_under_test import Rows, SystemUnderTest
from tests.stateful.worker_rules import REPLIES, Claimed, apply_reply, reply
from tests.storage.builders import a_task
from tests.support.task_loop import DEADLINE, LEASE, START, MovedClock

MOMENT = timedelta(milliseconds=1)
which = st.integers(0, 5)
WEBHOOK = {"handler": "webhook", "url": "https://hook.example"}
NO_ROWS: Rows = {"tasks": [], "events": [], "deliveries": [], "attempts": [], "inbox": []}


class TaskMachine(RuleBasedStateMachine):
    """Tasks, their claims and their facts. A subclass sets `fresh`, which returns the address of an empty database."""

    fresh: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock(START)
        self.model = Model()
        self.before = NO_ROWS
        self.submitting: list[Claimed] = []
        self.polling: list[Claimed] = []
        self.unread: list[tuple[str, int, str, str | None]] = []

    @initialize(confirm=st.booleans(), burst=st.booleans())
    def open_store(self, confirm: bool, burst: bool) -> None:
        """Open an empty store, and add two tasks."""
        self.system = SystemUnderTest(type(self).fresh(), self.clock, confirm, burst)
        for notifies in (True, False):
            self.add(None, "x", notifies)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` to its end, at a later time than the previous step."""
        self.clock.move(MOMENT)
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close the store and the event loop."""
        if hasattr(self, "system"):
            self.runner.run(self.system.store.close())
        self.runner.close()

    @invariant()
    def rows_match_the_model(self) -> None:
        """Compare every row with the model."""
        if hasattr(self, "system"):
            after = self.rows()
            check(self.model, self.before, after, self.clock.now())
            self.before = after

    def record(self, entry: TaskUpdate) -> None:
        """Record an update; a conclusion from a lost lease changes nothing."""
        stale = entry.requires_lease and entry.fence != self.model.tasks[entry.task_id].fence
        before = self.rows() if stale else NO_ROWS
        self.do(self.system.recorder.add(entry))
        assert not stale or self.rows() == before

    def rows(self) -> Rows:
        """Return every row."""
        rows: Rows = self.runner.run(self.system.rows())
        return rows

    def some_task(self, number: int) -> TaskModel:
        """Return one of the tasks."""
        return list(self.model.tasks.values())[number % len(self.model.tasks)]

    def foreign(self, task_id: str) -> UpstreamId | None:
        """Return the provider id of another task."""
        ids = [one.upstream_id for one in self.model.tasks.values() if one.upstream_id and one.id != task_id]
        return UpstreamId(ids[0]) if ids else None

    # ── new tasks ────────────────────────────────────────────────────────────

    @rule(key=st.none() | st.sampled_from("kl"), digest=st.sampled_from("xy"), notifies=st.booleans())
    def add(self, key: str | None, digest: str, notifies: bool) -> None:
        """Add a task; a known key returns the first task with it, or is a conflict."""
        now = self.clock.now() + MOMENT
        new = a_task(
            self.system.new_id(),
            created_at=now,
            due_at=now,
            deadline_at=now + DEADLINE,
            notify=(WEBHOOK,) if notifies else (),
        )
        idempotency = None if key is None else IdempotencyKey(key=key, digest=digest)
        known = self.model.keys.get(key or "")
        try:
            stored = self.do(self.system.store.intake.add(new, [], idempotency))
        except Conflict:
            assert known is not None
            assert known[0] != digest
            return
        assert stored.id == (known[1] if known else new.id)
        if known is None:
            self._expect(new)
            self.model.keys |= {key: (digest, new.id)} if key else {}
        else:
            assert known[0] == digest

    def _expect(self, task: Task) -> None:
        self.model.tasks[task.id] = TaskModel(
            id=task.id, deadline=task.deadline_at, queued_until=task.created_at, notifies=bool(task.notify)
        )

    @precondition(lambda self: self.model.tasks)
    @rule(number=which, agrees=st.booleans())
    def cancel(self, number: int, agrees: bool) -> None:
        """Cancel a task: a queued one at once, one at the provider when it agrees."""
        one = self.some_task(number)
        self.system.upstream.cancels.extend([] if agrees else [Conflict("too late")])
        allowed = one.status == "queued" or (one.status == "in_progress" and one.upstream_id and agrees)
        try:
            self.do(self.system.task_service.cancel(TaskId(one.id)))
        except Conflict:
            assert not allowed
        else:
            assert allowed
            one.apply("canceled")
        self.system.upstream.cancels.clear()

    @precondition(lambda self: self.model.tasks)
    @rule(number=which)
    def resubmit(self, number: int) -> None:
        """Resubmit a task, which makes one new task, however often it is repeated."""
        one = self.some_task(number)
        allowed = one.status in {"in_doubt", "failed", "expired", "canceled"}
        try:
            new = self.do(self.system.task_service.resubmit(TaskId(one.id)))
        except Conflict:
            assert not allowed
            return
        assert allowed
        if self.model.resubmitted.setdefault(one.id, new.id) == new.id and new.id not in self.model.tasks:
            self._expect(new)
        assert self.model.resubmitted[one.id] == new.id

    # ── submissions ──────────────────────────────────────────────────────────

    @precondition(lambda self: any(one.status == "queued" for one in self.model.tasks.values()))
    @rule(limit=st.sampled_from((1, 2, 100)), max_in_flight=st.none() | st.integers(1, 4))
    def claim_submissions(self, limit: int, max_in_flight: int | None) -> None:
        """Claim tasks due to be submitted: exactly these, the oldest first, within the limits."""
        now = self.clock.now() + MOMENT
        until = now + LEASE
        queue = self.system.store.tasks
        due = [
            one
            for one in self.model.tasks.values()
            if one.status == "queued"
            and one.queued_until <= now < one.deadline
            and one.id not in self.model.with_unread_callbacks
        ]
        busy = sum(one.status in {"submitting", "in_progress", "in_doubt"} for one in self.model.tasks.values())
        capacity = limit if max_in_flight is None else max(0, min(limit, max_in_flight - busy))
        claimed = self.do(
            queue.claim_submissions(now=now, until=until, limit=limit, limits=Limits(max_in_flight=max_in_flight))
        )
        assert [task.id for task in claimed] == [one.id for one in due][:capacity]
        for task in claimed:
            self._submitted(task, until)

    def _submitted(self, task: Task, until: Any) -> None:
        one = self.model.tasks[task.id]
        one.claim(until)
        one.status, one.guessed, one.submission = "submitting", one.guessed, one.submission + 1
        assert (task.id, task.submission) not in self.model.claimed, "two claims of one submission"
        assert not {sent for sent in self.model.sent if sent[0] == task.id}, (
            "a duplicate charge without an operator's approval"
        )
        self.model.claimed.add((task.id, task.submission))
        self.submitting.append(Claimed(task=task))

    @precondition(lambda self: self.submitting)
    @rule(number=which, word=st.sampled_from(REPLIES))
    def finish_submission(self, number: int, word: str) -> None:
        """Record the reply to a submission, perhaps late."""
        claimed = self.submitting.pop(number % len(self.submitting))
        now = self.clock.now() + MOMENT
        entry = reply(claimed, word, self.foreign(claimed.task.id), now)
        self.record(entry)
        if word not in {"never_left", "refused"}:
            self.model.sent.add((claimed.task.id, claimed.task.submission))
        apply_reply(self.model, entry, now)

    @precondition(lambda self: any(one.status == "queued" for one in self.model.tasks.values()))
    @rule(word=st.sampled_from(REPLIES))
    def submit(self, word: str) -> None:
        """Claim one task and record the reply to its submission."""
        before = len(self.submitting)
        self.claim_submissions(1, None)
        if len(self.submitting) > before:
            self.finish_submission(before, word)

    @precondition(lambda self: self.submitting)
    @rule(number=which)
    def crash_while_submitting(self, number: int) -> None:
        """Lose a submission without a reply: it may have been sent."""
        claimed = self.submitting.pop(number % len(self.submitting))
        self.model.sent.add((claimed.task.id, claimed.task.submission))

    @rule()
    def sweep(self) -> None:
        """Record abandoned submissions as in doubt."""
        now = self.clock.now() + MOMENT
        lost = {one.id for one in self.model.tasks.values() if one.status == "submitting" and not one.leased(now)}
        found = self.do(self.system.store.tasks.sweep(now=now))
        assert {task.id for task in found} == lost
        for task in found:
            entry = reply(Claimed(task=task), "lost", None, now)
            self.do(self.system.recorder.add(TaskUpdate(**(vars(entry) | {"only_if": Status.SUBMITTING}))))
            apply_reply(self.model, entry, now)
