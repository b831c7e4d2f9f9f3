"""A callback comes in: verify, make durable, and only then answer."""

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.limits import BurstDetector, TaskQuota
from service.concurrency.batcher import Batcher
from service.domain.callback import Callback, ReadFact, UnreadableCallback, Verifier, read_callback
from service.domain.errors import BadSignature
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import Inbox, InboxEntry
from service.domain.task_update import TaskUpdate
from service.domain.tokens import TokenClaims, Tokens
from service.tasks.recorder import Recorder

log = structlog.get_logger("boomerang.receive")

KEPT_HEADERS = frozenset({"content-type", "date", "user-agent", "x-hmac-signed-headers", "x-hmac-algorithm"})
"""Headers kept beside a raw callback: nothing that is secret or signs."""


BATCH = 256
"""Callbacks kept in one commit at most."""


class CallbackReceiver:
    """Turns HTTP callbacks into facts.

    A callback is recorded before it is answered. Those that come by the crowd are kept in the inbox before they are
    answered, many to a commit, and recorded by the inbox worker right after: a burst is taken in at the disk's pace,
    whatever follows from it. `verifier_for(token)` makes the check of the provider's own signature for the address that held
    `token`, or None where the provider's key is not ours. `read_fact` reads a body of either provider. With `confirm` a
    terminal callback is only a hint, and a GET decides.
    """

    def __init__(
        self,
        recorder: Recorder,
        inbox: Inbox,
        inbox_worker: InboxWorker,
        *,
        tokens: Tokens,
        clock: Clock,
        confirm: bool,
        read_fact: ReadFact,
        verifier_for: Callable[[str], Verifier | None],
    ) -> None:
        self._recorder = recorder
        self._inbox = inbox
        self._inbox_worker = inbox_worker
        self._tokens = tokens
        self._clock = clock
        self._confirm = confirm
        self._read_fact = read_fact
        self._verifier_for = verifier_for
        self._crowd = BurstDetector()
        self._quota = TaskQuota()
        self._keeper = Batcher(self._keep, most=BATCH)

    def verify_token(self, token: str) -> TokenClaims:
        """Return what the token says, before a body is waited for; raises BadToken unless it is ours and in date."""
        return self._tokens.read_callback_token(token, self._clock.now())

    async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
        """Return once the callback that was vouched for is durable; a repeat changes nothing.

        `headers` have lower-case names. Return whether the log has told of it already: a line for each of a crowd would
        cost as much as keeping it, so that one line tells of all in a commit. Raises BadToken, BadSignature,
        UnreadableBody or StoreUnavailable.
        """
        now = self._clock.now()
        verifier = self._verifier_for(claim.token)
        try:
            callback = read_callback(
                claim, headers, body, now, tokens=self._tokens, read_fact=self._read_fact, verifier=verifier
            )
        except UnreadableCallback as unread:
            await self._poll_now(unread, headers, body)
            raise
        self._inbox_worker.waiting += 1
        try:
            return await self._make_durable(callback, headers, body, now)
        finally:
            self._inbox_worker.waiting -= 1

    async def _make_durable(self, callback: Callback, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Return whether a line in the log has told of the callback; raises BadSignature where nothing was stored."""
        if not self._quota.admits(callback.task_id, len(body)):
            await self._recorder.add(TaskUpdate.callback_over_quota(callback))
            return False
        crowd = self._crowd.observe(now)
        row = InboxEntry(
            task_id=callback.task_id,
            submission=callback.submission,
            digest=callback.digest,
            body=body,
            headers=_kept(headers),
            received_at=now,
            verdict="unread" if crowd else "accepted",
            nonce=callback.nonce,
        )
        if crowd:
            self._inbox_worker.remember(callback, len(body))
            reused = await self._keeper.add(row)
        else:
            reused = (
                await self._recorder.add(TaskUpdate.callback(callback, row, confirm=self._confirm))
            ).inbox == "nonce_reused"
        if reused:
            raise BadSignature("this nonce was used for another callback")
        return crowd

    async def _keep(self, rows: list[InboxEntry]) -> list[bool]:
        """Keep the callbacks of a crowd; return of which the nonce was another one's."""
        reused = await self._inbox.keep(rows)
        log.info("callbacks kept", count=len(rows) - len(reused), tasks=[row.task_id for row in rows])
        return [row.digest in reused for row in rows]

    async def flush(self) -> None:
        """Return once no callback waits to be kept or recorded."""
        await self._keeper.flush()
        await self._recorder.flush()

    async def _poll_now(self, unread: UnreadableCallback, headers: Mapping[str, str], body: bytes) -> None:
        """Somebody who holds our token said something: ask the upstream what it was."""
        row = InboxEntry(
            task_id=unread.claim.task_id,
            submission=unread.claim.submission,
            digest=unread.digest,
            body=body,
            headers=_kept(headers),
            received_at=self._clock.now(),
            verdict="unreadable",
        )
        kept = row if self._quota.admits(row.task_id, len(body)) else None
        await self._recorder.add(TaskUpdate.unreadable_callback(row.task_id, kept))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:200] for name, value in headers.items() if name in KEPT_HEADERS}
