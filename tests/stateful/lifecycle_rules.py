"""Rules for what a task goes through once it is submitted: questions, callbacks, time, and a process that forgets."""

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from service.domain.artifact import Artifact
from service.domain.errors import UnreadableBody
from service.domain.task import Source, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from tests.stateful.machine import MOMENT, TaskMachine, which
from tests.stateful.model import TaskModel
from tests.stateful.worker_rules import ANSWERS, Claimed, answer, fact_of, hear_answer, hear_callback
from tests.support.scripted_provider import TOKENS, VIDEO, vtrix_body
from tests.support.task_loop import LEASE, START

CALLED = ("processing", "completed", "failed", "unreadable")


class LifeMachine(TaskMachine):
    """Tasks, and all that is ever learned about them."""

    # ── questions ────────────────────────────────────────────────────────────

    @rule(limit=st.sampled_from((1, 100)))
    def claim_polls(self, limit: int) -> None:
        """Claim what is due to be asked about: all of it, and nothing else."""
        now = self.clock.now() + MOMENT
        rows = {row["id"]: row["due_at"] for row in self.before["tasks"]}
        due = {one.id for one in self.model.tasks.values() if not one.leased(now) and self._to_ask(one, rows, now)}
        claimed = self.do(self.house.store.tasks.claim_polls(now=now, until=now + LEASE, limit=limit))
        found = {task.id for task in claimed}
        assert len(found) == min(limit, len(due))
        assert found <= due
        for task in claimed:
            self.model.tasks[task.id].claim(now + LEASE)
            self.asking.append(Claimed(task=task))

    @staticmethod
    def _to_ask(one: TaskModel, due_at: dict[str, Any], now: Any) -> bool:
        if one.status == "queued":
            return bool(one.deadline <= now)
        return one.status != "submitting" and due_at[one.id] is not None and bool(due_at[one.id] <= now)

    @precondition(lambda self: self.asking)
    @rule(number=which, word=st.sampled_from(ANSWERS))
    def end_question(self, number: int, word: str) -> None:
        """Record what became of a question, however late."""
        claimed = self.asking.pop(number % len(self.asking))
        now = self.clock.now() + MOMENT
        entry = answer(claimed, word, self.foreign(claimed.task.id), now)
        self.recorder(entry)
        if word == "again":  # the operator's yes to a second bill
            self.model.left = {left for left in self.model.left if left[0] != claimed.task.id}
        hear_answer(self.model, entry, now)

    @rule(word=st.sampled_from(ANSWERS))
    def ask(self, word: str) -> None:
        """Claim what is due after a while, and record one answer, as mostly happens."""
        self.clock.move(timedelta(minutes=6))
        before = len(self.asking)
        self.claim_polls(100)
        if len(self.asking) > before:
            self.end_question(before, word)

    @precondition(lambda self: self.asking)
    @rule(word=st.sampled_from(ANSWERS), renews=st.booleans())
    def overtake_question(self, word: str, renews: bool) -> None:
        """Sleep through a lease: another worker takes the question up, and then the first one goes on."""
        self.clock.move(LEASE + MOMENT)
        self.claim_polls(100)
        if renews:
            self.renew_or_release(0, False)
        self.end_question(0, word)

    @precondition(lambda self: self.asking or self.submitting)
    @rule(number=which, gives=st.booleans())
    def renew_or_release(self, number: int, gives: bool) -> None:
        """Prolong a lease or give it back: only whoever holds it may."""
        now = self.clock.now() + MOMENT
        task = (self.asking + self.submitting)[number % len(self.asking + self.submitting)].task
        one = self.model.tasks[task.id]
        ours = one.fence == task.fence and one.lease is not None
        queue = self.house.store.tasks
        if gives:
            self.do(queue.release({task.id: task.fence}, due_at=now))
            one.lease = (now if one.status == "submitting" else None) if ours else one.lease
            one.queued_until = now if ours and one.status == "queued" else one.queued_until
        else:
            kept = self.do(queue.renew({task.id: task.fence}, until=now + LEASE))
            assert kept == ({task.id} if ours else set())
            one.lease = now + LEASE if ours else one.lease

    @precondition(lambda self: any(one.final for one in self.model.tasks.values()))
    @rule(number=which, word=st.sampled_from(("in_progress", "completed", "failed")))
    def hear_after_the_end(self, number: int, word: str) -> None:
        """Record an answer that was under way when the task ended: the end stands."""
        ended = [one for one in self.model.tasks.values() if one.final]
        one = ended[number % len(ended)]
        upstream_id = UpstreamId(one.upstream_id) if one.upstream_id else None
        fact = fact_of(word, upstream_id)
        self.do(self.house.recorder.add(TaskUpdate(task_id=TaskId(one.id), fact=fact, source=Source.POLL, poll=word)))

    # ── callbacks ────────────────────────────────────────────────────────────

    @precondition(lambda self: self.model.tasks)
    @rule(
        number=which,
        back=st.integers(0, 1),
        word=st.sampled_from(CALLED),
        whose=st.sampled_from(("own", "other", "vendor")),
        known=st.sampled_from((True, True, True, False)),
    )
    def call_back(self, number: int, back: int, word: str, whose: str, known: bool) -> None:
        """Call back: fresh or again, about this submission or an older one, of a task that we know or do not."""
        one = self.some_task(number)
        task_id, submission = (one.id if known else "strange"), max(0, one.submission - back)
        names = {"own": f"up-{task_id}-{submission}", "other": self.foreign(task_id), "vendor": f"v-{task_id}"}
        upstream_id = names[whose] or names["own"]
        body = json.dumps(vtrix_body(word, upstream_id)).encode()[: 20 if word == "unreadable" else None]
        if (task_id, submission, body) in self.model.received:
            self._send_again(task_id, submission, body)
            return
        self._send(task_id, submission, body)
        self.model.received.append((task_id, submission, body))
        received = (task_id, submission, word, None if word == "unreadable" else upstream_id)
        if self.house.crowded and word != "unreadable":
            self.unread.append(received)
            self.model.with_unread_callbacks.add(task_id)
        else:
            hear_callback(self.model, *received, confirm=self.house.confirm)

    @precondition(lambda self: self.submitting)
    @rule(word=st.sampled_from(CALLED), ended=st.sampled_from(("never_left", "in_progress", "lost")))
    def call_back_before_the_reply(self, word: str, ended: str) -> None:
        """Call back about a submission that is still on its way, and then hear what became of it."""
        number = list(self.model.tasks).index(self.submitting[0].task.id)
        self.call_back(number, 0, word, "own", True)
        if self.unread:
            self.read_inbox()
        self.end_submission(0, ended)

    def _send(self, task_id: str, submission: int, body: bytes) -> None:
        token = TOKENS.callback_token(TaskId(task_id), submission, START + timedelta(days=30))
        claim = self.house.receive.verify_token(token)
        with suppress(UnreadableBody):
            self.do(self.house.receive.receive(claim, {}, body))

    @precondition(lambda self: self.model.received)
    @rule(number=which)
    def call_back_again(self, number: int) -> None:
        """Send a callback once more, however much has happened since: nothing changes."""
        self._send_again(*self.model.received[number % len(self.model.received)])

    def _send_again(self, task_id: str, submission: int, body: bytes) -> None:
        before = self.books()
        self._send(task_id, submission, body)
        assert self.books() == before, "a repeated callback changed something"

    @precondition(lambda self: self.unread)
    @rule()
    def read_inbox(self) -> None:
        """Record what was kept unread, oldest first."""
        assert self.do(self.house.inbox_worker.run_once()) == len(self.unread)
        for received in self.unread:
            hear_callback(self.model, *received, confirm=self.house.confirm)
        self.unread.clear()
        self.model.with_unread_callbacks.clear()

    # ── the rest of life ─────────────────────────────────────────────────────

    @precondition(lambda self: any(one.status == "completed" for one in self.model.tasks.values()))
    @rule()
    def keep_result(self) -> None:
        """Keep a result, which is told once."""
        one = next(one for one in self.model.tasks.values() if one.status == "completed")
        kept = Artifact(url=VIDEO["url"], archived_url="file:///kept", media_type="video/mp4", bytes=1, sha256="00")
        self.do(self.house.results.keep(one.id, kept))
        if not one.stored:
            one.stored = True
            one.events.append("artifact.stored")

    @rule(seconds=st.sampled_from((1, 20, 70, 70, 1200, 8000)))
    def pass_time(self, seconds: int) -> None:
        """Let time pass, leases run out and deadlines come."""
        self.clock.move(timedelta(seconds=seconds))

    @rule()
    def forget(self) -> None:
        """Begin anew with nothing in memory; whoever held a claim still does."""
        self.do(self.house.reopen())
