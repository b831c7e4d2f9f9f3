"""Receiving callbacks: verify, make durable, and only then answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.limits import BurstDetector, TaskQuota
from service.callbacks.refusals import Refusals
from service.concurrency.batcher import Batcher
from service.domain.callback import Callback, ReadFact, UnreadableCallback, Verifier, read_callback, token_in
from service.domain.errors import BadSignature, BadToken, BodyTooLarge, KeyMissing
from service.domain.fast_copy import replace_fields
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import UNUSED, Inbox, InboxEntry, InboxUsage
from service.domain.task import TaskId
from service.domain.task_update import TaskUpdate
from service.domain.tokens import TokenClaims, Tokens
from service.tasks.recorder import Recorder

log = structlog.get_logger("boomerang.callbacks")

STORED_HEADERS = frozenset(
    {"content-type", "content-encoding", "date", "user-agent", "x-hmac-signed-headers", "x-hmac-algorithm"}
)
"""Headers stored with a callback: none of them is secret or a signature."""

MAX_HEADER_CHARS = 200
"""Characters of a header's value that are stored."""

BATCH = 256
"""Maximum number of callbacks stored in one commit."""


@dataclass(kw_only=True, slots=True, eq=False)
class CallbackReceiver:
    """Turns HTTP callbacks into updates of tasks.

    A callback is recorded before it is answered. In a burst, callbacks are stored in the inbox before they are
    answered, many in one commit, and the inbox worker records them right after.

    `verifier_for(segment)` returns the check of the provider's signature for the callback address with that last
    segment; it is None where the provider does not sign with our key. `may_lack_keys` returns whether another process
    may know a key that this one does not. `refusals` takes traces of what is refused. `read_fact` reads a body of any
    provider. With `confirm` a terminal callback is a hint, and a poll decides.
    """

    recorder: Recorder
    inbox: Inbox
    inbox_worker: InboxWorker
    tokens: Tokens
    clock: Clock
    confirm: bool
    read_fact: ReadFact
    verifier_for: Callable[[str], Verifier] | None
    refusals: Refusals
    may_lack_keys: Callable[[], bool] = lambda: False
    _burst_detector: BurstDetector = field(init=False, default_factory=BurstDetector)
    _quota: TaskQuota = field(init=False, default_factory=TaskQuota)
    _batcher: Batcher[InboxEntry, bool] = field(init=False)
    _usage: Batcher[TaskId, InboxUsage] = field(init=False)

    def __post_init__(self) -> None:
        self._batcher = Batcher(self._store, max_items=BATCH)
        self._usage = Batcher(self._load_usage, max_items=BATCH)

    def verify_token(self, segment: str) -> TokenClaims:
        """Return the claims of the token that the last segment of an address spells, before the body is read.

        Raises BadToken if it is not valid now, or KeyMissing while another process may know the key of the token.
        """
        try:
            claims = self.tokens.read_callback_token(token_in(segment), self.clock.now())
        except BadToken as error:
            if error.reason == "forged" and self.may_lack_keys():
                raise KeyMissing("another process may know the key of this token") from error
            raise
        return replace_fields(claims, token=segment)

    def note_refusal(self, reason: str, segment: str) -> None:
        """Leave a trace of a refused callback to the address with the last segment `segment`."""
        self.refusals.note(reason, token_in(segment))

    @property
    def refused(self) -> Mapping[str, int]:
        """Return how many callbacks were refused, by reason."""
        return self.refusals.counts

    async def poll_at_once(self, claims: TokenClaims) -> None:
        """Make the task of a callback due whose body could not be received; raises StoreUnavailable."""
        await self.recorder.add(TaskUpdate.unreadable_callback(claims.task_id, None))

    async def receive(self, claims: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
        """Return once the callback is durable; a repeated one changes nothing.

        `claims` are those of its verified token; `headers` have lower-case names. Returns whether the callback is
        logged already: one line names all callbacks of a commit in a burst, as one line for each takes as long as
        storing it. Raises BadToken, BadSignature, UnreadableBody or StoreUnavailable.
        """
        now = self.clock.now()
        verifier = self.verifier_for(claims.token) if self.verifier_for else None
        try:
            callback = read_callback(
                claims, headers, body, now, tokens=self.tokens, read_fact=self.read_fact, verifier=verifier
            )
        except UnreadableCallback as unreadable:
            await self._record_unreadable(unreadable, headers, body)
            if unreadable.too_large:
                raise BodyTooLarge(str(unreadable)) from unreadable
            raise
        with self.inbox_worker.answering():
            return await self._make_durable(callback, headers, body, now)

    async def _make_durable(self, callback: Callback, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Return whether the callback is logged already; raises BadSignature if its nonce was used before."""
        if not await self._admits(callback.task_id, len(body)):
            await self.recorder.add(TaskUpdate.callback_over_quota(callback))
            return False
        burst = self._burst_detector.observe(now)
        row = InboxEntry(
            task_id=callback.task_id,
            submission=callback.submission,
            digest=callback.digest,
            body=body,
            headers=_stored(headers),
            received_at=now,
            verdict="unread" if burst else "accepted",
            nonce=callback.nonce,
        )
        if burst:
            self.inbox_worker.remember(callback, row)
            reused = await self._batcher.add(row)
        else:
            result = await self.recorder.add(TaskUpdate.callback(callback, row, confirm=self.confirm))
            reused = result.inbox == "nonce_reused"
        if reused:
            raise BadSignature("this nonce was used for another callback")
        return burst

    async def _store(self, rows: list[InboxEntry]) -> list[bool]:
        """Store the callbacks of a burst in the inbox; return for each whether its nonce is that of another one.

        Those of tasks that nothing changes any more are not stored, and neither are repeats.
        """
        reused = await self.inbox.store_unread(rows)
        log.info("callbacks stored in inbox", count=len(rows) - len(reused), tasks=[row.task_id for row in rows])
        return [row.digest in reused for row in rows]

    async def _record_unreadable(self, unreadable: UnreadableCallback, headers: Mapping[str, str], body: bytes) -> None:
        """Poll the task at once: the caller holds our token, so something happened to the task."""
        row = InboxEntry(
            task_id=unreadable.claims.task_id,
            submission=unreadable.claims.submission,
            digest=unreadable.digest,
            body=body,
            headers=_stored(headers),
            received_at=self.clock.now(),
            verdict="unreadable",
        )
        stored = row if await self._admits(row.task_id, len(body)) else None
        await self.recorder.add(TaskUpdate.unreadable_callback(row.task_id, stored))

    async def _admits(self, task_id: TaskId, size: int) -> bool:
        """Return whether one more callback of a task may be stored; what the inbox holds of it counts as well."""
        if self._quota.needs_count(task_id, size):
            self._quota.begin(task_id, await self._usage.add(task_id))
        return self._quota.admits(task_id, size)

    async def _load_usage(self, ids: list[TaskId]) -> list[InboxUsage]:
        usage = await self.inbox.usage(set(ids))
        return [usage.get(task_id, UNUSED) for task_id in ids]

    async def flush(self) -> None:
        """Return once no callback waits to be stored or recorded."""
        await self._batcher.flush()
        await self.recorder.flush()
        await self.refusals.flush(end=True)


def _stored(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:MAX_HEADER_CHARS] for name, value in headers.items() if name in STORED_HEADERS}
