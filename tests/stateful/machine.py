"""Rules over a real store: whatever may happen to tasks, in any order; the model is compared after each."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.domain.errors import Conflict
from service.domain.ports.queues import Limits
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Status, Task, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from tests.stateful.invariants import check
from tests.stateful.model import Model, TaskModel
from tests.stateful.system_under_test import House, Rows
from tests.stateful.worker_rules import REPLIES, Claimed, hear_reply, reply
from tests.storage.builders import a_task
from tests.support.task_loop import DEADLINE, LEASE, START, MovedClock

MOMENT = timedelta(milliseconds=1)
which = st.integers(0, 5)
WEBHOOK = {"handler": "webhook", "url": "https://hook.example"}
NOTHING: Rows = {"tasks": [], "events": [], "deliveries": [], "attempts": [], "inbox": []}


class TaskMachine(RuleBasedStateMachine):
    """Tasks, their claims and their facts. A subclass gives `fresh`, which returns the address of an empty database."""

    fresh: ClassVar[Callable[[], str]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock(START)
        self.model = Model()
        self.before = NOTHING
        self.submitting: list[Claimed] = []
        self.asking: list[Claimed] = []
        self.unread: list[tuple[str, int, str, str | None]] = []

    @initialize(confirm=st.booleans(), crowded=st.booleans())
    def move_in(self, confirm: bool, crowded: bool) -> None:
        """Open an empty store, with two tasks in it."""
        self.house = House(type(self).fresh(), self.clock, confirm, crowded)
        for notifies in (True, False):
            self.add(None, "x", notifies)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run `work` to its end, a moment after what was before."""
        self.clock.move(MOMENT)
        return self.runner.run(work)

    def teardown(self) -> None:
        """Close what is open."""
        if hasattr(self, "house"):
            self.runner.run(self.house.store.close())
        self.runner.close()

    @invariant()
    def the_books_are_in_order(self) -> None:
        """Compare every row with the model."""
        if hasattr(self, "house"):
            after = self.books()
            check(self.model, self.before, after, self.clock.now())
            self.before = after

    def recorder(self, entry: TaskUpdate) -> None:
        """Record an entry; a conclusion from a lease that was lost changes nothing."""
        stale = entry.requires_lease and entry.fence != self.model.tasks[entry.task_id].fence
        before = self.books() if stale else NOTHING
        self.do(self.house.recorder.add(entry))
        assert not stale or self.books() == before

    def books(self) -> Rows:
        """Return every row."""
        rows: Rows = self.runner.run(self.house.rows())
        return rows

    def some_task(self, number: int) -> TaskModel:
        """Return one of the tasks."""
        return list(self.model.tasks.values())[number % len(self.model.tasks)]

    def foreign(self, task_id: str) -> UpstreamId | None:
        """Return an upstream id that another task has."""
        ids = [one.upstream_id for one in self.model.tasks.values() if one.upstream_id and one.id != task_id]
        return UpstreamId(ids[0]) if ids else None

    # ── tasks come in ────────────────────────────────────────────────────────

    @rule(key=st.none() | st.sampled_from("kl"), digest=st.sampled_from("xy"), notifies=st.booleans())
    def add(self, key: str | None, digest: str, notifies: bool) -> None:
        """Take in a task; a key that is known gives the first one again, or is refused."""
        now = self.clock.now() + MOMENT
        new = a_task(
            self.house.new_id(),
            created_at=now,
            due_at=now,
            deadline_at=now + DEADLINE,
            notify=(WEBHOOK,) if notifies else (),
        )
        promise = None if key is None else IdempotencyKey(key=key, digest=digest)
        known = self.model.keys.get(key or "")
        try:
            kept = self.do(self.house.store.intake.add(new, [], promise))
        except Conflict:
            assert known is not None
            assert known[0] != digest
            return
        assert kept.id == (known[1] if known else new.id)
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
        """Cancel a task: ours at once, the upstream's when it agrees."""
        one = self.some_task(number)
        self.house.upstream.cancels.extend([] if agrees else [Conflict("too late")])
        ours = one.status == "queued" or (one.status == "in_progress" and one.upstream_id and agrees)
        try:
            self.do(self.house.task_service.cancel(TaskId(one.id)))
        except Conflict:
            assert not ours
        else:
            assert ours
            one.hear("canceled")
        self.house.upstream.cancels.clear()

    @precondition(lambda self: self.model.tasks)
    @rule(number=which)
    def resubmit(self, number: int) -> None:
        """Ask for the same again, which makes one new task, however often."""
        one = self.some_task(number)
        allowed = one.status in {"in_doubt", "failed", "expired", "canceled"}
        try:
            new = self.do(self.house.task_service.resubmit(TaskId(one.id)))
        except Conflict:
            assert not allowed
            return
        assert allowed
        if self.model.resubmitted.setdefault(one.id, new.id) == new.id and new.id not in self.model.tasks:
            self._expect(new)
        assert self.model.resubmitted[one.id] == new.id

    # ── submissions ──────────────────────────────────────────────────────────

    @precondition(lambda self: any(one.status == "queued" for one in self.model.tasks.values()))
    @rule(limit=st.sampled_from((1, 2, 100)), most=st.none() | st.integers(1, 4))
    def claim_submissions(self, limit: int, most: int | None) -> None:
        """Claim what is due to be submitted: exactly that, the oldest first, within the limits."""
        now = self.clock.now() + MOMENT
        until = now + LEASE
        queue = self.house.store.tasks
        due = [
            one
            for one in self.model.tasks.values()
            if one.status == "queued"
            and one.queued_until <= now < one.deadline
            and one.id not in self.model.with_unread_callbacks
        ]
        busy = sum(one.status in {"submitting", "in_progress", "in_doubt"} for one in self.model.tasks.values())
        room = limit if most is None else max(0, min(limit, most - busy))
        claimed = self.do(queue.claim_submissions(now=now, until=until, limit=limit, limits=Limits(max_in_flight=most)))
        assert [task.id for task in claimed] == [one.id for one in due][:room]
        for task in claimed:
            self._submitted(task, until)

    def _submitted(self, task: Task, until: Any) -> None:
        one = self.model.tasks[task.id]
        one.claim(until)
        one.status, one.guessed, one.submission = "submitting", one.guessed, one.submission + 1
        assert (task.id, task.submission) not in self.model.claimed, "one submission in two hands"
        assert not {left for left in self.model.left if left[0] == task.id}, "a second bill without a person's word"
        self.model.claimed.add((task.id, task.submission))
        self.submitting.append(Claimed(task=task))

    @precondition(lambda self: self.submitting)
    @rule(number=which, word=st.sampled_from(REPLIES))
    def end_submission(self, number: int, word: str) -> None:
        """Record what became of a submission, however late."""
        claimed = self.submitting.pop(number % len(self.submitting))
        now = self.clock.now() + MOMENT
        entry = reply(claimed, word, self.foreign(claimed.task.id), now)
        self.recorder(entry)
        if word not in {"never_left", "refused"}:
            self.model.left.add((claimed.task.id, claimed.task.submission))
        hear_reply(self.model, entry, now)

    @precondition(lambda self: any(one.status == "queued" for one in self.model.tasks.values()))
    @rule(word=st.sampled_from(REPLIES))
    def submit(self, word: str) -> None:
        """Claim one and record its reply, as mostly happens."""
        before = len(self.submitting)
        self.claim_submissions(1, None)
        if len(self.submitting) > before:
            self.end_submission(before, word)

    @precondition(lambda self: self.submitting)
    @rule(number=which)
    def die_while_submitting(self, number: int) -> None:
        """Lose a submission without a word: it may have left."""
        claimed = self.submitting.pop(number % len(self.submitting))
        self.model.left.add((claimed.task.id, claimed.task.submission))

    @rule()
    def sweep(self) -> None:
        """Book what was abandoned as in doubt."""
        now = self.clock.now() + MOMENT
        lost = {one.id for one in self.model.tasks.values() if one.status == "submitting" and not one.leased(now)}
        found = self.do(self.house.store.tasks.sweep(now=now))
        assert {task.id for task in found} == lost
        for task in found:
            entry = reply(Claimed(task=task), "lost", None, now)
            self.do(self.house.recorder.add(TaskUpdate(**(vars(entry) | {"only_if": Status.SUBMITTING}))))
            hear_reply(self.model, entry, now)
