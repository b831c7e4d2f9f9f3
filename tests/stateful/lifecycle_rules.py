"""Rules for submitted tasks: polls, callbacks, time, and a process that loses its memory."""

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
from tests.stateful.worker_rules import ANSWERS, Claimed, answer, apply_answer, apply_callback, fact_of
from tests.support.scripted_provider import TOKENS, VIDEO, vtrix_body
from tests.support.task_loop import LEASE, START

CALLED = ("processing", "completed", "failed", "unreadable")


class LifecycleMachine(TaskMachine):
    """Tasks, with their polls and callbacks."""

    # ── polls ────────────────────────────────────────────────────────────────

    @rule(limit=st.sampled_from((1, 100)))
    def claim_polls(self, limit: int) -> None:
        """Claim the tasks that are due to be polled: all of them, and no others."""
        now = self.clock.now() + MOMENT
        rows = {row["id"]: row["due_at"] for row in self.before["tasks"]}
        due = {one.id for one in self.model.tasks.values() if not one.leased(now) and self._to_poll(one, rows, now)}
        claimed = self.do(self.system.store.tasks.claim_polls(now=now, until=now + LEASE, limit=limit))
        found = {task.id for task in claimed}
        assert len(found) == min(limit, len(due))
        assert found <= due
        for task in claimed:
            self.model.tasks[task.id].claim(now + LEASE)
            self.polling.append(Claimed(task=task))

    @staticmethod
    def _to_poll(one: TaskModel, due_at: dict[str, Any], now: Any) -> bool:
        if one.status == "queued":
            return bool(one.deadline <= now)
        return one.status != "submitting" and due_at[one.id] is not None and bool(due_at[one.id] <= now)

    @precondition(lambda self: self.polling)
    @rule(number=which, word=st.sampled_from(ANSWERS))
    def finish_poll(self, number: int, word: str) -> None:
        """Record the result of a poll, perhaps late."""
        claimed = self.polling.pop(number % len(self.polling))
        now = self.clock.now() + MOMENT
        entry = answer(claimed, word, self.foreign(claimed.task.id), now)
        self.record(entry)
        if word == "again":  # the operator accepts a duplicate charge
            self.model.sent = {sent for sent in self.model.sent if sent[0] != claimed.task.id}
        apply_answer(self.model, entry, now)

    @rule(word=st.sampled_from(ANSWERS))
    def poll(self, word: str) -> None:
        """Claim due tasks after a while, and record the result of one poll."""
        self.clock.move(timedelta(minutes=6))
        before = len(self.polling)
        self.claim_polls(100)
        if len(self.polling) > before:
            self.finish_poll(before, word)

    @precondition(lambda self: self.polling)
    @rule(word=st.sampled_from(ANSWERS), renews=st.booleans())
    def overtake_poll(self, word: str, renews: bool) -> None:
        """Wait past a lease: another worker claims the poll, and then the first one continues."""
        self.clock.move(LEASE + MOMENT)
        self.claim_polls(100)
        if renews:
            self.renew_or_release(0, False)
        self.finish_poll(0, word)

    @precondition(lambda self: self.polling or self.submitting)
    @rule(number=which, releases=st.booleans())
    def renew_or_release(self, number: int, releases: bool) -> None:
        """Renew or release a lease: only its holder may."""
        now = self.clock.now() + MOMENT
        task = (self.polling + self.submitting)[number % len(self.polling + self.submitting)].task
        one = self.model.tasks[task.id]
        held = one.fence == task.fence and one.lease is not None
        queue = self.system.store.tasks
        if releases:
            self.do(queue.release({task.id: task.fence}, due_at=now))
            one.lease = (now if one.status == "submitting" else None) if held else one.lease
            one.queued_until = now if held and one.status == "queued" else one.queued_until
        else:
            renewed = self.do(queue.renew({task.id: task.fence}, until=now + LEASE))
            assert renewed == ({task.id} if held else set())
            one.lease = now + LEASE if held else one.lease

    @precondition(lambda self: any(one.final for one in self.model.tasks.values()))
    @rule(number=which, word=st.sampled_from(("in_progress", "completed", "failed")))
    def record_after_the_end(self, number: int, word: str) -> None:
        """Record the result of a poll that was running when the task ended: the end does not change."""
        ended = [one for one in self.model.tasks.values() if one.final]
        one = ended[number % len(ended)]
        upstream_id = UpstreamId(one.upstream_id) if one.upstream_id else None
        fact = fact_of(word, upstream_id)
        self.do(self.system.recorder.add(TaskUpdate(task_id=TaskId(one.id), fact=fact, source=Source.POLL, poll=word)))

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
        """Send a callback: new or repeated, about this submission or an older one, of a known or unknown task."""
        one = self.some_task(number)
        task_id, submission = (one.id if known else "unknown"), max(0, one.submission - back)
        names = {"own": f"up-{task_id}-{submission}", "other": self.foreign(task_id), "vendor": f"v-{task_id}"}
        upstream_id = names[whose] or names["own"]
        body = json.dumps(vtrix_body(word, upstream_id)).encode()[: 20 if word == "unreadable" else None]
        if (task_id, submission, body) in self.model.received:
            self._send_again(task_id, submission, body)
            return
        self._send(task_id, submission, body)
        self.model.received.append((task_id, submission, body))
        received = (task_id, submission, word, None if word == "unreadable" else upstream_id)
        if self.system.burst and word != "unreadable":
            self.unread.append(received)
            self.model.with_unread_callbacks.add(task_id)
        else:
            apply_callback(self.model, *received, confirm=self.system.confirm)

    @precondition(lambda self: self.submitting)
    @rule(word=st.sampled_from(CALLED), ended=st.sampled_from(("never_left", "in_progress", "lost")))
    def call_back_before_the_reply(self, word: str, ended: str) -> None:
        """Send a callback about a submission whose reply is missing, and then record that reply."""
        number = list(self.model.tasks).index(self.submitting[0].task.id)
        self.call_back(number, 0, word, "own", True)
        if self.unread:
            self.read_inbox()
        self.finish_submission(0, ended)

    def _send(self, task_id: str, submission: int, body: bytes) -> None:
        token = TOKENS.callback_token(TaskId(task_id), submission, START + timedelta(days=30))
        claim = self.system.receive.verify_token(token)
        with suppress(UnreadableBody):
            self.do(self.system.receive.receive(claim, {}, body))

    @precondition(lambda self: self.model.received)
    @rule(number=which)
    def call_back_again(self, number: int) -> None:
        """Repeat a callback, at any later time: nothing changes."""
        self._send_again(*self.model.received[number % len(self.model.received)])

    def _send_again(self, task_id: str, submission: int, body: bytes) -> None:
        before = self.rows()
        self._send(task_id, submission, body)
        assert self.rows() == before, "a repeated callback changed something"

    @precondition(lambda self: self.unread)
    @rule()
    def read_inbox(self) -> None:
        """Record the unread callbacks, oldest first."""
        assert self.do(self.system.inbox_worker.run_once()) == len(self.unread)
        for received in self.unread:
            apply_callback(self.model, *received, confirm=self.system.confirm)
        self.unread.clear()
        self.model.with_unread_callbacks.clear()

    # ── results and time ─────────────────────────────────────────────────────

    @precondition(lambda self: any(one.status == "completed" for one in self.model.tasks.values()))
    @rule()
    def store_result(self) -> None:
        """Store a result, which has one event."""
        one = next(one for one in self.model.tasks.values() if one.status == "completed")
        artifact = Artifact(url=VIDEO["url"], archived_url="file:///kept", media_type="video/mp4", bytes=1, sha256="00")
        self.do(self.system.results.keep(one.id, artifact))
        if not one.stored:
            one.stored = True
            one.events.append("artifact.stored")

    @rule(seconds=st.sampled_from((1, 20, 70, 70, 1200, 8000)))
    def pass_time(self, seconds: int) -> None:
        """Move the clock, so that leases run out and deadlines pass."""
        self.clock.move(timedelta(seconds=seconds))

    @rule()
    def restart(self) -> None:
        """Restart with an empty memory; claims stay with their holders."""
        self.do(self.system.reopen())
