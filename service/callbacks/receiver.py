"""A callback comes in: verify, make durable, and only then answer."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from service.callbacks.limits import BurstDetector, TaskQuota
from service.concurrency.batcher import Batcher
from service.domain.callback import Callback, ReadFact, UnreadableCallback, Verifier, read_body, read_callback
from service.domain.errors import BadSignature, UnreadableBody
from service.domain.fact_json import fact_to_json
from service.domain.fast_copy import replace_fields
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import Inbox, InboxEntry
from service.domain.task import Source
from service.domain.task_update import NOTHING_MADE, Hint, TaskUpdate
from service.domain.tokens import TokenClaims, Tokens
from service.tasks.recorder import Recorder

log = structlog.get_logger("boomerang.receive")

KEPT_HEADERS = frozenset({"content-type", "date", "user-agent", "x-hmac-signed-headers", "x-hmac-algorithm"})
"""Headers kept beside a raw callback: nothing that is secret or signs."""


BATCH = 256
"""Callbacks kept in one commit at most."""

BUSY = 16
"""Callbacks that wait for an answer at once, from which on reading the inbox gives way to them."""

GIVES_WAY = timedelta(seconds=1)
"""How long it gives way."""

LITTLE = 64
"""Callbacks read from the inbox at once beside others that wait for an answer."""

REMEMBERED = 2048
"""Callbacks of a crowd whose meaning is remembered until they are recorded; of others the body is read once more."""

LITTLE_BODY = 16 * 1024
"""Bytes of a body up to which its meaning is remembered: all of them together are no more than some megabytes."""


class CallbackReceiver:
    """Turns HTTP callbacks into facts.

    A callback is recorded before it is answered. Those that come by the crowd are kept in the inbox before they are
    answered, many to a commit, and recorded by `round` right after: a burst is taken in at the disk's pace, whatever
    follows from it. `verifier_for(token)` makes the check of the provider's own signature for the address that held
    `token`, or None where the provider's key is not ours. `read_fact` reads a body of either provider. With `confirm` a
    terminal callback is only a hint, and a GET decides.
    """

    def __init__(
        self,
        recorder: Recorder,
        inbox: Inbox,
        *,
        tokens: Tokens,
        clock: Clock,
        confirm: bool,
        read_fact: ReadFact,
        verifier_for: Callable[[str], Verifier | None],
    ) -> None:
        self._recorder = recorder
        self._inbox = inbox
        self._tokens = tokens
        self._clock = clock
        self._confirm = confirm
        self._read_fact = read_fact
        self._verifier_for = verifier_for
        self._crowd = BurstDetector()
        self._quota = TaskQuota()
        self._keeper = Batcher(self._keep, most=BATCH)
        self._in_hand = 0
        self._oldest_seen: datetime | None = None
        self._reads_soon = False
        self._meant: OrderedDict[str, Callback] = OrderedDict()

    def open(self) -> None:
        """Remember, from now on, what the callbacks of a crowd mean: this process reads them right after."""
        self._reads_soon = True

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
        self._in_hand += 1
        try:
            return await self._make_durable(callback, headers, body, now)
        finally:
            self._in_hand -= 1

    async def _make_durable(self, callback: Callback, headers: Mapping[str, str], body: bytes, now: datetime) -> bool:
        """Return whether a line in the log has told of the callback; raises BadSignature where nothing was stored."""
        if not self._quota.admits(callback.task_id, len(body)):
            await self._recorder.add(_without_its_body(callback))
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
            if self._reads_soon and len(body) <= LITTLE_BODY:
                self._remember(callback)
            reused = await self._keeper.add(row)
        else:
            reused = (await self._recorder.add(self._entry(callback, row))).inbox == "nonce_reused"
        if reused:
            raise BadSignature("this nonce was used for another callback")
        return crowd

    async def _keep(self, rows: list[InboxEntry]) -> list[bool]:
        """Keep the callbacks of a crowd; return of which the nonce was another one's."""
        reused = await self._inbox.store_unread(rows)
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
        await self._recorder.add(TaskUpdate(task_id=row.task_id, inbox=kept, hint=Hint(ended=False)))

    # ── the inbox ────────────────────────────────────────────────────────────

    async def round(self, patience: timedelta = timedelta(0)) -> int:
        """Record callbacks that were kept `patience` ago and are not recorded yet; return how many.

        Raises StoreUnavailable.
        """
        busy = self._in_hand >= BUSY
        if busy:
            patience += GIVES_WAY
        if self._is_fresh(self._oldest_seen, patience):
            return 0
        self._oldest_seen = oldest = await self._inbox.unread_since()
        if oldest is None or self._is_fresh(oldest, patience):
            return 0
        self._oldest_seen = None
        return await self._recorder.process_inbox(self._meaning, most=LITTLE if busy else BATCH)

    def _is_fresh(self, since: datetime | None, patience: timedelta) -> bool:
        """Whether less than `patience` has passed; what lies ahead of a clock put back is no reason to wait."""
        return since is not None and timedelta(0) <= self._clock.now() - since < patience

    def _meaning(self, row: InboxEntry) -> TaskUpdate:
        """Return what there is to record about a callback that was verified when it was kept."""
        try:
            callback = self._meant.pop(row.digest, None) or self._read(row)
        except UnreadableBody:  # by an older release it could be read
            return TaskUpdate(task_id=row.task_id, inbox=row, hint=Hint(ended=False))
        return self._entry(callback, row)

    def _remember(self, callback: Callback) -> None:
        self._meant[callback.digest] = callback
        if len(self._meant) > REMEMBERED:
            self._meant.popitem(last=False)

    def _read(self, row: InboxEntry) -> Callback:
        claim = TokenClaims(task_id=row.task_id, submission=row.submission)
        return read_body(claim, row.body, tokens=self._tokens, read_fact=self._read_fact, nonce=row.nonce)

    def _entry(self, callback: Callback, row: InboxEntry) -> TaskUpdate:
        if callback.fact.settles and self._confirm:
            return TaskUpdate(task_id=row.task_id, submission=row.submission, inbox=row, hint=_hint(callback))
        return TaskUpdate(
            task_id=row.task_id,
            submission=row.submission,
            inbox=row,
            fact=replace_fields(callback.fact, upstream_id=None),
            source=Source.CALLBACK,
            named=callback.fact.upstream_id,
        )


def _without_its_body(callback: Callback) -> TaskUpdate:
    """Return what counts of a callback that is not kept: the upstream is asked about what it knew already."""
    fact = callback.fact
    hint = Hint(ended=fact.settles, nothing_made=fact.status in NOTHING_MADE)
    return TaskUpdate(task_id=callback.task_id, submission=callback.submission, hint=hint)


def _hint(callback: Callback) -> Hint:
    """Keep the body's fact only where its payload token is ours: it may have to stand in for a GET."""
    fact = fact_to_json(callback.fact) if callback.correlated else None
    nothing_made = callback.fact.status in NOTHING_MADE
    return Hint(upstream_id=callback.fact.upstream_id, fact=fact, nothing_made=nothing_made)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:200] for name, value in headers.items() if name in KEPT_HEADERS}
